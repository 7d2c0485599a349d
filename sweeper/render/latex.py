r"""A Table in, LaTeX out: a float with booktabs rules that compiles as it is, in any document
that says \usepackage{booktabs}. Pure ASCII, so neither engine nor encoding matters.

Numbers are padded with \phantom to one width a column, so that decimal points stand under
each other without a further package. What is wider than the text is scaled to it where the
document has graphicx, and says so in the log where it has not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product, repeat

from sweeper.render.layout import NUMBER, Span, plain, spans, wrapped
from sweeper.render.terminal import HEADING, LABEL, measure, split
from sweeper.tables import Cell, Row, Table

# Widths in characters; one takes about 5 pt of a 10 pt font.
COLUMN = 42  # of a page of two columns
PAGE = 108  # scaled to the text of an article it is still read; what is wider is set in blocks
LINES = 44  # of a float: one that is longer than the page runs off it
NOTE = 90  # characters in a line of a note
WORD = 30  # a longer word may be broken, every PART characters
PART = 10

# Too wide a table in a document without graphicx is centred, and warned of.
FIT = r"""\providecommand{\sweeperfit}[1]{\sbox0{#1}\ifdim\wd0>\linewidth
  \ifdefined\resizebox \resizebox{\linewidth}{!}{\usebox0}%
  \else \PackageWarning{sweeper}{a table is wider than the text: load graphicx to scale it}%
    \makebox[\linewidth]{\usebox0}\fi
  \else \usebox0\fi}"""
# The part before the decimal point, the rest, marks. Bold is wider: it must not push.
BEST = r"""\providecommand*{\sweeperbest}[3]{%
  \textbf{\boldmath #1}\rlap{\textbf{\boldmath #2}#3}\phantom{#2}}"""


def render(table: Table) -> str:
    wide = measure(table) > COLUMN
    tops = [r"\usepackage{booktabs}", *([r"\usepackage{graphicx}"] if wide else [])]
    best = any(cell.best for cells in table.cells for cell in cells)
    lines = [f"% {' '.join(tops)}", *([BEST] if best else []), *([FIT] if wide else [])]
    floats = list(_floats(table))
    for n, blocks in enumerate(floats):
        body: list[str] = []
        for rows, columns in blocks:
            body += [r"\par\medskip"] if body else []
            tabular = _tabular(table, rows, columns)
            body += [r"\sweeperfit{%", *tabular[:-1], tabular[-1] + "}"] if wide else tabular
        body += _foot(table) if n == len(floats) - 1 else []
        # With one column to a page, table* is table.
        lines += _float(table, "table*" if wide else "table", body, continued=n > 0)
    return "\n".join(lines) + "\n"


def _floats(table: Table) -> Iterator[list[tuple[range, range]]]:
    """Blocks of rows and columns; as many in a float as a page has lines for. The notes stand
    under the last."""
    head = max((len(column.path) for column in table.columns), default=1) + 2
    blocks = list(product(_chunks(len(table.rows), LINES - head), split(table, PAGE)))
    notes = [*table.marks, *table.footer]
    below = sum(len(note) // NOTE + 1 for note in notes) * 3 // 4  # of smaller lines
    some: list[tuple[range, range]] = []
    lines = 0
    for rows, columns in blocks:
        more = len(rows) + head + (below if (rows, columns) == blocks[-1] else 0)
        if some and lines + more > LINES:
            yield some
            some, lines = [], 0
        some.append((rows, columns))
        lines += more
    yield some


def _chunks(total: int, most: int) -> list[range]:
    return [range(start, min(start + most, total)) for start in range(0, total, most)] or [range(0)]


def _float(table: Table, kind: str, body: Sequence[str], *, continued: bool) -> list[str]:
    name = re.sub(r"[^A-Za-z0-9._:-]", "-", table.name)
    caption = escaped(f"{table.caption} (continued)" if continued else table.caption)
    return [
        rf"\begin{{{kind}}}[tbp]",
        r"\centering",
        *body,
        *([r"\addtocounter{table}{-1}"] if continued else []),
        rf"\caption{{{caption}}}",
        *([] if continued else [rf"\label{{tab:{name}}}"]),
        rf"\end{{{kind}}}",
    ]


def _tabular(table: Table, rows: range, columns: range) -> list[str]:
    shapes = {j: _Shape.of(table, [cells[j] for cells in table.cells]) for j in columns}
    body = []
    for i in rows:
        row, cells = table.rows[i], table.cells[i]
        if group := escaped(table.opened(i)):
            body += [r"\addlinespace"] if body and body[-1] != r"\midrule" else []
            body.append(rf"\multicolumn{{{len(columns) + 1}}}{{@{{}}l}}{{\textit{{{group}}}}} \\")
        body.append(_line([_label(table, row), *(shapes[j].cell(cells[j]) for j in columns)]))
        if row.rule_after and i < rows.stop - 1:
            body.append(r"\midrule")
    return [
        rf"\begin{{tabular}}{{@{{}}l{'c' * len(columns)}@{{}}}}",
        r"\toprule",
        *_head(table, columns),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _head(table: Table, columns: range) -> list[str]:
    """One line a level, headings centred over their columns with a rule below; the rows'
    axis is named on the last."""
    paths = []
    for column in table.columns[columns.start : columns.stop]:
        pairs = zip(column.path, column.notes, strict=True)
        paths.append(tuple(_heading(text) + _raised(table.mark(note)) for text, note in pairs))
    levels = spans(paths)
    lines = []
    for depth, level in enumerate(levels):
        last = depth == len(levels) - 1
        stub = escaped(table.row_heading) if last else ""
        lines.append(_line([stub, *map(_over, level)]))
        if not last:
            named = [span for span in level if span.text]
            lines.append("".join(map(_rule, named, repeat(len(columns)))))
    return lines


def _rule(span: Span, columns: int) -> str:
    trim = "l" if span.stop == columns else "lr"
    return rf"\cmidrule({trim}){{{span.start + 2}-{span.stop + 1}}}"


def _heading(text: str) -> str:
    lines = r" \\ ".join(map(escaped, wrapped(plain(text), HEADING)))
    return rf"\shortstack{{{lines}}}" if r" \\ " in lines else lines


def _over(span: Span) -> str:
    columns = span.stop - span.start
    return span.text if columns == 1 else rf"\multicolumn{{{columns}}}{{c}}{{{span.text}}}"


def _label(table: Table, row: Row) -> str:
    text = (r"\quad " if row.group else "") + escaped(row.label) + _raised(table.mark(row.note))
    if len(plain(row.label)) <= LABEL:
        return text
    return rf"\parbox[t]{{0.35\linewidth}}{{\raggedright {text}\strut}}"


def _foot(table: Table) -> list[str]:
    notes = [f"{_raised(mark)} {escaped(note)}" for note, mark in table.marks.items()]
    notes += map(escaped, table.footer)
    if not notes:
        return []
    text = " \\\\\n".join(notes)
    return [
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\footnotesize\raggedright",
        text,
        r"\end{minipage}",
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What the numbers of a column have at most: before the decimal point, after it, in the
    spread before and after its point, behind it all, and as marks."""

    table: Table
    lead: str
    rest: str
    spread: str
    end: str
    tail: str
    marks: str

    @classmethod
    def of(cls, table: Table, cells: Sequence[Cell]) -> _Shape:
        matches = [m for cell in cells if (m := NUMBER.fullmatch(cell.text))]
        parts = ("lead", "rest", "spread", "end", "tail")
        most = {part: max((m[part] or "" for m in matches), key=len, default="") for part in parts}
        marks = [table.mark_of(cell) for cell in cells if NUMBER.fullmatch(cell.text)]
        return cls(table=table, marks=max(marks, key=len, default=""), **most)

    def cell(self, cell: Cell) -> str:
        """Its text, padded to the width of the widest of the column."""
        number = NUMBER.fullmatch(cell.text)
        marks = self.table.mark_of(cell)
        if not number:
            return escaped(cell.text) + _raised(marks)
        rest = number["rest"]
        behind = _phantom(self.rest[len(rest) :])
        if number["spread"]:
            pad = _phantom(self.spread[: len(self.spread) - len(number["spread"])])
            behind += f" {escaped('±')} {pad}{escaped(number['spread'] + number['end'])}"
            behind += _phantom(self.end[len(number["end"]) :])
        elif self.spread:
            behind += _phantom(f" ± {self.spread}{self.end}")
        text = _phantom(self.lead[: len(self.lead) - len(number["lead"])])
        said = _raised(marks)
        if cell.best:
            alone = not self.spread and not self.tail
            text += rf"\sweeperbest{{{escaped(number['lead'])}}}{{{escaped(rest)}}}"
            text += rf"{{{said if alone else ''}}}"
            said = "" if alone else said
        else:
            text += escaped(number["lead"] + rest)
        tail = _place(escaped(number["tail"]), escaped(self.tail))
        return text + behind + tail + _place(said, _raised(self.marks))


def _place(text: str, widest: str) -> str:
    """`text` at the left of a place of the width of `widest`."""
    if text == widest:
        return text
    return (rf"\rlap{{{text}}}" if text else "") + rf"\phantom{{{widest}}}"


def _phantom(text: str) -> str:
    return rf"\phantom{{{escaped(text)}}}" if text else ""


def _raised(marks: str) -> str:
    return rf"\textsuperscript{{{escaped(_low(marks))}}}" if marks else ""


def _low(marks: str) -> str:
    return marks.replace("°", "○")  # it is raised already


def escaped(text: str) -> str:
    """Free text as LaTeX prints it. A character that plain LaTeX has no means for is named
    by its code point."""
    words = unicodedata.normalize("NFC", plain(text)).split(" ")
    return " ".join(map(_word, words))


def _word(word: str) -> str:
    step = PART if len(word) > WORD else max(len(word), 1)
    parts = (word[start : start + step] for start in range(0, len(word), step))
    return r"\allowbreak{}".join("".join(map(_character, part)) for part in parts)


def _character(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character
    base, *accents = unicodedata.normalize("NFD", character)
    if accents and base.isascii() and all(accent in _ACCENTS for accent in accents):
        for accent in accents:
            base = rf"\{_ACCENTS[accent]}{{{base}}}"
        return base
    if character in _GREEK:
        name = unicodedata.name(character).split()[-1].replace("LAMDA", "LAMBDA")
        return rf"$\{name.capitalize() if character.isupper() else name.lower()}$"
    return rf"{{\ttfamily U+{ord(character):04X}}}"


# Braces keep `--`, `''` and `?`` from becoming one sign, and [ and * from being read as an
# argument of a line end.
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "^": r"\textasciicircum{}",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\ttfamily\char34}",
    "`": r"\textasciigrave{}",
    "'": "{'}",
    "-": "{-}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "−": "$-$",
    "±": r"$\pm$",
    "÷": r"$\div$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "●": r"$\bullet$",
    "○": r"$\circ$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "‖": r"$\|$",
    "•": r"$\bullet$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "∞": r"$\infty$",
    "∂": r"$\partial$",
    "∇": r"$\nabla$",
    "µ": r"$\mu$",
    "°": r"$^\circ$",
    "£": r"\pounds{}",
    "©": r"\copyright{}",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'{}",
    "ﬀ": "ff",  # as TeX sets them
    "ﬁ": "fi",
    "ﬂ": "fl",
    "ﬃ": "ffi",
    "ﬄ": "ffl",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
_SPECIAL |= {c: rf"$^{n}$" for n, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_SPECIAL |= {c: rf"$_{n}$" for n, c in enumerate("₀₁₂₃₄₅₆₇₈₉")}
_GREEK = frozenset("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ")  # the others look Latin
