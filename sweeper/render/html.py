"""A Table in, HTML out: `render` gives a fragment for any page, `page` a file of its own.

Numbers stand with their decimal points under each other in whatever font: what a cell lacks
beside the widest of its column is there unseen (`data-after`: see `STYLE`), and is no part of
its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sweeper.render.layout import NUMBER, spans, title
from sweeper.render.markup import LINE, Child, Html, document, tag
from sweeper.render.style import STYLE
from sweeper.tables import Cell, Table
from sweeper.tables.numerals import NONE

LONG = 28  # characters of a label that is broken into lines
RUNS_SHOWN = 20  # in the tip of one cell

Shown = Callable[[int, int, Cell, Html], Html]  # row, column, cell, its number -> its content


def render(table: Table) -> str:
    return figure(table) + "\n"


def page(table: Table) -> str:
    said = title(table.name, table.profile, table.caption)
    return document(said, tag("main", figure(table)), style=STYLE)


def figure(table: Table, shown: Shown | None = None) -> Html:
    """Caption, table and notes. `shown` may put something around the number of a cell;
    without it, what is behind a number is said in its tip."""
    columns = [_Aligned.of([line[j] for line in table.cells]) for j in range(len(table.columns))]
    name = f"table-{table.name}"
    said = title(table.name, table.profile, table.caption).removeprefix(table.name)
    inside = tag(
        "table",
        tag("thead", _head(table, columns)),
        LINE,
        _bodies(table, columns, shown),
        aria_labelledby=f"{name}-caption",
    )
    notes = [
        *(tag("li", tag("b", mark), " ", note) for note, mark in table.marks.items()),
        *(tag("li", line) for line in table.footer),
    ]
    caption = tag("figcaption", tag("b", table.name), said, id=f"{name}-caption")
    # What is wider than its page is moved in a box of its own, by the keyboard too.
    box = {"class_": "scroll", "tabindex": 0, "role": "region"}
    return tag(
        "figure",
        caption,
        LINE,
        tag("div", inside, aria_labelledby=f"{name}-caption", **box),
        LINE,
        tag("ul", *notes, class_="notes") if notes else None,
        class_="sweeper",
        id=name,
    )


def _head(table: Table, columns: Sequence[_Aligned]) -> Iterator[Html]:
    """A line for each level. A heading reaches over its columns, and down over levels at
    which they have none; the rows' axis stands beside all."""
    levels = spans([table.heading(column) for column in table.columns])
    at = [{span.start: span for span in level} for level in levels]
    covered: set[tuple[int, int]] = set()
    for depth, level in enumerate(levels):
        cells = []
        if depth == 0:
            down = len(levels) if len(levels) > 1 else None
            cells.append(tag("th", table.row_heading, scope="col", rowspan=down, class_="stub"))
        for span in level:
            if (depth, span.start) in covered:
                continue
            text, at_level, last = span.text, depth, depth
            while last + 1 < len(levels):
                below = at[last + 1].get(span.start)
                if below is None or below.stop != span.stop or (text and below.text):
                    break
                last += 1
                if not text:
                    text, at_level = below.text, last
                covered.add((last, span.start))
            column = table.columns[span.start]
            marks = table.mark(column.notes[at_level])
            wide, deep = span.stop - span.start, last - depth + 1
            cells.append(
                tag(
                    "th",
                    columns[span.start].heading(column.path[at_level], marks, alone=wide == 1),
                    scope="colgroup" if wide > 1 else "col",
                    colspan=wide if wide > 1 else None,
                    rowspan=deep if deep > 1 else None,
                    class_="over" if wide > 1 and text else None,
                )
            )
        yield tag("tr", *cells)
    if not levels:
        yield tag("tr", tag("th", table.row_heading, scope="col", class_="stub"))


def _bodies(table: Table, columns: Sequence[_Aligned], shown: Shown | None) -> Iterator[Html]:
    """A `tbody` for the rows between two rules."""
    group: list[Child] = []
    for i, (row, cells) in enumerate(table.lines()):
        if heading := table.opened(i):
            over = tag("th", heading, scope="rowgroup", colspan=len(table.columns) + 1)
            group += [tag("tr", over, class_="group"), LINE]
        stub = [row.label, _raised(table.mark(row.note))]
        kinds = ["reference"] * bool(row.reference) + ["long"] * (len(row.label) > LONG)
        content = [tag("th", *stub, scope="row", class_=" ".join(kinds) or None)]
        for j, cell in enumerate(cells):
            number = columns[j].number(cell, table.mark_of(cell))
            inside = shown(i, j, cell, number) if shown else number
            content.append(tag("td", inside, **_told(table, j, cell, tip=shown is None)))
        group.append(tag("tr", *content))
        group.append(LINE)
        if row.rule_after:
            yield tag("tbody", *group)
            group = []
    if group:
        yield tag("tbody", *group)


def _told(table: Table, j: int, cell: Cell, *, tip: bool) -> dict[str, object]:
    """What the cell is, for a style and for programs; and for people, where there is nothing
    else to tell them, its tip."""
    classes = [cell.state.replace(" ", "-"), table.columns[j].kind]
    return {
        "class_": " ".join([*classes, *(["best"] if cell.best else [])]),
        "data_n": f"{cell.n}/{cell.points}" if cell.points else None,
        "data_trials": " ".join(dict.fromkeys(cell.trials)) or None,
        "title": (_tip(cell) or None) if tip else None,
    }


def _tip(cell: Cell) -> str:
    """ "n=2 of 3; 1 failed; seeds: 0: 81.2, 2: 80.4; trials 126c1e7ffee28a69, ..." """
    if not cell.trials:
        return ""
    parts = [f"n={cell.n} of {cell.points}"] if cell.points else []
    parts += [f"{n} {state}" for state, n in cell.states.items() if state != "value"]
    each = cell.scores or cell.samples
    values = [f"{at or 'value'}: {value:.6g}" for at, value in each.items()]
    parts += [_some(values)] if values else []
    parts += cell.untested
    return "; ".join([*parts, f"trials {_some(tuple(dict.fromkeys(cell.trials)))}"])


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - RUNS_SHOWN
    return ", ".join(texts[:RUNS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _raised(marks: str) -> Html | None:
    return tag("sup", marks) if marks else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aligned:
    """The longest of each part of the numbers of a column: before and after the point of the
    mean; the same of the spread; and what stands behind, in small letters (`tail`)."""

    lead: str = ""
    rest: str = ""
    spread: str = ""
    end: str = ""
    tail: str = ""

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> _Aligned:
        matches = [m for cell in cells if (m := NUMBER.fullmatch(cell.text))]
        # Where there are spreads, what stands behind a mean without one takes the place of it.
        behind = [m for m in matches if m["spread"]] or matches
        parts = {group: _longest(matches, group) for group in ("lead", "rest", "spread", "end")}
        return cls(**parts, tail=_longest(behind, "tail"))

    @property
    def whole_spread(self) -> str:
        return f" ± {self.spread}{self.end}" if self.spread else ""

    def heading(self, text: str, marks: str, *, alone: bool) -> list[Child]:
        """Over the means, where it is of this column alone and no wider than they are."""
        behind = [_unseen(self.whole_spread), _small("", self.tail)]
        wide = len(text) > len(self.lead + self.rest) + 2
        if wide or not alone or behind == [None, None]:
            return [text, _raised(marks)]
        return [tag("span", text, _raised(marks), *behind, class_="number")]

    def number(self, cell: Cell, marks: str) -> Html:
        """The cell's text with its marks."""
        m = NUMBER.fullmatch(cell.text)
        if m is None:  # A dash stands for a number; a word is longer than any.
            dash = cell.text == NONE
            ends = [_unseen(self.whole_spread), _small("", self.tail)] if dash else []
            return tag("span", cell.text, _raised(marks), *ends, class_="word")
        parts: list[Child] = [m["lead"], m["rest"]]
        lacks = self.rest[len(m["rest"]) :]
        if m["spread"]:
            before = self.spread[len(m["spread"]) :]
            after = self.end[len(m["end"]) :]
            parts += [_unseen(lacks), " ± ", _unseen(before), m["spread"], m["end"]]
            parts += [_small(m["tail"]), _raised(marks), _unseen(after)]
            parts += [_small("", self.tail[len(m["tail"]) :])]
        else:
            taken = len(m["tail"]) if self.spread else 0  # by what stands where a spread would
            left = 0 if self.spread else len(m["tail"])
            parts += [_small(m["tail"]), _raised(marks)]
            parts += [_unseen(lacks + self.whole_spread[taken * 4 // 5 :])]
            parts += [_small("", self.tail[left:])]
        return tag("strong" if cell.best else "span", *parts, class_="number")


def _longest(matches: Sequence[re.Match[str]], group: str) -> str:
    return max((m[group] or "" for m in matches), key=len, default="")


def _unseen(text: str) -> Html | None:
    """Room as wide as the text, which is not there for whoever reads or copies."""
    return tag("span", data_after=text) if text else None


def _small(text: str, unseen: str = "") -> Html | None:
    return tag("small", text, data_after=unseen or None) if text or unseen else None
