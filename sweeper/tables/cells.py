"""The types of a finished table: what a rendering is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sweeper.spec.sweep import Metric, Reference

CellState = Literal[
    "value",
    "stale",
    "missing",
    "unscored",
    "running",
    "failed",
    "diverged",
    "exceeded",
    "corrupt",
    "quoted",
    "not applicable",
]
ColumnKind = Literal["value", "delta", "ratio", "paper", "difference"]

MARKS = ("†", "‡", "§", "¶", "‖", "#")  # the traditional order; then doubled, tripled


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one run gave to a cell: `at` are its labels on the axes under `over`, `trial` and
    `evaluation` its ids, `state` as in a cell's `states`, and `value` is as displayed (scaled);
    None says that there is none."""

    at: str
    seed: int
    trial: str
    evaluation: str
    state: str
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """`text` is what is printed, without footnote marks. `samples` are the numbers behind
    it, as displayed (scaled): labels on the axes under `over` -> value. `points` counts the
    trials that it should have, `n` those that gave a value, `states` all by state, and
    `evaluations` the one that each of `trials` is scored by.
    A training that is scored in several ways is one of `points` and several of `trials`; its
    sample is their mean, and `runs` are what each gave, by its own labels.
    `notes` are the texts of its footnotes. `p` (corrected, as all are) and `resolved` belong
    to a difference; `star` and `p_star` to a test against a row, `circle` and `p_circle` to
    one of these checkpoints; `untested` says why there is none."""

    state: CellState
    text: str = ""
    mean: float | None = None
    sd: float | None = None
    n: int = 0
    points: int = 0
    samples: Mapping[str, float] = field(default_factory=dict)
    runs: tuple[Score, ...] = ()
    trials: tuple[str, ...] = ()
    evaluations: tuple[str, ...] = ()
    states: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    best: bool = False
    p: float | None = None
    resolved: bool | None = None
    star: str = ""
    p_star: float | None = None
    circle: str = ""
    p_circle: float | None = None
    untested: tuple[str, ...] = ()

    @property
    def scores(self) -> dict[str, float]:
        """Labels on the axes under `over` -> value, of each run that has one."""
        return {run.at: run.value for run in self.runs if run.value is not None}

    @property
    def pending(self) -> int:
        """How many of its trials may still come by running the sweep again."""
        return sum(self.states.get(state, 0) for state in ("running", "missing", "unscored"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`key` is the label in the sweep file, `label` what is printed. One with a
    `reference` is no level of the axis. `group` is the heading that it stands under."""

    key: str
    label: str
    reference: Reference | None = None
    rule_after: bool = False
    note: str | None = None
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`at` is axis -> label in the sweep file; `path` the printed headings, outer to inner,
    as many in every column ("" where a level has none), and `notes` their footnotes."""

    at: Mapping[str, str]
    metric: Metric
    kind: ColumnKind = "value"
    path: tuple[str, ...] = ()
    notes: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`cells` is row by row. `footer` says how the table was made and what its marks mean,
    one statement a line; `marks` is footnote text -> mark, in reading order. `row_label` is
    what is printed for the rows' axis, where that is not its name."""

    name: str
    profile: str
    caption: str
    row_axis: str
    row_label: str | None = None
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    cells: tuple[tuple[Cell, ...], ...]
    marks: Mapping[str, str]
    footer: tuple[str, ...]

    @property
    def row_heading(self) -> str:
        return self.row_axis if self.row_label is None else self.row_label

    def lines(self) -> Iterator[tuple[Row, tuple[Cell, ...]]]:
        return zip(self.rows, self.cells, strict=True)

    def opened(self, i: int) -> str:
        """The heading of a group of rows that stands above row `i`; "" for none."""
        group = self.rows[i].group
        return group if i == 0 or self.rows[i - 1].group != group else ""

    def mark(self, *notes: str | None) -> str:
        return "".join(self.marks[note] for note in notes if note)

    def heading(self, column: Column) -> tuple[str, ...]:
        """The column's headings with their footnote marks."""
        pairs = zip(column.path, column.notes, strict=True)
        return tuple(text + self.mark(note) for text, note in pairs)

    def mark_of(self, cell: Cell) -> str:
        return self.mark(*cell.notes) + cell.star + cell.circle

    @property
    def counts(self) -> dict[str, int]:
        """State -> how many of the cells that trials fill are in it."""
        body = [
            cell.state
            for row, cells in self.lines()
            for column, cell in zip(self.columns, cells, strict=True)
            if column.kind == "value" and row.reference is None
        ]
        return dict(Counter(body))

    @property
    def filled(self) -> bool:
        """Whether each trial of each cell gave what it can give."""
        states = {state for cells in self.cells for cell in cells for state in cell.states}
        return states <= {"value", "stale", "not applicable"}


def numbered(notes: Iterable[str | None]) -> dict[str, str]:
    """Footnote text -> mark, in order of first appearance, one mark a text."""
    texts = dict.fromkeys(note for note in notes if note)
    return {text: MARKS[i % len(MARKS)] * (i // len(MARKS) + 1) for i, text in enumerate(texts)}
