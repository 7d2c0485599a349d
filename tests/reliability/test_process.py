"""What may go wrong with the process of a trial: its memory, its numbers, its code, its limits;
and what is done where all of them fail alike."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sweeper import circuit_breaker, deaths, provenance, run
from sweeper.circuit_breaker import CircuitBreaker
from sweeper.dispatch.inline import dispatch as inline
from sweeper.errors import CrashLoop, EnvironmentFault
from sweeper.record import Record
from sweeper.spec import Resources
from sweeper.track import lease
from sweeper.track.folder import FencedOut, Folder
from sweeper.track.lease import latest, release
from sweeper.track.sealed import seal
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings, bury, execute

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(autouse=True)
def _faulty_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def here(tmp_path):
    return Surroundings(store=tmp_path / "runs")


def faulty(name: str, seed: int = 1, **config: object) -> Trial:
    return Trial(trainer=TrainerRef(function=f"faulty_trainers:{name}"), config=config, seed=seed)


def in_a_process(code: str, *arguments: object, **how: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(HERE), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **how,
    )


# ---- an attempt that was taken over


@pytest.mark.fault("A5")
def test_nothing_of_an_attempt_that_was_taken_over_is_taken(here):
    """Neither a measurement, nor a heartbeat, nor an end, nor a giving up."""
    store, trial = Folder(here.store), faulty("no_op")
    older = store.start(trial)
    older.measure(1, {"cost/updates": 1, "loss": 9.0})
    folder = store.path(trial.id)
    release(folder, latest(folder))  # As its lease expires, seen from another machine.
    newer = store.start(trial)
    ended = Record(trial_id=trial.id, evaluation_id=trial.evaluation_id, state="done")
    for late in (
        lambda: older.measure(2, {"cost/updates": 2, "loss": 8.0}),
        older.heartbeat,
        older.beat,
        lambda: older.finish(replace(ended, result={"loss": 8.0})),
    ):
        with pytest.raises(FencedOut):
            late()
    older.abandon("late")
    newer.measure(1, {"cost/updates": 1, "loss": 1.0})
    newer.finish(replace(ended, result={"loss": 1.0}))
    assert store.result(trial).result == {"loss": 1.0}
    assert [m.values["loss"] for m in store.history(trial.id)] == [1.0]
    own = [entry["kind"] for entry in store.entries(trial.id) if entry["attempt"] == older.number]
    assert own == ["start", "measure"]


# ---- memory


@pytest.mark.fault("A7")
@pytest.mark.parametrize("how", ["torch", "older torch"])
def test_a_gpu_that_is_out_of_memory_is_said_with_what_may_help(here, how, monkeypatch):
    """With what torch had allocated at most, as it says itself."""

    class Cuda:
        is_initialized = staticmethod(lambda: True)
        device_count = staticmethod(lambda: 1)
        reset_peak_memory_stats = staticmethod(lambda device: None)
        max_memory_allocated = staticmethod(lambda device: 12_300_000_000)
        manual_seed = staticmethod(lambda seed: None)

    monkeypatch.setattr("sweeper.memory.loaded_cuda", lambda: Cuda)
    trial = faulty("out_of_memory", how=how)
    record = execute(trial, here)
    assert (record.state, record.result) == ("failed", {})
    assert record.error.startswith(
        "out of GPU memory (12.3 GB held at most); a smaller batch, or fewer trials at once "
        "(resources.gpus, --slots), may fit: "
    )
    said = {"torch": "TorchsOwn: Tried to", "older torch": "RuntimeError: CUDA error: out of"}
    assert record.error.partition("may fit: ")[2].startswith(said[how])
    assert Folder(here.store).result(trial).state == "failed"


@pytest.mark.fault("A8")
@pytest.mark.parametrize("how", ["python", "numpy", "torch on a processor"])
def test_a_process_that_is_out_of_memory_says_so_and_goes_on(here, how):
    records = []
    trials = [faulty("out_of_memory", how=how), faulty("no_op")]
    inline(trials, here, records.append, resources=Resources())
    assert [record.state for record in records] == ["failed", "done"]
    assert records[0].error.startswith("out of memory (")
    assert "resources.cpus" in records[0].error


@pytest.mark.fault("A7", "A8")
@pytest.mark.parametrize(
    ("last_line", "what"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
            "out of GPU memory",
        ),
        ("numpy.core._exceptions._ArrayMemoryError: Unable to allocate 8 TiB", "out of memory"),
        ("MemoryError", "out of memory"),
        ("KeyError: 'memory'", "KeyError"),
    ],
)
def test_what_a_command_says_last_is_read_as_well(here, last_line, what):
    code = f"import sys; print({last_line!r}, file=sys.stderr); sys.exit(1)"
    trial = Trial(trainer=TrainerRef(command=("python", "-c", code)), config={}, seed=1)
    record = execute(trial, here)
    assert record.state == "failed"
    assert what in record.error
    assert ("may fit" in record.error) == what.startswith("out of")


LIMITED = """
import resource, sys
from pathlib import Path
from sweeper.dispatch.inline import dispatch
from sweeper.spec import Resources
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings
here = Surroundings(store=Path(sys.argv[1]))
def trial(name, **config):
    return Trial(trainer=TrainerRef(function=f"faulty_trainers:{name}"), config=config, seed=1)
dispatch([trial("no_op", first=True)], here, lambda r: print(r.state), resources=Resources())
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 2**27, held + 2**27))
trials = [trial("out_of_memory", how="much", bytes=2**30), trial("no_op")]
dispatch(trials, here, lambda r: print(r.state, r.error), resources=Resources())
"""


@pytest.mark.fault("A8")
def test_memory_that_is_not_given_fails_the_trial_alone(tmp_path):
    done = in_a_process(LIMITED, tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    first, failed, last = done.stdout.splitlines()
    assert (first, last) == ("done", "done None")
    assert failed.startswith("failed out of memory (")
    assert failed.endswith(": MemoryError")


@pytest.mark.fault("A8")
def test_a_worker_that_the_kernel_killed_for_memory(here, monkeypatch):
    """What it held is in its journal, what there is and how many were killed the kernel says."""
    monkeypatch.setattr(deaths, "memory_limit", lambda: 12_000_000_000)
    killed = iter([3, 4])
    monkeypatch.setattr(deaths, "killed_for_memory", lambda: next(killed))
    monkeypatch.setattr("sweeper.track.folder.RENEWAL_SECONDS", 0.0)
    store, trial = Folder(here.store), faulty("no_op")
    before = deaths.Before.of(store.path(trial.id))
    attempt = store.start(trial)
    attempt.beat({"peak_memory_bytes": 11_200_000_000})
    why = deaths.why(store.path(trial.id), before)
    assert why == (
        "killed by the kernel, out of memory: it held 11.2 GB at most, of 12.0 GB that there are; "
        "a smaller batch, or fewer trials at once (resources.cpus, --slots), may fit"
    )
    attempt.abandon("test")
    assert bury(trial, here, why).error == why


@pytest.mark.fault("A8")
@pytest.mark.parametrize(
    ("peak", "killed", "said"),
    [
        (0, 0, None),
        (5_000_000_000, 0, None),  # Far from what there is.
        (11_000_000_000, 0, "out of memory: it held 11.0 GB at most, of 12.0 GB"),
        (0, 2, "killed by the kernel, out of memory: what it held is not known, of 12.0 GB"),
    ],
)
def test_what_is_said_of_memory_is_what_is_known(monkeypatch, peak, killed, said):
    monkeypatch.setattr(deaths, "memory_limit", lambda: 12_000_000_000)
    came = deaths.out_of_memory(peak, killed)
    assert came is None if said is None else came.startswith(said)


@pytest.mark.fault("A8")
def test_rays_memory_monitor_is_known_by_what_it_says(here):
    said = "... To adjust the kill threshold, set `RAY_memory_usage_threshold` when starting Ray."
    folder = Folder(here.store).path("0123456789abcdef")
    by_monitor = deaths.why(folder, deaths.Before.of(folder), said)
    assert by_monitor.startswith("killed by Ray's memory monitor, out of memory; a smaller batch")
    assert deaths.why(folder, deaths.Before(killed=10**9), "The actor died.") == deaths.UNKNOWN


@pytest.mark.fault("A8")
def test_a_crash_that_ray_has_its_own_account_of(here):
    said = "... To adjust the kill threshold, set `RAY_memory_usage_threshold` when starting Ray."
    store, trial = Folder(here.store), faulty("no_op")
    folder = store.path(trial.id)
    before = deaths.Before.of(folder)
    attempt = store.start(trial)
    with open(folder / "log.txt", "ab") as log:
        log.write(b"Fatal Python error: Aborted\n")
    crash, monitor = deaths.why(folder, before, said).split("; its log has the stacks; ")
    assert crash == "crashed by SIGABRT (Aborted)"
    assert monitor.startswith("killed by Ray's memory monitor")
    attempt.abandon("test")


@pytest.mark.fault("A8")
@pytest.mark.parametrize(("place", "said"), [("elsewhere", False), (None, True)])
def test_of_another_machine_no_memory_is_known(here, monkeypatch, place, said):
    """Neither what it has, nor whom its kernel has killed."""
    monkeypatch.setattr(deaths, "memory_limit", lambda: 12_000_000_000)
    killed = iter([3, 4])
    monkeypatch.setattr(deaths, "killed_for_memory", lambda: next(killed))
    monkeypatch.setattr("sweeper.track.folder.RENEWAL_SECONDS", 0.0)
    store, trial = Folder(here.store), faulty("no_op")
    folder = store.path(trial.id)
    before = deaths.Before.of(folder)
    attempt = store.start(trial)
    attempt.beat({"peak_memory_bytes": 11_900_000_000})
    if place:
        held = lease.read(folder, 1)
        lease.path_of(folder, 1).write_bytes(seal(asdict(replace(held, place=place))))
    why = deaths.why(folder, before)
    if said:
        assert why.startswith("killed by the kernel, out of memory: it held 11.9 GB at most")
    else:
        assert why == f"{deaths.UNKNOWN}; it held 11.9 GB of memory at most"
    attempt.abandon("test")


def test_what_the_kernel_counts_is_that_of_our_control_group(tmp_path, monkeypatch):
    own = tmp_path / "cgroup"
    own.write_text("0::/user.slice/work\n")
    group = tmp_path / "user.slice" / "work"
    group.mkdir(parents=True)
    assert deaths.control_group(tmp_path, own) == group
    assert deaths.control_group(tmp_path, tmp_path / "none") == tmp_path
    (group / "memory.events").write_text("low 0\noom 7\noom_kill 5\n")
    (group / "memory.max").write_text("1000\n")
    monkeypatch.setattr(deaths, "control_group", lambda: group)
    assert (deaths.killed_for_memory(), deaths.memory_limit()) == (5, 1000)
    (group / "memory.max").write_text("max\n")
    assert deaths.memory_limit() > 1000


# ---- numbers


@pytest.mark.fault("A10")
def test_what_grows_without_end_diverges_once_it_is_no_number(here):
    trial = faulty("grows")
    record = execute(trial, here)
    # 1000^k is a number up to 1e306: k = 102, the measurement at update 103.
    assert (record.state, record.error) == ("diverged", "loss was inf at 104 updates")
    assert record.result["loss"] == pytest.approx(1e306)


# ---- all fail alike


class Bench:
    """A run of trials as `run.train` has it, inline; and what came of it."""

    def __init__(self, folder: Path):
        self.place = run.Place(store=folder / "runs")
        self.machine = run.Machine(by="inline", resources=Resources(), slots=1)
        self.records: list[Record] = []

    def train(self, trials: list[Trial], **how: object) -> None:
        self.place.folder.prepare()
        stop = threading.Event()
        planned = len(trials)
        run.train(
            trials, self.place, self.machine, self.records.append, stop, planned=planned, **how
        )

    @property
    def started(self) -> int:
        return len(self.place.folder.ids())


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.mark.fault("A12")
def test_of_a_hundred_that_fail_alike_three_are_started(bench, say):
    with pytest.raises(CrashLoop) as raised:
        bench.train([faulty("fails", seed) for seed in range(100)], advice="Mend it")
    say(f"100 trials that fail alike: {bench.started} started")
    assert bench.started == len(bench.records) == 3
    assert raised.value.exit_code == 1
    assert str(raised.value) == (
        "the first 3 trials all failed: ValueError: there is no layer; 97 were not started. Mend it"
    )


@pytest.mark.fault("A12")
def test_who_wants_to_go_on_goes_on(bench):
    bench.train([faulty("fails", seed) for seed in range(10)], keep_going=True)
    assert [record.state for record in bench.records] == ["failed"] * 10


@pytest.mark.fault("A12")
@pytest.mark.parametrize(
    "config", [{"distinct": True}, {"below": 2}], ids=["each in its way", "only the first two"]
)
def test_what_does_not_all_fail_alike_is_not_stopped(bench, config):
    bench.train([faulty("fails", seed, **config) for seed in range(10)])
    assert len(bench.records) == 10


@pytest.mark.fault("A12")
def test_where_nothing_is_left_nothing_is_stopped(bench):
    bench.train([faulty("fails", seed) for seed in range(3)])
    assert len(bench.records) == 3


@pytest.mark.fault("A12")
def test_one_that_came_to_something_speaks_for_the_others(bench):
    trials = [faulty("no_op"), *(faulty("fails", seed) for seed in range(5))]
    bench.train(trials)
    assert len(bench.records) == 6


class Door:
    """A circuit breaker, and who takes what comes through it."""

    def __init__(self, folder: Folder, trials: list[Trial | None], **how: bool):
        self.records: list[Record] = []
        self.breaker = CircuitBreaker(trials, self.records.append, folder, **how)
        self.coming = self.breaker.coming()

    def next(self) -> Trial | None:
        return next(self.coming)


@pytest.mark.fault("A12")
def test_one_at_a_time_until_one_has_measured(here):
    folder = Folder(here.store)
    trials = [faulty("no_op", seed) for seed in range(4)]
    door = Door(folder, trials)
    assert door.next() == trials[0]
    assert [door.next() for _ in range(3)] == [None] * 3
    attempt = folder.start(trials[0])
    assert door.next() is None
    attempt.measure(1, {"cost/updates": 1, "loss": 1.0})
    assert [door.next() for _ in range(3)] == trials[1:]
    attempt.abandon("test")


@pytest.mark.fault("A12")
def test_what_was_measured_before_says_nothing_of_this_run(here):
    folder, trial = Folder(here.store), faulty("no_op")
    earlier = folder.start(trial)
    earlier.measure(1, {"cost/updates": 1, "loss": 1.0})
    earlier.abandon("stopped")
    door = Door(folder, [trial, faulty("no_op", 2)])
    assert door.next() == trial
    again = folder.start(trial)
    assert door.next() is None
    again.abandon("test")


@pytest.mark.fault("A12")
def test_what_is_long_in_measuring_holds_nobody_up_for_ever(here, monkeypatch):
    trials = [faulty("no_op", seed) for seed in range(2)]
    door = Door(Folder(here.store), trials)
    door.next()
    assert door.next() is None
    monkeypatch.setattr(circuit_breaker, "WAIT_SECONDS", 0.0)
    assert door.next() == trials[1]


@pytest.mark.fault("A12")
@pytest.mark.parametrize("how", [{"proven": True}, {"keep_going": True}])
def test_where_it_is_known_to_work_nobody_waits(here, how):
    trials = [faulty("no_op", seed) for seed in range(3)]
    door = Door(Folder(here.store), [trials[0], None, *trials[1:]], **how)
    assert [door.next() for _ in range(4)] == [trials[0], None, *trials[1:]]


SWEEP = """\
name: toy
trainer: {function: "faulty_trainers:%s"}
base: {x: 1}
axes: {seed: [%s]}
metrics: {loss: {from: loss, goal: min}}
profiles: {quick: {}}
"""


def type_(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from sweeper.cli import main; main()"
    done = in_a_process(code, *arguments, cwd=folder)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.fault("A12")
@pytest.mark.slow
def test_a_person_is_told_once_and_may_go_on(tmp_path):
    (tmp_path / "toy.yaml").write_text(SWEEP % ("fails", ", ".join(map(str, range(8)))))
    line = ("run", "toy.yaml", "--dispatch", "inline")
    done = type_(tmp_path, *line)
    assert done.returncode == 1
    assert done.stderr.count("5 were not started") == 1
    assert done.stderr.splitlines()[-1] == (
        "the first 3 trials all failed: ValueError: there is no layer; 5 were not started. Once it "
        "is mended, the same line with --retry failed does them all; --keep-going goes on all the "
        "same"
    )
    assert len(list(tmp_path.glob("runs/trials/*/started"))) == 3
    assert type_(tmp_path, *line, "--retry", "failed", "--keep-going").returncode == 1
    assert len(list(tmp_path.glob("runs/trials/*/started"))) == 8


def test_a_failed_trial_is_not_taken_for_a_done_one(here):
    """Nor is what it measured a result; and it is run again when it is asked for."""
    store, trial = Folder(here.store), faulty("out_of_memory", how="python")
    assert execute(trial, here).state == "failed"
    assert store.record(trial).state == "failed"
    assert (store.evaluations(trial.id), store.is_trained(trial.id)) == ([], False)
    assert execute(trial, here).attempt == 2


# ---- few open files


MANY = """
import json, os, resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from sweeper.dispatch.inline import dispatch
from sweeper.spec import Resources
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings
ref, states, held = TrainerRef(function="faulty_trainers:no_op"), [], []
trials = (Trial(trainer=ref, config={}, seed=n) for n in range(int(sys.argv[2])))
def told(record):
    states.append(record.state)
    held.append(len(os.listdir("/proc/self/fd")))
began = time.process_time(), time.monotonic()
dispatch(trials, Surroundings(store=Path(sys.argv[1])), told, resources=Resources())
took = time.process_time() - began[0], time.monotonic() - began[1]
print(json.dumps([states.count("done"), held[0], held[-1], *took]))
"""


@pytest.mark.fault("A22")
def test_a_thousand_trials_need_few_open_files(tmp_path, full, say):
    count = 1000 if full else 200
    done = in_a_process(MANY, tmp_path / "runs", count)
    assert done.returncode == 0, done.stderr
    came, first, last, cpu, wall = json.loads(done.stdout)
    say(
        f"{count} no-op trials with 256 files: {came} done, {last} open at the end; "
        f"{1000 * cpu / count:.1f} ms of the processor and {1000 * wall / count:.1f} ms each"
    )
    assert came == count
    assert last <= first


# ---- other machines


@pytest.mark.fault("A21")
def test_a_worker_that_is_run_by_other_versions_refuses():
    ref = TrainerRef(function="faulty_trainers:no_op")
    same = provenance.running(ref)
    provenance.refuse_other(same, ref)
    assert {"sweeper", "torch", "Python"} <= set(same)
    with pytest.raises(EnvironmentFault) as raised:
        provenance.refuse_other({**same, "Python": "3.9.1", "torch": None}, ref)
    said = str(raised.value)
    assert f"Python 3.9.1 there and {same['Python']} here" in said
    assert f"torch absent there and {same['torch'] or 'absent'} here" in said
    assert raised.value.exit_code == 3


@pytest.mark.fault("A21")
def test_other_code_of_a_trainer_is_another_checkout_only_on_another_machine():
    ref = TrainerRef(function="faulty_trainers:no_op")
    same = provenance.running(ref)
    edited = {**same, provenance.CODE: "0123456789abcdef"}
    provenance.refuse_other(edited, ref)  # It is recorded, and what it makes is marked.
    elsewhere = {**edited, "host": "driver.example"}
    with pytest.raises(EnvironmentFault, match="code of the trainer 0123456789abcdef there"):
        provenance.refuse_other(elsewhere, ref)
    provenance.refuse_other({**same, "host": "driver.example"}, ref)
    assert same["host"] == socket.gethostname()


ELSEWHERE = """
import pickle, sys
from sweeper.worker import execute
trial, here = pickle.load(open(sys.argv[1], "rb"))
record = execute(trial, here)
print(record.state, record.result["size"], record.error)
"""


@pytest.mark.fault("B19")
def test_a_worker_in_another_folder_finds_and_writes_the_same(tmp_path, monkeypatch):
    """Though the paths were relative where the driver stands."""
    for name in ("driver", "driver/data", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "driver/data/corpus.txt").write_text("12345")
    monkeypatch.chdir(tmp_path / "driver")
    place = run.Place(store=Path("runs").absolute(), data=Path("data").absolute())
    with pytest.raises(AssertionError):
        Surroundings(store=Path("runs"))
    with pytest.raises(AssertionError):
        Surroundings(store=place.store, data=Path("data"))
    trial = faulty("relative")
    job = tmp_path / "job"
    job.write_bytes(pickle.dumps((trial, Surroundings(store=place.store, data=place.data))))
    done = in_a_process(ELSEWHERE, job, cwd=tmp_path / "elsewhere")
    assert done.stdout == "done 5.0 None\n", done.stderr
    record = place.folder.result(trial)
    assert (record.state, record.result["size"]) == ("done", 5)
    assert place.folder.artifact(trial.id, "note.txt") == b"here"
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.fault("B19")
@pytest.mark.slow
def test_a_person_who_stands_elsewhere_means_the_same_trials(tmp_path):
    """A sweep file that names files beside it, and a store, typed from two folders."""
    (tmp_path / "sweeps").mkdir()
    script = "import json\nprint(json.dumps({'loss': 1.0}))\n"
    (tmp_path / "sweeps" / "own.py").write_text(script)
    text = SWEEP.replace('{function: "faulty_trainers:%s"}', "{command: [python, own.py]}")
    (tmp_path / "sweeps" / "toy.yaml").write_text(text % "0, 1")
    first = type_(tmp_path, "run", "sweeps/toy.yaml", "--store", "kept", "--dispatch", "inline")
    assert first.returncode == 0, first.stderr
    assert len(list(tmp_path.glob("kept/trials/*/result-*.json"))) == 2
    again = type_(tmp_path / "sweeps", "plan", "toy.yaml", "--store", "../kept", "--json")
    assert json.loads(again.stdout)["counts"]["done"] == 2, again.stderr
