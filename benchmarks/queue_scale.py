"""What a sweep of many trials costs its driver: processor time a trial, memory, and how both grow.

    python benchmarks/queue_scale.py [--most 100000] [--folder FOLDER]       some minutes

The real plan, queue and store, under an executor that does nothing: each trial is asked of
the queue from which Ray Tune is fed, gets its folder, its lease, its journal and its result,
is settled as one that a worker ended, and is then planned again and tabulated. Sizes run one
after another, each in a process of its own; a folder in memory keeps the disk out of it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeper import run
from sweeper.dispatch import dispatcher
from sweeper.record import Record
from sweeper.spec import Resources, parse
from sweeper.track.folder import Folder
from sweeper.trial import Trial
from sweeper.worker import Surroundings

SIZES = (1_000, 10_000, 100_000)
GOAL_MEGABYTES = 2048
GOAL_GROWTH = 1.25  # of what one trial costs, from the least size to the greatest
SWEEP = """\
name: many
trainer: {function: "queue_scale:nothing"}
axes:
  lr: {range: [1, %(rates)s]}
  seed: {range: [0, 9]}
metrics: {loss: {from: loss, goal: min}}
tables: {t: {rows: lr, values: [loss], over: seed}}
profiles: {quick: {}}
"""


def nothing(config: dict[str, Any]) -> dict[str, float]:
    """A trainer that is never called."""
    raise AssertionError


def at_once(
    trials: Iterable[Trial | None],
    surroundings: Surroundings,
    on_record: Callable[[Record], None],
    *,
    resources: Resources,
    stop: threading.Event | None = None,
    **more: Any,
) -> None:
    """A dispatcher: the driver's side of Ray Tune, and in place of the workers what they
    write."""
    from sweeper.dispatch.ray_tune import Ended, Searcher, Supply, settle

    store = Folder(surroundings.store)
    stop_file = surroundings.store / ".stop"
    supply = Supply(trials, surroundings, stop or threading.Event(), stop_file)
    while (given := supply.suggest("")) != Searcher.FINISHED:
        if given is None:
            continue
        trial = given["job"].trial
        attempt = store.start(trial, "0" * 12)
        values = {"cost/updates": 1.0, "loss": trial.config["lr"] + trial.seed / 10}
        attempt.measure(1.0, values)
        attempt.finish(
            Record(
                trial_id=trial.id,
                evaluation_id=trial.evaluation_id,
                state="done",
                result=values,
            )
        )
        supply.end(Ended(trial=trial))
        settle(supply.ended.get(), surroundings, on_record)


def measured(count: int, store: Path) -> None:
    """One size: a line for each phase with its processor seconds and the most memory so far."""
    sweep = parse(SWEEP % {"rates": count // 10}, store / "many.yaml")
    place = run.Place(store=store)
    place.folder.prepare()
    dispatcher("ray")  # Ray is loaded once, however many trials there are.
    with phase("plan", count):
        plan = run.look(sweep, place)
        todo = list(plan.todo)
    assert len(todo) == count
    ended: list[str] = []
    machine = run.Machine(by="queue_scale:at_once", resources=Resources(cpus=1, gpus=0), slots=2)
    with phase("queue and store", count):
        run.train(todo, place, machine, lambda it: ended.append(it.state), threading.Event())
    assert ended == ["done"] * count
    with phase("plan again", count):
        plan = run.look_again(sweep, plan.trials, place)
    assert not plan.todo
    with phase("table", count):
        (table,) = run.tables(sweep, plan, place)
    assert table.filled


@contextmanager
def phase(name: str, count: int) -> Iterator[None]:
    began = time.process_time()
    yield
    took = time.process_time() - began
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    print(f"{name}\t{1e3 * took / count:.4f}\t{peak:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--most", type=int, default=SIZES[-1])
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measured(arguments.one, arguments.folder)
        return
    from measure import missed  # It loads torch, which is no part of what is measured.

    seen: dict[int, dict[str, tuple[float, float]]] = {}
    for count in [size for size in SIZES if size <= arguments.most]:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            command = [sys.executable, __file__, "--one", str(count), "--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            shutil.rmtree(folder)
        if done.returncode:
            sys.exit(done.stderr)
        lines = [line.split("\t") for line in done.stdout.splitlines()]
        seen[count] = {name: (float(each), float(peak)) for name, each, peak in lines}
        print(f"{count:>9,} trials", flush=True)
        for name, (each, peak) in seen[count].items():
            print(f"  {name:<18}{each:8.3f} ms of processor a trial, {peak:7.0f} MB at most")
    least, most = min(seen), max(seen)
    totals = {count: sum(each for each, _ in phases.values()) for count, phases in seen.items()}
    peaks = {count: max(peak for _, peak in phases.values()) for count, phases in seen.items()}
    growth = totals[most] / totals[least]
    print(
        f"a trial costs {totals[most]:.2f} ms of {most:,}, {totals[least]:.2f} ms of {least:,}: "
        f"{growth:.2f}x (at most {GOAL_GROWTH}x){missed(growth <= GOAL_GROWTH)}"
    )
    each = 1024 * (peaks[most] - peaks[least]) / max(most - least, 1)
    print(
        f"memory {peaks[most]:.0f} MB of {most:,}, {peaks[least]:.0f} MB of {least:,}: "
        f"{each:.1f} kB a further trial (at most {GOAL_MEGABYTES} MB)"
        f"{missed(peaks[most] < GOAL_MEGABYTES)}"
    )


if __name__ == "__main__":
    main()
