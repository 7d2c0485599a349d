"""The `search:` of a sweep file: what it means, and what is wrong with one, said with its place."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.spec import parse, read
from sweeper.spec.conditions import compiled
from sweeper.spec.loader import load, plain
from sweeper.spec.search import SAMPLERS
from sweeper.spec.search_types import (
    Choice,
    Importance,
    Objective,
    Pareto,
    Promote,
    Prune,
    Sampler,
    SearchRows,
    Span,
)

ROOT = Path(__file__).parents[2]
SWEEPS = ROOT / "sweeps"

HEAD = """\
name: t
trainer: a.b:c
axes: {dataset: {Yahoo: {data: yahoo}, Yelp: {data: yelp}}}
metrics: {nll: {from: test/nll, goal: min}, kl: {from: valid/kl}, acc: {from: valid/acc, goal: max}}
profiles: {quick: {}, more: {search: {trials: 7}}}
"""  # 5 lines
WITHOUT = HEAD.replace(", more: {search: {trials: 7}}", "")

SEARCH = """\
search:
  for_each: [dataset]
  storage: "sqlite:///runs/anneal_search.db"
  sampler: {name: TPESampler, seed: 7, multivariate: true, group: true}
  trials: 60
  parallel: 4
  objectives:
    - {metric: valid/nll_iw, goal: min}
    - {metric: cost/updates, goal: min}
  constraints: ["valid/kl >= 0.5", "kl > 1 and not valid/au < 2"]
  space:
    kl.schedule: {choice: [linear, cyclical, constant]}
    kl.start: {float: [0.0, 0.5], when: "kl.schedule == 'linear'"}
    kl.warmup: {int: [1, 30], log: true, when: "kl.schedule in ['linear', 'cyclical']"}
    kl.ratio: {float: [0.25, 1.0], step: 0.25, when: "kl.schedule == 'cyclical' and kl.warmup > 3"}
    dropout: {float: [0.0, 0.5], step: 0.1}
  enqueue:
    - {kl.schedule: linear, kl.start: 0, kl.warmup: 10, dropout: 0.3}
    - {kl.schedule: cyclical, kl.warmup: 4, kl.ratio: 0.5}
  prune: {rule: successive_halving, metric: valid/nelbo, by: cost/updates, grace: 20%, factor: 3}
  promote: {front: true, top: 3, seeds: [0, 1, 5], score_on: test}
"""


def small(**changes: str | None) -> str:
    """A search with as little as there can be, and what is changed of it (None: left out)."""
    entries = {
        "for_each": "[dataset]",
        "trials": "5",
        "objectives": "[{metric: valid/nll, goal: min}]",
        "space": "{lr: {float: [0.1, 1]}, pooling: {choice: [avg, max]}, layers: {int: [1, 4]}}",
        **changes,
    }
    lines = [f"  {key}: {text}\n" for key, text in entries.items() if text is not None]
    return "search:\n" + "".join(lines)


def sweep(text, **options):
    return parse(HEAD + text, "s.yaml", **options)


def faults(text, **options):
    with pytest.raises(SpecError) as caught:
        sweep(text, **options)
    return [problem.message for problem in caught.value.problems]


def unmarked(value):
    return dataclasses.replace(value, mark=None)


# ---- what it means


def test_a_search_with_everything():
    found = sweep(SEARCH).search
    assert found.for_each == ("dataset",)
    assert found.storage == "sqlite:///runs/anneal_search.db"
    assert found.sampler == Sampler(
        name="TPESampler", arguments={"seed": 7, "multivariate": True, "group": True}
    )
    assert (found.trials, found.parallel) == (60, 4)
    assert found.objectives == (
        Objective(metric="valid/nll_iw", goal="min"),
        Objective(metric="cost/updates", goal="min"),
    )
    assert list(map(str, found.constraints)) == [
        "valid/kl >= 0.5",
        "kl > 1 and not valid/au < 2",
    ]
    assert unmarked(found.space["kl.schedule"]) == Choice(
        key="kl.schedule", options=("linear", "cyclical", "constant")
    )
    assert unmarked(found.space["dropout"]) == Span(key="dropout", low=0.0, high=0.5, step=0.1)
    warmup = found.space["kl.warmup"]
    assert (warmup.low, warmup.high, warmup.whole, warmup.log) == (1, 30, True, True)
    assert found.enqueue == (
        {"kl.schedule": "linear", "kl.start": 0, "kl.warmup": 10, "dropout": 0.3},
        {"kl.schedule": "cyclical", "kl.warmup": 4, "kl.ratio": 0.5},
    )
    assert found.prune == Prune(
        rule="successive_halving", metric="valid/nelbo", grace=0.2, factor=3, by="cost/updates"
    )
    assert found.promote == Promote(seeds=(0, 1, 5), front=True, top=3, score_on="test")
    assert (found.mark.line, found.mark.column) == (6, 1)


@pytest.mark.parametrize(
    ("values", "there"),
    [
        ({"kl.schedule": "cyclical", "kl.warmup": 4}, True),
        ({"kl.schedule": "cyclical", "kl.warmup": 3}, False),
        ({"kl.schedule": "linear", "kl.warmup": 4}, False),
        ({"kl.schedule": "constant"}, False),  # what is not there is not above 3
    ],
)
def test_when_a_key_is_there(values, there):
    when = sweep(SEARCH).search.space["kl.ratio"].when
    assert compiled(when.test)(values.get) is there


def test_what_may_be_left_out():
    found = sweep(small()).search
    assert (found.storage, found.sampler, found.parallel) == (None, Sampler(), 1)
    assert (found.constraints, found.enqueue, found.prune, found.promote) == ((), (), None, None)
    assert parse(WITHOUT, "s.yaml").search is None


def test_a_key_that_is_pruned_by_is_minimised_unless_an_objective_or_a_metric_says_otherwise():
    rule = "{rule: successive_halving, metric: %s, grace: 5%%, factor: 2}"
    goal = {
        metric: sweep(
            small(objectives=f"[{{metric: {objective}, goal: max}}]", prune=rule % metric)
        ).search.prune.goal
        for metric, objective in [("valid/x", "valid/x"), ("valid/y", "valid/x"), ("acc", "kl")]
    }
    assert goal == {"valid/x": "max", "valid/y": "min", "acc": "max"}


@pytest.mark.parametrize(
    "text",
    [
        "env:SEARCH_STORAGE",
        "sqlite:////var/lib/search.db",
        "postgresql+psycopg2://lab@db.example.org:5432/search",
        "postgresql+psycopg2://localhost/search?sslmode=require",
    ],
)
def test_storages(text):
    assert sweep(small(storage=f"'{text}'")).search.storage == text


def test_optuna_has_each_sampler():
    samplers = pytest.importorskip("optuna").samplers
    assert all(hasattr(samplers, name) for name in SAMPLERS)


# ---- tables and figures of a search

TABLE = """\
tables:
  front: {rows: {from: search, order_by: cost/updates}, columns: dataset, values: nll, over: seed}
"""
FIGURES = """\
figures:
  pareto: {kind: pareto, x: cost/updates, y: valid/nll_iw, by: dataset, show: [front]}
  weight: {kind: importance, metric: valid/nll_iw, write: png}
"""


def test_a_table_of_what_was_found():
    table = sweep(SEARCH + TABLE).tables["front"]
    assert table.searched == SearchRows(order_by="cost/updates")
    assert (table.rows, table.columns) == ("configuration", ("dataset",))
    assert table.over == ("seed",)


def test_without_promotion_a_table_has_no_seeds():
    assert faults(small() + TABLE) == [
        "unknown axis 'seed' in tables.front; one of configuration, dataset"
    ]


def test_a_table_of_what_was_found_forgets_no_axis():
    text = TABLE.replace(", over: seed", "")
    assert faults(SEARCH + text) == [
        "tables.front does not say what to do with axis 'seed': put it in rows, columns, where "
        "or over"
    ]


def test_figures_of_a_search():
    found = sweep(SEARCH + FIGURES).figures
    assert unmarked(found["pareto"]) == Pareto(
        name="pareto", x="cost/updates", y="valid/nll_iw", by=("dataset",), show=("front",)
    )
    assert unmarked(found["weight"]) == Importance(
        name="weight", metric="valid/nll_iw", write=("png",)
    )
    whole = sweep(SEARCH + FIGURES.replace(", show: [front]", "")).figures["pareto"]
    assert whole.show == ("front", "baseline")


def test_without_a_search_there_is_nothing_to_show():
    with pytest.raises(SpecError) as caught:
        parse(WITHOUT + TABLE.replace(", over: seed", "") + FIGURES, "s.yaml")
    assert [problem.message for problem in caught.value.problems] == [
        "tables.front.rows: there is no 'search:' in this file",
        "figures.pareto: kind pareto needs 'search:', which this file has not",
        "figures.weight: kind importance needs 'search:', which this file has not",
    ]


BAD_SHOWN = {
    "tables: {t: {rows: {from: serach, order_by: nl}, columns: dataset, values: nll}}": [
        "tables.t.rows.from must be search, not 'serach'",
        "tables.t.rows.order_by: unknown metric or result key 'nl'; did you mean 'nll'? "
        "one of acc, kl, nll",
    ],
    "tables: {t: {rows: {from: search}, columns: dataset, values: nll}}": [
        "tables.t.rows needs 'order_by'"
    ],
    "figures: {p: {kind: pareto, x: kl, y: valid/x}}": [
        "figures.p does not say what to do with axis 'dataset': put it in by or where"
    ],
    "figures: {p: {kind: pareto, x: kl, y: valid/x, by: dataset, show: [frnt], panels: a}}": [
        "unknown key 'panels' in figures.p; "
        "did you mean 'labels'? one of by, caption, kind, labels, show, where, write, x, y",
        "unknown part 'frnt' in figures.p; did you mean 'front'? one of baseline, front",
    ],
    "figures: {p: {kind: importance, metric: nll}}": [
        "figures.p.metric: 'nll' is 'test/nll', of the test split, which is scored once, after "
        "promotion; search by one of the validation split, such as valid/nll"
    ],
    "figures: {p: {kind: paretto}}": [
        "figures.p.kind must be one of curves, scatter, pareto, importance, history, "
        "slices, parallel, not 'paretto'"
    ],
}


@pytest.mark.parametrize(("text", "messages"), BAD_SHOWN.items())
def test_what_is_refused_of_what_is_shown(text, messages):
    assert sorted(faults(small() + text)) == sorted(messages)


# ---- what is wrong with one

TEST = (
    "is of the test split, which is scored once, after promotion; "
    "search by one of the validation split, such as valid/"
)
RANGE = "{lr: {float: [0.1, 1]}}"
BAD = [
    ({"trials": None, "objectives": None, "space": None}, [
        "search needs 'trials'", "search needs 'objectives'", "search needs 'space'",
    ]),
    ({"trails": "3"}, [
        "unknown key 'trails' in search; did you mean 'trials'? one of constraints, enqueue, "
        "for_each, objectives, parallel, promote, prune, sampler, space, storage, trials",
    ]),
    ({"trials": "0", "parallel": "1.5"}, [
        "search.trials must be a whole number, 1 or more, not 0",
        "search.parallel must be a whole number, 1 or more, not 1.5",
    ]),
    # studies
    ({"for_each": None}, [
        "search does not say what to do with axis 'dataset': put it in for_each, "
        "for a study at each of its levels, or do not take it",
    ]),
    ({"for_each": "[datset]"}, [
        "unknown axis 'datset' in search; did you mean 'dataset'? one of dataset"
    ]),
    # what is measured
    ({"objectives": "[]"}, ["search.objectives is empty; a list of mappings is expected"]),
    ({"objectives": "[{metric: test/nll, goal: low}]"}, [
        f"search.objectives.metric: 'test/nll' {TEST}nll",
        "search.objectives.goal must be min or max, not 'low'",
    ]),
    ({"objectives": "[{metric: nll, goal: min}, {metric: nl}]"}, [
        f"search.objectives.metric: 'nll' is 'test/nll', {TEST[3:]}nll",
        "search.objectives needs 'goal'",
        "search.objectives.metric: unknown metric or result key 'nl'; did you mean 'nll'? "
        "one of acc, kl, nll",
    ]),
    ({"objectives": "[{metric: kl, goal: min}, {metric: kl, goal: max}]"}, [
        "'kl' is an objective twice"
    ]),
    ({"constraints": "['test/kl > 1', 'kl', 'kl > a', \"kl == 'x'\", '1 > 2', '(kl > 1) > 2']"}, [
        f"search.constraints: column 1: 'test/kl' {TEST}kl",
        "search.constraints: column 1: 'kl' compares nothing; write a == b, or a > 0.5",
        "search.constraints: column 6: unknown metric or result key 'a'; one of acc, kl, nll",
        "search.constraints: column 7: a metric is compared with numbers, not with 'x'",
        "search.constraints: column 3: no metric in '1 > 2': it says nothing of a trial",
        "search.constraints: column 10: a comparison cannot be compared; join it by and, or, not",
    ]),
    ({"constraints": "[kl >]"}, [
        "search.constraints: column 5: a name, a value or '(' is expected, not the end"
    ]),
    ({"prune": "{rule: halving, metric: test/x, by: test/y, grace: 20, factor: 1}"}, [
        "search.prune.rule must be successive_halving, not 'halving'",
        f"search.prune.metric: 'test/x' {TEST}x",
        f"search.prune.by: 'test/y' {TEST}y",
        "search.prune.grace must be a share such as 20%, above 0% and below 100%, not 20",
        "search.prune.factor must be a whole number, 2 or more, not 1",
    ]),
    # the space
    ({"space": "{}"}, ["search.space: there is no key in it"]),
    ({"space": "{seed: {int: [0, 9]}, lr: {flaot: [1, 2]}, a: {float: [1, 2], int: [1, 2]}}"}, [
        "a seed is not searched: promote.seeds says which the best have",
        "search.space.lr needs one of choice, float, int",
        "unknown key 'flaot' in search.space.lr; did you mean 'float'? one of choice, float, int, "
        "log, step, when",
        "search.space.a needs one of choice, float, int",
    ]),
    ({"space": "{a: {float: [1, 1]}, b: {int: [1, 2.5]}, c: {float: [0, 1], log: true}, "
               "d: {int: 3}}"}, [
        "search.space.a.float: 1 is not below 1",
        "search.space.b.int must be [low, high], two whole numbers, not 2.5",
        "search.space.c.float: with 'log' it starts above 0, not at 0",
        "search.space.d.int must be [low, high], two whole numbers, not 3",
    ]),
    ({"space": "{a: {float: [0, 1], step: 0.3}, h: {float: [0, 1e300], step: 0.3}, "
               "b: {int: [1, 9], step: 0.5}, c: {int: [1, 9], log: true, step: 2}}"}, [
        "search.space.a.step: 0 to 1 is no multiple of 0.3",
        "search.space.h.step: 0 to 1e+300 is no multiple of 0.3",
        "search.space.b.step must be a whole number above 0, not 0.5",
        "search.space.c: either 'log' or 'step'",
    ]),
    ({"space": "{a: {choice: []}, b: {choice: [1, 1.0, true]}, c: {choice: [[1]], log: true}}"}, [
        "search.space.a.choice is empty; a list of values is expected",
        "search.space.b: 1.0 is a choice twice",
        "search.space.b: true is a number and a truth that are one to a sampler; "
        "write text, or 2 and 3",
        "search.space.c: a choice is text or a number: a list",
        "search.space.c.log: a choice has no 'log'",
    ]),
    ({"space": "{data: {choice: [a, b]}}"}, [
        "axis 'dataset' writes 'data', which is searched (s.yaml:10): one or the other",
        "axis 'dataset' writes 'data', which is searched (s.yaml:10): one or the other",
    ]),
    # conditions
    ({"space": "{a: {int: [1, 9], when: 'a > 1'}}"}, [
        "search.space.a.when: column 1: 'a' cannot depend on itself"
    ]),
    ({"space": "{a: {int: [1, 9], when: 'b > 1'}, b: {int: [1, 9], when: 'c > 1'}, "
               "c: {int: [1, 9], when: 'a > 1'}, d: {int: [1, 9], when: 'a > 1'}}"}, [
        "search.space: a -> b -> c -> a is a circle of 'when'"
    ]),
    ({"space": "{a: {choice: [x, y]}, b: {int: [1, 9], when: \"a == 'z'\"}, "
               "c: {int: [1, 9], when: 'aa == 1'}, d: {int: [1, 9], when: \"a > 'x'\"}, "
               "e: {int: [1, 9], when: 'b == 10'}, f: {int: [1, 9], when: 'a == b'}}"}, [
        "search.space.b.when: column 6: unknown choice of a 'z'; one of x, y",
        "search.space.c.when: column 1: unknown key 'aa' in search.space; did you mean 'a'? "
        "one of a, b, c, d, e, f",
        "search.space.d.when: column 3: a is no number; compare it with == or in",
        "search.space.e.when: column 6: b goes from 1 to 9, not to 10",
        "search.space.f.when: column 3: 'a == b': a key of the space is compared with a value "
        "in quotes",
    ]),
    # points
    ({"enqueue": "[{lr: 2, pooling: mx, layers: 1.5, size: 3}, {lr: a}, {}]"}, [
        "search.enqueue: lr goes from 0.1 to 1, not to 2",
        "search.enqueue: unknown choice of pooling 'mx'; did you mean 'max'? one of avg, max",
        "search.enqueue: layers is a whole number, not 1.5",
        "unknown key 'size' in search.enqueue; one of layers, lr, pooling",
        "search.enqueue: lr is a number, not 'a'",
        "search.enqueue: a point says nothing; give a key a value",
    ]),
    ({"space": "{a: {choice: [x, y]}, b: {float: [0, 1], step: 0.25, when: \"a == 'x'\"}}",
      "enqueue": "[{a: y, b: 0.5}, {b: 0.5}, {a: x, b: 0.6}, {a: x}]"}, [
        "search.enqueue: b is there only when a == 'x'",
        "search.enqueue: b is there when a == 'x'; the point does not say a",
        "search.enqueue: b goes in steps of 0.25 from 0, not to 0.6",
    ]),
    # sampler and storage
    ({"sampler": "{name: TPESamplr, 'a b': 1, c: [1]}"}, [
        "unknown sampler 'TPESamplr'; did you mean 'TPESampler'? one of "
        f"{', '.join(SAMPLERS)}, or package.module:thing",
        "search.sampler: 'a b' is no an argument's name, such as seed",
        "search.sampler.c must be text, a number or a truth",
    ]),
    ({"storage": "'mysql://localhost/x'"}, [
        "search.storage must be sqlite:///path, postgresql+psycopg2://user@host/database, "
        "or env:NAME of a variable with one"
    ]),
    # promotion
    ({"promote": "{front: false, seeds: [1, 2, 1, -1, x], score_on: train}"}, [
        "search.promote says of no trial that it goes on: front: true, or top",
        "search.promote.seeds: seed 1 is here twice",
        "search.promote.seeds: a seed is a whole number, 0 or more, not -1",
        "search.promote.seeds: a seed is a whole number, 0 or more, not 'x'",
        "search.promote.score_on must be test or valid, not 'train'",
    ]),
    ({"promote": "{top: 0, seeds: []}"}, [
        "search.promote.top must be a whole number, 1 or more, not 0",
        "search.promote.seeds is empty; a list of whole numbers is expected",
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "messages"), BAD)
def test_what_is_refused(changes, messages):
    assert faults(small(**changes)) == messages


ODD = [None, [], {}, "x", True, [[1]], 1e300]


def places(node, path=()):
    """The path of everything within plain data."""
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from places(child, (*path, key))


def test_whatever_stands_anywhere_is_read_or_refused():
    whole = plain(load(HEAD + SEARCH + TABLE + FIGURES, "s.yaml"))
    shown = {key: whole[key] for key in ("search", "tables", "figures")}
    for *path, last in places(shown):
        for odd in ODD:
            changed = copy.deepcopy(whole)
            functools.reduce(lambda node, key: node[key], path, changed)[last] = odd
            with contextlib.suppress(SpecError):
                parse(json.dumps(changed), "s.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+psycopg2://lab:hunter2@db/search",
        "postgresql+psycopg2://db/search?password=hunter2",
        "mysql://lab:hunter2@db/search",
        "postgresql+psycopg2://lab:hun/ter2@db/search",
        "postgresql+psycopg2://lab:hunter2@[db/search",
        "env:hunter2 hunter2",
    ],
)
def test_no_password_stands_in_a_file_or_in_a_message(text):
    (message,) = faults(small(storage=f"'{text}'"))
    assert "env:NAME" in message
    assert "ter2" not in message


def test_places_are_those_of_the_values():
    with pytest.raises(SpecError) as caught:
        sweep(small(objectives="[{metric: test/nll, goal: min}]", parallel="no"))
    places = [(p.mark.line, p.mark.column) for p in caught.value.problems]
    assert places == [(9, 25), (11, 13)]


def test_an_axis_of_seeds_and_seeds_of_the_best():
    text = HEAD.replace("axes: {", "axes: {seed: [0, 1], ") + small(
        for_each="[dataset, seed]", promote="{seeds: [0, 1]}"
    )
    with pytest.raises(SpecError) as caught:
        parse(text, "s.yaml")
    (problem,) = caught.value.problems
    assert problem.message == (
        "promote.seeds and axis 'seed' both say which seeds there are: one or the other"
    )


def test_what_is_searched_is_set_by_nothing_else():
    assert faults(small(), overrides=["lr=0.5"]) == [
        "--set lr: it is searched; set a key that is not"
    ]
    assert faults("base: {lr: {low: 1}}\n" + small()) == [
        "'lr' is a value here and a section at s.yaml:6"
    ]
    assert sweep("base: {lr: 0.2}\n" + small(), overrides=["other=1"]).search
    assert faults("include: [{dataset: Yahoo, x: 1}]\n" + small()) == [
        "a search has a study for each point of the cross: no 'include'"
    ]


# ---- profiles and imports


def test_a_profile_changes_a_search_key_by_key():
    text = (HEAD + SEARCH).replace(
        "{trials: 7}",
        "{trials: 7, prune: {factor: 2}, sampler: {seed: 8}, space: {dropout: {int: [1, 2]}, "
        "lr: {float: [1, 2]}}, enqueue: [{dropout: 1}]}",
    )
    plain, found = (parse(text, "s.yaml", profile=name).search for name in ("quick", "more"))
    assert (plain.trials, plain.prune.factor, plain.sampler.arguments["seed"]) == (60, 3, 7)
    assert (found.trials, found.prune.factor, found.prune.grace) == (7, 2, 0.2)
    assert found.sampler.arguments == {"seed": 8, "multivariate": True, "group": True}
    assert list(found.space) == [*plain.space, "lr"]
    dropout = found.space["dropout"]
    assert (dropout.low, dropout.high, dropout.whole, dropout.step) == (1, 2, True, None)
    assert found.enqueue == ({"dropout": 1},)
    assert plain.mark == found.mark


def test_another_sampler_has_its_own_arguments():
    text = (HEAD + SEARCH).replace("{trials: 7}", "{sampler: {name: RandomSampler, seed: 1}}")
    found = parse(text, "s.yaml", profile="more").search
    assert found.sampler == Sampler(name="RandomSampler", arguments={"seed": 1})


def test_what_is_wrong_in_another_profile_is_said_too():
    text = (HEAD + SEARCH).replace("{trials: 7}", "{trials: none}")
    with pytest.raises(SpecError, match=r"s.yaml:5:47: search.trials must be a whole number"):
        parse(text, "s.yaml")


def test_a_search_can_be_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("first.yaml").write_text(HEAD + SEARCH)
    Path("second.yaml").write_text(
        "name: second\nimport: {from: first.yaml, take: [trainer, axes, metrics, search]}\n"
        "search: {trials: 3, space: {dropout: {float: [0, 1]}}, enqueue: []}\n"
        "profiles: {quick: {}}\n"
    )
    found = read("second.yaml").search
    assert (found.trials, found.parallel, found.space["dropout"].step) == (3, 4, None)
    assert found.mark.source == "second.yaml"


# ---- the shipped one, and the verbs


@pytest.mark.parametrize(("profile", "trials"), [("quick", 20), ("small", 20), ("paper", 60)])
def test_the_shipped_search(profile, trials):
    found = read(SWEEPS / "anneal_search.yaml", profile=profile)
    assert found.search.trials == trials
    assert [level.label for level in found.axis("dataset").levels] == {
        "quick": ["Topics", "Styles"],
        "small": ["Yahoo20k", "YelpShort"],
        "paper": ["Yahoo", "Yelp"],
    }[profile]
    assert ("optim.epochs" in found.search.space) == (profile != "paper")


def type_(*arguments: str, store: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sweeper", *arguments, "--store", str(store)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(store)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_plan_says_what_is_searched(tmp_path):
    done = type_("plan", "sweeps/anneal_search.yaml", store=tmp_path)
    assert done.stdout.splitlines() == [
        "anneal_search · quick: search: 20 trials in each of 2 studies (Topics, Styles)",
        "what it will cost is known once the file's own configuration was trained",
        "then at most 3 of the front of each with 6 seeds, scored on test",
    ], done.stderr
    assert not list(tmp_path.iterdir())
