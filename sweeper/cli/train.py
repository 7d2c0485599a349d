"""Verbs about trials: run, plan, status."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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
from sweeper.cli.words import complain, show, shown, summary, undelivered
from sweeper.plan import RETRIABLE
from sweeper.spec.sweep import Sweep
from sweeper.trial import Trial


@main.command("run")
@click.option("--dispatch", "by", default="ray", show_default=True, help="ray, or inline.")
@click.option("--slots", type=click.IntRange(min=1), help="At most so many trials at once.")
@click.option("--retry", multiple=True, type=click.Choice(RETRIABLE), help="Run these again, too.")
@sweep_options
def run_sweep(opened: Opened, by: str, slots: int | None, retry: tuple[str, ...]) -> None:
    """Train what is missing, print and write the tables."""
    from sweeper import run

    sweep, place = opened.sweep, opened.place
    plan = run.look(sweep, place, retry)
    place.folder.prepare()
    # Finding out what the machine has loads Ray: not where there is nothing to do.
    machine = run.Machine.for_(sweep, by, slots) if plan.todo else None
    click.echo(summary(sweep, plan.counts, len(plan.todo)), err=True)
    run.clear(plan, place)
    courier = run.courier(sweep, plan, place)
    stopped = machine is not None and train_visibly(sweep, plan, place, machine, courier.notice)
    plan = run.look_again(sweep, plan.trials, place)
    tables = run.tables(sweep, plan, place)
    run.publish(sweep, tables, place, courier)
    filled = all(table.filled for table in tables)
    show(tables, "terminal")
    click.echo(f"tables are in {shown(place.tables(sweep))}", err=True)
    if courier.close(state="KILLED" if stopped else "FINISHED" if filled else "FAILED"):
        click.echo(f"{undelivered(courier)}; later: sweeper sync {sweep.source}", err=True)
    if stopped:
        click.echo("stopped; the same line again does what is left", err=True)
        sys.exit(STOPPED)
    if not filled:
        complain(plan, place)
        sys.exit(FAILED)


def train_visibly(
    sweep: Sweep, plan: Any, place: Any, machine: Any, on_end: Callable[[Trial], None]
) -> bool:
    """Run what is left under a live view (a line a trial where there is no terminal);
    whether it was stopped by a signal."""
    from rich.console import Console

    from sweeper import live, run

    todo = plan.todo
    console = Console(file=sys.stderr)  # This one, also while a trial has its own for a log.
    watch = live.Watch(
        plan=plan,
        folder=place.folder,
        slots=machine.slots,
        tables=lambda now: run.tables(sweep, now, place, list(sweep.tables)[:1]),
    )

    def told(record: Any) -> None:
        trial = watch.todo[record.trial_id]
        watch.notice(record)
        on_end(trial)
        if not console.is_terminal:
            click.echo(live.line(record, trial, len(watch.records), len(todo)), err=True)

    with stopping() as stop, live.view(watch, console) if console.is_terminal else nullcontext():
        run.train(todo, place, machine, told, stop)
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
    if as_json:
        click.echo(json.dumps(plan.as_json(), indent=1))
        return
    for trial in plan.trials:
        labels = "  ".join(f"{axis}={label}" for axis, label in trial.labels.items())
        click.echo(f"{trial.id}  {plan.states[trial.id]:<9}{labels}")
    click.echo(summary(opened.sweep, plan.counts, len(plan.todo)))


@main.command("status")
@json_option
@sweep_options
def show_status(opened: Opened, as_json: bool) -> None:
    """Where a sweep stands, also while another terminal runs it."""
    from sweeper import run

    plan = run.look(opened.sweep, opened.place)
    folder = opened.place.folder
    running = []
    for trial in plan.trials:
        if plan.states[trial.id] == "running":
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
