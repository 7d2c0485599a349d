"""What verbs do and say about a search: its studies, how it goes, and what becomes of the best."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import click

from sweeper.budget import Account
from sweeper.cli.frame import BUDGET, STOPPED, Opened
from sweeper.cli.words import listed
from sweeper.errors import EnvironmentFault
from sweeper.record import Record
from sweeper.spec.search_types import Promote, SearchSpec, Tried
from sweeper.trial import Key, Trial


def say_studies(opened: Opened, as_json: bool) -> None:
    """What a run would search, and how far it is."""
    from sweeper import run

    sweep, found = opened.searched, opened.sweep.found.tried
    studies = run.studies(sweep, opened.place)
    if as_json:
        click.echo(json.dumps(studies_json(sweep.search, studies, found), indent=1))
        return
    click.echo(f"{sweep.name} · {sweep.profile}: {planned(sweep.search, studies)}")
    for line in stand(opened):
        click.echo(line)
    if sweep.search.promote:
        click.echo(promoted(sweep.search.promote))


def stand(opened: Opened) -> list[str]:
    """A line for each study of which something was tried: how far it is, and what it found."""
    found = opened.sweep.found.tried if opened.sweep.found else ()
    studies: dict[str, list[Tried]] = {}
    for one in found:
        studies.setdefault(called(one.at), []).append(one)
    return [
        f"{name}: {counted(tried, opened.sweep.search)}; {fronted(tried)}"
        for name, tried in studies.items()
    ]


def fronted(tried: Sequence[Tried]) -> str:
    front = sum(one.front for one in tried)
    return f"{front} on the front" if front else "nothing feasible, so nothing to promote"


def planned(search: SearchSpec, studies: Sequence[Any]) -> str:
    """ "search: 60 trials in each of 2 studies (Yahoo, Yelp)" """
    titles = [called(study.at) for study in studies]
    where = f"each of {len(titles)} studies ({listed(titles)})" if len(titles) > 1 else "one study"
    return f"search: {search.trials} trials in {where}"


def called(at: dict[str, str]) -> str:
    return " ".join(at.values()) or "the study"


def counted(tried: Sequence[Tried], search: SearchSpec) -> str:
    """ "12 of 20 trials: 9 complete (2 not feasible), 3 pruned, 1 failed; 2 under way" """
    states = [one.state for one in tried]
    complete = states.count("complete")
    barren = sum(one.state == "complete" and not one.feasible for one in tried)
    parts = [f"{complete} complete" + (f" ({barren} not feasible)" if barren else "")]
    parts += [f"{states.count(it)} {it}" for it in ("pruned", "failed") if it in states]
    ended = len(states) - states.count("running") - states.count("waiting")
    going = f"; {states.count('running')} under way or left" if "running" in states else ""
    return f"{ended} of {search.trials} trials: {', '.join(parts)}{going}"


def promoted(promote: Promote) -> str:
    """ "then at most 3 of the front of each with 6 seeds, scored on test" """
    most = f"at most {promote.top} of the front" if promote.top else "the front"
    best = most if promote.front else f"the best {promote.top}"
    seeds = f"{len(promote.seeds)} seed{'s' * (len(promote.seeds) > 1)}"
    return f"then {best} of each with {seeds}, scored on {promote.score_on}"


def studies_json(
    search: SearchSpec, studies: Sequence[Any], found: Sequence[Tried]
) -> dict[str, Any]:
    named = [
        {
            "labels": dict(study.at),
            "name": study.name,
            "trials": search.trials,
            "ended": sum(
                one.at == study.at and one.state in ("complete", "pruned", "failed")
                for one in found
            ),
        }
        for study in studies
    ]
    return {"search": {"studies": named, "space": list(search.space)}}


def search(
    opened: Opened, by: str, slots: int | None, retry: tuple[str, ...], delivering: Callable
) -> Opened:
    """Run what is left of the studies, and look up what they found. Ends the process where it was
    stopped, or the budget is reached, before that."""
    from sweeper import run

    sweep, place = opened.searched, opened.place
    studies = run.studies(sweep, place)
    plan = run.look(opened.sweep, place)
    tried = opened.sweep.found.tried
    click.echo(f"{sweep.name} · {sweep.profile}: {planned(sweep.search, studies)}", err=True)
    for line in stand(opened):
        click.echo(line, err=True)
    if not opened.sweep.include and not is_over(tried, sweep.search, len(studies)):
        place.folder.prepare()
        account = run.account(opened.sweep, plan, place)
        account.include(*(one.trial_id for one in tried if one.trial_id))
        most = sweep.search.parallel * len(studies)
        machine = run.Machine.for_(sweep, by, min(slots or most, most))
        remember(opened, plan, ())
        with delivering(run.courier(opened.sweep, plan, place), opened) as outcome:
            outcome.stopped = search_visibly(
                opened, plan, studies, machine, account, retry, outcome.courier
            )
            outcome.filled = not outcome.stopped and account.ended is None
        if outcome.stopped:
            click.echo("stopped; the same line again does what is left", err=True)
            sys.exit(STOPPED)
        if account.ended:
            click.echo(f"budget reached: {account.ended}; the search is not over", err=True)
            sys.exit(BUDGET)
        opened = opened.looked_up()
        for line in stand(opened):
            click.echo(line, err=True)
    return opened


def is_over(tried: Sequence[Tried], search: SearchSpec, studies: int) -> bool:
    ended = sum(one.state in ("complete", "pruned", "failed") for one in tried)
    return ended >= search.trials * studies and not any(one.state == "running" for one in tried)


def search_visibly(
    opened: Opened,
    plan: Any,
    studies: Sequence[Any],
    machine: Any,
    account: Account,
    retry: tuple[str, ...],
    courier: Any,
) -> bool:
    """Whether it was stopped by a signal."""
    from rich.console import Console

    from sweeper import live, run
    from sweeper.cli.train import stopping, within
    from sweeper.live_search import SearchWatch

    sweep, place = opened.searched, opened.place
    console = Console(file=sys.stderr)
    watch = SearchWatch(sweep=sweep, folder=place.folder, at=[it.at for it in studies])
    watch.take(opened.sweep.found.tried)
    keys: list[Key] = []

    def begun(trial: Trial) -> None:
        watch.begin(trial)

    def told(site: Any, number: int, trial: Trial, outcome: Any) -> None:
        watch.told(site.at, number, trial, outcome)
        keys.append(trial.key)
        remember(opened, plan, keys)
        courier.notice(trial)
        if not console.is_terminal:
            click.echo(watch.line(site.at, trial, outcome), err=True)

    def ended(record: Record) -> None:
        trial = watch.end(record)
        if trial is not None and trial.key not in keys:  # The file's own configuration.
            courier.notice(trial)
            if not console.is_terminal:
                click.echo(watch.own_line(record, trial), err=True)

    with (
        stopping() as (stop, signalled),
        within(account, sweep, stop),
        live.view(watch, console) if console.is_terminal else nullcontext(),
    ):
        run.search(
            sweep,
            place,
            machine,
            ended,
            stop,
            hurry=signalled,
            retry=frozenset(retry),
            there=studies,
            account=account,
            on_begin=begun,
            on_tell=told,
        )
    return signalled.is_set()


def remember(opened: Opened, plan: Any, keys: Sequence[Key]) -> None:
    """So that nobody takes what was tried for waste."""
    from sweeper import run

    try:
        run.remember(opened.sweep, plan, opened.place, tried=keys)
    except EnvironmentFault as fault:
        click.echo(f"gc will not know what was tried: {fault}", err=True)
