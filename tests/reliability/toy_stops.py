"""Trainers that are hard to stop, each in its way."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Mapping
from typing import Any


def naps(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Is long in coming to its second measurement; those after that are soon at their end."""
    began = run.folder.parents[1] / "began"  # of the store
    if not began.exists():
        yield {"cost/updates": 1, "loss": 1.0}
        began.touch()
        time.sleep(600)
    yield {"cost/updates": 2, "loss": 0.5 + run.seed}


def hangs(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """As `naps`, in native code that no signal gets out of: a lock that it has already."""
    began = run.folder.parents[1] / "began"  # of the store
    if not began.exists():
        yield {"cost/updates": 1, "loss": 1.0}
        began.touch()
        library, lock = ctypes.CDLL(None), ctypes.create_string_buffer(256)
        library.pthread_mutex_init(lock, None)
        library.pthread_mutex_lock(lock)
        library.pthread_mutex_lock(lock)
    yield {"cost/updates": 2, "loss": 0.5 + run.seed}


def clings(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """As `naps`, whatever is raised in it."""
    began = run.folder.parents[1] / "began"  # of the store
    if not began.exists():
        yield {"cost/updates": 1, "loss": 1.0}
        began.touch()
        end = time.monotonic() + 600
        while time.monotonic() < end:
            try:
                time.sleep(600)
            except BaseException as raised:
                print("and on:", type(raised).__name__)
    yield {"cost/updates": 2, "loss": 0.5 + run.seed}
