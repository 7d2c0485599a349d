"""A study in its storage in; points to try out, and what is told of each. The one place where
Optuna is asked.

    study = Study.at(storage, name, search)
    asked = study.ask()            # a point to try; None: there is none, or not now
    study.tell(asked.number, outcome)
    study.rows()                   # all of it, as plain data

The study is the durable truth about the search, as the store is about its trials. A worker that
is killed leaves a point that nobody tries: the next `ask` of any worker hands that out again,
under the same number, before a new one. So a study has as many trials as were asked for, none of
them twice, whoever died. Asking is done under a lock that all workers of a study share.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import inspect
import json
import math
import os
import secrets
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from sweeper.errors import EnvironmentFault, Problem, SpecError, quoted
from sweeper.lookup import named
from sweeper.redaction import conceal, without_secrets
from sweeper.space import in_order, is_there
from sweeper.spec.search import TEST
from sweeper.spec.search_types import Choice, Parameter, Sampler, Scalar, SearchSpec
from sweeper.track.lease import birth, this_place
from sweeper.track.sealed import using

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

OWNER, CAME = "sweeper.owner", "sweeper"  # who is at a trial, and what came of it
TRIAL_RUN = 14  # points: the samplers of Optuna draw ten at random
RUNGS = "sweeper.rungs"  # of a study: see Study.rungs
WORKER = "sweeper.worker "  # and which: when it last said that it lives
BEAT_SECONDS = 20.0
SILENT_SECONDS = 6 * BEAT_SECONDS  # after which a worker on another machine is taken for dead
# Its points are a sequence, of which a seed of its own for each would make no sequence.
SEEDED_ONCE = (optuna.samplers.QMCSampler,)
STATES: Mapping[TrialState, Literal["waiting", "running", "complete", "pruned", "failed"]] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
TOLD = {state: told for told, state in STATES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A point to try (key -> value), the `number`th of its study."""

    number: int
    point: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a point: the `objectives`, in the order of the file, of a complete one;
    `broken` by how much each constraint is (0 or less: it holds); `result` all that was measured;
    `why` it was pruned or failed. `trial` is (trial id, evaluation id)."""

    state: Literal["complete", "pruned", "failed"]
    objectives: tuple[float, ...] = ()
    broken: Mapping[str, float] = field(default_factory=dict)
    result: Mapping[str, float] = field(default_factory=dict)
    why: str | None = None
    trial: tuple[str, str] | None = None

    @property
    def feasible(self) -> bool:
        return self.state == "complete" and all(by <= 0 for by in self.broken.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One trial of a study as its storage has it; `outcome` once it was told of."""

    number: int
    state: Literal["waiting", "running", "complete", "pruned", "failed"]
    point: Mapping[str, Scalar]
    outcome: Outcome | None = None


# ---- storage


class Storage:
    """Where studies are: a database, and the lock that its workers share. It has state because
    connections are."""

    def __init__(self, url: str):
        """A path in `url` is relative to where we stand."""
        self.url = url
        how = ENGINE.get(kind(url), {})
        refuse_unreadable(url)
        with self.answering(ImportError, RuntimeError):
            self.engine = sqlalchemy.create_engine(url, **how)
        # Two may find that there are no tables yet.
        with self.locked("tables"), self.answering(ImportError, RuntimeError):
            self.optuna = optuna.storages.RDBStorage(url, engine_kwargs=how)

    @contextlib.contextmanager
    def answering(self, *further: type[Exception]) -> Iterator[None]:
        """What the database or its driver refuses, as a fault of the surroundings; without the
        URL, in which there may be a password. `further` is what is one only here: a sampler's
        own fault is not."""
        try:
            yield
        except (
            sqlalchemy.exc.SQLAlchemyError,
            optuna.exceptions.StorageInternalError,
            OSError,
            *further,
        ) as fault:
            cause = fault.__cause__ or fault
            said = first_line(getattr(cause, "orig", None) or cause)
            if isinstance(fault, ImportError) and kind(self.url) == "postgresql":
                said += "; pip install 'sweeper[postgres]'"
            where = without_secrets(self.url)
            raise EnvironmentFault(
                f"the storage of the search ({where}) does not answer: {conceal(said)}"
            ) from None

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Alone with a study, among all workers: by the server, or by a file beside a database
        that is one."""
        if database(self.url) is not None:
            with file_lock(Path(f"{database(self.url)}.lock")):
                yield
            return
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        with self.answering():
            connection = self.engine.connect()
        with connection:
            asked = {"number": number}
            with self.answering():
                connection.execute(sqlalchemy.text("select pg_advisory_lock(:number)"), asked)
            try:
                yield
            finally:
                # Where it does not answer any more, it has let go of what the connection held.
                with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                    free = sqlalchemy.text("select pg_advisory_unlock(:number)")
                    connection.execute(free, asked)

    def has(self, name: str) -> bool:
        with self.answering():
            return name in optuna.study.get_all_study_names(self.optuna)


# SQLite waits for other writers; a server's connection may have been closed meanwhile.
ENGINE: Mapping[str, dict[str, Any]] = {
    "sqlite": {"connect_args": {"timeout": 60}},
    "postgresql": {"pool_pre_ping": True, "connect_args": {"connect_timeout": 20}},
}


def kind(url: str) -> str:
    """ "postgresql+psycopg2://..." -> "postgresql" """
    return url.partition(":")[0].partition("+")[0]


def database(url: str) -> Path | None:
    """The file that a database is in; None of one on a server."""
    return Path(url.removeprefix("sqlite:///")) if kind(url) == "sqlite" else None


def resolved(written: str | None, store: Path) -> str:
    """The URL that a file means. Raises EnvironmentFault where it names a variable that is not
    set."""
    if written is None:
        return f"sqlite:///{store / 'searches' / 'studies.db'}"
    if not written.startswith("env:"):
        return written
    name = written.removeprefix("env:")
    if not (url := os.environ.get(name)):
        raise EnvironmentFault(f"search.storage is {written}, and {name} is not set")
    in_memory = kind(url) == "sqlite" and (len(url) < len("sqlite:///a") or ":memory:" in url)
    if kind(url) not in ENGINE or in_memory:
        raise EnvironmentFault(f"{name} is no URL of a database such as sqlite:///studies.db")
    return url


def exists(url: str) -> bool:
    """Whether there may be a study: a database in a file has to be there."""
    path = database(url)
    return path is None or path.exists()


def refuse_unreadable(url: str) -> None:
    """A URL that is none, or of which a part of the password would be taken for the host."""
    try:
        host = sqlalchemy.engine.make_url(url).host or ""
    except (sqlalchemy.exc.ArgumentError, ValueError):
        host = "@"
    if "@" in host:
        raise EnvironmentFault(
            f"the storage of the search ({kind(url)}) has no URL such as "
            "postgresql+psycopg2://user@host:5432/database; in a password, @ is written %40, "
            "/ %2F and : %3A"
        )


def first_line(fault: BaseException) -> str:
    return next(filter(None, map(str.strip, str(fault).splitlines())), type(fault).__name__)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Held by one process (or thread) at a time; given free by whatever ends it. Who may not
    write here cannot write a database here either, and needs no lock to read one."""
    import fcntl  # There is none on Windows, where a search has one worker or a server.

    try:
        with using(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    except EnvironmentFault as fault:
        if not is_forbidden(fault.__cause__):
            raise
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_forbidden(fault: BaseException | None) -> bool:
    return isinstance(fault, OSError) and fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


# ---- a study


class Study:
    """One study, as one worker is at it. It has state because what it asked for and has not
    told of is nobody else's."""

    def __init__(self, storage: Storage, name: str, search: SearchSpec, study: optuna.Study):
        self.storage, self.name, self.search, self.study = storage, name, search, study
        self.ordered = in_order(search.space)
        self.open: set[int] = set()
        self._beaten = 0.0
        self._heard: dict[str, tuple[float, float]] = {}  # of workers elsewhere, and since when
        never_stopping(study)

    @classmethod
    def at(cls, storage: Storage, name: str, search: SearchSpec) -> Study:
        """The study of that name, made if there is none, with the points of the file to be tried
        first."""
        with storage.locked(name), storage.answering():
            study = optuna.create_study(
                storage=storage.optuna,
                study_name=name,
                directions=directions(search),
                load_if_exists=True,
            )
            for point in search.enqueue:
                study.enqueue_trial(dict(point), skip_if_exists=True)
            if RUNGS not in study.user_attrs:
                study.set_user_attr(RUNGS, secrets.token_hex(8))
        return cls(storage, name, search, study)

    @classmethod
    def kept(cls, storage: Storage, name: str, search: SearchSpec) -> Study | None:
        """The study of that name, if there is one, to be looked at."""
        if not storage.has(name):
            return None
        with storage.answering():
            study = optuna.load_study(study_name=name, storage=storage.optuna)
        return cls(storage, name, search, study)

    @property
    def rungs(self) -> str:
        """The name of the folder with its rungs: of this study, and of none that may have had
        its name in another database."""
        with self.storage.answering():
            return self.study.user_attrs[RUNGS]

    def ask(self) -> Asked | None:
        """None where every trial was asked for, and none was left by a worker that is dead."""
        self.beat()
        with self.storage.locked(self.name), self.storage.answering():
            trials = self.study.get_trials(deepcopy=False)
            begun = [trial for trial in trials if trial.state != TrialState.WAITING]
            left = next((trial for trial in begun if self.is_left(trial)), None)
            if left is None and len(begun) >= self.search.trials:
                return None
            number = len(begun) if left is None else left.number
            self.study.sampler = sampler(self.search.sampler, seeded_by(self.name), number)
            if left is None:
                trial = self.study.ask()
            else:
                trial = optuna.trial.Trial(self.study, left._trial_id)
            trial.set_user_attr(OWNER, ourselves())
            _ = trial.relative_params  # What it draws for all keys together, it draws now.
            point: dict[str, Scalar] = {}
            for parameter in self.ordered:
                if is_there(parameter, point):
                    # What a dead worker had drawn already is not drawn before this one again.
                    parts = seeded_by(self.name), number, parameter.key
                    self.study.sampler = sampler(self.search.sampler, *parts)
                    point[parameter.key] = suggested(trial, parameter)
            self.open.add(trial.number)
            return Asked(number=trial.number, point=self.as_written(point))

    def tell(self, number: int, outcome: Outcome) -> None:
        """Told twice, the first stands."""
        finished = contextlib.suppress(UpdateFinishedTrialError)
        with self.storage.locked(self.name), self.storage.answering(), finished:
            trial = self.trial(number)
            # What is measured on the test split is nothing that a search may see.
            seen = ((key, x) for key, x in outcome.result.items() if not key.startswith(TEST))
            result = {key: x for key, x in seen if math.isfinite(x)}
            came = {"trial": outcome.trial, "why": outcome.why, "result": result}
            trial.set_user_attr(CAME, came)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # It was said before a worker died.
                for text, by in outcome.broken.items():
                    trial.set_constraint(text, by)
                if outcome.state == "pruned" and len(self.search.objectives) == 1:
                    self.report(trial, outcome)
            values = outcome.objectives if outcome.state == "complete" else None
            self.study.tell(trial, values, state=TOLD[outcome.state], skip_if_finished=True)
        self.open.discard(number)

    def report(self, trial: optuna.trial.Trial, outcome: Outcome) -> None:
        """What a sampler may learn of a trial that was pruned, where it can."""
        prune, objective = self.search.prune, self.search.objectives[0]
        if prune is not None and prune.metric == objective.metric and outcome.objectives:
            step = int(outcome.result.get(prune.by, 0))
            trial.report(outcome.objectives[0], step)

    def trial(self, number: int) -> optuna.trial.Trial:
        return optuna.trial.Trial(
            self.study,
            self.study._storage.get_trial_id_from_study_id_trial_number(
                self.study._study_id, number
            ),
        )

    def rows(self) -> list[Row]:
        with self.storage.answering():
            trials = self.study.get_trials(deepcopy=False)
        return [
            Row(
                number=trial.number,
                state=STATES[trial.state],
                point=self.as_written(trial.params),
                outcome=outcome_of(trial),
            )
            for trial in trials
        ]

    def as_written(self, point: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """In the order of the file; keys that the space has not any more come last."""
        order = {key: n for n, key in enumerate(self.search.space)}
        return dict(sorted(point.items(), key=lambda pair: order.get(pair[0], len(order))))

    def is_complete(self) -> bool:
        """Whether as many trials have ended as were to be."""
        return sum(row.outcome is not None for row in self.rows()) >= self.search.trials

    # ---- who is at what

    def beat(self) -> None:
        """Tells workers on other machines that this one lives."""
        if time.monotonic() - self._beaten > BEAT_SECONDS or not self._beaten:
            self._beaten = time.monotonic()
            with self.storage.answering():
                self.study.set_user_attr(WORKER + ourselves(), time.time())

    def is_left(self, trial: FrozenTrial) -> bool:
        """Whether whoever was at it is dead. Under the lock, one that says nobody is one whose
        worker died between two writes."""
        if trial.state != TrialState.RUNNING or trial.number in self.open:
            return False
        owner = trial.user_attrs.get(OWNER)
        if owner is None or owner == ourselves():
            return True
        place, pid, born = json.loads(owner)
        if place == this_place():
            return birth(pid) != born
        beaten, now = self.study.user_attrs.get(WORKER + owner, 0.0), time.monotonic()
        before, since = self._heard.setdefault(owner, (beaten, now))
        if before != beaten:  # Only that it changes says something: clocks differ.
            self._heard[owner] = (beaten, now)
            return False
        return now - since > SILENT_SECONDS


def directions(search: SearchSpec) -> list[str]:
    return [{"min": "minimize", "max": "maximize"}[it.goal] for it in search.objectives]


def never_stopping(study: optuna.Study) -> None:
    """A sampler that has tried everything wants the study to stop; its budget says when."""
    study.stop = lambda: None


def ourselves() -> str:
    """This process, as a worker of a study: where, which and since when."""
    return json.dumps([this_place(), os.getpid(), birth(os.getpid())])


def suggested(trial: optuna.trial.Trial, parameter: Parameter) -> Scalar:
    """What it has there already, else what the sampler says."""
    key = parameter.key
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(key, list(parameter.options))
    low, high, log = parameter.low, parameter.high, parameter.log
    if parameter.whole:
        return trial.suggest_int(key, int(low), int(high), step=int(parameter.step or 1), log=log)
    # A point of the file may say 0, and mean 0.0: another training, if it is not told.
    return float(trial.suggest_float(key, low, high, step=parameter.step, log=log))


def outcome_of(trial: FrozenTrial) -> Outcome | None:
    if not trial.state.is_finished():
        return None
    said = trial.user_attrs.get(CAME, {})
    found = said.get("trial")
    return Outcome(
        state=STATES[trial.state],
        objectives=tuple(trial.values or ()),
        broken=dict(trial.constraints or {}),
        result=said.get("result", {}),
        why=said.get("why"),
        trial=(found[0], found[1]) if found else None,
    )


# ---- the sampler


def sampler(spec: Sampler, *parts: Any) -> optuna.samplers.BaseSampler:
    """The sampler for one trial of a study, or for what it draws for one key by itself: `parts`
    say which. A study that was interrupted goes on as it would have: what is random depends on
    these, and on nothing that a dead process knew."""
    thing = named(spec.name, BY_NAME, "sampler")
    arguments = dict(spec.arguments)
    if "seed" in inspect.signature(thing).parameters:
        seed = arguments.get("seed", 0)
        once = isinstance(thing, type) and issubclass(thing, SEEDED_ONCE)
        arguments["seed"] = mixed(seed, *parts[:1]) if once else mixed(seed, *parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return thing(**arguments)


BY_NAME = {
    name: getattr(optuna.samplers, name)
    for name in optuna.samplers.__all__
    if name.endswith("Sampler")
}


def seeded_by(name: str) -> str:
    """A study's name without what tells what is searched: with another rule of pruning the same
    points are drawn, as far as they depend on nothing else."""
    return name.rpartition(" (")[0] or name


def mixed(*parts: Any) -> int:
    """Below 2^32, as numpy wants it."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:4])


def check_sampler(search: SearchSpec) -> None:
    """Raises SpecError where there is no such sampler, or it does not take what the file says."""
    spec = search.sampler
    try:
        made = sampler(spec, "trial run", 0)
        if not isinstance(made, optuna.samplers.BaseSampler):
            raise TypeError(f"{spec.name} makes a {type(made).__name__}, which is no sampler")
        trial_run(made, search)
    except SpecError as fault:
        said = [problem.message for problem in fault.problems]
        problems = [Problem(message=it, mark=search.mark, key="sampler") for it in said]
        raise SpecError(*problems) from None
    except Exception as fault:  # It is somebody's own code, or asks for what is not installed.
        message = f"search.sampler {quoted(spec.name)}: {first_line(fault)}"
        raise SpecError(Problem(message=message, mark=search.mark, key="sampler")) from None


def trial_run(made: optuna.samplers.BaseSampler, search: SearchSpec) -> None:
    """Some points in memory: there are samplers that draw at random at first, and ask for a
    package, or refuse an argument or several objectives, only later."""
    goals = directions(search)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(directions=goals, sampler=made)
        never_stopping(study)
        for number in range(TRIAL_RUN):
            trial, point = study.ask(), {}
            for parameter in in_order(search.space):
                if is_there(parameter, point):
                    point[parameter.key] = suggested(trial, parameter)
            if search.constraints:
                trial.set_constraint("some", number % 3 - 1.0)
            if number == 1:
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, [number * (n + 1.0) for n, _ in enumerate(goals)])
