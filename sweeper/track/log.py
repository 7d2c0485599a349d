"""A trial's log in; its lines, as a terminal may show them, out. A log holds whatever a
trainer and its libraries printed, and may be growing."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from sweeper.errors import EnvironmentFault
from sweeper.track.sealed import using

POLL_SECONDS = 0.3
BLOCK = 65_536

# What moves a cursor, starts an escape sequence or turns the direction of writing.
UNSEEN = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    code: f"\\u{code:04x}"
    for code in (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
}
del UNSEEN[ord("\t")]


def visible(line: str) -> str:
    """Control characters as the escapes by which Python writes them."""
    return line.translate(UNSEEN)


def lines(path: Path, last: int | None = None) -> list[str]:
    """The lines of a log, or the `last` of them; none where there is no log."""
    with reading(path) as file:
        whole = cut(ending(file, last)) if file else [b""]
    if not whole[-1]:
        whole.pop()
    return [shown(line) for line in latest(whole, last)]


def follow(path: Path, running: Callable[[], bool], last: int | None = None) -> Iterator[str]:
    """Lines as they come, from the `last` that are there already, until what writes them is
    not `running` any more. What a progress bar writes over is a line each time."""
    file: BinaryIO | None = None
    rest = b""
    with contextlib.ExitStack() as opened:
        while True:
            goes_on = running()  # Asked first: what was written before it ended is read.
            if file is None or not in_place(file, path):
                file, rest = opened.enter_context(reading(path)), b""
                content = ending(file, last) if file else b""
                keep, last = last, None  # One made anew is read from its beginning.
            else:
                content, keep = rest + file.read(), None
            if content.endswith(b"\r") and goes_on:  # A line's end may be half there.
                whole, rest = [], content
            else:
                *whole, rest = cut(content)
            yield from map(shown, latest(whole, keep))
            if not goes_on:
                break
            time.sleep(POLL_SECONDS)
    if rest:
        yield shown(rest)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[BinaryIO | None]:
    """The log, opened; None where there is none. Never another file that a link names, and
    never a pipe, which would keep its reader waiting."""
    with using(path):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            handle = None
    if handle is None:
        yield None
        return
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise EnvironmentFault(f"{path} is not a file")
        yield file


def in_place(file: BinaryIO, path: Path) -> bool:
    """False once the log was removed, even if it was made anew."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
    except FileNotFoundError:
        return False


def ending(file: BinaryIO, last: int | None) -> bytes:
    """The end of a file that holds at least the `last` lines; all of it for None. A log of
    gigabytes is not read for twenty lines."""
    if last is None:
        return file.read()
    size, window = file.seek(0, os.SEEK_END), BLOCK
    while True:
        file.seek(max(0, size - window))
        found = file.read()
        if window >= size or len(cut(found)) > last + 1:
            return found
        window *= 4


def cut(content: bytes) -> list[bytes]:
    return re.split(rb"\r\n|\r|\n", content)


def latest(whole: list[bytes], last: int | None) -> list[bytes]:
    return whole if last is None else whole[max(0, len(whole) - last) :]


def shown(line: bytes) -> str:
    return visible(line.decode("utf-8", "backslashreplace"))
