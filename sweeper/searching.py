"""A search in; trials to run one after another out, and what came of each told to its study.

    searching = Searching(sweep, ...)
    dispatch(searching.coming(), ..., on_record=searching.told)
    the studies have it all

A trial of a search is an ordinary trial: its point over the file's own configuration, by the
trainer's typed configuration. What the store has of it already is told at once, and so is what
another suggestion has come to that was the same.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from sweeper import space
from sweeper.answers import Answers
from sweeper.budget import Account
from sweeper.design import expand, points, seed_of, settings_of, trainer_of, trainers
from sweeper.errors import EnvironmentFault
from sweeper.found import derived, sources, value, with_front
from sweeper.halving import Halving
from sweeper.record import Record
from sweeper.search import (
    BEAT_SECONDS,
    Asked,
    Outcome,
    Row,
    Storage,
    Study,
    check_sampler,
    exists,
    resolved,
)
from sweeper.spec.conditions import compiled, read_names
from sweeper.spec.expressions import Binary, Expression, Unary, written
from sweeper.spec.problems import Problems
from sweeper.spec.search_types import (
    BASELINE,
    CONFIGURATION,
    Found,
    Parameter,
    Prune,
    SearchSpec,
    Tried,
)
from sweeper.spec.sweep import Metric, Point, Sweep
from sweeper.track.folder import Folder
from sweeper.trial import Key, Trial, digest

SECONDS_BETWEEN_QUESTIONS = 2.0  # to a study of which other workers run the last trials
LEAST = 1e-9  # by which a constraint is broken that does not hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One study: the `point` of the design at which it is, the file's own configuration there
    (`own`), and its name. `folder` is what its rungs lie in."""

    point: Point
    own: Trial
    name: str
    folder: str

    @property
    def at(self) -> dict[str, str]:
        return self.point.labels


def sites(sweep: Sweep, data: Path | None) -> tuple[Site, ...]:
    """The studies of a file as it was written. What their trials are is part of their names: a
    file that searches something else has other studies."""
    search, found = sweep.search, []
    asks = {
        "objectives": [[*sources(it.metric, sweep.metrics), it.goal] for it in search.objectives],
        "constraints": [
            [str(it), *sources_read(it.test, sweep.metrics)] for it in search.constraints
        ],
        "space": {
            key: [str(it.when or ""), *without_marks(it)] for key, it in search.space.items()
        },
        "prune": without_marks(search.prune) if search.prune else None,
    }
    for (point, _), trial in zip(points(sweep), expand(sweep, data), strict=True):
        own = replace(trial, labels={**trial.labels, CONFIGURATION: BASELINE})
        folder = digest([*trial.key, asks])
        at = " ".join(point.labels.values())
        name = " ".join(filter(None, [f"{sweep.name}.{sweep.variant}", at, f"({folder[:8]})"]))
        found.append(Site(point=point, own=own, name=name, folder=folder))
    return tuple(found)


def sources_read(test: Expression, metrics: Mapping[str, Metric]) -> list[str]:
    return [key for name in read_names(test) for key in sources(name, metrics)]


def without_marks(thing: Parameter | Prune) -> list:
    """Its fields but those that say where it stands in the file."""
    apart = ("mark", "when", "places")
    found = [getattr(thing, it.name) for it in fields(thing) if it.name not in apart]
    return [list(it) if isinstance(it, tuple) else it for it in found]


# ---- looking


def looked_up(sweep: Sweep, store: Path, data: Path | None) -> Sweep:
    """The sweep of what the search has found so far (see found.derived)."""
    search, there = sweep.search, sites(sweep, data)
    url = resolved(search.storage, store)
    tried: list[Tried] = []
    trials: dict[Key, Trial] = {}
    answers = Answers(data, trainers(sweep), axes=sweep.axes)
    complete = exists(url)
    storage = Storage(url) if complete else None
    for site in there:
        study = Study.kept(storage, site.name, search) if storage else None
        rows = study.rows() if study else []
        complete = complete and is_complete(rows, search)
        tried += tried_of(site, rows, search, sweep.metrics)
        for row in rows:
            if row.outcome is not None and row.outcome.trial is not None:
                trial = trial_at(sweep, site, row.point, answers)
                # What the trainer's module makes of a point may have changed since.
                if trial is not None and trial.key == row.outcome.trial:
                    trials.setdefault(trial.key, trial)
    records = Folder(store).find(site.own for site in there)
    found = Found(
        tried=tuple(tried),
        baselines=tuple(baselines(there, records)),
        trials=tuple(trials.values()),
    )
    return derived(sweep, found, complete=complete)


def is_complete(rows: Sequence[Row], search: SearchSpec) -> bool:
    ended = sum(row.outcome is not None for row in rows)
    running = sum(row.state == "running" for row in rows)
    return ended >= search.trials and not running


def tried_of(
    site: Site, rows: Sequence[Row], search: SearchSpec, metrics: Mapping[str, Metric]
) -> tuple[Tried, ...]:
    found = []
    for row in rows:
        known = row.outcome
        trial = (known.trial if known else None) or (None, None)
        broken = [text for text, by in known.broken.items() if by > 0] if known else []
        found.append(
            Tried(
                at=site.at,
                number=row.number,
                state=row.state,
                point=row.point,
                label=space.called(search.space, row.point),
                values=known.result if known else {},
                feasible=known is not None and known.feasible,
                why=(known.why if known else None) or (f"not {broken[0]}" if broken else None),
                trial_id=trial[0],
                evaluation_id=trial[1],
            )
        )
    return with_front(found, search, metrics)


def baselines(there: Sequence[Site], records: Mapping[Key, Record]) -> Iterator[Tried]:
    for site in there:
        record = records.get(site.own.key)
        if record is not None and record.state == "done":
            yield Tried(
                at=site.at,
                number=-1,
                state="complete",
                label=BASELINE,
                values=record.result,
                feasible=True,
                trial_id=site.own.id,
                evaluation_id=site.own.evaluation_id,
            )


# ---- before the first trial


def check(sweep: Sweep, there: Sequence[Site], data: Path | None) -> list[Trial]:
    """Raises SpecError for a sampler that cannot be, and for what the trainer's own configuration
    refuses at a corner of the space. Returns a trial of each corner of one study."""
    check_sampler(sweep.search)
    answers = Answers(data, trainers(sweep), axes=sweep.axes)
    found = []
    for site in there[:1]:
        for point in space.corners(sweep.search.space):
            trial = trial_at(sweep, site, point, answers)
            found += [trial] if trial else []
    answers.raise_problems()
    return found


def trial_at(
    sweep: Sweep, site: Site, point: Mapping[str, object], answers: Answers
) -> Trial | None:
    """None if its configuration is wrong: `answers` says why."""
    trainer = trainer_of(sweep, site.point)
    settings = {
        **settings_of(sweep, site.point),
        **space.settings(sweep.search.space, point),
        **sweep.overrides,
    }
    answer = answers.ask(trainer, settings)
    if answer is None:
        return None
    return Trial(
        trainer=trainer,
        config=answer.config,
        evaluation=answer.evaluation,
        seed=seed_of(sweep, site.point),
        data_digest=answer.data_digest,
        labels={**site.at, CONFIGURATION: space.called(sweep.search.space, point)},
    )


def halving(sweep: Sweep, there: Sequence[Site], store: Path) -> Halving | None:
    """The rule by which trials of a search end early, as the processes that run them need it."""
    if (prune := sweep.search.prune) is None:
        return None
    return Halving(
        root=store / "searches",
        studies={tuple(site.at.items()): site.folder for site in there},
        sources=sources(prune.metric, sweep.metrics),
        by=sources(prune.by, sweep.metrics)[0],
        goal=prune.goal,
        grace=prune.grace,
        factor=prune.factor,
        alike=sources(prune.alike, sweep.metrics)[0] if prune.alike else None,
    )


# ---- the search


class Searching:
    """A search under way, as one worker is at it. It has state because trials are asked for in
    one thread and told of in another, and because what it has begun it has to tell of."""

    def __init__(
        self,
        sweep: Sweep,
        *,
        there: Sequence[Site],
        store: Path,
        data: Path | None,
        account: Account,
        retry: frozenset[str] = frozenset(),
        on_begin: Callable[[Trial], None] = lambda trial: None,
        on_tell: Callable[[Site, int, Trial, Outcome], None] = lambda *told: None,
    ):
        self.sweep, self.search, self.sites = sweep, sweep.search, there
        self.folder, self.account, self.retry = Folder(store), account, retry
        self.on_begin, self.on_tell = on_begin, on_tell
        self.halving = halving(sweep, there, store)
        self.answers = Answers(data, trainers(sweep), axes=sweep.axes)
        url = resolved(self.search.storage, store)
        make_room(url)
        storage = Storage(url)
        self.studies = {p.folder: Study.at(storage, p.name, self.search) for p in there}
        self.begun: dict[Key, list[tuple[Site, int, Trial]]] = {}
        self.ended: dict[tuple[str, Key], Outcome] = {}
        for site in there:
            for row in self.studies[site.folder].rows():
                if row.outcome is not None and row.outcome.trial is not None:
                    self.ended[site.folder, Key(*row.outcome.trial)] = row.outcome
        self.asked = dict.fromkeys((site.folder for site in there), 0)
        self.own = [site for site in there if not self.knows_whole(site)]
        self._asked_out: dict[str, float] = {}  # when a study had nothing more to try
        self.lock = threading.RLock()

    def coming(self) -> Iterator[Trial | None]:
        """The trials to run, as there is room: first the file's own configuration for each study,
        which says what a whole trial takes. None: nothing now, ask again."""
        for site in self.own:
            if self.may_start():
                self.on_begin(site.own)
                yield site.own
        while self.may_start():
            with self.lock:
                trial = self.next()
                waiting = trial is None and not all(map(self.is_over, self.sites))
            if trial is not None:
                self.on_begin(trial)
                yield trial
            elif waiting:
                yield None
            else:
                return

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Workers on other machines are told that this one lives, however long its trials are."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(BEAT_SECONDS):
                for study in self.studies.values():
                    # A fault that lasts shows when the next trial is asked for.
                    with contextlib.suppress(EnvironmentFault):
                        study.beat()

        thread = threading.Thread(target=beat, name="heartbeat of a search", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def may_start(self) -> bool:
        if self.account.limited and (said := self.account.reached()) is not None:
            self.account.ended = said
            return False
        return True

    def next(self) -> Trial | None:
        """Of the study with the fewest trials under way first, and of those of the one that was
        asked least."""
        for site in sorted(self.sites, key=lambda it: (self.under_way(it), self.asked[it.folder])):
            while self.has_room(site):
                asked = self.studies[site.folder].ask()
                if asked is None:
                    self._asked_out[site.folder] = time.monotonic()
                    break
                self.asked[site.folder] += 1
                if (trial := self.begin(site, asked)) is not None:
                    return trial
        return None

    def under_way(self, site: Site) -> int:
        return len(self.studies[site.folder].open)

    def has_room(self, site: Site) -> bool:
        asked = self._asked_out.get(site.folder)
        if asked is not None and time.monotonic() - asked < SECONDS_BETWEEN_QUESTIONS:
            return False
        return self.under_way(site) < self.search.parallel

    def is_over(self, site: Site) -> bool:
        """Whether a study has all its trials, none of which is under way, here or elsewhere."""
        if site.folder not in self._asked_out or self.under_way(site):
            return False
        return is_complete(self.studies[site.folder].rows(), self.search)

    def begin(self, site: Site, asked: Asked) -> Trial | None:
        """The trial of a point, if it has to be run: else it is told of already."""
        self.answers.wrong, self.answers.missing = Problems(), Problems()
        trial = trial_at(self.sweep, site, asked.point, self.answers)
        if trial is None:
            said = "; ".join(problem.message for problem in self.answers.wrong.in_order())
            self.studies[site.folder].tell(asked.number, Outcome(state="failed", why=said))
            return None
        self.account.include(trial.id)
        under_way = self.begun.setdefault(trial.key, [])
        under_way.append((site, asked.number, trial))
        if len(under_way) > 1:
            return None  # Told when the first one is.
        outcome = self.ended.get((site.folder, trial.key)) or self.known(trial)
        if outcome is not None:
            self.tell(trial.key, outcome)
            return None
        return trial

    def known(self, trial: Trial) -> Outcome | None:
        """What the store has of a trial already, and a run would not do again."""
        record = self.folder.record(trial)
        if record is None or record.state == "running" or record.state in self.retry:
            return None
        return self.outcome(record)

    def told(self, record: Record) -> None:
        """To be called for each trial that came to an end."""
        with self.lock:
            for site in self.own:
                if record.key == site.own.key:
                    self.place_rungs(site, record)
            if record.key in self.begun:
                self.tell(record.key, self.outcome(record))

    def tell(self, key: Key, outcome: Outcome) -> None:
        for site, number, trial in self.begun.pop(key):
            self.studies[site.folder].tell(number, outcome)
            self.ended[site.folder, key] = outcome
            self.on_tell(site, number, trial, outcome)

    def outcome(self, record: Record) -> Outcome:
        """What a record says to a study."""
        result, metrics = dict(record.result), self.sweep.metrics
        found = {it.metric: value(it.metric, result, metrics) for it in self.search.objectives}
        objectives = tuple(it for it in found.values() if it is not None)
        common = {"result": result, "trial": tuple(record.key)}
        if record.state == "pruned":
            whole = objectives if len(objectives) == len(found) else ()
            return Outcome(state="pruned", objectives=whole, why=record.error, **common)
        if record.state != "done":
            return Outcome(state="failed", why=f"{record.state}: {record.error}", **common)
        if lacking := [name for name, it in found.items() if it is None or not math.isfinite(it)]:
            return Outcome(state="failed", why=f"it reported no {', '.join(lacking)}", **common)
        broken = {}
        for constraint in self.search.constraints:
            by = violation(constraint.test, lambda name: value(name, result, metrics))
            broken[str(constraint)] = by
        return Outcome(state="complete", objectives=objectives, broken=broken, **common)

    # ---- what a whole trial takes

    def knows_whole(self, site: Site) -> bool:
        """Whether the file's own configuration has been trained, and its rungs are placed."""
        record = self.folder.record(site.own)
        if record is None or record.state != "done":
            return False
        self.place_rungs(site, record)
        return True

    def place_rungs(self, site: Site, record: Record) -> None:
        whole = record.state == "done" and self.halving is not None
        if whole and self.halving.by in record.result:
            self.halving.place_rungs(site.folder, record.result[self.halving.by])


def make_room(url: str) -> None:
    """The folder in which a database in a file is to be."""
    if url.startswith("sqlite:///"):
        folder = Path(url.removeprefix("sqlite:///")).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise EnvironmentFault(f"cannot make the folder {folder}: {fault}") from fault


# ---- constraints


def violation(test: Expression, lookup: Callable[[str], float | None]) -> float:
    """By how much a condition over metrics is broken: 0 or less where it holds. A comparison
    with a metric that is not there does not hold, and neither does its contrary."""
    return broken_by(test, lookup, holding=True)


def broken_by(test: Expression, lookup: Callable[[str], float | None], *, holding: bool) -> float:
    """Under `not`, what is there has to be broken: `and` and `or` change places."""
    match test:
        case Binary(op="and" | "or" as op, left=left, right=right):
            worse = max if (op == "and") == holding else min
            return worse(broken_by(side, lookup, holding=holding) for side in (left, right))
        case Unary(op="not", operand=operand):
            return broken_by(operand, lookup, holding=not holding)
        case Binary(op=op, left=left, right=right):
            sides = [compiled(left)(lookup)] if op == "in" else []
            sides = sides or [compiled(left)(lookup), compiled(right)(lookup)]
            if any(side is None for side in sides):
                return 1.0
            holds = bool(compiled(test)(lookup)) == holding
            apart = 1.0 if op in ("in", "!=") else abs(float(sides[0]) - float(sides[-1]))
            return -apart if holds else max(apart, LEAST)
    raise AssertionError(written(test))
