"""A Sweep in; its trials out: the cross of the axes without what is excluded and with what is
included, each point with its effective configuration, seed and identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

from sweeper.answers import Answers
from sweeper.errors import Mark, Problem, SpecError, quoted
from sweeper.spec.conditions import compiled, condition, faults, looked_up, lookup, names
from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.settings import differ, line_of
from sweeper.spec.sweep import Condition, Level, Point, Settings, Sweep
from sweeper.trial import TrainerRef, Trial

MAX_TRIALS = 1_000_000

Placed = tuple[Point, Hashable]  # what is equal where points differ in their seed only


def expand(
    sweep: Sweep,
    root: Path | None,
    *,
    max_trials: int = MAX_TRIALS,
    without_data: bool = False,
) -> tuple[Trial, ...]:
    """The trials of a sweep, in the order of its axes, the first varying slowest. `root` is
    the folder of corpora. Two points may come to one trial; both are here.

    Raises SpecError with everything that is wrong with the configurations, or if they are
    right and only data is missing, EnvironmentFault; `without_data`, a trial whose data is
    missing has no digest of it instead, and so not its own id."""
    check_size(sweep, max_trials)
    check_included(sweep)
    answers = Answers(root, trainers(sweep), axes=sweep.axes)
    trials = []
    apart = keys_apart(sweep)
    for point, variant in points(sweep, max_trials):
        if apart:
            check_clash(point, apart)
        trainer = trainer_of(sweep, point)
        answer = answers.about(variant, trainer, lambda at=point: settings_of(sweep, at))
        if answer is None:
            continue
        trials.append(
            Trial(
                trainer=trainer,
                config=answer.config,
                evaluation=answer.evaluation,
                seed=seed_of(sweep, point),
                data_digest=answer.data_digest,
                labels=point.labels,
            )
        )
    if answers.wrong or not without_data:
        answers.raise_problems(len(trials))
    if not trials:
        mark = next((condition.mark for condition in sweep.exclude), sweep.trainer_mark)
        raise SpecError(Problem(message="no trial is left: exclude takes all", mark=mark))
    return tuple(trials)


def size(sweep: Sweep) -> int:
    """The most points that the design has, by arithmetic alone: conditions are not asked."""
    return math.prod(len(axis.levels) for axis in sweep.axes) + len(sweep.include)


def check_size(sweep: Sweep, max_trials: int) -> None:
    """Where an axis is absent at some points there are fewer: these are counted, as far as
    the limit, in `cross`."""
    conditional = any(axis.when is not None for axis in sweep.axes)
    if (count := size(sweep)) > max_trials and not conditional:
        raise too_many(sweep, f"{count:,}", max_trials)


def too_many(sweep: Sweep, count: str, most: int) -> SpecError:
    factors = " x ".join(f"{len(axis.levels)} {axis.name}" for axis in sweep.axes)
    more = f", and {len(sweep.include):,} included" if sweep.include else ""
    before = " before exclude" if sweep.exclude else ""
    said = f"{count} trials{before} ({factors}{more}) are more than {most:,}"
    mark = sweep.axes[0].mark if sweep.axes else sweep.trainer_mark
    return SpecError(Problem(message=said, mark=mark))


# ---- points


def points(sweep: Sweep, most: int = MAX_TRIALS) -> Iterator[Placed]:
    """The points of the cross that nothing excludes, then those that are included."""
    conditions = [compiled(excluded.test) for excluded in sweep.exclude]
    values = looking(sweep)
    for point, variant in cross(sweep, most):
        at = values(point)
        if not any(holds(at) for holds in conditions):
            yield point, variant
    for point in sweep.include:
        yield point, repr([point.levels, without_seed(point.further)])


def cross(sweep: Sweep, most: int = MAX_TRIALS) -> Iterator[Placed]:
    """Every point of the cross of the axes, an axis being absent where its `when` does not
    hold. What is below a level of the first axis is made at once, and refused before it is
    made if it comes to more than `most`: no further axis makes it less."""
    values = looking(sweep)
    first, *others = [
        (axis, compiled(axis.when.test) if axis.when else None, numbered(axis.levels))
        for axis in sweep.axes
    ] or [None]
    if first is None:
        yield Point(levels={}), ()
        return
    axis, holds, levels = first
    absent = holds is not None and not holds(values(Point(levels={})))
    starts = [({}, (None,))] if absent else [({axis.name: x}, (n,)) for x, n in levels]
    made = 0
    for start in starts:
        found: list[tuple[dict[str, Level], tuple]] = [start]
        for axis, holds, levels in others:
            longer = []
            for chosen, variant in found:
                if made + len(longer) + len(levels) > most and len(levels) > 1:
                    raise too_many(sweep, f"more than {most:,}", most)
                if holds is not None and not holds(values(Point(levels=chosen))):
                    longer.append((chosen, (*variant, None)))
                else:
                    name = axis.name
                    longer += [({**chosen, name: x}, (*variant, n)) for x, n in levels]
            found = longer
        made += len(found)
        for chosen, variant in found:
            yield Point(levels=chosen), variant


def check_included(sweep: Sweep) -> None:
    """An included point that has every label of another one would be taken for it."""
    if not sweep.include:
        return
    wanted = {tuple(point.labels.items()): point for point in sweep.include}
    found = [point for point in sweep.include if wanted[tuple(point.labels.items())] is not point]
    pairs = [(point, wanted[tuple(point.labels.items())]) for point in found]
    excluding = [compiled(excluded.test) for excluded in sweep.exclude]
    values = looking(sweep)
    for point, _ in cross(sweep):
        other = wanted.get(tuple(point.labels.items()))
        if other is not None and not any(holds(values(point)) for holds in excluding):
            pairs.append((other, point))
    problems = Problems()
    for point, other in pairs:
        keys = [
            key
            for key in dict.fromkeys((*point.further, *other.further))
            if settings_of(sweep, point).get(key) != settings_of(sweep, other).get(key)
        ]
        said = ", ".join(f"{axis}={label}" for axis, label in point.labels.items()) or "no label"
        differs = f", and differs in {', '.join(keys)}" if keys else ""
        problems.refuse(
            point.mark,
            f"this point has the labels of another one ({said}){differs}: "
            "give it a level of its own on some axis",
        )
    problems.raise_any()


def keys_apart(sweep: Sweep) -> frozenset[str]:
    """Keys that several conditional axes write: whether they clash is seen at the points."""
    counts: dict[str, int] = {}
    for axis in sweep.axes:
        if axis.when is not None:
            for key in {key for level in axis.levels for key in level.set}:
                counts[key] = counts.get(key, 0) + 1
    return frozenset(key for key, count in counts.items() if count > 1)


def check_clash(point: Point, keys: frozenset[str]) -> None:
    """Raises SpecError where two levels of a point write different values to one key."""
    for key in keys:
        before = None
        for axis, level in point.levels.items():
            setting = level.set.get(key)
            if setting is None:
                continue
            if before is not None and not level.override and differ(before.value, setting.value):
                said = f"{key!r} is {quoted(setting.value)} here and {quoted(before.value)} at "
                said += f"{line_of(before.mark)}, and axis {axis!r} meets that at a point; "
                said += "say 'override: true' in this level to let it win"
                raise SpecError(Problem(message=said, mark=setting.mark, key=key))
            before = setting


def looking(sweep: Sweep) -> Callable[[Point], Callable]:
    axes = {axis.name: axis for axis in sweep.axes}
    return lambda point: lookup(point, sweep.base, sweep.overrides, axes)


def numbered(levels: tuple[Level, ...]) -> list[tuple[Level, int]]:
    """Each level with a number that is one for those that differ in their seed only."""
    seen: dict[str, int] = {}
    written = (repr([level.trainer, without_seed(level.set)]) for level in levels)
    return [(x, seen.setdefault(w, len(seen))) for x, w in zip(levels, written, strict=True)]


def without_seed(settings: Settings) -> list:
    return sorted((key, s.value) for key, s in settings.items() if key != "seed")


def settings_of(sweep: Sweep, point: Point) -> Settings:
    """What a point writes, dotted key -> Setting: base < levels in axis order < what it was
    included with < --set."""
    settings = dict(sweep.base)
    for level in point.levels.values():
        settings |= level.set
    return settings | dict(point.further) | dict(sweep.overrides)


def seed_of(sweep: Sweep, point: Point) -> int:
    seed = looked_up("seed", point, sweep.base, sweep.overrides)
    return seed.value if seed is not None else 0


def trainer_of(sweep: Sweep, point: Point) -> TrainerRef:
    named = (level.trainer for level in reversed(point.levels.values()) if level.trainer)
    return next(named, sweep.trainer)


def trainers(sweep: Sweep) -> dict[TrainerRef, Mark | None]:
    """Each trainer that runs something, and where it is named. The file's own runs nothing
    where each level of an axis has one of its own."""
    levels = [level for axis in sweep.axes for level in (*axis.levels, *axis.added)]
    named = {level.trainer: level.trainer_mark for level in levels if level.trainer}
    everywhere = any(
        axis.when is None and all(level.trainer for level in axis.levels) for axis in sweep.axes
    )
    return (
        named if everywhere and not sweep.include else {sweep.trainer: sweep.trainer_mark, **named}
    )


# ---- conditions


def chosen(sweep: Sweep, text: str) -> Callable[[Point], bool]:
    """Whether `--where` holds of a point. Raises SpecError for what cannot be asked."""
    problems = Problems()
    node = Node(value=text, text=text, mark=None)
    asked = condition(node, "--where", problems)
    if asked is not None:
        beside = [level.set for axis in sweep.axes for level in axis.added]
        beside += [point.further for point in sweep.include]
        known = names({**sweep.base, **sweep.overrides}, sweep.axes, elsewhere=beside)
        for fault in faults(asked.test, known):
            problems.refuse(None, f"--where: {fault}")
    problems.raise_any()
    holds, values = compiled(asked.test), looking(sweep)
    return lambda point: bool(holds(values(point)))


def idle(sweep: Sweep) -> list[Problem]:
    """Conditions that change nothing in this design, which is no error and seldom meant."""
    values = looking(sweep)
    excluding = [(asked, compiled(asked.test)) for asked in sweep.exclude]
    conditional = {axis.name: axis for axis in sweep.axes if axis.when}
    if not excluding and not conditional:
        return []
    for point, _ in cross(sweep):
        at = values(point)
        excluding = [(asked, holds) for asked, holds in excluding if not holds(at)]
        for name in point.levels.keys() & conditional.keys():
            del conditional[name]
        if not excluding and not conditional:
            break
    found: list[tuple[Condition, str]] = [
        *((asked, f"nothing is excluded by {asked}") for asked, _ in excluding),
        *((axis.when, f"axis {axis.name!r} is nowhere") for axis in conditional.values()),
    ]
    return [Problem(message=said, mark=asked.mark) for asked, said in found]
