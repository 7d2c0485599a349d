"""What a sweep has cost, will cost and may cost in; what is said of it, and whether that is
too much, out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from sweeper.budget import Account, Spent, unit_of
from sweeper.cli.frame import Opened
from sweeper.cli.words import again
from sweeper.estimates import Estimate
from sweeper.plan import Plan
from sweeper.spec.sweep import Budget, Limits, Sweep

NAMED = 5  # settings in which near configurations differ

BASES = {
    "continued": "continued",
    "again": "again, for want of a checkpoint",
    "other seeds": "as other seeds",
    "near": "as near configurations",
}


def costs(sweep: Sweep, plan: Plan, expected: Estimate, spent: Spent) -> Iterator[str]:
    if said := cost(expected):
        yield f"cost: {said}"
    if spent.seconds:
        yield f"spent so far: {', '.join(amounts(spent.updates, spent.seconds, spent.gpu_hours))}"
    if sweep.budget != Budget():
        yield f"budget: {allowed(sweep.budget)}"
    yield from doubts(sweep, plan, expected, spent)


def doubts(sweep: Sweep, plan: Plan, expected: Estimate, spent: Spent) -> Iterator[str]:
    """A line where the budget lasts for what is known, and may not for the rest."""
    from sweeper import run

    if run.over_budget(sweep, plan, spent, expected.sure) is None and (
        said := run.over_budget(sweep, plan, spent, expected.most)
    ):
        yield f"the budget may not last: {said} by near configurations; plan --probe tells more"


def as_json(sweep: Sweep, plan: Plan, expected: Estimate, spent: Spent) -> dict[str, Any]:
    from sweeper import run

    return {
        "cost": expected.as_json(),
        "spent": {key: x for key, x in asdict(spent).items() if key != "wall"},
        "budget": asdict(sweep.budget),
        "over_budget": run.over_budget(sweep, plan, spent, expected.sure),
        "may_be_over_budget": run.over_budget(sweep, plan, spent, expected.most),
    }


def cost(expected: Estimate) -> str:
    """ "about 1.9M updates, 24 min on 2 slots, 0 GPU-hours, peak 0.6 GB (12 trials as other
    seeds, 20 as near configurations); 4 trials unknown: --probe runs a piece of them" """
    bases = [f"{n} {BASES[basis]}" for basis, n in expected.by.items() if n]
    parts = []
    if bases:
        n, said = bases[0].split(" ", 1)
        bases[0] = f"{trials(int(n))} {said}"
        told = ranges(expected.least, expected.most)
        if expected.differing:
            keys = [*expected.differing[:NAMED], *(["more"] * (len(expected.differing) > NAMED))]
            bases[-1] += f", which differ in {', '.join(keys)}"
        place = 1 if expected.most.updates else 0
        told[place] += f" on {expected.slots} slot{'' if expected.slots == 1 else 's'}"
        parts.append(f"about {', '.join([*told, *peaks(expected)])} ({', '.join(bases)})")
    if expected.unprobed:
        n = len(expected.unprobed)
        parts.append(f"{trials(n)} unknown: --probe runs a piece of them")
    if begun := len(expected.unknown) - len(expected.unprobed):
        known = [] if bases else peaks(expected)
        if expected.updates_per_second:
            known.insert(0, f"at about {expected.updates_per_second:,.0f} updates/s")
        said = ", ".join([f"{trials(begun)} of unknown length", *known])
        parts.append(f"{said}: their trainer gives no `progress`")
    if expected.to_score:
        parts.append(f"{trials(expected.to_score)} to score only, which is not counted")
    return "; ".join(parts)


def ranges(least: Spent, most: Spent) -> list[str]:
    """Like `amounts`, of what is between two."""
    counted = [f"{between(least.updates, most.updates, rounded)} updates"] if most.updates else []
    hours = between(least.gpu_hours, most.gpu_hours, "{:.2g}".format)
    return [*counted, between(least.wall, most.wall, duration), f"{hours} GPU-hours"]


def between(least: float, most: float, said: Callable[[float], str]) -> str:
    low, high = said(least), said(most)
    return low if low == high else f"{low} to {high}"


def amounts(updates: float, seconds: float, gpu_hours: float) -> list[str]:
    counted = [f"{rounded(updates)} updates"] if updates else []
    return [*counted, duration(seconds), f"{gpu_hours:.2g} GPU-hours"]


def peaks(expected: Estimate) -> list[str]:
    known = [("peak", expected.peak_memory_bytes), ("GPU peak", expected.peak_gpu_memory_bytes)]
    return [f"{what} {most / 1e9:.2g} GB" for what, most in known if most is not None]


def allowed(budget: Budget) -> str:
    """ "20,000,000 updates, 12 h a run; a trial: 1,500,000 updates" """
    total, each = limits(budget.total, " a run"), limits(budget.per_trial)
    return "; ".join(filter(None, [total, each and f"a trial: {each}"]))


def limits(some: Limits, of_wall: str = "") -> str:
    parts = [f"{some.updates:,} updates"] if some.updates is not None else []
    parts += [f"{duration(some.wall)}{of_wall}"] if some.wall is not None else []
    parts += [f"{some.gpu_hours:g} GPU-hours"] if some.gpu_hours is not None else []
    return ", ".join(parts)


def trials(n: int) -> str:
    return f"{n} trial{'' if n == 1 else 's'}"


def duration(seconds: float) -> str:
    unit, length = unit_of(seconds)
    return f"{seconds / length:.3g} {unit}"


def rounded(count: float) -> str:
    """1234 -> "1,234", 1_900_000 -> "1.9M"."""
    for least, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if count >= least:
            unit = 1e3 if letter == "k" else least
            return f"{count / unit:.3g}{letter}"
    return f"{count:,.0f}"


def reached(account: Account, missing: int, untold: int) -> str:
    """`untold` were to be run and were not: they are missing, or what they were."""
    if missing:
        left = f"{trials(missing)} {'is' if missing == 1 else 'are'} missing"
    else:
        left = f"{trials(untold)} {'is' if untold == 1 else 'are'} as before"
    return f"budget reached: {account.ended}; {left}"


def raising(opened: Opened, exceeded: int) -> str:
    over = "is over its" if exceeded == 1 else "are over their"
    more = f"raise budget.per_trial, and {again('run', opened)} --retry exceeded continues"
    return f"{trials(exceeded)} {over} own budget: {more}"
