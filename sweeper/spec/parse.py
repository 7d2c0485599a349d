"""A sweep file's text in; a Sweep under one profile out, or everything that is wrong with it.

`base` < the file's `set` < `profiles.<name>.set` < axis levels in file order < --set.
What is taken from another file stands below the file's own entries.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper.errors import SpecError
from sweeper.spec.claims import claims
from sweeper.spec.designs import designed
from sweeper.spec.figures import figures
from sweeper.spec.files import read_bytes, read_named
from sweeper.spec.layers import Layer, layers, merged, nodes
from sweeper.spec.limits import budget, resources
from sweeper.spec.loader import Node, load, plain
from sweeper.spec.problems import Problems
from sweeper.spec.profiles import profiles, under
from sweeper.spec.search import searched
from sweeper.spec.section import NAME, Section
from sweeper.spec.settings import command_line
from sweeper.spec.sweep import Axis, Sweep
from sweeper.spec.tables import Known, metrics, tables
from sweeper.spec.trainers import trainer
from sweeper.trial import TrainerRef

DEFAULT_PROFILE = "quick"

KNOWN = (
    "name",
    "description",
    "import",
    "trainer",
    "base",
    "set",
    "axes",
    "exclude",
    "include",
    "metrics",
    "reported",
    "data_root",
    "resources",
    "budget",
    "profiles",
    "tables",
    "figures",
    "claims",
    "search",
)
LATER = ("cost",)
REPORTED = ("source", "notes", "rows")


def read(
    path: str | Path, *, profile: str = DEFAULT_PROFILE, overrides: Sequence[str] = ()
) -> Sweep:
    return parse(read_bytes(str(path)), path, profile=profile, overrides=overrides)


def parse(
    text: str | bytes,
    source: str | Path,
    *,
    profile: str = DEFAULT_PROFILE,
    overrides: Sequence[str] = (),
) -> Sweep:
    """`source` is the path that messages show and that other paths are relative to;
    `overrides` are "key=value", as after --set."""
    problems = Problems()
    root = load(text, str(source))
    file = Section(root, "", problems, KNOWN, LATER)
    file.required("name")
    before = len(problems)
    below = layers(root, problems)
    if len(problems) > before:  # What could not be imported would else be missed everywhere.
        problems.raise_any()
    variants = profiles(below, problems)
    above = under(profile, variants, root, problems)

    given = command_line(overrides, problems)
    design = designed(below, variants, profile, given, problems)
    shown = metrics(merged(nodes(below, "metrics")), problems)
    reported = published(below, problems)
    search = searched(below, variants, profile, design, given, shown, problems)
    known = Known(
        axes={axis.name: axis for axis in design.axes},
        labels=design.labels,
        metrics=shown,
        reported=bool(reported),
        problems=problems,
        search=search,
    )
    tabled = tables(merged(nodes(below, "tables")), known)
    sweep = Sweep(
        name=file.text("name", "", NAME),
        description=file.text("description"),
        source=Path(source),
        profile=profile,
        trainer=run_by(below, root, design.axes, problems),
        trainer_mark=nodes(below, "trainer")[-1].place if nodes(below, "trainer") else root.mark,
        base=design.base,
        axes=design.axes,
        exclude=design.exclude,
        include=design.include,
        overrides=given,
        metrics=shown,
        tables=tabled,
        figures=figures(merged(nodes(below, "figures")), known),
        claims=claims(merged(nodes(below, "claims")), known, tabled),
        resources=resources(merged(nodes([*below, *above], "resources")), problems),
        budget=budget(merged(nodes([*below, *above], "budget")), problems),
        search=search,
        reported=reported,
        data_root=corpora(below, problems),
        data_root_mark=nodes(below, "data_root")[-1].mark if nodes(below, "data_root") else None,
    )
    problems.raise_any()
    return sweep


# ---- the other entries


def run_by(
    below: Sequence[Layer], root: Node, axes: Sequence[Axis], problems: Problems
) -> TrainerRef:
    found = nodes(below, "trainer")
    if found:
        return trainer(found[-1], problems) or TrainerRef(function="none")
    # It runs nothing where each level of an axis has one of its own.
    for axis in axes:
        if axis.levels and axis.when is None and all(level.trainer for level in axis.levels):
            return axis.levels[0].trainer
    problems.refuse(root.mark, "the file needs 'trainer'", "trainer")
    return TrainerRef(function="none")


def published(below: Sequence[Layer], problems: Problems) -> dict[str, Any]:
    """`reported:`, the published values as plain data: a mapping, or the path of one."""
    found = nodes(below, "reported")
    if not found:
        return {}
    node = found[-1]
    try:
        node = read_named(node) if isinstance(node.value, str) else node
    except SpecError as error:
        problems.add(*error.problems)
        return {}
    if not node.is_mapping:
        problems.refuse(
            node.mark, f"reported must be a mapping or the path of one, not {node.kind}"
        )
        return {}
    for table, child in node.value.items():
        section = Section(child, f"reported.{table}", problems, REPORTED)
        section.text("source")
        for label, note in section.each("notes").items():
            if not isinstance(note.value, str):
                said = f"reported.{table}.notes.{label} must be text, not {note.kind}"
                problems.refuse(note.mark, said)
        for label, row in section.each("rows").items():
            check_numbers(row, f"reported.{table}.rows.{label}", problems)
    return plain(node)


def check_numbers(node: Node, called: str, problems: Problems) -> None:
    """A mapping, of mappings in the end of numbers."""
    if node.is_mapping:
        for label, child in node.value.items():
            check_numbers(child, f"{called}.{label}", problems)
    elif type(node.value) not in (int, float):
        problems.refuse(node.mark, f"{called} must be a number, not {node.kind}")


def corpora(below: Sequence[Layer], problems: Problems) -> Path | None:
    """`data_root:`, the folder of corpora, relative to the file that names it. Unlike the
    parts of a sweep it may be anywhere: corpora are seldom in a project."""
    found = nodes(below, "data_root")
    if not found:
        return None
    node = found[-1]
    if not isinstance(node.value, str) or not node.value or "\0" in node.value:
        problems.refuse(node.mark, f"data_root must be a folder's path, not {node.kind}")
        return None
    folder = Path(node.mark.source).parent / os.path.expanduser(node.value)
    return Path(os.path.realpath(folder))
