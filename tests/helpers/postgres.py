"""A Postgres of one's own, on the loopback address."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import sqlalchemy

SECONDS = 100.0

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
OPTIONS = ("-U", "me", "-A", "scram-sha-256", "--no-locale", "-E", "UTF8", "--no-sync")


def lacking() -> str | None:
    """What keeps one from being started here."""
    if POSTGRES is None:
        return "needs postgresql"
    return None if find_spec("psycopg2") else "needs psycopg2-binary"


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Its URL, with a password."""
    whose = {}
    if os.geteuid() == 0:  # as whom it does not start
        whose = {"user": "nobody"}
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # A socket's path may have 107 characters.
    password = secrets.token_hex(8)
    (folder / "password").write_text(password)
    if whose:
        for path in (folder, folder / "password"):
            shutil.chown(path, **whose)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    here = ("-D", folder / "data")
    made = subprocess.run(
        [POSTGRES / "initdb", *here, *OPTIONS, f"--pwfile={folder / 'password'}"],
        capture_output=True,
        text=True,
        cwd=folder,
        **whose,
    )
    assert made.returncode == 0, made.stderr
    process = subprocess.Popen(
        [POSTGRES / "postgres", *here, "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-F"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        **whose,
    )
    try:
        deadline = time.monotonic() + SECONDS
        url = f"postgresql+psycopg2://me:{password}@127.0.0.1:{port}/postgres"
        while not answers(url):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # It lets nobody finish.
        process.wait(SECONDS)
        shutil.rmtree(folder)


def answers(url: str) -> bool:
    with contextlib.suppress(sqlalchemy.exc.OperationalError):
        sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect().close()
        return True
    return False


def database(server: str) -> str:
    """The URL of a new one."""
    name = f"made_{secrets.token_hex(4)}"
    how = {"isolation_level": "AUTOCOMMIT", "poolclass": sqlalchemy.NullPool}
    with sqlalchemy.create_engine(server, **how).connect() as connection:
        connection.execute(sqlalchemy.text(f"create database {name}"))
    return server.rpartition("/")[0] + f"/{name}"
