"""Drivers that are killed:

    python toy_drivers.py FILE STORE LOG SEED KILLS

From one warm process driver after driver is forked off. Each runs the sweep in FILE into STORE
as `sweeper run --dispatch inline` does, only that nobody tells MLflow, and is killed at a random
time or before a random write, until one comes to the end. Then the next store is begun,
STORE-1, STORE-2 ..., until there were so many kills; the last line says how many.

What a driver acknowledges, and what the trainer does, stands line by line in the file LOG of
the store: `began ID UPDATE`, `kept ID UPDATE`, `ack ID STATE DIGEST`.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy  # noqa: F401

import sweeper.dispatch.inline  # noqa: F401
from sweeper import run
from sweeper.record import Record
from sweeper.render import RENDERERS
from sweeper.spec import read
from sweeper.track.sealed import write_whole

LOG = "TOY_LOG"


def say(*words: object) -> None:
    """One write of a line, which a kill does not tear."""
    handle = os.open(os.environ[LOG], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o666)
    os.write(handle, (" ".join(map(str, words)) + "\n").encode())
    os.close(handle)


def walks(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """A walk of `steps` updates whose place is kept at each. Where it ends depends on every
    update having been made once. Fails at update `fails`."""
    kept = run.folder / "checkpoints" / "walk"
    kept.parent.mkdir(exist_ok=True)
    update, place = 0, config["level"]
    if kept.exists():
        update, place = map(int, kept.read_text().split())
    say("began", run.folder.name, update)
    while update < config["steps"]:
        update += 1
        if update == config.get("fails"):
            raise ValueError("the bridge is out")
        place = (place * 31 + update + run.seed) % 1_000_003
        write_whole(kept, f"{update} {place}".encode())
        say("kept", run.folder.name, update)
        time.sleep(config.get("pause", 0.0))
        yield {"cost/updates": update, "loss": float(place)}
    yield {"cost/updates": update, "loss": float(place), "end": float(place)}


def drive(file: str, store: Path) -> None:
    """The order of `sweeper run`. An acknowledgement comes after the record was told."""
    sweep, place = read(file), run.Place(store=store)
    plan = run.look(sweep, place)
    place.folder.prepare()
    machine = run.Machine.for_(sweep, "inline", None)

    def told(record: Record) -> None:
        (path,) = (store / "trials" / record.trial_id).glob("result-*.json")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        say("ack", record.trial_id, record.state, digest)

    if plan.todo:
        with run.owning(sweep, place, lambda by: None):
            run.remember(sweep, plan, place)
            run.train(plan.todo, place, machine, told, threading.Event())
    plan = run.look_again(sweep, plan.trials, place)
    (table,) = run.tables(sweep, plan, place)
    write_whole(store / "table.md", RENDERERS["md"](table).encode())


def kill_before(writes: int) -> None:
    left = [writes]

    def hear(event: str, about: tuple) -> None:
        fresh = event == "open" and not isinstance(about[0], int)
        writing = fresh and about[2] & (os.O_WRONLY | os.O_RDWR)
        if writing or event in ("os.rename", "os.link", "os.remove", "os.utime", "os.mkdir"):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)


def round_of(file: str, store: Path, draw: random.Random, longest: float) -> int:
    """How a driver ended."""
    writes = draw.randint(1, 150) if draw.random() < 0.5 else 0
    seconds = draw.uniform(0.0, longest)
    child = os.fork()
    if child == 0:
        if writes:
            kill_before(writes)
        drive(file, store)
        os._exit(0)
    if not writes:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    file, store, log, seed, wanted = sys.argv[1:]
    draw, kills, stores, rounds = random.Random(int(seed)), 0, 0, 0
    began = time.monotonic()
    drive_once(file, Path(store).resolve(), log)
    longest = time.monotonic() - began  # a whole run's
    while kills < int(wanted):
        stores += 1
        here = Path(f"{store}-{stores}").resolve()
        here.mkdir()
        os.environ[LOG] = str(here / log)
        while (ended := round_of(file, here, draw, longest)) != 0:
            assert ended == -signal.SIGKILL, ended
            kills, rounds = kills + 1, rounds + 1
            assert rounds < 300 * stores, "it comes to no end"
    print(kills, stores)


def drive_once(file: str, store: Path, log: str) -> None:
    """Undisturbed."""
    store.mkdir()
    os.environ[LOG] = str(store / log)
    child = os.fork()
    if child == 0:
        drive(file, store)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    main()
