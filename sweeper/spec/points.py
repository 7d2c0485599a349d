"""The `include:` of a sweep file in; the points that it adds to the cross of the axes out.

include:
  - {dataset: Yahoo, model: language_model, seed: [0, 1, 2]}     a list crosses: three points

A name is an axis, and says one of its levels (of an axis in the short form, any value: it gets
that row or column), or a configuration key. An axis that is not named is absent.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from sweeper.errors import unknown
from sweeper.spec.levels import single
from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.section import label_of
from sweeper.spec.settings import settings
from sweeper.spec.sweep import Axis, Level, Point, Setting

MAX_POINTS = 20_000


def included(
    written: Iterable[Node], axes: Sequence[Axis], problems: Problems
) -> tuple[tuple[Axis, ...], tuple[Point, ...]]:
    """The axes, with the levels that only included points have; and the points. Each layer of
    a file adds its own."""
    known = {axis.name: Growing(axis) for axis in axes}
    points: list[Point] = []
    for node in written:
        if not node.is_list:
            problems.refuse(node.mark, f"include must be a list of points, not {node.kind}")
            continue
        for item in node.value:
            if not item.is_mapping or not item.value:
                problems.refuse(
                    item.mark,
                    f"a point is a mapping of axes and configuration keys, not {item.kind}",
                )
                continue
            points += crossed(item, known, problems, len(points))
    return tuple(growing.grown for growing in known.values()), tuple(points)


class Growing:
    """An axis while points are included. Its state is the levels that they add, and where
    each level is found: by its label and, in the short form, by its value (1.0 is the level
    1). There may be very many."""

    def __init__(self, axis: Axis):
        self.axis, self.added = axis, list(axis.added)
        self.found: dict[Hashable, Level] = {}
        for level in (*axis.levels, *axis.added):
            self.keep(level)

    def keep(self, level: Level) -> None:
        self.found.setdefault(level.label, level)
        if self.axis.plain:
            self.found.setdefault(value_key(level.set[self.axis.name].value), level)

    def add(self, level: Level) -> None:
        self.added.append(level)
        self.keep(level)

    def having(self, item: Node, label: str) -> Level | None:
        level = self.found.get(label)
        if level is None and self.axis.plain:
            level = self.found.get(value_key(item.value))
        return level

    @property
    def grown(self) -> Axis:
        return replace(self.axis, added=tuple(self.added))


def value_key(value: object) -> Hashable:
    """Equal for values that are one: 1 and 1.0, not 1 and true."""
    plain = isinstance(value, int | float | str) or value is None
    return (isinstance(value, bool), value if plain else repr(value))


def crossed(
    node: Node, known: dict[str, Growing], problems: Problems, before: int
) -> Iterator[Point]:
    said = dict(dotted(node, known))
    levels = {
        name: levels_of(name, said[name], known[name], problems) for name in known if name in said
    }
    rest = Node(
        value={key: child for key, child in said.items() if key not in known},
        mark=node.mark,
    )
    further = {
        key: alternatives(setting, problems) for key, setting in settings(rest, problems).items()
    }
    count = math.prod(len(some) for some in (*levels.values(), *further.values()))
    if count + before > MAX_POINTS:
        problems.stop(node.mark, f"include adds more than {MAX_POINTS:,} points")
    problems.count(count, node.mark)
    for choice in product(*levels.values()):
        for values in product(*further.values()):
            yield Point(
                levels=dict(zip(levels, choice, strict=True)),
                further=dict(zip(further, values, strict=True)),
                mark=node.mark,
            )


def dotted(node: Node, known: Collection[str], prefix: str = "") -> Iterator[tuple[str, Node]]:
    """What a point says, key by key: `kl: {schedule: linear}` says something of the axis
    `kl.schedule`."""
    for key, child in node.value.items():
        name = f"{prefix}{key}"
        inside = any(axis.startswith(f"{name}.") for axis in known)
        if child.is_mapping and name not in known and inside:
            yield from dotted(child, known, f"{name}.")
        else:
            yield name, child


def alternatives(setting: Setting, problems: Problems) -> list[Setting]:
    if not isinstance(setting.value, list):
        return [setting]
    if not setting.value:
        problems.refuse(setting.mark, "an empty list includes nothing")
    return [Setting(value=value, mark=setting.mark) for value in setting.value]


def levels_of(name: str, node: Node, growing: Growing, problems: Problems) -> list[Level]:
    items = node.value if node.is_list else (node,)
    if not items:
        problems.refuse(node.mark, f"an empty list includes no level of {name!r}")
    found: dict[str, Level] = {}
    for item in items:
        label = label_of(item)
        level = growing.having(item, label)
        if level is None and growing.axis.plain and not (item.is_list or item.is_mapping):
            level = single(name, item.value, label, item.mark)
            growing.add(level)
        if level is None:
            labels = growing.grown.labels
            problems.refuse(item.mark, unknown("level", label, labels, f" of axis {name}"))
        elif level.label in found:
            problems.refuse(item.mark, f"level {label!r} of axis {name!r} is here twice")
        else:
            found[level.label] = level
    return list(found.values())
