"""What MLflow costs a training beside it: the time of a step, with MLflow well, down and hanging.

    python benchmarks/tracking_outage.py [--rounds 7] [--seconds 5]

A step is a fixed piece of work; every tenth is measured into the trial's journal, as a worker
does, and every hundredth ends a trial, of which the courier is told, as a driver does. The
four ways are timed in turns, each with a courier that has started; what is printed is the
median over rounds of the ratio to no tracking within a round: of the median step's wall time,
and of this process's CPU seconds per step. The courier's own process has CPU seconds of its
own, at the lowest priority, which are printed beside.
"""

from __future__ import annotations

import argparse
import hashlib
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from measure import missed

from sweeper.record import Record
from sweeper.track.courier import Courier
from sweeper.track.folder import Folder
from sweeper.track.parcel import Origin
from sweeper.trial import TrainerRef, Trial

GOAL = 1.01
WORK = bytes(16 * 2**20)
STEPS_A_MEASUREMENT, STEPS_A_TRIAL = 10, 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, hanging() as silent, free() as nobody:
        ways = {
            "none": None,
            "well": f"sqlite:///{scratch}/mlflow.db",
            "down": f"http://127.0.0.1:{nobody}",
            "hanging": f"http://127.0.0.1:{silent}",
        }
        wall: dict[str, list[float]] = {way: [] for way in ways}
        cpu: dict[str, list[float]] = {way: [] for way in ways}
        beside: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(-1, arguments.rounds):
            # Each way comes first in its turn, so that none has the machine as another left it.
            order = [*ways][turn % len(ways) :] + [*ways][: turn % len(ways)]
            for way in order:
                uri = ways[way]
                root = Path(scratch) / f"{way}-{turn}"
                step, own, courier = timed(root, uri, arguments.seconds, turn + 1)
                if turn >= 0:
                    wall[way].append(step)
                    cpu[way].append(own)
                    beside[way].append(courier)
    print(f"a step is {1000 * statistics.median(wall['none']):.2f} ms")
    for way in list(ways)[1:]:
        for what, seconds in (("step time", wall), ("CPU of the training", cpu)):
            ratios = [b / a for a, b in zip(seconds["none"], seconds[way], strict=True)]
            ratio = statistics.median(ratios)
            print(
                f"{way:8} {what:20} {ratio:.4f}x (rounds {min(ratios):.3f} to {max(ratios):.3f}; "
                f"goal {GOAL}x){missed(ratio <= GOAL)}"
            )
        share = statistics.median(beside[way])
        print(f"{way:8} {'CPU of the courier':20} {share:.3f} seconds a second, at nice 19")


def timed(root: Path, uri: str | None, seconds: float, turn: int) -> tuple[float, float, float]:
    """The median step's wall time, this process's CPU seconds per step, and the courier's per
    second of wall time."""
    folder = Folder(root)
    courier = Courier(folder, Origin(sweep="outage", profile="bench"), uri) if uri else None
    seeds = iter(range(10_000 * turn, 10_000 * (turn + 1)))
    if courier:
        train(folder, courier, next(seeds))
        while courier.undelivered and not courier.problem:
            time.sleep(0.1)
    process = psutil.Process(courier._process.pid) if courier else None
    before = spent(process)
    steps: list[float] = []
    began, began_cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() < began + seconds:
        steps += train(folder, courier, next(seeds))
    own = (time.process_time() - began_cpu) / len(steps)
    beside = (spent(process) - before) / (time.perf_counter() - began)
    if courier:
        courier.close(0.1)
    return statistics.median(steps), own, beside


def spent(process: psutil.Process | None) -> float:
    return sum(process.cpu_times()[:2]) if process else 0.0


def train(folder: Folder, courier: Courier | None, seed: int) -> list[float]:
    """One trial; the wall time of each of its steps, of the last with the word to the courier."""
    trial = Trial(trainer=TrainerRef(function="bench:train"), config={"lr": 0.1}, seed=seed)
    steps = []
    attempt = folder.start(trial)
    for step in range(1, STEPS_A_TRIAL + 1):
        began = time.perf_counter()
        hashlib.sha256(WORK).digest()
        if step % STEPS_A_MEASUREMENT == 0:
            attempt.measure(step, {"train/loss": 1 / step, "valid/nll": 2 / step})
        if step == STEPS_A_TRIAL:
            key = {"trial_id": trial.id, "evaluation_id": trial.evaluation_id}
            attempt.finish(Record(**key, state="done", result={"valid/nll": 0.5}))
            if courier:
                courier.notice(trial)
        steps.append(time.perf_counter() - began)
    return steps


@contextmanager
def hanging() -> Iterator[int]:
    """The port of somebody who takes calls and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as silent:
        yield silent.getsockname()[1]


@contextmanager
def free() -> Iterator[int]:
    """A port at which nobody is, nor will be."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


if __name__ == "__main__":
    main()
