"""The verb doctor: whether all that a sweep needs is here."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.cli.completing import sweep_files
from sweeper.cli.frame import (
    data_option,
    json_option,
    main,
    profile_option,
    read_sweep,
    store_option,
    tracking_option,
)
from sweeper.errors import SweeperError

if TYPE_CHECKING:
    from sweeper.doctor import Finding


@main.command("doctor")
@click.argument("file", required=False, shell_complete=sweep_files)
@profile_option
@click.option("--quick", is_flag=True, help="Leave out the start of Ray, and records.")
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
    0 where nothing is wrong; else with 2 where FILE is, 3 where what is around it is, and 6
    where nothing but records is."""
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
        sys.exit(min(finding.exit_code for finding in wrong))


def line_of(finding: Finding) -> str:
    from sweeper.track.log import visible

    colour = {"ok": "green", "warn": "yellow", "wrong": "red"}[finding.level]
    level = f"{finding.level:<6}"
    if not os.environ.get("NO_COLOR"):
        level = click.style(level, fg=colour)
    todo = f"  ->  {finding.todo}" if finding.todo else ""
    return f"{level} {finding.check:<9} {visible(finding.found)}{todo}"
