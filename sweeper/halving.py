"""A trial's measurement in; whether it is behind the others of its study out: successive
halving, asynchronous and stopping, with rungs in updates.

    <root>/<study>/whole.json               what a whole trial takes: by that rungs are placed
    <root>/<study>/rung-<n>/<trial>.json    what a trial had when it came to a rung, and what came
                                            of it there

At rung n, which is `grace` x whole x factor^n, a trial goes on if it is among the best
1 / factor of those that have come there so far (rounded up: the first one does). It is judged
once at each: who is ahead at a later rung is not ended for an earlier one. What is fair about it:

- Rungs are places on the cost axis, the same ones for every trial: longer epochs gain nothing.
- A trial is judged at no rung before the share `grace` of its own training, so that one that
  anneals longer is not compared while it still warms up; and not once training is over.
- The metric is what the file says, and the same quantity for every trial. With annealing that
  has to be a loss at the full KL weight: an annealed one would compare weights.
- `settled` names what has to have come to rest, such as the KL weight: a trial in which it has
  changed since the measurement before is neither judged there nor compared with.
- What breaks a constraint there comes after all that does not: a collapsed posterior looks
  better at first, and would else end those that are feasible.
- Where the cost itself is an objective, a trial is compared with those only that will cost no
  more than it: one that is short and cheap is worth something to the front.

The state is files, each written by the process that runs the trial: decisions survive
whatever is killed, and workers on several machines need nothing but the store in common.
(Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning, section 4; Deb 2000, An
efficient constraint handling method, for the order of what breaks a constraint.)
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sweeper.objectives import Metrics, value, violation
from sweeper.record import COST, PROGRESS
from sweeper.spec.conditions import read_names
from sweeper.spec.search_types import BASELINE, CONFIGURATION
from sweeper.spec.sweep import Condition
from sweeper.track.folder import Folder
from sweeper.track.sealed import content_of, make, seal, unseal, using, write_whole
from sweeper.trial import Trial

NEAR = 1e-9  # 7% of 100 updates is 7.000000000000001


@dataclass(frozen=True, slots=True, kw_only=True)
class Halving:
    """`source` is the result key that is compared. `studies` names the study at the labels (axis,
    label) of each; `cheap_first`: what rungs are counted in is an objective."""

    root: Path
    studies: Mapping[tuple[tuple[str, str], ...], str]
    source: str
    by: str
    goal: Literal["min", "max"]
    grace: float
    factor: int
    settled: str | None = None
    cheap_first: bool = False
    constraints: tuple[Condition, ...] = ()
    metrics: Metrics = field(default_factory=dict)

    def place_rungs(self, study: str, whole: float) -> None:
        """Says what a whole trial of a study takes, where nobody has."""
        path = self.root / study / "whole.json"
        if whole > 0 and "whole" not in read(path):
            keep(path, {"whole": whole})

    def study_of(self, trial: Trial) -> str | None:
        """None for the file's own configuration, which is no trial of its study."""
        if trial.labels.get(CONFIGURATION) == BASELINE:
            return None
        at = tuple((axis, it) for axis, it in trial.labels.items() if axis != CONFIGURATION)
        return self.studies.get(at)

    def behind(self, trial: Trial, values: Mapping[str, float]) -> str | None:
        """Why a trial is to end at a measurement; None if it goes on."""
        if (study := self.study_of(trial)) is None:
            return None
        whole = read(self.root / study / "whole.json").get("whole")
        paid, share = values.get(self.by), values.get(PROGRESS)
        if whole is None or paid is None or self.source not in values:
            return None
        for number, at in self.rungs_up_to(paid, whole):
            path = self.root / study / f"rung-{number}" / f"{trial.id}.json"
            own = read(path)
            if "value" not in own:
                own = self.entry(trial, values)
                keep(path, own)
            if own["judged"]:
                if own.get("why"):  # It was killed before it was told.
                    return own["why"]
                continue
            if share is not None and share < self.grace - NEAR:
                continue
            ended = share is not None and share >= 1
            why = None if ended or not own["settled"] else self.judged(own, path.parent, at)
            keep(path, {**own, "judged": True, "why": why})
            if why:
                return why
        return None

    def verdict(self, trial: Trial) -> str | None:
        """Why it was ended before, if it was."""
        if (study := self.study_of(trial)) is None:
            return None
        found = (read(path) for path in (self.root / study).glob(f"rung-*/{trial.id}.json"))
        return next((said["why"] for said in found if said.get("why")), None)

    def entry(self, trial: Trial, values: Mapping[str, float]) -> dict[str, Any]:
        """What a rung keeps of a measurement. `whole` is what the trial will take."""
        share, paid = values.get(PROGRESS), values[self.by]
        # What is not measured yet, as a rule because it is only at the end, breaks nothing yet.
        known = [
            it
            for it in self.constraints
            if all(value(name, values, self.metrics) is not None for name in read_names(it.test))
        ]
        broken = [
            violation(it.test, lambda name: value(name, values, self.metrics)) for it in known
        ]
        return {
            "value": values[self.source],
            "at": paid,
            "whole": paid / share if share else None,
            "broken": any(by > 0 for by in broken),
            "settled": self.has_settled(trial, values),
            "judged": False,
        }

    def has_settled(self, trial: Trial, values: Mapping[str, float]) -> bool:
        if self.settled is None:
            return True
        history = Folder(self.root.parent).history(trial.id)
        before = [it.values for it in history if it.values.get(self.by, 0.0) < values[self.by]]
        one, other = values.get(self.settled), before[-1].get(self.settled) if before else None
        return one is not None and other is not None and is_near(one, other)

    def judged(self, own: Mapping[str, Any], rung: Path, at: float) -> str | None:
        had = [other for other in reached(rung) if self.compares(own, other)]
        better = sum(self.place(other) < self.place(own) for other in had)
        if better < -(-len(had) // self.factor):
            return None
        unit = "updates" if self.by == COST else self.by
        breaks = ", and breaks a constraint there," if own["broken"] else ""
        return (
            f"behind at {at:,.0f} {unit}: {self.source} {own['value']:.4g}{breaks} is "
            f"number {better + 1} of {len(had)}"
        )

    def compares(self, own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        if not other["settled"]:
            return False
        if not self.cheap_first or own["whole"] is None or other["whole"] is None:
            return True
        return other["whole"] <= own["whole"] * (1 + NEAR)

    def place(self, entry: Mapping[str, Any]) -> tuple[bool, float]:
        """Less is better."""
        return entry["broken"], entry["value"] if self.goal == "min" else -entry["value"]

    def rungs_up_to(self, paid: float, whole: float) -> list[tuple[int, float]]:
        found, at = [], self.grace * whole
        while at <= paid * (1 + NEAR):
            found.append((len(found), at))
            at *= self.factor
        return found


def keep(path: Path, said: Mapping[str, Any]) -> None:
    make(path.parent)
    write_whole(path, seal(said))


def reached(rung: Path) -> list[dict[str, Any]]:
    """What each trial had there. One that cannot be believed has not been there."""
    with using(rung):
        names = os.listdir(rung)
    found = [read(rung / name) for name in names if name[0] != "."]
    return [said for said in found if "value" in said]


def is_near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=NEAR, abs_tol=NEAR)


def read(path: Path) -> dict[str, Any]:
    with using(path):
        try:
            return unseal(content_of(path))
        except (FileNotFoundError, ValueError):
            return {}
