"""TABLE/ROW/COLUMN, as a person types it, and a table in; the place of one of its cells out.

A row and a column are named as the sweep file has their labels or as the table prints them, in
any case; what is needless to tell columns apart may be left out. Quotes hold a name together
that has a slash in it, and are needed only where it could be meant in another way.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from sweeper.errors import SpecError, quoted, unknown
from sweeper.tables.cells import Column, Row, Table

Name = TypeVar("Name", bound=Hashable)

KINDS = {
    "value": ("ours", "value"),
    "delta": ("delta",),
    "ratio": ("ratio",),
    "paper": ("paper",),
    "difference": ("diff", "difference"),
}
SHOWN = 12  # columns that a message lists


def split(path: str) -> tuple[str, ...]:
    """ "table3/'A/B'/With" -> table3, A/B, With"""
    parts, begun, closing = [""], False, ""
    for character in path:
        if closing:
            closing = "" if character == closing else closing
            parts[-1] += character if closing else ""
        elif character in "'\"" and not begun:
            closing = character
        elif character == "/":
            parts.append("")
            begun = False
            continue
        else:
            parts[-1] += character
        begun = True
    return tuple(filter(None, (part.strip() for part in parts)))


def joined(parts: Iterable[str]) -> str:
    """One path of the parts, in quotes what would be taken apart."""
    return "/".join(held(part) if "/" in part or part[:1] in "'\"" else part for part in parts)


def held(part: str) -> str:
    return f'"{part}"' if "'" in part else f"'{part}'"


def table_of(path: str, names: Iterable[str]) -> str | None:
    """The name among `names` that a path begins with."""
    parts = split(path)
    return match(parts[0], {name: (name,) for name in names}) if parts else None


def find(parts: Sequence[str], table: Table) -> tuple[int, int]:
    """Row and column, by what follows the table's name. Raises SpecError with what there is."""
    names = {i: (row.key, row.label) for i, row in enumerate(table.rows)}
    if not parts:
        raise SpecError(f"{table.name}: which row? one of {', '.join(keys(table.rows))}")
    i, rest = taken(parts, names)
    if i is None:
        raise SpecError(unknown("row", parts[0], keys(table.rows), f" of {table.name}"))
    return i, column(rest, table)


def column(parts: Sequence[str], table: Table) -> int:
    levels = {j: levels_of(it) for j, it in enumerate(table.columns)}
    fitting = list(levels)
    while parts:
        known = {name: (name,) for j in levels for names in levels[j] for name in names}
        name, rest = taken(parts, known)
        if name is None:
            names = {it[0] for j in levels for it in levels[j]}
            raise SpecError(unknown("column", parts[0], names, f" of {table.name}"))
        given, parts = "/".join(parts[: len(parts) - len(rest)]), rest
        kept = []
        for j in fitting:
            found = match(given, dict(enumerate(levels[j])))
            if found is not None:
                levels[j] = [names for k, names in enumerate(levels[j]) if k != found]
                kept.append(j)
        if not kept:
            there = "; ".join(columns(table, fitting))
            raise SpecError(f"{table.name}: {quoted(given)} is no part of {there}")
        fitting = kept
    own = [j for j in fitting if table.columns[j].kind == "value"] or fitting
    if len(own) > 1:
        raise SpecError(f"{table.name}: which column? one of {'; '.join(columns(table, own))}")
    return own[0]


def columns(table: Table, some: Sequence[int]) -> list[str]:
    more = [f"and {len(some) - SHOWN} more"] if len(some) > SHOWN else []
    return [*(joined(path(table, None, j)) for j in some[:SHOWN]), *more]


def path(table: Table, i: int | None, j: int) -> tuple[str, ...]:
    """The names that lead to a cell (or to a column), as the sweep file has them."""
    row = [] if i is None else [table.rows[i].key]
    it = table.columns[j]
    metrics = {other.metric.name for other in table.columns}
    named = [it.metric.name] if len(metrics) > 1 or not it.at else []
    own = it.kind == "value" or (it.kind == "delta" and is_level(it))
    return (*row, *it.at.values(), *named, *([] if own else KINDS[it.kind][:1]))


def every(table: Table) -> Iterator[str]:
    """The path of each cell."""
    for i in range(len(table.rows)):
        for j in range(len(table.columns)):
            yield joined((table.name, *path(table, i, j)))


def levels_of(column: Column) -> list[tuple[str, ...]]:
    """What a column may be called by: names for each of its parts."""
    printed = [text for text in column.path if text]
    levels: list[tuple[str, ...]] = []
    for label in column.at.values():
        levels.append((label, *printed[:1]))
        del printed[:1]
    metric = column.metric
    levels.append(tuple(filter(None, (metric.name, metric.label, metric.source))))
    words = [word for word in printed if word not in levels[-1]]
    levels.append((*KINDS[column.kind], *words))
    return levels


def is_level(column: Column) -> bool:
    """Whether a difference is a level of an axis: then its label names it."""
    return any(label in column.path for label in column.at.values())


def keys(rows: Sequence[Row]) -> list[str]:
    return [row.key for row in rows]


def taken(
    parts: Sequence[str], known: dict[Name, tuple[str, ...]]
) -> tuple[Name | None, Sequence[str]]:
    """What the first parts name, the most of them that name something, and the others."""
    for count in range(len(parts), 0, -1):
        found = match("/".join(parts[:count]), known)
        if found is not None:
            return found, parts[count:]
    return None, parts


def match(given: str, known: dict[Name, tuple[str, ...]]) -> Name | None:
    """What is called so: to the letter, or but for its case and its spaces."""
    for spelling in (str, folded):
        for name, spellings in known.items():
            if spelling(given) in map(spelling, spellings):
                return name
    return None


def folded(name: str) -> str:
    return " ".join(name.split()).casefold()
