"""What is found wrong while a file is read: all of it in, one error out."""

from __future__ import annotations

from sweeper.errors import Mark, Problem, SpecError

MAX_PROBLEMS = 100


class Problems(list[Problem]):
    """The problems so far, each once. Its state is the list."""

    def refuse(self, mark: Mark | None, message: str, key: str | None = None) -> None:
        self.add(Problem(message=message, mark=mark, key=key))

    def add(self, *problems: Problem) -> None:
        self.extend(problem for problem in problems if problem not in self)
        if len(self) > MAX_PROBLEMS:
            del self[MAX_PROBLEMS:]
            raise SpecError(*self.in_order(), f"there are more than {MAX_PROBLEMS} problems")

    def in_order(self) -> list[Problem]:
        return sorted(self, key=lambda p: (p.mark is None, p.mark or Mark("", 0, 0)))

    def raise_any(self) -> None:
        if self:
            raise SpecError(*self.in_order())
