"""From a sweep to its trials: which points there are, what makes two of them one trial, and
where a configuration's faults are placed."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.design import expand, size
from sweeper.errors import EnvironmentFault, SpecError
from sweeper.spec import parse

HERE = str(Path(__file__).parent)
HEAD = "name: t\ntrainer: {function: 'a:b', config: toy_config}\nprofiles: {quick: {}}\n"
PLAIN = "name: t\ntrainer: a:b\nprofiles: {quick: {}}\n"


@pytest.fixture(autouse=True)
def toy_config(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    yield
    sys.modules.pop("toy_config", None)


def trials(text, **options):
    return expand(parse(text, "s.yaml", **options), None)


def ids(text, **options):
    return [trial.id for trial in trials(text, **options)]


def test_the_first_axis_varies_slowest():
    found = trials(PLAIN + "axes: {x: [a, b], seed: [3, 4], y: {One: {k.l: 1}}}")
    assert [trial.labels for trial in found] == [
        {"x": "a", "seed": "3", "y": "One"},
        {"x": "a", "seed": "4", "y": "One"},
        {"x": "b", "seed": "3", "y": "One"},
        {"x": "b", "seed": "4", "y": "One"},
    ]
    assert [trial.seed for trial in found] == [3, 4, 3, 4]
    assert found[2].config == {"x": "b", "k": {"l": 1}}
    assert {(trial.data_digest, trial.trainer.function) for trial in found} == {(None, "a:b")}


def test_seed_is_zero_unless_said():
    assert [trial.seed for trial in trials(PLAIN + "axes: {x: [1]}")] == [0]
    assert [trial.seed for trial in trials(PLAIN + "base: {seed: 7}")] == [7]
    assert [trial.seed for trial in trials(PLAIN, overrides=["seed=5"])] == [5]


def test_levels_stand_over_base_and_the_command_line_over_all():
    text = PLAIN + "base: {a: 1, b: 1, c: 1}\naxes: {x: {X: {b: 2, c: 2}}}"
    assert trials(text, overrides=["c=3"])[0].config == {"a": 1, "b": 2, "c": 3}


def test_configurations_are_made_effective_and_evaluation_is_apart():
    (found,) = trials(HEAD + "base: {kl: {epochs: 5}, evaluate.samples: 9}")
    assert found.config["kl"] == {"start": 0.0, "epochs": 5}
    assert found.evaluation == {"evaluate": {"samples": 9}}
    assert "evaluate" not in found.config
    assert found.data_digest == "digest of toy"


def test_what_does_nothing_makes_no_trial_of_its_own():
    lm, vae = (
        ids(HEAD + "set: {model: lm}\naxes: {pooling: [last, max]}"),
        ids(HEAD + "axes: {pooling: [last, max]}"),
    )
    assert len(set(lm)) == 1
    assert len(lm) == len(vae) == len(set(vae)) == 2  # Two points may be one trial; both are here.


def test_evaluation_settings_change_the_second_identity_only():
    (few,), (many,) = trials(HEAD), trials(HEAD, overrides=["evaluate.samples=500"])
    assert few.id == many.id
    assert few.evaluation_id != many.evaluation_id


def test_a_configuration_is_asked_about_once_whatever_the_seeds():
    import toy_config

    before = dict(toy_config.calls)
    found = trials(HEAD + "axes: {seed: [0, 1, 2], pooling: [last, max], data: [x, y]}")
    assert len(found) == 12
    assert toy_config.calls["effective"] - before["effective"] == 4
    assert toy_config.calls["corpus_digest"] - before["corpus_digest"] == 2


# ---- faults of configurations


def refused(text, error=SpecError, **options):
    with pytest.raises(error) as caught:
        trials(text, **options)
    return str(caught.value)


def test_faults_are_placed_where_their_key_was_last_written_each_once():
    assert refused(
        HEAD + "base: {lr: 0}\naxes:\n  seed: [0, 1]\n"
        "  kl: {A: {}, B: {kl.begin: 1}}\n  x: {C: {}, D: {lr: -1}}\n"
    ) == (
        "s.yaml:4:8: lr must be above 0; not 0\n"
        "s.yaml:7:19: unknown key 'begin'\n"
        "s.yaml:8:18: lr must be above 0; not -1"
    )


def test_a_fault_of_a_profile_is_placed_in_the_profile():
    text = "name: t\ntrainer: {function: 'a:b', config: toy_config}\nbase: {lr: 1}\n"
    assert refused(text + "profiles: {quick: {set: {lr: -2}}}") == (
        "s.yaml:4:26: lr must be above 0; not -2"
    )


def test_a_fault_of_the_command_line_says_so():
    assert refused(HEAD, overrides=["lr=0"]) == "--set lr: lr must be above 0; not 0"


def test_a_corpus_that_is_missing_is_a_fault_of_the_environment():
    found = refused(HEAD + "axes: {data: [toy, absent]}", EnvironmentFault)
    assert found == (
        "s.yaml:4:20: there is no corpus 'absent'\nall else is right; trials of this sweep: 2"
    )
    both = refused(HEAD + "base: {data: absent}\naxes: {lr: [1, -1]}")
    assert both == (
        "s.yaml:5:16: lr must be above 0; not -1\ns.yaml:4:8: there is no corpus 'absent'"
    )


def test_a_fault_without_a_written_key_is_placed_at_the_trainer(monkeypatch):
    import toy_config

    monkeypatch.setitem(toy_config.DEFAULTS, "data", "absent")
    said = refused(HEAD, EnvironmentFault)
    assert said.splitlines()[0] == "s.yaml:2:1: there is no corpus 'absent'"


def test_a_config_module_that_is_not_there():
    text = HEAD.replace("toy_config", "no_such_module")
    assert refused(text).startswith(
        "s.yaml:2:1: the trainer's config module 'no_such_module' cannot be imported: "
    )


# ---- sizes


def test_a_grid_too_large_is_refused_by_arithmetic():
    axis = "[" + ", ".join(map(str, range(1000))) + "]"
    text = f"{PLAIN}axes: {{a: {axis}, b: {axis}, c: {axis}}}"
    start = time.perf_counter()
    assert refused(text) == (
        "s.yaml:4:8: 1,000,000,000 trials (1000 a x 1000 b x 1000 c) are more than 1,000,000"
    )
    assert time.perf_counter() - start < 2
    assert size(parse(text, "s")) == 10**9


@pytest.mark.slow
def test_a_hundred_thousand_trials_take_seconds():
    axis = "[" + ", ".join(f"{n}" for n in range(1, 101)) + "]"
    text = (
        f"{HEAD}axes: {{lr: {axis}, seed: {axis}, kl.epochs: [{', '.join(map(str, range(10)))}]}}"
    )
    start = time.perf_counter()
    found = trials(text)
    assert len({trial.id for trial in found}) == len(found) == 100_000
    assert time.perf_counter() - start < 20


# ---- identity does not depend on how a file is written

CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "lr": st.sampled_from([0.1, 0.5, 2]),
        "pooling": st.sampled_from(["avg", "max"]),
        "kl.start": st.sampled_from([0.25, 0.5]),
        "kl.epochs": st.integers(1, 5),
        "data": st.sampled_from(["x", "y"]),
    },
)


def spelled(value, dice):
    """One of the ways to write a value."""
    if isinstance(value, str):
        return dice.choice([value, f'"{value}"', f"'{value}'"])
    ways = [repr(value), repr(float(value)), f"{float(value):e}", f"+{value}"]
    return dice.choice(ways)


def mapping(config, dice):
    """One of the ways to write a configuration: key order, quotes, nesting, comments."""
    lines = []
    for key, value in dice.sample(sorted(config.items()), len(config)):
        section, dot, leaf = key.partition(".")
        nested_twice = sum(k.startswith("kl.") for k in config) > 1
        written = spelled(value, dice)
        if dot and not nested_twice and dice.random() < 0.5:
            lines.append(f"  {section}: {{{leaf}: {written}}}")
        else:
            lines.append(f"  {dice.choice([key, repr(key)])}: {written}")
        if dice.random() < 0.3:
            lines.append("  # a comment")
    return "\n".join(lines) or "  {}"


@given(base=CONFIGS, level=CONFIGS, seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_spelling_does_not_change_ids(base, level, seed):
    dice = random.Random(seed)
    one, other = (
        ids(
            f"{HEAD}{dice.choice(['base', 'set'])}:\n{mapping(base, dice)}\n"
            f"axes: {{m: {{A: {{}}, {dice.choice(['B', 'Other name'])}:\n{flow(level, dice)}}}}}\n"
        )
        for _ in range(2)
    )
    assert one == other


def flow(config, dice):
    items = dice.sample(sorted(config.items()), len(config))
    return "  {" + ", ".join(f"{key}: {spelled(value, dice)}" for key, value in items) + "}"


@given(config=CONFIGS, moved=st.sampled_from(["lr", "pooling", "kl.start", "kl.epochs"]))
@settings(max_examples=40, deadline=None)
def test_a_value_moved_from_base_into_every_level_changes_nothing(config, moved):
    dice = random.Random(0)
    value = {"lr": 3, "pooling": "avg", "kl.start": 0.75, "kl.epochs": 7}[moved]
    rest = {key: v for key, v in config.items() if key != moved}
    levels = "axes: {{data: {{A: {{data: x{0}}}, B: {{data: y{0}}}}}}}\n"
    rest.pop("data", None)
    in_base = f"{HEAD}base:\n{mapping({**rest, moved: value}, dice)}\n" + levels.format("")
    in_levels = f"{HEAD}base:\n{mapping(rest, dice)}\n" + levels.format(f", {moved}: {value}")
    assert ids(in_base) == ids(in_levels)


@given(config=CONFIGS, other=CONFIGS)
@settings(max_examples=100, deadline=None)
def test_ids_are_equal_exactly_where_effective_configurations_are(config, other):
    import toy_config

    dice = random.Random(0)
    made = [trials(f"{HEAD}base:\n{mapping(c, dice)}\n")[0] for c in (config, other)]
    effective = [{**toy_config.DEFAULTS, **nested(c)} for c in (config, other)]
    for one in effective:
        one["kl"] = {**toy_config.DEFAULTS["kl"], **one["kl"]}
    assert (made[0].id == made[1].id) == (effective[0] == effective[1])


def nested(config):
    flat = {key: value for key, value in config.items() if "." not in key}
    inner = {key[3:]: value for key, value in config.items() if key.startswith("kl.")}
    return {**flat, "kl": inner}
