"""The `figures:` of a sweep file in; FigureSpecs out, each name in them checked against the
axes, levels and metrics that exist.

kl:       {kind: curves, y: [valid/kl], series: model, panels: dataset, over: seed}
features: {kind: scatter, artifact: valid_features.npz, array: features, panels: model,
           where: {seed: 0}}
pareto:   {kind: pareto, x: cost/updates, y: valid/nll_iw, by: dataset}      of a search
weight:   {kind: importance, metric: valid/nll_iw}
course:   {kind: history, metric: valid/nll_iw}
each:     {kind: slices, metric: valid/nll_iw, keys: [kl.start, word_dropout]}
together: {kind: parallel, metric: valid/nll_iw}
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sweeper.errors import Mark, quoted, unknown
from sweeper.spec.loader import Node
from sweeper.spec.search import key_of, metric_of
from sweeper.spec.search_types import History, Importance, Parallel, Pareto, Slices
from sweeper.spec.section import ARRAY, NPZ_PART, RESULT_KEY, Form, Section, check_names
from sweeper.spec.sweep import Curves, FigureSpec, Scatter
from sweeper.spec.tables import Known, axis_of, check_axes, pinned, renamed

FORMATS = ("png", "pdf")
UPDATES = "cost/updates"
BANDS = ("range", "ci95", "sd")
COMMON = ("kind", "panels", "where", "labels", "caption", "write")
CURVES = (*COMMON, "x", "y", "series", "over", "band", "x_label", "y_labels")
SCATTER = (*COMMON, "artifact", "array", "colour", "rows")
PARETO = ("kind", "x", "y", "by", "where", "show", "labels", "caption", "write")
OF_A_METRIC = ("kind", "metric", "caption", "write")  # over trials of a search
BY_KEYS = (*OF_A_METRIC, "keys")
SHOWN = ("front", "baseline")
OF_A_SEARCH = ("pareto", "importance", "history", "slices", "parallel")

ARTIFACT = Form(
    rf"({NPZ_PART}/)*{NPZ_PART}\.npz",
    "an .npz file among a trial's artifacts, such as features.npz",
)


def figures(node: Node | None, known: Known) -> dict[str, FigureSpec]:
    if node is None:
        return {}
    if not node.is_mapping:
        known.problems.refuse(node.mark, f"figures must be a mapping, not {node.kind}")
        return {}
    check_names(node.value, "figure", known.problems)
    found = {name: figure(name, child, known) for name, child in node.value.items()}
    return {name: spec for name, spec in found.items() if spec is not None}


def figure(name: str, node: Node, known: Known) -> FigureSpec | None:
    said = node.value.get("kind") if node.is_mapping else None
    kind = said.value if said and isinstance(said.value, str) else None
    keys, read = KINDS.get(kind, ({key for keys, _ in KINDS.values() for key in keys}, None))
    section = Section(node, f"figures.{name}", known.problems, keys)
    section.required("kind")
    section.choice("kind", tuple(KINDS))
    if kind in OF_A_SEARCH and known.search is None:
        section.refuse(
            said.mark, f"{section.name}: kind {kind} needs 'search:', which this file has not"
        )
        return None
    if kind in KINDS and kind not in OF_A_SEARCH and known.search:
        of_one = ", ".join(OF_A_SEARCH)
        wrong = f"{section.name}: a file with a search has figures of it: kind is one of {of_one}"
        section.refuse(said.mark, wrong)
        return None
    return read(name, section, known) if read else None


def curves(name: str, section: Section, known: Known) -> Curves:
    before = len(known.problems)
    section.required("y", "series")
    series, series_only = axis_of(section, "series", "series", known)
    panels, panels_only = axis_of(section, "panels", "panel", known)
    over = section.names("over", "axis", known.axes)
    where = pinned(section, known)
    if len(known.problems) == before:
        places = {"series": (series,), "panels": (panels,), "where": where, "over": over}
        check_axes(section, places, known)
    x, y = measured(section, "x", known), measured(section, "y", known)
    return Curves(
        name=name,
        x=x[0] if x else UPDATES,
        y=y,
        series=series or "",
        series_only=series_only,
        panels=panels,
        panels_only=panels_only,
        over=over,
        where=where,
        band=section.choice("band", BANDS, "range"),
        labels=renamed(section, labels_of(known, series, panels)),
        caption=section.text("caption"),
        x_label=section.text("x_label"),
        y_labels=axis_labels(section, y),
        write=section.names("write", "format", FORMATS) or FORMATS,
        mark=section.node.place,
        places=written_at(section),
    )


def scatter(name: str, section: Section, known: Known) -> Scatter:
    before = len(known.problems)
    section.required("artifact", "array")
    panels, panels_only = axis_of(section, "panels", "panel", known)
    rows, rows_only = axis_of(section, "rows", "row", known)
    where = pinned(section, known)
    if len(known.problems) == before:
        check_axes(section, {"panels": (panels,), "rows": (rows,), "where": where}, known)
    return Scatter(
        name=name,
        artifact=section.text("artifact", "", ARTIFACT),
        array=section.text("array", "", ARRAY),
        colour=section.text("colour", None, ARRAY),
        panels=panels,
        panels_only=panels_only,
        rows=rows,
        rows_only=rows_only,
        where=where,
        labels=renamed(section, labels_of(known, panels, rows)),
        caption=section.text("caption"),
        write=section.names("write", "format", FORMATS) or FORMATS,
        mark=section.node.place,
    )


def pareto(name: str, section: Section, known: Known) -> Pareto:
    before = len(known.problems)
    section.required("x", "y")
    # Each trial of a search has one seed: its axes are those of the studies.
    known = replace(known, axes={axis: known.axes[axis] for axis in known.search.for_each})
    by = section.names("by", "axis", known.axes)
    where = pinned(section, known)
    if len(known.problems) == before:
        check_axes(section, {"by": by, "where": where}, known)
    return Pareto(
        name=name,
        x=key_of(section, "x", known.metrics) or "",
        y=key_of(section, "y", known.metrics) or "",
        by=by,
        where=where,
        show=section.names("show", "part", SHOWN) or SHOWN,
        labels=renamed(section, labels_of(known, *by)),
        caption=section.text("caption"),
        write=section.names("write", "format", FORMATS) or FORMATS,
        mark=section.node.place,
        places=section.places("x", "y"),
    )


def importance(name: str, section: Section, known: Known) -> Importance:
    return Importance(name=name, **of_a_metric(section, known))


def history(name: str, section: Section, known: Known) -> History:
    return History(name=name, **of_a_metric(section, known))


def slices(name: str, section: Section, known: Known) -> Slices:
    return Slices(name=name, keys=searched_keys(section, known), **of_a_metric(section, known))


def parallel(name: str, section: Section, known: Known) -> Parallel:
    return Parallel(name=name, keys=searched_keys(section, known), **of_a_metric(section, known))


def of_a_metric(section: Section, known: Known) -> dict[str, Any]:
    section.required("metric")
    return {
        "metric": metric_of(section, known.metrics),
        "caption": section.text("caption"),
        "write": section.names("write", "format", FORMATS) or FORMATS,
        "mark": section.node.place,
        "places": section.places("metric"),
    }


def searched_keys(section: Section, known: Known) -> tuple[str, ...]:
    return section.names("keys", "key", known.search.space)


def measured(section: Section, key: str, known: Known) -> tuple[str, ...]:
    """Names of metrics, or result keys as they are, which have a / in them."""
    if (node := section.entries.get(key)) is None:
        return ()
    items = node.value if node.is_list else (node,)
    if not items:
        section.refuse(section.node.place, f"{section.name} shows nothing: name a metric in {key}")
    if key == "x" and node.is_list:
        section.wrong(key, "one name")
        return ()
    keys = [item.text for item in items if "/" in item.text and RESULT_KEY.fits(item.text)]
    return section.known_names(items, "metric or result key", [*known.metrics, *keys])


def written_at(section: Section) -> dict[str, Mark]:
    """ "x" and each of `y` -> where it is written."""
    node = section.entries.get("y")
    items = node.value if node is not None and node.is_list else ()
    return section.places("x", "y") | {item.text: item.mark for item in items}


def axis_labels(section: Section, y: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name, node in section.each("y_labels").items():
        if name not in y:
            where = f" in {section.called('y_labels')}"
            section.refuse(node.place, unknown("value", name, y, where))
        elif not isinstance(node.value, str) or not node.value:
            said = f"{section.called('y_labels')}.{quoted(name)} must be text, not {node.kind}"
            section.refuse(node.mark, said)
        else:
            found[name] = node.value
    return found


def labels_of(known: Known, *axes: str | None) -> list[str]:
    return [label for axis in axes if axis for label in known.labels.get(axis, ())]


KINDS = {
    "curves": (CURVES, curves),
    "scatter": (SCATTER, scatter),
    "pareto": (PARETO, pareto),
    "importance": (OF_A_METRIC, importance),
    "history": (OF_A_METRIC, history),
    "slices": (BY_KEYS, slices),
    "parallel": (BY_KEYS, parallel),
}
