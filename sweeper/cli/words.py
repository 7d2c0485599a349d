"""What is known of a sweep in; what verbs say of it to a person out."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sweeper.changes import Changes
from sweeper.cli.frame import Opened, main
from sweeper.errors import CorruptRecord, EnvironmentFault
from sweeper.merges import Merge
from sweeper.plan import STATES, Plan
from sweeper.sharing import Shared
from sweeper.spec.sweep import Sweep
from sweeper.trial import Key, title


def summary(sweep: Sweep, counts: dict[str, int], todo: int) -> str:
    """ "table3 · quick: 36 trials, 12 done, 24 missing; 24 to run". Of the `todo` the
    unscored are trained: they are "to score"."""
    said = {"unscored": "trained under another evaluation"}
    states = [f"{counts[state]} {said.get(state, state)}" for state in STATES if counts[state]]
    merged = counts["points"] - counts["total"]
    same = f" ({merged} points share one with another)" if merged else ""
    if counts["trainings"] < counts["total"]:
        same += f" of {counts['trainings']} trainings"
    to_run = todo - counts["unscored"] - counts["running"]  # What runs is only waited for.
    tasks = [f"{to_run} to run"] if to_run else []
    # A trainer whose checkpoint is gone has to train again; only it can tell.
    unless = "trained anew where no checkpoint is left"
    tasks += [f"{counts['unscored']} to score ({unless})"] if counts["unscored"] else []
    what = f"{counts['total']} trials{same}, {', '.join(states)}"
    nothing = "nothing left to start" if counts["running"] else "nothing left to do"
    return f"{sweep.name} · {sweep.profile}: {what}; {', '.join(tasks) or nothing}"


def again(verb: str, opened: Opened) -> str:
    """ "sweeper run toy.yaml --profile paper": the verb on the same sweep at the same place, as
    a shell takes it, with what was given of the options that this verb has, too."""
    known = {name for option in main.commands[verb].params for name in option.opts}
    given = [word for pair in opened.given if pair[0] in known for word in pair]
    return shlex.join(["sweeper", verb, str(opened.sweep.source), *given])


def refuse_damage(plan: Plan, place: Any) -> None:
    """Raises CorruptRecord where a trial that was asked for has a record that is none."""
    if plan.damage:
        raise CorruptRecord(*damaged(plan, place))


def admit_damage(plan: Plan, place: Any, further: Sequence[str] = ()) -> None:
    """At the end of a verb that only reads: what it could not believe, and the exit code.
    `further` is what it met beside the records, in journals and files of trials."""
    if plan.damage or further:
        for line in damaged(plan, place, further):
            click.echo(line, err=True)
        sys.exit(CorruptRecord.exit_code)


def damaged(plan: Plan, place: Any, further: Sequence[str] = (), most: int = 10) -> list[str]:
    """A line for each of the first files that cannot be believed, and what is done about it."""
    from sweeper.track.mlflow import RUN

    found = list(dict.fromkeys([*plan.damage, *further]))
    more = len(found) - most
    published = [said for said in found if said.startswith(RUN)]
    left = [said for said in found if is_left_by_trainer(said)]
    fixes = []
    if published:
        fixes.append("where such a run is deleted, sweeper sync FILE publishes the record again")
    elif len(left) < len(found):
        fixes.append(remedy(place.store))
    if left:
        fixes.append(
            "where the folder of a trial with such a file is deleted, the next run makes it anew"
        )
    return [
        *(
            f"corrupt: {said}" if said in published else f"corrupt: {shown(place.store)}/{said}"
            for said in found[:most]
        ),
        *([f"and {more} more that are corrupt"] if more > 0 else []),
        *fixes,
    ]


def is_left_by_trainer(said: str) -> bool:
    """Whether a damaged file is a trainer's own, which `gc --corrupt` does not look at."""
    return "/artifacts/" in said.partition(":")[0]


def remedy(store: Path) -> str:
    return f"{repair(store)} removes what cannot be believed, and the next run makes it anew"


def repair(store: Path) -> str:
    """ "sweeper gc --corrupt --delete", with the store where it is not the one by default."""
    there = Path(os.environ.get("SWEEPER_STORE") or "runs").resolve()
    at = [] if store == there else ["--store", shown(store)]
    return shlex.join(["sweeper", "gc", "--corrupt", "--delete", *at])


def merged(merges: Sequence[Merge], most: int = 10) -> list[str]:
    """A line for each of the first points that are one trial, and how many more there are."""
    more = len(merges) - most
    return [*map(str, merges[:most]), *([f"and {more} more that are one trial"] * (more > 0))]


def changed(opened: Opened, plan: Plan) -> tuple[Changes | None, list[str]]:
    """What is different since the sweep's last run (None: nothing is known of one), and the
    lines that say so."""
    from sweeper import run

    for other in run.namesakes(opened.sweep, opened.place):
        click.echo(
            f"{shown(Path(other))} is named {opened.sweep.name}, too, and was run into this store: "
            "the tables of one replace the other's; give each a name of its own",
            err=True,
        )
    try:
        changes = run.changes(opened.sweep, plan, opened.place)
    except CorruptRecord as fault:
        return None, [f"what the last run was is not known: {fault}"]
    return changes, [] if changes is None else changes.lines()


def remember(opened: Opened, plan: Plan, *, begun: bool = False, tried: Sequence[Key] = ()) -> None:
    """Keep the design, and what a search has `tried`, for the next plan to compare and for gc
    to leave alone; that it cannot be kept stops nothing."""
    from sweeper import run

    try:
        run.remember(opened.sweep, plan, opened.place, begun=begun, tried=tried)
    except EnvironmentFault as fault:
        click.echo(f"the next plan will not know this run: {fault}", err=True)


def shared_with(found: Sequence[Shared], most: int = 5) -> list[str]:
    """A line on what a sweep has in common with those that were run; none if it has nothing."""
    if not found:
        return []
    return [f"its trials are also of: {listed([one.briefly for one in found], most)}"]


def listed(titles: Sequence[str], most: int = 10) -> str:
    """ "A, B, C and 4 more" """
    more = len(titles) - most
    return ", ".join(titles[:most]) + (f" and {more} more" if more > 0 else "")


def show(tables: list, style: str) -> None:
    from rich.console import Console

    from sweeper.render import RENDERERS, terminal

    screen = Console(highlight=False)
    for number, table in enumerate(tables):
        if number:
            click.echo()
        if style == "terminal" and screen.is_terminal:
            screen.print(terminal.text(table, width=screen.width), end="")
        else:
            click.echo(RENDERERS[style](table).rstrip("\n"))


def undelivered(courier: Any) -> str:
    count = courier.undelivered
    what = "1 delivery to MLflow is" if count == 1 else f"{count:,} deliveries to MLflow are"
    return f"{what} still to be made: {courier.problem}"


def complain(plan: Plan, opened: Opened, tables: Sequence[Any] = ()) -> None:
    """What failed, why, and where its log is; of what the footers of `tables` say already,
    how to see all the logs."""
    footers = "\n".join(line for table in tables for line in table.footer)
    distinct = {trial.key: trial for trial in plan.trials}
    told = False
    for key, trial in distinct.items():
        record = plan.records.get(key)
        if record is None or record.state not in ("failed", "diverged", "exceeded"):
            continue
        if f"({trial.id})" in footers:
            told = True
            continue
        log = shown(opened.place.folder.path(trial.id) / "log.txt")
        click.echo(f"{record.state}: {title(trial)}: {record.error} ({log})", err=True)
    if told:
        click.echo(f"{again('logs', opened)} shows what they printed", err=True)


def plainly(console: Any, text: str) -> None:
    """A line as it is, above a live view."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def shown(path: Path) -> str:
    """Relative to where the person stands, if it is below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
