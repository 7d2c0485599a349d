"""A sweep in; its tables and figures out. The whole pipeline, in the order in which it happens."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper import answers, estimates
from sweeper.budget import UNLIMITED, Account, Spent, over
from sweeper.changes import Changes
from sweeper.circuit_breaker import CircuitBreaker
from sweeper.circumstances import unlike, unlike_here
from sweeper.claims import Verdicts, judge
from sweeper.comparing import compare
from sweeper.design import chosen, expand, idle, points, trainers
from sweeper.dispatch import device, dispatcher, fitted, joined, nodes, slots
from sweeper.dispatch.nodes import Cluster
from sweeper.errors import (
    CorruptRecord,
    EnvironmentFault,
    Mark,
    OverBudget,
    Problem,
    SpecError,
    TrainerError,
)
from sweeper.estimates import Estimate, estimate
from sweeper.halving import Halving
from sweeper.objectives import sources
from sweeper.plan import Plan, plan
from sweeper.provenance import code_digest, here
from sweeper.record import Measurement, Record
from sweeper.redaction import references
from sweeper.render import RENDERERS, files
from sweeper.render.claims import CLAIM_RENDERERS
from sweeper.render.tried import tried_csv
from sweeper.reported import configurations, unreported
from sweeper.sharing import Shared, share
from sweeper.snapshot import Snapshot
from sweeper.spec import Resources, Sweep
from sweeper.spec.conditions import read_names
from sweeper.spec.sweep import Curves, Limits
from sweeper.tables import Table, mixtures, tabulate, unshown
from sweeper.track import adopting, open_store, owner, snapshots
from sweeper.track.adopting import Taken
from sweeper.track.courier import Courier, has_answered, remember_answer
from sweeper.track.folder import Folder, make
from sweeper.track.lease import Lease, LeaseHeld
from sweeper.track.mirror import Mirror, bring, copy_rest
from sweeper.track.mlflow import default_uri
from sweeper.track.parcel import Origin
from sweeper.track.reach import Away, admitted, reach
from sweeper.track.sealed import write_whole
from sweeper.trainer import check
from sweeper.trial import Key, TrainerRef, Trial
from sweeper.worker import Surroundings

TOGETHER = 8  # trials that are got from the mirror at once

if TYPE_CHECKING:
    from sweeper.figures import Figure  # Loads numpy, which a plan has no need of.
    from sweeper.searching import Site  # Loads Optuna.


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where things are: records under `store`, corpora under `data` (absolute paths), runs
    in MLflow at the URI `tracking` (None: a database in the store), copies of what the trials
    leave at the `mirror`, if there is one."""

    store: Path
    data: Path | None = None
    tracking: str | None = None
    mirror: Mirror | None = None

    @property
    def folder(self) -> Folder:
        return Folder(self.store)

    @property
    def shared(self) -> str | None:
        """The URI of an MLflow that others may publish to, too: that of the store is its own."""
        return None if self.tracking in (None, default_uri(self.store)) else self.tracking

    def tables(self, sweep: Sweep) -> Path:
        return self.store / "tables" / f"{sweep.name}.{sweep.variant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What trials are run with. Making one finds out that they cannot be."""

    by: str  # the dispatcher's name
    resources: Resources
    slots: int
    cluster: Cluster | None = None  # one that was joined

    @classmethod
    def for_(
        cls, sweep: Sweep, by: str, at_most: int | None, cluster: Cluster | None = None
    ) -> Machine:
        if cluster is not None:
            return cls.of_cluster(sweep, by, at_most, cluster)
        dispatcher(by)
        resources = fitted(sweep.resources)
        room = 1 if by == "inline" else slots(resources)
        return cls(by=by, resources=resources, slots=min(room, at_most or room))

    @classmethod
    def of_cluster(cls, sweep: Sweep, by: str, at_most: int | None, cluster: Cluster) -> Machine:
        if by != "ray":
            raise SpecError(f"--dispatch {by} joins no Ray cluster: leave that or --address out")
        there = joined(cluster.address)
        resources = nodes.fitted(sweep.resources, there)
        if not cluster.wait:
            nodes.refuse_small(resources, there)
        room = max(nodes.room(resources, there), 1)
        # Who waits for a node may ask for more at once than those of now have room for.
        most = at_most or room if cluster.wait else min(room, at_most or room)
        return cls(by=by, resources=resources, slots=most, cluster=cluster)


def look(
    sweep: Sweep,
    place: Place,
    retry: Iterable[str] = (),
    source: str = "folder",
    where: str | None = None,
) -> Plan:
    """The sweep's trials, what the store called `source` knows of them, and what is left;
    with `where`, a condition, only that of the trials at which it holds. Raises a
    SweeperError for whatever would keep them from running."""
    assert sweep.search is None or sweep.found is not None, "look up first what a search found"
    check_trainers(sweep)
    holds = chosen(sweep, where) if where is not None else None
    trials = expand(sweep, place.data)
    check_placeholders(sweep, trials)
    if wrong := unreported(sweep, configurations(trials)):
        raise SpecError(*wrong)
    if mixed := mixtures(sweep, trials):
        raise SpecError(*mixed)
    asked = None
    if holds is not None:
        at = zip(points(sweep), trials, strict=True)
        asked = frozenset(trial.key for (point, _), trial in at if holds(point))
        if not asked:
            raise SpecError(f"--where: no trial of {sweep.name} has {where}")
    return look_again(sweep, trials, place, retry, source, asked)


def remarks(sweep: Sweep, plan: Plan, place: Place) -> list[Problem]:
    """What is no error and seldom meant."""
    alone = unshown(sweep, plan.trials)
    which = ", ".join(dict.fromkeys(" ".join(t.labels.values()) for t in alone[:3]))
    said = f"{len(alone)} included trials are in no table, figure or claim ({which} ...)"
    mark = sweep.include[0].mark if sweep.include else None
    further = [
        *(f"env:{name}: the variable {name} is not set here" for name in unset(plan.todo)),
        *(elsewhere(sweep, plan) if plan.todo else ()),
        *answers.remarks(plan.trials, place.data),
    ]
    return [
        *idle(sweep),
        *([Problem(message=said, mark=mark)] if alone else []),
        *(Problem(message=line) for line in further),
    ]


def unset(trials: Iterable[Trial]) -> list[str]:
    """The variables that the configurations of the trials name, and that are not set."""
    distinct = {id(part): part for t in trials for part in (t.config, t.evaluation)}.values()
    named = dict.fromkeys(name for part in distinct for name in references(part))
    return [name for name in named if not os.environ.get(name)]


def refuse_unset(plan: Plan) -> None:
    refuse_unset_of(plan.todo)


def refuse_unset_of(trials: Iterable[Trial]) -> None:
    if names := unset(trials):
        raise EnvironmentFault(*(f"env:{name}: the variable {name} is not set" for name in names))


def kept(plan: Plan) -> list[Record]:
    """The results that stand, of the trials that were asked for: a run would not replace them."""
    again = {trial.key for trial in plan.todo}
    keys = dict.fromkeys(trial.key for trial in plan.trials if plan.asked_for(trial))
    return [
        plan.records[key]
        for key in keys
        if plan.states[key] in ("done", "stale") and key not in again
    ]


def elsewhere(sweep: Sweep, plan: Plan) -> list[str]:
    """How many of the results that stand were made with other packages, or on another device,
    than what is left would be here."""
    try:
        by = device(fitted(sweep.resources))
    except EnvironmentFault:
        by = None
    return unlike_here([record.provenance for record in kept(plan)], here(by))


def refuse_unlike(sweep: Sweep, plan: Plan, *, to_run: bool = False) -> None:
    """Raises EnvironmentFault where the results that stand were not all made alike, by the code
    of now; with something `to_run`, also where that would not be made like them here."""
    stand = kept(plan)
    other = sum(plan.states[record.key] == "stale" for record in stand)
    said = [f"{other} of {len(stand)} were made by other code than that of now"] if other else []
    said += unlike([record.provenance for record in stand])
    if to_run:
        said += elsewhere(sweep, plan)
    if said:
        raise EnvironmentFault(*(f"--strict: {line}" for line in said))


def looked_up(sweep: Sweep, place: Place) -> Sweep:
    """A file with a search in, as it was written; the sweep of what that has found so far out
    (see found.derived). Any other as it is."""
    if sweep.search is None:
        return sweep
    from sweeper.searching import looked_up

    check_trainers(sweep)
    return looked_up(sweep, place.store, place.data)


def studies(sweep: Sweep, place: Place) -> tuple[Site, ...]:
    """The studies of a search, which was checked: its sampler, and what the trainer says of the
    corners of its space. Raises a SweeperError for whatever would keep it from running."""
    from sweeper import searching

    check_trainers(sweep)
    there = searching.sites(sweep, place.data)
    corners = searching.check(sweep, there, place.data)
    check_placeholders(sweep, corners or [it.own for it in there])
    if wrong := unreported(sweep, configurations([*(it.own for it in there), *corners])):
        raise SpecError(*wrong)
    return there


def search(
    sweep: Sweep,
    place: Place,
    machine: Machine,
    on_record: Callable[[Record], None],
    stop: threading.Event,
    *,
    hurry: threading.Event | None = None,
    retry: frozenset[str] = frozenset(),
    proven: bool = False,
    keep_going: bool = False,
    advice: str = "",
    about: Sequence[Trial] = (),
    say: Callable[[str], None] = lambda text: None,
    **further: Any,
) -> None:
    """Run the trials that the studies of a search ask for; `keep_going` and `advice` are as for
    `train`. What fails is ordinary in a search: where it is `proven`, for trials of it have come
    to something, those that fail alike do not end it. `further` is what searching.Searching
    is made with."""
    from sweeper.searching import Searching

    searching = Searching(sweep, store=place.store, data=place.data, retry=retry, **further)

    def told(record: Record) -> None:
        with searching.lock:  # Trials are begun in another thread.
            searching.told(record)
            on_record(record)

    with searching.beating():
        train(
            searching.coming(),
            place,
            machine,
            told,
            stop,
            hurry=hurry,
            limits=sweep.budget.per_trial,
            retry=retry,
            halving=searching.halving,
            proven=proven,
            keep_going=keep_going or proven,
            advice=advice,
            about=about,
            say=say,
        )


def check_trainers(sweep: Sweep) -> None:
    wrong = [problem for ref, mark in trainers(sweep).items() for problem in faults(ref, mark)]
    if wrong:
        raise TrainerError(*wrong)


def check_placeholders(sweep: Sweep, trials: Iterable[Trial]) -> None:
    """What a command asks for is in the configuration of each trial that it runs."""
    asked = {(t.trainer, id(t.config)): t for t in trials if t.trainer.command is not None}
    named = trainers(sweep)
    wrong = [
        problem
        for trial in asked.values()
        for problem in faults(trial.trainer, named[trial.trainer], trial.full_config)
    ]
    if wrong:
        raise TrainerError(*dict.fromkeys(wrong))


def faults(
    trainer: TrainerRef, mark: Mark | None, config: Mapping[str, Any] | None = None
) -> list[Problem]:
    try:
        check(trainer, config)
    except TrainerError as error:
        return [replace(problem, mark=mark) for problem in error.problems]
    return []


def look_again(
    sweep: Sweep,
    trials: tuple[Trial, ...],
    place: Place,
    retry: Iterable[str] = (),
    source: str = "folder",
    chosen: frozenset[Key] | None = None,
) -> Plan:
    store = open_store(source, place.store, place.tracking)
    records = store.find(trials)
    done = {key for key, record in records.items() if record.state == "done"}
    trained = store.trained(trial for trial in trials if trial.key not in done)
    return plan(trials, records, code_digest, retry, trained, chosen)


def finished_elsewhere(plan: Plan, place: Place, say: Callable[[str], None]) -> list[str]:
    """The ids of the trials without a result here that have one at the mirror. Raises
    EnvironmentFault where that does not answer."""
    if place.mirror is None:
        return []
    wanting = {
        trial.id
        for trial in plan.trials
        if plan.asked_for(trial) and plan.states[trial.key] in ("missing", "unscored")
    }
    there = place.mirror.manifests(sorted(wanting & place.mirror.ids()), say) if wanting else {}
    return [
        trial_id
        for trial_id, manifest in there.items()
        if any(not (place.folder.path(trial_id) / name).exists() for name in manifest.results)
    ]


def get_finished(plan: Plan, place: Place, say: Callable[[str], None]) -> int:
    """Gets those from the mirror, which was reached; how many came. What cannot be had is said,
    and is trained."""

    def get(trial_id: str) -> bool:
        try:
            return bring(place.mirror, place.folder.path(trial_id))
        except LeaseHeld:
            return False  # A process is at it, and does this itself.
        except CorruptRecord as fault:
            say(str(fault))
            return False

    wanted = finished_elsewhere(plan, place, say)
    with ThreadPoolExecutor(TOGETHER) as pool:  # Most of the time an answer is waited for.
        try:
            return sum(pool.map(get, wanted))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def copy_left(
    ids: set[str],
    place: Place,
    todo: set[str],
    seconds: float = float("inf"),
    *,
    strays: bool = False,
) -> tuple[list[str], str | None]:
    """Copies to the mirror what it lacks of the trials in `todo`, and those of `ids` that it has
    nothing of, in `seconds`: the ids of which it could not, and why. `strays` are cleared there,
    if they are to be."""
    here = ids.intersection(place.folder.ids())
    try:
        unknown = here - place.mirror.ids()
    except EnvironmentFault as fault:
        return sorted(here & todo), str(fault)
    wanted = sorted(here & (todo | unknown))
    return copy_rest(place.mirror, place.store / "trials", wanted, seconds, strays=strays)


def with_tried(sweep: Sweep, plan: Plan, place: Place) -> Plan:
    """The plan of a sweep, and what its search has tried beside that."""
    there = {trial.key for trial in plan.trials}
    tried = [trial for trial in sweep.found.trials if trial.key not in there] if sweep.found else []
    return look_again(sweep, (*plan.trials, *tried), place) if tried else plan


def refuse_unreachable(place: Place) -> None:
    """Raises Away where MLflow does not answer now, and has answered before; EnvironmentFault
    where none ever has, where it does not let us in, or is none. One that answers is
    remembered in the store."""
    try:
        reach(place.shared)
        admitted(place.shared)
    except Away as fault:
        raise away(fault, place) from fault
    place.folder.prepare()
    remember_answer(place.folder, place.shared)


def take_over(sweep: Sweep, plan: Plan, place: Place) -> Taken:
    """Make the store's own what others have published of the trials that are to be run and of
    which there is nothing here. Raises what `refuse_unreachable` does, Away where MLflow cannot
    be asked now, and could be before, and EnvironmentFault where the store cannot be written."""
    wanted = adoptable(plan, place)
    codes = {ref: code_digest(ref) for ref in {trial.trainer for trial in wanted}}
    asked = [(trial, codes[trial.trainer]) for trial in wanted]
    try:
        taken = adopting.take_over(asked, place.folder, place.shared, origin(sweep))
    except adopting.Unasked as fault:
        raise away(fault, place) from fault
    remember_answer(place.folder, place.shared)
    return taken


def away(fault: EnvironmentFault, place: Place) -> EnvironmentFault:
    """That MLflow cannot be asked: Away only where this store has met it before."""
    if has_answered(place.folder, place.shared):
        return Away(*fault.problems)
    said = "--offline starts without it, and `sweeper sync` delivers later"
    return EnvironmentFault(f"{fault}; {said}")


def trains(plan: Plan) -> bool:
    """Whether a run would train something: not only score it, or wait for who is at it."""
    return any(plan.states[trial.key] not in ("unscored", "running") for trial in plan.todo)


def adoptable(plan: Plan, place: Place) -> list[Trial]:
    """Those that a run would train: also what was trained for another evaluation, where nothing
    is left of it that could be scored."""
    return [
        trial
        for trial in plan.todo
        if plan.states[trial.key] in ("missing", "failed", "exceeded")
        or (plan.states[trial.key] == "unscored" and not place.folder.keeps_training(trial.id))
    ]


def changes(sweep: Sweep, plan: Plan, place: Place) -> Changes | None:
    """What is different in the design since the sweep's last run; None before a first one.
    Raises CorruptRecord where what that left cannot be believed."""
    now = Snapshot.of(sweep, plan.trials)
    then = snapshots.kept(place.store, now.sweep, now.variant, now.source)
    return None if then is None else compare(then, now)


def remember(
    sweep: Sweep,
    plan: Plan,
    place: Place,
    *,
    begun: bool = False,
    tried: Iterable[Key] = (),
) -> None:
    """Leave the design in the store, for the next plan to say what has changed; where trials
    were only `begun`, and no run has left them, so that nobody takes them for waste. `tried` is
    what a search has come to beside what was looked up."""
    found = sweep.found.tried if sweep.found else ()
    tried = [*(Key(it.trial_id, it.evaluation_id) for it in found if it.trial_id), *tried]
    now = Snapshot.of(sweep, plan.trials, time.time(), begun=begun, tried=tried)
    if begun:
        with suppress(CorruptRecord):
            then = snapshots.kept(place.store, now.sweep, now.variant, now.source)
            if then is not None and now.keys <= then.keys:
                return
    snapshots.keep(place.store, now)


def owning(
    sweep: Sweep,
    place: Place,
    on_loss: Callable[[Lease], None],
    on_stop: Callable[[owner.Request], None] = lambda request: None,
) -> AbstractContextManager[Callable[[], None]]:
    """A context in which this process is the one that trains the sweep (see track/owner)."""
    return owner.owning(owner_path(sweep, place), on_loss, on_stop)


def joining(
    sweep: Sweep, place: Place, on_stop: Callable[[owner.Request], None]
) -> AbstractContextManager[Callable[[], None]]:
    """A context in which this process trains the sweep beside the one that owns it."""
    return owner.joining(owner_path(sweep, place), on_stop)


def members(sweep: Sweep, place: Place) -> list[owner.Member]:
    """Those that train the sweep now, its owner first."""
    return owner.members(owner_path(sweep, place))


def last_owner(sweep: Sweep, place: Place) -> owner.Member | None:
    """The last process that trained the sweep as its owner, whether it lives or not."""
    return owner.latest(owner_path(sweep, place))


def owner_path(sweep: Sweep, place: Place) -> Path:
    return owner.path_of(place.store, sweep.name, sweep.variant, os.path.abspath(sweep.source))


def namesakes(sweep: Sweep, place: Place) -> list[str]:
    """Other files whose sweeps have this one's name, and were run into this store, too."""
    return snapshots.namesakes(place.store, sweep.name, os.path.abspath(sweep.source))


def shared(sweep: Sweep, plan: Plan, place: Place) -> list[Shared]:
    """What the sweep has in common with each other one that was run here, where it has."""
    keys = [trial.key for trial in plan.trials]
    found = []
    for then in snapshots.all_kept(place.store)[0]:
        if then.sweep == sweep.name or then.begun:
            continue
        name = then.sweep if then.variant == sweep.variant else f"{then.sweep} · {then.variant}"
        found.append(share(keys, then.keys, name, then.at))
    return [one for one in found if one.shared]


def account(sweep: Sweep, plan: Plan, place: Place) -> Account:
    """What the sweep's trials have cost, and those that a search has tried, under its budget."""
    made = Account(sweep.budget.total, plan.trials, place.folder)
    made.include(*(it.trial_id for it in sweep.found.tried if it.trial_id) if sweep.found else ())
    return made


def estimated(
    sweep: Sweep,
    plan: Plan,
    place: Place,
    by: str = "ray",
    at_most: int | None = None,
    cluster: Cluster | None = None,
) -> Estimate:
    """What is left will cost, with as many trials at once as this machine, or the cluster, has
    room for. One without the GPUs that are asked for is taken for one that has them for a single
    trial."""
    if cluster is not None:
        machine = Machine.for_(sweep, by, at_most, cluster)
        return estimate(plan, place.folder, gpus=machine.resources.gpus, slots=machine.slots)
    try:
        resources = fitted(sweep.resources)
        room = 1 if by == "inline" else slots(resources)
    except EnvironmentFault:
        resources, room = sweep.resources, 1
    together = min(room, at_most or room)
    return estimate(plan, place.folder, gpus=resources.gpus, slots=together)


def probes(plan: Plan, place: Place) -> tuple[tuple[Trial, ...], int]:
    """See estimates.probes."""
    return estimates.probes(plan, place.folder)


def running(plan: Plan, place: Place) -> list[Trial]:
    """Of the trials that were asked for those that a process is at, one a training; also where
    the result that other code made still stands."""
    asked = {trial.id: trial for trial in plan.trials if plan.asked_for(trial)}
    return [
        trial
        for trial in asked.values()
        if plan.states[trial.key] == "running"
        or (plan.states[trial.key] == "stale" and place.folder.is_running(trial.id))
    ]


def over_budget(sweep: Sweep, plan: Plan, spent: Spent, left: Spent) -> str | None:
    """Which limit what is spent and what is left pass together, if one; none where nothing is
    left to do. Wall time is that of the run to come."""
    return over(sweep.budget.total, replace(spent, wall=0.0) + left) if plan.todo else None


def refuse_over_budget(sweep: Sweep, plan: Plan, expected: Estimate, spent: Spent) -> None:
    """Raises OverBudget where what is spent, with what is known for sure of the rest, is too
    much: what near configurations took is no ground to refuse a run."""
    if said := over_budget(sweep, plan, spent, expected.sure):
        raise OverBudget(
            f"over the budget: {said}, spent and expected; "
            "run --to-budget goes as far as the budget reaches"
        )


def lost(plan: Plan, record: Record) -> bool:
    """Whether a trial has ended without a result, and its state does not say so: what other
    code made stays until there is something in its place."""
    return record.state != "done" and plan.states[record.key] in ("done", "stale")


def train(
    todo: Iterable[Trial | None],
    place: Place,
    machine: Machine,
    on_record: Callable[[Record], None],
    stop: threading.Event,
    *,
    hurry: threading.Event | None = None,
    limits: Limits = UNLIMITED,
    retry: frozenset[str] = frozenset(),
    score_only: bool = False,
    probe: bool = False,
    halving: Halving | None = None,
    planned: int | None = None,
    proven: bool = False,
    keep_going: bool = False,
    advice: str = "",
    about: Sequence[Trial] = (),
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Run each trial; `on_record` is told as each ends. Returns early when `stop` is set, and
    waits no longer for what runs once `hurry` is. `limits` are those of each; the states in
    `retry` are run again. With `score_only` what is trained is scored, and nothing is
    trained; with `probe` each is stopped once it has said something of its cost. Those of a
    search that are behind are ended by `halving`. Raises CrashLoop where the first of those that
    are `planned` fail alike, unless it is to `keep_going`; `proven`: this code has come to
    results already (see circuit_breaker.py); `advice` is what it says that can be done. Of a
    cluster the nodes are asked whether they can run the trials `about`, and `say` is told what
    becomes of it."""
    surroundings = Surroundings(
        store=place.store,
        data=place.data,
        device=device(machine.resources),
        cpus=machine.resources.cpus,
        gpus=machine.resources.gpus,
        limits=limits,
        retry=retry,
        score_only=score_only,
        probe=probe,
        halving=halving,
        stall=machine.resources.stall,
        mirror=place.mirror,
    )
    breaker = CircuitBreaker(todo, on_record, place.folder, proven=proven, keep_going=keep_going)
    of_cluster: dict[str, Any] = {}
    if machine.cluster is not None:
        of_cluster = {"cluster": {"address": machine.cluster.address}, "about": about, "say": say}
    dispatcher(machine.by)(
        breaker.coming(),
        surroundings,
        breaker.told,
        resources=machine.resources,
        slots=machine.slots,
        stop=stop,
        hurry=hurry,
        **of_cluster,
    )
    if not stop.is_set():
        breaker.refuse(planned, advice)


def tables(
    sweep: Sweep,
    plan: Plan,
    place: Place,
    names: Iterable[str] = (),
    *,
    progress: bool = False,
    damage: list[str] | None = None,
) -> list[Table]:
    """The named tables of the sweep (all of them by default), from the plan's records. With
    `progress` they are made over and over while trials run, so nothing is resampled. `damage`
    is given what could not be believed on the way."""
    return [
        tabulate(
            replace(sweep.tables[name], checkpoints=None) if progress else sweep.tables[name],
            sweep,
            plan.trials,
            plan.records,
            states=plan.states,
            histories=histories(place, damage),
            artifacts=artifacts(place, damage),
        )
        for name in names or sweep.tables
    ]


def histories(
    place: Place, damage: list[str] | None = None
) -> Callable[[Trial], tuple[Measurement, ...]]:
    """What is recorded of a trial's course, under its own evaluation. Raises CorruptRecord for
    what cannot be believed; `damage` is given that, too."""

    def course(trial: Trial) -> tuple[Measurement, ...]:
        with noting(place, damage):
            return place.folder.course(trial)

    return course


def artifacts(
    place: Place, damage: list[str] | None = None
) -> Callable[[Trial, str], bytes | None]:
    """The content of a file that a trial left, by its name; what cannot be believed as above."""

    def content(trial: Trial, name: str) -> bytes | None:
        with noting(place, damage):
            return place.folder.artifact(trial.id, name)

    return content


@contextmanager
def noting(place: Place, damage: list[str] | None) -> Iterator[None]:
    """Says of what is damaged, once, where it is in the store."""
    try:
        yield
    except CorruptRecord as fault:
        said = [str(problem).replace(f"{place.folder.root}/", "") for problem in fault.problems]
        if damage is not None:
            damage += [it for it in said if it not in damage]
        raise CorruptRecord(*said) from fault


def figures(
    sweep: Sweep,
    plan: Plan,
    place: Place,
    names: Iterable[str] = (),
    *,
    damage: list[str] | None = None,
) -> list[Figure]:
    """The named figures of the sweep (all of them by default), as numbers. `damage` is given
    what could not be believed on the way."""
    from sweeper.figures import compose

    plan = with_tried(sweep, plan, place)  # Of a search that is what figures show.
    return [
        compose(
            sweep.figures[name],
            sweep,
            plan.trials,
            plan.records,
            states=plan.states,
            histories=histories(place, damage),
            artifacts=artifacts(place, damage),
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


def report(
    sweep: Sweep,
    plan: Plan,
    place: Place,
    *,
    again: str,
    retry: Callable[[str], str],
    repair: str,
    damage: list[str] | None = None,
) -> str:
    """Everything that there is of a sweep, as one page (see sweeper/report). `again`, `retry`
    and `repair` are what a person types to fill what is missing, to run again what ended in a
    state, and to remove what is corrupt. `damage` is given what could not be believed on the
    way, which the page says, too."""
    from sweeper.figures import draw
    from sweeper.report import gather, page

    damage = [] if damage is None else damage
    made = figures(sweep, plan, place, damage=damage)
    contents = gather(
        sweep,
        plan,
        place.folder,
        histories=histories(place, damage),
        artifacts=artifacts(place, damage),
        damage=damage,
        tables=tables(sweep, plan, place, damage=damage),
        claims=claims(sweep, plan),
        figures=made,
        pictures={figure.name: draw(figure, "png") for figure in made if figure.kind != "curves"},
        again=again,
        retry=retry,
        repair=repair,
    )
    return page(contents)


def claims(sweep: Sweep, plan: Plan, names: Iterable[str] = ()) -> Verdicts:
    """What the plan's records say of the named claims of the sweep (all of them by default)."""
    return judge(sweep, plan.trials, plan.records, states=plan.states, names=names)


def courier(sweep: Sweep, plan: Plan, place: Place, *, again: bool = False) -> Courier:
    """Who takes records and tables to MLflow while trials run, told of the records that
    there are already; `again`: also of what MLflow has."""
    messenger = Courier(place.folder, origin(sweep), place.tracking, again=again)
    for trial in plan.trials:
        if trial.key in plan.records and plan.states[trial.key] != "corrupt":
            messenger.notice(trial)
    for trial in sweep.found.trials if sweep.found else ():
        if trial.key not in plan.states:
            messenger.notice(trial)
    return messenger


def origin(sweep: Sweep) -> Origin:
    """As what MLflow knows the sweep."""
    return Origin(
        sweep=sweep.name,
        profile=sweep.variant,
        rows={name: table.rows for name, table in sweep.tables.items()},
        axes=[axis.name for axis in sweep.axes],
        results=shown(sweep),
        curves=followed(sweep),
    )


def shown(sweep: Sweep) -> list[str]:
    """The result keys that tables show, each once, in reading order."""
    names = dict.fromkeys(name for table in sweep.tables.values() for name in table.values)
    metrics = [sweep.metrics[name] for name in names]
    keys = (key for metric in metrics for key in (metric.source, metric.fallback))
    return list(dict.fromkeys(key for key in keys if key))


def followed(sweep: Sweep) -> list[str]:
    """The result keys of which figures draw the course, each once."""
    curves = [figure for figure in sweep.figures.values() if isinstance(figure, Curves)]
    names = dict.fromkeys(name for figure in curves for name in figure.y)
    known = {name: metric.source for name, metric in sweep.metrics.items()}
    return list(dict.fromkeys(known.get(name, name) for name in names))


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


def results(
    sweep: Sweep, plan: Plan, place: Place, courier: Courier, *, damage: list[str] | None = None
) -> Results:
    """Tables, claims and figures, written beside each other and sent to MLflow. `damage` is
    given what could not be believed on the way."""
    made = Results(
        tables=tables(sweep, plan, place, damage=damage),
        claims=claims(sweep, plan),
        figures=figures(sweep, plan, place, damage=damage),
    )
    publish(sweep, made.tables, made.claims, place, courier)
    courier.publish_figures(drawn(sweep, made.figures, place))
    return made


def tried(sweep: Sweep) -> str:
    """All that a search has tried, for a spreadsheet."""
    search, found = sweep.search, sweep.found
    names = [it.metric for it in search.objectives]
    names += [name for it in search.constraints for name in read_names(it.test)]
    keys = dict.fromkeys(sources(name, sweep.metrics)[0] for name in names)
    return tried_csv(found, search, [*keys])


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
            for ending, text in files(table, style).items():
                path = folder / f"{table.name}.{ending}"
                write_whole(path, text.encode())
                written.append(path)
    if sweep.found:
        written.append(folder / "tried.csv")
        write_whole(written[-1], tried(sweep).encode())
    if claims.verdicts:
        said["claims"] = CLAIM_RENDERERS["md"](claims)
        written.append(folder / "claims.md")
        write_whole(written[-1], said["claims"].encode())
    if written:
        courier.publish_tables(said, written)
