"""The verb logs: what trials printed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from sweeper.cli.completing import trial_ids
from sweeper.cli.frame import Opened, main, sweep_options
from sweeper.cli.signals import STOPPED_AT_ONCE
from sweeper.cli.words import remedy, shown
from sweeper.errors import CorruptRecord, SpecError, unknown
from sweeper.trial import Trial

TOLD = (
    "running",
    "failed",
    "diverged",
    "exceeded",
    "corrupt",
)  # whose logs are shown without an ID
TAIL = 20  # lines


@main.command("logs")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="The last N lines only.")
@click.option("--follow", is_flag=True, help="Go on until the trial ends.")
@click.option("--path", "path_only", is_flag=True, help="Say where it is.")
@sweep_options
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=trial_ids)
def show_logs(
    opened: Opened, ids: tuple[str, ...], tail: int | None, follow: bool, path_only: bool
) -> None:
    """What trials printed. An ID is a trial's, the beginning of one, or a label of it, such as
    model=MaxPool seed=0. Without, the ends of those that run, and of those that ended badly.

    Control characters are shown as escapes; --path names the file as it is."""
    from sweeper import run

    plan = run.look(opened.sweep, opened.place)
    plan = run.with_tried(opened.sweep, plan, opened.place)
    folder = opened.place.folder
    if ids:
        trials = meant(plan.trials, ids)
    else:
        trials = distinct(t for t in plan.trials if plan.states[t.key] in TOLD)
        tail = TAIL if tail is None and not follow else tail
    if not trials:
        said = ", ".join(
            f"{n} {state}"
            for state, n in plan.counts.items()
            if n and state in {*plan.states.values()}
        )
        click.echo(f"no trial is {', '.join(TOLD[:-1])} or {TOLD[-1]}: {said}", err=True)
        return
    if follow and len(trials) != 1:
        raise SpecError(f"--follow takes one trial, and these are {len(trials)}: add an ID")
    for number, trial in enumerate(trials):
        path = folder.path(trial.id) / "log.txt"
        if path_only:
            click.echo(shown(path))
            continue
        if len(trials) > 1 or not ids:
            click.echo(("\n" if number else "") + heading(plan, trial, path))
        if follow:
            follow_log(folder, trial, path, tail)
        else:
            print_log(plan, trial, path, tail)
    if any(plan.states[trial.key] == "corrupt" for trial in trials):
        click.echo(remedy(opened.place.store), err=True)
        sys.exit(CorruptRecord.exit_code)


def meant(trials: Sequence[Trial], words: Sequence[str]) -> tuple[Trial, ...]:
    """By ids, and by labels: those that have one of each axis that is named."""
    from sweeper.plan import named

    labels: dict[str, set[str]] = {}
    for word in words:
        axis, mark, label = word.partition("=")
        if mark:
            labels.setdefault(axis, set()).add(label)
    for axis, wanted in labels.items():
        axes = dict.fromkeys(axis for trial in trials for axis in trial.labels)
        if axis not in axes:
            raise SpecError(unknown("axis", axis, axes))
        known = dict.fromkeys(t.labels[axis] for t in trials if axis in t.labels)
        for label in wanted.difference(known):
            raise SpecError(unknown(f"label of {axis}", label, known))
    ids = [word for word in words if "=" not in word]
    some = named(trials, ids) if ids else trials
    chosen = distinct(
        t for t in some if all(t.labels.get(axis) in wanted for axis, wanted in labels.items())
    )
    if not chosen:
        raise SpecError(f"no trial is {' '.join(words)}")
    return chosen


def distinct(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Each training once: it has one log, however it is scored."""
    return tuple({trial.id: trial for trial in reversed(list(trials))}.values())[::-1]


def heading(plan: Any, trial: Trial, path: Path) -> str:
    from sweeper.live import title
    from sweeper.track.log import visible

    record = plan.records.get(trial.key)
    error = f": {record.error}" if record is not None and record.error else ""
    return visible(f"== {title(trial)}: {plan.states[trial.key]}{error} ({shown(path)})")


def print_log(plan: Any, trial: Trial, path: Path, tail: int | None) -> None:
    from sweeper.live import title
    from sweeper.track.log import lines

    there = lines(path, tail)
    for line in there:
        click.echo(line)
    if not there and tail != 0:
        what = "printed nothing" if path.exists() else "has no log"
        state = plan.states[trial.key]
        click.echo(f"{title(trial)} ({state}) {what}", err=True)


def follow_log(folder: Any, trial: Trial, path: Path, tail: int | None) -> None:
    from sweeper.track import lease
    from sweeper.track.log import follow

    try:
        count = 0
        for line in follow(path, lambda: lease.live(folder.path(trial.id)) is not None, tail):
            click.echo(line)
            count += 1
    except KeyboardInterrupt:
        sys.exit(STOPPED_AT_ONCE)
    if not count and not path.exists():
        click.echo("there is no log, and nobody runs the trial", err=True)
