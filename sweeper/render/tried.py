"""What a search has tried in; comma-separated values out, one line a trial: everything, also what
was pruned, failed or is not feasible. Written as tables are (see csv.py)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from sweeper.render.csv import safe
from sweeper.spec.search_types import Found, Scalar, SearchSpec
from sweeper.spec.space import shown_bare

FIELDS = ("number", "state", "feasible", "front", "why", "trial")


def tried_csv(found: Found, search: SearchSpec, sources: Sequence[str]) -> str:
    """`sources` are the result keys of which a trial's value is shown."""
    axes = list(dict.fromkeys(axis for one in found.tried for axis in one.at))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*map(safe, axes), *FIELDS, *map(safe, (*search.space, *sources))])
    for one in found.tried:
        writer.writerow(
            [
                *(safe(one.at.get(axis, "")) for axis in axes),
                one.number,
                one.state,
                str(one.feasible).lower(),
                str(one.front).lower(),
                safe(one.why or ""),
                one.trial_id or "",
                *(cell(one.point.get(key, "")) for key in search.space),
                *(cell(one.values.get(key, "")) for key in sources),
            ]
        )
    return out.getvalue()


def cell(value: Scalar) -> str | float:
    if value is None or isinstance(value, bool):
        return shown_bare(value)
    return safe(value) if isinstance(value, str) else value
