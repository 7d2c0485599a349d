"""The layers of a sweep file in; its design under one profile out: what every trial starts
from, the axes, what is excluded from their cross and which points are included beside it.

What other profiles say is read, too: where that cannot be read, the file is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sweeper.errors import quoted
from sweeper.spec.axes import axes, labels_written
from sweeper.spec.conditions import Names, exclusions, faults, names, read_names
from sweeper.spec.layers import Layer, nodes
from sweeper.spec.points import included
from sweeper.spec.problems import Problems
from sweeper.spec.settings import (
    base_settings,
    check_conflicts,
    check_secrets,
    check_sections,
    check_seeds,
    line_of,
)
from sweeper.spec.sweep import Axis, Condition, Point, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """`labels` are those that each axis has in any file or profile."""

    base: Settings
    axes: tuple[Axis, ...]
    exclude: tuple[Condition, ...]
    include: tuple[Point, ...]
    labels: Mapping[str, tuple[str, ...]]


def designed(
    below: Sequence[Layer],
    variants: Mapping[str, list[Layer]],
    profile: str,
    given: Settings,
    problems: Problems,
) -> Design:
    """`below` are the file's own layers, `variants` those of its profiles, `given` what the
    command line sets."""
    labels = labels_written(below, *variants.values())
    lowest = first(below, problems) | written(below, problems)
    plainly = axes(nodes(below, "axes"), problems, labels=labels)
    excluded = [e for node in nodes(below, "exclude") for e in exclusions(node, problems)]
    designs: dict[str | None, Design] = {}
    for name, some in (variants or {None: []}).items():
        crossed = axes(nodes(some, "axes"), problems, plainly, profile=name, labels=labels)
        # The file's own points are of the profile that is asked for: another one may have
        # other levels.
        written_points = nodes([*(below if name == profile else []), *some], "include")
        crossed, points = included(written_points, crossed, problems)
        own = [e for node in nodes(some, "exclude") for e in exclusions(node, problems)]
        designs[name] = Design(
            base=lowest | written(some, problems),
            axes=crossed,
            exclude=(*excluded, *own),
            include=points,
            labels=labels,
        )
    chosen = designs.get(profile) or next(iter(designs.values()))
    every = (plainly, *(design.axes for design in designs.values()))
    distinct = {id(axis): axis for some in every for axis in some}.values()
    elsewhere = [
        *(level.set for axis in distinct for level in (*axis.levels, *axis.added)),
        *(design.base for design in designs.values()),
        *(point.further for design in designs.values() for point in design.include),
    ]
    check(chosen, given, elsewhere, problems)
    return chosen


def first(below: Sequence[Layer], problems: Problems) -> Settings:
    """`base:`, which one file says."""
    found = nodes(below, "base")
    for again in found[1:]:
        there = found[0].place
        problems.refuse(
            again.place,
            f"base is also taken from {there.source}:{there.line}; "
            "change single keys with 'set:', or do not take base",
            "base",
        )
    return base_settings(found[0], problems) if found else {}


def written(some: Sequence[Layer], problems: Problems) -> Settings:
    """The `set:` of each layer, later over earlier."""
    found: Settings = {}
    for node in nodes(some, "set"):
        found = {**found, **base_settings(node, problems)}
    return found


# ---- checks


def check(
    design: Design, given: Settings, elsewhere: Iterable[Settings], problems: Problems
) -> None:
    """`elsewhere` is what the file writes under any profile."""
    every = [design.base, *beside_base(design), given]
    check_secrets([*every, *elsewhere], problems)
    check_sections(every, problems)
    check_conflicts(design.axes, problems)
    check_seeds(every, design.axes, given, problems)
    check_given(design, given, every, problems)
    known = names({**design.base, **given}, design.axes, design.labels, elsewhere)
    for exclusion in design.exclude:
        for fault in faults(exclusion.test, known):
            problems.refuse(exclusion.mark, f"exclude: {fault}")
    for axis in design.axes:
        check_when(axis, design.axes, known, problems)


def beside_base(design: Design) -> list[Settings]:
    levels = [level.set for axis in design.axes for level in (*axis.levels, *axis.added)]
    return [*levels, *(point.further for point in design.include)]


def check_given(
    design: Design, given: Settings, every: Sequence[Settings], problems: Problems
) -> None:
    """--set says a configuration key; the level of an axis is chosen by --where."""
    keys = {key for some in every if some is not given for key in some}
    for axis in design.axes:
        if axis.name in given and not axis.plain and axis.name not in keys:
            value = quoted(str(given[axis.name].value))
            problems.refuse(
                None,
                f'--set {axis.name}: this is an axis; --where "{axis.name} == {value}" '
                "chooses one of its levels",
                axis.name,
            )


def check_when(axis: Axis, axes: Sequence[Axis], known: Names, problems: Problems) -> None:
    """An axis asks about what stands above it: that is what has been chosen where it is
    asked."""
    if axis.when is None:
        return
    called = f"axes.{axis.name}.when"
    for fault in faults(axis.when.test, known):
        problems.refuse(axis.when.mark, f"{called}: {fault}")
    for name in read_names(axis.when.test):
        for below in axes[axes.index(axis) :]:
            if name != below.name and not any(name in level.set for level in below.levels):
                continue
            which = "which it writes itself"
            if below is not axis:
                there = f"which axis {below.name!r} writes at {line_of(below.mark)}"
                which = f"{there}: that axis goes first"
            problems.refuse(axis.when.mark, f"{called} asks for {name!r}, {which}")
