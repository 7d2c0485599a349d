"""The courses of some trials in; their mean and a band around it out.

A course is what one trial recorded: (x, y) points by strictly ascending x. Courses may
have different grids (aggressive training spends another number of updates on each epoch):
between two points a course keeps its last value.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from sweeper import stats
from sweeper.record import COST, Measurement

Course = Sequence[tuple[float, float]]


def course_of(
    history: Iterable[Measurement],
    x: str,
    y: str,
    x_scale: float = 1.0,
    y_scale: float = 1.0,
) -> list[tuple[float, float]]:
    """The points at which both keys were recorded. At one x the first stands: a result
    repeats the last cost with the values of the best checkpoint."""
    found: list[tuple[float, float]] = []
    for measurement in history:
        values = measurement.values
        at = measurement.cost if x == COST else values.get(x)
        if at is None or y not in values or (found and at * x_scale <= found[-1][0]):
            continue
        found.append((at * x_scale, values[y] * y_scale))
    return found


def common_grid(courses: Sequence[Course]) -> list[float]:
    """Every x of any course within the range that all of them have; empty if there is none."""
    if not courses or not all(courses):
        return []
    first, last = max(c[0][0] for c in courses), min(c[-1][0] for c in courses)
    return sorted({x for course in courses for x, _ in course if first <= x <= last})


def at_each(course: Course, grid: Sequence[float]) -> list[float]:
    """The course's last value at or before each x."""
    xs = [x for x, _ in course]
    return [course[bisect_right(xs, x) - 1][1] for x in grid]


def mean_and_band(
    courses: Sequence[Course], band: str
) -> tuple[list[float], list[float], list[float], list[float]]:
    """(xs, means, lows, highs) on the common grid; no lows and highs of a single course."""
    grid = common_grid(courses)
    columns = list(zip(*(at_each(course, grid) for course in courses), strict=True))
    means = [stats.mean(column) for column in columns]
    if len(courses) < 2:
        return grid, means, [], []
    edges = [BANDS[band](column) for column in columns]
    return grid, means, [low for low, _ in edges], [high for _, high in edges]


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _sd(values: Sequence[float]) -> tuple[float, float]:
    middle, half = stats.mean(values), stats.sd(values)
    return middle - half, middle + half


def _ci95(values: Sequence[float]) -> tuple[float, float]:
    middle, half = stats.mean(values), stats.t_half_width(values)
    return middle - half, middle + half


BANDS = {"range": _range, "sd": _sd, "ci95": _ci95}
