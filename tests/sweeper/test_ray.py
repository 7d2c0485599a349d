from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from agents import left

from sweeper.dispatch import dispatcher, scratch
from sweeper.errors import CorruptRecord, EnvironmentFault
from sweeper.record import Record
from sweeper.spec import Resources
from sweeper.track.folder import Folder
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings

pytestmark = pytest.mark.ray

TOYS = Path(__file__).parent
PRETENDED = {"num_cpus": 4, "num_gpus": 2}


@pytest.fixture(scope="module")
def ray_tune(tmp_path_factory):
    """One Ray for this module, with more processors and GPUs than there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOYS))
        from sweeper.dispatch import ray_cluster, ray_tune

        with ray_cluster.running_ray(Resources(), PRETENDED, tmp_path_factory.mktemp("store")):
            yield ray_tune


@pytest.fixture
def here(tmp_path):
    return Surroundings(store=tmp_path / "runs")


def toy(name: str, seed: int = 1, **config: object) -> Trial:
    return Trial(trainer=TrainerRef(function=f"toy_trainers:{name}"), config=config, seed=seed)


def test_records_are_those_of_inline(ray_tune, here, tmp_path):
    from sweeper.dispatch.inline import dispatch as inline

    trials = [
        *(toy("countdown", seed, steps=seed) for seed in (1, 2, 3)),
        *(toy("draw", seed) for seed in (1, 2)),
        *(toy(name) for name in ("raises", "chatters", "nothing", "cost_left_out")),
        toy("diverges", bad="nan"),
        toy("returns_one", lr=0.5),
        Trial(
            trainer=TrainerRef(
                command=("python", str(TOYS / "toy_trainers.py"), "plain", "{seed}", "{lr}")
            ),
            config={"lr": 0.5},
            seed=4,
        ),
    ]
    by_ray, by_inline = {}, {}
    ray_tune.dispatch(
        iter(trials), here, lambda r: by_ray.update({r.key: r}), resources=Resources(), slots=2
    )
    elsewhere = Surroundings(store=tmp_path / "inline")
    inline(trials, elsewhere, lambda r: by_inline.update({r.key: r}), resources=Resources())

    def essence(records):
        return {
            id: (r.state, dict(r.result), r.error, r.attempt, r.evaluation_id)
            for id, r in records.items()
        }

    assert essence(by_ray) == essence(by_inline)
    assert set(by_ray) == {trial.key for trial in trials}
    assert Folder(here.store).find(trials) == by_ray
    for trial in trials:
        ray_history = Folder(here.store).history(trial.id)
        inline_history = Folder(elsewhere.store).history(trial.id)
        # As text, where nan is nan.
        assert str([m.values for m in ray_history]) == str([m.values for m in inline_history])


def test_half_a_gpu_each_places_four_trials_on_two_gpus(ray_tune, here, tmp_path):
    folder = tmp_path / "barrier"
    folder.mkdir()
    trials = [toy("barrier", seed, folder=str(folder), parties=4) for seed in range(4)]
    records = []
    ray_tune.dispatch(trials, here, records.append, resources=Resources(cpus=1, gpus=0.5))
    assert [r.error for r in records] == [None] * 4
    assert sorted(r.result["gpu"] for r in records) == [0, 0, 1, 1]


@pytest.mark.fault("A3")
def test_a_killed_worker_is_replaced_and_its_trial_continues(ray_tune, here):
    records = []
    ray_tune.dispatch([toy("dies_once")], here, records.append, resources=Resources())
    (record,) = records
    assert (record.state, record.attempt) == ("done", 2)
    assert record.result == {"cost/updates": 4.0, "started_from": 2.0}
    assert [m.cost for m in Folder(here.store).history(record.trial_id)] == [1, 2, 3, 4]


@pytest.mark.fault("A3")
def test_a_worker_that_dies_every_time_ends_in_a_failed_record(ray_tune, here, monkeypatch, capfd):
    monkeypatch.setattr(ray_tune, "RETRIES", 1)
    records = []
    trials = [toy("always_dies"), toy("countdown", steps=1)]
    ray_tune.dispatch(trials, here, records.append, resources=Resources(), slots=1)
    assert [(r.state, r.error) for r in records] == [
        ("failed", "the worker died 2 times: killed, out of memory or crashed"),
        ("done", None),
    ]
    assert Folder(here.store).find(trials) == {r.key: r for r in records}
    log = (Folder(here.store).path(trials[0].id) / "log.txt").read_text()
    assert "The actor died" in log
    assert capfd.readouterr() == ("", "")


def test_nothing_to_do_is_done(ray_tune, here):
    assert dispatcher("ray") is ray_tune.dispatch
    ray_tune.dispatch([], here, pytest.fail, resources=Resources())


def test_a_stop_before_the_start_starts_nothing(ray_tune, here):
    stop = threading.Event()
    stop.set()
    trials = [toy("countdown", steps=1)]
    ray_tune.dispatch(trials, here, pytest.fail, resources=Resources(), stop=stop)
    assert Folder(here.store).ids() == []


def test_a_stop_ends_running_trials_at_a_measurement(ray_tune, here):
    trials = [toy("waits", seed) for seed in range(3)]
    stop = threading.Event()

    def stop_when_two_run():
        while len(list(here.store.glob("trials/*/journal.jsonl"))) < 2:
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=stop_when_two_run, daemon=True).start()
    ray_tune.dispatch(
        trials, here, lambda r: pytest.fail("a record"), resources=Resources(), slots=2, stop=stop
    )
    folder = Folder(here.store)
    assert folder.find(trials) == {}
    assert [folder.entries(t.id)[-1]["state"] for t in trials[:2]] == ["interrupted"] * 2
    assert folder.ids() == sorted(t.id for t in trials[:2])
    assert list(here.store.glob(".stop*")) == []


def test_a_stop_without_hurry_waits_for_the_measurement(ray_tune, here, monkeypatch):
    """As at a budget's end: what runs is paid for until then, so that it is also kept."""
    monkeypatch.setattr(ray_tune, "GRACE_SECONDS", 0.1)
    trial = toy("paced", steps=9, pause=1.5)
    stop, hurry = threading.Event(), threading.Event()
    folder = Folder(here.store)

    def stop_after_one():
        while not folder.history(trial.id):
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=stop_after_one, daemon=True).start()
    ray_tune.dispatch(
        [trial], here, pytest.fail, resources=Resources(), slots=1, stop=stop, hurry=hurry
    )
    assert [e["kind"] for e in folder.entries(trial.id)] == ["start", "measure", "measure", "end"]


def test_what_fails_anew_is_told_though_the_older_result_stays(ray_tune, here, tmp_path):
    trial = toy("raises")
    attempt = Folder(here.store).start(trial, "other code")
    older = Record(
        trial_id=trial.id,
        evaluation_id=trial.evaluation_id,
        state="done",
        provenance={"code_digest": "other code"},
    )
    attempt.finish(older)
    records = []
    anew = replace(here, retry=frozenset({"stale"}))
    ray_tune.dispatch([trial], anew, records.append, resources=Resources())
    assert [(r.state, r.attempt) for r in records] == [("failed", 2)]
    assert Folder(here.store).result(trial).state == "done"


def test_a_fault_of_the_caller_is_the_callers(ray_tune, here):
    def on_record(record):
        raise LookupError("no such table")

    with pytest.raises(LookupError, match="no such table"):
        ray_tune.dispatch([toy("countdown", steps=1)], here, on_record, resources=Resources())

    def coming():
        yield toy("countdown", 2, steps=1)
        raise LookupError("no such trial")

    records = []
    with pytest.raises(LookupError, match="no such trial"):
        ray_tune.dispatch(coming(), here, records.append, resources=Resources())
    assert len(records) == 1


def test_a_fault_of_the_store_is_raised_here(ray_tune, here):
    trial = toy("countdown", steps=1)
    folder = Folder(here.store).path(trial.id)
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text('{"id": "of another trial"}')
    with pytest.raises(CorruptRecord, match="this is trial of another trial"):
        ray_tune.dispatch([trial], here, pytest.fail, resources=Resources())


@pytest.mark.fault("A8")
def test_tune_that_ends_early_is_started_again(ray_tune, here, monkeypatch):
    """As the memory monitor's kill ends it: fit() raises with trials left over."""
    real = ray_tune.tune.Tuner.fit
    calls = []

    def fit(tuner):
        calls.append(tuner)
        if len(calls) == 1:
            raise RuntimeError("Caught unexpected exception")
        return real(tuner)

    monkeypatch.setattr(ray_tune.tune.Tuner, "fit", fit)
    records = []
    trials = [toy("countdown", seed, steps=1) for seed in range(2)]
    ray_tune.dispatch(trials, here, records.append, resources=Resources())
    assert {r.trial_id for r in records} == {t.id for t in trials}
    monkeypatch.setattr(ray_tune.tune.Tuner, "fit", lambda tuner: 1 / 0)
    with pytest.raises(EnvironmentFault, match="ended early 4 times: division by zero"):
        ray_tune.dispatch(trials, here, records.append, resources=Resources())


def test_trials_that_were_started_and_did_not_end_come_first_again(ray_tune, here):
    trials = [toy("countdown", seed, steps=1) for seed in range(4)]
    supply = ray_tune.Supply(trials, here, threading.Event(), here.store / "stop")
    jobs = [supply.suggest("x")["job"] for _ in range(3)]
    assert [job.trial for job in jobs] == trials[:3]
    supply.end(ray_tune.Ended(trial=trials[1]))
    assert supply.recall()
    assert [supply.suggest("x")["job"].trial for _ in range(3)] == [trials[0], *trials[2:]]
    assert supply.suggest("x") == ray_tune.Searcher.FINISHED
    for trial in (trials[0], *trials[2:]):
        supply.end(ray_tune.Ended(trial=trial))
    assert not supply.recall()


def test_a_dead_workers_trial_that_another_process_runs_holds_nothing_up(ray_tune, here):
    trial = toy("countdown", steps=1)
    other = Folder(here.store).start(trial)
    records = []
    died = ray_tune.Ended(trial=trial, worker_died="killed")
    assert not ray_tune.settle(died, here, records.append)
    written = other.finish(
        Record(trial_id=trial.id, evaluation_id=trial.evaluation_id, state="done")
    )
    assert ray_tune.settle(replace(died, waited=True), here, records.append)
    assert records == [written]


def test_what_killed_drivers_left_is_removed_and_what_lives_is_not(ray_tune, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, unknown, elsewhere = (tmp_path / f"sweeper-{name}" for name in "abc")
    for folder in (dead, unknown, elsewhere):
        folder.mkdir()
    here = scratch.this_place()
    (dead / scratch.OWNER).write_text(json.dumps([here, ended.pid, "1"]))
    (elsewhere / scratch.OWNER).write_text(json.dumps(["elsewhere", ended.pid, "1"]))
    first = scratch.private_scratch()
    second = scratch.private_scratch()
    assert set(tmp_path.iterdir()) == {unknown, elsewhere, first, second}


def test_another_ray_is_refused_with_a_word(ray_tune, monkeypatch, tmp_path):
    from sweeper.dispatch import ray_cluster

    monkeypatch.setattr(ray_cluster, "PRIVATE", (*ray_cluster.PRIVATE, "_private.services.gone"))
    with (
        pytest.raises(EnvironmentFault, match=r"has no ray\._private\.services\.gone\): install"),
        ray_cluster.running_ray(Resources(), PRETENDED, tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--wait"], "--wait goes with --address"),
        (["--address", "127.0.0.1:9", "--wait"], "--wait needs --slots"),
    ],
)
def test_who_waits_for_nodes_says_where_and_for_how_many(tmp_path, options, said):
    (tmp_path / "toy.yaml").write_text(
        "name: toy\ntrainer: {function: 'toy_trainers:countdown'}\nbase: {steps: 3}\n"
        "axes: {seed: [0]}\nmetrics: {loss: {from: loss, goal: min}}\nprofiles: {quick: {}}\n"
        "tables: {losses: {rows: seed, values: [loss]}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "sweeper", "run", "toy.yaml", *options],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{TOYS}:{TOYS.parents[1]}", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


TWO_AT_ONE_ADDRESS = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
os.environ["RAY_AUTH_MODE"] = "disabled"
from sweeper.dispatch import nodes, ray_cluster, ray_tune
import ray
from ray.cluster_utils import Cluster
from sweeper.errors import EnvironmentFault
store = Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "env_vars": {"GIVEN": "1"}})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
there = ray_cluster.live_nodes()
assert len(there) == 2 and len({node.address for node in there}) == 1, there
asked = nodes.Question(
    word=".asked", store=store, data=None, path=(os.getcwd(),), made_by={}, names=("GIVEN",)
)
(store / asked.word).write_text(asked.word)
for some in (there, there[::-1], there[:1], there[1:]):
    try:
        ray_cluster.ask(some, asked, SimpleNamespace(refuse_lost=lambda: None))
        print("well")
    except EnvironmentFault as fault:
        print(len(fault.problems), "GIVEN" in str(fault.problems[0]))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_each_of_two_nodes_at_one_address_is_asked(tmp_path):
    """One of them lacks what the sweep names, whichever is asked first."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_AT_ONE_ADDRESS, tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
    )
    *both, one, other = done.stdout.splitlines()
    assert both == ["1 True", "1 True"], done.stderr
    assert sorted([one, other]) == ["1 True", "well"]


def test_a_cluster_without_a_token_is_not_joined(ray_tune, monkeypatch):
    from sweeper.dispatch import ray_cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(EnvironmentFault, match="RAY_AUTH_MODE"):
        ray_cluster.prepare_token("192.0.2.1:6379")


# --- a driver of its own -----------------------------------------------------------------

DRIVER = """
import signal, sys, threading
from pathlib import Path
from sweeper.dispatch import dispatcher
from sweeper.spec import Resources
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings

dispatch = dispatcher("ray")
sys.modules[dispatch.__module__].GRACE_SECONDS = 1.0
stop = threading.Event()
signal.signal(signal.SIGINT, lambda *_: stop.set())
trials = [
    Trial(trainer=TrainerRef(function=f"toy_trainers:{name}"), config={"steps": 1}, seed=1)
    for name in ("countdown", "sleeps")
]
dispatch(
    trials, Surroundings(store=Path(sys.argv[1])), lambda r: print(r.state, flush=True),
    resources=Resources(), slots=1, stop=stop,
)
print("stopped" if stop.is_set() else "ended")
"""


@pytest.fixture
def driver(tmp_path):
    """A process with a Ray of its own, in the middle of a trial that says nothing."""
    home = tmp_path / "home"
    home.mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_"))}
    path = os.pathsep.join([str(TOYS), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "runs")],
        env={**clean, "HOME": str(home), "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "done\n", process.stderr.read()
    store = Folder(tmp_path / "runs")
    while not any(store.history(i) and i != toy("countdown", steps=1).id for i in store.ids()):
        time.sleep(0.05)
        assert process.poll() is None, process.stderr.read()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()


@pytest.mark.slow
@pytest.mark.fault("A14")
def test_a_driver_stops_in_time_says_nothing_of_ray_and_leaves_nothing(driver, tmp_path):
    children = psutil.Process(driver.pid).children(recursive=True)
    began = time.monotonic()
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert (driver.returncode, out, err) == (0, "stopped\n", "")
    assert left(children, agents=True) == []
    assert not (tmp_path / "home" / ".ray").exists()  # no token in a file


@pytest.mark.slow
@pytest.mark.fault("A6")
def test_a_killed_driver_leaves_no_worker_and_no_lease(driver, tmp_path):
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    assert left(children) == []
    trial = toy("sleeps", steps=1)
    assert Folder(tmp_path / "runs").find([trial]) == {}
    assert Folder(tmp_path / "runs").start(trial).number == 2
