"""YAML text in; a tree of nodes that know their line and column out. The only importer of yaml.

YAML with its edges taken off. Keys are text. Booleans are `true` and `false`. `1e-3` and
`1_000` are numbers. What YAML would silently turn into something else (octal and
sexagesimal numbers, dates, tags, aliases, a second value for one key) is refused where it
stands, and so is what would cost time or memory without end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from sweeper.errors import Mark, Problem, SpecError, quoted
from sweeper.redaction import HINT, SHAPE
from sweeper.spec.problems import Problems

MAX_BYTES = 1_000_000
MAX_DEPTH = 32

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # Only its events are used.


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """`value` is text, a number, a boolean or None; or a tuple of nodes; or a dict of
    nodes. `text` is a scalar as it was written. `key` is where the key of it stands."""

    value: Any
    mark: Mark
    text: str = ""
    key: Mark | None = None

    @property
    def place(self) -> Mark:
        return self.key or self.mark

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        return isinstance(self.value, tuple)

    @property
    def kind(self) -> str:
        """In words, for messages: what was found."""
        if self.is_mapping:
            return "a mapping"
        if self.is_list:
            return "a list"
        if isinstance(self.value, str):
            return quoted(self.text)
        return "nothing" if self.value is None else self.text


def load(content: bytes | str, source: str) -> Node:
    """The mapping that a file holds."""
    root = tree(decode(content, source), source)
    if root is None:
        raise fault(Mark(source, 1, 1), "the file is empty; a mapping of keys is expected")
    if not root.is_mapping:
        raise fault(root.mark, f"a mapping of keys is expected, not {root.kind}")
    return root


def tree(text: str, source: str) -> Node | None:
    """Any document, None if it is empty. Raises with every fault that lets reading go on,
    or with the one that does not."""
    reading = Reading(text, source)
    root = reading.document()
    reading.problems.raise_any()
    return root


def plain(node: Node) -> Any:
    """The node as dicts, lists and scalars."""
    if node.is_mapping:
        return {key: plain(child) for key, child in node.value.items()}
    if node.is_list:
        return [plain(child) for child in node.value]
    return node.value


def fault(mark: Mark, message: str) -> SpecError:
    return SpecError(Problem(message=message, mark=mark))


# ---- bytes to text


UNPRINTABLE = re.compile(
    "[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def decode(content: bytes | str, source: str) -> str:
    """UTF-8, with or without its mark, line ends made one."""
    if isinstance(content, bytes):
        if len(content) > MAX_BYTES:
            raise fault(Mark(source, 1, 1), f"the file is larger than {MAX_BYTES:,} bytes")
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise fault(Mark(source, 1, 1), "the file is UTF-16; save it as UTF-8")
        try:
            content = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = content[: error.start].decode(errors="replace")
            byte = content[error.start]
            raise fault(
                place(before, source), f"byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
            ) from None
    elif len(content) > MAX_BYTES:
        raise fault(Mark(source, 1, 1), f"the text is longer than {MAX_BYTES:,} characters")
    text = content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if found := UNPRINTABLE.search(text):
        raise fault(
            place(text[: found.start()], source),
            f"character U+{ord(found[0]):04X} cannot stand in a sweep file",
        )
    return text


def place(before: str, source: str) -> Mark:
    """Where the text goes on after `before`."""
    line = before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return Mark(source, len(line), len(line[-1]) + 1)


# ---- text to nodes


class Reading:
    """One pass over a document's events. Its state is the place reached in them and the
    problems met on the way."""

    def __init__(self, text: str, source: str):
        self.lines = text.split("\n")
        self.source = source
        self.problems = Problems()
        self.events = self.read(text)

    def read(self, text: str) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(text, Loader=Loader)
        except yaml.MarkedYAMLError as error:
            raise SpecError(*self.problems, self.syntax(error)) from None
        except yaml.YAMLError as error:
            raise SpecError(*self.problems, Problem(message=f"not YAML: {error}")) from None

    def mark(self, where: yaml.Mark) -> Mark:
        return Mark(self.source, where.line + 1, where.column + 1)

    def document(self) -> Node | None:
        root, documents = None, 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.problems.refuse(
                        self.mark(event.start_mark), "a second document starts here; one is read"
                    )
                    break
                if event.version or event.tags:
                    self.problems.refuse(
                        self.mark(event.start_mark), "directives (%...) are not read; remove them"
                    )
            elif isinstance(event, yaml.NodeEvent):
                root = self.node(event, depth=1)
        return root

    def node(self, event: yaml.Event, depth: int, key: Mark | None = None) -> Node:
        mark = self.mark(event.start_mark)
        if depth > MAX_DEPTH:
            raise SpecError(
                *self.problems, Problem(message=f"nested deeper than {MAX_DEPTH}", mark=mark)
            )
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self.problems.refuse(
                mark, "anchors (&) and aliases (*) are not read; use import, base or profiles"
            )
        elif event.tag is not None:
            self.problems.refuse(
                mark, f"tags ({event.tag.replace('tag:yaml.org,2002:', '!!')}) are not read"
            )
        if isinstance(event, yaml.MappingStartEvent):
            return Node(value=self.mapping(depth), mark=mark, key=key)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(value=self.items(depth), mark=mark, key=key)
        if isinstance(event, yaml.AliasEvent):
            return Node(value=None, mark=mark, key=key)
        text = unicodedata.normalize("NFC", event.value)
        if found := UNPRINTABLE.search(text):  # Written as an escape.
            self.problems.refuse(
                mark, f"character U+{ord(found[0]):04X} cannot stand in a sweep file"
            )
            text = ""
        if SHAPE.search(text):
            self.problems.refuse(mark, f"this looks like a secret; {HINT}")
            text = ""
        value = self.scalar(text, mark) if event.implicit[0] else text
        return Node(value=value, text=text, mark=mark, key=key)

    def mapping(self, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            mark = self.mark(event.start_mark)
            if not isinstance(event, yaml.ScalarEvent):
                self.problems.refuse(mark, "a key must be text")
                self.node(event, depth + 1)
                self.node(next(self.events), depth + 1)
                continue
            key = self.node(event, depth).text
            if not key:
                self.problems.refuse(mark, "a key is missing before ':'")
            elif key == "<<" and event.implicit[0]:
                self.problems.refuse(
                    mark, "merge keys (<<) are not read; use import, base or profiles"
                )
            child = self.node(next(self.events), depth + 1, key=mark)
            if key in entries:
                first = entries[key].place
                self.problems.refuse(
                    mark,
                    f"key {quoted(key)} is here a second time; the first is at line {first.line}",
                )
            else:
                entries[key] = child
        return entries

    def items(self, depth: int) -> tuple[Node, ...]:
        found = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            found.append(self.node(event, depth + 1))
        return tuple(found)

    def scalar(self, text: str, mark: Mark) -> Any:
        """The value of text written without quotes."""
        if text in CONSTANTS:
            return CONSTANTS[text]
        for pattern, hint in REFUSED:
            if pattern.fullmatch(text):
                self.problems.refuse(mark, f"{quoted(text)} {hint}")
                return None
        if NUMBER.fullmatch(text):
            return self.number(text.replace("_", ""), mark)
        return text

    def number(self, text: str, mark: Mark) -> int | float | None:
        whole = text.lstrip("+-").isdigit()
        if len(text) > 40 or (whole and abs(int(text)) >= 2**63):
            self.problems.refuse(mark, f"{quoted(text)} has too many digits")
            return None
        if abs(float(text)) == float("inf"):
            self.problems.refuse(mark, f"{quoted(text)} is too large for a number")
            return None
        return int(text) if whole else float(text)

    def syntax(self, error: yaml.MarkedYAMLError) -> Problem:
        """A syntax error of the YAML library, in plain words where they are known."""
        at = error.problem_mark or error.context_mark
        start = error.context_mark or at
        line = self.lines[at.line] if at and at.line < len(self.lines) else ""
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return Problem(message="tabs cannot indent; use spaces", mark=self.mark(at))
        if found := LONG_KEY.search(line):
            mark = Mark(self.source, at.line + 1, found.start() + 1)
            return Problem(message="a key has at most 1,024 characters", mark=mark)
        said = f"{error.context or ''}: {error.problem or ''}"
        for pattern, message, from_start in SYNTAX:
            if pattern.search(said):
                return Problem(message=message, mark=self.mark(start if from_start else at))
        return Problem(message=f"not YAML: {error.problem}", mark=self.mark(at) if at else None)


LONG_KEY = re.compile(r"[^\s,:{}\[\]]{1025,}:")  # The YAML library looks no further.

CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}

DIGITS = r"[0-9]+(?:_[0-9]+)*"
NUMBER = re.compile(rf"[-+]?({DIGITS}(\.({DIGITS})?)?|\.{DIGITS})([eE][-+]?[0-9]+)?")

REFUSED = [
    (
        re.compile(r"True|TRUE|False|FALSE|Null|NULL"),
        "is not read as a constant; write it in lower case, or quote it",
    ),
    (
        re.compile(r"[-+]?0[0-9_]+([.eE].*)?"),
        "starts with 0: octal in some YAML, decimal in other; write it without the 0, or quote it",
    ),
    (re.compile(r"[-+]?0[xob][0-9a-fA-F_]+"), "is not decimal; write it in decimal, or quote it"),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9]*)?"),
        "is a number to base 60 in YAML 1.1; quote it, or write one unit",
    ),
    (
        re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt\s].*)?"),
        "is a date in YAML 1.1; quote it",
    ),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), "is not a finite number"),
]

# What the YAML library says, what it means to who wrote the file, and whether the place is
# where the broken thing starts. Its two parsers, in C and in Python, word things differently.
SYNTAX = [
    (
        re.compile("quoted scalar: found unexpected end"),
        "the quote that opens here is not closed",
        True,
    ),
    (re.compile("unknown escape"), "unknown \\ escape in \"...\"; use '...' or \\\\", True),
    (
        re.compile("flow sequence: .*expected"),
        "the list that opens here lacks a ',' or its ']'",
        True,
    ),
    (
        re.compile("flow mapping: .*expected"),
        "the mapping that opens here lacks a ',' or its '}'",
        True,
    ),
    (re.compile("node: .*expected (the )?node content"), "a value is missing here", False),
    (
        re.compile("cannot start any token"),
        "text cannot start with this character; quote it",
        False,
    ),
    (
        re.compile(": mapping values are not allowed"),
        "a second ':' in one line, or an indentation that fits no line above; "
        "text that holds ': ' needs quotes",
        False,
    ),
    (
        re.compile("block mapping: "),
        "a key was expected here: wrong indentation or an unquoted value",
        False,
    ),
    (re.compile("scalar: found unexpected ':'"), "text that holds ':' needs quotes here", False),
    (re.compile("(anchor|alias): "), "text cannot start with & or *; quote it", True),
    (re.compile("tag: "), "text cannot start with '!'; quote it", True),
    (re.compile("block scalar: "), "only an indentation can follow | or >", True),
    (re.compile("block collection: "), "a '-' was expected here, as on the lines above", False),
    (
        re.compile("entries are not allowed"),
        "a list cannot start on the line of its key; use [...]",
        False,
    ),
    (re.compile("simple key: could not find"), "this line has no ':'", True),
    (re.compile("document start"), "the document has ended before this", False),
    (
        re.compile("directive|incompatible YAML"),
        "directives (%...) are not read; remove them",
        True,
    ),
]
