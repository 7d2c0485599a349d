"""What holds of every part in every table, with no line here for a new one."""

from __future__ import annotations

import math
import random
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from trainers import checkpoint, text_vae
from trainers.config import TextVaeConfig, effective, typed
from trainers.decoders import DECODERS
from trainers.evaluation import own_figures
from trainers.kl_schedules import KL_SCHEDULES
from trainers.lr_rules import LR_RULES, Milestones, Verdict
from trainers.metrics import importance_nll, posterior_summary
from trainers.models import SequenceVAE, build_model, initialise
from trainers.objectives import OBJECTIVES
from trainers.pooling import POOLINGS
from trainers.posteriors import POSTERIORS
from trainers.schemes import SCHEMES
from trainers.streams import Streams
from trainers.text import BOS, EOS, padded_batch
from trainers.text_vae import train
from trainers.training import Training

TABLES = {
    "pooling": POOLINGS,
    "decoder": DECODERS,
    "posterior": POSTERIORS,
    "objective": OBJECTIVES,
    "scheme": SCHEMES,
    "kl.schedule": KL_SCHEDULES,
    "optim.rule": LR_RULES,
}
ENTRIES = [(part, name) for part, table in TABLES.items() for name in table]
every_part = pytest.mark.parametrize(
    ("part", "name"), ENTRIES, ids=[f"{part} {name}" for part, name in ENTRIES]
)

# What an entry cannot be without, and what lets all of its terms be there.
BESIDE = {
    ("objective", "dual"): {"scheme": "adversarial"},
    ("scheme", "adversarial"): {"objective": "dual", "posterior": "implicit"},
    ("objective", "wasserstein"): {"posterior": "planar_flow"},
    ("posterior", "planar_flow"): {"decoder": "initial"},
    ("scheme", "aggressive"): {"kl": {"schedule": "constant", "weight": 0.05}},
    ("kl.schedule", "cyclical"): {"optim.rule": "plateau"},
}


def configured(part: str, name: str) -> dict[str, Any]:
    """A small system with this part."""
    config: dict[str, Any] = {
        "data": "tiny",
        "dropout": 0.2,
        "word_dropout": 0.1,
        "cosine": 0.3,
        "size": {"embedding": 4, "encoder": 6, "decoder": 5, "latent": 3},
        "init": {"scheme": "default"},
        "kl": {"warmup_epochs": 2, "span_epochs": 1, "cycles": 2},
        "optim": {"algorithm": "adam", "lr": 0.02, "batch": 8, "epochs": 2, "rule": "milestones"},
        "aggressive": {"window": 2, "inner": 6, "checks_per_epoch": 2},
        "critic": {"hidden": 4, "steps": 2, "lr": 1e-2},
        "flow": {"length": 2},
        "wasserstein": {"centres": 3},
        "evaluate": {"samples": 5, "own_codes": 4},
    }
    for key, value in {part: name, **BESIDE.get((part, name), {})}.items():
        section, _, leaf = key.rpartition(".")
        if section:
            config[section] = config[section] | {leaf: value}
        else:
            config[key] = value
    return config


# Of a model


def made(part: str, name: str) -> tuple[SequenceVAE, TextVaeConfig]:
    """With running statistics and centres that are not those of their start."""
    config = typed(configured(part, name) | {"dropout": 0.0, "word_dropout": 0.0})
    model = build_model(config, 20)
    initialise(model, config.init, 1)
    for place, (_, it) in enumerate(model.named_buffers()):
        if it.is_floating_point():
            values = torch.rand(it.shape, generator=torch.Generator().manual_seed(place))
            it.copy_(0.2 + values)
    return model, config


def sentences(*lengths: int) -> list[np.ndarray]:
    """<s>, so many words, </s>."""
    draw = np.random.default_rng(0)
    return [np.array([BOS, *draw.integers(4, 20, length), EOS]) for length in lengths]


def objective(
    model: SequenceVAE, config: TextVaeConfig, tokens_BT: Tensor, mask_BT: Tensor | None = None
) -> Any:
    return OBJECTIVES[config.objective](
        model, tokens_BT, weight=0.7, streams=Streams(4), config=config, mask_BT=mask_BT
    )


def gradients(model: SequenceVAE) -> dict[str, Tensor]:
    """And then none."""
    found = {name: it.grad for name, it in model.named_parameters() if it.grad is not None}
    model.zero_grad()
    return found


@every_part
def test_padding_changes_nothing(part: str, name: str) -> None:
    """Sentences of 6, 1, 0 and 3 words padded together, against four batches of one of them
    four times over, with the same noise. And padding more changes nothing either, in what is
    of a batch (mmd, cosine) and in the gradient."""
    model, config = made(part, name)
    model.eval()  # Batch normalisation knows no masks: it works on the feature.
    all_of_them = sentences(6, 1, 0, 3)
    tokens_BT, mask_BT = map(torch.as_tensor, padded_batch(all_of_them))
    with torch.no_grad():
        feature_BH, _ = model.encode(tokens_BT, mask_BT)
    loss = objective(model, config, tokens_BT, mask_BT)
    for place, sentence in enumerate(all_of_them):
        copies_BT = torch.as_tensor(sentence).expand(4, -1)
        alone = objective(model, config, copies_BT)
        close = {"rtol": 1e-5, "atol": 1e-6}
        feature_H = model.encode(copies_BT)[0][0].detach()
        torch.testing.assert_close(feature_BH[place], feature_H, **close)
        torch.testing.assert_close(loss.rec_B[place], alone.rec_B[place], rtol=1e-5, atol=0)
        torch.testing.assert_close(loss.kl_B[place], alone.kl_B[place], rtol=1e-5, atol=1e-5)
    loss.mean.backward()
    expected = gradients(model)
    wider = torch.nn.functional.pad(tokens_BT, (0, 3)), torch.nn.functional.pad(mask_BT, (0, 3))
    again = objective(model, config, *wider)
    again.mean.backward()
    assert again.mean.item() == pytest.approx(loss.mean.item(), rel=1e-5)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for parameter, gradient in found.items():
        torch.testing.assert_close(gradient, expected[parameter], rtol=1e-4, atol=1e-5)


@every_part
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("words", [0, 1, 4])
def test_gradients_are_finite(words: int, count: int, part: str, name: str) -> None:
    """Of every parameter but the critics' (their own loss is for them); word-less sentences
    and batches of one among them."""
    model, config = made(part, name)
    model.train()
    tokens_BT = torch.as_tensor(np.stack(sentences(*[words] * count)))
    objective(model, config, tokens_BT).mean.backward()
    found = gradients(model)
    for parameter, _ in model.named_parameters():
        if not parameter.startswith("critics."):
            assert parameter in found
            assert found[parameter].isfinite().all(), parameter
    assert any(gradient.abs().max() > 0 for gradient in found.values())


@every_part
def test_every_sentence_can_be_scored(part: str, name: str) -> None:
    """Empty ones and those of one word, alone in a batch and not."""
    model, config = made(part, name)
    batches, first = [], 0
    for words, count in ((0, 1), (0, 2), (1, 1), (1, 3), (4, 1)):
        tokens_BT = torch.as_tensor(np.stack(sentences(*[words] * count)))
        batches.append((tokens_BT, torch.arange(first, first := first + count)))
    scores = posterior_summary(model, batches, torch.Generator().manual_seed(1))
    scores |= own_figures(config, model, batches, torch.Generator())
    assert all(map(math.isfinite, scores.values())), scores
    estimate = importance_nll(model, batches, 4, torch.Generator())
    assert estimate.nll_N.isfinite().all()
    # A sentence's likelihood is a probability.
    assert (estimate.nll_N > 0).all()


# Of a training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of one to three words; ten of each length, which are batches of 8 and 2, and
    one of five words, a batch of its own. No corpus has empty sentences."""
    root = tmp_path_factory.mktemp("data")
    (root / "tiny").mkdir()
    for split, count in {"train": 30, "valid": 15, "test": 15}.items():
        lines = [" ".join("abc"[n % 4 % 3] * (1 + n % 3)) for n in range(count)] + ["c b a b c"]
        (root / "tiny" / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def a_run(folder: Path, data: Path) -> Any:
    return SimpleNamespace(folder=folder, data=data, seed=1, device="cpu", cpus=1)


def global_generators() -> list[Any]:
    numbers = np.random.get_state()
    return [torch.random.get_rng_state().tolist(), random.getstate(), *map(str, numbers)]


@every_part
def test_every_step_of_an_optimiser_is_counted(
    part: str, name: str, tmp_path: Path, data: Path
) -> None:
    """Steps are seen by torch's own hook and told apart by what they move. One update of the
    whole is a step of each half."""
    training = Training(typed(effective(configured(part, name))), a_run(tmp_path, data))
    steps: Counter[str] = Counter()

    def seen(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        moved = {id(it) for group in optimiser.param_groups for it in group["params"]}
        halves = training.model.halves().items()
        steps.update(half for half, own in halves if moved == {id(it) for it in own})

    hook = register_optimizer_step_post_hook(seen)
    try:
        while not training.finished:
            measurement = training.epoch_of_updates()
            cost = {kind: measurement[f"cost/updates_{kind}"] for kind in training.updates.counts}
            assert steps["encoder"] == cost["joint"] + cost["encoder"]
            assert steps["decoder"] == cost["joint"] + cost["decoder"]
            assert steps["critic"] == cost["critic"]
            assert measurement["cost/updates"] == sum(cost.values())
            # 7 batches an epoch, each of them one outer step.
            assert measurement["cost/outer_steps"] == 7 * training.epoch
            assert measurement["cost/inner_steps"] == cost["encoder"]
    finally:
        hook.remove()


@every_part
def test_a_seed_is_one_result_also_after_a_kill_at_any_epoch(
    part: str, name: str, tmp_path: Path, data: Path
) -> None:
    """To the bit, in the last checkpoint too, whatever global generators stand at and without
    touching them. All measurements are finite."""
    config, whole, killed = configured(part, name), [], []
    before = global_generators()
    for measurement in train(config, a_run(tmp_path / "whole", data)):
        whole.append(measurement)
        killed.append(tmp_path / f"killed {len(whole)}")
        if (tmp_path / "whole" / "checkpoints").exists():
            shutil.copytree(tmp_path / "whole", killed[-1])
    assert global_generators() == before
    assert len(whole) == 3
    assert all(math.isfinite(value) for measurement in whole for value in measurement.values())
    for place, folder in enumerate(killed):
        torch.rand(1 + place)
        assert list(train(config, a_run(folder, data))) == whole[place:]
        assert equal(last_state(config, folder), last_state(config, tmp_path / "whole"))


# What a training tells its parts


def test_centres_are_of_the_posteriors_of_each_epochs_end(tmp_path: Path, data: Path) -> None:
    """With more centres than the 31 sentences, they are the sentences' own means."""
    config = configured("objective", "wasserstein") | {"wasserstein": {"centres": 40}}
    training = Training(typed(effective(config)), a_run(tmp_path, data))
    assert not training.model.posterior.is_fitted
    for _ in range(2):
        training.epoch_of_updates()
        training.model.eval()
        with torch.no_grad():
            encoded = [training.model.encode(tokens_BT)[1] for tokens_BT in training.data.train]
        means_NZ = torch.cat([posterior.base.mean_BZ for posterior in encoded])
        centres_CZ = training.model.posterior.centres_CZ
        torch.testing.assert_close(centres_CZ[:31], means_NZ)
        torch.testing.assert_close(centres_CZ[31:], means_NZ[:9])


class Told(Milestones):
    """A rule that remembers whether it was told that the objective is settled."""

    settled: ClassVar[list[bool]] = []

    def after(self, epoch: int, loss: float, *, settled: bool = True) -> Verdict:
        self.settled.append(settled)
        return super().after(epoch, loss, settled=settled)


@pytest.mark.parametrize(
    ("schedule", "expected"), [("cyclical", [False, True]), ("linear", [True, True])]
)
def test_an_objective_is_settled_after_its_cycles(
    schedule: str, expected: list[bool], tmp_path: Path, data: Path
) -> None:
    """2.5 epochs of 31 sentences / 8 are 9.7 updates; there are 7 in the first real epoch."""
    config = configured("kl.schedule", schedule)
    config["optim"] |= {"rule": f"{__name__}:Told"}
    config["kl"] |= {"span_epochs": 2.5}
    Told.settled.clear()
    for _ in train(config, a_run(tmp_path, data)):
        pass
    assert Told.settled == expected


def last_state(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    owner = text_vae.digest(effective(config), 1)
    state, notes = checkpoint.load(folder / "checkpoints", owner)
    assert notes == []
    return state


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, Tensor):
        return torch.equal(left.nan_to_num(-9e9), right.nan_to_num(-9e9))
    return left == right
