"""The pivot itself: a table's specification, the design and what the store knows in; a
Table out.

A cell sums up the trials that agree with its row and its column, one for each combination
of the axes under `over`. Every axis of the sweep has a part in the table, so nothing is
averaged that was not asked for. Derived columns (differences, ratios, published values)
are made of finished cells.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

from sweeper import stats
from sweeper.record import Record
from sweeper.spec.sweep import Metric, Reference, Sweep, TableSpec
from sweeper.tables.cells import Cell, Column, Row, Score, Table, numbered
from sweeper.tables.comparisons import (
    Cells,
    Place,
    encircle,
    mark_best,
    resolve_deltas,
    say_untested,
    short_of,
    star,
)
from sweeper.tables.footers import LOST, footer
from sweeper.tables.headings import columns_of, display_name, published, rows_of
from sweeper.tables.items import Left, left_by
from sweeper.tables.numerals import NONE, has_spread, numeral, ratio, summary
from sweeper.tables.readings import (
    EMPTY_STATES,
    Artifacts,
    Histories,
    Reading,
    Readings,
    averaged,
    fits,
    label_of,
    trainings,
    with_courses,
)
from sweeper.trial import Key, Trial

STALE = "made by code that has changed since"

Points = dict[tuple[str, ...], dict[str, Trial]]  # row, columns -> labels under `over` -> trial


def tabulate(
    spec: TableSpec,
    sweep: Sweep,
    trials: Sequence[Trial],
    records: Mapping[Key, Record],
    *,
    states: Mapping[Key, str] | None = None,
    histories: Histories | None = None,
    artifacts: Artifacts | None = None,
) -> Table:
    """`trials` is the sweep's whole design; `records` and `states` (as a plan gives them;
    by default the records' own) go by the trials' keys; `histories` (trial -> measurements) is
    needed where the table is read `at` a cost, `artifacts` (trial, name -> content) where it
    asks of these `checkpoints`."""
    check_axes(spec, sweep)
    readings = Readings(records=records, states=states, histories=histories)
    rows = rows_of(spec, sweep, trials)
    shown = _shown(spec, sweep, trials, rows)
    rows = _with_known_references(rows, shown, readings)
    columns = columns_of(spec, sweep, shown)
    limits = _limits(spec, columns, shown, readings)
    if spec.at is not None:
        readings = with_courses(readings, shown)

    points = _points(spec, shown)
    cells = _value_cells(spec, rows, columns, points, readings, limits)
    _fill_deltas(spec, rows, columns, cells)
    _say_n(spec, columns, cells)
    _fill_ratios(spec, rows, columns, cells)
    _fill_published(spec, sweep, rows, columns, cells)

    def left(place: Place) -> Left:
        there = points.get((rows[place[0]].key, *columns[place[1]].at.values()), {})
        metric = columns[place[1]].metric
        return left_by(spec.checkpoints, metric, there, readings, artifacts)

    verdicts = [
        *resolve_deltas(spec, rows, columns, cells),
        *mark_best(spec, rows, columns, cells),
        *star(spec, rows, columns, cells),
        *encircle(spec, rows, columns, cells, left),
    ]
    columns = say_untested(columns, cells)
    rows = _without_said_notes(rows, columns, cells)
    body = tuple(tuple(cells[i, j] for j in range(len(columns))) for i in range(len(rows)))
    notes = [note for column in columns for note in column.notes]
    for row, line in zip(rows, body, strict=True):
        notes += [row.note, *(note for cell in line for note in cell.notes)]
    return Table(
        name=spec.name,
        profile=sweep.profile,
        caption=spec.caption or _caption(spec, columns),
        row_axis=spec.rows,
        row_label=display_name(spec, sweep, spec.rows),
        columns=columns,
        rows=rows,
        cells=body,
        marks=numbered(notes),
        footer=footer(spec, sweep, columns, body, shown, readings, limits, verdicts),
    )


def check_axes(spec: TableSpec, sweep: Sweep) -> None:
    """Each axis has exactly one part in the table. A sweep file that says otherwise was
    refused with a line and a column when it was read; this holds for everyone else."""
    parts = Counter([spec.rows, *spec.columns, *spec.over, *spec.where])
    axes = {axis.name for axis in sweep.axes}
    assert set(parts) == axes, f"{spec.name}: no silent averaging: {set(parts) ^ axes}"
    assert max(parts.values()) == 1, f"{spec.name}: an axis has two parts: {parts}"


def _shown(
    spec: TableSpec, sweep: Sweep, trials: Sequence[Trial], rows: Sequence[Row]
) -> tuple[Trial, ...]:
    """The trials of the table, in the order of the levels of the axes that are averaged
    over: no sum depends on the order in which trials or records came."""
    keys = {row.key for row in rows if row.reference is None}
    order = {axis.name: {label: i for i, label in enumerate(axis.labels)} for axis in sweep.axes}
    chosen = [
        trial
        for trial in trials
        if label_of(trial, spec.rows) in keys and fits(trial, spec.where, sweep)
    ]
    last = len(trials)
    return tuple(
        sorted(chosen, key=lambda t: [order[a].get(label_of(t, a), last) for a in spec.over])
    )


def _with_known_references(
    rows: tuple[Row, ...], shown: Sequence[Trial], readings: Readings
) -> tuple[Row, ...]:
    """No reference that no finished trial knows: not every corpus has an exact floor."""
    results = [readings.records[trial.key].result for trial in shown if readings.done(trial)]
    kept = [
        row
        for row in rows
        if row.reference is not None
        and (not results or any(k in r for r in results for k in row.reference.values.values()))
    ]
    below = [row for row in rows if row.reference is None]
    return (*kept[:-1], *(replace(row, rule_after=True) for row in kept[-1:]), *below)


def _limits(
    spec: TableSpec, columns: Sequence[Column], shown: Sequence[Trial], readings: Readings
) -> list[float | None]:
    """The cost at which each column is read: None for the end of training; for "min" that
    of its cheapest finished trial, one for the two sides of a difference."""
    if spec.at is None or spec.at != "min":
        return [spec.at] * len(columns)
    shared = [axis for axis in spec.columns if spec.delta is None or axis != spec.delta.axis]
    cheapest: dict[tuple[str, ...], float] = {}
    for trial in shown:
        cost = readings.records[trial.key].cost if readings.done(trial) else None
        if cost is not None:
            group = tuple(label_of(trial, axis) for axis in shared)
            cheapest[group] = min(cost, cheapest.get(group, cost))
    return [cheapest.get(tuple(c.at[axis] for axis in shared), 0.0) for c in columns]


def _points(spec: TableSpec, shown: Sequence[Trial]) -> Points:
    points: Points = defaultdict(dict)
    for trial in shown:
        place = (label_of(trial, spec.rows), *(label_of(trial, axis) for axis in spec.columns))
        key = ", ".join(label_of(trial, axis) for axis in spec.over)
        first = points[place].setdefault(key, trial)
        assert first.key == trial.key, f"two trials at {place}, {key}"
    return points


def _value_cells(
    spec: TableSpec,
    rows: Sequence[Row],
    columns: Sequence[Column],
    points: Points,
    readings: Readings,
    limits: Sequence[float | None],
) -> Cells:
    cells: Cells = {}
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        labels = tuple(column.at.values())
        if column.kind != "value":
            continue
        if row.reference is not None:
            pool = [
                t for place, there in points.items() if place[1:] == labels for t in there.values()
            ]
            cells[i, j] = _reference_cell(row.reference, column.metric, pool, readings)
        else:
            cells[i, j] = _value_cell(
                spec,
                column.metric,
                points.get((row.key, *labels), {}),
                readings,
                limits[j],
                row.note,
            )
    return cells


def _say_n(spec: TableSpec, columns: Sequence[Column], cells: Cells) -> None:
    """Where a cell has fewer points than others have; one short of its own says so already."""
    most = max((cell.points for cell in cells.values()), default=0)
    for place, cell in cells.items():
        if 0 < cell.n == cell.points < most and not _shows_n(spec.cell, cell.n):
            cells[place] = replace(cell, text=f"{cell.text} (n={cell.n})")


def _shows_n(template: str, n: int) -> bool:
    """One value alone is printed without the rest of its template."""
    return "{n}" in template and n > 1


def _value_cell(
    spec: TableSpec,
    metric: Metric,
    points: Mapping[str, Trial],
    readings: Readings,
    limit: float | None,
    note: str | None,
) -> Cell:
    """`note` is the row's: it explains what stands in for the metric (`or:`)."""
    there = trainings(points)  # labels that share a training count it once
    trials = [trial for some in there.values() for trial in some]
    alone = {trial.key: readings.read(trial, metric, limit) for trial in points.values()}
    read = {key: averaged([alone[trial.key] for trial in some]) for key, some in there.items()}
    samples = {key: reading.value for key, reading in read.items() if reading.value is not None}
    states = Counter(reading.state for reading in read.values())
    # What is done lacks the metric: the others would lack it too.
    lacks = not samples and states["not applicable"]
    cell = Cell(
        state="not applicable" if lacks else _state(states),
        n=len(samples),
        points=len(there),
        samples=samples,
        runs=tuple(_score(at, trial, alone[trial.key]) for at, trial in points.items()),
        trials=tuple(trial.id for trial in trials),
        evaluations=tuple(trial.evaluation_id for trial in trials),
        states=dict(states),
        notes=_notes(metric, read, states, note),
    )
    if not samples:
        return replace(cell, text=_said(cell.state))
    return _summed_up(cell, spec.cell, metric)


def _score(at: str, trial: Trial, reading: Reading) -> Score:
    return Score(
        at=at,
        seed=trial.seed,
        trial=trial.id,
        evaluation=trial.evaluation_id,
        state=reading.state,
        value=reading.value,
    )


def _said(state: str) -> str:
    """What is printed where there is no number."""
    return NONE if state == "not applicable" else state


def _state(states: Mapping[str, int]) -> str:
    if states.get("stale"):
        return "stale"
    if states.get("value"):
        return "value"
    return next((state for state in EMPTY_STATES if states.get(state)), "not applicable")


def _summed_up(cell: Cell, template: str, metric: Metric, *, signed: bool = False) -> Cell:
    values = list(cell.samples.values())
    text = summary(values, template, metric.format, signed=signed, unit=metric.unit)
    short = f" (n={cell.n})" if cell.n < cell.points and not _shows_n(template, cell.n) else ""
    return replace(cell, text=text + short, mean=stats.mean(values), sd=stats.sd(values))


def _notes(
    metric: Metric, read: Mapping[str, Reading], states: Mapping[str, int], note: str | None
) -> tuple[str, ...]:
    notes = []
    if any(reading.filled for reading in read.values()):
        stands_in = f"{metric.fallback} in place of {metric.source}"
        notes.append(f"{note} ({stands_in})" if note else stands_in)
    ended = sorted(reading.ended for reading in read.values() if reading.ended is not None)
    if ended:
        span = " to ".join(dict.fromkeys(numeral(cost, ",.0f") for cost in (ended[0], ended[-1])))
        some = f"{len(ended)} of {len(read)} trials " if len(ended) < len(read) else ""
        notes.append(f"{some}ended before, at {span} updates")
    if states.get("stale"):
        notes.append(STALE)
    lost = [f"{states[state]} {state}" for state in LOST if states.get(state)]
    if lost and any(reading.value is not None for reading in read.values()):
        notes.append(f"left out: {', '.join(lost)} of {len(read)} trials")
    elif states.get("not applicable") and not (states.get("value") or states.get("stale")):
        others = [
            f"{states[state]} of {len(read)} {state}"
            for state in EMPTY_STATES
            if state != "not applicable" and states.get(state)
        ]
        notes += [", ".join(others)] if others else []
    return tuple(notes)


def _reference_cell(
    reference: Reference, metric: Metric, pool: Sequence[Trial], readings: Readings
) -> Cell:
    """The same key of all trials of the column, whatever their row: it says something of
    the corpus, so it has neither spread nor n."""
    source = reference.values.get(metric.name)
    if source is None:
        return Cell(state="not applicable", text=NONE)
    read_from = replace(metric, source=source, fallback=None)
    distinct = {trial.key: trial for trial in pool}.values()
    read = [found for t in distinct if (found := readings.read(t, read_from)).value is not None]
    values = [found.value for found in read]
    if not values:
        coming = ("missing", "unscored", "running")
        pending = any(readings.state(trial) in coming for trial in distinct)
        return Cell(state="missing" if pending else "not applicable", text=NONE)
    text = summary(values, "{mean}", metric.format, unit=metric.unit)
    # As displayed: the same floor may be computed with other last bits.
    ends = [numeral(x, metric.format, unit=metric.unit) for x in (min(values), max(values))]
    differs = f"the mean of trials that differ, {ends[0]} to {ends[1]}"
    state = _state(Counter(found.state for found in read))
    notes = [differs] if ends[0] != ends[1] else []
    notes += [STALE] if state == "stale" else []
    return Cell(state=state, text=text, mean=stats.mean(values), n=len(values), notes=tuple(notes))


def _fill_deltas(
    spec: TableSpec, rows: Sequence[Row], columns: Sequence[Column], cells: Cells
) -> None:
    """Level `end` minus level `start`, or a row minus the one that it is against, seed by
    seed. Differences always carry a spread."""
    if spec.delta is None:
        return
    template = spec.cell if has_spread(spec.cell) else "{mean} ± {sd}"
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        if column.kind != "delta":
            continue
        if spec.delta.row is not None:
            k = _value_column(columns, column)
            start, end = cells[_row(rows, spec.delta.row), k], cells[i, k]
            whose = (spec.labels.get(spec.delta.row, spec.delta.row), "")
        else:
            whose = tuple(spec.labels.get(it, it) for it in (spec.delta.start, spec.delta.end))
            start, end = (
                cells[i, _value_column(columns, column, {spec.delta.axis: label})]
                for label in (spec.delta.start, spec.delta.end)
            )
        differences = stats.paired_differences(start.samples, end.samples)
        states = Counter(start.states) + Counter(end.states)
        # One trial under both labels: nothing differs.
        same = (start.trials, start.evaluations) == (end.trials, end.evaluations)
        if row.reference or same or not differences:
            state = "not applicable" if row.reference or same else _unpaired(start, end)
            cells[i, j] = Cell(state=state, text="" if row.reference else _said(state))
            continue
        short = short_of(end, whose[1]) or short_of(start, whose[0])
        p = stats.paired_t(
            list(differences.values()), size=stats.size_of(start.samples, end.samples)
        )
        cell = Cell(
            state=_state(states),
            n=len(differences),
            points=max(start.points, end.points),
            samples=differences,
            trials=start.trials + end.trials,
            evaluations=start.evaluations + end.evaluations,
            notes=_both_notes(start, end),
            p=None if short else p,
            untested=(short,) if short else (),
        )
        cells[i, j] = _summed_up(cell, template, column.metric, signed=True)


def _both_notes(*sides: Cell) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for side in sides for note in side.notes))


def _unpaired(*sides: Cell) -> str:
    """Why two cells have no number between them: the state of the side that has none or,
    where each has some and no two are of one seed, that of a trial which is not there. What
    does not exist for one side will not come by running the other."""
    lacking = [side.state for side in sides if not side.n]
    if "not applicable" in lacking:
        return "not applicable"
    if not lacking:
        lacking = [state for side in sides for state in side.states if state in EMPTY_STATES]
    return _state(dict.fromkeys(lacking, 1))


def _fill_ratios(
    spec: TableSpec, rows: Sequence[Row], columns: Sequence[Column], cells: Cells
) -> None:
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        if column.kind != "ratio":
            continue
        k = _value_column(columns, column)
        reference = _row(rows, spec.relative_to.row)
        sides = (cells[i, k], cells[reference, k])
        above, below = sides[0].mean, sides[1].mean
        if row.reference:
            cells[i, j] = Cell(state="not applicable")
        elif above is None or below is None:
            state = _unpaired(*sides)
            cells[i, j] = Cell(state=state, text=_said(state))
        elif below == 0:
            cells[i, j] = Cell(state="not applicable", text=NONE)
        else:
            n, points = min(it.n for it in sides), max(it.points for it in sides)
            text = ratio(above / below, spec.relative_to.form)
            short = f" (n={n})" if any(it.n < it.points for it in sides) else ""
            trials = cells[i, k].trials + cells[reference, k].trials
            cells[i, j] = Cell(
                state="stale" if any(side.state == "stale" for side in sides) else "value",
                text=text + short,
                mean=above / below,
                n=n,
                points=points,
                notes=_both_notes(*sides),
                trials=trials,
                evaluations=cells[i, k].evaluations + cells[reference, k].evaluations,
            )


def _fill_published(
    spec: TableSpec, sweep: Sweep, rows: Sequence[Row], columns: Sequence[Column], cells: Cells
) -> None:
    """The published value beside each cell, and ours minus it."""
    notes = sweep.reported.get(spec.name, {}).get("notes", {})
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        if column.kind not in ("paper", "difference"):
            continue
        value = None if row.reference else published(spec, sweep, row.key, column.at, column.metric)
        side = cells[i, _value_column(columns, column)]
        ours, metric = side.mean, column.metric
        if value is None:
            cells[i, j] = Cell(state="not applicable", text=NONE if column.kind == "paper" else "")
        elif column.kind == "paper":
            text = numeral(value, metric.format, unit=metric.unit)
            said = tuple(filter(None, [notes.get(row.key)]))
            cells[i, j] = Cell(state="quoted", text=text, mean=value, notes=said)
        elif ours is None:
            cells[i, j] = Cell(state=side.state, text=_said(side.state))
        else:
            text = numeral(ours - value, metric.format, signed=True, unit=metric.unit)
            short = f" (n={side.n})" if side.n < side.points else ""
            cells[i, j] = Cell(
                state=side.state,
                text=text + short,
                mean=ours - value,
                n=side.n,
                points=side.points,
                notes=side.notes,
            )


def _row(rows: Sequence[Row], key: str) -> int:
    return next(i for i, row in enumerate(rows) if row.reference is None and row.key == key)


def _value_column(
    columns: Sequence[Column], beside: Column, at: Mapping[str, str] | None = None
) -> int:
    """The column of values that a derived column is made from."""
    labels = {**beside.at, **(at or {})}
    return next(
        j
        for j, column in enumerate(columns)
        if column.kind == "value"
        and column.at == labels
        and column.metric.name == beside.metric.name
    )


def _without_said_notes(
    rows: Sequence[Row], columns: Sequence[Column], cells: Cells
) -> tuple[Row, ...]:
    """A row's note goes to its label, unless its cells carry it already."""
    said = [{n for j in range(len(columns)) for n in cells[i, j].notes} for i in range(len(rows))]
    return tuple(
        replace(row, note=None)
        if any(note == row.note or note.startswith(f"{row.note} (") for note in notes)
        else row
        for row, notes in zip(rows, said, strict=True)
    )


def _caption(spec: TableSpec, columns: Sequence[Column]) -> str:
    shown = dict.fromkeys(column.metric.label or column.metric.name for column in columns)
    return f"{', '.join(shown)} by {spec.rows}"
