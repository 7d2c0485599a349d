"""The `claims:` of a sweep file in; ClaimSpecs out, each metric, label and axis in them
checked against those that exist.

helps: {say: MaxPool beats SeqVAE, test: "nll[MaxPool] < nll[SeqVAE]", each: dataset}
cheap: {test: "updates[Aggressive] / updates[MaxPool] in 2.5..3.5", pool: [dataset]}
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence

from sweeper.errors import SpecError, quoted, unknown
from sweeper.spec import expressions
from sweeper.spec.expressions import (
    ARITHMETIC,
    COMPARED,
    ORDERED,
    Binary,
    Expression,
    Pick,
    Range,
    Unary,
    Value,
    leaves,
    walk,
    written,
)
from sweeper.spec.loader import Node
from sweeper.spec.section import Section, check_names
from sweeper.spec.sweep import ClaimSpec, TableSpec
from sweeper.spec.tables import Known

CLAIM = ("say", "test", "each", "pool", "over", "alike", "alpha")
PLACES = ("each", "pool", "over")
PAGE = "claims"  # the name of the file that a sweep's claims are written to


def claims(
    node: Node | None, known: Known, tables: Mapping[str, TableSpec]
) -> dict[str, ClaimSpec]:
    if node is None:
        return {}
    if not node.is_mapping:
        known.problems.refuse(node.mark, f"claims must be a mapping, not {node.kind}")
        return {}
    check_names(node.value, "claim", known.problems)
    if known.search and node.value:
        said = "claims are about the trials of a design, and a search chooses its own"
        known.problems.refuse(node.place, said, "claims")
        return {}
    for name, table in tables.items():
        if name.casefold() == PAGE and node.value:
            known.problems.refuse(
                table.mark, f"a table called {name!r} and the claims would be one file: rename it"
            )
    found = (claim(name, child, known) for name, child in node.value.items())
    return {spec.name: spec for spec in found if spec is not None}


def claim(name: str, node: Node, known: Known) -> ClaimSpec | None:
    before = len(known.problems)
    section = Section(node, f"claims.{name}", known.problems, CLAIM)
    section.required("test")
    places = {place: section.names(place, "axis", known.axes) for place in PLACES}
    if "over" not in section and "seed" in known.axes:
        places["over"] = () if {"seed"} & {*places["each"], *places["pool"]} else ("seed",)
    text = section.text("test", "")
    alike = section.names("alike", "metric", known.metrics)
    alpha = section.number("alpha", 0.05, over=0, below=1)
    if not text:
        return None
    misplaced = len(known.problems) > before  # What is misspelt is not also forgotten.
    try:
        test = expressions.claim(text)
    except SpecError as error:
        for problem in error.problems:
            refuse(section, problem.message)
        return None
    axis_of = {}
    faults = [
        *faults_in_logic(test),
        *faults_in_names(test, known),
        *faults_in_kinds(test, kinds(alike, known)),
        *faults_in_places(places),
        *([] if misplaced else faults_in_axes(test, places, known, axis_of)),
    ]
    for fault in faults:
        refuse(section, fault)
    return ClaimSpec(
        name=name,
        say=section.text("say", text),
        test=test,
        axis_of=axis_of,
        alpha=alpha,
        mark=node.place,
        **places,
    )


def refuse(section: Section, message: str) -> None:
    """At the test, with the column within its text where there is one."""
    section.refuse(section.entries["test"].mark, f"{section.name}: {message}", "test")


# ---- what the test says


def faults_in_logic(node: Expression) -> Iterator[str]:
    """`and`, `or`, `not` join comparisons; comparisons compare quantities."""
    for leaf in leaves(node):
        match leaf:
            case Binary(op="in"):
                yield from faults_in_quantity(leaf.left)
                yield from faults_in_range(leaf.right)
                yield from faults_in_metrics(leaf)
            case Binary() if leaf.op in ORDERED:
                yield from faults_in_quantity(leaf.left)
                yield from faults_in_quantity(leaf.right)
                yield from faults_in_metrics(leaf)
            case Binary() if leaf.op in COMPARED:
                said = f"no test can support {leaf.op!r}; write < or >, or 'in' and a range"
                yield at(leaf, said)
            case _:
                said = f"{quoted(written(leaf))} compares nothing; write a < b, or a in 0.5..1.5"
                yield at(leaf, said)


def faults_in_quantity(node: Expression) -> Iterator[str]:
    match node:
        case Pick():
            return
        case Value() if type(node.value) in (int, float):
            return
        case Unary(op="-"):
            yield from faults_in_quantity(node.operand)
        case Binary() if node.op in ARITHMETIC:
            yield from faults_in_quantity(node.left)
            yield from faults_in_quantity(node.right)
        case _:
            yield at(node, f"a metric or a number is expected, not {quoted(written(node))}")


def faults_in_range(node: Range) -> Iterator[str]:
    faults = [*faults_in_quantity(node.low), *faults_in_quantity(node.high)]
    yield from faults
    if any(isinstance(part, Pick) for part in walk(node)):
        yield at(node, "a range goes from number to number; compare metrics with < and >")
    elif not faults:
        low, high = (constant(bound) for bound in (node.low, node.high))
        if low is None or high is None or not low < high:
            yield at(node, f"a range goes up, as 2.5..3.5 does; not {written(node)}")


def faults_in_metrics(node: Binary) -> Iterator[str]:
    """Metrics on one side at least, and numbers on the other that are some."""
    sides = [node.left] if node.op == "in" else [node.left, node.right]
    constants = [side for side in sides if not any(isinstance(part, Pick) for part in walk(side))]
    if len(constants) == len(sides):
        yield at(node, f"no metric in {quoted(written(node))}: there is nothing to test")
    else:
        for side in constants:
            if not any(faults_in_quantity(side)) and constant(side) is None:
                yield at(side, f"{written(side)} is no number")


def constant(node: Expression) -> float | None:
    try:
        value = expressions.number(node, {})
    except ArithmeticError:
        return None
    return value if math.isfinite(value) else None


def picks(test: Expression) -> list[Pick]:
    return [node for node in walk(test) if isinstance(node, Pick)]


def at(node: Expression, message: str) -> str:
    return f"column {node.column}: {message}"


# ---- what of it is of one kind


def kinds(alike: tuple[str, ...], known: Known) -> dict[str, Hashable]:
    """Metric -> its kind: what it is read from and its scale, or one for those that the claim
    says are `alike`."""
    found: dict[str, Hashable] = {
        name: (metric.source, metric.scale) for name, metric in known.metrics.items()
    }
    if alike:
        one = found[alike[0]]
        merged = {found[name] for name in alike}
        found = {name: one if kind in merged else kind for name, kind in found.items()}
    return found


def faults_in_kinds(test: Expression, kind_of: Mapping[str, Hashable]) -> Iterator[str]:
    """Only what is of one kind is added, subtracted or compared: a bound with a bound, updates
    with updates. A number is of any kind, but a quotient of unlike metrics is compared with
    another such quotient only."""
    for node in walk(test):
        if not isinstance(node, Binary) or node.op not in (*ORDERED, "in"):
            continue
        sides = [node.left] if node.op == "in" else [node.left, node.right]
        found = [dimension(side, kind_of) for side in sides]
        of_metrics = [it for it in found if it != NUMBER]
        mixed = len(of_metrics) == 1 and len(of_metrics[0]) > 1
        if UNLIKE in found or len({*of_metrics}) > 1 or mixed:
            named = list(dict.fromkeys(pick.metric for pick in picks(node)))
            if all(name in kind_of for name in named):
                yield at(node, unlike(node, named))


Dimension = frozenset[tuple[Hashable, int]]  # kind -> its power, none of them 0
NUMBER: Dimension = frozenset({("number", 0)})
UNLIKE: Dimension = frozenset({("unlike", 0)})


def dimension(node: Expression, kind_of: Mapping[str, Hashable]) -> Dimension:
    """NUMBER of a constant; UNLIKE where metrics of two kinds are added or subtracted."""
    match node:
        case Pick():
            return frozenset({(kind_of.get(node.metric, node.metric), 1)})
        case Unary():
            return dimension(node.operand, kind_of)
        case Binary():
            left, right = dimension(node.left, kind_of), dimension(node.right, kind_of)
            if UNLIKE in (left, right):
                return UNLIKE
            if node.op in ("+", "-"):
                found = {side for side in (left, right) if side != NUMBER} or {NUMBER}
                return found.pop() if len(found) == 1 else UNLIKE
            if left == right == NUMBER:
                return NUMBER
            powers = Counter(dict(left - NUMBER))
            sign = -1 if node.op == "/" else 1
            for kind, power in right - NUMBER:
                powers[kind] += sign * power
            return frozenset((kind, power) for kind, power in powers.items() if power)
    return NUMBER


def unlike(node: Expression, named: Sequence[str]) -> str:
    return (
        f"{quoted(written(node))} compares unlike metrics: {' and '.join(named)}; compare a metric "
        f"with itself, or say that this claim takes them for one kind: alike: [{', '.join(named)}]"
    )


# ---- what it names


def faults_in_names(test: Expression, known: Known) -> Iterator[str]:
    for pick in picks(test):
        if pick.metric not in known.metrics:
            yield at(pick, unknown("metric", pick.metric, known.metrics))


def faults_in_places(places: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    used = [axis for axes in places.values() for axis in axes]
    for axis in dict.fromkeys(used):
        if used.count(axis) > 1:
            yield f"axis {axis!r} is in {' and in '.join(p for p in places if axis in places[p])}"


def faults_in_axes(
    test: Expression,
    places: Mapping[str, tuple[str, ...]],
    known: Known,
    axis_of: dict[str, str],
) -> Iterator[str]:
    """Nothing is averaged silently: each metric is at one level of each axis, or the axis is
    in each, pool or over. `axis_of` is filled: label -> its axis."""
    placed = {axis: place for place, axes in places.items() for axis in axes}
    labels = {
        name: dict.fromkeys((*axis.labels, *known.labels.get(name, ())))
        for name, axis in known.axes.items()
    }
    for pick in picks(test):
        fixed: dict[str, str] = {}
        wrong = pick.metric not in known.metrics
        for label in pick.labels:
            having = [axis for axis, there in labels.items() if label in there]
            free = [axis for axis in having if axis not in placed]
            wrong = wrong or len(free) != 1
            if not having:
                every = [label for there in labels.values() for label in there]
                yield at(pick, unknown("label", label, every, f" in {written(pick)}"))
            elif not free:
                axis = having[0]
                yield at(
                    pick,
                    f"axis {axis!r} is in {placed[axis]}, and {written(pick)} is at {label!r} of "
                    "it: one or the other",
                )
            elif len(free) > 1:
                yield at(
                    pick,
                    f"label {label!r} is one of axis {' and of axis '.join(map(repr, free))}: "
                    "rename one of them",
                )
            elif free[0] in fixed:
                yield at(
                    pick,
                    f"{written(pick)} is at two levels of axis {free[0]!r}: "
                    f"{fixed[free[0]]!r} and {label!r}",
                )
            else:
                axis_of[label] = free[0]
                fixed[free[0]] = label
        for axis in known.axes:
            if not wrong and axis not in fixed and axis not in placed:
                yield at(
                    pick,
                    f"{written(pick)} does not say which level of axis {axis!r}: "
                    "name one in the brackets, or put the axis in each, pool or over",
                )
