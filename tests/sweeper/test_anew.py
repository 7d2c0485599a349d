"""What is made anew replaces what was there once there is something in its place, and not before;
nothing of other code is continued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper import provenance
from sweeper.plan import plan
from sweeper.record import Record
from sweeper.track import folder, journal
from sweeper.track.folder import Folder
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings, bury, execute

TOYS = Path(__file__).parent
ROOT = TOYS.parents[1]

# Keeps a checkpoint with the version that began it; says in its result which one that was.
TRAINER = """\
VERSION = {version}

def train(config, run):
    kept = run.folder / "checkpoints" / "state"
    kept.parent.mkdir(exist_ok=True)
    by, done = map(int, kept.read_text().split()) if kept.exists() else (VERSION, 0)
    for update in range(done + 1, 5):
        if update > config.get("breaks_at", 5) and VERSION == 2:
            raise ValueError("it broke")
        kept.write_text(f"{{by}} {{update}}")
        yield {{"cost/updates": update, "by": by}}
    file = run.folder / "artifacts" / "by.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text(str(by))
    yield {{"cost/updates": 4, "by": by, "samples": config.get("samples", 1)}}
"""


class Workshop:
    """A store, and a trainer that is edited."""

    def __init__(self, root: Path):
        self.root = root
        self.here = Surroundings(store=root / "runs")
        self.anew = replace(self.here, retry=frozenset({"stale"}))
        self.store = Folder(self.here.store)

    def write(self, version: int) -> None:
        (self.root / "versions.py").write_text(TRAINER.format(version=version))
        sys.modules.pop("versions", None)
        provenance.code_digest.cache_clear()

    def state(self, of: Trial) -> str:
        known = plan([of], self.store.find([of]), provenance.code_digest)
        return known.states[of.key]

    def run(
        self, of: Trial, surroundings: Surroundings, *, measurements: int = 99
    ) -> Record | None:
        """Stopped after so many."""
        left = iter(range(measurements))
        return execute(of, surroundings, stopped=lambda: next(left, None) is None)


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Workshop:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Two versions within a second.
    yield Workshop(tmp_path)
    sys.modules.pop("versions", None)


def toy(samples: int = 1, **config: object) -> Trial:
    return Trial(
        trainer=TrainerRef(function="versions:train"),
        config=config,
        evaluation={"samples": samples},
        seed=1,
    )


def made_by(shop: Workshop, of: Trial) -> tuple[float, bytes]:
    """The version that made the trial's number, and the one that made its file."""
    return shop.store.find([of])[of.key].result["by"], shop.store.artifact(of.id, "by.txt")


def test_a_number_stays_until_there_is_another_in_its_place(shop):
    one = toy()
    shop.write(1)
    first = shop.run(one, shop.here)
    shop.write(2)
    assert shop.state(one) == "stale"
    assert shop.run(one, shop.here) == first  # It was not asked for.
    assert shop.run(one, shop.anew, measurements=3) is None  # Stopped: as if nothing had been.
    assert (shop.state(one), made_by(shop, one)) == ("stale", (1, b"1"))
    assert [m.cost for m in shop.store.history(one.id, one.evaluation_id)] == [1, 2, 3, 4, 4]
    second = shop.run(one, shop.anew)
    assert (shop.state(one), made_by(shop, one)) == ("done", (2, b"2"))
    # It went on from its own checkpoint, and only what it made itself counts.
    costs = [e["cost"] for e in shop.store.entries(one.id) if e["kind"] == "measure"]
    assert costs == [1, 2, 3, 4, 4, 1, 2, 3, 4, 4]
    assert second.seconds == pytest.approx(shop.store.totals(one.id)["now"]["seconds"], abs=0.1)
    assert shop.store.totals(one.id)["updates"] == 8
    assert not (shop.store.path(one.id) / "previous").exists()


def test_what_fails_anew_leaves_what_there_was(shop):
    one = toy(breaks_at=2)
    shop.write(1)
    shop.run(one, shop.here)
    shop.write(2)
    lost = shop.run(one, shop.anew)
    assert (lost.state, lost.error) == ("failed", "ValueError: it broke")
    assert (shop.state(one), made_by(shop, one)) == ("stale", (1, b"1"))
    assert bury(one, shop.anew, "the worker died").state == "failed"
    assert (shop.state(one), made_by(shop, one)) == ("stale", (1, b"1"))


def test_other_code_again_continues_nothing_of_the_code_in_between(shop):
    one = toy()
    for version in (1, 2, 3):
        shop.write(version)
        shop.run(one, shop.anew, measurements=99 if version == 1 else 3)
    assert made_by(shop, one) == (1, b"1")
    assert shop.run(one, shop.anew).result["by"] == 3
    shop.write(1)
    assert shop.state(one) == "stale"


def test_whoever_asks_for_nothing_anew_scores_what_there_was(shop):
    """The checkpoint and the history are those of the number that stands."""
    one, many = toy(), toy(samples=5)
    shop.write(1)
    shop.run(one, shop.here)
    shop.write(2)
    shop.run(one, shop.anew, measurements=2)
    scored = shop.run(many, shop.here)
    assert (scored.result["by"], scored.result["samples"]) == (1, 5)
    assert shop.state(many) == "stale"
    costs = [m.cost for m in shop.store.history(many.id, many.evaluation_id)]
    assert costs == [1, 2, 3, 4]
    assert made_by(shop, one) == (1, b"1")
    # And begun anew once more it begins from nothing.
    assert shop.run(one, shop.anew).result["by"] == 2


def test_two_evaluations_are_trained_anew_once(shop):
    one, many = toy(), toy(samples=5)
    for version in (1, 2):
        shop.write(version)
        for trial in (one, many):
            shop.run(trial, shop.anew)
    assert {shop.state(one), shop.state(many)} == {"done"}
    costs = [e["cost"] for e in shop.store.entries(one.id) if e["kind"] == "measure"]
    assert costs == [1, 2, 3, 4, 4, 4] * 2


def test_what_diverged_anew_is_begun_again(shop):
    one = toy()
    shop.write(1)
    shop.run(one, shop.here)
    shop.write(2)
    shop.run(one, shop.anew, measurements=3)
    attempt = shop.store.start(one)
    attempt.finish(Record(trial_id=one.id, evaluation_id=one.evaluation_id, state="diverged"))
    shop.run(one, shop.anew)
    costs = [e["cost"] for e in shop.store.entries(one.id) if e["kind"] == "measure"]
    assert costs[5:] == [1, 2, 3, 1, 2, 3, 4, 4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("call", range(1, 9))
@pytest.mark.parametrize("function", ["rename", "replace"])
def test_a_kill_at_any_move_of_a_file_loses_nothing(shop, function, call):
    """Of the moves that begin anew, go back, and conclude."""
    one, many = toy(), toy(samples=5)
    shop.write(1)
    shop.run(one, shop.here)
    shop.write(2)
    for trial, surroundings, measurements in (
        (one, shop.anew, 3),
        (many, shop.here, 99),
        (one, shop.anew, 99),
    ):
        child = os.fork()
        if child == 0:
            calls = iter(range(1, call))
            real = getattr(os, function)

            def dies(*paths, calls=calls, real=real):
                if next(calls, None) is None:
                    os._exit(9)
                return real(*paths)

            setattr(folder.os, function, dies)
            try:
                shop.run(trial, surroundings, measurements=measurements)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert shop.store.find([one])[one.key].result["by"] in (1, 2)
        found = shop.store.find([one])[one.key]
        if found.result["by"] == 1:
            assert found.state == "done"
    again = shop.run(many, replace(shop.here, retry=frozenset()))
    assert again.result["by"] in (1, 2)
    last = shop.run(one, shop.anew)
    assert (last.state, last.result["by"]) == ("done", 2)
    assert made_by(shop, one) == (2, b"2")
    assert not journal.begun_anew(shop.store.entries(one.id))


# --- as a person sees it -------------------------------------------------------------------

SWEEP = """\
name: toy
trainer: {function: "mine:paced"}
base: {steps: 10, pause: %s}
axes:
  seed: [0, 1, 2, 3]
metrics:
  loss: {from: loss, goal: min, format: ".3f"}
profiles: {quick: {}}
tables:
  losses: {rows: seed, values: [loss]}
"""


def sweeper(desk: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sweeper", arguments[0], "toy.yaml", *arguments[1:]],
        cwd=desk,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(desk),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{desk}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(desk: Path, *arguments: str) -> tuple[int, str]:
    process = sweeper(desk, *arguments)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in out + err, out + err
    return process.returncode, out + err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_makes_anew_and_ends_early_leaves_every_number(tmp_path, number):
    (tmp_path / "toy.yaml").write_text(SWEEP % 0)
    source = (TOYS / "toy_trainers.py").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    inline = ("--dispatch", "inline")
    assert said(tmp_path, "run", *inline)[0] == 0
    (tmp_path / "mine.py").write_text(source + "# edited\n", encoding="utf-8")
    slow = source.replace('config.get("pause", 0.0)', "0.3") + "# edited\n"
    (tmp_path / "mine.py").write_text(slow, encoding="utf-8")
    process = sweeper(tmp_path, "run", *inline, "--retry", "stale")
    journals = list(tmp_path.glob("runs/trials/*/journal.jsonl"))
    deadline = time.monotonic() + 60
    while sum(j.read_text().count('"measure"') for j in journals) < 4 * 11 + 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    status = said(tmp_path, "status")[1]
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert "running  seed 0: " in status
    assert process.returncode == (75 if number == signal.SIGINT else -signal.SIGKILL), err
    code, told = said(tmp_path, "plan")
    assert (code, "4 trials, 4 stale; nothing left to do" in told) == (0, True), told
    assert said(tmp_path, "table")[1].count("0.500") == 4
