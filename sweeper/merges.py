"""A sweep and its trials in; which points of the design came to one trial, and why, out.

one trial: model=LSTM-LM pooling=avg, pooling=max (pooling changes nothing here)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.design import points
from sweeper.spec.sweep import Point, Sweep, TableSpec
from sweeper.trial import Key, Trial, flatten, told

ABSENT = object()  # the value of a key that a level does not write
KEYS_SHOWN = 4
POINTS_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """Points that are one trial: the labels they share (`at`; of axes along all of whose
    levels it is so, none), the labels in which each of them differs, and why that makes no
    difference. `tables` show them as if they were several, in rows or columns of their own."""

    at: Mapping[str, str]
    points: tuple[Mapping[str, str], ...]
    why: str
    tables: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = [told(point) or "no label" for point in self.points[:POINTS_SHOWN]]
        more = len(self.points) - len(shown)
        which = ", ".join(shown) + (f" and {more} more" if more else "")
        apart = f"; shown apart in {', '.join(self.tables)}" if self.tables else ""
        return f"one trial: {' '.join(filter(None, [told(self.at), which]))} ({self.why}){apart}"

    def as_json(self) -> dict[str, Any]:
        return {
            "at": dict(self.at),
            "points": [dict(point) for point in self.points],
            "why": self.why,
            "tables": list(self.tables),
        }


def merges(sweep: Sweep, trials: Sequence[Trial]) -> tuple[Merge, ...]:
    """`trials` are those of the whole design, in its order. What holds along all levels of
    an axis, as a rule of all seeds, is said once."""
    if len({trial.key for trial in trials}) == len(trials):
        return ()
    groups: dict[Key, list[tuple[Point, Trial]]] = {}
    for (point, _), trial in zip(points(sweep), trials, strict=True):
        groups.setdefault(trial.key, []).append((point, trial))
    found = [merge(sweep, group) for group in groups.values() if len(group) > 1]
    return tuple(
        Merge(at=m.at, points=m.points, why=m.why, tables=tuple(shown_apart(sweep, m)))
        for m in gathered(sweep, found)
    )


def merge(sweep: Sweep, group: Sequence[tuple[Point, Trial]]) -> Merge:
    labels = [trial.labels for _, trial in group]
    first, trial = labels[0], group[0][1]
    apart = [
        axis.name
        for axis in sweep.axes
        if any(other.get(axis.name) != first.get(axis.name) for other in labels)
    ]
    return Merge(
        at={axis: label for axis, label in first.items() if axis not in apart},
        points=tuple({axis: other[axis] for axis in apart if axis in other} for other in labels),
        why=reason(sweep, [written(point, apart) for point, _ in group], trial),
    )


def written(point: Point, axes: Iterable[str]) -> dict[str, Any]:
    """What a point writes on some axes, and by itself: key -> value."""
    levels = [level.set for axis, level in point.levels.items() if axis in axes]
    return {key: s.value for some in (*levels, point.further) for key, s in some.items()}


def reason(sweep: Sweep, written: Sequence[Mapping[str, Any]], trial: Trial) -> str:
    """Of each key that the points write differently: whether the command line has the last
    word, whether the effective configuration is without it, or what it is there for all of
    them."""
    effective = flatten(trial.full_config) | {"seed": trial.seed}
    inert, said = [], []
    for key in differing(written):
        if key in sweep.overrides:
            said.append(f"--set {key}={sweep.overrides[key].value} holds for all")
        elif key in effective:
            said.append(f"{key} is {effective[key]} in all")
        else:
            inert.append(key)
    if inert:
        more = f" and {len(inert) - KEYS_SHOWN} more" if len(inert) > KEYS_SHOWN else ""
        changes = "changes" if len(inert) == 1 else "change"
        said.insert(0, f"{', '.join(inert[:KEYS_SHOWN])}{more} {changes} nothing here")
    return "; ".join(said) or "they write the same"


def differing(written: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for some in written for key in some)
    return [key for key in keys if len({repr(some.get(key, ABSENT)) for some in written}) > 1]


def gathered(sweep: Sweep, found: Sequence[Merge]) -> list[Merge]:
    """What is so at every level of an axis, in place of as many merges that say it."""
    for axis in sweep.axes:
        alike: dict[str, list[Merge]] = {}
        for one in found:
            rest = {name: label for name, label in one.at.items() if name != axis.name}
            alike.setdefault(repr((rest, one.points, one.why)), []).append(one)
        gathered = []
        for group in alike.values():
            labels = {one.at.get(axis.name) for one in group}
            if labels == set(axis.labels):
                rest = {name: x for name, x in group[0].at.items() if name != axis.name}
                gathered.append(Merge(at=rest, points=group[0].points, why=group[0].why))
            else:
                gathered += group
        found = gathered
    return list(found)


def shown_apart(sweep: Sweep, merged: Merge) -> Iterator[str]:
    for name, table in sweep.tables.items():
        places = {place for point in merged.points if (place := place_in(table, point)) is not None}
        pinned = all(merged.at.get(axis, label) == label for axis, label in table.where.items())
        if pinned and len(places) > 1:
            yield name


def place_in(table: TableSpec, point: Mapping[str, str]) -> tuple[str | None, ...] | None:
    """The labels by which a table has a row and a column for the point; None: it has none."""
    if any(point.get(axis, label) != label for axis, label in table.where.items()):
        return None
    row = point.get(table.rows)
    if row is not None and table.rows_only is not None and row not in table.rows_only:
        return None
    return (row, *(point.get(axis) for axis in table.columns))
