"""Verbs about what came of a sweep: table, figure, claims, report."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from sweeper.cli.completing import named
from sweeper.cli.frame import (
    FAILED,
    REFUTED,
    Opened,
    json_option,
    main,
    strict_option,
    sweep_options,
)
from sweeper.cli.words import admit_damage, again, repair, show, shown
from sweeper.errors import SpecError, unknown
from sweeper.spec.sweep import Sweep

FORMATS = ("terminal", "md", "tex", "macros", "csv", "html", "json")
PICTURES = ("png", "pdf")


@main.command("table")
@click.option(
    "--format", "style", type=click.Choice(FORMATS), default="terminal", show_default=True
)
@click.option(
    "--source", default="folder", show_default=True, help="folder, or mlflow: whose records."
)
@strict_option
@sweep_options
@click.argument("name", required=False, shell_complete=named("tables"))
def show_table(opened: Opened, name: str | None, style: str, source: str, strict: bool) -> None:
    """The tables, or the one called NAME, from what is there."""
    from sweeper import run

    sweep = opened.sweep
    names = asked_for(name, "table", sweep, sweep.tables)
    plan = run.look(sweep, opened.place, source=source)
    if strict:
        run.refuse_unlike(sweep, plan)
    damage: list[str] = []
    show(run.tables(sweep, plan, opened.place, names, damage=damage), style)
    admit_damage(plan, opened.place, damage)


@main.command("figure")
@click.option(
    "--format",
    "styles",
    multiple=True,
    type=click.Choice(PICTURES),
    help="By default what the file says under write.",
)
@sweep_options
@click.argument("name", required=False, shell_complete=named("figures"))
def draw_figure(opened: Opened, name: str | None, styles: tuple[str, ...]) -> None:
    """Draw the figures, or the one called NAME, from what is there; say where they are."""
    from sweeper import run

    sweep, place = opened.sweep, opened.place
    if not sweep.figures:
        raise SpecError(f"{sweep.source}: there are no figures in it")
    names = asked_for(name, "figure", sweep, sweep.figures)
    plan = run.look(sweep, place)
    damage: list[str] = []
    figures = run.figures(sweep, plan, place, names, damage=damage)
    for path in run.drawn(sweep, figures, place, styles):
        click.echo(shown(path))
    admit_damage(plan, place, damage)


@main.command("claims")
@click.option(
    "--check",
    is_flag=True,
    help=f"End with {REFUTED} where a claim is refuted, {FAILED} where one is missing.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(("terminal", "md")),
    default="terminal",
    show_default=True,
)
@json_option
@sweep_options
@click.argument("name", required=False, shell_complete=named("claims"))
def show_claims(opened: Opened, name: str | None, style: str, as_json: bool, check: bool) -> None:
    """What the records say of the claims, or of the one called NAME."""
    from sweeper import run
    from sweeper.render.claims import CLAIM_RENDERERS

    sweep = opened.sweep
    if not sweep.claims:
        raise SpecError(f"{sweep.source}: there are no claims in it")
    names = asked_for(name, "claim", sweep, sweep.claims)
    plan = run.look(sweep, opened.place)
    claims = run.claims(sweep, plan, names)
    click.echo(CLAIM_RENDERERS["json" if as_json else style](claims), nl=False)
    if check and "refuted" in claims.counts:
        sys.exit(REFUTED)
    admit_damage(plan, opened.place)
    if check and "missing" in claims.counts:
        sys.exit(FAILED)


@main.command("report")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="By default report.html beside the tables.",
)
@strict_option
@sweep_options
def write_report(opened: Opened, out: Path | None, strict: bool) -> None:
    """One page with everything that there is of the sweep, to be sent to somebody.

    Tables with the runs behind each number, claims, curves, cost, figures, samples, how it was
    made and what is missing. The page loads nothing from anywhere."""
    from sweeper import run
    from sweeper.track.folder import make
    from sweeper.track.sealed import write_whole

    sweep, place = opened.sweep, opened.place
    plan = run.look(sweep, place)
    if strict:
        run.refuse_unlike(sweep, plan)
    damage: list[str] = []
    page = run.report(
        sweep,
        plan,
        place,
        again=again("run", opened),
        retry=lambda state: f"{again('run', opened)} --retry {state}",
        repair=repair(place.store),
        damage=damage,
    )
    path = (out or place.tables(sweep) / "report.html").absolute()
    make(path.parent)
    write_whole(path, page.encode())
    click.echo(shown(path))
    admit_damage(plan, place, damage)


def asked_for(name: str | None, what: str, sweep: Sweep, known: Iterable[str]) -> tuple[str, ...]:
    """The one NAME that a person gave, if it is known; none, which means all of them."""
    if name is None:
        return ()
    if name not in known:
        raise SpecError(f"{sweep.source}: {unknown(what, name, known)}")
    return (name,)
