"""What is found wrong while a file is read: all of it in, one error out."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NoReturn

from sweeper.errors import Mark, Problem, SpecError

MAX_PROBLEMS = 100
MAX_LEVELS = 50_000  # of all axes under all profiles, and points that are included
MAX_MESSAGE = 1000  # characters

# Characters that a terminal or a page obeys instead of showing, and overrides of direction.
UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Problems(list[Problem]):
    """The problems so far, each once, in one line. Its state is the list, and how many levels
    and points have been read: a few words can say very many."""

    levels = 0

    def refuse(self, mark: Mark | None, message: str, key: str | None = None) -> None:
        self.add(Problem(message=message, mark=mark, key=key))

    def add(self, *problems: Problem) -> None:
        for problem in problems:
            problem = replace(problem, message=in_one_line(problem.message))
            if problem not in self:
                self.append(problem)
        if len(self) > MAX_PROBLEMS:
            del self[MAX_PROBLEMS:]
            found = self.in_order()
            said = f"there are more than {MAX_PROBLEMS} problems; these are some"
            raise SpecError(*found, Problem(message=said, mark=found[-1].mark))

    def count(self, levels: int, mark: Mark | None) -> None:
        """Before so many levels or points are made."""
        self.levels += levels
        if self.levels > MAX_LEVELS:
            many = f"more than {MAX_LEVELS:,} levels and included points"
            self.stop(mark, f"the axes of this file under all its profiles come to {many}")

    def stop(self, mark: Mark | None, message: str) -> NoReturn:
        """At what would cost time or memory without end."""
        raise SpecError(*self.in_order(), Problem(message=in_one_line(message), mark=mark))

    def in_order(self) -> list[Problem]:
        return sorted(self, key=lambda p: (p.mark is None, p.mark or Mark("", 0, 0)))

    def raise_any(self) -> None:
        if self:
            raise SpecError(*self.in_order())


def in_one_line(message: str) -> str:
    """A message quotes what a file says: names with line ends in them, names without end."""
    said = UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], message)
    return said if len(said) <= MAX_MESSAGE else f"{said[: MAX_MESSAGE - 3]}..."
