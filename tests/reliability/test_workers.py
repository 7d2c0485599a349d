"""What may go wrong with a worker of Ray: it is killed, hangs, crashes, is stopped, or is run by
something else. A real Ray, one for all of this file."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sweeper import provenance, run
from sweeper.errors import CrashLoop, EnvironmentFault
from sweeper.spec import Resources
from sweeper.track.folder import Folder
from sweeper.track.lease import latest
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings

pytestmark = pytest.mark.ray

FAULTY = Path(__file__).parent
TOYS = FAULTY.parent / "sweeper"
STALL = 1.0
FOUND_WITHIN = 5.0
PATIENCE = 120.0


@pytest.fixture(scope="module")
def ray_tune(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAULTY))
        patch.syspath_prepend(str(TOYS))
        from sweeper.dispatch import ray_cluster, ray_tune

        cluster = {"num_cpus": 4, "num_gpus": 0}
        with ray_cluster.running_ray(Resources(), cluster, tmp_path_factory.mktemp("store")):
            yield ray_tune


@pytest.fixture
def here(tmp_path):
    return Surroundings(store=tmp_path / "runs", stall=STALL)


def faulty(name: str, seed: int = 1, **config: object) -> Trial:
    return Trial(trainer=TrainerRef(function=f"faulty_trainers:{name}"), config=config, seed=seed)


def ends(store: Folder, trial: Trial) -> list[tuple[str, str | None, float]]:
    """Of each attempt: how it ended, what was said, and how long it had been silent."""
    found, said = [], 0.0
    for entry in store.entries(trial.id):
        if entry["kind"] in ("start", "measure"):
            said = entry.get("seconds", 0.0)
        elif entry["kind"] == "end":
            found.append((entry["state"], entry["error"], entry["seconds"] - said))
    return found


@pytest.mark.fault("A3", "A11")
def test_trials_that_hang_are_killed_in_time_and_tried_again(ray_tune, here, tmp_path, say):
    """A sleep, native code that gives nothing way, a stopped process, an import: all at once."""
    ways = ("sleep", "lock", "stop")
    trials = [faulty("hangs", how=how, times=1) for how in ways]
    (tmp_path / "hangs_once.py").write_text(
        "import pathlib, time\n"
        f"mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "if not mark.exists():\n    mark.touch()\n    time.sleep(600)\n"
        "def train(config):\n    return {'loss': 1.0}\n"
    )
    imported = Trial(trainer=TrainerRef(function="hangs_once:train"), config={}, seed=1)
    records = []
    sys.path.insert(0, str(tmp_path))
    try:
        ray_tune.dispatch([*trials, imported], here, records.append, resources=Resources(), slots=4)
    finally:
        sys.path.remove(str(tmp_path))
    assert sorted((r.state, r.attempt, r.error) for r in records) == [("done", 2, None)] * 4
    store = Folder(here.store)
    for trial, how in zip([*trials, imported], [*ways, "import"], strict=True):
        (state, error, silent), (last, *_) = ends(store, trial)
        assert (state, last) == ("interrupted", "done")
        assert error == "it hung: no measurement for 1 s"
        assert STALL <= silent <= STALL + FOUND_WITHIN, how
        say(f"hung in {how}: ended after {silent:.1f} s (stall {STALL:g} s)")
        log = (store.path(trial.id) / "log.txt").read_text()
        shows = "can show none" if how == "stop" else "most recent call first"
        assert shows in log
    assert "never_returns" in (store.path(trials[1].id) / "log.txt").read_text()
    for trial, record in zip(trials, (store.result(t) for t in trials), strict=True):
        assert record.result["attempts_before"] == 1, trial.config


@pytest.mark.fault("A11")
def test_one_that_hangs_every_time_says_so(ray_tune, here, monkeypatch):
    monkeypatch.setattr(ray_tune, "RETRIES", 1)
    records = []
    trials = [faulty("hangs", how="sleep"), faulty("no_op")]
    ray_tune.dispatch(trials, here, records.append, resources=Resources(), slots=2)
    by = {record.trial_id: record for record in records}
    assert by[trials[1].id].state == "done"
    failed = by[trials[0].id]
    assert failed.error == (
        "the worker died 2 times: it hung (no measurement for 1 s), 2 times; its log has the stacks"
    )


@pytest.mark.fault("A11")
def test_a_command_that_hangs_is_killed_with_all_that_it_started(
    ray_tune, here, tmp_path, monkeypatch
):
    monkeypatch.setattr(ray_tune, "RETRIES", 0)
    words = ("python", str(FAULTY / "faulty_trainers.py"), str(tmp_path))
    trial = Trial(trainer=TrainerRef(command=words), config={}, seed=1)
    records = []
    ray_tune.dispatch([trial], here, records.append, resources=Resources())
    assert "it hung" in records[0].error
    pids = [int(path.name.partition("-")[2]) for path in tmp_path.glob("process-*")]
    assert len(pids) == 2
    deadline = time.monotonic() + PATIENCE
    while any(psutil.pid_exists(pid) and alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.fault("A13")
@pytest.mark.parametrize(
    ("name", "signal_name"), [("aborts", "SIGABRT"), ("reads_nowhere", "SIGSEGV")]
)
def test_what_crashes_its_process_has_the_signals_name(
    ray_tune, here, monkeypatch, name, signal_name
):
    monkeypatch.setattr(ray_tune, "RETRIES", 1)
    records = []
    trial = faulty(name)
    patient = replace(here, stall=None)
    ray_tune.dispatch([trial], patient, records.append, resources=Resources())
    (record,) = records
    assert record.state == "failed"
    assert re.fullmatch(
        rf"the worker died 2 times: crashed by {signal_name} \([\w ]+\); its log has the stacks",
        record.error,
    )
    starts = [e for e in Folder(here.store).entries(trial.id) if e["kind"] == "start"]
    assert len(starts) == 3  # Tried twice, and the attempt that wrote the record.
    assert f"in {name}" in (Folder(here.store).path(trial.id) / "log.txt").read_text()


@pytest.mark.fault("A3")
def test_a_worker_that_is_killed_is_replaced(ray_tune, here):
    """From outside, in the middle; what it had measured is there once."""
    trial, records = faulty("slow", steps=8, pause=0.2), []
    store = Folder(here.store)

    def kill():
        while len(store.history(trial.id)) < 2:
            time.sleep(0.02)
        os.kill(latest(store.path(trial.id)).pid, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    ray_tune.dispatch([trial], here, records.append, resources=Resources())
    killer.join()
    (record,) = records
    assert (record.state, record.attempt) == ("done", 2)
    assert [m.cost for m in store.history(trial.id)] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.fault("A8")
def test_a_kill_by_rays_memory_monitor_ends_no_sweep(ray_tune, here, monkeypatch):
    """It is off; where somebody has switched it on, its kill ends Tune in the middle, as this
    does: while a trial runs, more often than Tune may end without any trial that ends."""
    import ray

    real, kills = ray_tune.Ending.on_step_begin, []

    def step(ending, iteration, trials, **info):
        real(ending, iteration, trials, **info)
        running, ended = ending.supply._started, ending.supply.count_ended
        if running and ended > len(kills) and len(kills) < ray_tune.RESTARTS + 2:
            kills.append(list(running))
            raise ray.exceptions.OutOfMemoryError("Task was killed due to the node running low")

    monkeypatch.setattr(ray_tune.Ending, "on_step_begin", step)
    trials = [faulty("no_op", seed) for seed in range(7)]
    records = []
    ray_tune.dispatch(trials, here, records.append, resources=Resources(), slots=1)
    assert len(kills) == 5
    assert sorted(r.trial_id for r in records) == sorted(t.id for t in trials)
    assert {r.state for r in records} == {"done"}
    assert os.environ["RAY_memory_monitor_refresh_ms"] == "0"  # noqa: SIM112


@pytest.mark.fault("A12")
def test_of_a_hundred_that_fail_alike_three_are_started(ray_tune, tmp_path, say):
    place, records = run.Place(store=tmp_path / "runs"), []
    machine = run.Machine(by="ray", resources=Resources(), slots=4)
    trials = [faulty("fails", seed) for seed in range(100)]
    with pytest.raises(CrashLoop, match="97 were not started"):
        run.train(trials, place, machine, records.append, threading.Event(), planned=100)
    started = len(place.folder.ids())
    say(f"100 trials that fail alike, 4 at a time: {started} started")
    assert started == len(records) == 3


@pytest.mark.fault("A12")
def test_a_first_that_measures_lets_the_others_in_at_once(ray_tune, tmp_path, say):
    place, records = run.Place(store=tmp_path / "runs"), []
    machine = run.Machine(by="ray", resources=Resources(), slots=4)
    trials = [faulty("slow", seed, steps=4, pause=0.5) for seed in range(4)]
    run.train(trials, place, machine, records.append, threading.Event(), planned=4)
    assert [r.state for r in records] == ["done"] * 4
    begun = [place.folder.entries(trial.id)[0]["at"] for trial in trials]
    first = place.folder.history(trials[0].id)
    # While the first still runs: it has measured once of four times.
    assert min(begun[1:]) > first[0].at
    say(f"others begin {min(begun[1:]) - first[0].at:.2f} s after the first measurement")


@pytest.mark.fault("A21")
def test_a_worker_of_other_versions_refuses_and_both_are_named(ray_tune, here, monkeypatch):
    """The driver's side is made up: a worker that really differs needs another Python."""
    real = provenance.running
    monkeypatch.setattr(provenance, "running", lambda ref: {**real(ref), "torch": "1.0.0"})
    with pytest.raises(EnvironmentFault, match=r"torch 1\.0\.0 there and .* here"):
        ray_tune.dispatch([faulty("no_op")], here, pytest.fail, resources=Resources())
    assert Folder(here.store).ids() == []
