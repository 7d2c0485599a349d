"""Scoring apart from training: a trial is trained once, whatever evaluations it is scored by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper import live, worker
from sweeper.dispatch.inline import dispatch as inline
from sweeper.errors import SpecError, TrainerError
from sweeper.plan import named, plan
from sweeper.record import Record
from sweeper.spec import Resources
from sweeper.track.folder import Folder
from sweeper.track.journal import seconds_spent
from sweeper.trainer import Run, measurements
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings, execute

TOYS = Path(__file__).parent
ROOT = TOYS.parents[1]


def no_code(trainer):
    """Not compared."""
    return None


@pytest.fixture(autouse=True)
def _toys_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(TOYS))


@pytest.fixture
def here(tmp_path):
    return Surroundings(store=tmp_path / "runs")


@pytest.fixture
def scoring(tmp_path):
    return Surroundings(store=tmp_path / "runs", score_only=True)


def toy(samples: int, seed: int = 0, name: str = "keeps", **config: object) -> Trial:
    return Trial(
        trainer=TrainerRef(function=f"toy_trainers:{name}"),
        config=config,
        evaluation={"evaluate": {"samples": samples}},
        seed=seed,
        labels={"samples": f"S{samples}", "seed": str(seed)},
    )


def counted(here: Surroundings, trial: Trial, what: str) -> int:
    path = Folder(here.store).path(trial.id) / what
    return len(path.read_text().splitlines()) if path.exists() else 0


def record(of: Trial, state: str = "done") -> Record:
    return Record(trial_id=of.id, evaluation_id=of.evaluation_id, state=state)


# --- what a plan says ----------------------------------------------------------------------


def test_a_trial_scored_otherwise_is_unscored_and_to_do() -> None:
    few, many, never = toy(1), toy(5), toy(5, seed=1)
    known = plan([many, never], {}, no_code, trained=[few.id])
    assert [known.states[t.key] for t in (many, never)] == ["unscored", "missing"]
    assert known.todo == (many, never)
    assert (known.to_score, known.untrained) == ((many,), (never,))
    counts = known.counts
    assert (counts["unscored"], counts["missing"], counts["total"]) == (1, 1, 2)


def test_two_evaluations_of_a_design_are_two_records_and_one_training() -> None:
    few, many = toy(1), toy(5)
    assert few.id == many.id
    known = plan([few, many], {few.key: record(few)}, no_code)
    assert [known.states[t.key] for t in (few, many)] == ["done", "unscored"]
    assert (known.counts["total"], known.counts["trainings"]) == (2, 1)
    failed = plan([few, many], {few.key: record(few), many.key: record(many, "failed")}, no_code)
    assert failed.todo == ()
    assert failed.to_score == (many,)


def test_second_evaluations_come_when_everything_is_trained() -> None:
    design = [toy(samples, seed) for samples in (1, 5) for seed in (0, 1)]
    assert plan(design, {}, no_code).todo == tuple(design)
    mixed = [toy(samples, seed) for seed in (1, 0) for samples in (1, 5)]
    todo = plan(mixed, {}, no_code).todo
    assert [(t.evaluation["evaluate"]["samples"], t.seed) for t in todo] == [
        *((1, 0), (1, 1)),
        *((5, 0), (5, 1)),
    ]


def test_trials_are_named_by_a_beginning_of_their_ids() -> None:
    trials = [toy(samples, seed) for samples in (1, 5) for seed in range(40)]
    one = trials[3]
    assert named(trials, [one.id]) == (one, trials[43])
    whole = [
        one.id[:n] for n in range(1, 17) if sum(t.id.startswith(one.id[:n]) for t in trials) == 2
    ]
    assert named(trials, [whole[0]]) == (one, trials[43])
    with pytest.raises(SpecError, match="unknown trial 'xyz'"):
        named(trials, ["xyz"])
    with pytest.raises(SpecError, match="'' begins several trials"):
        named(trials, [""])


# --- a worker ------------------------------------------------------------------------------


def test_a_second_evaluation_scores_what_the_first_trained(here) -> None:
    few, many = toy(1), toy(5)
    first, second = execute(few, here), execute(many, here)
    assert (first.result["score"], second.result["score"]) == (1.0, 5.0)
    store = Folder(here.store)
    assert store.find([few, many]) == {few.key: first, many.key: second}
    assert store.trained([toy(7), toy(7, seed=1)]) == {few.id}
    assert store.evaluations(few.id) == sorted([few.evaluation_id, many.evaluation_id])
    assert (counted(here, few, "trainings"), counted(here, few, "scorings")) == (1, 2)


def test_a_result_that_cannot_be_believed_does_not_count_as_trained(here) -> None:
    execute(toy(1), here)
    store = Folder(here.store)
    (path,) = store.path(toy(1).id).glob("result-*.json")
    path.write_bytes(path.read_bytes().replace(b'"done"', b'"dine"'))
    assert store.trained([toy(5)]) == set()


def test_scoring_only_scores_and_never_trains(here, scoring) -> None:
    few, many = toy(1), toy(5)
    refused = execute(few, scoring)
    assert (refused.state, refused.error) == ("failed", "RuntimeError: nothing to score")
    assert Folder(here.store).find([few]) == {}
    assert counted(here, few, "trainings") == 0
    assert execute(few, here).state == "done"
    assert execute(many, scoring).result["score"] == 5.0
    assert counted(here, few, "trainings") == 1


def test_a_scoring_that_fails_leaves_everything_as_it_was(here, scoring) -> None:
    good, bad = toy(1), toy(0)
    before = execute(good, here)
    assert execute(bad, scoring).error == "ValueError: 0 samples"
    store = Folder(here.store)
    assert store.find([good, bad]) == {good.key: before}
    assert "ValueError: 0 samples" in (store.path(good.id) / "log.txt").read_text()
    assert [m.cost for m in store.history(good.id)] == [1.0, 2.0, 3.0, 3.0]
    known = plan([bad], store.find([bad]), no_code, trained=store.trained([bad]))
    assert known.states[bad.key] == "unscored"
    assert worker.bury(bad, scoring, "the worker died").state == "failed"
    assert store.find([bad]) == {}


def test_a_trainer_that_trains_where_it_was_to_score_is_stopped(here, scoring) -> None:
    few, many = (toy(n, name="countdown", steps=5) for n in (1, 5))
    before = execute(few, here)
    refused = execute(many, scoring)
    assert refused.error == "it trains, at 1 of 5 updates, and was to score only"
    store = Folder(here.store)
    assert store.find([few, many]) == {few.key: before}
    assert [m.cost for m in store.history(few.id)] == [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"function": "toy_trainers:returns_one"}, r"only train\(config, run\) can score"),
        ({"command": ("true",)}, r"a command that can score takes \{score_only\}"),
    ],
)
def test_what_cannot_be_told_to_score_only_is_refused(tmp_path, trainer, message) -> None:
    told = Run(seed=0, folder=tmp_path, score_only=True)
    with pytest.raises(TrainerError, match=message):
        list(measurements(TrainerRef(**trainer), {"lr": 1.0}, told))


def test_a_command_is_told_to_score_only(tmp_path) -> None:
    script = "import json, sys; print(json.dumps({'told': float(sys.argv[1] == 'true')}))"
    command = TrainerRef(command=("python", "-c", script, "{score_only}"))
    for told in (True, False):
        run_ = Run(seed=0, folder=tmp_path, score_only=told)
        assert list(measurements(command, {}, run_)) == [{"told": float(told)}]


def test_who_waited_for_another_evaluation_scores_its_own(here, monkeypatch) -> None:
    """Two at once: the second waits for the lease, and then trains nothing. An old failure
    of its own is not taken for what it has waited for."""
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    store = Folder(here.store)
    few, many = toy(1), toy(5)
    store.start(many).finish(record(many, "failed"))
    first = store.start(few)
    checkpoints = store.path(few.id) / "checkpoints"
    checkpoints.mkdir()

    def end_of_training(waiting_for: Trial, held: object) -> None:
        (checkpoints / "trained").touch()
        first.finish(record(few))

    found = execute(many, here, on_wait=end_of_training)
    assert (found.state, found.attempt, found.result["score"]) == ("done", 3, 5.0)
    assert counted(here, few, "trainings") == 0


def test_a_scoring_that_diverged_is_no_reason_to_train_again(here) -> None:
    few, many, apart = toy(1), toy(5), toy(5, seed=1)
    store = Folder(here.store)
    before = execute(few, here)
    store.start(many).finish(record(many, "diverged"))
    store.start(apart).finish(record(apart, "diverged"))
    trials = (few, many, apart)
    known = plan(trials, store.find(trials), no_code, retry=["diverged"])
    anew = replace(here, retry=known.retry)
    assert execute(apart, anew).state == execute(many, anew).state == "done"
    assert (counted(here, apart, "trainings"), counted(here, few, "trainings")) == (1, 1)
    assert store.find([few]) == {few.key: before}


# --- the dispatchers -----------------------------------------------------------------------


def test_inline_trains_once_for_two_evaluations(here) -> None:
    trials = plan([toy(n, seed) for n in (1, 5) for seed in (0, 1)], {}, no_code).todo
    records: list[Record] = []
    inline(trials, here, records.append, resources=Resources())
    assert [r.result["score"] for r in records] == [1.0, 2.0, 5.0, 6.0]
    assert [counted(here, toy(1, seed), "trainings") for seed in (0, 1)] == [1, 1]


@pytest.mark.ray
def test_ray_trains_once_for_two_evaluations_at_a_time(here, scoring, tmp_path) -> None:
    """Two workers take the two evaluations of one trial at once; then a scoring fails."""
    from sweeper.dispatch import ray_cluster, ray_tune

    few, many, bad = toy(1, pause=0.2), toy(5, pause=0.2), toy(0, pause=0.2)
    with ray_cluster.running_ray(Resources(), {"num_cpus": 2}, tmp_path / "ray"):
        records: dict = {}
        ray_tune.dispatch(
            [few, many], here, lambda r: records.update({r.key: r}), resources=Resources(), slots=2
        )
        assert {key: r.result["score"] for key, r in records.items()} == {
            few.key: 1.0,
            many.key: 5.0,
        }
        assert (counted(here, few, "trainings"), counted(here, few, "scorings")) == (1, 2)
        lost: list[Record] = []
        ray_tune.dispatch([bad], scoring, lost.append, resources=Resources(), slots=1)
    assert [(r.key, r.state, r.error) for r in lost] == [
        (bad.key, "failed", "ValueError: 0 samples")
    ]
    assert Folder(here.store).find([few, many, bad]) == records


# --- what a terminal shows -----------------------------------------------------------------


def test_a_live_view_counts_a_trial_once_and_scorings_by_what_they_took(here) -> None:
    few, many, apart = toy(1), toy(5), toy(5, seed=1)
    store = Folder(here.store)
    execute(few, here)
    known = plan([many, apart], {}, no_code, trained=[few.id])
    watch = live.Watch(plan=known, trials=known.todo, folder=store, slots=1, tables=lambda now: [])
    spent = seconds_spent(store.entries(few.id))["seconds"]
    watch.notice(replace(record(many), result={"cost/updates": 3.0}, seconds=spent + 2.0))
    assert watch.took == {many.key: pytest.approx(2.0)}
    assert watch.seconds_left([]) == pytest.approx(2.0)
    assert watch.updates_per_second([]) == 0.0  # nothing was trained

    attempt = store.start(few)
    both = plan([few, toy(7), apart], {}, no_code)
    watch = live.Watch(plan=both, trials=both.todo, folder=store, slots=2, tables=lambda now: [])
    assert watch.running == [toy(7)]  # `few` is done, under its own evaluation
    attempt.abandon("test")
    assert watch.running == []


# --- the verbs -----------------------------------------------------------------------------

SWEEP = """\
name: toy
trainer: {function: "toy_trainers:keeps", config: toy_config}
base: {evaluate.samples: 1}
axes:
  lr: {low: {lr: 1}, high: {lr: 2}}
  %s
metrics:
  score: {from: score, goal: max, format: ".0f"}
profiles: {quick: {}}
tables:
  scores: {rows: lr, %s values: [score], write: [csv]}
"""
PLAIN = SWEEP % ("seed: [0]", "over: seed,")
BOTH = SWEEP % (
    "samples: {S100: {evaluate.samples: 100}, S500: {evaluate.samples: 500}}",
    "columns: [samples],",
)


@pytest.fixture
def desk(tmp_path):
    """Types a line beside a sweep file, toy.yaml."""

    def type_(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "sweeper", *arguments],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "PYTHONPATH": f"{ROOT}{os.pathsep}{TOYS}",
            },
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done

    return type_


def files(tmp_path: Path, name: str) -> int:
    return sum(len(p.read_text().split()) for p in tmp_path.glob(f"runs/trials/*/{name}"))


@pytest.mark.slow
def test_an_axis_over_evaluation_settings(desk, tmp_path) -> None:
    (tmp_path / "toy.yaml").write_text(BOTH)
    done = desk("run", "toy.yaml", "--dispatch", "inline")
    assert done.returncode == 0, done.stderr
    assert "4 trials of 2 trainings, 4 missing; 4 to run" in done.stderr
    assert (files(tmp_path, "trainings"), files(tmp_path, "scorings")) == (2, 4)
    table = json.loads(desk("table", "toy.yaml", "--format", "json").stdout)
    means = [[cell["mean"] for cell in row["cells"]] for row in table["rows"]]
    assert means == [[100.0, 500.0]] * 2
    mlflow = desk("table", "toy.yaml", "--format", "json", "--source", "mlflow")
    assert json.loads(mlflow.stdout) == table
    assert "nothing left to do" in desk("run", "toy.yaml", "--dispatch", "inline").stderr


@pytest.mark.slow
def test_other_evaluation_settings_score_and_never_train(desk, tmp_path) -> None:
    (tmp_path / "toy.yaml").write_text(PLAIN)
    ids = [t["id"] for t in json.loads(desk("plan", "toy.yaml", "--json").stdout)["trials"]]
    inline_ = ("--dispatch", "inline")

    nothing = desk("eval", "toy.yaml", *inline_)
    assert nothing.returncode == 1  # Not every cell is filled.
    said = "not trained yet: low · seed 0, high · seed 0; sweeper run toy.yaml trains them"
    assert said in nothing.stderr
    assert desk("eval", "toy.yaml", ids[0][:6], *inline_).returncode == 1
    assert files(tmp_path, "trainings") == 0

    assert desk("run", "toy.yaml", *inline_).returncode == 0
    changed = ("--set", "evaluate.samples=7")
    assert (
        "2 trained under another evaluation; 2 to score"
        in desk("plan", "toy.yaml", *changed).stdout
    )
    for source in ("folder", "mlflow"):
        table = desk("table", "toy.yaml", *changed, "--format", "csv", "--source", source).stdout
        assert table.count("unscored") == 2

    one = desk("eval", "toy.yaml", ids[1][:6], *changed, *inline_)
    assert one.returncode == 0, one.stderr
    assert "1 to score" in one.stderr
    assert json.loads(desk("plan", "toy.yaml", *changed, "--json").stdout)["counts"]["done"] == 1
    bad = desk("eval", "toy.yaml", "--set", "evaluate.samples=0", *inline_)
    assert bad.returncode == 1
    assert "not scored: low · seed 0: ValueError: 0 samples (runs/trials/" in bad.stderr
    assert "unscored" in bad.stdout
    rest = desk("run", "toy.yaml", *changed, *inline_)
    assert rest.returncode == 0, rest.stderr
    assert "1 done, 1 trained under another evaluation; 1 to score" in rest.stderr
    assert (files(tmp_path, "trainings"), files(tmp_path, "scorings")) == (2, 4)
    assert desk("eval", "toy.yaml", "xyz", *inline_).returncode == 2
