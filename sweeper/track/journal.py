"""What happened to a trial, appended line by line; its history out.

    {"kind": "start",   "attempt": 1, "at": ..., "evaluation_id": ..., "evaluation": {...}}
    {"kind": "measure", "attempt": 1, "at": ..., "seconds": ..., "cost": 400, "values": {...}}
    {"kind": "end",     "attempt": 1, "at": ..., "seconds": ..., "state": "done", ...}

Each line is sealed (see sealed.py). `at` is wall-clock time and only a label; `seconds`
is counted from the attempt's start by a clock that does not jump.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.errors import CorruptRecord, EnvironmentFault
from sweeper.record import Measurement
from sweeper.track.sealed import seal, unseal, unspell

Entry = Mapping[str, Any]

SYNC_SECONDS = 1.0


class Journal:
    """The open end of a journal. Has state because a file is open and because it
    remembers when it last made the disk write: lines survive the process at once and a
    power cut a second later."""

    def __init__(self, path: Path):
        self.path = path
        self.entries, sound = read(path)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        # A torn tail must go before the next append, which would be glued to it.
        os.ftruncate(self._handle, sound)
        self._synced = time.monotonic()

    def append(self, entry: Entry) -> None:
        line = seal(entry) + b"\n"
        size = os.fstat(self._handle).st_size
        try:
            written = os.write(self._handle, line)
            if written < len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written")
        except OSError as fault:
            os.ftruncate(self._handle, size)
            raise EnvironmentFault(f"cannot append to {self.path}: {fault}") from fault
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        os.fsync(self._handle)
        self._synced = time.monotonic()

    def in_place(self) -> bool:
        """Whether what is open is what the path names: false once the folder was removed,
        even if it was made anew."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(self.path))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        os.close(self._handle)


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The journal's entries, and the length in bytes of the part that holds them.

    Bad lines at the end are what a kill or a power cut leaves, and are not entries. A bad
    line with a good one after it is damage: CorruptRecord."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # What follows the last newline is torn.
    except FileNotFoundError:
        return [], 0
    entries: list[dict[str, Any]] = []
    offset = sound = damaged = 0
    for number, line in enumerate(lines, 1):
        offset += len(line) + 1
        try:
            entry = unseal(line)
        except ValueError:
            damaged = damaged or number
            continue
        if damaged:
            raise CorruptRecord(
                f"{path}:{damaged}: this line was changed after it was written; "
                f"delete the folder {path.parent} to train the trial again"
            )
        entries.append(entry)
        sound = offset
    return entries, sound


def history(entries: Iterable[Entry]) -> tuple[Measurement, ...]:
    """The measurements of all attempts as one course of training, by ascending cost.

    A later attempt replaces what earlier ones measured beyond the cost it starts at: one
    that continues from a checkpoint replaces the little that came after it, one that
    starts afresh everything. At equal cost the later values win and others stay, so that
    evaluating again adds to a trial's last point. Lines of an attempt that come after the
    start of the next are late and do not count."""
    kept: list[Measurement] = []
    current = 0
    for entry in entries:
        if entry["kind"] == "start":
            current = max(current, entry["attempt"])
        elif entry["kind"] == "measure" and entry["attempt"] == current:
            new = measurement(entry)
            values: dict[str, float] = {}
            while kept and kept[-1].attempt < current and kept[-1].cost >= new.cost:
                old = kept.pop()
                if old.cost == new.cost:
                    values = {**old.values, **values}
            kept.append(replace(new, values={**values, **new.values}))
    return tuple(kept)


def measurement(entry: Entry) -> Measurement:
    return Measurement(
        cost=float(entry["cost"]),
        values=unspell(entry["values"]),
        at=entry["at"],
        attempt=entry["attempt"],
    )


def until_last(entries: list[dict[str, Any]], evaluation_id: str) -> list[dict[str, Any]]:
    """What had happened when the last attempt under this evaluation ended. Evaluating a
    trial in another way later is no part of this one's history."""
    last = 0
    inside = False
    for position, entry in enumerate(entries, 1):
        if entry["kind"] == "start":
            inside = entry["evaluation_id"] == evaluation_id
        if inside:
            last = position
    return entries[:last]


def seconds_spent(entries: Iterable[Entry]) -> dict[str, float]:
    """{"seconds", "cpu_seconds"}: what the attempts in `entries` took, all summed; of one
    that was killed, until its last line."""
    spent: dict[int, tuple[float, float]] = {}
    for entry in entries:
        if "seconds" in entry:
            spent[entry["attempt"]] = (entry["seconds"], entry.get("cpu_seconds", 0.0))
    return {
        "seconds": sum(wall for wall, _ in spent.values()),
        "cpu_seconds": sum(cpu for _, cpu in spent.values()),
    }
