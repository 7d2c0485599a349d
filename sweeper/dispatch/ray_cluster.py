"""Ray itself, for as long as trials run: started on this machine, or a cluster that is joined,
its nodes asked whether they can run them, and looked after. Imports Ray, and says before what
that reads then.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import operator
import os
import queue
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        # Tune looks for mlflow, too, in this process and in the workers.
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_AUTO_INIT": "1",
        "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
    }
    | os.environ
)

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeper import dispatch as machine
from sweeper.dispatch import nodes
from sweeper.dispatch.nodes import Node, Question
from sweeper.dispatch.scratch import private_scratch
from sweeper.errors import EnvironmentFault
from sweeper.spec import Resources

OBJECT_STORE_BYTES = 128 * 2**20  # Nothing but configurations goes through it.

# Of a cluster that somebody else has started:
CONNECT_SECONDS = 10.0
JOIN_SECONDS = 60.0
ASK_SECONDS = 180.0  # Large corpora are read for it.
LOOK_SECONDS = 2.0  # between looks at what has become of it
LOST_SECONDS = 20.0  # that its head does not answer
WAIT_SECONDS = 30.0  # that nothing runs, before it is said what is waited for
SAY_SECONDS = 60.0  # until that is said again

Say = Callable[[str], None]


@contextlib.contextmanager
def running_ray(resources: Resources, cluster: Mapping[str, Any], store: Path) -> Iterator[Path]:
    """Ray, started here and ended afterwards unless it runs already, or joined; yields a folder
    for what Tune writes and nobody reads."""
    refuse_other_ray()
    local = is_local(cluster)
    # Short and private: a socket's path may have 107 characters, and Ray's own is everybody's.
    # On a cluster Tune insists on a folder that all nodes see.
    scratch = private_scratch() if local else store / ".tune" / secrets.token_hex(4)
    ours = local and not ray.is_initialized()
    try:
        if ours:
            connect(start_arguments(resources, cluster, scratch))
        elif not local:
            join(cluster["address"])
        yield scratch
    finally:
        if ours:
            ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
        if not local:
            with contextlib.suppress(OSError):
                scratch.parent.rmdir()


PRIVATE = (
    "_private.services.canonicalize_bootstrap_address",
    "_private.services.find_node_ids",
    "_private.services.start_api_server",
    "_private.worker.print_to_stdstream",
    "_private.worker.shutdown",
    "_raylet.Config.initialize",
    "_raylet.GcsClient",
)  # what is used here of Ray, and another version may not have


def refuse_other_ray() -> None:
    for name in PRIVATE:
        try:
            operator.attrgetter(name)(ray)
        except AttributeError as fault:
            raise EnvironmentFault(
                f"Ray {ray.__version__} is not one that is known here (it has no ray.{name}): "
                "install ray[tune]>=2.60,<2.61"
            ) from fault


def is_local(cluster: Mapping[str, Any]) -> bool:
    return cluster.get("address", "local") == "local"


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
        # The dashboard's process is started also where none is wanted, and asks the clouds, by
        # their addresses and names, which of them this is. As if it had not come up:
        ray._private.services.start_api_server = lambda *arguments, **how: (None, None)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**arguments)
    except (ConnectionError, RuntimeError, ValueError, OSError) as fault:
        lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
        whole = "version mismatch" in str(fault).lower()  # Both are named further down.
        said = " ".join(lines if whole else lines[:1]) or type(fault).__name__
        raise EnvironmentFault(f"Ray did not start: {said}") from fault
    finally:
        # Ray takes SIGTERM for itself, and would end this process with 1 in the middle.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    # A worker's death is printed on stdout whatever is set; it is in the trial's log.
    ray._private.worker.print_to_stdstream = lambda *message, **how: None


def start_arguments(
    resources: Resources, cluster: Mapping[str, Any], scratch: Path
) -> dict[str, Any]:
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
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


# ---- a cluster that somebody else has started


class ClusterLost(EnvironmentFault):
    """It does not answer any more."""


def join(address: str) -> list[Node]:
    """This process joins the cluster at `address` and stays in it to its end; the nodes that
    there are. Raises EnvironmentFault, soon, where that cannot be: Ray itself tries for minutes."""
    refuse_other_ray()
    if not ray.is_initialized():
        address = found(address)
        prepare_token(address)
        refuse_silent(address)
        refuse_other_token(address)
        if not ray._private.services.find_node_ids():
            raise EnvironmentFault(
                f"no node of a Ray cluster runs on this machine ({socket.gethostname()}), and a "
                f"driver needs one beside it: `ray start --address={address}` (with --num-cpus=0 "
                "it trains nothing), or start the sweep on a machine of the cluster"
            )
        quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        connect({"address": address, **quiet})
    return live_nodes()


def found(address: str) -> str:
    """ "host:port"; what "auto" stands for."""
    try:
        known = ray._private.services.canonicalize_bootstrap_address(address)
        host, _, port = (known or "").rpartition(":")
        if host and 0 < int(port) < 65536:
            return known
    except (ConnectionError, ValueError):
        pass
    if address == "auto":
        raise EnvironmentFault(
            "--address auto: no Ray cluster runs on this machine, and RAY_ADDRESS names none"
        )
    raise EnvironmentFault(
        f"--address {address}: an address is HOST:PORT (mostly port 6379), or auto"
    )


def prepare_token(address: str) -> None:
    if os.environ.get("RAY_AUTH_MODE") == "disabled":
        raise EnvironmentFault(
            "RAY_AUTH_MODE=disabled: whoever reaches such a cluster can run any code on it; "
            "start its head with a token and give that as RAY_AUTH_TOKEN_PATH"
        )
    file = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(file).expanduser() if file else Path.home() / ".ray" / "auth_token"
    if not os.environ.get("RAY_AUTH_TOKEN"):
        try:
            there = bool(path.read_text().strip())
        except OSError as fault:
            if file:
                said = f"RAY_AUTH_TOKEN_PATH={file} cannot be read: {fault.strerror or fault}"
                raise EnvironmentFault(said) from fault
            there = False
        if not there:
            raise EnvironmentFault(
                f"there is no token for the Ray cluster at {address}: give the file that has it "
                f"as RAY_AUTH_TOKEN_PATH, or put it in {path}"
            )
    os.environ["RAY_AUTH_MODE"] = "token"
    # So long after its head is lost, Ray ends this process by SIGABRT; we end it before.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "600")
    ray._raylet.Config.initialize("")  # It was read when Ray was imported.


def refuse_silent(address: str) -> None:
    fault = silence(address)
    if fault is not None:
        raise EnvironmentFault(
            f"nothing answers at {address}, where the head of the Ray cluster is to be: {fault}"
        )


def silence(address: str) -> OSError | None:
    """What keeps the head from being reached, if something does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as fault:
        return fault
    return None


def refuse_other_token(address: str) -> None:
    try:
        with quiet_stderr():
            bounded(lambda: ray._raylet.GcsClient(address=address), JOIN_SECONDS)
    except ray.exceptions.AuthenticationError as fault:
        given = next(
            (name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)),
            "~/.ray/auth_token",
        )
        raise EnvironmentFault(
            f"the Ray cluster at {address} refuses the token of {given}: it has another one"
        ) from fault
    except TimeoutError as fault:
        raise EnvironmentFault(
            f"what listens at {address} does not answer as the head of a Ray cluster does"
        ) from fault
    except Exception as fault:
        said = next(filter(None, str(fault).splitlines()), type(fault).__name__)
        raise EnvironmentFault(f"the Ray cluster at {address} cannot be joined: {said}") from fault


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Ray's native part says on it what it raises, too."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def bounded(ask: Callable[[], Any], seconds: float) -> Any:
    """What `ask` returns. Raises TimeoutError where that takes longer: Ray's own calls may
    wait for ever for what is lost."""
    came: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            came.put((ask(), None))
        except BaseException as fault:
            came.put((None, fault))

    threading.Thread(target=run, name="asks ray", daemon=True).start()
    try:
        value, fault = came.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer for {seconds:g} s") from None
    if fault is not None:
        raise fault
    return value


def live_nodes() -> list[Node]:
    """By address. Raises EnvironmentFault where the head does not say."""
    try:
        there = bounded(ray.nodes, JOIN_SECONDS)
    except TimeoutError as fault:
        release()
        raise ClusterLost(f"the Ray cluster does not say which nodes it has: {fault}") from fault
    alive = [
        Node(
            id=node["NodeID"],
            address=node["NodeManagerAddress"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
        )
        for node in there
        if node["Alive"]
    ]
    return sorted(alive, key=lambda node: (node.address, node.id))


def ask(there: Sequence[Node], question: Question, watch: Watch) -> None:
    task = ray.remote(nodes.answer)
    given = {}
    for node in there:
        where = NodeAffinitySchedulingStrategy(node.id, soft=False)
        how = task.options(num_cpus=0, max_retries=0, scheduling_strategy=where)
        given[node.id] = how.remote(question, node.id)
    deadline = time.monotonic() + ASK_SECONDS
    wrong: dict[str, list[str]] = {}  # By id: two nodes may have one address.
    for node in there:
        while node.id not in wrong:
            watch.refuse_lost()
            left = deadline - time.monotonic()
            try:
                came = bounded(lambda of=given[node.id]: ray.get(of, timeout=5), 10)
                wrong[node.id] = came or nodes.unseen(question, node.id)
            except (TimeoutError, ray.exceptions.GetTimeoutError):
                if left < 0:
                    wrong[node.id] = [f"it has not answered for {ASK_SECONDS:g} s"]
            except Exception as fault:
                if node.id in {it.id for it in live_nodes()}:
                    wrong[node.id] = [cannot_answer(fault)]
                else:
                    wrong[node.id] = []  # It has gone meanwhile.
    nodes.refuse((node.address, wrong[node.id]) for node in there)


def cannot_answer(fault: Exception) -> str:
    cause = getattr(fault, "cause", None) or fault
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    missing = [line for line in lines if "ModuleNotFoundError" in line or "ImportError" in line]
    said = (missing or lines or [type(cause).__name__])[-1]
    return f"it cannot be asked ({said}): install the same Python packages there"


@contextlib.contextmanager
def watching(cluster: Mapping[str, Any], say: Say) -> Iterator[Watch | None]:
    """None for a cluster of our own, which ends with this process."""
    if is_local(cluster):
        yield None
        return
    watch = Watch(found(cluster["address"]), say)
    try:
        yield watch
    except Exception as fault:
        # What the loss of the head brings about is that loss.
        if isinstance(fault, ClusterLost) or silence(watch.address) is None:
            raise
        raise watch.lost() from fault
    finally:
        watch.done.set()


def release() -> None:
    """Ray is not to take leave of a cluster that does not answer: it would wait for that, and so
    do threads of its own, without which this process has to end."""
    machine.released.set()
    atexit.unregister(ray._private.worker.shutdown)


class Watch:
    """Looks after a cluster in a thread of its own. Has state because that is what becomes of
    it: since when its head does not answer, which nodes it has."""

    def __init__(self, address: str, say: Say):
        self.address, self.say = address, say
        self.nodes: dict[str, Node] = {node.id: node for node in live_nodes()}
        self.free: Mapping[str, float] = {}
        self.done = threading.Event()
        self._answered = self._ran = time.monotonic()
        self._said = -math.inf
        threading.Thread(target=self._follow, name="watches the cluster", daemon=True).start()

    def _follow(self) -> None:
        while not self.done.wait(LOOK_SECONDS):
            if silence(self.address) is not None:
                continue
            self._answered = time.monotonic()
            with contextlib.suppress(Exception):  # The next look may tell.
                now = {node.id: node for node in bounded(live_nodes, CONNECT_SECONDS)}
                self.free = bounded(ray.available_resources, CONNECT_SECONDS)
                gone = [node for id, node in self.nodes.items() if id not in now]
                come = [node for id, node in now.items() if id not in self.nodes]
                self.nodes = now
                for node in gone:
                    self.say(f"node {node.address} is lost; its trials go on elsewhere")
                for node in come:
                    self.say(f"node {node.address} has joined")

    def refuse_lost(self) -> None:
        if time.monotonic() - self._answered > LOST_SECONDS:
            raise self.lost()

    def lost(self) -> ClusterLost:
        """What is to be raised; from here on Ray is left as it is."""
        release()
        silent = time.monotonic() - self._answered
        return ClusterLost(
            f"the Ray cluster at {self.address} has not answered for {silent:.0f} s; what is "
            "done stays, and the same line goes on, there or on another cluster"
        )

    def look(self, resources: Resources, *, waits: bool) -> None:
        """Raises ClusterLost; says from time to time what is waited for, where nothing runs."""
        self.refuse_lost()
        now = time.monotonic()
        if not waits:
            self._ran = now
        elif now - max(self._ran + WAIT_SECONDS - SAY_SECONDS, self._said) > SAY_SECONDS:
            self._said = now
            self.say(self.waiting(resources))

    def waiting(self, resources: Resources) -> str:
        free = ", ".join(nodes.number(int(self.free.get(of, 0)), of) for of in ("CPU", "GPU"))
        there = list(self.nodes.values())
        return f"waiting for {nodes.wanted(resources)}: {nodes.had(there)}; free are {free}"
