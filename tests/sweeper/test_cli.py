"""The verbs, as a person types them, over a toy trainer and the real store and MLflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOYS = Path(__file__).parent
ROOT = TOYS.parents[1]

SWEEP = """\
name: toy
trainer: {function: "toy_trainers:%(trainer)s"}
base: {steps: %(steps)s, pause: %(pause)s}
axes:
  level: {low: {level: 1.0}, high: {level: 2.0}}
  seed: [0, 1, 2]
metrics:
  loss: {from: loss, goal: min, format: ".3f"}
profiles: {quick: {}}
tables:
  losses: {rows: level, values: [loss], over: seed, cell: "{mean} ± {sd}", write: [md, csv]}
"""


class Desk:
    """A folder with a sweep file in it, and a terminal."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{TOYS}",
        }
        self.write()

    def write(self, trainer: str = "countdown", steps: int = 3, pause: float = 0.0) -> None:
        text = SWEEP % {"trainer": trainer, "steps": steps, "pause": pause}
        (self.folder / "toy.yaml").write_text(text)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "sweeper", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def type(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in out + err, out + err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.type("run", "toy.yaml", "--dispatch", "inline", *more)

    def plan(self) -> dict:
        return json.loads(self.type("plan", "toy.yaml", "--json").stdout)

    @property
    def table(self) -> str:
        return (self.folder / "runs/tables/toy.quick/losses.md").read_text(encoding="utf-8")

    def closed(self) -> list[Path]:
        """Marks that the toy leaves in the folder of each trial that it ran."""
        return sorted(self.folder.glob("runs/trials/*/closed"))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.slow
def test_a_sweep_from_nothing_to_nothing_left_to_do(desk: Desk) -> None:
    assert desk.plan()["counts"]["missing"] == 6
    first = desk.run()
    assert first.returncode == 0, first.stderr
    # countdown's last loss is level / 3 + seed: the mean over seeds 0, 1, 2 is level / 3 + 1.
    assert "1.333 ± 1.000" in first.stdout
    assert "1.667 ± 1.000" in first.stdout
    assert "6 to run" in first.stderr
    for mark in desk.closed():
        mark.unlink()
    second = desk.run()
    assert second.stdout == first.stdout
    assert "nothing left to do" in second.stderr
    assert desk.closed() == []

    for style in ("md", "tex", "csv", "json"):
        folder, mlflow = (
            desk.type("table", "toy.yaml", "losses", "--format", style, "--source", source)
            for source in ("folder", "mlflow")
        )
        assert folder.returncode == 0, folder.stderr
        assert folder.stdout == mlflow.stdout != ""

    gone = desk.plan()["trials"][4]["id"]
    shutil.rmtree(desk.folder / "runs/trials" / gone)
    delete_from_mlflow(desk, gone)
    assert [t["id"] for t in desk.plan()["trials"] if t["state"] == "missing"] == [gone]
    assert "1 to run" in desk.run().stderr
    assert [mark.parent.name for mark in desk.closed()] == [gone]
    again = desk.type("table", "toy.yaml", "--format", "md", "--source", "mlflow")
    assert again.stdout == desk.table


def delete_from_mlflow(desk: Desk, trial_id: str) -> None:
    code = """
import sys
from mlflow.tracking import MlflowClient
client = MlflowClient(sys.argv[1])
(experiment,) = client.search_experiments(filter_string="name = 'sweeper'")
(run,) = client.search_runs([experiment.experiment_id], f"tags.`sweeper.trial` = '{sys.argv[2]}'")
client.delete_run(run.info.run_id)
"""
    uri = f"sqlite:///{desk.folder / 'runs/mlflow.db'}"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, uri, trial_id],
        env=desk.environment,
        capture_output=True,
        check=True,
    )


def test_a_failed_trial_is_told_and_is_not_a_number(desk: Desk) -> None:
    desk.write(trainer="raises")
    done = desk.run("--keep-going")
    assert done.returncode == 1
    assert "ValueError: the third layer has no weights" in done.stderr
    assert "failed" in done.stdout
    assert "0 to run" not in desk.run("--retry", "failed").stderr


def test_without_a_table_what_failed_or_was_left_out_is_told_too(desk: Desk) -> None:
    path = desk.folder / "toy.yaml"
    desk.write(trainer="raises")
    path.write_text(path.read_text().split("tables:")[0])
    done = desk.run("--keep-going")
    assert done.returncode == 1, done.stderr
    assert "are in" not in done.stderr
    assert "failed: low · seed 0: ValueError" in done.stderr
    desk.write(steps=30)
    path.write_text(path.read_text().split("tables:")[0] + "budget: {updates: 100}\n")
    assert desk.run().returncode == 5


def test_a_failure_that_no_table_shows_is_one(desk: Desk) -> None:
    path = desk.folder / "toy.yaml"
    text = SWEEP % {"trainer": "countdown", "steps": 3, "pause": 0.0}
    fails = "low: {set: {level: 1.0}, trainer: {function: 'toy_trainers:raises'}}"
    text = text.replace("low: {level: 1.0}", fails)
    text = text.replace("rows: level, values: [loss], over: seed", "rows: seed, values: [loss]")
    text = text.replace('cell: "{mean} ± {sd}"', "where: {level: high}")
    path.write_text(text)
    done = desk.run("--keep-going")
    assert "failed" not in done.stdout
    assert done.returncode == 1, done.stderr


def test_plan_and_run_and_status_take_the_same_options(desk: Desk) -> None:
    here = ("--where", "level == 'low'")
    assert desk.run(*here).returncode == 0
    one = ("--dispatch", "inline", "--slots", "4")
    said = json.loads(desk.type("plan", "toy.yaml", "--json", *one).stdout)
    assert said["cost"]["slots"] == 1
    assert (
        json.loads(desk.type("status", "toy.yaml", "--json", *here).stdout)["counts"]["total"] == 3
    )
    assert "3 trials, 3 done" in desk.type("status", "toy.yaml", *here).stdout


@pytest.mark.slow
@pytest.mark.fault("C3")
def test_what_other_code_made_is_kept_until_it_is_asked_for_anew(desk: Desk) -> None:
    source = (TOYS / "toy_trainers.py").read_text(encoding="utf-8")
    (desk.folder / "mine.py").write_text(source, encoding="utf-8")
    path = desk.folder / "toy.yaml"
    path.write_text(path.read_text().replace("toy_trainers:", "mine:"))
    assert desk.run().returncode == 0
    for mark in desk.closed():
        mark.unlink()
    (desk.folder / "mine.py").write_text(source + "# edited\n", encoding="utf-8")
    assert desk.plan()["counts"]["stale"] == 6
    assert "nothing left to do" in desk.run().stderr
    assert desk.closed() == []
    anew = desk.run("--retry", "stale")
    assert anew.returncode == 0, anew.stderr
    assert "MLflow" not in anew.stderr
    assert len(desk.closed()) == 6
    assert desk.plan()["counts"]["done"] == 6
    mlflow = desk.type("table", "toy.yaml", "--format", "md", "--source", "mlflow")
    assert mlflow.stdout == desk.table


@pytest.mark.slow
@pytest.mark.fault("A1")
def test_a_driver_killed_in_the_middle_loses_nothing(desk: Desk, tmp_path: Path) -> None:
    desk.write(steps=40)
    whole = desk.run()
    undisturbed = desk.table
    shutil.rmtree(desk.folder / "runs")
    done: set[str] = set()
    for kills in range(1, 4):
        process = desk.start("run", "toy.yaml", "--dispatch", "inline")
        while len(results(desk)) < min(2 * kills, 5) and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        finished = results(desk)
        assert done <= finished
        done = finished
    before = {id: stamp(desk, id) for id in done}
    last = desk.run()
    assert last.stdout == whole.stdout
    assert desk.table == undisturbed
    assert {id: stamp(desk, id) for id in done} == before


def running(desk: Desk) -> int:
    return json.loads(desk.type("status", "toy.yaml", "--json").stdout)["counts"]["running"]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.fault("A1")
def test_a_driver_of_ray_killed_in_the_middle_loses_nothing(desk: Desk) -> None:
    desk.write(steps=10, pause=0.1)
    whole = desk.run()
    undisturbed = desk.table
    shutil.rmtree(desk.folder / "runs")
    process = desk.start("run", "toy.yaml")
    deadline = time.monotonic() + 60
    while len(results(desk)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # Its workers live for another second or two, and may end what they are at.
    while running(desk) and time.monotonic() < deadline:
        time.sleep(0.1)
    done = results(desk)
    assert len(done) >= 3
    before = {id: stamp(desk, id) for id in done}
    last = desk.type("run", "toy.yaml")
    assert last.returncode == 0, last.stderr
    assert f"{6 - len(done)} to run" in last.stderr
    assert desk.table == undisturbed
    assert last.stdout == whole.stdout
    assert {id: stamp(desk, id) for id in done} == before


def results(desk: Desk) -> set[str]:
    return {path.parent.name for path in desk.folder.glob("runs/trials/*/result-*.json")}


def stamp(desk: Desk, trial_id: str) -> list[tuple[int, bytes]]:
    paths = (desk.folder / "runs/trials" / trial_id).glob("result-*.json")
    return [(path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(paths)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_the_next_run_goes_on(desk: Desk, number: signal.Signals) -> None:
    desk.write(steps=100_000)
    process = desk.start("run", "toy.yaml", "--dispatch", "inline")
    while not list(desk.folder.glob("runs/trials/*/journal.jsonl")):
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert "Traceback" not in out + err
    assert "does what is left" in err
    assert desk.plan()["counts"]["missing"] == 6


BAD = {
    "an unknown key": (
        "axes:\n  level",
        "axis:\n  level",
        "toy.yaml:4:1: unknown key 'axis'; did you mean 'axes'?",
    ),
    "an unknown metric": (
        "values: [loss]",
        "values: [lass]",
        "toy.yaml:11:34: unknown metric 'lass' in tables.losses; did you mean 'loss'?",
    ),
    "a misspelt trainer": (
        "toy_trainers:countdown",
        "toy_trainers:countdwn",
        "did you mean 'countdown'?",
    ),
    "an empty file": (None, "", "toy.yaml:1:1: "),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_mistake_is_told_at_its_place_before_anything_runs(
    desk: Desk, verb: str, old: str | None, new: str, message: str
) -> None:
    path = desk.folder / "toy.yaml"
    path.write_text("" if old is None else path.read_text().replace(old, new))
    refused = desk.type(verb, "toy.yaml")
    assert refused.returncode == 2
    assert message in refused.stderr
    assert not (desk.folder / "runs").exists()


def test_errors_are_objects_for_programs(desk: Desk) -> None:
    path = desk.folder / "toy.yaml"
    path.write_text(path.read_text().replace("rows:", "row:"))
    refused = desk.type("plan", "toy.yaml", "--json")
    wrong = {error["key"]: error["mark"] for error in json.loads(refused.stdout)["errors"]}
    assert wrong["row"] == {"source": "toy.yaml", "line": 11, "column": 12}


SHIPPED_BAD = {
    "pooling": (["--set", "pooling=mx"], 2, "--set pooling: unknown pooling 'mx'"),
    "corpus": (["--profile", "paper", "--data", "."], 3, "table1.yaml:"),
    "profile": (["--profile", "qick"], 2, "did you mean 'quick'?"),
}


@pytest.mark.parametrize(("options", "code", "message"), SHIPPED_BAD.values(), ids=SHIPPED_BAD)
def test_what_a_shipped_sweep_refuses(
    desk: Desk, options: list[str], code: int, message: str
) -> None:
    refused = desk.type("run", str(ROOT / "sweeps/table3.yaml"), *options)
    assert refused.returncode == code, refused.stderr
    assert message in refused.stderr
    assert not (desk.folder / "runs").exists()


def test_data_lists_and_describes(desk: Desk) -> None:
    assert "synthetic_topics" in desk.type("data").stdout.split()
    described = json.loads(desk.type("data", "synthetic_styles", "--json").stdout)
    assert described["splits"]["test"]["sentences"] == 500
    unknown = desk.type("data", "synthetic_stiles")
    assert unknown.returncode == 3
    assert "did you mean 'synthetic_styles'?" in unknown.stderr


# ---- what has changed since the last run

EDITED = """\
name: toy
trainer: {function: "toy_trainers:keeps", config: toy_config}
base: {evaluate.samples: 1}
axes:
  model: {VAE: {}, Max: {pooling: max}, LM: {model: lm}}
  seed: [0, 1]
metrics:
  score: {from: score, goal: max, format: ".0f"}
profiles: {quick: {}}
tables:
  scores: {rows: model, over: seed, values: [score], write: [csv]}
"""

# Each edit of the file in turn, what is then said, and how much is trained and scored.
EDITS = {
    "a seed more": (("seed: [0, 1]", "seed: [0, 1, 2]"), "3 new (seed=2)", 3, 3),
    "a level less": (
        (", LM: {model: lm}", ""),
        "3 removed (model=LM; their records stay until a gc)",
        0,
        0,
    ),
    "a label renamed": (("Max:", "MaxPool:"), "3 renamed (model: Max -> MaxPool)", 0, 0),
    "levels in another order": (
        ("{VAE: {}, MaxPool: {pooling: max}}", "{MaxPool: {pooling: max}, VAE: {}}"),
        "order of model changed",
        0,
        0,
    ),
    "another evaluation": (
        ("samples: 1}", "samples: 9}"),
        "6 scored in another way (all there are)",
        0,
        6,
    ),
    "an axis more": (
        ("  seed:", "  lr: {one: {}, two: {lr: 2}}\n  seed:"),
        "axis lr added (what there was is at lr=one), 6 new (lr=two)",
        6,
        6,
    ),
    "the axis less": (
        ("  lr: {one: {}, two: {lr: 2}}\n  seed:", "  seed:"),
        "axis lr removed (what is left is at lr=one), "
        "6 removed (lr=two; their records stay until a gc)",
        0,
        0,
    ),
    "a level again": (("VAE: {}", "VAE: {}, LM: {model: lm}"), "3 new (model=LM)", 0, 3),
}


@pytest.mark.slow
@pytest.mark.fault("C1")
def test_an_edit_is_said_by_plan_and_done_by_run(desk: Desk) -> None:
    """The trials of `LM`, left out and taken in again, are trained: they are scored anew."""
    path = desk.folder / "toy.yaml"
    path.write_text(EDITED)
    assert "run of" not in desk.type("plan", "toy.yaml").stdout
    assert desk.plan()["changes"] is None
    assert "since" not in desk.run().stderr
    done = (6, 6)
    assert counted(desk) == done
    for (old, new), said, trained, scored in EDITS.values():
        text = path.read_text()
        assert text.count(old) == 1
        text = text.replace(old, new).replace(" columns: [lr],", "")
        with_axis = text.replace("over: seed,", "columns: [lr], over: seed,")
        path.write_text(with_axis if "\n  lr:" in text else text)
        assert since(desk.type("plan", "toy.yaml").stdout) == said
        assert desk.plan()["changes"]["same"] is False
        ran = desk.run()
        assert ran.returncode == 0, ran.stderr
        assert since(ran.stderr) == said
        done = (done[0] + trained, done[1] + scored)
        assert counted(desk) == done
        assert desk.plan()["changes"]["same"] is True
        assert "the same as in the run of" in desk.type("plan", "toy.yaml").stdout


def since(said: str) -> str:
    """What is said to have changed since the last run, in one line."""
    block = re.search(r"^since the run of \S+ \S+:(.*(?:\n  .*)*)", said, re.MULTILINE)
    return ", ".join(line.strip() for line in block[1].strip().splitlines())


def counted(desk: Desk) -> tuple[int, int]:
    """How often the toy `keeps` has trained and scored, as it says in its folders."""
    trials = desk.folder / "runs/trials"
    trained, scored = (
        sum(len(path.read_text().split()) for path in trials.glob(f"*/{what}"))
        for what in ("trainings", "scorings")
    )
    return trained, scored


@pytest.mark.slow
def test_a_damaged_note_of_the_last_run_stops_nothing(desk: Desk) -> None:
    assert desk.run().returncode == 0
    (note,) = desk.folder.glob("runs/sweeps/toy.quick.*.json")
    note.write_bytes(note.read_bytes().replace(b"low", b"law"))
    planned = desk.type("plan", "toy.yaml")
    assert planned.returncode == 0
    assert "what the last run was is not known: " in planned.stdout
    assert desk.plan()["changes"] is None
    again = desk.run()
    assert again.returncode == 0, again.stderr
    assert "what the last run was is not known: " in again.stderr
    assert desk.plan()["changes"]["same"] is True
    note.unlink()
    note.mkdir()  # Nor does a place where it cannot be written.
    again = desk.run()
    assert again.returncode == 0, again.stderr
    assert "the next plan will not know this run: cannot write " in again.stderr


@pytest.mark.slow
def test_a_run_that_was_stopped_is_one_since_which_nothing_changed(desk: Desk) -> None:
    desk.write(steps=100_000)
    process = desk.start("run", "toy.yaml", "--dispatch", "inline")
    while not list(desk.folder.glob("runs/trials/*/journal.jsonl")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    plan = desk.plan()
    assert plan["changes"]["same"] is True
    assert plan["counts"]["missing"] == 6


# ---- what sweeps share


def test_what_two_sweeps_have_in_common(desk: Desk) -> None:
    path = desk.folder / "toy.yaml"
    path.write_text(EDITED)
    other = EDITED.replace("name: toy", "name: other").replace("LM: {model: lm}", "Avg: {lr: 3}")
    (desk.folder / "other.yaml").write_text(other)
    (desk.folder / "third.yaml").write_text(other.replace("samples: 1}", "samples: 2}"))
    said = desk.type("plan", "toy.yaml", "--with", "other.yaml", "--with", "third.yaml").stdout
    assert "4 of 6 trials are also other's; 2 are its own" in said
    assert "4 of 6 trials are also other's, scored in another way; 2 are its own" in said
    told = json.loads(desk.type("plan", "toy.yaml", "--json", "--with", "third.yaml").stdout)
    assert told["shared"] == [
        {"other": "other", "total": 6, "shared": 4, "rescored": 4, "own": 2, "run": None}
    ]
    refused = desk.type("plan", "toy.yaml", "--with", "no.yaml")
    assert (refused.returncode, "no.yaml" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_what_was_run_before_is_found_again(desk: Desk) -> None:
    (desk.folder / "toy.yaml").write_text(EDITED)
    assert desk.run().returncode == 0
    other = EDITED.replace("name: toy", "name: other").replace("seed: [0, 1]", "seed: [1, 2, 3]")
    (desk.folder / "other.yaml").write_text(other)
    said = desk.type("plan", "other.yaml").stdout
    day = time.strftime("%Y-%m-%d")
    assert f"its trials are also of: toy (3 of 9, run {day})" in said
    (shared,) = json.loads(desk.type("plan", "other.yaml", "--json").stdout)["shared"]
    assert (shared["other"], shared["shared"], shared["rescored"]) == ("toy", 3, 0)


# ---- hints


def test_a_hint_names_the_command_with_what_was_given(desk: Desk) -> None:
    text = EDITED.replace("profiles: {quick: {}}", "profiles: {quick: {}, paper: {}}")
    (desk.folder / "my toy.yaml").write_text(text)
    given = ("--profile", "paper", "--set", "lr=2", "--set", "pooling=a b", "--store", "my runs")
    told = desk.type("eval", "my toy.yaml", "--dispatch", "inline", *given)
    hint = (
        "sweeper run 'my toy.yaml' --profile paper --set lr=2 --set 'pooling=a b' "
        "--store 'my runs' trains them"
    )
    assert hint in told.stderr
    plainly = desk.type("eval", "my toy.yaml", "--profile", "quick", "--store", "runs")
    assert "; sweeper run 'my toy.yaml' trains them" in plainly.stderr
