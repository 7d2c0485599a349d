"""A training that is stopped at any update, and goes on: the same to the bit as one that
never was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import corpus

from trainers import checkpoint, text_vae
from trainers.config import effective
from trainers.schemes import SCHEMES
from trainers.text_vae import train
from trainers.updates import Updates

SMALL = {
    "data": "tiny",
    "dropout": 0.2,
    "word_dropout": 0.1,
    "size": {"embedding": 4, "encoder": 6, "decoder": 6, "latent": 2},
    "init": {"scheme": "default"},
    "kl": {"warmup_epochs": 2},
    "optim": {"algorithm": "adam", "lr": 0.02, "batch": 8, "epochs": 4, "rule": "milestones"},
    "evaluate": {"samples": 5},
}
# At least one system of every scheme; and of what else has a state, a rule that counts bad
# epochs and goes back to the best weights, a schedule that goes in cycles, running statistics.
SYSTEMS: dict[str, dict[str, Any]] = {
    "joint": {},
    "aggressive": {
        "scheme": "aggressive",
        "kl": {"schedule": "constant", "weight": 0.05},  # Codes are cheap: information rises.
        "aggressive": {"window": 2, "inner": 6, "max_epochs": 2},
    },
    "adversarial": {
        "scheme": "adversarial",
        "objective": "dual",
        "posterior": "implicit",
        "critic": {"hidden": 4, "steps": 2, "lr": 1e-2},
    },
    "plateau": {
        "optim": {
            "algorithm": "sgd",
            "lr": 8.0,  # Too high: validation worsens twice running.
            "batch": 8,
            "epochs": 6,
            "patience": 2,
            "first_decay_epoch": 1,
        }
    },
    "cyclical": {"kl": {"schedule": "cyclical", "cycles": 2}},
    "flow": {
        "objective": "wasserstein",
        "posterior": "planar_flow",
        "decoder": "initial",
        "flow": {"length": 2},
        "wasserstein": {"centres": 3},
    },
    "language model": {"model": "language_model"},
}


class Stopped(BaseException):
    """In place of a kill: nothing catches it, and nothing more is written."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("data"))


@contextmanager
def stopped_at(update: int) -> Iterator[None]:
    """The process ends amid that update: the gradient is taken, and nothing is moved yet."""
    real, made = Updates.step, [0]

    def step(self: Updates, loss: torch.Tensor, kind: str) -> None:
        made[0] += 1
        if made[0] == update:
            raise Stopped
        real(self, loss, kind)

    Updates.step = step
    try:
        yield
    finally:
        Updates.step = real


def last_state(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    owner = text_vae.digest(effective(config), 1)
    state, notes = checkpoint.load(folder / "checkpoints", owner)
    assert notes == []
    return state


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_every_scheme_is_here():
    assert {(SMALL | system).get("scheme", "joint") for system in SYSTEMS.values()} == set(SCHEMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_stopped_at_any_update_it_goes_on_to_the_same_end(
    name: str, data: Path, tmp_path: Path, fault_seed: int, full: bool, say: Callable[[str], None]
) -> None:
    """At random updates, each of which stops a training of its own; every fourth of them is
    stopped a second time where it went on."""
    config = SMALL | SYSTEMS[name]
    draw = random.Random(f"{fault_seed} {name}")

    def at(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(folder=folder, data=data, seed=1, device="cpu", cpus=1)

    whole = list(train(config, at(tmp_path / "whole")))
    end = last_state(config, tmp_path / "whole")
    updates = int(whole[-1]["cost/updates"])
    if name == "plateau":
        rates = {measured["optim/lr"] for measured in whole if "optim/lr" in measured}
        assert len(rates) > 1, "it has not decayed"
    # One in each of so many equal parts: each epoch's checkpoint is gone on from.
    parts = min(100 if full else 12, updates)
    edges = [updates * part // parts for part in range(parts + 1)]
    points = [draw.randint(first + 1, last) for first, last in pairwise(edges)]
    stops = 0
    for number, point in enumerate(points):
        folder = tmp_path / f"stopped at {point}"
        seen: list[dict[str, float]] = []
        for update in (point, draw.randint(1, updates)) if number % 4 == 0 else (point,):
            with stopped_at(update):
                try:
                    seen += train(config, at(folder))
                except Stopped:
                    stops += 1
        rest = list(train(config, at(folder)))
        assert rest == whole[len(whole) - len(rest) :]
        assert equal(last_state(config, folder), end)
        # What one had measured before it was stopped is what the whole one measured there.
        assert all(measurement in whole for measurement in seen)
    say(f"{name}: {stops} stops of {updates} updates (seed {fault_seed}): the same to the bit")
