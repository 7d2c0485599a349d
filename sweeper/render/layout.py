"""Headings and cells in; what a page of fixed-width characters needs of them out.

Widths are those of a terminal: a wide character counts two, a combining mark none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len, chop_cells

# Invisible, though no format or control character: fillers and joiners.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_SEEN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2")  # Cf, with a glyph
_JOINERS = frozenset("\u200c\u200d")  # part of the writing of Persian, Hindi, emoji
NUMBER = re.compile(
    r"(?P<lead>(\*\*)?[+−]?[\d,]+)(?P<rest>(\.\d+)?[^\s±/]*)"
    r"( ± (?P<spread>[\d,]+)(?P<end>(\.\d+)?\S*))?(?P<tail>( .*)?)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A heading over the columns from `start` up to, not including, `stop`."""

    text: str
    start: int
    stop: int


def title(name: str, profile: str, caption: str) -> str:
    return f"{name} ({profile}): {caption}"


def plain(text: str) -> str:
    """One line without anything that moves a cursor, starts an escape sequence, turns the
    direction of writing or hides: white space is one space, a control character is its picture
    (ESC is ␛), what else has no glyph is named by its code point, [U+202E]."""
    return visible(re.sub(r"\s+", " ", re.sub("[\x1c-\x1f\x85]", _stand_in, text)))


def visible(text: str) -> str:
    """`text` with a visible character or name in place of each that has no glyph."""
    return "".join(
        _stand_in(c) if _hidden(c, text[:i][-1:], text[i + 1 : i + 2]) else c
        for i, c in enumerate(text)
    )


def _hidden(character: str, before: str, after: str) -> bool:
    if character.isascii():
        return not character.isprintable()
    if character in _JOINERS:  # Between ASCII letters they only make two labels look like one.
        return not (before and after and before > "\x7f" and after > "\x7f")
    shapeless = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return character in _BLANK or (shapeless and character not in _SEEN)


def _stand_in(found: str | re.Match[str]) -> str:
    code = ord(found if isinstance(found, str) else found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"[U+{code:04X}]"


def spans(paths: Sequence[tuple[str, ...]]) -> list[list[Span]]:
    """Heading levels, outer to inner; neighbours whose headings agree down to a level share
    one span there. On the innermost each column has its own."""
    levels = []
    deepest = max(map(len, paths), default=0)
    for depth in range(deepest - 1):
        level, start = [], 0
        for prefix, columns in groupby(paths, key=lambda path: path[: depth + 1]):
            stop = start + len(list(columns))
            level.append(Span(text=prefix[-1], start=start, stop=stop))
            start = stop
        levels.append(level)
    if deepest:
        levels.append([Span(text=p[-1], start=i, stop=i + 1) for i, p in enumerate(paths)])
    return levels


def aligned(texts: Sequence[str]) -> list[str]:
    """The texts of one column, all of one width: decimal points under each other, in the
    mean and in the spread; what is not a number in the middle."""
    matches = [NUMBER.fullmatch(text) for text in texts]

    def widest(group: str) -> int:
        return max((cell_len(m[group] or "") for m in matches if m), default=0)

    lead, rest, spread, end = map(widest, ("lead", "rest", "spread", "end"))
    lines = []
    for text, m in zip(texts, matches, strict=True):
        if not m:
            lines.append(text)
            continue
        line = right(m["lead"], lead) + left(m["rest"], rest)
        if m["spread"]:
            line += " ± " + right(m["spread"], spread) + left(m["end"], end)
        lines.append(line + m["tail"])
    width = max(map(cell_len, lines), default=0)
    return [
        left(line, width) if m else middle(line, width)
        for line, m in zip(lines, matches, strict=True)
    ]


def left(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def wrapped(text: str, width: int) -> list[str]:
    """Lines at most `width` wide, broken between words where that can be."""
    lines, line = [], ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *whole, line = chop_cells(word, width) or [""]
        lines += whole
    return [*lines, line]


def right(text: str, width: int) -> str:
    return " " * (width - cell_len(text)) + text


def middle(text: str, width: int) -> str:
    space = width - cell_len(text)
    return " " * (space // 2) + text + " " * (space - space // 2)
