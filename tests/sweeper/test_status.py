"""status --watch and stop: a real `run` in one process, looked at and stopped by another."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from terminal import SECONDS, Terminal, said

from sweeper import run
from sweeper.onlooker import Onlooker
from sweeper.record import Record
from sweeper.spec import read
from sweeper.track import lease, owner
from sweeper.track.folder import Attempt, Folder
from sweeper.track.sealed import seal
from sweeper.trial import Trial

TRAINER = """\
import time
from pathlib import Path

def train(config, run):
    here = Path(__file__).parent
    for update in range(1, 1_000_000):
        yield {"cost/updates": update, "loss": run.seed + 0.5}
        if (here / f"go-{run.seed}").exists() or (here / "go").exists():
            return
        while (here / "hang").exists():
            time.sleep(0.05)
        time.sleep(0.02)
"""
FILE = """\
name: toy
trainer: {function: "slow:train"}
base: {}
axes: {seed: [0, 1]}
metrics: {loss: {from: loss, goal: min, format: ".3f"}}
profiles: {quick: {}}
tables: {losses: {rows: seed, values: [loss], write: [md]}}
"""


class Desk(Terminal):
    """With a sweep file and its trainer, which goes on until it is let go."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        (folder / "slow.py").write_text(TRAINER)
        (folder / "toy.yaml").write_text(FILE)

    def run(self, *more: str) -> subprocess.Popen[str]:
        """One that has come to a measurement."""
        process = self.start("run", "toy.yaml", "--dispatch", "inline", *more)
        host = f'"pid":{process.pid}'
        journals = self.folder / "runs" / "trials"
        self.until(
            lambda: any(
                host in text.replace(" ", "") and '"measure"' in text.rpartition('"start"')[2]
                for text in (it.read_text() for it in journals.glob("*/journal.jsonl"))
            ),
            process,
        )
        return process

    def let_go(self, seed: int | None = None) -> None:
        (self.folder / ("go" if seed is None else f"go-{seed}")).touch()

    @property
    def place(self) -> run.Place:
        return run.Place(store=(self.folder / "runs").resolve())

    @property
    def owner(self) -> Path:
        return run.owner_path(read(str(self.folder / "toy.yaml")), self.place)

    def stops(self) -> list[str]:
        return sorted(path.name for path in self.owner.rglob("stop-*"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk.opened(tmp_path) as made:
        yield made


class Listener:
    """What a process says, line by line, as it comes."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process, self.lines, self.place = process, [], 0
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def until(self, *parts: str) -> str:
        """The next line with all of these in it."""
        deadline = time.monotonic() + SECONDS
        while True:
            alive = self.thread.is_alive()
            while self.place < len(self.lines):
                self.place += 1
                if all(part in self.lines[self.place - 1] for part in parts):
                    return self.lines[self.place - 1]
            assert alive, (parts, self.lines)
            assert time.monotonic() < deadline, (parts, self.lines)
            time.sleep(0.02)

    def end(self) -> int:
        code = self.process.wait(SECONDS)
        self.thread.join(SECONDS)
        assert "Traceback" not in self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        return code


# ---- watching


def test_a_run_is_watched_through_a_pipe_to_its_end(desk: Desk) -> None:
    process = desk.run()
    watching = Listener(desk.start("status", "toy.yaml", "--watch", "--every", "0.2"))
    watching.until(f"being run by process {process.pid} on ", " since 20")
    watching.until("running", "seed 0")
    desk.let_go(0)
    assert re.search(r"^\[1/2\] seed 0: done in .* updates$", watching.until("done"))
    watching.until("running", "seed 1")
    desk.let_go(1)
    watching.until("[2/2] seed 1: done in ")
    assert said(process)[0] == 0
    assert watching.end() == 0
    assert watching.lines[-1] == "toy · quick: 2 trials, 2 done; nothing left to do"


def test_what_nobody_trains_is_not_watched_for_long(desk: Desk) -> None:
    code, out, err = desk.type("status", "toy.yaml", "--watch")
    assert (code, out) == (0, "toy · quick: 2 trials, 2 missing; 2 to run\n"), err
    code, _, err = desk.type("status", "toy.yaml", "--every", "3")
    assert (code, "--watch" in err) == (2, True)


def test_watching_ends_with_ctrl_c_and_leaves_the_run_alone(desk: Desk) -> None:
    process = desk.run()
    watching = Listener(desk.start("status", "toy.yaml", "--watch", "--json", "--every", "0.1"))
    first = json.loads(watching.until("{"))
    assert (first["owner"]["pid"], first["counts"]["running"]) == (process.pid, 1)
    assert json.loads(watching.until("{"))["running"][0]["updates"] > 0
    watching.process.send_signal(signal.SIGINT)
    assert watching.end() == 0
    desk.let_go()
    assert said(process)[0] == 0


def test_a_killed_run_is_watched_to_its_end(desk: Desk) -> None:
    process = desk.run()
    watching = Listener(desk.start("status", "toy.yaml", "--watch", "--every", "0.1"))
    watching.until("running", "seed 0")
    process.kill()
    process.wait()
    watching.until(f"process {process.pid} on ", ": no more")
    assert watching.end() == 0
    assert watching.lines[-1] == "toy · quick: 2 trials, 2 missing; 2 to run"


def test_a_terminal_shows_what_run_shows(desk: Desk) -> None:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    process = desk.run()
    desk.let_go(0)
    terminal = ["tmux", "-L", f"sweeper-{os.getpid()}", "-f", os.devnull]
    environment = {**desk.environment, "LANG": "C.UTF-8", "TERM": "xterm"}
    command = f"{sys.executable} -m sweeper status toy.yaml --watch --every 0.2; echo code $?; cat"

    def screen() -> str:
        shot = subprocess.run(
            [*terminal, "capture-pane", "-p"], capture_output=True, text=True, env=environment
        )
        return shot.stdout

    subprocess.run(
        [*terminal, "new-session", "-d", "-x", "100", "-y", "30", command],
        cwd=desk.folder,
        env=environment,
        check=True,
    )
    try:
        desk.until(lambda: re.search(r"seed 1 +[\d,]+ updates +[\d.]+/s", screen()), process)
        seen = screen()
        assert f"being run by process {process.pid} on " in seen
        assert re.search(r"1/2 done  ·  1 running  ·  [\d,]+ updates/s  ·  ", seen)
        assert "━━━" in seen
        assert re.search(r"^\W*0\W+0\.500\W*$", seen, flags=re.MULTILINE)  # the table so far
        desk.let_go(1)
        assert said(process)[0] == 0
        deadline = time.monotonic() + SECONDS
        while "code 0" not in screen():
            assert time.monotonic() < deadline, screen()
            time.sleep(0.05)
        left = screen().strip().splitlines()  # What was drawn is gone, and how it ended stays.
        assert left == ["toy · quick: 2 trials, 2 done; nothing left to do", "code 0"]
    finally:
        subprocess.run([*terminal, "kill-server"], env=environment, capture_output=True)


class Counting(Folder):
    """Counts the trials that are read."""

    read = 0

    def find(self, trials: Iterable[Trial]) -> dict:
        some = list(trials)
        self.read += len(some)
        return super().find(some)


def test_looks_agree_with_a_whole_reading_and_read_only_what_changes(tmp_path: Path) -> None:
    many = 60
    text = FILE.replace("[0, 1]", f"{{range: [0, {many - 1}]}}")
    (tmp_path / "slow.py").write_text(TRAINER)
    (tmp_path / "toy.yaml").write_text(text)
    sys.path.insert(0, str(tmp_path))
    try:
        sweep = read(str(tmp_path / "toy.yaml"))
        place = run.Place(store=tmp_path / "runs")
        trials = run.look(sweep, place).trials
        generator = random.Random(20261130)
        attempts: dict[str, Attempt] = {}
        folder = Counting(place.store)
        onlooker = Onlooker(folder=folder, plan=run.look(sweep, place))
        for turn in range(150):
            trial = generator.choice(trials)
            act(attempts, trial, place.folder, generator)
            onlooker.look()
            whole = run.look(sweep, place)
            assert onlooker.plan.states == whole.states, turn
            assert onlooker.plan.records == whole.records
            running = [trial.key for trial in run.running(whole, place)]
            assert {trial.key for trial in onlooker.running} == {*running}
        for _ in range(3):
            onlooker.look()
        folder.read = 0
        onlooker.look()
        assert folder.read == len(onlooker.running) > 0
        for attempt in attempts.values():
            attempt.abandon("over")
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("slow", None)


def act(
    attempts: dict[str, Attempt], trial: Trial, folder: Folder, generator: random.Random
) -> None:
    """Begins the trial, or ends it in some way."""
    attempt = attempts.pop(trial.id, None)
    if attempt is None:
        attempts[trial.id] = folder.start(trial)
        return
    state = generator.choice(["done", "failed", "diverged", None])
    if state is None:
        attempt.abandon("stopped")
        return
    attempt.finish(Record(trial_id=trial.id, evaluation_id=trial.evaluation_id, state=state))


# ---- stopping


def test_one_process_runs_and_another_stops_it(desk: Desk) -> None:
    process = desk.run()
    code, out, err = desk.type("stop", "toy.yaml")
    assert code == 0, err
    ran, _, told = said(process)
    assert ran == 75, told
    assert re.search(r"process \d+ on \S+ asks to stop", told)
    assert f"process {process.pid} on " in err
    assert " has stopped" in err
    assert out == "toy · quick: 2 trials, 2 missing; 2 to run\n"
    assert desk.stops() == []
    desk.let_go()
    code, out, err = said(desk.start("run", "toy.yaml", "--dispatch", "inline"))
    assert (code, "1.500" in out) == (0, True), err


def test_what_does_not_come_to_a_measurement_is_stopped_at_once(desk: Desk) -> None:
    (desk.folder / "hang").touch()
    process = desk.run()
    code, _, err = desk.type("stop", "toy.yaml", "--now")
    assert code == 0, err
    ran, _, told = said(process)
    assert ran == 130, told
    assert " stops this at once" in told
    assert " has stopped" in err  # It has said so itself: none needs to wait until it is old.
    (desk.folder / "hang").unlink()
    desk.let_go()
    assert said(desk.start("run", "toy.yaml", "--dispatch", "inline"))[0] == 0


def test_those_that_joined_stop_with_their_owner_and_without_one(desk: Desk) -> None:
    first = desk.run()
    second = desk.start("run", "toy.yaml", "--dispatch", "inline", "--join")
    desk.until(lambda: len(owner.members(desk.owner)) == 2, second)  # It waits for the trial.
    joined = json.loads(desk.type("status", "toy.yaml", "--json")[1])
    assert [it["pid"] for it in joined["joined"]] == [second.pid]
    assert joined["owner"]["pid"] == first.pid
    assert desk.type("stop", "toy.yaml")[0] == 0
    assert [said(first)[0], said(second)[0]] == [75, 75]
    alone = desk.run("--join")
    assert desk.type("stop", "toy.yaml")[0] == 0
    assert said(alone)[0] == 75
    assert [path for path in desk.owner.iterdir() if path.is_dir()] == []


def test_there_may_be_nobody_to_stop(desk: Desk) -> None:
    code, out, err = desk.type("stop", "toy.yaml")
    assert (code, out, err) == (0, "", "nobody trains toy (quick)\n")
    process = desk.run()
    process.kill()
    process.wait()
    code, _, err = desk.type("stop", "toy.yaml")
    assert code == 0
    assert f"process {process.pid} on " in err
    assert "died without a word" in err
    assert desk.stops() == []


def test_an_old_request_does_not_stop_the_next_run(desk: Desk) -> None:
    process = desk.run()
    process.send_signal(signal.SIGSTOP)  # It hears nothing any more.
    code, _, err = desk.type("stop", "toy.yaml", "--limit", "0.5")
    assert code == 3, err
    assert f"process {process.pid} on " in err
    assert "--now" in err
    assert desk.type("stop", "toy.yaml", "--now", "--no-wait")[0] == 0
    assert desk.stops() == ["stop-1-now.json", "stop-1.json"]
    process.kill()
    process.wait()
    (desk.owner / "stop-1.json").rename(desk.folder / "kept")
    after = desk.run()
    assert desk.stops() == []  # They went as the next lease was taken.
    (desk.folder / "kept").rename(desk.owner / "stop-1.json")  # As a slow file server has it.
    heard = desk.owner / "stop-9.json"  # Nobody's, either.
    shutil.copy(desk.owner / "stop-1.json", heard)
    time.sleep(3 * owner.HEARING_SECONDS)
    assert after.poll() is None
    desk.let_go()
    assert said(after)[0] == 0


def test_an_owner_on_a_machine_that_has_gone_is_said_to_have_died(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = owner.take(desk.owner)
    path = lease.path_of(desk.owner, held.attempt)
    path.write_bytes(seal(asdict(replace(held, place="elsewhere", host="far", pid=1))))
    soon = time.time() - lease.EXPIRY_SECONDS + 8
    os.utime(path, (soon, soon))
    code, _, err = desk.type("stop", "toy.yaml")
    assert code == 0, err
    assert "process 1 on far died, or its machine has gone" in err


def test_both_of_two_requests_are_heard_once_each(tmp_path: Path) -> None:
    heard: list[owner.Request] = []
    folder = tmp_path / "x.owner"
    with owner.owning(folder, lambda by: None, heard.append):
        (member,) = owner.members(folder)
        owner.ask(member)
        wait(lambda: len(heard) == 1)
        owner.ask(member, at_once=True)
        wait(lambda: len(heard) == 2)
        time.sleep(2 * owner.HEARING_SECONDS)
    assert [it.at_once for it in heard] == [False, True]
    assert heard[0].by.startswith(f"process {os.getpid()} on ")
    assert [path.name for path in folder.iterdir()] == ["lease-1.json"]


def wait(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)
