"""The forms in which an axis says its levels."""

from __future__ import annotations

import pytest

from sweeper.errors import SpecError
from sweeper.spec import parse
from sweeper.trial import TrainerRef

HEAD = "name: t\ntrainer: a.b:c\nprofiles: {quick: {}}\n"  # 3 lines


def axis(text: str):
    (found,) = parse(f"{HEAD}axes: {{{text}}}\n", "s.yaml").axes
    return found


def values(text: str) -> list:
    found = axis(text)
    return [level.set[found.name].value for level in found.levels]


NUMBERS = {
    "x: {values: [2, a, true, 1e-3]}": ([2, "a", True, 0.001], ["2", "a", "true", "1e-3"]),
    "x: {range: [0, 3]}": ([0, 1, 2, 3], ["0", "1", "2", "3"]),
    "x: {range: [5, 5]}": ([5], ["5"]),
    "x: {range: [0, 1, 0.25]}": ([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"]),
    "x: {range: [0.1, 0.4, 0.1]}": ([0.1, 0.2, 0.3, 0.4], ["0.1", "0.2", "0.3", "0.4"]),
    "x: {range: [-2, 2, 2]}": ([-2, 0, 2], ["-2", "0", "2"]),
    "x: {range: [0, 2_000, 1_000]}": ([0, 1000, 2000], ["0", "1000", "2000"]),
    "x: {linspace: [0, 1, 5]}": ([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"]),
    "x: {linspace: [1, 0, 3]}": ([1, 0.5, 0], ["1", "0.5", "0"]),
    "x: {logspace: [1e-4, 1e-1, 4]}": (
        [0.0001, 0.001, 0.01, 0.1],
        ["0.0001", "0.001", "0.01", "0.1"],
    ),
    "x: {logspace: [1, 8, 4]}": ([1, 2, 4, 8], ["1", "2", "4", "8"]),
}


@pytest.mark.parametrize(("text", "expected"), NUMBERS.items())
def test_levels_that_are_values_of_the_axis_s_own_key(text, expected):
    found = axis(text)
    assert (values(text), list(found.labels)) == expected
    assert [type(value) for value in values(text)] == [type(value) for value in expected[0]]
    assert found.plain


def test_keys_that_move_together():
    found = axis("lr: {zip: {optim.lr: [1.0, 0.5], optim.decay: [0.5, 7e-1]}}")
    assert [{k: s.value for k, s in level.set.items()} for level in found.levels] == [
        {"optim.lr": 1.0, "optim.decay": 0.5},
        {"optim.lr": 0.5, "optim.decay": 0.7},
    ]
    assert found.labels == ("1.0, 0.5", "0.5, 7e-1")
    assert not found.plain


def test_labelled_levels_in_three_ways():
    short = axis("m: {Plain: {}, Max: {pooling: max}}")
    long = axis("m: {Plain: {}, Max: {set: {pooling: max}, note: n, override: true}}")
    under = axis("m: {levels: {Plain: {}, Max: {pooling: max}}}")
    assert short.labels == long.labels == under.labels == ("Plain", "Max")
    for found in (short, long, under):
        assert [dict(level.set) for level in found.levels][1]["pooling"].value == "max"
    assert (long.levels[1].note, long.levels[1].override) == ("n", True)


def test_a_level_may_have_a_trainer_of_its_own():
    theirs = "{trainer: {command: [python, x.py]}, set: {lr: 1}}"
    text = f"m: {{Ours: {{}}, Theirs: {theirs}, Reg: {{trainer: r}}}}"
    ours, theirs, registered = axis(text).levels
    assert ours.trainer is None
    assert theirs.trainer.command == ("python", "x.py")
    assert registered.trainer == TrainerRef(function="r")


def test_only_and_also_keep_what_the_axis_was():
    text = (
        f"{HEAD[: -len('profiles: {quick: {}}') - 1]}"
        "axes:\n  s: [a, b]\n  x: {values: [1, 2, 3], when: s == 'a'}\n"
        "profiles: {quick: {axes: {x: {only: [3, 1]}}}}\n"
    )
    found = parse(text, "s.yaml").axis("x")
    assert found.labels == ("3", "1")
    assert found.plain
    assert str(found.when) == "s == 'a'"


BAD = {
    "x: {range: [0, 1, 0.3]}": "s.yaml:4:19: axes.x.range: from 0 to 1 is no whole number of "
    "steps of 0.3",
    "x: {range: [1, 0]}": "s.yaml:4:19: axes.x.range: it goes up, in steps above 0",
    "x: {range: [0, a]}": "s.yaml:4:19: axes.x.range must be [from, to] or [from, to, step], "
    "not a list",
    "x: {range: [0, 999_999_999]}": "s.yaml:4:19: axes.x.range: 1,000,000,000 levels are more "
    "than 20,000",
    "x: {linspace: [0, 1, 1]}": "s.yaml:4:22: axes.x.linspace: two different ends, and how many "
    "values there are: 2 or more",
    "x: {linspace: [0, 1, 1_000_000]}": "s.yaml:4:22: axes.x.linspace: 1,000,000 levels are more "
    "than 20,000",
    "x: {logspace: [0, 1, 3]}": "s.yaml:4:22: axes.x.logspace: both ends must be above 0",
    "x: {values: []}": "s.yaml:4:20: axis 'x' has no levels",
    "x: {values: 3}": "s.yaml:4:20: axes.x.values must be a list of values, not 3",
    "x: {values: [1], range: [0, 1]}": "s.yaml:4:25: axes.x says its levels by 'values' and by "
    "'range'; one is enough",
    "x: {values: [1], whe: a}": "s.yaml:4:25: unknown key 'whe' in axes.x; did you mean 'when'? "
    "one of levels, linspace, logspace, range, values, when, zip",
    "x: {A: {}, when: a}": "s.yaml:4:19: axes.x: beside 'when' the levels stand under 'levels' "
    "(or 'values')",
    "x: {zip: {a: [1, 2], b: [1]}}": "s.yaml:4:32: 'b' has 1 values and 'a' has 2: zipped keys "
    "move together",
    "x: {zip: {a: 1}}": "s.yaml:4:21: zip.a must be a list of values, not 1",
    "x: {zip: {a: [[1]]}}": "s.yaml:4:22: zip.a holds single values, not a list",
    "x: {zip: {}}": "s.yaml:4:17: axis 'x' has no levels",
    "x: {levels: {}}": "s.yaml:4:20: axis 'x' has no levels",
    "x: {levels: [1]}": "s.yaml:4:20: axes.x.levels must be a mapping, not a list",
    "x: {A: {trainer: {functoin: a}}}": "s.yaml:4:16: trainer needs either 'function' or "
    "'command'\ns.yaml:4:26: unknown key 'functoin' in trainer; did you mean 'function'? one of "
    "command, config, function",
}


@pytest.mark.parametrize(("text", "message"), BAD.items())
def test_what_is_refused(text, message):
    with pytest.raises(SpecError) as caught:
        axis(text)
    assert str(caught.value) == message
