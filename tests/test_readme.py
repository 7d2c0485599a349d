"""What the README says is what there is: its first two commands, its files, its verbs."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").glob("*.md"))


def shell_lines() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line and line[0] != "#"]


def test_opens_with_the_table_and_the_tests() -> None:
    table, tests = shell_lines()[:2]
    assert table.startswith("python3 -m venv .venv && ")
    assert table.endswith("sweeper run sweeps/table3.yaml")
    assert tests.startswith("python3 -m venv .venv && ")
    assert tests.endswith("pytest")
    for line in (table, tests):
        assert "-c constraints.txt" in line


def test_ci_runs_these_two_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "command_of 2" in script
    assert "command_of 1" in script


def test_nothing_is_left_to_be_filled_in() -> None:
    assert not re.findall(r"@[A-Z0-9_]+@", README)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)", README))))
def test_links_point_at_files(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"sweeper ([a-z]+) ", README))))
def test_verbs_exist(verb: str) -> None:
    from sweeper.cli import main

    result = CliRunner().invoke(main, [verb, "--help"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_says_to_type_can_be_typed(page: Path) -> None:
    from sweeper.cli import main

    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    typed = list(commands(text))
    assert typed or page.name == "README.md"
    for words in typed:
        verb = main.commands.get(words[0])
        assert verb is not None, words
        names = {name for option in verb.params for name in (*option.opts, *option.secondary_opts)}
        given = [word.partition("=")[0] for word in words[1:] if word.startswith("--")]
        assert set(given) <= names, (words, set(given) - names)
        for word in words[1:]:
            if word.startswith("sweeps/"):
                assert (ROOT / word).exists(), word


def commands(text: str) -> Iterator[list[str]]:
    """What stands after `sweeper` in the lines of shell, up to what ends a command; of a script
    under docker/, what it hands to `sweeper run`."""
    for block in re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for place, word in enumerate(words):
                if word == "sweeper" or word.endswith("/sweeper"):
                    verb = []
                elif word == "docker/slurm.sh":
                    verb = ["run"]
                else:
                    continue
                rest = words[place + 1 :]
                ends = (
                    at for at, it in enumerate(rest) if it in ("&", "&&", "|", ";", ">", "2>&1")
                )
                if rest:
                    yield [*verb, *rest[: next(ends, len(rest))]]


def test_the_mistake_shown_is_what_the_tool_says(tmp_path: Path) -> None:
    from sweeper.cli import main

    shown = re.search(r"^sweeps/table3\.yaml:\d+:\d+: .*$", README, flags=re.MULTILINE)[0]
    sweeps = tmp_path / "sweeps"
    shutil.copytree(ROOT / "sweeps", sweeps)
    path = sweeps / "table3.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("kl.weight", "kl.wieght"))
    with contextlib.chdir(tmp_path):
        result = CliRunner().invoke(main, ["plan", "sweeps/table3.yaml"])
    assert result.exit_code == 2
    assert shown in result.output.splitlines()


def test_constraints_pin_every_dependency_without_local_versions_or_addresses() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line) for line in lines)
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in lines}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r'^\s+"([a-z]+)(?:\[[a-z]+\])?>=', project, flags=re.MULTILINE)
    assert {"torch", "ray", "mlflow", "optuna"} <= set(named)
    assert set(named) <= pinned


def test_no_tracked_file_names_this_machine() -> None:
    home = str(ROOT.parent) + "/"
    found = subprocess.run(
        ["git", "grep", "-nF", home, "--", "."], cwd=ROOT, capture_output=True, text=True
    )
    assert not found.stdout
