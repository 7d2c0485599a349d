"""A sweep file's text in; a Sweep under one profile out, or everything that is wrong with it.

`base` < the file's `set` < `profiles.<name>.set` < axis levels in file order < --set.
What is taken from another file stands below the file's own entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper.errors import SpecError
from sweeper.spec.axes import axes, labels_written
from sweeper.spec.claims import claims
from sweeper.spec.figures import figures
from sweeper.spec.files import read_bytes, read_named
from sweeper.spec.layers import Layer, layers, merged, nodes
from sweeper.spec.limits import budget, resources
from sweeper.spec.loader import Node, load, plain
from sweeper.spec.problems import Problems
from sweeper.spec.profiles import profiles, under
from sweeper.spec.section import NAME, Form, Section
from sweeper.spec.settings import (
    base_settings,
    check_conflicts,
    check_sections,
    check_seeds,
    command_line,
)
from sweeper.spec.sweep import Axis, Settings, Sweep
from sweeper.spec.tables import Known, metrics, tables
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
    "metrics",
    "reported",
    "data_root",
    "resources",
    "budget",
    "profiles",
    "tables",
    "figures",
    "claims",
)
LATER = ("exclude", "include", "search", "cost")

MODULE = Form(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", "a module's name, such as trainers.config")
FUNCTION = Form(
    rf"{MODULE.pattern}:[A-Za-z_]\w*|[A-Za-z_][\w-]*",
    "a function, as in package.module:function, or a registered name",
)


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
    below = layers(root, problems)
    variants = profiles(below, problems)
    above = under(profile, variants, root, problems)

    base = lowest(below, problems) | written(below, problems) | written(above, problems)
    given = command_line(overrides, problems)
    design = designed(below, variants, profile, problems)
    check(base, design, given, problems)
    shown = metrics(merged(nodes(below, "metrics")), problems)
    reported = published(below, problems)
    known = Known(
        axes={axis.name: axis for axis in design},
        labels=labels_written(below, *variants.values()),
        metrics=shown,
        reported=bool(reported),
        problems=problems,
    )
    tabled = tables(merged(nodes(below, "tables")), known)
    sweep = Sweep(
        name=file.text("name", "", NAME),
        description=file.text("description"),
        source=Path(source),
        profile=profile,
        trainer=trainer(below, root, problems),
        trainer_mark=nodes(below, "trainer")[-1].place if nodes(below, "trainer") else root.mark,
        base=base,
        axes=design,
        overrides=given,
        metrics=shown,
        tables=tabled,
        figures=figures(merged(nodes(below, "figures")), known),
        claims=claims(merged(nodes(below, "claims")), known, tabled),
        resources=resources(merged(nodes([*below, *above], "resources")), problems),
        budget=budget(merged(nodes([*below, *above], "budget")), problems),
        reported=reported,
        data_root=corpora(below, problems),
    )
    problems.raise_any()
    return sweep


# ---- configurations


def lowest(below: Sequence[Layer], problems: Problems) -> Settings:
    """`base:`, which one file says."""
    found = nodes(below, "base")
    for again in found[1:]:
        first = found[0].place
        problems.refuse(
            again.place,
            f"base is also taken from {first.source}:{first.line}; "
            "change single keys with 'set:', or do not take base",
            "base",
        )
    return base_settings(found[0], problems) if found else {}


def written(some: Sequence[Layer], problems: Problems) -> Settings:
    """The `set:` of each layer, later over earlier."""
    found: Settings = {}
    for node in nodes(some, "set"):
        found = {**found, **base_settings(node, problems)}
    return found


def designed(
    below: Sequence[Layer],
    variants: dict[str, list[Layer]],
    profile: str,
    problems: Problems,
) -> tuple[Axis, ...]:
    """The axes under one profile. The other profiles are read too, for what is wrong there."""
    labels = labels_written(below, *variants.values())
    plainly = axes(nodes(below, "axes"), problems, labels=labels)
    designs = {
        name: axes(nodes(some, "axes"), problems, plainly, profile=name, labels=labels)
        for name, some in variants.items()
    }
    for name, some in variants.items():
        if name != profile:
            written(some, problems)
    return designs.get(profile, plainly)


def check(base: Settings, design: Sequence[Axis], given: Settings, problems: Problems) -> None:
    every = [base, *(level.set for axis in design for level in axis.levels), given]
    check_sections(every, problems)
    check_conflicts(design, problems)
    check_seeds(base, design, given, problems)


# ---- the other entries


def trainer(below: Sequence[Layer], root: Node, problems: Problems) -> TrainerRef:
    """ "pkg.mod:function", or {function | command, config}."""
    nothing = TrainerRef(function="none")
    found = nodes(below, "trainer")
    if not found:
        problems.refuse(root.mark, "the file needs 'trainer'", "trainer")
        return nothing
    node = found[-1]
    if isinstance(node.value, str):
        node = Node(value={"function": node}, mark=node.mark, key=node.key)
    section = Section(node, "trainer", problems, ("function", "command", "config"))
    if section.node.is_mapping and ("function" in section) == ("command" in section):
        section.refuse(node.place, "trainer needs either 'function' or 'command'", "trainer")
    function = section.text("function", None, FUNCTION)
    words = section.words("command")
    config = section.text("config", None, MODULE)
    if (function is None) == (not words):
        return nothing
    return TrainerRef(function=function, command=words or None, config=config)


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
    return plain(node)


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
    return (Path(node.mark.source).parent / Path(node.value).expanduser()).resolve()
