"""What happened to a trial, appended line by line; its history out.

    {"kind": "start",   "attempt": 1, "at": ..., "evaluation_id": ..., "gpus": 0.5, ...}
    {"kind": "measure", "attempt": 1, "at": ..., "seconds": ..., "cost": 400, "values": {...}}
    {"kind": "beat",    "attempt": 1, "at": ..., "seconds": ...}
    {"kind": "end",     "attempt": 1, "at": ..., "seconds": ..., "state": "done",
                        "peak_memory_bytes": ..., "total": {"updates": ..., ...}, ...}

"anew" says that an attempt has begun the training from nothing, whatever there was, "aside" that
it began to set aside what there was, "back" that it went back to that (see folder.py), "beat"
that it lives though it measures nothing: what was killed has cost its time until then.

Each line is sealed (see sealed.py). `total` is what all attempts took until then: `totals`.
`at` is wall-clock time and only a label; `seconds` is counted from the attempt's start by a
clock that does not jump.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.errors import CorruptRecord, EnvironmentFault
from sweeper.record import COST, PROGRESS, Measurement
from sweeper.track.sealed import content_of, reading, seal, sync_folder, unseal, unspell, using

Entry = Mapping[str, Any]

TAIL_BYTES = 4096  # more than a line that ends an attempt has
PEAKS = ("peak_memory_bytes", "peak_gpu_memory_bytes")


class Journal:
    """The open end of a journal. Has state because a file is open. Lines survive the process
    at once, and a power cut from `sync` on. `entries` are all that it holds, new ones too."""

    def __init__(self, path: Path):
        self.path = path
        self.entries, sound = read(path)
        self.closed = False
        self._torn: int | None = None  # where a line that could not be written begins
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with using(path):
            self._handle = os.open(path, flags, 0o666)
            try:
                # A torn tail must go before the next append, which would be glued to it.
                os.ftruncate(self._handle, sound)
                if not self.entries:
                    sync_folder(path.parent)  # It is new: else a result could be there without it.
            except OSError:
                self.close()
                raise

    def append(self, entry: dict[str, Any]) -> None:
        line = seal(entry) + b"\n"
        try:
            self._repair()
            self._torn = os.fstat(self._handle).st_size
            written = os.write(self._handle, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, f"only {written} of them were written")
        except OSError as fault:
            with contextlib.suppress(OSError):  # Then it is done before the next line.
                self._repair()
            said = f"cannot append to {self.path} ({len(line)} bytes): {fault}"
            raise EnvironmentFault(said) from fault
        self._torn = None
        self.entries.append(entry)

    def _repair(self) -> None:
        if self._torn is not None:
            os.ftruncate(self._handle, self._torn)
            self._torn = None

    def sync(self) -> None:
        with using(self.path):
            os.fsync(self._handle)

    def in_place(self) -> bool:
        """Whether what is open is what the path names: false once the folder was removed,
        even if it was made anew."""
        with using(self.path):
            try:
                return os.path.samestat(os.fstat(self._handle), os.lstat(self.path))
            except FileNotFoundError:
                return False

    def close(self) -> None:
        """May be called again: an attempt that could not end is given up, too."""
        if not self.closed:
            self.closed = True
            os.close(self._handle)


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The journal's entries, and the length in bytes of the part that holds them.

    Bad lines at the end are what a kill or a power cut leaves, and are not entries. A bad
    line with a good one after it is damage: CorruptRecord."""
    with using(path):
        try:
            lines = content_of(path).split(b"\n")[:-1]  # What follows the last newline is torn.
        except FileNotFoundError:
            return [], 0
        except ValueError as fault:
            raise CorruptRecord(f"{path}: {fault}") from fault
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
            raise CorruptRecord(f"{path}:{damaged}: this line was changed after it was written")
        entries.append(entry)
        sound = offset
    return entries, sound


def last(path: Path) -> dict[str, Any] | None:
    """The journal's last entry without a look at the others; None where that is none."""
    with using(path):
        try:
            with reading(path) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL_BYTES))
                lines = file.read().split(b"\n")
        except (FileNotFoundError, ValueError):
            return None
    try:
        return unseal(lines[-2]) if lines[-1] == b"" and len(lines) > 1 else None
    except ValueError:
        return None


def current(entries: Iterable[Entry]) -> list[Entry]:
    """Those of the training that the trial's files are of: since an attempt began it anew,
    unless a later one went back to what there was before."""
    kept: list[Entry] = []
    before: list[Entry] = []  # the last training that came to a result
    for entry in entries:
        if entry["kind"] in ("anew", "back"):
            others = [it for it in kept if it["attempt"] != entry["attempt"]]
            own = [it for it in kept if it["attempt"] == entry["attempt"]]
            if entry["kind"] == "back":
                others = before
            elif not is_unfinished_anew(others):
                before = others
            kept = own if entry["kind"] == "anew" else [*others, *own]
        kept.append(entry)
    return kept


def set_aside_by(entries: Iterable[Entry]) -> int | None:
    """The attempt that last set a training aside, or began anew, and to which none went back."""
    by = None
    for entry in entries:
        if entry["kind"] in ("aside", "anew"):
            by = entry["attempt"]
        elif entry["kind"] == "back":
            by = None
    return by


def begun_anew(entries: Iterable[Entry]) -> bool:
    """Whether the training was begun anew and has come to no result since."""
    return is_unfinished_anew(current(entries))


def is_unfinished_anew(now: Sequence[Entry]) -> bool:
    anew = [position for position, entry in enumerate(now) if entry["kind"] == "anew"]
    return bool(anew) and not is_done(now[anew[-1] :])


def is_done(entries: Iterable[Entry]) -> bool:
    return any(entry.get("state") == "done" for entry in entries)


def came_to_result(entries: Iterable[Entry], evaluation_id: str) -> bool:
    """Whether an attempt under this evaluation ended with a result."""
    own: set[int] = set()
    for entry in entries:
        if entry["kind"] == "start" and entry["evaluation_id"] == evaluation_id:
            own.add(entry["attempt"])
        elif entry.get("state") == "done" and entry["attempt"] in own:
            return True
    return False


def history(entries: Iterable[Entry]) -> tuple[Measurement, ...]:
    """The measurements of all attempts as one course of training, by ascending cost.

    A later attempt replaces what earlier ones measured beyond the cost it starts at: one
    that continues from a checkpoint replaces the little that came after it, one that
    starts afresh everything. At equal cost the later values win and others stay, so that
    evaluating again adds to a trial's last point. Lines of an attempt that come after the
    start of the next are late and do not count."""
    return tuple(measured for measured, _ in course(entries))


def contributors(entries: Iterable[Entry]) -> set[int]:
    """The attempts of whose measurements something is left in the history."""
    return set().union(*(attempts for _, attempts in course(entries)))


def course(entries: Iterable[Entry]) -> list[tuple[Measurement, set[int]]]:
    """The history; with each point the attempts that its values are of."""
    kept: list[tuple[Measurement, set[int]]] = []
    latest = 0
    for entry in current(entries):
        if entry["kind"] == "start":
            latest = max(latest, entry["attempt"])
        elif entry["kind"] == "measure" and entry["attempt"] == latest:
            new = measurement(entry)
            values: dict[str, float] = {}
            attempts = {latest}
            while kept and kept[-1][0].attempt < latest and kept[-1][0].cost >= new.cost:
                old, others = kept.pop()
                if old.cost == new.cost:
                    attempts |= others if old.values.keys() - new.values.keys() else set()
                    values = {**old.values, **values}
            kept.append((replace(new, values={**values, **new.values}), attempts))
    return kept


def measurement(entry: Entry) -> Measurement:
    return Measurement(
        cost=float(entry["cost"]),
        values=unspell(entry["values"]),
        at=entry["at"],
        attempt=entry["attempt"],
    )


def until_last(entries: list[dict[str, Any]], evaluation_id: str) -> list[dict[str, Any]]:
    """What had happened when the last attempt under this evaluation ended that came to a
    result, if one did, else the last at all. Evaluating a trial in another way later is no part
    of this one's history, and neither is an attempt whose result did not replace it."""
    last = done = 0
    inside = False
    for position, entry in enumerate(entries, 1):
        if entry["kind"] == "start":
            inside = entry["evaluation_id"] == evaluation_id
        if inside:
            last = position
            done = position if entry.get("state") == "done" else done
    return entries[: done or last]


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


def totals(entries: Sequence[Entry]) -> dict[str, Any]:
    """What all attempts took: {"updates", "seconds", "gpu_hours", "measurements", "done"};
    of one that was killed, until its last line. Where it is known, also the greatest of each
    of PEAKS, the last `progress`, and whether attempts went on where earlier ones had stopped
    (`continues`). `done`: under some evaluation there is a result. Where a training was begun
    anew, `now` is the same of what was done since: the rest is paid and is no more."""
    now = current(entries)
    found = summed(entries)
    if any(entry["kind"] in ("anew", "back") for entry in entries):
        found |= {"now": summed(now)}
    return found


def summed(entries: Sequence[Entry]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "updates": updates_made(entries),
        "seconds": seconds_spent(entries)["seconds"],
        "gpu_hours": gpu_hours(entries),
        "measurements": sum(entry["kind"] == "measure" for entry in entries),
        "done": is_done(entries),
    }
    if (continues := goes_on(entries)) is not None:
        found |= {"continues": continues}
    for peak in PEAKS:
        known = [entry[peak] for entry in entries if peak in entry]
        found |= {peak: max(known)} if known else {}
    shares = (entry["values"].get(PROGRESS) for entry in entries if entry["kind"] == "measure")
    known = [float(share) for share in shares if share is not None and 0 < float(share) <= 1]
    return found | ({PROGRESS: known[-1]} if known else {})


def gpu_hours(entries: Iterable[Entry]) -> float:
    """The hours of each attempt times the GPUs, or the share of one, that it held."""
    gpus: dict[int, float] = {}
    seconds: dict[int, float] = {}
    for entry in entries:
        if entry["kind"] == "start":
            gpus[entry["attempt"]] = entry.get("gpus", 0.0)
        elif "seconds" in entry:
            seconds[entry["attempt"]] = entry["seconds"]
    return sum(gpus.get(attempt, 0.0) * spent for attempt, spent in seconds.items()) / 3600


def updates_made(entries: Iterable[Entry]) -> float:
    """Of all attempts, what was made twice counted twice: one that starts afresh counts from
    nothing, one that continues from the last cost before its own first. 0 where the trainer
    counts none."""
    turned = {e["attempt"]: e["kind"] for e in entries if e["kind"] in ("anew", "back")}
    made = 0.0
    earlier: list[float] = []
    before: list[float] = []
    for attempt, own in costs_of(entries).items():
        if turned.get(attempt) == "anew":
            before, earlier = earlier or before, []
        elif turned.get(attempt) == "back":
            earlier = before
        made += own[-1] - max((cost for cost in earlier if cost <= own[0]), default=0.0)
        earlier = [*earlier, *own]
    return made


def goes_on(entries: Iterable[Entry]) -> bool | None:
    """Whether the last attempt that followed another began where that had come to, or near
    it; False where it began from nothing, None where there was none, or no cost is counted."""
    costs = list(costs_of(entries).values())
    if len(costs) < 2:
        return None
    if costs[-1][0] > costs[0][0]:
        return True
    # One that was stopped at its first measurement may not have kept a checkpoint yet.
    return False if costs[-2][-1] > costs[0][0] else None


def costs_of(entries: Iterable[Entry]) -> dict[int, list[float]]:
    """Attempt -> the updates at which it measured."""
    costs: dict[int, list[float]] = {}
    for entry in entries:
        if entry["kind"] == "measure" and COST in entry["values"]:
            costs.setdefault(entry["attempt"], []).append(float(entry["values"][COST]))
    return costs
