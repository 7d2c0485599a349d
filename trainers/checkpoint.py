"""A folder and a training state in; the same state out, bit for bit, after any kill.

One file is one checkpoint: the SHA-256 of everything after it, one line of JSON that says
whose it is, then what torch wrote. A single rename makes it appear, the one before it is
kept, and a file that is short or altered anywhere is passed over.
"""

from __future__ import annotations

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


def save(folder: Path, epoch: int, state: dict[str, Any], owner: str) -> Path:
    """Write `state` as it is after `epoch` epochs, and keep the checkpoint before it.

    `owner` is a digest of all that training depends on; only it may load the state."""
    content = io.BytesIO()
    content.write(json.dumps({"owner": owner, "epoch": epoch}).encode() + b"\n")
    torch.save(state, content)
    body = content.getbuffer()
    path = folder / f"epoch-{epoch:06d}{SUFFIX}"
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        file.write(hashlib.sha256(body).hexdigest().encode())
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    flush(folder)
    keep = [path, *(older for older in newest_first(folder) if older < path)][:KEPT]
    for stale in set(newest_first(folder)) - set(keep):
        stale.unlink()
    return path


def load(folder: Path, owner: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest intact state, on the CPU, or None where there is none; and a note, in
    plain words, for each checkpoint that was passed over."""
    notes: list[str] = []
    for path in newest_first(folder):
        body = intact(path)
        if body is None:
            notes.append(f"{path} is damaged and was passed over")
            continue
        line, _, written = body.partition(b"\n")
        if json.loads(line)["owner"] != owner:
            raise ForeignCheckpoint(
                f"{path} was made under another configuration or seed; move the folder away"
            )
        return torch.load(io.BytesIO(written), map_location="cpu", weights_only=True), notes
    if notes:
        notes.append(f"no intact checkpoint in {folder}: training starts over")
    return None, notes


def intact(path: Path) -> bytes | None:
    """What follows the digest, if it has that digest."""
    content = path.read_bytes()
    digest, body = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return body if hashlib.sha256(body).hexdigest().encode() == digest else None


def newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"epoch-*{SUFFIX}"), reverse=True)


def flush(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
