"""A sweep, its plan and its store in; all that a report says of it out, bounded in size.

The store is read here and nowhere else in a report. What cannot be believed on the way (a
damaged journal or artifact) costs its own place in the report and is named there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from sweeper.claims import Verdicts
from sweeper.errors import CorruptRecord
from sweeper.figures import Figure, Panel, compose
from sweeper.plan import Plan
from sweeper.record import COST, PROGRESS, Measurement, Record
from sweeper.render.markup import lines
from sweeper.spec.sweep import Curves, Metric, Sweep
from sweeper.tables import Table
from sweeper.tables.readings import (
    ABSENT,
    Artifacts,
    Histories,
    Readings,
    averaged,
    fits,
    label_of,
)
from sweeper.track.folder import Folder
from sweeper.trial import Key, Trial

MOST_MEASURED = 12  # metrics of which curves are drawn
MOST_SERIES = 24  # lines in a panel
MOST_GROUPS = 6  # combinations of further column axes, of which curves are drawn
MOST_SAMPLED = 16  # systems of which samples are shown
MOST_FILES = 3  # of one trial
MOST_CHARACTERS = 8_000  # of one file
TEXTS = (".txt", ".md")
COSTS = "cost/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The axes by which a sweep is read, as its first table has them: one for its systems,
    those that tell columns apart (a corpus), those that are averaged over, and what is pinned.
    `title` says of the systems' labels what is printed."""

    systems: str
    systems_only: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def titled(self, label: str) -> str:
        return self.labels.get(label, label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Curves of one key, a panel under each heading."""

    title: str
    key: str
    panels: tuple[tuple[str, Panel], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlay:
    """What some trials took: `counted` is cost key -> sum over those that have a result, the
    others over all attempts of each."""

    title: str
    trials: int
    done: int
    counted: Mapping[str, float]
    updates: float
    seconds: float
    gpu_hours: float
    peak_bytes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A point of a plot of a metric against updates: one combination of labels. `column` is
    what is said of the plot, of which nothing stands in two unless an axis does not exist for
    it; `values` has one of each training that has the metric, `points` is how many of them
    there should be."""

    column: str
    system: str
    place: int
    labels: str
    cost: float
    values: tuple[float, ...]
    points: int
    front: bool = False

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def short(self) -> bool:
        return len(self.values) < self.points


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A text that a trial left; `cut` characters of it are not shown."""

    system: str
    trial: Trial
    name: str
    text: str
    cut: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """`pictures` is figure name -> PNG, of those that are no curves. `again` is the command
    that fills what is missing, `retry` state -> the one that runs such trials again, `repair`
    the one that removes what is corrupt.
    `notes` are what could not be read."""

    sweep: Sweep
    plan: Plan
    places: Places | None
    tables: Sequence[Table]
    claims: Verdicts
    figures: Sequence[Figure]
    pictures: Mapping[str, bytes]
    courses: Sequence[Course]
    course_notes: Sequence[str]
    unshown_keys: Sequence[str]
    systems: Sequence[str]
    outlays: Sequence[Outlay]
    metric: Metric | None
    spots: Sequence[Spot]
    samples: Sequence[Sample]
    more_samples: int
    again: str
    retry: Callable[[str], str]
    repair: str
    notes: Sequence[str]


def gather(
    sweep: Sweep,
    plan: Plan,
    folder: Folder,
    *,
    histories: Histories,
    artifacts: Artifacts,
    damage: list[str],
    tables: Sequence[Table],
    claims: Verdicts,
    figures: Sequence[Figure],
    pictures: Mapping[str, bytes],
    again: str,
    retry: Callable[[str], str],
    repair: str,
) -> Contents:
    """`histories` and `artifacts` read the store, as for tables; `damage` is what could not be
    believed so far, and is given what cannot be here."""
    places = places_of(sweep)
    store = _Reader(folder, histories, artifacts, damage)
    courses, course_notes, unshown = _courses(sweep, plan, places, store)
    systems = _systems(sweep, plan, places)
    metric, spots = _spots(sweep, plan, places, systems)
    samples, more = _samples(plan, places, systems, store)
    return Contents(
        sweep=sweep,
        plan=plan,
        places=places,
        tables=tables,
        claims=claims,
        figures=figures,
        pictures=pictures,
        courses=courses,
        course_notes=course_notes,
        unshown_keys=unshown,
        systems=systems,
        outlays=_outlays(plan, places, systems, store),
        metric=metric,
        spots=spots,
        samples=samples,
        more_samples=more,
        again=again,
        retry=retry,
        repair=repair,
        notes=tuple(damage),
    )


class _Reader:
    """The store, of which nothing is read twice; `damage` is what cannot be believed."""

    def __init__(
        self, folder: Folder, histories: Histories, artifacts: Artifacts, damage: list[str]
    ):
        self.folder, self.damage = folder, damage
        self._read_course, self._read_artifact = histories, artifacts
        self._there = set(folder.ids())
        self._courses: dict[Key, tuple[Measurement, ...] | CorruptRecord] = {}
        self._totals: dict[str, dict[str, Any] | None] = {}

    def course(self, trial: Trial) -> tuple[Measurement, ...]:
        """Raises CorruptRecord, each time that it is asked for one that cannot be believed."""
        if trial.key not in self._courses:
            try:
                self._courses[trial.key] = tuple(self._read_course(trial))
            except CorruptRecord as fault:
                self._courses[trial.key] = fault
        found = self._courses[trial.key]
        if isinstance(found, CorruptRecord):
            raise found
        return found

    def history(self, trial: Trial) -> tuple[Measurement, ...]:
        """The course; nothing of one that cannot be believed."""
        try:
            return self.course(trial)
        except CorruptRecord:
            return ()

    def totals(self, trial_id: str) -> dict[str, Any] | None:
        if trial_id not in self._there:
            return None
        if trial_id not in self._totals:
            self._totals[trial_id] = self._believed(lambda: self.folder.totals(trial_id))
        return self._totals[trial_id]

    def texts(self, trial: Trial) -> list[tuple[str, bytes]]:
        """(name, content) of the trial's first artifacts that are texts."""
        listed = self._believed(lambda: self.folder.artifacts(trial.id)) or {}
        names = [name.removeprefix("artifacts/") for name in listed if name.endswith(TEXTS)]
        found = []
        for name in names[:MOST_FILES]:
            content = self._believed(lambda name=name: self._read_artifact(trial, name))
            found += [(name, content)] if content else []
        return found

    def _believed(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except CorruptRecord as fault:
            # Without the place of the store, which is nobody else's.
            said = [str(p).replace(f"{self.folder.root}/", "") for p in fault.problems]
            self.damage += [it for it in said if it not in self.damage]
            return None


# ---- how a sweep is read


def places_of(sweep: Sweep) -> Places | None:
    """As the first table has it; without one, the first axis tells systems apart, the seed is
    averaged over and the others are told apart as columns are."""
    names = [axis.name for axis in sweep.axes]
    for spec in sweep.tables.values():
        if spec.rows in names:
            return Places(
                systems=spec.rows,
                systems_only=spec.rows_only,
                columns=spec.columns,
                over=spec.over,
                where=spec.where,
                labels=spec.labels,
            )
    over = tuple(name for name in names if name == "seed")
    others = [name for name in names if name not in over]
    return Places(systems=others[0], columns=tuple(others[1:]), over=over) if others else None


def _systems(sweep: Sweep, plan: Plan, places: Places | None) -> tuple[str, ...]:
    if places is None:
        return ()
    labels = places.systems_only or sweep.axis(places.systems).labels
    absent = any(places.systems not in trial.labels for trial in plan.trials)
    return (*labels, ABSENT) if absent and not places.systems_only else labels


def spoken(axis: str, label: str) -> str:
    """A label that says what it is; a number, or a truth, says that with its axis."""
    bare = not any(c.isalpha() for c in label) or label in ("true", "false", "null", "none")
    return f"{axis} {label}" if bare else label


# ---- curves


def _courses(
    sweep: Sweep, plan: Plan, places: Places | None, store: _Reader
) -> tuple[tuple[Course, ...], tuple[str, ...], tuple[str, ...]]:
    """Of each key that was recorded on the way, by the axes of the first table. Metrics of
    the file come first."""
    if places is None:
        return (), (), ()
    readings = Readings(records=plan.records, states=plan.states)
    shown = [t for t in plan.trials if fits(t, places.where, sweep) and readings.done(t)]
    recorded = _recorded(sweep, (store.history(trial) for trial in shown))
    titles = {key: metric.label or metric.name for key, metric in recorded.items()}
    keys = tuple(titles)[:MOST_MEASURED]
    by_key = replace(sweep, metrics=recorded)  # a key may be spelled as another metric's name
    if not keys:
        return (), (), ()
    first, *further = places.columns or (None,)
    levels = [sweep.axis(axis).labels for axis in further]
    groups = list(product(*levels))
    found: dict[str, list[tuple[str, Panel]]] = {key: [] for key in keys}
    notes: list[str] = []
    systems = places.systems_only or sweep.axis(places.systems).labels
    if len(systems) > MOST_SERIES:
        notes.append(f"curves of the first {MOST_SERIES} of {len(systems)} {places.systems}")
    for labels in groups[:MOST_GROUPS]:
        spec = Curves(
            name="courses",
            y=keys,
            series=places.systems,
            series_only=systems[:MOST_SERIES],
            panels=first,
            over=places.over,
            where={**places.where, **dict(zip(further, labels, strict=True))},
            band="ci95",
            labels=places.labels,
        )
        figure = compose(
            spec,
            by_key,
            plan.trials,
            plan.records,
            states=plan.states,
            histories=store.course,
        )
        notes += figure.footer
        for key, panels in zip(keys, figure.panels, strict=True):
            for column, panel in zip(figure.columns, panels, strict=True):
                heading = " · ".join(filter(None, [column, *labels]))
                found[key].append((heading, _with_bands(panel, notes)))
    if len(groups) > MOST_GROUPS:
        notes.append(f"the first {MOST_GROUPS} of {len(groups)} combinations of columns are drawn")
    pinned = ", ".join(f"{axis} {label}" for axis, label in places.where.items())
    notes += [f"of the trials at {pinned}, as in the first table"] if pinned else []
    courses = tuple(
        Course(title=titles[key], key=key, panels=tuple(panels)) for key, panels in found.items()
    )
    said = tuple(dict.fromkeys(note for note in notes if not note.startswith("profile ")))
    courses = tuple(sorted(courses, key=lambda course: not _varies(course)))
    return courses, said, tuple(titles)[MOST_MEASURED:]


def _with_bands(panel: Panel, notes: list[str]) -> Panel:
    """Without the bands of two runs: such an interval is 13 times as wide as they are apart,
    or a band over everything."""
    few = [line for line in panel.lines if line.n == 2]
    if not few:
        return panel
    notes.append("no band of two runs: their interval would fill the frame")
    lines = (replace(x, lows=(), highs=()) if x in few else x for x in panel.lines)
    return replace(panel, lines=tuple(lines))


def _varies(course: Course) -> bool:
    """Whether it is not the same with every seed, as a schedule is: what was set is drawn
    after what came of it."""
    lines = [line for _, panel in course.panels for line in panel.lines]
    edges = [pair for line in lines for pair in zip(line.lows, line.highs, strict=True)]
    return not edges or not all(math.isclose(low, high, abs_tol=1e-12) for low, high in edges)


def _recorded(sweep: Sweep, histories: Iterable[Sequence[Measurement]]) -> dict[str, Metric]:
    """Key -> metric, of what some trial recorded at least twice, and not as ever the same."""
    points: dict[str, int] = {}
    least: dict[str, float] = {}
    most: dict[str, float] = {}
    for history in histories:
        counts: dict[str, int] = {}
        for measurement in history:
            for key, value in measurement.values.items():
                counts[key] = counts.get(key, 0) + 1
                least[key] = min(least.get(key, value), value)
                most[key] = max(most.get(key, value), value)
        for key, count in counts.items():
            points[key] = max(points.get(key, 0), count)
    told = [
        key
        for key, count in points.items()
        if count > 1 and not key.startswith(COSTS) and key != PROGRESS and least[key] < most[key]
    ]
    named = {metric.source: metric for metric in sweep.metrics.values()}
    ordered = [*(key for key in named if key in told), *(key for key in told if key not in named)]
    return {key: named.get(key) or Metric(name=key, source=key) for key in ordered}


# ---- cost


def _outlays(
    plan: Plan, places: Places | None, systems: Sequence[str], store: _Reader
) -> tuple[Outlay, ...]:
    """Of each system, and of all; a trial that several share is counted in each, and once in
    the sum."""
    groups: dict[str, dict[str, Trial]] = {label: {} for label in systems}
    for trial in plan.trials:
        if places is not None and (label := label_of(trial, places.systems)) in groups:
            groups[label].setdefault(trial.id, trial)
    everything = {trial.id: trial for trial in plan.trials}
    best = _best_records(plan)
    rows = [_outlay(places.titled(label), trials, best, store) for label, trials in groups.items()]
    return (*rows, _outlay("all", everything, best, store))


def _best_records(plan: Plan) -> dict[str, Record]:
    """Trial id -> a record of it that is done."""
    return {key.trial_id: record for key, record in plan.records.items() if record.state == "done"}


def _outlay(
    title: str, trials: Mapping[str, Trial], records: Mapping[str, Record], store: _Reader
) -> Outlay:
    counted: dict[str, float] = {}
    for id in trials:
        for key, value in records[id].result.items() if id in records else ():
            if key.startswith(COSTS):
                counted[key] = counted.get(key, 0.0) + value
    totals = [total for id in trials if (total := store.totals(id)) is not None]
    peaks = [total["peak_memory_bytes"] for total in totals if "peak_memory_bytes" in total]
    return Outlay(
        title=title,
        trials=len(trials),
        done=sum(id in records for id in trials),
        counted=counted,
        updates=sum(total["updates"] for total in totals),
        seconds=sum(total["seconds"] for total in totals),
        gpu_hours=sum(total["gpu_hours"] for total in totals),
        peak_bytes=max(peaks, default=None),
    )


# ---- a metric against cost


def _spots(
    sweep: Sweep, plan: Plan, places: Places | None, systems: Sequence[str]
) -> tuple[Metric | None, tuple[Spot, ...]]:
    """The first metric that is to be small (else the first that is to be great) against the
    updates that it took, for each combination of all axes but those averaged over. A front
    is one of each combination of the axes that are `told_apart`, those at the levels of the
    first table's `where` first; a point where such an axis does not exist is in the plots of
    all its levels. A training that is scored in several ways is one value, their mean."""
    ranked = [m for m in sweep.metrics.values() if m.goal and m.source != COST]
    metric = next((m for m in ranked if m.goal == "min"), next(iter(ranked), None))
    if places is None or metric is None:
        return metric, ()
    readings = Readings(records=plan.records, states=plan.states)
    apart = [axis.name for axis in sweep.axes if axis.name not in places.over]
    groups: dict[tuple[str, ...], dict[str, dict[Key, Trial]]] = {}
    for trial in plan.trials:
        labels = tuple(label_of(trial, axis) for axis in apart)
        groups.setdefault(labels, {}).setdefault(trial.id, {})[trial.key] = trial
    separate = told_apart(sweep, places)
    plots = _plots([dict(zip(apart, labels, strict=True)) for labels in groups], separate)
    pins = {axis: label for axis, label in places.where.items() if axis in separate}
    plots.sort(key=lambda plot: not all(plot[axis] in (x, ABSENT) for axis, x in pins.items()))
    spots: list[tuple[int, Spot]] = []
    for labels, there in groups.items():
        found = []
        for scored in there.values():
            value = averaged([readings.read(trial, metric) for trial in scored.values()]).value
            records = [plan.records.get(key) for key in scored]
            costs = [r.cost for r in records if r is not None and r.cost is not None]
            if value is not None and costs:
                found.append((max(costs), value))
        if not found:
            continue
        at = dict(zip(apart, labels, strict=True))
        system = at[places.systems]
        told = [spoken(axis, x) for axis, x in at.items() if axis not in separate and x != ABSENT]
        spot = Spot(
            column="",
            system=system,
            place=systems.index(system) if system in systems else len(systems),
            labels=" · ".join(told),
            cost=sum(cost for cost, _ in found) / len(found),
            values=tuple(value for _, value in found),
            points=len(there),
        )
        spots += [
            (n, replace(spot, column=_heading(plot)))
            for n, plot in enumerate(plots)
            if _belongs(at, plot)
        ]
    sign = 1.0 if metric.goal == "min" else -1.0
    ordered = [spot for _, spot in sorted(spots, key=lambda pair: pair[0])]
    return metric, tuple(replace(spot, front=on_front(spot, ordered, sign)) for spot in ordered)


def told_apart(sweep: Sweep, places: Places) -> tuple[str, ...]:
    """The axes whose levels are not compared with each other: what a table has as columns,
    such as a corpus, and what it pins by `where`. The systems themselves are, whatever
    another table does with them, and what is averaged over has no level of its own."""
    tables = sweep.tables.values()
    named = [*places.columns, *(axis for spec in tables for axis in (*spec.columns, *spec.where))]
    within = (places.systems, *places.over)
    return tuple(axis for axis in dict.fromkeys(named) if axis not in within)


def _plots(points: Sequence[Mapping[str, str]], axes: Sequence[str]) -> list[dict[str, str]]:
    """The combinations of these axes at which there are points, in their order, without those
    of which all points are in another's plot, too."""
    found = list({tuple(at[axis] for axis in axes): None for at in points})
    plots = [dict(zip(axes, labels, strict=True)) for labels in found]
    return [one for one in plots if not any(_belongs(one, it) for it in plots if it != one)]


def _heading(plot: Mapping[str, str]) -> str:
    """Of no two plots the same: where an axis does not exist, the others are named."""
    there = {axis: label for axis, label in plot.items() if label != ABSENT}
    if len(there) < len(plot):
        return " · ".join(f"{axis} {label}" for axis, label in there.items())
    return " · ".join(spoken(axis, label) for axis, label in there.items())


def _belongs(at: Mapping[str, str], plot: Mapping[str, str]) -> bool:
    """Whether a point has the levels of a plot, on the axes that exist for it."""
    return all(at[axis] in (label, ABSENT) for axis, label in plot.items())


def on_front(spot: Spot, spots: Sequence[Spot], sign: float) -> bool:
    """Whether none of its column is at most as dear and as good, and one of both better. What
    is short of trainings, a mean of survivors, neither is there nor keeps others away."""
    here = (spot.cost, sign * spot.mean)
    whole = (s for s in spots if s.column == spot.column and not s.short)
    others = ((s.cost, sign * s.mean) for s in whole)
    return not spot.short and not any(
        o[0] <= here[0] and o[1] <= here[1] and o != here for o in others
    )


# ---- samples


def _samples(
    plan: Plan, places: Places | None, systems: Sequence[str], store: _Reader
) -> tuple[tuple[Sample, ...], int]:
    """The texts of one trial of each system: the first of the design at the least seed. And
    how many systems more have any."""
    firsts: dict[str, Trial] = {}
    order = sorted(plan.trials, key=lambda trial: trial.seed)
    for trial in order if places is not None else ():
        if plan.states[trial.key] in ("done", "stale"):
            firsts.setdefault(label_of(trial, places.systems), trial)
    shown = [system for system in systems if system in firsts]
    found: list[Sample] = []
    for system in shown[:MOST_SAMPLED]:
        for name, content in store.texts(firsts[system]):
            text = lines(content.decode("utf-8", errors="replace"))
            cut = max(0, len(text) - MOST_CHARACTERS)
            found.append(
                Sample(
                    system=places.titled(system),
                    trial=firsts[system],
                    name=name,
                    text=text[:MOST_CHARACTERS],
                    cut=cut,
                )
            )
    return tuple(found), max(0, len(shown) - MOST_SAMPLED) if found else 0
