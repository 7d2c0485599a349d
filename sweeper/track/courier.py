"""Trials that have something to tell go in; a process of its own takes it to MLflow.

Its own process, not a thread: importing mlflow, migrating a database and sending would
take the interpreter lock from a trainer in this one for seconds. The process is started
when there is first something to deliver, runs at low priority, and ends when the driver
closes it or dies. A server that is slow or down delays nothing but deliveries, and what
was not delivered can be, later, from the folders.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweeper.errors import CorruptRecord, EnvironmentFault, SweeperError
from sweeper.redaction import without_secrets
from sweeper.track.folder import Folder, result_path
from sweeper.track.mlflow import SETTINGS, MLflowStore, database, default_uri
from sweeper.track.parcel import Origin
from sweeper.track.reach import refuse_away
from sweeper.track.sealed import checksum, using, write_whole
from sweeper.trial import TrainerRef, Trial

ORPHAN_SECONDS = 8.0  # what we have once our driver has died
RETRY_SECONDS = (1.0, 30.0)  # the first pause after a failure, and the longest
LOG = "mlflow.log"  # what mlflow and its libraries say
TABLES, FIGURES = "tables", "figures"
ANSWERED = "answered"


class Courier:
    """The driver's side. Has state because it owns a process and knows what that still has
    to deliver. Never raises, never waits, until it is closed. `again` delivers also what
    the folder remembers as delivered: MLflow may have lost it."""

    def __init__(
        self,
        folder: Folder,
        origin: Origin,
        tracking_uri: str | None = None,
        *,
        again: bool = False,
    ):
        self.folder, self.origin, self.again = folder, origin, again
        self.uri = tracking_uri or default_uri(folder.root)
        self.problem: str | None = None  # the last one, in words for people
        self._waiting: dict[str, int] = {}
        self._serial = 0
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None

    @property
    def undelivered(self) -> int:
        """Trials (and one for the tables) about which MLflow has not been told all."""
        return len(self._waiting)

    def notice(self, trial: Trial) -> None:
        """There may be something new about `trial`: as a rule, that it ended."""
        with self._told():
            if self.again or not was_delivered(self.folder, trial, self.uri, self.origin):
                self._ask(name_of(trial), {"trial": asdict(trial)})

    def publish_tables(self, tables: Mapping[str, str], files: Iterable[Path] = ()) -> None:
        """Tables, name -> markdown, for the note of the sweep's run; and files beside them."""
        content = {"tables": dict(tables), "files": [str(Path(f).absolute()) for f in files]}
        with self._told():
            if self.again or not were_delivered(self.folder, content, self.uri, self.origin):
                self._ask(TABLES, content)

    def publish_figures(self, files: Iterable[Path]) -> None:
        """Pictures, into a folder of the sweep's run."""
        with self._told():
            content = {"figures": {str(f.absolute()): checksum(f.read_bytes()) for f in files}}
            delivered = figures_delivered(self.folder, content, self.uri, self.origin)
            if content["figures"] and (self.again or not delivered):
                self._ask(FIGURES, content)

    def close(self, timeout: float = 30.0, state: str = "FINISHED") -> int:
        """Waits until all is delivered or cannot be, at most `timeout` seconds. Returns the
        number of undelivered. `state` becomes that of the sweep's run: FINISHED, FAILED
        where trials failed, KILLED where they were stopped."""
        if self._process is None:
            return self.undelivered
        self._send({"close": state})
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.problem = self.problem or f"MLflow at {without_secrets(self.uri)} is slow"
            self._process.kill()
            self._process.wait()
        self._listener.join()
        if self._waiting and self._process.returncode > 0:
            self.problem = self._ended()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process = None
        return self.undelivered

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """A store that cannot be used is a problem, and no end of the sweep."""
        try:
            with using(self.folder.root):
                yield
        except EnvironmentFault as fault:
            self.problem = str(fault)

    def _ask(self, name: str, message: dict[str, Any]) -> None:
        self._serial += 1
        self._waiting[name] = self._serial
        if self._process is None:
            self._open()
        self._send({**message, "name": name, "serial": self._serial})

    def _open(self) -> None:
        self.folder.root.mkdir(parents=True, exist_ok=True)
        with open(self.folder.root / LOG, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # A terminal's Ctrl-C and its end are for the driver.
                env=environment(),
            )
        self._listener = threading.Thread(target=self._listen, daemon=True, name="courier")
        self._listener.start()
        self._send({"uri": self.uri, "root": str(self.folder.root), "origin": asdict(self.origin)})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            self.problem = self._ended()

    def _ended(self) -> str:
        return f"the delivery to MLflow ended; see {self.folder.root / LOG}"

    def _listen(self) -> None:
        for line in self._process.stdout:
            answer = json.loads(line)
            self.problem = answer.get("problem")
            name = answer.get("delivered")
            if name and self._waiting.get(name) == answer["serial"]:
                del self._waiting[name]


def environment() -> dict[str, str]:
    """Of a process in which MLflow is asked."""
    paths = filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    return {**SETTINGS, **os.environ, "PYTHONPATH": os.pathsep.join(paths)}


# --- what is remembered as delivered -------------------------------------------------------


def target(uri: str, origin: Origin) -> str:
    return f"{without_secrets(uri)} {origin.tag}"


def name_of(trial: Trial) -> str:
    return f"{trial.id} {trial.evaluation_id}"


def was_delivered(folder: Folder, trial: Trial, uri: str, origin: Origin) -> bool:
    """Whether the result as it is now was delivered; only spares the asking."""
    digest = result_digest(folder, trial)
    where = f"{target(uri, origin)} {trial.evaluation_id}"
    there = marks(folder.path(trial.id) / "delivered.json")
    return digest is not None and is_there(uri) and there.get(where) == digest


def were_delivered(folder: Folder, tables: Mapping[str, Any], uri: str, origin: Origin) -> bool:
    there = marks(folder.root / "delivered.json")
    return is_there(uri) and there.get(target(uri, origin)) == tables_digest(tables)


def figures_delivered(folder: Folder, message: Mapping[str, Any], uri: str, origin: Origin) -> bool:
    there = marks(folder.root / "delivered.json")
    return is_there(uri) and there.get(figures_target(uri, origin)) == figures_digest(message)


def figures_target(uri: str, origin: Origin) -> str:
    return f"{target(uri, origin)} {FIGURES}"


def figures_digest(message: Mapping[str, Any]) -> str:
    return checksum(json.dumps(message["figures"], sort_keys=True).encode())


def is_there(uri: str) -> bool:
    """False for a database that was deleted: what it was told is lost."""
    file = database(uri)
    return file is None or file.exists()


def remember_answer(folder: Folder, uri: str) -> None:
    """That there is an MLflow at `uri`."""
    mark_delivered(folder.root / "delivered.json", f"{without_secrets(uri)} {ANSWERED}", "once")


def has_answered(folder: Folder, uri: str) -> bool:
    """Whether this store has ever found one there, or delivered something to it."""
    known = marks(folder.root / "delivered.json")
    return any(where.startswith(f"{without_secrets(uri)} ") for where in known)


def mark_delivered(path: Path, where: str, digest: str) -> None:
    if marks(path).get(where) != digest:
        write_whole(path, json.dumps(marks(path) | {where: digest}).encode())


def marks(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}


def result_digest(folder: Folder, trial: Trial) -> str | None:
    path = Path(result_path(folder.path(trial.id), trial.key))
    with using(path):
        try:
            return checksum(path.read_bytes())
        except FileNotFoundError:
            return None


def tables_digest(message: Mapping[str, Any]) -> str:
    said = {"tables": message["tables"], "files": message["files"]}
    return checksum(json.dumps(said, sort_keys=True).encode())


# --- the process ---------------------------------------------------------------------------


def main() -> None:
    """Messages on standard input, a JSON object a line; what was delivered on standard
    output, which is kept from everybody else who likes to print."""
    os.nice(19)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # They are for the driver, which closes us.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")

    about = json.loads(sys.stdin.readline() or "null")
    if about is None:
        return
    folder, origin = Folder(about["root"]), Origin(**about["origin"])
    store = MLflowStore(folder.root, about["uri"])
    inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=read, args=(inbox,), daemon=True).start()

    def send(message: Mapping[str, Any]) -> None:
        if "mlflow" not in sys.modules:
            refuse_away(store.uri)  # To import it takes seconds, for a server that is not there.
        delivery(message, store, folder, origin)

    state = deliver(inbox, send, say)
    with contextlib.suppress(SweeperError):
        store.close(origin, state)


def read(inbox: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    """Always at the pipe, so that the driver never waits for us. None: it is gone."""
    for line in sys.stdin:
        inbox.put(json.loads(line))
    inbox.put(None)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)  # A server that does not answer would keep us for minutes.


def deliver(
    inbox: queue.SimpleQueue[dict[str, Any] | None],
    send: Callable[[Mapping[str, Any]], None],
    say: Callable[..., None],
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Sends what comes in, the oldest first, a name's latest message only. After a failure
    it pauses, and turns to the next. Once closing it gives up after two failures running.
    What cannot be believed here is no failure of MLflow's, and is not tried again.
    Returns the state in which the sweep ended: KILLED where its driver died."""
    todo: dict[str, dict[str, Any]] = {}
    closing, failures, pause, next_try = "", 0, RETRY_SECONDS[0], 0.0
    corrupt = ""
    while todo or not closing:
        wait = 0.0 if closing else max(0.0, next_try - clock())
        try:
            message = inbox.get(timeout=wait) if todo else inbox.get()
        except queue.Empty:
            pass
        else:
            if message is None:
                return closing or "KILLED"
            if "close" in message:
                closing, failures = message["close"], 0
            else:
                todo[message["name"]] = message
            continue
        name = next(iter(todo))
        message = todo.pop(name)
        try:
            send(message)
        except CorruptRecord as fault:
            corrupt = str(fault)
            say(problem=corrupt)
        except SweeperError as fault:
            say(problem=str(fault))
            todo[name] = message
            failures += 1
            if closing and failures >= min(2, len(todo)):
                return closing
            next_try = clock() + pause
            pause = min(2 * pause, RETRY_SECONDS[1])
        else:
            say(
                delivered=name,
                serial=message["serial"],
                **({"problem": corrupt} if corrupt else {}),
            )
            failures, pause, next_try = 0, RETRY_SECONDS[0], 0.0
    return closing


def delivery(
    message: Mapping[str, Any], store: MLflowStore, folder: Folder, origin: Origin
) -> None:
    where = target(store.uri, origin)
    if "tables" in message:
        store.publish_tables(origin, message["tables"], map(Path, message["files"]))
        mark_delivered(folder.root / "delivered.json", where, tables_digest(message))
        return
    if "figures" in message:
        store.publish_figures(origin, map(Path, message["figures"]))
        where = figures_target(store.uri, origin)
        mark_delivered(folder.root / "delivered.json", where, figures_digest(message))
        return
    trial = trial_of(message["trial"])
    digest = result_digest(folder, trial)
    store.publish(trial, folder, origin)
    if digest is not None:
        where = f"{where} {trial.evaluation_id}"
        mark_delivered(folder.path(trial.id) / "delivered.json", where, digest)


def trial_of(said: Mapping[str, Any]) -> Trial:
    """The trial that `asdict` and JSON took apart."""
    trainer = dict(said["trainer"])
    trainer["command"] = tuple(trainer["command"]) if trainer["command"] else None
    derived = ("id", "evaluation_id", "key")
    fields = {name: x for name, x in said.items() if name not in (*derived, "trainer")}
    trial = Trial(trainer=TrainerRef(**trainer), **fields)
    assert trial.id == said["id"], (trial.id, said["id"])
    return trial


if __name__ == "__main__":
    main()
