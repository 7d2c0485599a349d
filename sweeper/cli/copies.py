"""What verbs say and do about the mirror, where one is given: before they train, and after."""

from __future__ import annotations

from collections.abc import Iterable

import click

from sweeper.cli.frame import Opened
from sweeper.cli.signals import seconds_to_deliver
from sweeper.cli.words import again
from sweeper.plan import Plan
from sweeper.trial import Trial


def with_mirrored(opened: Opened, plan: Plan) -> Plan:
    """The plan with what the mirror has finished, which is got from there; it was reached."""
    from sweeper import run

    sweep, place = opened.sweep, opened.place
    if place.mirror is None:
        return plan
    came = run.get_finished(plan, place, say)
    if not came:
        return plan
    say(f"{came} finished {'trial was' if came == 1 else 'trials were'} got from the mirror")
    return run.look_again(sweep, plan.trials, place, plan.retry, chosen=plan.chosen)


def say_mirrored(opened: Opened, plan: Plan) -> None:
    """What a run would get from the mirror."""
    from sweeper import run

    if there := len(run.finished_elsewhere(plan, opened.place, say)):
        what = "trial is" if there == 1 else "trials are"
        say(f"{there} finished {what} at the mirror: a run gets {'it' if there == 1 else 'them'}")


def reach(opened: Opened) -> None:
    """Raises EnvironmentFault where there is a mirror and it cannot be used: before any trial."""
    if opened.place.mirror is not None:
        opened.place.mirror.reach()


def copy_left(opened: Opened, plan: Plan, todo: Iterable[Trial], *, thorough: bool = False) -> bool:
    """Copies what the workers could not, in the time that there is for deliveries, or `thorough`ly:
    in as much as it takes, and what cut copies left there is cleared. Whether the mirror has
    all."""
    from sweeper import run

    sweep, place = opened.sweep, opened.place
    if place.mirror is None:
        return True
    ids = {trial.id for trial in plan.trials}
    ids |= {it.trial_id for it in sweep.found.tried if it.trial_id} if sweep.found else set()
    seconds = float("inf") if thorough else seconds_to_deliver()
    left, why = run.copy_left(ids, place, {it.id for it in todo}, seconds, strays=thorough)
    if left:
        trials = "1 trial is" if len(left) == 1 else f"{len(left)} trials are"
        say(f"{trials} still to be copied: {why}; later: {again('sync', opened)}")
    elif why:
        say(why)
    return not left


def say(text: str) -> None:
    click.echo(text, err=True)
