"""A real MLflow server, a proxy before it that does harm, and a reader of its database that
knows nothing of ours: what tests of the delivery are made of."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

from sweeper.record import Record
from sweeper.track.folder import Folder
from sweeper.track.mlflow import SETTINGS
from sweeper.track.parcel import Origin
from sweeper.trial import TrainerRef, Trial

ORIGIN = Origin(sweep="outage", profile="quick")
SECONDS = 180.0  # what anything here may take, on a machine with other work
REQUEST_SECONDS = 2.0  # of MLflow's client, in place of 10
EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=0"
# What may become of a request, and whether MLflow has then done what it asks.
HARM = {
    "500": False,
    "503": False,
    "429": False,
    "reset": False,  # the connection, before MLflow has seen the request
    "lost": True,  # the answer: the connection is reset after MLflow has committed
    "half": True,  # of the answer comes a half
    "garbage": False,  # a page of somebody else, with status 200
    "empty": False,  # status 200 and nothing in it
    "braces": False,  # status 200 and an empty object
    "hang": False,  # until the client gives up
    "late": True,  # passed on when the client has given up
    "cut": False,  # MLflow is sent a half of it
}


# --- trials ----------------------------------------------------------------------------------


def trial(seed: int) -> Trial:
    return Trial(
        trainer=TrainerRef(function="toy:train"),
        config={"data": "topics", "kl": {"start": 0.1}, "layers": [1, 2]},
        evaluation={"samples": 5},
        seed=seed,
        data_digest="d" * 64,
        labels={"pooling": "MaxPool", "seed": str(seed)},
    )


def train(folder: Folder, of: Trial, points: int = 5) -> None:
    """A finished trial with so many measurements of two metrics, and two artifacts."""
    attempt = folder.start(of)
    for cost in range(1, points + 1):
        attempt.measure(cost, {"train/loss": 1 / cost, "valid/nll": of.seed + cost / 7})
    for name, content in artifacts(of.seed).items():
        path = attempt.folder / "artifacts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    record = Record(
        trial_id=of.id,
        evaluation_id=of.evaluation_id,
        state="done",
        result={"test/nll": 1 / 3, "valid/nll": 0.1 + 0.2},
        provenance={"commit": "c" * 40},
    )
    attempt.finish(record)


def artifacts(seed: int) -> dict[str, bytes]:
    return {"nll.txt": f"{seed}\n".encode(), "codes/mean.bin": bytes(range(256)) * 300}


# --- what is in MLflow -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    id: str
    status: str
    ended_ms: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: Counter[tuple[str, float, int, int]]  # key, value, milliseconds, step
    folder: Path | None


def runs(database: Path) -> list[Run]:
    """All that are not deleted, by SQL."""
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as there:

        def pairs(table: str, run: str) -> dict[str, str]:
            return dict(there.execute(f"SELECT key, value FROM {table} WHERE run_uuid = ?", [run]))

        points = "SELECT key, value, timestamp, step FROM metrics WHERE run_uuid = ?"
        active = "SELECT run_uuid, status, end_time, artifact_uri FROM runs"
        return [
            Run(
                id=run,
                status=status,
                ended_ms=ended,
                tags=pairs("tags", run),
                params=pairs("params", run),
                points=Counter(there.execute(points, [run]).fetchall()),
                folder=Path(unquote(urlsplit(uri).path)) if uri.startswith("file:") else None,
            )
            for run, status, ended, uri in there.execute(
                active + " WHERE lifecycle_stage = 'active' ORDER BY start_time"
            )
        ]


def points_of(folder: Folder, of: Trial) -> Counter[tuple[str, float, int, int]]:
    """Those of the journal and, once, those of the result which the journal does not end with:
    at the last step, and later than what is there."""
    found: Counter[tuple[str, float, int, int]] = Counter()
    last: dict[str, tuple[float, int]] = {}
    cost = 0
    for entry in folder.entries(of.id):
        if entry["kind"] == "measure":
            cost, at = int(entry["cost"]), int(entry["at"] * 1000)
            for key, value in entry["values"].items():
                found[key, value, at, cost] += 1
                last[key] = value, at
    record = folder.result(of)
    for key, value in record.result.items() if record else ():
        before, at = last.get(key, (None, 0))
        if before != value:
            found[key, value, max(int(record.finished_at * 1000), at + 1), cost] += 1
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    trials: int
    points: int
    missing: int
    twice: int
    strange: int  # points that no journal has

    def __str__(self) -> str:
        said = f"{self.trials} trials, {self.points} points: {self.missing} missing"
        return f"{said}, {self.twice} twice, {self.strange} strange"


def check(
    folder: Folder,
    trials: Iterable[Trial],
    database: Path,
    root: Path | None = None,
    origin: Origin = ORIGIN,
) -> Tally:
    """Asserts that MLflow has each trial of a sweep once, with all that its folder says and
    nothing else, and one run of the sweep. `root` is where a server keeps artifacts."""
    trials = list(trials)
    there = [
        run
        for run in runs(database)
        if origin.tag in run.tags or run.tags.get("sweeper.sweep") == origin.sweep
    ]
    points = missing = twice = strange = 0
    for of in trials:
        named = [run for run in there if run.tags.get("sweeper.trial") == of.id]
        assert len(named) == 1, f"trial {of.id} (seed {of.seed}) has {len(named)} runs"
        (run,) = named
        wanted = points_of(folder, of)
        points += wanted.total()
        missing += (wanted - run.points).total()
        extra = run.points - wanted
        twice += sum(n for point, n in extra.items() if point in wanted or near(point, wanted))
        strange += sum(
            n for point, n in extra.items() if point not in wanted and not near(point, wanted)
        )
        record = folder.result(of)
        assert run.status == "FINISHED", (of.seed, run.status)
        assert run.ended_ms == int(record.finished_at * 1000)
        assert run.params["seed"] == str(of.seed)
        assert "sweeper.record" in run.tags
        if of.config.get("data") == "topics":
            assert run.params["layers"] == "[1, 2]"
            check_artifacts(run, of, root)
    tally = Tally(trials=len(trials), points=points, missing=missing, twice=twice, strange=strange)
    assert (missing, twice, strange) == (0, 0, 0), str(tally)
    ids = {of.id for of in trials}
    ghosts = [
        run.tags
        for run in there
        if run.tags.get("sweeper.kind") != "sweep" and run.tags.get("sweeper.trial") not in ids
    ]
    assert not ghosts, ghosts
    sweeps = [run for run in there if run.tags.get("sweeper.kind") == "sweep"]
    assert len(sweeps) == 1, f"{len(sweeps)} runs of the sweep"
    return tally


def near(point: tuple[str, float, int, int], wanted: Iterable[tuple]) -> bool:
    """Whether it is a point of the journal at another time."""
    return any(
        (key, value, step) == (point[0], point[1], point[3]) for key, value, _, step in wanted
    )


def check_artifacts(run: Run, of: Trial, root: Path | None) -> None:
    (folder,) = [run.folder] if run.folder else list(root.glob(f"*/{run.id}/artifacts"))
    there = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert there.pop("config.json")
    assert there == artifacts(of.seed)


# --- a server, and harm before it ----------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An MLflow that takes artifacts, too. Where it has its runs at another URI than `database`,
    that stays empty."""

    port: int
    database: Path
    artifacts: Path


@contextlib.contextmanager
def server(root: Path, backend: str | None = None) -> Iterator[Server]:
    """With its runs in a database under `root`, or in that at the URI `backend`."""
    port = free_port()
    made = Server(port=port, database=root / "server.db", artifacts=root / "server")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    backend = backend or f"sqlite:///{made.database}"
    command += ["--port", str(port), "--backend-store-uri", backend]
    command += ["--artifacts-destination", str(made.artifacts)]
    with open(root / "server.log", "wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **SETTINGS}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None, (root / "server.log").read_text()
        # The first question of a kind is answered late, for there is much to import.
        with urlopen(f"http://127.0.0.1:{port}{EXPERIMENT}") as answer:
            assert answer.status == 200
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@contextlib.contextmanager
def answering(status: int, health: bytes = b"OK", health_status: int = 200) -> Iterator[str]:
    """The address of a server that says so to whatever is asked but for its health."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            well = self.path == "/health"
            said = health if well else b"{}"
            self.send_response(health_status if well else status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_GET

        def log_message(self, *said: object) -> None: ...

    there = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=there.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{there.server_port}"
    finally:
        there.shutdown()
        there.server_close()
        thread.join()


def until(true: Callable[[], object], seconds: float = SECONDS, pause: float = 0.05) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(pause)


class Proxy:
    """Passes requests on to the server at `backend`, unless `harm` names something of HARM for
    one: it is told the method, the path and the request's number since `begin`. Has state
    because it listens, and counts."""

    def __init__(self, backend: int):
        self.backend, self.port = backend, free_port()
        self.harm: Callable[[str, str, int], str | None] = lambda method, path, number: None
        self.done: Counter[str] = Counter()  # what was done, by kind
        self.seen: list[str] = []
        self._counting = threading.Lock()
        self._open = 0
        self._server: ThreadingHTTPServer | None = None
        self.up()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def begin(self, harm: Callable[[str, str, int], str | None] | None = None) -> None:
        with self._counting:
            self.seen.clear()
            self.harm = harm or (lambda method, path, number: None)

    def up(self) -> None:
        handler = type("Bound", (Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self) -> None:
        """Whoever comes is refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def rest(self) -> None:
        """Waits until nothing is under way any more, late requests included."""
        until(lambda: self._open == 0)

    @contextlib.contextmanager
    def request(self, method: str, path: str) -> Iterator[str]:
        """What is to be done with it."""
        with self._counting:
            self._open += 1
            self.seen.append(f"{method} {path.partition('?')[0]}")
            kind = self.harm(method, path, len(self.seen)) or "pass"
            self.done[kind] += 1
        try:
            yield kind
        finally:
            with self._counting:
                self._open -= 1


class Handler(BaseHTTPRequestHandler):
    proxy: Proxy

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.proxy.request(self.command, self.path) as kind:
            self.act(kind, body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET

    def act(self, kind: str, body: bytes) -> None:
        if kind == "pass":
            self.reply(*self.passed_on(body))
        elif kind.isdigit():
            self.reply(int(kind), {"Content-Type": "text/html"}, b"<h1>not now</h1>")
        elif kind in ("garbage", "empty", "braces"):
            said = {"garbage": b"<html>log in here", "empty": b"", "braces": b"{}"}[kind]
            self.reply(200, {"Content-Type": "application/json"}, said)
        elif kind == "half":
            status, headers, said = self.passed_on(body)
            self.reply(status, headers, said, len(said) // 2)
        elif kind == "cut":
            self.passed_on(body, len(body) // 2)
            self.reset()
        else:
            if kind in ("hang", "late"):
                time.sleep(1.5 * REQUEST_SECONDS)
            if kind in ("lost", "late"):
                self.passed_on(body)
            self.reset()

    def passed_on(
        self, body: bytes, only: int | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """MLflow's answer; none where it is sent `only` so many bytes of the body."""
        own = ("host", "connection", "content-length", "accept-encoding")
        headers = {key: x for key, x in self.headers.items() if key.lower() not in own}
        assert "Transfer-Encoding" not in headers
        there = http.client.HTTPConnection("127.0.0.1", self.proxy.backend, timeout=SECONDS)
        with contextlib.closing(there):
            there.putrequest(self.command, self.path)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                there.putheader(key, value)
            there.endheaders(body if only is None else body[:only])
            if only is not None and only < len(body):
                time.sleep(0.1)
                return 0, {}, b""
            answer = there.getresponse()
            return (
                answer.status,
                {"Content-Type": answer.getheader("Content-Type", "")},
                answer.read(),
            )

    def reply(
        self, status: int, headers: Mapping[str, str], body: bytes, only: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[:only])

    def reset(self) -> None:
        """As a machine that fell over: not even a farewell."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()
        self.close_connection = True

    def log_message(self, *said: object) -> None: ...
