"""Finished cells in; which differences are resolved, which cells are best, which rows carry
a star, out: marks on the cells, and the sentences that say what was tested.

All comparisons pair what shares its labels (a seed). A difference is called resolved only
where the paired t test says so; a star needs the exact sign-flip test, which no three
seeds can pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sweeper import stats
from sweeper.spec.sweep import Significance, TableSpec
from sweeper.tables.cells import Cell, Column, Row
from sweeper.tables.numerals import numeral

Cells = dict[tuple[int, int], Cell]  # row number, column number -> cell; filled step by step

RESOLVED, NOT_RESOLVED = "●", "○"


def resolve_deltas(spec: TableSpec, columns: Sequence[Column], cells: Cells) -> list[str]:
    """Mark each difference between two columns as resolved or not, corrected over all
    differences of the table."""
    if spec.delta is None:
        return []
    asked = spec.delta.significance or Significance(correct="none")
    tested = [
        place
        for place, cell in cells.items()
        if columns[place[1]].kind == "delta" and cell.p is not None
    ]
    ps = stats.CORRECTIONS[asked.correct]([cells[place].p for place in tested])
    for place, p in zip(tested, ps, strict=True):
        resolved = p <= asked.alpha
        text = f"{cells[place].text} {RESOLVED if resolved else NOT_RESOLVED}"
        cells[place] = replace(cells[place], text=text, p=p, resolved=resolved)
    says = f"{spec.delta.label} = {spec.delta.end} − {spec.delta.start}, paired by {_by(spec)}"
    if not tested:
        return [f"{says}; not testable without two pairs"]
    test = _t_test(asked, len(tested), (cells[place].n for place in tested))
    return [f"{says}; {RESOLVED} resolved, {NOT_RESOLVED} not resolved ({test})"]


def mark_best(
    spec: TableSpec, rows: Sequence[Row], columns: Sequence[Column], cells: Cells
) -> list[str]:
    """Mark the best mean of each group of columns, and what is not resolved from it. A cell
    that is short of trials is not ranked: its mean may be that of a lucky few."""
    if spec.best is None:
        return []
    per = spec.best.per or spec.columns
    groups: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    short = False
    for (i, j), cell in cells.items():
        column = columns[j]
        ranked = column.kind == "value" and column.metric.name in spec.best.values
        if not ranked or not column.metric.goal or rows[i].reference or cell.mean is None:
            continue
        if cell.n < cell.points:
            short = True
        else:
            groups[column.metric.name, *(column.at[axis] for axis in per)].append((i, j))
    pairs: list[int] = []
    for places in groups.values():
        if len(places) < 2:
            continue
        sign = -1.0 if columns[places[0][1]].metric.goal == "max" else 1.0
        winner = cells[min(places, key=lambda place: sign * cells[place].mean)]
        for place in places:
            other = cells[place]
            differences = list(stats.paired_differences(winner.samples, other.samples).values())
            tied = stats.resolved(differences) is False or other.mean == winner.mean
            cells[place] = replace(other, best=tied)
            if other is not winner and len(differences) > 1:
                pairs.append(len(differences))
    of = f"each {', '.join(per)}" if per else "the table"
    ties = (
        f", and what a 95% paired t interval ({_n(pairs)}) does not tell from it" if pairs else ""
    )
    unranked = "; cells short of trials are not ranked" if short else ""
    return [f"bold: best of {of}{ties}{unranked}"]


def star(
    spec: TableSpec, rows: Sequence[Row], columns: Sequence[Column], cells: Cells
) -> list[str]:
    """Star the cells that differ from those of a reference row in the same column."""
    asked = spec.significance
    if asked is None:
        return []
    name = asked.value or spec.values[0]
    reference = next(i for i, row in enumerate(rows) if row.key == asked.against)
    samples: dict[tuple[int, int], list[float]] = {}
    for (i, j), cell in cells.items():
        metric = columns[j].metric
        if columns[j].kind == "value" and metric.name == name and i != reference:
            differences = stats.paired_differences(cells[reference, j].samples, cell.samples)
            if differences:
                samples[i, j] = list(differences.values())
    label = next(c.metric.label or name for c in columns if c.metric.name == name)
    against = spec.labels.get(asked.against, asked.against)
    says = f"{asked.mark} {label} differs from that of {against}"
    most = max(map(len, samples.values()), default=0)
    family = len(samples) if asked.correct == "holm" else 1
    exact = most <= stats.MOST_SIGNS
    if most == 0 or (exact and family * stats.least_sign_flip(most) > asked.alpha):
        least = numeral(min(1.0, stats.least_sign_flip(most)), "g") if most else "none"
        return [f"{says}: not testable at n={most} (smallest p of the sign-flip test: {least})"]
    test = stats.sign_flip if exact else stats.paired_t
    ps = [test(differences) for differences in samples.values()]
    adjusted = stats.CORRECTIONS[asked.correct]([1.0 if p is None else p for p in ps])
    for place, p in zip(samples, adjusted, strict=True):
        if p <= asked.alpha:
            cells[place] = replace(cells[place], star=asked.mark)
    kind = "exact paired sign-flip test" if exact else "paired t test"
    said = _corrected(asked, len(samples))
    return [f"{says} ({kind}, {said}α = {asked.alpha:g}, {_n(map(len, samples.values()))})"]


def _t_test(asked: Significance, tests: int, pairs: Iterable[int]) -> str:
    if asked.correct == "none":
        return f"{1 - asked.alpha:.0%} paired t interval leaves out 0, {_n(pairs)}"
    return f"paired t test, {_corrected(asked, tests)}α = {asked.alpha:g}, {_n(pairs)}"


def _corrected(asked: Significance, tests: int) -> str:
    plural = "" if tests == 1 else "s"
    return f"Holm over {tests} comparison{plural}, " if asked.correct == "holm" else ""


def _n(pairs: Iterable[int]) -> str:
    sizes = sorted(set(pairs))
    return f"n={sizes[0]}" if len(sizes) == 1 else f"n={sizes[0]} to {sizes[-1]}"


def _by(spec: TableSpec) -> str:
    return ", ".join(spec.over) or "trial"
