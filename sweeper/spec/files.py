"""A path as one file names another in; the tree of nodes that it holds out.

Paths are relative to the file that names them and stay inside the project: the nearest
folder above it that has a pyproject.toml or a .git, else the file's own folder.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from sweeper.errors import EnvironmentFault, Mark, Problem, SpecError, quoted
from sweeper.spec.loader import MAX_BYTES, Node, load


def read_named(node: Node) -> Node:
    """The mapping in the file that `node`, a path, names."""
    return read_tree(resolve(node), node.place)


def resolve(node: Node) -> str:
    """The path that `node` names, relative as its own file's is. Refuses to leave the project."""
    here = Path(node.mark.source).parent
    text = node.value if isinstance(node.value, str) else ""
    if not text or "\\" in text or Path(text).is_absolute():
        raise SpecError(
            Problem(
                message=f"a path relative to this file is expected, not {node.kind}", mark=node.mark
            )
        )
    path = os.path.normpath(here / text)
    # realpath: unlike Path.resolve it raises nothing at a circle of links.
    if not Path(os.path.realpath(path)).is_relative_to(project(here)):
        raise SpecError(Problem(message=f"{quoted(text)} is outside the project", mark=node.mark))
    return path


def project(folder: Path) -> Path:
    folder = folder.resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / "pyproject.toml").exists() or (candidate / ".git").exists():
            return candidate
    return folder


def read_tree(path: str, named_at: Mark | None = None) -> Node:
    """The mapping in a file; `named_at` is where another file names it."""
    return load(read_bytes(path, named_at), path)


def read_bytes(path: str, named_at: Mark | None = None) -> bytes:
    def problem(message: str) -> Problem:
        return Problem(message=message, mark=named_at)

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SpecError(problem(f"{quoted(path)} is not a file"))
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the path.
        raise SpecError(problem(f"there is no file {quoted(path)}")) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise SpecError(problem(f"there is no file {quoted(path)}")) from None
        raise EnvironmentFault(
            problem(f"cannot read {quoted(path)}: {error.strerror or error}")
        ) from None
