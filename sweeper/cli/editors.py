"""A verb for editors: schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from sweeper.cli.frame import main


@main.command("schema")
@click.option(
    "--config",
    metavar="MODULE",
    help="Also the configuration keys of this trainer's module, such as trainers.config.",
)
def print_schema(config: str | None) -> None:
    """Print a JSON Schema of sweep files, for editors.

    An editor with YAML's language server (VS Code's YAML extension) completes and checks a
    sweep file that begins with the path of it:

    \b
        sweeper schema --config trainers.config > sweep.schema.json
        # yaml-language-server: $schema=sweep.schema.json

    It knows nothing of imports, and of names only that they are text: `sweeper plan FILE`
    finds what is wrong."""
    from sweeper.answers import ask
    from sweeper.spec.schema import schema

    if (here := str(Path.cwd())) not in sys.path:  # where a module of one's own is
        sys.path.append(here)
    found = schema(ask(config, "config_schema") if config else None)
    click.echo(json.dumps(found, indent=1, ensure_ascii=False))
