from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sweeper import provenance, worker
from sweeper.errors import EnvironmentFault
from sweeper.record import Record
from sweeper.spec.sweep import Limits
from sweeper.track import lease
from sweeper.track.folder import Folder, LeaseHeld
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings, execute

TOYS = Path(__file__).with_name("toy_trainers.py")


@pytest.fixture(autouse=True)
def _toys_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(TOYS.parent))


@pytest.fixture
def here(tmp_path):
    return Surroundings(store=tmp_path / "runs", cpus=1)


def toy(name: str, seed: int = 1, **config: object) -> Trial:
    return Trial(trainer=TrainerRef(function=f"toy_trainers:{name}"), config=config, seed=seed)


def log_of(trial: Trial, here: Surroundings) -> str:
    return (Folder(here.store).path(trial.id) / "log.txt").read_text()


def test_a_trial_becomes_the_record_of_its_last_measurement(here):
    trial = toy("countdown", seed=2, steps=4)
    seen = []
    record = execute(trial, here, on_measure=lambda t, cost, values: seen.append((t.id, cost)))
    assert record.state == "done"
    assert record.result == {"cost/updates": 4.0, "loss": 2.25}
    assert (record.trial_id, record.evaluation_id) == (trial.id, trial.evaluation_id)
    assert (record.attempt, record.error) == (1, None)
    assert seen == [(trial.id, cost) for cost in (1.0, 2.0, 3.0, 4.0)]
    assert Folder(here.store).find([trial]) == {trial.key: record}
    assert [m.values["loss"] for m in Folder(here.store).history(trial.id)] == [
        *(3.0, 2.5),
        *(2 + 1 / 3, 2.25),
    ]
    assert record.provenance["device"] == "cpu"


def test_a_done_trial_is_not_run_again(here):
    trial = toy("countdown", steps=2)
    first = execute(trial, here)
    assert execute(trial, here, on_measure=lambda *_: pytest.fail("it ran again")) == first


def test_evaluation_settings_reach_the_trainer(here):
    trial = Trial(
        trainer=TrainerRef(function="toy_trainers:countdown"),
        config={"steps": 1},
        evaluation={"level": 8.0},
        seed=0,
    )
    assert execute(trial, here).result["loss"] == 8.0


def test_what_a_trial_says_goes_to_its_log(here, capfd):
    trial = toy("chatters")
    assert execute(trial, here).state == "done"
    assert log_of(trial, here) == "a word on stdout\na word on stderr\n"
    assert capfd.readouterr() == ("", "")


def test_an_exception_is_a_failed_record_with_one_line(here):
    trial = toy("raises")
    record = execute(trial, here)
    assert (record.state, record.result) == ("failed", {})
    assert record.error == "ValueError: the third layer has no weights"
    assert "Traceback" in log_of(trial, here)
    assert "in raises" in log_of(trial, here)


def test_a_trainer_that_cannot_be_loaded_is_a_failed_record(here):
    record = execute(toy("contdown"), here)
    assert record.state == "failed"
    assert "did you mean 'countdown'" in record.error


@pytest.mark.fault("A9")
@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_a_number_that_is_not_finite_is_divergence(here, bad):
    trial = toy("diverges", bad=bad)
    record = execute(trial, here)
    assert record.state == "diverged"
    assert record.result == {"cost/updates": 10.0, "loss": 2.0, "kl": 1.0}
    assert record.error == f"loss was {bad} at 20 updates"
    assert [m.cost for m in Folder(here.store).history(trial.id)] == [10.0, 20.0]


@pytest.mark.fault("A9")
def test_a_command_that_prints_nan_diverged(here):
    trial = Trial(
        trainer=TrainerRef(command=("python", str(TOYS), "nan", "{seed}", "{lr}")),
        config={"lr": 0.5},
        seed=1,
    )
    record = execute(trial, here)
    assert (record.state, record.error) == ("diverged", "loss was nan at 2 updates")
    assert record.result == {"cost/updates": 1.0, "loss": 1.5}
    assert "starting" in log_of(trial, here)


def test_the_time_of_a_command_is_counted(here):
    burn = "import time\nwhile time.process_time() < 0.35: pass\nprint('{\"loss\": 1}')"
    trial = Trial(trainer=TrainerRef(command=("python", "-c", burn)), config={}, seed=1)
    record = execute(trial, here)
    assert record.error is None
    assert record.cpu_seconds >= 0.3


def test_an_interruption_passes_through_and_leaves_no_result(here):
    trial = toy("interrupts")
    with pytest.raises(KeyboardInterrupt):
        execute(trial, here)
    store = Folder(here.store)
    assert store.find([trial]) == {}
    last = store.entries(trial.id)[-1]
    assert (last["kind"], last["state"]) == ("end", "interrupted")


def test_a_stop_closes_the_trainer_and_the_next_attempt_continues(here):
    trial = toy("countdown", steps=3)
    assert execute(trial, here, stopped=iter([False, False, True]).__next__) is None
    folder = Folder(here.store).path(trial.id)
    assert (folder / "closed").exists()
    assert Folder(here.store).find([trial]) == {}
    again = execute(trial, here)
    assert (again.state, again.attempt) == ("done", 2)


def test_a_failed_trial_runs_again(here):
    trial = toy("raises")
    assert [execute(trial, here).attempt for _ in range(2)] == [1, 2]


def test_the_generators_are_seeded_and_the_threads_limited(here):
    random.seed(5)
    expected = random.random()
    before = os.environ.get("OMP_NUM_THREADS")
    surroundings = Surroundings(store=here.store, cpus=3)
    record = execute(toy("draw", seed=5), surroundings)
    assert record.result == {"cost/updates": 1.0, "draw": expected, "threads": 3.0}
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_reseeding_covers_numpy():
    worker.reseed(2**32 + 7)
    assert np.random.random() == np.random.RandomState(7).random_sample()


TWICE = """
import sys
from pathlib import Path
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings, execute
trial = Trial(trainer=TrainerRef(function="draws:train"), config={}, seed=5)
assert "torch" not in sys.modules
for store in "ab":
    record = execute(trial, Surroundings(store=Path(sys.argv[1], store)))
    print(dict(record.result), record.error)
"""


def test_a_library_that_comes_with_the_trainer_is_seeded_for_the_first_trial_too(tmp_path):
    """torch, as far as the worker knows it: a generator that does not begin with the seed."""
    (tmp_path / "torch.py").write_text(
        "import random\n"
        "generator = random.Random(0)\n"
        "manual_seed = generator.seed\n"
        "def set_grad_enabled(mode): pass\n"
    )
    (tmp_path / "draws.py").write_text(
        "import numpy, torch\n"
        "numpy.random.random()\n"
        "def train(config, run):\n"
        "    yield {'torch': torch.generator.random(), 'numpy': numpy.random.random()}\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-c", TWICE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    first, second = ran.stdout.splitlines()
    expected = {"torch": random.Random(5).random(), "numpy": np.random.RandomState(5).rand()}
    assert first == second == f"{expected} None"


def test_code_that_is_edited_while_it_runs_is_not_what_made_the_result(here, tmp_path, monkeypatch):
    source = tmp_path / "toy_that_is_edited.py"
    source.write_text("def train(config, run):\n    yield {'loss': 1.0}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    trainer = TrainerRef(function="toy_that_is_edited:train")
    trial = Trial(trainer=trainer, config={}, seed=1)
    record = execute(trial, here, on_measure=lambda *_: source.write_text("changed = 1\n"))
    provenance.code_digest.cache_clear()
    now = provenance.code_digest(trainer)
    assert record.provenance["code_digest"] not in (None, now)
    assert record.provenance["code_digests"] == [record.provenance["code_digest"]]


@pytest.mark.fault("B19")
def test_relative_roots_are_refused():
    with pytest.raises(AssertionError):
        Surroundings(store=Path("runs"))


HOLD = """
import sys
from pathlib import Path
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings, execute
trial = Trial(trainer=TrainerRef(function=sys.argv[2]), config={}, seed=1)
here = Surroundings(store=Path(sys.argv[1]))
execute(trial, here, on_measure=lambda *_: print("running", file=sys.__stdout__, flush=True))
"""


@pytest.fixture
def other(here):
    """Another process that runs the trial `waits`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(here.store), "toy_trainers:waits"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
    )
    assert process.stdout.readline() == b"running\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_trial_that_another_process_runs_is_awaited(here, other, monkeypatch):
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.02)
    trial = toy("waits")
    told, counted = [], []

    def on_wait(waiting_for, held):
        told.append((waiting_for.id, held.owner))
        other.kill()  # Its lease ends with it.

    record = execute(
        trial,
        here,
        on_wait=on_wait,
        on_measure=lambda *_: counted.append(1),
        stopped=lambda: len(counted) >= 3,
    )
    assert record is None
    assert told == [(trial.id, told[0][1])]
    assert str(other.pid) in told[0][1]
    assert Folder(here.store).entries(trial.id)[-1]["attempt"] == 2


def test_waiting_ends_when_it_is_stopped(here, other, monkeypatch):
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.02)
    stop = threading.Event()
    assert execute(toy("waits"), here, on_wait=lambda *_: stop.set(), stopped=stop.is_set) is None


@pytest.mark.fault("A5")
def test_an_attempt_that_is_taken_over_gives_the_record_of_the_newer_one(here, monkeypatch):
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    store, trial = Folder(here.store), toy("countdown", steps=3)
    newer = []

    def take_over(of, cost, values):  # as another host does once a lease has expired
        if not newer:
            folder = store.path(of.id)
            lease.release(folder, lease.latest(folder))
            newer.append(store.start(of))

    def finish(of, held):
        newer[0].finish(
            Record(trial_id=of.id, evaluation_id=of.evaluation_id, state="failed", error="theirs")
        )

    record = execute(trial, here, on_measure=take_over, on_wait=finish)
    assert (record.state, record.error, record.attempt) == ("failed", "theirs", 2)


def test_the_lease_is_renewed_between_measurements(here, monkeypatch):
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.01)
    trial = toy("countdown", steps=1)
    attempt = Folder(here.store).start(trial)
    beats = []
    monkeypatch.setattr(type(attempt), "beat", lambda self: beats.append(1))
    with worker.heartbeats(attempt):
        deadline = time.monotonic() + 5
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(beats) >= 3
    attempt.abandon("test")


def test_the_stores_own_fault_is_raised(here, monkeypatch):
    trial = toy("countdown", steps=2)

    def full(self, cost, values):
        raise EnvironmentFault("no space left")

    monkeypatch.setattr("sweeper.track.folder.Attempt.measure", full)
    with pytest.raises(EnvironmentFault, match="no space left"):
        execute(trial, here)
    assert (Folder(here.store).path(trial.id) / "closed").exists()


def test_bury_writes_the_record_of_a_dead_worker(here):
    trial = toy("always_dies")
    subprocess.run(
        [sys.executable, "-c", HOLD, str(here.store), "toy_trainers:always_dies"],
        check=False,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
    )
    record = worker.bury(trial, here, "worker died")
    assert (record.state, record.error, record.attempt) == ("failed", "worker died", 2)
    assert Folder(here.store).find([trial])[trial.key] == record


def test_bury_keeps_a_record_that_is_done(here):
    trial = toy("countdown", steps=1)
    record = execute(trial, here)
    assert worker.bury(trial, here, "worker died") == record


def test_bury_does_not_wait_for_another_process(here):
    store, trial = Folder(here.store), toy("countdown", steps=1)
    other = store.start(trial)
    with pytest.raises(LeaseHeld):
        worker.bury(trial, here, "worker died")
    theirs = Record(trial_id=trial.id, evaluation_id=trial.evaluation_id, state="failed")
    written = other.finish(theirs)
    assert worker.bury(trial, here, "worker died", waited=True) == written


# --- what it takes, and what it may ------------------------------------------------------


def test_a_record_tells_the_memory_of_its_own_trial_and_the_gpus_that_it_held(here):
    little, much, again = (
        toy("hoards", seed, megabytes=m) for seed, m in ((1, 1), (2, 200), (3, 1))
    )
    half = Surroundings(store=here.store, gpus=0.5)
    before, great, after = (execute(t, half).provenance for t in (little, much, again))
    assert great["gpus"] == 0.5
    assert great["peak_memory_bytes"] - before["peak_memory_bytes"] > 150 * 2**20
    assert great["peak_memory_bytes"] - after["peak_memory_bytes"] > 150 * 2**20
    assert "peak_gpu_memory_bytes" not in great
    end = Folder(here.store).entries(much.id)[-1]
    assert end["peak_memory_bytes"] == great["peak_memory_bytes"]
    assert end["total"]["peak_memory_bytes"] == great["peak_memory_bytes"]
    assert end["total"]["gpu_hours"] == pytest.approx(end["seconds"] * 0.5 / 3600)


def test_the_memory_of_a_command_is_that_of_its_processes(here):
    inner = "import time; held = b'x' * (200 * 2**20); time.sleep(0.5); print('{\"loss\": 1}')"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    commands = [("python", "-c", code) for code in ("print('{\"loss\": 1}')", inner, outer)]
    trials = [Trial(trainer=TrainerRef(command=c), config={}, seed=1) for c in commands]
    records = [execute(trial, here) for trial in trials]
    assert [record.error for record in records] == [None] * 3
    little, much, below = (r.provenance.get("peak_memory_bytes", 0) for r in records)
    assert little < 100 * 2**20 < 200 * 2**20 < much < below < 300 * 2**20


def test_an_interrupted_attempt_tells_its_memory_too(here):
    trial = toy("waits")
    counted = []
    execute(trial, here, on_measure=lambda *_: counted.append(1), stopped=lambda: bool(counted))
    end = Folder(here.store).entries(trial.id)[-1]
    assert end["state"] == "interrupted"
    assert end["peak_memory_bytes"] > 2**20


def test_memory_of_a_gpu_is_asked_of_a_torch_that_uses_one(here, monkeypatch):
    most = {0: 7, 1: 5}

    class Cuda:
        is_initialized = staticmethod(lambda: True)
        device_count = staticmethod(lambda: 2)
        max_memory_allocated = staticmethod(most.__getitem__)
        reset_peak_memory_stats = staticmethod(lambda device: most.update({device: 2}))
        is_available = staticmethod(lambda: True)

    class Torch:
        cuda = Cuda
        manual_seed = set_grad_enabled = staticmethod(lambda value: None)

    monkeypatch.setitem(sys.modules, "torch", Torch)
    record = execute(toy("countdown", steps=1), here)
    assert record.provenance["peak_gpu_memory_bytes"] == 2 + 2


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (Limits(updates=3), "over its budget: 4 of 3 updates"),
        (Limits(wall=0.03), r"over its budget: 0\.0[3-9]\d* of 0\.03 s of wall time"),
        (Limits(gpu_hours=2e-5), r"over its budget: \S+e-05 of 2e-05 GPU-hours"),
    ],
)
def test_a_trial_over_its_budget_is_ended_and_keeps_what_it_measured(here, limits, error):
    trial = toy("paced", steps=50, pause=0.02)
    record = execute(trial, Surroundings(store=here.store, gpus=2, limits=limits))
    assert record.state == "exceeded"
    assert re.fullmatch(error, record.error)
    at = record.result["cost/updates"]
    assert record.result == {"cost/updates": at, "loss": 1 / at}
    assert Folder(here.store).history(trial.id)[-1].cost == at < 50
    assert Folder(here.store).find([trial]) == {trial.key: record}
    again = execute(trial, here)  # as --retry exceeded does, under another budget
    assert (again.state, again.attempt, again.result["cost/updates"]) == ("done", 2, 50)
    measured = [e["cost"] for e in Folder(here.store).entries(trial.id) if e["kind"] == "measure"]
    assert measured == [*range(1, 51), 50]  # nothing twice: it continued


def test_a_budget_that_is_met_and_one_that_is_paid_are_not_exceeded(here):
    met = Surroundings(store=here.store, limits=Limits(updates=3))
    assert execute(toy("countdown", steps=3), met).state == "done"
    paid = Surroundings(store=here.store, limits=Limits(wall=1e-9))
    assert execute(toy("returns_one", lr=1.0), paid).state == "done"
    assert execute(toy("countdown", steps=1), paid).state == "exceeded"


def scored_twice() -> list[Trial]:
    """One training, under two evaluations."""
    return [
        Trial(
            trainer=TrainerRef(function="toy_trainers:keeps"),
            config={},
            evaluation={"evaluate": {"samples": samples}},
            seed=1,
        )
        for samples in (1, 5)
    ]


def test_scoring_what_is_trained_is_under_no_budget(here):
    few, many = scored_twice()
    execute(few, here)
    record = execute(many, Surroundings(store=here.store, limits=Limits(updates=1, wall=1e-9)))
    assert (record.state, record.result["score"]) == ("done", 6)


def test_what_is_trained_and_trains_again_is_under_its_budget_again(here):
    """Its checkpoint is gone; what the first training took is no part of the second."""
    few, many = scored_twice()
    execute(few, here)
    (Folder(here.store).path(few.id) / "checkpoints" / "trained").unlink()
    record = execute(many, Surroundings(store=here.store, limits=Limits(updates=1)))
    assert (record.state, record.error) == ("exceeded", "over its budget: 2 of 1 updates")
    record = execute(many, Surroundings(store=here.store, limits=Limits(updates=3)))
    assert (record.state, record.result["score"]) == ("done", 6)


def test_what_is_over_its_budget_already_is_not_begun(here):
    trial = toy("countdown", steps=5)
    tight = Surroundings(store=here.store, limits=Limits(updates=2))
    first = execute(trial, tight)
    assert first.state == "exceeded"
    assert execute(trial, tight) == first
    assert Folder(here.store).entries(trial.id)[-1]["attempt"] == 1
    slow = Surroundings(store=here.store, limits=Limits(wall=1e-9))
    assert execute(trial, slow) == first  # over another limit, too
    assert execute(trial, Surroundings(store=here.store, limits=Limits(updates=9))).attempt == 2


def test_a_probe_stops_at_what_tells_the_cost_and_the_next_attempt_continues(here):
    probe = Surroundings(store=here.store, probe=True)
    # One that never says its share may have been at its end: it is asked for one thing more.
    for trial, count, told in (
        (toy("paced", steps=4), 1, 0.25),
        (toy("countdown", steps=4), 2, None),
    ):
        assert execute(trial, probe) is None
        totals = Folder(here.store).totals(trial.id)
        assert (totals["updates"], totals.get("progress")) == (count, told)
        assert (totals["measurements"], totals["done"]) == (count, False)
        assert execute(trial, here).attempt == 2
    for whole in (toy("returns_one", lr=1.0), toy("countdown", steps=1), toy("paced", steps=1)):
        assert execute(whole, probe).state == "done"  # there is no piece of it


def test_a_probe_keeps_the_whole_training_of_a_command_that_prints_one_line(here):
    one = ("python", "-c", "print('{\"loss\": 1}')")
    trial = Trial(trainer=TrainerRef(command=one), config={}, seed=1)
    probe = Surroundings(store=here.store, probe=True)
    assert execute(trial, probe).result == {"loss": 1.0}
