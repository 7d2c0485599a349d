"""What a search has tried in; what of that is best out, and the sweep that trains it again.

derived(sweep, found) is an ordinary sweep: the axes of the studies, an axis of configurations
(the file's own, and what was promoted of each study), and one of seeds. So what is found is
trained, tabulated, explained and published as everything else is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sweeper import space
from sweeper.design import points
from sweeper.objectives import Metrics, dominates, goal_of, losses, value
from sweeper.spec.search import study_axes
from sweeper.spec.search_types import (
    BASELINE,
    CONFIGURATION,
    Found,
    Promote,
    SearchSpec,
    Tried,
)
from sweeper.spec.sweep import Axis, Level, Point, Sweep, TableSpec


def with_front(tried: Sequence[Tried], search: SearchSpec, metrics: Metrics) -> tuple[Tried, ...]:
    """The trials of one study, with those marked that no other beats; of several that are the
    same training the first."""
    feasible = {one.trial_id: one for one in reversed(tried) if one.feasible}
    at = {id: losses(one.values, search.objectives, metrics) for id, one in feasible.items()}
    best = {
        feasible[id].number
        for id, own in at.items()
        if not any(dominates(other, own) for other in at.values())
    }
    return tuple(replace(one, front=one.number in best) for one in tried)


def promoted(study: Sequence[Tried], search: SearchSpec, metrics: Metrics) -> tuple[Tried, ...]:
    """Of one study what is trained again, the best by the first objective first."""
    promote = search.promote or Promote(seeds=())
    distinct = {one.trial_id: one for one in reversed(study) if one.feasible}
    chosen = [one for one in distinct.values() if one.front or not promote.front]
    chosen.sort(key=lambda one: (losses(one.values, search.objectives, metrics), one.number))
    return tuple(chosen[: promote.top])


def derived(sweep: Sweep, found: Found) -> Sweep:
    """The sweep of what was found; while a search is not complete nothing is promoted, and it
    has the file's own configuration only."""
    assert sweep.search is not None
    assert sweep.found is None
    search, axes = sweep.search, {axis.name: axis for axis in sweep.axes}
    seeds = study_axes(search, axes).get("seed")
    levels: dict[tuple, Level] = {}
    stand_for: dict[str, list[Tried]] = {}
    included = []
    for point, _ in points(sweep) if found.complete else ():
        study = [one for one in found.tried if one.at == point.labels]
        for one in promoted(study, search, sweep.metrics):
            point_of = tuple(one.point.items())
            if point_of not in levels:
                levels[point_of] = level_of(one, search, levels)
            level = levels[point_of]
            stand_for.setdefault(level.label, []).append(one)
            chosen = {**point.levels, CONFIGURATION: level}
            mark = search.promote.mark if search.promote else search.mark
            included += [
                Point(levels={**chosen, **seed}, mark=mark)
                for seed in ([{"seed": it} for it in seeds.levels] if seeds else [{}])
            ]
    configurations = Axis(
        name=CONFIGURATION,
        levels=(Level(label=BASELINE, set={}, mark=search.mark),),
        added=tuple(levels.values()),
        mark=search.mark,
    )
    tables = {
        name: with_rows(table, stand_for, search, sweep.metrics) if table.searched else table
        for name, table in sweep.tables.items()
    }
    return replace(
        sweep,
        axes=(*sweep.axes, configurations, *([seeds] if seeds else [])),
        include=tuple(included),
        tables=tables,
        found=found,
    )


def level_of(one: Tried, search: SearchSpec, others: Mapping[tuple, Level]) -> Level:
    """Two points may look alike in three digits, and have one number in two studies."""
    taken = {level.label for level in others.values()}
    number, at = f"number {one.number}", " ".join(one.at.values())
    names = (one.label, f"{one.label} ({number})", f"{one.label} ({number} of {at})")
    label = next(name for name in names if name not in taken)
    return Level(label=label, set=space.settings(search.space, one.point), mark=search.mark)


def with_rows(
    table: TableSpec,
    stand_for: Mapping[str, Sequence[Tried]],
    search: SearchSpec,
    metrics: Metrics,
) -> TableSpec:
    """The file's own configuration first, then what was promoted in the order of the table."""
    name = table.searched.order_by

    def place(label: str) -> float:
        known = [value(name, one.values, metrics) for one in stand_for[label]]
        numbers = [it for it in known if it is not None]
        return sum(numbers) / len(numbers) if numbers else math.inf

    ordered = sorted(stand_for, key=place, reverse=goal_of(name, search, metrics) == "max")
    return replace(
        table,
        rows_only=(BASELINE, *ordered),
        rules_after=tuple(dict.fromkeys([*table.rules_after, BASELINE])),
    )
