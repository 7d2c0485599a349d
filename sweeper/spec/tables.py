"""The `metrics:` and `tables:` of a sweep file in; Metrics and TableSpecs out, each name in
them checked against the axes, levels and metrics that exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sweeper.errors import quoted, unknown
from sweeper.spec.loader import Node
from sweeper.spec.numbers import CELL_FIELDS, FORMAT, bad_format, fault_in_template
from sweeper.spec.problems import UNSHOWN, Problems
from sweeper.spec.search import TEST as TEST_SPLIT
from sweeper.spec.search import key_of, study_axes
from sweeper.spec.search_types import BASELINE, CONFIGURATION, SearchRows, SearchSpec
from sweeper.spec.section import (
    ARRAY,
    GOALS,
    RESULT_KEY,
    Form,
    Section,
    check_names,
    is_whole,
)
from sweeper.spec.sweep import (
    Axis,
    Best,
    Checkpoints,
    Delta,
    Metric,
    Reference,
    RelativeTo,
    Significance,
    TableSpec,
)

FORMATS = ("md", "tex", "csv", "html")
MARKS = ("bold",)
CORRECTIONS = ("holm", "none")
BESIDE = ("paper",)
METRIC = ("from", "or", "goal", "format", "label", "unit", "scale", "note")
TABLE = (
    "rows",
    "columns",
    "values",
    "over",
    "where",
    "cell",
    "labels",
    "rules_after",
    "groups",
    "caption",
    "references",
    "best",
    "delta",
    "relative_to",
    "significance",
    "checkpoints",
    "beside",
    "at",
    "write",
)
BEST = ("values", "per", "mark", "alpha", "correct")
DELTA = ("axis", "from", "to", "row", "label", "significance")
TEST = ("alpha", "correct", "mark")
SIGNIFICANCE = ("value", "against", *TEST)
CHECKPOINTS = ("value", "against", "artifact", "or", "array", "over", "samples", *TEST)
LEAST_SAMPLES = 100  # of a bootstrap: fewer cannot say 0.01
MOST_SAMPLES = 1_000_000
_KEY = r"\{[A-Za-z0-9_.]+\}"
_PART = rf"([A-Za-z0-9_]|{_KEY})([A-Za-z0-9._-]|{_KEY})*"
FILLED_ARTIFACT = Form(
    rf"({_PART}/)*{_PART}\.npz",
    "an .npz file among a trial's artifacts, such as sentences_{evaluate.samples}.npz",
)
RELATIVE_TO = ("row", "as")
AT = ("updates",)
ROWS = ("axis", "only")
SEARCH_ROWS = ("from", "order_by")


def metrics(node: Node | None, problems: Problems) -> dict[str, Metric]:
    if node is None:
        return {}
    if not node.is_mapping:
        problems.refuse(node.mark, f"metrics must be a mapping, not {node.kind}")
        return {}
    check_names(node.value, "metric", problems)
    return {name: metric(name, child, problems) for name, child in node.value.items()}


def metric(name: str, node: Node, problems: Problems) -> Metric:
    section = Section(node, f"metrics.{name}", problems, METRIC)
    section.required("from")
    form = section.text("format", ".2f")
    if not FORMAT.fullmatch(form):
        section.refuse(
            section.entries["format"].mark, f"{section.name}: {bad_format(form)}", "format"
        )
    return Metric(
        name=name,
        source=section.text("from", name, RESULT_KEY),
        fallback=section.text("or", None, RESULT_KEY),
        goal=section.choice("goal", GOALS),
        format=form,
        label=section.text("label"),
        unit=section.text("unit", ""),
        scale=section.number("scale", 1.0),
        note=section.text("note"),
        mark=node.place,
        places=section.places("from", "or"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a table can name. `labels` are all that an axis has in any file or profile: a
    table may rename a level that is not in this design."""

    axes: Mapping[str, Axis]
    labels: Mapping[str, tuple[str, ...]]
    metrics: Mapping[str, Metric]
    reported: bool
    problems: Problems
    search: SearchSpec | None = None


def tables(node: Node | None, known: Known) -> dict[str, TableSpec]:
    if node is None:
        return {}
    if not node.is_mapping:
        known.problems.refuse(node.mark, f"tables must be a mapping, not {node.kind}")
        return {}
    check_names(node.value, "table", known.problems)
    return {name: table(name, child, known) for name, child in node.value.items()}


def table(name: str, node: Node, known: Known) -> TableSpec:
    section = Section(node, f"tables.{name}", known.problems, TABLE)
    before = len(known.problems)
    section.required("rows", "values")
    searched = search_rows(section, known)
    if searched and known.search:
        labels = {**known.labels, CONFIGURATION: (BASELINE,)}
        known = replace(known, axes=study_axes(known.search, known.axes), labels=labels)
    if searched:
        rows, only = (CONFIGURATION if known.search else None), None
    else:
        rows, only = axis_of(section, "rows", "row", known)
        if known.search and rows:
            section.refuse(
                section.entries["rows"].mark,
                f"{section.name}: a file with a search shows what that found: "
                "rows: {from: search, order_by: ...}",
                "rows",
            )
    columns = section.names("columns", "axis", known.axes)
    over = section.names("over", "axis", known.axes)
    where = pinned(section, known)
    if section.node.is_mapping and len(known.problems) == before:
        places = {"rows": (rows,), "columns": columns, "where": where, "over": over}
        check_axes(section, places, known)
    row_labels = only or (known.axes[rows].labels if rows else ())
    shown = [label for axis in (rows, *columns) if axis for label in known.labels.get(axis, ())]
    values = section.names("values", "metric", known.metrics)
    check_scored(section, values, known)
    if "values" in section and not values and not section.entries["values"].value:
        section.refuse(section.node.place, f"{section.name} shows no metric: name one in values")
    return TableSpec(
        name=name,
        rows=rows or "",
        searched=searched,
        rows_only=only,
        columns=columns,
        values=values,
        over=over,
        where=where,
        cell=template(section, "cell", "{mean}", CELL_FIELDS),
        labels=renamed(section, [*shown, *([rows] if rows else ()), *values], blank=rows),
        rules_after=section.names("rules_after", "row", known.labels.get(rows or "", ())),
        groups=groups(section, known.labels.get(rows or "", ())),
        caption=section.text("caption"),
        references=references(section, values),
        best=best(section, values, columns, known),
        delta=delta(section, columns, row_labels, known),
        relative_to=relative_to(section, row_labels),
        significance=significance(section, values, row_labels),
        checkpoints=checkpoints(section, values, row_labels),
        beside=beside(section, known),
        at=equal_cost(section),
        write=section.names("write", "format", FORMATS) or ("md",),
        mark=node.place,
    )


def check_scored(section: Section, values: Iterable[str], known: Known) -> None:
    """What is promoted is scored on one split, and looked at on no other."""
    promote = known.search.promote if known.search else None
    for name in values if promote and promote.score_on != "test" else ():
        if known.metrics[name].source.startswith(TEST_SPLIT):
            said = f"{name!r} is {known.metrics[name].source!r}, and search.promote scores on "
            section.refuse(section.entries["values"].mark, f"{section.name}: {said}valid", "values")


def axis_of(
    section: Section, key: str, what: str, known: Known
) -> tuple[str | None, tuple[str, ...] | None]:
    """An axis's name, or {axis: name, only: [labels]}; `what` is one of its labels there."""
    node = section.entries.get(key)
    if node is None:
        return None, None
    if not node.is_mapping:
        return section.name_of(key, "axis", known.axes), None
    inner = Section(node, section.called(key), section.problems, ROWS)
    inner.required("axis")
    axis = inner.name_of("axis", "axis", known.axes)
    if axis is None or "only" not in inner:
        return axis, None
    return axis, inner.names("only", what, known.axes[axis].labels) or None


def search_rows(section: Section, known: Known) -> SearchRows | None:
    """{from: search, order_by: metric or result key}"""
    node = section.entries.get("rows")
    if node is None or not node.is_mapping or "from" not in node.value:
        return None
    inner = Section(node, section.called("rows"), section.problems, SEARCH_ROWS)
    inner.required("order_by")
    inner.choice("from", ("search",))
    if known.search is None:
        inner.refuse(node.value["from"].mark, f"{inner.name}: there is no 'search:' in this file")
    return SearchRows(
        order_by=key_of(inner, "order_by", known.metrics) or "",
        mark=inner.places("order_by").get("order_by"),
    )


def pinned(section: Section, known: Known) -> dict[str, str]:
    found = {}
    for axis, node in section.each("where").items():
        if axis not in known.axes:
            section.refuse(node.place, unknown("axis", axis, known.axes, f" in {section.name}"))
        elif label := section.known_names((node,), f"level of {axis}", known.axes[axis].labels):
            found[axis] = label[0]
    return found


def check_axes(section: Section, places: Mapping[str, Iterable[str | None]], known: Known) -> None:
    """Nothing is averaged silently: each axis has exactly one of the places (place -> the
    axes that are there)."""
    taken = [axis for axes in places.values() for axis in axes]
    *some, last = places
    for axis in known.axes:
        used = taken.count(axis)
        if used == 0:
            section.refuse(
                section.node.place,
                f"{section.name} does not say what to do with axis {axis!r}: "
                f"put it in {', '.join(some)} or {last}",
                axis,
            )
        elif used > 1:
            section.refuse(
                section.node.place, f"{section.name} uses axis {axis!r} {used} times", axis
            )


def template(
    section: Section, key: str, default: str, fields: tuple[str, ...], **options: bool
) -> str:
    text = section.text(key, default)
    if wrong := fault_in_template(text, fields, **options):
        section.refuse(
            section.entries[key].mark, f"{section.called(key)} {quoted(text)}: {wrong}", key
        )
        return default
    return text


def renamed(section: Section, labels: list[str], *, blank: str | None = None) -> dict[str, str]:
    """label -> what is printed for it; only that of `blank` may be nothing."""
    found, known = {}, set(labels)
    for label, node in section.each("labels").items():
        if label not in known:
            section.refuse(
                node.place, unknown("label", label, labels, f" in {section.called('labels')}")
            )
        elif not isinstance(node.value, str) or not (node.value or label == blank):
            section.refuse(
                node.mark, f"{section.called('labels')}.{label} must be text, not {node.kind}"
            )
        else:
            found[label] = node.value
    return found


def groups(section: Section, known: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """{heading: [row, ...]}, in the order written; no row is in two."""
    found: dict[str, tuple[str, ...]] = {}
    where: dict[str, str] = {}
    node = section.entries.get("groups")
    inner = inside(section, "groups", tuple(node.value) if node and node.is_mapping else ())
    for heading in inner.entries if inner else ():
        rows = inner.names(heading, "row", known)
        if not heading or UNSHOWN.search(heading):
            inner.refuse(inner.entries[heading].place, f"{inner.name}: a heading must be text")
        for row in rows:
            if (other := where.setdefault(row, heading)) != heading:
                said = f"{inner.name}: row {row!r} is in {other!r} and in {heading!r}"
                inner.refuse(inner.entries[heading].mark, said, heading)
        found[heading] = rows
    return found


def inside(section: Section, key: str, known: tuple[str, ...]) -> Section | None:
    if key not in section:
        return None
    return Section(section.entries[key], section.called(key), section.problems, known)


def references(section: Section, values: tuple[str, ...]) -> tuple[Reference, ...]:
    """{label: {value: result key}}, in the order written."""
    found = []
    for label, node in section.each("references").items():
        inner = Section(node, section.called(f"references.{label}"), section.problems, values)
        keys = {value: inner.text(value, "", RESULT_KEY) for value in inner.entries}
        found.append(Reference(label=label, values=keys, places=inner.places(*keys)))
    return tuple(found)


def best(
    section: Section, values: tuple[str, ...], columns: tuple[str, ...], known: Known
) -> Best | None:
    inner = inside(section, "best", BEST)
    if inner is None:
        return None
    inner.required("values")
    ranked = inner.names("values", "value", values)
    for value in ranked:
        if known.metrics[value].goal is None:
            inner.refuse(
                inner.entries["values"].mark,
                f"metric {value!r} has no goal (min or max), so none of its cells is best",
            )
    return Best(
        values=ranked,
        per=inner.names("per", "axis", columns),
        mark=inner.choice("mark", MARKS, "bold"),
        alpha=inner.number("alpha", 0.05, over=0, below=1),
        correct=inner.choice("correct", CORRECTIONS, "none"),
    )


def delta(
    section: Section, columns: tuple[str, ...], rows: tuple[str, ...], known: Known
) -> Delta | None:
    """Between two levels of an axis among the columns, or against a row."""
    inner = inside(section, "delta", DELTA)
    if inner is None:
        return None
    if "row" in inner:
        for key in ("axis", "from", "to"):
            if key in inner:
                said = f"{inner.name} is against a row or between two levels; {key!r} is of the"
                inner.refuse(inner.entries[key].place, f"{said} second, 'row' of the first", key)
        test = inside(inner, "significance", TEST)
        return Delta(
            row=inner.name_of("row", "row", rows),
            label=inner.text("label", "Δ"),
            significance=test and Significance(**settings_of(test)),
        )
    inner.required("axis", "from", "to")
    axis = inner.name_of("axis", "axis among the columns", columns)
    if axis is None:
        return None
    labels = known.axes[axis].labels
    start, end = (inner.name_of(key, f"level of {axis}", labels) for key in ("from", "to"))
    if start is not None and start == end:
        inner.refuse(inner.entries["to"].mark, f"{inner.name} goes from {start!r} to itself")
    test = inside(inner, "significance", TEST)
    return Delta(
        axis=axis,
        start=start or "",
        end=end or "",
        label=inner.text("label", "Δ"),
        significance=test and Significance(**settings_of(test)),
    )


def significance(
    section: Section, values: tuple[str, ...], rows: tuple[str, ...]
) -> Significance | None:
    inner = inside(section, "significance", SIGNIFICANCE)
    if inner is None:
        return None
    inner.required("value", "against")
    return Significance(
        value=inner.name_of("value", "value", values),
        against=inner.name_of("against", "row", rows),
        **settings_of(inner),
    )


def checkpoints(
    section: Section, values: tuple[str, ...], rows: tuple[str, ...]
) -> Checkpoints | None:
    inner = inside(section, "checkpoints", CHECKPOINTS)
    if inner is None:
        return None
    inner.required("value", "against", "artifact", "array")
    if "at" in section:
        inner.refuse(
            inner.node.place,
            f"{inner.name} is about what training ended with; {section.name} is read at a cost",
        )
    samples = inner.whole("samples", 10_000, least=LEAST_SAMPLES)
    if samples > MOST_SAMPLES:
        inner.wrong("samples", f"at most {MOST_SAMPLES:,}")
    found = Checkpoints(
        value=inner.name_of("value", "value", values) or "",
        against=inner.name_of("against", "row", rows) or "",
        artifact=inner.text("artifact", "", FILLED_ARTIFACT),
        fallback=inner.text("or", None, FILLED_ARTIFACT),
        array=inner.text("array", "", ARRAY),
        over=inner.text("over", "items"),
        samples=samples,
        **settings_of(inner, "°"),
    )
    test = section.entries.get("significance")
    if test and test.is_mapping:
        other = test.value["mark"].value if "mark" in test.value else "*"
        if other == found.mark:
            inner.refuse(
                inner.node.place,
                f"{inner.name} and {section.called('significance')} have the same mark, {other}: "
                "one is about other seeds, the other is not",
            )
    return found


def settings_of(test: Section, mark: str = "*") -> dict[str, object]:
    return {
        "alpha": test.number("alpha", 0.05, over=0, below=1),
        "correct": test.choice("correct", CORRECTIONS, "holm"),
        "mark": test.text("mark", mark),
    }


def relative_to(section: Section, rows: tuple[str, ...]) -> RelativeTo | None:
    inner = inside(section, "relative_to", RELATIVE_TO)
    if inner is None:
        return None
    inner.required("row")
    return RelativeTo(
        row=inner.name_of("row", "row", rows) or "",
        form=template(inner, "as", "{ratio:.1f}x", ("ratio",), formats=True),
    )


def beside(section: Section, known: Known) -> str | None:
    found = section.choice("beside", BESIDE)
    if found and not known.reported:
        section.refuse(
            section.entries["beside"].mark,
            f"{section.name}.beside needs published values: add 'reported:'",
        )
    return found


def equal_cost(section: Section) -> int | str | None:
    inner = inside(section, "at", AT)
    if inner is None:
        return None
    inner.required("updates")
    updates = inner.entries.get("updates")
    if updates is None:
        return None
    if updates.value != "min" and not is_whole(updates.value, 1):
        inner.wrong("updates", "a whole number, 1 or more, or min")
        return None
    return updates.value
