"""Trials, records and states in; for one trial and one metric, a value or why there is none.

A value is a float only where the trial is done and the metric is in its result. All other
states stay states: nothing here turns one into a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sweeper.errors import CorruptRecord
from sweeper.record import Measurement, Record
from sweeper.spec.sweep import Metric, Sweep
from sweeper.trial import Key, Trial

ReadingState = Literal[
    "value",
    "stale",
    "missing",
    "unscored",
    "running",
    "failed",
    "diverged",
    "exceeded",
    "corrupt",
    "not applicable",
]
ABSENT = "–"  # the label of a trial on an axis that does not exist for it (`when:`)
EMPTY_STATES = (
    "running",
    "missing",
    "unscored",
    "failed",
    "diverged",
    "exceeded",
    "corrupt",
    "not applicable",
)  # of several, the first is said
Histories = Callable[[Trial], Iterable[Measurement]]  # under the trial's own evaluation
Artifacts = Callable[[Trial, str], bytes | None]  # a file that a trial left, by its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """`value` is scaled as the metric says; `filled` says that the metric's fallback
    stands in for it; `ended` is the cost (updates) at which a trial ended below the one that
    it is read at."""

    state: ReadingState
    value: float | None = None
    filled: bool = False
    ended: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Where values are read from, by the trials' keys. `states` (as a plan gives them) goes
    before the record's own state: a plan knows what runs, what is trained and not scored in
    this way, and what other code made."""

    records: Mapping[Key, Record]
    states: Mapping[Key, str] | None = None
    histories: Histories | None = None

    def state(self, trial: Trial) -> str:
        record = self.records.get(trial.key)
        if self.states is not None and trial.key in self.states:
            state = self.states[trial.key]
        else:
            state = record.state if record is not None else "missing"
        valid = record is not None and record.state == "done"
        return "missing" if state in ("done", "stale") and not valid else state

    def done(self, trial: Trial) -> bool:
        """Whether there is a valid result, whatever code made it."""
        return self.state(trial) in ("done", "stale")

    def read(self, trial: Trial, metric: Metric, limit: float | None = None) -> Reading:
        """The metric in the trial's result or, with a `limit`, in the last measurement of
        its history that cost at most so much."""
        state = self.state(trial)
        if not self.done(trial):
            return Reading(state=state)
        for key in filter(None, (metric.source, metric.fallback)):
            ended = None
            if limit is None:
                value = self.records[trial.key].result.get(key)
            else:
                value, ended = self._value_at(trial, key, limit)
            if value is not None and math.isfinite(value):
                return Reading(
                    state="stale" if state == "stale" else "value",
                    value=value * metric.scale,
                    filled=key != metric.source,
                    ended=ended,
                )
        return Reading(state="not applicable")

    def _value_at(self, trial: Trial, key: str, limit: float) -> tuple[float | None, float | None]:
        """The value and, of a trial that ended below the limit, its last cost."""
        assert self.histories is not None, "a table with `at` needs the trials' histories"
        latest: Measurement | None = None
        last = self.records[trial.key].cost or 0.0
        for measurement in self.histories(trial):
            last = max(last, measurement.cost)
            affordable = key in measurement.values and measurement.cost <= limit
            # Strictly later: a result repeats the last cost with its best checkpoint's value.
            if affordable and (latest is None or measurement.cost > latest.cost):
                latest = measurement
        value = latest.values[key] if latest is not None else None
        return value, last if last < limit else None


def with_courses(readings: Readings, trials: Iterable[Trial]) -> Readings:
    """The readings of what is made of these trials' histories, each of which is read once; one
    that cannot be believed makes its trial corrupt here, whatever its result."""
    assert readings.histories is not None, "what is read on the way needs the trials' histories"
    records, states = dict(readings.records), dict(readings.states or {})
    courses: dict[Key, tuple[Measurement, ...]] = {}
    for trial in trials:
        if trial.key in courses or not readings.done(trial):
            continue
        try:
            courses[trial.key] = tuple(readings.histories(trial))
        except CorruptRecord as fault:
            courses[trial.key] = ()
            states[trial.key] = "corrupt"
            records[trial.key] = Record(
                trial_id=trial.id,
                evaluation_id=trial.evaluation_id,
                state="corrupt",
                error="; ".join(map(str, fault.problems)),
            )
    return replace(
        readings, records=records, states=states, histories=lambda trial: courses[trial.key]
    )


def trainings(points: Mapping[str, Trial]) -> dict[str, tuple[Trial, ...]]:
    """What stands under several labels -> each training, under its first label, with the
    trials that score it. They are several where an axis is of evaluation only."""
    first: dict[str, str] = {}
    found: dict[str, dict[Key, Trial]] = {}
    for label, trial in points.items():
        found.setdefault(first.setdefault(trial.id, label), {}).setdefault(trial.key, trial)
    return {label: tuple(trials.values()) for label, trials in found.items()}


def averaged(found: Sequence[Reading]) -> Reading:
    """Of one training: the mean over its evaluations, once each has a value, else why not yet.
    One that does not have the metric does not count."""
    lacking = [one.state for one in found if one.value is None]
    waited = [state for state in lacking if state != "not applicable"]
    values = [one.value for one in found if one.value is not None]
    if waited or not values:
        return Reading(state=min(waited or lacking, key=EMPTY_STATES.index))
    return Reading(
        state="stale" if any(one.state == "stale" for one in found) else "value",
        value=math.fsum(values) / len(values),
        filled=any(one.filled for one in found),
        ended=max((one.ended for one in found if one.ended is not None), default=None),
    )


def label_of(trial: Trial, axis: str) -> str:
    return trial.labels.get(axis, ABSENT)


def fits(trial: Trial, where: Mapping[str, str], sweep: Sweep) -> bool:
    """Whether a trial is at the levels that `where` pins. An axis that is absent by its own
    `when` has nothing to pin."""
    return all(
        trial.labels.get(axis) == label
        or (axis not in trial.labels and sweep.axis(axis).when is not None)
        for axis, label in where.items()
    )
