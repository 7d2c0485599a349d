r"""A Table in, a LaTeX file of one \newcommand a cell out, so that the text of a paper quotes
numbers by name and none goes stale: \tableOneMaxPoolYahooNll.

A name is made of the labels in the sweep file: table, row, column, metric; numerals are spelt,
what is no letter is left out. Where two cells come to one name, both get six more letters,
drawn from their whole labels, so that no new row or column ever moves a name to another
number. A cell without a number is set as ??.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from sweeper.render.latex import escaped
from sweeper.tables import Cell, Column, Table
from sweeper.tables.numerals import numeral

NONE = r"\textbf{??}"
DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_VERDICTS = " ●○"  # of a comparison: a mark of the table, not of the number


def render(table: Table) -> str:
    found = list(_quotes(table))
    shared = _twice(quote.name for quote in found)
    names = [quote.name + (quote.letters if quote.name in shared else "") for quote in found]
    alike = _twice(names)  # in their labels, too
    lines = [
        f"% numbers of {_comment(table.name)} ({_comment(table.profile)}), for the text of a paper",
        r"% \input{this file} in the preamble; write \name{} in the text or in a formula",
    ]
    for name, quote in zip(names, found, strict=True):
        if name in alike:
            lines.append(f"% {name} would be two cells: {_comment(quote.said)}")
        else:
            lines.append(rf"\newcommand{{\{name}}}{{{quote.text}}}  % {_comment(quote.said)}")
    return "\n".join(lines) + "\n"


def _twice(names: Iterable[str]) -> set[str]:
    return {name for name, n in Counter(names).items() if n > 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quote:
    """`labels` in full tell it from all others."""

    labels: tuple[str, ...]
    name: str
    text: str
    said: str

    @property
    def letters(self) -> str:
        number = int.from_bytes(hashlib.sha256("\0".join(self.labels).encode()).digest()[:8])
        return "".join(ascii_uppercase[number // 26**i % 26] for i in range(6))


def _quotes(table: Table) -> Iterator[_Quote]:
    """Each cell whole; its mean and its standard deviation by themselves where it says more
    than one number."""
    paths = [_path(table, column) for column in table.columns]
    for row, cells in table.lines():
        of = "reference" if row.reference is not None else ""
        for column, path, cell in zip(table.columns, paths, cells, strict=True):
            labels = (of, row.key, *path)
            yield _quote(table.name, labels, cell, cell.text.rstrip(_VERDICTS))
            form, unit = column.metric.format, column.metric.unit
            if cell.sd is not None:
                signed = column.kind == "delta"
                short = f" (n={cell.n})" if cell.n < cell.points else ""
                mean = numeral(cell.mean, form, signed=signed, unit=unit)
                yield _quote(table.name, (*labels, "mean"), cell, mean + short)
                sd = numeral(cell.sd, form, signed=signed).removeprefix("+")
                yield _quote(table.name, (*labels, "sd"), cell, sd)


def _path(table: Table, column: Column) -> tuple[str, ...]:
    """Its labels in the sweep file, and what it is where it stands beside a value."""
    beside = column.kind != "value" and any(
        (other.at, other.metric.name, other.kind) == (column.at, column.metric.name, "value")
        for other in table.columns
    )
    return (*column.at.values(), column.metric.name, *([column.kind] if beside else ()))


def _quote(table: str, labels: tuple[str, ...], cell: Cell, text: str) -> _Quote:
    if cell.mean is None:
        text, said = NONE, cell.state
    else:
        # A box is the same in a formula, too.
        text = text if re.fullmatch(r"[0-9.]+", text) else rf"\mbox{{{escaped(text)}}}"
        said = ", ".join(filter(None, labels))
        if cell.state == "stale":
            text, said = rf"{text}\textsuperscript{{stale}}", f"{said}: stale"
    return _Quote(
        labels=labels,
        name=_name(table, labels[1:]),
        text=text,
        said=said,
    )


def _name(table: str, labels: Sequence[str]) -> str:
    first = letters(table) or "Table"
    name = first[0].lower() + first[1:] + "".join(map(letters, labels))
    return name[0].upper() + name[1:] if name.startswith("end") else name  # LaTeX's own


def letters(text: str) -> str:
    """letters("W.O.") is "WO", letters("β = 0.5") is "BetaZeroPointFive"."""
    text = re.sub(r"(?<=\d)\.(?=\d)", " point ", text)
    text = re.sub(r"(?<![^\W_])[-−](?=\d)", " minus ", text)
    text = "".join(map(_spelt, unicodedata.normalize("NFKD", text)))
    return "".join(word[0].upper() + word[1:] for word in re.findall("[A-Za-z]+", text))


def _spelt(character: str) -> str:
    if character.isascii():
        return f" {DIGITS[int(character)]} " if character.isdigit() else character
    if not character.isalpha():
        return "" if unicodedata.combining(character) else " "
    name = unicodedata.name(character, "")
    if latin := re.fullmatch("LATIN (CAPITAL|SMALL) LETTER ([A-Z]{1,2}) .*", name):
        return latin[2] if latin[1] == "CAPITAL" else latin[2].lower()
    if name.startswith("GREEK"):
        return f" {name.split()[-1].replace('LAMDA', 'LAMBDA').lower()} "
    return " u" + "".join(_spelt(c) for c in f"{ord(character):x}").replace(" ", "") + " "


def _comment(text: str) -> str:
    """Of ASCII, in one line."""
    return ascii(text)[1:-1]
