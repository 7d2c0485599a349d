"""What is left running of a command that has ended.

Ray's two idle agents report the death of their server to it for a minute, and hold nothing: they
are left out, and nobody waits for them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import psutil

SCRIPTS = ("dashboard/agent.py", "runtime_env/agent/main.py", "Agent")


def left(
    processes: Iterable[psutil.Process], seconds: float = 10.0, *, agents: bool = False
) -> list[psutil.Process]:
    """Those that still run after so many seconds; Ray's agents only if they are asked for."""
    there, deadline = list(processes), time.monotonic() + seconds
    while there := [it for it in there if runs(it) and (agents or not is_agent(it))]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return there


def runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def is_agent(process: psutil.Process) -> bool:
    """By its script: its name it takes only when it has come up."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(word.endswith(SCRIPTS) for word in process.cmdline())
    return False
