"""The design that a run had in, a snapshot; a sealed file for each sweep and variant out, and
back.

    <root>/sweeps/<name>.<variant>.json

What a plan says of the last run comes from here, and which trials somebody needs where a
store is cleaned. To a run a file that cannot be believed is as one that is not there.
"""

from __future__ import annotations

from pathlib import Path

from sweeper.changes import Snapshot
from sweeper.errors import CorruptRecord, EnvironmentFault
from sweeper.track.sealed import seal, unseal, write_whole


def keep(root: Path, snapshot: Snapshot) -> None:
    """Raises EnvironmentFault where it cannot be written."""
    path = path_of(root, snapshot.sweep, snapshot.variant)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise EnvironmentFault(f"cannot make the folder {path.parent}: {fault}") from fault
    write_whole(path, seal(snapshot.as_json()) + b"\n")


def kept(root: Path, sweep: str, variant: str) -> Snapshot | None:
    """That of the last run of the sweep; None before a first one.
    Raises CorruptRecord for what cannot be believed."""
    path = path_of(root, sweep, variant)
    snapshot = read(path)
    if snapshot is not None and (snapshot.sweep, snapshot.variant) != (sweep, variant):
        raise CorruptRecord(
            f"{path}: this is the snapshot of {snapshot.sweep} · {snapshot.variant}"
        )
    return snapshot


def all_kept(root: Path) -> tuple[list[Snapshot], list[str]]:
    """Those of all sweeps, the latest run first, and what is wrong with files that cannot be
    read."""
    found, wrong = [], []
    for path in sorted((root / "sweeps").glob("[!.]*.json")):
        try:
            snapshot = read(path)
        except CorruptRecord as fault:
            wrong.append(str(fault))
            continue
        if snapshot is not None:
            found.append(snapshot)
    return sorted(found, key=lambda snapshot: -snapshot.at), wrong


def read(path: Path) -> Snapshot | None:
    try:
        return Snapshot.from_json(unseal(path.read_bytes().rstrip(b"\n")))
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise CorruptRecord(f"cannot read {path}: {fault.strerror or fault}") from fault
    except (ValueError, KeyError, TypeError) as fault:
        raise CorruptRecord(f"{path}: {fault or 'not a snapshot'}") from fault


def path_of(root: Path, sweep: str, variant: str) -> Path:
    return root / "sweeps" / f"{sweep}.{variant}.json"
