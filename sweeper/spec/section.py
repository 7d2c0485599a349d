"""A mapping of a sweep file in; its checked values out, one key at a time.

A section has a closed list of keys. What is wrong is added to `problems` and the default
is given instead, so that one reading finds everything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from sweeper.errors import Mark, quoted, unknown
from sweeper.spec.loader import Node
from sweeper.spec.problems import UNSHOWN, Problems


class Form(NamedTuple):
    """What a text must look like, and that in words."""

    pattern: str
    words: str

    def fits(self, text: Any) -> bool:
        return isinstance(text, str) and bool(re.fullmatch(self.pattern, text, re.ASCII))


NAME = Form(
    r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}",
    "1 to 64 of A-Z a-z 0-9 . _ -, the first a letter, a digit or _",
)
RESULT_KEY = Form(r"[A-Za-z0-9_][A-Za-z0-9_./:-]{0,127}", "a result's key, such as test/nll_iw")
NPZ_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"  # of a path
ARRAY = Form(NPZ_PART, "an array's name, such as features")
GOALS = ("min", "max")
MAX_ITEMS = 1000  # of a list in a search: choices, points, objectives, seeds
MAX_NAMES = 200  # axes, tables, profiles and so on: each is read with all that there is


class Section:
    """One mapping, called `name` in messages, under the keys `known`. Keys in `later` are
    part of the language and not built yet; `hint` is said of every other key. Its state is
    the shared list of problems."""

    def __init__(
        self,
        node: Node,
        name: str,
        problems: Problems,
        known: Collection[str],
        later: Collection[str] = (),
        *,
        hint: str = "",
    ):
        self.node, self.name, self.problems = node, name, problems
        self.entries: dict[str, Node] = {}
        if not node.is_mapping:
            self.refuse(node.mark, f"{name} must be a mapping, not {node.kind}")
            return
        for key, child in node.value.items():
            if key in known:
                self.entries[key] = child
            elif key in later:
                self.refuse(child.place, f"{key!r} is not supported yet", key)
            else:
                where = f" in {name}" if name else ""
                self.refuse(child.place, unknown("key", key, known, where) + hint, key)

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def refuse(self, mark: Mark | None, message: str, key: str | None = None) -> None:
        self.problems.refuse(mark, message, key)

    def called(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def required(self, *keys: str) -> None:
        for key in keys:
            if key not in self.entries and self.node.is_mapping:
                self.refuse(self.node.place, f"{self.name or 'the file'} needs {key!r}", key)

    def wrong(self, key: str, expected: str) -> None:
        node = self.entries[key]
        self.refuse(node.mark, f"{self.called(key)} must be {expected}, not {node.kind}", key)

    def text(self, key: str, default: Any = None, form: Form | None = None) -> Any:
        if (node := self.entries.get(key)) is None:
            return default
        if not isinstance(node.value, str) or not node.value or UNSHOWN.search(node.value):
            self.wrong(key, "text")
        elif form and not form.fits(node.value):
            self.wrong(key, form.words)
        else:
            return node.value
        return default

    def places(self, *keys: str) -> dict[str, Mark]:
        """Where the values of those keys stand that are there."""
        return {key: self.entries[key].mark for key in keys if key in self.entries}

    def number(
        self, key: str, default: Any = None, *, over: float = 0, below: float = float("inf")
    ) -> Any:
        """A number between `over` and `below`, both excluded."""
        if (node := self.entries.get(key)) is None:
            return default
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            self.wrong(key, "a number")
        elif not over < node.value < below:
            upper = "" if below == float("inf") else f" and below {below:g}"
            self.wrong(key, f"above {over:g}{upper}")
        else:
            return node.value
        return default

    def whole(self, key: str, default: Any = None, *, least: int = 1) -> Any:
        if (node := self.entries.get(key)) is None:
            return default
        # 1e6 is how people write a million.
        value = (
            int(node.value) if type(node.value) is float and node.value.is_integer() else node.value
        )
        if not is_whole(value, least):
            self.wrong(key, f"a whole number, {least} or more")
            return default
        return value

    def choice(self, key: str, options: Collection[str], default: Any = None) -> Any:
        if (node := self.entries.get(key)) is None:
            return default
        if node.value not in options or not isinstance(node.value, str):
            self.wrong(
                key, " or ".join(options) if len(options) < 4 else f"one of {', '.join(options)}"
            )
            return default
        return node.value

    def truth(self, key: str, default: bool = False) -> bool:
        if (node := self.entries.get(key)) is None:
            return default
        if not isinstance(node.value, bool):
            self.wrong(key, "true or false")
            return default
        return node.value

    def names(self, key: str, what: str, known: Iterable[str]) -> tuple[str, ...]:
        """A list of names of what exists, each once; one alone needs no list."""
        if (node := self.entries.get(key)) is None:
            return ()
        if not node.is_list and not node.text:
            self.wrong(key, "a name or a list of names")
            return ()
        return self.known_names(node.value if node.is_list else (node,), what, known)

    def known_names(
        self, nodes: Iterable[Node], what: str, known: Iterable[str]
    ) -> tuple[str, ...]:
        known, found = dict.fromkeys(known), {}
        for node in nodes:
            if node.text not in known:
                self.refuse(node.mark, unknown(what, label_of(node), known, f" in {self.name}"))
            elif node.text in found:
                self.refuse(node.mark, f"{what} {node.text!r} is here twice")
            else:
                found[node.text] = None
        return tuple(found)

    def name_of(self, key: str, what: str, known: Iterable[str]) -> str | None:
        if (node := self.entries.get(key)) is None:
            return None
        found = self.known_names((node,), what, known)
        return found[0] if found else None

    def words(self, key: str) -> tuple[str, ...]:
        """A command line: a list of texts and numbers, each as it was written."""
        if (node := self.entries.get(key)) is None:
            return ()
        if not node.is_list or not node.value or not all(item.text for item in node.value):
            self.wrong(key, "a list of words")
            return ()
        return tuple(item.text for item in node.value)

    def each(self, key: str) -> dict[str, Node]:
        """The entries of a mapping; none, and a problem, if it is not one."""
        if (node := self.entries.get(key)) is None:
            return {}
        if not node.is_mapping:
            self.wrong(key, "a mapping")
            return {}
        return node.value


def sections(section: Section, key: str, known: tuple[str, ...]) -> Iterator[Section]:
    """The mappings in a list that holds some."""
    for item in items(section, key, "a list of mappings"):
        yield Section(item, section.called(key), section.problems, known)


def items(section: Section, key: str, what: str) -> tuple[Node, ...]:
    """Those of a list that is not empty."""
    if (node := section.entries.get(key)) is None:
        return ()
    if not node.is_list:
        section.wrong(key, what)
        return ()
    if not node.value:
        section.refuse(node.mark, f"{section.called(key)} is empty; {what} is expected", key)
    return node.value if few(section, key) else ()


def few(section: Section, key: str, most: int = MAX_ITEMS) -> bool:
    """Whether a list or a mapping is not longer than anyone means it to be."""
    node = section.entries[key]
    if len(node.value) > most:
        said = f"{section.called(key)} has {len(node.value):,} entries; at most {most:,}"
        section.refuse(node.mark, said, key)
    return len(node.value) <= most


def label_of(node: Node) -> str:
    """A scalar as it was written: labels are text whatever they look like."""
    return node.text if node.text or not (node.is_list or node.is_mapping) else node.kind


def is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_names(entries: dict[str, Node], what: str, problems: Problems) -> None:
    """Names become file names: plain characters, and no two that differ in case only."""
    if len(entries) > MAX_NAMES:
        place = list(entries.values())[MAX_NAMES].place
        problems.stop(place, f"{what} {MAX_NAMES + 1} of {len(entries):,}; at most {MAX_NAMES}")
    seen: dict[str, str] = {}
    for name, node in entries.items():
        if not NAME.fits(name):
            problems.refuse(node.place, f"{what} {quoted(name)} must be {NAME.words}")
        elif (other := seen.setdefault(name.casefold(), name)) != name:
            problems.refuse(node.place, f"{what} {name!r} differs from {other!r} in case only")
