"""A sweep in; what MLflow's pages show of it out: the note on the sweep's run, and a view of its
trials' runs that opens by a link. Touches no MLflow.

A view is what the pages keep themselves when somebody presses "Save as new view": a tag of the
experiment (tried with MLflow 3.17). A version that knows no such tag shows all runs instead.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from sweeper.track.parcel import TAG_CHARACTERS, Origin, accepted, axis_tag, text
from sweeper.track.sealed import checksum

VIEW = "mlflow.sharedViewState."
VIEW_CHARACTERS = 5000  # of an experiment's tag
MOST_COLUMNS = 20
FIGURES = "\n\n## figures\n\n"
SHOWN = ".svg"  # of a figure as the note shows it
FIGURE_PIXELS = 640
RULE = re.compile(r"\|( ?:?-+:? ?\|)+")
TRAINING = ("workflowType", "machine_learning")  # The pages for training, not those for agents.
CURVES_SECTION = "curves against updates"
CURVES = ("compareRunsMode", "CHART")


# ---- the view


def view_key(origin: Origin) -> str:
    return f"sweeper{checksum(origin.tag.encode())}"


def view(origin: Origin, at_ms: int) -> str:
    """The sweep's trials, a column for each axis and each result that its tables show, in
    groups of the rows of its first table; `at_ms` is when it is made."""
    row = next(iter(origin.rows.values()), next(iter(origin.axes), None))
    axes = [f"tags.`{axis_tag(axis)}`" for axis in origin.axes]
    results = [f"metrics.`{accepted(key)}`" for key in origin.results]
    state = {
        "searchFilter": f"tags.`{origin.tag}` = 'true'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [*axes, *results][:MOST_COLUMNS],
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "SHOWALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": bool(origin.curves),  # Else sections are sorted by name.
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": grouped(row) if row else None,
        "groupsExpanded": {},
        "globalLineChartConfig": {
            "xAxisKey": "step",  # updates
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
        **charts(origin),
    }
    return json.dumps(
        {
            "name": title(origin),
            "createdAt": at_ms,
            "updatedAt": at_ms,
            "state": deflated(state),
        }
    )


def grouped(axis: str) -> dict[str, Any]:
    keys = [{"mode": "tag", "groupByData": axis_tag(axis)}]
    return {"aggregateFunction": "average", "groupByKeys": keys}


def charts(origin: Origin) -> dict[str, Any]:
    """The curves that the sweep's figures follow, first on the page of charts, and large; the
    pages add one chart for every other metric."""
    if not origin.curves:
        return {}
    place = f"{view_key(origin)}-curves"
    section = {"uuid": place, "name": CURVES_SECTION, "display": True, "isReordered": False}
    section |= {"deleted": False, "isGenerated": False, "columns": 2, "cardHeight": 480}
    lines = [
        {
            "uuid": f"{place}-{n}",
            "type": "LINE",
            "metricSectionId": place,
            "deleted": False,
            "isGenerated": False,
            "metricKey": accepted(key),
            "selectedMetricKeys": [accepted(key)],
            "xAxisKey": "step",
            "yAxisKey": "metric",
            "yAxisExpressions": [],
            "selectedXAxisMetricKey": "",
            "xAxisScaleType": "linear",
            "scaleType": "linear",
            "lineSmoothness": 0,
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
            "range": {},
        }
        for n, key in enumerate(origin.curves)
    ]
    return {"compareRunSections": [section], "compareRunCharts": lines}


def deflated(state: Mapping[str, Any]) -> str:
    packed = zlib.compress(json.dumps(state).encode())
    return f"deflate;{base64.b64encode(packed).decode()}"


def is_changed(there: str) -> bool:
    """Whether somebody has changed a view on MLflow's pages since it was made."""
    try:
        said = json.loads(there)
        return said["updatedAt"] != said["createdAt"]
    except (ValueError, KeyError, TypeError):
        return True


def same(one: str, other: str) -> bool:
    """Whether two views differ in nothing but the time."""
    times = {"createdAt": 0, "updatedAt": 0}
    return json.loads(one) | times == json.loads(other) | times


def link(experiment_id: str, origin: Origin, *more: tuple[str, str]) -> str:
    asked = urlencode([TRAINING, ("viewStateShareKey", view_key(origin)), *more])
    return f"#/experiments/{experiment_id}/runs?{asked}"


# ---- the note


def title(origin: Origin) -> str:
    return f"{origin.sweep} ({origin.profile})"


def note(tables: Mapping[str, str], experiment_id: str, origin: Origin) -> str:
    """Links to the view, then tables (name -> markdown), whole ones, as many as there is room
    for beside the figures."""
    runs = f"[runs in a table]({link(experiment_id, origin)})"
    curves = f"[curves against updates]({link(experiment_id, origin, CURVES)})"
    said = f"{runs} · {curves}"
    left = list(tables)
    for name, markdown in tables.items():
        more = f"\n\n## {name}\n\n{spaced(markdown)}"
        if len(said) + len(more) > TAG_CHARACTERS - 1000:
            break
        said += more
        left.remove(name)
    if left:
        said += f"\n\nAmong the artifacts, in tables/tables.md, also: {', '.join(left)}"
    return text(said, TAG_CHARACTERS)


def spaced(markdown: str) -> str:
    """With room between columns, of which the pages leave none."""
    lines = (
        line.replace(" |", "&emsp; |") if line[:1] == "|" and not RULE.fullmatch(line) else line
        for line in markdown.splitlines()
    )
    return "\n".join(lines)


def with_figures(note: str, run_id: str, files: Iterable[str]) -> str:
    """The note with pictures below it, as many as there is room for: names of files in the
    run's folder `figures`."""
    said = note.partition(FIGURES)[0]
    heading = FIGURES
    for file in files:
        address = f"get-artifact?path={quote(f'figures/{file}', safe='')}&run_uuid={run_id}"
        more = f"![{file}]({address})\n\n"
        if len(said) + len(heading) + len(more) > TAG_CHARACTERS:
            break
        said += heading + more
        heading = ""
    return said


def framed(png: bytes) -> str:
    """The picture as SVG, no wider than the pages have room for: they show each in its own
    size, and a figure has dots enough to be printed. "" for what is no PNG."""
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        return ""
    width, height = struct.unpack(">II", png[16:24])
    shown = min(width, FIGURE_PIXELS)
    tall = round(height * shown / width)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{shown}" height="{tall}">'
        f'<image width="{shown}" height="{tall}" '
        f'href="data:image/png;base64,{base64.b64encode(png).decode()}"/></svg>\n'
    )
