"""Verbs that train, or would: run, eval, plan."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import click

from sweeper.budget import Account
from sweeper.cli import copies, costs, searches
from sweeper.cli.completing import dispatchers, trial_ids
from sweeper.cli.frame import (
    BUDGET,
    FAILED,
    Opened,
    address_options,
    cluster,
    folder_of_corpora,
    json_option,
    main,
    mirror_options,
    read_sweep,
    strict_option,
    sweep_options,
    where_option,
)
from sweeper.cli.signals import STOPPED, Ended, current, seconds_to_deliver, stopping
from sweeper.cli.words import (
    admit_damage,
    again,
    changed,
    complain,
    listed,
    merged,
    plainly,
    refuse_damage,
    remember,
    shared_with,
    show,
    shown,
    summary,
    undelivered,
)
from sweeper.design import expand
from sweeper.errors import EnvironmentFault, SpecError
from sweeper.merges import merges
from sweeper.plan import RETRIABLE, Plan
from sweeper.record import Record
from sweeper.redaction import without_secrets
from sweeper.render.claims import counted
from sweeper.sharing import Shared, share
from sweeper.sizes import clock
from sweeper.spec.sweep import Sweep
from sweeper.track.lease import LeaseHeld
from sweeper.track.reach import Away
from sweeper.trial import Trial

LISTED = 200  # trials that a plan lists unless it is asked for all
LINES = 10  # on results of others that cannot be adopted

# What can be done where the first trials all failed alike.
GOING_ON = "--keep-going goes on all the same"
RETRYING = f"Once it is mended, the same line with --retry failed does them all; {GOING_ON}"
SCORING = f"Once it is mended, the same line scores them all; {GOING_ON}"
PROBING = "Once it is mended, the same line with --retry failed probes them all"

retry_option = click.option(
    "--retry", multiple=True, type=click.Choice(RETRIABLE), help="Run these again, too."
)


def machine_options(command: Callable) -> Callable:
    """What trials are run by, or would be."""
    dispatch = click.option(
        "--dispatch",
        "by",
        default="ray",
        show_default=True,
        shell_complete=dispatchers,
        help="ray, or inline.",
    )
    slots = click.option(
        "--slots", type=click.IntRange(min=1), help="At most so many trials at once."
    )
    return dispatch(address_options(slots(command)))


join_option = click.option(
    "--join", is_flag=True, help="Beside another command that trains this sweep."
)


keep_going_option = click.option(
    "--keep-going", is_flag=True, help="Also where the first trials all fail alike."
)


offline_option = click.option(
    "--offline",
    envvar="SWEEPER_OFFLINE",
    is_flag=True,
    help="Without asking MLflow for what others have finished; it may be away (SWEEPER_OFFLINE).",
)


@main.command("run")
@machine_options
@join_option
@keep_going_option
@offline_option
@retry_option
@click.option("--to-budget", is_flag=True, help="Go as far as the file's budget reaches.")
@strict_option
@where_option
@mirror_options
@sweep_options
def run_sweep(
    opened: Opened,
    by: str,
    slots: int | None,
    retry: tuple[str, ...],
    to_budget: bool,
    where: str | None,
    join: bool,
    strict: bool,
    keep_going: bool,
    offline: bool,
) -> None:
    """Train what is missing, print and write the tables, draw the figures.

    With --tracking, what others have finished there is not trained again: it is adopted."""
    from sweeper import run
    from sweeper.live import title

    reached, owns = None, False
    online = opened.place.shared is not None and not offline
    if online and opened.searched is not None and not opened.sweep.found.complete:
        with suppress(Away):
            run.refuse_unreachable(opened.place)
    copies.reach(opened)
    if opened.searched is not None:
        refuse_where(where)
        owns = not opened.sweep.found.complete
        opened, reached = searches.search(
            opened,
            by,
            slots,
            retry,
            delivering,
            keep_going,
            strict,
            partial(own, join=join) if owns else None,
        )
    sweep, place = opened.sweep, opened.place
    plan = run.look(sweep, place, retry, where=where)
    refuse_damage(plan, place)
    run.refuse_unset(plan)
    plan = copies.with_mirrored(opened, plan)
    asks = online and can_ask(opened, plan)
    if plan.todo and not owns:
        place.folder.prepare()
        own(opened, join)
    if asks:
        plan = with_others(opened, plan)
    if strict:
        run.refuse_unlike(sweep, plan, to_run=bool(plan.todo))
    account = run.account(sweep, plan, place)
    if plan.todo and account.limited and not to_budget:
        afford(opened, plan, account, by, slots)
    place.folder.prepare()
    # Finding out what the machine has loads Ray: not where there is nothing to do.
    needed = plan.todo and not reached
    machine = run.Machine.for_(sweep, by, slots, cluster()) if needed else None
    announce(opened, plan)
    lost: list[tuple[Trial, Record]] = []
    damage: list[str] = []
    with delivering(run.courier(sweep, plan, place), opened) as outcome:
        before, untold = plan, {trial.key for trial in plan.todo}

        def ended(trial: Trial, record: Record) -> None:
            outcome.courier.notice(trial)
            untold.discard(trial.key)
            if run.lost(before, record):
                lost.append((trial, record))

        outcome.stopped = machine is not None and train_visibly(
            sweep,
            plan,
            plan.todo,
            place,
            machine,
            ended,
            account=account,
            keep_going=keep_going,
            advice=RETRYING,
        )
        plan = run.look_again(sweep, plan.trials, place, chosen=plan.chosen)
        made = run.results(sweep, plan, place, outcome.courier, damage=damage)
        # With a condition, what else the tables show was not asked for.
        asked = plan.filled and not lost and not untold
        outcome.filled = asked and (made.filled or where is not None)
        show(made.tables, "terminal")
        if made.claims.verdicts:
            says = f"{again('claims', opened)} says why"
            click.echo(f"claims: {counted(made.claims)}; {says}")
        if str(made):
            click.echo(f"{made} are in {shown(place.tables(sweep))}", err=True)
    copies.copy_left(opened, plan, before.todo)
    if opened.searched is not None:
        click.echo(searches.dashboard(opened), err=True)
    if outcome.stopped:
        click.echo("stopped; the same line again does what is left", err=True)
        sys.exit(STOPPED)
    if strict:
        run.refuse_unlike(sweep, plan)  # The machines of a cluster may differ.
    if reached:
        click.echo(f"budget reached: {reached}; the search is not over", err=True)
        sys.exit(BUDGET)
    if nothing := searches.barren(opened):
        click.echo(f"nothing feasible was found: {listed(nothing)}", err=True)
        sys.exit(FAILED)
    if outcome.filled:
        admit_damage(plan, place, damage)
        return
    complain(plan, opened, made.tables)
    for trial, record in lost:
        log = shown(place.folder.path(trial.id) / "log.txt")
        said = f"{record.state}: {title(trial)}: {record.error} ({log})"
        click.echo(f"{said}; the result that other code made stays", err=True)
    if exceeded := plan.counts["exceeded"]:
        click.echo(costs.raising(opened, exceeded), err=True)
    admit_damage(plan, place, damage)
    if account.ended:
        click.echo(costs.reached(account, len(plan.todo), len(untold)), err=True)
        sys.exit(BUDGET)
    sys.exit(BUDGET if exceeded and plan.is_filled_but_for("exceeded") and not lost else FAILED)


def afford(opened: Opened, plan: Plan, account: Account, by: str, slots: int | None) -> None:
    """Raises OverBudget where the plan will cost more than the file allows; says what
    nobody can know."""
    from sweeper import run

    expected = run.estimated(opened.sweep, plan, opened.place, by, slots, cluster())
    spent = account.spent()
    run.refuse_over_budget(opened.sweep, plan, expected, spent)
    for line in costs.doubts(opened.sweep, plan, expected, spent):
        click.echo(line, err=True)


def announce(opened: Opened, plan: Plan) -> None:
    """What is going to be done, what is odd about it, and what is another than last time."""
    from sweeper import run

    sweep = opened.sweep
    click.echo(summary(sweep, plan.counts, len(plan.todo)), err=True)
    changes, news = changed(opened, plan)
    odd = map(str, run.remarks(sweep, plan, opened.place))
    for line in (*odd, *merged(merges(sweep, plan.trials))):
        click.echo(line, err=True)
    for line in news if changes is None or changes else ():
        click.echo(line, err=True)
    remember(opened, plan)


@main.command("eval")
@machine_options
@join_option
@keep_going_option
@where_option
@mirror_options
@sweep_options
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=trial_ids)
def evaluate_sweep(
    opened: Opened,
    by: str,
    slots: int | None,
    ids: tuple[str, ...],
    where: str | None,
    join: bool,
    keep_going: bool,
) -> None:
    """Score what is trained as FILE says (and --set evaluate...), and print the tables.

    Nothing is trained. An ID, or the beginning of one, names a trial; without, it is all of
    them. What cannot be scored leaves no record, and the next `run` does it."""
    from sweeper import run
    from sweeper.live import title
    from sweeper.plan import named

    sweep, place = opened.sweep, opened.place
    plan = run.look(sweep, place, where=where)
    refuse_damage(plan, place)
    run.refuse_unset(plan)
    copies.reach(opened)
    plan = copies.with_mirrored(opened, plan)
    chosen = {trial.id for trial in (named(plan.trials, ids) if ids else plan.trials)}
    todo = [trial for trial in plan.to_score if trial.id in chosen]
    untrained = [trial for trial in plan.untrained if trial.id in chosen]
    click.echo(f"{sweep.name} · {sweep.profile}: {len(todo)} to score", err=True)
    lost: list[tuple[Trial, Record]] = []
    damage: list[str] = []
    place.folder.prepare()
    if todo:
        own(opened, join)
    remember(opened, plan, begun=True)
    machine = run.Machine.for_(sweep, by, slots, cluster()) if todo else None
    with delivering(run.courier(sweep, plan, place), opened) as outcome:

        def ended(trial: Trial, record: Record) -> None:
            if record.state == "done":
                outcome.courier.notice(trial)
            else:
                lost.append((trial, record))

        outcome.stopped = machine is not None and train_visibly(
            sweep,
            plan,
            todo,
            place,
            machine,
            ended,
            score_only=True,
            keep_going=keep_going,
            advice=SCORING,
        )
        plan = run.look_again(sweep, plan.trials, place)
        made = run.results(sweep, plan, place, outcome.courier, damage=damage)
        outcome.filled = made.filled and plan.filled
        show(made.tables, "terminal")
    copies.copy_left(opened, plan, todo)
    for trial, record in lost:
        log = shown(place.folder.path(trial.id) / "log.txt")
        click.echo(f"not scored: {title(trial)}: {record.error} ({log})", err=True)
    if untrained:
        names = listed([title(trial) for trial in untrained])
        click.echo(f"not trained yet: {names}; {again('run', opened)} trains them", err=True)
    if outcome.stopped:
        click.echo("stopped; the same line again does what is left", err=True)
        sys.exit(STOPPED)
    admit_damage(plan, place, damage)
    if lost or untrained:
        sys.exit(FAILED)


def own(opened: Opened, join: bool) -> None:
    """Make this the one command that trains the sweep, until it ends, or with `join` one beside
    that; either hears `sweeper stop`. Where nothing is to be trained nobody asks for that: tables
    of what is there can be had beside another one."""
    from sweeper import run

    stops = current()  # Found by the thread that runs the verb only.

    def lost(by: Any) -> None:
        said = f"{by.owner} has taken this sweep over, as if we had died (did this machine sleep?)"
        stops.say(f"{said}; both train it now, no trial twice at once")

    def asked(request: Any) -> None:
        stops.ask(request.by, at_once=request.at_once)

    sweep, place = opened.sweep, opened.place
    right = run.joining(sweep, place, asked) if join else run.owning(sweep, place, lost, asked)
    try:
        stops.leaving.append(click.get_current_context().with_resource(right))
    except LeaseHeld as held:
        aged = "; if it has died, this line works in a minute" if held.ages else ""
        raise EnvironmentFault(
            f"{opened.sweep.name} ({opened.sweep.variant}) is being run by {held.owner} since "
            f"{clock(held.since)}; `{again('status', opened)}` shows how far it is, "
            f"`{again('stop', opened)}` stops it; --join trains beside it{aged}"
        ) from None


def can_ask(opened: Opened, plan: Plan) -> bool:
    """Whether MLflow is of use to the run, and answers; that it is away is said."""
    from sweeper import run

    if not run.adoptable(plan, opened.place) and not run.trains(plan):
        return False
    try:
        run.refuse_unreachable(opened.place)
    except Away as fault:
        click.echo(f"what others have finished is not known: {fault}", err=True)
        return False
    return True


def with_others(opened: Opened, plan: Plan) -> Plan:
    """The plan after what others have finished was adopted, of which a line is said."""
    from sweeper import run

    sweep, place = opened.sweep, opened.place
    where = without_secrets(place.shared)
    wanted = run.adoptable(plan, place)
    if not wanted:
        return plan
    remember(opened, plan, begun=True)  # Or a gc would take what comes for nobody's.
    try:
        taken = run.take_over(sweep, plan, place)
    except Away as fault:
        click.echo(f"what others have finished is not known: {fault}", err=True)
        # What came before it went away is here.
        return run.look_again(sweep, plan.trials, place, plan.retry, chosen=plan.chosen)
    if taken.keys:
        were = "was" if len(taken.keys) == 1 else "were"
        said = f"{len(taken.keys)} of {len(wanted)} trials {were} finished by others ({where})"
        click.echo(f"{said}: adopted", err=True)
    if taken.stale:
        have = "has a result" if taken.stale == 1 else "have results"
        said = f"{taken.stale} {have} there that other code made"
        click.echo(f"{said}: not adopted", err=True)
    for said in taken.refused[:LINES]:
        click.echo(f"not adopted: {said}", err=True)
    if more := len(taken.refused[LINES:]):
        click.echo(f"and {more} more that were not adopted", err=True)
    return run.look_again(sweep, plan.trials, place, plan.retry, chosen=plan.chosen)


def refuse_where(where: str | None) -> None:
    if where is not None:
        raise SpecError("--where does not go with a search, which chooses its trials itself")


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How a run ends, as it becomes known; and who tells MLflow."""

    courier: Any
    stopped: bool = False
    filled: bool = False


@contextmanager
def delivering(courier: Any, opened: Opened) -> Iterator[Outcome]:
    """What was noticed is delivered whatever happens inside: records that are there are not
    kept from MLflow by a table or a figure that cannot be made."""
    outcome = Outcome(courier=courier)
    try:
        yield outcome
    finally:
        stopped = outcome.stopped or current().signalled.is_set()
        state = "KILLED" if stopped else "FINISHED" if outcome.filled else "FAILED"
        try:
            left = courier.close(seconds_to_deliver(), state)
        except Ended:
            courier.close(0.0, "KILLED")
            raise
        if left:
            click.echo(f"{undelivered(courier)}; later: {again('sync', opened)}", err=True)


def train_visibly(
    sweep: Sweep,
    plan: Plan,
    todo: Sequence[Trial],
    place: Any,
    machine: Any,
    on_end: Callable[[Trial, Record], None],
    *,
    account: Account | None = None,
    score_only: bool = False,
    keep_going: bool = False,
    advice: str = "",
) -> bool:
    """Run what is left, as far as the `account` reaches, under a live view (a line a trial
    where there is no terminal); whether it was stopped by a signal."""
    from rich.console import Console

    from sweeper import live, run

    console = Console(file=sys.stderr)  # This one, also while a trial has its own for a log.
    watch = live.Watch(
        plan=plan,
        trials=todo,
        folder=place.folder,
        slots=machine.slots,
        tables=lambda now: run.tables(sweep, now, place, list(sweep.tables)[:1], progress=True),
    )

    def told(record: Record) -> None:
        trial = watch.todo[record.key]
        watch.notice(record)
        on_end(trial, record)
        if not console.is_terminal:
            click.echo(live.line(record, trial, len(watch.records), len(todo)), err=True)

    with (
        stopping(machine.by) as (stop, signalled),
        within(account, sweep, stop),
        live.view(watch, console) if console.is_terminal else nullcontext(),
    ):
        coming = todo if account is None else account.as_far_as_it_reaches(todo)
        # At the budget's end measurements are waited for, which are paid; after a signal only
        # for some seconds.
        run.train(
            coming,
            place,
            machine,
            told,
            stop,
            hurry=signalled,
            limits=sweep.budget.per_trial,
            retry=plan.retry,
            score_only=score_only,
            planned=len(todo),
            proven=plan.counts["done"] > 0,
            keep_going=keep_going,
            advice=advice,
            about=todo,
            say=partial(plainly, console),
        )
    return signalled.is_set()


def within(
    account: Account | None, sweep: Sweep, stop: threading.Event
) -> AbstractContextManager[None]:
    """A context in which `stop` is set at the budget's end, if that is to end what runs."""
    if account is None or not account.limited or sweep.budget.on_exceed != "stop":
        return nullcontext()
    return account.stopping(stop)


@main.command("plan")
@json_option
@click.option("--with", "others", multiple=True, metavar="FILE", help="What it shares with these.")
@click.option("--probe", is_flag=True, help="Run a piece of what has no known cost.")
@machine_options
@join_option
@retry_option
@click.option("--all", "every", is_flag=True, help=f"Not only the first {LISTED} trials.")
@where_option
@mirror_options
@sweep_options
def plan_sweep(
    opened: Opened,
    as_json: bool,
    every: bool,
    where: str | None,
    others: tuple[str, ...],
    probe: bool,
    by: str,
    slots: int | None,
    retry: tuple[str, ...],
    join: bool,
) -> None:
    """What a run with the same options would do and cost, and what has changed since the last.

    With --probe, trials are begun of configurations of whose cost nothing is known, until
    there is something near to each, and stopped once they have said something of their cost; the
    next run continues them. Where there is something near to each, those that differ from it in
    a value that nothing is known of."""
    from sweeper import run

    if join and not probe:
        raise SpecError("--join says beside what --probe trains: give that, too")
    if opened.searched is not None:
        refuse_where(where)
        searches.say_studies(opened, as_json)
        if as_json or not opened.sweep.include:
            return
    plan = run.look(opened.sweep, opened.place, retry, where=where)
    account = run.account(opened.sweep, plan, opened.place)
    copies.say_mirrored(opened, plan)
    failed = False
    if probe:
        failed = probe_some(opened, plan, account, by, slots, join)
        plan = run.look(opened.sweep, opened.place, retry, where=where)
    expected = run.estimated(opened.sweep, plan, opened.place, by, slots, cluster())
    spent = account.spent()
    same = merges(opened.sweep, plan.trials)
    remarks = run.remarks(opened.sweep, plan, opened.place)
    changes, news = changed(opened, plan)
    shared = [shared_with_file(opened, plan, file) for file in others]
    also = [] if others else run.shared(opened.sweep, plan, opened.place)
    if as_json:
        said = plan.as_json() | {
            "merged": [merge.as_json() for merge in same],
            "remarks": [asdict(problem) for problem in remarks],
            "changes": None if changes is None else changes.as_json(),
            "shared": [one.as_json() for one in (*shared, *also)],
            **costs.as_json(opened.sweep, plan, expected, spent),
        }
        click.echo(json.dumps(said, indent=1))
        admit_damage(plan, opened.place)
        if failed or said["over_budget"]:
            sys.exit(FAILED if failed else BUDGET)
        return
    for line in rows(plan, every):
        click.echo(line)
    click.echo(summary(opened.sweep, plan.counts, len(plan.todo)))
    for problem in remarks:
        click.echo(str(problem), err=True)
    for line in (*merged(same), *news, *map(str, shared), *shared_with(also)):
        click.echo(line)
    for line in costs.costs(opened.sweep, plan, expected, spent):
        click.echo(line)
    admit_damage(plan, opened.place)
    if failed:
        sys.exit(FAILED)
    run.refuse_over_budget(opened.sweep, plan, expected, spent)


def rows(plan: Plan, every: bool) -> Iterator[str]:
    """A line for each trial that was asked for."""
    asked = [trial for trial in plan.trials if plan.asked_for(trial)]
    for trial in asked if every else asked[:LISTED]:
        labels = "  ".join(f"{axis}={label}" for axis, label in trial.labels.items())
        yield f"{trial.id}  {plan.states[trial.key]:<9}{labels}"
    if not every and len(asked) > LISTED:
        yield f"and {len(asked) - LISTED:,} more (--all lists them)"


def probe_some(
    opened: Opened, plan: Plan, account: Account, by: str, slots: int | None, join: bool
) -> bool:
    """Begin what tells most, until it has said something of what it will take; whether a
    trial came to a bad end."""
    from sweeper import run
    from sweeper.live import title

    trials, unknown = run.probes(plan, opened.place)
    if not trials:
        near = (
            "what is left is as good as known" if unknown else "the cost of what is left is known"
        )
        click.echo(f"nothing to probe: {near}", err=True)
        return False
    names = {trial.key: title(trial) for trial in trials}
    of = f"{len(trials)} of {unknown} configuration{'' if unknown == 1 else 's'}"
    click.echo(f"probing {of} of unknown cost: {listed(list(names.values()))}", err=True)
    failed: list[Record] = []

    def told(record: Record) -> None:
        why = f": {record.error}" if record.error else ""
        click.echo(f"{names[record.key]}: {record.state}{why}", err=True)
        if record.state != "done":
            failed.append(record)

    own(opened, join)
    remember(opened, plan, begun=True)  # Or a gc would take what is begun for nobody's.
    opened.place.folder.prepare()
    machine = run.Machine.for_(opened.sweep, by, slots, cluster())
    with stopping(machine.by) as (stop, signalled):
        coming = account.as_far_as_it_reaches(trials)
        run.train(
            coming,
            opened.place,
            machine,
            told,
            stop,
            hurry=signalled,
            limits=opened.sweep.budget.per_trial,
            retry=plan.retry,
            probe=True,
            planned=len(trials),
            advice=PROBING,
            about=trials,
            say=lambda text: click.echo(text, err=True),
        )
    if signalled.is_set():
        sys.exit(STOPPED)
    if account.ended:
        click.echo(f"budget reached: {account.ended}", err=True)
    return bool(failed)


def shared_with_file(opened: Opened, plan: Plan, file: str) -> Shared:
    """What the sweep has in common with the one in `file`, under the same profile."""
    other = read_sweep(file, opened.sweep.profile)
    theirs = expand(other, folder_of_corpora(opened.place.data or other.data_root))
    return share([t.key for t in plan.trials], [t.key for t in theirs], other.name)
