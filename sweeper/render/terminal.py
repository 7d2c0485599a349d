"""A Table in, a page of fixed-width characters out: nested headings with rules under them,
decimal points under each other. Too wide a table is set in blocks, one below the other;
long labels and headings take several lines."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

from rich.cells import cell_len
from rich.text import Text

from sweeper.render.layout import Span, aligned, left, middle, plain, spans, title, wrapped
from sweeper.tables import Cell, Table

WIDTH = 100
GAP = 2  # between columns; one more between the outermost groups
LABEL = 40  # a longer label of a row is broken in any case
HEADING = 24  # a longer heading does not widen its column: it is broken
LEFT_TO_RIGHT = "\u200e"  # invisible: keeps the numbers of a line in their columns
STYLES = {
    "failed": "red",
    "diverged": "red",
    "exceeded": "red",
    "corrupt": "red",
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
    most = min(LABEL, width // 3)
    stubs = [wrapped(plain(row.label + table.mark(row.note)), most) for row in table.rows]
    stub = max(map(cell_len, [plain(table.row_heading), *(line for it in stubs for line in it)]))
    page = Text()
    for line in wrapped(plain(title(table.name, table.profile, table.caption)), width):
        page.append(line.rstrip() + "\n", style="bold")
    for columns in _blocks(_measured(table, progress), width - stub):
        page.append(_block(table, _widened(columns), stubs, stub))
    notes = [f"{mark} {note}" for note, mark in table.marks.items()]
    for note in map(plain, [*notes, *table.footer]):
        page.append("\n  ".join(wrapped(note, width - 2)) + "\n", style="dim")
    return page


def measure(table: Table) -> int:
    """Its width in characters, were it set in one block."""
    return _stub(table, LABEL) + _total(_measured(table, progress=False))


def split(table: Table, width: int) -> list[range]:
    """The columns of each block, were it set in `width` characters."""
    blocks = _blocks(_measured(table, progress=False), width - _stub(table, width // 3))
    stops = list(accumulate(map(len, blocks)))
    return [range(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def _stub(table: Table, most: int) -> int:
    labels = [table.row_heading, *(row.label for row in table.rows)]
    return min(most, max(cell_len(plain(label)) for label in labels))


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
        width = max(_needed(path[-1]), *map(cell_len, texts))
        styles = tuple("bold" if cell.best else STYLES.get(cell.state, "") for cell in cells)
        columns.append(_Measured(path=path, cells=tuple(texts), styles=styles, width=width))
    return columns


def _shown(table: Table, cell: Cell, progress: bool) -> str:
    if progress and cell.pending:
        value = cell.text.partition(" (n=")[0] if cell.samples else ""
        return f"{value} {cell.n}/{cell.points}".strip()
    return cell.text + table.mark_of(cell)


def _needed(heading: str) -> int:
    return min(cell_len(heading), HEADING)


def _blocks(columns: Sequence[_Measured], width: int, depth: int = 0) -> Iterator[list[_Measured]]:
    """Groups of columns, outermost first, as many side by side as `width` holds. Only one that
    is too wide by itself is taken apart, and stands by itself then."""
    whole: list[list[_Measured]] = []
    for _, some in groupby(columns, key=lambda column: column.path[depth]):
        group = list(some)
        if depth + 1 < len(group[0].path) and _total(group) > width:
            yield from _balanced(whole, width)
            yield from _blocks(group, width, depth + 1)
            whole = []
        else:
            whole.append(group)
    yield from _balanced(whole, width)


def _balanced(groups: Sequence[list[_Measured]], width: int) -> Sequence[list[_Measured]]:
    """As few blocks as `width` allows, about equally wide."""
    fewest = _filled(groups, width)
    narrow = sum(map(_total, groups)) // max(len(fewest), 1)
    tries = (_filled(groups, less) for less in range(narrow, width))
    return next((blocks for blocks in tries if len(blocks) == len(fewest)), fewest)


def _filled(groups: Sequence[list[_Measured]], width: int) -> list[list[_Measured]]:
    blocks: list[list[_Measured]] = []
    for group in groups:
        if blocks and _total([*blocks[-1], *group]) <= width:
            blocks[-1] = [*blocks[-1], *group]
        else:
            blocks.append(group)
    return blocks


def _total(columns: Sequence[_Measured]) -> int:
    return sum(_widths(_widened(columns)))


def _widened(columns: Sequence[_Measured]) -> list[_Measured]:
    """Columns wide enough for the headings over them: the last of a span gives way."""
    columns = list(columns)
    for level in reversed(spans([column.path for column in columns])[:-1]):
        for span in level:
            lacking = _needed(span.text) - _span_width(columns, span)
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


def _block(
    table: Table, columns: Sequence[_Measured], stubs: Sequence[Sequence[str]], stub: int
) -> Text:
    total = stub + sum(_widths(columns))
    page = Text().append("━" * total + "\n", style="dim")
    page.append(_head(table, columns, stub))
    page.append("─" * total + "\n", style="dim")
    for i, (row, label) in enumerate(zip(table.rows, stubs, strict=True)):
        for line in wrapped(plain(table.opened(i)), total) if table.opened(i) else ():
            page.append(line + "\n", style="bold")
        page.append(_fenced(left(label[0], stub)))
        for j, column in enumerate(columns):
            page.append(" " * _gap(columns, j))
            page.append(middle(column.cells[i], column.width), style=column.styles[i])
        page.append("\n")
        for line in label[1:]:
            page.append(_fenced(line) + "\n")
        if row.rule_after and i < len(stubs) - 1:
            page.append("─" * total + "\n", style="dim")
    return page.append("━" * total + "\n", style="dim")


def _head(table: Table, columns: Sequence[_Measured], stub: int) -> Text:
    """Headings stand on the rules under them; one that needs several lines grows upwards."""
    head = Text()
    levels = spans([column.path for column in columns])
    for depth, level in enumerate(levels):
        last = depth == len(levels) - 1
        widths = [_span_width(columns, span) for span in level]
        texts = [wrapped(it.text, width) for it, width in zip(level, widths, strict=True)]
        most = max(map(len, texts))
        for n in range(most):
            named = last and n == most - 1
            words = _fenced(left(plain(table.row_heading) if named else "", stub))
            for span, width, text in zip(level, widths, texts, strict=True):
                line = ([""] * (most - len(text)) + text)[n]
                words += " " * _gap(columns, span.start) + _fenced(middle(line, width))
            head.append(words.rstrip() + "\n", style="bold")
        if not last:
            rules = " " * stub
            for span, width in zip(level, widths, strict=True):
                rules += " " * _gap(columns, span.start) + ("─" if span.text else " ") * width
            head.append(rules.rstrip() + "\n", style="dim")
    return head


def _fenced(text: str) -> str:
    """Text that runs from right to left would draw the numbers beside it into its run."""
    turns = any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in text)
    return text + LEFT_TO_RIGHT if turns else text
