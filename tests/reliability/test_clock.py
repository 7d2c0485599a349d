"""A clock that jumps by a day, to and fro, while a sweep runs: only labels show it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sweeper.track import lease
from sweeper.track.folder import Folder
from sweeper.track.journal import read as read_journal
from sweeper.track.lease import EXPIRY_SECONDS, LeaseHeld
from sweeper.track.sealed import seal

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECONDS = 120.0
DAY = 86_400.0

FILE = """\
name: toy
trainer: {function: "toy_trainers:paced"}
base: {steps: 4, pause: 0.02}
axes: {seed: [0, 1, 2]}
metrics: {loss: {from: loss, goal: min, format: ".3f"}}
profiles: {quick: {}}
budget: {per_trial: {wall: 1h}}
tables: {losses: {rows: seed, values: [loss], write: [md]}}
"""

# Each look at the wall clock is a day before or after the one before.
JUMPS = """
import itertools, time
real, days = time.time, itertools.cycle([86400.0, -86400.0, 0.0])
time.time = lambda: real() + next(days)
"""


def sweeper(folder: Path, *words: str, before: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"{before}\nfrom sweeper.cli import main; main()", *words],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/sweeper")]),
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",  # Nobody is there.
            "SWEEPER_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.fault("A17")
def test_ids_tables_and_durations_are_those_of_a_clock_that_stands_still(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(FILE)
    words = ("run", "toy.yaml", "--dispatch", "inline", "--store")
    tables, ids = [], []
    for store, before in (("steady", ""), ("jumping", JUMPS)):
        began = time.monotonic()
        tables.append(sweeper(tmp_path, *words, store, before=before))
        took = time.monotonic() - began
        folder = Folder(tmp_path / store)
        ids.append(sorted(folder.ids()))
        for trial in folder.ids():
            entries, _ = read_journal(folder.path(trial) / "journal.jsonl")
            seconds = [entry["seconds"] for entry in entries if "seconds" in entry]
            assert seconds == sorted(seconds)
            assert 0.08 <= folder.totals(trial)["seconds"] < took
    assert ids[0] == ids[1]
    assert tables[0] == tables[1]
    labels = [json.loads(line)["at"] for line in jumped(tmp_path)]
    assert max(labels) - min(labels) > DAY  # The clock did jump.


def jumped(folder: Path) -> list[str]:
    paths = sorted(folder.glob("jumping/trials/*/journal.jsonl"))
    lines = [line for path in paths for line in path.read_text().splitlines()]
    return [line for line in lines if '"at"' in line]


@pytest.mark.fault("A17")
@pytest.mark.parametrize("days", [1, -1, 400])
def test_no_lease_ends_or_lives_on_by_the_clock(tmp_path: Path, days: int, monkeypatch) -> None:
    """Of this machine the process counts, of another the clock of the file system does."""
    steady = time.time
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folders = {}
    for name, change, age in (
        ("lives", {}, 0.0),
        ("died", {"pid": dead.pid}, 0.0),
        ("beats elsewhere", {"place": "elsewhere", "host": "far"}, EXPIRY_SECONDS / 2),
        ("silent elsewhere", {"place": "elsewhere", "host": "far"}, 2 * EXPIRY_SECONDS),
    ):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        held = replace(lease.take(folders[name]), **change)
        path = lease.path_of(folders[name], 1)
        path.write_bytes(seal(asdict(held)))
        os.utime(path, (steady() - age,) * 2)
    monkeypatch.setattr(time, "time", lambda: steady() + days * DAY)
    for name in ("lives", "beats elsewhere"):
        with pytest.raises(LeaseHeld):
            lease.take(folders[name])
    for name in ("died", "silent elsewhere"):
        assert lease.take(folders[name]).attempt == 2
