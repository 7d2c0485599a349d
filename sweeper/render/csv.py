"""A Table in, comma-separated values out, one line a cell: for spreadsheets and scripts.

Numbers are whole (not rounded) and stay numbers. Text that a spreadsheet would take for a
formula is led by an apostrophe (OWASP, "CSV Injection").
"""

from __future__ import annotations

import csv
import io
import re

from sweeper.tables import Cell, Column, Row, Table

_FORMULA = re.compile(r"(?m)^([^\S\n]*[=+\-@\t\r＝＋－＠])")


def render(table: Table) -> str:
    axes = list(table.columns[0].at) if table.columns else []
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(safe, [table.row_axis, *axes, *_FIELDS]))
    for row, cells in table.lines():
        for column, cell in zip(table.columns, cells, strict=True):
            writer.writerow(_line(row, column, cell))
    return out.getvalue()


_FIELDS = (
    "metric",
    "kind",
    "mean",
    "sd",
    "n",
    "points",
    "state",
    "best",
    "p",
    "resolved",
    "trials",
    "notes",
)


def safe(text: str) -> str:
    """`text` without control characters, an apostrophe before each line that would be a
    formula."""
    lines = re.sub(r"\r\n?", "\n", text)
    return _FORMULA.sub(r"'\1", re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", lines))


def _line(row: Row, column: Column, cell: Cell) -> list[str | float | int]:
    def shown(value: float | bool | None) -> float | str:
        if isinstance(value, bool):
            return str(value).lower()
        return "" if value is None else value

    return [
        safe(row.key),
        *map(safe, column.at.values()),
        safe(column.metric.name),
        column.kind,
        shown(cell.mean),
        shown(cell.sd),
        cell.n,
        cell.points,
        cell.state,
        shown(cell.best),
        shown(cell.p),
        shown(cell.resolved),
        " ".join(cell.trials),
        safe("; ".join(cell.notes)),
    ]
