"""A sweep with included points and its trials in; the cells in which a table would average
trials that have an axis with some that do not have it, out.

An axis that is absent by its own `when` may be averaged over: it is as the file says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sweeper.errors import Problem
from sweeper.spec.sweep import Sweep, TableSpec
from sweeper.tables.readings import fits, label_of
from sweeper.trial import Trial


def mixtures(sweep: Sweep, trials: Iterable[Trial]) -> list[Problem]:
    if not sweep.include:
        return []
    trials = tuple(trials)
    return [problem for spec in sweep.tables.values() for problem in mixed(spec, sweep, trials)]


def mixed(spec: TableSpec, sweep: Sweep, trials: Iterable[Trial]) -> Iterator[Problem]:
    for axis in spec.over:
        if sweep.axis(axis).when is not None:
            continue
        having: dict[tuple[str, ...], set[bool]] = {}
        for trial in trials:
            if fits(trial, spec.where, sweep):
                place = tuple(label_of(trial, name) for name in (spec.rows, *spec.columns))
                having.setdefault(place, set()).add(axis in trial.labels)
        for place, found in having.items():
            if len(found) > 1:
                yield Problem(
                    message=f"table {spec.name!r} would average trials with and without "
                    f"{axis!r} at {', '.join(place)}: say the axis of the included point, "
                    f"or give {axis!r} another place in the table",
                    mark=spec.mark,
                )
                break
