r"""A Table in, LaTeX out: a float with booktabs rules that compiles as it is, in any document
that says \usepackage{booktabs}. Pure ASCII, so neither engine nor encoding matters."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from itertools import repeat

from sweeper.render.layout import NUMBER, Span, plain, spans, title
from sweeper.tables import Cell, Table


def render(table: Table) -> str:
    rules = [i for i, row in enumerate(table.rows) if row.rule_after]
    spreads = [_widest_spread(column) for column in zip(*table.cells, strict=True)]
    body = []
    for i, (row, cells) in enumerate(table.lines()):
        label = escaped(row.label) + _raised(table.mark(row.note))
        body.append(" & ".join([label, *map(_cell, repeat(table), cells, spreads)]) + r" \\")
        if i in rules and i < len(table.rows) - 1:
            body.append(r"\midrule")
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[tbp]",
        r"\centering",
        rf"\caption{{{escaped(title(table.name, table.profile, table.caption))}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        *_head(table),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *_foot(table),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _head(table: Table) -> list[str]:
    """One line a level, headings centred over their columns with a rule below; the rows'
    axis is named on the last."""
    levels = spans([table.heading(column) for column in table.columns])
    lines = []
    for depth, level in enumerate(levels):
        last = depth == len(levels) - 1
        stub = escaped(table.row_axis) if last else ""
        lines.append(" & ".join([stub, *map(_over, level)]) + r" \\")
        if not last:
            named = [span for span in level if span.text]
            lines.append("".join(rf"\cmidrule(lr){{{s.start + 2}-{s.stop + 1}}}" for s in named))
    return lines


def _over(span: Span) -> str:
    return rf"\multicolumn{{{span.stop - span.start}}}{{c}}{{{escaped(span.text)}}}"


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


def _cell(table: Table, cell: Cell, spread: str) -> str:
    """`spread` is the widest of the column: a number without one leaves its place free, so
    that decimals stay under each other."""
    number = NUMBER.fullmatch(cell.text)
    if not number:
        return rf"\multicolumn{{1}}{{c}}{{{escaped(cell.text)}}}" if cell.text else ""
    text = escaped(cell.text)
    if cell.best:
        text = rf"\textbf{{\boldmath {text}}}"
    marks = table.mark_of(cell)
    if marks:
        text += rf"\rlap{{{_raised(marks)}}}"
    if spread and not number["spread"] and not number["tail"]:
        text += rf"\phantom{{ {escaped(spread)}}}"
    return text


def _widest_spread(cells: Iterable[Cell]) -> str:
    matches = [NUMBER.fullmatch(cell.text) for cell in cells]
    spreads = [f"± {m['spread']}{m['end']}{m['tail']}" for m in matches if m and m["spread"]]
    return max(spreads, key=len, default="")


def _raised(marks: str) -> str:
    return rf"\textsuperscript{{{escaped(marks)}}}" if marks else ""


def escaped(text: str) -> str:
    """Free text as LaTeX prints it. A character that plain LaTeX has no means for is named
    by its code point."""
    return "".join(_character(c) for c in unicodedata.normalize("NFC", plain(text)))


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
_GREEK = frozenset("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ")  # the others look Latin
