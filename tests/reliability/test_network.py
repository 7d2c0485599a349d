"""Nothing leaves this machine: not from Ray, not from MLflow, not from us. And what listens on
it while a sweep runs asks for a token."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from agents import left
from tracking import answers, free_port, until

GUARD = Path(__file__).parent / "guard"
TOYS = Path(__file__).parents[1] / "sweeper"
ROOT = TOYS.parents[1]
SECONDS = 300

SWEEP = """\
name: toy
trainer: {function: "toy_trainers:countdown"}
base: {steps: 3, pause: %s}
axes:
  level: {low: {level: 1.0}, high: {level: 2.0}}
metrics:
  loss: {from: loss, goal: min, format: ".3f"}
profiles: {quick: {}}
tables:
  losses: {rows: level, values: [loss], cell: "{mean}", write: [md]}
"""
REAL = re.compile(r'sin6?_addr=inet_(?:addr|pton)\((?:AF_INET6?, )?"([^"]+)"')


# By this Ray finds out its own address. To connect a datagram socket sends nothing.
ROUTE = 'sin_port=htons(53), sin_addr=inet_addr("8.8.8.8")'
TRACE = ("strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmmsg", "-o")


def is_silent(lines: list[str]) -> bool:
    """Whether nothing is sent over the socket that the first line connects, until it is
    another."""
    process, _, call = lines[0].partition(" ")
    handle = re.search(r"connect\((\d+),", call)[1]
    for line in lines[1:]:
        if line.startswith(f"{process} ") and f"({handle}," in line:
            return " connect(" in line
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A folder with a sweep file in it, and a terminal in which everything is watched: Python by
    the guard; what is no Python by strace, where that is there."""

    folder: Path
    notes: Path
    environment: dict[str, str]
    traced: bool

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "sweeper", *words]
        if self.traced:
            command = [*TRACE, str(self.notes / "strace.txt"), *command]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def type(self, *words: str) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, out + err
        return out

    def noted(self) -> list[dict]:
        lines = [path.read_text().splitlines() for path in self.notes.glob("*.jsonl")]
        return [json.loads(line) for some in lines for line in some]

    def attempts(self) -> list[object]:
        """What went for another machine, or asked for the address of one."""
        by_guard: list[object] = [it for it in self.noted() if "event" in it]
        trace = self.notes / "strace.txt"
        lines = trace.read_text().splitlines() if trace.exists() else []
        own = set(self.environment["GUARD_OWN"].split(","))
        for number, line in enumerate(lines):
            found = REAL.search(line)
            away = found and not (found[1] in own or found[1].startswith(("127.", "::", "0.")))
            if away and not (ROUTE in line and is_silent(lines[number:])):
                by_guard.append(line)
        return by_guard

    def said(self) -> str:
        trace = self.notes / "strace.txt"
        calls = ", by Python's own calls"
        if trace.exists():
            calls = f", {trace.read_text().count(' connect(')} connects of every process"
        return f"{len({it['pid'] for it in self.noted()})} Python processes watched{calls}"


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return made(tmp_path, traced=can_trace())


def made(folder: Path, *, traced: bool = False, pause: float = 0.0) -> Watched:
    notes = folder / "notes"
    notes.mkdir()
    (folder / "toy.yaml").write_text(SWEEP % pause)
    own = [it.address for some in psutil.net_if_addrs().values() for it in some]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join(map(str, (GUARD, ROOT, TOYS))),
        "GUARD_FOLDER": str(notes),
        "GUARD_OWN": ",".join(own),
    }
    return Watched(folder=folder, notes=notes, environment=environment, traced=traced)


def can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    tried = [*TRACE, os.devnull, "true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def check_switches(noted: list[dict]) -> set[str]:
    """Of each library that was imported, those by which it is kept silent. Which those were."""
    wanted = {
        "mlflow": {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
        "ray": {"RAY_USAGE_STATS_ENABLED": "0"},
        "optuna": {},  # has none: it sends nothing
    }
    imported = [it for it in noted if "imported" in it]
    for it in imported:
        for name, value in wanted[it["imported"]].items():
            assert it[name] == value, it
    return {it["imported"] for it in imported}


# --- what goes out -----------------------------------------------------------------------------


def test_the_guard_finds_what_would_go_out(tmp_path: Path) -> None:
    """192.0.2.1 is nobody's, by RFC 5737."""
    desk = made(tmp_path)
    program = """
import socket
for go in (
    lambda: socket.socket().connect(("192.0.2.1", 80)),
    lambda: socket.getaddrinfo("example.invalid", 80),
    lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
):
    try:
        go()
        print("it went")
    except OSError as fault:
        print(fault)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], env=desk.environment, capture_output=True, text=True
    )
    assert ran.stdout.count("the guard") == 3, ran.stdout + ran.stderr
    assert [it["event"] for it in desk.attempts()] == [
        "socket.connect",
        "socket.getaddrinfo",
        "socket.sendto",
    ]


@pytest.mark.skipif(not can_trace(), reason="needs strace, and leave to trace")
def test_the_trace_finds_what_is_no_python(tmp_path: Path) -> None:
    desk = made(tmp_path, traced=True)
    go = """
for port in 53 80; do exec 9<> /dev/udp/8.8.8.8/53; done
if [ "$1" ]; then echo > /dev/tcp/192.0.2.1/80; fi
"""
    for words, count in (([], 0), (["also"], 1)):
        shell = ["timeout", "0.5", "bash", "-c", go, "bash", *words]
        subprocess.run([*TRACE, str(desk.notes / "strace.txt"), *shell], capture_output=True)
        assert len(desk.attempts()) == count
    lines = [f"7 connect(8, {{sa_family=AF_INET, {ROUTE}}}, 16) = 0", '7 sendto(8, "?", 1) = 1']
    (desk.notes / "strace.txt").write_text("\n".join(lines))
    assert len(desk.attempts()) == 1


@pytest.mark.slow
def test_a_sweep_in_this_process_speaks_to_nobody(watched: Watched, say) -> None:
    watched.type("run", "toy.yaml", "--dispatch", "inline")
    assert watched.attempts() == []
    watched.type("table", "toy.yaml", "--source", "mlflow")
    watched.type("sync", "toy.yaml")
    watched.type("report", "toy.yaml")
    assert watched.attempts() == []
    assert "mlflow" in check_switches(watched.noted())
    say(f"a sweep inline: 0 attempts ({watched.said()})")


@pytest.mark.slow
@pytest.mark.ray
def test_a_sweep_under_ray_speaks_to_nobody(watched: Watched, say) -> None:
    watched.type("run", "toy.yaml", "--slots", "1")
    assert watched.attempts() == []
    assert check_switches(watched.noted()) >= {"mlflow", "ray"}
    say(f"a sweep under Ray: 0 attempts ({watched.said()})")


# --- what listens ------------------------------------------------------------------------------


def listening(process: psutil.Process) -> dict[tuple[str, int], psutil.Process]:
    """(address, port) -> of which process below this one."""
    found = {}
    for one in [process, *process.children(recursive=True)]:
        try:
            sockets = one.net_connections(kind="inet")
        except psutil.Error:
            continue
        found |= {tuple(it.laddr): one for it in sockets if it.status == psutil.CONN_LISTEN}
    return found


def ended(process: subprocess.Popen[str], hint: int = signal.SIGINT) -> None:
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(hint)
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()
        left(children, 20.0)
        for one in children:  # Ray's agents, too.
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


@pytest.mark.slow
def test_the_pages_are_served_on_loopback_only_and_tell_nobody(tmp_path: Path, say) -> None:
    desk = made(tmp_path)
    desk.type("run", "toy.yaml", "--dispatch", "inline")
    port = free_port()
    process = desk.start("ui", "--port", str(port))
    try:
        until(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None
        there = listening(psutil.Process(process.pid))
        assert (("127.0.0.1", port)) in there
        assert {address for address, _ in there} == {"127.0.0.1"}
        with socket.create_connection(("127.0.0.1", port)) as rebound:
            rebound.sendall(
                f"GET /api/2.0/mlflow/experiments/get?experiment_id=0 HTTP/1.1\r\n"
                f"Host: 10.evil.example:{port}\r\nConnection: close\r\n\r\n".encode()
            )
            assert rebound.recv(100).startswith(b"HTTP/1.1 403")
        server = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
        for one in server:
            if "python" in one.name():
                assert one.environ()["MLFLOW_DISABLE_TELEMETRY"] == "true"
                assert one.environ()["DO_NOT_TRACK"] == "true"
    finally:
        ended(process)
    assert desk.attempts() == []
    assert "mlflow" in check_switches(desk.noted())
    say(f"the pages: {len(there)} listeners, on 127.0.0.1; 0 attempts ({desk.said()})")


ASKED = """
import sys
import ray
from ray._raylet import GcsClient
print(len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)), "nodes")
"""


def asked(address: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Ray's head, by somebody with these variables."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASKED, address],
        env={**clean, **variables},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.mark.slow
@pytest.mark.ray
def test_whatever_listens_under_ray_asks_for_a_token(tmp_path: Path, say) -> None:
    desk = made(tmp_path, pause=200.0)
    process = desk.start("run", "toy.yaml", "--slots", "1")
    try:
        journals = desk.folder / "runs"
        until(lambda: list(journals.glob("trials/*/journal.jsonl")) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        there = listening(psutil.Process(process.pid))
        port, gcs = next((port, one) for (_, port), one in there.items() if "gcs" in one.name())
        kinds = ", ".join(sorted({one.name() for one in there.values()}))
        token = gcs.environ()["RAY_AUTH_TOKEN"]
        address = f"127.0.0.1:{port}"
        right = asked(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
        assert right.stdout == "1 nodes\n", right.stderr
        for variables in (
            {"RAY_AUTH_MODE": "disabled"},
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
        ):
            refused = asked(address, **variables)
            assert refused.returncode != 0, variables
            assert re.search("(?i)unauthenticated|authentic", refused.stderr), refused.stderr
        everything = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
        assert not any("dashboard.py" in " ".join(one.cmdline()) for one in everything)
        assert token not in " ".join(" ".join(one.cmdline()) for one in everything)
        tokens = list(desk.folder.rglob("auth_token"))
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in tokens), tokens
    finally:
        ended(process)
    say(f"under Ray {len(there)} listeners ({kinds}): a wrong token or none refused")
