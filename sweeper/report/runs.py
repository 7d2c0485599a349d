"""The cells of a table in; what is behind each number, as a card that opens beside it, out.

A card is a popover: it opens by a click, a tap or the keyboard without any script, and with
the page's script also by hovering and by focus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from sweeper.plan import Plan
from sweeper.record import Record
from sweeper.render.html import Shown
from sweeper.render.markup import Child, Html, tag
from sweeper.report.contents import spoken
from sweeper.spec.sweep import Sweep, TableSpec
from sweeper.tables import Cell, Column, Row, Table
from sweeper.tables.numerals import MINUS, NONE, numeral
from sweeper.tables.readings import Readings, label_of
from sweeper.trial import Key, Trial

MOST_CARDS = 3_000  # on a page
MOST_RUNS = 12  # in a card
SHORT = 12  # characters of a digest


class Cards:
    """Gives the numbers of tables their cards. It has state because each card has a number of
    its own, and because a page has room for so many."""

    def __init__(self, sweep: Sweep, plan: Plan):
        self.sweep, self.plan = sweep, plan
        self.made = self.left_out = 0
        self._readings = Readings(records=plan.records, states=plan.states)
        self._points: dict[Key, list[Trial]] = {}
        for trial in plan.trials:
            self._points.setdefault(trial.key, []).append(trial)

    def of(self, table: Table) -> Shown:
        spec = self.sweep.tables[table.name]

        def shown(i: int, j: int, cell: Cell, number: Html) -> Html:
            if not cell.trials or not cell.text:
                return number
            if self.made >= MOST_CARDS:
                self.left_out += 1
                return number
            self.made += 1
            row, column = table.rows[i], table.columns[j]
            inside = self.card(spec, row, column, cell)
            name = f"card-{self.made}"
            button = tag(
                "button",
                number,
                type="button",
                class_="behind",
                popovertarget=name,
                popovertargetaction="show",
            )
            return Html(button + tag("div", *inside, id=name, popover=True, class_="card"))

        return shown

    def card(self, spec: TableSpec, row: Row, column: Column, cell: Cell) -> Iterator[Child]:
        heading = [row.label, *filter(None, column.path)]
        counted = f"{cell.n} of {cell.points} runs" if cell.points else "made of other cells"
        yield tag("p", tag("b", " · ".join(heading)), " ", tag("span", cell.text), class_="what")
        runs = self.runs(row, column, cell)
        direct = column.kind == "value"
        lines = [self.line(trial, cell if direct else None, column, spec) for trial in runs]
        head = ["run", *(["value"] if direct else []), "updates", "time", "trial"]
        yield tag(
            "table",
            tag("thead", tag("tr", *(tag("th", text, scope="col") for text in head))),
            tag("tbody", *lines[:MOST_RUNS]),
        )
        if not direct and cell.samples:
            metric = column.metric
            pairs = [
                f"{at or 'difference'} {numeral(x, metric.format, signed=True, unit=metric.unit)}"
                for at, x in list(cell.samples.items())[:MOST_RUNS]
            ]
            yield tag("p", f"by {', '.join(spec.over) or 'pair'}: {'; '.join(pairs)}")
        more = len(lines) - MOST_RUNS
        yield tag("p", f"and {more} more runs") if more > 0 else None
        records = [r for trial in runs if (r := self.plan.records.get(trial.key)) is not None]
        told = [counted, *(f"{n} {state}" for state, n in cell.states.items() if state != "value")]
        told += tests(cell)
        yield tag("p", "; ".join([*told, *made_by(records)]), class_="made")

    def runs(self, row: Row, column: Column, cell: Cell) -> list[Trial]:
        """The trials of a cell, each once, at their points in this row and column."""
        keys = [Key(*pair) for pair in zip(cell.trials, cell.evaluations, strict=True)]
        found = []
        for key in dict.fromkeys(keys):
            points = self._points.get(key, [])
            at = column.at.items() if column.kind == "value" else ()
            here = [p for p in points if all(label_of(p, axis) == label for axis, label in at)]
            here = [p for p in here if row.key in p.labels.values()] or here or points
            found += here[:1]
        return found

    def line(self, trial: Trial, cell: Cell | None, column: Column, spec: TableSpec) -> Html:
        record = self.plan.records.get(trial.key)
        at = ", ".join(label_of(trial, axis) for axis in spec.over)
        named = ", ".join(f"{axis} {label_of(trial, axis)}" for axis in spec.over)
        if not named or cell is None:
            named = titled(trial)
        value: list[Child] = []
        if cell is not None:
            sample = cell.scores.get(at)  # its own, not the mean over how a training is scored
            if sample is None and spec.at is None:
                sample = self._readings.read(trial, column.metric).value
            metric = column.metric
            text = NONE if sample is None else numeral(sample, ".6g", unit=metric.unit)
            state = self.plan.states[trial.key]
            if any(run.state == "corrupt" and run.trial == trial.id for run in cell.runs):
                state = "corrupt"  # on the way to its result
            text = text if sample is not None or state in ("done", "stale") else state
            value = [tag("td", text)]
        return tag(
            "tr",
            tag("td", named),
            *value,
            tag("td", updates(record)),
            tag("td", clock(record.seconds) if record else NONE),
            tag("td", tag("code", trial.id)),
        )


def tests(cell: Cell) -> Iterator[str]:
    """Of a difference, against a row, and of these checkpoints; or why there is none."""
    if cell.p is not None:
        yield f"p {numeral(cell.p, '.2g')}"
    if cell.p_star is not None:
        yield f"against the row p {numeral(cell.p_star, '.2g')}"
    if cell.p_circle is not None:
        yield f"of these checkpoints p {numeral(cell.p_circle, '.2g')}"
    yield from cell.untested


def made_by(records: Sequence[Record]) -> Iterator[str]:
    """ "commit 53824cd8d2d2; code b462127644e0; data 597562c3cf60" """
    stamps = [record.provenance for record in records]
    for what, found in (
        ("commit", (commit(record) for record in records)),
        ("code", (code for record in records for code in codes(record))),
        ("data", (str(stamp.get("data_digest") or "")[:SHORT] for stamp in stamps)),
    ):
        distinct = list(dict.fromkeys(filter(None, found)))
        if distinct:
            yield f"{what} {', '.join(distinct[:4])}{' …' if len(distinct) > 4 else ''}"


def commit(record: Record) -> str:
    found = str(record.provenance.get("commit") or "")[:SHORT]
    return f"{found} with changes" if found and record.provenance.get("dirty") else found


def codes(record: Record) -> Iterable[str]:
    return (code[:SHORT] for code in record.codes)


def titled(trial: Trial) -> str:
    """ "Topics · MaxPool · seed 1" """
    labels = [spoken(axis, label) for axis, label in trial.labels.items() if axis != "seed"]
    return " · ".join([*labels, f"seed {trial.seed}"])


def updates(record: Record | None) -> str:
    return NONE if record is None or record.cost is None else f"{record.cost:,.0f}"


def clock(seconds: float) -> str:
    """ "1:02:03" hours, "2:03" minutes, "8.9 s" """
    if seconds < 60:
        return f"{seconds:.1f} s".replace("-", MINUS)
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
