"""Headings and cells in; what a page of fixed-width characters needs of them out.

Widths are those of a terminal: a wide character counts two, a combining mark none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len

# What can hide or reorder text: bidirectional controls and invisible characters.
_HIDDEN = frozenset("\u061c\u200b\u200e\u200f\u2028\u2029\ufeff")
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
    """One line without control characters: nothing that moves a cursor, starts an escape
    sequence or turns the direction of writing."""
    spaced = re.sub(r"\s+", " ", text)
    return "".join(
        c for c in spaced if unicodedata.category(c) not in ("Cc", "Cs") and not _bidi(c)
    )


def _bidi(character: str) -> bool:
    embedding = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    return embedding or character in _HIDDEN


def spans(paths: Sequence[tuple[str, ...]]) -> list[list[Span]]:
    """Heading levels, outer to inner; neighbours whose headings agree down to a level share
    one span there."""
    levels = []
    for depth in range(max(map(len, paths), default=0)):
        level, start = [], 0
        for prefix, columns in groupby(paths, key=lambda path: path[: depth + 1]):
            stop = start + len(list(columns))
            level.append(Span(text=prefix[-1], start=start, stop=stop))
            start = stop
        levels.append(level)
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


def right(text: str, width: int) -> str:
    return " " * (width - cell_len(text)) + text


def middle(text: str, width: int) -> str:
    space = width - cell_len(text)
    return " " * (space // 2) + text + " " * (space - space // 2)
