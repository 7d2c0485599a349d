"""Verbs about a sweep that other processes train, here or on another machine that sees the
store: status, stop."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import click

from sweeper.cli import searches
from sweeper.cli.frame import Opened, json_option, main, sweep_options, where_option
from sweeper.cli.words import admit_damage, again, complain, summary
from sweeper.errors import EnvironmentFault, SpecError, SweeperError
from sweeper.plan import Plan
from sweeper.sizes import clock
from sweeper.trial import Trial

EVERY_SECONDS = 2.0
# Of a stop: longer than what runs has, and longer than a lease of a machine that is gone.
LIMIT_SECONDS = 90.0
POLL_SECONDS = 0.3
ENDED = ("done", "stale", "failed", "diverged", "exceeded", "corrupt")


@main.command("status")
@json_option
@click.option("--watch", is_flag=True, help="Go on until nobody trains it. Ctrl-C ends it.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help=f"How often --watch looks.  [default: {EVERY_SECONDS:g}]",
)
@where_option
@sweep_options
def show_status(
    opened: Opened, as_json: bool, watch: bool, every: float | None, where: str | None
) -> None:
    """Where a sweep stands, also while another terminal or another machine runs it.

    With --watch the view that `run` shows, or without a terminal a line (with --json an object)
    whenever something has changed."""
    from sweeper import run

    if every is not None and not watch:
        raise SpecError("--every says how often --watch looks: give that, too")
    if watch:
        try:
            look_on(opened, where, every or EVERY_SECONDS, as_json)
        except KeyboardInterrupt:
            return
        opened = opened.looked_up()
    plan = run.look(opened.sweep, opened.place, where=where)
    running = run.running(plan, opened.place)
    members = run.members(opened.sweep, opened.place)
    if as_json:
        if not watch:
            click.echo(json.dumps(standing(opened, plan, running, members), indent=1))
        admit_damage(plan, opened.place)
        return
    from sweeper.live import title

    for line in searches.stand(opened):
        click.echo(line)
    click.echo(summary(opened.sweep, plan.counts, len(plan.todo)))
    for line in told(members):
        click.echo(f"  {line}")
    for trial in running:
        click.echo(f"  running  {title(trial)}: {updates(opened, trial):,.0f} updates")
    complain(plan, opened)
    admit_damage(plan, opened.place)


def updates(opened: Opened, trial: Trial) -> float:
    history = opened.place.folder.history(trial.id)
    return history[-1].cost if history else 0.0


def told(members: Sequence[Any]) -> list[str]:
    """A line for each of those that train a sweep."""
    return [
        f"{'joined by' if it.joined else 'being run by'} {it.lease.owner} since "
        f"{clock(it.lease.since)}"
        for it in members
    ]


def standing(
    opened: Opened, plan: Plan, running: Sequence[Trial], members: Sequence[Any]
) -> dict[str, Any]:
    owners = [asdict(it.lease) for it in members if not it.joined]
    return {
        "counts": plan.counts,
        "running": [{"id": trial.id, "updates": updates(opened, trial)} for trial in running],
        "owner": owners[0] if owners else None,
        "joined": [asdict(it.lease) for it in members if it.joined],
    }


# ---- watching


class Sight:
    """What is seen of a sweep that others train. Has state because it says what has changed."""

    def __init__(self, opened: Opened, where: str | None) -> None:
        self.opened, self.where = opened, where
        self.members: list[Any] = []
        self.studies: list[str] = []
        self.ran: set[Any] = set()
        self.begin()

    def begin(self) -> None:
        """All is read once; from here on only what changes."""
        from sweeper import run
        from sweeper.onlooker import Onlooker

        plan = run.look(self.opened.sweep, self.opened.place, where=self.where)
        self.onlooker = Onlooker(folder=self.opened.place.folder, plan=plan)
        self.onlooker.look()
        self.watch = self.watched()

    def watched(self) -> Any:
        from sweeper import live, run

        sweep, place, plan = self.opened.sweep, self.opened.place, self.onlooker.plan
        trials = {trial.key: trial for trial in (*plan.todo, *self.onlooker.running)}
        return live.Watch(
            plan=plan,
            trials=list(trials.values()),
            folder=place.folder,
            slots=max(len(self.onlooker.running), 1),
            seen=self.onlooker.running,
            tables=lambda now: run.tables(sweep, now, place, list(sweep.tables)[:1], progress=True),
        )

    @property
    def over(self) -> bool:
        return not self.members and not self.onlooker.running

    def look(self) -> Iterator[str]:
        """Lines on what has changed since the last look."""
        from sweeper import live, run

        if self.opened.searched is not None:
            now = self.opened.looked_up()
            if now.sweep.found != self.opened.sweep.found:
                self.opened = now
                self.begin()
        before, self.members = self.members, run.members(self.opened.sweep, self.opened.place)
        then = self.onlooker.plan
        self.onlooker.look()
        plan, running = self.onlooker.plan, self.onlooker.running
        if any(trial.key not in self.watch.todo for trial in running):
            self.watch = self.watched()  # What had ended is run again.
        self.watch.seen = running
        self.watch.slots = max(self.watch.slots, len(running))
        self.watch.by = (*told(self.members), *self.studies)
        yield from (f"{line}: no more" for line in told(before) if line not in told(self.members))
        yield from (line for line in told(self.members) if line not in told(before))
        studies = searches.stand(self.opened)
        yield from (line for line in studies if line not in self.studies)
        self.studies = studies
        for key, state in plan.states.items():
            record = plan.records.get(key)
            known = then.records.get(key)
            if record is None or record is known or state not in ENDED or record == known:
                continue
            if (trial := self.watch.todo.get(key)) is not None:
                self.watch.notice(record)
                done = live.finished(plan)
                yield live.line(record, trial, done, plan.counts["total"])
        for trial in running:
            if trial.key not in self.ran:
                yield f"running  {live.title(trial)}"
        self.ran = {trial.key for trial in running}


def look_on(opened: Opened, where: str | None, every: float, as_json: bool) -> None:
    """Shows a sweep until nobody trains it and nothing of it runs."""
    from rich.console import Console, Group

    from sweeper import live

    sight = Sight(opened, where)
    console = Console()
    drawn = console.is_terminal and not as_json
    shown: dict[str, Any] = {}
    with (
        live.view(Group(), console, alone=False) if drawn else nullcontext() as screen,
    ):
        while True:
            began = time.monotonic()
            lines = list(sight.look())
            if screen is not None:
                screen.update(sight.watch, refresh=True)
            elif as_json:
                now = standing(
                    sight.opened, sight.onlooker.plan, sight.onlooker.running, sight.members
                )
                if now != shown:
                    click.echo(json.dumps(now))
                shown = now
            else:
                for line in lines if shown or not sight.over else ():
                    click.echo(line)
                shown |= {"begun": True}
            sys.stdout.flush()
            if sight.over:
                return
            # A table of very many trials takes its time: most of a core is left alone.
            time.sleep(max(every, 2 * (time.monotonic() - began)))


# ---- stopping


@main.command("stop")
@click.option("--now", "at_once", is_flag=True, help="At once, as a second Ctrl-C does.")
@click.option("--no-wait", is_flag=True, help="Only ask.")
@click.option(
    "--limit",
    type=click.FloatRange(min=0),
    default=LIMIT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long it is waited for.",
)
@sweep_options
def stop_sweep(opened: Opened, at_once: bool, no_wait: bool, limit: float) -> None:
    """Ask whoever trains a sweep to stop, as Ctrl-C there does; here or on another machine.

    Those that joined stop, too. Ends with 0 once nobody trains it, also where nobody did, and
    with 3 where somebody still does after the limit. The same `run` goes on later."""
    from sweeper import run
    from sweeper.track import owner

    members = run.members(opened.sweep, opened.place)
    if not members:
        click.echo(nobody(opened, run.last_owner(opened.sweep, opened.place)), err=True)
        return
    for member in members:
        owner.ask(member, at_once=at_once)
        click.echo(f"asked {member.lease.owner} to stop{' at once' * at_once}", err=True)
    if no_wait:
        return
    end = time.monotonic() + limit
    left = members
    try:
        while left:
            for member in left:
                if not member.lives:
                    click.echo(ending(member), err=True)
            left = [member for member in left if member.lives]
            if left and time.monotonic() > end:
                raise EnvironmentFault(still_there(opened, left, limit, at_once))
            time.sleep(POLL_SECONDS if left else 0)
    except KeyboardInterrupt:
        click.echo("not waited for any longer; what was asked was asked", err=True)
        return
    say_how_it_stands(opened)


def ending(member: Any) -> str:
    who = member.lease.owner
    return f"{who} died, or its machine has gone" if member.died else f"{who} has stopped"


def nobody(opened: Opened, last: Any) -> str:
    said = f"nobody trains {opened.sweep.name} ({opened.sweep.variant})"
    if last is None or not last.died:
        return said
    return (
        f"{said}: {last.lease.owner}, which did since {clock(last.lease.since)}, died without a "
        f"word; `{again('run', opened)}` goes on"
    )


def still_there(opened: Opened, left: Sequence[Any], limit: float, at_once: bool) -> str:
    who = " and ".join(member.lease.owner for member in left)
    further = "" if at_once else f"; `{again('stop', opened)} --now` does not wait for trials"
    return f"{who} still trains {opened.sweep.name} after {limit:g} seconds{further}"


def say_how_it_stands(opened: Opened) -> None:
    from sweeper import run

    try:
        opened = opened.looked_up()
        plan = run.look(opened.sweep, opened.place)
    except SweeperError as fault:  # It is stopped, whatever this machine lacks.
        click.echo(f"how it stands is not known here: {fault}", err=True)
        return
    click.echo(summary(opened.sweep, plan.counts, len(plan.todo)))
    for line in told(run.members(opened.sweep, opened.place)):
        click.echo(f"  {line}")
    if plan.todo:
        click.echo(f"`{again('run', opened)}` goes on", err=True)
