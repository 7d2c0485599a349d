"""What is left to do and what the store has recorded in; what it will cost out.

A trial is expected to take what the best thing recorded says: what is left of itself, where
it was begun, told its progress and left something to continue from; else what its configuration
took with other seeds; else what the nearest configurations of its trainer took, those that
differ in the fewest settings and in at most three. What is recorded is trials that are done,
and pieces of trials that told what share of training they are.

What near configurations took is scaled with the numbers in which they differ, where records
that differ in nothing else show how cost goes with those. Else it is a range: the cost of
twice as many steps, layers or sentences is between as much and twice as much.

All is worked out once a configuration, not once a trial.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from statistics import fmean
from typing import Any, Literal, NamedTuple

from sweeper.budget import Spent
from sweeper.errors import CorruptRecord
from sweeper.plan import Plan
from sweeper.record import PROGRESS
from sweeper.track.folder import Folder
from sweeper.trial import Config, Trial, canonical, flatten

MOST_DIFFERENT = 3  # settings, between a configuration and one that may speak for it
MOST_NEAREST = 8  # configurations, of those equally near, that speak for one
MOST_SCALED = 5000  # of which is taken how cost goes with a setting
STEEPEST = 3.0  # power of a setting with which cost is believed to go
MOST_PAIRS = 50_000_000  # of configurations that are compared
PAIRS_AT_ONCE = 2**22  # which bounds the memory it takes
NOTHING = Spent()

Basis = Literal["continued", "again", "other seeds", "near"]
BASES: tuple[Basis, ...] = ("continued", "again", "other seeds", "near")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What the trials that are to be trained will take, as far as it is known: sums over
    those counted in `by`, `wall_seconds` with `slots` at once, and the greatest peaks. It is
    between `least` and `most`; `sure` is what does not rest on near configurations, which
    differ in the settings `differing` of unknown effect.

    `unknown` are the others. Of them `unprobed` have a configuration of which nothing at all
    is recorded, nor of any near it; `updates_per_second` is the rate of the rest, pieces of which
    told no progress. `to_score` counts trials that are trained, of whose scoring nothing is
    said."""

    updates: float = 0.0
    seconds: float = 0.0
    gpu_hours: float = 0.0
    wall_seconds: float = 0.0
    least: Spent = NOTHING
    most: Spent = NOTHING
    sure: Spent = NOTHING
    differing: tuple[str, ...] = ()
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
            "least": asdict(self.least),
            "most": asdict(self.most),
            "sure": asdict(self.sure),
            "differing": list(self.differing),
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

    @property
    def rated(self) -> bool:
        return bool(self.updates and self.seconds)


class Near(NamedTuple):
    """What near configurations say: a guess between two bounds, and in which settings they
    differ of which nobody knows what they do to the cost."""

    guess: Took
    least: Took
    most: Took
    differing: frozenset[str]


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
    known = Known(folder, plan.todo)
    to_train, again = trainings(plan, known)
    to_score = len({trial.id for trial in plan.todo}) - len(to_train) - len(again)
    if not known.totals:
        return Estimate(slots=slots, to_score=to_score, unknown=to_train, unprobed=to_train)
    expected: dict[Basis, list[Took]] = {basis: [] for basis in BASES}
    expected["again"] = [took(known.totals[trial.id]) for trial in again]
    left: list[tuple[Trial, Configuration, Mapping[str, Any] | None]] = []
    for trial in to_train:
        own = known.continued(trial, plan.states[trial.key])
        if own and PROGRESS in own:
            expected["continued"].append(took(own, (1 - own[PROGRESS]) / own[PROGRESS]))
            continue
        configuration = known.configuration(trial)
        recorded = known.by_configuration.get(configuration)
        if recorded is not None and (whole := recorded.whole) is not None:
            expected["other seeds"].append(less(whole, own))
        else:
            left.append((trial, configuration, own))
    near = nearest({configuration for _, configuration, _ in left}, known.by_configuration)
    least, most, unknown = [], [], []
    for trial, configuration, own in left:
        if configuration in near:
            guess, low, high, _ = near[configuration]
            expected["near"].append(less(guess, own))
            least.append(less(low, own))
            most.append(less(high, own))
        else:
            unknown.append((trial, configuration))
    pieces = known.pieces({configuration for _, configuration in unknown})
    rates = [piece.updates / piece.seconds for piece in pieces.values() if piece.rated]
    sure = [one for basis in BASES if basis != "near" for one in expected[basis]]
    every = [*sure, *expected["near"]]
    peaks = [*every, *pieces.values()]
    whole = summed(every, gpus, slots)
    return Estimate(
        updates=whole.updates,
        seconds=whole.seconds,
        gpu_hours=whole.gpu_hours,
        wall_seconds=whole.wall,
        least=summed([*sure, *least], gpus, slots),
        most=summed([*sure, *most], gpus, slots),
        sure=summed(sure, gpus, slots),
        differing=tuple(sorted(frozenset().union(*(one.differing for one in near.values())))),
        peak_memory_bytes=greatest(one.memory for one in peaks),
        peak_gpu_memory_bytes=greatest(one.gpu_memory for one in peaks),
        slots=slots,
        by={basis: len(some) for basis, some in expected.items()},
        to_score=to_score,
        unknown=tuple(trial for trial, _ in unknown),
        unprobed=tuple(trial for trial, configuration in unknown if configuration not in pieces),
        updates_per_second=fmean(rates) if rates else None,
    )


def trainings(plan: Plan, known: Known) -> tuple[tuple[Trial, ...], tuple[Trial, ...]]:
    """Each trial that is to be trained, once; and each that is to be scored and has to train
    for it, since nothing is kept that could be."""
    distinct = {trial.id: trial for trial in plan.todo}
    unscored = [t for t in distinct.values() if plan.states[t.key] == "unscored"]
    again = tuple(trial for trial in unscored if known.kept_nothing(trial.id))
    return tuple(t for t in distinct.values() if plan.states[t.key] != "unscored"), again


def summed(some: Sequence[Took], gpus: float, slots: int) -> Spent:
    seconds = sum(one.seconds for one in some)
    return Spent(
        updates=sum(one.updates or 0.0 for one in some),
        seconds=seconds,
        gpu_hours=seconds * gpus / 3600,
        wall=max([seconds / slots, *(one.seconds for one in some)]),
    )


# ---- what a probe would tell


def probes(plan: Plan, folder: Folder) -> tuple[tuple[Trial, ...], int]:
    """Trials, one a configuration, of which a piece would say most; and of how many
    configurations of unknown cost they are. First those that bring what is unknown near to
    something known, with one more for each number of which they show what it does to the cost.
    Where all is near, one for each value of a setting that nothing recorded has."""
    expected = estimate(plan, folder)
    known = Known(folder, plan.todo)
    unprobed = {known.configuration(trial): trial for trial in reversed(expected.unprobed)}
    if unprobed:
        wanted = dict(reversed(unprobed.items()))
        return tuple(wanted[one] for one in spread(list(wanted))), len(wanted)
    wanted = {}
    for trial in trainings(plan, known)[0]:
        configuration = known.configuration(trial)
        if configuration not in known.by_configuration:
            wanted.setdefault(configuration, trial)
    fresh = covering(list(wanted), known.by_configuration)
    return tuple(wanted[one] for one in fresh), len(wanted)


def spread(wanted: Sequence[Configuration]) -> list[Configuration]:
    chosen: list[Configuration] = []
    for one in wanted:
        if all(apart(one, other) > MOST_DIFFERENT for other in chosen):
            chosen += [one, *one_number_apart(one, wanted)]
    return list(dict.fromkeys(chosen))


def one_number_apart(
    one: Configuration, wanted: Sequence[Configuration]
) -> Iterator[Configuration]:
    """For each setting the one that differs from `one` in it alone, and by the greatest
    factor."""
    furthest: dict[str, tuple[float, Configuration]] = {}
    for other in wanted:
        if other.trainer != one.trainer or len(one.settings ^ other.settings) != 2:
            continue
        ((key, ratio),) = ratios(one, other).items()
        if ratio is not None:
            far = abs(math.log(ratio))
            if far > furthest.get(key, (0.0, one))[0]:
                furthest[key] = (far, other)
    return (other for _, other in furthest.values())


def covering(
    wanted: Sequence[Configuration], recorded: Mapping[Configuration, Recorded]
) -> list[Configuration]:
    """Some of `wanted` in which each value is that no record of their trainer has, and whose
    effect is not known from other values."""
    chosen: list[Configuration] = []
    for trainer in dict.fromkeys(configuration.trainer for configuration in wanted):
        there = [configuration for configuration in recorded if configuration.trainer == trainer]
        seen: set[tuple[str, Hashable]] = set().union(*(one.settings for one in there))
        explained = set(scales(wholes_of(trainer, recorded)))

        def news(one: Configuration, seen=seen, explained=explained) -> frozenset:
            fresh = one.settings - seen
            return frozenset(item for item in fresh if item[0] not in explained)

        some = [one for one in wanted if one.trainer == trainer]
        for one in sorted(some, key=lambda one: len(news(one)), reverse=True):
            if fresh := news(one):
                chosen.append(one)
                seen |= one.settings
                explained |= {key for key, value in fresh if is_number(value)}
    return chosen


# ---- what is recorded


class Known:
    """What the store has of the trainers of `trials`: what each trial took (`totals`, see
    journal.totals), and that by configuration. It has state because trials share the object
    that is their configuration, which is looked at once."""

    def __init__(self, folder: Folder, trials: Sequence[Trial]):
        self.folder = folder
        self.totals: dict[str, dict[str, Any]] = {}
        self.by_configuration: dict[Configuration, Recorded] = {}
        self._seen: dict[int, Configuration] = {}
        trainers = {written(t.identity) for t in {trial.trainer for trial in trials}}
        for id in folder.ids() if trainers else ():
            try:
                described = folder.described(id)
                if described is None or written(described["trainer"]) not in trainers:
                    continue
                total = folder.totals(id)
            except CorruptRecord:  # It says nothing; whoever wants this trial is told.
                continue
            total = self.totals[id] = total.get("now", total)
            configuration = configuration_of(described["trainer"], described["config"])
            if total["done"] or total["measurements"]:
                self.by_configuration.setdefault(configuration, Recorded()).add(total)

    def continued(self, trial: Trial, state: str) -> Mapping[str, Any] | None:
        """What there is of a trial that the next attempt at it will continue: nothing of what
        diverged, or was made by other code, or by a trainer that begins from nothing."""
        own = self.totals.get(trial.id)
        if own is None or own["done"] or state == "diverged" or not self.is_kept(trial.id):
            return None
        return own

    def is_kept(self, trial_id: str) -> bool:
        """Whether attempts go on where earlier ones stopped, as they have, or may from what is
        there."""
        continues = self.totals[trial_id].get("continues")
        return self.folder.keeps_training(trial_id) if continues is None else continues

    def kept_nothing(self, trial_id: str) -> bool:
        return trial_id in self.totals and not self.is_kept(trial_id)

    def pieces(self, wanted: Iterable[Configuration]) -> dict[Configuration, Took]:
        """Pieces that told no progress, of those of `wanted` of which, or near which, there
        are some."""
        there = {
            configuration: Recorded(done=recorded.pieces)
            for configuration, recorded in self.by_configuration.items()
            if recorded.pieces
        }
        wanted = set(wanted)
        own = {one: mean(there[one].done) for one in wanted if one in there}
        return {one: near.guess for one, near in nearest(wanted - own.keys(), there).items()} | own

    def configuration(self, trial: Trial) -> Configuration:
        if id(trial.config) not in self._seen:
            found = configuration_of(trial.trainer.identity, trial.config)
            self._seen[id(trial.config)] = found
        return self._seen[id(trial.config)]


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


def apart(one: Configuration, other: Configuration) -> float:
    """In how many settings they differ."""
    if one.trainer != other.trainer:
        return math.inf
    return len({key for key, _ in one.settings ^ other.settings})


def ratios(one: Configuration, other: Configuration) -> dict[str, float | None]:
    """Setting in which they differ -> how much greater it is in `other`; None where it is no
    number above zero in both."""
    mine = dict(one.settings - other.settings)
    theirs = dict(other.settings - one.settings)
    return {
        key: theirs[key] / mine[key]
        if is_number(mine.get(key)) and is_number(theirs.get(key))
        else None
        for key in {**mine, **theirs}
    }


def is_number(value: Hashable) -> bool:
    return type(value) in (int, float) and value > 0


def wholes_of(
    trainer: str, recorded: Mapping[Configuration, Recorded]
) -> dict[Configuration, Took]:
    return {
        configuration: whole
        for configuration, known in recorded.items()
        if configuration.trainer == trainer and (whole := known.whole) is not None
    }


def scales(wholes: Mapping[Configuration, Took]) -> dict[str, tuple[float, float]]:
    """Setting -> the powers of it with which updates and seconds go, by least squares over
    configurations that differ in nothing else."""
    some = dict(islice(wholes.items(), 0, None, 1 + len(wholes) // MOST_SCALED))
    if len(some) < 2:
        return {}
    common = frozenset.intersection(*(configuration.settings for configuration in some))
    groups: dict[tuple[str, int], list[tuple[float, Took]]] = {}
    for configuration, whole in some.items():
        varied = configuration.settings - common
        everything = sum(map(hash, varied))
        for item in varied:
            if is_number(item[1]):
                others = everything - hash(item)  # The same where all else is.
                groups.setdefault((item[0], others), []).append((item[1], whole))
    return {
        key: (power(mine, "updates"), power(mine, "seconds"))
        for key in dict.fromkeys(key for key, _ in groups)
        if (mine := [group for (of, _), group in groups.items() if of == key and len(group) > 1])
    }


def power(groups: Sequence[Sequence[tuple[float, Took]]], measure: str) -> float:
    """The slope of log cost over log value, the same in all groups."""
    both = square = 0.0
    for group in groups:
        known = [(x, cost) for x, whole in group if (cost := getattr(whole, measure))]
        if len(known) < 2:
            continue
        xs, ys = ([math.log(value) for value in column] for column in zip(*known, strict=True))
        middle_x, middle_y = fmean(xs), fmean(ys)
        both += sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True))
        square += sum((x - middle_x) ** 2 for x in xs)
    return max(-STEEPEST, min(both / square, STEEPEST)) if square else 0.0


def carried(
    one: Configuration, whole: Took, other: Configuration, powers: Mapping[str, tuple[float, float]]
) -> Near:
    """What `other` will take by what `one` took."""
    updates = seconds = low = high = 1.0
    differing = set()
    for key, ratio in ratios(one, other).items():
        if ratio is not None and key in powers:
            updates, seconds = updates * ratio ** powers[key][0], seconds * ratio ** powers[key][1]
            continue
        differing.add(key)
        # A rate or a weight is no amount of work; a whole number may be one.
        if ratio is not None and is_whole(key, one) and is_whole(key, other):
            low, high = low * min(ratio, 1.0), high * max(ratio, 1.0)
    guess = scaled(whole, updates, seconds)
    return Near(guess, scaled(guess, low, low), scaled(guess, high, high), frozenset(differing))


def is_whole(key: str, configuration: Configuration) -> bool:
    return float(dict(configuration.settings)[key]).is_integer()


def scaled(whole: Took, updates: float, seconds: float) -> Took:
    return whole._replace(
        updates=None if whole.updates is None else whole.updates * updates,
        seconds=whole.seconds * seconds,
    )


def together(some: Sequence[Near]) -> Near:
    """What several that are equally near say: their mean, between the least and the most."""
    low, high = (
        Took(
            updates=of((x for one in some if (x := one[place].updates) is not None), default=None),
            seconds=of(one[place].seconds for one in some),
        )
        for place, of in ((1, min), (2, max))
    )
    differing = frozenset().union(*(one.differing for one in some))
    return Near(mean([one.guess for one in some]), low, high, differing)


def nearest(
    wanted: Iterable[Configuration], recorded: Mapping[Configuration, Recorded]
) -> dict[Configuration, Near]:
    """For each of `wanted` what the nearest whole configurations of its trainer took; those
    that none is near to are left out."""
    asked: dict[str, list[Configuration]] = {}
    for configuration in wanted:
        asked.setdefault(configuration.trainer, []).append(configuration)
    found: dict[Configuration, Near] = {}
    for trainer, some in asked.items():
        if wholes := wholes_of(trainer, recorded):
            # A large grid is not held against all of a large store: a part of it says as much.
            thinned = islice(wholes.items(), 0, None, 1 + len(some) * len(wholes) // MOST_PAIRS)
            found |= nearest_of(some, dict(thinned), scales(wholes))
    return found


def nearest_of(
    wanted: Sequence[Configuration],
    wholes: Mapping[Configuration, Took],
    powers: Mapping[str, tuple[float, float]],
) -> dict[Configuration, Near]:
    import numpy as np  # Only here: a plan of what is not recorded needs none.

    codes = coded([c.settings for c in (*wholes, *wanted)])
    there, here = codes[: len(wholes)], codes[len(wholes) :]
    known = list(wholes.items())
    found: dict[Configuration, Near] = {}
    step = max(1, PAIRS_AT_ONCE // len(wholes))
    for first in range(0, len(wanted), step):
        part = here[first : first + step]
        distances = np.zeros((len(part), len(there)), np.uint16)
        for column in range(codes.shape[1]):
            distances += part[:, column, None] != there[None, :, column]
        least = distances.min(axis=1)
        for row in np.flatnonzero(least <= MOST_DIFFERENT):
            other = wanted[first + row]
            ties = np.flatnonzero(distances[row] == least[row])
            some = (known[at] for at in ties[:: -(-len(ties) // MOST_NEAREST)])
            found[other] = together([carried(one, took, other, powers) for one, took in some])
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
