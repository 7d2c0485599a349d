"""What a trial is does not depend on how a file says it, and does on every value in it.

Over the shipped sweeps, written anew in other words, and over random small ones.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sweeper.design import expand
from sweeper.spec import parse, read
from sweeper.spec.levels import FORMS
from sweeper.spec.loader import load
from sweeper.trial import flatten

SWEEPS = Path(__file__).parents[2] / "sweeps"
FILES = sorted(path for path in SWEEPS.glob("*.yaml") if path.stem != "paper")
PROFILES = ["quick", "paper"]
FLOW = re.compile(r"[\w./]+")


@pytest.fixture(autouse=True)
def own_trainers(monkeypatch):
    monkeypatch.syspath_prepend(str(SWEEPS))  # of own_trainer.yaml


def keys(sweep):
    """The identities of all points, in no order. Corpora that are not here have no digest."""
    return sorted(trial.key for trial in expand(sweep, None, without_data=True))


def profile_of(path, profile):
    return profile if profile in path.read_text() or path.stem != "own_trainer" else "quick"


# ---- written anew


def anew(node, dice, path=()):
    """A node of a sweep file as YAML in one line, in other words; see `entry`."""
    if node.is_mapping:
        entries = dict(node.value)
        if is_configuration(path, entries):
            return said(regrouped(dotted(entries), dice), dice)
        order = list(entries) if is_order(path) else dice.sample(list(entries), len(entries))
        inner = [f"{name(key, dice)}: {anew(entries[key], dice, (*path, key))}" for key in order]
        return "{" + ", ".join(inner) + "}"
    if node.is_list:
        return "[" + ", ".join(anew(item, dice, (*path, "-")) for item in node.value) + "]"
    return literal(node, dice, as_it_is=path[-1] == "-" or path[0] in QUERIES)


QUERIES = ("tables", "figures", "claims")  # They name labels, as these are written.


def is_configuration(path, entries):
    """base, set, and levels in the usual form."""
    if path[-1] in ("base", "set"):
        return True
    if "axes" not in path or {"set", "note", "override", "trainer"} & entries.keys():
        return False
    _, *below = path[path.index("axes") + 1 :] or [None]  # of an axis
    if below[:1] in (["also"], ["levels"]):
        return len(below) == 2
    return len(below) == 1 and below[0] not in (*FORMS, "only")


def is_order(path):
    """Axes and their levels: their order is that of the trials, and of what wins. Keys that
    move together: their order is that of their labels."""
    return path[-1] in ("axes", "zip") or path[-2:-1] == ("axes",)


def dotted(entries, prefix=""):
    flat = {}
    for key, child in entries.items():
        if child.is_mapping:
            flat |= dotted(child.value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = child
    return flat


def regrouped(flat, dice):
    """Dotted keys, some of them under their section, in another order."""
    grouped = {}
    for key in dice.sample(list(flat), len(flat)):
        section, dot, rest = key.partition(".")
        if dot and dice.random() < 0.5:
            grouped.setdefault(section, {})[rest] = flat[key]
        else:
            grouped[key] = flat[key]
    return grouped


def said(grouped, dice):
    inner = []
    for key, child in grouped.items():
        nested = isinstance(child, dict)
        value = said(regrouped(child, dice), dice) if nested else value_of(child, dice)
        inner.append(f"{name(key, dice)}: {value}")
    return "{" + ", ".join(inner) + "}"


def value_of(node, dice):
    if node.is_list:
        return "[" + ", ".join(value_of(item, dice) for item in node.value) + "]"
    return literal(node, dice)


def name(key, dice):
    return dice.choice([key, f'"{key}"', f"'{key}'"]) if FLOW.fullmatch(key) else quoted(key)


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def literal(node, dice, *, as_it_is=False):
    """A scalar in another spelling. `as_it_is`: a label, the name of one, or a word of a
    command, each of which is its text."""
    value = node.value
    if isinstance(value, str):
        plain = FLOW.fullmatch(value) and load(f"a: {value}", "").value["a"].value == value
        double = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return dice.choice([quoted(value), double, *[value] * bool(plain)])
    if as_it_is or value is None or isinstance(value, bool):
        return node.text if node.text else "null"
    return dice.choice(numerals(value))


def numerals(value):
    """1e-3 as 0.001, 0.0010, 1.0e-03 and +0.001."""
    ways = [repr(value), repr(float(value)), f"{float(value):.17e}", f"+{value!r}"]
    if isinstance(value, int):
        return [repr(value), f"{value:_}"]  # 5.0 is no whole number of epochs
    return [way for way in ways if float(way) == value]


def rewritten(text, dice, called=None):
    """A whole file anew: its entries in another order, with comments and empty lines."""
    root = load(text, "file")
    entries = dice.sample(list(root.value), len(root.value))
    lines = []
    for key in entries:
        value = anew(root.value[key], dice, (key,))
        if key == "name" and called:
            value = called
        lines += dice.choice([[], ["# a comment"], ["", "   # another: one"]])
        lines.append(f"{name(key, dice)}:{dice.choice([' ', '   ', chr(10) + '  '])}{value}")
        lines += dice.choice([[], [""], ["", ""]])
    return "\n".join(lines) + "\n"


@pytest.mark.fault("C2")
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_shipped_files_in_other_words(path, profile, tmp_path):
    profile = profile_of(path, profile)
    folder = tmp_path / "project/sweeps"  # Where in a project own code lies is part of it.
    shutil.copytree(SWEEPS, folder)
    (tmp_path / "project/pyproject.toml").touch()
    dice = random.Random(f"{path.stem} {profile}")
    for file in folder.rglob("*.yaml"):
        text = file.read_text()
        called = "renamed" if file.name == path.name else None
        is_part = "trainer" not in text and "import" not in text
        new = part_rewritten(text, dice) if is_part else rewritten(text, dice, called)
        assert new != text
        file.write_text(new)
    moved = (folder / path.name).rename(folder / "renamed.yaml")
    assert keys(read(moved, profile=profile)) == keys(read(path, profile=profile))


def part_rewritten(text, dice):
    """A base, or published values: one mapping."""
    root = load(text, "part")
    if all(key.startswith("table") for key in root.value):
        return "# published\n" + text
    return "# in other words\n" + said(regrouped(dotted(root.value), dice), dice) + "\n"


# ---- random small sweeps

CONFIG = "name: {name}\ntrainer: {{function: trainers.text_vae:train, config: trainers.config}}\n"
VALUES = {
    "data": ["synthetic_topics", "synthetic_styles"],
    "model": ["seq_vae", "language_model"],
    "pooling": ["last", "max", "avg"],
    "word_dropout": [0.0, 0.25, 0.5],
    "dropout": [0.1, 0.5],
    "size.latent": [8, 16],
    "size.embedding": [16, 32],
    "kl.schedule": ["linear", "constant", "cyclical"],
    "kl.weight": [0.5, 1.0],
    "kl.start": [0.0, 0.25],
    "kl.cycles": [2, 3],
    "optim.lr": [1.0, 0.001],
    "optim.rule": ["plateau", "milestones"],
    "optim.patience": [1, 2],
    "optim.milestones": [[0.5], [0.5, 0.75]],
    "flow.length": [1, 3],
    "limits.train": [100, None],
    "evaluate.samples": [10, 500],
    "evaluate.active_threshold": [0.01, 0.1],
}

configs = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(values) for key, values in VALUES.items()}
).map(lambda config: {"data": "synthetic_topics", **config})


@st.composite
def designs(draw):
    """base, and axes that write different keys: axis -> label -> configuration."""
    order = draw(st.permutations(list(VALUES)))
    axes, used = {}, 0
    for number in range(draw(st.integers(1, 3))):
        written = order[used : used + draw(st.integers(1, 2))]
        used += len(written)
        levels = draw(st.integers(1, 2))
        axes[f"axis{number}"] = {
            f"level{n}": {key: VALUES[key][n] for key in written} for n in range(levels)
        }
    base = {key: value for key, value in draw(configs).items() if key not in order[:used]}
    if "data" not in order[:used]:
        base.setdefault("data", "synthetic_topics")
    return {"base": base, "axes": axes, "seed": draw(st.integers(0, 3))}


def file_of(design, called="small"):
    sections = {"base": {**design["base"], "seed": design["seed"]}, "axes": design["axes"]}
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in sections.items()]
    return CONFIG.format(name=called) + "profiles: {quick: {}}\n" + "".join(lines)


def trials(design, *overrides, source="small.yaml", called="small", root=None):
    text = design if isinstance(design, str) else file_of(design, called)
    return expand(parse(text, source, overrides=overrides), root)


def keys_of(*arguments, **options):
    return sorted(trial.key for trial in trials(*arguments, **options))


often = settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.mark.fault("C2")
@given(design=designs(), seed=st.integers(0, 2**32))
@often
def test_other_words_and_names(design, seed):
    dice = random.Random(seed)
    text = rewritten(file_of(design), dice, called="renamed")
    assert keys_of(text, source="another.yaml") == keys_of(design)


@given(design=designs())
@often
def test_other_axes_and_labels(design):
    renamed = {
        f"{axis}_renamed": {f"{label} anew": config for label, config in levels.items()}
        for axis, levels in design["axes"].items()
    }
    assert keys_of({**design, "axes": renamed}) == keys_of(design)


@given(design=designs(), dice=st.randoms(use_true_random=False))
@often
def test_axes_and_levels_in_another_order(design, dice):
    def shuffled(mapping):
        return dict(dice.sample(list(mapping.items()), len(mapping)))

    axes = {axis: shuffled(levels) for axis, levels in shuffled(design["axes"]).items()}
    assert keys_of({**design, "axes": axes}) == keys_of(design)


@given(design=designs(), dice=st.randoms(use_true_random=False))
@often
def test_a_value_of_the_base_in_every_level_of_an_axis(design, dice):
    assume(design["base"])
    key = dice.choice(list(design["base"]))
    axis = dice.choice(list(design["axes"]))
    base = {k: value for k, value in design["base"].items() if k != key}
    levels = {
        label: {**config, key: design["base"][key]}
        for label, config in design["axes"][axis].items()
    }
    moved = {**design, "base": base, "axes": {**design["axes"], axis: levels}}
    assert keys_of(moved) == keys_of(design)


@given(design=designs(), other=st.integers(0, 3))
@often
def test_the_seed(design, other):
    ids = {trial.id for trial in trials(design)}
    others = {trial.id for trial in trials({**design, "seed": other})}
    assert (ids == others) == (other == design["seed"])
    assert ids.isdisjoint(others) or ids == others


@given(design=designs(), key=st.sampled_from(list(VALUES)), which=st.integers(0, 1))
@often
def test_any_value(design, key, which):
    """Of each trial, the id changes where the key is part of its effective configuration with
    another value, the evaluation's where it is part of that; an inert key changes neither."""
    value = VALUES[key][which]
    check(trials(design), trials(design, f"{key}={json.dumps(value)}"), key, value)


def check(before, after, key, value):
    changed = set()
    for one, other in zip(before, after, strict=True):
        trained, evaluated = flatten(one.config), flatten(one.evaluation)
        assert (one.id == other.id) == (key not in trained or trained[key] == value)
        same = key not in evaluated or evaluated[key] == value
        # Of a trial whose kind has changed (a language model now), other settings are read.
        if key in evaluated or one.id == other.id:
            assert (one.evaluation_id == other.evaluation_id) == same
        changed |= {one.id != other.id, one.evaluation_id != other.evaluation_id}
    return changed


OVERRIDES = {
    "dropout": 0.45, "word_dropout": 0.35, "pooling": "abs", "size.latent": 7, "size.decoder": 33,
    "kl.weight": 0.3, "kl.start": 0.05, "kl.cycles": 7, "kl.ratio": 0.9, "optim.lr": 0.7,
    "optim.epochs": 77, "optim.patience": 9, "optim.decay": 0.9, "aggressive.inner": 3,
    "critic.hidden": 5, "flow.length": 9, "wasserstein.mmd": 3.0, "init.scale": 0.5,
    "evaluate.samples": 3, "evaluate.own_codes": 5, "evaluate.active_threshold": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("key", OVERRIDES)
def test_any_value_of_the_shipped_sweeps(key):
    both = set()
    for path, profile in product(FILES, PROFILES):
        sweep = read(path, profile=profile_of(path, profile))
        # Where a condition asks for the key, there are other trials.
        asks = sweep.search or sweep.exclude or any(axis.when for axis in sweep.axes)
        if sweep.trainer.config == "trainers.config" and not asks:
            after = read(path, profile=profile, overrides=[f"{key}={OVERRIDES[key]}"])
            made = [expand(some, None, without_data=True) for some in (sweep, after)]
            both |= check(*made, key, OVERRIDES[key])
    assert True in both  # There is a sweep in which it matters.


def test_an_inert_key_changes_nothing():
    text = CONFIG.format(name="t") + "profiles: {quick: {}}\nset: {data: synthetic_topics, %s}\n"
    (plain,) = trials(text % "model: language_model")
    for inert in ("pooling: max", "kl.start: 0.3", "scheme: aggressive", "evaluate.samples: 9"):
        (other,) = trials(text % f"model: language_model, {inert}")
        assert other.key == plain.key
    (read_,) = trials(text % "model: seq_vae, pooling: max")
    assert read_.id != trials(text % "model: seq_vae")[0].id


# ---- data

CORPUS = {"train": b"a b c\na b\n", "valid": b"a d\n", "test": b"b e e a\na b\n"}


@pytest.mark.fault("C4")
@pytest.mark.parametrize("split", CORPUS)
def test_one_byte_of_a_data_file(split, tmp_path):
    for name_, content in CORPUS.items():
        (tmp_path / "tiny").mkdir(exist_ok=True)
        (tmp_path / "tiny" / f"{name_}.txt").write_bytes(content)
    design = {"base": {"data": "tiny"}, "axes": {"p": {"A": {}, "B": {"pooling": "max"}}}}
    design["seed"] = 0
    before = trials(design, root=tmp_path)
    file = tmp_path / "tiny" / f"{split}.txt"
    file.touch()
    assert keys_of(design, root=tmp_path) == sorted(trial.key for trial in before)
    file.write_bytes(CORPUS[split].replace(b"a", b"z", 1))
    after = trials(design, root=tmp_path)
    assert {trial.id for trial in before}.isdisjoint(trial.id for trial in after)
    assert [t.evaluation_id for t in before] == [t.evaluation_id for t in after]
    file.write_bytes(CORPUS[split])
    assert keys_of(design, root=tmp_path) == sorted(trial.key for trial in before)


def test_where_a_data_file_is_does_not_matter(tmp_path):
    design = {"base": {"data": "tiny"}, "axes": {"p": {"A": {}}}, "seed": 0}
    found = []
    for place in (tmp_path / "here", tmp_path / "there"):
        (place / "tiny").mkdir(parents=True)
        for name_, content in CORPUS.items():
            (place / "tiny" / f"{name_}.txt").write_bytes(content)
        found.append(keys_of(design, root=place))
    assert found[0] == found[1]
