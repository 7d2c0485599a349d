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
    with pytest.raises(SpecError, match=r"^s.yaml:10:11: no trial is left: exclude takes all$"):
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
    text = AXES + "include: [{model: Plain, seed: [5, 6], lr: 1}, {scheme: joint, seed: 0}]\n"
    sweep = parse(HEAD + text, "s.yaml")
    assert labels(text)[len(EVERY) :] == ["Plain 5", "Plain 6", "joint 0"]
    trials = expand(sweep, None)[len(EVERY) :]
    assert [(t.seed, t.config.get("lr")) for t in trials] == [
        (5, 1),
        (6, 1),
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
    with pytest.raises(SpecError, match="include adds more than 20,000 points"):
        parse(f"{HEAD}{AXES}include: [{{a: {many}, b: {many}}}]\n", "s.yaml")


# ---- what a reader would be surprised by


def said(text: str, **options) -> str:
    with pytest.raises(SpecError) as caught:
        expand(parse(HEAD + text, "s.yaml", **options), None)
    return str(caught.value)


def test_an_included_point_may_not_pass_for_another_one():
    text = "axes: {model: {A: {x: 1}, B: {x: 5}}, seed: [0, 1]}\n"
    assert said(text + "include: [{model: A, x: 100, seed: [0, 1]}]\n") == (
        "s.yaml:5:11: this point has the labels of another one (model=A, seed=0), and differs in "
        "x: give it a level of its own on some axis\n"
        "s.yaml:5:11: this point has the labels of another one (model=A, seed=1), and differs in "
        "x: give it a level of its own on some axis"
    )
    twice = text + "include: [{model: A, seed: 7, x: [1, 2]}]\n"
    assert "(model=A, seed=7), and differs in x" in said(twice)
    apart = text + "exclude: [model == 'A']\ninclude: [{model: A, x: 100, seed: [0, 1]}]\n"
    assert labels(apart) == ["B 0", "B 1", "A 0", "A 1"]


def test_an_included_point_names_an_axis_in_either_spelling():
    text = "axes: {kl.schedule: [none, cyclical], seed: [0]}\n"
    for spelling in ("kl: {schedule: linear, start: 1}", "kl.schedule: linear, kl.start: 1"):
        (point,) = parse(f"{HEAD}{text}include: [{{{spelling}, seed: 0}}]\n", "s.yaml").include
        assert point.labels == {"kl.schedule": "linear", "seed": "0"}
        assert point.further["kl.start"].value == 1


def test_the_file_s_own_points_are_of_the_profile_that_is_asked_for():
    text = (
        "name: t\ntrainer: a:b\naxes: {dataset: {Y: {d: y}}}\ninclude: [{dataset: Y, x: 1, s: 2}]\n"
        "profiles: {quick: {axes: {dataset: {T: {d: t}}}}, paper: {}}\n"
    ).replace("include", "exclude: [dataset == 'Y']\ninclude")
    assert len(list(points(parse(text, "s.yaml", profile="paper")))) == 1
    with pytest.raises(SpecError, match="unknown level 'Y' of axis dataset; one of T"):
        parse(text, "s.yaml")


def test_what_an_included_point_writes_can_be_asked_for():
    text = AXES + "include: [{seed: 5, lr: 1}, {seed: 6, pooling: max, lr: 2}]\n"
    sweep = parse(HEAD + text, "s.yaml")
    for condition, count in {"lr == 1": 1, "lr > 0": 2, "seed == 6": 1, "lr == null": 12}.items():
        holds = chosen(sweep, condition)
        assert sum(holds(point) for point, _ in points(sweep)) == count


def test_axes_that_are_mostly_absent_are_counted_as_they_are():
    """5 optimisers with 20 learning rates each are 100 trials, not 5 x 20^5."""
    names = ("sgd", "adam", "rmsprop", "lion", "muon")
    lines = [f"  {name}.lr: {{linspace: [0.1, 1, 20], when: opt == '{name}'}}\n" for name in names]
    text = f"axes:\n  opt: [{', '.join(names)}]\n{''.join(lines)}"
    assert len(expand(parse(HEAD + text, "s.yaml"), None)) == 100
    endless = text + "  x: {range: [1, 10_000]}\n  y: {range: [1, 10_000]}\n"
    assert said(endless).startswith("s.yaml:5:3: more than 1,000,000 trials (5 opt x 20 sgd.lr x")


def test_a_name_alone_is_a_condition_only_where_it_is_true_or_false():
    text = "base: {tied: true}\naxes: {on: [true, false], model: {A: {}}, seed: [0, 1]}\n"
    sweep = parse(HEAD + text, "s.yaml")
    for condition, count in {"on": 2, "not on": 2, "tied and on": 2, "true": 4}.items():
        holds = chosen(sweep, condition)
        assert sum(holds(point) for point, _ in points(sweep)) == count
    for name in ("model", "seed"):
        with pytest.raises(SpecError) as caught:
            chosen(sweep, f"not {name}")
        assert str(caught.value) == (
            f"--where: column 5: {name!r} is compared with something: write {name} == ..."
        )


def test_an_absent_axis_is_null_whatever_base_says_to_its_key():
    text = (
        "base: {c: 4}\naxes:\n  s: [lin, cyc]\n  c: {values: [2, 4], when: s == 'cyc'}\n"
        "exclude: [c == 4]\n"
    )
    assert labels(text) == ["lin", "cyc 2"]


def test_a_key_that_some_levels_of_a_conditional_axis_leave_out_is_no_ground_for_a_condition():
    text = (
        "axes:\n  s: [lin, cyc]\n  m: {levels: {A: {k: 1}, B: {}}, when: s == 'cyc'}\n"
        "exclude: [k != 1]\n"
    )
    assert "exclude: column 1: 'k' has no value at some points: write one in base" in said(text)


def test_text_and_numbers_are_not_compared():
    with pytest.raises(SpecError, match="'seed' is a number, never text: write it without quotes"):
        chosen(parse(HEAD + AXES, "s.yaml"), "seed == '0'")
    with pytest.raises(SpecError, match=r"unknown axis or configuration key 'None'.*; write null"):
        chosen(parse(HEAD + AXES, "s.yaml"), "kl.cycles == None")


def test_axes_that_never_meet_may_write_one_key():
    text = (
        "axes:\n  s: [L, C]\n  lin: {levels: {a: {w: 1}, b: {w: 2}}, when: s == 'L'}\n"
        "  cyc: {levels: {a: {w: 3}}, when: s == 'C'}\n"
    )
    assert labels(text) == ["L a", "L b", "C a"]
    meeting = text.replace("s == 'C'", "s != 'M'").replace("[L, C]", "[L, C, M]")
    assert said(meeting) == (
        "s.yaml:7:22: 'w' is 3 here and 1 at s.yaml:6, and axis 'cyc' meets that at a point; "
        "say 'override: true' in this level to let it win"
    )


def test_two_axes_that_name_trainers_are_at_odds():
    text = "axes:\n  d: {a: {trainer: x:y}, b: {}}\n  e: {p: {trainer: x:z}, q: {}}\n"
    assert said(text) == (
        "s.yaml:6:11: axes 'e' and 'd' both name trainers; say 'override: true' in this level to "
        "let it win"
    )


def test_a_file_whose_levels_all_name_trainers_needs_none_of_its_own():
    text = "name: t\naxes: {d: {a: {trainer: x:y}, b: {trainer: x:z}}}\nprofiles: {quick: {}}\n"
    trials = expand(parse(text, "s.yaml"), None)
    assert [trial.trainer.function for trial in trials] == ["x:y", "x:z"]


def test_set_says_a_key_and_where_a_level():
    text = "axes: {model: {A: {x: 1}, B: {x: 2}}}\n"
    assert said(text, overrides=["model=A"]) == (
        "--set model: this is an axis; --where \"model == 'A'\" chooses one of its levels"
    )


def test_also_does_not_make_a_label_lie():
    text = (
        "name: t\ntrainer: a:b\naxes: {kl: [none, lin]}\n"
        "profiles: {quick: {axes: {kl: {also: {none: {kl: cyc}}}}}}\n"
    )
    with pytest.raises(SpecError, match="'kl' is what the label 'none' says"):
        parse(text, "s.yaml")


def test_a_replaced_axis_keeps_its_condition():
    text = (
        "name: t\ntrainer: a:b\naxes:\n  s: [lin, cyc]\n  c: {values: [2, 4], when: s == 'cyc'}\n"
        "profiles:\n  quick: {axes: {c: {values: [8]}}}\n"
        "  all: {axes: {c: {values: [8], when: 'true'}}}\n"
    )
    for profile, expected in {"quick": ["lin", "cyc 8"], "all": ["lin 8", "cyc 8"]}.items():
        sweep = parse(text, "s.yaml", profile=profile)
        assert [" ".join(p.labels.values()) for p, _ in points(sweep)] == expected


def test_where_a_trainer_lies_is_part_of_it(tmp_path):
    """Two folders of one project, each with a train.py, and one store."""
    (tmp_path / "pyproject.toml").touch()
    text = "name: t\ntrainer: {command: [python, train.py]}\nprofiles: {quick: {}}\n"
    local = "name: t\ntrainer: train:go\nprofiles: {quick: {}}\n"
    found = {}
    for folder in ("one", "two", "."):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "train.py").touch()
        for kind, content in {"command": text, "function": local}.items():
            (trial,) = expand(parse(content, tmp_path / folder / "s.yaml"), None)
            found[folder, kind] = trial
    assert len({trial.id for trial in found.values()}) == 6
    assert found["one", "command"].trainer.identity == ["one/", "python", "train.py"]
    assert found["two", "function"].trainer.identity == "two/train:go"
    assert found[".", "function"].trainer.identity == "train:go"


def test_a_failed_import_is_the_only_thing_that_is_said():
    text = "name: t\nimport: {from: none.yaml, take: [trainer, profiles, axes]}\n"
    with pytest.raises(SpecError) as caught:
        parse(text, "s.yaml")
    assert str(caught.value) == "s.yaml:2:16: there is no file 'none.yaml'"
