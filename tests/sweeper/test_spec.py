"""The sweep language: what a file means, and what is wrong with one, said with its place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sweeper.errors import EnvironmentFault, Mark, SpecError
from sweeper.spec import parse, read
from sweeper.spec.sweep import (
    Best,
    Budget,
    Delta,
    Limits,
    Metric,
    Reference,
    RelativeTo,
    Resources,
    Significance,
    TableSpec,
)

HEAD = "name: t\ntrainer: a.b:c\nprofiles: {quick: {}}\n"  # 3 lines


def sweep(text, **options):
    return parse(HEAD + text, "s.yaml", **options)


def written(settings):
    return {key: setting.value for key, setting in settings.items()}


def levels(found, axis):
    return {level.label: written(level.set) for level in found.axis(axis).levels}


def said(text, source="s.yaml", **options):
    with pytest.raises(SpecError) as caught:
        parse(text, source, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


# ---- what a file means


def test_a_small_file():
    found = sweep(
        "description: small\nbase: {lr: 0.1, kl: {start: 0}}\naxes: {pooling: [last, max]}\n"
    )
    assert (found.name, found.profile, found.source) == ("t", "quick", Path("s.yaml"))
    assert (found.trainer.function, found.trainer.config) == ("a.b:c", None)
    assert found.description == "small"
    assert written(found.base) == {"lr": 0.1, "kl.start": 0}
    assert found.base["kl.start"].mark == Mark("s.yaml", 5, 22)
    assert levels(found, "pooling") == {"last": {"pooling": "last"}, "max": {"pooling": "max"}}
    assert found.resources == Resources(cpus=1, gpus=0)


def test_the_three_forms_of_an_axis():
    found = sweep(
        "axes:\n"
        "  lr: [0.1, 1e-2]\n"
        "  model:\n"
        "    Plain: {}\n"
        "    Also plain:\n"
        "    Max: {pooling: max, kl.start: 0.1, kl: {epochs: 3}}\n"
        "    LM: {set: {model: lm}, note: exact}\n"
        "  more: {'1': {set: {pooling: avg}, override: true}, '2': {}}\n"
    )
    assert levels(found, "lr") == {"0.1": {"lr": 0.1}, "1e-2": {"lr": 0.01}}
    assert levels(found, "model") == {
        "Plain": {},
        "Also plain": {},
        "Max": {"pooling": "max", "kl.start": 0.1, "kl.epochs": 3},
        "LM": {"model": "lm"},
    }
    assert [level.note for level in found.axis("model").levels] == [None, None, None, "exact"]
    assert [level.override for level in found.axis("more").levels] == [True, False]


def test_a_command_is_a_trainer():
    found = parse(
        "name: t\ntrainer: {command: [python, x.py, '--lr={lr}', 1e-3]}\nprofiles: {quick: {}}", "s"
    )
    assert found.trainer.command == ("python", "x.py", "--lr={lr}", "1e-3")


def test_precedence_from_base_to_command_line():
    text = (
        "name: t\ntrainer: a:b\nbase: {a: base, b: base, c: base, d: base}\n"
        "set: {b: set, c: set, d: set}\n"
        "axes: {x: {One: {d: level}}}\n"
        "profiles: {quick: {}, p: {set: {c: profile, d: profile}}}\n"
    )
    found = parse(text, "s", profile="p", overrides=["e.f=[1, 2]", "d=1e-3"])
    assert written(found.base) == {"a": "base", "b": "set", "c": "profile", "d": "profile"}
    assert levels(found, "x") == {"One": {"d": "level"}}
    assert written(found.overrides) == {"e.f": [1, 2], "d": 0.001}
    assert found.overrides["d"].mark is None
    assert written(parse(text, "s").base)["c"] == "set"


def test_a_profile_replaces_an_axis_in_place_and_merges_resources():
    text = (
        "name: t\ntrainer: a:b\n"
        "axes: {data: {A: {data: a}, B: {data: b}}, seed: [0, 1]}\n"
        "resources: {cpus: 4, gpus: auto}\nbudget: {updates: 10, gpu_hours: 1.5}\n"
        "profiles:\n  quick: {axes: {data: {C: {data: c}}}, resources: {gpus: 0.5}, "
        "budget: {updates: 5}}\n  one: {axes: {data: {only: [B]}}}\n"
    )
    found = parse(text, "s")
    assert [axis.name for axis in found.axes] == ["data", "seed"]
    assert found.axis("data").labels == ("C",)
    assert found.resources == Resources(cpus=4, gpus=0.5)
    assert found.budget == Budget(total=Limits(updates=5, gpu_hours=1.5))
    assert parse(text, "s", profile="one").axis("data").labels == ("B",)


def test_budget_is_checked_data():
    found = sweep(
        "budget: {updates: 1_000, per_trial: {updates: 5, wall: 1.5h}, on_exceed: finish_running}"
    )
    assert found.budget == Budget(
        total=Limits(updates=1000), per_trial=Limits(updates=5, wall=5400.0)
    )


TABLE = """\
axes:
  dataset: {Yahoo: {data: yahoo}, Yelp: {data: yelp}}
  model: {LM: {}, Max: {pooling: max}}
  kl: {W.O.: {kl.weight: 1.0}, With: {}}
  seed: [0, 1]
metrics:
  nll: {from: test/nll_iw, or: test/nll, goal: min, format: ",.1f", label: NLL, note: nats}
  updates: {from: cost/updates, unit: k, scale: 1e-3, format: g}
reported: {t: {rows: {}}}
tables:
"""  # the line after it is line 14


def test_a_table_with_everything():
    found = sweep(
        TABLE + "  t:\n"
        "    rows: {axis: model, only: [Max, LM]}\n"
        "    columns: [dataset, kl]\n"
        "    values: [nll, updates]\n"
        "    over: seed\n"
        '    cell: "{mean} ± {sd} ({n})"\n'
        "    labels: {Max: MaxPool, Yahoo: Answers}\n"
        "    rules_after: [LM]\n"
        "    caption: All of it\n"
        "    references: {Exact: {nll: test/nll_floor}}\n"
        "    best: {values: [nll], per: [dataset]}\n"
        "    delta: {axis: kl, from: W.O., to: With, significance: {alpha: 0.1, correct: none}}\n"
        '    relative_to: {row: LM, as: "{ratio:.2f}x"}\n'
        "    significance: {value: nll, against: LM}\n"
        "    beside: paper\n"
        "    at: {updates: min}\n"
        "    write: [md, tex]\n"
    )
    table = dataclasses.replace(found.tables["t"], mark=None)
    assert table == TableSpec(
        name="t",
        rows="model",
        rows_only=("Max", "LM"),
        columns=("dataset", "kl"),
        values=("nll", "updates"),
        over=("seed",),
        cell="{mean} ± {sd} ({n})",
        labels={"Max": "MaxPool", "Yahoo": "Answers"},
        rules_after=("LM",),
        caption="All of it",
        references=(Reference(label="Exact", values={"nll": "test/nll_floor"}),),
        best=Best(values=("nll",), per=("dataset",)),
        delta=Delta(
            axis="kl",
            start="W.O.",
            end="With",
            significance=Significance(alpha=0.1, correct="none"),
        ),
        relative_to=RelativeTo(row="LM", form="{ratio:.2f}x"),
        significance=Significance(value="nll", against="LM"),
        beside="paper",
        at="min",
        write=("md", "tex"),
    )
    assert found.metrics["nll"] == Metric(
        name="nll", source="test/nll_iw", fallback="test/nll", goal="min", format=",.1f",
        label="NLL", note="nats", mark=Mark("s.yaml", 10, 3),
    )  # fmt: skip
    assert found.metrics["updates"].scale == 0.001


def test_a_table_may_pin_an_axis():
    found = sweep(
        TABLE + "  t: {rows: model, values: nll, over: [seed, dataset], where: {kl: With}}\n"
    )
    assert found.tables["t"].where == {"kl": "With"}
    assert found.tables["t"].over == ("seed", "dataset")


# ---- what is wrong with one


BAD = {
    "": (
        "s.yaml:1:1: the file needs 'name'\n"
        "s.yaml:1:1: there is no profile 'quick': add 'profiles: {quick: {}}'\n"
        "s.yaml:1:1: the file needs 'trainer'"
    ),
    "name: t\ntrainer: a:b": (
        "s.yaml:1:1: there is no profile 'quick': add 'profiles: {quick: {}}'"
    ),
    "name: a/b\ntrainer: a:b\nprofiles: {quick: {}}": (
        "s.yaml:1:7: name must be 1 to 64 of A-Z a-z 0-9 . _ -, "
        "the first a letter, a digit or _, not 'a/b'"
    ),
    "name: 12\ntrainer: a:b\nprofiles: {quick: {}}": "s.yaml:1:7: name must be text, not 12",
    "name: t\ntrainer: {}\nprofiles: {quick: {}}": (
        "s.yaml:2:1: trainer needs either 'function' or 'command'"
    ),
    "name: t\ntrainer: {function: a:b, command: [x]}\nprofiles: {quick: {}}": (
        "s.yaml:2:1: trainer needs either 'function' or 'command'"
    ),
    "name: t\ntrainer: 'a b:c'\nprofiles: {quick: {}}": (
        "s.yaml:2:10: trainer.function must be a function, as in package.module:function, "
        "or a registered name, not 'a b:c'"
    ),
    "name: t\ntrainer: a:b\nprofiles: {paper: {}, small: {}}": (
        "s.yaml:3:1: unknown profile 'quick'; one of paper, small"
    ),
    "name: t\ntrainer: a:b\nprofiles: {quick: {sets: {}}}": (
        "s.yaml:3:20: unknown key 'sets' in profiles.quick; did you mean 'set'? "
        "one of axes, budget, exclude, include, resources, search, set"
    ),
    "name: t\ntrainer: a:b\naxes: {x: [1]}\nprofiles: {quick: {axes: {y: [2]}}}": (
        "s.yaml:4:27: unknown axis 'y' in profiles.quick; one of x"
    ),
}

BAD_AFTER_HEAD = {
    "axis: {}": (
        "s.yaml:4:1: unknown key 'axis'; did you mean 'axes'? one of axes, base, budget, "
        "claims, data_root, description, exclude, figures, import, include, metrics, name, "
        "profiles, reported, resources, search, set, tables, trainer"
    ),
    "exclude: {}": "s.yaml:4:10: exclude must be a list of conditions, not a mapping",
    # configurations
    "base: [1]": "s.yaml:4:7: configuration keys are expected (key: value), not a list",
    "base: {kl.start: 1, kl: {start: 2}}": (
        "s.yaml:4:26: 'kl.start' is here a second time; the first is at s.yaml:4"
    ),
    "base: {a..b: 1}": "s.yaml:4:8: key 'a..b' has an empty or unprintable part",
    "base: {kl: 1}\naxes: {x: {A: {kl.start: 2}}}": (
        "s.yaml:4:8: 'kl' is a value here and a section at s.yaml:5"
    ),
    "base: nothing.yaml": "s.yaml:4:1: there is no file 'nothing.yaml'",
    "base: ../../x.yaml": "s.yaml:4:7: '../../x.yaml' is outside the project",
    "base: /etc/passwd": (
        "s.yaml:4:7: a path relative to this file is expected, not '/etc/passwd'"
    ),
    "base: .": "s.yaml:4:1: '.' is not a file",
    # axes
    "axes: [a]": "s.yaml:4:7: axes must be a mapping, not a list",
    "axes: {x: 3}": "s.yaml:4:11: axes.x must be a list or a mapping of levels, not 3",
    "axes: {x: []}": "s.yaml:4:11: axis 'x' has no levels",
    "axes: {x: {}}": "s.yaml:4:11: axis 'x' has no levels",
    "axes: {a/b: [1]}": (
        "s.yaml:4:8: axis 'a/b' must be 1 to 64 of A-Z a-z 0-9 . _ -, "
        "the first a letter, a digit or _"
    ),
    "axes: {x: [1], X: [2]}": "s.yaml:4:16: axis 'X' differs from 'x' in case only",
    "axes: {x: [{a: 1}]}": (
        "s.yaml:4:12: a level of 'x' in a list is one value; "
        "write 'label: {key: value}' for more"
    ),
    "axes: {x: [1, 1.0]}": "s.yaml:4:15: 1.0 is in axis 'x' twice; the first is at s.yaml:4",
    "axes: {x: [a, A]}": "s.yaml:4:15: label 'A' of axis 'x' differs from 'a' in case only",
    "axes: {x: {A: 3}}": (
        "s.yaml:4:15: level 'A' of 'x' must be a mapping of configuration keys, not 3"
    ),
    'axes: {x: {"a\\nb": {}}}': (
        "s.yaml:4:12: label 'a\\nb' of axis 'x' must be 1 to 200 printable characters"
    ),
    "axes: {x: {A: {note: b, lr: 1}}}": (
        "s.yaml:4:25: unknown key 'lr' in level 'A'; one of note, override, set, trainer; "
        "beside 'note' the configuration stands under 'set'"
    ),
    "axes: {x: {values: [1], when: a}}": (
        "s.yaml:4:31: axes.x.when: column 1: unknown axis or configuration key 'a'; one of x; "
        "text stands in quotes"
    ),
    "axes: {x: {only: [a]}}": (
        "s.yaml:4:8: 'only' selects levels of an axis there is: unknown axis 'x'; there is none"
    ),
    "axes: {x: {also: {a: {}}}}": (
        "s.yaml:4:8: 'also' adds to levels of an axis there is: unknown axis 'x'; there is none"
    ),
    "axes:\n  a: {A: {lr: 1}}\n  b: {B: {lr: 2}}": (
        "s.yaml:6:11: 'lr' is 2 here and 1 at s.yaml:5: axes 'b' and 'a' both write it; "
        "say 'override: true' in this level to let it win"
    ),
    "axes: {seed: [0, a, -1, 1.5]}": (
        "s.yaml:4:18: a seed is a whole number, 0 or more, not 'a'\n"
        "s.yaml:4:21: a seed is a whole number, 0 or more, not -1\n"
        "s.yaml:4:25: a seed is a whole number, 0 or more, not 1.5"
    ),
    "axes: {seed: [0, 0]}": "s.yaml:4:18: 0 is in axis 'seed' twice; the first is at s.yaml:4",
    "base: {seed: true}": "s.yaml:4:8: a seed is a whole number, 0 or more, not True",
    # resources and budget
    "resources: {cpus: 0, gpus: many, memory: 1, stall: 30}": (
        "s.yaml:4:19: resources.cpus must be a whole number, 1 or more, not 0\n"
        "s.yaml:4:28: resources.gpus must be 0, a number of GPUs, a share of one, or auto, "
        "not 'many'\n"
        "s.yaml:4:34: unknown key 'memory' in resources; one of cpus, gpus, stall\n"
        "s.yaml:4:52: resources.stall must be a time such as 90s, 30m, 1h30m or 2d, not 30"
    ),
    "budget: {updates: '64', gpu_hours: -1, per_trial: {wall: 12}, on_exceed: cry}": (
        "s.yaml:4:19: budget.updates must be a whole number, 1 or more, not '64'\n"
        "s.yaml:4:36: budget.gpu_hours must be above 0, not -1\n"
        "s.yaml:4:58: budget.per_trial.wall must be a time such as 90s, 30m, 1h30m or 2d, not 12\n"
        "s.yaml:4:74: budget.on_exceed must be finish_running or stop, not 'cry'"
    ),
    # metrics
    "metrics: {nll: {goal: low, format: '.99f', colour: red}}": (
        "s.yaml:4:11: metrics.nll needs 'from'\n"
        "s.yaml:4:23: metrics.nll.goal must be min or max, not 'low'\n"
        "s.yaml:4:36: metrics.nll: format '.99f' is none of .1f, ,.0f, .2e, g and their like "
        "(precision at most 20)\n"
        "s.yaml:4:44: unknown key 'colour' in metrics.nll; "
        "one of format, from, goal, label, note, or, scale, unit"
    ),
    "metrics: {nll: test/nll}": "s.yaml:4:16: metrics.nll must be a mapping, not 'test/nll'",
    "reported: 3": "s.yaml:4:11: reported must be a mapping or the path of one, not 3",
    "import: {from: nothing.yaml, take: [axes]}": "s.yaml:4:16: there is no file 'nothing.yaml'",
    "import: {from: x.yaml}": "s.yaml:4:1: import needs 'take'",
}  # fmt: skip

ALL = "rows: model, columns: [dataset, kl], values: nll, over: seed"  # what a good table says
BAD_TABLES = {
    "{}": "tables.t needs 'rows'\ns.yaml:14:3: tables.t needs 'values'",
    "{rows: model, columns: [dataset, kl], values: [nll]}": (
        "tables.t does not say what to do with axis 'seed': put it in rows, columns, where or over"
    ),
    "{rows: model, columns: [dataset, kl], values: [nll], over: [seed, kl]}": (
        "tables.t uses axis 'kl' 2 times"
    ),
    "{rows: modle, columns: [dataset, kl], values: [nll], over: seed}": (
        "unknown axis 'modle' in tables.t; did you mean 'model'? one of dataset, kl, model, seed"
    ),
    "{rows: model, columns: [dataset, kl], values: [nl], over: seed}": (
        "unknown metric 'nl' in tables.t; did you mean 'nll'? one of nll, updates"
    ),
    "{rows: model, columns: [dataset, kl], values: [], over: seed}": (
        "tables.t shows no metric: name one in values"
    ),
    "{rows: {axis: model, only: [max]}, columns: [dataset, kl], values: nll, over: seed}": (
        "unknown row 'max' in tables.t.rows; did you mean 'Max'? one of LM, Max"
    ),
    "{rows: model, columns: dataset, where: {kl: Without}, values: nll, over: seed}": (
        "unknown level of kl 'Without' in tables.t; did you mean 'With'? one of W.O., With"
    ),
    "{ALL, cell: '{avg}'}": (
        "tables.t.cell '{avg}': unknown field {avg}; "
        "the fields are {mean}, {sd}, {ci95}, {n}, {min}, {max}"
    ),
    "{ALL, cell: '{mean:.1f}'}": (
        "tables.t.cell '{mean:.1f}': no format '.1f' in a field here"
    ),
    "{ALL, cell: '{mean} {'}": (
        "tables.t.cell '{mean} {': a single '{' or '}' in it"
    ),
    "{ALL, labels: {Min: x}}": (
        "unknown label 'Min' in tables.t.labels; one of LM, Max, W.O., With, Yahoo, Yelp, "
        "model, nll"
    ),
    "{ALL, groups: {Plain: [LM], Pooled: [max]}}": (
        "unknown row 'max' in tables.t.groups; did you mean 'Max'? one of LM, Max"
    ),
    "{ALL, groups: {Plain: [LM], Pooled: [Max, LM]}}": (
        "tables.t.groups: row 'LM' is in 'Plain' and in 'Pooled'"
    ),
    "{ALL, groups: [LM]}": "tables.t.groups must be a mapping, not a list",
    "{ALL, delta: {row: LM, axis: kl}}": (
        "tables.t.delta is against a row or between two levels; 'axis' is of the second, "
        "'row' of the first"
    ),
    "{ALL, delta: {row: max}}": (
        "unknown row 'max' in tables.t.delta; did you mean 'Max'? one of LM, Max"
    ),
    "{ALL, best: {values: nll, correct: bonferroni}}": (
        "tables.t.best.correct must be holm or none, not 'bonferroni'"
    ),
    "{ALL, rules_after: [Yelp]}": (
        "unknown row 'Yelp' in tables.t; one of LM, Max"
    ),
    "{rows: model, columns: [dataset, kl], values: updates, over: seed, best: {values: updates}}": (
        "metric 'updates' has no goal (min or max), so none of its cells is best"
    ),
    "{ALL, references: {F: {kl: a}}}": "unknown key 'kl' in tables.t.references.F; one of nll",
    "{ALL, delta: {axis: model, from: LM, to: Max}}": (
        "unknown axis among the columns 'model' in tables.t.delta; one of dataset, kl"
    ),
    "{ALL, delta: {axis: kl, from: With, to: With}}": (
        "tables.t.delta goes from 'With' to itself"
    ),
    "{ALL, relative_to: {row: LM, as: '{ratio:x}'}}": (
        "tables.t.relative_to.as '{ratio:x}': format 'x' is none of .1f, ,.0f, .2e, g and their "
        "like (precision at most 20)"
    ),
    "{ALL, significance: {value: nll, against: LM, alpha: 1}}": (
        "tables.t.significance.alpha must be above 0 and below 1, not 1"
    ),
    "{ALL, at: {updates: -3}}": (
        "tables.t.at.updates must be a whole number, 1 or more, or min, not -3"
    ),
    "{ALL, write: [md, pdf]}": (
        "unknown format 'pdf' in tables.t; one of csv, html, md, tex"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD.items())
def test_what_is_refused(text, message):
    assert said(text or "{}") == message


@pytest.mark.parametrize(("text", "message"), BAD_AFTER_HEAD.items())
def test_what_is_refused_in_a_section(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said(HEAD + text) == message


@pytest.mark.parametrize(("text", "message"), BAD_TABLES.items())
def test_what_is_refused_in_a_table(text, message):
    found = said(f"{HEAD}{TABLE}  t: {text.replace('ALL', ALL)}\n")
    assert found.startswith("s.yaml:14:")
    assert found.split(": ", 1)[1] == message


def test_a_misspelt_axis_is_not_also_called_forgotten():
    found = said(
        f"{HEAD}{TABLE}  t: {{rows: model, columns: [datset, kl], values: nll, over: sed}}\n"
    )
    assert found.count("unknown axis") == len(found.splitlines()) == 2


def test_beside_needs_published_values():
    text = TABLE.replace("reported: {t: {rows: {}}}\n", "")
    line = f"  t: {{{ALL}, beside: paper}}\n"
    assert said(HEAD + text + line) == (
        "s.yaml:13:77: tables.t.beside needs published values: add 'reported:'"
    )


def test_everything_wrong_is_said_at_once_in_the_order_of_the_file():
    found = said(
        "name: t\ntrainr: a:b\naxes: {x: []}\nbudget: {updates: 0}\nprofiles: {quick: {}}\n"
    )
    assert [line.split(": ")[0] for line in found.splitlines()] == [
        "s.yaml:1:1", "s.yaml:2:1", "s.yaml:3:11", "s.yaml:4:19",
    ]  # fmt: skip


def test_a_level_that_overrides_may_write_what_another_axis_writes():
    text = "axes: {a: {A: {lr: 1}}, b: {B: {set: {lr: 2}, override: true}, C: {lr: 1}}}"
    assert sweep(text).axis("b").labels == ("B", "C")


BAD_OVERRIDES = {
    "lr": "--set 'lr': key=value is expected",
    ".lr=1": "--set '.lr=1': key=value is expected",
    "lr=": "--set lr=: one value is expected after '='",
    "lr=010": (
        "--set lr=010: '010' starts with 0: octal in some YAML, decimal in other; "
        "write it without the 0, or quote it"
    ),
    "kl={a: 1}": "--set kl={a: 1}: one value is expected after '='",
    "seed=x": "--set seed: a seed is a whole number, 0 or more, not 'x'",
    "seed=3": "--set seed: axis 'seed' varies it; all its levels would be one run",
}


@pytest.mark.parametrize(("item", "message"), BAD_OVERRIDES.items())
def test_what_is_refused_on_the_command_line(item, message):
    assert message in said(f"{HEAD}axes: {{seed: [0, 1]}}\n", overrides=[item])


# ---- files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project: pyproject.toml, sweeps/ and a file outside."""
    (tmp_path / "project/sweeps/bases").mkdir(parents=True)
    (tmp_path / "project/pyproject.toml").touch()
    (tmp_path / "outside.yaml").write_text("a: 1\n")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


FIRST = """\
name: first
trainer: {function: "a.b:c", config: a.config}
base: bases/big.yaml
set: {shared: 1}
axes:
  dataset: {A: {data: a}, B: {data: b}}
  model: {Plain: {}, Max: {pooling: max}, Lm: {model: lm}}
  seed: [0, 1]
metrics: {nll: {from: test/nll, goal: min}, kl: {from: test/kl}}
reported: paper.yaml
resources: {cpus: 2}
profiles: {quick: {set: bases/tiny.yaml, axes: {dataset: {T: {data: t}}}}, paper: {}}
tables:
  one: {rows: model, columns: [dataset], values: [nll], over: seed, write: [md, tex]}
"""


@pytest.fixture
def first(folder):
    (folder / "sweeps/first.yaml").write_text(FIRST)
    (folder / "sweeps/paper.yaml").write_text("one: {rows: {Max: {A: 1.5}}}\n")
    (folder / "sweeps/bases/big.yaml").write_text("size: 1024\nkl: {start: 0.1}\n")
    (folder / "sweeps/bases/tiny.yaml").write_text("size: 8\n")
    return folder


def second(folder, text, **options):
    (folder / "sweeps/second.yaml").write_text(text)
    return read("sweeps/second.yaml", **options)


def test_paths_are_relative_to_the_file_and_marks_name_the_file(first):
    found = read("sweeps/first.yaml")
    assert written(found.base) == {"size": 8, "kl.start": 0.1, "shared": 1}
    assert found.base["size"].mark == Mark("sweeps/bases/tiny.yaml", 1, 1)
    assert written(read("sweeps/first.yaml", profile="paper").base)["size"] == 1024
    assert found.reported == {"one": {"rows": {"Max": {"A": 1.5}}}}


def test_import_takes_parts_and_own_keys_merge_over(first):
    found = second(
        first,
        "name: second\n"
        "import: {from: first.yaml, take: [trainer, base, axes, metrics.nll, resources, profiles, "
        "tables.one]}\n"
        "axes: {kl: {W.O.: {kl.start: 1}, With: {}}, model: {only: [Lm, Plain]}}\n"
        "metrics: {nll: {format: '.3f'}}\n"
        "resources: {gpus: 1}\n"
        "profiles: {quick: {set: {more: 1}}}\n"
        "tables: {one: {columns: [dataset, kl], write: csv}}\n",
    )
    assert [axis.name for axis in found.axes] == ["dataset", "model", "seed", "kl"]
    assert found.axis("model").labels == ("Lm", "Plain")
    assert found.axis("dataset").labels == ("T",)
    assert written(found.base) == {"size": 8, "kl.start": 0.1, "more": 1}
    nll = found.metrics["nll"]
    assert (nll.source, nll.goal, nll.format) == ("test/nll", "min", ".3f")
    assert set(found.metrics) == {"nll"}
    assert found.resources == Resources(cpus=2, gpus=1)
    assert found.tables["one"].columns == ("dataset", "kl")
    assert found.tables["one"].write == ("csv",)
    assert found.trainer.config == "a.config"


def test_an_axis_named_again_is_replaced_whole_in_its_place(first):
    found = second(
        first,
        "name: second\nimport: {from: first.yaml, take: [trainer, axes.model, axes.seed]}\n"
        "axes: {model: {New: {pooling: avg}}}\nprofiles: {quick: {}}\n",
    )
    assert [(axis.name, axis.labels) for axis in found.axes] == [
        ("model", ("New",)),
        ("seed", ("0", "1")),
    ]


CHANGED = """\
name: t
trainer: a.b:c
axes:
  model:
    Plain: {}
    Max: {set: {pooling: max, optim.lr: 0.5}, note: n, override: true}
  seed: [0, 1]
profiles:
  own: {axes: {model: {also: {Max: {optim: {lr: 1e-3}, optim.algorithm: adam}}}}}
  few: {axes: {model: {only: [Max, Plain], also: {Plain: {lr: 1}}}, seed: {also: {1: {lr: 2}}}}}
"""


def test_further_settings_over_levels_of_an_axis():
    found = parse(CHANGED, "s.yaml", profile="own")
    assert list(levels(found, "model").items()) == [
        ("Plain", {}),
        ("Max", {"pooling": "max", "optim.lr": 0.001, "optim.algorithm": "adam"}),
    ]
    changed = found.axis("model").levels[1]
    assert (changed.note, changed.override) == ("n", True)
    assert changed.set["pooling"].mark == Mark("s.yaml", 6, 17)
    assert changed.set["optim.lr"].mark == Mark("s.yaml", 9, 45)


def test_further_settings_stand_beside_a_selection():
    found = parse(CHANGED.replace("{lr: 2}", "{x: 2}"), "s.yaml", profile="few")
    assert list(levels(found, "model").items()) == [
        ("Max", {"pooling": "max", "optim.lr": 0.5}),
        ("Plain", {"lr": 1}),
    ]
    assert levels(found, "seed") == {"0": {"seed": 0}, "1": {"seed": 1, "x": 2}}


def test_two_axes_clash_over_further_settings_too():
    assert "s.yaml:10:87: 'lr' is 2 here and 1 at s.yaml:10" in said(CHANGED, profile="few")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{Max: {optim:", "{Mx: {optim:", "s.yaml:9:31: unknown level 'Mx' in axes.model.also; "),
        ("[Max, Plain]", "[Max]", "s.yaml:10:44: unknown level 'Plain' in axes.model.also; "),
        ("{Plain: {lr: 1}}", "{Plain: {note: b}}", "s.yaml:10:59: 'also' takes configuration keys"),
        ("{Plain: {lr: 1}}", "{Plain: 1}", "configuration keys are expected (key: value), not 1"),
        (
            "also: {Plain: {lr: 1}}",
            "also: [Plain]",
            "axes.model.also must be a mapping, not a list",
        ),
    ],
)
def test_what_further_settings_are_refused(old, new, message):
    assert message in said(CHANGED.replace("{lr: 2}", "{x: 2}").replace(old, new))


def test_further_settings_of_a_profile_go_with_a_level_that_is_left_out(first):
    """A profile that is taken into a file with fewer levels."""
    path = first / "sweeps/first.yaml"
    own = "own: {axes: {model: {also: {Max: {optim.lr: 2}, Plain: {optim.lr: 3}}}}}}"
    path.write_text(path.read_text().replace("paper: {}}", f"paper: {{}}, {own}"))
    found = second(
        first,
        "name: second\nimport: {from: first.yaml, take: [trainer, axes, profiles]}\n"
        "axes: {model: {only: [Max]}}\n",
        profile="own",
    )
    assert levels(found, "model") == {"Max": {"pooling": "max", "optim.lr": 2}}
    path.write_text(path.read_text().replace("Plain: {optim", "Plane: {optim"))
    with pytest.raises(SpecError, match=r"unknown level 'Plane' .*; did you mean 'Plain'"):
        read("sweeps/second.yaml", profile="own")


def test_further_settings_of_a_file_over_those_that_it_takes(first):
    found = second(
        first,
        "name: second\nimport: {from: first.yaml, take: [trainer, axes, profiles]}\n"
        "axes: {model: {also: {Max: {optim.lr: 2}}}}\n",
    )
    there = read("sweeps/first.yaml").axis("model")
    assert found.axis("model").labels == there.labels
    own = {level.label: written(level.set) for level in there.levels}
    assert levels(found, "model") == {**own, "Max": {**own["Max"], "optim.lr": 2}}


def test_imports_of_imports(first):
    second(
        first,
        "name: second\nimport: {from: first.yaml, take: [trainer, axes, profiles]}\n"
        "axes: {model: {only: [Max]}}\n",
    )
    (first / "sweeps/third.yaml").write_text(
        "name: third\nimport: {from: second.yaml, take: [trainer, axes, profiles]}\n"
    )
    assert read("sweeps/third.yaml").axis("model").labels == ("Max",)


BAD_IMPORTS = {
    "{from: first.yaml, take: [axis.model]}": (
        "unknown entry 'axis.model' in take; one of axes, base, budget, claims, data_root, "
        "exclude, figures, include, metrics, profiles, reported, resources, search, set, tables, "
        "trainer"
    ),
    "{from: first.yaml, take: [axes.modle]}": (
        "unknown entry of axes 'modle' in sweeps/first.yaml; did you mean 'model'? "
        "one of dataset, model, seed"
    ),
    "{from: first.yaml, take: [budget]}": "sweeps/first.yaml has no 'budget' to take",
    "{from: first.yaml, take: [base.size]}": "'base' is taken whole; write 'base', not 'base.size'",
    "{from: first.yaml, take: axes}": "import.take must be a list, not 'axes'",
    "{from: ../../outside.yaml, take: [axes]}": "'../../outside.yaml' is outside the project",
    "{from: link.yaml, take: [axes]}": "'link.yaml' is outside the project",
    "{from: bases, take: [axes]}": "'sweeps/bases' is not a file",
    "{from: second.yaml, take: [axes]}": ("sweeps/second.yaml -> sweeps/second.yaml is a circle"),
}


@pytest.mark.parametrize(("text", "message"), BAD_IMPORTS.items())
def test_what_is_refused_in_an_import(first, text, message):
    (first / "sweeps/link.yaml").symlink_to(first.parent / "outside.yaml")
    with pytest.raises(SpecError) as caught:
        second(first, f"name: second\ntrainer: a:b\nprofiles: {{quick: {{}}}}\nimport: {text}\n")
    assert [p.message for p in caught.value.problems] == [message]
    assert caught.value.problems[0].mark.line == 4


def test_a_circle_of_imports_and_a_chain_too_long(first):
    for n in range(12):
        (first / f"sweeps/f{n}.yaml").write_text(f"import: {{from: f{n + 1}.yaml, take: [axes]}}\n")
    (first / "sweeps/f12.yaml").write_text("import: {from: f9.yaml, take: [axes]}\n")
    with pytest.raises(SpecError, match="more than 8 imports deep"):
        read("sweeps/f0.yaml")
    with pytest.raises(
        SpecError, match=r"f9.yaml -> .*f10.yaml -> .* -> sweeps/f9.yaml is a circle"
    ):
        read("sweeps/f9.yaml")


def test_base_has_one_source(first):
    with pytest.raises(
        SpecError, match=r"second.yaml:3:1: base is also taken from sweeps/first.yaml:3; "
    ):
        second(
            first,
            "name: second\nimport: {from: first.yaml, take: [trainer, base, profiles]}\n"
            "base: {a: 1}\n",
        )


def test_what_is_wrong_in_another_profile_is_said_too(first):
    text = FIRST.replace("paper: {}", "paper: {set: bases/gone.yaml, axes: {seed: []}}")
    (first / "sweeps/first.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        read("sweeps/first.yaml")
    assert [p.message for p in caught.value.problems] == [
        "there is no file 'sweeps/bases/gone.yaml'",
        "axis 'seed' has no levels",
    ]


def test_files_that_cannot_be_read(folder):
    with pytest.raises(SpecError, match=r"there is no file 'gone\.yaml'"):
        read("gone.yaml")
    with pytest.raises(SpecError, match="'sweeps' is not a file"):
        read("sweeps")
    loop = folder / "loop.yaml"
    loop.symlink_to(loop)
    with pytest.raises(EnvironmentFault, match=r"cannot read 'loop\.yaml'"):
        read("loop.yaml")
