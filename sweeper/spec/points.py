"""The `include:` of a sweep file in; the points that it adds to the cross of the axes out.

include:
  - {dataset: Yahoo, model: language_model, seed: [0, 1, 2]}     a list crosses: three points

A name is an axis, and says one of its levels (of an axis in the short form, any value: it gets
that row or column), or a configuration key. An axis that is not named is absent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from sweeper.errors import unknown
from sweeper.spec.levels import single
from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.section import label_of
from sweeper.spec.settings import differ, settings
from sweeper.spec.sweep import Axis, Level, Point, Setting

MAX_POINTS = 100_000


def included(
    written: Iterable[Node], axes: Sequence[Axis], problems: Problems
) -> tuple[tuple[Axis, ...], tuple[Point, ...]]:
    """The axes, with the levels that only included points have; and the points. Each layer of
    a file adds its own."""
    known = {axis.name: axis for axis in axes}
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
    return tuple(known.values()), tuple(points)


def crossed(node: Node, known: dict[str, Axis], problems: Problems, before: int) -> Iterator[Point]:
    levels = {
        name: levels_of(name, node.value[name], known, problems)
        for name in known
        if name in node.value
    }
    rest = Node(
        value={key: child for key, child in node.value.items() if key not in known},
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


def alternatives(setting: Setting, problems: Problems) -> list[Setting]:
    if not isinstance(setting.value, list):
        return [setting]
    if not setting.value:
        problems.refuse(setting.mark, "an empty list includes nothing")
    return [Setting(value=value, mark=setting.mark) for value in setting.value]


def levels_of(name: str, node: Node, known: dict[str, Axis], problems: Problems) -> list[Level]:
    axis = known[name]
    items = node.value if node.is_list else (node,)
    if not items:
        problems.refuse(node.mark, f"an empty list includes no level of {name!r}")
    found = []
    for item in items:
        label = label_of(item)
        level = having(axis, item, label)
        if level is None and axis.plain and not (item.is_list or item.is_mapping):
            level = single(name, item.value, label, item.mark)
            known[name] = axis = replace(axis, added=(*axis.added, level))
        if level is None:
            problems.refuse(item.mark, unknown("level", label, axis.labels, f" of axis {name}"))
        elif level in found:
            problems.refuse(item.mark, f"level {label!r} of axis {name!r} is here twice")
        else:
            found.append(level)
    return found


def having(axis: Axis, item: Node, label: str) -> Level | None:
    """Of an axis in the short form by its value: 1.0 is the level 1."""
    for level in (*axis.levels, *axis.added):
        if level.label == label:
            return level
        if axis.plain and not differ(level.set[axis.name].value, item.value):
            return level
    return None
