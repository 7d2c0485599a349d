"""What a search reads of a trial's numbers: the value of a metric, whether more or less of it is
better, which of two trials is better all in all, and by how much a constraint is broken.

A metric is read as it was recorded, in the trainer's unit: `scale` is for tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from sweeper.spec.conditions import compiled
from sweeper.spec.expressions import Binary, Expression, Unary, written
from sweeper.spec.search_types import Objective, SearchSpec
from sweeper.spec.sweep import Metric

Metrics = Mapping[str, Metric]
Numbers = Mapping[str, float]  # result key -> value

LEAST = 1e-9  # by which a constraint is broken that does not hold


def sources(name: str, metrics: Metrics) -> tuple[str, ...]:
    """The result keys of a metric, or the key that `name` is: the first that is there counts."""
    if (metric := metrics.get(name)) is None:
        return (name,)
    return (metric.source, *([metric.fallback] if metric.fallback else []))


def value(name: str, values: Numbers, metrics: Metrics) -> float | None:
    return next((values[key] for key in sources(name, metrics) if key in values), None)


def goal_of(name: str, search: SearchSpec | None, metrics: Metrics) -> Literal["min", "max"] | None:
    """Of an objective as the search says, of another metric as that says; None if nobody does."""
    keys = sources(name, metrics)
    for objective in search.objectives if search else ():
        if sources(objective.metric, metrics) == keys:
            return objective.goal
    return metrics[name].goal if name in metrics else None


def losses(values: Numbers, objectives: Iterable[Objective], metrics: Metrics) -> tuple[float, ...]:
    """The objectives of a trial, less being better in each."""
    found = ((it.goal, value(it.metric, values, metrics)) for it in objectives)
    return tuple(math.inf if it is None else -it if goal == "max" else it for goal, it in found)


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


# ---- constraints


def violation(test: Expression, lookup: Callable[[str], float | None]) -> float:
    """By how much a condition over metrics is broken: 0 or less where it holds. A comparison
    with a metric that is not there does not hold, and neither does its contrary."""
    return broken_by(test, lookup, holding=True)


def broken_by(test: Expression, lookup: Callable[[str], float | None], *, holding: bool) -> float:
    """Under `not`, what is there has to be broken: `and` and `or` change places."""
    match test:
        case Binary(op="and" | "or" as op, left=left, right=right):
            worse = max if (op == "and") == holding else min
            return worse(broken_by(side, lookup, holding=holding) for side in (left, right))
        case Unary(op="not", operand=operand):
            return broken_by(operand, lookup, holding=not holding)
        case Binary(op=op, left=left, right=right):
            sides = [compiled(left)(lookup)] if op == "in" else []
            sides = sides or [compiled(left)(lookup), compiled(right)(lookup)]
            if any(side is None for side in sides):
                return 1.0
            holds = bool(compiled(test)(lookup)) == holding
            apart = 1.0 if op in ("in", "!=") else abs(float(sides[0]) - float(sides[-1]))
            return -apart if holds else max(apart, LEAST)
    raise AssertionError(written(test))
