"""Trials and what the store knows of them in; the state of each, and what is left to do, out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.record import Record
from sweeper.trial import Trial

# done: a valid result exists. stale: it does, but other code made it (kept and marked,
# not run again). failed and diverged: it ended without one. running: a live process has
# it. missing: none of these.
STATES = ("done", "stale", "running", "missing", "failed", "diverged")
RETRIABLE = ("failed", "diverged", "stale")  # when asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The design in order, the records found, and each trial's state by id. `retry` names
    the states that are run again although they ended."""

    trials: tuple[Trial, ...]
    records: Mapping[str, Record]
    states: Mapping[str, str]
    retry: frozenset[str] = frozenset()

    @property
    def todo(self) -> tuple[Trial, ...]:
        """Each trial that a run would train, once, all cells' first seeds before the second
        seeds, so that a table fills evenly. A trial that another process is running is
        among them: the worker waits for its record instead of repeating it."""
        wanted = {"missing", "running"} | self.retry
        distinct = {trial.id: trial for trial in self.trials if self.states[trial.id] in wanted}
        return tuple(sorted(distinct.values(), key=lambda trial: trial.seed))

    @property
    def counts(self) -> dict[str, int]:
        """State -> number of distinct trials, every state named; `total` their sum, `points`
        the design's points (more than total where labels share a trial)."""
        states = Counter(self.states.values())
        counts = {state: states[state] for state in STATES}
        return counts | {"total": len(self.states), "points": len(self.trials)}

    def as_json(self) -> dict[str, Any]:
        listed = [
            {
                "id": trial.id,
                "labels": dict(trial.labels),
                "seed": trial.seed,
                "state": self.states[trial.id],
            }
            for trial in self.trials
        ]
        return {"trials": listed, "counts": self.counts}


def plan(
    trials: Sequence[Trial],
    records: Mapping[str, Record],
    code_digest: str | None,
    retry: Iterable[str] = (),
) -> Plan:
    """`records` is what the store finds for `trials`; `code_digest` that of the trainer as
    it is now (None: not compared)."""
    states = {trial.id: state(records.get(trial.id), code_digest) for trial in trials}
    return Plan(trials=tuple(trials), records=records, states=states, retry=frozenset(retry))


def state(record: Record | None, code_digest: str | None) -> str:
    if record is None:
        return "missing"
    stamp = record.provenance
    # Several where one attempt continued, or evaluated anew, what another had trained.
    made_by = stamp.get("code_digests") or filter(None, [stamp.get("code_digest")])
    if record.state == "done" and code_digest and any(code != code_digest for code in made_by):
        return "stale"
    return record.state
