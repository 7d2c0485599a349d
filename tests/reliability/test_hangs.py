"""Trials that hang, in the process that runs them one after another: each is found in time,
however deep it hangs, and what is written of it says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from sweeper import guard, hang, worker
from sweeper.spec import Resources
from sweeper.track.folder import Folder
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings, execute

FAULTY = Path(__file__).with_name("faulty_trainers.py")
ROOT = Path(__file__).parents[2]
STALL = 1.0
FOUND_WITHIN = 5.0  # seconds after that
PATIENCE = 60.0  # for what has to happen soon, on a machine that is busy


@pytest.fixture(autouse=True)
def _faulty_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(FAULTY.parent))


@pytest.fixture
def here(tmp_path):
    return Surroundings(store=tmp_path / "runs", stall=STALL)


def faulty(name: str, seed: int = 1, **config: object) -> Trial:
    return Trial(trainer=TrainerRef(function=f"faulty_trainers:{name}"), config=config, seed=seed)


def command(*arguments: str) -> Trial:
    words = ("python", str(FAULTY), *arguments)
    return Trial(trainer=TrainerRef(command=words), config={}, seed=1)


def silence(store: Folder, trial: Trial) -> float:
    """Seconds between the last sign of life of an attempt and its end."""
    *_, last, end = (e for e in store.entries(trial.id) if e["kind"] != "beat")
    assert end["kind"] == "end", end
    return end["seconds"] - last.get("seconds", 0.0)


def log_of(store: Folder, trial: Trial) -> str:
    return (store.path(trial.id) / "log.txt").read_text()


@pytest.mark.fault("A11")
@pytest.mark.parametrize("how", ["sleep", "native", "regular expression"])
def test_a_trial_that_hangs_is_interrupted_where_it_is(here, how, say):
    trial, store = faulty("hangs", how=how), Folder(here.store)
    record = execute(trial, here)
    assert record.state == "failed"
    assert record.error == "it hung: no measurement for 1 s; its log has the stacks"
    found = silence(store, trial)
    say(f"hung in {how}: found after {found:.1f} s (stall {STALL:g} s)")
    assert STALL <= found <= STALL + FOUND_WITHIN
    assert "in hangs" in log_of(store, trial)
    assert execute(faulty("no_op"), here).state == "done"  # The next one has the process.


@pytest.mark.fault("A11")
def test_one_that_measures_in_time_is_left_alone(here):
    record = execute(faulty("slow", steps=6, pause=0.4), here)
    assert (record.state, record.result["cost/updates"]) == ("done", 6)


@pytest.mark.fault("A11")
def test_without_a_limit_there_is_nobody_who_watches(here, monkeypatch):
    monkeypatch.setattr(hang, "start", lambda watched: pytest.fail("a guard"))
    assert execute(faulty("no_op"), Surroundings(store=here.store)).state == "done"


@pytest.mark.fault("A11")
def test_an_import_that_hangs_is_interrupted(here, tmp_path):
    (tmp_path / "hanging_import.py").write_text("import time\ntime.sleep(600)\n")
    sys.path.insert(0, str(tmp_path))
    try:
        trial = Trial(trainer=TrainerRef(function="hanging_import:train"), config={}, seed=1)
        record = execute(trial, here)
    finally:
        sys.path.remove(str(tmp_path))
    assert (record.state, "it hung" in record.error) == ("failed", True)
    assert silence(Folder(here.store), trial) <= STALL + FOUND_WITHIN
    assert "hanging_import.py" in log_of(Folder(here.store), trial)


@pytest.mark.fault("A11")
def test_a_command_that_hangs_is_ended_with_all_that_it_started(here, tmp_path):
    trial = command(str(tmp_path))
    record = execute(trial, here)
    assert (record.state, "it hung" in record.error) == ("failed", True)
    assert len(processes(tmp_path)) == 2
    assert wait_for_end(processes(tmp_path)) == []


def processes(folder: Path) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in folder.glob("process-*")]


def wait_for_end(pids: list[int]) -> list[int]:
    """Those of them that still run after some time."""
    deadline = time.monotonic() + PATIENCE
    while (left := [pid for pid in pids if runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# ---- in a process of its own, that it may be killed in

INLINE = """
import json, sys
from pathlib import Path
from sweeper import hang
from sweeper.dispatch.inline import dispatch
from sweeper.spec import Resources
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings
hang.GIVE_WAY_SECONDS = 2.0
store, trainer, config, stall = json.loads(sys.argv[1])
trial = Trial(trainer=TrainerRef(**trainer), config=config, seed=1)
here = Surroundings(store=Path(store), stall=stall)
dispatch([trial], here, lambda record: print(record.state), resources=Resources())
"""


def start(here: Surroundings, trial: Trial) -> subprocess.Popen[str]:
    ref = trial.trainer
    trainer = {"command": list(ref.command)} if ref.command else {"function": ref.function}
    said = json.dumps([str(here.store), trainer, trial.config, here.stall])
    code = INLINE.replace("**trainer", "**{k: tuple(v) if k == 'command' else v "
                          "for k, v in trainer.items()}")  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", code, said],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.fault("A11")
def test_what_does_not_give_way_ends_the_process_and_has_its_record(here):
    trial, store = faulty("hangs", how="lock"), Folder(here.store)
    process = start(here, trial)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert out == ""
    deadline = time.monotonic() + PATIENCE
    while store.result(trial) is None:  # The guard writes it, after that.
        assert time.monotonic() < deadline
        time.sleep(0.05)
    why = "it hung: no measurement for 1 s, and did not give way in 2 s: it was killed"
    assert store.result(trial).error == why
    assert len(err.splitlines()) == 1
    assert why in err
    assert "never_returns" in log_of(store, trial)


@pytest.mark.fault("A11")
def test_a_process_that_a_person_stopped_is_not_taken_for_one_that_hangs(here):
    """Ctrl-Z, and `fg` later."""
    trial, store = faulty("slow", steps=8, pause=0.3), Folder(here.store)
    process = start(here, trial)
    while not store.history(trial.id):
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)
    time.sleep(3 * STALL)
    assert process.poll() is None
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=PATIENCE) == ("done\n", "")


@pytest.mark.fault("A11")
def test_the_look_before_which_a_stopped_process_went_on_does_not_count(monkeypatch):
    looks = iter([None, None, b""])  # The second is a moment after it went on; then it ends.
    states = iter([True, False])

    def heard(seconds):
        time.sleep(seconds)
        return next(looks)

    monkeypatch.setattr(guard, "heard", heard)
    monkeypatch.setattr(guard, "lives", lambda watched: True)
    monkeypatch.setattr(guard, "stopped", lambda pid: next(states))
    watched = SimpleNamespace(pid=1, seconds=0.05, expendable=False)
    assert guard.silent(watched) is False


@pytest.mark.fault("A6")
def test_a_killed_process_leaves_neither_guard_nor_command(here, tmp_path):
    patient = Surroundings(store=here.store, stall=600.0)
    process = start(patient, command(str(tmp_path)))
    while len(processes(tmp_path)) < 1:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    family = psutil.Process(process.pid).children()
    assert any("sweeper.guard" in " ".join(child.cmdline()) for child in family)
    began = time.monotonic()
    process.kill()
    process.communicate()
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert time.monotonic() - began < 10
    for pid in processes(tmp_path):  # What a command itself has started is nobody's to end.
        if runs(pid):
            os.kill(pid, signal.SIGKILL)


def test_the_guard_is_told_what_its_record_takes(here, monkeypatch):
    """Whatever a trial is run with; and a pipe that nobody reads holds nothing up."""
    told = []
    monkeypatch.setattr(hang, "start", lambda w: told.append(w) or unread())
    trial = faulty("slow", steps=3, pause=0.0)
    assert worker.execute(trial, here).state == "done"
    (watched,) = told
    assert (watched.pid, watched.attempt, watched.seconds) == (os.getpid(), 1, STALL)
    assert (watched.trial, watched.store, watched.expendable) == (trial, here.store, False)
    assert Resources().stall is None


def unread() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.PIPE, bufsize=0
    )
    os.set_blocking(process.stdin.fileno(), False)
    while True:
        try:
            if os.write(process.stdin.fileno(), b"x" * 65536) == 0:
                return process
        except BlockingIOError:
            return process
