"""A process of its own that watches a trial: see hang.py. Its input is a `Watched` and then a
byte for each measurement; it ends with that, or with the process that it watches.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import time

import psutil

from sweeper.hang import STACKS, Watched, silence
from sweeper.memory import high_water
from sweeper.track import journal, lease
from sweeper.track.journal import Journal

LOOK_SECONDS = 1.0
STACKS_SECONDS = 1.0  # to write them in


def main() -> None:
    watched: Watched = pickle.load(sys.stdin.buffer)
    while silent(watched):
        if not act(watched):
            return


def silent(watched: Watched) -> bool:
    """Waits until it has been silent for too long; False if it has ended before. Time counts
    in which this process ran, too: not that of a machine which slept."""
    waited, stood = 0.0, False
    while waited < watched.seconds:
        began = time.monotonic()
        said = heard(min(LOOK_SECONDS, watched.seconds - waited))
        if said is not None:
            if not said:
                return False
            waited, stood = 0.0, False
        elif not lives(watched):
            return False
        else:
            # A person may stop what is theirs, and let it go on a moment before the next look.
            before, stood = stood, not watched.expendable and stopped(watched.pid)
            if not before and not stood:
                waited += min(time.monotonic() - began, 2 * LOOK_SECONDS)
    return True


def heard(seconds: float) -> bytes | None:
    """None where nothing was; b"" at the end of it all."""
    return os.read(0, 65_536) if select.select([0], [], [], seconds)[0] else None


def lives(watched: Watched) -> bool:
    return lease.birth(watched.pid) == watched.born


def stopped(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    return False


def act(watched: Watched) -> bool:
    """Ends what hangs; True where it went on at the last moment."""
    log = watched.folder / "log.txt"
    with contextlib.suppress(OSError), open(log, "a", encoding="utf-8") as file:
        how = "; its process is stopped, and can show none" if stopped(watched.pid) else ""
        print(f"sweeper: {silence(watched.seconds)}: the stacks of all threads{how}", file=file)
    os.kill(watched.pid, STACKS)
    if watched.expendable:
        written(log)
        end(watched)
        return False
    if (said := heard(watched.give_way)) is not None:
        return bool(said)
    if lives(watched):
        why = f"{watched.said}, and did not give way in {watched.give_way:g} s: it was killed"
        kill(watched.pid)
        print(f"trial {watched.trial.id[:12]}: {why} ({log})", file=sys.stderr, flush=True)
        record(watched, why)
    return False


def written(log: os.PathLike) -> None:
    """Waits until nothing more comes, for a moment."""
    size = -1
    for _ in range(10):
        time.sleep(STACKS_SECONDS / 10)
        before, size = size, os.path.getsize(log)
        if before == size:
            return


def end(watched: Watched) -> None:
    """The process, stopped: what is written now is not written across its own. Then killed."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(watched.pid, signal.SIGSTOP)
        try:
            interrupted(watched)
        finally:
            kill(watched.pid)


def interrupted(watched: Watched) -> None:
    """The attempt's end, in its stead."""
    held = lease.latest(watched.folder)
    if held is None or held.attempt != watched.attempt:
        return
    book = Journal(watched.folder / "journal.jsonl")
    try:
        own = [entry for entry in book.entries if entry["attempt"] == watched.attempt]
        if not own or own[-1]["kind"] == "end":
            return
        fields = {
            **took(own, watched),
            "state": "interrupted",
            "error": watched.said,
            "hung": watched.seconds,
        }
        if (peak := high_water(watched.pid)) is not None:
            fields["peak_memory_bytes"] = peak
        told = {"kind": "end", "attempt": watched.attempt, "at": time.time(), **fields}
        book.append({**told, "total": journal.totals([*book.entries, told])})
        book.sync()
    finally:
        book.close()
    lease.release(watched.folder, held)


def took(own: list[dict], watched: Watched) -> dict[str, float]:
    cpu = [entry["cpu_seconds"] for entry in own if "cpu_seconds" in entry]
    return {
        "seconds": time.monotonic() - watched.began,
        "cpu_seconds": cpu[-1] if cpu else 0.0,
    }


def kill(pid: int) -> None:
    """A process, and all that it started but this one."""
    family = []
    with contextlib.suppress(psutil.Error):
        first = psutil.Process(pid)
        family = [first, *first.children(recursive=True)]
    for process in family:
        if process.pid != os.getpid():
            with contextlib.suppress(psutil.Error):
                process.kill()


def record(watched: Watched, why: str) -> None:
    # Here: every trial has a guard, and few come to this.
    from sweeper.worker import Surroundings, bury

    sys.path.extend(entry for entry in watched.path if entry not in sys.path)
    deadline = time.monotonic() + watched.give_way
    while lives(watched) and time.monotonic() < deadline:
        time.sleep(0.02)
    surroundings = Surroundings(
        store=watched.store, retry=watched.retry, score_only=watched.score_only
    )
    bury(watched.trial, surroundings, why)
