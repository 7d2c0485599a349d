"""A whole search in this process: what is trained, what is told, and what ends it."""

from __future__ import annotations

import importlib
import math
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner

from sweeper import run, searching
from sweeper import search as searches
from sweeper.cli import main
from sweeper.errors import SpecError
from sweeper.objectives import LEAST, violation
from sweeper.record import Record
from sweeper.search import Outcome, Storage, Study, resolved
from sweeper.searching import Searching
from sweeper.spec import expressions, parse
from sweeper.spec.search_types import CONFIGURATION, Tried
from sweeper.spec.sweep import Sweep
from sweeper.track.folder import Folder

TOYS = Path(__file__).parent
MEMORY = Path("/dev/shm")

FILE = """\
name: s
trainer: {function: "toy_searches:%(trainer)s"}
base: {x: 0.0, y: 5.0, seed: 0}
metrics: {loss: {from: test/loss, goal: min}}
profiles: {quick: {}}
search:
  trials: %(trials)s
  parallel: %(parallel)s
  sampler: {name: RandomSampler, seed: 5}
  objectives: [{metric: valid/loss, goal: min}]
%(more)s
  space: %(space)s
"""
PLANE = "{x: {float: [-5, 10]}, y: {float: [0, 15]}}"


def text(
    trainer: str = "falls", trials: int = 6, parallel: int = 1, space: str = PLANE, more: str = ""
) -> str:
    given = {"trainer": trainer, "trials": trials, "parallel": parallel, "space": space}
    return FILE % {**given, "more": "".join(f"  {line}\n" for line in more.splitlines())}


def sweep(**changes: object) -> Sweep:
    return parse(text(**changes), "s.yaml")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOYS))
    monkeypatch.setenv("TOY_CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if not MEMORY.is_dir():
        yield tmp_path / "runs"
        return
    found = Path(tempfile.mkdtemp(dir=MEMORY))
    yield found
    shutil.rmtree(found)


def calls() -> list[list[str]]:
    path = Path(os.environ["TOY_CALLS"])
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def trained() -> Counter[str]:
    """Trial id -> how often its trainer began."""
    return Counter(trial for what, trial, _ in calls() if what == "began")


def place(store: Path) -> run.Place:
    return run.Place(store=store)


def made(sweep: Sweep, store: Path, **further: object) -> Searching:
    there = place(store)
    place(store).folder.prepare()
    studies = run.studies(sweep, there)
    plan = run.look(run.looked_up(sweep, there), there)
    account = run.account(sweep, plan, there)
    return Searching(sweep, there=studies, store=store, data=None, account=account, **further)


def search(sweep: Sweep, store: Path, most: int | None = None) -> list[Record]:
    """With an end after `most` records: as many as are ready then are left."""
    there, stop, records = place(store), threading.Event(), []
    there.folder.prepare()
    studies = run.studies(sweep, there)
    plan = run.look(run.looked_up(sweep, there), there)

    def ended(record: Record) -> None:
        records.append(record)
        if most is not None and len(records) >= most:
            stop.set()

    run.search(
        sweep,
        there,
        run.Machine.for_(sweep, "inline", None),
        ended,
        stop,
        there=studies,
        account=run.account(sweep, plan, there),
    )
    return records


def tried(sweep: Sweep, store: Path) -> tuple[Tried, ...]:
    return run.looked_up(sweep, place(store)).found.tried


# ---- constraints

VALUES = {"valid/kl": 0.75, "valid/au": 4.0}


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("valid/kl >= 0.5", -0.25),
        ("valid/kl >= 1", 0.25),
        ("valid/kl > 0.75", LEAST),
        ("valid/kl >= 0.75", 0.0),
        ("1 <= valid/kl", 0.25),
        ("valid/au == 4", 0.0),
        ("valid/au == 6", 2.0),
        ("valid/au != 4", 1.0),
        ("valid/au != 6", -1.0),
        ("valid/au in [2, 4]", -1.0),
        ("valid/au in [2, 3]", 1.0),
        ("valid/au not in [2, 3]", -1.0),
        ("valid/au not in [2, 4]", 1.0),
        ("valid/kl < valid/au", -3.25),
        ("valid/kl >= 1 and valid/au > 9", 5.0),  # the worst
        ("valid/kl >= 0.5 and valid/au > 9", 5.0),
        ("valid/kl >= 0.5 and valid/au > 1", -0.25),
        ("valid/kl >= 1 or valid/au > 9", 0.25),  # the best
        ("valid/kl >= 1 or valid/au > 1", -3.0),
        ("not valid/kl >= 1", -0.25),
        ("not valid/kl >= 0.5", 0.25),
        ("not valid/kl >= 0.75", LEAST),
        ("not valid/au == 4", LEAST),
        ("not (valid/kl >= 1 or valid/au > 9)", -0.25),
        ("not (valid/kl >= 0.5 and valid/au > 1)", 0.25),
        ("not not valid/kl >= 1", 0.25),
        # What is not there satisfies nothing, whichever way it is asked.
        ("valid/mi > 1", 1.0),
        ("not valid/mi > 1", 1.0),
        ("valid/mi != 1", 1.0),
        ("valid/mi not in [1]", 1.0),
        ("valid/kl > valid/mi", 1.0),
        ("valid/mi > 1 or valid/kl > 0.5", -0.25),
        ("not (valid/mi > 1 and valid/kl > 1)", -0.25),
        ("not (valid/mi > 1 or valid/kl > 1)", 1.0),
    ],
)
def test_by_how_much_a_constraint_is_broken(test: str, expected: float):
    found = violation(expressions.condition(test), VALUES.get)
    assert found == pytest.approx(expected, abs=1e-12)


def test_what_is_broken_is_not_feasible_and_not_promoted(store: Path):
    one = sweep(trials=8, more='constraints: ["valid/x >= 0"]')
    search(one, store)
    for it in tried(one, store):
        assert it.state == "complete"
        assert it.feasible == (it.values["valid/x"] >= 0) == (it.point["x"] >= 0)
        assert it.why == (None if it.feasible else "not valid/x >= 0")
    best = min(
        (it for it in tried(one, store) if it.feasible), key=lambda it: it.values["valid/loss"]
    )
    assert [it.number for it in tried(one, store) if it.front] == [best.number]


# ---- what is trained

FEW = "{x: {int: [0, 1]}, y: {int: [0, 1]}}"


def test_what_is_suggested_again_is_not_trained_again(store: Path):
    one = sweep(trials=20, space=FEW)
    search(one, store)
    found = tried(one, store)
    assert [it.number for it in found] == list(range(20))
    assert {it.state for it in found} == {"complete"}
    points = {(it.point["x"], it.point["y"]) for it in found}
    assert len(points) == 4
    for it in found:
        assert it.values["valid/loss"] == pytest.approx(
            {(0, 0): 55.602, (0, 1): 44.602, (1, 0): 35.778, (1, 1): 27.703}[
                it.point["x"], it.point["y"]
            ],
            abs=1e-3,
        )
    assert set(trained().values()) == {1}
    assert len(trained()) == 5  # and the file's own configuration


def test_what_is_suggested_again_while_it_is_under_way_waits_for_that(store: Path):
    told: list[tuple[int, Outcome]] = []
    one = sweep(trials=6, parallel=3, space="{x: {choice: [4]}}")
    at_work = made(
        one, store, on_tell=lambda site, number, trial, what: told.append((number, what))
    )
    coming = at_work.coming()
    own = next(coming)
    assert own.labels[CONFIGURATION] == "as in the file"
    assert next(coming) is None  # It says first what a whole trial takes.
    result = {"valid/loss": 2.0}
    done = Record(trial_id=own.id, evaluation_id=own.evaluation_id, state="done", result=result)
    at_work.told(done)
    only, waits = next(coming), next(coming)
    assert only.full_config["x"] == 4
    assert waits is None  # Two more are the same; nothing else is to be run.
    assert told == []
    study = at_work.studies[at_work.sites[0].id]
    assert study.open == {0, 1, 2}
    at_work.told(replace(done, trial_id=only.id))
    assert [number for number, _ in told] == [0, 1, 2]
    assert list(coming) == []  # and so are the rest
    assert [number for number, _ in told] == list(range(6))
    assert {what.objectives for _, what in told} == {(2.0,)}


def test_what_the_store_has_already_is_told_at_once(store: Path):
    one = sweep(trials=5)
    search(one, store)
    before = trained()
    again = replace(one, search=replace(one.search, storage=f"sqlite:///{store}/other.db"))
    assert search(again, store) == []
    assert trained() == before
    assert [it.values for it in tried(again, store)] == [it.values for it in tried(one, store)]


def test_a_search_that_is_stopped_goes_on_where_it_was(store: Path):
    one = sweep(trials=9)
    seen = [len(search(one, store, most)) for most in (1, 3, 2, 100)]
    assert seen == [1, 3, 2, 4]  # 9, and the file's own configuration
    assert set(trained().values()) == {1}
    whole = replace(one, search=replace(one.search, storage=f"sqlite:///{store}/whole.db"))
    search(whole, store)
    assert [it.point for it in tried(one, store)] == [it.point for it in tried(whole, store)]
    assert search(one, store) == []


def test_a_worker_says_that_it_lives_while_a_trial_is_long(
    store: Path, monkeypatch: pytest.MonkeyPatch
):
    for module in (searches, searching):
        monkeypatch.setattr(module, "BEAT_SECONDS", 0.02)
    one = sweep()
    at_work = made(one, store)
    (study,) = at_work.studies.values()
    threads = threading.active_count()
    with at_work.beating():
        study.ask()
        heard, deadline = set(), time.monotonic() + 20
        while len(heard) < 4:
            assert time.monotonic() < deadline
            attributes = study.study.user_attrs.items()
            heard |= {it for key, it in attributes if key.startswith(searches.WORKER)}
            time.sleep(0.01)
    assert threading.active_count() == threads


# ---- what fails

NUMBERS = "{x: {choice: [1, 2, 3, 4]}}"
FIRST = "enqueue: [{x: 1}, {x: 2}, {x: 3}, {x: 4}]"


def test_trials_that_fail_are_told_with_the_reason_and_the_search_goes_on(store: Path):
    one = sweep(trainer="choosy", trials=12, space=NUMBERS, more=FIRST)
    search(one, store)
    found = tried(one, store)
    assert [it.state for it in found[:4]] == ["failed", "failed", "failed", "complete"]
    assert found[0].why == "failed: ValueError: one is out of luck"
    assert found[1].why.startswith("diverged: valid/loss was nan")
    assert found[2].why == "it reported no valid/loss"
    assert len(found) == 12
    assert [it.front for it in found].count(True) == 1
    assert not any(it.feasible for it in found if it.point["x"] != 4)
    assert set(trained().values()) == {1}
    study = Study.kept(
        Storage(resolved(None, store)), searching.sites(one, None)[0].name, one.search
    )
    assert {trial.state.name for trial in study.study.trials} == {"FAIL", "COMPLETE"}


def test_without_the_files_own_result_no_rung_is_placed(store: Path):
    """What it had come to when it was ended is not what a whole trial takes."""
    halved = 'prune: {rule: successive_halving, metric: valid/loss, grace: "20%", factor: 2}'
    one = sweep(more=halved)
    at_work = made(one, store)
    (site,) = at_work.sites
    part = Record(
        trial_id=site.own.id,
        evaluation_id=site.own.evaluation_id,
        state="exceeded",
        result={"cost/updates": 3.0, "valid/loss": 1.0},
    )
    whole = store / "searches" / at_work.rungs[site.id] / "whole.json"
    at_work.told(part)
    assert not whole.exists()
    made(one, store).told(replace(part, state="done"))
    assert whole.exists()


def test_trials_that_are_behind_are_pruned_and_cost_less(store: Path):
    halved = 'prune: {rule: successive_halving, metric: valid/loss, grace: "25%", factor: 2}'
    one = sweep(trials=16, more=halved)
    search(one, store)
    found = tried(one, store)
    assert [it.number for it in found] == list(range(16))
    # One at a time, measured at each quarter (10 updates): rungs at 10 and 20.
    losses: list[float] = []
    for it in found:
        loss = it.values["valid/loss"]
        at_first_rung = loss if it.state == "pruned" else loss + 7.5
        losses.append(at_first_rung)
        better = sum(other < at_first_rung for other in losses)
        pruned = better >= math.ceil(len(losses) / 2)
        assert (it.state == "pruned") >= pruned
        if pruned:
            assert it.why.startswith("behind at 10 updates: valid/loss")
    states = Counter(it.state for it in found)
    assert states["pruned"] >= 4
    assert states["complete"] >= 3
    pruned = {it.trial_id for it in found if it.state == "pruned"}
    assert pruned.isdisjoint(trial for what, trial, _ in calls() if what == "ended")
    assert Folder(store).find([]) == {}


# ---- before the first trial

TYPED = """\
name: s
trainer: {function: "toy_trainers:countdown", config: toy_config}
profiles: {quick: {}}
search:
  trials: 3
  objectives: [{metric: valid/loss, goal: min}]
  space:
    pooling: {choice: [max, avg]}
    lr: {float: [LOW, 1.0]}
"""


def test_what_a_trainer_refuses_at_a_corner_is_refused_before_the_first_trial(store: Path):
    good = parse(TYPED.replace("LOW", "0.1"), "s.yaml")
    assert len(run.studies(good, place(store))) == 1
    bad = parse(TYPED.replace("LOW", "-0.1"), "s.yaml")
    with pytest.raises(SpecError) as caught:
        run.studies(bad, place(store))
    assert "lr must be above 0; not -0.1" in str(caught.value)
    assert "s.yaml:9" in str(caught.value)
    assert not (store / "searches").exists()


def test_choices_that_a_study_would_take_for_each_other_are_refused():
    with pytest.raises(SpecError, match="true is a number and a truth that are one to a sampler"):
        sweep(space="{x: {choice: [1, true]}}")
    assert sweep(space="{x: {choice: [2, true, 0.0, a, null]}}").search.space


def test_a_study_is_another_one_where_something_else_is_searched(store: Path):
    base = sweep()
    names = {
        site.name
        for one in (
            base,
            sweep(space="{x: {float: [-5, 9]}, y: {float: [0, 15]}}"),
            sweep(more='constraints: ["valid/x >= 0"]'),
            sweep(trainer="choosy"),
        )
        for site in searching.sites(one, None)
    }
    assert len(names) == 4
    same = [sweep(trials=99, parallel=3), sweep(more="enqueue: [{x: 1.0}]")]
    for one in same:
        assert [site.name for site in searching.sites(one, None)] == [
            site.name for site in searching.sites(base, None)
        ]


# ---- from the command line

UNREACHABLE = "postgresql+psycopg2://me@127.0.0.1:1/studies"


@pytest.mark.parametrize(
    ("storage", "environment", "says"),
    [
        (
            f'"{UNREACHABLE}"',
            {},
            "the storage of the search (postgresql+psycopg2://127.0.0.1:1/studies",
        ),
        ("env:TOY_STUDIES", {"TOY_STUDIES": ""}, "env:TOY_STUDIES, and TOY_STUDIES is not set"),
        (
            "env:TOY_STUDIES",
            {"TOY_STUDIES": UNREACHABLE.replace("me", "me:hunter2")},
            "(postgresql+psycopg2://127.0.0.1:1/studies)",
        ),
    ],
    ids=["unreachable", "not set", "with a password"],
)
@pytest.mark.parametrize("verb", ["plan", "run", "table"])
def test_a_storage_that_is_not_there_ends_a_verb_with_3(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    storage: str,
    environment: Mapping[str, str],
    says: str,
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    Path("s.yaml").write_text(text(more=f"storage: {storage}"))
    result = CliRunner().invoke(main, [verb, "s.yaml", "--store", str(store)])
    assert result.exit_code == 3, result.output
    assert isinstance(result.exception, SystemExit)
    assert says in result.output
    assert "hunter2" not in result.output


def test_values_that_are_not_finite_are_no_objectives(store: Path):
    at_work = made(sweep(), store)
    record = Record(trial_id="t", evaluation_id="e", state="done", result={"valid/loss": math.inf})
    assert at_work.outcome(record).state == "failed"
    pruned = replace(record, state="pruned", error="behind", result={"valid/loss": 3.0})
    assert at_work.outcome(pruned).objectives == (3.0,)
    assert at_work.outcome(pruned).why == "behind"


def test_a_search_is_over_when_each_of_its_studies_is(store: Path):
    """One has twice as many trials as are asked for now, the other none."""
    two = text(trials=4).replace("metrics:", "axes: {tag: [a, b]}\nmetrics:", 1)
    two = two.replace("search:\n", "search:\n  for_each: [tag]\n", 1)
    one, fewer = (parse(it, "s.yaml") for it in (two, two.replace("trials: 4", "trials: 2")))
    at_work = made(one, store)
    a, b = at_work.studies.values()

    def tell(study: Study, times: int) -> None:
        for _ in range(times):
            study.tell(study.ask().number, Outcome(state="complete", objectives=(1.0,)))

    tell(a, 4)
    assert not run.looked_up(fewer, place(store)).found.complete
    tell(b, 2)
    assert run.looked_up(fewer, place(store)).found.complete
    b.ask()
    assert not run.looked_up(fewer, place(store)).found.complete


# ---- how good it is


def test_it_finds_what_plain_optuna_finds(monkeypatch: pytest.MonkeyPatch):
    """With our seeds a plain loop has the very same trials, also four at a time; with its own the
    best of 25 on Branin's function is of the same kind."""
    monkeypatch.syspath_prepend(str(TOYS.parents[1] / "benchmarks"))
    quality = importlib.import_module("search_quality")
    assert quality.branin((math.pi, 2.275)) == pytest.approx(0.397887, abs=1e-6)
    minimum = (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)
    assert quality.hartmann6(minimum) == pytest.approx(-3.32237, abs=1e-5)
    samplers = (optuna.samplers.TPESampler(seed=seed) for seed in range(12))
    spread = [min(quality.plain("branin", quality.always(it), 25)) for it in samplers]
    best = []
    for seed, parallel in ((0, 1), (1, 1), (2, 4)):
        how = ("branin", {"seed": seed}, 25, parallel)
        mine = quality.ours(*how)
        assert mine == quality.plain("branin", quality.as_ours(*how), 25, parallel)
        assert len(set(mine)) == 25
        best.append(min(mine))
    assert min(best) <= max(spread)
    assert min(spread) <= max(best)
