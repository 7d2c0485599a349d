"""A figure's specification and what a search has found in; a Figure out.

Trials are told apart by how they ended: only one that is complete and satisfies the constraints
counts as found. What is not drawn, and why, is said in the footer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, pairwise
from typing import Literal

from sweeper import objectives
from sweeper.design import points
from sweeper.figures.names import axis_label, key_labels, metric_named
from sweeper.figures.panels import Bar, Figure, Line, Marks, Panel, Scale, Strand
from sweeper.importance import LEAST, Share, shares
from sweeper.spec.conditions import same
from sweeper.spec.expressions import value_written
from sweeper.spec.search_types import (
    Choice,
    Found,
    History,
    Importance,
    Parallel,
    Parameter,
    Pareto,
    Scalar,
    SearchFigure,
    Slices,
    Tried,
)
from sweeper.spec.space import fault_in_value
from sweeper.spec.sweep import Metric, Sweep
from sweeper.tables.footers import made
from sweeper.tables.readings import ABSENT, Readings
from sweeper.trial import Trial

IN_A_ROW = 3  # panels of studies
KEYS_IN_A_ROW = 4  # panels of keys
FENCE = 3.0  # quartile ranges beyond a quartile: Tukey's "far out"
ENDED = ("complete", "pruned", "failed")
NOT_SEARCHED, NO_TRIALS = "not searched yet", "no trials yet"

Goal = Literal["min", "max"]
Place = tuple[float, float]  # x and y
Look = Literal["front", "feasible", "infeasible", "pruned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What was tried at the labels `at` (axis -> label), by number; `place` counts the studies
    of the figure, `label` tells them apart ("" where there is one)."""

    at: Mapping[str, str]
    place: int
    label: str
    tried: tuple[Tried, ...]
    baselines: tuple[Tried, ...]

    def ended(self, *states: str) -> tuple[Tried, ...]:
        return tuple(one for one in self.tried if one.state in states)

    @property
    def named(self) -> str:
        return self.label or "trials"


def compose_searched(
    spec: SearchFigure, sweep: Sweep, trials: Sequence[Trial], readings: Readings
) -> Figure:
    """`trials` are all that may have a record; those of the figure say how it was made."""
    shown = studies(spec, sweep)
    figure = COMPOSED[type(spec)](spec, sweep, shown)
    tried = chain.from_iterable((*study.tried, *study.baselines) for study in shown)
    keys = {(one.trial_id, one.evaluation_id) for one in tried}
    of_these = [trial for trial in trials if trial.key in keys]
    footer = (
        *progress(sweep, shown),
        *figure.footer,
        *conditions(sweep),
        *made(sweep, of_these, readings),
    )
    wanted = sweep.search.trials
    filled = sweep.found is not None and all(len(it.ended(*ENDED)) >= wanted for it in shown)
    return replace(figure, caption=spec.caption, footer=footer, filled=filled)


def studies(spec: SearchFigure, sweep: Sweep) -> tuple[Study, ...]:
    """Those of the search that the figure shows, in the order of the axes."""
    axes, found = sweep.search.for_each, sweep.found or Found()
    where, named = (spec.where, spec.labels) if isinstance(spec, Pareto) else ({}, {})
    places = {
        tuple(point.labels.get(axis, ABSENT) for axis in axes): None for point, _ in points(sweep)
    }
    chosen = [
        labels
        for labels in places
        if all(labels[axes.index(axis)] in (label, ABSENT) for axis, label in where.items())
    ]
    told = [i for i in range(len(axes)) if len({labels[i] for labels in chosen}) > 1]

    def at(labels: tuple[str, ...], some: Iterable[Tried]) -> tuple[Tried, ...]:
        there = (one for one in some if tuple(one.at.get(it, ABSENT) for it in axes) == labels)
        return tuple(sorted(there, key=lambda one: one.number))

    return tuple(
        Study(
            at=dict(zip(axes, labels, strict=True)),
            place=place,
            label=" · ".join(named.get(labels[i], labels[i]) for i in told),
            tried=at(labels, found.tried),
            baselines=at(labels, found.baselines),
        )
        for place, labels in enumerate(chosen)
    )


# ---- two metrics


def pareto(spec: Pareto, sweep: Sweep, shown: Sequence[Study]) -> Figure:
    x, y = metric_named(spec.x, sweep), metric_named(spec.y, sweep)
    goals = goal_of(spec.x, sweep), goal_of(spec.y, sweep)

    def place_of(one: Tried) -> Place | None:
        place = value_of(one, x), value_of(one, y)
        return None if None in place else place

    objectives = sweep.search.objectives
    wanted = {metric_named(objective.metric, sweep).source for objective in objectives}
    fronted = "front" in spec.show
    joined = fronted and {x.source, y.source} == wanted and len(wanted) == 2
    looks = looked if fronted else without_front
    marks = [it for study in shown for it in marks_of(study, place_of, looks)]
    if "baseline" in spec.show:
        marks += [it for study in shown for it in baselines_of(study, place_of)]
    lines = [
        Line(label=it.label, place=it.place, xs=xs, means=ys)
        for it in marks
        if joined and it.look == "front"
        for xs, ys in [staircase(it.xs, it.ys, *goals)]
    ]
    panel = framed(Panel(marks=tuple(marks), lines=tuple(lines)), goals[1])
    names = ", ".join(axis_label(objective.metric, sweep) for objective in objectives)
    notes = []
    if any(it.look == "front" for it in marks):
        said = f"the front, which no other feasible trial beats in {names}"
        other = " (not joined: the axes are others)"
        notes.append(f"line: {said}" if joined else f"framed: {said}{other}")
    if any(it.look == "baseline" for it in marks):
        labels = dict.fromkeys(it.label for study in shown for it in study.baselines if it.label)
        said = f" ({', '.join(labels)})" if labels else ""
        notes.append(f"baseline: the file's own configuration{said}")
    elif "baseline" in spec.show and sweep.found is not None:
        notes.append("no record of the file's own configuration yet")
    return Figure(
        name=spec.name,
        kind="pareto",
        columns=("",),
        rows=(axis_label(spec.y, sweep),),
        panels=((noted(panel, sweep, panel.marks),),),
        x_label=axis_label(spec.x, sweep),
        footer=(
            *better({spec.x: goals[0], spec.y: goals[1]}, sweep),
            *notes,
            *beyond([panel]),
            *not_shown(shown, place_of, names_of((spec.x, spec.y), sweep)),
        ),
    )


def staircase(
    xs: Sequence[float], ys: Sequence[float], x_goal: Goal | None, y_goal: Goal | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The corners of a line below which (or above, as the goals are) nothing was found."""
    ordered = sorted(zip(xs, ys, strict=True))
    found = ordered[:1]
    for (x, y), (next_x, next_y) in pairwise(ordered):
        found += [(x, next_y) if x_goal == "max" else (next_x, y), (next_x, next_y)]
    return tuple(x for x, _ in found), tuple(y for _, y in found)


# ---- one metric


def history(spec: History, sweep: Sweep, shown: Sequence[Study]) -> Figure:
    metric, goal = metric_named(spec.metric, sweep), goal_of(spec.metric, sweep)

    def place_of(one: Tried) -> Place | None:
        value = value_of(one, metric)
        return None if value is None else (float(one.number), value)

    def panel(study: Study) -> Panel:
        marks = tuple(marks_of(study, place_of))
        best = best_so_far(study, metric, goal) if goal else ()
        found = framed(Panel(marks=marks, lines=best, title=study.label), goal)
        return noted(found, sweep, marks)

    panels = [panel(study) for study in shown]
    line = "line: the best feasible value so far"
    unknown = f"no line of the best: nothing says whether less or more of {spec.metric} is better"
    return Figure(
        name=spec.name,
        kind="history",
        rows=(axis_label(spec.metric, sweep),) * len(in_rows(panels)),
        columns=("",) * min(len(panels), IN_A_ROW),
        panels=in_rows(panels),
        x_label="trial",
        footer=(
            *better({spec.metric: goal}, sweep),
            *([line] if any(panel.lines for panel in panels) else []),
            *([] if goal else [unknown]),
            *beyond(panels),
            *not_shown(shown, place_of, names_of((spec.metric,), sweep)),
        ),
    )


def best_so_far(study: Study, metric: Metric, goal: Goal) -> tuple[Line, ...]:
    """A step wherever a feasible trial is better than all before it, up to the last trial."""
    better_of = min if goal == "min" else max
    found: list[Place] = []
    for one in study.tried:
        value = value_of(one, metric) if one.feasible else None
        if value is not None and (not found or better_of(value, found[-1][1]) != found[-1][1]):
            found.append((float(one.number), value))
    if not found:
        return ()
    last = float(max(one.number for one in study.ended(*ENDED)))
    if last > found[-1][0]:
        found.append((last, found[-1][1]))
    xs, ys = zip(*found, strict=True)
    return (Line(label=study.label, place=study.place, xs=xs, means=ys, stepped=True),)


def slices(spec: Slices, sweep: Sweep, shown: Sequence[Study]) -> Figure:
    """The panels of a study fill rows of their own; one without a scale is no panel."""
    metric, goal = metric_named(spec.metric, sweep), goal_of(spec.metric, sweep)
    keys = spec.keys or tuple(sweep.search.space)
    labels = key_labels(keys)

    def panel(study: Study, key: str) -> Panel:
        parameter = sweep.search.space[key]

        def place_of(one: Tried) -> Place | None:
            place = place_on(parameter, one.point), value_of(one, metric)
            return None if None in place else place

        marks = tuple(marks_of(study, place_of))
        n = sum(len(it.xs) for it in marks)
        title = f"{labels[key]} (n={n})" if parameter.when else labels[key]
        scales = (scale_of(parameter, labels[key]),)
        return noted(Panel(marks=marks, scales=scales, title=title), sweep, marks)

    columns = min(len(keys), KEYS_IN_A_ROW)
    rows: list[tuple[Panel, ...]] = []
    names: list[str] = []
    for study in shown:
        panels = in_view([panel(study, key) for key in keys], goal)
        those = in_rows(panels, columns)
        rows += those
        names += ["\n".join(filter(None, (study.label, axis_label(spec.metric, sweep))))] * len(
            those
        )
    drawn = any(panel.marks for row in rows for panel in row)
    some = drawn and any(sweep.search.space[key].when for key in keys)
    return Figure(
        name=spec.name,
        kind="slices",
        rows=tuple(names),
        columns=("",) * columns,
        panels=tuple(rows),
        footer=(
            *better({spec.metric: goal}, sweep),
            *(["n: the trials that have a key that not all have"] if some else []),
            *beyond(list(chain.from_iterable(rows)), each="panels"),
            *not_shown(shown, partial(value_of, metric=metric), names_of((spec.metric,), sweep)),
        ),
    )


def parallel(spec: Parallel, sweep: Sweep, shown: Sequence[Study]) -> Figure:
    metric, goal = metric_named(spec.metric, sweep), goal_of(spec.metric, sweep)
    keys = spec.keys or tuple(sweep.search.space)
    labels, name = key_labels(keys), axis_label(spec.metric, sweep)
    parameters = [sweep.search.space[key] for key in keys]

    def panel(study: Study) -> Panel:
        strands = [
            Strand(at=(*(place_on(it, one.point) for it in parameters), value), feasible=feasible)
            for one in study.ended("complete")
            for value, feasible in [(value_of(one, metric), one.feasible)]
            if value is not None
        ]
        values = [strand.at[-1] for strand in strands]
        low, high = limits_of(values, goal) if values else (0.0, 1.0)
        found = Panel(
            strands=tuple(strands),
            scales=(
                *(scale_of(it, labels[it.key]) for it in parameters),
                Scale(label=name, low=low, high=high),
            ),
            title=study.label,
        )
        return noted(found, sweep, strands)

    panels = [panel(study) for study in shown]
    values = [(it.at[-1], panel.scales[-1]) for panel in panels for it in panel.strands]
    cut = sum(not scale.low <= value <= scale.high for value, scale in values)
    grey = any(not it.feasible for panel in panels for it in panel.strands)
    broken = any(None in it.at for panel in panels for it in panel.strands)
    line = "line: one complete trial" + ", broken where it has not the key" * broken
    line += "; grey: infeasible" * grey
    return Figure(
        name=spec.name,
        kind="parallel",
        rows=("",) * len(panels),
        columns=("",),
        panels=tuple((panel,) for panel in panels),
        colour=name,
        goal=goal,
        footer=(
            *better({spec.metric: goal}, sweep),
            *([line] if values else []),
            *([f"drawn at the end of its axis: what is beyond ({trials_said(cut)})"] * bool(cut)),
            *not_shown(
                shown,
                partial(value_of, metric=metric),
                names_of((spec.metric,), sweep),
                drawn=("complete",),
            ),
        ),
    )


def importance(spec: Importance, sweep: Sweep, shown: Sequence[Study]) -> Figure:
    metric, space = metric_named(spec.metric, sweep), sweep.search.space
    labels, name = key_labels(space), axis_label(spec.metric, sweep)

    def bar(it: Share) -> Bar:
        label = labels[it.key] + (f" (n={it.n})" if space[it.key].when else "")
        return Bar(label=label, share=it.share, chance=it.chance, note=it.why)

    def panel(study: Study) -> Panel:
        pairs = [(one.point, value_of(one, metric)) for one in study.ended("complete")]
        pairs = [(point, value) for point, value in pairs if value is not None]
        if sweep.found is None or not study.tried:
            return noted(Panel(title=study.label), sweep, ())
        if len(pairs) < LEAST:
            return Panel(title=study.label, note=f"not testable with {trials_said(len(pairs))}")
        found = shares(space, [point for point, _ in pairs], [value for _, value in pairs])
        return Panel(bars=tuple(map(bar, found)), title=study.label)

    panels = [panel(study) for study in shown]
    notes = [
        f"bar: share of the variance of the trials' ranks by {name} that the key explains by "
        "itself (adjusted R² of the means of its choices, or of a cubic of its number), over "
        "complete trials, feasible or not",
        "grey: what shuffled trials reach 1 time in 20; a bar that ends in it shows nothing",
    ]
    if any(it.when for it in space.values()):
        notes.append("n: the trials that have a key that not all have; it is judged among those")
    return Figure(
        name=spec.name,
        kind="importance",
        rows=("",) * len(in_rows(panels)),
        columns=("",) * min(len(panels), IN_A_ROW),
        panels=in_rows(panels),
        x_label="share explained",
        footer=(
            *(notes if any(panel.bars for panel in panels) else []),
            *not_shown(
                shown,
                partial(value_of, metric=metric),
                names_of((spec.metric,), sweep),
                drawn=("complete",),
            ),
        ),
    )


def trials_said(n: int) -> str:
    return "1 trial" if n == 1 else f"{n} trials"


# ---- what is read


def value_of(one: Tried, metric: Metric) -> float | None:
    """In the unit of tables. A search has no metric in which another may stand in (`or:`)."""
    value = one.values.get(metric.source)
    return value * metric.scale if value is not None and math.isfinite(value) else None


def goal_of(name: str, sweep: Sweep) -> Goal | None:
    return objectives.goal_of(name, sweep.search, sweep.metrics)


def place_on(parameter: Parameter, point: Mapping[str, Scalar]) -> float | None:
    """Where a point is on the scale of a key; None where it has not the key, or a value that
    the space does not have."""
    key = parameter.key
    if key not in point or fault_in_value(parameter, point[key]) is not None:
        return None
    if isinstance(parameter, Choice):
        return float(next(i for i, it in enumerate(parameter.options) if same(it, point[key])))
    return float(point[key])


def scale_of(parameter: Parameter, label: str) -> Scale:
    if isinstance(parameter, Choice):
        options = [it if isinstance(it, str) else value_written(it) for it in parameter.options]
        return Scale(label=label, low=0.0, high=len(options) - 1.0, options=tuple(options))
    low, high = float(parameter.low), float(parameter.high)
    return Scale(label=label, low=low, high=high, log=parameter.log, whole=parameter.whole)


# ---- what is drawn of a trial


def looked(one: Tried) -> Look | None:
    """None: there is nothing to draw."""
    if one.state == "complete":
        return "front" if one.front else "feasible" if one.feasible else "infeasible"
    return "pruned" if one.state == "pruned" else None


def without_front(one: Tried) -> Look | None:
    found = looked(one)
    return "feasible" if found == "front" else found


def marks_of(
    study: Study,
    place_of: Callable[[Tried], Place | None],
    looks: Callable[[Tried], Look | None] = without_front,
) -> Iterator[Marks]:
    """What is drawn later lies above: the best last."""
    groups: dict[str, list[Place]] = {}
    for one in study.tried:
        look = looks(one)
        if look and (place := place_of(one)):
            groups.setdefault(look, []).append(place)
    for look in ("pruned", "infeasible", "feasible", "front"):
        if look in groups:
            yield marked(look, study, groups[look])


def baselines_of(study: Study, place_of: Callable[[Tried], Place | None]) -> Iterator[Marks]:
    if found := [place for one in study.baselines if (place := place_of(one))]:
        yield marked("baseline", study, found)


def marked(look: str, study: Study, places: Sequence[Place]) -> Marks:
    xs, ys = zip(*places, strict=True)
    return Marks(look=look, place=study.place, label=study.label, xs=xs, ys=ys)


def noted(panel: Panel, sweep: Sweep, drawn: Sequence[object]) -> Panel:
    """With why there is nothing, where there is nothing."""
    if drawn:
        return panel
    tried = sweep.found is not None and sweep.found.tried
    none = "nothing to show" if tried else NO_TRIALS
    return replace(panel, note=NOT_SEARCHED if sweep.found is None else none)


def in_rows(panels: Sequence[Panel], most: int = IN_A_ROW) -> tuple[tuple[Panel, ...], ...]:
    """Row by row, the last one filled up with panels that have nothing at all."""
    columns = min(len(panels), most)
    full = [*panels, *[Panel()] * (-len(panels) % columns)]
    return tuple(tuple(full[i : i + columns]) for i in range(0, len(full), columns))


# ---- what would press all else flat


def framed(panel: Panel, goal: Goal | None) -> Panel:
    return in_view([panel], goal)[0]


def in_view(panels: Sequence[Panel], goal: Goal | None) -> list[Panel]:
    """The panels, which share y, with the limits that leave far outliers out, if there are any."""
    marks = [it for panel in panels for it in panel.marks]
    kept = [y for it in marks if it.look in ("front", "baseline") for y in it.ys]
    kept += [y for panel in panels for line in panel.lines for y in line.means]
    near = [
        limits_of([y for it in marks if it.place == place for y in it.ys], goal)
        for place in {it.place for it in marks}
    ]
    inner = [*kept, *chain.from_iterable(near)]
    limits = (min(inner), max(inner)) if inner else None
    cut = any(not inside(y, limits) for it in marks for y in it.ys)
    return [replace(panel, limits=limits if cut else None) for panel in panels]


def limits_of(values: Sequence[float], goal: Goal | None) -> Place:
    """The least and the greatest of a study's values that are not far out on the side that is
    worse (without a goal, on either side)."""
    ordered = sorted(values)
    first, third = (quantile(ordered, share) for share in (0.25, 0.75))
    room = FENCE * (third - first)
    least = -math.inf if goal == "min" else first - room
    most = math.inf if goal == "max" else third + room
    near = [value for value in ordered if least <= value <= most]
    return near[0], near[-1]


def quantile(ordered: Sequence[float], share: float) -> float:
    """Between the two nearest values, linearly."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def inside(value: float, limits: Place | None) -> bool:
    return limits is None or limits[0] <= value <= limits[1]


# ---- what is said


def progress(sweep: Sweep, shown: Sequence[Study]) -> Iterator[str]:
    """ "Yahoo: 20 of 20 trials: 12 feasible (5 on the front), 4 pruned, 1 failed" """
    if sweep.found is None:
        yield NOT_SEARCHED
        return
    feasible = "feasible" if sweep.search.constraints else "complete"
    for study in shown:
        counts = Counter(without_front(one) or one.state for one in study.tried)
        if not study.tried:
            yield f"{study.label}: {NO_TRIALS}" if study.label else NO_TRIALS
            continue
        front = sum(one.front for one in study.tried)
        on_front = f" ({front} on the front)" if front else ""
        parts = {
            f"{feasible}{on_front}": counts["feasible"],
            "infeasible": counts["infeasible"],
            **{state: counts[state] for state in ("pruned", "failed", "running", "waiting")},
        }
        said = ", ".join(f"{n:,} {what}" for what, n in parts.items() if n)
        ended = len(study.ended(*ENDED))
        yield f"{study.named}: {ended:,} of {sweep.search.trials:,} done; {said}"


def conditions(sweep: Sweep) -> Iterator[str]:
    if sweep.search.constraints:
        yield f"feasible: {'; '.join(map(str, sweep.search.constraints))}"


def better(goals: Mapping[str, Goal | None], sweep: Sweep) -> Iterator[str]:
    said = [
        f"{word} is better: {', '.join(axis_label(it, sweep) for it in goals if goals[it] == goal)}"
        for goal, word in (("min", "lower"), ("max", "higher"))
        if goal in goals.values()
    ]
    if said:
        yield "; ".join(said)


def beyond(panels: Sequence[Panel], each: str = "") -> Iterator[str]:
    marks = [(it, panel.limits) for panel in panels for it in panel.marks]
    n = sum(not inside(y, limits) for it, limits in marks for y in it.ys)
    if n:
        what = f"points, over all {each}" if each else "trials"
        yield f"arrow at the edge: beyond it ({n} {what if n > 1 or each else 'trial'})"


def names_of(names: Iterable[str], sweep: Sweep) -> str:
    return " and ".join(dict.fromkeys(axis_label(name, sweep) for name in names))


def not_shown(
    shown: Sequence[Study],
    drawn_at: Callable[[Tried], object],
    needed: str,
    drawn: Sequence[str] = ("complete", "pruned"),
) -> Iterator[str]:
    """ "not shown: 2 failed, 1 pruned without valid/nelbo" """
    counts = Counter(
        one.state if one.state not in drawn else f"{one.state} without {needed}"
        for study in shown
        for one in study.tried
        if one.state not in drawn or drawn_at(one) is None
    )
    if counts:
        yield f"not shown: {', '.join(f'{n:,} {why}' for why, n in counts.items())}"


COMPOSED = {
    Pareto: pareto,
    Importance: importance,
    History: history,
    Slices: slices,
    Parallel: parallel,
}
