"""Finished cells in; which differences are resolved, which cells are best, which rows carry
a star, out: marks on the cells, and the sentences that say what was tested.

All comparisons pair what shares its labels (a seed). A difference is called resolved only
where the paired t test says so; a star needs the exact sign-flip test, which no three
seeds can pass. A circle is of the trained models that there are: it resamples test items.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations

from sweeper import stats
from sweeper.spec.sweep import Best, Significance, TableSpec
from sweeper.tables import items
from sweeper.tables.cells import Cell, Column, Row
from sweeper.tables.items import Left
from sweeper.tables.numerals import has_spread, numeral

Place = tuple[int, int]  # row number, column number
Cells = dict[Place, Cell]  # filled step by step

RESOLVED, NOT_RESOLVED = "●", "○"


def resolve_deltas(
    spec: TableSpec, rows: Sequence[Row], columns: Sequence[Column], cells: Cells
) -> list[str]:
    """Mark each difference between two columns, or from a row, as resolved or not, corrected
    over all differences of the table."""
    if spec.delta is None:
        return []
    asked = spec.delta.significance or Significance()
    there = [(i, j) for i, j in cells if columns[j].kind == "delta" and cells[i, j].n]
    tested = [place for place in there if cells[place].p is not None]
    short = [place for place in there if cells[place].untested]
    ps = stats.corrected([cells[place].p for place in tested], asked.correct)
    for place, p in zip(tested, ps, strict=True):
        resolved = p <= asked.alpha
        text = f"{cells[place].text} {RESOLVED if resolved else NOT_RESOLVED}"
        cells[place] = replace(cells[place], text=text, p=p, resolved=resolved)
    for place in there:
        cell = cells[place]
        if place in short:
            cells[place] = replace(cell, notes=(*cell.notes, *cell.untested))
        elif cell.p is None:
            why = f"not testable at n={cell.n}"
            if cell.n > 1:
                why = f"all {cell.n} are the same number"
            cells[place] = replace(cell, untested=(why,))
    if spec.delta.row is not None:
        says = f"{spec.delta.label}: minus {_named(spec, spec.delta.row)}, paired by {_by(spec)}"
    else:
        says = f"{spec.delta.label} = {spec.delta.end} − {spec.delta.start}, paired by {_by(spec)}"
    if any(cells[place].n > 1 for place in there) and not has_spread(spec.cell):
        says += ", mean ± sd of the differences"
    if not tested and short:
        return [f"{says}{_NOT_TESTED}"]
    if not tested:
        same = any(cells[place].n > 1 for place in there)
        why = "where all differences are the same number" if same else "without two pairs"
        return [f"{says}; not testable {why}"]
    bare = "; without a mark: not testable" if len(tested) + len(short) < len(there) else ""
    bare += _NOT_TESTED if short else ""
    test = _t_test(asked, len(tested), (cells[place].n for place in tested))
    return [f"{says}; {RESOLVED} resolved, {NOT_RESOLVED} not resolved ({test}){bare}"]


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
        best = min(places, key=lambda place: sign * cells[place].mean)
        told = _compared(spec.best, best, places, cells)
        for place in places:
            cell, p = cells[place], told.get(place)
            tied = cell.mean == cells[best].mean or (p is not None and p > spec.best.alpha)
            cells[place] = replace(cell, best=tied)
            if place != best and (n := len(_differences(cells[best], cell))) > 1:
                pairs.append(n)
    of = f"each {', '.join(per)}" if per else "the table"
    unranked = "; cells short of trials are not ranked" if short else ""
    return [f"bold: best of {of}{_ties(spec.best, pairs)}{unranked}"]


def _compared(
    asked: Best, best: Place, places: Sequence[Place], cells: Cells
) -> dict[Place, float | None]:
    """p of the difference of each from the best. Which is the best was seen in the same
    numbers: so it is all pairs of the group that are corrected for."""
    whole = asked.correct != "none"
    pairs = list(combinations(places, 2)) if whole else [(best, it) for it in places if it != best]
    ps = {pair: _paired_t(*(cells[place] for place in pair)) for pair in pairs}
    tested = [pair for pair in pairs if ps[pair] is not None]
    adjusted = stats.corrected([ps[pair] for pair in tested], asked.correct)
    told = dict(zip(tested, adjusted, strict=True))
    return {(b if a == best else a): told.get((a, b)) for a, b in pairs if best in (a, b)}


def _ties(asked: Best, pairs: Sequence[int]) -> str:
    if not pairs:
        return ""
    if asked.correct == "none":
        said = f"{_corrected(asked.correct, len(pairs))}{_n(pairs)}"
        test = f"a {100 * (1 - asked.alpha):g}% paired t interval ({said})"
    else:
        test = f"a paired t test (Holm over all pairs, α = {asked.alpha:g}, {_n(pairs)})"
    return f", and what {test} does not tell from it"


def star(
    spec: TableSpec, rows: Sequence[Row], columns: Sequence[Column], cells: Cells
) -> list[str]:
    """Star the cells that differ from those of a reference row in the same column. A cell
    that no outcome could star, with so few pairs and so many tests, says so. Each is tested
    by its own number of pairs: exactly up to MOST_SIGNS, by a t test beyond."""
    asked = spec.significance
    if asked is None:
        return []
    name = asked.value or spec.values[0]
    places = _against(asked.against, name, rows, columns, cells)
    pairs = {
        place: list(found.values())
        for place, reference in places.items()
        if (found := _differences(cells[reference], cells[place]))
    }
    short = _short_places(spec, asked.against, {place: places[place] for place in pairs}, cells)
    for place, why in short.items():
        del pairs[place]
        cells[place] = replace(cells[place], untested=(*cells[place].untested, why))
    says = f"{asked.mark} {_differs(spec, name, asked.against, columns)}"
    bare = _NOT_TESTED if short else ""
    if short and not pairs:
        return [f"{says}{bare}"]
    most = max(map(len, pairs.values()), default=0)
    least = [_least(len(differences)) for differences in pairs.values()]
    testable = {
        place: p <= asked.alpha
        for place, p in zip(pairs, stats.corrected(least, asked.correct), strict=True)
    }
    for place, possible in testable.items():
        if not possible:
            why = f"not testable at n={len(pairs[place])}"
            cells[place] = replace(cells[place], untested=(*cells[place].untested, why))
    family = (len(pairs) or len(places) or 1) if asked.correct == "holm" else 1
    enough = f"n={stats.pairs_needed(family, asked.alpha)} would do"
    if family > 1:
        enough += f" for {family} comparisons"
    if not any(testable.values()):
        smallest = numeral(min(1.0, stats.least_sign_flip(most)), "g") if most else "none"
        few = _n(map(len, pairs.values())) if most else "n=0"
        least_p = f"smallest p of the sign-flip test: {smallest}"
        return [f"{says}: not testable at {few} ({least_p}; {enough}){bare}"]
    ps = []
    for place, differences in pairs.items():
        size = stats.size_of(cells[places[place]].samples, cells[place].samples)
        p = (stats.sign_flip if _exact(len(differences)) else stats.paired_t)(
            differences, size=size
        )
        ps.append(1.0 if p is None else p)
    for place, p in zip(pairs, stats.corrected(ps, asked.correct), strict=True):
        if testable[place]:
            mark = asked.mark if p <= asked.alpha else ""
            cells[place] = replace(cells[place], star=mark, p_star=p)
    kind = _star_test(map(len, pairs.values()))
    said = _corrected(asked.correct, len(pairs))
    found = f"{says} ({kind}, {said}α = {asked.alpha:g}, {_n(map(len, pairs.values()))})"
    if all(testable.values()):
        return [f"{found}{bare}"]
    few = _n(len(pairs[place]) for place, possible in testable.items() if not possible)
    return [f"{found}; not testable at {few}, {enough}{bare}"]


def _exact(pairs: int) -> bool:
    return pairs <= stats.MOST_SIGNS


def _least(pairs: int) -> float:
    """The smallest p that the test of so many pairs can give."""
    return min(1.0, stats.least_sign_flip(pairs)) if _exact(pairs) else 0.0


def _star_test(pairs: Iterable[int]) -> str:
    kinds = {_exact(n) for n in pairs}
    if kinds == {True, False}:
        return f"exact paired sign-flip test up to n={stats.MOST_SIGNS}, paired t test beyond"
    return "exact paired sign-flip test" if True in kinds else "paired t test"


def encircle(
    spec: TableSpec,
    rows: Sequence[Row],
    columns: Sequence[Column],
    cells: Cells,
    left: Callable[[Place], Left],
) -> list[str]:
    """Mark the cells whose trained models differ from those of a reference row in the same
    column, by what each trial `left` of single items, such as sentences."""
    asked = spec.checkpoints
    if asked is None:
        return []
    places = _against(asked.against, asked.value, rows, columns, cells)
    read = cache(left)
    valued = {
        place: reference
        for place, reference in places.items()
        if cells[place].samples and cells[reference].samples
    }
    short = _short_places(spec, asked.against, valued, cells)
    found = {
        place: items.paired(read(reference), read(place), asked.over)
        for place, reference in valued.items()
        if place not in short
    }
    there = {place: some for place, some in found.items() if not isinstance(some, str)}
    ps = items.resampled(there, asked.samples)
    tested = [place for place, p in ps.items() if p is not None]
    adjusted = stats.corrected([ps[place] for place in tested], asked.correct)
    for place, p in zip(tested, adjusted, strict=True):
        mark = asked.mark if p <= asked.alpha else ""
        cells[place] = replace(cells[place], circle=mark, p_circle=p)
    left_out: Counter[str] = Counter()
    for place in valued:
        if place in tested:
            continue
        if place in short:
            why = short[place]
        else:
            some = found[place]
            said = some if isinstance(some, str) else "all differences are the same number"
            why = f"not testable: {said}"
        if why not in cells[place].untested:
            cells[place] = replace(cells[place], untested=(*cells[place].untested, why))
        left_out[why] += 1
    says = f"{asked.mark} these checkpoints: {_differs(spec, asked.value, asked.against, columns)}"
    bare = "".join(f"; {why} ({count} of {len(places)})" for why, count in left_out.items())
    if not tested:
        return [f"{says}{bare or ': not testable without values'}"]
    sizes = sorted({len(there[place].values_N) for place in tested})
    many = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
    said = _corrected(asked.correct, len(tested))
    return [
        f"{says} (paired bootstrap over {many} {asked.over}, {asked.samples:,} resamples, {said}"
        f"α = {asked.alpha:g}); it says nothing about other seeds{bare}"
    ]


def say_untested(columns: Sequence[Column], cells: Cells) -> tuple[Column, ...]:
    """What could not be tested is a footnote: of its column, where it is of all cells there
    that might have been, else of the cell."""
    found = list(columns)
    for j, column in enumerate(columns):
        if column.kind != "value":
            continue
        of_column = {place: cell for place, cell in cells.items() if place[1] == j}
        might = [
            cell
            for cell in of_column.values()
            if cell.untested or cell.p_star is not None or cell.p_circle is not None
        ]
        last = max((k for k, text in enumerate(column.path) if text), default=0)
        whole = [why for why in _untested(might) if all(why in it.untested for it in might)]
        if whole and not column.notes[last]:
            notes = list(column.notes)
            notes[last] = "; ".join(whole)
            found[j] = replace(column, notes=tuple(notes))
        else:
            whole = []
        for place, cell in of_column.items():
            notes = [why for why in cell.untested if why not in whole]
            cells[place] = replace(cell, notes=(*cell.notes, *notes))
    return tuple(found)


def _untested(cells: Iterable[Cell]) -> list[str]:
    return list(dict.fromkeys(why for cell in cells for why in cell.untested))


# ---- what is compared, and how it is said

_NOT_TESTED = "; cells short of trials are not tested"


def short_of(cell: Cell, whose: str = "") -> str | None:
    """Why a cell is not tested: what is there may be what survived, or came first."""
    if cell.n >= cell.points:
        return None
    return f"not tested: {cell.n} of {cell.points} trials" + (f" of {whose}" if whose else "")


def _short_places(
    spec: TableSpec, row: str, places: Mapping[Place, Place], cells: Cells
) -> dict[Place, str]:
    found = {
        place: short_of(cells[place]) or short_of(cells[reference], _named(spec, row))
        for place, reference in places.items()
    }
    return {place: why for place, why in found.items() if why}


def _against(
    row: str, value: str, rows: Sequence[Row], columns: Sequence[Column], cells: Cells
) -> dict[Place, Place]:
    """The cells of a value -> the one in the same column that they are compared with."""
    reference = next(i for i, it in enumerate(rows) if it.reference is None and it.key == row)
    return {
        (i, j): (reference, j)
        for i, j in cells
        if columns[j].kind == "value"
        and columns[j].metric.name == value
        and i != reference
        and rows[i].reference is None
    }


def _differences(start: Cell, end: Cell) -> dict[str, float]:
    return stats.paired_differences(start.samples, end.samples)


def _paired_t(start: Cell, end: Cell) -> float | None:
    size = stats.size_of(start.samples, end.samples)
    return stats.paired_t(list(_differences(start, end).values()), size=size)


def _differs(spec: TableSpec, value: str, row: str, columns: Sequence[Column]) -> str:
    label = next(c.metric.label or value for c in columns if c.metric.name == value)
    return f"{label} differs from that of {_named(spec, row)}"


def _named(spec: TableSpec, row: str) -> str:
    return spec.labels.get(row, row)


def _t_test(asked: Significance, tests: int, pairs: Iterable[int]) -> str:
    if asked.correct == "none":
        said = f"{_corrected(asked.correct, tests)}{_n(pairs)}"
        return f"{100 * (1 - asked.alpha):g}% paired t interval leaves out 0, {said}"
    return f"paired t test, {_corrected(asked.correct, tests)}α = {asked.alpha:g}, {_n(pairs)}"


def _corrected(correct: str, tests: int) -> str:
    plural = "" if tests == 1 else "s"
    if correct == "holm":
        return f"Holm over {tests} comparison{plural}, "
    return f"uncorrected over {tests} comparisons, " if tests > 1 else ""


def _n(pairs: Iterable[int]) -> str:
    sizes = sorted(set(pairs))
    return f"n={sizes[0]}" if len(sizes) == 1 else f"n={sizes[0]} to {sizes[-1]}"


def _by(spec: TableSpec) -> str:
    return ", ".join(spec.over) or "trial"
