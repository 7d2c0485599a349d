"""What a disk was asked for in; what may be on it after a power cut at any moment out.

Only a sync makes something last: that of a file its content, that of a folder the names in it,
each of them alone. Of what was asked for since, a file system may have done any part in any
order: of a file's content nothing, half, all, or the length with zeros in it; of names none,
all, all but one, or only one. (Pillai et al. 2014, All File Systems Are Not Created Equal.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

CONTENTS = ("lost", "half", "zeros", "all")
Names = dict[str, Any]  # path -> the number of a file; None for a folder


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`said`: what had been acknowledged before the cut."""

    files: dict[str, bytes]
    folders: frozenset[str]
    said: list[tuple[str, Any]]
    what: str


@dataclass(slots=True)
class File:
    synced: bytes = b""
    pending: list[tuple[str, int, bytes]] = field(default_factory=list)

    def content(self, how: str) -> bytes:
        whole = self.synced
        todo = {"lost": [], "half": self.pending, "zeros": self.pending, "all": self.pending}[how]
        if how == "half":
            todo = halved(todo)
        for kind, at, content in todo:
            content = bytes(len(content)) if how == "zeros" else content
            if kind == "truncate":
                whole = whole[:at].ljust(at, b"\0")
            else:
                whole = whole[:at].ljust(at, b"\0") + content + whole[at + len(content) :]
        return whole


@dataclass(slots=True, eq=False)
class Change:
    """Of names: `what` is an operation."""

    what: tuple[Any, ...]
    synced: bool = False

    @property
    def folders(self) -> list[str]:
        """Those in which something has another name then."""
        kind, *paths = self.what
        return [os.path.dirname(it) for it in paths[: 2 if kind in ("rename", "link") else 1]]

    @property
    def place(self) -> str:
        return self.folders[-1]


def halved(todo: list[tuple[str, int, bytes]]) -> list[tuple[str, int, bytes]]:
    """The first half of what was written, in bytes."""
    left = sum(len(content) for _, _, content in todo) // 2
    kept = []
    for kind, at, content in todo:
        kept.append((kind, at, content[:left]))
        left -= len(content)
        if left < 0:
            break
    return kept


def states(operations: Sequence[Any], root: str) -> Iterator[State]:
    """Every state after each of the operations, each once."""
    seen: set[Any] = set()
    files: list[File] = []
    numbers: dict[int, int] = {}  # of the file system -> which of `files`
    lasting: Names = {os.path.dirname(root): None}
    waiting: list[Change] = []  # for the sync of a folder
    said: list[tuple[str, Any]] = []
    for position, (kind, *about) in enumerate(operations):
        if kind == "ack":
            said.append((about[0], about[1]))
        elif kind == "create":
            files.append(File())
            numbers[about[1]] = len(files) - 1
            waiting.append(Change(("create", about[0], len(files) - 1)))
        elif kind == "write":
            files[numbers[about[0]]].pending.append(("write", about[1], about[2]))
        elif kind == "truncate":
            files[numbers[about[0]]].pending.append(("truncate", about[1], b""))
        elif kind == "sync":
            file = files[numbers[about[0]]]
            file.synced, file.pending = file.content("all"), []
        elif kind == "sync folder":
            for change in waiting:
                change.synced |= about[0] in change.folders
            lasting, waiting = settled(lasting, waiting)
        else:
            waiting.append(Change((kind, *about)))
        for how, (which, some) in product(CONTENTS, choices(waiting)):
            names = applied(lasting, some)
            there = {path: files[it].content(how) for path, it in names.items() if it is not None}
            folders = frozenset(path for path, it in names.items() if it is None)
            mark = (tuple(sorted(there.items())), folders, len(said))
            if mark in seen:
                continue
            seen.add(mark)
            what = f"cut after {position} ({kind} {about[0]}), content {how}, names {which}"
            yield State(files=there, folders=folders, said=list(said), what=what)


def settled(lasting: Names, waiting: Sequence[Change]) -> tuple[Names, list[Change]]:
    """What was synced lasts, where the folder that it is in does; what is still to come."""
    while True:
        ready = [it for it in waiting if it.synced and it.place in lasting]
        if not ready:
            return lasting, list(waiting)
        lasting = applied(lasting, [it.what for it in ready])
        waiting = [it for it in waiting if it not in ready]


def choices(waiting: Sequence[Change]) -> Iterator[tuple[str, list[Any]]]:
    """Which of the changes of names are there; those that were synced are, with their folder."""
    open_ones = [it for it in waiting if not it.synced]
    sets: list[tuple[str, list[Change]]] = [("none", []), ("all", open_ones)]
    for one in open_ones:
        said = " ".join(map(str, one.what[:2]))
        sets.append((f"all but {said}", [it for it in open_ones if it is not one]))
        sets.append((f"only {said}", [one]))
    for said, some in sets:
        yield said, [it.what for it in waiting if it.synced or it in some]


def applied(names: Names, changes: Sequence[Any]) -> Names:
    """What is left out by a missing folder, or is not there to be renamed, is left out."""
    now = dict(names)
    for kind, path, *more in changes:
        target = more[0] if kind in ("rename", "link") else path
        if os.path.dirname(target) not in now:
            continue
        if kind == "create":
            now[path] = more[0]
        elif kind == "mkdir":
            now[path] = None
        elif kind == "unlink":
            now.pop(path, None)
        elif kind == "rmdir":
            if not any(it.startswith(f"{path}/") for it in now):
                now.pop(path, None)
        elif path in now:
            moved = {it: now[it] for it in now if it == path or it.startswith(f"{path}/")}
            if kind == "rename":
                for it in moved:
                    del now[it]
            for it, what in moved.items():
                now[target + it[len(path) :]] = what
    return now


def lay_down(state: State, root: Path) -> None:
    """The state, an hour ago: by the time that a machine is up again no lease is fresh."""
    for folder in sorted(state.folders):
        os.makedirs(folder, exist_ok=True)
    os.makedirs(root, exist_ok=True)
    for path, content in state.files.items():
        with open(path, "wb") as file:
            file.write(content)
        then = os.stat(path).st_mtime - 3600
        os.utime(path, (then, then))
