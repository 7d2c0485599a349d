"""Signals to a real `sweeper run`: it ends in time, says nothing wild, leaves nobody behind, and
the same line again does what is left."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from agents import left
from terminal import NOBODY, ROOT, SECONDS, Terminal

HERE = Path(__file__).parent
LIMIT = 10.0  # of a stop
AT_ONCE = 3.0
STOP = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]

FILE = """\
name: toy
trainer: %(trainer)s
base: {steps: %(steps)s, pause: %(pause)s}
axes: {seed: [0, 1]}
metrics: {loss: {from: loss, goal: min, format: ".3f"}}
profiles: {quick: {}}
tables: {losses: {rows: seed, values: [loss], write: [md]}}
"""


class Desk(Terminal):
    """With a sweep file in it. Nobody listens where MLflow should."""

    def __init__(self, folder: Path):
        super().__init__(folder, ROOT / "tests/sweeper", HERE, **NOBODY)

    def write(self, trainer: str, steps: int = 3, pause: float = 0.0) -> None:
        named = trainer if trainer.startswith("{") else f"{{function: '{trainer}'}}"
        text = FILE % {"trainer": named, "steps": steps, "pause": pause}
        (self.folder / "toy.yaml").write_text(text)

    def run(self, *more: str, by: str = "inline", **how: object) -> subprocess.Popen[str]:
        return self.start("run", "toy.yaml", "--dispatch", by, *more, **how)

    def measured(self) -> bool:
        journals = self.folder.glob("runs/trials/*/journal.jsonl")
        return any('"measure"' in path.read_text() for path in journals)

    def again(self) -> str:
        """The same line to its end; its tables."""
        out, err = self.run().communicate(timeout=SECONDS)
        assert self.started[-1].returncode == 0, err
        return out


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk.opened(tmp_path) as made:
        yield made


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def ended(process: subprocess.Popen[str], began: float, limit: float = LIMIT) -> tuple[str, str]:
    out, err = process.communicate(timeout=SECONDS)
    took = time.monotonic() - began
    assert took < limit, f"it took {took:.1f} s\n{err}"
    assert "Traceback" not in out + err, out + err
    return out, err


@pytest.mark.fault("A14", "A16")
@pytest.mark.parametrize("number", STOP, ids=lambda it: it.name)
def test_one_signal_stops_at_the_next_measurement(
    desk: Desk, number: signal.Signals, full: bool, say: Callable[[str], None]
) -> None:
    rounds, longest = 13 if full else 1, 0.0
    for _ in range(rounds):
        shutil.rmtree(desk.folder / "runs", ignore_errors=True)
        desk.write("toy_trainers:countdown", steps=100_000, pause=0.01)
        process = desk.run()
        desk.until(desk.measured, process)
        children = below(process)
        began = time.monotonic()
        process.send_signal(number)
        out, err = ended(process, began)
        longest = max(longest, time.monotonic() - began)
        assert process.returncode == 75, err
        assert "the same line again does what is left" in err
        assert "missing" in out  # the table of what there is
        assert left(children) == []
        desk.write("toy_trainers:countdown", steps=100_000, pause=0.01)
        assert len(list(desk.folder.glob("runs/trials/*"))) == 1  # No other was begun.
    desk.write("toy_trainers:countdown")
    assert "0.333" in desk.again()
    say(f"A14, A16: {rounds} of {rounds} runs stopped by {number.name}, at most {longest:.1f} s")


@pytest.mark.slow
@pytest.mark.fault("A14", "A16")
@pytest.mark.parametrize("trainer", ["naps", "hangs", "clings"])
def test_a_trial_that_comes_to_no_measurement_keeps_nobody(
    desk: Desk, trainer: str, full: bool, say: Callable[[str], None]
) -> None:
    if trainer == "clings" and not full:
        pytest.skip("with --full; it ends as one that hangs does")
    desk.write(f"toy_stops:{trainer}")
    process = desk.run()
    desk.until(lambda: [*desk.folder.glob("runs/began")], process)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = ended(process, began)
    say(f"A16: a trial that {trainer} was left after {time.monotonic() - began:.1f} s")
    assert process.returncode == 75, err
    if trainer == "naps":
        (journal,) = desk.folder.glob("runs/trials/*/journal.jsonl")
        assert '"state":"interrupted"' in journal.read_text().splitlines()[-1]
        assert "missing" in out
    else:
        assert "not all has come to its end" in err
    shutil.rmtree(desk.folder / "runs/tables", ignore_errors=True)
    table = desk.again()
    assert "0.500" in table
    assert "1.500" in table


COMMAND = (
    r"""{command: [bash, -c, 'printf "{\"loss\": 1}\n"; sleep 600 & sleep 600; echo {seed}']}"""
)


@pytest.mark.slow
@pytest.mark.fault("A15")
def test_a_second_signal_ends_at_once_with_all_that_was_started(
    desk: Desk, full: bool, say: Callable[[str], None]
) -> None:
    """A command that has started another one, and the courier."""
    desk.write(COMMAND)
    rounds, longest = 20 if full else 2, 0.0
    for number in range(rounds):
        shutil.rmtree(desk.folder / "runs", ignore_errors=True)
        process = desk.run()
        desk.until(desk.measured, process)
        desk.until(lambda p=process: sum("sleep" in it.name() for it in below(p)) == 2, process)
        children = below(process)
        process.send_signal(STOP[number % 2])
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = ended(process, began, AT_ONCE)
        longest = max(longest, time.monotonic() - began)
        assert process.returncode == 130, err
        assert left(children, AT_ONCE) == []
    say(f"A15: {rounds} of {rounds} ended by a second signal, at most {longest:.1f} s, 0 orphans")


@pytest.mark.slow
@pytest.mark.fault("A14", "A16")
def test_a_signal_at_any_moment_ends_it_cleanly(
    desk: Desk, full: bool, fault_seed: int, say: Callable[[str], None]
) -> None:
    """While modules are loaded, the sweep is planned, trials run, tables are written, and MLflow
    is told: 75, or the signal's own end before there was anything to stop."""
    desk.write("toy_trainers:countdown", steps=20, pause=0.01)
    began = time.monotonic()
    whole = desk.again()
    length = time.monotonic() - began
    draw, codes, longest = random.Random(fault_seed), [], 0.0
    rounds = 200 if full else 6
    for _ in range(rounds):
        shutil.rmtree(desk.folder / "runs", ignore_errors=True)
        number = draw.choice(STOP)
        process = desk.run()
        # From its start on, but the interpreter's own, which is nobody's to mend.
        time.sleep(0.15 + draw.uniform(0.0, length))
        began = time.monotonic()
        process.send_signal(number)
        _, err = ended(process, began)
        longest = max(longest, time.monotonic() - began)
        assert process.returncode in (0, 75, -number), err
        codes.append(process.returncode)
        if process.returncode == 75:
            assert "stopp" in err
    assert 75 in codes
    assert desk.again() == whole
    say(
        f"A14, A16: {rounds} signals at random moments (seed {fault_seed}): {codes.count(75)} "
        f"stopped, {codes.count(0)} had ended, {sum(c < 0 for c in codes)} were at their start, "
        f"at most {longest:.1f} s, 0 tracebacks"
    )


@pytest.mark.slow
@pytest.mark.fault("A16")
def test_a_signal_while_mlflow_is_told_does_not_wait_for_it(desk: Desk) -> None:
    with socket.socket() as silent:  # It takes what is said, and never answers.
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        desk.environment["MLFLOW_TRACKING_URI"] = address
        desk.write("toy_trainers:countdown")
        log = desk.folder / "err"
        with log.open("w") as file:
            process = desk.run(stderr=file)
        desk.until(lambda: "tables are in" in log.read_text(), process)
        children = below(process)
        assert children  # the courier
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)
        assert time.monotonic() - began < LIMIT
        assert process.returncode == 75, log.read_text()
        assert "Traceback" not in log.read_text()
        assert left(children) == []


@pytest.mark.slow
@pytest.mark.fault("A6")
def test_a_courier_whose_driver_died_does_not_wait_for_a_server(desk: Desk) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        desk.environment["MLFLOW_TRACKING_URI"] = address
        desk.write("toy_trainers:countdown", steps=60, pause=0.05)
        process = desk.run()
        desk.until(lambda: [*desk.folder.glob("runs/trials/*/result-*.json")], process)
        desk.until(lambda: [it for it in below(process) if "python" in it.name()], process)
        children = below(process)
        with silent.accept()[0]:  # The courier is at it.
            process.kill()
            process.communicate()
            assert left(children) == []


@pytest.mark.fault("A16")
def test_under_nohup_a_hangup_is_nothing(desk: Desk) -> None:
    desk.write("toy_trainers:countdown", steps=60, pause=0.02)
    process = desk.run(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    desk.until(desk.measured, process)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert "stopping" not in err
    assert "0.017" in out


@pytest.mark.slow
@pytest.mark.fault("A16")
def test_a_terminal_that_is_closed_stops_it(desk: Desk) -> None:
    """The kernel's own SIGHUP; what is printed after it has no place to go."""
    desk.write("toy_trainers:countdown", steps=100_000, pause=0.01)
    pid, terminal = pty.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.chdir(desk.folder)
            words = [sys.executable, "-m", "sweeper", "run", "toy.yaml", "--dispatch", "inline"]
            os.execve(sys.executable, words, {**desk.environment, "TERM": "xterm"})
        os._exit(99)
    deadline = time.monotonic() + SECONDS
    os.set_blocking(terminal, False)
    while not desk.measured():
        assert time.monotonic() < deadline
        with contextlib.suppress(BlockingIOError):
            os.read(terminal, 65536)  # Or it waits until somebody reads.
        time.sleep(0.01)
    began = time.monotonic()
    os.close(terminal)
    status = os.waitpid(pid, 0)[1]
    assert time.monotonic() - began < LIMIT
    assert os.waitstatus_to_exitcode(status) == 75


def needs_ray() -> None:
    if find_spec("ray") is None:
        pytest.skip("needs ray")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.fault("A14", "A15", "A16", "A6")
@pytest.mark.parametrize("moment", ["it starts Ray", "a trial runs", "a trial hangs"])
def test_a_signal_while_ray(
    desk: Desk, moment: str, full: bool, say: Callable[[str], None]
) -> None:
    needs_ray()
    if moment == "a trial runs" and not full:
        pytest.skip("with --full; tests/sweeper/test_ray.py stops one")
    hangs = moment == "a trial hangs"
    for number in STOP if full else STOP[1:2]:
        shutil.rmtree(desk.folder / "runs", ignore_errors=True)
        trainer = "toy_stops:naps" if hangs else "toy_trainers:countdown"
        desk.write(trainer, steps=100_000, pause=0.01)
        process = desk.run(by="ray")
        if moment == "it starts Ray":
            desk.until(lambda p=process: any("gcs" in it.name() for it in below(p)), process)
        else:
            desk.until(desk.measured, process)
        children = below(process)
        began = time.monotonic()
        process.send_signal(number)
        _, err = ended(process, began)
        took = time.monotonic() - began
        assert process.returncode == 75, err
        assert left(children) == []
        say(f"A16: {number.name} while {moment}: {took:.1f} s, 0 orphans")
    desk.write("toy_stops:naps" if hangs else "toy_trainers:countdown")
    assert "0.500" in desk.again() if hangs else "0.333" in desk.again()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.fault("A15", "A6")
def test_a_second_signal_ends_ray_at_once(desk: Desk) -> None:
    needs_ray()
    desk.write(COMMAND)
    process = desk.run(by="ray")
    desk.until(desk.measured, process)
    children = below(process)
    assert any("raylet" in it.name() for it in children)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = ended(process, began, AT_ONCE)
    assert process.returncode == 130, err
    assert left(children, LIMIT) == []


ASKED_DEAF = """
import signal, threading, time
from sweeper.cli import signals
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
signals.LIMIT_SECONDS = 1.0
with signals.heeding() as heard:
    heard.waiting = 60.0
    asks = threading.Thread(target=lambda: heard.ask("somebody", at_once=False))
    asks.start()
    asks.join()
    assert heard.stop.is_set() and heard.signalled.is_set()
    time.sleep(600)
"""


@pytest.mark.fault("A14")
def test_the_limit_holds_for_a_request_where_all_signals_are_ignored() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASKED_DEAF], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 75, done.stderr
    assert "somebody asks to stop" in done.stderr
    assert "ended now" in done.stderr
