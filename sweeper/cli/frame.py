"""What every verb is made with: the group, the options that most verbs share, and the one place
that turns errors into exit codes.

0 every cell filled · 1 some trials failed · 2 usage or sweep file · 3 environment not fit ·
4 a claim refuted under claims --check · 5 budget reached · 6 a record is corrupt ·
75 stopped, resumable · 130 stopped at once
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from sweeper import __version__
from sweeper.cli import completing, signals
from sweeper.errors import EnvironmentFault, Mark, Problem, SweeperError, quoted
from sweeper.redaction import conceal, print_concealed, without_secrets
from sweeper.spec.sweep import Sweep

CLUSTER = "sweeper.cluster"
FAILED, UNFIT, REFUTED, BUDGET = 1, 3, 4, 5  # STOPPED and STOPPED_AT_ONCE are in signals
STOPPABLE = ("run", "eval", "plan")  # verbs that train something


class Verbs(click.Group):
    """Verbs in the order in which a person meets them; every SweeperError in plain words."""

    def main(self, *arguments: Any, **more: Any) -> Any:
        if completing.VARIABLE not in os.environ:
            try:
                return super().main(*arguments, **more)
            except SystemExit as end:
                end_released(end)
                raise
        with completing.no_errors():
            return super().main(*arguments, **more)

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


def end_released(end: SystemExit) -> None:
    """Ends the process, where it would not end by itself."""
    dispatch = sys.modules.get("sweeper.dispatch")
    if dispatch is not None and dispatch.released.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else UNFIT)


def tell(error: SweeperError, as_json: bool) -> None:
    problems = [replace(p, message=conceal(p.message)) for p in error.problems]
    if as_json:
        click.echo(json.dumps({"errors": [asdict(p) for p in problems]}, indent=1))
    for problem in problems:
        click.echo(str(problem), err=True)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sweeper")
@click.pass_context
def main(context: click.Context) -> None:
    """Ablation sweeps that end in the paper's table.

    `sweeper run FILE` trains what is missing and prints the tables; run it again and it
    does what is left."""
    context.obj = sys.argv[1:]
    if context.invoked_subcommand in STOPPABLE:
        context.meta[signals.NAME] = context.with_resource(signals.heeding())
    sys.excepthook = print_concealed
    # Of the objects of a large plan none is garbage: to look for it would be a quarter of the time.
    gc.set_threshold(100_000, 50, 50)


# ---- what most verbs need


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A sweep file that was read, and where its things are; `given` is what the person gave
    beside the file: options and their values. `searched` is the sweep as the file says it,
    where that has a search: `sweep` is that of what it has found."""

    sweep: Sweep
    place: Any  # run.Place
    given: tuple[tuple[str, str], ...] = ()
    searched: Sweep | None = None

    def looked_up(self) -> Opened:
        """With what the search, if there is one, has found by now."""
        if self.searched is None:
            return self
        from sweeper import run

        return replace(self, sweep=run.looked_up(self.searched, self.place))


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
profile_option = click.option(
    "--profile",
    default="quick",
    show_default=True,
    shell_complete=completing.profiles,
    help="Of the file's profiles.",
)
where_option = click.option(
    "--where", metavar="CONDITION", help='Only trials at which it holds, such as "seed == 0".'
)
strict_option = click.option(
    "--strict",
    is_flag=True,
    help="End with 3 where not all was made by the same code, packages and kind of device.",
)


def mirror_options(command: Callable) -> Callable:
    """Where copies are, for verbs that make or read them; outside `sweep_options`."""
    where = click.option(
        "--mirror",
        envvar="SWEEPER_MIRROR",
        metavar="URL",
        help="Where trials are copied to, and got from where the store lost them, such as "
        "s3://bucket/folder (SWEEPER_MIRROR).",
    )
    often = click.option(
        "--mirror-every",
        envvar="SWEEPER_MIRROR_EVERY",
        type=click.FloatRange(min=0.1),
        metavar="SECONDS",
        help="The least between two copies of a trial that runs; 30 by default.",
    )
    return where(often(command))


json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def address_options(command: Callable) -> Callable:
    """What `cluster` returns."""

    def note(context: click.Context, option: click.Parameter, value: Any) -> None:
        context.meta[f"{CLUSTER}.{option.name}"] = value

    address = click.option(
        "--address",
        metavar="HOST:PORT",
        expose_value=False,
        callback=note,
        help="Join the Ray cluster whose head is there; auto: the one of this machine.",
    )
    wait = click.option(
        "--wait",
        is_flag=True,
        expose_value=False,
        callback=note,
        help="Also where no node of the cluster has room for a trial yet; --slots then says how "
        "many trials are at once when nodes have come.",
    )
    return address(wait(command))


def cluster() -> Any:
    """The dispatch.nodes.Cluster that the verb is to join; None: Ray on this machine."""
    from sweeper.dispatch.nodes import Cluster

    context = click.get_current_context()
    meta, slots = context.meta, context.params.get("slots")
    address, wait = meta.get(f"{CLUSTER}.address"), meta.get(f"{CLUSTER}.wait", False)
    if wait and not address:
        raise click.UsageError("--wait goes with --address")
    if wait and slots is None:
        raise click.UsageError("--wait needs --slots: how many trials at once when nodes have come")
    return Cluster(address=address, wait=wait) if address else None


def sweep_options(command: Callable) -> Callable:
    """FILE and what goes with it, made into one argument `opened`."""

    @tracking_option
    @data_option
    @store_option
    @click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a value.")
    @profile_option
    @click.argument("file", shell_complete=completing.sweep_files)
    def with_sweep(
        file: str,
        profile: str,
        sets: tuple[str, ...],
        store: Path,
        data: Path | None,
        tracking: str | None,
        mirror: str | None = None,  # Of the verbs that have a use for it.
        mirror_every: float | None = None,
        **rest: Any,
    ) -> Any:
        from sweeper.run import Place
        from sweeper.track.mirror import Mirror

        if tracking:
            without_secrets(tracking)  # A password in it is a secret from here on.
        sweep = read_sweep(file, profile, sets)
        corpora = folder_of_corpora(
            data or sweep.data_root, sweep.data_root_mark if data is None else None
        )
        place = Place(
            store=store.resolve(),
            data=corpora,
            tracking=tracking,
            mirror=Mirror.at(mirror, mirror_every) if mirror else None,
        )
        opened = Opened(sweep=sweep, place=place, given=given())
        if sweep.search:
            opened = replace(opened, searched=sweep).looked_up()
        return command(opened, **rest)

    with_sweep.__name__, with_sweep.__doc__ = command.__name__, command.__doc__
    own = getattr(command, "__click_params__", [])  # Click reads them from the last to the first.
    with_sweep.__click_params__ = [*own, *with_sweep.__click_params__]
    return with_sweep


def read_sweep(file: str, profile: str, sets: tuple[str, ...] = ()) -> Sweep:
    """As Python does for a script: a trainer beside the file, or where we stand, is found."""
    from sweeper.spec import read

    for folder in (str(Path.cwd()), os.path.dirname(os.path.realpath(file))):
        if folder not in sys.path:
            sys.path.append(folder)
    return read(file, profile=profile, overrides=sets)


def given() -> tuple[tuple[str, str], ...]:
    """What of `sweep_options` stands on the command line and is no default, to be said again:
    what the environment says, it says again by itself."""
    context = click.get_current_context()
    found: list[tuple[str, str]] = []
    for name in ("profile", "sets", "store", "data", "tracking", "mirror", "mirror_every"):
        option = next((it for it in context.command.params if it.name == name), None)
        if option is None:
            continue
        if context.get_parameter_source(name) is not click.core.ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        if name == "tracking":
            value = without_secrets(value)
        for one in value if isinstance(value, tuple) else (value,):
            if str(one) != str(option.default):
                found.append((option.opts[0], str(one)))
    return tuple(found)


def folder_of_corpora(given: Path | None, mark: Mark | None = None) -> Path | None:
    """`mark` is where a file names it."""
    if given is not None and not os.path.isdir(given):  # Path.is_dir raises at a name too long.
        here = given.relative_to(Path.cwd()) if given.is_relative_to(Path.cwd()) else given
        said = f"the folder of corpora {quoted(str(here))} is not there"
        raise EnvironmentFault(Problem(message=said, mark=mark))
    return given.resolve() if given else None
