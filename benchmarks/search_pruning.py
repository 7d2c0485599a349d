"""What pruning saves in a search, and what it costs in what is found.

    python benchmarks/search_pruning.py               anneal_search.yaml, quick: 20 minutes
    python benchmarks/search_pruning.py --only Topics --trials 20

Runs the studies of a sweep file twice, each time into a store of its own: with its `prune:`, and
without. Sampler, seeds, points that are tried first and the number of trials are the same. A
sampler that learns goes another way from the first trial that is pruned on; with
`--sampler RandomSampler` both try the same points, so that what differs is what pruning does.
Prints, by study, the parameter updates that all its trials took, the best feasible value of the
first objective and the number of points of the front. Nothing is promoted.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sweeper import run
from sweeper.budget import UNLIMITED, Account
from sweeper.objectives import losses, value
from sweeper.spec import Sweep, read
from sweeper.spec.search_types import Sampler, Tried

FILE = Path(__file__).parents[1] / "sweeps" / "anneal_search.yaml"


def main(arguments: Sequence[str] | None = None) -> None:
    given = options(arguments)
    written = read(given.file, profile=given.profile)
    search = replace(written.search, trials=given.trials or written.search.trials)
    if given.sampler:
        seed = search.sampler.arguments.get("seed", 0)
        search = replace(search, sampler=Sampler(name=given.sampler, arguments={"seed": seed}))
    rules = {"halving": search, "no pruning": replace(search, prune=None)}
    found = {}
    for name in ["no pruning", "halving"]:
        with tempfile.TemporaryDirectory(prefix="search-pruning-") as store:
            found[name] = searched(replace(written, search=rules[name]), Path(store), given)
    for at in found["halving"]:
        say(at, written, {name: studies[at] for name, studies in found.items()})


def searched(
    written: Sweep, store: Path, given: argparse.Namespace
) -> dict[str, tuple[list[Tried], float]]:
    """Study -> its trials, and the updates that they took."""
    place = run.Place(store=store.resolve())
    studies = [it for it in run.studies(written, place) if given.only in (None, *it.at.values())]
    machine = run.Machine.for_(written, given.dispatch, None)
    account = Account(UNLIMITED, (), place.folder)
    run.search(
        written,
        place,
        machine,
        lambda record: None,
        threading.Event(),
        there=studies,
        account=account,
    )
    tried = run.looked_up(written, place).found.tried
    return {
        " ".join(it.at.values()): (
            own := [one for one in tried if one.at == it.at],
            sum(place.folder.totals(id)["updates"] for id in {one.trial_id for one in own}),
        )
        for it in studies
    }


def say(at: str, written: Sweep, found: dict[str, tuple[list[Tried], float]]) -> None:
    objective = written.search.objectives[0]
    print(f"{at or 'the study'}: {written.search.objectives[0].metric}, the best that is feasible")
    for name, (tried, updates) in found.items():
        feasible = [one for one in tried if one.feasible]
        states = [one.state for one in tried]
        best = min(
            feasible,
            key=lambda one: losses(one.values, [objective], written.metrics),
            default=None,
        )
        said = f"{value(objective.metric, best.values, written.metrics):.3f}" if best else "none"
        print(
            f"  {name:<11} {updates:>10,.0f} updates  best {said}  "
            f"{len(tried)} trials, {states.count('pruned')} pruned, "
            f"{len(feasible)} feasible, {sum(one.front for one in tried)} on the front"
        )
    ratio = found["halving"][1] / found["no pruning"][1]
    print(f"  updates with halving over those without: {ratio:.2f}")


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", default=str(FILE))
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--only", help="the study at this label")
    parser.add_argument("--trials", type=int, help="of each study")
    parser.add_argument("--sampler", help="in place of the file's")
    parser.add_argument("--dispatch", default="ray")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
