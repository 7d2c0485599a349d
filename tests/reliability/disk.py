"""A disk that fails at a call that was chosen, or that remembers what it was asked for.

Every call of this process that changes what lies below a folder is counted: files made and
written to (also those of Python's `open`, when their buffers are flushed), synced, cut, renamed,
linked, dated and removed; folders made, synced and removed. At the n-th of them the process is
killed, or the call fails. `install` has to come before what is tested is imported.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

# kill: SIGKILL before the call, a write after half of its bytes. ENOSPC, EIO: the call fails.
# short: a write says that it wrote half. After ENOSPC and short there is no room any more.
KINDS = ("kill", "ENOSPC", "EIO", "short")
NEEDS_ROOM = {"create", "write", "mkdir", "link"}

Operation = tuple[Any, ...]
REAL = {
    name: getattr(os, name)
    for name in (
        *("open", "write", "fsync", "replace", "rename", "link", "ftruncate", "utime"),
        *("unlink", "remove", "mkdir", "rmdir"),
    )
}
REAL_OPEN = io.open
WRITING = os.O_WRONLY | os.O_RDWR


class Disk:
    """What is below `root`. Has state because it counts; `operations` are those that were
    carried out, for `power.py`."""

    def __init__(self, root: Path, kind: str = "", at: int = 0):
        self.root, self.kind, self.at = os.path.realpath(root), kind, at
        self.count = 0
        self.names: list[str] = []  # of the calls
        self.failed: tuple[str, str] | None = None  # the call that did, and its path
        self.full = False
        self.operations: list[Operation] = []

    def holds(self, path: str) -> bool:
        return path == self.root or path.startswith(f"{self.root}/")

    def step(self, name: str, path: str) -> None:
        """Counts a call, which may be the last."""
        self.count += 1
        self.names.append(name)
        if self.full and name in NEEDS_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if self.count != self.at:
            return
        self.failed = name, path
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self.full = self.kind != "EIO"
        code = errno.EIO if self.kind == "EIO" else errno.ENOSPC
        raise OSError(code, os.strerror(code), path)

    def write(self, handle: int, content: bytes) -> int:
        path, now = place_of(handle), self.count + 1
        half = now == self.at and self.kind in ("kill", "short") and len(content) > 1
        if half and not self.full:
            written = REAL["write"](handle, content[: len(content) // 2])
            if self.kind == "short":
                self.count, self.full, self.failed = now, True, ("write", path)
                self.names.append("write")
                return written
        try:
            self.step("write", path)
        except OSError as fault:
            raise OSError(fault.errno, fault.strerror) from None  # A write does not know its path.
        offset = start_of(handle)
        written = REAL["write"](handle, content)
        self.keep("write", os.fstat(handle).st_ino, offset, content[:written])
        return written

    def keep(self, *operation: Any) -> None:
        self.operations.append(operation)


DISK: Disk | None = None


def put_in(disk: Disk | None) -> None:
    """What the calls of this process go to from here on."""
    global DISK
    DISK = disk


def say(what: str, value: Any) -> None:
    """Something that was acknowledged, in its place among the operations."""
    if DISK is not None:
        DISK.keep("ack", what, value)


def place_of(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")


def start_of(handle: int) -> int:
    import fcntl

    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_APPEND:
        return os.fstat(handle).st_size
    return os.lseek(handle, 0, os.SEEK_CUR)


def full_path(path: Any, dir_fd: int | None = None) -> str:
    if isinstance(path, int):
        return place_of(path)
    path = os.fsdecode(path)
    if dir_fd is not None:
        path = f"{place_of(dir_fd)}/{path}"
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(parent), name)


# ---- the calls


def open_(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    if DISK is None or not flags & (os.O_CREAT | os.O_TRUNC) or not flags & WRITING:
        return REAL["open"](path, flags, mode, dir_fd=dir_fd)
    place = full_path(path, dir_fd)
    new = not os.path.lexists(place)
    cut = not new and bool(flags & os.O_TRUNC)
    if not DISK.holds(place) or not (new or cut) or flags & os.O_TMPFILE == os.O_TMPFILE:
        return REAL["open"](path, flags, mode, dir_fd=dir_fd)
    DISK.step("create" if new else "truncate", place)
    handle = REAL["open"](path, flags, mode, dir_fd=dir_fd)
    number = os.fstat(handle).st_ino
    DISK.keep("create", place, number) if new else DISK.keep("truncate", number, 0)
    return handle


def write(handle: int, content: Any) -> int:
    if DISK is None or not DISK.holds(place_of(handle)) or place_of(handle).endswith("(deleted)"):
        return REAL["write"](handle, content)
    return DISK.write(handle, bytes(content))


def fsync(handle: int) -> None:
    above = DISK is not None and place_of(handle) == os.path.dirname(DISK.root)
    if DISK is not None and (above or DISK.holds(place_of(handle))):
        DISK.step("fsync", place_of(handle))
        about = os.fstat(handle)
        folder = stat.S_ISDIR(about.st_mode)
        DISK.keep(*(("sync folder", place_of(handle)) if folder else ("sync", about.st_ino)))
    REAL["fsync"](handle)


def ftruncate(handle: int, size: int) -> None:
    if DISK is not None and DISK.holds(place_of(handle)) and os.fstat(handle).st_size != size:
        DISK.step("truncate", place_of(handle))
        DISK.keep("truncate", os.fstat(handle).st_ino, size)
    REAL["ftruncate"](handle, size)


def two(name: str) -> Callable[..., None]:
    """A call with an old and a new name."""

    def call(old: Any, new: Any, **more: Any) -> None:
        assert not more, more
        places = full_path(old), full_path(new)
        kind = "rename" if name == "replace" else name
        counts = DISK is not None and DISK.holds(places[1])
        if counts:
            DISK.step(kind, places[1])
        REAL[name](old, new)
        if counts:
            DISK.keep(kind, *places)

    return call


def one(name: str) -> Callable[..., None]:
    """A call with one name."""

    def call(path: Any, *arguments: Any, **more: Any) -> None:
        kind = "unlink" if name == "remove" else name
        place = full_path(path, more.get("dir_fd")) if DISK is not None else ""
        counts = DISK is not None and DISK.holds(place)
        if counts and kind == "mkdir" and os.path.lexists(place):
            counts = False  # There is nothing to be done.
        if counts and kind in ("unlink", "rmdir", "utime") and not os.path.lexists(place):
            counts = False
        if counts:
            DISK.step(kind, place)
        REAL[name](path, *arguments, **more)
        if counts and kind != "utime":  # Of a date nothing is said here.
            DISK.keep(kind, place)

    return call


class Counted(io.FileIO):
    """A file of Python's `open`, to which the disk listens."""

    def write(self, some: Any) -> int:
        return write(self.fileno(), some)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        ftruncate(self.fileno(), size)
        return size


def opened(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    if DISK is None or not set(mode) & set("wax+"):
        return REAL_OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
    if not DISK.holds(full_path(file)):
        return REAL_OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
    bare = mode.replace("b", "").replace("t", "")
    opener = opener or (lambda path, flags: os.open(path, flags, 0o666))
    raw = Counted(file, bare, closefd, None if isinstance(file, int) else opener)
    if buffering == 0:
        return raw
    buffered = (io.BufferedRandom if "+" in bare else io.BufferedWriter)(raw)
    if "b" in mode:
        return buffered
    return io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)


def install() -> None:
    os.open, os.write, os.fsync, os.ftruncate = open_, write, fsync, ftruncate
    for name in ("replace", "rename", "link"):
        setattr(os, name, two(name))
    for name in ("unlink", "remove", "mkdir", "rmdir", "utime"):
        setattr(os, name, one(name))
    builtins.open = io.open = opened
    io.FileIO = Counted
