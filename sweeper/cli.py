"""The verbs. The only place that prints, reads the environment and turns errors into exit codes.

0 every cell filled · 1 some trials failed · 2 usage or sweep file · 3 environment not fit ·
6 a record is corrupt · 75 stopped, resumable · 130 stopped at once
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from sweeper import __version__
from sweeper.errors import EnvironmentFault, SpecError, SweeperError, unknown
from sweeper.plan import RETRIABLE, STATES
from sweeper.spec.sweep import Sweep
from sweeper.trial import Trial

FAILED, UNFIT, STOPPED, STOPPED_AT_ONCE = 1, 3, 75, 130
FORMATS = ("terminal", "md", "tex", "csv", "json")


class Verbs(click.Group):
    """Verbs in the order in which a person meets them; every SweeperError in plain words."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except SweeperError as error:
            tell(error, as_json="--json" in context.obj)
            context.exit(error.exit_code)
        except BrokenPipeError:  # The reader of our output (head, less) has gone.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(0)


def tell(error: SweeperError, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"errors": [asdict(p) for p in error.problems]}, indent=1))
    for problem in error.problems:
        click.echo(str(problem), err=True)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sweeper")
@click.pass_context
def main(context: click.Context) -> None:
    """Ablation sweeps that end in the paper's table.

    `sweeper run FILE` trains what is missing and prints the tables; run it again and it
    does what is left."""
    context.obj = sys.argv[1:]


# ---- what most verbs need


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A sweep file that was read, and where its things are."""

    sweep: Sweep
    place: Any  # run.Place


store_option = click.option(
    "--store",
    envvar="SWEEPER_STORE",
    default="runs",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the records (SWEEPER_STORE).",
)
data_option = click.option(
    "--data",
    envvar="SWEEPER_DATA",
    type=click.Path(path_type=Path),
    help="Folder of the corpora (SWEEPER_DATA).",
)
tracking_option = click.option(
    "--tracking",
    envvar="MLFLOW_TRACKING_URI",
    metavar="URI",
    help="MLflow's server or database; by default one in the store (MLFLOW_TRACKING_URI).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def sweep_options(command: Callable) -> Callable:
    """FILE and what goes with it, made into one argument `opened`."""

    @tracking_option
    @data_option
    @store_option
    @click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a value.")
    @click.option("--profile", default="quick", show_default=True, help="Of the file's profiles.")
    @click.argument("file")
    def with_sweep(
        file: str,
        profile: str,
        sets: tuple[str, ...],
        store: Path,
        data: Path | None,
        tracking: str | None,
        **rest: Any,
    ) -> Any:
        from sweeper.run import Place
        from sweeper.spec import read

        # As Python does for a script: a trainer beside the file, or where we stand, is found.
        for folder in (str(Path.cwd()), str(Path(file).resolve().parent)):
            if folder not in sys.path:
                sys.path.append(folder)
        sweep = read(file, profile=profile, overrides=sets)
        corpora = folder_of_corpora(data or sweep.data_root)
        place = Place(store=store.resolve(), data=corpora, tracking=tracking)
        return command(Opened(sweep=sweep, place=place), **rest)

    with_sweep.__name__, with_sweep.__doc__ = command.__name__, command.__doc__
    own = getattr(command, "__click_params__", [])  # Click reads them from the last to the first.
    with_sweep.__click_params__ = [*own, *with_sweep.__click_params__]
    return with_sweep


def folder_of_corpora(given: Path | None) -> Path | None:
    if given is not None and not given.is_dir():
        raise EnvironmentFault(f"the folder of corpora {str(given)!r} is not there")
    return given.resolve() if given else None


# ---- verbs


@main.command("run")
@click.option("--dispatch", "by", default="ray", show_default=True, help="ray, or inline.")
@click.option("--slots", type=click.IntRange(min=1), help="At most so many trials at once.")
@click.option("--retry", multiple=True, type=click.Choice(RETRIABLE), help="Run these again, too.")
@sweep_options
def run_sweep(opened: Opened, by: str, slots: int | None, retry: tuple[str, ...]) -> None:
    """Train what is missing, print and write the tables."""
    from sweeper import run

    sweep, place = opened.sweep, opened.place
    plan = run.look(sweep, place, retry)
    place.folder.prepare()
    # Finding out what the machine has loads Ray: not where there is nothing to do.
    machine = run.Machine.for_(sweep, by, slots) if plan.todo else None
    click.echo(summary(sweep, plan.counts, len(plan.todo)), err=True)
    run.clear(plan, place)
    courier = run.courier(sweep, plan, place)
    stopped = machine is not None and train_visibly(sweep, plan, place, machine, courier.notice)
    plan = run.look_again(sweep, plan.trials, place)
    tables = run.tables(sweep, plan, place)
    run.publish(sweep, tables, place, courier)
    filled = all(table.filled for table in tables)
    show(tables, "terminal")
    click.echo(f"tables are in {shown(place.tables(sweep))}", err=True)
    if courier.close(state="KILLED" if stopped else "FINISHED" if filled else "FAILED"):
        click.echo(f"{undelivered(courier)}; later: sweeper sync {sweep.source}", err=True)
    if stopped:
        click.echo("stopped; the same line again does what is left", err=True)
        sys.exit(STOPPED)
    if not filled:
        complain(plan, place)
        sys.exit(FAILED)


@main.command("plan")
@json_option
@sweep_options
def plan_sweep(opened: Opened, as_json: bool) -> None:
    """What there is and what is left to do."""
    from sweeper import run

    plan = run.look(opened.sweep, opened.place)
    if as_json:
        click.echo(json.dumps(plan.as_json(), indent=1))
        return
    for trial in plan.trials:
        labels = "  ".join(f"{axis}={label}" for axis, label in trial.labels.items())
        click.echo(f"{trial.id}  {plan.states[trial.id]:<9}{labels}")
    click.echo(summary(opened.sweep, plan.counts, len(plan.todo)))


@main.command("status")
@json_option
@sweep_options
def show_status(opened: Opened, as_json: bool) -> None:
    """Where a sweep stands, also while another terminal runs it."""
    from sweeper import run

    plan = run.look(opened.sweep, opened.place)
    folder = opened.place.folder
    running = []
    for trial in plan.trials:
        if plan.states[trial.id] == "running":
            history = folder.history(trial.id)
            running.append((trial, history[-1].cost if history else 0.0))
    if as_json:
        now = [{"id": trial.id, "updates": cost} for trial, cost in running]
        click.echo(json.dumps({"counts": plan.counts, "running": now}, indent=1))
        return
    from sweeper.live import title

    click.echo(summary(opened.sweep, plan.counts, len(plan.todo)))
    for trial, cost in running:
        click.echo(f"  running  {title(trial)}: {cost:,.0f} updates")
    complain(plan, opened.place)


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


@main.command("sync")
@sweep_options
def sync(opened: Opened) -> None:
    """Deliver to MLflow all that the folders know of a sweep."""
    from sweeper import run

    sweep, place = opened.sweep, opened.place
    plan = run.look(sweep, place)
    place.folder.prepare()
    courier = run.courier(sweep, plan, place, again=True)
    run.publish(sweep, run.tables(sweep, plan, place), place, courier)
    if courier.close(timeout=600):
        click.echo(undelivered(courier), err=True)
        sys.exit(UNFIT)
    click.echo(f"MLflow has all {len(plan.records)} records")


@main.command("ui")
@click.option("--port", default=5000, show_default=True)
@store_option
@tracking_option
def open_ui(port: int, store: Path, tracking: str | None) -> None:
    """The MLflow UI on the runs, on this machine's loopback address."""
    from sweeper.track.mlflow import (
        SETTINGS,
        default_uri,
        redacted,
        ui_command,
        ui_environment,
    )

    store = store.resolve()
    if not tracking and not (store / "mlflow.db").exists():
        raise EnvironmentFault(f"no runs in {shown(store)} yet: sweeper run FILE makes some")
    uri = tracking or default_uri(store)
    command = ui_command(uri, store, port=port)
    if not command:
        click.echo(redacted(uri))
        return
    click.echo(f"http://127.0.0.1:{port} in some seconds  (Ctrl-C ends it)", err=True)
    os.execvpe(command[0], command, {**SETTINGS, **os.environ, **ui_environment(uri)})


@main.command("data")
@click.argument("name", required=False)
@click.option("--config", default="trainers.config", show_default=True, help="Module that knows.")
@json_option
@data_option
def show_data(name: str | None, config: str, as_json: bool, data: Path | None) -> None:
    """The corpora that can be named; or what NAME holds, checked."""
    from sweeper.design import ask
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


# ---- what the verbs say and do on the way


def summary(sweep: Sweep, counts: dict[str, int], todo: int) -> str:
    """ "table3 · quick: 36 trials, 12 done, 24 missing; 24 to run" """
    states = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    merged = counts["points"] - counts["total"]
    same = f" ({merged} points share one with another)" if merged else ""
    left = f"{todo} to run" if todo else "nothing left to do"
    what = f"{counts['total']} trials{same}, {', '.join(states)}"
    return f"{sweep.name} · {sweep.profile}: {what}; {left}"


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
    return f"{courier.undelivered} deliveries to MLflow are still to be made: {courier.problem}"


def complain(plan: Any, place: Any) -> None:
    """What failed, why, and where its log is."""
    from sweeper.live import title

    distinct = {trial.id: trial for trial in plan.trials}
    for id, trial in distinct.items():
        record = plan.records.get(id)
        if record is not None and record.state in ("failed", "diverged"):
            log = shown(place.folder.path(id) / "log.txt")
            click.echo(f"{record.state}: {title(trial)}: {record.error} ({log})", err=True)


def shown(path: Path) -> str:
    """Relative to where the person stands, if it is below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def train_visibly(
    sweep: Sweep, plan: Any, place: Any, machine: Any, on_end: Callable[[Trial], None]
) -> bool:
    """Run what is left under a live view (a line a trial where there is no terminal);
    whether it was stopped by a signal."""
    from rich.console import Console

    from sweeper import live, run

    todo = plan.todo
    console = Console(file=sys.stderr)  # This one, also while a trial has its own for a log.
    watch = live.Watch(
        plan=plan,
        folder=place.folder,
        slots=machine.slots,
        tables=lambda now: run.tables(sweep, now, place, list(sweep.tables)[:1]),
    )

    def told(record: Any) -> None:
        trial = watch.todo[record.trial_id]
        watch.notice(record)
        on_end(trial)
        if not console.is_terminal:
            click.echo(live.line(record, trial, len(watch.records), len(todo)), err=True)

    with stopping() as stop, live.view(watch, console) if console.is_terminal else nullcontext():
        run.train(todo, place, machine, told, stop)
    return stop.is_set()


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first SIGINT, SIGTERM or SIGHUP sets; a second one ends the process."""
    stop = threading.Event()
    terminal = sys.stderr  # Of this process; a trial in it may have its own for its log.

    def asked(number: int, frame: Any) -> None:
        if stop.is_set():
            os._exit(STOPPED_AT_ONCE)
        stop.set()
        click.echo("stopping at the next measurement; once more stops at once", file=terminal)

    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = {number: signal.signal(number, asked) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
