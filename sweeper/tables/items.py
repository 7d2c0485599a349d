"""Trials and the files that they left in; for each training its numbers of single items, such
as test sentences, out, or why there are none; and p of what two cells differ by.

Only what is of the same items is paired: of the same data, equally many, in their order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sweeper import stats
from sweeper.errors import CorruptRecord
from sweeper.spec.sweep import Checkpoints, Metric
from sweeper.tables.readings import Artifacts, Readings, trainings
from sweeper.trial import Trial, flatten, hashed

if TYPE_CHECKING:
    import numpy as np  # Loaded where there is a file to be read.

Place = TypeVar("Place")

AGREES = 1e-4  # relative: a mean in single precision, of ten thousand numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A number for each of N items of the data that `digest` names. `size` is that of the
    numbers which they are differences of, if they are."""

    values_N: np.ndarray
    digest: str | None
    size: float = 0.0


Left = Mapping[str, Items | str]  # label of a training under `over` -> its items, or why none


def left_by(
    asked: Checkpoints,
    metric: Metric,
    points: Mapping[str, Trial],
    readings: Readings,
    artifacts: Artifacts | None,
) -> Left:
    """Of each training that has a value; over several evaluations, the mean of theirs."""
    found: dict[str, Items | str] = {}
    for key, trials in trainings(points).items():
        scored = [trial for trial in trials if readings.read(trial, metric).value is not None]
        if scored:
            found[key] = joined([items_of(asked, metric, it, readings, artifacts) for it in scored])
    return found


def joined(found: Sequence[Items | str]) -> Items | str:
    for one in found:
        if isinstance(one, str):
            return one
    if len({one.values_N.shape for one in found}) > 1:
        return "evaluations of one training have different items"
    return Items(values_N=sum(one.values_N for one in found) / len(found), digest=found[0].digest)


def items_of(
    asked: Checkpoints,
    metric: Metric,
    trial: Trial,
    readings: Readings,
    artifacts: Artifacts | None,
) -> Items | str:
    from sweeper.tables.arrays import loaded

    configured = flatten(trial.full_config)
    names = [filled(name, configured) for name in (asked.artifact, asked.fallback) if name]
    for name in filter(None, names):
        try:
            content = artifacts(trial, name) if artifacts else None
            if content is None:
                continue
            values_N = loaded(content, asked.array)
        except CorruptRecord:  # Killed while it was written, as a rule.
            return f"{name} is damaged"
        except ValueError as fault:
            return f"{name}: {fault}"
        if values_N.ndim != 1:
            return f"{asked.array} in {name} is {list(values_N.shape)}, not [N]"
        shown = readings.read(trial, metric).value
        mean = float(values_N.mean()) * metric.scale if len(values_N) else 0.0
        if abs(mean - shown) > AGREES * max(abs(mean), abs(shown)):
            return f"the mean of {asked.array} in {name} is not the trial's {metric.name}"
        return Items(values_N=values_N, digest=trial.data_digest)
    return f"no {' or '.join(filter(None, names)) or asked.artifact}"


def filled(name: str, configured: Mapping[str, object]) -> str | None:
    """sentences_{evaluate.samples}.npz -> sentences_500.npz; None where that is not configured:
    the setting does not exist for the trial, and no file is named by it."""
    keys = re.findall(r"\{([^{}]+)\}", name)
    if not all(key in configured for key in keys):
        return None
    return re.sub(r"\{([^{}]+)\}", lambda match: str(configured[match[1]]), name)


def paired(reference: Left, cell: Left, over: str) -> Items | str:
    """What the cell's items have over those of the reference, in the mean of the trainings
    that both have; or why that cannot be said."""
    both = [(reference[key], cell[key]) for key in cell if key in reference]
    if not both:
        return "no pair"
    for one in (one for pair in both for one in pair):
        if isinstance(one, str):
            return one
    if len({one.digest for pair in both for one in pair}) > 1:
        return f"{over} of different data"
    sizes = sorted({len(one.values_N) for pair in both for one in pair})
    if len(sizes) > 1:
        return f"{' and '.join(map(str, sizes))} {over} are not the same ones"
    if sizes[0] < stats.LEAST_RESAMPLED:
        return f"{sizes[0]} {over}, at least {stats.LEAST_RESAMPLED} are needed"
    differences = [end.values_N - start.values_N for start, end in both]
    return Items(
        values_N=sum(differences) / len(differences),
        digest=both[0][0].digest,
        size=max(float(abs(one.values_N).max()) for pair in both for one in pair),
    )


def resampled(found: Mapping[Place, Items], samples: int) -> dict[Place, float | None]:
    """p of each, by the same resamples of the same items, which depend on nothing else."""
    import numpy as np

    alike: dict[tuple[str | None, int], list[Place]] = {}
    for place, items in found.items():
        alike.setdefault((items.digest, len(items.values_N)), []).append(place)
    ps: dict[Place, float | None] = {}
    for (digest, count), places in alike.items():
        seed = int(hashed(f"{digest} {count}"), 16)
        differences_KN = np.stack([found[place].values_N for place in places])
        size = max(found[place].size for place in places)
        some = stats.bootstrap(differences_KN, samples=samples, seed=seed, size=size)
        ps.update(zip(places, some, strict=True))
    return {place: ps[place] for place in found}
