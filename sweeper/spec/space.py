"""The `space:` of a search and the points that it tries first in; Parameters and points out, each
value and condition in them checked.

kl.schedule: {choice: [linear, constant]}
kl.start: {float: [0.0, 0.5], step: 0.1, when: "kl.schedule == 'linear'"}
optim.epochs: {int: [4, 64], log: true}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from sweeper.errors import quoted, unknown
from sweeper.spec.conditions import at, compiled, condition_of, is_number, read_names, same
from sweeper.spec.expressions import ORDERED, Binary, Name, Value, value_written, walk, written
from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.search_types import Choice, Parameter, Scalar, Span
from sweeper.spec.section import Section, few, items, label_of
from sweeper.spec.settings import fault_in_key
from sweeper.spec.sweep import Condition

KINDS = ("choice", "float", "int")
PARAMETER = (*KINDS, "log", "step", "when")
MAX_SPACE = 200  # keys


def parameters(section: Section) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    entries = section.each("space")
    if "space" in section and section.entries["space"].is_mapping and not entries:
        section.refuse(section.entries["space"].mark, "search.space: there is no key in it")
    if entries and not few(section, "space", MAX_SPACE):
        return {}
    for key, node in entries.items():
        if wrong := fault_in_key(key):
            section.refuse(node.place, f"key {quoted(key)} {wrong}")
        elif key == "seed":
            section.refuse(
                node.place, "a seed is not searched: promote.seeds says which the best have", key
            )
        elif parameter := parameter_of(key, node, section.problems):
            found[key] = parameter
    return with_conditions(found, entries, section)


def parameter_of(key: str, node: Node, problems: Problems) -> Parameter | None:
    section = Section(node, f"search.space.{key}", problems, PARAMETER)
    if not section.node.is_mapping:
        return None
    kinds = [kind for kind in KINDS if kind in section]
    if len(kinds) != 1:
        section.refuse(node.place, f"{section.name} needs one of {', '.join(KINDS)}", key)
        return None
    return choice(key, section) if kinds[0] == "choice" else span(key, section, kinds[0])


def choice(key: str, section: Section) -> Choice | None:
    for other in ("log", "step"):
        if other in section:
            section.refuse(
                section.entries[other].place, f"{section.called(other)}: a choice has no {other!r}"
            )
    options: list[Scalar] = []
    for item in items(section, "choice", "a list of values"):
        if item.is_list or item.is_mapping:
            section.refuse(item.mark, f"{section.name}: a choice is text or a number: {item.kind}")
        elif any(option == item.value and not same(option, item.value) for option in options):
            said = "a number and a truth that are one to a sampler; write text, or 2 and 3"
            section.refuse(item.mark, f"{section.name}: {label_of(item)} is {said}")
        elif any(same(option, item.value) for option in options):
            section.refuse(item.mark, f"{section.name}: {label_of(item)} is a choice twice")
        else:
            options.append(item.value)
    if not options:
        return None
    return Choice(key=key, options=tuple(options), mark=section.node.place)


def span(key: str, section: Section, kind: str) -> Span | None:
    whole, node = kind == "int", section.entries[kind]
    expected = "[low, high], two whole numbers" if whole else "[low, high], two numbers"
    if not node.is_list or len(node.value) != 2:
        section.wrong(kind, expected)
        return None
    low, high = (item.value for item in node.value)
    log = section.truth("log")
    for item in node.value:
        if not numeric(item.value, whole):
            section.refuse(
                item.mark, f"{section.called(kind)} must be {expected}, not {item.kind}", kind
            )
            return None
    if not low < high:
        section.refuse(node.mark, f"{section.called(kind)}: {low} is not below {high}", kind)
        return None
    if log and low <= 0:
        section.refuse(
            node.mark, f"{section.called(kind)}: with 'log' it starts above 0, not at {low}", kind
        )
    return Span(
        key=key,
        low=low,
        high=high,
        whole=whole,
        log=log,
        step=step(section, low, high, whole=whole, log=log),
        mark=section.node.place,
    )


def step(
    section: Section, low: float, high: float, *, whole: bool, log: bool
) -> int | float | None:
    node = section.entries.get("step")
    if node is None:
        return None
    size = node.value
    if not numeric(size, whole) or size <= 0:
        section.wrong("step", f"a {'whole ' if whole else ''}number above 0")
        return None
    if log:
        section.refuse(node.place, f"{section.name}: either 'log' or 'step'", "step")
    if (exact(high) - exact(low)) % exact(size):
        section.refuse(
            node.mark, f"{section.called('step')}: {low} to {high} is no multiple of {size}", "step"
        )
    return size


def exact(number: float) -> Fraction:
    """The number as it is written: 0.3 is three steps of 0.1."""
    return Fraction(str(number))


def numeric(value: Any, whole: bool) -> bool:
    return is_number(value) and (isinstance(value, int) or not whole)


def fault_in_value(parameter: Parameter, value: Any) -> str | None:
    """Why a parameter cannot have a value; None if it can."""
    key, said = parameter.key, shown(value)
    if isinstance(parameter, Choice):
        if any(same(option, value) for option in parameter.options):
            return None
        if isinstance(value, str):
            return unknown(f"choice of {key}", value, map(shown_bare, parameter.options))
        return f"{said} is no choice of {key}; one of {', '.join(map(shown, parameter.options))}"
    if not numeric(value, parameter.whole):
        return f"{key} is a {'whole ' if parameter.whole else ''}number, not {said}"
    if not parameter.low <= value <= parameter.high:
        return f"{key} goes from {parameter.low} to {parameter.high}, not to {said}"
    if parameter.step and (exact(value) - exact(parameter.low)) % exact(parameter.step):
        return f"{key} goes in steps of {parameter.step} from {parameter.low}, not to {said}"
    return None


def shown(value: Any) -> str:
    return value_written(value) if isinstance(value, Scalar) else "a list or a mapping"


def shown_bare(value: Scalar) -> str:
    return value if isinstance(value, str) else value_written(value)


# ---- conditions within the space


def with_conditions(
    found: Mapping[str, Parameter], entries: Mapping[str, Node], section: Section
) -> dict[str, Parameter]:
    """The parameters with their `when`, which reads others and leads back to none."""
    conditions: dict[str, Condition] = {}
    for key in found:
        if (node := entries[key].value.get("when")) is None:
            continue

        def faults(leaf: Binary, key: str = key) -> Iterator[str]:
            return faults_in_when(leaf, key, entries, found)

        name = f"search.space.{key}.when"
        if read := condition_of(node, name, faults, section.problems):
            conditions[key] = read
    for circle in circles({key: read_names(when.test) for key, when in conditions.items()}):
        place = entries[circle[0]].value["when"].place
        said = " -> ".join((*circle, circle[0]))
        section.refuse(place, f"search.space: {said} is a circle of 'when'", circle[0])
    return {key: replace(it, when=conditions.get(key)) for key, it in found.items()}


def faults_in_when(
    leaf: Binary, own: str, entries: Mapping[str, Node], found: Mapping[str, Parameter]
) -> Iterator[str]:
    """One comparison: a key of the space with a value that it can have."""
    names = [node for node in walk(leaf) if isinstance(node, Name)]
    values = [node for node in walk(leaf) if isinstance(node, Value)]
    if len(names) != 1:
        yield at(
            leaf, f"{quoted(written(leaf))}: a key of the space is compared with a value in quotes"
        )
        return
    key = names[0].name
    if key == own:
        yield at(names[0], f"{key!r} cannot depend on itself")
    elif key not in entries:
        yield at(names[0], unknown("key", key, entries, " in search.space"))
    elif key in found:  # else what is wrong with it is said there
        parameter = found[key]
        ordered = leaf.op in ORDERED
        numbers = isinstance(parameter, Span) or all(map(is_number, parameter.options))
        if ordered and not numbers:
            yield at(leaf, f"{key} is no number; compare it with == or in")
            return
        for value in values:
            if ordered and not is_number(value.value):
                yield at(value, f"{key} is a number, not {value_written(value.value)}")
            elif not ordered and (fault := fault_in_value(parameter, value.value)):
                yield at(value, fault)


def circles(reads: Mapping[str, Iterable[str]]) -> list[tuple[str, ...]]:
    """The ways around from a key to itself, each once, from the key that stands first."""
    found: list[tuple[str, ...]] = []
    done: set[str] = set()

    def follow(key: str, path: tuple[str, ...]) -> None:
        if key in path:
            found.append(path[path.index(key) :])
        elif key not in done:
            for other in sorted(reads.get(key, ())):
                follow(other, (*path, key))
            done.add(key)

    for key in reads:
        follow(key, ())
    return found


# ---- points that are tried first


def enqueued(section: Section, space: Mapping[str, Parameter]) -> tuple[dict[str, Scalar], ...]:
    if (node := section.entries.get("enqueue")) is None:
        return ()
    if not node.is_list:
        section.wrong("enqueue", "a list of points, such as [{kl.start: 0.1}]")
        return ()
    if not few(section, "enqueue"):
        return ()
    found = []
    for item in node.value:
        point = Section(item, "search.enqueue", section.problems, tuple(space))
        values = {
            key: child.value
            for key, child in point.entries.items()
            if not refused(point, key, fault_in_value(space[key], child.value))
        }
        for key in values:
            refused(point, key, fault_in_point(space[key], values, point))
        if not values and not item.value:
            point.refuse(item.mark, "search.enqueue: a point says nothing; give a key a value")
        found.append(values)
    return tuple(found)


def refused(point: Section, key: str, fault: str | None) -> bool:
    if fault:
        point.refuse(point.entries[key].mark, f"{point.name}: {fault}", key)
    return fault is not None


def fault_in_point(
    parameter: Parameter, values: Mapping[str, Scalar], point: Section
) -> str | None:
    """A point says only keys that its other keys leave alive."""
    if parameter.when is None:
        return None
    need = str(parameter.when)
    for key in sorted(read_names(parameter.when.test)):
        if key not in point.entries:
            return f"{parameter.key} is there when {need}; the point does not say {key}"
        if key not in values:
            return None  # What is wrong with that one is said.
    if not compiled(parameter.when.test)(values.get):
        return f"{parameter.key} is there only when {need}"
    return None
