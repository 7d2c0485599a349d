"""A Sweep in; its trials out: the cross of the axes, each point with its effective
configuration, seed and identity.

A trainer may name a module that types its configuration (see trainers/config.py for one).
It is asked once per configuration, not once per seed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeper.errors import EnvironmentFault, Mark, Problem, SpecError
from sweeper.spec.problems import Problems
from sweeper.spec.sweep import Level, Settings, Sweep
from sweeper.trial import Trial, nest

MAX_TRIALS = 1_000_000

Point = tuple[Level, ...]  # one level of each axis


def expand(sweep: Sweep, root: Path | None, *, max_trials: int = MAX_TRIALS) -> tuple[Trial, ...]:
    """The trials of a sweep, in the order of its axes, the first varying slowest. `root` is
    the folder of corpora. Two points may come to one trial; both are here.

    Raises SpecError with everything that is wrong with the configurations, or if they are
    right and only data is missing, EnvironmentFault."""
    check_size(sweep, max_trials)
    answers = Answers(sweep, root)
    trials = []
    for point, variant in points(sweep):
        found = answers.about(point, variant)
        if found is None:
            continue
        config, evaluation, data_digest = found
        trials.append(
            Trial(
                trainer=sweep.trainer,
                config=config,
                evaluation=evaluation,
                seed=seed_of(sweep, point),
                data_digest=data_digest,
                labels={
                    axis.name: level.label for axis, level in zip(sweep.axes, point, strict=True)
                },
            )
        )
    answers.raise_problems()
    return tuple(trials)


def size(sweep: Sweep) -> int:
    """How many points the design has, by arithmetic alone."""
    return math.prod(len(axis.levels) for axis in sweep.axes)


def check_size(sweep: Sweep, max_trials: int) -> None:
    if (count := size(sweep)) > max_trials:
        factors = " x ".join(f"{len(axis.levels)} {axis.name}" for axis in sweep.axes)
        mark = sweep.axes[0].mark
        raise SpecError(
            Problem(message=f"{count:,} trials ({factors}) are more than {max_trials:,}", mark=mark)
        )


def points(sweep: Sweep) -> Iterator[tuple[Point, tuple[int, ...]]]:
    """Each point, with a number per axis that is equal where levels differ in seed only."""
    numbered = [list(zip(axis.levels, variants(axis.levels), strict=True)) for axis in sweep.axes]
    for choice in product(*numbered):
        yield tuple(level for level, _ in choice), tuple(number for _, number in choice)


def variants(levels: tuple[Level, ...]) -> list[int]:
    seen: dict[str, int] = {}
    return [
        seen.setdefault(repr(sorted(values_of(level.set).items())), len(seen)) for level in levels
    ]


def values_of(settings: Settings) -> dict[str, Any]:
    return {key: setting.value for key, setting in settings.items() if key != "seed"}


def settings_of(sweep: Sweep, point: Point) -> dict[str, Any]:
    """What a point writes, dotted key -> Setting: base < levels in axis order < --set."""
    settings = dict(sweep.base)
    for level in point:
        settings |= level.set
    return settings | dict(sweep.overrides)


def seed_of(sweep: Sweep, point: Point) -> int:
    if "seed" in sweep.overrides:
        return sweep.overrides["seed"].value
    for level in reversed(point):
        if "seed" in level.set:
            return level.set["seed"].value
    return sweep.base["seed"].value if "seed" in sweep.base else 0


class Answers:
    """What the trainer's own module says of configurations. Its state is what it has been
    asked already, and the problems found."""

    def __init__(self, sweep: Sweep, root: Path | None):
        self.sweep, self.root = sweep, root
        self.module = config_module(sweep)
        self.known: dict[tuple[int, ...], tuple[dict, dict, str | None] | None] = {}
        self.digests: dict[str, str | None] = {}
        self.wrong = Problems()
        self.missing = Problems()

    def about(self, point: Point, variant: tuple[int, ...]) -> tuple[dict, dict, str | None] | None:
        """(training settings, evaluation settings, digest of the data); None if wrong."""
        if variant not in self.known:
            self.known[variant] = self.ask(settings_of(self.sweep, point))
        return self.known[variant]

    def ask(self, settings: Settings) -> tuple[dict, dict, str | None] | None:
        config = nest(values_of(settings))
        if hasattr(self.module, "effective"):
            config = self.asked(self.module.effective, config, settings, self.wrong)
            if config is None:
                return None
        evaluated = getattr(self.module, "EVALUATION", ())
        digest = None
        if hasattr(self.module, "corpus_digest"):
            digest = self.digest(config, settings)
        return (
            {key: value for key, value in config.items() if key not in evaluated},
            {key: value for key, value in config.items() if key in evaluated},
            digest,
        )

    def digest(self, config: Mapping[str, Any], settings: Settings) -> str | None:
        # Asked once for the keys that say what the data is, where the module names them.
        about = getattr(self.module, "DATA", tuple(config))
        asked = repr([(key, config.get(key)) for key in about])
        if asked not in self.digests:
            self.digests[asked] = self.asked(
                lambda c: self.module.corpus_digest(c, self.root), config, settings, self.missing
            )
        return self.digests[asked]

    def asked(
        self,
        ask: Callable[[Mapping[str, Any]], Any],
        config: Mapping[str, Any],
        settings: Settings,
        problems: Problems,
    ) -> Any:
        """The module's answer, or None and its problems at the places of their keys."""
        try:
            return ask(config)
        except Exception as error:
            # The module's own exception type; it is known by what it carries.
            if not (found := getattr(error, "problems", None)):
                raise
            problems.add(*(self.placed(key, said, settings) for key, said in found))
            return None

    def placed(self, key: str, message: str, settings: Settings) -> Problem:
        """A problem at the place where its key, or the nearest one to it, was last written."""
        nearest = key
        while nearest and nearest not in settings:
            below = [k for k in settings if k.startswith(f"{nearest}.")]
            nearest = below[0] if below else nearest.rpartition(".")[0]
        if not nearest:
            return Problem(message=message, mark=self.sweep.trainer_mark, key=key)
        mark: Mark | None = settings[nearest].mark
        return Problem(
            message=message if mark else f"--set {nearest}: {message}", mark=mark, key=key
        )

    def raise_problems(self) -> None:
        if self.wrong:
            raise SpecError(*self.wrong.in_order(), *self.missing.in_order())
        if self.missing:
            raise EnvironmentFault(*self.missing.in_order())


def config_module(sweep: Sweep) -> ModuleType | None:
    name = sweep.trainer.config
    return None if name is None else imported(name, sweep.trainer_mark)


def imported(name: str, mark: Mark | None = None) -> ModuleType:
    """A trainer's configuration module; `mark` is where it is named."""
    try:
        return importlib.import_module(name)
    except (ImportError, SyntaxError) as error:
        message = f"the trainer's config module {name!r} cannot be imported: {error}"
        raise SpecError(Problem(message=message, mark=mark, key="trainer")) from None


def ask(module: str, question: str, *about: Any) -> Any:
    """What a configuration module, by its name, answers outside any sweep: the names of its
    corpora, or the description of one. Its problems are the user's surroundings."""
    answer = getattr(imported(module), question, None)
    if answer is None:
        raise SpecError(f"the config module {module!r} has no function {question!r}")
    try:
        return answer(*about)
    except Exception as error:
        if not (found := getattr(error, "problems", None)):
            raise
        raise EnvironmentFault(*(said for _, said in found)) from None
