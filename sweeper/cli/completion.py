"""The verb completion: the script by which a shell completes what is typed."""

from __future__ import annotations

import click

from sweeper.cli.completing import VARIABLE
from sweeper.cli.frame import main

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
