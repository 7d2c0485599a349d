"""Conditions over points: what they may name, what is wrong with them, and where they hold."""

from __future__ import annotations

import pytest

from sweeper.design import chosen, expand, idle, points
from sweeper.errors import SpecError
from sweeper.spec import parse

HEAD = "name: t\ntrainer: a:b\nprofiles: {quick: {}}\n"  # 3 lines
AXES = """\
base: {word_dropout: 0.0, kl.weight: 1}
axes:
  model: {Plain: {}, Max Pool: {pooling: max, override: true}}
  scheme: [joint, aggressive]
  kl.cycles: {values: [2, 4], when: scheme == 'aggressive'}
  seed: [0, 1]
"""
AXES = AXES.replace("{pooling: max, override: true}", "{pooling: max}")


def labels(text: str) -> list[str]:
    """Of the trials: "Plain joint 0" """
    return [" ".join(point.labels.values()) for point, _ in points(parse(HEAD + text, "s.yaml"))]


def held(condition: str) -> list[str]:
    sweep = parse(HEAD + AXES, "s.yaml")
    holds = chosen(sweep, condition)
    return [" ".join(point.labels.values()) for point, _ in points(sweep) if holds(point)]


EVERY = [
    f"{model} {rest} {seed}"
    for model in ("Plain", "Max Pool")
    for rest in ("joint", "aggressive 2", "aggressive 4")
    for seed in (0, 1)
]


def test_an_axis_is_absent_where_its_condition_does_not_hold():
    assert labels(AXES) == EVERY


HOLDS = {
    "seed == 0": lambda label: label.endswith("0"),
    "seed != 0": lambda label: label.endswith("1"),
    "seed in [1, 7]": lambda label: label.endswith("1"),
    "model == 'Max Pool'": lambda label: label.startswith("Max"),
    "model in ['Plain', 'Max Pool']": lambda label: True,
    "not model == 'Plain'": lambda label: label.startswith("Max"),
    "scheme == 'joint' and seed < 1": lambda label: "joint 0" in label,
    "scheme == 'joint' or model == 'Plain'": lambda label: "joint" in label or "Plain" in label,
    # Where the axis is absent it is null: neither more nor less than anything, and no number.
    "kl.cycles > 2": lambda label: "aggressive 4" in label,
    "kl.cycles <= 2": lambda label: "aggressive 2" in label,
    "kl.cycles != 2": lambda label: "aggressive 2" not in label,
    "kl.cycles == null": lambda label: "joint" in label,
    "word_dropout == 0": lambda label: True,  # 0 and 0.0 are one number
    "kl.weight == true": lambda label: False,  # 1 and true are not one value
    "true": lambda label: True,
}


@pytest.mark.parametrize(("condition", "expected"), HOLDS.items())
def test_where_a_condition_holds(condition, expected):
    assert held(condition) == [label for label in EVERY if expected(label)]


def test_an_axis_that_is_more_than_its_key_is_known_by_its_labels():
    """The axis `model` writes a key of that name; a condition means the axis."""
    text = "axes: {model: {LM: {model: language_model}, '2': {model: two}}, seed: [0]}\n"
    sweep = parse(HEAD + text, "s.yaml")
    for condition, expected in {"model == 'LM'": ["LM"], "model == 2": ["2"]}.items():
        holds = chosen(sweep, condition)
        assert [p.labels["model"] for p, _ in points(sweep) if holds(p)] == expected


def test_the_command_line_has_the_last_word_in_a_condition():
    sweep = parse(HEAD + "base: {a: 1}\naxes: {x: [1, 2]}\n", "s.yaml", overrides=["a=5"])
    assert [p.labels["x"] for p, _ in points(sweep) if chosen(sweep, "a == 5")(p)] == ["1", "2"]


def test_what_is_excluded():
    expression = "exclude: [\"scheme == 'aggressive' and seed > 0\", \"model == 'Plain'\"]\n"
    assert labels(AXES + expression) == [
        "Max Pool joint 0",
        "Max Pool joint 1",
        "Max Pool aggressive 2 0",
        "Max Pool aggressive 4 0",
    ]
    match = "exclude:\n  - {model: [Plain, Max Pool], scheme: aggressive}\n  - {seed: 1}\n"
    assert labels(AXES + match) == ["Plain joint 0", "Max Pool joint 0"]
    nested = "exclude: [{kl: {cycles: [2, 4]}}]\n"
    assert labels(AXES + nested) == [label for label in EVERY if "joint" in label]


def test_a_profile_excludes_more():
    text = HEAD.replace("{quick: {}}", "{quick: {exclude: [seed == 1]}, all: {}}") + AXES
    quick, every = (parse(text, "s.yaml", profile=profile) for profile in ("quick", "all"))
    assert len(list(points(quick))) == 6
    assert len(list(points(every))) == 12


def test_nothing_left_is_an_error():
    with pytest.raises(SpecError, match=r"^s.yaml:6:3: no trial is left: exclude takes all$"):
        expand(parse(HEAD + AXES + "exclude: ['seed in [0, 1]']\n", "s.yaml"), None)


def test_conditions_that_change_nothing_are_told():
    text = AXES.replace("'aggressive'}", "'aggressive' and seed0 == 1}").replace(
        "base: {", "base: {seed0: 0, "
    )
    sweep = parse(HEAD + text + "exclude: [seed > 5, seed == 0]\n", "s.yaml")
    assert [str(problem) for problem in idle(sweep)] == [
        "s.yaml:10:11: nothing is excluded by seed > 5",
        "s.yaml:8:37: axis 'kl.cycles' is nowhere",
    ]
    assert idle(parse(HEAD + AXES, "s.yaml")) == []


BAD = {
    "sheme == 'joint'": "column 1: unknown axis or configuration key 'sheme'; did you mean "
    "'scheme'? one of kl.cycles, kl.weight, model, pooling, scheme, seed, word_dropout; text "
    "stands in quotes",
    "scheme == joint": "column 11: unknown axis or configuration key 'joint'; one of kl.cycles, "
    "kl.weight, model, pooling, scheme, seed, word_dropout; text stands in quotes",
    "scheme == 'jiont'": "column 11: unknown value of scheme 'jiont'; did you mean 'joint'? one "
    "of aggressive, joint",
    "scheme in ['joint', 'jiont']": "column 21: unknown value of scheme 'jiont'; did you mean "
    "'joint'? one of aggressive, joint",
    "model == 'MaxPool'": "column 10: unknown level 'MaxPool'; did you mean 'Max Pool'? one of "
    "Max Pool, Plain",
    "model > 'Plain'": "column 7: the labels of 'model' have no order: compare with == or in",
    "scheme > 0": "column 8: 'joint' has no order: 'scheme' is compared with == or in",
    "seed > '0'": "column 6: '0' has no order: 'seed' is compared with == or in",
    "pooling == 'max'": "column 1: 'pooling' has no value at some points: write one in base or set",
    "1 == 1": "column 3: 1 == 1 is the same at every point: name an axis or a key",
    "seed == 0 and 1": "column 15: 1 compares nothing; write name == 1",
}


@pytest.mark.parametrize(("condition", "message"), BAD.items())
def test_what_a_condition_may_not_say(condition, message):
    with pytest.raises(SpecError) as caught:
        chosen(parse(HEAD + AXES, "s.yaml"), condition)
    assert str(caught.value) == f"--where: {message}"
    with pytest.raises(SpecError) as caught:
        parse(f'{HEAD}{AXES}exclude: ["{condition}"]\n', "s.yaml")
    assert str(caught.value) == f"s.yaml:10:11: exclude: {message}"


def test_an_axis_asks_about_what_stands_above_it():
    below = "axes:\n  x: {values: [1], when: y == 2}\n  y: [2, 3]\n"
    with pytest.raises(SpecError) as caught:
        parse(HEAD + below, "s.yaml")
    assert str(caught.value) == (
        "s.yaml:5:26: axes.x.when asks for 'y', which axis 'y' writes at s.yaml:6: that axis "
        "goes first"
    )
    itself = "base: {z: 1}\naxes:\n  x: {levels: {A: {z: 2}}, when: z == 1}\n"
    with pytest.raises(SpecError, match=r"asks for 'z', which it writes itself"):
        parse(HEAD + itself, "s.yaml")


def test_a_value_of_another_profile_is_no_mistake():
    text = (
        "name: t\ntrainer: a:b\nexclude: [s == 'b']\naxes: {s: [a, b], seed: [0]}\n"
        "profiles: {quick: {axes: {s: [a, c]}}}\n"
    )
    assert [p.labels["s"] for p, _ in points(parse(text, "s.yaml"))] == ["a", "c"]


# ---- included points


def test_included_points_stand_beside_the_cross():
    text = AXES + "include: [{model: Plain, seed: [5, 6], lr: [1, 2]}, {scheme: joint, seed: 0}]\n"
    sweep = parse(HEAD + text, "s.yaml")
    assert labels(text)[len(EVERY) :] == ["Plain 5", "Plain 5", "Plain 6", "Plain 6", "joint 0"]
    trials = expand(sweep, None)[len(EVERY) :]
    assert [(t.seed, t.config.get("lr")) for t in trials] == [
        (5, 1),
        (5, 2),
        (6, 1),
        (6, 2),
        (0, None),
    ]
    assert trials[0].labels == {"model": "Plain", "seed": "5"}
    assert trials[0].config == {"word_dropout": 0.0, "kl": {"weight": 1}, "lr": 1}
    # A table has a row for what only an included point has.
    assert sweep.axis("seed").labels == ("0", "1", "5", "6")


def test_an_included_point_is_not_excluded_and_stands_over_levels():
    text = "axes: {s: [a, b]}\nexclude: [s == 'b']\ninclude: [{s: b, k: 1}]\n"
    trials = expand(parse(HEAD + text, "s.yaml"), None)
    assert [(t.labels, t.config) for t in trials] == [
        ({"s": "a"}, {"s": "a"}),
        ({"s": "b"}, {"s": "b", "k": 1}),
    ]


BAD_POINTS = {
    "{}": "s.yaml:10:10: include must be a list of points, not a mapping",
    "[3]": "s.yaml:10:11: a point is a mapping of axes and configuration keys, not 3",
    "[{}]": "s.yaml:10:11: a point is a mapping of axes and configuration keys, not a mapping",
    "[{model: MaxPool}]": "s.yaml:10:19: unknown level 'MaxPool' of axis model; did you mean "
    "'Max Pool'? one of Max Pool, Plain",
    "[{model: [Plain, Plain]}]": "s.yaml:10:27: level 'Plain' of axis 'model' is here twice",
    "[{model: []}]": "s.yaml:10:19: an empty list includes no level of 'model'",
    "[{seed: -1}]": "s.yaml:10:18: a seed is a whole number, 0 or more, not -1",
    "[{lr: []}]": "s.yaml:10:12: an empty list includes nothing",
}


@pytest.mark.parametrize(("text", "message"), BAD_POINTS.items())
def test_what_is_refused_in_an_included_point(text, message):
    with pytest.raises(SpecError) as caught:
        parse(f"{HEAD}{AXES}include: {text}\n", "s.yaml")
    assert str(caught.value) == message


def test_a_million_included_points_are_refused_by_arithmetic():
    many = "[" + ", ".join(map(str, range(1000))) + "]"
    with pytest.raises(SpecError, match="include adds more than 100,000 points"):
        parse(f"{HEAD}{AXES}include: [{{a: {many}, b: {many}}}]\n", "s.yaml")
