"""The verb gc: what a store holds and nobody needs, and its removal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.cli.completing import sweep_files
from sweeper.cli.frame import (
    FAILED,
    data_option,
    folder_of_corpora,
    json_option,
    main,
    read_sweep,
    store_option,
    tracking_option,
)
from sweeper.cli.words import repair, shown
from sweeper.errors import CorruptRecord, EnvironmentFault, SpecError
from sweeper.sizes import age_in_words, bytes_in_words, seconds_of

if TYPE_CHECKING:
    from sweeper.cleaning import Waste
    from sweeper.needed import Needed

LISTED = 10  # things of a kind
MOST_DESIGNS = 30


def age(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    try:
        return seconds_of(value) if value else None
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
@click.option(
    "--older-than",
    callback=age,
    metavar="AGE",
    help="Untouched for 7d, 12h, ...; by default a day for whole trials.",
)
@click.option(
    "--without",
    multiple=True,
    metavar="DESIGN",
    help="A design that is not needed any more, by its name (toy) or one of its variants "
    "(toy.quick).",
)
@click.option("--corrupt", is_flag=True, help="Only what cannot be believed, to be made anew.")
@json_option
@store_option
@data_option
@tracking_option
def collect(
    files: tuple[str, ...],
    delete: bool,
    yes: bool,
    checkpoints: bool,
    older_than: float | None,
    without: tuple[str, ...],
    corrupt: bool,
    as_json: bool,
    store: Path,
    data: Path | None,
    tracking: str | None,
) -> None:
    """What the store holds and nobody needs; with --delete, away with it.

    Needed are the trials of the sweeps that were run into this store, as they were then, and
    those of the FILES as they are, under all their profiles. Trials that run are never
    touched. With --corrupt it is what keeps trials from being run or shown."""
    from sweeper import cleaning

    root = store.resolve()
    cleaning.check_store(root)
    if delete and as_json and not yes:
        raise SpecError("--delete with --json asks nobody: add --yes")
    if corrupt and (files or without or checkpoints):
        raise SpecError("--corrupt looks at the whole store, and at nothing else")
    needed, runs, unseen, young = None, [], "", 0
    if corrupt:
        found = list(cleaning.corrupt(root))
    else:
        needed = needed_here(root, files, data, without)
        found, young = cleaning.waste(root, needed, checkpoints=checkpoints, older_than=older_than)
        runs, unseen = left_running(root, tracking)
    if not as_json:
        for line in listing(root, found, runs, needed, young):
            click.echo(line)
        if unseen:
            click.echo(f"MLflow's runs were not looked at: {unseen}", err=True)
    asked = delete and bool(found or runs)
    if asked and not yes:
        asked = agreed(found, runs)
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


def agreed(found: Sequence[Waste], runs: Sequence[Any]) -> bool:
    """By the person, who is asked."""
    size = bytes_in_words(sum(one.bytes for one in found))
    more = f" and end {len(runs)} runs in MLflow" if runs else ""
    try:
        return click.confirm(f"remove {len(found)} things ({size}){more}?", err=True)
    except click.Abort:
        click.echo(err=True)
        raise SpecError("nobody answered: --yes removes without a question") from None


def needed_here(
    root: Path, files: Sequence[str], data: Path | None, without: Sequence[str]
) -> Needed:
    from sweeper.needed import needed

    def corpora(sweep: Any) -> Path | None:
        return folder_of_corpora(data or sweep.data_root)

    try:
        found = needed(root, files, read_sweep, corpora, without)
    except CorruptRecord as fault:
        raise CorruptRecord(*fault.problems, f"{repair(root)} removes it") from fault
    if not (found.designs or found.without):
        raise SpecError(
            f"no run has left its design in {shown(root / 'sweeps')}: "
            "name the FILES whose trials are needed"
        )
    return found


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


def listing(
    root: Path, found: Sequence[Waste], runs: Sequence[Any], needed: Needed | None, young: int
) -> list[str]:
    """`needed` is None where it makes no difference; `young` are nobody's trials, too."""
    from sweeper.cleaning import KINDS
    from sweeper.track.log import visible

    said = []
    if needed is not None:
        said.append(f"needed in {shown(root)}, by design: {len(needed.designs)}")
        said += shortened([f"  {design}" for design in needed.designs], MOST_DESIGNS)
    head = len(said)
    for kind, what in KINDS.items():
        some = sorted((one for one in found if one.kind == kind), key=lambda one: -one.bytes)
        if some:
            size = bytes_in_words(sum(one.bytes for one in some))
            said.append(f"{what}: {len(some)}" + (f", {size}" if kind != "leases" else ""))
            said += shortened([line_about(root, one) for one in some])
    if runs:
        said.append(f"runs in MLflow that nothing will end, to be marked as killed: {len(runs)}")
        said += shortened([f"  {run.run_id}  {run.name}" for run in runs])
    if len(said) == head:
        said.append("there is nothing else" if needed else f"nothing in {shown(root)} is corrupt")
    if young:
        are = "trial in no design is" if young == 1 else "trials in no design are"
        said.append(f"{young} more {are} younger than that (--older-than 0s lists all)")
    return list(map(visible, said))


def line_about(root: Path, one: Waste) -> str:
    path = one.path.relative_to(root) if one.path.is_relative_to(root) else one.path
    old = age_in_words(time.time() - one.written)
    return f"  {path!s:<28} {bytes_in_words(one.bytes):>9}  {old:>11}  {one.says}".rstrip()


def shortened(lines: Sequence[str], most: int = LISTED) -> list[str]:
    more = len(lines) - most
    return [*lines[:most], *([f"  and {more} more"] if more > 0 else [])]


def as_objects(
    root: Path,
    found: Sequence[Waste],
    runs: Sequence[Any],
    needed: Needed | None,
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
        "needed": needed.designs if needed else [],
        "without": list(needed.without.values()) if needed else [],
        **kinds,
        "mlflow": ended,
        "bytes": sum(one.bytes for one in found),
    }
