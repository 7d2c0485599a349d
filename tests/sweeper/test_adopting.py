"""Several people at one MLflow: what one has finished no other trains. Two drivers with stores and
homes of their own at a real server, on sqlite and on Postgres."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import postgres
import pytest
import sqlalchemy
import tracking
from tracking import free_port

from sweeper.errors import EnvironmentFault
from sweeper.record import Measurement, Record
from sweeper.track import adopting, parcel
from sweeper.track.folder import Folder
from sweeper.track.mlflow import MLflowStore
from sweeper.track.parcel import Origin
from sweeper.trial import Trial

ROOT = Path(__file__).parents[2]
SECONDS = 300.0

# What mlflow and its dependencies do when they are imported is not ours to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TRAINER = """\
import os
import time

def train(config, run):
    with open(os.environ["TOY_CALLS"], "a") as calls:
        calls.write(f"{config['level']} {run.seed}\\n")
    kept = run.folder / "artifacts" / "codes"
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "mean.bin").write_bytes(bytes(range(256)) * (1 + run.seed))
    (run.folder / "artifacts" / "nll.txt").write_text(f"{config['level']} {run.seed}\\n")
    for update in range(10, 10 * config["steps"] + 1, 10):
        time.sleep(0.002)  # MLflow's times are in milliseconds.
        yield {
            "cost/updates": update,
            "valid/loss": config["level"] / update + run.seed / 7,
            "odd=key": 1 / update,
        }
    time.sleep(0.002)
    yield {
        "cost/updates": 10 * config["steps"],
        "test/loss": config["level"] / 3 + run.seed,
        "valid/loss": config["level"] / update + run.seed / 7,
        "odd=key": 0.5,
    }
"""

SWEEP = """\
name: %(name)s
trainer: {function: "toy_own:train"}
base: {steps: 4}
axes:
  level: {low: {level: 1.0}, high: {level: 2.0}}
  seed: %(seeds)s
metrics:
  loss: {from: test/loss, goal: min, format: ".6f"}
  valid: {from: valid/loss, goal: min, format: ".6f"}
profiles: {quick: {}}
tables:
  losses: {rows: level, columns: seed, values: [loss, valid]}
figures:
  course: {kind: curves, y: [valid], series: level, over: seed, write: [png]}
"""


class Person:
    """A home with a sweep in it, a store, and a trainer that writes down when it is called."""

    def __init__(self, folder: Path, uri: str | None, seeds=(0, 1), name: str = "toy"):
        self.folder, self.uri = folder, uri
        folder.mkdir()
        (folder / "toy.yaml").write_text(SWEEP % {"name": name, "seeds": [*seeds]})
        (folder / "toy_own.py").write_text(TRAINER)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
            "TOY_CALLS": str(folder / "calls"),
        }

    def start(self, verb: str, *more: str, uri: str | None = None) -> subprocess.Popen[str]:
        where = uri or self.uri
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "sweeper", verb, "toy.yaml"),
                *(("--tracking", where) if where else ()),
                *(("--dispatch", "inline") if verb == "run" else ()),
                *more,
            ],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def type(self, verb: str, *more: str, exit: int = 0, uri: str | None = None) -> str:
        out, err = (process := self.start(verb, *more, uri=uri)).communicate(timeout=SECONDS)
        assert "Traceback" not in out + err, out + err
        assert process.returncode == exit, out + err
        return out + err

    @property
    def store(self) -> Folder:
        return Folder(self.folder / "runs")

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return sorted(path.read_text().splitlines()) if path.exists() else []

    def written(self, name: str) -> str:
        return (self.folder / f"runs/tables/toy.quick/{name}").read_text()


@pytest.fixture(scope="module")
def databases():
    with postgres.server() as url:
        yield url


def address(there: tracking.Server) -> str:
    return f"http://127.0.0.1:{there.port}"


def by_cost(course: Iterable[Measurement]) -> dict[float, dict[str, float]]:
    """Two measurements at one cost and in one millisecond come back from MLflow as one."""
    found: dict[float, dict[str, float]] = {}
    for it in course:
        found.setdefault(it.cost, {}).update(it.values)
    return found


def points(database: str) -> dict[str, Counter]:
    """Trial id -> its points (key, value, milliseconds, step), as SQL has them; by run, so that a
    second run of a trial is seen."""
    engine = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
    found: dict[str, Counter] = {}
    with engine.connect() as there:
        named = there.execute(
            sqlalchemy.text(
                "select t.run_uuid, t.value from tags t join runs r on r.run_uuid = t.run_uuid "
                "where t.key = 'sweeper.trial' and r.lifecycle_stage = 'active'"
            )
        ).all()
        assert len({trial for _, trial in named}) == len(named), "a trial has two runs"
        for run, trial in named:
            rows = there.execute(
                sqlalchemy.text(
                    "select key, value, timestamp, step from metrics where run_uuid = :run"
                ),
                {"run": run},
            )
            found[trial] = Counter(map(tuple, rows))
    engine.dispose()
    return found


# --- two people at one server ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_what_one_has_finished_no_other_trains(kind, request, tmp_path, say):
    database = f"sqlite:///{tmp_path}/server/server.db"
    if kind == "postgres":
        if why := postgres.lacking():
            pytest.skip(why)
        database = postgres.database(request.getfixturevalue("databases"))
    (tmp_path / "server").mkdir()
    with tracking.server(tmp_path / "server", database) as there:
        anna = Person(tmp_path / "anna", address(there))
        said = anna.type("run")
        assert "finished by others" not in said
        assert anna.calls == ["1.0 0", "1.0 1", "2.0 0", "2.0 1"]
        anna.type("sync")  # A run waits for a slow server for half a minute only.
        before = points(database)

        bert = Person(tmp_path / "bert", address(there), seeds=(0, 1, 2), name="mine")
        began = time.monotonic()
        said = bert.type("run")
        took = time.monotonic() - began
        assert f"4 of 6 trials were finished by others ({address(there)}): adopted" in said, said
        assert bert.calls == ["1.0 2", "2.0 2"]
        bert.type("sync")
        after = points(database)
        assert {trial: after[trial] for trial in before} == before
        assert len(after) == 6
        assert "nothing left to do" in bert.type("run")
        assert points(database) == after

    # The same sweep by somebody who knows nobody, and trains all of it.
    alone = Person(tmp_path / "alone", None, seeds=(0, 1, 2), name="mine")
    alone.type("run", "--tracking", "http://127.0.0.1:9", "--offline")
    assert len(alone.calls) == 6
    tables = "runs/tables/mine.quick/losses.md"
    assert (bert.folder / tables).read_text() == (alone.folder / tables).read_text()
    # The server is away now: all that reads, reads.
    for verb, more in (
        ("table", ("--format", "csv")),
        ("figure", ()),
        ("report", ()),
        ("plan", ("--json",)),
        ("status", ()),
    ):
        bert.type(verb, *more)
    for words in (("table", "--format", "csv"), ("table", "--format", "json")):
        assert bert.type(*words) == alone.type(*words)
    course = "runs/tables/mine.quick/course.png"
    assert (bert.folder / course).read_bytes() == (alone.folder / course).read_bytes()
    taken = sorted(before)[0]
    assert "adopted from MLflow run" in bert.type("why", taken)
    mine, theirs = bert.store, anna.store
    for trial in map(theirs.trial, theirs.ids()):
        assert mine.result(trial) == theirs.result(trial)
        ours, whole = mine.course(trial), theirs.course(trial)
        assert by_cost(ours) == by_cost(whole)
        assert {m.cost: m.at for m in whole} == pytest.approx(
            {m.cost: m.at for m in ours}, rel=0, abs=0.001
        )
        assert mine.artifacts(trial.id) == theirs.artifacts(trial.id)
        assert mine.artifact(trial.id, "nll.txt") == theirs.artifact(trial.id, "nll.txt")
        assert list(mine.damage(trial.id)) == []

    with tracking.server(tmp_path / "server", database) as there:
        cora = Person(tmp_path / "cora", address(there), seeds=(0, 1, 2))
        said = cora.type("run")
        assert "6 of 6 trials were finished by others" in said
        assert cora.calls == []
        cora.type("sync")
        assert points(database) == after
        sweeps = tags(database, "sweeper.sweep.toy.quick")
        assert len(sweeps) == 6
        assert len(tags(database, "sweeper.sweep.mine.quick")) == 6
    say(
        f"{kind}: 4 of 6 adopted in {took:.1f} s with the run; {sum(map(len, after.values()))} "
        "points before and after; after a restart 6 of 6"
    )


def tags(database: str, key: str) -> set[str]:
    """The runs of trials that have a tag."""
    engine = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
    with engine.connect() as there:
        found = there.execute(
            sqlalchemy.text(
                "select a.run_uuid from tags a join tags b on a.run_uuid = b.run_uuid "
                "where a.key = :key and b.key = 'sweeper.trial'"
            ),
            {"key": key},
        )
        runs = {row[0] for row in found}
    engine.dispose()
    return runs


# --- one trial, without a server ------------------------------------------------------------------

HERS = Origin(sweep="hers", profile="quick")
OURS = Origin(sweep="ours", profile="quick", curves=["odd=key"])


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A database of MLflow's in which there is nothing yet: to make one takes seconds."""
    root = tmp_path_factory.mktemp("template")
    with MLflowStore(root, experiment="another")._reachable():
        return root / "mlflow.db"


class Shared:
    """A database of two people's; hers has the files, too."""

    def __init__(self, folder: Path, template: Path):
        self.path = folder / "shared.db"
        self.path.write_bytes(template.read_bytes())
        self.uri = f"sqlite:///{self.path}"
        self.hers, self.ours = Folder(folder / "hers"), Folder(folder / "ours")
        self.store = MLflowStore(self.hers.root, self.uri)

    def finish(self, of: Trial, *, failing: int = 0, **stamp: object) -> Record:
        """Train and publish as she does, after so many attempts that failed."""
        for _ in range(failing):
            ended(self.hers.start(of), of, "failed", {})
        attempt = self.hers.start(of)
        for cost in (10, 20, 30):
            values = {"cost/updates": cost, "train/loss": 1 / cost, "odd=key": of.seed + cost / 7}
            attempt.measure(cost, values)
        for name, content in tracking.artifacts(of.seed).items():
            path = attempt.folder / "artifacts" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        result = {"cost/updates": 30.0, "train/loss": 1 / 30, "test/nll": 1 / 3 + of.seed}
        record = ended(attempt, of, "done", result, **stamp)
        self.store.publish(of, self.hers, HERS)
        return record

    def take(self, *trials: Trial, code: str | None = "code") -> list[dict]:
        store = MLflowStore(self.ours.root, self.uri)
        return list(adopting.asked([(of, code) for of in trials], store, self.ours, OURS))

    def sql(self, text: str, **given: object) -> list:
        engine = sqlalchemy.create_engine(self.uri, poolclass=sqlalchemy.NullPool)
        with engine.begin() as there:
            done = there.execute(sqlalchemy.text(text), given)
            rows = done.all() if done.returns_rows else [done.rowcount]
        engine.dispose()
        return rows


def ended(attempt, of: Trial, state: str, result: dict, **stamp: object) -> Record:
    stamp = {"host": "her-machine", "code_digest": "code", "commit": "c" * 40} | stamp
    return attempt.finish(
        Record(
            trial_id=of.id,
            evaluation_id=of.evaluation_id,
            state=state,
            result=result,
            error=None if state == "done" else "it fell over",
            provenance=stamp,
        )
    )


@pytest.fixture
def shared(tmp_path, template) -> Shared:
    return Shared(tmp_path, template)


def trial(seed: int = 0, **evaluation: object) -> Trial:
    return replace(tracking.trial(seed), evaluation=evaluation)


def test_a_trial_that_was_taken_over_is_as_one_that_ran_here(shared):
    one = trial()
    hers = shared.finish(one, failing=2, gpus=0.5, peak_memory_bytes=7)
    before = points(shared.uri)
    assert shared.take(one) == [{"taken": [one.id, one.evaluation_id]}]
    ours = shared.ours
    assert hers.attempt == 3
    assert ours.result(one) == hers
    assert ours.record(one) == hers
    assert not ours.is_running(one.id)
    assert list(ours.damage(one.id)) == []
    assert [m.values for m in ours.course(one)] == [m.values for m in shared.hers.course(one)]
    for name, content in tracking.artifacts(0).items():
        assert ours.artifact(one.id, name) == content
    totals = ours.totals(one.id)
    assert (totals["updates"], totals["done"], totals["peak_memory_bytes"]) == (30.0, True, 7)
    assert totals["seconds"] == hers.seconds
    assert totals["gpu_hours"] == hers.seconds / 2 / 3600
    source = adopting.source_of(ours.entries(one.id), one.evaluation_id)
    assert (source["host"], source["uri"]) == ("her-machine", shared.uri)
    assert ours.start(one).number == 4  # An attempt that follows has the next number.

    MLflowStore(ours.root, shared.uri).publish(one, ours, OURS)
    assert points(shared.uri) == before
    runs = "select count(*) from runs"
    assert shared.sql(f"{runs} where lifecycle_stage = 'deleted'") == [(0,)]
    assert tags(shared.uri, HERS.tag) == tags(shared.uri, OURS.tag) != set()
    assert not list(ours.root.glob(".adopted*"))


def test_what_other_code_made_is_left_and_counted(shared):
    one = trial()
    shared.finish(one)
    assert shared.take(one, code="newer") == [{"stale": one.id}]
    assert shared.ours.ids() == []
    assert shared.take(one, code=None) == [{"taken": [one.id, one.evaluation_id]}]


HARMS = {
    "record": (
        'update tags set value = replace(value, \'"state":"done"\', \'"state":"dome"\') '
        "where key = 'sweeper.record'",
        "the checksum does not match",
    ),
    "point changed": (
        "update metrics set value = value + 1e-9 where key = 'train/loss' and step = 20",
        "its metrics are not those that were delivered",
    ),
    "point lost": (
        "delete from metrics where key = 'train/loss' and step = 10",
        "its metrics are not those that were delivered",
    ),
    "time changed": (
        "update metrics set timestamp = timestamp + 1 where step = 10",
        "its metrics are not those that were delivered",
    ),
    "not at its end": (
        'update tags set value = replace(value, \'"record": "\', \'"record": "0\') '
        "where key = 'sweeper.arrived'",
        "its delivery has not come to its end",
    ),
}


@pytest.mark.fault("B13")
@pytest.mark.parametrize("harm", [*HARMS, "file changed", "file lost", "file more"])
def test_what_is_not_as_it_was_delivered_is_not_taken_over(shared, harm):
    one, whole = trial(), trial(1)
    shared.finish(one)
    if harm in HARMS:
        text, why = HARMS[harm]
        (rows,) = shared.sql(text)
        assert rows > 0
    else:
        why = "its files are not those that were delivered"
        (file,) = shared.hers.root.glob("mlartifacts/**/nll.txt")
        if harm == "file changed":
            file.write_text("9\n")
        elif harm == "file lost":
            file.unlink()
        else:
            file.with_name("more.txt").write_text("more\n")
    shared.finish(whole)
    refused, taken = sorted(shared.take(one, whole), key=lambda said: "taken" in said)
    assert why in refused["refused"]
    (run,) = shared.sql(
        "select run_uuid from tags where key = 'sweeper.trial' and value = :id", id=one.id
    )
    assert refused["refused"].startswith(f"MLflow run {run[0]}: ")
    assert taken == {"taken": [whole.id, whole.evaluation_id]}
    assert shared.ours.ids() == [whole.id]


def test_what_was_begun_here_gives_way_and_a_further_evaluation_stands_beside(shared):
    one, other = trial(samples=5), trial(samples=9)
    for of in (one, other):
        shared.finish(of)
    begun = shared.ours.start(one)
    begun.measure(10, {"cost/updates": 10, "train/loss": 5.0})
    (begun.folder / "checkpoints").mkdir()
    (begun.folder / "checkpoints" / "half").write_text("half")
    begun.abandon("stopped")
    assert len(shared.take(one)) == 1
    assert not (begun.folder / "checkpoints").exists()
    assert shared.ours.result(one).attempt == 2
    assert len(shared.ours.course(one)) == 3
    assert len(shared.take(other)) == 1
    store = MLflowStore(shared.ours.root, shared.uri)
    before = shared.sql("select count(*) from metrics")
    for of in (one, other):
        assert shared.ours.result(of).state == "done"
        assert [m.values for m in shared.ours.course(of)] == [
            m.values for m in shared.hers.course(of)
        ]
        store.publish(of, shared.ours, OURS)
    assert list(shared.ours.damage(one.id)) == []
    assert shared.sql("select count(*) from metrics") == before


def test_who_publishes_over_another_keeps_the_other_s_sweep(shared):
    """Both trained it at the same time: the last replaces the run, which stays in both sweeps."""
    one = trial()
    shared.finish(one)
    attempt = shared.ours.start(one)
    attempt.measure(10, {"cost/updates": 10, "train/loss": 2.0})
    ended(attempt, one, "done", {"cost/updates": 10.0, "train/loss": 2.0})
    MLflowStore(shared.ours.root, shared.uri).publish(one, shared.ours, OURS)
    active = (
        "select t.key from tags t join runs r on r.run_uuid = t.run_uuid "
        "where r.lifecycle_stage = 'active' and t.key like 'sweeper.sweep.%'"
    )
    assert {key for (key,) in shared.sql(active)} == {HERS.tag, OURS.tag}


@pytest.mark.slow
@pytest.mark.fault("A6")
def test_whenever_it_is_killed_there_are_whole_trials_only(shared, full, fault_seed, say):
    trials = [trial(seed) for seed in range(6)]
    for of in trials:
        shared.finish(of)
    about = {
        "root": str(shared.ours.root),
        "uri": shared.uri,
        "origin": asdict(OURS),
        "trials": [[asdict(of), "code"] for of in trials],
    }
    dice = random.Random(fault_seed)
    shared.ours.root.mkdir()
    killed = 0
    for _ in range(40 if full else 6):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(dice.randint(1, 240))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        _, err = process.communicate(json.dumps(about).encode() + b"\n", timeout=SECONDS)
        killed += process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL), err.decode()
        for of in trials:
            found = shared.ours.result(of)
            assert list(shared.ours.damage(of.id)) == []
            if found is not None:
                assert replace(found, attempt=1) == shared.hers.result(of)
                assert shared.ours.artifact(of.id, "nll.txt") == b"%d\n" % of.seed
        left = [of for of in trials if shared.ours.result(of) is None]
        about["trials"] = [[asdict(of), "code"] for of in left]
    shared.take(*left)
    store = MLflowStore(shared.ours.root, shared.uri)
    before = shared.sql("select count(*) from metrics")
    for of in trials:
        assert len(shared.ours.course(of)) == 3
        store.publish(of, shared.ours, OURS)
    assert shared.sql("select count(*) from metrics") == before
    assert killed > 0
    say(f"{killed} kills (seed {fault_seed}): 6 of 6 trials whole, 0 half, 0 points twice")


KILLED = """
import os, signal, sys
from sweeper.track import adopting
left = int(sys.argv[1])
def count(event, arguments):
    global left
    if event in ("open", "os.rename", "os.mkdir", "os.truncate", "shutil.rmtree", "os.utime"):
        if any("/ours/" in str(it) for it in arguments):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
adopting.main()
"""


# --- points and histories -------------------------------------------------------------------------


def test_seconds_of_milliseconds_are_the_same_milliseconds():
    dice = random.Random(7)
    for at_ms in [0, 1, 999, *(dice.randrange(10**12, 2 * 10**12) for _ in range(20_000))]:
        assert parcel.milliseconds(parcel.seconds_of(at_ms)) == at_ms
        assert math.isclose(parcel.seconds_of(at_ms) * 1000, at_ms, rel_tol=1e-12)


def test_a_history_is_rebuilt_of_its_points_in_whatever_order():
    """So that the same points are made of it: also of measurements at one cost, within a
    millisecond, under names that MLflow does not take, and of results that end in none."""
    exact = older = 0
    for seed in range(2000):
        dice = random.Random(seed)
        history, record = drawn(dice)
        sent = list(parcel.points(history, record))
        digest = parcel.digest_of(sent)
        dice.shuffle(sent)
        measured = sum(1 for _ in parcel.points(history, None))
        made = adopting.rebuilt(sent, record, measured=measured)
        assert made is not None, seed
        assert parcel.digest_of(parcel.points(made, record)) == digest, seed
        assert sum(1 for _ in parcel.points(made, None)) == measured, seed
        before = adopting.rebuilt(sent, record)  # delivered when that was not said
        older += parcel.digest_of(parcel.points(before, record)) == digest
        exact += [(m.cost, m.values) for m in made] == [(m.cost, m.values) for m in history]
    assert exact > 750  # What was measured within a millisecond is one measurement.
    assert older == 2000


def test_a_result_in_the_moment_of_the_end_is_not_taken_for_a_measurement():
    history = [
        Measurement(cost=1, values={"a": 1.0, "b": 1.0}, at=1.0),
        Measurement(cost=2, values={"a": 0.5, "b": 0.6}, at=2.0),
    ]
    record = Record(
        trial_id="0" * 16,
        evaluation_id="1" * 16,
        state="done",
        result={"a": 0.5, "b": 0.7, "c": 0.1},
        finished_at=2.0,
    )
    sent = list(parcel.points(history, record))
    assert len(sent) == 6
    made = adopting.rebuilt(sent, record, measured=4)
    assert [(m.cost, m.values) for m in made] == [(m.cost, m.values) for m in history]


def drawn(dice: random.Random) -> tuple[list[Measurement], Record]:
    at, cost, history = 1.79e9 + 1000 * dice.random(), 0.0, []
    names = ["a", "b=1", "c/d", "e"]
    for _ in range(dice.randint(1, 6)):
        cost += dice.choice([0, 0.5, 1, 5, 5, 5])
        at += dice.choice([0.0, 0.0004, 0.001, 0.002, 1.5, 1.5])
        some = dice.sample(names, dice.randint(1, 4))
        values = {name: dice.choice([0.0, -0.0, 1.0, dice.random()]) for name in some}
        values |= {"cost/updates": cost} if dice.random() < 0.8 else {}
        history.append(Measurement(cost=cost, values=values, at=at))
    result = dict(history[-1].values)
    result |= {"new": dice.random()} if dice.random() < 0.3 else {}
    result |= {"a": 0.0} if dice.random() < 0.3 else {}
    finished = at + dice.choice([0, 0.0003, 0.01])
    key = {"trial_id": "a" * 16, "evaluation_id": "b" * 16}
    return history, Record(**key, state="done", result=result, finished_at=finished)


# --- a process that asks, and does not come to its end -------------------------------------------


def asking(monkeypatch, text: str) -> None:
    """Has the driver ask a process of this text."""
    really = subprocess.Popen

    def start(command: list[str], **more) -> subprocess.Popen[str]:
        return really([sys.executable, "-c", text], **more)

    monkeypatch.setattr(adopting.subprocess, "Popen", start)


def test_a_process_of_which_nothing_comes_is_not_awaited_for_ever(tmp_path, monkeypatch):
    """Not even where it does not listen to what it is asked, which is more than a pipe takes."""
    monkeypatch.setattr(adopting, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(adopting, "LOOK_SECONDS", 0.1)
    asking(monkeypatch, "import time; print(1, flush=True); time.sleep(600)")
    wanted = [(trial(seed), "code") for seed in range(1000)]
    with pytest.raises(adopting.Unasked, match="nothing came for"):
        adopting.take_over(wanted, Folder(tmp_path), "http://127.0.0.1:1", OURS)


def test_a_file_that_grows_is_something_that_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(adopting, "SILENT_SECONDS", 4.0)
    monkeypatch.setattr(adopting, "LOOK_SECONDS", 0.1)
    text = (
        "import os, pathlib, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r}, f'.adopted.{{os.getpid()}}.x')\n"
        "folder.mkdir()\n"
        "for size in range(24):\n"
        "    time.sleep(0.25)\n"
        "    (folder / 'large').write_bytes(bytes(size + 1))\n"
    )
    asking(monkeypatch, text)
    taken = adopting.take_over([(trial(), "code")], Folder(tmp_path), "http://127.0.0.1:1", OURS)
    assert taken == adopting.Taken()


@pytest.mark.parametrize("ends", ["os.kill(os.getpid(), 9)", "pass"])
def test_a_last_line_that_is_torn_is_none(tmp_path, monkeypatch, ends):
    lines = json.dumps({"taken": ["0" * 16, "1" * 8]}) + '\\n{"taken": ["23'
    asking(monkeypatch, f"import os; os.write(1, b'{lines}'); {ends}")
    ask = [[(trial(), "code")], Folder(tmp_path), "http://127.0.0.1:1", OURS]
    if ends == "pass":
        assert [key.trial_id for key in adopting.take_over(*ask).keys] == ["0" * 16]
    else:
        with pytest.raises(adopting.Unasked, match="the process that asks MLflow ended"):
            adopting.take_over(*ask)


def test_a_store_that_cannot_be_written_is_not_mlflow_that_is_away(shared, monkeypatch):
    """Whether this program meets it or MLflow's client, which says it as its own fault."""
    one = trial()
    shared.finish(one)
    ask = [[(one, "code")], shared.ours, shared.uri, OURS]
    shared.ours.root.mkdir()
    (shared.ours.root / "trials").write_text("no folder")
    with pytest.raises(EnvironmentFault, match="cannot make the folder") as met:
        adopting.take_over(*ask)
    assert not isinstance(met.value, adopting.Unasked)
    (shared.ours.root / "trials").unlink()

    def full(self, *arguments: object) -> None:
        with self._reachable():
            raise OSError(errno.ENOSPC, "No space left on device", "samples")

    monkeypatch.setattr(MLflowStore, "download", full)
    with pytest.raises(OSError, match="No space left"):
        shared.take(one)
    monkeypatch.undo()
    assert len(shared.take(one)) == 1


def test_trials_that_came_before_mlflow_went_away_are_not_trained(tmp_path, monkeypatch):
    """Nor where the process that asks was killed."""
    from sweeper import run
    from sweeper.cli import train

    looked = object()

    def ended(*arguments: object) -> None:
        raise train.Away("the process that asks MLflow ended")

    for name, answer in (
        ("adoptable", lambda *it: [trial()]),
        ("refuse_unreachable", lambda *it: None),
        ("take_over", ended),
        ("look_again", lambda *it, **more: looked),
    ):
        monkeypatch.setattr(run, name, answer)
    monkeypatch.setattr(train, "remember", lambda *it, **more: None)
    place = SimpleNamespace(shared="http://127.0.0.1:1", folder=Folder(tmp_path))
    opened = SimpleNamespace(sweep=None, place=place)
    plan = SimpleNamespace(trials=(), retry=(), chosen=None)
    assert train.with_others(opened, plan) is looked


# --- a server that cannot be asked ----------------------------------------------------------------


def test_a_server_that_was_never_met_and_does_not_answer_is_said_before_anything_is_begun(tmp_path):
    uri = f"http://127.0.0.1:{free_port()}"
    one = Person(tmp_path / "one", uri)
    said = one.type("run", exit=3)
    assert f"MLflow at {uri} does not answer: " in said
    assert "--offline starts without it, and `sweeper sync` delivers later" in said
    assert not (one.folder / "runs" / "trials").exists()
    assert one.calls == []
    # Of one that has answered before it is only said.
    (one.folder / "runs").mkdir(exist_ok=True)
    (one.folder / "runs" / "delivered.json").write_text(json.dumps({f"{uri} answered": "once"}))
    said = one.type("run")
    assert f"what others have finished is not known: MLflow at {uri} does not answer" in said
    assert len(one.calls) == 4


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"status": 401}, "answers 401: it wants another name or password"),
        ({"status": 403}, "answers 403"),
        ({"status": 200, "health": b"<html>hello"}, "answers, and not as MLflow does"),
        ({"status": 404, "health_status": 404}, "answers 404"),
    ],
)
def test_one_that_lets_nobody_in_or_is_no_mlflow_ends_it_always(how, says, tmp_path):
    with tracking.answering(**how) as uri:
        one = Person(tmp_path / "one", uri)
        (one.folder / "runs").mkdir()
        known = json.dumps({f"{uri} answered": "once"})
        (one.folder / "runs" / "delivered.json").write_text(known)
        assert says in one.type("run", exit=3)
        assert one.calls == []
