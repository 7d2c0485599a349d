"""Verbs about trials: run, eval, plan, status."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import click

from sweeper.cli.frame import (
    FAILED,
    STOPPED,
    STOPPED_AT_ONCE,
    Opened,
    json_option,
    main,
    sweep_options,
)
from sweeper.cli.words import complain, listed, merged, show, shown, summary, undelivered
from sweeper.merges import merges
from sweeper.plan import RETRIABLE, Plan
from sweeper.record import Record
from sweeper.render.claims import counted
from sweeper.spec.sweep import Sweep
from sweeper.trial import Trial


@main.command("run")
@click.option("--dispatch", "by", default="ray", show_default=True, help="ray, or inline.")
@click.option("--slots", type=click.IntRange(min=1), help="At most so many trials at once.")
@click.option("--retry", multiple=True, type=click.Choice(RETRIABLE), help="Run these again, too.")
@sweep_options
def run_sweep(opened: Opened, by: str, slots: int | None, retry: tuple[str, ...]) -> None:
    """Train what is missing, print and write the tables, draw the figures."""
    from sweeper import run

    sweep, place = opened.sweep, opened.place
    plan = run.look(sweep, place, retry)
    place.folder.prepare()
    # Finding out what the machine has loads Ray: not where there is nothing to do.
    machine = run.Machine.for_(sweep, by, slots) if plan.todo else None
    click.echo(summary(sweep, plan.counts, len(plan.todo)), err=True)
    for line in merged(merges(sweep, plan.trials)):
        click.echo(line, err=True)
    run.clear(plan, place)
    with delivering(run.courier(sweep, plan, place), sweep) as outcome:
        outcome.stopped = machine is not None and train_visibly(
            sweep,
            plan,
            plan.todo,
            place,
            machine,
            lambda trial, record: outcome.courier.notice(trial),
        )
        plan = run.look_again(sweep, plan.trials, place)
        made = run.results(sweep, plan, place, outcome.courier)
        outcome.filled = made.filled
        show(made.tables, "terminal")
        if made.claims.verdicts:
            says = f"sweeper claims {sweep.source} says why"
            click.echo(f"claims: {counted(made.claims)}; {says}")
        click.echo(f"{made} are in {shown(place.tables(sweep))}", err=True)
    if outcome.stopped:
        click.echo("stopped; the same line again does what is left", err=True)
        sys.exit(STOPPED)
    if not outcome.filled:
        complain(plan, place)
        sys.exit(FAILED)


@main.command("eval")
@click.option("--dispatch", "by", default="ray", show_default=True, help="ray, or inline.")
@click.option("--slots", type=click.IntRange(min=1), help="At most so many trials at once.")
@sweep_options
@click.argument("ids", metavar="[ID]...", nargs=-1)
def evaluate_sweep(opened: Opened, by: str, slots: int | None, ids: tuple[str, ...]) -> None:
    """Score what is trained as FILE says (and --set evaluate...), and print the tables.

    Nothing is trained. An ID, or the beginning of one, names a trial; without, it is all of
    them. What cannot be scored leaves no record, and the next `run` does it."""
    from sweeper import run
    from sweeper.live import title
    from sweeper.plan import named

    sweep, place = opened.sweep, opened.place
    plan = run.look(sweep, place)
    chosen = {trial.id for trial in (named(plan.trials, ids) if ids else plan.trials)}
    todo = [trial for trial in plan.to_score if trial.id in chosen]
    untrained = [trial for trial in plan.untrained if trial.id in chosen]
    click.echo(f"{sweep.name} · {sweep.profile}: {len(todo)} to score", err=True)
    lost: list[tuple[Trial, Record]] = []
    place.folder.prepare()
    machine = run.Machine.for_(sweep, by, slots) if todo else None
    with delivering(run.courier(sweep, plan, place), sweep) as outcome:

        def ended(trial: Trial, record: Record) -> None:
            if record.state == "done":
                outcome.courier.notice(trial)
            else:
                lost.append((trial, record))

        outcome.stopped = machine is not None and train_visibly(
            sweep, plan, todo, place, machine, ended, score_only=True
        )
        made = run.results(sweep, run.look_again(sweep, plan.trials, place), place, outcome.courier)
        outcome.filled = made.filled
        show(made.tables, "terminal")
    for trial, record in lost:
        log = shown(place.folder.path(trial.id) / "log.txt")
        click.echo(f"not scored: {title(trial)}: {record.error} ({log})", err=True)
    if untrained:
        names = listed([title(trial) for trial in untrained])
        click.echo(f"not trained yet: {names}; sweeper run {sweep.source} trains them", err=True)
    if outcome.stopped:
        click.echo("stopped; the same line again does what is left", err=True)
        sys.exit(STOPPED)
    if lost or untrained:
        sys.exit(FAILED)


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How a run ends, as it becomes known; and who tells MLflow."""

    courier: Any
    stopped: bool = False
    filled: bool = False


@contextmanager
def delivering(courier: Any, sweep: Sweep) -> Iterator[Outcome]:
    """What was noticed is delivered whatever happens inside: records that are there are not
    kept from MLflow by a table or a figure that cannot be made."""
    outcome = Outcome(courier=courier)
    try:
        yield outcome
    finally:
        state = "KILLED" if outcome.stopped else "FINISHED" if outcome.filled else "FAILED"
        if courier.close(state=state):
            click.echo(f"{undelivered(courier)}; later: sweeper sync {sweep.source}", err=True)


def train_visibly(
    sweep: Sweep,
    plan: Plan,
    todo: Sequence[Trial],
    place: Any,
    machine: Any,
    on_end: Callable[[Trial, Record], None],
    *,
    score_only: bool = False,
) -> bool:
    """Run what is left under a live view (a line a trial where there is no terminal);
    whether it was stopped by a signal."""
    from rich.console import Console

    from sweeper import live, run

    console = Console(file=sys.stderr)  # This one, also while a trial has its own for a log.
    watch = live.Watch(
        plan=plan,
        trials=todo,
        folder=place.folder,
        slots=machine.slots,
        tables=lambda now: run.tables(sweep, now, place, list(sweep.tables)[:1]),
    )

    def told(record: Record) -> None:
        trial = watch.todo[record.key]
        watch.notice(record)
        on_end(trial, record)
        if not console.is_terminal:
            click.echo(live.line(record, trial, len(watch.records), len(todo)), err=True)

    with stopping() as stop, live.view(watch, console) if console.is_terminal else nullcontext():
        run.train(todo, place, machine, told, stop, score_only=score_only)
    return stop.is_set()


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first SIGINT, SIGTERM or SIGHUP sets; a second one ends the process."""
    stop = threading.Event()
    terminal = sys.stderr  # Of this process; a trial in it may have its own for its log.

    def asked(number: int, frame: Any) -> None:
        if stop.is_set():
            os._exit(STOPPED_AT_ONCE)
        stop.set()
        click.echo("stopping at the next measurement; once more stops at once", file=terminal)

    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = {number: signal.signal(number, asked) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@main.command("plan")
@json_option
@sweep_options
def plan_sweep(opened: Opened, as_json: bool) -> None:
    """What there is and what is left to do."""
    from sweeper import run

    plan = run.look(opened.sweep, opened.place)
    same = merges(opened.sweep, plan.trials)
    if as_json:
        said = plan.as_json() | {"merged": [merge.as_json() for merge in same]}
        click.echo(json.dumps(said, indent=1))
        return
    for trial in plan.trials:
        labels = "  ".join(f"{axis}={label}" for axis, label in trial.labels.items())
        click.echo(f"{trial.id}  {plan.states[trial.key]:<9}{labels}")
    click.echo(summary(opened.sweep, plan.counts, len(plan.todo)))
    for line in merged(same):
        click.echo(line)


@main.command("status")
@json_option
@sweep_options
def show_status(opened: Opened, as_json: bool) -> None:
    """Where a sweep stands, also while another terminal runs it."""
    from sweeper import run

    plan = run.look(opened.sweep, opened.place)
    folder = opened.place.folder
    running = []
    distinct = {trial.id: trial for trial in plan.trials if plan.states[trial.key] == "running"}
    for trial in distinct.values():
        history = folder.history(trial.id)
        running.append((trial, history[-1].cost if history else 0.0))
    if as_json:
        now = [{"id": trial.id, "updates": cost} for trial, cost in running]
        click.echo(json.dumps({"counts": plan.counts, "running": now}, indent=1))
        return
    from sweeper.live import title

    click.echo(summary(opened.sweep, plan.counts, len(plan.todo)))
    for trial, cost in running:
        click.echo(f"  running  {title(trial)}: {cost:,.0f} updates")
    complain(plan, opened.place)
