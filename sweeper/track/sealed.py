"""A mapping in; one line of JSON that carries its own checksum out, and back.

Journal lines, leases, results and manifests are all written this way, so a torn write, a
flipped bit or an edit by hand is seen by whoever reads them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from sweeper.errors import EnvironmentFault

CHECKSUM = b',"checksum":"'
LINKED = "it is a link, which is not followed"


def seal(fields: Mapping[str, Any]) -> bytes:
    """One line without its newline. NaN and infinities are not JSON: see `spell`."""
    assert fields, "an empty mapping says nothing"
    body = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
    return body[:-1] + CHECKSUM + checksum(body).encode() + b'"}'


def unseal(line: bytes) -> dict[str, Any]:
    """What was sealed. Raises ValueError if a byte of it is not what was written."""
    body, mark, tail = line.rpartition(CHECKSUM)
    body += b"}"
    if not mark or tail != checksum(body).encode() + b'"}':
        raise ValueError("the checksum does not match")
    return json.loads(body)


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def spell(values: Mapping[str, float]) -> dict[str, float | str]:
    """Metrics as JSON can hold them: {"loss": nan} -> {"loss": "nan"}."""
    numbers = {str(key): float(value) for key, value in values.items()}
    return {key: x if math.isfinite(x) else str(x) for key, x in numbers.items()}


def unspell(values: Mapping[str, float | str]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items()}


@contextlib.contextmanager
def using(path: Path | str) -> Iterator[None]:
    """What the file system refuses, as the fault of the place where the store is."""
    try:
        yield
    except OSError as fault:
        raise EnvironmentFault(f"cannot use {path}: {fault.strerror or fault}") from fault


@contextlib.contextmanager
def reading(path: Path | str) -> Iterator[BinaryIO]:
    """A file of ours, opened. Raises ValueError for what is none: a link, which somebody may
    have planted, or a pipe, which would keep its reader waiting."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as fault:
        if fault.errno == errno.ELOOP and os.path.islink(path):
            raise ValueError(LINKED) from fault
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("it is not a file")
    with open(handle, "rb") as file:
        yield file


def content_of(path: Path | str) -> bytes:
    with reading(path) as file:
        return file.read()


def names_in(folder: Path) -> list[str]:
    """Those that are there now; none where the folder is not. Asked of one name that is not
    there, a file server's client says so for a while after another machine has made it."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def make(folder: Path) -> None:
    """With the folders above it, each so that it survives a power cut."""
    try:
        missing = []
        for place in (folder, *folder.parents):
            if place.is_dir():
                break
            missing.append(place)
        for place in reversed(missing):
            place.mkdir(exist_ok=True)
            sync_folder(place.parent)
    except OSError as fault:
        raise EnvironmentFault(f"cannot make the folder {folder}: {fault}") from fault


def write_whole(path: Path, content: bytes) -> None:
    """All of `content` at `path`, durably, or the file that was there before.

    The temporary file is new, in the same folder, and never a link that somebody planted."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        sync_folder(path.parent)
    except OSError as fault:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise EnvironmentFault(f"cannot write {path} ({len(content)} bytes): {fault}") from fault


def sync_folder(folder: Path) -> None:
    """Makes what was made, renamed or removed in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
