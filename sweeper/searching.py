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
from sweeper.errors import EnvironmentFault, Problem, SpecError, unknown
from sweeper.found import derived, with_front
from sweeper.halving import Halving
from sweeper.objectives import Metrics, sources, value, violation
from sweeper.pulse import every
from sweeper.record import PROGRESS, Record
from sweeper.search import (
    BEAT_SECONDS,
    Asked,
    Outcome,
    Row,
    Storage,
    Study,
    check_sampler,
    database,
    exists,
    resolved,
)
from sweeper.spec.conditions import read_names
from sweeper.spec.expressions import Expression
from sweeper.spec.problems import Problems
from sweeper.spec.search_types import (
    BASELINE,
    CONFIGURATION,
    Found,
    Parameter,
    Prune,
    SearchSpec,
    Tried,
    came_to,
)
from sweeper.spec.sweep import Point, Sweep
from sweeper.track.folder import Folder, make
from sweeper.trial import Key, Trial, digest

SECONDS_BETWEEN_QUESTIONS = 2.0  # to a study of which other workers run the last trials


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One study: the `point` of the design at which it is, the file's own configuration there
    (`own`), and its name. `id` says what is searched."""

    point: Point
    own: Trial
    name: str
    id: str

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
        "sampler": [search.sampler.name, dict(search.sampler.arguments)],
    }
    for (point, _), trial in zip(points(sweep), expand(sweep, data), strict=True):
        own = replace(trial, labels={**trial.labels, CONFIGURATION: BASELINE})
        id = digest([*trial.key, asks])
        at = " ".join(point.labels.values())
        name = " ".join(filter(None, [f"{sweep.name}.{sweep.variant}", at, f"({id[:8]})"]))
        found.append(Site(point=point, own=own, name=name, id=id))
    return tuple(found)


def sources_read(test: Expression, metrics: Metrics) -> list[str]:
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
                    trials.setdefault(trial.key, labelled(trial, row.number, row.outcome))
    records = Folder(store).find(site.own for site in there)
    found = Found(
        tried=tuple(tried),
        baselines=tuple(baselines(there, records)),
        trials=tuple(trials.values()),
        complete=complete,
    )
    return derived(sweep, found)


def labelled(trial: Trial, number: int, outcome: Outcome) -> Trial:
    """A trial that was told of, as MLflow and logs show it."""
    came = came_to(outcome.state, feasible=outcome.feasible)
    told = {"number": str(number), "outcome": came}
    return replace(trial, labels={**trial.labels, **told})


def is_complete(rows: Sequence[Row], search: SearchSpec) -> bool:
    ended = sum(row.outcome is not None for row in rows)
    running = sum(row.state == "running" for row in rows)
    return ended >= search.trials and not running


def tried_of(
    site: Site, rows: Sequence[Row], search: SearchSpec, metrics: Metrics
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


def halving(
    sweep: Sweep, there: Sequence[Site], rungs: Mapping[str, str], store: Path
) -> Halving | None:
    """The rule by which trials of a search end early, as the processes that run them need it;
    `rungs` names the folder of each site's, by its id."""
    if (prune := sweep.search.prune) is None:
        return None
    by = sources(prune.by, sweep.metrics)[0]
    return Halving(
        root=store / "searches",
        studies={tuple(site.at.items()): rungs[site.id] for site in there},
        source=sources(prune.metric, sweep.metrics)[0],
        by=by,
        goal=prune.goal,
        grace=prune.grace,
        factor=prune.factor,
        settled=sources(prune.settled, sweep.metrics)[0] if prune.settled else None,
        cheap_first=by in [sources(it.metric, sweep.metrics)[0] for it in sweep.search.objectives],
        constraints=sweep.search.constraints,
        metrics=sweep.metrics,
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
        self.answers = Answers(data, trainers(sweep), axes=sweep.axes)
        url = resolved(self.search.storage, store)
        if (path := database(url)) is not None:
            make(path.parent)
        storage = Storage(url)
        self.studies = {p.id: Study.at(storage, p.name, self.search) for p in there}
        self.rungs = {site.id: self.studies[site.id].rungs for site in there}
        self.halving = halving(sweep, there, self.rungs, store)
        self.begun: dict[Key, list[tuple[Site, int, Trial]]] = {}
        self.wrong: list[Problem] = []
        self.asked = dict.fromkeys((site.id for site in there), 0)
        self.own = {site.own.key: site for site in there if not self.knows_whole(site)}
        self._asked_out: dict[str, float] = {}  # when a study had nothing more to try
        self.lock = threading.RLock()

    def coming(self) -> Iterator[Trial | None]:
        """The trials to run, as there is room: first the file's own configuration for each study,
        which says what a whole trial takes, and whether it reports what is searched by. None:
        nothing now, ask again. Raises SpecError where it does not."""
        for site in list(self.own.values()):
            if self.may_start():
                self.on_begin(site.own)
                yield site.own
        while self.own and self.may_start():
            yield None
        if self.wrong:
            raise SpecError(*self.wrong)
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

    def beating(self) -> contextlib.AbstractContextManager[None]:
        """Workers on other machines are told that this one lives, however long its trials are."""

        def beat() -> None:
            for study in self.studies.values():
                # A fault that lasts shows when the next trial is asked for.
                with contextlib.suppress(EnvironmentFault):
                    study.beat()

        return every(BEAT_SECONDS, beat, "heartbeat of a search")

    def may_start(self) -> bool:
        if self.account.limited and (said := self.account.reached()) is not None:
            self.account.ended = said
            return False
        return True

    def next(self) -> Trial | None:
        """Of the study with the fewest trials under way first, and of those of the one that was
        asked least."""
        for site in sorted(self.sites, key=lambda it: (self.under_way(it), self.asked[it.id])):
            while self.has_room(site):
                asked = self.studies[site.id].ask()
                if asked is None:
                    self._asked_out[site.id] = time.monotonic()
                    break
                self.asked[site.id] += 1
                if (trial := self.begin(site, asked)) is not None:
                    return trial
        return None

    def under_way(self, site: Site) -> int:
        return len(self.studies[site.id].open)

    def has_room(self, site: Site) -> bool:
        asked = self._asked_out.get(site.id)
        if asked is not None and time.monotonic() - asked < SECONDS_BETWEEN_QUESTIONS:
            return False
        return self.under_way(site) < self.search.parallel

    def is_over(self, site: Site) -> bool:
        """Whether a study has all its trials, none of which is under way, here or elsewhere."""
        if site.id not in self._asked_out or self.under_way(site):
            return False
        return is_complete(self.studies[site.id].rows(), self.search)

    def begin(self, site: Site, asked: Asked) -> Trial | None:
        """The trial of a point, if it has to be run: else it is told of already."""
        self.answers.wrong, self.answers.missing = Problems(), Problems()
        trial = trial_at(self.sweep, site, asked.point, self.answers)
        if trial is None:
            said = "; ".join(problem.message for problem in self.answers.wrong.in_order())
            self.studies[site.id].tell(asked.number, Outcome(state="failed", why=said))
            return None
        self.account.include(trial.id)
        under_way = self.begun.setdefault(trial.key, [])
        under_way.append((site, asked.number, trial))
        if len(under_way) > 1:
            return None  # Told when the first one is.
        outcome = self.known(site, trial)
        if outcome is not None:
            self.tell(trial.key, outcome)
            return None
        return trial

    def known(self, site: Site, trial: Trial) -> Outcome | None:
        """What the study or the store has of a trial already, and a run would not do again: also
        what another worker told of, and what a worker ended and died before it told."""
        for row in self.studies[site.id].rows():
            if row.outcome is not None and row.outcome.trial == trial.key:
                return row.outcome
        if self.halving is not None and (why := self.halving.verdict(trial)) is not None:
            course = self.folder.history(trial.id)
            found = course[-1].values if course else {}
            said = {"result": {key: it for key, it in found.items() if key != PROGRESS}}
            ids = {"trial_id": trial.id, "evaluation_id": trial.evaluation_id}
            return self.outcome(Record(**ids, **said, state="pruned", error=why))
        record = self.folder.record(trial)
        if record is None or record.state == "running" or record.state in self.retry:
            return None
        return self.outcome(record)

    def told(self, record: Record) -> None:
        """To be called for each trial that came to an end."""
        with self.lock:
            if (site := self.own.pop(record.key, None)) is not None:
                self.place_rungs(site, record)
                self.wrong += self.lacking(site, record)
            if record.key in self.begun:
                self.tell(record.key, self.outcome(record))

    def tell(self, key: Key, outcome: Outcome) -> None:
        for site, number, trial in self.begun.pop(key):
            self.studies[site.id].tell(number, outcome)
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
        self.wrong += self.lacking(site, record)
        return True

    def lacking(self, site: Site, record: Record) -> list[Problem]:
        """What a search goes by and the file's own configuration has not reported. One that
        failed says nothing of that."""
        search, prune = self.search, self.search.prune
        if record.state != "done":
            return []
        names = {it.metric: it.mark or search.mark for it in search.objectives}
        names |= {name: it.mark for it in search.constraints for name in read_names(it.test)}
        if prune is not None:
            names |= {it: search.mark for it in (prune.metric, prune.by, prune.settled) if it}
        course = self.folder.history(site.own.id)
        known = {*record.result, *(key for it in course for key in it.values)}
        said = "search: the trainer has not reported it for the file's own configuration"
        return [
            Problem(
                message=f"{said}: {unknown('key', sources(name, self.sweep.metrics)[0], known)}",
                mark=mark,
            )
            for name, mark in names.items()
            if not known.intersection(sources(name, self.sweep.metrics))
        ]

    def place_rungs(self, site: Site, record: Record) -> None:
        whole = record.state == "done" and self.halving is not None
        if whole and self.halving.by in record.result:
            self.halving.place_rungs(self.rungs[site.id], record.result[self.halving.by])
