"""What verbs do and say about a search: its studies, how it goes, and what becomes of the best."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click

from sweeper.budget import Account
from sweeper.cli.frame import Opened, cluster
from sweeper.cli.signals import STOPPED, stopping
from sweeper.cli.words import listed, plainly, remember
from sweeper.record import COST, Record
from sweeper.spec.search_types import ENDED, Found, Promote, SearchSpec, Tried, came_to
from sweeper.trial import Key, Trial

MEASURED = ("complete", "pruned")  # states of what was tried and came to something

# What can be done where the first trials all failed alike.
GOING_ON = (
    "Once it is mended, the same line with --retry failed goes on; "
    "--keep-going goes on all the same"
)


def say_studies(opened: Opened, as_json: bool) -> None:
    """What a run would search, and how far it is."""
    from sweeper import run

    sweep, found = opened.searched, opened.sweep.found.tried
    studies = run.studies(sweep, opened.place)
    if as_json:
        click.echo(json.dumps(studies_json(sweep.search, studies, found), indent=1))
        return
    click.echo(f"{sweep.name} · {sweep.profile}: {planned(sweep.search, studies)}")
    for line in (*stand(opened), *expected(opened, studies)):
        click.echo(line)
    if sweep.search.promote:
        click.echo(promoted(sweep.search.promote))


def stand(opened: Opened) -> list[str]:
    """A line for each study of which something was tried: how far it is, and what it found."""
    if (found := opened.sweep.found) is None:
        return []
    stale = made_by_other(opened)
    return [
        f"{name}: {counted(tried, opened.sweep.search)}; {fronted(tried)}{of_other(tried, stale)}"
        for name, tried in by_study(found).items()
    ]


def by_study(found: Found) -> dict[str, list[Tried]]:
    studies: dict[str, list[Tried]] = {}
    for one in found.tried:
        studies.setdefault(called(one.at), []).append(one)
    return studies


def made_by_other(opened: Opened) -> frozenset[str]:
    """The ids of tried trials in which code had a part that has changed since."""
    from sweeper import run

    states = run.look_again(opened.sweep, opened.sweep.found.trials, opened.place).states
    return frozenset(key.trial_id for key, state in states.items() if state == "stale")


def is_proven(opened: Opened, studies: Sequence[Any]) -> bool:
    """Whether a trial has come to something already, by the code of now."""
    from sweeper import run

    stale = made_by_other(opened)
    if any(it.state in MEASURED and it.trial_id not in stale for it in opened.sweep.found.tried):
        return True
    own = tuple(study.own for study in studies)
    return "done" in run.look_again(opened.sweep, own, opened.place).states.values()


def of_other(tried: Sequence[Tried], stale: frozenset[str]) -> str:
    count = sum(one.trial_id in stale for one in tried)
    return f"; {count} made by code that has changed since" if count else ""


def fronted(tried: Sequence[Tried]) -> str:
    front = sum(one.front for one in tried)
    return f"{front} on the front" if front else "nothing feasible"


def expected(opened: Opened, studies: Sequence[Any]) -> list[str]:
    """What is left may take, by what the file's own configuration took where it was trained."""
    found, search = opened.sweep.found, opened.sweep.search
    known = {called(it.at): it.values.get(COST) for it in found.baselines}
    ended = [called(one.at) for one in found.tried if one.state in ENDED]
    names = [called(it.at) for it in studies]
    left = {name: max(search.trials - ended.count(name), 0) for name in names}
    if not any(left.values()):
        return []
    if not all(known.get(name) for name in left):
        return ["what it will cost is known once the file's own configuration was trained"]
    updates = sum(count * known[name] for name, count in left.items())
    return [
        f"left to try: {sum(left.values())} trials, about {updates:,.0f} updates if each took what "
        "the file's own configuration did and none was pruned"
    ]


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
    barren = [came_to(one.state, feasible=one.feasible) for one in tried].count("not feasible")
    parts = [f"{states.count('complete')} complete" + f" ({barren} not feasible)" * bool(barren)]
    parts += [f"{states.count(it)} {it}" for it in ("pruned", "failed") if it in states]
    ended = sum(map(states.count, ENDED))
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
            "ended": sum(one.at == study.at and one.state in ENDED for one in found),
        }
        for study in studies
    ]
    return {"search": {"studies": named, "space": list(search.space)}}


def search(
    opened: Opened,
    by: str,
    slots: int | None,
    retry: tuple[str, ...],
    delivering: Callable,
    keep_going: bool = False,
    strict: bool = False,
    own: Callable[[Opened], None] | None = None,
) -> tuple[Opened, str | None]:
    """Run what is left of the studies, and look up what they found; and what of the budget is
    reached, if the search is not over for that. Ends the process where it was stopped. `own`
    makes this the one command that trains the sweep."""
    from sweeper import run

    sweep, place = opened.searched, opened.place
    studies = run.studies(sweep, place)
    plan = run.look(opened.sweep, place)
    reached = None
    click.echo(f"{sweep.name} · {sweep.profile}: {planned(sweep.search, studies)}", err=True)
    for line in stand(opened):
        click.echo(line, err=True)
    if not opened.sweep.found.complete:
        run.refuse_unset_of([*plan.todo, *(study.own for study in studies)])
        if strict:  # What is tried next is compared with what was tried.
            run.refuse_unlike(sweep, run.with_tried(opened.sweep, plan, place), to_run=True)
        place.folder.prepare()
        if own is not None:
            own(opened)
        account = run.account(opened.sweep, plan, place)
        most = sweep.search.parallel * len(studies)
        machine = run.Machine.for_(sweep, by, min(slots or most, most), cluster())
        remember(opened, plan)
        with delivering(run.courier(opened.sweep, plan, place), opened) as outcome:
            outcome.stopped = search_visibly(
                opened, plan, studies, machine, account, retry, outcome.courier, keep_going
            )
            outcome.filled = not outcome.stopped and account.ended is None
        if outcome.stopped:
            click.echo("stopped; the same line again does what is left", err=True)
            sys.exit(STOPPED)
        reached = account.ended
        opened = opened.looked_up()
        for line in stand(opened):
            click.echo(line, err=True)
    return opened, reached


def barren(opened: Opened) -> list[str]:
    """The studies, all of whose trials have ended, that found nothing."""
    found = opened.sweep.found
    if found is None or not found.complete:
        return []
    return [name for name, tried in by_study(found).items() if not any(x.feasible for x in tried)]


def dashboard(opened: Opened) -> str:
    """What shows the studies in a browser."""
    from sweeper.redaction import without_secrets
    from sweeper.search import resolved

    url = without_secrets(resolved(opened.searched.search.storage, opened.place.store))
    folder = f"{Path.cwd()}/"
    return f"optuna-dashboard {url.replace(folder, '')} shows the studies"


def search_visibly(
    opened: Opened,
    plan: Any,
    studies: Sequence[Any],
    machine: Any,
    account: Account,
    retry: tuple[str, ...],
    courier: Any,
    keep_going: bool,
) -> bool:
    """Whether it was stopped by a signal."""
    from rich.console import Console

    from sweeper import live, run
    from sweeper.cli.train import within
    from sweeper.live_search import SearchWatch
    from sweeper.searching import labelled

    sweep, place = opened.searched, opened.place
    console = Console(file=sys.stderr)
    watch = SearchWatch(sweep=sweep, folder=place.folder, at=[it.at for it in studies])
    watch.take(opened.sweep.found.tried)
    keys: list[Key] = []

    def told(site: Any, number: int, trial: Trial, outcome: Any) -> None:
        watch.told(site.at, number, trial, outcome)
        keys.append(trial.key)
        remember(opened, plan, tried=keys)
        courier.notice(labelled(trial, number, outcome))
        if not console.is_terminal:
            click.echo(watch.line(site.at, trial, outcome), err=True)

    def ended(record: Record) -> None:
        trial = watch.end(record)
        if trial is not None and trial.key not in keys:  # The file's own configuration.
            courier.notice(trial)
            if not console.is_terminal:
                click.echo(watch.own_line(record, trial), err=True)

    with (
        stopping(machine.by) as (stop, signalled),
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
            proven=is_proven(opened, studies),
            keep_going=keep_going,
            advice=GOING_ON,
            there=studies,
            account=account,
            on_begin=watch.begin,
            on_tell=told,
            about=[it.own for it in studies],
            say=partial(plainly, console),
        )
    return signalled.is_set()
