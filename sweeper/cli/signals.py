"""Signals in; how a verb that trains comes to its end out.

The first SIGINT, SIGTERM, SIGHUP or SIGUSR1 (Slurm's early warning) stops: no trial is begun,
those that run end at their next measurement, what is there is shown, and the process ends with
75, within LIMIT_SECONDS whatever it is at. A second one ends it at once with 130. Outside of
`stopping` there is nothing to be waited for, and the first ends the verb where it is. A signal
that was ignored as we started (nohup) stays ignored.

A thread hears of signals through the wakeup descriptor, since a main thread that is in native
code runs no handler, and watches over the time. Native code that keeps Python's own lock keeps
this thread from its work, too: only SIGKILL ends that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import click
import psutil

STOPPED, STOPPED_AT_ONCE = 75, 130  # exit codes
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
OWN = signal.SIGURG  # From the thread to the main one. Nobody uses it, and unhandled it is nothing.
GRACE_SECONDS = 4.0  # what a trial in this process has to come to a measurement
OTHERS_SECONDS = 6.5  # what a dispatcher has that gives its trials such a grace itself
DELIVERY_SECONDS = 3.0  # what MLflow has at the end of what was stopped
LIMIT_SECONDS = 9.0
RESERVE_SECONDS = 0.7  # what Python takes to end
LATE_SECONDS = 0.05  # until a trial that was just writing its record is interrupted again
TELL_SECONDS = 0.5  # that an end waits for a word to be said
NAME = "sweeper.stops"


class Interrupted(BaseException):
    """Raised in what runs in the main thread, as it did not come to a measurement. It is no
    KeyboardInterrupt: there are trainers that catch that, and call what they have a result."""


class Ended(SystemExit):
    """Raised in the main thread where there is nothing to be waited for."""


class Stops:
    """What signals have asked of this process. Has state because they come when they want:
    `stop` is what a dispatcher is to stop by, which others may set, too, and `signalled` what
    nobody else does; `waiting` is how many seconds what runs has, None where nothing runs."""

    def __init__(self) -> None:
        self.stop, self.signalled = threading.Event(), threading.Event()
        self.waiting: float | None = None
        self._first = 0.0  # when the first signal came
        self._due = False  # What runs is to be interrupted, and was not yet.
        self._handled = self._ran = False  # the first signal; whether something ran as it came
        self._told = threading.Event()  # The person knows what becomes of it.
        self._terminal = sys.stderr  # Of this process; a trial in it may have its own for its log.
        self._before: dict[int, Any] = {}
        self.leaving: list[Callable[[], None]] = []  # what is done, quickly, before a sudden end
        self._ear, self._mouth = socket.socketpair()
        self._mouth.setblocking(False)

    def install(self) -> None:
        self._wakeup = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self.handle)
        self._before[OWN] = signal.signal(OWN, self.interrupt)
        threading.Thread(target=self.watch, name="stops", daemon=True).start()

    def restore(self) -> None:
        """Of a process that was asked to stop the end is watched over until it is there."""
        if self.signalled.is_set():
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._mouth.close()

    # ---- in the main thread, when it comes to it

    def handle(self, number: int, frame: FrameType | None) -> None:
        own = self._mouth.fileno()
        if signal.set_wakeup_fd(own, warn_on_full_buffer=False) != own:
            self._mouth.send(bytes([number]))  # A trainer's event loop had taken it from us.
        first, self._handled = not self._handled, True
        # The thread may have been faster: what ran as it heard goes on to show what is there.
        heard = self.signalled.is_set() and self._ran
        if self.waiting is None and first and not heard:
            self._told.wait(TELL_SECONDS)  # Else the end may come before the word.
            raise Ended(STOPPED)

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._due and self.waiting is not None and not is_writing(frame):
            self._due = False
            raise Interrupted

    # ---- in the thread

    def watch(self) -> None:
        while True:
            self._ear.settimeout(self.seconds_to_next())
            try:
                heard = self._ear.recv(64)
            except TimeoutError:
                self.hurry()
                continue
            if not heard:
                self._ear.close()
                return
            for number in heard:
                if number in SIGNALS:
                    self.hear(number)

    def hear(self, number: int) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        if self.signalled.is_set():
            self.end(STOPPED_AT_ONCE)
        self._first = time.monotonic()
        self._ran = runs = self.waiting is not None
        self.signalled.set()
        self.stop.set()
        self._due = runs
        self.say(
            "stopping at the next measurement; once more stops at once"
            if runs
            else "stopped; the same line again does what is left"
        )
        self._told.set()

    def ask(self, by: str, *, at_once: bool) -> None:
        """The same as a first signal, or a second, from any thread; `by` says who wants it."""
        if at_once:
            self.say(f"{by} stops this at once")
            self.end(STOPPED_AT_ONCE)
        if self.signalled.is_set():
            return
        self.say(f"{by} asks to stop")
        heeded = [number for number in SIGNALS[1:] if number in self._before]
        if heeded:
            signal.pthread_kill(threading.main_thread().ident, heeded[0])
        else:
            self.hear(SIGNALS[1])
            with contextlib.suppress(OSError):  # It is over.
                self._mouth.send(b"\0")  # No signal: the time is to be watched over from now on.

    def seconds_to_next(self) -> float | None:
        if not self.signalled.is_set():
            return None
        since = time.monotonic() - self._first
        next_one = LIMIT_SECONDS
        if self._due and self.waiting is not None:
            next_one = max(min(next_one, self.waiting), since + LATE_SECONDS)
        return max(next_one - since, 0.001)

    def seconds_to_deliver(self) -> float:
        if not self.signalled.is_set():
            return 30.0
        left = self._first + LIMIT_SECONDS - RESERVE_SECONDS - time.monotonic()
        return max(0.1, min(DELIVERY_SECONDS, left))

    def hurry(self) -> None:
        since = time.monotonic() - self._first
        if since >= LIMIT_SECONDS:
            self.say("not all has come to its end: ended now; the same line again does the rest")
            self.end(STOPPED)
        if self._due and self.waiting is not None and since >= self.waiting:
            signal.pthread_kill(threading.main_thread().ident, OWN)

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            click.echo(text, file=self._terminal)

    def end(self, code: int) -> None:
        """With all that we have started: what is left of it would write beside the next run."""
        with contextlib.suppress(OSError, ValueError):
            if self._terminal.isatty():
                self._terminal.write("\x1b[?25h")  # the cursor, which a live view hides
                self._terminal.flush()
        last = threading.Thread(target=lambda: [leave() for leave in self.leaving], daemon=True)
        last.start()
        last.join(RESERVE_SECONDS / 2)  # A store that does not answer keeps nobody.
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
        os._exit(code)


def is_writing(frame: FrameType | None) -> bool:
    """Whether a trial's folder is written to just now."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("sweeper.track."):
            return True
        frame = frame.f_back
    return False


def leave_terminal() -> None:
    """One that was closed refuses what is written to it: that is an end of the reader only."""
    for handle in (1, 2):
        try:
            termios.tcgetattr(handle)
        except termios.error as fault:
            if fault.args[0] == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), handle)


@contextlib.contextmanager
def heeding() -> Iterator[Stops]:
    """A context in which signals are heard, which only a process's main thread can."""
    stops = Stops()
    heard = threading.current_thread() is threading.main_thread()
    if heard:
        stops.install()
    try:
        yield stops
    finally:
        if heard:
            stops.restore()


def current() -> Stops:
    """Those of the verb that runs."""
    return click.get_current_context().meta[NAME]


@contextlib.contextmanager
def stopping(by: str) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Two events that the first signal sets: the one to stop by, which others may set, too, and
    one that nobody else does. What runs inside, by the dispatcher `by`, has some seconds then;
    what it comes to after the signal is no fault of anybody."""
    stops = current()
    stops.stop = threading.Event()  # A budget has set that of a search, and here is what it found.
    if stops.signalled.is_set():
        stops.stop.set()
    stops.waiting = GRACE_SECONDS if by == "inline" else OTHERS_SECONDS
    try:
        yield stops.stop, stops.signalled
    except Interrupted:
        pass
    except (Exception, SystemExit) as fault:
        # Of Ray the end is what it may fail at: its processes have heard the signal, too.
        if not stops.signalled.is_set():
            raise
        if not isinstance(fault, SystemExit):
            stops.say(f"while it stopped: {type(fault).__name__}: {fault}".splitlines()[0])
    finally:
        stops.waiting = None


def seconds_to_deliver() -> float:
    """What there is for telling MLflow: after a signal what is left of its time."""
    return current().seconds_to_deliver()
