"""Trials in, records out, through Ray Tune: several at once, on this machine or a cluster.

Tune places trials on processors and GPUs and starts one again whose worker died; it
remembers nothing. Each worker writes its trial's folder, and here the record is read from
it when Tune says that the trial has ended. Tune runs in a thread of its own, where it
leaves this process's signals alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Ray and Tune read these when they are imported. What is set already is left.
os.environ.update(
    {
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        # Else Ray is started anew, with defaults, by whatever asks it something after its end.
        "RAY_ENABLE_AUTO_CONNECT": "0",
        # The memory monitor's kill ends a whole run with "Caught unexpected exception".
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_AUTO_INIT": "1",
        "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
    }
    | os.environ
)

import ray
from ray import tune
from ray.tune.search import Searcher

from sweeper import dispatch as machine
from sweeper.dispatch.scratch import private_scratch
from sweeper.errors import EnvironmentFault
from sweeper.record import Record
from sweeper.spec import Resources
from sweeper.track.folder import FencedOut, Folder, LeaseHeld, make
from sweeper.trial import Key, Trial
from sweeper.worker import Surroundings, bury, execute

RETRIES = 3  # of a trial whose worker died; a trainer's own error is a record at once
RESTARTS = 3  # of Tune, where it ends with trials left over
GRACE_SECONDS = 5.0  # what running trials have to come to a measurement once in a hurry
POLL_SECONDS = 0.1
NO_MORE: Any = object()  # after the last of the trials
OBJECT_STORE_BYTES = 128 * 2**20  # Nothing but configurations goes through it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What goes to a worker. `path` is where the driver finds modules; `stop` a file whose
    existence asks the worker to stop."""

    trial: Trial
    surroundings: Surroundings
    path: tuple[str, ...]
    stop: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What Tune says of a trial that is over. `worker_died` for the last time: Ray's words
    for it. `fault` is the store's or ours, and nothing that another try would mend.
    `waited`: a dead worker's trial that another process has taken up meanwhile. `unwritten`
    is what came of an attempt that left no record: a scoring, or one whose failure has not
    replaced an older result."""

    trial: Trial
    unwritten: Record | None = None
    worker_died: str | None = None
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
) -> None:
    """See sweeper.dispatch. `trials` is read in another thread. `cluster` is what Ray is
    started with: {"address": ...} joins one, {"num_cpus": 4, "num_gpus": 2} pretends."""
    cluster = cluster or {}
    stop = stop or threading.Event()
    hurry = hurry or stop
    make(surroundings.store)
    stop_file = surroundings.store / f".stop-{secrets.token_hex(4)}"
    supply = Supply(trials, surroundings, stop, stop_file)
    try:
        with running_ray(resources, cluster, surroundings.store) as scratch:
            slots = slots or room(resources)
            for _ in range(1 + RESTARTS):
                crash = run_tune(supply, resources, slots, scratch, on_record, hurry)
                if stop.is_set() or not supply.recall():
                    break
            else:
                raise EnvironmentFault(f"Ray Tune ended early {RESTARTS + 1} times: {crash}")
    finally:
        stop_file.unlink(missing_ok=True)
    if supply.fault is not None:
        raise supply.fault


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
        self.surroundings, self.stop_file, self.stop = surroundings, stop_file, stop
        self.ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self.fault: Exception | None = None  # of the caller's `trials`
        self._coming = iter(trials)
        self._again: list[Trial | None] = []
        self._started: dict[Key, Trial] = {}
        self._path = (os.getcwd(), *filter(None, sys.path))

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
        job = Job(trial=trial, surroundings=self.surroundings, path=self._path, stop=self.stop_file)
        return {"job": job}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False):
        """Tune's word for the searcher; `Ending` hears the same with more in it."""

    def end(self, ended: Ended) -> None:
        self._started.pop(ended.trial.key, None)
        self.ended.put(ended)

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
    """Hears from Tune's thread how trials end, and ends Tune when it is `aborted`."""

    def __init__(self, supply: Supply):
        self.supply = supply
        self.aborted = False

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        if self.aborted:
            raise Aborted

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
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
        try:
            record = execute(job.trial, job.surroundings, stopped=job.stop.exists)
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
        why = f"the worker died {RETRIES + 1} times: killed, out of memory or crashed"
        died = ended.worker_died
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


def room(resources: Resources) -> int:
    """How many trials run at once on all of what Ray has."""
    there = ray.cluster_resources()
    return machine.slots(resources, int(there.get("CPU", 1)), int(there.get("GPU", 0)))


@contextlib.contextmanager
def running_ray(resources: Resources, cluster: Mapping[str, Any], store: Path) -> Iterator[Path]:
    """Ray, started here and ended afterwards unless it runs already; yields a folder for
    what Tune writes and nobody reads."""
    local = cluster.get("address", "local") == "local"
    # Short and private: a socket's path may have 107 characters, and Ray's own is everybody's.
    # On a cluster Tune insists on a folder that all nodes see.
    scratch = private_scratch() if local else store / ".tune"
    ours = not ray.is_initialized()
    try:
        if ours:
            connect(start_arguments(resources, cluster, scratch))
        yield scratch
    finally:
        if ours:
            ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def rehearse(store: Path) -> None:
    """Ray, started and ended as for a run on one core, with one task in between."""
    with running_ray(Resources(cpus=1, gpus=0), {}, store):
        ray.get(ray.remote(lambda: os.getpid()).remote())


def connect(arguments: Mapping[str, Any]) -> None:
    """Everything that listens asks for a token. A cluster of our own gets one that is in
    this process's environment and its children's only, and in no file."""
    if arguments["address"] == "local":
        os.environ.pop("RAY_AUTH_MODE", None)  # Unset, it is "token" for a cluster of our own.
        if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif os.environ.get("RAY_AUTH_MODE") == "disabled":
        raise EnvironmentFault(
            "RAY_AUTH_MODE=disabled: whoever reaches such a cluster can run any code on it; "
            "start its head with a token and give that as RAY_AUTH_TOKEN_PATH"
        )
    try:
        ray.init(**arguments)
    except (ConnectionError, RuntimeError, ValueError, OSError) as fault:
        said = next(filter(None, str(fault).splitlines()), type(fault).__name__)
        raise EnvironmentFault(f"Ray did not start: {said}") from fault
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    # A worker's death is printed on stdout whatever is set; it is in the trial's log.
    ray._private.worker.print_to_stdstream = lambda *message, **how: None


def start_arguments(
    resources: Resources, cluster: Mapping[str, Any], scratch: Path
) -> dict[str, Any]:
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if cluster.get("address", "local") != "local":
        return {**quiet, **cluster}
    return {
        **quiet,
        "address": "local",  # Without it Ray joins any cluster that happens to run.
        "include_dashboard": False,
        "num_cpus": max(machine.cores(), resources.cpus),
        "num_gpus": machine.gpus_present(),
        "object_store_memory": OBJECT_STORE_BYTES,
        "_temp_dir": str(scratch),
        **cluster,
    }
