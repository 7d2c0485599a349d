"""What came of a trial. A record is written once, by the process that ran the trial (or
by the driver for a worker that died), and read by tables, plans and MLflow delivery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeper.trial import Key

# done: a valid result exists. failed: an error or a dead worker. diverged: a measurement
# was not finite. exceeded: it was ended at its own budget. running: a live attempt holds the
# lease and no result exists yet. corrupt: what the store has of it cannot be believed. pruned:
# a search ended it, being behind; no store has that, for to everybody else the trial is one that
# was stopped and can go on. Planning adds three states that need more than the record: missing,
# unscored and stale.
State = Literal["running", "done", "failed", "diverged", "exceeded", "corrupt", "pruned"]

COST = "cost/updates"  # the reserved cost key: parameter updates, all kinds summed
PROGRESS = "progress"  # the other reserved key: the share of training done, in (0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`result` is the trainer's last measurement (metric -> float). `seconds` is wall
    time and `cpu_seconds` processor time spent in the trial, all attempts summed.
    `provenance` is stamped by the worker: code digest, commit, dirty flag, versions,
    device, host, data digest; what the last attempt held and took at most: `gpus`,
    `peak_memory_bytes`, `peak_gpu_memory_bytes`. `error` is one line for people; the
    traceback is in the trial's log."""

    trial_id: str
    evaluation_id: str
    state: State
    result: Mapping[str, float] = field(default_factory=dict)
    attempt: int = 1
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    finished_at: float = 0.0
    error: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return Key(self.trial_id, self.evaluation_id)

    @property
    def cost(self) -> float | None:
        return self.result.get(COST)

    @property
    def codes(self) -> tuple[str, ...]:
        """The digests of the code that had a part in it: several where one attempt continued,
        or evaluated anew, what another had trained."""
        stamp = self.provenance
        made_by = stamp.get("code_digests") or filter(None, [stamp.get("code_digest")])
        return tuple(map(str, made_by))

    def made_by_other(self, code_digest: str | None) -> bool:
        """Whether it is a result in which other code had a part (None: not compared)."""
        done = self.state == "done" and code_digest is not None
        return done and any(code != code_digest for code in self.codes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One line of a trial's history: `values` at `cost` (cumulative parameter updates,
    MLflow's step axis), at wall-clock time `at` (seconds since the epoch)."""

    cost: float
    values: Mapping[str, float]
    at: float
    attempt: int = 1
