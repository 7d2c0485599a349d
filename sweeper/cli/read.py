"""Verbs about what came of a sweep: table."""

from __future__ import annotations

import click

from sweeper.cli.frame import Opened, main, sweep_options
from sweeper.cli.words import show
from sweeper.errors import SpecError, unknown

FORMATS = ("terminal", "md", "tex", "csv", "json")


@main.command("table")
@click.option(
    "--format", "style", type=click.Choice(FORMATS), default="terminal", show_default=True
)
@click.option(
    "--source", default="folder", show_default=True, help="folder, or mlflow: whose records."
)
@sweep_options
@click.argument("name", required=False)
def show_table(opened: Opened, name: str | None, style: str, source: str) -> None:
    """The tables, or the one called NAME, from what is there."""
    from sweeper import run

    sweep = opened.sweep
    if name is not None and name not in sweep.tables:
        raise SpecError(f"{sweep.source}: {unknown('table', name, sweep.tables)}")
    plan = run.look(sweep, opened.place, source=source)
    show(run.tables(sweep, plan, opened.place, [name] if name else ()), style)
