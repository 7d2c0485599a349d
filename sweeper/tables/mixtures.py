"""A sweep with included points and its trials in; where something would average trials that
have an axis with some that do not have it, and which trials nothing shows, out.

An axis that is absent by its own `when` may be averaged over: it is as the file says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sweeper.errors import Mark, Problem
from sweeper.spec.expressions import Pick, walk
from sweeper.spec.sweep import ClaimSpec, Curves, Scatter, Sweep, TableSpec
from sweeper.tables.readings import fits, label_of
from sweeper.trial import Trial

Groups = dict[tuple[str, ...], list[Trial]]


def mixtures(sweep: Sweep, trials: Iterable[Trial]) -> list[Problem]:
    if not sweep.include:
        return []
    there = tuple(trials)
    return [
        problem
        for spec in averaging(sweep)
        for problem in mixed(spec, sweep, groups(spec, sweep, there))
    ]


def unshown(sweep: Sweep, trials: Iterable[Trial]) -> list[Trial]:
    """Of the included trials, those that no table, figure or claim is about."""
    if not sweep.include:
        return []
    known = {axis.name for axis in sweep.axes if axis.when is None}
    partial = [trial for trial in trials if not known <= trial.labels.keys()]
    specs = [*sweep.tables.values(), *sweep.figures.values(), *sweep.claims.values()]
    shown = {
        trial.key
        for spec in specs
        for group in groups(spec, sweep, partial).values()
        for trial in group
    }
    return [trial for trial in partial if trial.key not in shown] if specs else []


def averaging(sweep: Sweep) -> Iterator[TableSpec | Curves | ClaimSpec]:
    yield from sweep.tables.values()
    yield from (spec for spec in sweep.figures.values() if isinstance(spec, Curves))
    yield from sweep.claims.values()


def groups(spec: object, sweep: Sweep, trials: Sequence[Trial]) -> Groups:
    """What stands together in one cell, line or side of a comparison."""
    found: Groups = {}
    if isinstance(spec, ClaimSpec):
        for pick in dict.fromkeys(node for node in walk(spec.test) if isinstance(node, Pick)):
            at = {spec.axis_of[label]: label for label in pick.labels}
            for trial in trials:
                if all(label_of(trial, axis) == label for axis, label in at.items()):
                    place = (*pick.labels, *(label_of(trial, axis) for axis in spec.each))
                    found.setdefault(place, []).append(trial)
        return found
    places = {
        TableSpec: lambda: ((spec.rows, spec.rows_only), *((axis, None) for axis in spec.columns)),
        Curves: lambda: ((spec.series, spec.series_only), (spec.panels, spec.panels_only)),
        Scatter: lambda: ((spec.panels, spec.panels_only), (spec.rows, spec.rows_only)),
    }.get(type(spec), tuple)()
    for trial in trials:
        labels = tuple((label_of(trial, axis), only) for axis, only in places if axis)
        if fits(trial, spec.where, sweep) and all(o is None or x in o for x, o in labels):
            found.setdefault(tuple(label for label, _ in labels), []).append(trial)
    return found


def mixed(spec: TableSpec | Curves | ClaimSpec, sweep: Sweep, there: Groups) -> Iterator[Problem]:
    kind = {TableSpec: "table", Curves: "figure", ClaimSpec: "claim"}[type(spec)]
    over = (*spec.over, *(spec.pool if isinstance(spec, ClaimSpec) else ()))
    mark: Mark | None = spec.mark
    for axis in over:
        if sweep.axis(axis).when is not None:
            continue
        for place, trials in there.items():
            if len({axis in trial.labels for trial in trials}) > 1:
                at = f" at {', '.join(place)}" if place else ""
                yield Problem(
                    message=f"{kind} {spec.name!r} would average trials with and without "
                    f"{axis!r}{at}: say the axis of the included point, "
                    f"or give {axis!r} another place in the {kind}",
                    mark=mark,
                )
                break
