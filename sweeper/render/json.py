"""A Table in, JSON out: everything that is known of each cell. Free text is as in the sweep
file.

`samples` are the numbers that the mean is of, one a training: its labels on the axes under
`over` -> value. `runs` are all that a cell of values should have, with what each gave:

    {"at": "0", "seed": 0, "trial": "126c1e7ffee28a69", "evaluation": "0d3b8a...",
     "state": "value", "value": 81.2}

`value` is scaled as printed, and null where there is none: `state` says why. What is made of
other cells (a difference, a ratio), published or a reference has no runs of its own.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

from sweeper.tables import Cell, Column, Row, Table


def render(table: Table) -> str:
    value = {
        "table": table.name,
        "profile": table.profile,
        "caption": table.caption,
        "row_axis": table.row_axis,
        "columns": [_column(column) for column in table.columns],
        "rows": [_row(row, cells) for row, cells in table.lines()],
        "counts": table.counts,
        "marks": dict(table.marks),
        "footer": list(table.footer),
    }
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    return re.sub("[\x7f-\x9f\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _column(column: Column) -> dict[str, Any]:
    return {
        "at": dict(column.at),
        "metric": column.metric.name,
        "source": column.metric.source,
        "unit": column.metric.unit,
        "scale": column.metric.scale,
        "kind": column.kind,
        "heading": list(column.path),
    }


def _row(row: Row, cells: tuple[Cell, ...]) -> dict[str, Any]:
    return {
        "key": row.key,
        "label": row.label,
        "group": row.group,
        "reference": row.reference is not None,
        "note": row.note,
        "cells": [_cell(cell) for cell in cells],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "state": cell.state,
        "text": cell.text,
        "mean": cell.mean,
        "sd": cell.sd,
        "n": cell.n,
        "points": cell.points,
        "samples": dict(cell.samples),
        "runs": [asdict(run) for run in cell.runs],
        "states": dict(cell.states),
        "trials": list(cell.trials),
        "best": cell.best,
        "p": cell.p,
        "resolved": cell.resolved,
        "star": cell.star,
        "p_star": cell.p_star,
        "circle": cell.circle,
        "p_circle": cell.p_circle,
        "untested": list(cell.untested),
        "notes": list(cell.notes),
    }
