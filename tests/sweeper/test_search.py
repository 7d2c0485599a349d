"""Studies: what is asked for, what is told, and that neither is lost or doubled, whoever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from sweeper import search as searches
from sweeper.errors import EnvironmentFault, SpecError
from sweeper.search import OWNER, WORKER, Asked, Outcome, Storage, Study, check_sampler, resolved
from sweeper.spec import expressions
from sweeper.spec.search import SAMPLERS
from sweeper.spec.search_types import Choice, Objective, Prune, Sampler, SearchSpec, Span
from sweeper.spec.sweep import Condition

MEMORY = Path("/dev/shm")  # a disk takes ten times as long


def when(text: str) -> Condition:
    return Condition(test=expressions.condition(text))


SPACE = {
    "layers": Span(key="layers", low=1, high=4, whole=True),
    "start": Span(key="start", low=0.0, high=0.5, when=when("kind == 'linear'")),
    "kind": Choice(key="kind", options=("linear", "cyclical", "none")),
    "cycles": Span(key="cycles", low=2, high=9, whole=True, when=when("kind == 'cyclical'")),
    "ratio": Span(key="ratio", low=0.25, high=1.0, step=0.25, when=when("cycles > 4")),
    "lr": Span(key="lr", low=1e-4, high=1.0, log=True),
}
FLAT = {key: SPACE[key] for key in ("layers", "kind", "lr")}
LOSS, COST = (Objective(metric=f"valid/{name}", goal="min") for name in ("loss", "cost"))


def spec(**changes: object) -> SearchSpec:
    given = {"trials": 6, "objectives": (LOSS,), "space": SPACE, "sampler": random_sampler()}
    return SearchSpec(**{**given, **changes})


def random_sampler(seed: int = 3) -> Sampler:
    return Sampler(name="RandomSampler", arguments={"seed": seed})


GROUPED = Sampler(
    name="TPESampler",
    arguments={
        "seed": 7,
        "n_startup_trials": 4,
        "multivariate": True,
        "group": True,
        "constant_liar": True,
    },
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    if not MEMORY.is_dir():
        yield tmp_path
        return
    found = Path(tempfile.mkdtemp(dir=MEMORY))
    yield found
    shutil.rmtree(found)


Opening = Callable[..., Study]


@pytest.fixture
def study(folder: Path) -> Opening:
    """A worker's own hold of a study, opened anew."""

    def opened(search: SearchSpec, database: str = "studies") -> Study:
        return Study.at(Storage(f"sqlite:///{folder}/{database}.db"), "one", search)

    return opened


def scores(asked: Asked, count: int = 1) -> Outcome:
    """Anything that depends on the point, and differs from objective to objective."""
    loss = asked.point["lr"] + asked.point["layers"]
    return Outcome(state="complete", objectives=(loss, -loss * asked.point["layers"])[:count])


def searched(study: Study, most: int = 1000) -> list[Asked]:
    found = []
    while len(found) < most and (asked := study.ask()) is not None:
        study.tell(asked.number, scores(asked, len(study.search.objectives)))
        found.append(asked)
    return found


# ---- points


def test_a_conditional_key_is_there_where_its_condition_holds_and_only_there(study: Opening):
    found = searched(study(spec(trials=40)))
    for asked in found:
        point = asked.point
        assert list(point) == [key for key in SPACE if key in point]  # as the file has them
        assert ("start" in point) == (point["kind"] == "linear")
        assert ("cycles" in point) == (point["kind"] == "cyclical")
        assert ("ratio" in point) == (point.get("cycles", 0) > 4)
        assert {"layers", "kind", "lr"} <= set(point)
        assert point["layers"] in (1, 2, 3, 4)
        assert 1e-4 <= point["lr"] <= 1.0
        assert point.get("ratio", 1.0) in (0.25, 0.5, 0.75, 1.0)
    assert {asked.point["kind"] for asked in found} == {"linear", "cyclical", "none"}
    assert any("ratio" in asked.point for asked in found)


def test_points_of_the_file_come_first_in_its_order_and_what_they_leave_out_is_chosen(
    study: Opening,
):
    first = {"kind": "linear", "start": 0, "layers": 2, "lr": 0.5}
    search = spec(enqueue=(first, {"kind": "none"}))
    for _ in range(3):  # Whoever opens it again does not put them there again.
        again = study(search)
    one, two, *rest = searched(again)
    assert [one.number, two.number] == [0, 1]
    assert one.point == first
    assert isinstance(one.point["start"], float)  # Else it were another training.
    assert two.point["kind"] == "none"
    assert set(two.point) == {"layers", "kind", "lr"}
    assert len(rest) == 4


def test_the_budget_is_exact(study: Opening):
    search = spec(trials=5, enqueue=({"kind": "none"},))
    one = study(search)
    held = [one.ask() for _ in range(5)]
    assert [asked.number for asked in held] == [0, 1, 2, 3, 4]
    assert one.ask() is None
    assert Study.at(one.storage, "another", search).ask() is not None
    for asked in held:
        one.tell(asked.number, scores(asked))
    assert one.ask() is None
    assert study(search).ask() is None
    more = study(spec(trials=7, enqueue=({"kind": "none"},)))
    assert [asked.number for asked in searched(more)] == [5, 6]
    assert [row.state for row in more.rows()] == ["complete"] * 7


def test_more_points_than_trials(study: Opening):
    points = tuple({"layers": n} for n in (4, 3, 2, 1))
    one = study(spec(trials=2, enqueue=points))
    assert [asked.point["layers"] for asked in searched(one)] == [4, 3]
    assert one.is_complete()
    assert [row.state for row in one.rows()] == ["complete"] * 2 + ["waiting"] * 2


# ---- what is told


def test_what_came_of_a_trial_is_told_as_what_it_is(study: Opening):
    one = study(spec(trials=5, objectives=(LOSS, COST), space=FLAT))
    numbers = [one.ask().number for _ in range(5)]
    outcomes = [
        Outcome(state="complete", objectives=(1.0, 9.0), broken={"kl > 1": 0.5}, result={"a": 1}),
        Outcome(state="complete", objectives=(5.0, 5.0), broken={"kl > 1": -0.5}, trial=("t", "e")),
        Outcome(state="complete", objectives=(6.0, 6.0), broken={"kl > 1": 0.0}),
        Outcome(state="pruned", objectives=(3.0, 3.0), why="behind"),
        Outcome(state="failed", why="failed: out of luck", result={"b": float("inf"), "c": 2.0}),
    ]
    for number, outcome in zip(numbers, outcomes, strict=True):
        one.tell(number, outcome)
    states = [trial.state for trial in one.study.trials]
    assert states == [*[TrialState.COMPLETE] * 3, TrialState.PRUNED, TrialState.FAIL]
    assert [trial.constraints for trial in one.study.trials[:3]] == [
        {"kl > 1": 0.5},
        {"kl > 1": -0.5},
        {"kl > 1": 0.0},
    ]
    # The first would be on the front; it is not feasible.
    assert [trial.number for trial in one.study.best_trials] == [1]
    rows = study(spec(objectives=(LOSS, COST))).rows()
    assert [row.state for row in rows] == ["complete"] * 3 + ["pruned", "failed"]
    assert [row.outcome.feasible for row in rows] == [False, True, True, False, False]
    assert rows[0].outcome.broken == {"kl > 1": 0.5}
    assert rows[0].outcome.result == {"a": 1}
    assert rows[1].outcome.trial == ("t", "e")
    assert rows[1].outcome.objectives == (5.0, 5.0)
    assert rows[3].outcome.why == "behind"
    assert rows[4].outcome.why == "failed: out of luck"
    assert rows[4].outcome.result == {"c": 2.0}
    assert one.is_complete()


@pytest.mark.parametrize("second", ["complete", "pruned", "failed"])
def test_of_two_that_tell_the_first_stands(study: Opening, second: str):
    one, other = study(spec()), study(spec())
    asked = one.ask()
    first = Outcome(state="complete", objectives=(1.5,), result={"a": 1.0}, broken={"x": -1.0})
    one.tell(asked.number, first)
    later = Outcome(
        state=second, objectives=(9.0,) * (second != "failed"), result={"a": 2.0}, broken={"x": 1.0}
    )
    for worker in (one, other):
        worker.tell(asked.number, later)
    (row,) = other.rows()
    assert row.outcome == first


# ---- workers that die


def dying(act: Callable[[], object], commits: int) -> bool:
    """Whether a process of its own that does this is killed before its `commits`th commit."""
    child = os.fork()
    if child == 0:
        left = [commits]

        def count(connection: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sqlalchemy.event.listen(sqlalchemy.Engine, "commit", count)
            act()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_worker_killed_before_any_commit_loses_and_doubles_nothing(study: Opening):
    points = ({"kind": "linear"}, {"kind": "cyclical", "cycles": 5})
    search = spec(trials=40, enqueue=points, sampler=GROUPED)
    whole = [(asked.number, asked.point) for asked in searched(study(search, "whole"))]

    def one_trial() -> None:
        searched(study(search), 1)

    commits, killed = 1, True
    while killed:  # from before the study is there to after its trial is told
        killed = dying(one_trial, commits)
        other = study(search)
        asked = other.ask()
        states = [row.state for row in other.rows()]
        assert states.count("running") == 1
        other.tell(asked.number, scores(asked))
        commits += 1
    assert commits > 15
    searched(study(search))
    rows = study(search).rows()
    assert [(row.number, row.point) for row in rows] == whole
    assert {row.state for row in rows} == {"complete"}


def test_a_worker_killed_while_it_tells_that_a_trial_was_pruned(study: Opening):
    prune = Prune(rule="successive_halving", metric="valid/loss", by="n", grace=0.2, factor=3)
    search = spec(trials=40, prune=prune)
    pruned = Outcome(
        state="pruned", objectives=(3.0,), result={"n": 7.0}, broken={"x": -1.0}, why="behind"
    )

    def one_trial() -> None:
        one = study(search)
        one.tell(one.ask().number, pruned)

    study(search)
    commits, killed = 5, True
    while killed:
        killed = dying(one_trial, commits)
        commits += 1
    one = study(search)
    left = one.ask()
    one.tell(left.number, pruned)
    rows = one.rows()
    assert [row.number for row in rows] == list(range(left.number + 1))
    assert [row.outcome for row in rows] == [pruned] * len(rows)
    assert {tuple(it.intermediate_values.items()) for it in one.study.trials} == {((7, 3.0),)}


def test_what_a_living_worker_is_at_is_nobody_elses_until_it_dies(study: Opening):
    search = spec(trials=3)
    there, back = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            asked = study(search).ask()
            os.write(back, json.dumps([asked.number, asked.point]).encode())
            signal.pause()
        finally:
            os._exit(0)
    number, point = json.loads(os.read(there, 10_000))
    try:
        one = study(search)
        held = [one.ask() for _ in range(2)]
        assert number not in [asked.number for asked in held]
        assert one.ask() is None
        assert study(search).study.trials[number].state == TrialState.RUNNING
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(there)
        os.close(back)
    again = one.ask()
    assert (again.number, again.point) == (number, point)
    assert one.ask() is None


def test_a_trial_of_which_nobody_says_whose_it_is(study: Opening):
    one = study(spec(trials=4))
    one.study.sampler = optuna.samplers.RandomSampler(seed=9)
    torn = one.study.ask()  # A worker died before it said more, or amid its keys.
    torn.suggest_int("layers", 1, 4)
    asked = study(spec(trials=4)).ask()
    assert asked.number == torn.number
    assert asked.point["layers"] == torn.params["layers"]
    assert {"kind", "lr"} < set(asked.point)


def test_workers_elsewhere_live_as_long_as_they_say_so(
    study: Opening, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(searches, "SILENT_SECONDS", 1.0)
    now = [1000.0]
    monkeypatch.setattr(searches.time, "monotonic", lambda: now[0])
    one = study(spec(trials=1))
    trial = one.study.ask()
    owner = json.dumps(["another machine", 1, "then"])
    trial.set_user_attr(OWNER, owner)
    for tick in range(5):  # Whatever its clock says; what counts is that it changes.
        one.study.set_user_attr(WORKER + owner, -1e9 + tick)
        assert one.ask() is None
        now[0] += 0.9
        assert one.ask() is None
    now[0] += 0.9
    assert one.ask().number == trial.number


# ---- a search that goes on


@pytest.mark.parametrize("objectives", [(LOSS,), (LOSS, COST)], ids=["one", "several"])
@pytest.mark.parametrize(
    "sampler",
    [
        random_sampler(),
        Sampler(name="TPESampler", arguments={"seed": 7, "n_startup_trials": 4}),
        GROUPED,
    ],
    ids=["random", "tpe", "grouped"],
)
def test_a_search_that_was_interrupted_goes_on_as_it_would_have(
    study: Opening, sampler: Sampler, objectives: tuple[Objective, ...]
):
    search = spec(trials=11, sampler=sampler, objectives=objectives)
    whole = searched(study(search, "whole"))
    pieces = []
    for most in (1, 3, 5, 1, 20):
        pieces += searched(study(search, "pieces"), most)
        left = study(search, "pieces").ask()  # and one is left amid its training
        assert left is None or left.number == len(pieces)
    assert pieces == whole
    points = [json.dumps(asked.point) for asked in whole]
    assert len(set(points)) == len(points)
    other = spec(trials=11, sampler=random_sampler(4), objectives=objectives)
    assert [asked.point for asked in searched(study(other, "other"))] != points


def test_the_budget_may_grow_and_the_sequence_stays(study: Opening):
    whole = searched(study(spec(trials=9), "whole"))
    assert searched(study(spec(trials=4))) + searched(study(spec(trials=9))) == whole


# ---- samplers

ARGUMENTS = {
    "GPSampler": {"n_startup_trials": 3},
    "NSGAIISampler": {"population_size": 3},
    "NSGAIIISampler": {"population_size": 3},
    "TPESampler": {"n_startup_trials": 3},
}


@pytest.mark.parametrize("count", [1, 2], ids=["one goal", "two goals"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_works_or_is_refused_in_words(study: Opening, name: str, count: int):
    search = spec(
        sampler=Sampler(name=name, arguments=ARGUMENTS.get(name, {})),
        space={**FLAT, "lr": Span(key="lr", low=0.0, high=1.0, step=0.5)},
        objectives=(LOSS, COST)[:count],
        prune=Prune(
            rule="successive_halving", metric="valid/loss", by="cost/n", grace=0.2, factor=3
        ),
        trials=12,
    )
    if name == "CmaEsSampler" and (count > 1 or find_spec("cmaes") is None):
        says = "search.sampler 'CmaEsSampler': .*(No module named 'cmaes'|multi-objective)"
        with pytest.raises(SpecError, match=says):
            check_sampler(search)
        return
    check_sampler(search)
    one, numbers = study(search), []
    while (asked := one.ask()) is not None:
        whole = scores(asked, count)
        changed = [
            {"broken": {"kl > 1": -1.0}},
            {"state": "pruned", "result": {"cost/n": 5.0}},
            {"broken": {"kl > 1": 1.0}},
            {"state": "failed", "objectives": ()},
        ]
        one.tell(asked.number, replace(whole, **changed[asked.number % 4]))
        numbers.append(asked.number)
    assert numbers == list(range(12))
    assert study(search).is_complete()
    # What a sampler may learn of one that was pruned: what it had, and where.
    told = [trial.intermediate_values for trial in one.study.trials]
    for number, values in enumerate(told):
        assert list(values) == ([5] if count == 1 and number % 4 == 1 else [])


def test_a_space_that_is_exhausted_does_not_end_the_budget(study: Opening):
    search = spec(
        sampler=Sampler(name="BruteForceSampler"),
        space={key: FLAT[key] for key in ("layers", "kind")},
        trials=15,
    )
    check_sampler(search)
    one, points = study(search), []
    while (asked := one.ask()) is not None:
        one.tell(asked.number, Outcome(state="complete", objectives=(asked.point["layers"],)))
        points.append(tuple(asked.point.values()))
    assert len(points) == 15
    assert len(set(points[:12])) == 12  # 4 layers x 3 kinds


@pytest.mark.parametrize(
    ("sampler", "says"),
    [
        (Sampler(arguments={"sead": 3}), "unexpected keyword argument 'sead'"),
        (Sampler(arguments={"n_startup_trials": "many"}), "search.sampler 'TPESampler': "),
        (Sampler(name="TPESample"), "TPESampler"),
        (Sampler(name="no.such:thing"), "no.such:thing"),
        (Sampler(name="json:dumps"), "search.sampler 'json:dumps': "),
        (Sampler(name="fractions:Fraction"), "which is no sampler"),
        (Sampler(name="BruteForceSampler"), "step"),  # lr is continuous
    ],
    ids=str,
)
def test_a_sampler_that_cannot_be_is_refused(sampler: Sampler, says: str):
    with pytest.raises(SpecError, match=says.replace("(", r"\(")):
        check_sampler(spec(sampler=sampler))


# ---- storage

SECRET = "hunter2"


def refused_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://me:{secret}@127.0.0.1:{port}/studies",
        "postgresql+psycopg2://me@127.0.0.1:{port}/studies?password={secret}",
        "postgresql+psycopg2://me:{secret}@127.0.0.1:no/studies",
        "postgresql+psycopg2://me:a@{secret}@127.0.0.1:{port}/studies",
        "postgresql+nothing://me:{secret}@127.0.0.1:{port}/studies",
        "postgresql+psycopg2:{secret}",
    ],
)
def test_a_server_that_does_not_answer_is_said_without_its_password(url: str):
    with pytest.raises(EnvironmentFault) as caught:
        Storage(url.format(secret=SECRET, port=refused_port()))
    assert "the storage of the search (postgresql" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(EnvironmentFault, match=r"psycopg2.*; pip install 'sweeper\[postgres\]'"):
        Storage("postgresql+psycopg2://me@127.0.0.1:1/studies")


def test_what_is_no_database_is_said(folder: Path):
    (folder / "studies.db").write_text("a diary\n" * 1000)
    with pytest.raises(EnvironmentFault, match="file is not a database"):
        Storage(f"sqlite:///{folder}/studies.db")


def test_a_variable_for_the_storage(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert resolved(None, folder) == f"sqlite:///{folder}/searches/studies.db"
    assert resolved("sqlite:///a/b.db", folder) == "sqlite:///a/b.db"
    with pytest.raises(EnvironmentFault, match="env:STUDIES, and STUDIES is not set"):
        resolved("env:STUDIES", folder)
    for url in (f"mongodb://me:{SECRET}@host/db", "sqlite://", "sqlite:///:memory:", SECRET):
        monkeypatch.setenv("STUDIES", url)
        with pytest.raises(EnvironmentFault, match="STUDIES is no URL of a database") as caught:
            resolved("env:STUDIES", folder)
        assert SECRET not in str(caught.value)
    monkeypatch.setenv("STUDIES", "sqlite:///c.db")
    assert resolved("env:STUDIES", folder) == "sqlite:///c.db"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_study_is_read_where_nothing_may_be_written(study: Opening, folder: Path):
    searched(study(spec()))
    (folder / "studies.db.lock").unlink()
    folder.chmod(0o555)
    try:
        kept = Study.kept(Storage(f"sqlite:///{folder}/studies.db"), "one", spec())
        assert len(kept.rows()) == 6
    finally:
        folder.chmod(0o755)
