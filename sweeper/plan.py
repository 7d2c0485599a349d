"""Trials and what the store knows of them in; the state of each, and what is left to do, out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sweeper.errors import SpecError, unknown
from sweeper.record import Record
from sweeper.trial import Key, TrainerRef, Trial

# done: a valid result exists. stale: it does, but other code made it (kept and marked,
# not run again). failed, diverged, exceeded: it ended without one. running: a live process has
# it. corrupt: what the store has of it cannot be believed, and is in the way of training it.
# unscored: none of these, but another evaluation has a result, so it is trained.
# missing: not even that.
STATES = (
    "done",
    "stale",
    "running",
    "unscored",
    "missing",
    "failed",
    "diverged",
    "exceeded",
    "corrupt",
)
RETRIABLE = ("failed", "diverged", "exceeded", "stale")  # when asked


@dataclass(frozen=True, kw_only=True)  # No slots: what is left is found once.
class Plan:
    """The design in order, the records found, and each trial's state, by the trials' keys.
    `trained` is the ids of those that have a result under some evaluation. `retry` names
    the states that are run again although they ended. Where `chosen` is not None, only those
    trials were asked for."""

    trials: tuple[Trial, ...]
    records: Mapping[Key, Record]
    states: Mapping[Key, str]
    trained: frozenset[str] = frozenset()
    retry: frozenset[str] = frozenset()
    chosen: frozenset[Key] | None = None

    def asked_for(self, trial: Trial) -> bool:
        return self.chosen is None or trial.key in self.chosen

    @property
    def filled(self) -> bool:
        """Whether each trial that was asked for has a result."""
        return self.is_filled_but_for()

    def is_filled_but_for(self, *states: str) -> bool:
        asked = (trial for trial in self.trials if self.asked_for(trial))
        return all(self.states[trial.key] in ("done", "stale", *states) for trial in asked)

    @property
    def damage(self) -> tuple[str, ...]:
        """What cannot be believed of the trials that were asked for, a file each."""
        keys = dict.fromkeys(trial.key for trial in self.trials if self.asked_for(trial))
        corrupt = (key for key in keys if self.states[key] == "corrupt")
        return tuple(str(self.records[key].error) for key in corrupt)

    @cached_property
    def todo(self) -> tuple[Trial, ...]:
        """Each trial that a run would train or score, once, all cells' first seeds before
        the second seeds, so that a table fills evenly. Further evaluations of a trial come
        last: by then it is trained, and no worker has to wait for it. One that another
        process is running is among them: the worker waits for its record instead of
        repeating it."""
        wanted = {"missing", "unscored", "running"} | self.retry
        return in_order(
            trial
            for trial in self.trials
            if self.states[trial.key] in wanted and self.asked_for(trial)
        )

    @property
    def to_score(self) -> tuple[Trial, ...]:
        """Each trained trial without a result under its own evaluation, in that order."""
        return in_order(
            trial
            for trial in self.trials
            if trial.id in self.trained
            and self.states[trial.key] not in ("done", "stale")
            and self.asked_for(trial)
        )

    @property
    def untrained(self) -> tuple[Trial, ...]:
        """Each trial that has no result under any evaluation, once."""
        distinct = {
            trial.id: trial
            for trial in self.trials
            if trial.id not in self.trained and self.asked_for(trial)
        }
        return tuple(distinct.values())

    @property
    def counts(self) -> dict[str, int]:
        """State -> number of distinct trials asked for, every state named; `total` their
        sum, `points` the design's points (more where labels share a trial), `trainings` what
        all takes (less where a trial is scored in several ways)."""
        asked = [trial for trial in self.trials if self.asked_for(trial)]
        keys = {trial.key for trial in asked}
        states = Counter(self.states[key] for key in keys)
        counts = {state: states[state] for state in STATES}
        trainings = len({key.trial_id for key in keys})
        return counts | {
            "total": len(keys),
            "points": len(asked),
            "trainings": trainings,
        }

    def as_json(self) -> dict[str, Any]:
        listed = [
            {
                "id": trial.id,
                "labels": dict(trial.labels),
                "seed": trial.seed,
                "state": self.states[trial.key],
            }
            for trial in self.trials
            if self.asked_for(trial)
        ]
        return {"trials": listed, "counts": self.counts}


def plan(
    trials: Sequence[Trial],
    records: Mapping[Key, Record],
    code_of: Callable[[TrainerRef], str | None],
    retry: Iterable[str] = (),
    trained: Iterable[str] = (),
    chosen: frozenset[Key] | None = None,
) -> Plan:
    """`records` is what the store finds for `trials`; `code_of` the digest of a trainer's code as
    it is now (None: not compared); `trained` the ids of those without a result here that
    have one under another evaluation."""
    scored = {key.trial_id for key, record in records.items() if record.state == "done"}
    trained = scored.union(trained)
    states = {
        trial.key: state(
            record := records.get(trial.key),
            code_of(trial.trainer) if record is not None else None,
            trained=trial.id in trained,
        )
        for trial in trials
    }
    return Plan(
        trials=tuple(trials),
        records=records,
        states=states,
        trained=frozenset(trained),
        retry=frozenset(retry),
        chosen=chosen,
    )


def state(record: Record | None, code_digest: str | None, *, trained: bool = False) -> str:
    if record is None:
        return "unscored" if trained else "missing"
    return "stale" if record.made_by_other(code_digest) else record.state


def in_order(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Each once: first evaluations before further ones, then by seed."""
    earlier: Counter[str] = Counter()
    place: dict[Key, tuple[int, int]] = {}
    distinct: dict[Key, Trial] = {}
    for trial in trials:
        distinct[trial.key] = trial
        if trial.key not in place:
            place[trial.key] = (earlier[trial.id], trial.seed)
            earlier[trial.id] += 1
    return tuple(sorted(distinct.values(), key=lambda trial: place[trial.key]))


def named(trials: Sequence[Trial], ids: Iterable[str]) -> tuple[Trial, ...]:
    """Those of `trials` that `ids` name, by the whole id or by a beginning that is no
    other's; every evaluation of each. Raises SpecError for what names none, or several."""
    known = sorted({trial.id for trial in trials})
    chosen: set[str] = set()
    wrong = []
    for given in ids:
        found = [id for id in known if id.startswith(given)]
        if len(found) == 1:
            chosen.add(found[0])
        elif found:
            wrong.append(f"{given!r} begins several trials: {', '.join(found[:10])}")
        else:
            wrong.append(unknown("trial", given, known))
    if wrong:
        raise SpecError(*wrong)
    return tuple(trial for trial in trials if trial.id in chosen)
