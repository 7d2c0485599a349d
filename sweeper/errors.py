"""What went wrong, in words a person can act on, and the exit code that goes with it.

    SweeperError             1   anything below; never raised itself
    ├── SpecError            2   the sweep file, the command line or a configuration is wrong
    ├── TrainerError         2   a trainer cannot be loaded or breaks the contract
    ├── EnvironmentFault     3   data, device, disk, server or permission is missing
    ├── CrashLoop            1   the first trials all failed alike, and no more were started
    ├── OverBudget           5   what is left would cost more than may be spent
    └── CorruptRecord        6   a record or a store cannot be believed

A user's fault is one of these, with the place and what would be right. A fault of
ours is an assert or an ordinary exception. A library's fault is wrapped once, in the
module that imports the library.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a file; `line` and `column` count from 1."""

    source: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: where (`mark`), at which key, and what would be right."""

    message: str
    mark: Mark | None = None
    key: str | None = None

    def __str__(self) -> str:
        return f"{self.mark}: {self.message}" if self.mark else self.message


class SweeperError(Exception):
    """One or more problems, all found before anything was started."""

    exit_code = 1

    def __init__(self, *problems: Problem | str):
        assert problems, "an error needs something to say"
        self.problems = tuple(p if isinstance(p, Problem) else Problem(message=p) for p in problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class SpecError(SweeperError):
    exit_code = 2


class TrainerError(SweeperError):
    exit_code = 2


class EnvironmentFault(SweeperError):
    exit_code = 3


class CrashLoop(SweeperError):
    exit_code = 1


class OverBudget(SweeperError):
    exit_code = 5


class CorruptRecord(SweeperError):
    exit_code = 6


class NewerFormat(ValueError):
    """Of what a newer version of this program wrote: sound, though not to us."""


def unknown(what: str, name: str, known: Iterable[str], where: str = "") -> str:
    """ "unknown key 'schedual' in kl; did you mean 'schedule'? one of schedule, start" """
    choices = sorted(map(str, known))  # May be very many, and each very long.
    said = f"unknown {what} {quoted(str(name))}{where}"
    if not choices:
        return f"{said}; there is none"
    near = difflib.get_close_matches(str(name)[:80], nearest(str(name)[:80], choices), n=1)
    hint = f"; did you mean {quoted(near[0])}?" if near else ";"
    more = f" and {len(choices) - 30} more" if len(choices) > 30 else ""
    listed = (quoted(choice) if "," in choice else choice for choice in choices[:30])
    return f"{said}{hint} one of {', '.join(listed)}{more}"


def nearest(name: str, choices: Sequence[str]) -> list[str]:
    """Those that are worth comparing letter by letter: of much the same length and letters."""
    alike = [choice for choice in choices[:1000] if abs(len(choice) - len(name)) <= 8]
    return sorted(alike, key=lambda choice: len({*choice} ^ {*name}))[:50]


def quoted(text: object) -> str:
    """Text, or another value, as it can be shown in one line of at most 80 characters."""
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:76]}...{shown[0]}"
