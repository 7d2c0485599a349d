"""Figures of a search: what they show against what was worked out by hand, what they leave out
and say, and files that are what they say they are; how much a key matters against closed forms."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import rankdata

from sweeper.errors import SpecError
from sweeper.figures import Figure, compose, draw
from sweeper.figures.drawing_search import number, ticks_of
from sweeper.figures.names import key_labels
from sweeper.figures.panels import Bar, Scale, Strand
from sweeper.figures.searched import limits_of, place_on, quantile, staircase
from sweeper.importance import ranks, shares
from sweeper.record import Record
from sweeper.spec import parse
from sweeper.spec.search_types import (
    Choice,
    Found,
    History,
    Importance,
    Parallel,
    Pareto,
    Slices,
    Span,
    Tried,
)
from sweeper.trial import Trial

HEAD = """\
name: t
trainer: a.b:c
profiles: {quick: {}}
axes: {dataset: {Yahoo: {data: yahoo}, Yelp: {data: yelp}}}
metrics:
  nll: {from: valid/nll, scale: 10, unit: nats, label: NLL}
  test: {from: test/nll}
search:
  for_each: [dataset]
  trials: 6
  objectives: [{metric: nll, goal: min}, {metric: cost/updates, goal: min}]
  constraints: ["valid/kl >= 0.5"]
  space:
    kl.schedule: {choice: [linear, constant]}
    kl.warmup_epochs: {int: [1, 30], log: true, when: "kl.schedule == 'linear'"}
    word_dropout: {float: [0.0, 0.5], step: 0.1}
"""
KINDS = {
    "pareto": "{kind: pareto, x: cost/updates, y: nll, by: dataset}",
    "importance": "{kind: importance, metric: nll}",
    "history": "{kind: history, metric: nll}",
    "slices": "{kind: slices, metric: nll}",
    "parallel": "{kind: parallel, metric: nll}",
}


def sweep_with(figure, found=None, head=HEAD):
    text = f"{head}figures:\n  f: {KINDS.get(figure, figure)}\n"
    return replace(parse(text, "s.yaml"), found=found)


def composed(figure, found=None, head=HEAD) -> Figure:
    sweep = sweep_with(figure, found, head)
    return compose(sweep.figures["f"], sweep, (), {})


def tried(number, nll=None, updates=None, *, at="Yahoo", state="complete", **more):
    found = {"valid/nll": nll, "cost/updates": updates}
    values = {key: value for key, value in found.items() if value is not None}
    feasible = state == "complete" and more.pop("feasible", True)
    point = more.pop("point", {"kl.schedule": "constant", "word_dropout": 0.1})
    return Tried(
        at={"dataset": at},
        number=number,
        state=state,
        values=values,
        feasible=feasible,
        point=point,
        **more,
    )


LINEAR = {"kl.schedule": "linear", "kl.warmup_epochs": 10, "word_dropout": 0.3}
YAHOO = (
    tried(4, 30.0, 400.0, state="pruned"),  # not in the order of their numbers
    tried(0, 9.0, 100.0, front=True),
    tried(1, 8.0, 200.0, front=True, point=LINEAR),
    tried(2, 8.5, 300.0, point=LINEAR),
    tried(3, 1.0, 50.0, feasible=False),
    tried(5, 6.0, 500.0, front=True),
)
YELP = (
    tried(0, 5.0, 100.0, at="Yelp", front=True),
    tried(1, state="failed", at="Yelp"),
    tried(2, state="running", at="Yelp"),
    tried(3, 7.0, state="pruned", at="Yelp"),
)
BASELINE = tried(-1, 7.0, 250.0, label="as in the file")
FOUND = Found(tried=(*YELP, *YAHOO), baselines=(BASELINE,))


def marks(panel):
    """(study, look) -> its points, in order."""
    return {
        (it.label, it.look): list(zip(it.xs, it.ys, strict=True)) for it in panel.marks
    }  # fmt: skip


# ---- what a file may say


def test_the_figures_of_a_search():
    made = {kind: sweep_with(kind).figures["f"] for kind in KINDS}
    types = (Pareto, Importance, History, Slices, Parallel)
    assert [type(it) for it in made.values()] == list(types)
    assert made["slices"].keys == made["parallel"].keys == ()
    found = sweep_with(
        "{kind: slices, metric: valid/x, keys: [word_dropout, kl.schedule], caption: C, write: pdf}"
    ).figures["f"]
    assert (found.metric, found.caption, found.write) == ("valid/x", "C", ("pdf",))
    assert found.keys == ("word_dropout", "kl.schedule")
    one = sweep_with("{kind: parallel, metric: nll, keys: word_dropout}").figures["f"]
    assert one.keys == ("word_dropout",)


BAD = {
    "{kind: history}": "figures.f needs 'metric'",
    "{kind: slices, metric: test}": (
        "figures.f.metric: 'test' is 'test/nll', of the test split, which is scored once, after "
        "promotion; search by one of the validation split, such as valid/nll"
    ),
    "{kind: slices, metric: nll, keys: [kl.warmup]}": (
        "unknown key 'kl.warmup' in figures.f; did you mean 'kl.warmup_epochs'? one of "
        "kl.schedule, kl.warmup_epochs, word_dropout"
    ),
    "{kind: parallel, metric: nll, keys: [word_dropout, word_dropout]}": (
        "key 'word_dropout' is here twice"
    ),
    "{kind: history, metric: nll, keys: word_dropout}": (
        "unknown key 'keys' in figures.f; one of caption, kind, metric, write"
    ),
    "{kind: parallel, metric: nlm}": (
        "figures.f.metric: unknown metric or result key 'nlm'; did you mean 'nll'? one of nll, test"
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.items())
def test_what_is_refused(text, message):
    with pytest.raises(SpecError) as caught:
        sweep_with(text)
    assert [problem.message for problem in caught.value.problems] == [message]


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_search_there_is_nothing_to_show(kind):
    with pytest.raises(SpecError) as caught:
        composed(kind, head=HEAD.partition("search:")[0])
    assert [problem.message for problem in caught.value.problems] == [
        f"figures.f: kind {kind} needs 'search:', which this file has not"
    ]


# ---- two metrics


def test_a_front_with_what_lies_behind_it():
    figure = composed("pareto", FOUND)
    assert (figure.kind, figure.columns) == ("pareto", ("",))
    assert (figure.rows, figure.x_label) == (("NLL (nats)",), "parameter updates")
    ((panel,),) = figure.panels
    assert marks(panel) == {  # the metric's scale is 10
        ("Yahoo", "front"): [(100.0, 90.0), (200.0, 80.0), (500.0, 60.0)],
        ("Yahoo", "feasible"): [(300.0, 85.0)],
        ("Yahoo", "infeasible"): [(50.0, 10.0)],
        ("Yahoo", "pruned"): [(400.0, 300.0)],
        ("Yahoo", "baseline"): [(250.0, 70.0)],
        ("Yelp", "front"): [(100.0, 50.0)],
    }
    assert {it.label: it.place for it in panel.marks} == {"Yahoo": 0, "Yelp": 1}
    yahoo, yelp = panel.lines
    # From a point to the cost of the next at the same value, then down.
    assert yahoo.xs == (100.0, 200.0, 200.0, 500.0, 500.0)
    assert yahoo.means == (90.0, 90.0, 80.0, 80.0, 60.0)
    assert (yelp.label, yelp.xs, yelp.means) == ("Yelp", (100.0,), (50.0,))
    assert figure.footer == (
        "Yahoo: 6 of 6 done; 4 feasible (3 on the front), 1 infeasible, 1 pruned",
        "Yelp: 3 of 6 done; 1 feasible (1 on the front), 1 pruned, 1 failed, 1 running",
        "lower is better: parameter updates, NLL (nats)",
        "line: the front, which no other feasible trial beats in NLL (nats), parameter updates",
        "baseline: the file's own configuration (as in the file)",
        "arrow at the edge: beyond it (1 trial)",  # 300: 89 + 3 * (89 - 65) is the fence
        "not shown: 1 failed, 1 running, 1 pruned without parameter updates and NLL (nats)",
        "feasible: valid/kl >= 0.5",
        "profile quick",
    )
    assert panel.limits == (10.0, 90.0)
    assert not figure.filled


@pytest.mark.parametrize(
    ("goals", "corners"),
    [  # of (1, 1) and (2, 3), the points between which nothing is better in both
        (("min", "max"), [(1, 1), (2, 1), (2, 3)]),
        (("max", "min"), [(1, 1), (1, 3), (2, 3)]),
    ],
)
def test_stairs_go_as_the_goals_do(goals, corners):
    xs, ys = staircase((2, 1), (3, 1), *goals)
    assert list(zip(xs, ys, strict=True)) == corners
    assert staircase((), (), *goals) == ((), ())


def test_a_front_is_joined_only_on_its_own_axes():
    figure = composed("{kind: pareto, x: valid/kl, y: nll, by: dataset}", FOUND)
    assert not figure.panels[0][0].lines
    kl = tuple(replace(it, values={**it.values, "valid/kl": 1.0}) for it in YAHOO)
    figure = composed("{kind: pareto, x: valid/kl, y: nll, by: dataset}", Found(tried=kl))
    ((panel,),) = figure.panels
    assert [y for _, y in marks(panel)["Yahoo", "front"]] == [90.0, 80.0, 60.0]
    assert not panel.lines
    assert (
        "framed: the front, which no other feasible trial beats in NLL (nats), parameter updates "
        "(not joined: the axes are others)"
    ) in figure.footer
    assert "lower is better: NLL (nats)" in figure.footer  # Nothing is said of the other.


def test_a_study_may_be_pinned_and_called_otherwise():
    figure = composed(
        "{kind: pareto, x: cost/updates, y: nll, where: {dataset: Yahoo}, show: baseline}", FOUND
    )
    assert set(marks(figure.panels[0][0])) == {
        ("", "pruned"),
        ("", "infeasible"),
        ("", "feasible"),
        ("", "baseline"),
    }
    assert figure.footer[0].startswith("trials: 6 of 6 done; ")
    assert figure.filled
    named = composed(
        "{kind: pareto, x: cost/updates, y: nll, by: dataset, show: front, labels: {Yelp: Y}}",
        FOUND,
    )
    assert {label for label, _ in marks(named.panels[0][0])} == {"Yahoo", "Y"}
    assert not any("own configuration" in line for line in named.footer)


def test_who_made_the_trials_is_said():
    trial = Trial(trainer=sweep_with("pareto").trainer, config={"data": "yahoo"}, seed=0)
    keys = {"trial_id": trial.id, "evaluation_id": trial.evaluation_id}
    found = Found(tried=(replace(YAHOO[1], **keys),))
    stamp = {"commit": "a" * 40, "code_digest": "b" * 64}
    record = Record(**keys, state="done", result={}, provenance=stamp)
    sweep = sweep_with("history", found)
    figure = compose(sweep.figures["f"], sweep, (trial,), {trial.key: record})
    assert figure.footer[-1] == (
        "profile quick; data yahoo; code bbbbbbbbbbbb; commit aaaaaaaaaaaa"
    )


# ---- one metric


def test_a_history_and_the_best_so_far():
    figure = composed("history", FOUND)
    assert (figure.rows, figure.columns, figure.x_label) == (("NLL (nats)",), ("", ""), "trial")
    yahoo, yelp = figure.panels[0]
    assert (yahoo.title, yelp.title) == ("Yahoo", "Yelp")
    assert marks(yahoo) == {
        ("Yahoo", "feasible"): [(0.0, 90.0), (1.0, 80.0), (2.0, 85.0), (5.0, 60.0)],
        ("Yahoo", "infeasible"): [(3.0, 10.0)],
        ("Yahoo", "pruned"): [(4.0, 300.0)],
    }
    (line,) = yahoo.lines  # the infeasible 10 does not count
    assert (line.xs, line.means, line.stepped) == ((0.0, 1.0, 5.0), (90.0, 80.0, 60.0), True)
    (line,) = yelp.lines  # to the last trial that has ended
    assert (line.xs, line.means) == ((0.0, 3.0), (50.0, 50.0))
    assert "not shown: 1 failed, 1 running" in figure.footer


def test_the_greatest_is_best_where_the_search_says_so_and_none_where_nobody_does():
    upwards = HEAD.replace("metric: nll, goal: min", "metric: nll, goal: max")
    (line,) = composed("history", FOUND, upwards).panels[0][0].lines
    assert (line.xs, line.means) == ((0.0, 5.0), (90.0, 90.0))
    figure = composed("{kind: history, metric: valid/nll}", FOUND)  # the objective's result key
    assert figure.panels[0][0].lines[0].means == (9.0, 8.0, 6.0)
    values = tuple(replace(it, values={"valid/x": 1.0}) for it in YAHOO)
    figure = composed("{kind: history, metric: valid/x}", Found(tried=values))
    assert not figure.panels[0][0].lines
    unknown = "no line of the best: nothing says whether less or more of valid/x is better"
    assert unknown in figure.footer


def test_a_value_that_is_no_number_or_another_metrics_is_none():
    nan, inf = float("nan"), float("inf")
    found = Found(
        tried=(
            tried(0, nan, 100.0),
            tried(1, inf, 100.0),
            replace(tried(2), values={"valid/nelbo": 3.0}),
            replace(tried(3), values={"nll": 3.0}),
        )
    )
    figure = composed("history", found)
    assert marks(figure.panels[0][0]) == {}
    assert "not shown: 4 complete without NLL (nats)" in figure.footer


def test_slices_have_a_panel_for_each_key_and_rows_for_each_study():
    figure = composed("slices", FOUND)
    assert figure.columns == ("", "", "")
    assert figure.rows == ("Yahoo\nNLL (nats)", "Yelp\nNLL (nats)")
    schedule, warmup, dropout = figure.panels[0]
    assert [it.title for it in figure.panels[0]] == [
        "schedule", "warmup epochs (n=2)", "word dropout"
    ]  # fmt: skip
    assert schedule.scales == (
        Scale(label="schedule", low=0.0, high=1.0, options=("linear", "constant")),
    )
    assert warmup.scales == (
        Scale(label="warmup epochs", low=1.0, high=30.0, log=True, whole=True),
    )
    assert marks(schedule)["Yahoo", "feasible"] == [(1.0, 90.0), (0.0, 80.0), (0.0, 85.0), (1, 60)]
    assert marks(warmup) == {("Yahoo", "feasible"): [(10.0, 80.0), (10.0, 85.0)]}
    assert [x for x, _ in marks(dropout)["Yahoo", "feasible"]] == [0.1, 0.3, 0.3, 0.1]
    assert figure.panels[1][1].note == "nothing to show"
    chosen = composed("{kind: slices, metric: nll, keys: [word_dropout, kl.schedule]}", FOUND)
    assert [panel.title for panel in chosen.panels[0]] == ["word dropout", "schedule"]


def test_many_keys_take_several_rows():
    more = "".join(f"    k{n}: {{int: [0, 9]}}\n" for n in range(3))
    figure = composed("slices", FOUND, HEAD + more)
    assert (len(figure.columns), len(figure.rows)) == (4, 4)
    assert [bool(panel.scales) for panel in figure.panels[1]] == [True, True, False, False]


def test_parallel_lines_end_where_a_trial_has_not_the_key():
    figure = composed("parallel", FOUND)
    assert (figure.rows, figure.columns, figure.colour) == (("", ""), ("",), "NLL (nats)")
    ((yahoo,), (yelp,)) = figure.panels
    assert [scale.label for scale in yahoo.scales] == [
        "schedule", "warmup epochs", "word dropout", "NLL (nats)"
    ]  # fmt: skip
    assert yahoo.strands == (
        Strand(at=(1.0, None, 0.1, 90.0)),
        Strand(at=(0.0, 10.0, 0.3, 80.0)),
        Strand(at=(0.0, 10.0, 0.3, 85.0)),
        Strand(at=(1.0, None, 0.1, 10.0), feasible=False),
        Strand(at=(1.0, None, 0.1, 60.0)),
    )
    assert (yahoo.scales[-1].low, yahoo.scales[-1].high) == (10.0, 90.0)
    assert (yelp.scales[-1].low, yelp.scales[-1].high) == (50.0, 50.0)
    assert "line: one complete trial, broken where it has not the key; grey: infeasible" in (
        figure.footer
    )
    assert "not shown: 2 pruned, 1 failed, 1 running" in figure.footer


def test_labels_are_words_and_tell_keys_apart():
    assert key_labels(["kl.warmup_epochs", "optim.epochs", "a.size", "b.size", "seed"]) == {
        "kl.warmup_epochs": "warmup epochs",
        "optim.epochs": "epochs",
        "a.size": "a size",
        "b.size": "b size",
        "seed": "seed",
    }


def test_a_value_that_the_space_has_not_has_no_place():
    either = Choice(key="k", options=(True, 1, None, "x"))
    assert [place_on(either, {"k": it}) for it in (True, 1, None, "x", False)] == [0, 1, 2, 3, None]
    assert place_on(either, {}) is None
    span = Span(key="k", low=1, high=9, whole=True)
    assert [place_on(span, {"k": it}) for it in (1, 9, 10, 2.5)] == [1.0, 9.0, None, None]


# ---- what would press all else flat


def test_what_is_far_out_on_the_worse_side_is_left_out():
    # Quartiles 2 and 4 of 1 2 3 4 100: 4 + 3 * 2 = 10 is the fence.
    values = [100.0, 1.0, 3.0, 2.0, 4.0]
    assert limits_of(values, "min") == (1.0, 4.0)
    assert limits_of(values, "max") == (1.0, 100.0)
    assert limits_of([-100.0, *values[1:]], "max") == (1.0, 4.0)
    assert limits_of([-100.0, *values[1:]], None) == (1.0, 4.0)
    assert limits_of([5.0], "min") == (5.0, 5.0)
    for share in (0.0, 0.25, 0.4, 1.0):
        assert quantile(sorted(values), share) == pytest.approx(np.quantile(values, share))


def test_what_is_beyond_the_limits_is_said():
    outlier = tried(6, 1e6, 50.0)
    ordinary = [tried(n, 9.0 + n, 100.0 * n) for n in range(6)]
    figure = composed("history", Found(tried=(*ordinary, outlier)))
    assert figure.panels[0][0].limits == (90.0, 140.0)
    assert figure.panels[0][1].limits is None
    assert "arrow at the edge: beyond it (1 trial)" in figure.footer
    assert composed("history", Found(tried=tuple(ordinary))).panels[0][0].limits is None
    # On the front it stays: a trial may be the cheapest and the worst.
    front = Found(tried=(*ordinary, replace(outlier, front=True)))
    assert composed("pareto", front).panels[0][0].limits is None


# ---- how much a key matters

UNIT = {key: Span(key=key, low=0.0, high=1.0) for key in ("none", "some", "most")}


def grid(n=14):
    """Each value of "some" with each of "most", evenly spread; "none" is drawn."""
    places = [(i + 0.5) / n for i in range(n)]
    drawn = np.random.default_rng(3).random(n * n)
    pairs = [(a, b) for a in places for b in places]
    return [
        {"some": a, "most": b, "none": float(c)} for (a, b), c in zip(pairs, drawn, strict=True)
    ]


def test_shares_of_an_additive_function():
    points = grid()
    found = shares(UNIT, points, [2 * it["some"] + 4 * it["most"] for it in points])
    assert [it.key for it in found] == ["most", "some", "none"]
    # E[rank | key] on a fine grid over both, without any regression.
    fine = (np.arange(700) + 0.5) / 700
    sums = 2 * fine[:, None] + 4 * fine[None, :]
    ranked = rankdata(sums).reshape(sums.shape)
    exact = {
        "most": ranked.mean(axis=0).var() / ranked.var(),
        "some": ranked.mean(axis=1).var() / ranked.var(),
        "none": 0.0,
    }
    assert exact["most"] == pytest.approx(0.8, abs=0.02)  # 4² / (2² + 4²), but for the ranks
    for one in found:
        assert one.share == pytest.approx(exact[one.key], abs=0.015)
        assert one.n == 196
        assert (one.share > one.chance) is (one.key != "none")


def test_the_share_of_a_choice_is_that_of_a_plain_analysis_of_variance():
    key = Choice(key="k", options=(True, 1, None, "x"))
    random = np.random.default_rng(5)
    kinds = [int(it) for it in random.integers(4, size=50)]
    values = [kind % 2 + float(random.normal()) for kind in kinds]
    (one,) = shares({"k": key}, [{"k": key.options[kind]} for kind in kinds], values)
    order = rankdata(values)
    groups = [[order[i] for i in range(50) if kinds[i] == kind] for kind in range(4)]
    within = sum(sum((it - sum(some) / len(some)) ** 2 for it in some) for some in groups)
    whole = sum((it - sum(order) / 50) ** 2 for it in order)
    assert one.share == pytest.approx(1 - (within / (50 - 4)) / (whole / (50 - 1)))


def test_a_choice_that_decides_everything_explains_everything():
    space = {
        "k": Choice(key="k", options=("a", "b", "c", "d")),
        "z": Span(key="z", low=0.0, high=1.0),
    }
    points = [{"k": k, "z": z} for k in "abcd" for z in (0.1, 0.5, 0.9)]
    first, second = shares(space, points, [float("abcd".index(it["k"])) for it in points])
    assert (first.key, first.share, first.n) == ("k", pytest.approx(1.0), 12)
    assert (second.key, second.share) == ("z", 0.0)


@pytest.mark.parametrize("log", [False, True])
def test_a_number_is_judged_on_its_own_scale_and_may_have_a_best_in_its_middle(log):
    key = Span(key="k", low=1e-5, high=1e-1, log=log)
    places = [(i + 0.5) / 40 for i in range(40)]
    points = [{"k": 1e-5 * 1e4**it if log else 1e-5 + it * (1e-1 - 1e-5)} for it in places]
    (one,) = shares({"k": key}, points, [(it - 0.5) ** 2 for it in places])
    assert one.share > 0.9
    assert one.share > one.chance


def test_a_conditional_key_is_judged_among_the_trials_that_have_it():
    points = [
        it if n % 2 else {k: v for k, v in it.items() if k != "most"} for n, it in enumerate(grid())
    ]
    # Those with it are all worse than those without: being there must not count.
    values = [10 + it["most"] if "most" in it else it["none"] for it in points]
    found = {it.key: it for it in shares(UNIT, points, values)}
    assert (found["most"].n, found["none"].n) == (98, 196)
    assert found["most"].share == pytest.approx(1.0, abs=0.01)


def test_what_shuffling_reaches_is_reached_by_chance_one_time_in_twenty():
    random = np.random.default_rng(0)
    above = 0
    for _ in range(300):
        points = [{"some": float(random.random())} for _ in range(24)]
        (one,) = shares({"some": UNIT["some"]}, points, list(random.normal(size=24)))
        above += one.share > one.chance
    assert 4 <= above <= 28  # binomial(300, 1/20): its mean is 15, and its deviation 3.8


def test_importance_is_the_same_again_and_does_not_depend_on_the_unit_or_the_direction():
    points = grid(5)
    values = [it["some"] + it["none"] for it in points]
    once = shares(UNIT, points, values)
    assert shares(UNIT, points, values) == once
    assert shares(UNIT, points, [np.exp(9 * it) for it in values]) == once
    turned = shares(UNIT, points, [-it for it in values])
    assert [it.share for it in turned] == pytest.approx([it.share for it in once])


def test_what_cannot_be_said():
    def said(points, values):
        return [(it.n, it.share, it.why) for it in shares(UNIT, points, values)]

    assert said([], []) == [(0, None, "not testable with 0 trials")] * 3
    assert said(grid()[:1], [1.0]) == [(1, None, "not testable with 1 trial")] * 3
    assert said(grid()[:3], [1.0, 2.0, 3.0]) == [(3, None, "not testable with 3 trials")] * 3
    assert said(grid(), [1.0] * 196) == [(196, 0.0, "")] * 3  # nothing varies
    same = [{**it, "some": 0.5} for it in grid()]
    assert said(same, [it["most"] for it in same])[-1] == (
        196, None, "not testable with one value"
    )  # fmt: skip
    many = Choice(key="k", options=tuple(range(6)))
    (one,) = shares({"k": many}, [{"k": k} for k in range(6)], [float(k) for k in range(6)])
    assert (one.share, one.why) == (None, "not testable with 6 trials")  # any ranks would do
    (one,) = shares({"k": many}, [{"k": 9}] * 9, [1.0] * 9)  # no such choice (any more)
    assert one.n == 0


def test_ranks():
    values = [3.0, 1.0, 3.0, 2.0, 3.0]
    assert ranks(np.array(values)).tolist() == [4.0, 1.0, 4.0, 2.0, 4.0]


def test_bars_and_what_cannot_be_tested():
    figure = composed("importance", FOUND)
    yahoo, yelp = figure.panels[0]
    assert {bar.label for bar in yahoo.bars} == {
        "schedule", "word dropout", "warmup epochs (n=2)"
    }  # fmt: skip
    assert yahoo.bars[-1] == Bar(label="warmup epochs (n=2)", note="not testable with 2 trials")
    shown = [bar.share for bar in yahoo.bars[:2]]
    assert shown == sorted(shown, reverse=True)
    assert (yelp.bars, yelp.note) == ((), "not testable with 1 trial")
    assert "not shown: 2 pruned, 1 failed, 1 running" in figure.footer
    assert any("the trials' ranks by NLL (nats)" in line for line in figure.footer)


# ---- nothing, one, and all of one kind


def every(state, **more):
    return Found(
        tried=tuple(
            tried(n, 5.0 + n, 10.0 * n, at=at, state=state, **more)
            for at in ("Yahoo", "Yelp")
            for n in range(6)
        )
    )


DEGENERATE = {
    "not looked up": None,
    "empty": Found(),
    "one trial": Found(tried=YELP[:1]),
    "all failed": every("failed"),
    "all waiting": every("waiting"),
    "all infeasible": every("complete", feasible=False),
    "all pruned": every("pruned"),
    "all the same": Found(tried=tuple(tried(n, 1.0, 1.0) for n in range(6))),
    "without values": Found(tried=tuple(tried(n) for n in range(6))),
    "without points": Found(tried=tuple(tried(n, 1.0 + n, 1.0, point={}) for n in range(6))),
    "only a baseline": Found(baselines=(BASELINE,)),
    "everything": FOUND,
}


def is_whole_picture(figure):
    picture = Image.open(io.BytesIO(draw(figure, "png")))
    assert picture.format == "PNG"
    assert picture.width in (909, 1890)  # a column, or a page
    assert 200 < picture.height < 2400
    assert draw(figure, "pdf").startswith(b"%PDF-")
    return True


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_picture_of_anything(kind, name):
    found = DEGENERATE[name]
    figure = composed(kind, found)
    assert is_whole_picture(figure)
    assert figure.filled is (name in ("all failed", "all infeasible", "all pruned"))
    if found is None:
        assert figure.footer[0] == "not searched yet"
        assert {panel.note for row in figure.panels for panel in row} == {"not searched yet"}
    if found == Found():
        assert figure.footer[:2] == ("Yahoo: no trials yet", "Yelp: no trials yet")
        assert {panel.note for row in figure.panels for panel in row} == {"no trials yet"}


ONE = HEAD.replace("{Yahoo: {data: yahoo}, Yelp: {data: yelp}}", "{Yahoo: {data: yahoo}}")
MANY = HEAD.replace(
    "dataset: {", "dataset: {A: {data: a}, B: {data: b}, C: {data: c}, "
)  # fmt: skip
NONE = HEAD.replace("axes: {dataset: {Yahoo: {data: yahoo}, Yelp: {data: yelp}}}\n", "").replace(
    "for_each: [dataset]", "for_each: []"
)
KEYS = HEAD.replace(
    "choice: [linear, constant]",
    "choice: [linear, constant, a very long name of a schedule, true, null, 1e-5]",
) + "".join(f"    a.long_section.some_long_name_{n}: {{float: [1e-6, 10]}}\n" for n in range(9))


@pytest.mark.parametrize("head", [ONE, MANY, KEYS], ids=["one study", "five", "many keys"])
@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_picture_of_other_sizes(kind, head):
    assert draw(composed(kind, FOUND, head), "png")


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_without_axes_has_one_study(kind):
    found = Found(tried=tuple(replace(it, at={}) for it in YAHOO))
    figure = composed(KINDS[kind].replace(", by: dataset", ""), found, NONE)
    assert figure.footer[0].startswith("trials: 6 of 6 done; 4 feasible (3 on the front)")
    assert figure.filled
    assert draw(figure, "png")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("style", ["png", "pdf"])
def test_the_same_figure_is_the_same_file(kind, style):
    figure = composed(kind, FOUND)
    assert draw(figure, style) == draw(figure, style)


def test_numbers_along_an_axis():
    shown = {12000.0: "12,000", 0.30000000000000004: "0.3", -2.5: "−2.5", 0.0: "0"}
    shown |= {2e-05: "2e−5", 0.001: "0.001", 1234567.0: "1,234,567"}
    assert {value: number(value) for value in shown} == shown
    assert ticks_of(Scale(label="", low=1, high=30, log=True)) == [1, 2, 5, 10, 20]
    assert ticks_of(Scale(label="", low=1e-5, high=0.1, log=True)) == pytest.approx(
        [1e-5, 1e-4, 1e-3, 1e-2, 0.1]
    )
    assert ticks_of(Scale(label="", low=3, high=4, log=True)) == [3, 4]
