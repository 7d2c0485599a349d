"""A Table in, a page of fixed-width characters out: nested headings with rules under them,
decimal points under each other. Too wide a table is set in blocks, one below the other."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from sweeper.render.layout import Span, aligned, left, middle, plain, spans, title
from sweeper.tables import Cell, Table

WIDTH = 100
GAP = 2  # between columns; one more between the outermost groups
STYLES = {
    "failed": "red",
    "diverged": "red",
    "exceeded": "red",
    "running": "yellow",
    "missing": "dim",
    "unscored": "dim",
    "stale": "yellow",
    "quoted": "dim",
    "not applicable": "dim",
}


def render(table: Table) -> str:
    return text(table).plain


def text(table: Table, *, width: int = WIDTH, progress: bool = False) -> Text:
    """The table with bold and colour for whoever can show it. With `progress`, cells that
    are still filling say how many of their trials are there."""
    stubs = [plain(row.label + table.mark(row.note)) for row in table.rows]
    stub = max(map(cell_len, [plain(table.row_axis), *stubs]))
    page = Text().append(plain(title(table.name, table.profile, table.caption)), style="bold")
    page.append("\n")
    for columns in _blocks(_measured(table, progress), width - stub):
        page.append(_block(table, columns, stubs, stub))
    notes = [f"{mark} {note}" for note, mark in table.marks.items()]
    for line in map(plain, [*notes, *table.footer]):
        wrapped = textwrap.wrap(line, width, subsequent_indent="  ")
        page.append("\n".join(wrapped) + "\n", style="dim")
    return page


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """A column ready to be set: `cells` all of one width, at most `width`."""

    path: tuple[str, ...]
    cells: tuple[str, ...]
    styles: tuple[str, ...]
    width: int


def _measured(table: Table, progress: bool) -> list[_Measured]:
    columns = []
    for j, column in enumerate(table.columns):
        path = tuple(map(plain, table.heading(column)))
        cells = [line[j] for line in table.cells]
        texts = aligned([plain(_shown(table, cell, progress)) for cell in cells])
        width = max(map(cell_len, [path[-1], *texts]))
        styles = tuple("bold" if cell.best else STYLES.get(cell.state, "") for cell in cells)
        columns.append(_Measured(path=path, cells=tuple(texts), styles=styles, width=width))
    return columns


def _shown(table: Table, cell: Cell, progress: bool) -> str:
    if progress and cell.pending:
        value = cell.text.partition(" (n=")[0] if cell.samples else ""
        return f"{value} {cell.n}/{cell.points}".strip()
    return cell.text + table.mark_of(cell)


def _blocks(columns: Sequence[_Measured], width: int) -> Iterator[list[_Measured]]:
    """Outermost groups of columns, as many side by side as `width` holds; a group is not
    taken apart."""
    block: list[_Measured] = []
    for _, group in groupby(columns, key=lambda column: column.path[0]):
        more = list(group)
        if block and sum(_widths(_widened([*block, *more]))) > width:
            yield _widened(block)
            block = []
        block += more
    yield _widened(block)


def _widened(columns: Sequence[_Measured]) -> list[_Measured]:
    """Columns wide enough for the headings over them: the last of a span gives way."""
    columns = list(columns)
    for level in reversed(spans([column.path for column in columns])[:-1]):
        for span in level:
            lacking = cell_len(span.text) - _span_width(columns, span)
            if lacking > 0:
                last = columns[span.stop - 1]
                columns[span.stop - 1] = replace(last, width=last.width + lacking)
    return columns


def _widths(columns: Sequence[_Measured]) -> list[int]:
    """The width of each column with the gap before it."""
    widths = []
    for j, column in enumerate(columns):
        apart = j > 0 and len(column.path) > 1 and column.path[0] != columns[j - 1].path[0]
        widths.append(column.width + GAP + apart)
    return widths


def _span_width(columns: Sequence[_Measured], span: Span) -> int:
    """From the left edge of the first column to the right edge of the last."""
    return sum(_widths(columns)[span.start : span.stop]) - _gap(columns, span.start)


def _gap(columns: Sequence[_Measured], j: int) -> int:
    return _widths(columns)[j] - columns[j].width


def _block(table: Table, columns: Sequence[_Measured], stubs: Sequence[str], stub: int) -> Text:
    total = stub + sum(_widths(columns))
    page = Text().append("━" * total + "\n", style="dim")
    page.append(_head(table, columns, stub))
    page.append("─" * total + "\n", style="dim")
    for i, (row, label) in enumerate(zip(table.rows, stubs, strict=True)):
        page.append(left(label, stub))
        for j, column in enumerate(columns):
            page.append(" " * _gap(columns, j))
            page.append(middle(column.cells[i], column.width), style=column.styles[i])
        page.append("\n")
        if row.rule_after and i < len(stubs) - 1:
            page.append("─" * total + "\n", style="dim")
    return page.append("━" * total + "\n", style="dim")


def _head(table: Table, columns: Sequence[_Measured], stub: int) -> Text:
    head = Text()
    levels = spans([column.path for column in columns])
    for depth, level in enumerate(levels):
        last = depth == len(levels) - 1
        words, rules = left(plain(table.row_axis) if last else "", stub), " " * stub
        for span in level:
            gap, width = " " * _gap(columns, span.start), _span_width(columns, span)
            words += gap + middle(span.text, width)
            rules += gap + ("─" if span.text else " ") * width
        head.append(words.rstrip() + "\n", style="bold")
        if not last:
            head.append(rules.rstrip() + "\n", style="dim")
    return head
