"""What verbs say of a search: its studies, and what becomes of the best of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from sweeper.cli.frame import Opened
from sweeper.cli.words import listed
from sweeper.spec.search_types import Promote, SearchSpec
from sweeper.trial import Trial


def say_studies(opened: Opened, as_json: bool) -> None:
    from sweeper import run

    sweep = opened.sweep
    studies = run.studies(sweep, opened.place)
    if as_json:
        click.echo(json.dumps(studies_json(sweep.search, studies), indent=1))
        return
    click.echo(f"{sweep.name} · {sweep.profile}: {planned(sweep.search, studies)}")
    if sweep.search.promote:
        click.echo(promoted(sweep.search.promote))


def planned(search: SearchSpec, studies: Sequence[Trial]) -> str:
    """ "search: 60 trials in each of 2 studies (Yahoo, Yelp)" """
    titles = [" ".join(trial.labels.values()) for trial in studies]
    where = f"each of {len(titles)} studies ({listed(titles)})" if len(titles) > 1 else "one study"
    return f"search: {search.trials} trials in {where}"


def promoted(promote: Promote) -> str:
    """ "then at most 3 of the front of each with 6 seeds, scored on test" """
    most = f"at most {promote.top} of the front" if promote.top else "the front"
    best = most if promote.front else f"the best {promote.top}"
    seeds = f"{len(promote.seeds)} seed{'s' * (len(promote.seeds) > 1)}"
    return f"then {best} of each with {seeds}, scored on {promote.score_on}"


def studies_json(search: SearchSpec, studies: Sequence[Trial]) -> dict[str, Any]:
    named = [{"labels": dict(trial.labels), "trials": search.trials} for trial in studies]
    return {"search": {"studies": named, "space": list(search.space)}}
