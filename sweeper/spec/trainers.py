"""A `trainer:` of a sweep file in, its own or a level's; a TrainerRef out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from os.path import isdir, isfile  # Those of Path raise at a name too long.
from pathlib import Path

from sweeper.errors import quoted
from sweeper.redaction import HINT, is_secret, learn
from sweeper.spec.files import project
from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.section import Form, Section
from sweeper.trial import TrainerRef

MODULE = Form(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", "a module's name, such as trainers.config")
FUNCTION = Form(
    rf"{MODULE.pattern}:[A-Za-z_]\w*|[A-Za-z_][\w-]*",
    "a function, as in package.module:function, or a registered name",
)
TRAINER = ("function", "command", "config")
MAX_PATH = 4096  # characters


def trainer(node: Node, problems: Problems) -> TrainerRef | None:
    """ "pkg.mod:function", the name of an entry point, or {function | command, config}; None,
    and a problem, for what is none of these."""
    if isinstance(node.value, str):
        node = Node(value={"function": node}, mark=node.mark, key=node.key)
    section = Section(node, "trainer", problems, TRAINER)
    if section.node.is_mapping and ("function" in section) == ("command" in section):
        section.refuse(node.place, "trainer needs either 'function' or 'command'", "trainer")
    function = section.text("function", None, FUNCTION)
    words = section.words("command")
    for item, (option, value) in zip(command_items(section), options(words), strict=True):
        if is_secret(option, value):
            learn(value)
            section.refuse(item.mark, f"the word after {quoted(option)} is a secret; {HINT}")
    config = section.text("config", None, MODULE)
    if (function is None) == (not words):
        return None
    folder = Path(node.mark.source).parent.resolve()
    found = TrainerRef(function=function, command=words or None, config=config)
    if is_beside(found, folder):
        return replace(found, folder=str(folder), home=home(folder))
    return replace(found, folder=str(folder)) if words else found


def command_items(section: Section) -> tuple[Node, ...]:
    node = section.entries.get("command")
    return node.value if node is not None and section.words("command") else ()


def options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """For each word of a command the option that it is given to, and what is given: of
    --key=value itself, else of the word before. A placeholder is no value."""
    before = ""
    for word in words:
        option, equals, value = word.partition("=")
        named, given = (option, value) if equals else (before, word)
        yield named.lstrip("-"), "" if given.startswith("{") else given
        before = word if word.startswith("-") and not equals else ""


def is_beside(trainer: TrainerRef, folder: Path) -> bool:
    """Whether what a trainer names lies in the folder of the file that names it."""
    if trainer.function is not None:
        module, colon, _ = trainer.function.partition(":")
        first = folder / module.partition(".")[0]
        return bool(colon) and (isfile(first.with_suffix(".py")) or isdir(first))
    values = (word.partition("=")[2] or word for word in trainer.command)
    return any(has_path(word) and isfile(folder / word) for word in values)


def has_path(word: str) -> bool:
    return ("/" in word or "." in word) and "\0" not in word and len(word) < MAX_PATH


def home(folder: Path) -> str:
    """A folder as its project sees it: "" for the project's own."""
    relative = folder.relative_to(project(folder)).as_posix()
    return "" if relative == "." else relative
