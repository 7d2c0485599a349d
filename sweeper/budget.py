"""What trials have cost and what they may in; whether there is anything left to spend out.

A trial costs updates, wall time and GPU-hours. What a sweep has spent is what its trials
have, each once, whoever ran them; its wall time is that of one run.
"""

from __future__ import annotations

import contextlib
import operator
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from sweeper.errors import CorruptRecord
from sweeper.spec.sweep import Limits
from sweeper.track.folder import Folder
from sweeper.trial import Trial

UNLIMITED = Limits()
SECONDS_BETWEEN_LOOKS = 1.0
MOST_SECONDS_BETWEEN_CLOCKS = 600.0
SHARE_OF_LOOKING = 0.1  # Of the time at most: a store may be great, and far away.


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The measures of `Limits`, `wall` in seconds; `seconds` is the time that trials took, as
    if one had run after another."""

    updates: float = 0.0
    wall: float = 0.0
    gpu_hours: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            updates=self.updates + other.updates,
            wall=self.wall + other.wall,
            gpu_hours=self.gpu_hours + other.gpu_hours,
            seconds=self.seconds + other.seconds,
        )


def over(limits: Limits, spent: Spent) -> str | None:
    """The first limit that is passed: "1,503,210 of 1,500,000 updates"."""
    return compared(limits, spent, operator.gt)


def reached(limits: Limits, spent: Spent) -> str | None:
    """The first limit that is passed or met."""
    return compared(limits, spent, operator.ge)


def compared(limits: Limits, spent: Spent, passed: Callable[[float, float], bool]) -> str | None:
    if limits.updates is not None and passed(spent.updates, limits.updates):
        return f"{spent.updates:,.0f} of {limits.updates:,} updates"
    if limits.wall is not None and passed(spent.wall, limits.wall):
        unit, seconds = unit_of(limits.wall)
        return f"{spent.wall / seconds:.4g} of {limits.wall / seconds:.4g} {unit} of wall time"
    if limits.gpu_hours is not None and passed(spent.gpu_hours, limits.gpu_hours):
        return f"{spent.gpu_hours:.4g} of {limits.gpu_hours:.4g} GPU-hours"
    return None


def unit_of(seconds: float) -> tuple[str, int]:
    """The unit in which a duration is best said, and its seconds."""
    return ("s", 1) if seconds < 120 else ("min", 60) if seconds < 7200 else ("h", 3600)


class Account:
    """What the trials of a sweep have cost, under the limits of all of them together. It has
    state because time runs, from when the first of them is begun, and because a journal is read
    again only when it has grown. `ended` is what it said when it let no further trial start, or
    stopped those that ran."""

    def __init__(self, limits: Limits, trials: Iterable[Trial], folder: Folder):
        self.limits, self.folder = limits, folder
        self.ended: str | None = None
        self._ids = {trial.id for trial in trials}
        self._known: dict[str, tuple[tuple[int, int], Spent]] = {}
        self._made, self._made_at = time.monotonic(), time.time()
        self._began: float | None = None
        self._looking = threading.Lock()  # Trials are asked for in one thread, watched in another.

    def include(self, *ids: str) -> None:
        """Further trials, which became known meanwhile."""
        with self._looking:
            self._ids.update(ids)

    @property
    def limited(self) -> bool:
        return self.limits != UNLIMITED

    def spent(self) -> Spent:
        """As the store has it now; `wall` since the first trial was begun after this was made:
        Ray takes its time before that."""
        with self._looking:
            grown = [id for id in self._ids.intersection(self.folder.ids()) if self._look(id)]
            if self._began is None:
                self._began = min(filter(None, map(self._begun, grown)), default=None)
            total = sum((spent for _, spent in self._known.values()), Spent())
        wall = 0.0 if self._began is None else time.monotonic() - self._began
        return replace(total, wall=wall)

    def _look(self, id: str) -> bool:
        """Whether its journal has grown since this was made or looked last."""
        try:
            there = os.stat(self.folder.path(id) / "journal.jsonl")
        except FileNotFoundError:
            return False
        grown = (there.st_size, there.st_mtime_ns)
        if id not in self._known or self._known[id][0] != grown:
            try:
                total = self.folder.totals(id)
            except CorruptRecord:  # Said where the trial itself is looked at.
                return False
            taken = {key: total[key] for key in ("updates", "gpu_hours", "seconds")}
            self._known[id] = (grown, Spent(**taken))
            # A file server's clock need not be ours.
            return there.st_mtime > self._made_at - MOST_SECONDS_BETWEEN_CLOCKS
        return False

    def _begun(self, id: str) -> float | None:
        """When its last attempt began, by our clock; None if that was before us."""
        try:
            starts = [e["at"] for e in self.folder.entries(id) if e["kind"] == "start"]
        except CorruptRecord:
            return None
        if not starts or starts[-1] < self._made_at:
            return None
        ago = max(time.time() - starts[-1], 0.0)  # A clock may have been set meanwhile.
        return max(time.monotonic() - ago, self._made)

    def reached(self) -> str | None:
        return reached(self.limits, self.spent()) if self.limited else None

    def as_far_as_it_reaches(self, trials: Iterable[Trial]) -> Iterator[Trial]:
        """Those of `trials` that may be started, each asked for when there is room for it."""
        for trial in trials:
            if (said := self.reached()) is not None:
                self.ended = said
                return
            yield trial

    @contextlib.contextmanager
    def stopping(self, stop: threading.Event) -> Iterator[None]:
        """Sets `stop` once a limit is reached, within a second or so."""
        over = threading.Event()

        def look_on() -> None:
            pause = SECONDS_BETWEEN_LOOKS
            while not over.wait(pause):
                began = time.monotonic()
                # A fault of the store shows where trials are run, and can be raised there.
                with contextlib.suppress(Exception):
                    if (said := self.reached()) is not None:
                        self.ended = said
                        stop.set()
                        return
                took = time.monotonic() - began
                pause = max(SECONDS_BETWEEN_LOOKS, took / SHARE_OF_LOOKING)

        thread = threading.Thread(target=look_on, name="budget", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
