"""A file with a search, as a person meets it: what the verbs say of it before, amid and after."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAINER = """\
def train(config, run):
    x, steps = config["x"], config["steps"]
    for step in range(1, steps + 1):
        loss = (x - 1) ** 2 + (steps - step)
        yield {"cost/updates": 10 * step, "progress": step / steps, "valid/loss": loss}
    loss = (x - 1) ** 2
    yield {"cost/updates": 10 * steps, "valid/loss": loss, "test/loss": loss + run.seed}
"""
FILE = """\
name: toy
profiles: {quick: {}}
trainer: {function: "parabola:train"}
base: {x: 0.0, steps: 4, seed: 0}
axes: {dataset: [A, B]}
metrics:
  loss: {from: test/loss, goal: min, format: .2f}
search:
  for_each: [dataset]
  sampler: {name: RandomSampler, seed: 1}
  trials: 5
  objectives: [{metric: valid/loss, goal: min}, {metric: cost/updates, goal: min}]
  constraints: [valid/loss <= 30]
  space:
    x: {float: [-5, 5]}
    steps: {int: [2, 6]}
  enqueue: [{x: 1.0, steps: 6}, {x: 1.0, steps: 2}]
  prune: {rule: successive_halving, metric: valid/loss, grace: 25%, factor: 2}
  promote: {seeds: [0, 1]}
tables:
  toy:
    rows: {from: search, order_by: cost/updates}
    columns: [dataset]
    values: [loss]
    over: seed
figures:
  pareto: {kind: pareto, x: cost/updates, y: valid/loss, by: dataset}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("search")
    (here / "parabola.py").write_text(TRAINER)
    (here / "toy.yaml").write_text(FILE)
    return here


def sweeper(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "sweeper", *words],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def ran(folder: Path) -> subprocess.CompletedProcess[str]:
    before = sweeper(folder, "plan", "toy.yaml").stdout
    assert before == (
        "toy · quick: search: 5 trials in each of 2 studies (A, B)\n"
        "what it will cost is known once the file's own configuration was trained\n"
        "then the front of each with 2 seeds, scored on test\n"
    )
    return sweeper(folder, "run", "toy.yaml", "--dispatch", "inline")


def test_the_known_best_point_is_the_whole_front_with_what_is_cheaper(ran) -> None:
    # At x = 1 the loss is 0 whatever it costs: the cheap one beats the dear one.
    lines = ran.stdout.splitlines()
    (row,) = [line for line in lines if line.startswith("x 1 · steps 2")]
    assert row.split()[-2:] == ["0.50", "0.50"]  # the mean of 0 and 1 over two seeds
    assert not any(line.startswith("x 1 · steps 6") for line in lines)
    (own,) = [line for line in lines if line.startswith("as in the file")]
    assert own.split()[-2:] == ["1.50", "1.50"]  # (0 - 1)^2 and the seeds


def test_a_search_that_is_over_has_nothing_left(folder: Path, ran) -> None:
    again = sweeper(folder, "run", "toy.yaml", "--dispatch", "inline")
    assert "nothing left to do" in again.stderr
    assert again.stdout == ran.stdout
    assert "A: 5 of 5 trials: " in sweeper(folder, "status", "toy.yaml").stdout
    said = json.loads(sweeper(folder, "plan", "toy.yaml", "--json").stdout)
    assert [study["ended"] for study in said["search"]["studies"]] == [5, 5]


def test_everything_that_was_tried_is_in_a_spreadsheet(folder: Path, ran) -> None:
    with open(folder / "runs/tables/toy.quick/tried.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    first = next(row for row in rows if row["dataset"] == "A" and row["number"] == "0")
    assert (first["x"], first["steps"], first["state"]) == ("1.0", "6", "complete")
    assert (float(first["valid/loss"]), float(first["cost/updates"])) == (0.0, 60.0)
    assert first["feasible"] == "true"
    assert not any(key.startswith("test/") for key in first)


def test_more_trials_are_the_difference(folder: Path, ran) -> None:
    more = FILE.replace("trials: 5", "trials: 6")
    (folder / "more.yaml").write_text(more)
    done = sweeper(folder, "run", "more.yaml", "--dispatch", "inline")
    told = [line for line in done.stderr.splitlines() if line.startswith("[6/6")]
    assert len(told) == 2
    assert not any(line.startswith("[5/6") for line in done.stderr.splitlines())


def written(folder: Path, name: str, *changes: tuple[str, str]) -> str:
    text = FILE
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (folder / name).write_text(text)
    return name


def test_a_search_that_finds_nothing_feasible_says_so(folder: Path) -> None:
    file = written(folder, "barren.yaml", ("valid/loss <= 30", "valid/loss < -1"))
    done = sweeper(folder, "run", file, "--dispatch", "inline", "--store", "barren", code=1)
    assert "nothing feasible was found: A, B" in done.stderr


def test_a_search_by_what_nobody_reports_ends_before_its_first_trial(folder: Path) -> None:
    file = written(
        folder, "silent.yaml", ("objectives: [{metric: valid/loss", "objectives: [{metric: valid/x")
    )
    done = sweeper(folder, "run", file, "--dispatch", "inline", "--store", "silent", code=2)
    (line,) = {it for it in done.stderr.splitlines() if "valid/x" in it}
    assert line.startswith("silent.yaml:12:25: search: the trainer has not reported it")
    assert "[1/5" not in done.stderr


def test_a_budget_is_for_what_is_tried_and_what_is_promoted(folder: Path) -> None:
    file = written(folder, "dear.yaml", ("tables:", "budget: {updates: 300}\ntables:"))
    done = sweeper(
        folder, "run", file, "--dispatch", "inline", "--to-budget", "--store", "dear", code=5
    )
    assert "budget reached: " in done.stderr
    spent = 0
    for path in (folder / "dear" / "trials").glob("*/journal.jsonl"):
        lines = [json.loads(it) for it in path.read_text().splitlines()]
        spent += max(it.get("cost", 0) for it in lines)
    assert 300 <= spent <= 300 + 60  # the trial that reached it was finished


def test_nobody_takes_what_was_tried_for_waste(folder: Path, ran) -> None:
    said = json.loads(sweeper(folder, "gc", "--older-than", "0s", "--json").stdout)
    # Another test's scratch folder may be among them.
    assert said["trials"] == []
    assert len(list((folder / "runs" / "trials").iterdir())) > 10


def test_why_and_logs_know_what_was_tried(folder: Path, ran) -> None:
    (path,) = [
        path
        for path in folder.glob("runs/trials/*/trial.json")
        if json.loads(path.read_text())["config"] == {"x": 1.0, "steps": 6, "dataset": "A"}
    ]
    id = path.parent.name
    said = sweeper(folder, "why", "toy.yaml", id).stdout
    assert "dataset=A number 0 of its search, complete: x 1 · steps 6" in said
    assert "printed nothing" in sweeper(folder, "logs", "toy.yaml", id).stderr


def test_what_a_person_gets_wrong_is_said_before_the_first_trial(folder: Path) -> None:
    wrong = {
        "sampler: {name: RandomSampler, seed: 1}": (
            "sampler: {name: RandomSampler, multivariat: true}",
            "search.sampler 'RandomSampler': ",
        ),
        "sampler: {name: RandomSampler": ("sampler: {name: RandomSamplr", "did you mean"),
        "    x: {float: [-5, 5]}\n    steps: {int: [2, 6]}\n": (
            "    {}\n",
            "search.space: there is no key in it",
        ),
    }
    for before, (after, message) in wrong.items():
        assert before in FILE
        text = FILE.replace(before, after)
        if message.endswith("no key in it"):
            text = "".join(line for line in text.splitlines(keepends=True) if "enqueue" not in line)
        (folder / "wrong.yaml").write_text(text)
        done = sweeper(folder, "run", "wrong.yaml", "--store", "none", code=2)
        assert message in done.stderr
        assert done.stderr.startswith("wrong.yaml:"), done.stderr
    sweeper(folder, "run", "toy.yaml", "--where", "dataset == 'A'", "--store", "none", code=2)
    assert not (folder / "none").exists()
