"""What a point of a design writes in; what the trainer's own module says of it out: its
effective configuration, what of that is evaluation only, and the digest of its data.

A trainer may name a module that types its configuration (see trainers/config.py for one).
It is asked once per configuration, not once per seed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeper.errors import EnvironmentFault, Mark, Problem, SpecError
from sweeper.spec.problems import Problems
from sweeper.spec.sweep import Axis, Settings
from sweeper.trial import Shared, TrainerRef, Trial, nest


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the trials have in common that differ in their seed only."""

    config: Shared
    evaluation: Shared
    data_digest: str | None


class Answers:
    """What trainers' modules say of configurations; `named_at` is where the file names each
    trainer. Its state is what it has asked already, and the problems found."""

    def __init__(
        self,
        root: Path | None,
        named_at: Mapping[TrainerRef, Mark | None],
        axes: Iterable[Axis] = (),
    ):
        self.root, self.named_at = root, named_at
        self.plain = {axis.name: axis.mark for axis in axes if axis.plain}
        self.modules: dict[str | None, ModuleType | None] = {None: None}
        self.known: dict[Hashable, Answer | None] = {}
        self.digests: dict[str, str | None] = {}
        self.wrong = Problems()
        self.missing = Problems()

    def about(
        self, variant: Hashable, trainer: TrainerRef, settings: Callable[[], Settings]
    ) -> Answer | None:
        """None if it is wrong. `settings` are those of all points of one `variant`."""
        if variant not in self.known:
            self.known[variant] = self.ask(trainer, settings())
        return self.known[variant]

    def module(self, trainer: TrainerRef) -> ModuleType | None:
        if trainer.config not in self.modules:
            self.modules[trainer.config] = imported(trainer.config, self.named_at.get(trainer))
        return self.modules[trainer.config]

    def ask(self, trainer: TrainerRef, settings: Settings) -> Answer | None:
        module, mark = self.module(trainer), self.named_at.get(trainer)
        config = nest({key: s.value for key, s in settings.items() if key != "seed"})
        if hasattr(module, "effective"):
            config = self.asked(module.effective, config, settings, mark, self.wrong)
            if config is None:
                return None
        evaluated = getattr(module, "EVALUATION", ())
        told = hasattr(module, "corpus_digest")
        digest = self.digest(module, config, settings, mark) if told else None
        return Answer(
            config=Shared({key: value for key, value in config.items() if key not in evaluated}),
            evaluation=Shared({key: value for key, value in config.items() if key in evaluated}),
            data_digest=digest,
        )

    def digest(
        self,
        module: ModuleType,
        config: Mapping[str, Any],
        settings: Settings,
        mark: Mark | None,
    ) -> str | None:
        # Asked once for the keys that say what the data is, where the module names them.
        about = getattr(module, "DATA", tuple(config))
        asked = repr([module.__name__, [(key, config.get(key)) for key in about]])
        if asked not in self.digests:
            self.digests[asked] = self.asked(
                lambda c: module.corpus_digest(c, self.root), config, settings, mark, self.missing
            )
        return self.digests[asked]

    def asked(
        self,
        ask: Callable[[Mapping[str, Any]], Any],
        config: Mapping[str, Any],
        settings: Settings,
        mark: Mark | None,
        problems: Problems,
    ) -> Any:
        """The module's answer, or None and its problems at the places of their keys; at `mark`
        where a key is written nowhere."""
        try:
            return ask(config)
        except Exception as error:
            # The module's own exception type; it is known by what it carries.
            if not (found := getattr(error, "problems", None)):
                raise
            problems.add(*(self.placed(key, said, settings, mark) for key, said in found))
            return None

    def placed(self, key: str, message: str, settings: Settings, otherwise: Mark | None) -> Problem:
        """A problem at the place where its key was last written. What says nothing of the
        value is said of the key: once, where that is an axis."""
        setting = settings.get(key)
        of_axis = setting is not None and setting.mark and key in self.plain
        if of_axis and str(setting.value) not in message:
            return Problem(message=message, mark=self.plain[key], key=key)
        return placed(key, message, settings, otherwise)

    def raise_problems(self, trials: int = 0) -> None:
        """`trials` is how many there are."""
        if self.wrong:
            raise SpecError(*self.wrong.in_order(), *self.missing.in_order())
        if self.missing:
            waiting = f"all else is right; trials of this sweep: {trials:,}"
            raise EnvironmentFault(*self.missing.in_order(), *([waiting] if trials else []))


def placed(key: str, message: str, settings: Settings, otherwise: Mark | None) -> Problem:
    """A problem at the place where its key, or the nearest one to it, was last written."""
    nearest = key
    while nearest and nearest not in settings:
        below = [k for k in settings if k.startswith(f"{nearest}.")]
        nearest = below[0] if below else nearest.rpartition(".")[0]
    if not nearest:
        return Problem(message=message, mark=otherwise, key=key)
    mark: Mark | None = settings[nearest].mark
    return Problem(message=message if mark else f"--set {nearest}: {message}", mark=mark, key=key)


def imported(name: str, mark: Mark | None = None) -> ModuleType:
    """A trainer's configuration module; `mark` is where it is named."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # It is somebody's own code.
        said = error if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        message = f"the trainer's config module {name!r} cannot be imported: {said}"
        raise SpecError(Problem(message=message, mark=mark, key="trainer")) from None


def remarks(trials: Iterable[Trial], root: Path | None) -> list[str]:
    """What configuration modules say of the data that is no error and seldom meant, of each
    once; of a module that has nothing to say of it, nothing."""
    said: dict[str, None] = {}
    asked = set()
    for trial in trials:
        if (name := trial.trainer.config) is None:
            continue
        module = imported(name)
        about = [(key, trial.config.get(key)) for key in getattr(module, "DATA", ())]
        if (which := repr([name, about])) not in asked and hasattr(module, "remarks"):
            said |= dict.fromkeys(ask(name, "remarks", trial.full_config, root))
        asked.add(which)
    return list(said)


def data_digest(trial: Trial, root: Path | None) -> str | None:
    """Of the data as it is now; None where the trainer's module says nothing of it."""
    name = trial.trainer.config
    if name is None or not hasattr(imported(name), "corpus_digest"):
        return None
    found: str | None = ask(name, "corpus_digest", trial.full_config, root)
    return found


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
