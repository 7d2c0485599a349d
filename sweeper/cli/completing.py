"""What a person has typed so far in; what a shell offers next out. Nothing here is ever an
error: where a file cannot be read there is nothing to offer, and the verb itself says why.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from click import Context, Parameter
from click.shell_completion import CompletionItem

VARIABLE = "_SWEEPER_COMPLETE"  # by which the shell's script asks
MOST_ENTRIES = 3000  # of folders that are looked through for sweep files
DEPTH = 2
DULL = {"node_modules", "__pycache__", "mlartifacts", "trials"}

Offer = Callable[[Context, Parameter, str], list[CompletionItem]]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """The shell reads what is printed as offers, and errors land in what a person types."""
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


@contextlib.contextmanager
def no_errors() -> Iterator[None]:
    """Around a whole completion: whatever goes wrong in it, nothing is offered and no more."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        try:
            yield
        except Exception:
            raise SystemExit(0) from None


def offering(found: Callable[[Context, str], Iterable[str | tuple[str, str]]]) -> Offer:
    """What begins as the person began, of values or (value, help) pairs."""

    @wraps(found)
    def offer(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
        try:
            with silence():
                pairs = [x if isinstance(x, tuple) else (x, None) for x in found(context, begun)]
        except Exception:  # A trainer's own module may raise anything when it is imported.
            return []
        return [CompletionItem(value, help=says) for value, says in pairs if value[:1] != "-"]

    return offer


@offering
def sweep_files(context: Context, begun: str) -> list[str]:
    """The *.yaml of the folder that is begun, and of those in it: a folder alone would be
    ended by a space. What was given already is not offered again."""
    name = begun.rpartition("/")[2]
    typed = begun[: len(begun) - len(name)]
    top = Path(os.path.expanduser(typed)) if typed else Path()
    given = context.params.get("files") or ()
    found = [typed + path for path in below(top, name) if typed + path not in given]
    return sorted(found, key=lambda path: (path.count("/"), path))


def below(top: Path, begun: str) -> Iterator[str]:
    """Paths of *.yaml relative to `top`, whose first part begins as `begun` does."""
    waiting, seen = [""], 0
    while waiting and seen < MOST_ENTRIES:
        inside = waiting.pop(0)
        try:
            entries = sorted(os.scandir(top / inside), key=lambda entry: entry.name)
        except OSError:
            continue
        seen += len(entries)
        for entry in entries:
            first = not inside
            hidden = entry.name.startswith(".") and not (first and begun.startswith("."))
            if hidden or entry.name in DULL or (first and not entry.name.startswith(begun)):
                continue
            path = f"{inside}{entry.name}"
            if entry.name.endswith((".yaml", ".yml")) and entry.is_file():
                yield path
            elif entry.is_dir(follow_symlinks=False) and path.count("/") < DEPTH:
                waiting.append(f"{path}/")


@offering
def profiles(context: Context, begun: str) -> list[str]:
    return beginning(begun, names_in(context, "profiles"))


def named(entry: str) -> Offer:
    """The names under one entry of the file: its tables, its figures, its claims."""
    return offering(lambda context, begun: beginning(begun, names_in(context, entry)))


def names_in(context: Context, entry: str) -> tuple[str, ...]:
    from sweeper.spec.names import names

    return names(file_of(context), entry)


def file_of(context: Context) -> str:
    """FILE; where an option still waits for its value, click has not come to name it."""
    return context.params.get("file") or context.args[0]


@offering
def trial_ids(context: Context, begun: str) -> list[tuple[str, str]]:
    return ids_in(context, begun)


@offering
def asked_about(context: Context, begun: str) -> list[str | tuple[str, str]]:
    """Trials; and numbers of tables, once the name of one is begun, a table at a time."""
    tables = names_in(context, "tables")
    if "/" not in begun:
        return [*ids_in(context, begun), *(f"{name}/" for name in beginning(begun, tables))]
    return beginning(begun, cells_of(context, begun.partition("/")[0]))


def cells_of(context: Context, name: str) -> list[str]:
    """The path of each number in a table."""
    from sweeper.tables import paths, tabulate

    sweep, trials = trials_in(context)
    return list(paths.every(tabulate(sweep.tables[name], sweep, trials, {}, histories=no_history)))


def no_history(trial: object) -> tuple[()]:
    return ()


def trials_in(context: Context) -> tuple[Any, tuple[Any, ...]]:
    from sweeper.cli.frame import folder_of_corpora, read_sweep
    from sweeper.design import expand

    said = context.params
    sweep = read_sweep(file_of(context), said.get("profile") or "quick", said.get("sets") or ())
    corpora = folder_of_corpora(said.get("data") or sweep.data_root)
    return sweep, expand(sweep, corpora, without_data=True)


def ids_in(context: Context, begun: str) -> list[tuple[str, str]]:
    """Each trial's, with its labels beside it where the shell shows such a thing."""
    from sweeper.trial import told

    trials = {trial.id: trial for trial in trials_in(context)[1]}
    given = context.params.get("ids") or ()
    return [
        (id, told(trial.labels))
        for id, trial in trials.items()
        if id.startswith(begun) and id not in given
    ]


@offering
def dispatchers(context: Context, begun: str) -> list[str]:
    from sweeper.dispatch import DISPATCHERS

    return beginning(begun, DISPATCHERS)


def beginning(begun: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(begun)]
