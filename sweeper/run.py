"""A sweep in; its tables and figures out. The whole pipeline, in the order in which it happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.claims import Verdicts, judge
from sweeper.design import expand
from sweeper.dispatch import device, dispatcher, fitted, slots
from sweeper.errors import TrainerError
from sweeper.plan import Plan, plan
from sweeper.provenance import code_digest
from sweeper.record import Measurement, Record
from sweeper.render import RENDERERS
from sweeper.render.claims import CLAIM_RENDERERS
from sweeper.spec import Resources, Sweep
from sweeper.tables import Table, tabulate
from sweeper.track import open_store
from sweeper.track.courier import Courier
from sweeper.track.folder import Folder, make
from sweeper.track.parcel import Origin
from sweeper.track.sealed import write_whole
from sweeper.trainer import check
from sweeper.trial import Trial
from sweeper.worker import Surroundings

if TYPE_CHECKING:
    from sweeper.figures import Figure  # Loads numpy, which a plan has no need of.


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where things are: records under `store`, corpora under `data` (absolute paths), runs
    in MLflow at the URI `tracking` (None: a database in the store)."""

    store: Path
    data: Path | None = None
    tracking: str | None = None

    @property
    def folder(self) -> Folder:
        return Folder(self.store)

    def tables(self, sweep: Sweep) -> Path:
        return self.store / "tables" / f"{sweep.name}.{sweep.variant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What trials are run with. Making one finds out that they cannot be."""

    by: str  # the dispatcher's name
    resources: Resources
    slots: int

    @classmethod
    def for_(cls, sweep: Sweep, by: str, at_most: int | None) -> Machine:
        dispatcher(by)
        resources = fitted(sweep.resources)
        room = 1 if by == "inline" else slots(resources)
        return cls(by=by, resources=resources, slots=min(room, at_most or room))


def look(sweep: Sweep, place: Place, retry: Iterable[str] = (), source: str = "folder") -> Plan:
    """The sweep's trials, what the store called `source` knows of them, and what is left.
    Raises a SweeperError for whatever would keep them from running."""
    try:
        check(sweep.trainer)
    except TrainerError as error:
        found = [replace(problem, mark=sweep.trainer_mark) for problem in error.problems]
        raise TrainerError(*found) from None
    return look_again(sweep, expand(sweep, place.data), place, retry, source)


def look_again(
    sweep: Sweep,
    trials: tuple[Trial, ...],
    place: Place,
    retry: Iterable[str] = (),
    source: str = "folder",
) -> Plan:
    store = open_store(source, place.store, place.tracking)
    records = store.find(trials)
    done = {key for key, record in records.items() if record.state == "done"}
    trained = store.trained(trial for trial in trials if trial.key not in done)
    return plan(trials, records, code_digest(sweep.trainer), retry, trained)


def clear(plan: Plan, place: Place) -> None:
    """Forget what is to be made anew: a checkpoint of other code, or of a run that
    diverged, is nothing to continue from. Where only a scoring diverged, training did not:
    its checkpoint, and what other evaluations gave, stay."""
    for trial in plan.todo:
        state = plan.states[trial.key]
        if state == "stale" or (state == "diverged" and trial.id not in plan.trained):
            place.folder.forget(trial.id)


def train(
    todo: Iterable[Trial],
    place: Place,
    machine: Machine,
    on_record: Callable[[Record], None],
    stop: threading.Event,
    *,
    score_only: bool = False,
) -> None:
    """Run each trial; `on_record` is told as each ends. Returns early when `stop` is set.
    With `score_only` what is trained is scored, and nothing is trained."""
    surroundings = Surroundings(
        store=place.store,
        data=place.data,
        device=device(machine.resources),
        cpus=machine.resources.cpus,
        score_only=score_only,
    )
    dispatcher(machine.by)(
        todo,
        surroundings,
        on_record,
        resources=machine.resources,
        slots=machine.slots,
        stop=stop,
    )


def tables(sweep: Sweep, plan: Plan, place: Place, names: Iterable[str] = ()) -> list[Table]:
    """The named tables of the sweep (all of them by default), from the plan's records."""
    return [
        tabulate(
            sweep.tables[name],
            sweep,
            plan.trials,
            plan.records,
            states=plan.states,
            histories=histories(place),
        )
        for name in names or sweep.tables
    ]


def histories(place: Place) -> Callable[[Trial], tuple[Measurement, ...]]:
    """What is recorded of a trial's course, under its own evaluation."""
    return lambda trial: place.folder.history(trial.id, trial.evaluation_id)


def figures(sweep: Sweep, plan: Plan, place: Place, names: Iterable[str] = ()) -> list[Figure]:
    """The named figures of the sweep (all of them by default), as numbers."""
    from sweeper.figures import compose

    return [
        compose(
            sweep.figures[name],
            sweep,
            plan.trials,
            plan.records,
            states=plan.states,
            histories=histories(place),
            artifacts=lambda trial, file: place.folder.artifact(trial.id, file),
        )
        for name in names or sweep.figures
    ]


def drawn(
    sweep: Sweep, figures: Iterable[Figure], place: Place, styles: Iterable[str] = ()
) -> list[Path]:
    """Each figure in `styles`, or in the formats that the file asks for, beside the tables."""
    from sweeper.figures import draw

    folder = place.tables(sweep)
    make(folder)
    written = []
    for figure in figures:
        for style in styles or sweep.figures[figure.name].write:
            path = folder / f"{figure.name}.{style}"
            write_whole(path, draw(figure, style))
            written.append(path)
    return written


def claims(sweep: Sweep, plan: Plan, names: Iterable[str] = ()) -> Verdicts:
    """What the plan's records say of the named claims of the sweep (all of them by default)."""
    return judge(sweep, plan.trials, plan.records, states=plan.states, names=names)


def courier(sweep: Sweep, plan: Plan, place: Place, *, again: bool = False) -> Courier:
    """Who takes records and tables to MLflow while trials run, told of the records that
    there are already; `again`: also of what MLflow has."""
    rows = {name: table.rows for name, table in sweep.tables.items()}
    origin = Origin(sweep=sweep.name, profile=sweep.variant, rows=rows)
    messenger = Courier(place.folder, origin, place.tracking, again=again)
    for trial in plan.trials:
        if trial.key in plan.records:
            messenger.notice(trial)
    return messenger


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a sweep is for, from what is there."""

    tables: list[Table]
    claims: Verdicts
    figures: list[Figure]

    @property
    def filled(self) -> bool:
        return all(it.filled for it in (*self.tables, *self.figures))

    def __str__(self) -> str:
        there = {"tables": self.tables, "figures": self.figures, "claims": self.claims.verdicts}
        return " and ".join(name for name, some in there.items() if some)


def results(sweep: Sweep, plan: Plan, place: Place, courier: Courier) -> Results:
    """Tables, claims and figures, written beside each other and sent to MLflow."""
    made = Results(
        tables=tables(sweep, plan, place),
        claims=claims(sweep, plan),
        figures=figures(sweep, plan, place),
    )
    publish(sweep, made.tables, made.claims, place, courier)
    courier.publish_figures(drawn(sweep, made.figures, place))
    return made


def publish(
    sweep: Sweep, tables: Iterable[Table], claims: Verdicts, place: Place, courier: Courier
) -> None:
    """Each table in the formats that the file asks for, and what came of the claims, in the
    store and in MLflow."""
    folder = place.tables(sweep)
    make(folder)
    written = []
    said = {table.name: RENDERERS["md"](table) for table in tables}
    for table in tables:
        for style in sweep.tables[table.name].write:
            path = folder / f"{table.name}.{style}"
            write_whole(path, RENDERERS[style](table).encode())
            written.append(path)
    if claims.verdicts:
        said["claims"] = CLAIM_RENDERERS["md"](claims)
        written.append(folder / "claims.md")
        write_whole(written[-1], said["claims"].encode())
    if written:
        courier.publish_tables(said, written)
