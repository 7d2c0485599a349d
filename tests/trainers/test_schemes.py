"""The control flow of the schemes, with losses that follow a script and updates that only
count: every expected number is counted by hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainers.objectives import Loss
from trainers.posteriors import Gaussian
from trainers.schemes import SCHEMES, Adversarial, Aggressive, Joint
from trainers.text_vae import train

# Batches of 2 sentences of 3 targets and of 3 sentences of 5: told apart by their shapes.
BATCHES = [torch.zeros(2, 4, dtype=torch.long), torch.zeros(3, 6, dtype=torch.long)]


class Counted:
    """What was updated, in order."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def step(self, loss: Tensor, kind: str) -> None:
        self.kinds.append(kind)


class Script:
    """An objective whose loss per word is what the script says next, and which remembers
    the batches it was asked about."""

    def __init__(self, per_word: Iterator[float]) -> None:
        self.per_word, self.seen = per_word, []

    def __call__(self, tokens_BT: Tensor) -> Loss:
        self.seen.append(tokens_BT)
        mean = torch.tensor(next(self.per_word) * (tokens_BT.shape[1] - 1))
        return Loss(mean=mean, rec_B=mean.expand(len(tokens_BT)))


def aggressive(**changes: int | None) -> tuple[Aggressive, Counted]:
    settings = {"window": 10, "inner": 100, "checks_per_epoch": 1, "max_epochs": None} | changes
    counted = Counted()
    config = SimpleNamespace(aggressive=SimpleNamespace(**settings))
    return Aggressive(config, counted, {"inner": torch.Generator().manual_seed(3)}), counted


def test_joint_is_one_update() -> None:
    counted = Counted()
    scheme = Joint(None, counted, {})
    for _ in range(3):
        scheme.step(BATCHES[0], BATCHES, Script(itertools.repeat(1.0)))
    assert counted.kinds == ["joint"] * 3
    assert scheme.checks_per_epoch == 0


def test_a_loss_that_falls_for_ever_costs_99_encoder_updates() -> None:
    scheme, counted = aggressive()
    falling = (100.0 - step for step in itertools.count())
    scheme.step(BATCHES[0], BATCHES, Script(falling))
    assert counted.kinds == ["encoder"] * 99 + ["decoder"]


def test_equal_looks_go_on() -> None:
    """Only a rise stops the inner loop. Whatever batches are drawn, a constant loss per
    word is the same at each look: words are counted, not batches."""
    scheme, counted = aggressive(window=16, inner=64)
    scheme.step(BATCHES[1], BATCHES, Script(itertools.repeat(2.0)))
    assert counted.kinds == ["encoder"] * 63 + ["decoder"]


@pytest.mark.parametrize(("rise_at", "inner"), [(10, 20), (20, 30), (50, 60), (90, 99)])
def test_the_loop_ends_at_the_first_look_that_is_worse(rise_at: int, inner: int) -> None:
    """Looks at 10, 20, ... 90; the first has nothing to compare with. A loss that rises after
    update 90 is not seen any more: the bound ends the loop first."""
    scheme, counted = aggressive()
    losses = (100.0 - step if step < rise_at else 1000.0 for step in itertools.count())
    scheme.step(BATCHES[0], BATCHES, Script(losses))
    assert counted.kinds == ["encoder"] * inner + ["decoder"]


def test_the_inner_loop_starts_on_the_batch_and_the_decoder_ends_on_it() -> None:
    scheme, _ = aggressive(inner=6)
    script = Script(itertools.repeat(1.0))
    scheme.step(BATCHES[1], BATCHES, script)
    assert len(script.seen) == 6
    assert script.seen[0] is BATCHES[1]
    assert script.seen[-1] is BATCHES[1]


def test_inner_batches_are_uniform_and_with_replacement() -> None:
    scheme, _ = aggressive(inner=4001, window=10**6)
    batches = [torch.zeros(1, 2 + place, dtype=torch.long) for place in range(4)]
    script = Script(itertools.repeat(1.0))
    scheme.step(batches[0], batches, script)
    counts = [sum(seen.shape[1] == 2 + place for seen in script.seen[1:-1]) for place in range(4)]
    assert sum(counts) == 3999
    # 1000 each, standard deviation 27: six of those.
    assert all(abs(count - 1000) < 165 for count in counts)


def test_information_that_falls_ends_the_aggressive_phase_for_ever() -> None:
    scheme, counted = aggressive(inner=3)
    for information, active in [(0.5, True), (0.5, True), (0.4, False), (9.0, False)]:
        scheme.check(information)
        assert scheme.active is active
    assert scheme.checks_per_epoch == 0
    scheme.step(BATCHES[0], BATCHES, Script(itertools.repeat(1.0)))
    assert counted.kinds == ["joint"]
    assert scheme.measurements() == {"aggressive/on": 0.0}


def test_information_below_0_ends_it_at_the_first_check() -> None:
    scheme, _ = aggressive()
    scheme.check(-0.01)
    assert not scheme.active


def test_the_bound_on_epochs_ends_it_too() -> None:
    scheme, _ = aggressive(checks_per_epoch=5, max_epochs=2)
    for check in range(1, 11):
        scheme.check(float(check))
        assert scheme.active is (check < 10)


def test_there_are_no_more_checks_than_batches() -> None:
    """Of 5 checks wanted an epoch of 2 batches has 2: two epochs are 4."""
    scheme, _ = aggressive(inner=3, checks_per_epoch=5, max_epochs=2)
    for check in range(1, 5):
        scheme.step(BATCHES[0], BATCHES, Script(itertools.repeat(1.0)))
        assert scheme.checks_per_epoch == 2
        scheme.check(float(check))
        assert scheme.active is (check < 4)


def test_cost_adds_up_over_a_scripted_run() -> None:
    """Two outer steps of 20 inner ones (a rise at the second look), then the phase ends and
    three joint updates: 40 + 2 + 3."""
    scheme, counted = aggressive()
    for _ in range(2):
        scheme.step(BATCHES[0], BATCHES, Script(float(step) for step in itertools.count()))
    scheme.check(-1.0)
    for _ in range(3):
        scheme.step(BATCHES[0], BATCHES, Script(itertools.repeat(1.0)))
    kinds = {kind: counted.kinds.count(kind) for kind in ("encoder", "decoder", "joint")}
    assert kinds == {"encoder": 40, "decoder": 2, "joint": 3}


# A whole training whose losses and mutual information follow a script: Table 2's arithmetic.

# Losses per word of an outer step, the last the decoder's. Windows of 3: the second look is
# worse than the first, and 6 inner updates are made; or none is, and 9 of the 9 allowed are.
SIX = [5.0] * 3 + [6.0] * 3 + [1.0]
NINE = [5.0] * 3 + [4.0] * 3 + [3.0] * 3 + [1.0]
JOINT = [2.0]


class Play:
    """The script of the parts below, and the KL weights that its objective was given."""

    def __init__(self) -> None:
        self.losses: Iterator[float] = iter(())
        self.apart: dict[int, float] = {}
        self.weights: list[float] = []

    def distance(self) -> float:
        """By the number of updates so far."""
        return max((n, apart) for n, apart in self.apart.items() if n <= len(self.weights))[1]


PLAY = Play()


def scripted(model: Any, tokens_BT: Tensor, *, weight: float, **settings: Any) -> Loss:
    """The loss per word is the script's, and nothing is learned from it."""
    PLAY.weights.append(weight)
    nothing = 0 * sum(it.sum() for it in model.parameters())
    mean = next(PLAY.losses) * (tokens_BT.shape[1] - 1) + nothing
    return Loss(mean=mean, rec_B=mean.detach().expand(len(tokens_BT)))


class Apart(nn.Module):
    """Posteriors N(0, 1), N(d, 1), .. of a batch's sentences at the script's distance d: in
    batches of two their information is 0 at d = 0, 0.22 nats at 1.5 and log 2 at 10."""

    def __init__(self, *, features: int, latent: int, config: object) -> None:
        super().__init__()

    def forward(self, feature_BH: Tensor) -> Gaussian:
        mean_BZ = PLAY.distance() * torch.arange(len(feature_BH), dtype=torch.float32)[:, None]
        return Gaussian(mean_BZ=mean_BZ, logvar_BZ=torch.zeros_like(mean_BZ))


@pytest.mark.parametrize(
    ("settings", "apart", "steps", "inner", "decoder", "joint"),
    [
        # Information is looked at after each epoch, and falls in the second.
        ({}, {0: 10.0, 32: 0.0},
         [SIX, NINE, SIX, SIX, NINE, NINE, SIX, SIX, *[JOINT] * 4],
         (27, 57, 57), (4, 8, 8), (0, 0, 4)),
        # And after each half: it rises in the first epoch and falls amid the second.
        ({"checks_per_epoch": 2}, {0: 1.5, 20: 10.0, 32: 0.0},
         [SIX, NINE, SIX, SIX, NINE, NINE, *[JOINT] * 6],
         (27, 45, 45), (4, 6, 6), (0, 2, 6)),
        # It never falls; the phase's epochs are bounded.
        ({"max_epochs": 2}, {0: 1.5, 40: 10.0},
         [*[NINE] * 4, *[SIX] * 4, *[JOINT] * 4],
         (36, 60, 60), (4, 8, 8), (0, 0, 4)),
    ],
    ids=["an epoch's end", "amid an epoch", "the bound"],
)  # fmt: skip
def test_updates_of_a_scripted_training(
    settings: dict[str, int],
    apart: dict[int, float],
    steps: list[list[float]],
    inner: tuple[int, ...],
    decoder: tuple[int, ...],
    joint: tuple[int, ...],
    tmp_path: Path,
) -> None:
    """Three epochs of four batches."""
    (tmp_path / "data" / "tiny").mkdir(parents=True)
    lines = "\n".join(["a b", "b a", "a a", "b b", "a b a", "b a b", "a a a", "b b b"]) + "\n"
    for split, times in {"train": 1, "valid": 20, "test": 1}.items():
        path = tmp_path / "data" / "tiny" / f"{split}.txt"
        path.write_text(lines * times, encoding="utf-8")
    PLAY.__init__()
    PLAY.losses, PLAY.apart = itertools.chain.from_iterable(steps), apart
    config = {
        "data": "tiny",
        "objective": f"{__name__}:scripted",
        "posterior": f"{__name__}:Apart",
        "scheme": "aggressive",
        "aggressive": {"window": 3, "inner": 10} | settings,
        "size": {"embedding": 3, "encoder": 4, "decoder": 4, "latent": 1},
        "kl": {"warmup_epochs": 5},
        "optim": {"batch": 2, "epochs": 3, "rule": "milestones"},
        "evaluate": {"samples": 2},
    }
    run = SimpleNamespace(
        folder=tmp_path / "run", data=tmp_path / "data", seed=1, device="cpu", cpus=1
    )
    *epochs, result = train(config, run)

    def column(name: str) -> tuple[float, ...]:
        return tuple(measurement[name] for measurement in epochs)

    assert next(PLAY.losses, None) is None
    assert column("aggressive/on") == (1, 0, 0)
    assert column("cost/updates_encoder") == column("cost/inner_steps") == inner
    assert column("cost/updates_decoder") == decoder
    assert column("cost/updates_joint") == joint
    assert column("cost/outer_steps") == (4, 8, 12)
    assert column("cost/updates") == tuple(map(sum, zip(inner, decoder, joint, strict=True)))
    assert result["cost/updates"] == len(PLAY.weights) == inner[-1] + 12
    # The KL weight stands still within an outer step and rises by 0.9 / 20 between two.
    expected = [0.1 + (n + 1) * 0.9 / 20 for n, step in enumerate(steps) for _ in step]
    assert PLAY.weights == pytest.approx(expected)
    # Outside the inner loops a word costs 1 in the aggressive phase and 2 after it.
    if "checks_per_epoch" not in settings:
        assert column("train/loss") == pytest.approx((3.5, 3.5, 7.0))


def test_critics_go_first_on_the_batchs_own_codes_and_new_ones_of_the_prior() -> None:
    """Three updates of them and one of the whole; codes of a deviation of 0 are known."""
    counted, seen = Counted(), []

    class Critics:
        def loss(self, codes_BZ: Tensor, prior_BZ: Tensor, feature_BH: Tensor) -> Tensor:
            seen.append((codes_BZ, prior_BZ, feature_BH))
            return torch.zeros(())

    def encode(tokens_BT: Tensor) -> tuple[Tensor, Gaussian]:
        feature_BH = tokens_BT * torch.ones((), requires_grad=True)
        mean_BZ = feature_BH[:, :2] + 7
        return feature_BH, Gaussian(mean_BZ=mean_BZ, logvar_BZ=torch.full_like(mean_BZ, -200.0))

    counted.model = SimpleNamespace(encode=encode, critics=Critics())
    config = SimpleNamespace(critic=SimpleNamespace(steps=3))
    streams = {"critic": torch.Generator().manual_seed(4)}
    scheme = Adversarial(config, counted, streams)
    for _ in range(2):
        loss = scheme.step(BATCHES[1], BATCHES, Script(itertools.repeat(1.0)))
    assert counted.kinds == ["critic", "critic", "critic", "joint"] * 2
    assert float(loss.mean) == 5
    assert all(torch.equal(codes_BZ, torch.full((3, 2), 7.0)) for codes_BZ, _, _ in seen)
    assert not any(it.requires_grad for inputs in seen for it in inputs)
    priors = torch.stack([prior_BZ for _, prior_BZ, _ in seen])
    assert priors.shape == (6, 3, 2)
    assert len(priors.unique()) == 36


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_goes_on_from_its_state(name: str) -> None:
    config = SimpleNamespace(
        aggressive=SimpleNamespace(window=2, inner=5, checks_per_epoch=1, max_epochs=3)
    )
    first = SCHEMES[name](config, Counted(), {"inner": torch.Generator()})
    if first.checks_per_epoch:
        first.check(0.3)
    second = SCHEMES[name](config, Counted(), {"inner": torch.Generator()})
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert second.measurements() == first.measurements()
