"""A sweep in; its tables out. The whole pipeline, in the order in which it happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from sweeper.design import expand
from sweeper.dispatch import device, dispatcher, fitted, slots
from sweeper.errors import TrainerError
from sweeper.plan import Plan, plan
from sweeper.provenance import code_digest
from sweeper.record import Record
from sweeper.render import RENDERERS
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
    records = open_store(source, place.store, place.tracking).find(trials)
    return plan(trials, records, code_digest(sweep.trainer), retry)


def clear(plan: Plan, place: Place) -> None:
    """Forget what is to be made anew: a checkpoint of other code, or of a run that
    diverged, is nothing to continue from."""
    for trial in plan.todo:
        if plan.states[trial.id] in ("stale", "diverged"):
            place.folder.forget(trial.id)


def train(
    todo: Iterable[Trial],
    place: Place,
    machine: Machine,
    on_record: Callable[[Record], None],
    stop: threading.Event,
) -> None:
    """Run each trial; `on_record` is told as each ends. Returns early when `stop` is set."""
    surroundings = Surroundings(
        store=place.store,
        data=place.data,
        device=device(machine.resources),
        cpus=machine.resources.cpus,
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
            histories=lambda trial: place.folder.history(trial.id, trial.evaluation_id),
        )
        for name in names or sweep.tables
    ]


def courier(sweep: Sweep, plan: Plan, place: Place, *, again: bool = False) -> Courier:
    """Who takes records and tables to MLflow while trials run, told of the records that
    there are already; `again`: also of what MLflow has."""
    rows = {name: table.rows for name, table in sweep.tables.items()}
    origin = Origin(sweep=sweep.name, profile=sweep.variant, rows=rows)
    messenger = Courier(place.folder, origin, place.tracking, again=again)
    for trial in plan.trials:
        if trial.id in plan.records:
            messenger.notice(trial)
    return messenger


def publish(sweep: Sweep, tables: Iterable[Table], place: Place, courier: Courier) -> None:
    """Each table in the formats that the file asks for, in the store and in MLflow."""
    folder = place.tables(sweep)
    make(folder)
    written = []
    for table in tables:
        for style in sweep.tables[table.name].write:
            path = folder / f"{table.name}.{style}"
            write_whole(path, RENDERERS[style](table).encode())
            written.append(path)
    courier.publish_tables({table.name: RENDERERS["md"](table) for table in tables}, written)
