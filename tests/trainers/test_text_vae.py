"""Whole runs on a corpus of two kinds of sentences."""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import Run, corpus

from trainers import checkpoint, text_vae, training
from trainers.config import NAMES, effective
from trainers.decoders import DECODERS
from trainers.kl_schedules import KL_SCHEDULES
from trainers.lr_rules import LR_RULES
from trainers.objectives import OBJECTIVES, Loss, elbo
from trainers.parts import find
from trainers.pooling import POOLINGS
from trainers.posteriors import POSTERIORS
from trainers.schemes import SCHEMES
from trainers.text_vae import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Run:
    return Run(folder=tmp_path / "trial", data=data)


def configured(**changes: Any) -> dict[str, Any]:
    """Small and quick. Twelve sentences of each length: batches of 8 and 4."""
    return {
        "data": "tiny",
        "dropout": 0.2,
        "word_dropout": 0.1,
        "size": {"embedding": 4, "encoder": 6, "decoder": 6, "latent": 2},
        "init": {"scheme": "default"},
        "kl": {"warmup_epochs": 2},
        "optim": {"algorithm": "adam", "lr": 0.02, "batch": 8, "epochs": 3, "rule": "milestones"},
        "evaluate": {"samples": 7},
    } | changes


# What may make a resumed run another run: momenta, an inner loop with its stream and phase,
# a rule that reloads and decays.
RESUMED = {
    "joint": configured(),
    "aggressive": configured(
        scheme="aggressive",
        kl={"schedule": "constant", "weight": 0.05},  # Codes are cheap: information rises.
        aggressive={"window": 2, "inner": 6, "max_epochs": 2},
    ),
    "plateau": configured(
        optim={
            "algorithm": "sgd",
            "lr": 4.0,  # Too high, so that validation worsens.
            "batch": 8,
            "epochs": 4,
            "patience": 1,
            "first_decay_epoch": 1,
        }
    ),
    "language model": configured(model="language_model"),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_killed_run_continues_bit_for_bit_from_every_epoch(
    name: str, run: Run, tmp_path: Path
) -> None:
    continues(RESUMED[name], run, tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", RESUMED)
def test_so_it_does_on_a_gpu(name: str, run: Run, tmp_path: Path) -> None:
    continues(RESUMED[name], replace(run, device="cuda"), tmp_path)


def continues(config: dict[str, Any], run: Run, tmp_path: Path) -> None:
    """Killed when a measurement is out and its checkpoint is not: that measurement comes
    again, the same to the bit, and so does all that follows."""
    whole, killed = [], []
    for measurement in train(config, run):
        whole.append(measurement)
        killed.append(replace(run, folder=tmp_path / f"killed {len(whole)}"))
        if (run.folder / "checkpoints").exists():
            shutil.copytree(run.folder, killed[-1].folder)
    assert len(whole) >= 4
    for place, again in enumerate(killed):
        assert list(train(config, again)) == whole[place:]
        assert equal(last_state(config, again), last_state(config, run))


def last_state(config: dict[str, Any], run: Run) -> dict[str, Any]:
    owner = text_vae.digest(effective(config), run.seed)
    state, notes = checkpoint.load(run.folder / "checkpoints", owner)
    assert notes == []
    return state


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    return torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right


def test_the_runs_above_go_through_what_they_are_there_for(run: Run, tmp_path: Path) -> None:
    phases = [it["aggressive/on"] for it in train(RESUMED["aggressive"], run) if "train/loss" in it]
    assert phases == [1, 0, 0]
    rates = [
        measurement["optim/lr"]
        for measurement in train(RESUMED["plateau"], replace(run, folder=tmp_path / "plateau"))
        if "optim/lr" in measurement
    ]
    assert len(set(rates)) > 1


@pytest.mark.parametrize("forgotten", training.STATEFUL)
def test_nothing_in_a_checkpoint_could_be_left_out(
    forgotten: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RESUMED["plateau" if forgotten == "rule" else "aggressive"]
    whole = list(train(config, run))
    killed = replace(run, folder=tmp_path / "killed")
    list(islice(train(config, killed), 3))  # Two epochs are kept, the third is lost.
    kept = [part for part in training.STATEFUL if part != forgotten]
    monkeypatch.setattr(training, "STATEFUL", kept)
    assert list(train(config, killed)) != whole[2:]


def test_a_run_depends_on_its_seed_and_on_no_global_generator(run: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.random.get_rng_state()
    first = list(train(configured(), run))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(1)
    assert list(train(configured(), replace(run, folder=tmp_path / "2"))) == first
    other = list(train(configured(), replace(run, folder=tmp_path / "3", seed=2)))
    assert other[0]["train/loss"] != first[0]["train/loss"]


def test_measurements_of_a_sequence_vae(run: Run) -> None:
    *epochs, result = train(configured(), run)
    cost = {
        *(f"cost/updates{kind}" for kind in ("", "_joint", "_encoder", "_decoder", "_critic")),
        *("cost/outer_steps", "cost/inner_steps", "cost/epochs"),
    }
    valid = {
        f"valid/{name}"
        for name in ("nelbo", "rec", "kl", "mi_batch", "mi_full", "au", "cosine", "cosine_batch")
    }
    test = {name.replace("valid", "test") for name in valid} | {
        f"test/{name}"
        for name in (
            *("nll_iw", "nll_iw_se", "nll_iw_mc_se", "iw_ess", "iw_ess_min"),
            *("ppl_iw", "sentences", "targets", "nll_unigram"),
        )
    }
    for measurement in epochs:
        assert measurement.keys() == cost | valid | {
            *("progress", "train/loss", "kl/weight", "optim/lr")
        }
    assert result.keys() == cost | valid | test | {"best/epoch"}
    assert all(type(value) is float for value in result.values())

    # 12 sentences of each of 6 lengths, in batches of 8 and 4: 12 batches an epoch.
    assert [measurement["cost/updates"] for measurement in epochs] == [12, 24, 36]
    assert [measurement["progress"] for measurement in epochs] == [1 / 3, 2 / 3, 1]
    best = min(epochs, key=lambda measurement: measurement["valid/nelbo"])
    assert result["best/epoch"] == best["cost/epochs"]
    assert {name: result[name] for name in valid} == {name: best[name] for name in valid}
    # 9 sentences an epoch are 72 / 8 updates to the warm-up, not the 12 there are.
    assert epochs[0]["kl/weight"] == pytest.approx(0.1 + 12 * 0.9 / 18)
    # 24 sentences of 1 to 6 words and </s>.
    assert result["test/targets"] == 4 * sum(range(2, 8))
    assert result["test/ppl_iw"] == pytest.approx(
        math.exp(result["test/nll_iw"] * 24 / result["test/targets"])
    )


def test_measurements_of_a_language_model(run: Run) -> None:
    *epochs, result = train(configured(model="language_model"), run)
    assert "valid/nll_exact" in epochs[0]
    for name in ("kl/weight", "valid/nelbo", "valid/kl", "test/nll_iw", "test/kl", "test/cosine"):
        assert name not in epochs[0] | result
    sentences = np.load(run.folder / "artifacts" / "test_sentences.npz")
    assert sorted(sentences) == ["nll"]
    assert sentences["nll"].mean() == pytest.approx(result["test/nll_exact"])
    assert "test/ppl_exact" in result
    assert "test/ppl_iw" not in result


def test_a_corpus_with_a_floor_is_measured_above_it(run: Run) -> None:
    limits = {"train": 200, "valid": 50, "test": 40}
    optim = configured()["optim"] | {"epochs": 1}
    *_, result = train(configured(data="synthetic_styles", limits=limits, optim=optim), run)
    sentences = np.load(run.folder / "artifacts" / "test_sentences_7.npz")
    assert sorted(sentences) == ["ess", "floor", "nll"]
    assert {len(values) for values in sentences.values()} == {40}
    above = sentences["nll"] - sentences["floor"]
    assert result["test/nll_iw_above_floor"] == pytest.approx(above.mean())
    assert result["test/nll_iw_above_floor_t"] == pytest.approx(
        above.mean() / above.std(ddof=1) * math.sqrt(40)
    )
    assert result["test/nll_iw_above_floor_se"] == pytest.approx(above.std(ddof=1) / math.sqrt(40))
    assert result["test/nll_iw_above_floor"] == pytest.approx(
        result["test/nll_iw"] - result["test/nll_floor"]
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_system_learns(pooling: str, decoder: str, scheme: str, run: Run) -> None:
    """A sentence says one word over and over: even the least of them soon beats counts."""
    epochs = 9 if scheme == "adversarial" else 6  # Its critics are to learn something first.
    config = configured(
        pooling=pooling,
        decoder=decoder,
        scheme=scheme,
        objective="dual" if scheme == "adversarial" else "elbo",
        aggressive={"window": 2, "inner": 4, "max_epochs": 1},
        critic={"hidden": 4, "steps": 2, "lr": 1e-2},
        word_dropout=0.0,
        dropout=0.0,
        optim=configured()["optim"] | {"epochs": epochs, "lr": 0.05},
    )
    *_, result = train(config, run)
    assert result["test/nll_iw"] < 0.8 * result["test/nll_unigram"]
    assert result["cost/outer_steps"] == epochs * 12
    critic = 2 * epochs * 12 if scheme == "adversarial" else 0
    assert result["cost/updates_critic"] == critic
    assert result["cost/updates"] == sum(
        result[f"cost/{kind}"] for kind in ("outer_steps", "inner_steps", "updates_critic")
    )
    assert (result["cost/inner_steps"] == 0) == (scheme != "aggressive")


@pytest.mark.parametrize(
    "system",
    [
        {"posterior": "planar_flow", "objective": "wasserstein", "decoder": "initial"},
        {"posterior": "implicit", "objective": "dual", "scheme": "adversarial"},
    ],
    ids=["WAE-RNF", "iVAE"],
)
def test_the_systems_of_other_papers_learn(system: dict[str, str], run: Run) -> None:
    """On sentences that differ: batch normalisation has nothing to go by in `a a a`."""
    rest = {
        "data": "synthetic_styles",
        "limits": {"train": 1000, "valid": 100, "test": 100},
        "size": {"embedding": 16, "encoder": 16, "decoder": 16, "latent": 4},
        "critic": {"hidden": 8, "lr": 1e-3},
        "optim": configured()["optim"] | {"batch": 16, "epochs": 3},
    }
    *_, result = train(configured(**system, **rest), run)
    assert result["test/nll_iw"] < 0.95 * result["test/nll_unigram"]
    own = "test/nll_dual" if system["objective"] == "dual" else "test/nll_at_centre"
    assert math.isfinite(result[own])


def test_weights_that_are_lost_at_the_end_of_an_epoch_are_a_divergence(run: Run) -> None:
    """Every loss of the epoch was finite, and centres are to be fitted to what is not."""
    system = {"posterior": "planar_flow", "objective": "wasserstein"}
    optim = {"algorithm": "sgd", "lr": 1e38, "batch": 72, "epochs": 3, "rule": "milestones"}
    limits = {"train": 1}
    *_, last = train(configured(**system, optim=optim, limits=limits), run)
    assert not all(map(math.isfinite, last.values()))
    assert last["cost/updates"] == 1


def test_critics_are_there_for_an_objective_of_ones_own(run: Run) -> None:
    own = configured(scheme="adversarial", objective=f"{__name__}:recorded")
    *_, result = train(own | {"critic": {"hidden": 4, "steps": 1}}, run)
    assert result["cost/updates_critic"] == result["cost/updates_joint"] == 3 * 12


def test_a_run_that_diverges_says_so_and_stops(run: Run) -> None:
    optim = {"algorithm": "sgd", "lr": 1e38, "batch": 8, "epochs": 3, "rule": "milestones"}
    (only,) = train(configured(optim=optim), run)
    assert not math.isfinite(only["train/loss"])
    assert only["cost/updates"] == 2  # The first one took the weights away.


def test_where_to_look_is_to_wait_a_loss_is_looked_at_now_and_then(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "STEPS_BETWEEN_LOOKS", {"cpu": 5})
    optim = {"algorithm": "sgd", "lr": 1e38, "batch": 8, "epochs": 3, "rule": "milestones"}
    (only,) = train(configured(optim=optim), run)
    assert only["cost/updates"] == 5


def test_a_finished_run_is_only_evaluated_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    *_, result = train(configured(), run)

    def refused(_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training.Training, "pass_over_batches", refused)
    assert list(train(configured(), run)) == [result]
    (other,) = train(configured(evaluate={"samples": 11}), run)
    assert other["test/nll_iw"] != result["test/nll_iw"]
    assert other["test/kl"] == result["test/kl"]


def test_a_damaged_checkpoint_is_passed_over_and_said(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    whole = list(train(configured(), run))
    newest = checkpoint.newest_first(run.folder / "checkpoints")[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert list(train(configured(), run)) == whole[-2:]
    assert "damaged" in caplog.text


def as_if_made_on_cuda(config: dict[str, Any], run: Run) -> None:
    """The last checkpoint, with the 16 bytes that a stream's state has there."""
    state = last_state(config, run) | {"device": "cuda"}
    state["streams"] = {name: torch.zeros(16, dtype=torch.uint8) for name in state["streams"]}
    owner = text_vae.digest(effective(config), run.seed)
    checkpoint.save(run.folder / "checkpoints", state["epoch"], state, owner)


def test_unfinished_training_of_another_kind_of_device_starts_over(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = list(train(configured(), run))
    killed = replace(run, folder=tmp_path / "killed")
    list(islice(train(configured(), killed), 3))
    as_if_made_on_cuda(configured(), killed)
    with caplog.at_level(logging.WARNING):
        assert list(train(configured(), killed)) == whole
    assert "was made on cuda; training starts over on cpu" in caplog.text


def test_finished_training_of_another_kind_of_device_is_evaluated(run: Run) -> None:
    *_, result = train(configured(), run)
    as_if_made_on_cuda(configured(), run)
    assert list(train(configured(), run)) == [result]


def test_another_configurations_folder_is_refused(run: Run) -> None:
    list(train(configured(), run))
    with pytest.raises(checkpoint.ForeignCheckpoint):
        list(train(configured(pooling="max"), run))


def test_a_split_of_one_sentence_has_no_cosine_and_is_no_divergence(run: Run) -> None:
    *epochs, result = train(configured(limits={"valid": 1, "test": 1}), run)
    assert len(epochs) == 3
    assert "valid/cosine" not in epochs[0]
    assert "test/nll_iw_se" not in result
    assert math.isfinite(result["test/nll_iw"])


SEEN: list[dict[str, Any]] = []


def recorded(model: Any, tokens_BT: torch.Tensor, **settings: Any) -> Loss:
    """elbo, and what it was given."""
    weights = {name: it.detach().clone() for name, it in model.decoder.named_parameters()}
    position = settings["streams"]["noise"].get_state()
    loss = elbo(model, tokens_BT, **settings)
    SEEN.append({"tokens": tokens_BT, "noise": position, "decoder": weights})
    return loss


def seen(run: Run, folder: Path, **changes: Any) -> list[dict[str, Any]]:
    """Of every update: its batch, where the noise's stream stood, the decoder before it."""
    SEEN.clear()
    config = configured(objective=f"{__name__}:recorded", **changes)
    list(train(config, replace(run, folder=folder)))
    return list(SEEN)


def test_one_more_draw_for_one_purpose_moves_no_other(run: Run, tmp_path: Path) -> None:
    """Poolings, and word dropout with its draws, see the same batches in the same order with
    the same noise, from the same decoder."""
    last = seen(run, tmp_path / "last", pooling="last", word_dropout=0.0)
    assert len(last) == 36
    assert not torch.equal(last[0]["noise"], last[1]["noise"])
    for changes in ({"pooling": "max", "word_dropout": 0.0}, {"word_dropout": 0.5}):
        other = seen(run, tmp_path / str(len(changes)), **changes)
        for name in ("tokens", "noise"):
            assert all(equal(a[name], b[name]) for a, b in zip(last, other, strict=True)), name
        assert equal(last[0]["decoder"], other[0]["decoder"])
        assert not equal(last[-1]["decoder"], other[-1]["decoder"])


def test_a_part_of_ones_own_is_the_part_it_stands_for(run: Run, tmp_path: Path) -> None:
    named = configured(pooling="max", kl={"warmup_epochs": 2, "schedule": "linear"})
    own = named | {
        "pooling": "trainers.pooling:maximum",
        "kl": named["kl"] | {"schedule": "trainers.kl_schedules:Linear"},
        "optim": named["optim"] | {"rule": "trainers.lr_rules:Milestones"},
    }
    expected = list(train(named, run))
    assert list(train(own, replace(run, folder=tmp_path / "own"))) == expected


def test_the_tables_of_parts_have_the_names_that_a_sweep_may_use() -> None:
    tables = {
        "pooling": POOLINGS,
        "decoder": DECODERS,
        "posterior": POSTERIORS,
        "objective": OBJECTIVES,
        "scheme": SCHEMES,
        "schedule": KL_SCHEDULES,
        "rule": LR_RULES,
    }
    assert {part: sorted(table) for part, table in tables.items()} == {
        part: sorted(names) for part, names in NAMES.items()
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mx", "unknown part 'mx'; one of abs, attention, avg, last, max"),
        ("no_such_module:thing", "cannot load 'no_such_module:thing'"),
        ("trainers.pooling:thing", "cannot load 'trainers.pooling:thing'"),
    ],
)
def test_a_part_that_is_not_there_is_named(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        find(POOLINGS, name)
