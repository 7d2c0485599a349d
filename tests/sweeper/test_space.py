"""Spaces: in which order keys are chosen, at which corners a trainer is asked, what points are
called."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping

import pytest

from sweeper import space as spaces
from sweeper.space import called, corners, extremes, in_order, is_there
from sweeper.spec import expressions
from sweeper.spec.search_types import Choice, Parameter, Scalar, Span
from sweeper.spec.sweep import Condition

Space = Mapping[str, Parameter]


def when(text: str | None) -> Condition | None:
    return Condition(test=expressions.condition(text)) if text else None


def choice(key: str, *options: Scalar, **how: str) -> Choice:
    return Choice(key=key, options=options, when=when(how.get("when")))


def span(key: str, low: float, high: float, **how: object) -> Span:
    text = how.pop("when", None)
    return Span(key=key, low=low, high=high, when=when(text), **how)


def space(*parameters: Parameter) -> Space:
    return {it.key: it for it in parameters}


TREE = space(
    span("cycles", 2, 10, whole=True, when="kl.schedule == 'cyclical'"),
    span("ratio", 0.25, 1.0, when="cycles > 5 and deep == true"),
    choice("kl.schedule", "linear", "cyclical", None),
    choice("deep", True, False),
    span("kl.start", 0.0, 0.5, when="kl.schedule in ['linear', null] or cycles == 2"),
    span("lr", 1e-3, 1.0, log=True),
)


def test_a_key_comes_after_those_that_decide_whether_it_is_there():
    order = [it.key for it in in_order(TREE)]
    assert order == ["kl.schedule", "cycles", "deep", "ratio", "kl.start", "lr"]
    assert [it.key for it in in_order(space(span("b", 0, 1), span("a", 0, 1)))] == ["b", "a"]


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_any_tree(seed: int):
    draw = random.Random(seed)
    keys = [f"k{n}" for n in range(8)]
    made = [
        choice(
            key,
            0,
            1,
            when=" and ".join(
                f"{it} == 1" for it in draw.sample(keys[:n], min(n, draw.randint(0, 2)))
            )
            or None,
        )
        for n, key in enumerate(keys)
    ]
    draw.shuffle(made)
    order = [it.key for it in in_order(space(*made))]
    assert sorted(order) == sorted(keys)
    for one in made:
        for other in keys:
            if one.when and other in str(one.when):
                assert order.index(other) < order.index(one.key)


def test_corners_have_each_choice_and_both_ends_of_each_key():
    found = list(corners(TREE))
    for key, parameter in TREE.items():
        seen = {point[key] for point in found if key in point}
        assert seen == set(extremes(parameter)), key
    for point in found:
        for parameter in in_order(TREE):  # and each is a point of the space
            assert (parameter.key in point) == is_there(parameter, point)


@pytest.mark.parametrize("seed", range(20))
def test_corners_of_any_space_against_all_there_are(seed: int):
    """Whatever some corner of the space has, some corner that is asked has, too."""
    draw = random.Random(seed)
    made: list[Parameter] = []
    for number in range(6):
        parents = draw.sample(made, min(len(made), draw.randint(0, 2)))
        tests = []
        for it in parents:
            some = draw.choice(extremes(it))
            tests.append(f"{it.key} {draw.choice(['==', '!='])} {some!r}")
        text = draw.choice([" and ", " or "]).join(tests) or None
        key = f"k{number}"
        kinds = [choice(key, "x", "y", "z", when=text), span(key, 1, 5, whole=True, when=text)]
        made.append(draw.choice(kinds))
    draw.shuffle(made)
    whole = space(*made)
    ordered = in_order(whole)
    every: set[tuple[str, Scalar]] = set()
    for values in itertools.product(*map(extremes, ordered)):
        point: dict[str, Scalar] = {}
        for it, value in zip(ordered, values, strict=True):
            if is_there(it, point):
                point[it.key] = value
        every |= set(point.items())
    assert {pair for point in corners(whole) for pair in point.items()} == every


def test_a_key_that_is_there_at_no_corner_is_left_out():
    inside = space(span("a", 0, 10), span("b", 0, 1, when="a > 3 and a < 5"))
    assert [set(point) for point in corners(inside)] == [{"a"}, {"a"}]


def test_what_a_point_is_called():
    point = {"kl.schedule": "linear", "deep": True, "kl.start": 0.21349, "lr": 0.5}
    assert called(TREE, point) == "linear · deep true · start 0.213 · lr 0.5"
    alike = space(span("a.start", 0, 9, whole=True), span("b.start", 0.0, 1.0))
    assert called(alike, {"b.start": 0.25, "a.start": 3}) == "a.start 3 · b.start 0.25"
    assert called(TREE, {"kl.schedule": None, "deep": False}) == "schedule null · deep false"


def test_what_a_point_writes_stands_where_its_keys_do():
    written = spaces.settings(TREE, {"lr": 0.5, "deep": True})
    assert {key: it.value for key, it in written.items()} == {"lr": 0.5, "deep": True}
