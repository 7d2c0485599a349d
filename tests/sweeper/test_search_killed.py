"""Searches whose workers are killed, and several workers at one study: as many trials as were
asked for, none lost and none twice."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
import sqlalchemy

from sweeper.search import SILENT_SECONDS, Outcome, Row, Storage, Study, resolved
from sweeper.searching import sites
from sweeper.spec import read
from sweeper.track.folder import Folder

TOYS = Path(__file__).parent
ROOT = TOYS.parents[1]
MEMORY = Path("/dev/shm")
SECONDS = 100.0

FILE = """\
name: s
trainer: {function: "toy_searches:falls"}
base: {x: 0.0, y: 5.0, pause: %(pause)s, seed: 0}
metrics: {loss: {from: test/loss, goal: min}}
profiles: {quick: {}}
search:
  storage: %(storage)s
  trials: %(trials)s
  parallel: %(parallel)s
  sampler: {name: RandomSampler, seed: 5}
  objectives: [{metric: valid/loss, goal: min}]
  constraints: ["valid/x >= -4"]
  enqueue: [{x: 3, y: 2}, {x: 9}]
  prune: {rule: successive_halving, metric: valid/loss, grace: "%(grace)s", factor: 2}
  space: {x: {float: [-5, 10]}, y: {float: [0, 15]}}
  promote: {front: false, top: 2, seeds: [0, 1]}
tables:
  t: {rows: {from: search, order_by: cost/updates}, values: [loss], over: seed}
"""


class Desk:
    """A folder with a search in it, and workers that are processes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{TOYS}",
            "OMP_NUM_THREADS": "1",
            "TOY_CALLS": str(folder / "calls"),
        }
        self.write()

    def write(self, **changes: object) -> None:
        given = {"trials": 10, "parallel": 1, "pause": 0.0, "grace": "25%"}
        given |= {"storage": "sqlite:///studies.db", **changes}
        (self.folder / "s.yaml").write_text(FILE % given)

    def start(self, *command: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def worker(self, store: str, *writes: int) -> subprocess.Popen[str]:
        return self.start(TOYS / "toy_workers.py", "s.yaml", store, *writes)

    def rows(self, store: str = "runs") -> list[Row]:
        sweep = read(self.folder / "s.yaml")
        (site,) = sites(sweep, None)
        with contextlib.chdir(self.folder):
            url = resolved(sweep.search.storage, self.folder / store)
            return Study.kept(Storage(url), site.name, sweep.search).rows()

    def notes(self, what: str) -> list[tuple[str, str]]:
        """(trial id, process) of each trainer that began or ended."""
        lines = (self.folder / "calls").read_text().splitlines()
        found = [line.split() for line in lines]
        return [(trial, process) for said, trial, process in found if said == what]

    def finished(self, *stores: str) -> Counter[str]:
        """Trial id -> how often its training came to its end, as the journals have it; more
        than once where one was killed after it said so there, and before its result was."""
        found: Counter[str] = Counter()
        for store in stores:
            folder = Folder((self.folder / store).resolve())
            for trial in folder.ids():
                kinds = [(entry["kind"], entry.get("state")) for entry in folder.entries(trial)]
                done = kinds.count(("end", "done"))
                found[trial] += done
                assert not done or kinds[-1] == ("end", "done"), (trial, kinds)
        return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.syspath_prepend(str(TOYS))
    if not MEMORY.is_dir():
        yield Desk(tmp_path)
        return
    folder = Path(tempfile.mkdtemp(dir=MEMORY))
    yield Desk(folder)
    shutil.rmtree(folder)


def ended(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, out + err
    return out


def is_whole(rows: list[Row], trials: int) -> None:
    """As many as were asked for, each once, and each with what came of it."""
    assert [row.number for row in rows] == list(range(trials))
    assert {row.state for row in rows} <= {"complete", "pruned"}
    assert all(row.outcome.trial for row in rows)
    assert len({row.outcome.trial for row in rows}) == trials


@pytest.mark.slow
def test_a_search_that_is_killed_again_and_again_is_that_which_never_was(desk: Desk):
    draw = random.Random(11)
    writes = [draw.randint(1, 60) for _ in range(20)]
    said = [line.split() for line in ended(desk.worker("runs", *writes)).splitlines()]
    kills = [how for how, *_ in said].count(str(-signal.SIGKILL))
    assert kills >= 12  # The last may find nothing left to do.
    results: set[str] = set()
    for _, *there in said:  # What has a result is not trained again.
        assert results <= set(there)
        results = set(there)
    rows = desk.rows()
    is_whole(rows, 10)
    desk.finished("runs")
    desk.write(storage="sqlite:///undisturbed.db")
    ended(desk.worker("undisturbed"))
    assert rows == desk.rows("undisturbed")

    desk.write()
    elsewhere = ("--store", "runs", "--offline", "--tracking", "http://127.0.0.1:9")
    done = desk.start("-m", "sweeper", "run", "s.yaml", "--dispatch", "inline", *elsewhere)
    out, err = done.communicate(timeout=SECONDS)
    assert done.returncode == 0, err
    assert "Traceback" not in err
    assert "10 of 10 trials" in err
    assert "trials: 6 of 6 done" in out  # two that were promoted, and the file's own; two seeds
    assert results <= {
        f"{path.parent.name}={path.stat().st_mtime_ns}"
        for path in (desk.folder / "runs").glob("trials/*/result-*.json")
    }
    assert desk.rows() == rows


@pytest.mark.slow
def test_a_command_that_is_killed_amid_its_search_goes_on(desk: Desk):
    desk.write(pause=0.03)
    words = ("-m", "sweeper", "run", "s.yaml", "--dispatch", "inline", "--store", "runs")
    words += ("--offline", "--tracking", "http://127.0.0.1:9")
    process = desk.start(*words)
    deadline = time.monotonic() + SECONDS
    while not (desk.folder / "calls").exists() or len(desk.notes("began")) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    states = Counter(row.state for row in desk.rows())
    assert states["running"] == 1
    again = desk.start(*words)
    out, err = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, err
    assert "trials: 6 of 6 done" in out
    is_whole(desk.rows(), 10)
    desk.finished("runs")


# ---- several workers at one study


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a server of our own."""
    if why := postgres.lacking():
        pytest.skip(why)
    with postgres.server() as url:
        yield url


@pytest.fixture
def served(desk: Desk, server: str, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk at a database of its own."""
    desk.environment["TOY_STUDIES"] = postgres.database(server)
    monkeypatch.setenv("TOY_STUDIES", desk.environment["TOY_STUDIES"])
    return desk


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stores", "storage"),
    [
        (("one", "other"), "env:TOY_STUDIES"),
        (("both", "both"), "env:TOY_STUDIES"),
        (("one", "other"), "sqlite:///studies.db"),
    ],
    ids=["a server and two stores", "a server and one store", "a file and two stores"],
)
def test_two_workers_share_the_trials_of_a_study(
    request: pytest.FixtureRequest, stores: tuple[str, str], storage: str
):
    """None is pruned in two stores, whose rungs are two, nor in one, where it depends on who
    comes first."""
    desk = request.getfixturevalue("desk" if storage.startswith("sqlite") else "served")
    desk.write(storage=storage, trials=14, pause=0.02, grace="99%")
    workers = [desk.worker(store) for store in stores]
    for worker in workers:
        ended(worker)
    rows = desk.rows()
    is_whole(rows, 14)
    began = desk.notes("began")
    assert len({process for _, process in began}) == 2
    at_work = Counter(process for trial, process in began)
    assert min(at_work.values()) >= 3  # the file's own configuration, and two at least
    own = len(set(stores))  # Each store has the file's own configuration once.
    finished = desk.finished(*set(stores))
    assert sum(finished.values()) == 14 + own
    studied = {row.outcome.trial[0] for row in rows}
    assert {
        trial for trial, times in finished.items() if trial in studied and times == 1
    } == studied
    assert len(began) == 14 + own


@pytest.mark.slow
@pytest.mark.parametrize("stores", [("one", "other"), ("both", "both")], ids=["two", "one"])
def test_of_two_workers_one_is_killed_and_the_other_ends_its_trial(
    served: Desk, stores: tuple[str, str]
):
    served.write(storage="env:TOY_STUDIES", trials=12, pause=0.1, grace="99%")
    victim = served.worker(stores[0])
    deadline = time.monotonic() + SECONDS
    while not (served.folder / "calls").exists() or len(served.notes("began")) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    other = served.worker(stores[1])
    while len({process for _, process in served.notes("began")}) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    killed_at = time.monotonic()
    ended(other)
    assert time.monotonic() - killed_at < SILENT_SECONDS / 2  # A dead process is seen at once.
    is_whole(served.rows(), 12)
    served.finished(*set(stores))


@pytest.mark.slow
def test_connections_that_a_server_has_closed_are_made_anew(served: Desk):
    """A trial takes hours; a server that is restarted meanwhile has forgotten who was there."""
    served.write(storage="env:TOY_STUDIES", trials=3)
    sweep = read(served.folder / "s.yaml")
    storage = Storage(served.environment["TOY_STUDIES"])
    study = Study.at(storage, "one", sweep.search)
    for number in range(3):
        asked = study.ask()
        assert asked.number == number
        close = (
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
        with sqlalchemy.create_engine(
            served.environment["TOY_STUDIES"], poolclass=sqlalchemy.NullPool
        ).connect() as connection:
            assert len(connection.execute(sqlalchemy.text(close)).all()) >= 1
        study.tell(number, Outcome(state="complete", objectives=(1.0,)))
    assert study.ask() is None
    assert study.is_complete()
