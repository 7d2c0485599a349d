"""What is left to do and what the store has recorded in; what it will cost out.

A trial is expected to take what the best thing recorded says: what is left of itself, where
it was begun and told its progress; else what its configuration took with other seeds; else
what the nearest configurations of its trainer took, those that differ in the fewest settings
and in at most three. What is recorded is trials that are done, and pieces of trials that
told what share of training they are.

All is worked out once a configuration, not once a trial.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean
from typing import Any, Literal, NamedTuple

from sweeper.errors import CorruptRecord
from sweeper.plan import Plan
from sweeper.record import PROGRESS
from sweeper.track.folder import Folder
from sweeper.trial import Config, Trial, canonical, flatten

MOST_DIFFERENT = 3  # settings, between a configuration and one that may speak for it
MOST_PAIRS = 50_000_000  # of configurations that are compared
PAIRS_AT_ONCE = 2**22  # which bounds the memory it takes
AFRESH = ("stale", "diverged")  # states that are run again from nothing (see run.clear)

Basis = Literal["continued", "other seeds", "near"]
BASES: tuple[Basis, ...] = ("continued", "other seeds", "near")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What the trials that are to be trained will take, as far as it is known: sums over
    those counted in `by`, `wall_seconds` with `slots` at once, and the greatest peaks.

    `unknown` are the others. Of them `unprobed` have a configuration of which nothing at all
    is recorded; `updates_per_second` is the rate of the rest, pieces of which told no
    progress. `to_score` counts trials that are trained, of whose scoring nothing is said."""

    updates: float = 0.0
    seconds: float = 0.0
    gpu_hours: float = 0.0
    wall_seconds: float = 0.0
    peak_memory_bytes: float | None = None
    peak_gpu_memory_bytes: float | None = None
    slots: int = 1
    by: Mapping[Basis, int] = field(default_factory=dict)
    to_score: int = 0
    unknown: tuple[Trial, ...] = ()
    unprobed: tuple[Trial, ...] = ()
    updates_per_second: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "updates": self.updates,
            "seconds": self.seconds,
            "gpu_hours": self.gpu_hours,
            "wall_seconds": self.wall_seconds,
            "peak_memory_bytes": self.peak_memory_bytes,
            "peak_gpu_memory_bytes": self.peak_gpu_memory_bytes,
            "slots": self.slots,
            "by": {basis: self.by.get(basis, 0) for basis in BASES},
            "to_score": self.to_score,
            "unknown": len(self.unknown),
            "unprobed": len(self.unprobed),
            "updates_per_second": self.updates_per_second,
        }


class Took(NamedTuple):
    """What something took or will take. None: not known."""

    updates: float | None
    seconds: float
    memory: float | None = None  # bytes at the peak
    gpu_memory: float | None = None


class Configuration(NamedTuple):
    """What trials have in common that differ in their seed alone."""

    trainer: str
    settings: frozenset[tuple[str, Hashable]]


@dataclass(kw_only=True)
class Recorded:
    """What is recorded of one configuration: trials that are done, those that told their
    progress (as what they will take), and pieces that told none. Its state is these lists."""

    done: list[Took] = field(default_factory=list)
    begun: list[Took] = field(default_factory=list)
    pieces: list[Took] = field(default_factory=list)

    def add(self, total: Mapping[str, Any]) -> None:
        if total["done"]:
            self.done.append(took(total))
        elif PROGRESS in total:
            self.begun.append(took(total, 1 / total[PROGRESS]))
        elif total["measurements"]:
            self.pieces.append(took(total))

    @property
    def whole(self) -> Took | None:
        known = self.done or self.begun
        return mean(known) if known else None


def estimate(plan: Plan, folder: Folder, *, gpus: float = 0, slots: int = 1) -> Estimate:
    """`gpus` (or a share of one) is what each trial will hold, `slots` how many run at once."""
    todo = plan.todo
    to_train = tuple(
        {trial.id: trial for trial in todo if plan.states[trial.key] != "unscored"}.values()
    )
    to_score = len({trial.id for trial in todo}) - len(to_train)
    known = Known(folder, to_train)
    if not known.totals:
        return Estimate(slots=slots, to_score=to_score, unknown=to_train, unprobed=to_train)
    expected: dict[Basis, list[Took]] = {basis: [] for basis in BASES}
    left: list[tuple[Trial, Configuration, Mapping[str, Any] | None]] = []
    for trial in to_train:
        own = None if plan.states[trial.key] in AFRESH else known.totals.get(trial.id)
        if own and not own["done"] and PROGRESS in own:
            expected["continued"].append(took(own, (1 - own[PROGRESS]) / own[PROGRESS]))
            continue
        configuration = known.configuration(trial)
        recorded = known.by_configuration.get(configuration)
        if recorded is not None and (whole := recorded.whole) is not None:
            expected["other seeds"].append(less(whole, own))
        else:
            left.append((trial, configuration, own))
    near = nearest({configuration for _, configuration, _ in left}, known.by_configuration)
    unknown = []
    for trial, configuration, own in left:
        if configuration in near:
            expected["near"].append(less(near[configuration], own))
        else:
            unknown.append((trial, known.by_configuration.get(configuration)))
    pieces = [mean(recorded.pieces) for _, recorded in unknown if recorded is not None]
    rates = [piece.updates / piece.seconds for piece in pieces if piece.updates and piece.seconds]
    every = [one for some in expected.values() for one in some]
    seconds = sum(one.seconds for one in every)
    return Estimate(
        updates=sum(one.updates or 0.0 for one in every),
        seconds=seconds,
        gpu_hours=seconds * gpus / 3600,
        wall_seconds=max([seconds / slots, *(one.seconds for one in every)]),
        peak_memory_bytes=greatest(one.memory for one in [*every, *pieces]),
        peak_gpu_memory_bytes=greatest(one.gpu_memory for one in [*every, *pieces]),
        slots=slots,
        by={basis: len(some) for basis, some in expected.items()},
        to_score=to_score,
        unknown=tuple(trial for trial, _ in unknown),
        unprobed=tuple(trial for trial, recorded in unknown if recorded is None),
        updates_per_second=fmean(rates) if rates else None,
    )


def one_each(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """The first trial of each configuration."""
    firsts: dict[Configuration, Trial] = {}
    for trial in trials:
        firsts.setdefault(configuration_of(trial.trainer.identity, trial.config), trial)
    return tuple(firsts.values())


# ---- what is recorded


class Known:
    """What the store has of the trainers of `trials`: what each trial took (`totals`, see
    journal.totals), and that by configuration. It has state because trials share the object
    that is their configuration, which is looked at once."""

    def __init__(self, folder: Folder, trials: Sequence[Trial]):
        self.totals: dict[str, dict[str, Any]] = {}
        self.by_configuration: dict[Configuration, Recorded] = {}
        self._seen: dict[int, Configuration] = {}
        trainers = {written(trial.trainer.identity) for trial in trials}
        for id in folder.ids() if trainers else ():
            described = description(folder, id)
            if described is None or written(described["trainer"]) not in trainers:
                continue
            try:
                total = self.totals[id] = folder.totals(id)
            except CorruptRecord:  # It says nothing; whoever wants this trial is told.
                continue
            configuration = configuration_of(described["trainer"], described["config"])
            if total["done"] or total["measurements"]:
                self.by_configuration.setdefault(configuration, Recorded()).add(total)

    def configuration(self, trial: Trial) -> Configuration:
        if id(trial.config) not in self._seen:
            found = configuration_of(trial.trainer.identity, trial.config)
            self._seen[id(trial.config)] = found
        return self._seen[id(trial.config)]


def description(folder: Folder, trial_id: str) -> dict[str, Any] | None:
    try:
        return json.loads((folder.path(trial_id) / "trial.json").read_bytes())
    except (OSError, ValueError):
        return None


def configuration_of(trainer: Any, config: Config) -> Configuration:
    settings = frozenset((key, leaf(value)) for key, value in flatten(config).items())
    return Configuration(written(trainer), settings)


def written(value: Any) -> str:
    return json.dumps(canonical(value), sort_keys=True)


def leaf(value: Any) -> Hashable:
    """Something that is equal where two settings are: 1.0 is 1, and true is not."""
    return value if type(value) in (str, int, float) else (written(value),)


# ---- what follows from it


def took(total: Mapping[str, Any], times: float = 1.0) -> Took:
    return Took(
        updates=total["updates"] * times,
        seconds=total["seconds"] * times,
        memory=total.get("peak_memory_bytes"),
        gpu_memory=total.get("peak_gpu_memory_bytes"),
    )


def less(whole: Took, own: Mapping[str, Any] | None) -> Took:
    """What is left of a trial that was begun, as far as it has come."""
    if own is None:
        return whole
    return whole._replace(
        updates=max((whole.updates or 0.0) - own["updates"], 0.0),
        seconds=max(whole.seconds - own["seconds"], 0.0),
    )


def mean(some: Sequence[Took]) -> Took:
    columns = ([x for x in column if x is not None] for column in zip(*some, strict=True))
    return Took(*(fmean(column) if column else None for column in columns))


def greatest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def nearest(
    wanted: Iterable[Configuration], recorded: Mapping[Configuration, Recorded]
) -> dict[Configuration, Took]:
    """For each of `wanted` the mean of what the nearest whole configurations of its trainer
    took; those that none is near to are left out."""
    asked: dict[str, list[Configuration]] = {}
    for configuration in wanted:
        asked.setdefault(configuration.trainer, []).append(configuration)
    found: dict[Configuration, Took] = {}
    for trainer, some in asked.items():
        wholes = {
            configuration: whole
            for configuration, known in recorded.items()
            if configuration.trainer == trainer and (whole := known.whole) is not None
        }
        if wholes:
            # A large grid is not held against all of a large store: a part of it says as much.
            thinned = islice(wholes.items(), 0, None, 1 + len(some) * len(wholes) // MOST_PAIRS)
            found |= nearest_of(some, dict(thinned))
    return found


def nearest_of(
    wanted: Sequence[Configuration], wholes: Mapping[Configuration, Took]
) -> dict[Configuration, Took]:
    import numpy as np  # Only here: a plan of what is not recorded needs none.

    codes = coded([c.settings for c in (*wholes, *wanted)])
    there, here = codes[: len(wholes)], codes[len(wholes) :]
    values = np.array([[np.nan if x is None else x for x in whole] for whole in wholes.values()])
    known = ~np.isnan(values)
    values = np.where(known, values, 0.0)
    found: dict[Configuration, Took] = {}
    step = max(1, PAIRS_AT_ONCE // len(wholes))
    for first in range(0, len(wanted), step):
        part = here[first : first + step]
        apart = np.zeros((len(part), len(there)), np.uint16)
        for column in range(codes.shape[1]):
            apart += part[:, column, None] != there[None, :, column]
        least = apart.min(axis=1)
        ties = (apart == least[:, None]).astype(float)
        sums, counts = ties @ values, ties @ known
        for row in np.flatnonzero(least <= MOST_DIFFERENT):
            means = zip(sums[row].tolist(), counts[row].tolist(), strict=True)
            found[wanted[first + row]] = Took(*(x / n if n else None for x, n in means))
    return found


def coded(every: Sequence[frozenset[tuple[str, Hashable]]]) -> Any:
    """An array [configuration, setting] of numbers that are equal where values are, 0 where
    there is none; settings that all agree on are left out."""
    import numpy as np

    common = frozenset.intersection(*every)
    columns: dict[str, int] = {}
    numbers: dict[tuple[str, Hashable], int] = {}
    places = [
        (row, columns.setdefault(item[0], len(columns)), numbers.setdefault(item, len(numbers) + 1))
        for row, settings in enumerate(every)
        for item in settings - common
    ]
    codes = np.zeros((len(every), len(columns)), np.int32)
    if places:
        rows, at, what = np.array(places).T
        codes[rows, at] = what
    return codes
