"""Whether a search finds what plain Optuna finds with the same sampler and budget.

    python benchmarks/search_quality.py               five minutes
    python benchmarks/search_quality.py --seeds 3 --trials 25

Two functions of which the minimum is known are searched with TPE, one trial after another and
with four at a time. Ours is the whole way: one at a time through a sweep file, the inline
dispatcher, the trainer and the store; four at a time through the same search, in an order that is
always the same (the one that was begun first ends first). Plain Optuna is a loop of ask and tell in
memory. With our seeds (a sampler is made anew for each trial, and for each key) that loop has to
give the very same values as ours, which is checked; so what follows is made with the loop, with
eight times as many seeds. Random points show how much there is to be found. What is printed is the
distance of the best of all trials from the minimum, its median and range over the seeds; the ratio
of the medians; and how often ours is the better one of a pair, of which one half is what chance
would give.

It is `missed` where plain Optuna is better by more than chance (Mann and Whitney's test, one-sided,
at 0.05 for the four comparisons together).
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
from sweeper.search import sampler as made_for
from sweeper.search import seeded_by
from sweeper.searching import Searching, looked_up, sites
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


Made = Callable[..., optuna.samplers.BaseSampler]  # (number of a trial), or (number, key)


def plain(name: str, made: Made, trials: int, parallel: int = 1) -> list[float]:
    function, box, _ = FUNCTIONS[name]
    study, open_, values = optuna.create_study(), [], {}
    for number in range(trials):
        study.sampler = made(number)
        trial, point = study.ask(), []
        _ = trial.relative_params  # What is drawn for all keys together is drawn now.
        for n, ends in enumerate(box):
            study.sampler = made(number, f"x{n}")
            point.append(trial.suggest_float(f"x{n}", *ends))
        open_.append((trial, function(point)))
        while len(open_) == parallel or (open_ and number == trials - 1):
            trial, values[trial.number] = open_.pop(0)
            study.tell(trial, values[trial.number])
    return [values[number] for number in range(trials)]


def always(sampler: optuna.samplers.BaseSampler) -> Made:
    return lambda *parts: sampler


def as_ours(name: str, sampler: Mapping[str, object], trials: int, parallel: int = 1) -> Made:
    written = sweep(name, sampler, trials, parallel)
    (site,) = sites(written, None)
    return lambda *parts: made_for(written.search.sampler, seeded_by(site.name), *parts)


# ---- both


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"best of {given.trials} trials, over {8 * given.seeds} seeds: distance from the minimum")
    for name in FUNCTIONS:
        for parallel in (1, PARALLEL):
            compare(name, parallel, given.trials, range(given.seeds))


def compare(name: str, parallel: int, trials: int, seeds: Sequence[int]) -> None:
    liar = {"constant_liar": True} if parallel > 1 else {}
    many = range(8 * len(seeds))
    TPE, Random = optuna.samplers.TPESampler, optuna.samplers.RandomSampler

    def loop(made: Made) -> list[float]:
        return plain(name, made, trials, parallel)

    with_ours = [{**liar, "seed": seed} for seed in many]
    runs = {
        "ours": [loop(as_ours(name, sampler, trials, parallel)) for sampler in with_ours],
        "plain": [loop(always(TPE(**liar, seed=seed))) for seed in many],
        "random": [loop(always(Random(seed=seed))) for seed in many],
    }
    for seed in seeds:
        whole = ours(name, with_ours[seed], trials, parallel)
        assert whole == runs["ours"][seed], f"{name}: seed {seed} has other trials in memory"
    far = {who: [min(it) - FUNCTIONS[name][2] for it in some] for who, some in runs.items()}
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
