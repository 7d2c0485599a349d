import csv
import io
import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import yaml

from sweeper.record import Measurement, Record
from sweeper.render import RENDERERS
from sweeper.spec.sweep import (
    Axis,
    Best,
    Delta,
    Level,
    Metric,
    Reference,
    RelativeTo,
    Significance,
    Sweep,
    TableSpec,
)
from sweeper.tables import FORMAT, tabulate
from sweeper.tables.numerals import numeral, ratio, summary
from sweeper.trial import TrainerRef, Trial

TRAINER = TrainerRef(function="toy:train")
PAPER = Path(__file__).parents[2] / "sweeps" / "paper.yaml"
NLL = Metric(name="nll", source="test/nll_iw", fallback="test/nll_exact", goal="min", format=".1f")


def axis(name, labels, **notes):
    levels = [Level(label=x, set={}, note=notes.get(x.replace("-", "_"))) for x in labels]
    return Axis(name=name, levels=tuple(levels))


def sweep_of(axes, metrics, **fields):
    return Sweep(
        name="toy",
        source=Path("toy.yaml"),
        profile="quick",
        trainer=TRAINER,
        trainer_mark=None,
        base={},
        axes=tuple(axes),
        metrics={metric.name: metric for metric in metrics},
        **fields,
    )


def design(sweep):
    """The cross of the axes; every point a trial of its own."""
    for labels in product(*(axis.labels for axis in sweep.axes)):
        at = dict(zip([axis.name for axis in sweep.axes], labels, strict=True))
        settings = {name: label for name, label in at.items() if name != "seed"}
        yield Trial(trainer=TRAINER, config=settings, seed=int(at.get("seed", 0)), labels=at)


def record(trial, state="done", **result):
    """Result keys are written with _ for the first /."""
    values = {key.replace("_", "/", 1): value for key, value in result.items()}
    return Record(trial_id=trial.id, evaluation_id=trial.evaluation_id, state=state, result=values)


def texts(table):
    return {row.key: [cell.text for cell in cells] for row, cells in table.lines()}


# One model, a few seeds: what a cell says -----------------------------------------------------


@pytest.fixture
def one_row():
    """values (a float, a state or None for each seed) -> the one cell and its table."""

    def build(*values, cell="{mean} ± {sd}", states=None, **changes):
        seeds = [str(i) for i in range(len(values))]
        sweep = sweep_of([axis("model", ["A"]), axis("seed", seeds)], [NLL])
        spec = TableSpec(
            name="t", rows="model", values=("nll",), over=("seed",), cell=cell, **changes
        )
        trials = list(design(sweep))
        records = {}
        for trial, value in zip(trials, values, strict=True):
            if isinstance(value, float):
                records[trial.key] = record(trial, test_nll_iw=value)
            elif value is not None:
                records[trial.key] = record(trial, value)
        named = {trials[i].key: state for i, state in (states or {}).items()}
        known = {t.key: records[t.key].state if t.key in records else "missing" for t in trials}
        table = tabulate(spec, sweep, trials, records, states=known | named)
        return table.cells[0][0], table

    return build


def test_a_cell_is_mean_and_sd_over_seeds(one_row):
    cell, table = one_row(81.0, 82.0, 86.0)
    assert (cell.state, cell.text, cell.n, cell.points) == ("value", "83.0 ± 2.6", 3, 3)
    assert cell.samples == {"0": 81.0, "1": 82.0, "2": 86.0}
    assert table.counts == {"value": 1}
    assert table.filled


def test_half_a_t_interval(one_row):
    # sd = 1, t(2) = 4.303: 4.303 / sqrt(3) = 2.48
    assert one_row(1.0, 2.0, 3.0, cell="{mean} ± {ci95}")[0].text == "2.0 ± 2.5"


def test_one_seed_has_no_spread(one_row):
    assert one_row(81.04)[0].text == "81.0"


@pytest.mark.parametrize("state", ["missing", "running", "failed", "diverged", "exceeded"])
def test_without_a_value_the_state_is_printed(one_row, state):
    cell, table = one_row(None, None, states={0: state, 1: state})
    assert (cell.state, cell.text, cell.mean) == (state, state, None)
    assert table.counts == {state: 1}
    assert not table.filled


@pytest.mark.parametrize("state", ["failed", "diverged", "exceeded", "corrupt"])
def test_a_lost_trial_is_left_out_counted_and_named(one_row, state):
    cell, table = one_row(81.0, state, 83.0)
    assert cell.text == "82.0 ± 1.4 (n=2)"
    assert table.marks == {f"left out: 1 {state} of 3 trials": "†"}
    assert table.mark_of(cell) == "†"
    assert f"trials: 2 of 3 done, 1 {state}" in table.footer
    assert f"{state}: A · seed 1 ({cell.trials[1]})" in table.footer
    assert not table.filled


def test_missing_seeds_show_in_n(one_row):
    cell, table = one_row(81.0, None, 83.0, states={1: "running"})
    assert (cell.state, cell.text, cell.pending) == ("value", "82.0 ± 1.4 (n=2)", 1)
    assert not table.filled


def test_stale_values_are_printed_and_marked(one_row):
    cell, table = one_row(81.0, 83.0, states={1: "stale"})
    assert (cell.state, cell.text) == ("stale", "82.0 ± 1.4")
    assert table.marks == {"made by code that has changed since": "†"}
    assert "trials: 2 of 2 done (1 stale)" in table.footer
    assert table.filled


def test_a_metric_that_the_trial_does_not_have_is_not_applicable(one_row):
    _, table = one_row(81.0)
    sweep = sweep_of([axis("model", ["A"])], [Metric(name="kl", source="test/kl")])
    trial = next(design(sweep))
    spec = TableSpec(name="t", rows="model", values=("kl",))
    table = tabulate(spec, sweep, [trial], {trial.key: record(trial, test_nll_iw=1.0)})
    assert (table.cells[0][0].state, table.cells[0][0].text) == ("not applicable", "–")
    assert table.filled


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_a_number(one_row, value):
    cell, _ = one_row(81.0, value)
    assert (cell.text, cell.n) == ("81.0 (n=1)", 1)


def test_a_record_scored_under_other_settings_is_missing(one_row):
    sweep = sweep_of([axis("model", ["A"])], [NLL])
    trial = next(design(sweep))
    other = replace(record(trial, test_nll_iw=1.0), evaluation_id="other")
    spec = TableSpec(name="t", rows="model", values=("nll",))
    assert tabulate(spec, sweep, [trial], {other.key: other}).cells[0][0].state == "missing"
    states = {trial.key: "unscored"}
    table = tabulate(spec, sweep, [trial], {other.key: other}, states=states)
    assert (table.cells[0][0].state, table.cells[0][0].text) == ("unscored", "unscored")
    assert "trials: 0 of 1 done, 1 unscored" in table.footer
    assert not table.filled


def test_labels_that_share_a_trial_count_it_once():
    sweep = sweep_of([axis("model", ["A"]), axis("annealing", ["W.O.", "With"])], [NLL])
    trials = [
        Trial(trainer=TRAINER, config={"a": 1}, seed=0, labels={"model": "A", "annealing": x})
        for x in ("W.O.", "With")
    ]
    spec = TableSpec(name="t", rows="model", values=("nll",), over=("annealing",))
    records = {trials[0].key: record(trials[0], test_nll_iw=5.0)}
    cell = tabulate(spec, sweep, trials, records).cells[0][0]
    assert (cell.n, cell.points, cell.trials) == (1, 1, (trials[0].id,))


def test_an_axis_without_a_part_is_refused():
    sweep = sweep_of([axis("model", ["A"]), axis("seed", ["0"])], [NLL])
    spec = TableSpec(name="t", rows="model", values=("nll",))
    with pytest.raises(AssertionError, match="no silent averaging"):
        tabulate(spec, sweep, list(design(sweep)), {})


def test_the_order_of_trials_and_records_does_not_matter():
    sweep = sweep_of([axis("model", ["A", "B"]), axis("seed", ["0", "1", "2"])], [NLL])
    spec = TableSpec(name="t", rows="model", values=("nll",), over=("seed",), cell="{mean} ± {sd}")
    trials = list(design(sweep))
    records = {t.key: record(t, test_nll_iw=0.1 * i + 1e-9) for i, t in enumerate(trials)}
    backwards = dict(reversed(records.items()))
    for render in RENDERERS.values():
        first = render(tabulate(spec, sweep, trials, records))
        assert render(tabulate(spec, sweep, trials, backwards)) == first


# Two models, two corpora: columns, differences, ranks -----------------------------------------

SEEDS = ("0", "1", "2")


@pytest.fixture
def annealing():
    """A table of W.O., With and their difference, from the values of each seed."""

    def build(values, seeds=SEEDS, **changes):
        sweep = sweep_of(
            [axis("model", list(values)), axis("annealing", ["W.O.", "With"]), axis("seed", seeds)],
            [NLL],
        )
        spec = TableSpec(
            name="t",
            rows="model",
            columns=("annealing",),
            values=("nll",),
            over=("seed",),
            cell="{mean} ± {sd}",
            **changes,
        )
        trials = list(design(sweep))
        records = {}
        for t in trials:
            value = values[t.labels["model"]][t.labels["annealing"] == "With"][t.seed]
            if value is not None:
                records[t.key] = record(t, test_nll_iw=value)
        return tabulate(spec, sweep, trials, records)

    return build


DELTA = Delta(axis="annealing", start="W.O.", end="With")


def test_a_difference_is_paired_by_seed(annealing):
    table = annealing({"A": ([80.0, 90.0, 70.0], [78.9, 89.0, 68.8])}, delta=DELTA)
    assert [column.path for column in table.columns] == [("W.O.",), ("With",), ("Δ",)]
    # differences -1.1, -1.0, -1.2: sd 0.1, t = 1.1 / (0.1 / sqrt 3) = 19, p = 0.0028
    cell = table.cells[0][2]
    assert (cell.text, cell.resolved) == ("−1.1 ± 0.1 ●", True)
    assert cell.p == pytest.approx(0.00274, abs=1e-4)
    assert "paired t test, Holm over 1 comparison, α = 0.05, n=3" in " ".join(table.footer)
    one_by_one = replace(DELTA, significance=Significance(correct="none"))
    table = annealing({"A": ([80.0, 90.0, 70.0], [78.9, 89.0, 68.8])}, delta=one_by_one)
    assert "95% paired t interval leaves out 0, n=3" in " ".join(table.footer)


def test_a_difference_inside_the_noise_is_not_resolved(annealing):
    table = annealing({"A": ([80.0, 90.0, 70.0], [79.0, 91.5, 69.0])}, delta=DELTA)
    assert (table.cells[0][2].text, table.cells[0][2].resolved) == ("−0.2 ± 1.4 ○", False)


def test_holm_counts_every_difference_of_the_table(annealing):
    # p of one alone: t = 1.1 / (0.3 / sqrt 3) = 6.35, p = 0.0239; twice that is no longer 0.05,
    # and the second, of the same size, shares it.
    pair = ([80.0, 90.0, 70.0], [78.9, 88.6, 69.2])
    alone = annealing({"A": pair}, delta=replace(DELTA, significance=Significance()))
    assert alone.cells[0][2].resolved
    three = annealing(
        {"A": pair, "B": pair, "C": pair}, delta=replace(DELTA, significance=Significance())
    )
    assert [line[2].resolved for line in three.cells] == [False] * 3
    assert [line[2].p for line in three.cells] == pytest.approx([3 * 0.02390] * 3, abs=2e-4)
    assert "Holm over 3 comparisons, α = 0.05, n=3" in " ".join(three.footer)


def test_one_pair_is_not_testable(annealing):
    table = annealing({"A": ([80.0, None, 70.0], [78.0, 89.0, None])}, delta=DELTA)
    cell = table.cells[0][2]
    assert (cell.text, cell.resolved) == ("−2.0 (n=1)", None)
    # Each side has two of its three: the pair is what was left.
    assert cell.untested == ("not tested: 2 of 3 trials of With",)
    assert "cells short of trials are not tested" in " ".join(table.footer)
    alone = annealing({"A": ([80.0], [78.0])}, seeds=("0",), delta=DELTA)
    assert "not testable without two pairs" in " ".join(alone.footer)


def test_a_difference_without_a_side_says_what_the_side_says(annealing):
    nan = float("nan")

    def told(*values):
        cell = annealing({"A": values}, delta=DELTA).cells[0][2]
        assert (cell.n, cell.mean) == (0, None)
        return cell.state, cell.text

    assert told([80.0, 80.0, 80.0], [None] * 3) == ("missing", "missing")
    assert told([None] * 3, [80.0, 80.0, 80.0]) == ("missing", "missing")
    # Both sides have values, of no seed together: two of the pairs' trials are missing.
    assert told([80.0, None, None], [None, 78.0, 79.0]) == ("missing", "missing")
    # No pair at seed 0, whose trial has no such number; one is still to come at seed 1.
    assert told([80.0, None, 70.0], [nan, 78.0, nan]) == ("missing", "missing")
    assert told([80.0, nan, 70.0], [nan, 78.0, nan]) == ("not applicable", "–")


def test_best_is_shared_by_what_the_paired_test_does_not_tell_apart(annealing):
    values = {
        "best": ([80.0, 81.0, 82.0], [80.0, 81.0, 82.0]),
        "tied": ([80.9, 80.5, 82.4], [80.5, 81.5, 82.6]),  # With: 0.5, 0.5, 0.6 worse
        "far": ([85.0, 86.1, 87.0], [85.0, 86.1, 87.0]),
        "short": ([70.0, None, None], [70.0, None, None]),  # a lucky seed is not ranked
    }
    table = annealing(values, best=Best(values=("nll",)))
    assert [line[0].best for line in table.cells] == [True, True, False, False]
    assert [line[1].best for line in table.cells] == [True, False, False, False]
    assert "cells short of trials are not ranked" in " ".join(table.footer)


def test_best_of_a_group_of_columns(annealing):
    values = {"A": ([80.0] * 3, [79.0, 79.0, 79.0]), "B": ([81.0] * 3, [78.0, 78.0, 78.0])}
    one_mark_in_all = annealing(values, best=Best(values=("nll",), per=("annealing",)))
    assert [[cell.best for cell in line] for line in one_mark_in_all.cells] == [
        [True, False],
        [False, True],
    ]


def test_stars_are_not_given_at_three_seeds(annealing):
    values = {"A": ([80.0, 80.1, 80.2],) * 2, "B": ([10.0, 10.1, 10.3],) * 2}
    asked = Significance(value="nll", against="A")
    table = annealing(values, significance=asked)
    assert all(cell.star == "" for line in table.cells for cell in line)
    # Two comparisons: 2 x 2^(1 - 7) = 0.031 is at most 0.05, 2 x 2^(1 - 6) is not.
    assert (
        "* nll differs from that of A: not testable at n=3 "
        "(smallest p of the sign-flip test: 0.25; n=7 would do for 2 comparisons)"
    ) in table.footer
    assert [table.heading(column) for column in table.columns] == [("W.O.†",), ("With†",)]
    assert table.marks == {"not testable at n=3": "†"}
    assert [cell.untested for cell in table.cells[1]] == [("not testable at n=3",)] * 2
    assert [cell.untested for cell in table.cells[0]] == [()] * 2


def test_stars_where_enough_seeds_agree(annealing):
    seeds = tuple(map(str, range(8)))  # least p 2/256, Holm over 2: 0.0156
    a = [80.0 + i for i in range(8)]
    lower = [x - 1 - 0.01 * i for i, x in enumerate(a)]
    mixed = [x + (-1) ** i for i, x in enumerate(a)]
    table = annealing(
        {"A": (a, a), "B": (lower, mixed)},
        seeds=seeds,
        significance=Significance(value="nll", against="A"),
    )
    assert [cell.star for cell in table.cells[1]] == ["*", ""]
    assert "exact paired sign-flip test, Holm over 2 comparisons" in " ".join(table.footer)


def test_a_reference_is_a_row_of_its_own_and_never_ranked():
    sweep = sweep_of([axis("model", ["A"]), axis("seed", SEEDS)], [NLL])
    spec = TableSpec(
        name="t",
        rows="model",
        values=("nll",),
        over=("seed",),
        references=(Reference(label="exact floor", values={"nll": "test/nll_floor"}),),
        best=Best(values=("nll",)),
    )
    trials = list(design(sweep))
    records = {t.key: record(t, test_nll_iw=80.0, test_nll_floor=76.74) for t in trials}
    table = tabulate(spec, sweep, trials, records)
    assert texts(table) == {"exact floor": ["76.7"], "A": ["80.0"]}
    assert not table.cells[0][0].best
    assert table.counts == {"value": 1}
    empty = tabulate(spec, sweep, trials, {})
    assert texts(empty) == {"exact floor": ["–"], "A": ["missing"]}
    unknown = {t.key: record(t, test_nll_iw=80.0) for t in trials}
    assert texts(tabulate(spec, sweep, trials, unknown)) == {"A": ["80.0"]}


def test_a_reference_from_trials_of_other_code_is_marked_as_their_cells_are():
    sweep = sweep_of([axis("model", ["A", "B"])], [NLL])
    spec = TableSpec(
        name="t", rows="model", values=("nll",),
        references=(Reference(label="exact floor", values={"nll": "test/nll_floor"}),),
    )  # fmt: skip
    trials = list(design(sweep))
    records = {t.key: record(t, test_nll_iw=80.0, test_nll_floor=76.74) for t in trials}

    def told(*states):
        states = {t.key: state for t, state in zip(trials, states, strict=True)}
        table = tabulate(spec, sweep, trials, records, states=states)
        cell = table.cells[0][0]
        assert cell.text == "76.7"
        return cell.state, cell.notes, table.mark_of(cell)

    stale = "made by code that has changed since"
    assert told("done", "done") == ("value", (), "")
    assert told("stale", "stale") == ("stale", (stale,), "†")
    assert told("done", "stale") == ("stale", (stale,), "†")
    # One that gave nothing has no part in it.
    assert told("done", "failed") == ("value", (), "")
    table = tabulate(spec, sweep, trials, records, states={t.key: "stale" for t in trials})
    for style in ("terminal", "md", "html"):
        assert "76.7†" in re.sub("<[^>]*>", "", RENDERERS[style](table)), style
    assert r"76.7\textsuperscript{stale}" in RENDERERS["macros"](table)
    assert r"76.7\textsuperscript{\dag{}}" in RENDERERS["tex"](table)


def test_rows_can_be_chosen_ordered_renamed_and_pinned():
    sweep = sweep_of([axis("model", ["A", "B", "C"]), axis("dataset", ["X", "Y"])], [NLL])
    spec = TableSpec(
        name="t",
        rows="model",
        rows_only=("C", "A"),
        where={"dataset": "Y"},
        values=("nll",),
        labels={"C": "the last"},
    )
    trials = list(design(sweep))
    records = {t.key: record(t, test_nll_iw=float(i)) for i, t in enumerate(trials)}
    table = tabulate(spec, sweep, trials, records)
    assert [row.label for row in table.rows] == ["the last", "A"]
    assert texts(table) == {"C": ["5.0"], "A": ["1.0"]}


def test_a_conditional_axis_has_a_column_for_trials_without_it():
    sweep = sweep_of([axis("model", ["A", "B"]), axis("cycles", ["2", "4"])], [NLL])
    trials = [
        Trial(trainer=TRAINER, config={"x": i}, seed=0, labels=labels)
        for i, labels in enumerate(
            [{"model": "A"}, {"model": "B", "cycles": "2"}, {"model": "B", "cycles": "4"}]
        )
    ]
    spec = TableSpec(name="t", rows="model", columns=("cycles",), values=("nll",))
    records = {t.key: record(t, test_nll_iw=float(i)) for i, t in enumerate(trials)}
    table = tabulate(spec, sweep, trials, records)
    assert [column.path for column in table.columns] == [("2",), ("4",), ("–",)]
    assert texts(table) == {"A": ["–", "–", "0.0"], "B": ["1.0", "2.0", "–"]}


def test_read_at_the_cost_of_the_cheapest():
    metric = Metric(name="nelbo", source="valid/nelbo", format=".1f")
    sweep = sweep_of([axis("model", ["cheap", "dear"])], [metric])
    cheap, dear = design(sweep)
    records = {
        cheap.key: record(cheap, cost_updates=200.0, valid_nelbo=84.0),
        dear.key: record(dear, cost_updates=600.0, valid_nelbo=70.0),
    }

    def history(trial):
        # The last line is the result: the best checkpoint's value at the last cost.
        curve = {
            cheap.id: [(100, 90.0), (200, 85.0), (200, 84.0)],
            dear.id: [(150, 95.0), (300, 88.0), (600, 70.0)],
        }[trial.id]
        return [Measurement(cost=c, values={"valid/nelbo": v}, at=0.0) for c, v in curve]

    def table(at):
        spec = TableSpec(name="t", rows="model", values=("nelbo",), at=at)
        return tabulate(spec, sweep, [cheap, dear], records, histories=history)

    assert texts(table("min")) == {"cheap": ["85.0"], "dear": ["95.0"]}
    said = "every trial read at its last measurement at or before"
    assert f"{said} 200 updates" in table("min").footer
    assert table("min").marks == {}
    assert texts(table(300)) == {"cheap": ["85.0"], "dear": ["88.0"]}
    assert f"{said} 300 updates" in table(300).footer
    assert [line[0].notes for line in table(300).cells] == [("ended before, at 200 updates",), ()]
    assert texts(table(120)) == {"cheap": ["90.0"], "dear": ["–"]}
    assert texts(table(None)) == {"cheap": ["84.0"], "dear": ["70.0"]}


# The paper's own numbers, as records, give the paper's own tables ------------------------------

MODELS = [
    "LSTM-LM",
    "SeqVAE",
    "WordDrop",
    "SkipVAE",
    "WAE-RNF",
    "Cyclical",
    "Aggressive",
    "AvgPool",
    "AbsPool",
    "MaxPool",
    "iVAE",
]
METRICS = [
    NLL,
    Metric(name="own", source="test/own", label="NLL, own figure", format=".1f"),
    Metric(name="kl", source="test/kl", format=".1f"),
    Metric(name="mi", source="test/mi_batch", format=".1f"),
    Metric(name="au", source="test/au", format=".0f"),
    Metric(name="updates", source="cost/updates", goal="min", format=".0f", unit="k", scale=0.001),
]


@pytest.fixture(scope="module")
def paper():
    return yaml.safe_load(PAPER.read_text())


def published_records(rows, trials, axes):
    """A record for each trial that the paper has numbers for. Its LM figure is exact."""
    sources = {metric.name: metric.source for metric in METRICS}
    records = {}
    for trial in trials:
        place = rows.get(trial.labels["model"], {})
        for name in axes:
            place = place.get(trial.labels[name], {})
        if place:
            result = {sources[name]: float(value) for name, value in place.items()}
            if trial.labels["model"] == "LSTM-LM":
                result["test/nll_exact"] = result.pop("test/nll_iw")
            records[trial.key] = replace(record(trial), result=result)
    return records


def test_table_1_of_the_paper(paper):
    sweep = sweep_of(
        [axis("dataset", ["Yahoo", "Yelp"]), axis("model", MODELS, LSTM_LM="exact")], METRICS
    )
    spec = TableSpec(
        name="table1",
        rows="model",
        columns=("dataset",),
        values=("nll", "own", "kl", "mi", "au"),
        labels={"MaxPool": "SeqVAE + MaxPool"},
        rules_after=("Aggressive", "MaxPool"),
        best=Best(values=("nll",)),
    )
    trials = list(design(sweep))
    records = published_records(paper["table1"]["rows"], trials, ["dataset"])
    table = tabulate(spec, sweep, trials, records)
    printed = texts(table)
    assert printed["LSTM-LM"] == ["328.0", "–", "–", "–", "–", "358.1", "–", "–", "–", "–"]
    assert printed["MaxPool"] == ["327.2", "–", "3.7", "2.5", "9", "356.0", "–", "3.1", "2.2", "8"]
    assert printed["iVAE"] == ["–", "309.5", "8.0", "4.4", "32", "–", "348.2", "7.6", "4.6", "32"]
    assert printed["WAE-RNF"][:5] == ["–", "339.0", "3.0", "–", "–"]
    assert printed["WAE-RNF"][5:] == ["missing"] * 5
    best = {row.key for row, cells in table.lines() for cell in cells if cell.best}
    assert best == {"Aggressive"}  # "Aggressive training gives the best estimated NLLs on both"
    assert table.marks == {"exact (test/nll_exact in place of test/nll_iw)": "†"}
    assert table.rows[0].note is None  # its cells say it
    assert [table.mark_of(cell) for cell in table.cells[0]][:2] == ["†", ""]
    assert [row.key for row in table.rows if row.rule_after] == ["Aggressive", "MaxPool"]
    assert table.rows[9].label == "SeqVAE + MaxPool"


def test_table_2_of_the_paper(paper):
    sweep = sweep_of(
        [axis("dataset", ["Yahoo", "Yelp"]), axis("model", ["Aggressive", "MaxPool"])], METRICS
    )
    spec = TableSpec(
        name="table2",
        rows="model",
        columns=("dataset",),
        values=("updates",),
        relative_to=RelativeTo(row="MaxPool"),
    )
    trials = list(design(sweep))
    records = published_records(paper["table2"]["rows"], trials, ["dataset"])
    table = tabulate(spec, sweep, trials, records)
    assert texts(table) == {
        "Aggressive": ["608k", "3.1x", "625k", "3.2x"],  # 608 / 199, 625 / 196
        "MaxPool": ["199k", "1.0x", "196k", "1.0x"],
    }
    headings = [column.path for column in table.columns[:2]]
    assert headings == [("Yahoo", "updates"), ("Yahoo", "÷ MaxPool")]


@pytest.fixture
def table_3(paper):
    axes = [
        axis("dataset", ["Yahoo", "Yelp"]),
        axis("model", ["SkipVAE", "Aggressive", "MaxPool"]),
        axis("annealing", ["W.O.", "With"]),
    ]

    def build(**changes):
        sweep = sweep_of(axes, METRICS, reported=paper)
        spec = TableSpec(
            name="table3",
            rows="model",
            columns=("dataset", "annealing"),
            values=("nll",),
            delta=DELTA,
            best=Best(values=("nll",), per=("dataset",)),
            **changes,
        )
        trials = list(design(sweep))
        rows = paper["table3"]["rows"]
        records = published_records(rows, trials, ["dataset", "annealing"])
        return tabulate(spec, sweep, trials, records)

    return build


def test_table_3_of_the_paper(table_3):
    table = table_3()
    assert texts(table) == {
        "SkipVAE": ["329.1", "328.1", "−1.0", "358.2", "357.4", "−0.8"],
        "Aggressive": ["328.2", "326.7", "−1.5", "356.9", "355.9", "−1.0"],
        "MaxPool": ["328.6", "327.2", "−1.4", "357.6", "356.0", "−1.6"],
    }
    assert [column.path for column in table.columns][:4] == [
        ("Yahoo", "W.O."),
        ("Yahoo", "With"),
        ("Yahoo", "Δ"),
        ("Yelp", "W.O."),
    ]
    assert [cell.best for cell in table.cells[1]] == [False, True, False, False, True, False]


def test_the_published_value_beside_ours(table_3):
    table = table_3(beside="paper")
    assert [column.path for column in table.columns][:4] == [
        ("Yahoo", "W.O.", "nll"),
        ("Yahoo", "W.O.", "paper"),
        ("Yahoo", "W.O.", "diff"),
        ("Yahoo", "With", "nll"),
    ]
    assert table.columns[6].path == ("Yahoo", "", "Δ")
    assert texts(table)["SkipVAE"][:3] == ["329.1", "329.1", "0.0"]
    assert table.cells[0][1].state == "quoted"
    assert "diff: ours minus paper" in " ".join(table.footer)


def test_nothing_is_quoted_where_nothing_was_published(paper):
    sweep = sweep_of(
        [axis("dataset", ["Topics"]), axis("model", ["MaxPool"])], METRICS, reported=paper
    )
    spec = TableSpec(
        name="table2", rows="model", columns=("dataset",), values=("updates",), beside="paper"
    )
    table = tabulate(spec, sweep, list(design(sweep)), {})
    assert [column.kind for column in table.columns] == ["value"]


def test_the_footer_says_what_the_table_was_made_of():
    sweep = sweep_of([axis("model", ["A"])], [replace(NLL, note="per sentence, in nats")])
    trial = Trial(
        trainer=TRAINER,
        config={"data": "topics"},
        seed=0,
        data_digest="0123456789abcdef",
        labels={"model": "A"},
    )
    stamp = {"code_digest": "c0de" * 4, "commit": "f00d" * 10, "dirty": True}
    spec = TableSpec(name="t", rows="model", values=("nll",))
    records = {trial.key: replace(record(trial, test_nll_iw=1.0), provenance=stamp)}
    table = tabulate(spec, sweep, [trial], records)
    assert table.footer == (
        "nll: mean; lower is better: nll",
        "nll: per sentence, in nats",
        "trials: 1 of 1 done",
        "profile quick; data topics (01234567); code c0dec0dec0de; "
        "commit f00df00df00d with changes",
    )


# Numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        (327.25, ".1f", "327.2"),
        (-0.04, ".1f", "0.0"),
        (-0.06, ".1f", "−0.1"),
        (1234567.0, ",.0f", "1,234,567"),
        (0.00012, ".1e", "1.2e−04"),
        (0.256, ".1%", "25.6%"),
        (0.5, "g", "0.5"),
        (3.04159, ".3g", "3.04"),
        (3.0, "d", "3"),
    ],
)
def test_numerals(value, form, expected):
    assert numeral(value, form) == expected


def test_signs_of_differences():
    assert [numeral(x, ".1f", signed=True) for x in (0.25, -0.25, 0.0)] == ["+0.2", "−0.2", "0.0"]


@pytest.mark.parametrize("form", ["s", "{x}", "1000000f", ".99999f", "", ".1f ", "!r"])
def test_the_grammar_of_formats_is_closed(form):
    assert not FORMAT.fullmatch(form)
    with pytest.raises(AssertionError):
        numeral(1.0, form)


def test_summaries_and_ratios():
    assert summary([1.0, 3.0], "{mean} ± {sd} ({min} to {max}, n={n})", ".1f", unit="k") == (
        "2.0k ± 1.4 (1.0 to 3.0, n=2)"
    )
    assert ratio(3.055, "{ratio:.1f}x") == "3.1x"
    assert ratio(3.055, "about {ratio}") == "about 3.06"


# Row groups, differences from a row, n where cells differ ---------------------------------------


def test_groups_order_the_rows_under_headings():
    sweep = sweep_of([axis("model", ["A", "B", "C", "D"])], [NLL])
    groups = {"Pooling": ("D", "B"), "Gone": ("Z",), "Baselines": ("C",)}
    spec = TableSpec(name="t", rows="model", values=("nll",), groups=groups)
    table = tabulate(spec, sweep, list(design(sweep)), {})
    assert [(row.key, row.group, row.rule_after) for row in table.rows] == [
        ("A", "", True),
        ("D", "Pooling", False),
        ("B", "Pooling", True),
        ("C", "Baselines", True),
    ]
    assert [table.opened(i) for i in range(4)] == ["", "Pooling", "", "Baselines"]
    only = tabulate(replace(spec, rows_only=("B", "C")), sweep, list(design(sweep)), {})
    assert [row.key for row in only.rows] == ["B", "C"]


@pytest.mark.parametrize("style", sorted({*RENDERERS} - {"macros"}))
def test_the_heading_of_a_group_is_in_every_rendering(style):
    sweep = sweep_of([axis("model", ["A", "B", "C"])], [NLL])
    spec = TableSpec(name="t", rows="model", values=("nll",), groups={"Pools": ("B", "C")})
    text = RENDERERS[style](tabulate(spec, sweep, list(design(sweep)), {}))
    expected = 2 if style in ("csv", "json") else 1
    assert text.count("Pools") == expected


def test_a_difference_from_a_row(annealing):
    values = {
        "A": ([80.0, 90.0, 70.0], [80.0, 90.0, 70.0]),
        "B": ([78.9, 89.0, 68.8], [80.5, 89.4, 70.2]),
    }
    table = annealing(values, delta=Delta(row="A", label="Δ A"))
    assert [(column.path, column.kind) for column in table.columns] == [
        (("W.O.", "nll"), "value"),
        (("W.O.", "Δ A"), "delta"),
        (("With", "nll"), "value"),
        (("With", "Δ A"), "delta"),
    ]
    assert texts(table)["A"][1] == "–"
    assert texts(table)["B"] == ["78.9 ± 10.1", "−1.1 ± 0.1 ●", "80.0 ± 9.6", "0.0 ± 0.6 ○"]
    # p = 0.00274 of -1.1, -1.0, -1.2, twice for two comparisons
    assert table.cells[1][1].p == pytest.approx(2 * 0.00274, abs=2e-4)
    assert (
        "Δ A: minus A, paired by seed; ● resolved, ○ not resolved "
        "(paired t test, Holm over 2 comparisons, α = 0.05, n=3)"
    ) in table.footer


def test_n_is_printed_wherever_it_is_not_that_of_the_others():
    """Three trials of A, two of B, one of C, which also has lost one."""
    sweep = sweep_of([axis("model", ["A", "B", "C"]), axis("seed", SEEDS)], [NLL])
    there = {"A": 3, "B": 2, "C": 2}
    trials = [t for t in design(sweep) if t.seed < there[t.labels["model"]]]
    records = {
        t.key: record(t, test_nll_iw=80.0 + t.seed)
        for t in trials
        if (t.labels["model"], t.seed) != ("C", 1)
    }
    spec = TableSpec(name="t", rows="model", values=("nll",), over=("seed",))

    def printed(cell):
        return [
            line[0]
            for line in texts(tabulate(replace(spec, cell=cell), sweep, trials, records)).values()
        ]

    assert printed("{mean}") == ["81.0", "80.5 (n=2)", "80.0 (n=1)"]
    # One value alone is printed without the rest of the template: its n is said all the same.
    assert printed("{mean} of {n}") == ["81.0 of 3", "80.5 of 2", "80.0 (n=1)"]


# What rounding does -----------------------------------------------------------------------------

EXACT = [600.7, 100.1, 250.3, 333.3, 412.9, 127.4, 555.1, 290.9]
LATER = [x + 0.001 for x in EXACT]  # the same difference, but for the last bits of the numbers


def test_equal_differences_of_large_numbers_are_not_resolved(annealing):
    spread = {b - a for a, b in zip(EXACT, LATER, strict=True)}
    assert len(spread) > 1
    seeds = tuple(map(str, range(8)))
    table = annealing({"A": (EXACT, LATER)}, seeds=seeds, delta=DELTA)
    cell = table.cells[0][2]
    assert (cell.p, cell.resolved) == (None, None)
    assert cell.untested == ("all 8 are the same number",)
    assert "not testable where all differences are the same number" in " ".join(table.footer)


def test_rounding_is_neither_a_star_nor_a_reason_to_be_second_best(annealing):
    seeds = tuple(map(str, range(8)))
    noise = [x + 1e-13 * (1 + i % 2) for i, x in enumerate(EXACT)]
    assert all(a < b for a, b in zip(EXACT, noise, strict=True))
    table = annealing(
        {"A": (EXACT, EXACT), "B": (noise, noise)},
        seeds=seeds,
        significance=Significance(value="nll", against="A"),
        best=Best(values=("nll",)),
    )
    assert [cell.star for cell in table.cells[1]] == ["", ""]
    assert [cell.p_star for cell in table.cells[1]] == [1.0, 1.0]
    assert [cell.best for line in table.cells for cell in line] == [True] * 4


# Ties, and what cannot be tested ----------------------------------------------------------------


def test_ties_may_be_corrected_for_all_pairs_of_their_group(annealing):
    """C is 1.1, 1.4, 0.8 worse than A: p = 0.0239 by itself, three times that of three pairs."""
    a = [80.0, 90.0, 70.0]
    values = {
        "A": (a, a),
        "B": ([80.1, 89.8, 70.2],) * 2,
        "C": ([81.1, 91.4, 70.8],) * 2,
    }
    alone = annealing(values, best=Best(values=("nll",)))
    assert [line[0].best for line in alone.cells] == [True, True, False]
    corrected = annealing(values, best=Best(values=("nll",), correct="holm"))
    assert [line[0].best for line in corrected.cells] == [True, True, True]
    assert "a paired t test (Holm over all pairs, α = 0.05, n=3)" in " ".join(corrected.footer)


def test_cells_with_too_few_pairs_say_so_beside_those_with_enough(annealing):
    seeds = tuple(map(str, range(8)))
    a = [80.0 + i for i in range(8)]
    lower = [x - 1 - 0.01 * i for i, x in enumerate(a)]
    short = [*lower[:3], *[None] * 5]
    table = annealing(
        {"A": (a, a), "B": (lower, lower), "C": (short, lower)},
        seeds=seeds,
        significance=Significance(value="nll", against="A"),
    )
    assert [cell.star for line in table.cells[1:] for cell in line] == ["*", "*", "", "*"]
    # 3 tests x 2/256 = 0.023; what is short is not one of them.
    assert table.cells[1][0].p_star == pytest.approx(3 * 2 / 256)
    assert table.cells[2][0].untested == ("not tested: 3 of 8 trials",)
    assert table.mark_of(table.cells[2][0]) == table.marks["not tested: 3 of 8 trials"]
    assert table.heading(table.columns[0]) == ("W.O.",)
    assert (
        "* nll differs from that of A (exact paired sign-flip test, Holm over 3 comparisons, "
        "α = 0.05, n=8); cells short of trials are not tested"
    ) in table.footer


def test_a_star_before_there_is_a_trial(annealing):
    table = annealing(
        {"A": ([None] * 3,) * 2, "B": ([None] * 3,) * 2},
        significance=Significance(value="nll", against="A", correct="none"),
    )
    assert "not testable at n=0 (smallest p of the sign-flip test: none; n=6 would do)" in " ".join(
        table.footer
    )


# Several scores of one training -----------------------------------------------------------------


def scored_twice(values, states=None, **changes):
    """values: (model, seed, samples) -> NLL or None; samples are of evaluation only."""
    sweep = sweep_of(
        [axis("model", ["A", "B"]), axis("seed", SEEDS), axis("samples", ["100", "500"])], [NLL]
    )
    trials = [
        Trial(
            trainer=TRAINER,
            config={"model": model},
            evaluation={"samples": int(samples)},
            seed=int(seed),
            labels={"model": model, "seed": seed, "samples": samples},
        )
        for model, seed, samples in product(["A", "B"], SEEDS, ["100", "500"])
    ]
    found = {t.key: values.get(tuple(t.labels.values())) for t in trials}
    records = {
        t.key: record(t, test_nll_iw=found[t.key]) for t in trials if found[t.key] is not None
    }
    spec = TableSpec(
        name="t", rows="model", values=("nll",), over=("seed", "samples"),
        cell="{mean} ± {sd} of {n}", **changes,
    )  # fmt: skip
    return tabulate(spec, sweep, trials, records, states=states)


def both(model, seed, value):
    """500 samples give 2 nats less than 100."""
    return {(model, seed, "100"): value + 1, (model, seed, "500"): value - 1}


def test_a_training_counts_once_however_often_it_is_scored():
    values = {}
    for seed, a, b in zip(SEEDS, (80.0, 81.0, 82.0), (78.0, 80.0, 82.0), strict=True):
        values |= both("A", seed, a) | both("B", seed, b)
    table = scored_twice(values, best=Best(values=("nll",)), significance=Significance(against="A"))
    # Of three trainings, not of six: sd of 80, 81, 82 is 1, of 78, 80, 82 is 2.
    assert texts(table) == {"A": ["81.0 ± 1.0 of 3"], "B": ["80.0 ± 2.0 of 3"]}
    cell = table.cells[0][0]
    assert (cell.n, cell.points, len(cell.trials), len(set(cell.evaluations))) == (3, 3, 6, 2)
    assert list(cell.samples.values()) == [80.0, 81.0, 82.0]
    said = " ".join(table.footer)
    assert "over seed, samples (n=3 where not said otherwise)" in said
    assert (
        "a training that is scored in several ways counts once, as the mean of its scores" in said
    )
    assert "not testable at n=3" in said
    # -2, -1, 0: t = 1 / (1 / sqrt 3) = 1.73, not resolved. With six pairs it would be.
    assert [line[0].best for line in table.cells] == [True, True]


def test_a_training_counts_when_all_its_scores_are_there():
    values = both("A", "0", 80.0) | both("A", "1", 81.0) | {("A", "2", "100"): 83.0}
    cell = scored_twice(values).cells[0][0]
    assert (cell.text, cell.n, cell.points) == ("80.5 ± 0.7 of 2", 2, 3)
    assert cell.states == {"value": 2, "missing": 1}
    assert cell.pending == 1


def test_each_run_is_there_with_its_seed_its_ids_and_what_it_gave():
    values = both("A", "0", 80.0) | both("A", "1", 81.0) | {("A", "2", "100"): 83.0}
    table = scored_twice(values)
    cell = table.cells[0][0]
    given = [81.0, 79.0, 82.0, 80.0, 83.0, None]
    assert [run.value for run in cell.runs] == given
    assert cell.scores == {
        "0, 100": 81.0, "0, 500": 79.0, "1, 100": 82.0, "1, 500": 80.0, "2, 100": 83.0,
    }  # fmt: skip

    def strict(word):
        raise AssertionError(f"{word} is no JSON")

    shown = json.loads(RENDERERS["json"](table), parse_constant=strict)["rows"][0]["cells"][0]
    assert shown["samples"] == {"0, 100": 80.0, "1, 100": 81.0}  # one a training, the mean
    runs = shown["runs"]
    assert [run["value"] for run in runs] == given
    assert [run["at"] for run in runs] == [f"{s}, {n}" for s in SEEDS for n in (100, 500)]
    assert [run["seed"] for run in runs] == [0, 0, 1, 1, 2, 2]
    assert [run["state"] for run in runs] == ["value"] * 5 + ["missing"]
    # The two scorings of a training: one trial, two evaluations.
    assert [run["trial"] for run in runs] == shown["trials"]
    assert [run["evaluation"] for run in runs] == list(cell.evaluations)
    assert (len({r["trial"] for r in runs}), len({r["evaluation"] for r in runs})) == (3, 2)
    nothing = json.loads(RENDERERS["json"](table))["rows"][1]["cells"][0]["runs"]
    assert [(run["state"], run["value"]) for run in nothing] == [("missing", None)] * 6


def test_a_run_without_a_finite_number_is_null(one_row):
    cell, table = one_row(80.0, float("nan"))
    assert [(run.state, run.value) for run in cell.runs] == [
        ("value", 80.0),
        ("not applicable", None),
    ]
    shown = json.loads(RENDERERS["json"](table))["rows"][0]["cells"][0]
    assert [run["value"] for run in shown["runs"]] == [80.0, None]


# What is not there says so ----------------------------------------------------------------------


@pytest.fixture
def beside():
    """The values of A and of B at each seed (None: no number), the state of the trials that
    have none -> a table of both, minus B, divided by B, beside what was published for both."""

    def build(a, b, state="missing"):
        sweep = sweep_of(
            [axis("model", ["A", "B"]), axis("seed", SEEDS)], [NLL],
            reported={"t": {"rows": {"A": {"nll": 79.0}, "B": {"nll": 79.0}}}},
        )  # fmt: skip
        spec = TableSpec(
            name="t", rows="model", values=("nll",), over=("seed",), beside="paper",
            delta=Delta(row="B"), relative_to=RelativeTo(row="B"),
            references=(Reference(label="floor", values={"nll": "test/floor"}),),
        )  # fmt: skip
        trials = list(design(sweep))
        records = {
            t.key: record(t, test_nll_iw=value, test_floor=70.0)
            for t, value in zip(trials, [*a, *b], strict=True)
            if value is not None
        }
        states = {t.key: "done" if t.key in records else state for t in trials}
        return tabulate(spec, sweep, trials, records, states=states)

    return build


@pytest.mark.parametrize(
    "state", ["missing", "unscored", "running", "failed", "diverged", "exceeded", "corrupt"]
)
def test_what_a_derived_cell_lacks_is_said_in_every_rendering(beside, state):
    table = beside([80.0, 81.0, 82.0], [None] * 3, state)
    assert [column.kind for column in table.columns] == [
        "value", "delta", "ratio", "paper", "difference",
    ]  # fmt: skip
    expected = {
        "floor": ["70.0", "", "", "–", ""],  # a row that has no differences
        "A": ["81.0", state, state, "79.0", "+2.0"],
        "B": [state, "–", state, "79.0", state],  # nothing differs from itself
    }
    assert texts(table) == expected
    assert [cell.mean for cell in table.cells[1][1:3]] == [None, None]
    for style in ("terminal", "md", "tex", "html"):
        body = RENDERERS[style](table).partition("nll: mean")[0]  # without what is said below
        found = re.findall(rf"(?<![\w-]){state}(?=[^\w-])", re.sub("<[^>]*>", " ", body))
        assert len(found) == 5, style
    rows = json.loads(RENDERERS["json"](table))["rows"]
    assert {row["key"]: [cell["text"] for cell in row["cells"]] for row in rows} == expected
    lines = list(csv.DictReader(io.StringIO(RENDERERS["csv"](table))))
    said = {(line["model"], line["kind"]): (line["state"], line["mean"]) for line in lines}
    lacking = {place for place, (told, _) in said.items() if told == state}
    assert lacking == {("A", "delta"), ("A", "ratio")} | {
        ("B", kind) for kind in ("value", "ratio", "difference")
    }
    assert {said[place][1] for place in lacking} == {""}


def test_what_cannot_be_is_a_dash(beside):
    # B does not have the metric: no run of A makes a difference from it.
    nan = float("nan")
    assert texts(beside([None] * 3, [nan] * 3))["A"] == ["missing", "–", "–", "79.0", "missing"]
    assert texts(beside([80.0] * 3, [nan] * 3))["B"] == ["–", "–", "–", "79.0", "–"]
    # Nothing can be divided by 0.
    table = beside([80.0] * 3, [0.0] * 3)
    assert texts(table)["A"][2:] == ["–", "79.0", "+1.0"]
    assert {line[2].state for line in table.cells[1:]} == {"not applicable"}


def test_what_is_short_of_trials_says_n_beside_the_published_value_too(beside):
    table = beside([80.0, 81.0, None], [80.0, 80.0, 80.0])
    assert texts(table)["A"][3:] == ["79.0", "+1.5 (n=2)"]
    found = RENDERERS["macros"](table)
    assert r"\newcommand{\tANllDifference}{\mbox{+1.5 (n=2)}}" in found


def test_each_star_is_tested_by_its_own_number_of_pairs():
    """20 seeds of A and B, 3 of C, 8 of D, as designed: 20 do not make a t test of the others."""
    there = {"A": 20, "B": 20, "C": 3, "D": 8}
    seeds = tuple(map(str, range(20)))
    sweep = sweep_of([axis("model", list(there)), axis("seed", seeds)], [NLL])
    trials = [t for t in design(sweep) if t.seed < there[t.labels["model"]]]
    records = {
        t.key: record(
            t, test_nll_iw=80.0 + t.seed - (t.labels["model"] != "A") * (1 + 0.01 * t.seed)
        )
        for t in trials
    }
    spec = TableSpec(
        name="t", rows="model", values=("nll",), over=("seed",),
        significance=Significance(value="nll", against="A"),
    )  # fmt: skip
    table = tabulate(spec, sweep, trials, records)
    of = {row.key: cells[0] for row, cells in table.lines()}
    assert {key: cell.star for key, cell in of.items()} == {"A": "", "B": "*", "C": "", "D": "*"}
    assert of["B"].p_star < 3 * 2**-19  # less than any sign flip of 20 pairs: a t test
    assert of["D"].p_star == pytest.approx(2 * 2 / 256)  # the second of three
    assert (of["C"].p_star, of["C"].untested) == (None, ("not testable at n=3",))
    # 3 x 2^(1 - 7) = 0.047
    assert (
        "* nll differs from that of A (exact paired sign-flip test up to n=16, paired t test "
        "beyond, Holm over 3 comparisons, α = 0.05, n=3 to 20); "
        "not testable at n=3, n=7 would do for 3 comparisons"
    ) in table.footer


def test_survivors_have_no_star(annealing):
    seeds = tuple(map(str, range(8)))
    a = [80.0 + i for i in range(8)]
    lower = [x - 1 - 0.01 * i for i, x in enumerate(a)]
    table = annealing(
        {"A": (a, [*a[:7], None]), "B": ([*lower[:7], None], lower)},
        seeds=seeds,
        significance=Significance(value="nll", against="A", correct="none"),
    )
    # Seven pairs would do: 2/128 = 0.016.
    assert [cell.star for cell in table.cells[1]] == ["", ""]
    assert [cell.untested for cell in table.cells[1]] == [
        ("not tested: 7 of 8 trials",),
        ("not tested: 7 of 8 trials of A",),
    ]
    assert "* nll differs from that of A; cells short of trials are not tested" in table.footer


def test_survivors_have_no_resolved_difference(annealing):
    full = ([80.0, 90.0, 70.0], [78.9, 89.0, 68.8])
    table = annealing({"A": full, "B": (full[0], [78.9, 88.7, None])}, delta=DELTA)
    whole, short = (line[2] for line in table.cells)
    assert (whole.text, whole.untested) == ("−1.1 ± 0.1 ●", ())
    assert whole.p == pytest.approx(0.00274, abs=1e-4)  # of one comparison, not of two
    assert (short.text, short.p, short.resolved) == ("−1.2 ± 0.1 (n=2)", None, None)
    assert short.notes == ("not tested: 2 of 3 trials of With",)
    said = " ".join(table.footer)
    assert "α = 0.05, n=3); cells short of trials are not tested" in said


def test_a_fallback_and_the_notes_of_both_sides_are_always_said(one_row):
    sweep = sweep_of(
        [axis("model", ["A", "B"], A="of the bound"), axis("seed", ["0", "1"])], [NLL],
        reported={"t": {"rows": {"A": {"nll": 79.0}}}},
    )  # fmt: skip
    spec = TableSpec(
        name="t", rows="model", values=("nll",), over=("seed",), beside="paper",
        delta=Delta(row="B"), relative_to=RelativeTo(row="B"),
    )  # fmt: skip
    trials = list(design(sweep))
    records = {
        t.key: record(t, test_nll_exact=80.0 + t.seed)
        if t.labels["model"] == "A"
        else record(t, test_nll_iw=40.0 + t.seed)
        for t in trials
    }
    states = {t.key: "stale" if t.labels["model"] == "B" else "done" for t in trials}
    table = tabulate(spec, sweep, trials, records, states=states)
    of = {c.kind: cell for c, cell in zip(table.columns, table.cells[0], strict=True)}
    filled = "of the bound (test/nll_exact in place of test/nll_iw)"
    stale = "made by code that has changed since"
    assert of["value"].notes == of["difference"].notes == (filled,)
    assert set(of["delta"].notes) == set(of["ratio"].notes) == {filled, stale}
    assert {kind: cell.state for kind, cell in of.items()} == {
        "value": "value",
        "delta": "stale",
        "ratio": "stale",
        "paper": "quoted",
        "difference": "value",
    }
    assert {cell.n for kind, cell in of.items() if kind != "paper"} == {2}
    assert of["difference"].text == "+1.5"  # 80.5 - 79
    # ± stands in no other cell: it is said what it is.
    assert "minus B, paired by seed, mean ± sd of the differences" in " ".join(table.footer)


def test_a_metric_that_a_system_does_not_have_did_not_fail():
    sweep = sweep_of([axis("model", ["A"]), axis("seed", SEEDS)], [Metric(name="kl", source="kl")])
    trials = list(design(sweep))
    spec = TableSpec(name="t", rows="model", values=("kl",), over=("seed",))
    records = {t.key: record(t, "done", nll=1.0) for t in trials[:2]}
    failed = {trials[2].key: record(trials[2], "failed")}
    cell = tabulate(spec, sweep, trials, records | failed).cells[0][0]
    assert (cell.state, cell.text, cell.notes) == ("not applicable", "–", ("1 of 3 failed",))
    cell = tabulate(spec, sweep, trials, records).cells[0][0]
    assert (cell.text, cell.notes, cell.pending) == ("–", ("1 of 3 missing",), 1)
    assert tabulate(spec, sweep, trials, failed).cells[0][0].text != "–"  # nobody knows yet


def test_a_reference_that_differs_between_trials_says_so():
    sweep = sweep_of([axis("model", ["A", "B"])], [NLL])
    spec = TableSpec(
        name="t", rows="model", values=("nll",),
        references=(Reference(label="floor", values={"nll": "test/floor"}),),
    )  # fmt: skip
    trials = list(design(sweep))

    def floor(*values):
        records = {
            t.key: record(t, test_nll_iw=80.0, test_floor=value)
            for t, value in zip(trials, values, strict=True)
        }
        cell = tabulate(spec, sweep, trials, records).cells[0][0]
        return cell.text, cell.notes

    assert floor(5.0, 15.0) == ("10.0", ("the mean of trials that differ, 5.0 to 15.0",))
    assert floor(5.0, 5.0000001) == ("5.0", ())


def test_where_the_trials_of_a_cell_ended():
    sweep = sweep_of([axis("model", ["A", "B"]), axis("seed", ["0", "1"])], [NLL])
    ends = {"A": (3000, 300), "B": (9000, 600)}
    trials = list(design(sweep))
    records = {t.key: record(t, test_nll_iw=1.0) for t in trials}

    def history(trial):
        end = ends[trial.labels["model"]][trial.seed]
        return [Measurement(cost=c, values={"test/nll_iw": 5.0}, at=0.0) for c in (100, end)]

    spec = TableSpec(name="t", rows="model", values=("nll",), over=("seed",), at=5000)
    table = tabulate(spec, sweep, trials, records, histories=history)
    assert [line[0].notes for line in table.cells] == [
        ("ended before, at 300 to 3,000 updates",),
        ("1 of 2 trials ended before, at 600 updates",),
    ]


def test_what_is_not_corrected_says_over_how_many(annealing):
    a = [80.0, 90.0, 70.0]
    values = {"A": (a, a), "B": ([80.1, 89.8, 70.2],) * 2, "C": ([81.1, 91.4, 70.8],) * 2}
    # Two columns, each with two that are compared with its best.
    said = " ".join(annealing(values, best=Best(values=("nll",), correct="none")).footer)
    assert "a 95% paired t interval (uncorrected over 4 comparisons, n=3)" in said


def test_differences_of_percentages_are_percentage_points():
    assert numeral(0.25, ".1%", signed=True) == "+25.0 pp"
    assert numeral(-0.25, ".1%", signed=True) == "−25.0 pp"
    # sd of 1 and 3 is the root of 2
    assert summary([0.01, 0.03], "{mean} ± {sd}", ".1%", signed=True) == "+2.0 pp ± 1.4 pp"
    assert summary([0.01, 0.03], "{mean} ± {sd}", ".1%") == "2.0% ± 1.4%"
