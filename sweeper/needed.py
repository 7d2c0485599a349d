"""Sweep files and the designs that runs left in; which trials somebody needs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeper.design import expand
from sweeper.errors import CorruptRecord, SpecError, unknown
from sweeper.snapshot import Snapshot
from sweeper.spec import Sweep
from sweeper.spec.names import names
from sweeper.spec.parse import DEFAULT_PROFILE
from sweeper.track import snapshots
from sweeper.trial import Trial, digest


@dataclass(slots=True, kw_only=True)
class Needed:
    """The trials of some designs, gathered one design after another: their `ids`; of those
    whose data is not here, and whose ids cannot be told, what else they are (`unsure`); and
    the `trainers` that a search tries with whatever it comes to. `designs` says which, and
    `without` which were left out, by the file of each."""

    ids: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    trainers: set[str] = field(default_factory=set)
    designs: list[str] = field(default_factory=list)
    without: dict[Path, str] = field(default_factory=dict)

    def add(self, sweep: Sweep, trials: Sequence[Trial]) -> None:
        """`trials` are those of the sweep, also where their data is missing."""
        self.designs.append(f"{sweep.name} · {sweep.profile}")
        for trial in trials:
            self.ids.add(trial.id)
            if trial.data_digest is None:
                self.unsure.add(digest([trial.trainer.identity, trial.config, trial.seed]))
        if sweep.search is not None:
            self.trainers |= {digest(trial.trainer.identity) for trial in trials}

    def covers(self, trial_id: str, said: dict[str, Any]) -> bool:
        """`said` is the trial's trial.json, {} where that cannot be read."""
        if trial_id in self.ids:
            return True
        if not (self.unsure or self.trainers):
            return False
        trainer = said.get("trainer")
        what = digest([trainer, said.get("config"), said.get("seed")])
        return what in self.unsure or digest(trainer) in self.trainers


def needed(
    root: Path,
    files: Iterable[str],
    read: Callable[[str, str], Sweep],
    corpora: Callable[[Sweep], Path | None],
    without: Iterable[str] = (),
) -> Needed:
    """By the sweeps as they were when they were last run into this store, but those that
    `without` names, and by the files as they are, under all of their profiles: `read` reads
    one under one of them, `corpora` says where a sweep's are. Raises CorruptRecord where a
    design cannot be read, for its trials would be taken for nobody's."""
    found = Needed()
    add_kept(found, root, tuple(without))
    for file in files:
        for profile in names(file, "profiles") or (DEFAULT_PROFILE,):
            sweep = read(file, profile)
            found.add(sweep, expand(sweep, corpora(sweep), without_data=True))
    return found


def add_kept(found: Needed, root: Path, without: Sequence[str]) -> None:
    kept, wrong = snapshots.by_file(root)
    if wrong:
        raise CorruptRecord(*map(str, wrong.values()))
    left_out: set[str] = set()
    for path, design in kept.items():
        called = {design.sweep, f"{design.sweep}.{design.variant}", path.stem}
        if named := called.intersection(without):
            left_out |= named
            found.without[path] = spelled(design)
            continue
        found.ids |= {key.trial_id for key in (*design.keys, *design.tried)}
        found.designs.append(spelled(design))
    for name in without:
        if name not in left_out:
            known = {x for d in kept.values() for x in (d.sweep, f"{d.sweep}.{d.variant}")}
            raise SpecError(unknown("design", name, known))


def spelled(design: Snapshot) -> str:
    """ "toy · quick, run 2026-11-25 14:02 (/home/me/toy.yaml)" """
    how = "begun" if design.begun else "run"
    return f"{design.sweep} · {design.variant}, {how} {design.when} ({design.source})"
