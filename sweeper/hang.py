"""A trial, and how long it may be silent, in; an end to it where it hangs out.

What hangs may be Python, native code that keeps the interpreter to itself, an import, or a
process that somebody stopped. Nothing inside can be relied on to see that, so another process
watches (guard.py): it is told of each measurement, and first sends a signal that has the stacks
of all threads written to the trial's log.

What then becomes of the trial depends on whose process it is in. One that is expendable (a worker
of Ray) is killed, and whoever started it tries again. Elsewhere the trial alone is
interrupted; if it does not give way, the process is killed, and its record says so.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sweeper.track.lease import birth
from sweeper.trial import Trial

# No program has another use for it, where there are such: USR1 and ALRM are somebody's.
STACKS = signal.SIGRTMIN + 5 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR2
GIVE_WAY_SECONDS = 15.0  # more than a command has to end in


class Hung(BaseException):
    """Raised in a trainer: it is to stop, also where it catches every Exception."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a guard knows: the process (and when it started), the `attempt` in a trial's
    `folder` and when it `began` (monotonic, which all processes share), the `seconds` that it
    may be silent, and whether its process is `expendable`. Where it is not, also what its record
    takes: the trial, its store, and what it is run with."""

    pid: int
    born: str | None
    folder: Path
    attempt: int
    began: float
    seconds: float
    expendable: bool
    give_way: float
    trial: Trial
    store: Path
    retry: frozenset[str]
    score_only: bool
    path: tuple[str, ...]

    @property
    def said(self) -> str:
        return f"it hung: {silence(self.seconds)}"


def silence(seconds: float) -> str:
    """ "no measurement for 30 min" """
    from sweeper.budget import unit_of  # Of much that a guard, which each trial has, needs not.

    unit, length = unit_of(seconds)
    return f"no measurement for {seconds / length:.4g} {unit}"


class Guard:
    """The other end of a guard. It has state because a signal is to interrupt a trainer, and
    nothing else that runs in this thread."""

    def __init__(self, watched: Watched | None = None, told: int | None = None):
        self._watched, self._told = watched, told
        self._in_trainer = False

    def over(self, measured: Iterator[Mapping[str, float]]) -> Iterator[Mapping[str, float]]:
        """The measurements as they come; Hung is raised where one is waited for in vain."""
        with contextlib.closing(measured):
            while True:
                self._in_trainer = True
                values = next(measured, None)
                self._in_trainer = False
                if values is None:
                    return
                if self._told is not None:
                    with contextlib.suppress(OSError):  # It has ended, or has enough unread.
                        os.write(self._told, b".")
                yield values

    def interrupt(self, number: int, frame: Any) -> None:
        if self._in_trainer:
            self._in_trainer = False  # What it does in its `finally` is its own.
            raise Hung(f"{self._watched.said}; its log has the stacks")


@contextlib.contextmanager
def guarded(
    trial: Trial,
    folder: Path,
    attempt: int,
    log: IO[str],
    *,
    seconds: float | None,
    expendable: bool,
    store: Path,
    retry: frozenset[str] = frozenset(),
    score_only: bool = False,
) -> Iterator[Guard]:
    """A guard for as long as this lasts; none where a trial may be silent for ever."""
    if seconds is None:
        yield Guard()
        return
    watched = Watched(
        pid=os.getpid(),
        born=birth(os.getpid()),
        folder=folder,
        attempt=attempt,
        began=time.monotonic(),
        seconds=seconds,
        expendable=expendable,
        give_way=GIVE_WAY_SECONDS,
        trial=trial,
        store=store,
        retry=retry,
        score_only=score_only,
        path=tuple(sys.path),
    )
    process = start(watched)
    guard = Guard(watched, process.stdin.fileno())
    try:
        with writing_stacks(log, guard):
            # It is killed before its signal would find nobody that expects it.
            try:
                yield guard
            finally:
                process.kill()
                process.wait()
    finally:
        process.stdin.close()


def start(watched: Watched) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[1])
    code = "import sys; sys.path.insert(0, sys.argv[1]); from sweeper.guard import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,  # What a terminal sends is for what it watches.
    )
    with contextlib.suppress(OSError):
        said = memoryview(pickle.dumps(watched))
        while said:
            said = said[process.stdin.write(said) :]
    os.set_blocking(process.stdin.fileno(), False)
    return process


@contextlib.contextmanager
def writing_stacks(log: IO[str], guard: Guard) -> Iterator[None]:
    """The guard's signal writes them, whatever has the interpreter to itself, and then
    interrupts the trainer, if its process is not expendable."""
    interrupts = not guard._watched.expendable and (
        threading.current_thread() is threading.main_thread()
    )
    before = signal.signal(STACKS, guard.interrupt) if interrupts else None
    faulthandler.register(STACKS, file=log, all_threads=True, chain=interrupts)
    try:
        yield
    finally:
        faulthandler.unregister(STACKS)
        if interrupts:
            signal.signal(STACKS, before)


@contextlib.contextmanager
def writing_crashes(log: IO[str]) -> Iterator[None]:
    """Where native code crashes this process, its log has the signal and the stacks."""
    before = faulthandler.is_enabled()
    faulthandler.enable(file=log, all_threads=True)
    try:
        yield
    finally:
        # The file is to be closed: nothing may be written by its number any more.
        if before and sys.__stderr__ is not None:
            faulthandler.enable(file=sys.__stderr__)
        else:
            faulthandler.disable()
