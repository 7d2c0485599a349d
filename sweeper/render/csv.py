"""A Table in, comma-separated values out, one line a cell: for spreadsheets and scripts.

Numbers are whole (not rounded), in the unit beside them, and stay numbers, negative ones
too. Text that a spreadsheet would take for a formula is led by an apostrophe (OWASP, "CSV
Injection"). `p` and `resolved` are of a difference; the tests of a value against a row and of
its checkpoints have columns of their own, each with its mark and its p (corrected, as all are).
"""

from __future__ import annotations

import csv
import io
import re

from sweeper.render.layout import visible
from sweeper.tables import Cell, Column, Row, Table

# At the start of a line; and after what is the delimiter of spreadsheets of other countries,
# which take no notice of our quotes then.
_FORMULA = re.compile(r"(?m)(^|[;\t])([^\S\n]*[=+\-@\t\r＝＋－＠])")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


def render(table: Table) -> str:
    axes = list(table.columns[0].at) if table.columns else []
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    named = [f"axis {name}" if name in _FIELDS else name for name in (table.row_axis, *axes)]
    writer.writerow([*map(safe, named), *_FIELDS])
    for row, cells in table.lines():
        for column, cell in zip(table.columns, cells, strict=True):
            writer.writerow(_line(row, column, cell))
    return out.getvalue()


_FIELDS = (
    "group",
    "metric",
    "kind",
    "unit",
    "mean",
    "sd",
    "n",
    "points",
    "state",
    "best",
    "p",
    "resolved",
    "star_against_row",
    "p_against_row",
    "circle_of_checkpoints",
    "p_of_checkpoints",
    "untested",
    "trials",
    "notes",
)


def safe(text: str) -> str:
    """`text` with what has no glyph made visible, an apostrophe before each line that would
    be a formula. A number is none."""
    if _NUMBER.fullmatch(text):
        return text
    lines = re.sub(r"\r\n?|[\v\f\u2028\u2029]", "\n", text)
    shown = re.sub(r"[^\n\t]+", lambda found: visible(found[0]), lines)
    return _FORMULA.sub(r"\1'\2", shown)


def _line(row: Row, column: Column, cell: Cell) -> list[str | float | int]:
    def shown(value: float | bool | None) -> float | str:
        if isinstance(value, bool):
            return str(value).lower()
        return "" if value is None else value

    return [
        safe(row.key),
        *map(safe, column.at.values()),
        safe(row.group),
        safe(column.metric.name),
        column.kind,
        safe("" if column.kind == "ratio" else column.metric.unit),
        shown(cell.mean),
        shown(cell.sd),
        cell.n,
        cell.points,
        cell.state,
        shown(cell.best),
        shown(cell.p),
        shown(cell.resolved),
        safe(cell.star),
        shown(cell.p_star),
        safe(cell.circle),
        shown(cell.p_circle),
        safe("; ".join(cell.untested)),
        " ".join(cell.trials),
        safe("; ".join(cell.notes)),
    ]
