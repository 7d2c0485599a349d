"""One number of a table in; what it is made of out: each run behind it, who made those, what is
missing, and what the table says of it. For the verb why."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import click

from sweeper.cli.frame import Opened
from sweeper.cli.why import Asked, clock, columns, filled
from sweeper.cli.words import again, shown
from sweeper.errors import CorruptRecord, SpecError, unknown
from sweeper.plan import Plan
from sweeper.record import Record
from sweeper.spec.sweep import Metric, TableSpec
from sweeper.tables import Cell, Column, Row, Table, paths
from sweeper.tables.headings import published
from sweeper.tables.numerals import NONE, numeral
from sweeper.tables.readings import Readings, fits, label_of
from sweeper.trial import Trial

SHORT = 12  # characters of a digest
MOST_RUNS, MOST_MISSING = 100, 12
MADE = ("commit", "code", "data", "device", "host")  # said once where all runs have the same
WITH_RESULT = ("done", "stale")
JOURNAL = "/journal.jsonl"


def is_path(given: str, opened: Opened) -> bool:
    """Whether a person means a number of a table and no trial."""
    first = paths.table_of(given, opened.sweep.tables)
    return "/" in given and (first is not None or "=" not in given)


def show_cell(opened: Opened, plan: Plan, given: str, as_json: bool) -> None:
    from sweeper import run

    names = opened.sweep.tables
    name = paths.table_of(given, names)
    if name is None:
        first = next(iter(paths.split(given)), given)
        raise SpecError(f"{opened.sweep.source}: {unknown('table', first, names)}")
    parts = paths.split(given)[1:]
    damage: list[str] = []
    (table,) = run.tables(opened.sweep, plan, opened.place, [name], damage=damage)
    i, j = paths.find(parts, table)
    traced = Tracing(opened, plan, table, damage).cell(i, j)
    click.echo(json.dumps(as_data(traced), indent=1) if as_json else "\n".join(lines(traced)))
    behind = [run for it in (traced, *traced.sides) for run in it.runs]
    damaged = of_trials({run.trial.id for run in behind}, damage)
    left = [said for said in damaged if JOURNAL not in said]  # A run says that of its journal.
    for said in left:
        click.echo(f"corrupt: {shown(opened.place.store)}/{said}", err=True)
    if left or any(run.state == "corrupt" for run in behind):
        sys.exit(CorruptRecord.exit_code)


def of_trials(ids: Iterable[str], damage: Iterable[str]) -> list[str]:
    """What is damaged in the folders of these trials."""
    own = set(ids)
    return [said for said in damage if said.split("/")[1:2] and said.split("/")[1] in own]


# ---- what is known of a cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """A run behind a number: `at` are its labels on the axes that the cell is made over, and
    `value` is what it gave, scaled as the table shows it."""

    trial: Trial
    at: str
    value: float | None
    state: str
    because: str
    record: Record | None

    def made(self) -> dict[str, str]:
        stamp = self.record.provenance if self.record is not None else {}
        commit = str(stamp.get("commit") or "")[:SHORT]
        codes = self.record.codes if self.record is not None else ()
        return {
            "commit": f"{commit} with changes" if commit and stamp.get("dirty") else commit,
            "code": ", ".join(code[:SHORT] for code in codes),
            "data": str(stamp.get("data_digest") or "")[:SHORT],
            "device": str(stamp.get("device") or ""),
            "host": str(stamp.get("host") or ""),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """`sides` are the cells that this one is made of, `pairs` what they share -> the value of
    each side and their difference."""

    path: tuple[str, ...]
    row: Row
    column: Column
    cell: Cell
    printed: str
    how: tuple[str, ...]
    over: str = ""
    runs: tuple[Behind, ...] = ()
    paper: float | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    footers: tuple[str, ...] = ()
    sides: tuple[Traced, ...] = ()
    pairs: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


class Tracing:
    """Where the parts of a number are looked up."""

    def __init__(self, opened: Opened, plan: Plan, table: Table, damage: Sequence[str] = ()):
        """`damage` is what could not be believed where the table was made."""
        self.opened, self.plan, self.table, self.damage = opened, plan, table, damage
        self.sweep = opened.sweep
        self.spec: TableSpec = self.sweep.tables[table.name]
        self.asked = Asked(opened, plan)
        self.readings = Readings(records=plan.records, states=plan.states)

    def cell(self, i: int, j: int) -> Traced:
        row, column, cell = self.table.rows[i], self.table.columns[j], self.table.cells[i][j]
        found = Traced(
            path=(self.table.name, *paths.path(self.table, i, j)),
            row=row,
            column=column,
            cell=cell,
            printed=(cell.text + self.table.mark_of(cell)).strip() or "nothing",
            how=tuple(self.how(row, column)),
            over=", ".join(self.spec.over),
            notes=tuple(f"{self.table.mark(note)} {note}" for note in cell.notes),
            tests=tuple(self.tests(cell, column)),
        )
        sides = [self.cell(*place) for place in self.sides(i, j)]
        runs = self.runs(row, column) if column.kind == "value" else ()
        behind = runs or tuple(run for side in sides for run in side.runs)
        paper, source = self.paper(row, column)
        return replace(
            found,
            runs=runs,
            paper=paper,
            source=source,
            missing=tuple(self.missing(runs)),
            footers=tuple(self.footers(behind)),
            sides=tuple(sides),
            pairs=pairs(cell, sides) if column.kind == "delta" else {},
        )

    def how(self, row: Row, column: Column) -> Iterator[str]:
        metric, spec = column.metric, self.spec
        if column.kind == "paper":
            yield "a published value, as data in the file; nothing here made it"
        elif column.kind == "difference":
            yield "the mean of ours minus the published value"
        elif column.kind == "ratio":
            yield f"the mean divided by that of {spec.relative_to.row}"
        elif column.kind == "delta":
            minus = spec.delta.row or f"{spec.delta.end} minus {spec.delta.start}"
            what = f"minus {minus}" if spec.delta.row else minus
            over = ", ".join(spec.over) or "trial"
            yield f"{what}, {over} by {over}"
        elif row.reference is not None:
            source = row.reference.values.get(metric.name)
            yield f"the mean of {source} in all trials of the column" if source else "no such value"
        else:
            source = f"{metric.source}, or else {metric.fallback}" if metric.fallback else None
            template = re.sub(r"[{}]", "", spec.cell)
            over = f" over {', '.join(spec.over)}" if spec.over else ""
            yield f"{source or metric.source}: {template}{over}"
        if spec.at is not None and column.kind not in ("paper",):
            many = "the updates of the cheapest" if spec.at == "min" else f"{spec.at:,} updates"
            yield f"every trial read at its last measurement at or before {many}"
        if metric.scale != 1:
            yield f"times {metric.scale:g}"
        if metric.note:
            yield metric.note

    def runs(self, row: Row, column: Column) -> tuple[Behind, ...]:
        """Each trial at the cell's place, once."""
        if row.reference is not None:
            here = [t for t in self.plan.trials if self.is_at(t, None, column)]
            source = row.reference.values.get(column.metric.name)
            metric = replace(column.metric, source=source or "", fallback=None)
        else:
            here = [t for t in self.plan.trials if self.is_at(t, row.key, column)]
            metric = column.metric
        distinct = {trial.key: trial for trial in reversed(here)}
        return tuple(self.behind(trial, metric, column) for trial in reversed(distinct.values()))

    def behind(self, trial: Trial, metric: Metric, column: Column) -> Behind:
        at = ", ".join(label_of(trial, axis) for axis in self.spec.over)
        state, record = self.plan.states[trial.key], self.plan.records.get(trial.key)
        said = record
        if self.spec.at is None or metric.source != column.metric.source:  # or of a reference
            value = self.readings.read(trial, metric).value
        else:
            value = self.scores(trial, column).get(at)
            lost = [it for it in of_trials([trial.id], self.damage) if JOURNAL in it]
            if lost and record is not None:
                state, said = "corrupt", replace(record, error="; ".join(lost))
        because = "" if state == "done" else self.asked.because(trial, state, said)
        return Behind(trial=trial, at=at, value=value, state=state, because=because, record=record)

    def scores(self, trial: Trial, column: Column) -> Mapping[str, float]:
        """What the table read of each run of the trial's row, where it is not the end of
        training."""
        label = label_of(trial, self.spec.rows)
        for row, cells in self.table.lines():
            if row.key == label and row.reference is None:
                return cells[self.table.columns.index(column)].scores
        return {}

    def is_at(self, trial: Trial, row: str | None, column: Column) -> bool:
        return (
            (row is None or label_of(trial, self.spec.rows) == row)
            and all(label_of(trial, axis) == label for axis, label in column.at.items())
            and fits(trial, self.spec.where, self.sweep)
        )

    def sides(self, i: int, j: int) -> Iterator[tuple[int, int]]:
        """The cells that a derived one is made of; of a difference, the start first."""
        column, spec = self.table.columns[j], self.spec
        if column.kind == "value" or self.table.rows[i].reference is not None:
            return
        if column.kind == "delta" and spec.delta.row is None:
            for label in (spec.delta.start, spec.delta.end):
                yield i, self.values(column, {spec.delta.axis: label})
            return
        own = self.values(column)
        if column.kind == "delta":
            yield self.row(spec.delta.row), own
        yield i, own
        if column.kind == "ratio":
            yield self.row(spec.relative_to.row), own

    def row(self, key: str) -> int:
        rows = enumerate(self.table.rows)
        return next(i for i, row in rows if row.reference is None and row.key == key)

    def values(self, beside: Column, at: Mapping[str, str] | None = None) -> int:
        labels = {**beside.at, **(at or {})}
        return next(
            j
            for j, it in enumerate(self.table.columns)
            if it.kind == "value" and it.at == labels and it.metric.name == beside.metric.name
        )

    def paper(self, row: Row, column: Column) -> tuple[float | None, str]:
        """The published value, also where the table does not show it, and whose it is."""
        if row.reference is not None or column.kind in ("delta", "ratio"):
            return None, ""
        value = published(self.spec, self.sweep, row.key, column.at, column.metric)
        said = self.sweep.reported.get(self.table.name, {})
        return value, str(said.get("source", "as published"))

    def tests(self, cell: Cell, column: Column) -> Iterator[str]:
        if cell.best:
            yield "bold: the best of its group, or not told from it"
        if cell.p is not None:
            resolved = {True: "resolved", False: "not resolved"}.get(cell.resolved, "not tested")
            yield f"{resolved}: p = {cell.p:.3g} of n = {cell.n} pairs, as corrected"
        if cell.p_star is not None:
            says = f"differs ({cell.star})" if cell.star else "no difference is shown"
            against = self.spec.significance.against if self.spec.significance else "the reference"
            yield f"against {against}: {says}, p = {cell.p_star:.3g}, as corrected"
        if cell.p_circle is not None:
            says = f"differ ({cell.circle})" if cell.circle else "show no difference"
            yield f"these checkpoints {says}, p = {cell.p_circle:.3g}, as corrected"
        yield from cell.untested

    def missing(self, runs: Sequence[Behind]) -> Iterator[str]:
        lacking = [run for run in runs if run.state not in WITH_RESULT]
        for run in lacking[:MOST_MISSING]:
            at = f"{', '.join(self.spec.over)} {run.at}" if run.at else "the trial"
            yield f"{at} ({run.trial.id}) is {run.state}: {run.because}"
        if len(lacking) > MOST_MISSING:
            yield f"and {len(lacking) - MOST_MISSING} more"
        if any(run.state in ("missing", "unscored") for run in lacking):
            yield f"{again('run', self.opened)} fills it"

    def footers(self, runs: Iterable[Behind]) -> Iterator[str]:
        """Those of the table, without what is said of trials of other cells."""
        own = {run.trial.id for run in runs}
        for line in self.table.footer:
            named = re.findall(r"\(([0-9a-f]{16})\)", line)
            if all(id in own for id in named):
                yield line


def pairs(cell: Cell, sides: Sequence[Traced]) -> dict[str, tuple[float, float, float]]:
    start, end = (side.cell.samples for side in sides) if len(sides) == 2 else ({}, {})
    return {
        at: (start[at], end[at], difference)
        for at, difference in cell.samples.items()
        if at in start and at in end
    }


# ---- said to a person


def lines(traced: Traced) -> Iterator[str]:
    metric, cell = traced.column.metric, traced.cell
    yield paths.joined(traced.path)
    rows = [("printed", traced.printed)]
    rows += [("is", how) if k == 0 else ("", how) for k, how in enumerate(traced.how)]
    if cell.points:
        rows.append(("n", f"{cell.n} of {cell.points}"))
    if traced.paper is not None:
        rows.append(("paper", against(traced, metric)))
    rows += [("note", note) for note in traced.notes]
    rows += [("test", test) for test in traced.tests]
    yield from filled(rows)
    if traced.pairs:
        yield f"  pairs: {paths.joined(traced.sides[0].path)}, {paths.joined(traced.sides[1].path)}"
        told = [("", "start", "end", "difference")]
        for at, values in traced.pairs.items():
            told.append((at, *(number(x, metric, k == 2) for k, x in enumerate(values))))
        yield from columns(told, "    ")
    yield from behind(traced, traced.runs, "runs")
    for side in traced.sides:
        yield from behind(traced, side.runs, f"runs of {paths.joined(side.path)}")
    missing = [line for it in (traced, *traced.sides) for line in it.missing]
    if missing:
        yield "  missing"
        yield from wrapped(dict.fromkeys(missing))
    yield "  the table says"
    yield from wrapped(traced.footers)


def against(traced: Traced, metric: Metric) -> str:
    said = numeral(traced.paper, metric.format, unit=metric.unit)
    ours = traced.cell.mean if traced.column.kind == "value" else None
    if ours is not None:
        apart = numeral(ours - traced.paper, metric.format, signed=True, unit=metric.unit)
        said += f"; ours minus paper {apart}"
    return f"{said} ({traced.source})"


def behind(traced: Traced, runs: Sequence[Behind], title: str) -> Iterator[str]:
    if not runs:
        return
    yield f"  {title}"
    made = [run.made() for run in runs]
    differing = [k for k in MADE if len({it[k] for it in made if any(it.values())}) > 1]
    seed = [] if all(run.at == str(run.trial.seed) for run in runs) else ["seed"]
    rows = [(traced.over, "value", "updates", "seconds", *seed, "trial", "state", *differing)]
    for run, it in list(zip(runs, made, strict=True))[:MOST_RUNS]:
        record = run.record
        ended = record is not None and record.state != "running"
        cost = record.cost if record is not None else None
        rows.append(
            (
                run.at,
                NONE if run.value is None else number(run.value, traced.column.metric),
                NONE if cost is None else f"{cost:,.0f}",
                f"{record.seconds:,.1f}" if ended else NONE,
                *(str(run.trial.seed) for _ in seed),
                run.trial.id,
                run.state,
                *(it[key] or NONE for key in differing),
            )
        )
    yield from columns(rows, "    ")
    if len(runs) > MOST_RUNS:
        yield f"    and {len(runs) - MOST_RUNS} more (--json lists all)"
    known = next((it for it in made if any(it.values())), {})
    same = [f"{key} {known[key]}" for key in MADE if key not in differing and known.get(key)]
    if same:
        every = "each by" if len(runs) > 1 else "by"
        yield from wrapped([f"{every} {', '.join(same)}"])


def number(value: float, metric: Metric, signed: bool = False) -> str:
    return numeral(value, ".6g", signed=signed, unit=metric.unit)


def wrapped(some: Iterable[str]) -> Iterator[str]:
    import textwrap

    for line in some:
        yield from textwrap.wrap(
            line,
            96,
            initial_indent="    ",
            subsequent_indent="      ",
            break_on_hyphens=False,
            break_long_words=False,
        )


# ---- said to a program


def as_data(traced: Traced) -> dict[str, Any]:
    cell, column = traced.cell, traced.column
    return {
        "path": paths.joined(traced.path),
        "row": traced.row.key,
        "column": {"at": dict(column.at), "metric": column.metric.name, "kind": column.kind},
        "source": column.metric.source,
        "scale": column.metric.scale,
        "unit": column.metric.unit,
        "printed": traced.printed,
        "state": cell.state,
        "mean": cell.mean,
        "sd": cell.sd,
        "n": cell.n,
        "points": cell.points,
        "how": list(traced.how),
        "paper": traced.paper,
        "difference": None
        if traced.paper is None or cell.mean is None or column.kind != "value"
        else cell.mean - traced.paper,
        "paper_source": traced.source if traced.paper is not None else None,
        "p": cell.p,
        "resolved": cell.resolved,
        "star": cell.star,
        "best": cell.best,
        "notes": list(cell.notes),
        "tests": list(traced.tests),
        "runs": [run_as_data(run) for run in traced.runs],
        "pairs": {
            at: {"start": start, "end": end, "difference": difference}
            for at, (start, end, difference) in traced.pairs.items()
        },
        "sides": [as_data(side) for side in traced.sides],
        "missing": list(traced.missing),
        "footers": list(traced.footers),
    }


def run_as_data(run: Behind) -> dict[str, Any]:
    record = run.record
    return {
        "trial": run.trial.id,
        "evaluation": run.trial.evaluation_id,
        "labels": dict(run.trial.labels),
        "seed": run.trial.seed,
        "value": run.value,
        "state": run.state,
        "because": run.because or None,
        "updates": record.cost if record is not None else None,
        "seconds": record.seconds if record is not None else None,
        "ended": clock(record.finished_at) if record is not None and record.finished_at else None,
        "data_digest": run.trial.data_digest,
        "provenance": dict(record.provenance) if record is not None else {},
    }
