"""One sweep and two commands that would train it: one does, and the other is told who. Two
sweeps that need one trial: it is trained once."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from terminal import NOBODY, ROOT, SECONDS, Terminal, said

from sweeper import cleaning, run
from sweeper.spec import read
from sweeper.track import lease, owner
from sweeper.track.lease import EXPIRY_SECONDS, LeaseHeld
from sweeper.track.sealed import seal

HERE = Path(__file__).parent

FILE = """\
name: %(name)s
trainer: {function: "toy_shared:waits_for_go"}
axes: {level: {low: {level: 1.0}, high: {level: 2.0}}, seed: [0, 1]}
metrics: {loss: {from: loss, goal: min, format: ".3f"}}
profiles: {quick: {}}
tables: {losses: {rows: level, values: [loss], over: seed, cell: "{mean}", write: [md]}}
"""


class Desk(Terminal):
    """With two sweeps of the same trials in it."""

    def __init__(self, folder: Path):
        self.go, self.calls = folder / "go", folder / "calls"
        told = {"TOY_GO": str(self.go), "TOY_CALLS": str(self.calls)}
        super().__init__(folder, HERE, **NOBODY, **told)
        for name in ("one", "other"):
            (folder / f"{name}.yaml").write_text(FILE % {"name": name})

    def run(self, name: str = "one", *more: str, before: str = "") -> subprocess.Popen[str]:
        return self.start("run", f"{name}.yaml", "--dispatch", "inline", *more, before=before)

    def began(self) -> Counter[str]:
        return self.noted("began")

    def noted(self, what: str) -> Counter[str]:
        """Trial -> how often."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return Counter(line.split()[1] for line in lines if line.startswith(what))

    @property
    def owner(self) -> Path:
        place = run.Place(store=(self.folder / "runs").resolve())
        return run.owner_path(read(str(self.folder / "one.yaml")), place)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk.opened(tmp_path) as made:
        yield made


def elsewhere(folder: Path, age: float) -> None:
    """An owner on another machine, silent for so many seconds."""
    held = owner.take(folder)
    path = lease.path_of(folder, held.attempt)
    path.write_bytes(seal(asdict(replace(held, place="elsewhere", host="far", pid=1))))
    os.utime(path, (time.time() - age,) * 2)


@pytest.mark.fault("B21")
def test_of_two_that_race_for_a_sweep_one_wins(
    tmp_path: Path, full: bool, say: Callable[[str], None]
) -> None:
    rounds = 5000 if full else 200
    won = race(tmp_path, str(rounds)).splitlines()
    assert len(won) == rounds
    assert set(won) == {"0", "1"}  # One number each; and both were first at times.
    broken, times = map(int, race(tmp_path, str(10 * rounds), "again").split())
    assert (broken, times > 0) == (0, True)
    say(f"B21: one winner in {rounds} of {rounds} races; two owners in 0 of {times} turns")


def race(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, HERE / "race.py", folder, *words],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=10 * SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.fault("B21")
def test_of_two_commands_at_once_one_trains_and_the_other_says_who(
    desk: Desk, full: bool, say: Callable[[str], None]
) -> None:
    rounds = 200 if full else 3
    for _ in range(rounds):
        shutil.rmtree(desk.folder / "runs", ignore_errors=True)
        desk.go.unlink(missing_ok=True)
        desk.calls.unlink(missing_ok=True)
        both = [desk.run(), desk.run()]
        desk.until(lambda both=both: any(one.poll() is not None for one in both))
        loser = next(one for one in both if one.poll() is not None)
        winner = next(one for one in both if one is not loser)
        code, out, err = said(loser)
        assert code == 3, err
        told = rf"one \(quick\) is being run by process {winner.pid} on \S+ since [\d :-]+; "
        assert re.search(told + "`sweeper status one.yaml` shows .*--join", err), err
        assert out == ""
        desk.go.touch()
        code, out, err = said(winner)
        assert code == 0, err
        assert "1.500" in out
        assert "2.500" in out
        assert set(desk.began().values()) == {1}
    say(f"B21: {rounds} of {rounds} pairs of commands had one winner, the other exit 3")


@pytest.mark.fault("B21")
def test_who_owns_a_sweep_is_told_and_tables_can_be_had_all_the_same(desk: Desk) -> None:
    held = owner.take(desk.owner)
    for words in (
        ("run", "one.yaml", "--dispatch", "inline"),
        ("plan", "one.yaml", "--probe", "--dispatch", "inline"),
    ):
        code, _, err = desk.type(*words)
        assert code == 3, err
        assert f"is being run by process {os.getpid()} on " in err
    code, out, _ = desk.type("status", "one.yaml")
    assert (code, f"being run by process {os.getpid()} on " in out) == (0, True)
    assert json.loads(desk.type("status", "one.yaml", "--json")[1])["owner"]["pid"] == os.getpid()
    assert desk.type("plan", "one.yaml")[0] == 0
    desk.go.touch()
    assert said(desk.run("one", "--join"))[0] == 0  # Beside it.
    code, out, _ = said(desk.run())  # Nothing is left to train.
    assert (code, "1.500" in out) == (0, True)
    lease.release(desk.owner, held)
    assert "being run" not in desk.type("status", "one.yaml")[1]


@pytest.mark.fault("B21", "A1")
def test_a_dead_owner_is_taken_over_and_leaves_nothing(desk: Desk) -> None:
    for _ in range(3):
        process = desk.run()
        before = sum(desk.began().values())
        desk.until(lambda before=before: sum(desk.began().values()) > before)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    desk.go.touch()
    code, out, err = said(desk.run())
    assert (code, "1.500" in out) == (0, True), err
    assert [path.name for path in desk.owner.iterdir()] == ["lease-4.json"]
    assert owner.live(desk.owner) is None


@pytest.mark.fault("B21")
def test_an_owner_elsewhere_is_taken_over_once_it_is_silent(tmp_path: Path) -> None:
    folder = tmp_path / "x.owner"
    elsewhere(folder, EXPIRY_SECONDS / 2)
    with pytest.raises(LeaseHeld, match="process 1 on far"):
        owner.take(folder)
    shutil.rmtree(folder)
    elsewhere(folder, EXPIRY_SECONDS * 2)
    assert owner.take(folder).attempt == 2


@pytest.mark.fault("B21")
def test_who_is_refused_for_another_machine_is_told_when_to_come_again(desk: Desk) -> None:
    process = desk.run()
    desk.until(desk.began)
    code, _, err = said(desk.run())
    assert (code, "in a minute" in err) == (3, False), err
    process.send_signal(signal.SIGKILL)
    process.communicate()
    elsewhere(desk.owner, 1.0)
    code, _, err = said(desk.run())
    assert code == 3, err
    assert "is being run by process 1 on far" in err
    assert "if it has died, this line works in a minute" in err


@pytest.mark.fault("B21")
def test_one_that_joined_and_was_tidied_away_as_it_slept_is_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "RENEWAL_SECONDS", 0.05)
    folder, heard = tmp_path / "x.owner", []
    with owner.joining(folder, heard.append):
        (slept,) = owner.members(folder)
        shutil.rmtree(slept.folder)
        deadline = time.monotonic() + SECONDS
        while not (there := owner.members(folder)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        owner.ask(there[0])
        while not heard:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert owner.members(folder) == []
    assert not any(folder.iterdir())


@pytest.mark.fault("B21")
def test_an_owner_in_the_place_of_one_that_was_tidied_away_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the same number: what is anew begins with the first."""
    monkeypatch.setattr(owner, "RENEWAL_SECONDS", 0.05)
    folder, lost = tmp_path / "x.owner", []
    with owner.owning(folder, lost.append):
        held = lease.read(folder, 1)
        other = seal(asdict(replace(held, place="elsewhere", host="far", pid=7)))
        draft = tmp_path / "draft"
        draft.write_bytes(other)
        os.replace(draft, lease.path_of(folder, 1))
        deadline = time.monotonic() + SECONDS
        while not lost:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert [it.host for it in lost] == ["far"]
    assert lease.path_of(folder, 1).lstat().st_mtime != 0


@pytest.mark.fault("B21")
def test_an_owner_that_was_taken_over_says_so_and_spoils_nothing(desk: Desk) -> None:
    soon = "from sweeper.track import owner; owner.RENEWAL_SECONDS = 0.05"
    process = desk.run(before=soon)
    desk.until(desk.began)
    (path,) = desk.owner.iterdir()
    held = lease.read(desk.owner, 1)
    lease.create(
        lease.path_of(desk.owner, 2), seal(asdict(replace(held, attempt=2, host="far", pid=7)))
    )
    path.unlink()
    other = desk.run("one", "--join")
    time.sleep(0.2)
    desk.go.touch()
    for one in (process, other):
        code, out, err = said(one)
        assert (code, "1.500" in out) == (0, True), err
        assert ("process 7 on far has taken this sweep over" in err) == (one is process)
    assert set(desk.began().values()) == {1}
    assert lease.path_of(desk.owner, 2).exists()


@pytest.mark.slow
@pytest.mark.fault("B21")
def test_two_that_join_share_the_trials(desk: Desk) -> None:
    both = [desk.run("one", "--join"), desk.run("one", "--join", "--where", "level == 'high'")]
    desk.until(lambda: len(desk.began()) == 2)
    desk.go.touch()
    for one in both:
        code, _, err = said(one)
        assert code == 0, err
    assert sorted(desk.began().values()) == [1, 1, 1, 1]


@pytest.mark.fault("B22")
def test_two_sweeps_that_need_the_same_trials_train_each_once(desk: Desk) -> None:
    both = [desk.run("one"), desk.run("other")]
    # One is at the first trial, which both need, and the other waits for it.
    desk.until(lambda: desk.began() and (desk.folder / "runs/sweeps").exists())
    desk.until(lambda: len([*desk.folder.glob("runs/sweeps/*.owner/lease-1.json")]) == 2)
    desk.go.touch()
    tables = []
    for one in both:
        code, out, err = said(one)
        assert code == 0, err
        tables.append([line for line in out.splitlines() if ".500" in line])
    assert tables[0] == tables[1]
    assert len(tables[0]) == 2
    assert sorted(desk.began().values()) == [1, 1, 1, 1]
    assert sorted(desk.noted("ended").values()) == [1, 1, 1, 1]


def test_gc_leaves_an_owner_alone_and_takes_one_without_a_design(desk: Desk) -> None:
    desk.go.touch()
    assert said(desk.run())[0] == 0
    root = (desk.folder / "runs").resolve()

    def left() -> list[Path]:
        old, _ = cleaning.waste(root, None)
        found = [one.path for one in old if one.kind == "leftovers"]
        return [path for path in found if path.is_relative_to(root)]  # /tmp is everybody's.

    for path in (desk.owner, *desk.owner.iterdir()):
        os.utime(path, (time.time() - 2 * cleaning.QUIET_SECONDS,) * 2)
    assert left() == []
    (design,) = root.glob("sweeps/*.json")
    design.unlink()
    assert left() == [desk.owner]
    held = owner.take(desk.owner)
    assert left() == []
    lease.release(desk.owner, held)
