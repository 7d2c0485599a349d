"""Bytes, times and paths in; words for them out, and back where a person writes them."""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def bytes_in_words(count: float) -> str:
    """1536 -> "1.5 kB": powers of a thousand, as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def clock(at: float, seconds: bool = False) -> str:
    """A time since the epoch as a person here reads it: "2026-11-25 14:02"."""
    return time.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M", time.localtime(at))


def day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at))


def age_in_words(seconds: float) -> str:
    """In the largest unit of which there are at least two."""
    for name, unit in (("days", "d"), ("hours", "h"), ("minutes", "m")):
        if seconds >= 2 * SECONDS[unit]:
            return f"{seconds / SECONDS[unit]:.0f} {name}"
    return f"{max(seconds, 0):.0f} seconds"


def seconds_of(text: str) -> float:
    """ "7d" -> 604800. Raises ValueError for what is no such time."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if not found:
        raise ValueError(f"{text!r} is no time such as 7d, 12h or 30m")
    return float(found[1]) * SECONDS[found[2]]


def measured(path: Path) -> tuple[int, float]:
    """The bytes that a file, or a folder with all below it, has, and when the newest of its
    files was written. Links are not followed; what vanishes meanwhile has no size."""
    total, newest = 0, 0.0
    waiting = [path]
    while waiting:
        here = waiting.pop()
        try:
            found = here.lstat()
            if stat.S_ISDIR(found.st_mode):
                waiting += [here / name for name in os.listdir(here)]
            else:
                total += found.st_size
            newest = max(newest, found.st_mtime)
        except OSError:
            continue
    return total, newest
