"""A condition as a sweep file or a command line says it in; what is wrong with it, and whether
it holds of a point, out.

"scheme == 'aggressive' and word_dropout > 0"       an expression
{pooling: [avg, abs], scheme: aggressive}           a partial match: each is one of these

A name is an axis, and stands for the label of the point on it, or a configuration key, and
stands for the value that the point writes. (An axis in the short form is its key.) Where a
point has not the axis, its name is null, whatever base says to the key; a key that nothing
writes there is null, too. Null equals nothing but null, and is neither less nor more.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.errors import SpecError, quoted, unknown
from sweeper.spec import expressions
from sweeper.spec.expressions import (
    COMPARED,
    ORDERED,
    Binary,
    Expression,
    Items,
    Name,
    Unary,
    Value,
    leaves,
    value_written,
    walk,
    written,
)
from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.settings import settings
from sweeper.spec.sweep import Axis, Condition, Point, Setting, Settings

Lookup = Callable[[str], Any]  # a name -> its value at a point

# Each condition is asked at each point.
MAX_CONDITIONS = 200
MAX_KEYS = 50  # of a partial match
MAX_VALUES = 1000  # of one of its keys


def condition(node: Node, called: str, problems: Problems) -> Condition | None:
    if not isinstance(node.value, str) or not node.value.strip():
        problems.refuse(
            node.mark,
            f"{called} must be a condition such as \"scheme == 'joint'\", not {node.kind}",
        )
        return None
    try:
        return Condition(test=expressions.condition(node.value), mark=node.mark)
    except SpecError as error:
        for problem in error.problems:
            problems.refuse(node.mark, f"{called}: {problem.message}")
        return None


def condition_of(
    node: Node, called: str, faults: Callable[[Binary], Iterator[str]], problems: Problems
) -> Condition | None:
    """The condition that a text says; `faults` finds what is wrong with one comparison."""
    read = condition(node, called, problems)
    wrong = (
        [fault for leaf in leaves(read.test) for fault in faults_of(leaf, faults)] if read else []
    )
    for fault in wrong:
        problems.refuse(node.mark, f"{called}: {fault}")
    return None if wrong else read


def faults_of(leaf: Expression, faults: Callable[[Binary], Iterator[str]]) -> Iterator[str]:
    if isinstance(leaf, Binary):
        if any(isinstance(side, Binary | Unary) for side in (leaf.left, leaf.right)):
            yield at(leaf, "a comparison cannot be compared; join it by and, or, not")
        else:
            yield from faults(leaf)
    else:
        yield at(leaf, f"{quoted(written(leaf))} compares nothing; write a == b, or a > 0.5")


def exclusions(node: Node, problems: Problems) -> list[Condition]:
    """`exclude:`, a list of expressions and partial matches."""
    if not node.is_list:
        problems.refuse(node.mark, f"exclude must be a list of conditions, not {node.kind}")
        return []
    if len(node.value) > MAX_CONDITIONS:
        problems.stop(
            node.mark, f"exclude has {len(node.value):,} conditions; at most {MAX_CONDITIONS}"
        )
    read = (
        match(item, problems) if item.is_mapping else condition(item, "exclude", problems)
        for item in node.value
    )
    return [found for found in read if found is not None]


def match(node: Node, problems: Problems) -> Condition | None:
    parts: list[Expression] = []
    before = len(problems)
    for key, setting in settings(node, problems).items():
        several = isinstance(setting.value, list)
        items = tuple(Value(value=item) for item in (setting.value if several else [setting.value]))
        if len(items) > MAX_VALUES or len(parts) >= MAX_KEYS:
            said = (
                f"exclude: a match has at most {MAX_KEYS} keys, and {MAX_VALUES:,} values of each"
            )
            problems.refuse(setting.mark, said, key)
            break
        if any(isinstance(item.value, list | dict) for item in items) or not items:
            problems.refuse(setting.mark, f"{key!r} must be a value or a list of values", key)
        elif several:
            parts.append(Binary(op="in", left=Name(name=key), right=Items(items=items)))
        else:
            parts.append(Binary(op="==", left=Name(name=key), right=items[0]))
    if not parts and len(problems) == before:
        problems.refuse(node.mark, "an empty match would exclude everything")
    if len(problems) > before:
        return None
    whole = parts[0]
    for part in parts[1:]:
        whole = Binary(op="and", left=whole, right=part)
    return Condition(test=whole, mark=node.mark)


# ---- what a condition may name


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What can be named: `labels` of the axes that are more than their key, the `values` that
    are written to each key anywhere, and the keys that are `unsure`: no value at some points,
    and not because an axis is absent there."""

    labels: Mapping[str, Collection[str]]
    values: Mapping[str, Sequence[Any]]
    unsure: frozenset[str] = frozenset()

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.labels, *(key for key in self.values if key not in self.labels))


def names(
    lowest: Settings,
    axes: Iterable[Axis],
    labels: Mapping[str, Collection[str]] | None = None,
    elsewhere: Iterable[Settings] = (),
) -> Names:
    """`lowest` is what every point has: base, set, --set. `labels` and `elsewhere` are what
    other profiles write: to name that is no mistake."""
    values: dict[str, list[Any]] = defaultdict(list)
    levels = [level for axis in axes for level in axis.levels]
    for some in (lowest, *(level.set for level in levels), *elsewhere):
        for key, setting in some.items():
            values[key].append(setting.value)
    sure = set(lowest)
    for axis in axes:
        if axis.levels:
            sure |= set.intersection(*(set(level.set) for level in axis.levels))
    named = {axis.name: axis.labels for axis in axes if not axis.plain}
    if labels is not None:
        named = {name: (*labels.get(name, ()), *there) for name, there in named.items()}
    named = {name: dict.fromkeys(there) for name, there in named.items()}
    unsure = {key for level in levels for key in level.set} - sure
    return Names(labels=named, values=values, unsure=frozenset(unsure))


def faults(condition: Expression, known: Names) -> Iterator[str]:
    """What would make it hold never, or not as its author thinks."""
    for node in walk(condition):
        match node:
            case Name(name=name) if name not in known.labels and name not in known.values:
                said = unknown("axis or configuration key", name, known.all)
                constant = {"True": "true", "False": "false", "None": "null"}.get(name)
                hint = f"write {constant}" if constant else "text stands in quotes"
                yield at(node, f"{said}; {hint}")
            case Name(name=name) if name in known.unsure and name not in known.labels:
                said = f"{name!r} has no value at some points: write one in base or set"
                yield at(node, said)
            case Binary(op=op) if op in COMPARED or op == "in":
                yield from faults_in_comparison(node, known)
    yield from faults_in_logic(condition, known)


def is_truth(name: str, known: Names) -> bool:
    """Whether all that is written to a key is true or false."""
    values = known.values.get(name, ())
    return name not in known.labels and all(isinstance(value, bool) for value in values)


def faults_in_logic(node: Expression, known: Names) -> Iterator[str]:
    """`and`, `or` and `not` join comparisons, and what is true or false itself."""
    for leaf in leaves(node):
        match leaf:
            case Value() if not isinstance(leaf.value, bool):
                yield at(leaf, f"{written(leaf)} compares nothing; write name == {written(leaf)}")
            case Name(name=name) if name in known.all and not is_truth(name, known):
                yield at(leaf, f"{name!r} is compared with something: write {name} == ...")


def faults_in_comparison(node: Binary, known: Names) -> Iterator[str]:
    sides = (node.left, node.right)
    named = next((side for side in sides if isinstance(side, Name)), None)
    literals = [item for side in sides for item in literals_of(side)]
    if named is None:
        yield at(node, f"{written(node)} is the same at every point: name an axis or a key")
        return
    if named.name in known.labels:
        if node.op in ORDERED:
            yield at(node, f"the labels of {named.name!r} have no order: compare with == or in")
            return
        labels = known.labels[named.name]
        for item in literals:
            if item.value is not None and label_text(item.value) not in labels:
                yield at(item, unknown("level", label_text(item.value), labels))
    elif (written_values := known.values.get(named.name)) is not None:
        if node.op in ORDERED:
            words = [v for v in (*written_values, *(i.value for i in literals)) if not is_number(v)]
            if words:
                said = value_written(words[0]) if not isinstance(words[0], list) else "a list"
                yield at(node, f"{said} has no order: {named.name!r} is compared with == or in")
            return
        said = [item for item in literals if isinstance(item.value, str)]
        texts = dict.fromkeys(v for v in written_values if said and isinstance(v, str))
        for item in said:
            if texts and item.value not in texts:
                yield at(item, unknown(f"value of {named.name}", item.value, texts))
            elif not texts and all(is_number(value) for value in written_values):
                yield at(item, f"{named.name!r} is a number, never text: write it without quotes")


def literals_of(node: Expression) -> tuple[Value, ...]:
    if isinstance(node, Items):
        return node.items
    return (node,) if isinstance(node, Value) else ()


def label_text(value: Any) -> str:
    return value if isinstance(value, str) else value_written(value)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def at(node: Expression, message: str) -> str:
    return f"column {node.column}: {message}"


def read_names(condition: Expression) -> dict[str, None]:
    return {node.name: None for node in walk(condition) if isinstance(node, Name)}


# ---- whether it holds


def compiled(condition: Expression) -> Callable[[Lookup], bool]:
    """A function that is given what names stand for at a point. It raises nothing on a
    condition in which `faults` finds none."""
    match condition:
        case Name(name=name):
            return lambda lookup: lookup(name)
        case Value(value=value):
            return lambda lookup: value
        case Unary(operand=operand):
            inner = compiled(operand)
            return lambda lookup: not inner(lookup)
        case Binary(op="in", left=left, right=right):
            inner, items = compiled(left), [item.value for item in right.items]
            return lambda lookup: any(same(inner(lookup), item) for item in items)
        case Binary(op=op, left=left, right=right):
            one, other = compiled(left), compiled(right)
            if op == "and":
                return lambda lookup: bool(one(lookup)) and bool(other(lookup))
            if op == "or":
                return lambda lookup: bool(one(lookup)) or bool(other(lookup))
            test = TESTS[op]
            return lambda lookup: test(one(lookup), other(lookup))
    raise AssertionError(condition)


class Label(str):
    """The label of a level: 0.5 in a condition is the label 0.5."""

    __slots__ = ()


def same(one: Any, other: Any) -> bool:
    """1 and 1.0 are one value; 1 and true are not."""
    for label, value in ((one, other), (other, one)):
        if isinstance(label, Label):
            return value is not None and str(label) == label_text(value)
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """What is null is neither less nor more than anything."""
    return lambda one, other: is_number(one) and is_number(other) and test(one, other)


TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "==": same,
    "!=": lambda one, other: not same(one, other),
    "<": ordered(operator.lt),
    "<=": ordered(operator.le),
    ">": ordered(operator.gt),
    ">=": ordered(operator.ge),
}


def lookup(point: Point, lowest: Settings, overrides: Settings, axes: Mapping[str, Axis]) -> Lookup:
    """What names stand for at a point."""

    def value_of(name: str) -> Any:
        if (axis := axes.get(name)) is not None:
            level = point.levels.get(name)
            if level is None and name not in point.further and name not in overrides:
                return None
            if not axis.plain:
                return None if level is None else Label(level.label)
        found = looked_up(name, point, lowest, overrides)
        return None if found is None else found.value

    return value_of


def looked_up(key: str, point: Point, lowest: Settings, overrides: Settings) -> Setting | None:
    """What a point writes to a key: --set over what was included over levels, later axes
    first, over base."""
    if key in overrides:
        return overrides[key]
    if key in point.further:
        return point.further[key]
    for level in reversed(point.levels.values()):
        if key in level.set:
            return level.set[key]
    return lowest.get(key)
