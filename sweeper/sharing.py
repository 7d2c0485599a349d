"""The trials of two sweeps in, as their keys; how many are in both out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sweeper.sizes import day
from sweeper.trial import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Of a sweep's `total` trials, `shared` are also those of the sweep called `other`,
    `rescored` of these under another evaluation only. `at`: of its run at that time
    (seconds since the epoch); None: as its file is now."""

    other: str
    total: int
    shared: int
    rescored: int = 0
    at: float | None = None

    def __str__(self) -> str:
        """ "18 of 36 trials are also table1's; 18 are its own" """
        if not self.shared:
            return f"none of {self.total} trials is {self.other}'s"
        some = f"{self.shared} of {self.total}"
        which = some if self.shared < self.total else f"all {self.total}"
        own = self.total - self.shared
        rest = f"; {own} {'is' if own == 1 else 'are'} its own" if own else ""
        return f"{which} trials are also {self.other}'s{self.otherwise}{rest}"

    @property
    def briefly(self) -> str:
        """ "table1 (18 of 36, run 2026-11-25)" """
        run = f"run {day(self.at or 0.0)}{self.otherwise}"
        return f"{self.other} ({self.shared} of {self.total}, {run})"

    @property
    def otherwise(self) -> str:
        if not self.rescored:
            return ""
        some = "" if self.rescored == self.shared else f"{self.rescored} of them "
        return f", {some}scored in another way"

    def as_json(self) -> dict[str, Any]:
        return {
            "other": self.other,
            "total": self.total,
            "shared": self.shared,
            "rescored": self.rescored,
            "own": self.total - self.shared,
            "run": self.at,
        }


def share(
    keys: Collection[Key], others: Collection[Key], other: str, at: float | None = None
) -> Shared:
    """Two trials are one if they have one id, whatever evaluation scores them."""
    ids, mine = {key.trial_id for key in others}, set(keys)
    both = {key for key in mine if key.trial_id in ids}
    return Shared(
        other=other,
        total=len(mine),
        shared=len(both),
        rescored=len(both - set(others)),
        at=at,
    )
