"""A metric that no trial of a sweep reports is an error before the first one, at its line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sweeper import run
from sweeper.design import expand
from sweeper.errors import SpecError
from sweeper.reported import configurations, unreported
from sweeper.spec import parse, read

SWEEPS = Path(__file__).parents[2] / "sweeps"
PROFILES = ("quick", "small", "paper")
FILES = sorted(set(SWEEPS.glob("*.yaml")) - {SWEEPS / "paper.yaml", SWEEPS / "own_trainer.yaml"})
TYPED = "{function: toy_trainers:countdown, config: toy_reporting}"

TEXT = """\
name: toy
trainer: TRAINER
set: {steps: 1}
axes:
  model: [plain, latent]
  seed: [0, 1]
metrics:
  score:
    label: a score
    from: test/estimate
    or: test/exact
  kl: {from: valid/kl}
  unused: {from: valid/nothing_like_it}
  done: {from: progress}
tables:
  one:
    rows: model
    over: seed
    values: [score, kl]
    references:
      Floor: {score: test/exact}
claims:
  low: {test: "kl[latent] < 1"}
figures:
  two:
    kind: curves
    series: model
    over: seed
    x: cost/updates
    y:
      - done
      - valid/nelbo
profiles: {quick: {}}
"""

SEARCH = """\
name: toy
trainer: TRAINER
set: {model: latent, steps: 1}
metrics:
  kl: {from: valid/kl}
search:
  trials: 3
  objectives:
    - {metric: valid/nelbo, goal: min}
    - metric: cost/updates
      goal: min
  constraints:
    - kl >= 1 and loss/nat < 3
  space: {lr: {float: [0.1, 1.0]}}
  prune:
    rule: successive_halving
    metric: valid/nelbo
    grace: 20%
    factor: 3
  promote: {seeds: [0, 1]}
tables:
  found:
    rows:
      from: search
      order_by: valid/kl
    values: [kl]
    over: seed
figures:
  front:
    kind: pareto
    x: cost/updates
    y: valid/nelbo
  weight: {kind: importance, metric: valid/nelbo}
profiles: {quick: {}}
"""


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """The configurations that the module has been asked about."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    sys.modules.pop("toy_reporting", None)
    import toy_reporting

    return toy_reporting.asked


def sweep(text=TEXT, trainer=TYPED):
    return parse(text.replace("TRAINER", trainer), "toy.yaml")


def changed(text, old, new):
    assert text.count(old) == 1, old
    return text.replace(old, new)


def wrong(found):
    return [str(p) for p in unreported(found, configurations(expand(found, None)))]


def test_what_some_trial_reports_is_right_although_others_lack_it():
    assert wrong(sweep()) == []


@pytest.mark.parametrize(
    ("old", "new", "place", "called", "meant"),
    [
        (
            "from: test/estimate",
            "from: test/estimat",
            "10:11",
            "metrics.score.from",
            "test/estimate",
        ),
        ("or: test/exact", "or: test/exakt", "11:9", "metrics.score.or", "test/exact"),
        ("{from: valid/kl}", "{from: valid/k}", "12:14", "metrics.kl.from", "valid/kl"),
        (
            "{score: test/exact}",
            "{score: test/exakt}",
            "21:22",
            "tables.one.references.Floor.score",
            "test/exact",
        ),
        ("- valid/nelbo", "- valid/nebo", "32:9", "figures.two.y", "valid/nelbo"),
        ("x: cost/updates", "x: seconds/all", "29:8", "figures.two.x", None),
    ],
)
def test_a_misspelt_key_is_wrong_where_it_is_written(old, new, place, called, meant):
    (said,) = wrong(sweep(changed(TEXT, old, new)))
    given = new.strip("{}").split()[-1]
    hint = f"; did you mean {meant!r}?" if meant else ";"
    known = "cost/updates, loss, progress, test/estimate, test/exact, valid/kl, valid/nelbo"
    assert said == (
        f"toy.yaml:{place}: {called}: unknown result key {given!r}{hint} one of {known}"
    )


def test_only_what_is_shown_is_asked_for():
    text = changed(TEXT, "[score, kl]", "[score]")
    assert wrong(sweep(changed(text, "{from: valid/kl}", "{from: valid/k}")))  # by a claim
    claims = 'claims:\n  low: {test: "kl[latent] < 1"}\n'
    text = changed(text, claims, "")
    assert not wrong(sweep(changed(text, "{from: valid/kl}", "{from: valid/k}")))


def test_a_key_that_only_other_configurations_report_may_stand_in_and_not_stand_alone():
    text = changed(TEXT, "[plain, latent]", "[latent]")
    no_reference = changed(text, "    references:\n      Floor: {score: test/exact}\n", "")
    assert wrong(sweep(no_reference)) == []
    said = "no trial of this sweep reports 'test/exact'; other configurations do"
    assert wrong(sweep(text)) == [f"toy.yaml:21:22: tables.one.references.Floor.score: {said}"]


def test_what_is_shown_twice_is_wrong_once_and_all_of_it_is_said():
    text = changed(TEXT, "{from: valid/kl}", "{from: valid/k}")  # a table's and a claim's
    found = wrong(sweep(changed(text, "or: test/exact", "or: nothing/of/it")))
    assert [said.split(": ")[0] for said in found] == ["toy.yaml:11:9", "toy.yaml:12:14"]


@pytest.mark.parametrize(
    "trainer",
    [
        "toy_trainers:countdown",
        "{function: toy_trainers:countdown, config: toy_trainers}",
    ],
    ids=["no module", "a module that does not say"],
)
def test_nothing_is_said_where_the_trainer_does_not_say(trainer):
    assert wrong(sweep(changed(TEXT, "{from: valid/kl}", "{from: valid/k}"), trainer)) == []


def test_nothing_is_said_where_one_level_or_one_configuration_does_not_say():
    text = changed(TEXT, "{from: valid/kl}", "{from: valid/k}")
    other = "{plain: {}, latent: {trainer: toy_trainers:draw, set: {}}}"
    assert wrong(sweep(changed(text, "[plain, latent]", other))) == []
    assert wrong(sweep(changed(text, "[plain, latent]", "[plain, latent, own]"))) == []


def test_a_module_that_gives_no_collection_of_names_is_told_so():
    text = changed(changed(TEXT, "[plain, latent]", "[odd]"), "kl[latent]", "kl[odd]")
    with pytest.raises(SpecError, match="reported gives a collection of names, not 'loss'"):
        wrong(sweep(text))


def test_each_configuration_is_asked_once_and_none_when_all_is_found(asked):
    seeds = "seed: {range: [0, 99]}"
    text = changed(TEXT, "seed: [0, 1]", seeds)
    assert wrong(sweep(changed(text, "{from: valid/kl}", "{from: valid/k}")))
    assert [config["model"] for config in asked] == ["plain", "latent"]
    asked.clear()
    many = changed(text, "[plain, latent]", "[plain, latent]\n  lr: {linspace: [1, 2, 50]}")
    many = changed(many, "    rows: model\n    over: seed", "    rows: model\n    over: [seed, lr]")
    many = changed(
        many, "    series: model\n    over: seed", "    series: model\n    over: [seed, lr]"
    )
    many = changed(many, '{test: "kl[latent] < 1"}', '{test: "kl[latent] < 1", pool: lr}')
    assert wrong(sweep(many)) == []
    assert len(asked) == 51  # 50 plain ones, and the first of the others


def test_a_module_is_given_what_the_trainer_is_given(asked):
    wrong(sweep(changed(TEXT, "{steps: 1}", "{steps: 1, evaluate: {samples: 3}}")))
    assert asked[0] == {"model": "plain", "steps": 1, "evaluate": {"samples": 3}}


def test_plan_and_run_refuse_before_anything_starts(tmp_path):
    place = run.Place(store=tmp_path / "runs")
    assert len(run.look(sweep(), place).todo) == 4
    with pytest.raises(SpecError, match=r"toy.yaml:12:14: .*did you mean 'valid/kl'"):
        run.look(sweep(changed(TEXT, "{from: valid/kl}", "{from: valid/k}")), place)


# ---- searches


def test_a_search_goes_by_what_is_reported():
    text = changed(SEARCH, " and loss/nat < 3", "")
    assert wrong(sweep(text)) == []


@pytest.mark.parametrize(
    ("old", "new", "place", "called"),
    [
        ("- {metric: valid/nelbo", "- {metric: valid/nebo", "9:16", "search.objectives.metric"),
        ("- metric: cost/updates", "- metric: cost/update", "10:15", "search.objectives.metric"),
        (
            "    metric: valid/nelbo\n    grace",
            "    metric: valid/nebo\n    grace",
            "17:13",
            "search.prune.metric",
        ),
        ("factor: 3", "factor: 3\n    by: cost/update", "20:9", "search.prune.by"),
        ("order_by: valid/kl", "order_by: valid/k", "25:17", "tables.found.rows.order_by"),
        ("y: valid/nelbo", "y: valid/nebo", "32:8", "figures.front.y"),
        (
            "importance, metric: valid/nelbo",
            "importance, metric: valid/nebo",
            "33:38",
            "figures.weight.metric",
        ),
    ],
)
def test_each_key_of_a_search_is_wrong_where_it_is_written(old, new, place, called):
    text = changed(changed(SEARCH, " and loss/nat < 3", ""), old, new)
    (said,) = wrong(sweep(text))
    assert said.startswith(f"toy.yaml:{place}: {called}: unknown result key ")


def test_so_is_one_in_a_constraint():
    (said,) = wrong(sweep(SEARCH))
    assert said.startswith("toy.yaml:13:7: search.constraints: unknown result key 'loss/nat'")


# ---- the shipped ones


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_shipped_sweeps_show_what_is_reported(path, profile):
    found = read(path, profile=profile)
    trials = expand(found, None, without_data=True)
    assert unreported(found, configurations(trials)) == []


def test_of_a_shipped_sweep_a_misspelt_key_is_found():
    text = (SWEEPS / "table1.yaml").read_text(encoding="utf-8")
    text = changed(text, "{from: test/nll_iw, or:", "{from: test/nll_wi, or:")
    found = parse(text, SWEEPS / "table1.yaml")
    (said,) = wrong(found)
    assert "metrics.nll.from: unknown result key 'test/nll_wi'; did you mean 'test/nll_iw'?" in said
