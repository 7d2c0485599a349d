"""Whether these tests have teeth: defects that are planted in a copy of the sources, one at a
time, and the tests that are to find each.

    pytest tests/reliability/test_planted.py --full

A defect is one replacement in one file. Each of them is looked up always, so that none goes
stale; they are planted where all is run in full numbers, and one always.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = (
    *("sweeper", "trainers", "tests", "sweeps"),
    *("pyproject.toml", "README.md", "constraints.txt"),
)
GOAL = 0.9  # of those that are planted


@dataclass(frozen=True, slots=True)
class Planted:
    """`old` becomes `new` in `file`; `tests` are what should find it."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    always: bool = False  # quick enough to be planted wherever these tests run


POWER = "tests/reliability/test_power.py::test_power_is_cut_after_any_operation"
RESUME = "tests/reliability/test_resume.py"
CHECKPOINTS = "tests/reliability/test_checkpoints.py"
TRACKING = (
    "tests/reliability/test_tracking.py::test_whatever_becomes_of_a_request_all_is_there_once"
)
ANY_BIT = (
    "tests/reliability/test_records.py::"
    "test_whichever_bit_of_whichever_file_is_flipped_it_is_not_believed"
)

WRITTEN = """\
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        sync_folder(path.parent)
"""
DEFECTS = (
    Planted(
        "the result is not fsynced",
        "sweeper/track/sealed.py",
        WRITTEN,
        WRITTEN.replace("            os.fsync(file.fileno())\n", ""),
        (POWER,),
    ),
    Planted(
        "the result is written in place, without a rename",
        "sweeper/track/sealed.py",
        "    draft = path.with_name(",
        "    path.unlink(missing_ok=True)\n    draft = path if True else path.with_name(",
        (POWER, "tests/reliability/test_disk.py"),
    ),
    Planted(
        "the folder is not fsynced",
        "sweeper/track/sealed.py",
        WRITTEN,
        WRITTEN.replace("        sync_folder(path.parent)\n", ""),
        (POWER,),
    ),
    Planted(
        "the result is written before the journal",
        "sweeper/track/folder.py",
        """\
            self._end(own, record.state, record.error, peaks)
            self._journal.sync()
            path = Path(result_path(self.folder, self.trial.key))
            if record.state == "done" or not is_done(path, self.trial.key):
                write_whole(path, seal(plain(written)) + b"\\n")
""",
        """\
            path = Path(result_path(self.folder, self.trial.key))
            if record.state == "done" or not is_done(path, self.trial.key):
                write_whole(path, seal(plain(written)) + b"\\n")
            self._end(own, record.state, record.error, peaks)
            self._journal.sync()
""",
        (POWER, "tests/reliability/test_disk.py"),
    ),
    Planted(
        "a torn tail is not repaired",
        "sweeper/track/journal.py",
        "                os.ftruncate(self._handle, sound)\n",
        "",
        ("tests/sweeper/test_journal.py",),
        always=True,
    ),
    Planted(
        "a line's checksum is ignored",
        "sweeper/track/sealed.py",
        """    if not mark or tail != checksum(body).encode() + b'"}':""",
        "    if not mark:",
        ("tests/sweeper/test_journal.py", ANY_BIT),
    ),
    Planted(
        "no previous checkpoint is kept",
        "trainers/checkpoint.py",
        "KEPT = 2\n",
        "KEPT = 1\n",
        ("tests/trainers/test_checkpoint.py", CHECKPOINTS),
    ),
    Planted(
        "a checkpoint's digest is not looked at",
        "trainers/checkpoint.py",
        "    return body if hashlib.sha256(body).hexdigest().encode() == digest else None\n",
        "    return body\n",
        ("tests/trainers/test_checkpoint.py", CHECKPOINTS),
    ),
    Planted(
        "the state of torch's generators is dropped",
        "trainers/training.py",
        'STATEFUL = ("model", "updates", "streams", "scheme", "rule")',
        'STATEFUL = ("model", "updates", "scheme", "rule")',
        (RESUME,),
    ),
    Planted(
        "numpy's generator is left as the last trial left it",
        "sweeper/worker.py",
        "    numpy.random.seed(seed % 2**32)\n",
        "",
        ("tests/sweeper/test_worker.py",),
    ),
    Planted(
        "Python's generator is left as the last trial left it",
        "sweeper/worker.py",
        "    random.seed(seed)\n",
        "",
        ("tests/sweeper/test_worker.py",),
    ),
    Planted(
        "the loader draws on from a generator that is not kept",
        "trainers/training.py",
        'generator=self.streams.apart("order", self.epoch))',
        'generator=self.__dict__.setdefault("loader", self.streams.apart("order", 0)))',
        (RESUME,),
    ),
    Planted(
        "the optimiser's state is dropped",
        "trainers/updates.py",
        '            optimiser.load_state_dict(state["optimisers"][half])\n',
        "            pass\n",
        (RESUME,),
    ),
    Planted(
        "the schedule's position is dropped",
        "trainers/updates.py",
        '        self.counts = dict(state["counts"])\n',
        "",
        (RESUME,),
    ),
    Planted(
        "the best value is dropped",
        "trainers/training.py",
        'self.finished, self.best = state["epoch"], state["finished"], state["best"]',
        'self.finished = state["epoch"], state["finished"]; '
        'self.best = {**state["best"], "loss": math.inf}',
        (RESUME,),
    ),
    Planted(
        "the count of bad epochs is dropped",
        "trainers/lr_rules.py",
        'self.worse, self.decays = state["worse"], state["decays"]',
        'self.worse, self.decays = 0, state["decays"]',
        (RESUME,),
    ),
    Planted(
        "whether training is aggressive is dropped",
        "trainers/schemes.py",
        'self.active, self.checks = bool(state["active"]), int(state["checks"])',
        'self.active, self.checks = True, int(state["checks"])',
        (RESUME,),
    ),
    Planted(
        "attempts are not fenced",
        "sweeper/track/lease.py",
        "        return path_of(folder, lease.attempt + 1).name in names_in(folder)\n",
        "        return False\n",
        ("tests/sweeper/test_lease.py", "tests/sweeper/test_folder.py"),
    ),
    Planted(
        "a lease never expires",
        "sweeper/track/lease.py",
        "    return file_system_time(folder) - renewed < EXPIRY_SECONDS\n",
        "    return True\n",
        ("tests/sweeper/test_lease.py", "tests/reliability/test_owner.py"),
    ),
    Planted(
        "a dead process's lease is held",
        "sweeper/track/lease.py",
        "        return birth(lease.pid) == lease.born\n",
        "        return True\n",
        ("tests/sweeper/test_lease.py",),
    ),
    Planted(
        "MLflow gives the points its own time",
        "sweeper/track/mlflow.py",
        "Metric(p.key, p.value, p.at_ms, p.step)",
        "Metric(p.key, p.value, int(time.time() * 1000), p.step)",
        ("tests/sweeper/test_mlflow_store.py", TRACKING),
    ),
    Planted(
        "a run is made in MLflow without a look for it",
        "sweeper/track/mlflow.py",
        """\
        run, sweeps = self._only(names(parcel.trial))
        if run is None:
            tags""",
        """\
        run, sweeps = None, {}
        if run is None:
            tags""",
        ("tests/sweeper/test_mlflow_store.py", TRACKING),
    ),
    Planted(
        "a failed trial is taken for one that is done",
        "sweeper/track/folder.py",
        """    return record is not None and record.state == "done"\n""",
        "    return record is not None\n",
        ("tests/sweeper/test_folder.py", "tests/reliability/test_process.py"),
    ),
    Planted(
        "what was sent to MLflow is marked as delivered before it is",
        "sweeper/track/courier.py",
        """\
    store.publish(trial, folder, origin)
    if digest is not None:
        where = f"{where} {trial.evaluation_id}"
        mark_delivered(folder.path(trial.id) / "delivered.json", where, digest)
""",
        """\
    if digest is not None:
        where = f"{where} {trial.evaluation_id}"
        mark_delivered(folder.path(trial.id) / "delivered.json", where, digest)
    store.publish(trial, folder, origin)
""",
        ("tests/sweeper/test_mlflow_store.py", "tests/reliability/test_tracking.py"),
    ),
    Planted(
        "secrets of the environment are not looked for",
        "sweeper/redaction.py",
        "\ndef conceal(text: str) -> str:\n",
        "\ndef conceal(text: str) -> str:\n    return text\n\n\ndef _off(text: str) -> str:\n",
        ("tests/reliability/test_secrets.py",),
    ),
)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.what)
def test_what_is_to_be_replaced_is_there_once(defect: Planted) -> None:
    assert (ROOT / defect.file).read_text(encoding="utf-8").count(defect.old) == 1
    assert defect.old != defect.new


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "runs", "*.egg-info")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def failing(copy: Path, tests: tuple[str, ...]) -> Iterator[str]:
    """Those of the tests, each run until its first failure, that fail."""
    for test in tests:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test),
                *("-m", "not ray", "--rootdir", str(copy)),
            ],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr
        if done.returncode == 1:
            last = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
            yield (last or [test])[-1].removeprefix("FAILED ").partition(" - ")[0]
            return


@pytest.mark.slow
def test_planted_defects_are_found(copy: Path, full: bool, say: Callable[[str], None]) -> None:
    planted = [defect for defect in DEFECTS if full or defect.always]
    if full:  # Without any of them nothing may be found.
        every = tuple(dict.fromkeys(test for defect in planted for test in defect.tests))
        assert list(failing(copy, every)) == []
    missed = []
    for defect in planted:
        file = copy / defect.file
        sound = file.read_text(encoding="utf-8")
        file.write_text(sound.replace(defect.old, defect.new), encoding="utf-8")
        found = next(failing(copy, defect.tests), None)
        file.write_text(sound, encoding="utf-8")
        say(f"{defect.what}: {f'found by {found}' if found else 'MISSED'}")
        missed += [] if found else [defect.what]
    share = 1 - len(missed) / len(planted)
    say(f"{len(planted)} defects planted, {len(planted) - len(missed)} found ({share:.0%})")
    assert share >= GOAL, missed
