"""The control flow of the schemes, with losses that follow a script and updates that only
count: every expected number is counted by hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from trainers.objectives import Loss
from trainers.schemes import SCHEMES, Aggressive, Joint

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
    return Aggressive(config, counted, torch.Generator().manual_seed(3)), counted


def test_joint_is_one_update() -> None:
    counted = Counted()
    scheme = Joint(None, counted, torch.Generator())
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


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_goes_on_from_its_state(name: str) -> None:
    config = SimpleNamespace(
        aggressive=SimpleNamespace(window=2, inner=5, checks_per_epoch=1, max_epochs=3)
    )
    first = SCHEMES[name](config, Counted(), torch.Generator())
    if first.checks_per_epoch:
        first.check(0.3)
    second = SCHEMES[name](config, Counted(), torch.Generator())
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert second.measurements() == first.measurements()
