"""One trial in; its record out, and its folder filled. Whatever a trainer does ends here
as a record: this is the one place that catches every exception.

A trial is reproducible wherever it runs: its threads are its own cpus, however many
trials run beside it, and the global generators are seeded anew even in a used process.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper import deaths, provenance
from sweeper.answers import data_digest
from sweeper.budget import UNLIMITED, Spent, over
from sweeper.errors import CorruptRecord, EnvironmentFault
from sweeper.halving import Halving
from sweeper.hang import Guard, Hung, guarded, writing_crashes
from sweeper.memory import Peak
from sweeper.pulse import every
from sweeper.record import COST, PROGRESS, Record, State
from sweeper.redaction import concealing, in_one_line, resolved
from sweeper.spec.sweep import Limits
from sweeper.track.folder import Attempt, FencedOut, Folder, LeaseHeld
from sweeper.track.mirror import Copier, Mirror, bring
from sweeper.track.remote import away, never
from sweeper.trainer import Run, measurements
from sweeper.trial import Trial

HEARTBEAT_SECONDS = 15.0  # A lease seen from another machine expires after four of these.
POLL_SECONDS = 0.5
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

OnMeasure = Callable[[Trial, float, Mapping[str, float]], None]
OnWait = Callable[[Trial, LeaseHeld], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where a trial runs. `store` is the store's root and `data` that of the corpora, both
    absolute, so that they mean the same in every process. `gpus` is how many, or what share of
    one, a trial holds, `limits` the most that its training may cost. `retry`: the states that are
    run again although they ended: what is stale or diverged begins anew. `score_only`: nothing
    is trained, and a trial that cannot be scored is left as it was. `probe`: a trial is stopped
    as soon as it has said something of what the whole will take. `halving` is the rule by which
    trials of a search end early. `stall`: the seconds without a measurement after which a trial
    hangs (None: it never does); `expendable`: its process may be killed for that, since whoever
    started it starts it again. `mirror`: where the trial is copied to while it runs, and is got
    from where the store has lost it."""

    store: Path
    data: Path | None = None
    device: str = "cpu"
    cpus: int = 1
    gpus: float = 0
    limits: Limits = UNLIMITED
    retry: frozenset[str] = frozenset()
    score_only: bool = False
    probe: bool = False
    halving: Halving | None = None
    stall: float | None = None
    expendable: bool = False
    mirror: Mirror | None = None

    def __post_init__(self) -> None:
        assert self.store.is_absolute(), self.store
        assert self.data is None or self.data.is_absolute(), self.data


def execute(
    trial: Trial,
    surroundings: Surroundings,
    *,
    on_measure: OnMeasure | None = None,
    on_wait: OnWait | None = None,
    stopped: Callable[[], bool] = never,
) -> Record | None:
    """Runs a trial, or finds that it is done. None: `stopped` said so before it ended; what
    its trainer kept as a checkpoint stays, and the next attempt continues from it.

    A trial that another process is running is awaited (`on_wait` is told once), also when
    it has taken this attempt over; if that was under another evaluation, this one scores
    what it has trained. The store's own faults (a full disk) are raised; the
    trainer's become the record. What `on_measure` prints goes to the trial's log, as what
    the trainer prints does."""
    stamp = provenance.stamp(trial)  # Before the trainer is imported.
    store = Folder(surroundings.store)
    awaited = 0
    said = mirrored(store, trial, surroundings)
    while True:
        attempt = begin(store, trial, stamp["code_digest"], surroundings, on_wait, stopped, awaited)
        if not isinstance(attempt, Attempt):
            return attempt
        peak, reason, copier, ours = Peak(), "interrupted", None, True
        try:
            attempt.arrange(surroundings.retry)
            if surroundings.mirror is not None:
                copier = Copier(surroundings.mirror, attempt.folder)
            with surrounded(attempt, surroundings, peak) as guard:
                if said is not None:
                    print(said)
                came = run_trainer(
                    trial, attempt, surroundings, stamp, peak, guard, on_measure, stopped
                )
                if came is None:
                    reason = "stopped"
                    return None
                return conclude(attempt, came, surroundings)
        except FencedOut:
            awaited, ours = attempt.number + 1, False
        finally:
            peak.end()
            try:
                attempt.abandon(reason, peak.read())
            finally:
                if copier is not None:
                    copier.end(last=ours)


def mirrored(store: Folder, trial: Trial, surroundings: Surroundings) -> str | None:
    """Gets what the mirror has of a trial and the store has not, or not so far. What keeps it
    from that is returned, to be said: training goes on from what there is. A mirror that was
    away a moment ago is not asked, nor for what needs no more training."""
    if surroundings.mirror is None:
        return None
    if (why := away(surroundings.mirror.url)) is not None:
        return f"{why}; going on from what there is here"
    try:
        if store.is_trained(trial.id):
            return None
        bring(surroundings.mirror, store.path(trial.id))
    except LeaseHeld:
        return None  # Another process is at it, which has done this.
    except (EnvironmentFault, CorruptRecord) as fault:
        return f"{fault}; going on from what there is here"
    return None


def bury(
    trial: Trial,
    surroundings: Surroundings,
    error: str,
    details: str = "",
    *,
    waited: bool = False,
) -> Record:
    """The record of a trial whose worker died, written in its stead by the driver; `details`
    go to its log. One that the worker completed with its last breath is kept. Raises
    LeaseHeld or FencedOut where another process is at the trial: once it is `waited` for,
    its record is the trial's."""
    store = Folder(surroundings.store)
    code = provenance.code_digest(trial.trainer)
    if (record := ended(store, trial, code, surroundings, 1 if waited else 0)) is not None:
        return record
    attempt = store.start(trial)
    try:
        with concealing(attempt.folder / "log.txt") as log:
            print(f"{error}\n{details}", file=log)
        return conclude(attempt, record_of(trial, attempt, "failed", error=error), surroundings)
    finally:
        attempt.abandon("interrupted")


def begin(
    store: Folder,
    trial: Trial,
    code_digest: str | None,
    surroundings: Surroundings,
    on_wait: OnWait | None,
    stopped: Callable[[], bool],
    awaited: int = 0,
) -> Attempt | Record | None:
    """The trial's next attempt, or the record that makes it needless. `awaited` is the
    number of the attempt by which another process has taken it over."""
    told = False
    while not stopped():
        if (record := ended(store, trial, code_digest, surroundings, awaited)) is not None:
            return record
        try:
            return store.start(trial, code_digest, surroundings.gpus)
        except LeaseHeld as held:
            if not told and on_wait is not None:
                on_wait(trial, held)
            told, awaited = True, held.attempt
            time.sleep(POLL_SECONDS)
    return None


def ended(
    store: Folder,
    trial: Trial,
    code_digest: str | None,
    surroundings: Surroundings,
    awaited: int = 0,
) -> Record | None:
    """The record of a trial that is done (and not to be made anew), or that is over its limits
    already; or, where an attempt of another process was `awaited` (its number; 0: none), the
    one that it has just written, however it ended. One that is older, since that attempt was
    under another evaluation, says nothing new."""
    record = store.record(trial)
    if record is None or record.state == "running":
        return None
    if 0 < awaited <= record.attempt:
        return record
    if record.state == "exceeded" and is_over(store, record, surroundings.limits):
        return record
    anew = "stale" in surroundings.retry and record.made_by_other(code_digest)
    return record if record.state == "done" and not anew else None


def is_over(store: Folder, record: Record, limits: Limits) -> bool:
    """Whether what its training has cost is over the limits as they are now, too."""
    if limits == UNLIMITED or store.is_trained(record.trial_id):
        return False
    total = store.totals(record.trial_id)
    taken = total.get("now", total)
    spent = Spent(updates=record.cost or 0.0, wall=taken["seconds"], gpu_hours=taken["gpu_hours"])
    return over(limits, spent) is not None


def conclude(attempt: Attempt, record: Record, surroundings: Surroundings) -> Record:
    """The record, written. A scoring that did not come to a result leaves none: the trial
    stays one that is to be scored, or trained, by the next run of its sweep. One that a search
    pruned leaves none either: a table that needs it has it trained to its end."""
    if record.state == "pruned":
        attempt.abandon(f"pruned: {record.error}")
        return record
    if surroundings.score_only and record.state != "done":
        attempt.abandon(f"not scored: {record.error}")
        return record
    return attempt.finish(record)


def run_trainer(
    trial: Trial,
    attempt: Attempt,
    surroundings: Surroundings,
    stamp: Mapping[str, Any],
    peak: Peak,
    guard: Guard,
    on_measure: OnMeasure | None,
    stopped: Callable[[], bool],
) -> Record | None:
    run = Run(
        seed=trial.seed,
        folder=attempt.folder,
        device=surroundings.device,
        cpus=surroundings.cpus,
        data=surroundings.data,
        score_only=surroundings.score_only,
    )
    paid = attempt.cost  # updates that training has taken, if it is done
    bill = Bill.of(attempt, surroundings)
    cpu_began = cpu_seconds()

    def outcome(state: State, result: Mapping[str, float], error: str | None = None) -> Record:
        close(iterator)  # First: the time of a command counts when it has been waited for.
        return record_of(
            trial,
            attempt,
            state,
            result={key: value for key, value in result.items() if key != PROGRESS},
            error=error,
            cpu_seconds=cpu_seconds() - cpu_began,
            provenance={
                **stamp,
                "device": provenance.device_name(surroundings.device),
                "gpus": surroundings.gpus,
                **peak.read(),
            },
        )

    iterator = guard.over(seeded(trial, run, peak))
    last: Mapping[str, float] = {}  # the last measurement that was finite throughout
    count = 0
    try:
        while True:
            try:
                values = next(iterator, None)
            except Hung as hung:
                return outcome("failed", {}, str(hung))
            except Exception as error:
                traceback.print_exc()
                return outcome("failed", {}, deaths.in_words(error, one_line(error), peak.read()))
            if values is None:
                return outcome("done", last)
            count += 1
            cost = values.get(COST, float(count))
            if run.score_only and values.get(COST, paid) < paid:
                said = f"it trains, at {cost:g} of {paid:g} updates, and was to score only"
                return outcome("failed", {}, said)
            attempt.measure(cost, values)
            if on_measure is not None:
                on_measure(trial, cost, values)
            bad = {key: value for key, value in values.items() if not math.isfinite(value)}
            if bad:
                named = ", ".join(f"{key} was {value}" for key, value in bad.items())
                return outcome("diverged", last, f"{named} at {cost:g} updates")
            last = values
            if (which := bill.over(values)) is not None:
                return outcome("exceeded", last, f"over its budget: {which}")
            if surroundings.halving and (said := surroundings.halving.behind(trial, values)):
                return outcome("pruned", last, said)
            if stopped() or (surroundings.probe and is_telling(values, count)):
                return None
    finally:
        close(iterator)


@dataclass(slots=True, kw_only=True)
class Bill:
    """What a trial may cost and has. It has state because time runs, and because scoring what
    is `trained` costs nothing until it shows that it trains after all: its cost begins below
    the `paid` updates that training took. Then it is another training, which has cost nothing
    before `wall` and `gpu_hours`."""

    attempt: Attempt
    limits: Limits
    trained: bool
    paid: float
    wall: float = 0.0
    gpu_hours: float = 0.0

    @classmethod
    def of(cls, attempt: Attempt, surroundings: Surroundings) -> Bill:
        store = Folder(surroundings.store)
        trained = surroundings.limits != UNLIMITED and store.is_trained(attempt.trial.id)
        return cls(
            attempt=attempt,
            limits=surroundings.limits,
            trained=trained,
            paid=attempt.cost,
            wall=attempt.seconds if trained else 0.0,
            gpu_hours=attempt.gpu_hours if trained else 0.0,
        )

    def over(self, values: Mapping[str, float]) -> str | None:
        """Which limit is passed at a measurement. At progress 1 all is paid: what is left is
        only scoring."""
        share = values.get(PROGRESS)
        if share is not None and share >= 1:
            return None
        if self.trained and share is None and values.get(COST, self.paid) >= self.paid:
            return None
        self.trained = False
        return over(
            self.limits,
            Spent(
                updates=values.get(COST, 0.0),
                wall=self.attempt.seconds - self.wall,
                gpu_hours=self.attempt.gpu_hours - self.gpu_hours,
            ),
        )


def is_telling(values: Mapping[str, float], count: int) -> bool:
    """Whether a measurement, the `count`th, says what share of training it came after; the
    second of a trainer that never says it, which at its first may have been at its end. One
    that has all of it behind is no probe: it is as good as done."""
    share = values.get(PROGRESS)
    return count > 1 if share is None else 0 < share < 1


def seeded(trial: Trial, run: Run, peak: Peak) -> Iterator[Mapping[str, float]]:
    """Seeds between the trainer's import and its start: what the import loads has to be
    seeded, and what the import draws must not matter, for it is done once a process."""
    config = resolved(trial.full_config)
    check_data(trial, run.data)
    measured = measurements(trial.trainer, config, run, peak.follow)
    reseed(trial.seed)
    yield from measured


def check_data(trial: Trial, root: Path | None) -> None:
    """Raises EnvironmentFault where the data is not what the trial is of any more: its result
    would stand under the name of other data."""
    now = data_digest(trial, root) if trial.data_digest is not None else None
    if now not in (None, trial.data_digest):
        raise EnvironmentFault(
            f"its data has changed since the run began ({trial.data_digest[:8]}, now {now[:8]}); "
            "the next run trains on what is there"
        )


def record_of(trial: Trial, attempt: Attempt, state: State, **fields: object) -> Record:
    return Record(
        trial_id=trial.id,
        evaluation_id=trial.evaluation_id,
        state=state,
        attempt=attempt.number,
        finished_at=time.time(),
        **fields,
    )


def one_line(error: Exception) -> str:
    said = in_one_line(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def close(iterator: Iterator[Mapping[str, float]]) -> None:
    """A trainer may fail in its own `finally`; what it had measured stands all the same."""
    try:
        iterator.close()
    except Exception:
        traceback.print_exc()


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


@contextlib.contextmanager
def surrounded(attempt: Attempt, surroundings: Surroundings, peak: Peak) -> Iterator[Guard]:
    """The process as a trial may expect it, put back afterwards: its output in its log, its
    threads limited, its lease renewed; and who watches it."""
    log_path = attempt.folder / "log.txt"
    with (
        environment(surroundings),
        concealing(log_path) as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        heartbeats(attempt, peak),
        writing_crashes(log),
        guarded(
            attempt.trial,
            attempt.folder,
            attempt.number,
            log,
            seconds=surroundings.stall,
            expendable=surroundings.expendable,
            store=surroundings.store,
            retry=surroundings.retry,
            score_only=surroundings.score_only,
        ) as guard,
    ):
        yield guard


@contextlib.contextmanager
def environment(surroundings: Surroundings) -> Iterator[None]:
    """The numeric libraries read these when they are imported, cuBLAS when CUDA starts."""
    given = dict.fromkeys(THREAD_VARIABLES, str(surroundings.cpus))
    given["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def heartbeats(
    attempt: Attempt, peak: Peak | None = None
) -> contextlib.AbstractContextManager[None]:
    """Renews the lease while a trainer is long in coming to its next measurement, and says what
    memory it has taken: what is killed for that can say nothing more."""

    def beat() -> None:
        # A fault that lasts shows at the next measurement, where it can be raised.
        with contextlib.suppress(Exception):
            attempt.beat(*[peak.read()] if peak else ())

    return every(HEARTBEAT_SECONDS, beat, f"heartbeat of {attempt.folder.name}")


def reseed(seed: int) -> None:
    """Every global generator of the libraries that are loaded, so that a trainer that uses
    them gives the same in a fresh process and in one that ran other trials. One that loads
    torch only while it runs has to seed it itself."""
    import numpy

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)
        torch.set_grad_enabled(True)
