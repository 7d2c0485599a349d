"""Records that are damaged, of another version, or links to somewhere else: never believed,
said with what repairs them, and nothing outside the store is read or written."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from terminal import NOBODY

from sweeper.errors import CorruptRecord, SweeperError
from sweeper.record import Record
from sweeper.track import journal, lease
from sweeper.track.folder import Folder
from sweeper.track.sealed import seal, unseal
from sweeper.trial import TrainerRef, Trial

HERE = Path(__file__).parent
STORES = HERE / "stores"

# ---- every bit of every file


def trial(seed: int) -> Trial:
    config = {"name": "Max", "lr": 0.01}
    return Trial(trainer=TrainerRef(function="toy:train"), config=config, seed=seed)


def laid_down(store: Folder, of: Trial, *, done: bool) -> Record | None:
    attempt = store.start(of, "code")
    for update in (1, 2, 3):
        attempt.measure(update, {"cost/updates": update, "loss": 1 / update})
    (attempt.folder / "artifacts").mkdir()
    (attempt.folder / "artifacts" / "said.txt").write_text("said")
    if not done:
        attempt.abandon("stopped")
        return None
    result = {"cost/updates": 3.0, "loss": 1 / 3}
    made = Record(trial_id=of.id, evaluation_id=of.evaluation_id, state="done", result=result)
    return attempt.finish(made)


def seen(store: Folder, of: Trial) -> list[object]:
    """All that a store says of a trial; of each thing what it is, or that it cannot be believed."""
    looks = (
        lambda: store.record(of),
        lambda: store.described(of.id),
        lambda: store.course(of),
        lambda: store.artifacts(of.id),
        lambda: store.artifact(of.id, "said.txt"),
    )
    found = []
    for look in looks:
        try:
            found.append(look())
        except CorruptRecord as fault:
            named = str(store.path(of.id)) in str(fault)
            found.append("corrupt" if named else "corrupt, it is not said where")
    return found


@pytest.mark.fault("B13")
@pytest.mark.parametrize("done", [True, False], ids=["done", "stopped"])
def test_whichever_bit_of_whichever_file_is_flipped_it_is_not_believed(
    tmp_path, done, full, fault_seed, say
):
    store, of = Folder(tmp_path), trial(0)
    laid_down(store, of, done=done)
    folder, whole = store.path(of.id), seen(store, of)
    points = store.history(of.id)
    draw, counts = random.Random(fault_seed), {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size):
        content = path.read_bytes()
        bits = range(8 * len(content))
        chosen = bits if full else draw.sample(bits, min(300, len(bits)))
        for bit in chosen:
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            for was, now in zip(whole, seen(store, of), strict=True):
                cut_at_its_end = isinstance(now, tuple) and now == points[: len(now)] and not done
                assert now in (was, "corrupt") or cut_at_its_end, (path, bit, now)
            lease.live(folder)  # Says what it says, and raises nothing.
        path.write_bytes(content)
        counts[path.name] = len(chosen)
    assert seen(store, of) == whole
    said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    say(f"flipped bits (seed {fault_seed}): {said}: none believed")


@pytest.mark.fault("B13")
@pytest.mark.parametrize("name", ["journal.jsonl", "trial.json"])
def test_what_an_attempt_begins_with_is_looked_at_bit_by_bit(tmp_path, name, fault_seed):
    """A trial that is to go on is not begun on what was changed: the error names the file."""
    store, of = Folder(tmp_path), trial(0)
    laid_down(store, of, done=False)
    path = store.path(of.id) / name
    content = path.read_bytes()
    last_line = content.rstrip(b"\n").rfind(b"\n") if name == "journal.jsonl" else len(content)
    for bit in random.Random(fault_seed).sample(range(8 * last_line), 200):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        assert store.find([of])[of.key].state == "corrupt", bit
        with pytest.raises(CorruptRecord, match=name.replace(".", r"\.")):
            store.start(of)


@pytest.mark.fault("B14")
def test_where_the_journal_was_deleted_the_result_stands(tmp_path):
    store, of = Folder(tmp_path), trial(0)
    record = laid_down(store, of, done=True)
    (store.path(of.id) / "journal.jsonl").unlink()
    assert store.find([of]) == {of.key: record}
    assert store.artifact(of.id, "said.txt") == b"said"
    attempt = store.start(replace(of, evaluation={"samples": 5}))
    assert attempt.number == 2  # By the leases: no number is given out twice.
    attempt.abandon("over")
    assert store.find([of]) == {of.key: record}


@pytest.mark.fault("B14", "B18")
def test_a_checkpoint_whose_journal_is_gone_is_not_continued(tmp_path):
    """Its course would begin at the third update, and a table at a cost read it as if it had
    had no others."""
    store, of = Folder(tmp_path), trial(0)
    laid_down(store, of, done=False)
    folder = store.path(of.id)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "update").write_text("3")
    (folder / "journal.jsonl").unlink()
    attempt = store.start(of)
    attempt.arrange(())
    assert not (folder / "checkpoints").exists()
    attempt.abandon("over")


@pytest.mark.fault("B15")
def test_what_a_newer_version_wrote_is_refused_with_its_version_and_not_taken_for_damage(tmp_path):
    store, of = Folder(tmp_path), trial(0)
    laid_down(store, of, done=True)
    path = store.path(of.id) / f"result-{of.evaluation_id}.json"
    fields = unseal(path.read_bytes().rstrip())
    path.write_bytes(seal(fields | {"format": 99, "new": {"field": 1}}))
    assert "newer version (record format 99)" in store.find([of])[of.key].error
    assert list(store.damage(of.id)) == []


# ---- the command line

SWEEP = """\
name: toy
trainer: {function: "recorded:train"}
base: {updates: 2}
axes: {seed: [0]}
metrics: {loss: {from: loss, goal: min, format: ".2f"}}
profiles: {quick: {}}
tables: {main: {rows: seed, values: [loss], over: [], write: [md]}}
"""
TRAINER = """\
def train(config, run):
    for update in range(1, config["updates"] + 1):
        if update == 2 and (run.folder.parents[2] / "stop").exists():
            raise KeyboardInterrupt
        yield {"cost/updates": update, "loss": 1 / update}
"""


def sweeper(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = [str(HERE.parents[1]), str(folder)]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        **NOBODY,
    }
    for name in ("SWEEPER_STORE", "SWEEPER_DATA"):
        env.pop(name, None)
    said = subprocess.run(
        [sys.executable, "-m", "sweeper", *words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in said.stdout + said.stderr, said.stderr
    return said


@pytest.mark.slow
@pytest.mark.fault("B13")
def test_a_run_ends_with_6_and_says_what_repairs_it_which_does(tmp_path):
    (tmp_path / "toy.yaml").write_text(SWEEP)
    (tmp_path / "recorded.py").write_text(TRAINER)
    run = ("run", "toy.yaml", "--dispatch", "inline")
    assert sweeper(tmp_path, *run).returncode == 0
    store = Folder(tmp_path / "runs")
    (id,) = store.ids()
    (result,) = store.path(id).glob("result-*.json")
    table = (tmp_path / "runs/tables/toy.quick/main.md").read_bytes()
    for path in (result, store.path(id) / "journal.jsonl"):
        if path != result:
            result.unlink()  # Else nobody has a look at the others.
        content = path.read_bytes()
        path.write_bytes(content.replace(b"2", b"3", 1).replace(b"loss", b"lass", 1))
        said = sweeper(tmp_path, *run)
        assert said.returncode == 6, (path.name, said.stderr)
        assert path.name in said.stderr
        assert "sweeper gc --corrupt --delete" in said.stderr
        assert sweeper(tmp_path, "gc", "--corrupt", "--delete", "--yes").returncode == 0
        said = sweeper(tmp_path, *run)
        assert said.returncode == 0, said.stderr
        assert (tmp_path / "runs/tables/toy.quick/main.md").read_bytes() == table
        (result,) = store.path(id).glob("result-*.json")


# ---- a store of an older version


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    """A copy of the store of format 1, with its sweep file and trainer beside it."""
    monkeypatch.syspath_prepend(str(STORES))
    import format_1

    shutil.copytree(STORES / "format-1", tmp_path / "runs")
    shutil.copy(STORES / "format_1.py", tmp_path)
    (tmp_path / "old.yaml").write_text(format_1.SWEEP)
    return tmp_path


@pytest.mark.slow
@pytest.mark.fault("B16")
def test_a_store_of_format_1_is_read_and_goes_on(old):
    store = Folder(old / "runs")
    points = {
        store.described(id)["config"]["fails_at"]: [
            (it.cost, it.values["loss"]) for it in store.history(id)
        ]
        for id in store.ids()
    }
    third = 5 + 1 / 3
    assert points == {
        0: [(1, 6.0), (2, 5.5), (3, third), (4, 5.25), (4, 5.25)],
        3: [(1, 6.0), (2, 5.5)],
        -1: [(1, 6.0), (2, 5.5), (3, third)],
    }
    said = sweeper(old, "table", "old.yaml", "main")
    rows = {words[0]: words[1:] for line in said.stdout.splitlines() if (words := line.split())}
    assert rows["done"] == ["5.250"]
    assert rows["failed"][0] == "failed"
    assert "no third update" in said.stdout
    assert [list(store.damage(id)) for id in store.ids()] == [[]] * 3

    said = sweeper(old, "run", "old.yaml", "--dispatch", "inline")
    assert said.returncode == 1, said.stderr  # One has failed, and is not tried again.
    (stopped,) = (id for id in store.ids() if store.described(id)["config"]["fails_at"] == -1)
    course = [(it.cost, it.attempt) for it in store.history(stopped)]
    assert course == [(1, 1), (2, 1), (3, 2), (4, 2), (4, 2)]  # From its checkpoint.
    (done,) = (id for id in store.ids() if store.described(id)["config"]["fails_at"] == 0)
    assert journal.last(store.path(done) / "journal.jsonl")["attempt"] == 1  # Not run again.
    table = (old / "runs/tables/old.quick/main.md").read_text()
    assert table.count("5.250") == 2


def test_nothing_of_a_machine_is_in_it():
    for path in (STORES / "format-1").rglob("*.json*"):
        for line in path.read_bytes().splitlines():
            if path.name.startswith(("lease", "journal", "result")):
                said = json.dumps(unseal(line))
                assert "/home" not in said
                assert "/root" not in said
                assert unseal(line).get("host", "host") == "host"


# ---- planted links

PLANTED = ("result", "trial.json", "journal.jsonl", "artifacts.json", "log.txt", "lease-1.json")
FOLDERS = ("artifacts", "checkpoints", "previous")


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.fault("B24")
@pytest.mark.parametrize("name", [*PLANTED, *FOLDERS])
def test_a_link_to_another_trials_files_is_neither_read_nor_written(tmp_path, name):
    """What it leads to is whole and sealed, and would be believed."""
    store, of, outside = Folder(tmp_path / "runs"), trial(0), Folder(tmp_path / "outside")
    laid_down(outside, of, done=True)
    elsewhere = outside.path(of.id)
    for folder in FOLDERS:
        (elsewhere / folder).mkdir(exist_ok=True)
    (elsewhere / "log.txt").write_text("theirs")
    name = f"result-{of.evaluation_id}.json" if name == "result" else name
    laid_down(store, of, done=False)
    path = store.path(of.id) / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(elsewhere / name)
    before = contents(tmp_path / "outside")
    found = store.find([of]).get(of.key)
    assert found is None or found.state in ("corrupt", "running"), found
    if name == "artifacts.json":
        with pytest.raises(CorruptRecord, match="is a link"):
            store.artifacts(of.id)
    if name in ("trial.json", "journal.jsonl", "log.txt", *FOLDERS):
        with pytest.raises(CorruptRecord, match=f"{path}: it is a link, which is not followed"):
            store.start(of)
    else:
        attempt = store.start(of)
        attempt.measure(1, {"loss": 1.0})
        result = {"cost/updates": 1.0, "loss": 1.0}
        made = Record(trial_id=of.id, evaluation_id=of.evaluation_id, state="done", result=result)
        attempt.finish(made)
        assert store.record(of).result["loss"] == 1.0
        assert name == "lease-1.json" or not path.is_symlink()
    assert contents(tmp_path / "outside") == before
    if name != "lease-1.json" and path.is_symlink():
        assert [it for it, _ in store.damage(of.id)] == [path]


@pytest.mark.fault("B24")
def test_a_log_that_is_a_link_is_not_written(tmp_path):
    from sweeper.redaction import concealing

    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    (tmp_path / "log.txt").symlink_to(theirs)
    with pytest.raises(SweeperError, match=r"log\.txt"), concealing(tmp_path / "log.txt") as log:
        log.write("ours")
    assert theirs.read_text() == "theirs"


@pytest.mark.fault("B24")
def test_a_link_that_is_planted_while_a_trial_runs_is_replaced_and_not_followed(tmp_path):
    store, of = Folder(tmp_path / "runs"), trial(0)
    attempt = store.start(of)
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "secret").write_text("secret")
    names = (f"result-{of.evaluation_id}.json", "artifacts.json", "delivered.json")
    for name in names:
        (attempt.folder / name).symlink_to(theirs)
    (attempt.folder / "artifacts").symlink_to(tmp_path / "folder")
    attempt.measure(1, {"loss": 1.0})
    made = Record(trial_id=of.id, evaluation_id=of.evaluation_id, state="done", result={"x": 1.0})
    record = attempt.finish(made)
    assert store.find([of]) == {of.key: record}
    assert theirs.read_text() == "theirs"
    assert store.artifacts(of.id) == {}
