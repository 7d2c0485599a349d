"""Beside every Python process that has this folder on its path: refuses what would leave this
machine, and writes down each attempt; and how the switches stand by which libraries are kept
from telling about their use, when those are imported. A line of JSON each, a file a process."""

from __future__ import annotations

import ipaddress
import json
import os
import sys

FOLDER = os.environ.get("GUARD_FOLDER")
OWN = set(filter(None, os.environ.get("GUARD_OWN", "").split(",")))  # addresses of this machine
WATCHED = {"mlflow", "ray", "optuna"}
SWITCHES = ("RAY_USAGE_STATS_ENABLED", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
SENDS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
ASKS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


def note(**what: object) -> None:
    line = json.dumps({**what, "pid": os.getpid(), "argv": sys.orig_argv[:4]}) + "\n"
    path = os.path.join(FOLDER, f"{os.getpid()}.jsonl")
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, line.encode())
    os.close(handle)


def stays_here(host: object) -> bool:
    host = host.decode() if isinstance(host, bytes) else host
    if host is None or host in OWN or host in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def look(event: str, arguments: tuple) -> None:
    if event == "import" and arguments[0] in WATCHED:
        switches = {name: os.environ.get(name) for name in SWITCHES}
        note(imported=arguments[0], **switches)
    if event in SENDS:
        address = arguments[1]
        if isinstance(address, tuple) and not stays_here(address[0]):
            note(event=event, address=str(address))
            raise ConnectionRefusedError(f"the guard: {address}")
    if event in ASKS and not is_here(arguments[0]):
        note(event=event, address=str(arguments[0]))
        raise OSError(f"the guard: {arguments[0]}")


def is_here(name: object) -> bool:
    return stays_here(name) or name == os.uname().nodename


if FOLDER:
    note(started=True)
    sys.addaudithook(look)
