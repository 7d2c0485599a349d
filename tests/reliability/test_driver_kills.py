"""Drivers that are killed at any moment: what was acknowledged is there, what is finished is
not trained again, and the table is that of a run which nobody killed."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from agents import left
from terminal import NOBODY

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MEMORY = Path("/dev/shm")
SECONDS = 120.0

FILE = """\
name: walk
trainer: {function: "toy_drivers:walks"}
base: {steps: 5, pause: %s}
axes:
  level: {low: {level: 1}, high: {level: 2}, broken: {level: 3, fails: 3}}
  seed: [0, 1]
metrics: {end: {from: end, goal: min, format: ".1f"}}
profiles: {quick: {}}
tables:
  ends: {rows: level, values: [end], over: seed, cell: "{mean} ± {sd}", write: [md]}
"""


def mean_and_deviation(level: int) -> str:
    """Of where `walks` ends with the seeds 0 and 1, walked here once more."""
    ends = []
    for seed in (0, 1):
        place = level
        for update in range(1, 6):
            place = (place * 31 + update + seed) % 1_000_003
        ends.append(place)
    return f"{sum(ends) / 2:.1f} ± {abs(ends[0] - ends[1]) / 2**0.5:.1f}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory, where there is such a place: a disk has no part in a kill."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(dir=MEMORY))
    yield made
    shutil.rmtree(made)


def environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE), str(ROOT / "tests" / "sweeper")]),
        "OMP_NUM_THREADS": "1",
    }


def check(store: Path) -> tuple[int, int]:
    """Goes through the log of a store. How many results were acknowledged, and how often a
    training went on from what an earlier driver had kept."""
    kept: dict[str, int] = {}
    acknowledged: dict[str, str] = {}
    continued = 0
    for line in (store / "log").read_text().splitlines():
        what, trial, *rest = line.split()
        if what == "began":
            assert trial not in acknowledged, f"{trial} was finished and is trained again"
            last = kept.get(trial, 0)
            # It may be killed between the checkpoint and the line on it.
            assert int(rest[0]) in (last, last + 1), f"{trial} had {last}, and began at {rest[0]}"
            continued += int(rest[0]) > 0
        elif what == "kept":
            kept[trial] = int(rest[0])
        else:
            state, digest = rest
            assert state in ("done", "failed")
            assert trial not in acknowledged, f"{trial} was acknowledged twice"
            acknowledged[trial] = digest
    for trial, digest in acknowledged.items():
        (path,) = (store / "trials" / trial).glob("result-*.json")
        assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] == digest, f"{trial} is changed"
    return len(acknowledged), continued


@pytest.mark.fault("A1")
def test_drivers_killed_at_random_moments_lose_nothing_and_make_nothing_twice(
    folder: Path, full: bool, fault_seed: int, say: Callable[[str], None]
) -> None:
    (folder / "walk.yaml").write_text(FILE % 0)
    wanted = 1000 if full else 100
    words = ("walk.yaml", "runs", "log", fault_seed, wanted)
    done = subprocess.run(
        [sys.executable, HERE / "toy_drivers.py", *map(str, words)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=60 * SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kills, stores = map(int, done.stdout.split())
    assert kills >= wanted
    undisturbed = (folder / "runs" / "table.md").read_bytes()
    for level in (1, 2):
        assert mean_and_deviation(level).encode() in undisturbed
    assert b"failed" in undisturbed
    acknowledged = continued = 0
    for number in range(1, stores + 1):
        store = folder / f"runs-{number}"
        one, other = check(store)
        assert one <= 6
        acknowledged, continued = acknowledged + one, continued + other
        assert (store / "table.md").read_bytes() == undisturbed
    assert check(folder / "runs") == (6, 0)
    assert continued > 0  # Else nothing was ever interrupted.
    say(
        f"A1: {kills} kills of a driver in {stores} sweeps (seed {fault_seed}): of {acknowledged} "
        f"acknowledged results 0 lost, 0 trained again; {continued} trainings continued; "
        f"{stores} of {stores} tables byte-equal"
    )


def start(folder: Path, store: str, by: str) -> subprocess.Popen[str]:
    """The real command, with nobody where MLflow should be."""
    (folder / store).mkdir(exist_ok=True)
    words = ("run", "walk.yaml", "--store", store, "--dispatch", by, "--keep-going")
    return subprocess.Popen(
        [sys.executable, "-m", "sweeper", *words],
        cwd=folder,
        env={
            **environment(folder),
            "TOY_LOG": str(folder / store / "log"),
            **NOBODY,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=2 * SECONDS)
    assert process.returncode == 1, out + err  # Two trials fail, and are to.
    assert "Traceback" not in out + err, err
    return out


def results(store: Path) -> dict[str, bytes]:
    """By trial."""
    return {path.parent.name: path.read_bytes() for path in store.glob("trials/*/result-*.json")}


def begun(store: Path) -> dict[str, int]:
    """How often each trial was, as its trainer says."""
    path = store / "log"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    trials = [line[1] for line in lines if line[0] == "began"]
    return {trial: trials.count(trial) for trial in trials}


@pytest.mark.slow
@pytest.mark.parametrize(
    "by",
    [
        pytest.param("inline", marks=pytest.mark.fault("A1", "A6")),
        pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.fault("A1", "A6")]),
    ],
)
def test_the_command_killed_again_and_again(
    folder: Path, by: str, full: bool, fault_seed: int, say: Callable[[str], None]
) -> None:
    if by == "ray" and find_spec("ray") is None:
        pytest.skip("needs ray")
    (folder / "walk.yaml").write_text(FILE % 0.2)
    whole = ended(start(folder, "undisturbed", "inline"))
    undisturbed = (folder / "undisturbed/tables/walk.quick/ends.md").read_bytes()
    draw, kills, finished, stores = random.Random(fault_seed), 0, 0, 0
    wanted = 30 if full else 3
    while kills < wanted:
        stores += 1
        store = folder / f"runs-{stores}"
        there: dict[str, bytes] = {}
        counts: dict[str, int] = {}
        while True:
            process = start(folder, store.name, by)
            moment = len(results(store)) + draw.choice([0, 0, 1, 2])
            deadline = time.monotonic() + SECONDS
            before = sum(begun(store).values())
            while process.poll() is None and (
                len(results(store)) < moment or sum(begun(store).values()) == before
            ):
                assert time.monotonic() < deadline
                time.sleep(0.005)
            time.sleep(draw.uniform(0.0, 0.5))
            if process.poll() is not None or kills >= wanted:
                out = ended(process)
                break
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.communicate()
            kills += 1
            assert left(children) == []
            now, begins = results(store), begun(store)
            assert there.items() <= now.items()
            assert all(begins[trial] == counts[trial] for trial in there)
            there, counts = now, begins
        now, begins = results(store), begun(store)
        assert there.items() <= now.items()
        assert all(begins[trial] == counts[trial] for trial in there)
        check(store)
        finished += len(there)
        assert out.replace(store.name, "undisturbed") == whole
        assert (store / "tables/walk.quick/ends.md").read_bytes() == undisturbed
    say(
        f"A1, A6: {kills} kills of sweeper run --dispatch {by} in {stores} sweeps (seed "
        f"{fault_seed}): of {finished} results 0 lost, 0 trained again; 0 orphans after 10 s; "
        f"{stores} of {stores} tables byte-equal"
    )
