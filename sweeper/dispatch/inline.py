"""Trials in, records out, one after another in this process: the definition of correct."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from sweeper.record import Record
from sweeper.spec import Resources
from sweeper.trial import Trial
from sweeper.worker import Surroundings, execute

PAUSE_SECONDS = 0.2  # where nothing is to be started now


def dispatch(
    trials: Iterable[Trial | None],
    surroundings: Surroundings,
    on_record: Callable[[Record], None],
    *,
    resources: Resources,
    slots: int | None = None,
    stop: threading.Event | None = None,
    hurry: threading.Event | None = None,
) -> None:
    """`resources`, `slots` and `hurry` are those of every dispatcher; here one trial has the
    process, and is at its measurement when it is told to stop."""
    stop = stop or threading.Event()
    for trial in trials:
        if stop.is_set():
            return
        if trial is None:
            time.sleep(PAUSE_SECONDS)
            continue
        record = execute(trial, surroundings, stopped=stop.is_set)
        if record is not None:  # None: stopped; or all that a probe was to say is said.
            on_record(record)
