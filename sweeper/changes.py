"""What is different between the design that a run had and the one of now, in words and for
programs. How it is found is in comparing.py.

since the run of 2026-11-25 14:02: 12 new (seed=3), 6 removed (model=iVAE)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sweeper.snapshot import Snapshot

LINE = 100  # columns up to which all is said in one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Trials to which one thing happened: `count` of them, and what they have in common or
    are (`of`: levels, or single points, `more` of which are not listed)."""

    count: int = 0
    of: tuple[str, ...] = ()
    more: int = 0

    def __str__(self) -> str:
        return ", ".join(self.of) + (f" and {self.more} more" if self.more else "")

    def as_json(self) -> dict[str, Any]:
        return {"count": self.count, "of": list(self.of), "more": self.more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What became of names in an order, of axes or of the levels of one: `renamed` is
    old -> new, `reordered` whether those that stay stand in another order."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    reordered: bool = False

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.renamed or self.reordered)

    def as_json(self) -> dict[str, Any]:
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "renamed": dict(self.renamed),
            "reordered": self.reordered,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """From the design of the run at `since` to that of now. `axes` is what became of the
    axes, `levels` of each axis's levels (by its name now). Of trials, by what they are:
    `new` and `removed` ones (of the new, `trained` are there under another evaluation),
    `rescored` (the same training, another evaluation), `changed` (another trial under the
    same labels), `renamed` (the same under a level's other label), `moved` (the same under
    other labels that no renaming explains), `again` and `less` (a further label for it, or
    one less). `kept` says at which level of an added (or removed) axis that is which there
    was (or is left); `idle` and `was_idle` are levels added and removed that no trial has."""

    since: Snapshot
    axes: Edit = Edit()
    levels: Mapping[str, Edit] = field(default_factory=dict)
    new: Group = Group()
    trained: int = 0
    changed: Group = Group()
    rescored: Group = Group()
    removed: Group = Group()
    renamed: Group = Group()
    moved: Group = Group()
    again: Group = Group()
    less: Group = Group()
    kept: Mapping[str, str] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    was_idle: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.parts())

    def parts(self) -> list[str]:
        """One for each thing that explains some of it."""
        said = [
            *(f"axis {axis} added{self.where(axis, 'what there was')}" for axis in self.axes.added),
            *(
                f"axis {axis} removed{self.where(axis, 'what is left')}"
                for axis in self.axes.removed
            ),
            *(f"axis {old} renamed to {new}" for old, new in self.axes.renamed.items()),
        ]
        if self.new.count:
            trained = "" if self.trained < self.new.count else ", to be scored only"
            some = f"; {self.trained} of them are trained"
            trained = some if 0 < self.trained < self.new.count else trained
            said.append(f"{self.new.count} new ({self.new}){trained}")
        if self.changed.count:
            said.append(
                f"{self.changed.count} changed ({self.changed}; other trials under these labels)"
            )
        if self.rescored.count:
            said.append(f"{self.rescored.count} scored in another way ({self.rescored})")
        if self.removed.count:
            said.append(
                f"{self.removed.count} removed ({self.removed}; their records stay until a gc)"
            )
        if self.renamed.count:
            said.append(f"{self.renamed.count} renamed ({self.renamed})")
        if self.moved.count:
            said.append(f"{self.moved.count} under other labels ({self.moved})")
        if self.again.count:
            said.append(f"{self.again.count} under one more label ({self.again})")
        if self.less.count:
            said.append(f"{self.less.count} under one label less ({self.less})")
        said += [f"order of {axis} changed" for axis, edit in self.levels.items() if edit.reordered]
        if self.axes.reordered:
            said.append("order of axes changed")
        said += [f"level {level} added, without a trial" for level in self.idle]
        said += [f"level {level} removed, which had no trial" for level in self.was_idle]
        return said

    def where(self, axis: str, what: str) -> str:
        return f" ({what} is at {axis}={self.kept[axis]})" if axis in self.kept else ""

    def lines(self) -> list[str]:
        parts = self.parts()
        if not parts:
            return [f"the same as in the run of {self.since.when}"]
        head = f"since the run of {self.since.when}: "
        whole = head + ", ".join(parts)
        return [whole] if len(whole) <= LINE else [head.rstrip(), *(f"  {part}" for part in parts)]

    def as_json(self) -> dict[str, Any]:
        groups = ("changed", "rescored", "removed", "renamed", "moved", "again", "less")
        return {
            "since": datetime.fromtimestamp(self.since.at, UTC).isoformat(timespec="seconds"),
            "source": self.since.source,
            "same": not self,
            "axes": self.axes.as_json() | {"kept": dict(self.kept)},
            "levels": {axis: edit.as_json() for axis, edit in self.levels.items()},
            "new": self.new.as_json() | {"trained": self.trained},
            **{name: getattr(self, name).as_json() for name in groups},
        }
