"""Ray's two idle agents: they report the death of their server to it for a minute, and hold
nothing. A test of what is left running leaves them out."""

from __future__ import annotations

import contextlib

import psutil

SCRIPTS = ("dashboard/agent.py", "runtime_env/agent/main.py", "Agent")


def is_agent(process: psutil.Process) -> bool:
    """By its script: its name it takes only when it has come up."""
    with contextlib.suppress(psutil.Error):
        return any(word.endswith(SCRIPTS) for word in process.cmdline())
    return False
