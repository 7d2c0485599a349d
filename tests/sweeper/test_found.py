"""What is best of what was tried, against enumeration; and the sweep that trains it again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper.design import expand
from sweeper.found import derived, promoted, with_front
from sweeper.objectives import sources, value
from sweeper.spec import parse
from sweeper.spec.search_types import (
    BASELINE,
    CONFIGURATION,
    Found,
    Objective,
    Promote,
    SearchSpec,
    Tried,
)
from sweeper.spec.sweep import Metric, Sweep

A, B = Objective(metric="valid/a", goal="min"), Objective(metric="valid/b", goal="max")
METRICS = {
    "loss": Metric(name="loss", source="valid/exact", fallback="valid/bound", goal="min"),
    "acc": Metric(name="acc", source="valid/acc", goal="max"),
}


def spec(*objectives: Objective, **changes: object) -> SearchSpec:
    return SearchSpec(trials=9, objectives=objectives or (A, B), space={}, **changes)


def tried(number: int, a: float, b: float, **changes: object) -> Tried:
    given = {
        "at": {"dataset": "A"},
        "number": number,
        "state": "complete",
        "values": {"valid/a": a, "valid/b": b},
        "feasible": True,
        "trial_id": f"t{number}",
        "point": {"x": float(number)},
        "label": f"x {number}",
    }
    return Tried(**{**given, **changes})


def front(found: Sequence[Tried]) -> list[int]:
    return [one.number for one in found if one.front]


# ---- the front


def test_the_front_of_a_few_points():
    """a is to be low, b to be high."""
    points = [(1, 1), (2, 2), (2, 1), (1, 1), (0, 9), (3, 9)]
    study = [
        *(tried(number, *point) for number, point in enumerate(points)),
        tried(6, -5, 99, feasible=False),
        tried(7, -5, 99, state="pruned", feasible=False),
    ]
    assert front(with_front(study, spec(), {})) == [4]
    assert front(with_front(study[:4], spec(), {})) == [0, 1, 3]  # 0 and 3 are alike
    assert front(with_front(study[:2], spec(A), {})) == [0]
    assert front(with_front(study[6:], spec(), {})) == []


def test_of_several_that_are_the_same_training_the_first_is_on_the_front():
    study = [tried(0, 2, 2), tried(1, 1, 1, trial_id="same"), tried(2, 1, 1, trial_id="same")]
    assert front(with_front(study, spec(), {})) == [0, 1]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_the_front_of_random_points_against_enumeration(seed: int, count: int):
    draw = random.Random(seed)
    goals = [draw.choice(["min", "max"]) for _ in range(count)]
    objectives = [Objective(metric=f"valid/{n}", goal=goal) for n, goal in enumerate(goals)]
    study = []
    for number in range(60):  # on a coarse grid: many are alike in one or in all
        values = {f"valid/{n}": float(draw.randint(0, 5)) for n in range(count)}
        state = draw.choice(["complete"] * 4 + ["pruned", "failed", "running"])
        feasible = state == "complete" and draw.random() < 0.7
        study.append(tried(number, 0, 0, values=values, state=state, feasible=feasible))

    def beaten(one: Tried, other: Tried) -> bool:
        pairs = [
            (other.values[it.metric], one.values[it.metric])
            if it.goal == "min"
            else (one.values[it.metric], other.values[it.metric])
            for it in objectives
        ]
        return all(low <= high for low, high in pairs) and any(low < high for low, high in pairs)

    ok = [one for one in study if one.feasible]
    expected = [one.number for one in ok if not any(beaten(one, other) for other in ok)]
    found = with_front(study, spec(*objectives), {})
    assert front(found) == expected
    assert expected
    assert [one.number for one in found] == list(range(60))


# ---- what is promoted


def test_the_best_by_the_first_objective_come_first():
    study = [tried(0, 3, 9), tried(1, 1, 5), tried(2, 2, 7), tried(3, 2, 6), tried(4, 1, 5)]
    study += [tried(5, 0, 99, feasible=False), tried(6, 2, 7, trial_id="t2")]

    def numbers(**how: object) -> list[int]:
        search = spec(promote=Promote(seeds=(0,), **how))
        return [one.number for one in promoted(with_front(study, search, {}), search, {})]

    # 3 is beaten by 2; 1 and 4 are alike; 6 is 2 once more.
    assert numbers() == [1, 4, 2, 0]
    assert numbers(top=3) == [1, 4, 2]
    assert numbers(front=False, top=9) == [1, 4, 2, 3, 0]
    assert numbers(front=False, top=2) == [1, 4]
    search = spec(B, promote=Promote(seeds=(0,), front=False, top=2))
    assert [one.number for one in promoted(study, search, {})] == [0, 2]


def test_metrics_are_read_by_their_sources():
    assert sources("loss", METRICS) == ("valid/exact", "valid/bound")
    assert sources("valid/kl", METRICS) == ("valid/kl",)
    assert value("loss", {"valid/bound": 2.0}, METRICS) == 2.0
    assert value("loss", {"valid/bound": 2.0, "valid/exact": 1.0}, METRICS) == 1.0
    assert value("loss", {"loss": 2.0}, METRICS) is None


# ---- the sweep of what was found

FILE = """\
name: s
trainer: {function: "toy_searches:falls"}
base: {x: 0.0, y: 5.0, seed: 0}
axes: {dataset: {A: {steps: 2}, B: {steps: 3}}}
metrics:
  loss: {from: test/loss, goal: min, format: .3f}
  updates: {from: cost/updates, goal: max, format: .0f}
profiles: {quick: {}}
search:
  for_each: [dataset]
  trials: 4
  objectives: [{metric: valid/loss, goal: min}]
  space: {x: {float: [-5, 10]}, y: {float: [0, 15]}}
  promote: {front: false, top: 2, seeds: [4, 1, 7]}
tables:
  t: {rows: {from: search, order_by: ORDER}, columns: [dataset], values: [loss], over: seed}
"""


def sweep(order: str = "cost/updates") -> Sweep:
    return parse(FILE.replace("ORDER", order), "s.yaml")


def came(dataset: str, number: int, loss: float, x: float, updates: float = 20.0) -> Tried:
    return tried(
        number,
        0,
        0,
        at={"dataset": dataset},
        values={"valid/loss": loss, "cost/updates": updates},
        point={"x": x, "y": 1.0},
        label=f"x {x:.3g}",
        trial_id=f"{dataset}{number}",
    )


FOUND = Found(
    tried=(
        came("A", 0, 3.0, 1.0, updates=50.0),
        came("A", 1, 1.0, 2.0, updates=90.0),
        came("A", 2, 2.0, 3.0, updates=10.0),
        came("A", 3, 9.0, 4.0),
        came("B", 0, 1.0, 5.0, updates=30.0),
        came("B", 1, 2.0, 2.0, updates=20.0),
    ),
    complete=True,
)


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_each_study_has_its_own_configurations_and_the_files_with_each_seed():
    made = derived(sweep(), FOUND)
    trials = expand(made, None)
    labels = [tuple(trial.labels.values()) for trial in trials]
    expected = {
        (dataset, configuration, seed)
        for dataset, some in {"A": ["x 2", "x 3"], "B": ["x 5", "x 2"]}.items()
        for configuration in [BASELINE, *some]
        for seed in ("4", "1", "7")
    }
    assert set(labels) == expected
    assert len(labels) == len(expected)
    assert list(trials[0].labels) == ["dataset", CONFIGURATION, "seed"]
    for trial in trials:
        name, config = trial.labels[CONFIGURATION], trial.full_config
        assert trial.seed == int(trial.labels["seed"])
        assert config["x"] == (0.0 if name == BASELINE else float(name.removeprefix("x ")))
        assert config["y"] == (5.0 if name == BASELINE else 1.0)
        assert config["steps"] == {"A": 2, "B": 3}[trial.labels["dataset"]]


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        ("cost/updates", ["x 3", "x 5", "x 2"]),  # 10, 30, and 90 in A with 20 in B
        ("updates", ["x 2", "x 5", "x 3"]),  # of which the file says that more is better
        ("valid/loss", ["x 5", "x 2", "x 3"]),  # 1, (1 + 2) / 2, 2
    ],
)
def test_rows_of_a_table_are_in_its_order_the_files_own_first(order: str, rows: list[str]):
    table = derived(sweep(order), FOUND).tables["t"]
    assert table.rows_only == (BASELINE, *rows)
    assert table.rows == CONFIGURATION


def test_nothing_is_promoted_before_a_search_is_over():
    amid = replace(FOUND, complete=False)
    made = derived(sweep(), amid)
    assert {trial.labels[CONFIGURATION] for trial in expand(made, None)} == {BASELINE}
    assert made.tables["t"].rows_only == (BASELINE,)
    assert made.found is amid


def test_points_that_look_alike_are_called_differently():
    some = [came(dataset, 1, 1.0, x) for dataset, x in (("A", 2.0001), ("B", 2.0002))]
    some += [came(dataset, 2, 2.0, x) for dataset, x in (("A", 2.0003), ("B", 2.0004))]
    trials = expand(derived(sweep(), Found(tried=tuple(some), complete=True)), None)
    xs = {
        (trial.labels["dataset"], trial.labels[CONFIGURATION]): trial.full_config["x"]
        for trial in trials
    }
    del xs["A", BASELINE], xs["B", BASELINE]
    assert sorted(xs.values()) == [2.0001, 2.0002, 2.0003, 2.0004]
    assert len({label for _, label in xs}) == 4
    assert len(trials) == 3 * 6


def test_no_study_found_anything_that_is_feasible():
    some = Found(tried=tuple(came("A", n, 1.0, n) for n in range(2)), complete=True)
    none = Found(tried=tuple(tried(n, 0, 0, feasible=False) for n in range(4)), complete=True)
    made = expand(derived(sweep(), none), None)
    assert {trial.labels[CONFIGURATION] for trial in made} == {BASELINE}
    made = expand(derived(sweep(), some), None)
    assert {t.labels[CONFIGURATION] for t in made if t.labels["dataset"] == "B"} == {BASELINE}
