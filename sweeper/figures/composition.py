"""A figure's specification, the design and what the store knows in; a Figure out.

Only trials that have a result are shown. What is not, and why, is said in the footer:
a picture with a line less looks as whole as one without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sweeper.errors import CorruptRecord
from sweeper.figures.courses import Course, common_grid, course_of, mean_and_band
from sweeper.figures.names import axis_label, metric_label, metric_named
from sweeper.figures.panels import Figure, Line, Panel
from sweeper.figures.points import cloud_of
from sweeper.figures.searched import compose_searched
from sweeper.record import Record
from sweeper.spec.search_types import SearchFigure
from sweeper.spec.sweep import Curves, FigureSpec, Metric, Scatter, Sweep
from sweeper.tables.footers import made
from sweeper.tables.readings import Artifacts, Histories, Readings, fits, label_of, with_courses
from sweeper.trial import Key, Trial

LOST_SHOWN = 6  # groups of trials that are named
STALE = "made by code that has changed since"
BANDS = {
    "range": "least and greatest",
    "sd": "one standard deviation",
    "ci95": "95% t interval of the mean",
}


def compose(
    spec: FigureSpec,
    sweep: Sweep,
    trials: Sequence[Trial],
    records: Mapping[Key, Record],
    *,
    states: Mapping[Key, str] | None = None,
    histories: Histories | None = None,
    artifacts: Artifacts | None = None,
) -> Figure:
    """`trials` is the sweep's whole design; `records` and `states` go by the trials' keys, as
    for a table; `histories` (trial -> measurements) is what curves are made of, `artifacts`
    (trial, name -> content) what points are."""
    readings = Readings(records=records, states=states, histories=histories)
    if isinstance(spec, SearchFigure):  # of what was found, not of the design
        return compose_searched(spec, sweep, trials, readings)
    shown = _shown(spec, sweep, trials)
    if isinstance(spec, Curves):
        readings = with_courses(readings, shown)
    lost = Lost(spec=spec, sweep=sweep, shown=shown)
    for trial in shown:
        state = readings.state(trial)
        if state == "stale":
            lost.add(STALE, trial)
        elif state != "done":
            lost.add(state, trial)
    done = [trial for trial in shown if readings.done(trial)]
    if isinstance(spec, Curves):
        figure = _curves(spec, sweep, done, readings, lost)
    else:
        figure = _scatter(spec, sweep, done, artifacts, lost)
    footer = (*figure.footer, *lost.notes(), *made(sweep, shown, readings))
    return replace(figure, footer=footer, filled=len(done) == len(shown))


def _shown(spec: FigureSpec, sweep: Sweep, trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """The trials of the figure, each once in each series and panel, in the order of the design.
    One that stands in two of them, as two labels share it, is drawn in both."""
    only = _chosen(spec)
    chosen = (
        trial
        for trial in trials
        if fits(trial, spec.where, sweep)
        and all(label_of(trial, axis) in labels for axis, labels in only.items())
    )
    axes = [spec.panels, spec.series if isinstance(spec, Curves) else spec.rows]
    drawn = [axis for axis in axes if axis]
    places = {(trial.key, *(label_of(trial, axis) for axis in drawn)): trial for trial in chosen}
    return tuple(places.values())


def _chosen(spec: FigureSpec) -> dict[str, tuple[str, ...]]:
    """Axis -> the labels that the figure's `only` leaves."""
    pairs = [(spec.panels, spec.panels_only)]
    if isinstance(spec, Curves):
        pairs.append((spec.series, spec.series_only))
    else:
        pairs.append((spec.rows, spec.rows_only))
    return {axis: only for axis, only in pairs if axis and only}


def _labels(spec: FigureSpec, sweep: Sweep, axis: str | None) -> tuple[str | None, ...]:
    """The labels of an axis that the figure shows, in its order; of no axis one None."""
    if axis is None:
        return (None,)
    return _chosen(spec).get(axis) or sweep.axis(axis).labels


def _at(trials: Iterable[Trial], places: Mapping[str | None, str | None]) -> list[Trial]:
    return [
        trial
        for trial in trials
        if all(axis is None or label_of(trial, axis) == label for axis, label in places.items())
    ]


def _named(spec: FigureSpec, label: str | None) -> str:
    return "" if label is None else spec.labels.get(label, label)


# ---- curves


def _curves(
    spec: Curves, sweep: Sweep, done: Sequence[Trial], readings: Readings, lost: Lost
) -> Figure:
    histories = {trial.key: tuple(readings.histories(trial)) for trial in done}
    x = metric_named(spec.x, sweep)
    columns, series = (_labels(spec, sweep, axis) for axis in (spec.panels, spec.series))

    def lines(y: Metric, column: str | None, place: int) -> list[Line]:
        group = _at(done, {spec.panels: column, spec.series: series[place]})
        courses = {}
        for trial in group:
            found = course_of(histories[trial.key], x.source, y.source, x.scale, y.scale)
            if found:
                courses[trial.key] = found
            else:
                lost.add(f"no {y.source} recorded", trial)
        label = _named(spec, series[place])
        if courses and not common_grid(tuple(courses.values())):
            lost.add(f"no {x.source} in common, so drawn one by one", *group)
            return [_line(label, place, [course], spec.band) for course in courses.values()]
        return [_line(label, place, tuple(courses.values()), spec.band)] if courses else []

    def panel(y: Metric, column: str | None) -> Panel:
        return Panel(lines=tuple(it for n in range(len(series)) for it in lines(y, column, n)))

    panels = tuple(
        tuple(panel(metric_named(name, sweep), column) for column in columns) for name in spec.y
    )
    return Figure(
        name=spec.name,
        kind="curves",
        columns=tuple(_named(spec, label) for label in columns),
        rows=tuple(spec.y_labels.get(name) or metric_label(name, sweep) for name in spec.y),
        panels=panels,
        x_label=spec.x_label or axis_label(spec.x, sweep),
        caption=spec.caption,
        footer=tuple(_what_lines_are(spec, panels)),
    )


def _line(label: str, place: int, courses: Sequence[Course], band: str) -> Line:
    xs, means, lows, highs = mean_and_band(courses, band)
    return Line(
        label=label,
        place=place,
        xs=tuple(xs),
        means=tuple(means),
        lows=tuple(lows),
        highs=tuple(highs),
        n=len(courses),
        stepped=len({tuple(x for x, _ in course) for course in courses}) > 1,
    )


def _what_lines_are(spec: Curves, panels: Sequence[Sequence[Panel]]) -> Iterator[str]:
    lines = [line for row in panels for panel in row for line in panel.lines]
    over = ", ".join(spec.over)
    if most := max((line.n for line in lines if line.n > 1), default=0):
        yield f"line: mean over {over} (n={most}); band: {BANDS[spec.band]}"
    if any(line.stepped for line in lines):
        yield "steps: each trial keeps its value until it has the next, up to where the first ends"


# ---- points


def _scatter(
    spec: Scatter, sweep: Sweep, done: Sequence[Trial], artifacts: Artifacts | None, lost: Lost
) -> Figure:
    assert artifacts is not None, "points need the trials' artifacts"
    columns, rows = (_labels(spec, sweep, axis) for axis in (spec.panels, spec.rows))

    def panel(row: str | None, column: str | None) -> Panel:
        for trial in _at(done, {spec.rows: row, spec.panels: column}):  # one, or none
            try:
                content = artifacts(trial, spec.artifact)
                if content is None:
                    lost.add(f"no {spec.artifact}", trial)
                    continue
                return Panel(cloud=cloud_of(content, spec.array, spec.colour))
            except CorruptRecord:  # Killed while it was written, as a rule.
                lost.add(f"{spec.artifact} is damaged", trial)
            except ValueError as fault:
                lost.add(f"{spec.artifact}: {fault}", trial)
        return Panel()

    panels = tuple(tuple(panel(row, column) for column in columns) for row in rows)
    made_by = dict.fromkeys(p.cloud.made for line in panels for p in line if p.cloud)
    return Figure(
        name=spec.name,
        kind="scatter",
        columns=tuple(_named(spec, label) for label in columns),
        rows=tuple(_named(spec, label) for label in rows),
        panels=panels,
        colour=spec.colour,
        caption=spec.caption,
        footer=tuple(f"points: {spec.array}{HOW[how]}" for how in made_by),
    )


HOW = {
    "scaled": ", each scaled to length 1",
    "plain": "",
    "projected": " along their first two principal components (share of the variance)",
}


# ---- what is not shown


@dataclass(kw_only=True)
class Lost:
    """Trials that a figure should show and does not, by reason. Its state is the list."""

    spec: FigureSpec
    sweep: Sweep
    shown: Sequence[Trial]
    reasons: dict[str, dict[Key, Trial]] = field(default_factory=dict)

    def add(self, reason: str, *trials: Trial) -> None:
        self.reasons.setdefault(reason, {}).update({trial.key: trial for trial in trials})

    def notes(self) -> Iterator[str]:
        """ "missing: Aggressive seed 0, 2; MaxPool seed 1" """
        for reason, trials in self.reasons.items():
            if len(trials) == len(self.shown) > 1:
                yield f"{reason}: all {len(trials)} trials"
                continue
            groups: dict[str, list[str]] = {}
            for trial in trials.values():
                groups.setdefault(self._where(trial), []).append(self._which(trial))
            said = [f"{where} {', '.join(which)}".strip() for where, which in groups.items()]
            if len(said) > LOST_SHOWN:
                said[LOST_SHOWN:] = [f"and {len(said) - LOST_SHOWN} more"]
            yield f"{reason}: {'; '.join(said)}"

    def _where(self, trial: Trial) -> str:
        """The panel and the series of a trial, and the axis that tells trials there apart."""
        spec = self.spec
        axes = (spec.panels, spec.series if isinstance(spec, Curves) else spec.rows)
        shown = [_named(spec, label_of(trial, axis)) for axis in axes if self._tells(axis)]
        return " ".join([" · ".join(shown), *self._apart()[:1]]).strip()

    def _which(self, trial: Trial) -> str:
        """Its labels on the axes that nothing in the figure shows."""
        first, *others = self._apart() or ("",)
        labels = [label_of(trial, first)] if first else []
        return " ".join(labels + [f"{axis} {label_of(trial, axis)}" for axis in others])

    def _apart(self) -> list[str]:
        spec = self.spec
        axes = spec.over if isinstance(spec, Curves) else tuple(spec.where)
        return [axis for axis in axes if self._tells(axis)]

    def _tells(self, axis: str | None) -> bool:
        return axis is not None and len(self.sweep.axis(axis).levels) > 1
