"""Machines of a cluster on one: namespaces with an address, a host name, processes and mounts of
their own, in which a real Ray, a real Postgres and a real MLflow server are started. Files are
shared but for what a machine is made to hide. What is made here is undone here.

    with switched("head", "node", "server") as hosts:
        with postgres(hosts["server"]) as database, mlflow_server(hosts["server"], database):
            with ray_node(hosts["head"], token), ray_node(hosts["node"], token, head=...):
                hosts["head"].run("sweeper", "run", ...)

Needs root, for namespaces; Debian's iproute2, util-linux and postgresql.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

SECONDS = 120.0
RAY_PORT = 6379
MLFLOW_PORT = 5000
NETWORK = "10.77.0"

# Debian keeps them out of the path.
POSTGRES = next(
    (
        folder
        for folder in [
            *map(Path, os.environ["PATH"].split(os.pathsep)),
            *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        ]
        if (folder / "initdb").exists() and (folder / "postgres").exists()
    ),
    None,
)


def lacking() -> str | None:
    """What keeps these from being started here."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "nsenter", "ss"))):
        return "needs root, iproute2 and util-linux, for namespaces"
    probe = f"probe{secrets.token_hex(2)}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    if made.returncode:
        return "needs to be allowed to make network namespaces"
    subprocess.run(["ip", "netns", "del", probe], check=True)
    made = subprocess.run(
        ["unshare", "--uts", "--pid", "--mount", "--fork", "--mount-proc", "true"],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        return "needs to be allowed to make namespaces of processes and mounts"
    return "needs postgresql" if POSTGRES is None else None


INIT = """
import signal, socket, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody else buries orphans here.
socket.sethostname(sys.argv[1])
print("on", flush=True)
while True:
    signal.pause()
"""


@dataclass(slots=True, kw_only=True)
class Host:
    """A machine; `address` is its own, and the only one by which others reach it. Has state
    because it can be switched off and on: `init` is its first process, at whose end the kernel
    ends all others."""

    name: str
    address: str
    scratch: Path  # Ray's: of each its own, under a path that all have, which is to be short
    init: psutil.Process | None = None
    starter: subprocess.Popen[bytes] | None = None

    def switch_on(self) -> None:
        assert self.init is None
        self.starter = subprocess.Popen(
            [
                *("ip", "netns", "exec", self.name),
                *("unshare", "--uts", "--pid", "--mount", "--fork", "--mount-proc"),
                *(sys.executable, "-c", INIT, self.name),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # Of its child's end unshare says what nobody asked.
        )
        assert self.starter.stdout.readline() == b"on\n"
        (self.init,) = psutil.Process(self.starter.pid).children()
        self.link("up")

    def switch_off(self) -> None:
        """As by its power button: nobody hears a last word, not even of a closed connection."""
        if self.init is None:
            return
        self.link("down")
        self.init.kill()
        self.starter.wait(SECONDS)
        self.starter.stdout.close()
        self.init = None

    def called(self, name: str) -> list[psutil.Process]:
        """The processes of this machine that run a program of that name."""
        own, found = os.readlink(f"/proc/{self.init.pid}/ns/pid"), []
        for process in psutil.process_iter(["name"]):
            with contextlib.suppress(OSError):  # It may have ended meanwhile.
                its = os.readlink(f"/proc/{process.pid}/ns/pid")
                if its == own and process.info["name"] == name:
                    found.append(process)
        return found

    def link(self, state: str) -> None:
        ip("-n", self.name, "link", "set", "eth0", state)

    def hide(self, folder: Path) -> None:
        """An empty folder of this machine alone is there instead of the one that all share."""
        subprocess.run(self.command("mount", "-t", "tmpfs", "tmpfs", folder), check=True)

    def show(self, folder: Path) -> None:
        subprocess.run(self.command("umount", "--lazy", folder), check=True)

    def command(self, *words: object, cwd: Path | None = None) -> list[str]:
        inside = ("nsenter", f"--target={self.init.pid}", "--net", "--uts", "--mount", "--pid")
        return [*inside, f"--wdns={cwd or Path.cwd()}", *map(str, words)]

    def start(
        self, *words: object, env: Mapping[str, str], log: Path, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        with open(log, "ab") as said:
            return subprocess.Popen(
                self.command(*words, cwd=cwd),
                env={**env},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def run(
        self, *words: object, env: Mapping[str, str], cwd: Path, seconds: float = SECONDS
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words, cwd=cwd),
            env={**env},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


@contextlib.contextmanager
def switched(*names: str) -> Iterator[dict[str, Host]]:
    """Hosts on one switch, which is in a namespace too: nothing outside is touched."""
    mark = secrets.token_hex(2)
    switch, scratch = f"sw{mark}", Path(f"/tmp/ray-{mark}")
    made = [switch]
    hosts: dict[str, Host] = {}
    scratch.mkdir()
    try:
        ip("netns", "add", switch)
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        for number, name in enumerate(names, 1):
            host = Host(name=f"{name}{mark}", address=f"{NETWORK}.{number}", scratch=scratch)
            ip("netns", "add", host.name)
            made.append(host.name)
            port = f"p{number}{mark}"
            veth = ("type", "veth", "peer", "eth0", "netns", host.name)
            ip("-n", switch, "link", "add", port, *veth)
            ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
            ip("-n", host.name, "link", "set", "lo", "up")
            hosts[name] = host
            host.switch_on()
        yield hosts
    finally:
        for host in hosts.values():
            host.switch_off()
        for name in reversed(made):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        scratch.rmdir()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def postgres(host: Host, folder: Path) -> Iterator[str]:
    """A new cluster of databases that listens on the host's address; its URI, with a password."""
    here = Path(tempfile.mkdtemp(dir="/tmp"))  # A socket's path may have 107 characters.
    password = secrets.token_hex(8)
    (here / "password").write_text(password)
    for path in (here, here / "password"):
        shutil.chown(path, "nobody")  # As root it does not start.
    made = subprocess.run(
        [
            *(POSTGRES / "initdb", "-D", here / "data", "-U", "me", "-A", "scram-sha-256"),
            *("--no-locale", "-E", "UTF8", "--no-sync", f"--pwfile={here / 'password'}"),
        ],
        capture_output=True,
        text=True,
        cwd=here,
        user="nobody",
        check=False,
    )
    assert made.returncode == 0, made.stderr
    with open(here / "data" / "pg_hba.conf", "a") as rules:
        rules.write(f"host all all {NETWORK}.0/24 scram-sha-256\n")
    options = ("-D", here / "data", "-k", here, "-h", f"{host.address},127.0.0.1", "-F")
    words = ("setpriv", "--reuid=nobody", "--clear-groups", POSTGRES / "postgres", *options)
    process = host.start(*words, env=dict(os.environ), log=folder / "postgres.log", cwd=here)
    uri = f"postgresql+psycopg2://me:{password}@{host.address}:5432/postgres"
    try:
        until(lambda: listens(host, 5432), "Postgres")
        yield uri
    finally:
        ended(process)
        shutil.rmtree(here, ignore_errors=True)


@contextlib.contextmanager
def mlflow_server(host: Host, database: str, folder: Path) -> Iterator[str]:
    """MLflow on `database`, its artifacts in `folder`; the address for clients."""
    address = f"http://{host.address}:{MLFLOW_PORT}"
    words = (
        *(sys.executable, "-m", "mlflow", "server", "--host", host.address),
        *("--port", MLFLOW_PORT, "--workers", 1, "--artifacts-destination", folder / "artifacts"),
        *("--serve-artifacts", "--allowed-hosts", f"{host.address}:{MLFLOW_PORT}"),
    )
    env = {**os.environ, "MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = host.start(*words, env=env, log=folder / "server.log", cwd=folder)
    try:
        until(lambda: listens(host, MLFLOW_PORT), "MLflow", process)
        yield address
    finally:
        ended(process)


@contextlib.contextmanager
def ray_node(
    host: Host,
    token: Path,
    folder: Path,
    *,
    head: Host | None = None,
    cpus: int = 1,
    gpus: int = 0,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A Ray node: the head, or one that joins `head`. At its end the machine is off."""
    where = f"--address={head.address}:{RAY_PORT}" if head else "--head"
    port = () if head else (f"--port={RAY_PORT}", "--include-dashboard=false")
    if host.init is None:
        host.switch_on()
    host.hide(host.scratch)
    words = (
        *(sys.executable, "-m", "ray.scripts.scripts", "start", where, *port, "--block"),
        *(f"--node-ip-address={host.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"),
        *("--object-store-memory=134217728", "--disable-usage-stats", f"--temp-dir={host.scratch}"),
    )
    # A Ray that was started in this process has left its own token in the environment.
    ours = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    given = {
        **ours,
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_AUTH_MODE": "token",
        "RAY_memory_monitor_refresh_ms": "0",
        **(env or {}),
    }
    log = folder / f"ray-{host.name}.log"
    log.unlink(missing_ok=True)
    process = host.start(*words, env=given, log=log, cwd=folder)
    try:
        until(lambda: "Ray runtime started" in log.read_text(errors="replace"), "Ray", process)
        yield process
    finally:
        host.switch_off()
        process.wait(SECONDS)


def ended(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(SECONDS)


def listens(host: Host, port: int) -> bool:
    said = subprocess.run(
        host.command("ss", "-Hltn", f"sport = :{port}"), capture_output=True, text=True, check=False
    )
    return bool(said.stdout.strip())


def until(
    holds: Callable[[], object],
    what: str,
    process: subprocess.Popen[bytes] | None = None,
    seconds: float = SECONDS,
) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert process is None or process.poll() is None, (
            f"{what}: it ended with {process.returncode}"
        )
        assert time.monotonic() < deadline, f"{what}: not for {seconds:g} s"
        time.sleep(0.1)
