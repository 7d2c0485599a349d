"""A disk that fails: at every durable call of a trial's life in turn, and one that is really
full. What was acknowledged is there, nothing half written is believed, the next run ends it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import NOBODY

from sweeper.track.folder import Folder
from trainers import checkpoint

HERE = Path(__file__).parent
LIFE = HERE / "life.py"
SECONDS = 3600


def told(*arguments: object) -> dict:
    """What `life.py` answers."""
    said = subprocess.run(
        [sys.executable, str(LIFE), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@pytest.mark.slow
@pytest.mark.fault("B1", "B2")
@pytest.mark.parametrize("life", ["sweep", "anew"])
def test_whichever_durable_call_fails_nothing_is_corrupt_and_the_next_run_ends_it(life, full, say):
    found = told("faults", life, 1 if full else 4)
    ways = "x 3 kinds and short writes" if full else "each in one of 4 ways in turn"
    wrong, calls = found["wrong"], found["calls"]
    took = f"{found['rounds']} rounds, {found['seconds']:.0f} s"
    say(f"life {life!r}: {calls} durable calls {ways}: {len(wrong)} corrupt or lost ({took})")
    assert not wrong, "\n".join(wrong[:5])
    assert calls > 100
    assert {"create", "write", "fsync", "rename", "mkdir", "unlink", "utime"} <= {*found["kinds"]}


# ---- a disk that is really full

SWEEP = """\
name: toy
trainer: {function: "full_disk:train"}
base: {letters: %d, epochs: 3}
axes: {seed: [0]}
metrics: {loss: {from: loss, goal: min, format: ".2f"}}
profiles: {quick: {}}
tables: {main: {rows: seed, values: [loss], over: [], write: [md]}}
"""
TRAINER = """\
import os
from trainers import checkpoint

def train(config, run):
    folder = run.folder / "checkpoints"
    state, _ = checkpoint.load(folder, "me")
    for epoch in range(state["epoch"] + 1 if state else 1, config["epochs"] + 1):
        yield {"cost/updates": epoch, "loss": 1 / epoch}
        kept = {"epoch": epoch, "letters": "x" * config["letters"] * epoch}
        checkpoint.save(folder, epoch, kept, "me")
"""
# Runs a command line with files of at most so many bytes, without the signal that ends it.
LIMITED = """\
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
sys.argv[0] = "sweeper"
runpy.run_module("sweeper", run_name="__main__")
"""


class Desk:
    """A sweep file, a trainer, and the environment of a command line beside them."""

    def __init__(self, folder: Path, letters: int):
        self.folder, self.store = folder, folder / "runs"
        (folder / "toy.yaml").write_text(SWEEP % letters)
        (folder / "full_disk.py").write_text(TRAINER)
        paths = [str(HERE.parents[1]), str(folder)]
        self.env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            **NOBODY,
        }
        for name in ("SWEEPER_STORE", "SWEEPER_DATA"):
            self.env.pop(name, None)

    def run(self, *retry: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
        start = ["-m", "sweeper"] if limit is None else ["-c", LIMITED, str(limit)]
        return self.call(sys.executable, *start, *self.words(*retry))

    def words(self, *retry: str) -> list[str]:
        store = ["--store", str(self.store)]
        return ["run", "toy.yaml", "--dispatch", "inline", *store, *retry]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )

    def checkpoints(self) -> Path:
        (id,) = Folder(self.store).ids()
        return Folder(self.store).path(id) / "checkpoints"


@pytest.mark.slow
@pytest.mark.fault("B1")
def test_a_checkpoint_for_which_there_is_no_room_fails_its_trial_and_the_last_one_is_whole(
    tmp_path,
):
    """EFBIG: the checkpoints of the first two epochs fit, of 30,000 and 60,000 letters."""
    desk = Desk(tmp_path, 30_000)
    said = desk.run(limit=70_000)
    assert said.returncode == 1, said.stderr
    assert "Traceback" not in said.stderr
    path = desk.checkpoints() / "epoch-000003.checkpoint"
    assert f"cannot write the checkpoint {path} (91," in said.stdout + said.stderr
    assert "File too large" in said.stdout + said.stderr
    names = sorted(it.name for it in desk.checkpoints().iterdir())
    assert names == ["epoch-000001.checkpoint", "epoch-000002.checkpoint"]
    state, notes = checkpoint.load(desk.checkpoints(), "me")
    assert (state["epoch"], notes) == (2, [])
    again = desk.run("--retry", "failed")
    assert again.returncode == 0, again.stderr
    (id,) = Folder(desk.store).ids()
    assert [(int(it.cost), it.attempt) for it in Folder(desk.store).history(id)] == [
        (1, 1),
        (2, 1),
        (3, 2),
    ]


@pytest.mark.slow
@pytest.mark.fault("B2")
def test_a_record_for_which_there_is_no_room_ends_the_run_with_its_path(tmp_path):
    desk = Desk(tmp_path, 1)
    said = desk.run(limit=100)
    assert said.returncode == 3, said.stderr
    assert "Traceback" not in said.stderr
    assert f"cannot write {desk.store}" in said.stderr.replace("cannot use", "cannot write")
    assert "File too large" in said.stderr
    again = desk.run()
    assert again.returncode == 0, again.stderr


def with_a_small_disk(desk: Desk, script: str) -> subprocess.CompletedProcess[str]:
    """A script of the shell where the store is a file system of its own; skips where that may
    not be made."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    desk.store.mkdir()
    mount = f"mount -t tmpfs -o size=1m none {desk.store}"
    tried = desk.call("unshare", "-rm", "sh", "-c", mount)
    if tried.returncode:
        pytest.skip(f"needs to mount a tmpfs in a namespace of its own: {tried.stderr.strip()}")
    return desk.call("unshare", "-rm", "sh", "-c", f"{mount} && {script}")


@pytest.mark.slow
@pytest.mark.fault("B1", "B2")
@pytest.mark.parametrize("full", [False, True], ids=["at a checkpoint", "before the run"])
def test_a_file_system_that_is_full(tmp_path, full):
    """ENOSPC, on 1 MB: the second checkpoint does not fit, of 800,000 letters; or nothing does."""
    desk = Desk(tmp_path, 400_000)
    run = f"{sys.executable} -m sweeper {' '.join(desk.words())}"
    fill = f"head -c 2m /dev/zero > {desk.store}/filler 2>/dev/null;" if full else ""
    look = f"cat {desk.store}/trials/*/log.txt; ls {desk.store}/trials/*/checkpoints"
    said = with_a_small_disk(desk, f"{fill} {run}; echo exit $?; {look}")
    printed, _, left = said.stdout.partition("exit ")
    assert "Traceback" not in printed + said.stderr
    if full:
        assert left.startswith("3")
        assert str(desk.store) in said.stderr
        assert "No space left on device" in said.stderr
        return
    assert left.startswith("1")
    log, _, names = left.rpartition("No space left on device\n")
    assert "epoch-000002.checkpoint (801," in log
    assert names.split() == ["epoch-000001.checkpoint"]


@pytest.mark.slow
@pytest.mark.fault("B17")
def test_a_store_that_may_only_be_read(tmp_path):
    desk = Desk(tmp_path, 1)
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    desk.store.mkdir()
    mount = f"mount --bind {desk.store} {desk.store} && mount -o remount,ro,bind {desk.store}"
    tried = desk.call("unshare", "-rm", "sh", "-c", mount)
    if tried.returncode:
        pytest.skip(f"needs to mount in a namespace of its own: {tried.stderr.strip()}")
    words = f"{sys.executable} -m sweeper {' '.join(desk.words())}"
    said = desk.call("unshare", "-rm", "sh", "-c", f"{mount} && {words}")
    assert said.returncode == 3, said.stderr
    assert "Traceback" not in said.stderr
    assert str(desk.store) in said.stderr
    assert "Read-only file system" in said.stderr
    assert not any(desk.store.iterdir())


@pytest.mark.slow
@pytest.mark.fault("B17")
def test_a_store_that_is_a_file(tmp_path):
    desk = Desk(tmp_path, 1)
    desk.store.write_text("")
    said = desk.run()
    assert said.returncode in (2, 3), said.stderr
    assert "Traceback" not in said.stderr
    assert str(desk.store) in said.stderr
