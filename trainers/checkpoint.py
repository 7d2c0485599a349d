"""A folder and a training state in; the same state out, bit for bit, after any kill.

One file is one checkpoint: the SHA-256 of everything after it, one line of JSON that says
whose it is, then what torch wrote. A single rename makes it appear, the one before it is
kept, and a file that is short or altered anywhere is passed over. No link is followed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import torch

SUFFIX = ".checkpoint"
KEPT = 2
DIGEST_BYTES = 64  # in hexadecimal


class ForeignCheckpoint(Exception):
    """An intact checkpoint that another configuration or seed made."""


class UnreadableCheckpoint(Exception):
    """A checkpoint that is as it was written, and not what `save` writes. To pass it over
    would be to remove it with the next one: who put it there is to say what it is."""


def save(folder: Path, epoch: int, state: dict[str, Any], owner: str) -> Path:
    """Write `state` as it is after `epoch` epochs, and keep the checkpoint before it.

    `owner` is a digest of all that training depends on; only it may load the state. Raises
    OSError, and leaves what was there, where it cannot be written."""
    content = io.BytesIO()
    content.write(json.dumps({"owner": owner, "epoch": epoch}).encode() + b"\n")
    torch.save(state, content)  # To memory: it would hide that a disk is full.
    body = content.getbuffer()
    path = folder / f"epoch-{epoch:06d}{SUFFIX}"
    try:
        write(path, hashlib.sha256(body).hexdigest().encode(), body)
    except OSError as fault:
        size = DIGEST_BYTES + len(body)
        said = f"cannot write the checkpoint {path} ({size:,} bytes): {fault.strerror or fault}"
        raise OSError(fault.errno, said) from fault
    keep = [path, *(older for older in newest_first(folder) if older < path)][:KEPT]
    for stale in set(newest_first(folder)) - set(keep):
        stale.unlink()
    return path


def write(path: Path, digest: bytes, body: memoryview) -> None:
    """Durably and whole, or not at all. Whoever was killed here left an unfinished one."""
    if not newest_first(path.parent):
        make(path.parent)
    refuse_link(path.parent)
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        handle = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        with open(handle, "wb") as file:
            file.write(digest)
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()  # It would fill the disk still more.
        raise
    flush(path.parent)


def load(folder: Path, owner: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest intact state, on the CPU, or None where there is none; and a note, in
    plain words, for each checkpoint that was passed over. Nothing in it is run."""
    refuse_link(folder)
    notes: list[str] = []
    for path in newest_first(folder):
        body = intact(path)
        if body is None:
            notes.append(f"{path} is damaged and was passed over")
            continue
        line, _, written = body.partition(b"\n")
        if owner_of(path, line) != owner:
            raise ForeignCheckpoint(
                f"{path} was made under another configuration or seed; move the folder away"
            )
        return state_of(path, written), notes
    if notes:
        notes.append(f"no intact checkpoint in {folder}: training starts over")
    return None, notes


def owner_of(path: Path, line: bytes) -> str:
    try:
        return json.loads(line)["owner"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise refusal(path) from None


def state_of(path: Path, written: bytes) -> dict[str, Any]:
    try:
        found = torch.load(io.BytesIO(written), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:
        # Not what torch says: it advises to load the file by running what is in it.
        raise refusal(path) from None
    if not isinstance(found, dict):
        raise refusal(path)
    return found


def refusal(path: Path) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(
        f"{path} is whole, but holds other things than tensors, numbers and text, as no "
        "checkpoint of ours does, and was not loaded; move it away to continue without it"
    )


def intact(path: Path) -> bytes | None:
    """What follows the digest, if it has that digest, and lies here itself."""
    if path.is_symlink() or not path.is_file():
        return None
    content = path.read_bytes()
    digest, body = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return body if hashlib.sha256(body).hexdigest().encode() == digest else None


def newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"epoch-*{SUFFIX}"), reverse=True)


def make(folder: Path) -> None:
    """Each folder that is missing, so that it lasts through a power cut."""
    if not folder.is_dir():
        if not folder.parent.is_dir():
            make(folder.parent)
        folder.mkdir(exist_ok=True)
    flush(folder.parent)  # Also where it was made by somebody who was killed before this.


def refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        raise OSError(f"{folder} is a link, which is not followed: move it away")


def flush(folder: Path) -> None:
    """Make what was renamed or made in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
