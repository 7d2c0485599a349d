"""A table's specification and the design in; its rows and its columns with their headings
out.

A heading has one level for each axis in `columns`, one for the values where there is
something to tell apart, and one for what stands beside a value (ratio, published value).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from sweeper.spec.sweep import Metric, Sweep, TableSpec
from sweeper.tables.cells import Column, ColumnKind, Row
from sweeper.tables.readings import ABSENT
from sweeper.trial import Trial


def rows_of(spec: TableSpec, sweep: Sweep, trials: Sequence[Trial]) -> tuple[Row, ...]:
    notes = _level_notes(sweep, spec.rows)
    there = spec.rows_only or _labels(spec, sweep, spec.rows, trials)
    group_of = {label: heading for heading, labels in spec.groups.items() for label in labels}
    grouped = [label for label in group_of if label in there]
    labels = [*(label for label in there if label not in group_of), *grouped]
    last = {group_of.get(label): label for label in labels}.values()  # a rule under each group
    rows = [
        Row(
            key=label,
            label=spec.labels.get(label, label),
            rule_after=label in spec.rules_after or bool(grouped and label in last),
            note=notes.get(label),
            group=group_of.get(label, ""),
        )
        for label in labels
    ]
    above = [Row(key=it.label, label=it.label, reference=it) for it in spec.references]
    return (*above, *rows)


def columns_of(spec: TableSpec, sweep: Sweep, shown: Sequence[Trial]) -> tuple[Column, ...]:
    """The cross of the axes' levels and the values, outermost slowest; a difference is one
    more level of its axis."""
    levels = []
    for axis in spec.columns:
        labels = _labels(spec, sweep, axis, shown)
        delta = spec.delta is not None and spec.delta.axis == axis
        levels.append([*labels, spec.delta.label] if delta else labels)
    columns = []
    for labels, name in product(product(*levels), spec.values):
        at = dict(zip(spec.columns, labels, strict=True))
        metric = sweep.metrics[name]
        if label := display_name(spec, sweep, name):
            metric = replace(metric, label=label)
        columns += [Column(at=at, metric=metric, kind=k) for k in _kinds(spec, sweep, at, metric)]
    return tuple(_headed(spec, sweep, columns))


def display_name(spec: TableSpec, sweep: Sweep, name: str) -> str | None:
    """What the table's `labels` call its rows' axis or a metric; None where they say nothing
    of it, or mean the level of that name."""
    levels = {label for axis in (spec.rows, *spec.columns) for label in sweep.axis(axis).labels}
    return None if name in levels else spec.labels.get(name)


def published(
    spec: TableSpec, sweep: Sweep, row: str, at: Mapping[str, str], metric: Metric
) -> float | None:
    """The reported value of a cell, scaled for display; None where there is none."""
    place: Any = sweep.reported.get(spec.name, {}).get("rows", {})
    for label in (row, *at.values(), metric.name):
        place = place.get(label) if isinstance(place, Mapping) else None
    return None if place is None or isinstance(place, Mapping) else float(place) * metric.scale


def _labels(spec: TableSpec, sweep: Sweep, axis: str, trials: Sequence[Trial]) -> tuple[str, ...]:
    labels = sweep.axis(axis).labels
    return (*labels, ABSENT) if any(axis not in trial.labels for trial in trials) else labels


def _level_notes(sweep: Sweep, axis: str) -> dict[str, str]:
    return {level.label: level.note for level in sweep.axis(axis).levels if level.note}


def _kinds(
    spec: TableSpec, sweep: Sweep, at: Mapping[str, str], metric: Metric
) -> Iterator[ColumnKind]:
    if spec.delta is not None and at.get(spec.delta.axis) == spec.delta.label:
        yield "delta"
        return
    yield "value"
    if spec.delta is not None and spec.delta.row is not None:
        yield "delta"
    if spec.relative_to is not None:
        yield "ratio"
    rows = sweep.axis(spec.rows).labels
    if spec.beside and any(published(spec, sweep, r, at, metric) is not None for r in rows):
        yield "paper"
        yield "difference"


def _headed(spec: TableSpec, sweep: Sweep, columns: Sequence[Column]) -> Iterator[Column]:
    notes = {axis: _level_notes(sweep, axis) for axis in spec.columns}
    against = spec.delta is not None and spec.delta.row is not None
    derived = ("ratio", "paper", *(["delta"] if against else []))
    beside = [(c.at, c.metric.name) for c in columns if c.kind in derived]
    named = len(spec.values) > 1 or not spec.columns
    for column in columns:
        name = column.metric.label or column.metric.name
        pairs = [
            (spec.labels.get(label, label), notes[axis].get(label))
            for axis, label in column.at.items()
        ]
        if named:
            pairs.append((name, None))
        if beside:
            alone = (column.at, column.metric.name) not in beside
            word = "" if alone and named else "ours" if named else name
            pairs.append((_KIND_WORDS.get(column.kind, word), None))
            if column.kind == "ratio":
                pairs[-1] = (f"÷ {spec.relative_to.row}", None)
            if column.kind == "delta" and against:
                pairs[-1] = (spec.delta.label, None)
        while beside and not pairs[-1][0]:  # what has no last level stands at the bottom
            pairs = [*pairs[:-2], pairs[-1], pairs[-2]]
        path, said = zip(*pairs, strict=True)
        yield replace(column, path=path, notes=said)


_KIND_WORDS = {"paper": "paper", "difference": "diff", "delta": ""}
