"""Trials in, records out, through Ray Tune: several at once, on this machine or a cluster.

Tune places trials on processors and GPUs and starts one again whose worker died; it
remembers nothing. Each worker writes its trial's folder, and here the record is read from
it when Tune says that the trial has ended. Tune runs in a thread of its own, where it
leaves this process's signals alone.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweeper.dispatch import ray_cluster  # isort: skip  It sets what Ray reads when imported.

import ray
from ray import tune
from ray.tune.search import Searcher

from sweeper import deaths, provenance
from sweeper.dispatch import nodes
from sweeper.dispatch.nodes import Question
from sweeper.errors import EnvironmentFault
from sweeper.record import Record
from sweeper.spec import Resources
from sweeper.track.folder import FencedOut, Folder, LeaseHeld, make
from sweeper.track.sealed import names_in
from sweeper.trial import Key, Trial
from sweeper.worker import Surroundings, bury, execute

RETRIES = 3  # of a trial whose worker died; a trainer's own error is a record at once
RESTARTS = 3  # of Tune, where it ends with trials left over, and none has ended meanwhile
GRACE_SECONDS = 5.0  # what running trials have to come to a measurement once in a hurry
POLL_SECONDS = 0.1
NOTHING_KNOWN = deaths.Before()
NO_MORE: Any = object()  # after the last of the trials


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What goes to a worker. `path` is where the driver finds modules; `stop` a file whose
    existence asks the worker to stop; `made_by` what the driver runs by (provenance.running);
    `question` what each worker's process asks itself before its first trial: its node may have
    come later than those that were asked at the start."""

    trial: Trial
    surroundings: Surroundings
    path: tuple[str, ...]
    stop: Path
    made_by: Mapping[str, str | None]
    question: Question | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What Tune says of a trial that is over. `worker_died` for the last time: Ray's words
    for it. `fault` is the store's or ours, and nothing that another try would mend.
    `waited`: a dead worker's trial that another process has taken up meanwhile. `unwritten`
    is what came of an attempt that left no record: a scoring, or one whose failure has not
    replaced an older result. `before`: how its folder stood when it was handed out."""

    trial: Trial
    unwritten: Record | None = None
    worker_died: str | None = None
    before: deaths.Before = NOTHING_KNOWN
    fault: Exception | None = None
    stopped: bool = False
    waited: bool = False


def dispatch(
    trials: Iterable[Trial | None],
    surroundings: Surroundings,
    on_record: Callable[[Record], None],
    *,
    resources: Resources,
    slots: int | None = None,
    stop: threading.Event | None = None,
    hurry: threading.Event | None = None,
    cluster: Mapping[str, Any] | None = None,
    about: Sequence[Trial] = (),
    say: ray_cluster.Say = lambda text: None,
) -> None:
    """See sweeper.dispatch. `trials` is read in another thread. `cluster` is what Ray is
    started with: {"address": ...} joins one, {"num_cpus": 4, "num_gpus": 2} pretends. The nodes
    of one that is joined are asked first whether they can run the trials `about`, and `say` is
    told what is waited for and which nodes are lost."""
    cluster = cluster or {}
    stop = stop or threading.Event()
    hurry = hurry or stop
    make(surroundings.store)
    stop_file = surroundings.store / f".stop-{secrets.token_hex(4)}"
    supply = Supply(trials, surroundings, stop, stop_file)
    try:
        with (
            ray_cluster.running_ray(resources, cluster, surroundings.store) as scratch,
            ray_cluster.watching(cluster, say) as watch,
            asking(watch, supply, resources, about),
        ):
            slots = slots or max(nodes.room(resources, ray_cluster.live_nodes()), 1)
            vain = 0
            while vain <= RESTARTS:
                before = supply.count_ended
                crash = run_tune(supply, resources, slots, scratch, on_record, hurry, watch)
                if stop.is_set() or not supply.recall():
                    break
                vain = vain + 1 if supply.count_ended == before else 1
            else:
                raise EnvironmentFault(f"Ray Tune ended early {vain} times: {crash}")
    except ray_cluster.ClusterLost:
        # Workers of nodes that live on may still be at it: they are to end.
        with contextlib.suppress(OSError):
            stop_file.touch()
        raise
    except BaseException:
        stop_file.unlink(missing_ok=True)
        raise
    stop_file.unlink(missing_ok=True)
    if supply.fault is not None:
        raise supply.fault


@contextlib.contextmanager
def asking(
    watch: ray_cluster.Watch | None, supply: Supply, resources: Resources, about: Sequence[Trial]
) -> Iterator[None]:
    """Every node that has room for a trial is asked first, and what comes later at its own first
    trial. Raises EnvironmentFault with all that is wrong on all of them."""
    if watch is None:
        yield
        return
    with nodes.question(supply.surroundings, about, supply.path) as question:
        ray_cluster.ask(
            [node for node in ray_cluster.live_nodes() if node.room(resources)], question, watch
        )
        supply.question = question
        yield


class Supply(Searcher):
    """Trials for Tune to start, in order, as it has room. Has state because Tune asks for
    one at a time, and because what it started and did not end is started again."""

    def __init__(
        self,
        trials: Iterable[Trial | None],
        surroundings: Surroundings,
        stop: threading.Event,
        stop_file: Path,
    ):
        super().__init__()
        # A worker that is killed for hanging is replaced, and its trial tried again.
        self.surroundings = replace(surroundings, expendable=True)
        self.stop_file, self.stop = stop_file, stop
        self.ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self.count_ended = 0
        self.before: dict[Key, deaths.Before] = {}
        self.fault: Exception | None = None  # of the caller's `trials`
        self.question: Question | None = None
        self._coming = iter(trials)
        self._again: list[Trial | None] = []
        self._started: dict[Key, Trial] = {}
        self.path = (os.getcwd(), *filter(None, sys.path))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """None: not now. Tune asks again, after what it has to do."""
        if self.stop.is_set():
            return Searcher.FINISHED
        try:
            trial = self._again.pop(0) if self._again else next(self._coming, NO_MORE)
        except Exception as fault:
            self.fault, trial = fault, NO_MORE
        if trial is NO_MORE:
            return Searcher.FINISHED
        if trial is None:
            time.sleep(POLL_SECONDS)
            return None
        self._started[trial.key] = trial
        folder = Folder(self.surroundings.store).path(trial.id)
        self.before.setdefault(trial.key, deaths.Before.of(folder))
        job = Job(
            trial=trial,
            surroundings=self.surroundings,
            path=self.path,
            stop=self.stop_file,
            made_by=provenance.running(trial.trainer),
            question=self.question,
        )
        return {"job": job}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False):
        """Tune's word for the searcher; `Ending` hears the same with more in it."""

    def end(self, ended: Ended) -> None:
        if self._started.pop(ended.trial.key, None) is None:
            return  # Tune that fails in the middle of an end says it again.
        self.count_ended += 1
        before = self.before.pop(ended.trial.key, NOTHING_KNOWN)
        self.ended.put(replace(ended, before=before))

    @property
    def has_started(self) -> bool:
        return bool(self._started)

    def recall(self) -> bool:
        """Whether trials are left over: those that were started and never ended come first."""
        self._again = [*self._started.values(), *self._again]
        self._started.clear()
        if not self._again:
            coming = next(self._coming, NO_MORE)
            self._again = [] if coming is NO_MORE else [coming]
        return bool(self._again)

    # Tune saves what it was given, to restore it later. Nothing of that is needed: the store
    # knows what is done.
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...

    def get_state(self) -> dict[str, Any]:
        return {}


class Ending(tune.Callback):
    """Hears from Tune's thread how trials end, and ends Tune when it is `aborted`; `begun` are
    those that have been given a worker, and have not ended."""

    def __init__(self, supply: Supply):
        self.supply = supply
        self.aborted = False
        self.begun: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        if self.aborted:
            raise Aborted

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.begun[trial.trial_id] = trial

    @property
    def is_running(self) -> bool:
        """Whether a trial has a worker now: one whose node was lost waits for another."""
        return any(trial.status == "RUNNING" for trial in list(self.begun.values()))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.begun.pop(trial.trial_id, None)
        said = trial.last_result
        self.supply.end(
            Ended(
                trial=trial.config["job"].trial,
                fault=said.get("fault"),
                stopped=bool(said.get("stopped")),
                unwritten=said.get("unwritten"),
            )
        )

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.begun.pop(trial.trial_id, None)
        said = Path(trial.error_file).read_text() if trial.error_file else "no reason given"
        self.supply.end(Ended(trial=trial.config["job"].trial, worker_died=said))


class Aborted(Exception):
    """Tune is to end now, whatever runs."""


class Worker(tune.Trainable):
    """An actor that runs a trial in one step, and the next one in the same process."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True  # `config` is the new one already, and `execute` starts every trial clean.

    def step(self) -> dict[str, Any]:
        job: Job = self.config["job"]
        sys.path.extend(entry for entry in job.path if entry not in sys.path)
        with contextlib.suppress(OSError):  # Of another machine: what is relative means the same.
            os.chdir(job.path[0])
        try:
            if job.question is not None:
                nodes.refuse_unfit(job.question, job.trial, ray.util.get_node_ip_address())
            provenance.refuse_other(job.made_by, job.trial.trainer)
            # The store's root has few entries, so this is cheap at every measurement.
            record = execute(
                job.trial,
                job.surroundings,
                stopped=lambda: job.stop.name in names_in(job.stop.parent),
            )
        except Exception as fault:
            fault.add_note(traceback.format_exc())
            return {"done": True, "fault": fault}
        may_be_none = job.surroundings.score_only or job.surroundings.retry
        done = record is None or record.state == "done"
        written = done or (record.state != "pruned" and not may_be_none)
        return {
            "done": True,
            "stopped": record is None,
            "unwritten": None if written else record,
        }


def run_tune(
    supply: Supply,
    resources: Resources,
    slots: int,
    scratch: Path,
    on_record: Callable[[Record], None],
    hurry: threading.Event,
    watch: ray_cluster.Watch | None = None,
) -> Exception | None:
    """Tune once, until it has no more to do or `supply.stop` is set; what ended it early."""
    ending = Ending(supply)
    tuner = tune.Tuner(
        tune.with_resources(Worker, {"cpu": resources.cpus, "gpu": resources.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=supply, num_samples=-1, max_concurrent_trials=slots, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name=f"tune-{secrets.token_hex(4)}",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[ending],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    )
    crash: list[Exception] = []

    def fit() -> None:
        try:
            tuner.fit()
        except Exception as fault:
            crash.append(fault)

    thread = threading.Thread(target=fit, name="ray tune", daemon=True)
    thread.start()
    deadline = None
    try:
        while thread.is_alive() or not supply.ended.empty():
            if watch is not None:
                watch.look(resources, waits=supply.has_started and not ending.is_running)
            with contextlib.suppress(queue.Empty):
                ended = supply.ended.get(timeout=POLL_SECONDS)
                if not settle(ended, supply.surroundings, on_record):
                    supply.ended.put(replace(ended, waited=True))
                    time.sleep(POLL_SECONDS)
            if supply.stop.is_set():
                supply.stop_file.touch()
            if supply.stop.is_set() and hurry.is_set():
                deadline = deadline or time.monotonic() + GRACE_SECONDS
                if time.monotonic() > deadline:
                    break
    finally:
        ending.aborted = True
        thread.join(timeout=1)
    return crash[0] if crash else None


def settle(ended: Ended, surroundings: Surroundings, on_record: Callable[[Record], None]) -> bool:
    """Tells the record; False while another process runs the trial of a dead worker."""
    if ended.fault is not None:
        raise ended.fault
    if ended.worker_died is not None:
        died = ended.worker_died
        cause = deaths.why(Folder(surroundings.store).path(ended.trial.id), ended.before, died)
        why = f"the worker died {RETRIES + 1} times: {cause}"
        try:
            record = bury(ended.trial, surroundings, why, died, waited=ended.waited)
        except (LeaseHeld, FencedOut):
            return False
        on_record(record)
    elif not ended.stopped:
        found = ended.unwritten or Folder(surroundings.store).result(ended.trial)
        assert found is not None, ended.trial.key
        on_record(found)
    return True
