"""A Table in, GitHub's markdown out. Its tables have one heading line, so nested headings
are read outer to inner in one: "Topics W.O."."""

from __future__ import annotations

import re

from rich.cells import cell_len

from sweeper.render.layout import aligned, left, plain, right, title
from sweeper.tables import Cell, Table

_NUMERIC = re.compile(r"[\d\s.,:+−±–÷×%()\[\]n=●○A-Za-z]*")  # markdown takes it as it is
# What GitHub would make a link, a mention or an emoji of, up to where it is broken. It looks
# for most of them in what an escape or an entity stands for, so only a character between helps.
_LIVE = re.compile(
    r"(?i:www)(?=\.)|:(?=//)|@(?=\w)|:(?=(?:100|1234|[+-]1|[\w+-]*[A-Za-z][\w+-]*):)"
)
_BREAK = "\u200b"  # has no width; free text has none of its own, which `plain` makes visible


def render(table: Table) -> str:
    headings = [escaped(" ".join(filter(None, table.heading(c)))) for c in table.columns]
    stubs = [escaped(row.label + table.mark(row.note)) for row in table.rows]
    columns = [
        aligned([_cell(table, line[j]) for line in table.cells]) for j in range(len(headings))
    ]
    stub = escaped(table.row_heading)
    openings = [escaped(table.opened(i)).strip() for i in range(len(table.rows))]
    groups = [f"**{opening}**" if opening else "" for opening in openings]
    widths = [max(3, *map(cell_len, [stub, *stubs, *groups]))]
    for heading, column in zip(headings, columns, strict=True):
        widths.append(max(3, *map(cell_len, [heading, *column])))
    head = [left(stub, widths[0]), *map(right, headings, widths[1:])]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [head, rule]
    for i, label in enumerate(stubs):
        if groups[i]:
            lines.append([left(groups[i], widths[0]), *(" " * width for width in widths[1:])])
        cells = [column[i] for column in columns]
        lines.append([left(label, widths[0]), *map(right, cells, widths[1:])])
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = [f"- {escaped(mark)} {escaped(note)}" for note, mark in table.marks.items()]
    notes += [f"- {escaped(line)}" for line in table.footer]
    heading = escaped(title(table.name, table.profile, table.caption)).rstrip()
    return "\n\n".join([f"**{heading}**", body, "\n".join(notes)]) + "\n"


def escaped(text: str) -> str:
    """Free text as markdown shows it, inside a table and as a line of a list."""
    text = re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", _quiet(plain(text)))
    text = re.sub(r"^(\s*\d+)([.)])(?=\s|$)|^(\s*)([-+])(?=[\s-]|$)", r"\1\3\\\2\4", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace(_BREAK, "&#8203;")


def _quiet(text: str) -> str:
    """`text` of which no address, mention or emoji is made."""
    return _LIVE.sub(rf"\g<0>{_BREAK}", text)


def _cell(table: Table, cell: Cell) -> str:
    usual = _NUMERIC.fullmatch(cell.text) and "](" not in cell.text
    text = plain(cell.text) if usual and not _LIVE.search(cell.text) else escaped(cell.text)
    return (f"**{text}**" if cell.best else text) + escaped(table.mark_of(cell))
