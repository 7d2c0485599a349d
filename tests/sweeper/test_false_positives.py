"""How often a table marks a difference where there is none: simulated nulls through the whole
of `tabulate`, seed noise 0.2, n = 3 to 10 seeds, several rows. The rate of tables with at least
one mark is at most alpha, within what so many simulations can say.

With -s it prints the rates.
"""

from __future__ import annotations

import io
import math
from itertools import product

import numpy as np
import pytest

from sweeper.record import Record
from sweeper.spec.sweep import (
    Axis,
    Best,
    Checkpoints,
    Delta,
    Level,
    Metric,
    Significance,
    Sweep,
    TableSpec,
)
from sweeper.tables import tabulate
from sweeper.trial import TrainerRef, Trial

ALPHA = 0.05
NOISE = 0.2
ROWS, COLUMNS = ("A", "B", "C", "D"), ("before", "after")
TRAINER = TrainerRef(function="toy:train")
NLL = Metric(name="nll", source="nll", goal="min", format=".3f")

STARS = {"significance": Significance(value="nll", against="A")}
STAR_ALONE = {"significance": Significance(value="nll", against="A"), "rows_only": ("A", "B")}
DELTAS = {"delta": Delta(axis="when", start="before", end="after", significance=Significance())}
OF_A_ROW = {"delta": Delta(row="A", significance=Significance())}
TIES = {"best": Best(values=("nll",), correct="holm")}
CIRCLES = {
    "checkpoints": Checkpoints(
        value="nll", against="A", artifact="items.npz", array="nll", samples=399
    )
}


def most_by_chance(simulations: int) -> float:
    """alpha, and four standard deviations of the rate that so many simulations show of it."""
    return ALPHA + 4 * math.sqrt(ALPHA * (1 - ALPHA) / simulations)


class Null:
    """A design of `seeds` in which no row and no column differs from another: what a seed adds
    is in all of them, and each has noise of its own."""

    def __init__(self, seeds: int, over: str = "seed", **asked):
        levels = {"model": ROWS, "when": COLUMNS, over: tuple(map(str, range(seeds)))}
        axes = tuple(
            Axis(name=name, levels=tuple(Level(label=label, set={}) for label in labels))
            for name, labels in levels.items()
        )
        self.sweep = Sweep(
            name="null", source="null.yaml", profile="quick", trainer=TRAINER, trainer_mark=None,
            base={}, axes=axes, metrics={"nll": NLL},
        )  # fmt: skip
        self.spec = TableSpec(
            name="t", rows="model", columns=("when",), values=("nll",), over=(over,), **asked
        )
        self.trials = [
            Trial(
                trainer=TRAINER, config={"model": model, "when": when}, seed=int(seed),
                data_digest="d", labels={"model": model, "when": when, over: seed},
            )
            for model, when, seed in product(*levels.values())
        ]  # fmt: skip
        self.shape = (len(ROWS), len(COLUMNS), seeds)

    def table(self, values, **given):
        records = {
            trial.key: Record(
                trial_id=trial.id,
                evaluation_id=trial.evaluation_id,
                state="done",
                result={"nll": float(value)},
            )
            for trial, value in zip(self.trials, values.ravel(), strict=True)
        }
        return tabulate(self.spec, self.sweep, self.trials, records, **given)

    def values(self, generator):
        """80 nats, up to 2 more by the seed, noise of 0.2."""
        of_seed = generator.normal(80, 2, size=self.shape[-1])
        return of_seed + generator.normal(0, NOISE, size=self.shape)


def cells(table):
    return [cell for line in table.cells for cell in line]


MARKED = {
    "star": (STARS, lambda table: any(cell.star for cell in cells(table))),
    "star, one comparison": (STAR_ALONE, lambda table: any(cell.star for cell in cells(table))),
    "resolved": (DELTAS, lambda table: any(cell.resolved for cell in cells(table))),
    "resolved from a row": (OF_A_ROW, lambda table: any(cell.resolved for cell in cells(table))),
    # The best of one column: each column is a family of its own.
    "not bold": (TIES, lambda table: not all(line[0].best for line in table.cells)),
}


def rate(kind: str, seeds: int, simulations: int) -> float:
    asked, marked = MARKED[kind]
    null = Null(seeds, **asked)
    generator = np.random.default_rng([seeds, *kind.encode()])
    return sum(marked(null.table(null.values(generator))) for _ in range(simulations)) / simulations


def held(kind: str, simulations: int) -> None:
    """At each n, and at all of them together, where more simulations can say more."""
    rates = {n: rate(kind, n, simulations) for n in range(3, 11)}
    shown = "  ".join(f"n={n}: {found:.3f}" for n, found in rates.items())
    print(f"\n{kind:21} {shown}  ({simulations} tables each, alpha {ALPHA})")
    assert max(rates.values()) <= most_by_chance(simulations)
    assert sum(rates.values()) / len(rates) <= most_by_chance(len(rates) * simulations)


@pytest.mark.parametrize("kind", MARKED)
def test_marks_where_nothing_differs(kind):
    held(kind, 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MARKED)
def test_marks_where_nothing_differs_many_times(kind):
    held(kind, 600)


# ---- of these checkpoints


def rate_of_circles(items: int, simulations: int) -> float:
    """Trained models that are equally good on average, and differ on each item; items that
    differ much in how hard they are."""
    null = Null(3, **CIRCLES)
    generator = np.random.default_rng(items)
    marked = 0
    for _ in range(simulations):
        hard = generator.exponential(80, size=items)
        values = hard + generator.standard_t(5, size=(*null.shape, items))
        content = {
            trial.id: npz(of_trial)
            for trial, of_trial in zip(null.trials, values.reshape(-1, items), strict=True)
        }
        table = null.table(
            values.mean(axis=-1),
            artifacts=lambda trial, name, content=content: content[trial.id],
        )
        assert all(cell.p_circle is not None for line in table.cells[1:] for cell in line)
        marked += any(cell.circle for cell in cells(table))
    return marked / simulations


def npz(values) -> bytes:
    file = io.BytesIO()
    np.savez(file, nll=values)
    return file.getvalue()


def held_for_circles(simulations: int) -> None:
    rates = {items: rate_of_circles(items, simulations) for items in (20, 50, 200)}
    shown = "  ".join(f"{items} items: {found:.3f}" for items, found in rates.items())
    print(f"\n{'these checkpoints':21} {shown}  ({simulations} tables each, alpha {ALPHA})")
    assert max(rates.values()) <= most_by_chance(simulations)
    assert sum(rates.values()) / len(rates) <= most_by_chance(len(rates) * simulations)


def test_circles_where_no_model_is_better():
    held_for_circles(50)


@pytest.mark.slow
def test_circles_where_no_model_is_better_many_times():
    held_for_circles(600)
