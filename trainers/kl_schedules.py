"""The number of outer updates made so far in; the weight of the KL term out. Plain floats.

A schedule counts outer steps: within an aggressive inner loop the weight stands still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    value: float

    @classmethod
    def configured(cls, kl: Any, updates_per_epoch: float) -> Constant:
        return cls(value=kl.weight)

    def weight(self, update: int) -> float:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """From `start` to 1 in equal steps, the first of them before the first update, as in
    the code of He et al. (2019)."""

    start: float
    warmup_updates: float

    @classmethod
    def configured(cls, kl: Any, updates_per_epoch: float) -> Linear:
        """`updates_per_epoch` is sentences / batch size, as in that code. Batches of one
        length are more than that (some are not full), so the warm-up of 10 epochs ends
        after 9.7 real ones on Yahoo."""
        return cls(start=kl.start, warmup_updates=kl.warmup_epochs * updates_per_epoch)

    def weight(self, update: int) -> float:
        """The weight of update `update`, counted from 0."""
        return min(1.0, self.start + (update + 1) * (1 - self.start) / self.warmup_updates)


KL_SCHEDULES = {"constant": Constant, "linear": Linear}
