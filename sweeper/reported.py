"""A sweep and configurations of its trials in; what it shows and no trainer reports, out.

Whoever knows which names a trainer gives its numbers is the module that types its
configuration (see answers.py), by two things that it may have:

    reported(config) -> names of all that a trial of a complete configuration may measure, on
                        the way or at last; None where it cannot say
    RESULTS             names of all that any configuration may measure

What one trainer of a sweep cannot say, it may report: then nothing is wrong here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sweeper.answers import imported
from sweeper.errors import Mark, Problem, SpecError, quoted, unknown
from sweeper.record import COST, PROGRESS
from sweeper.spec.conditions import read_names
from sweeper.spec.expressions import Pick, walk
from sweeper.spec.problems import Problems
from sweeper.spec.search_types import Pareto, SearchSpec
from sweeper.spec.sweep import Curves, FigureSpec, Scatter, Sweep
from sweeper.trial import Config, TrainerRef, Trial

OURS = frozenset({COST, PROGRESS})  # reserved: whoever leaves them out is given them


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A result key that a sweep shows or goes by, and what the place is called where it is
    written. One that only `stands_in` (`or:`) need not be reported here, if it is elsewhere."""

    key: str
    called: str
    mark: Mark | None
    stands_in: bool = False


def unreported(sweep: Sweep, configured: Iterable[tuple[TrainerRef, Config]]) -> list[Problem]:
    """A problem for each key that none of the configurations reports: complete ones, each with
    its trainer. They are asked one by one, for as long as a key is missing."""
    missing = [one for one in dict.fromkeys(shown(sweep)) if one.key not in OURS]
    here, elsewhere = set(OURS), set()
    for trainer, config in configured:
        if not missing:
            break
        module = imported(trainer.config) if trainer.config else None
        names = module.reported(config) if hasattr(module, "reported") else None
        if names is None:
            return []
        check_names(names, trainer, sweep.trainer_mark)
        here.update(names)
        elsewhere.update(getattr(module, "RESULTS", ()))
        missing = [
            one
            for one in missing
            if one.key not in here and not (one.stands_in and one.key in elsewhere)
        ]
    wrong = Problems()
    wrong.add(*(problem(one, here, elsewhere) for one in missing))
    return wrong.in_order()


def check_names(names: Any, trainer: TrainerRef, mark: Mark | None) -> None:
    plural = isinstance(names, Collection) and not isinstance(names, str)
    if not plural or not all(isinstance(name, str) for name in names):
        said = f"{trainer.config}: reported gives a collection of names, not {quoted(names)}"
        raise SpecError(Problem(message=said, mark=mark, key="trainer"))


def problem(one: Shown, here: set[str], elsewhere: set[str]) -> Problem:
    if one.key in elsewhere:
        said = f"no trial of this sweep reports {one.key!r}; other configurations do"
    else:
        said = unknown("result key", one.key, here)
    return Problem(message=f"{one.called}: {said}", mark=one.mark, key=one.key)


def configurations(trials: Iterable[Trial]) -> Iterator[tuple[TrainerRef, Config]]:
    """Each once that trials have in common which differ in their seed; for `unreported`."""
    seen = set()
    for trial in trials:
        which = id(trial.config), id(trial.evaluation)
        if which not in seen:
            seen.add(which)
            yield trial.trainer, trial.full_config


# ---- what is shown


def shown(sweep: Sweep) -> Iterator[Shown]:
    """What tables, claims and figures show and a search goes by; a metric that none of them
    names may come from anywhere."""
    for table in sweep.tables.values():
        called = f"tables.{table.name}"
        for value in table.values:
            yield from named(value, sweep)
        for reference in table.references:
            at = f"{called}.references.{reference.label}"
            for value, key in reference.values.items():
                yield Shown(key=key, called=f"{at}.{value}", mark=reference.places.get(value))
        if table.searched:
            order = table.searched
            yield from named(order.order_by, sweep, f"{called}.rows.order_by", order.mark)
    for claim in sweep.claims.values():
        for pick in (node for node in walk(claim.test) if isinstance(node, Pick)):
            yield from named(pick.metric, sweep)
    for figure in sweep.figures.values():
        yield from drawn(figure, sweep)
    if sweep.search:
        yield from sought(sweep.search, sweep)


def named(name: str, sweep: Sweep, called: str = "", mark: Mark | None = None) -> Iterator[Shown]:
    """What a metric is read from; or a result key, as it stands at `called`."""
    metric = sweep.metrics.get(name)
    if metric is None:
        yield Shown(key=name, called=called, mark=mark)
        return
    called, places = f"metrics.{name}", metric.places
    yield Shown(key=metric.source, called=f"{called}.from", mark=places.get("from", metric.mark))
    if metric.fallback:
        mark = places.get("or", metric.mark)
        yield Shown(key=metric.fallback, called=f"{called}.or", mark=mark, stands_in=True)


def drawn(figure: FigureSpec, sweep: Sweep) -> Iterator[Shown]:
    match figure:
        case Scatter():
            return  # It is of a file.
        case Curves():
            parts = [("x", figure.x, "x"), *(("y", name, name) for name in figure.y)]
        case Pareto():
            parts = [("x", figure.x, "x"), ("y", figure.y, "y")]
        case _:
            parts = [("metric", figure.metric, "metric")]
    for part, name, place in parts:
        mark = figure.places.get(place, figure.mark)
        yield from named(name, sweep, f"figures.{figure.name}.{part}", mark)


def sought(search: SearchSpec, sweep: Sweep) -> Iterator[Shown]:
    for objective in search.objectives:
        yield from named(objective.metric, sweep, "search.objectives.metric", objective.mark)
    for constraint in search.constraints:
        for name in read_names(constraint.test):
            yield from named(name, sweep, "search.constraints", constraint.mark)
    if prune := search.prune:
        parts = {"metric": prune.metric, "by": prune.by, "settled": prune.settled}
        for part, name in parts.items():
            if name is not None:
                yield from named(name, sweep, f"search.prune.{part}", prune.places.get(part))
