"""The number of outer updates made so far in; the weight of the KL term out. Plain floats.

A schedule counts outer steps: within an aggressive inner loop the weight stands still. An
epoch is `updates_per_epoch` of them, sentences / batch size, as in the code of He et al.
(2019). Batches of one length are more than that (some are not full), so that their warm-up of
10 epochs ends after 9.7 real ones on Yahoo.
"""

from __future__ import annotations

import math
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
    """From `start` to `end` in equal steps, the first of them before the first update, as in
    the code of He et al. (2019); before that, `delay_updates` at `start` (Wang & Wang 2019)."""

    start: float
    warmup_updates: float
    end: float = 1.0
    delay_updates: float = 0.0

    @classmethod
    def configured(cls, kl: Any, updates_per_epoch: float) -> Linear:
        return cls(
            start=kl.start,
            end=kl.end,
            warmup_updates=kl.warmup_epochs * updates_per_epoch,
            delay_updates=kl.delay_epochs * updates_per_epoch,
        )

    def weight(self, update: int) -> float:
        """The weight of update `update`, counted from 0."""
        steps = max(0.0, update + 1 - self.delay_updates)
        return min(self.end, self.start + steps * (self.end - self.start) / self.warmup_updates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cyclical:
    """`cycles` times from 0 to 1 (Fu et al. 2019, equations 6 and 7, linear): within a cycle
    of T/M updates the weight rises for the share `ratio` and then stays. 1 after T, the
    `span_updates`.

    Their code for text restarts at 0.1 instead of 0 and pairs each cycle with one of the
    learning rate; the equations are followed here, and the learning rate is its own rule's."""

    cycles: int
    ratio: float
    span_updates: float

    @classmethod
    def configured(cls, kl: Any, updates_per_epoch: float) -> Cyclical:
        span = kl.span_epochs * updates_per_epoch
        return cls(cycles=kl.cycles, ratio=kl.ratio, span_updates=span)

    @property
    def settled_after(self) -> float:
        """Updates after which the weight changes no more. A rule that compares one epoch's
        validation with the next waits for it: within a cycle the objective itself moves."""
        return self.span_updates

    def weight(self, update: int) -> float:
        if update >= self.span_updates:
            return 1.0
        whole = math.ceil(self.span_updates / self.cycles)
        position = (update % whole) / (self.span_updates / self.cycles)
        return min(1.0, position / self.ratio)


KL_SCHEDULES = {"constant": Constant, "cyclical": Cyclical, "linear": Linear}
