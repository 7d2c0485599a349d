"""The design that a run had, a snapshot; a sealed file for each sweep, variant and sweep file
out, and back.

    <root>/sweeps/<name>.<variant>.<of its file>.json          as it was run
    <root>/sweeps/<name>.<variant>.<of its file>.begun.json    as trials were probed or scored

What a plan says of the last run comes from here, and which trials somebody needs where a
store is cleaned. To a run a file that cannot be believed is as one that is not there. A sweep
file is known by its way from the store, so that both may be moved together.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from sweeper.errors import CorruptRecord, NewerFormat
from sweeper.snapshot import Snapshot
from sweeper.track.sealed import checksum, content_of, make, seal, unseal, write_whole


def keep(root: Path, snapshot: Snapshot) -> None:
    """Raises EnvironmentFault where it cannot be written. A run's design goes before that of
    what was begun until then."""
    path = path_of(root, snapshot.sweep, snapshot.variant, snapshot.source, snapshot.begun)
    make(path.parent)
    write_whole(path, seal(snapshot.as_json()) + b"\n")
    if not snapshot.begun:
        with contextlib.suppress(OSError):
            path.with_suffix(".begun.json").unlink()


def kept(root: Path, sweep: str, variant: str, source: str) -> Snapshot | None:
    """That of the last run of the sweep in the file `source`; of one that had its name and is
    not there any more, where there is none; None before a first one.
    Raises CorruptRecord for what cannot be believed."""
    path = path_of(root, sweep, variant, source)
    snapshot = read(path)
    if snapshot is None:
        return moved(root, sweep, variant)
    if (snapshot.sweep, snapshot.variant) != (sweep, variant):
        raise CorruptRecord(
            f"{path}: this is the snapshot of {snapshot.sweep} · {snapshot.variant}"
        )
    return snapshot


def moved(root: Path, sweep: str, variant: str) -> Snapshot | None:
    """The last run of a sweep whose file is not there any more."""
    found = [
        one
        for one in called(root, sweep)
        if one.variant == variant and not one.begun and not os.path.exists(one.source)
    ]
    return max(found, key=lambda snapshot: snapshot.at, default=None)


def namesakes(root: Path, sweep: str, source: str) -> list[str]:
    """The other sweep files of that name that were run here, and are there still."""
    sources = {one.source for one in called(root, sweep, but=source)}
    return sorted(filter(os.path.exists, sources))


def called(root: Path, sweep: str, but: str | None = None) -> Iterator[Snapshot]:
    """Those of sweeps of that name, but of the file `but`; the others are not even read."""
    own = f".{mark_of(root, but)}." if but is not None else "/"
    for path in (root / "sweeps").glob("[!.]*.json"):
        if path.name.startswith(f"{sweep}.") and own not in path.name:
            with contextlib.suppress(CorruptRecord):
                snapshot = read(path)
                if snapshot is not None and snapshot.sweep == sweep:
                    yield snapshot


def all_kept(root: Path) -> tuple[list[Snapshot], list[str]]:
    """Those of all sweeps, the latest run first, and what is wrong with files that cannot be
    read."""
    found, wrong = by_file(root)
    latest = sorted(found.values(), key=lambda snapshot: -snapshot.at)
    return latest, [str(fault) for fault in wrong.values()]


def by_file(root: Path) -> tuple[dict[Path, Snapshot], dict[Path, CorruptRecord]]:
    """Those of all sweeps by the file of each, and what is wrong with the other files."""
    found, wrong = {}, {}
    for path in sorted((root / "sweeps").glob("[!.]*.json")):
        try:
            snapshot = read(path)
        except CorruptRecord as fault:
            wrong[path] = fault
            continue
        if snapshot is not None:
            found[path] = snapshot
    return found, wrong


def damage(root: Path) -> dict[Path, str]:
    """What is wrong with files that cannot be believed; what a newer version wrote is sound."""
    return {
        path: str(fault).removeprefix(f"{path}: ")
        for path, fault in by_file(root)[1].items()
        if not isinstance(fault.__cause__, NewerFormat)
    }


def read(path: Path) -> Snapshot | None:
    try:
        return Snapshot.from_json(unseal(content_of(path).rstrip(b"\n")))
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise CorruptRecord(f"{path}: cannot be read: {fault.strerror or fault}") from fault
    except (ValueError, KeyError, TypeError) as fault:
        raise CorruptRecord(f"{path}: {fault or 'not a snapshot'}") from fault


def path_of(root: Path, sweep: str, variant: str, source: str, begun: bool = False) -> Path:
    name = f"{sweep}.{variant}.{mark_of(root, source)}{'.begun' * begun}.json"
    return root / "sweeps" / name


def mark_of(root: Path, source: str) -> str:
    """What tells a sweep file from others: a digest of the way to it from the store."""
    return checksum(os.path.relpath(source, root).encode())[:8]
