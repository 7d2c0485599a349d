"""Verbs about what is around a sweep: MLflow and the corpora."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from urllib.parse import urlencode

import click

from sweeper.cli.frame import (
    UNFIT,
    Opened,
    data_option,
    folder_of_corpora,
    json_option,
    main,
    mirror_options,
    store_option,
    sweep_options,
    tracking_option,
)
from sweeper.cli.words import admit_damage, shown, undelivered
from sweeper.errors import EnvironmentFault


@main.command("sync")
@mirror_options
@sweep_options
def sync(opened: Opened) -> None:
    """Deliver to MLflow all that the folders know of a sweep, and copy it to the mirror."""
    from sweeper import run
    from sweeper.cli import copies

    sweep, place = opened.sweep, opened.place
    plan = run.look(sweep, place)
    place.folder.prepare()
    courier = run.courier(sweep, plan, place, again=True)
    damage: list[str] = []
    run.results(sweep, plan, place, courier, damage=damage)
    delivered = not courier.close(timeout=600)
    if delivered:
        click.echo(f"MLflow has all {len(plan.records) - len(plan.damage)} records")
    else:
        click.echo(undelivered(courier), err=True)
    copies.reach(opened)  # Only now: neither of the two is to wait for the other.
    copied = copies.copy_left(opened, plan, plan.trials, thorough=True)
    if not (delivered and copied):
        sys.exit(UNFIT)
    admit_damage(plan, place, damage)


@main.command("ui")
@click.option("--port", default=5000, show_default=True)
@store_option
@tracking_option
def open_ui(port: int, store: Path, tracking: str | None) -> None:
    """The MLflow UI on the runs, on this machine's loopback address."""
    from sweeper.track.mlflow import (
        SETTINGS,
        default_uri,
        ui_command,
        ui_environment,
    )
    from sweeper.track.pages import TRAINING

    store = store.resolve()
    if not tracking and not (store / "mlflow.db").exists():
        at = "" if store == Path("runs").resolve() else f" --store {shlex.quote(shown(store))}"
        raise EnvironmentFault(f"no runs in {shown(store)} yet: sweeper run FILE{at} makes some")
    uri = tracking or default_uri(store)
    command = ui_command(uri, store, port=port)
    if not command:
        from sweeper.redaction import without_secrets

        click.echo(without_secrets(uri))
        return
    address = f"http://127.0.0.1:{port}/#/experiments?{urlencode([TRAINING])}"
    click.echo(f"{address} in some seconds  (Ctrl-C ends it)", err=True)
    os.execvpe(command[0], command, {**SETTINGS, **os.environ, **ui_environment(uri)})


@main.command("data")
@click.argument("name", required=False)
@click.option("--config", default="trainers.config", show_default=True, help="Module that knows.")
@json_option
@data_option
def show_data(name: str | None, config: str, as_json: bool, data: Path | None) -> None:
    """The corpora that can be named; or what NAME holds, checked."""
    from sweeper.answers import ask
    from sweeper.outline import outline

    root = folder_of_corpora(data)
    if name is None:
        names = ask(config, "corpus_names", root)
        click.echo(json.dumps(names) if as_json else "\n".join(names))
        if root is None and not as_json:
            click.echo("folders of corpora are listed with --data or SWEEPER_DATA", err=True)
        return
    described = ask(config, "describe_corpus", name, root)
    click.echo(json.dumps(described, indent=1) if as_json else outline(described))
