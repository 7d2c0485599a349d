"""The space of a search in; points of it (key -> value) out, and what a point is called and
writes into a configuration."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from sweeper.spec.conditions import compiled, read_names
from sweeper.spec.search_types import Choice, Parameter, Scalar
from sweeper.spec.space import shown_bare
from sweeper.spec.sweep import Setting, Settings

Space = Mapping[str, Parameter]
Point = Mapping[str, Scalar]

MAX_PARENTS_TRIED = 10_000  # combinations under which a conditional key may be there


def in_order(space: Space) -> tuple[Parameter, ...]:
    """A key after those that its `when` reads, else as the file has them."""
    ordered: dict[str, Parameter] = {}

    def put(key: str) -> None:
        parameter = space[key]
        for other in read_names(parameter.when.test) if parameter.when else ():
            put(other)
        ordered.setdefault(key, parameter)

    for key in space:
        put(key)
    return tuple(ordered.values())


def is_there(parameter: Parameter, point: Point) -> bool:
    """Whether a key is in a point, by the keys that come before it."""
    return parameter.when is None or bool(compiled(parameter.when.test)(point.get))


def settings(space: Space, point: Point) -> Settings:
    """What a point writes, at the places of its keys."""
    return {key: Setting(value=value, mark=space[key].mark) for key, value in point.items()}


def extremes(parameter: Parameter) -> tuple[Scalar, ...]:
    """Each choice; of numbers the first and the last."""
    if isinstance(parameter, Choice):
        return parameter.options
    return (parameter.low, parameter.high)


def corners(space: Space) -> Iterator[Point]:
    """Points in which each key has each of its extremes once at least, where there is a corner at
    which it is there: what a trainer refuses at one of these, it would refuse amid the search."""
    ordered = in_order(space)
    for parameter in ordered:
        for value in extremes(parameter):
            if point := corner_with(parameter, value, ordered, space):
                yield point


def corner_with(
    parameter: Parameter, value: Scalar, ordered: tuple[Parameter, ...], space: Space
) -> Point | None:
    """The first corner at which a key has a value."""
    above = [space[key] for key in parents(parameter, space)]
    tried = itertools.product(*map(extremes, above))
    for values in itertools.islice(tried, MAX_PARENTS_TRIED):
        wanted = {it.key: chosen for it, chosen in zip(above, values, strict=True)}
        point = {}
        for one in ordered:
            if is_there(one, point):
                usual = wanted.get(one.key, extremes(one)[0])
                point[one.key] = value if one is parameter else usual
        if parameter.key in point:
            return point
    return None


def parents(parameter: Parameter, space: Space) -> tuple[str, ...]:
    """The keys on which it depends whether a key is there, near and far."""
    found: dict[str, None] = {}

    def follow(one: Parameter) -> None:
        for key in read_names(one.when.test) if one.when else ():
            follow(space[key])
            found.setdefault(key)

    follow(parameter)
    return tuple(found)


def called(space: Space, point: Point) -> str:
    """ "linear · start 0.213 · warmup_epochs 7": a choice that is text by itself, else the last
    part of its key before the value; the whole key where two end alike."""
    ends = [key.rpartition(".")[2] for key in space]
    said = []
    for key in space:
        if key not in point:
            continue
        value, end = point[key], key.rpartition(".")[2]
        if isinstance(value, str) and isinstance(space[key], Choice):
            said.append(value)
        else:
            said.append(f"{end if ends.count(end) == 1 else key} {short(value)}")
    return " · ".join(said)


def short(value: Scalar) -> str:
    return f"{value:.3g}" if isinstance(value, float) else shown_bare(value)
