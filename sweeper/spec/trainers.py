"""A `trainer:` of a sweep file in, its own or a level's; a TrainerRef out."""

from __future__ import annotations

from pathlib import Path

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
    config = section.text("config", None, MODULE)
    if (function is None) == (not words):
        return None
    if function is not None:
        return TrainerRef(function=function, config=config)
    folder = str(Path(node.mark.source).parent.resolve())
    return TrainerRef(command=words, config=config, folder=folder)
