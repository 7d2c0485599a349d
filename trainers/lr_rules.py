"""A validation loss after each epoch in; the next learning rate out, and whether to go back
to the best weights or to stop.

A rule has state (it remembers losses and decays), which a checkpoint keeps. It is told whether
the objective is `settled`: while its KL weight goes in cycles, one epoch's loss says little of
the next one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    lr: float
    reload_best: bool = False  # and make new optimisers
    stop: bool = False


class Plateau:
    """He et al.'s (2019) rule: when validation has been worse than its reference `patience`
    times running, and not before epoch `first_decay_epoch` (counted from 0), decay and go
    back to the best weights; stop at the `decays`-th decay.

    Two traps of the original are kept: the losses before that epoch are counted, so that
    the first decay may come at once; and a decay makes the current, worse loss the
    reference."""

    def __init__(self, optim: Any) -> None:
        self.optim = optim
        self.lr, self.reference, self.worse, self.decays = optim.lr, 1e4, 0, 0

    def after(self, epoch: int, loss: float, *, settled: bool = True) -> Verdict:
        if not settled:
            return Verdict(lr=self.lr)
        if loss <= self.reference:
            self.worse, self.reference = 0, loss
            return Verdict(lr=self.lr)
        self.worse += 1
        if self.worse < self.optim.patience or epoch < self.optim.first_decay_epoch:
            return Verdict(lr=self.lr)
        self.worse, self.reference = 0, loss
        self.decays += 1
        self.lr *= self.optim.decay
        return Verdict(lr=self.lr, reload_best=True, stop=self.decays == self.optim.decays)

    def state_dict(self) -> dict[str, float]:
        return {
            "lr": self.lr,
            "reference": self.reference,
            "worse": self.worse,
            "decays": self.decays,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lr, self.reference = state["lr"], state["reference"]
        self.worse, self.decays = state["worse"], state["decays"]


class Milestones:
    """Decay after these shares of all epochs, rounded down, whatever the losses say."""

    def __init__(self, optim: Any) -> None:
        self.optim = optim
        self.lr = optim.lr
        # Decimals as they are written: 0.29 * 100 is 28.999... in binary.
        self.milestones = [int(Fraction(str(share)) * optim.epochs) for share in optim.milestones]

    def after(self, epoch: int, loss: float, *, settled: bool = True) -> Verdict:
        self.lr *= self.optim.decay ** self.milestones.count(epoch + 1)
        return Verdict(lr=self.lr)

    def state_dict(self) -> dict[str, float]:
        return {"lr": self.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lr = state["lr"]


LR_RULES = {"milestones": Milestones, "plateau": Plateau}
