"""Verbs about what a sweep stands on: doctor, logs, gc, completion."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.cli.completing import VARIABLE, sweep_files, trial_ids
from sweeper.cli.frame import (
    FAILED,
    STOPPED_AT_ONCE,
    UNFIT,
    Opened,
    data_option,
    folder_of_corpora,
    json_option,
    main,
    profile_option,
    read_sweep,
    store_option,
    sweep_options,
    tracking_option,
)
from sweeper.cli.words import shown
from sweeper.errors import EnvironmentFault, SpecError, SweeperError, unknown
from sweeper.sizes import age_in_words, bytes_in_words, seconds_of
from sweeper.trial import Trial

if TYPE_CHECKING:
    from sweeper.cleaning import Needed, Waste
    from sweeper.doctor import Finding

TOLD = ("running", "failed", "diverged", "exceeded")  # whose logs are shown without an ID
TAIL = 20  # lines
LISTED = 10  # things of a kind


# ---- doctor


@main.command("doctor")
@click.argument("file", required=False, shell_complete=sweep_files)
@profile_option
@click.option("--quick", is_flag=True, help="Leave out the start of Ray.")
@json_option
@store_option
@data_option
@tracking_option
def examine(
    file: str | None,
    profile: str,
    quick: bool,
    as_json: bool,
    store: Path,
    data: Path | None,
    tracking: str | None,
) -> None:
    """Whether all that a sweep needs is here: packages, devices, Ray, MLflow, the store, data.

    With FILE also whether its trials fit this machine, and their corpora are here. Ends with
    0 where nothing is wrong, else with 3."""
    from sweeper import doctor
    from sweeper.run import Place

    sweep: Any = None
    if file is not None:
        try:
            sweep = read_sweep(file, profile)
        except SweeperError as error:
            sweep = error
    corpora = data or getattr(sweep, "data_root", None)
    found = corpora.resolve() if corpora and corpora.is_dir() else None
    patient = doctor.Patient(
        place=Place(store=store.resolve(), data=found, tracking=tracking),
        corpora=corpora,
        sweep=sweep,
        quick=quick,
    )
    findings = []
    for finding in doctor.examine(patient):
        findings.append(finding)
        if not as_json:
            click.echo(line_of(finding))
    wrong = [finding for finding in findings if finding.level == "wrong"]
    if as_json:
        said = [
            {"check": x.check, "level": x.level, "found": x.found, "todo": x.todo or None}
            for x in findings
        ]
        click.echo(json.dumps({"findings": said, "wrong": len(wrong)}, indent=1))
    if wrong:
        sys.exit(UNFIT)


def line_of(finding: Finding) -> str:
    from sweeper.track.log import visible

    colour = {"ok": "green", "warn": "yellow", "wrong": "red"}[finding.level]
    level = f"{finding.level:<6}"
    if not os.environ.get("NO_COLOR"):
        level = click.style(level, fg=colour)
    todo = f"  ->  {finding.todo}" if finding.todo else ""
    return f"{level} {finding.check:<9} {visible(finding.found)}{todo}"


# ---- logs


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
    model=MaxPool seed=0. Without, the ends of those that run, failed or diverged.

    Control characters are shown as escapes; --path names the file as it is."""
    from sweeper import run

    plan = run.look(opened.sweep, opened.place)
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
        click.echo(f"no trial runs, failed or diverged: {said}", err=True)
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
        click.echo(f"{title(trial)} {what}: it is {state}", err=True)


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


# ---- gc


def age(context: click.Context, option: click.Parameter, value: str | None) -> float:
    try:
        return seconds_of(value) if value else 0.0
    except ValueError as fault:
        raise click.BadParameter(str(fault)) from None


@main.command("gc")
@click.argument("files", metavar="[FILE]...", nargs=-1, shell_complete=sweep_files)
@click.option("--delete", is_flag=True, help="Remove what is listed.")
@click.option("--yes", is_flag=True, help="With --delete: do not ask.")
@click.option(
    "--checkpoints",
    is_flag=True,
    help="Also checkpoints of finished trials: to score one anew is then to train it anew.",
)
@click.option("--older-than", callback=age, metavar="AGE", help="Untouched for 7d, 12h, ...")
@json_option
@store_option
@data_option
@tracking_option
def collect(
    files: tuple[str, ...],
    delete: bool,
    yes: bool,
    checkpoints: bool,
    older_than: float,
    as_json: bool,
    store: Path,
    data: Path | None,
    tracking: str | None,
) -> None:
    """What the store holds and nobody needs; with --delete, away with it.

    Needed are the trials of the FILES under all their profiles (what was run with --set is
    none of theirs); without FILES those of the sweeps that were run into this store, as they
    were then. Trials that run are never touched."""
    from sweeper import cleaning

    root = store.resolve()
    cleaning.check_store(root)
    needed = needed_here(root, files, data)
    found = cleaning.waste(root, needed, checkpoints=checkpoints, older_than=older_than)
    runs, unseen = left_running(root, tracking)
    if not as_json:
        for line in listing(root, found, runs, needed):
            click.echo(line)
        if unseen:
            click.echo(f"MLflow's runs were not looked at: {unseen}", err=True)
    asked = delete and bool(found or runs)
    if asked and not yes:
        size = bytes_in_words(sum(one.bytes for one in found))
        more = f" and end {len(runs)} runs in MLflow" if runs else ""
        asked = click.confirm(f"remove {len(found)} things ({size}){more}?", err=True)
    stay = {}
    if asked:
        stay = {one.path: why for one, why in cleaning.remove(root, found) if why}
        if runs:
            end(root, tracking, runs)
    if as_json:
        click.echo(json.dumps(as_objects(root, found, runs, needed, stay, asked), indent=1))
    elif asked:
        for path, why in stay.items():
            click.echo(f"stays: {shown(path)}: {why}", err=True)
        gone = [one for one in found if one.path not in stay]
        size = bytes_in_words(sum(one.bytes for one in gone))
        click.echo(f"{len(gone)} things removed, {size}" + f"; {len(runs)} runs ended" * bool(runs))
    elif found or runs:
        click.echo("nothing was removed" if delete else "--delete removes this")
    if stay:
        sys.exit(FAILED)


def needed_here(root: Path, files: Sequence[str], data: Path | None) -> Needed:
    from sweeper import cleaning

    if files:
        return cleaning.needed_by(
            files, read_sweep, lambda sweep: folder_of_corpora(data or sweep.data_root)
        )
    needed = cleaning.needed_by_runs(root)
    if not needed.designs:
        raise SpecError(
            f"no run has left its design in {shown(root / 'sweeps')}: "
            "name the FILES whose trials are needed"
        )
    return needed


def left_running(root: Path, tracking: str | None) -> tuple[list[Any], str]:
    """Runs in MLflow that nothing will end; and why they were not looked for, if so."""
    from sweeper import cleaning
    from sweeper.track.mlflow import MLflowStore, default_uri
    from sweeper.track.reach import reach

    try:
        if reach(tracking or default_uri(root)).new:
            return [], ""
        running = MLflowStore(root, tracking).running()
    except EnvironmentFault as fault:
        return [], str(fault)
    return cleaning.left_running(root, running, own=tracking is None), ""


def end(root: Path, tracking: str | None, runs: Sequence[Any]) -> None:
    from sweeper.track.mlflow import MLflowStore

    MLflowStore(root, tracking).kill(runs)


def listing(root: Path, found: Sequence[Waste], runs: Sequence[Any], needed: Needed) -> list[str]:
    from sweeper.cleaning import KINDS
    from sweeper.track.log import visible

    said = [f"needed in {shown(root)}: {', '.join(needed.designs)}"]
    for kind, what in KINDS.items():
        some = sorted((one for one in found if one.kind == kind), key=lambda one: -one.bytes)
        if some:
            size = bytes_in_words(sum(one.bytes for one in some))
            said.append(f"{what}: {len(some)}" + (f", {size}" if kind != "leases" else ""))
            said += shortened([line_about(root, one) for one in some])
    if runs:
        said.append(f"runs in MLflow that nothing will end, to be marked as killed: {len(runs)}")
        said += shortened([f"  {run.run_id}  {run.name}" for run in runs])
    if len(said) == 1:
        said.append("there is nothing else")
    return list(map(visible, said))


def line_about(root: Path, one: Waste) -> str:
    path = one.path.relative_to(root) if one.path.is_relative_to(root) else one.path
    old = age_in_words(time.time() - one.written)
    return f"  {path!s:<28} {bytes_in_words(one.bytes):>9}  {old:>11}  {one.says}".rstrip()


def shortened(lines: Sequence[str]) -> list[str]:
    more = len(lines) - LISTED
    return [*lines[:LISTED], *([f"  and {more} more"] if more > 0 else [])]


def as_objects(
    root: Path,
    found: Sequence[Waste],
    runs: Sequence[Any],
    needed: Needed,
    stay: dict[Path, str],
    removed: bool,
) -> dict[str, Any]:
    from sweeper.cleaning import KINDS

    def one_of(one: Waste) -> dict[str, Any]:
        return {
            "path": str(one.path),
            "bytes": one.bytes,
            "written": one.written,
            "says": one.says,
            "trial": one.trial_id,
            "removed": removed and one.path not in stay,
            "stays": stay.get(one.path),
        }

    kinds = {kind: [one_of(one) for one in found if one.kind == kind] for kind in KINDS}
    ended = [{"run": run.run_id, "trial": run.trial_id, "ended": removed} for run in runs]
    return {
        "store": str(root),
        "needed": needed.designs,
        **kinds,
        "mlflow": ended,
        "bytes": sum(one.bytes for one in found),
    }


# ---- completion

SHELLS = ("bash", "zsh", "fish")


@main.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def print_completion(shell: str) -> None:
    """The script by which a shell completes files, profiles, names and IDs.

    \b
    bash  sweeper completion bash >> ~/.bashrc
    zsh   sweeper completion zsh >> ~/.zshrc          (below compinit)
    fish  sweeper completion fish > ~/.config/fish/completions/sweeper.fish"""
    from click.shell_completion import ShellComplete, get_completion_class

    script = get_completion_class(shell)(main, {}, "sweeper", VARIABLE)
    click.echo(ShellComplete.source(script), nl=False)
