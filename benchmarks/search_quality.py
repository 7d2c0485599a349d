"""Whether a search finds what plain Optuna finds with the same sampler and budget.

    python benchmarks/search_quality.py               five minutes
    python benchmarks/search_quality.py --seeds 3 --trials 25

Two functions of which the minimum is known are searched with TPE, one trial after another and
with four at a time. Ours is the whole way: one at a time through a sweep file, the inline
dispatcher, the trainer and the store; four at a time through the same search, in an order that is
always the same (the one that was begun first ends first). Plain Optuna is a loop of ask and tell in
memory. Random points show how much there is to be found. What is printed is the distance of the
best of all trials from the minimum, its median and range over the seeds (of the loops in memory
four times as many, for they are quick); the ratio of the medians; and how often ours is the better
one of a pair, of which one half is what chance would give.

It is `missed` where plain Optuna is better by more than chance (Mann and Whitney's test, one-sided,
at 0.05 for the four comparisons together): our sampler is made anew with a seed of its own for each trial, so that a search that is
interrupted goes on as it would have, and no two runs have the same points.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from scipy.stats import mannwhitneyu

from sweeper import run
from sweeper.budget import UNLIMITED, Account
from sweeper.record import Record
from sweeper.searching import Searching, looked_up
from sweeper.spec import Sweep, parse
from sweeper.trial import Trial

MEMORY = Path("/dev/shm")  # Commits to a disk take ten times as long as all else.
PARALLEL = 4
SIGNIFICANT = 0.05 / 4

# ---- functions


def branin(x: Sequence[float]) -> float:
    """Dixon and Szego 1978, The global optimization problem: an introduction."""
    bent = x[1] - 5.1 / (4 * math.pi**2) * x[0] ** 2 + 5 / math.pi * x[0] - 6
    return bent**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x[0]) + 10


ALPHA = (1.0, 1.2, 3.0, 3.2)
A = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def hartmann6(x: Sequence[float]) -> float:
    """Hartmann 1973, as Dixon and Szego 1978 have it (there Hartman's family, n = 6)."""
    far = [
        sum(a * (x_ - p) ** 2 for a, x_, p in zip(*row, strict=True))
        for row in ((A[n], x, P[n]) for n in range(4))
    ]
    return -sum(alpha * math.exp(-it) for alpha, it in zip(ALPHA, far, strict=True))


# name -> (function, its box, its minimum)
FUNCTIONS: Mapping[str, tuple[Callable[[Sequence[float]], float], list, float]] = {
    "branin": (branin, [(-5, 10), (0, 15)], 0.397887),
    "hartmann6": (hartmann6, [(0, 1)] * 6, -3.32237),
}


# ---- ours


def train(config: Mapping[str, Any], run: object) -> Iterator[Mapping[str, float]]:
    function, box, _ = FUNCTIONS[config["function"]]
    yield {"valid/loss": function([config[f"x{n}"] for n in range(len(box))])}


def sweep(name: str, sampler: Mapping[str, object], trials: int, parallel: int) -> Sweep:
    box = FUNCTIONS[name][1]
    arguments = ", ".join(f"{key}: {str(it).lower()}" for key, it in sampler.items())
    space = ", ".join(f"x{n}: {{float: [{low}, {high}]}}" for n, (low, high) in enumerate(box))
    start = ", ".join(f"x{n}: {low}" for n, (low, _) in enumerate(box))
    text = f"""
name: quality
trainer: {{function: "search_quality:train"}}
base: {{function: {name}, {start}, seed: 0}}
profiles: {{quick: {{}}}}
search:
  trials: {trials}
  parallel: {parallel}
  sampler: {{name: TPESampler, {arguments}}}
  objectives: [{{metric: valid/loss, goal: min}}]
  space: {{{space}}}
"""
    return parse(text, "quality.yaml")


def ours(name: str, sampler: Mapping[str, object], trials: int, parallel: int = 1) -> list[float]:
    """What each trial of a search came to."""
    written = sweep(name, sampler, trials, parallel)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as store:
        place = run.Place(store=Path(store).resolve())
        place.folder.prepare()
        there = run.studies(written, place)
        account = Account(UNLIMITED, (), place.folder)
        if parallel == 1:
            machine = run.Machine.for_(written, "inline", None)
            stop = threading.Event()
            run.search(written, place, machine, lambda it: None, stop, there=there, account=account)
        else:
            in_turn(Searching(written, there=there, store=place.store, data=None, account=account))
        found = looked_up(written, place.store, None).found.tried
    assert [it.number for it in found] == list(range(trials))
    return [it.values["valid/loss"] for it in found]


def in_turn(searching: Searching) -> None:
    """As many as are to be are open, and the one that was begun first ends first."""
    coming, open_ = searching.coming(), []
    for trial in coming:
        if trial is not None:
            open_.append(trial)
        if open_ and (trial is None or len(open_) == PARALLEL):
            searching.told(ended(open_.pop(0)))
    assert not open_


def ended(trial: Trial) -> Record:
    (result,) = train(trial.full_config, None)
    return Record(trial_id=trial.id, evaluation_id=trial.evaluation_id, state="done", result=result)


# ---- plain Optuna


def plain(
    name: str, sampler: optuna.samplers.BaseSampler, trials: int, parallel: int = 1
) -> list[float]:
    function, box, _ = FUNCTIONS[name]
    study, open_ = optuna.create_study(sampler=sampler), []
    while len(study.trials) < trials or open_:
        while len(study.trials) < trials and len(open_) < parallel:
            trial = study.ask()
            point = [trial.suggest_float(f"x{n}", *ends) for n, ends in enumerate(box)]
            open_.append((trial, point))
        trial, point = open_.pop(0)
        study.tell(trial, function(point))
    return [trial.value for trial in study.trials]


# ---- both


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"best of {given.trials} trials, over {given.seeds} seeds: distance from the minimum")
    for name in FUNCTIONS:
        for parallel in (1, PARALLEL):
            compare(name, parallel, given.trials, range(given.seeds))


def compare(name: str, parallel: int, trials: int, seeds: Sequence[int]) -> None:
    liar = {"constant_liar": True} if parallel > 1 else {}
    many = range(4 * len(seeds))
    TPE, Random = optuna.samplers.TPESampler, optuna.samplers.RandomSampler
    best = {
        "ours": [ours(name, {**liar, "seed": seed}, trials, parallel) for seed in seeds],
        "plain": [plain(name, TPE(**liar, seed=seed), trials, parallel) for seed in many],
        "random": [plain(name, Random(seed=seed), trials) for seed in many],
    }
    far = {who: [min(it) - FUNCTIONS[name][2] for it in some] for who, some in best.items()}
    print(f"\n{name}, {parallel} at a time")
    for who, some in far.items():
        print(f"{who:7} {statistics.median(some):8.4f} ({min(some):.4f} to {max(some):.4f})")
    ratio = statistics.median(far["ours"]) / statistics.median(far["plain"])
    wins = sum(mine < other for mine in far["ours"] for other in far["plain"])
    chance = mannwhitneyu(far["ours"], far["plain"], alternative="greater").pvalue
    missed = "  missed" if chance < SIGNIFICANT else ""
    share = wins / len(far["ours"]) / len(far["plain"])
    print(f"ratio   {ratio:8.2f}; ours is better in {share:.0%} of pairs (p {chance:.2f}){missed}")


if __name__ == "__main__":
    main()
