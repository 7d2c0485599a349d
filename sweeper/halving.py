"""A trial's measurement in; whether it is behind the others of its study out: successive
halving, asynchronous and stopping, with rungs in updates.

    <root>/<study>/whole.json               what a whole trial takes: by that rungs are placed
    <root>/<study>/rung-<n>/<trial>.json    what a trial had when it came to a rung

At rung n, which is `grace` x whole x factor^n, a trial goes on if it is among the best
1 / factor of those that have come there so far, and if it is the first one. It is judged once
at each: who is ahead at a later rung is not ended for an earlier one. What is fair about it:

- Rungs are places on the cost axis, the same ones for every trial: longer epochs gain nothing.
- A trial is judged at no rung before the share `grace` of its own training, so that one that
  anneals longer is not compared while it still warms up; and not once training is over.
- The metric is what the file says, and the same quantity for every trial. With annealing that
  has to be a loss at the full KL weight: an annealed one would compare weights.
- With `alike` a trial is compared with those only that have the same value of that key, such as
  the KL weight: one that still warms up looks worse than it will be, by any metric.

The state is files, each written by the process that runs the trial: decisions survive
whatever is killed, and workers on several machines need nothing but the store in common.
(Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning, section 4.)
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sweeper.record import PROGRESS
from sweeper.spec.search_types import BASELINE, CONFIGURATION
from sweeper.track.sealed import seal, unseal, using, write_whole
from sweeper.trial import Trial

NEAR = 1e-9  # 7% of 100 updates is 7.000000000000001


@dataclass(frozen=True, slots=True, kw_only=True)
class Halving:
    """`sources` are the result keys of which the first that is there is compared, among the
    trials that have the same value of `alike`. `studies` names the study at the labels (axis,
    label) of each."""

    root: Path
    studies: Mapping[tuple[tuple[str, str], ...], str]
    sources: tuple[str, ...]
    by: str
    goal: Literal["min", "max"]
    grace: float
    factor: int
    alike: str | None = None

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
        value = next((values[key] for key in self.sources if key in values), None)
        paid, share = values.get(self.by), values.get(PROGRESS)
        if whole is None or value is None or paid is None:
            return None
        for number, at in self.rungs_up_to(paid, whole):
            path = self.root / study / f"rung-{number}" / f"{trial.id}.json"
            own = read(path)
            if "value" not in own:
                own = {"value": value, "at": paid, "judged": False}
                if self.alike is not None:
                    own["alike"] = values.get(self.alike)
                keep(path, own)
            if own["judged"] or (share is not None and share < self.grace - NEAR):
                continue
            had = reached(path.parent, own.get("alike"))
            better = sum(self.beats(other, own["value"]) for other in had.values())
            ended = share is not None and share >= 1
            if not ended and better >= max(1, len(had) // self.factor):
                return (
                    f"behind at {at:,.0f} updates: {self.sources[0]} {own['value']:.4g} is "
                    f"number {better + 1} of {len(had)}"
                )
            keep(path, {**own, "judged": True})
        return None

    def rungs_up_to(self, paid: float, whole: float) -> list[tuple[int, float]]:
        found, at = [], self.grace * whole
        while at <= paid * (1 + NEAR):
            found.append((len(found), at))
            at *= self.factor
        return found

    def beats(self, one: float, other: float) -> bool:
        return one < other if self.goal == "min" else one > other


def keep(path: Path, said: Mapping[str, float]) -> None:
    with using(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, seal(said))


def reached(rung: Path, alike: float | None = None) -> dict[str, float]:
    """Trial id -> what it had there, of those that were `alike`. One that cannot be believed
    has not been there."""
    with using(rung):
        names = os.listdir(rung)
    found = {name.removesuffix(".json"): read(rung / name) for name in names if name[0] != "."}
    return {
        trial: said["value"]
        for trial, said in found.items()
        if "value" in said and is_near(said.get("alike"), alike)
    }


def is_near(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=NEAR, abs_tol=NEAR)


def read(path: Path) -> dict[str, float]:
    with using(path):
        try:
            return unseal(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
