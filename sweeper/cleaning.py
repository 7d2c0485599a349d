"""A store and what is needed of it in; what it holds and nobody needs out, and its removal.

Nothing here touches a trial that runs: what is in a trial's folder is removed under the
trial's own lease, so that nobody begins it meanwhile. No link is followed, and the files of
leases stay, because the number of an attempt is never given out again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeper.design import expand
from sweeper.dispatch import scratch
from sweeper.errors import CorruptRecord, EnvironmentFault
from sweeper.sizes import measured
from sweeper.spec import Sweep
from sweeper.spec.names import names
from sweeper.spec.parse import DEFAULT_PROFILE
from sweeper.track import lease, snapshots
from sweeper.track.folder import Folder
from sweeper.track.mlflow import Running
from sweeper.track.sealed import using
from sweeper.trial import Trial, digest

# A write takes less than this, and so does the end of a run that was asked to stop.
QUIET_SECONDS = 600.0
DRAFT = re.compile(r"\..+\.\d+\.[0-9a-f]{8}")  # sealed.write_whole
REMOVED = re.compile(r"\.removed-[0-9a-f]{8}")  # ours, where we were interrupted
STOP = re.compile(r"\.stop-[0-9a-f]{8}")  # dispatch.ray_tune
UNFINISHED = ".unfinished"  # a checkpoint in the making

KINDS = {
    "trials": "trials in no design",
    "leftovers": "left by what was interrupted",
    "leases": "leases of processes that died, to be marked as ended",
    "checkpoints": "checkpoints of finished trials, which are trained again to be scored anew",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waste:
    """One thing that can go: `kind` is one of KINDS, `trial_id` whose it is (None: nobody's),
    `says` what it is, `written` when anything in it last was, by the file system's clock."""

    kind: str
    path: Path
    bytes: int
    written: float
    says: str
    trial_id: str | None = None


@dataclass(slots=True, kw_only=True)
class Needed:
    """The trials of some designs, gathered one design after another: their `ids`; of those
    whose data is not here, and whose ids cannot be told, what else they are (`unsure`); and
    the `trainers` that a search tries with whatever it comes to. `designs` says which."""

    ids: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    trainers: set[str] = field(default_factory=set)
    designs: list[str] = field(default_factory=list)

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


# ---- what is needed


def needed_by(
    files: Iterable[str], read: Callable[[str, str], Sweep], corpora: Callable[[Sweep], Path | None]
) -> Needed:
    """By the files as they are, under all of their profiles: `read` reads one under one of
    them, `corpora` says where a sweep's are. Raises a SweeperError for what is wrong."""
    needed = Needed()
    for file in files:
        for profile in names(file, "profiles") or (DEFAULT_PROFILE,):
            sweep = read(file, profile)
            needed.add(sweep, expand(sweep, corpora(sweep), without_data=True))
    return needed


def needed_by_runs(root: Path) -> Needed:
    """By the sweeps as they were when they were last run into this store. Raises
    CorruptRecord where one cannot be read, for its trials would be taken for nobody's."""
    found, wrong = snapshots.all_kept(root)
    if wrong:
        raise CorruptRecord(*wrong)
    needed = Needed()
    for snapshot in found:
        needed.ids |= {key.trial_id for key in snapshot.keys}
        needed.designs.append(f"{snapshot.sweep} · {snapshot.variant}, run {snapshot.when}")
    return needed


# ---- what can go


def check_store(root: Path) -> None:
    """Raises EnvironmentFault for a folder that is no store."""
    trials = root / "trials"
    if trials.is_symlink():
        raise EnvironmentFault(f"{trials} is a link: give the store that it leads into")
    if not trials.is_dir():
        raise EnvironmentFault(f"{root} is no store of trials: there is no folder {trials}")


def waste(
    root: Path, needed: Needed | None, *, checkpoints: bool = False, older_than: float = 0.0
) -> list[Waste]:
    """All that can go and was not written to for `older_than` seconds; without `needed`, no
    whole trials."""
    check_store(root)
    now = lease.file_system_time(root)
    found = look(root, needed, now - QUIET_SECONDS, checkpoints=checkpoints)
    return [one for one in found if now - one.written >= older_than]


def look(root: Path, needed: Needed | None, quiet: float, *, checkpoints: bool) -> Iterator[Waste]:
    """`quiet` is a time: what was begun and not ended then is not going to be."""
    store = Folder(root)
    running = False
    for id in store.ids():
        folder = store.path(id)
        if folder.is_symlink() or not folder.is_dir():
            continue
        if lease.live(folder) is not None:
            running = True
            continue
        said = described(folder)
        done = bool(store.evaluations(id))
        if needed is not None and not needed.covers(id, said):
            says = f"{'done' if done else 'not done'}, {summary(said)}"
            yield thing("trials", folder, says, id)
            continue
        yield from inside(folder, quiet, finished=checkpoints and done)
    yield from around(root, quiet, running=running)


def inside(folder: Path, quiet: float, *, finished: bool) -> Iterator[Waste]:
    """What can go of a trial that itself stays; with `finished` its checkpoints, too."""
    kept = folder / "checkpoints"
    for path in (*drafts(folder, quiet), *drafts(kept, quiet)):
        yield thing("leftovers", path, "unfinished write", folder.name)
    last = lease.latest(folder)
    if last is not None:
        path = lease.path_of(folder, last.attempt)
        renewed = written(path)
        if 0 < renewed < math.inf:  # Else it was released, or is gone.
            yield thing("leases", path, f"attempt {last.attempt} of {last.owner}", folder.name)
    if finished and kept.is_dir() and not kept.is_symlink() and entries(kept):
        yield thing("checkpoints", kept, "", folder.name)


def around(root: Path, quiet: float, *, running: bool) -> Iterator[Waste]:
    """What can go beside the trials."""
    for folder in [root, root / "trials", root / "sweeps", *entries(root / "tables")]:
        for path in drafts(folder, quiet):
            yield thing("leftovers", path, "unfinished write")
    for path in entries(root):
        if STOP.fullmatch(path.name) and written(path) < quiet:
            yield thing("leftovers", path, "word to the workers of a run that has ended")
    tune = root / ".tune"
    if not running and tune.is_dir() and not tune.is_symlink() and measured(tune)[1] < quiet:
        yield thing("leftovers", tune, "scratch folder of Ray Tune")
    for path in scratch.abandoned():
        yield thing("leftovers", path, "scratch folder of a driver that died")


def thing(kind: str, path: Path, says: str, trial_id: str | None = None) -> Waste:
    size, newest = measured(path)
    size = 0 if kind == "leases" else size
    return Waste(kind=kind, path=path, bytes=size, written=newest, says=says, trial_id=trial_id)


def drafts(folder: Path, quiet: float) -> Iterator[Path]:
    """What a write began and did not come to rename, and what a removal did not finish."""
    for path in entries(folder):
        begun = DRAFT.fullmatch(path.name) or path.name.endswith(UNFINISHED)
        if REMOVED.fullmatch(path.name) or (begun and written(path) < quiet):
            yield path


def entries(folder: Path) -> list[Path]:
    """Those of a folder, sorted; none where it is a link, or is not there."""
    if folder.is_symlink():
        return []
    try:
        return sorted(folder / name for name in os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def written(path: Path) -> float:
    """When; infinite for what has gone meanwhile, as drafts do."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return math.inf


def described(folder: Path) -> dict[str, Any]:
    """A trial's trial.json; {} where it cannot be read."""
    try:
        said = json.loads((folder / "trial.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def summary(said: dict[str, Any]) -> str:
    """ "trainers.text_vae:train seed 0" """
    trainer = said.get("trainer", "an unreadable trial.json")
    words = trainer if isinstance(trainer, str) else " ".join(map(str, trainer))
    return f"{words} seed {said['seed']}" if "seed" in said else words


# ---- removal


def remove(root: Path, found: Sequence[Waste]) -> Iterator[tuple[Waste, str]]:
    """Each with why it stays, "" where it is gone. What has changed since is left."""
    for one in found:
        try:
            yield one, removed(root, one)
        except (OSError, EnvironmentFault) as fault:
            yield one, str(fault)


def removed(root: Path, one: Waste) -> str:
    if one.trial_id is not None and Folder(root).path(one.trial_id).is_symlink():
        return "it is a link now"
    if measured(one.path)[1] > one.written:
        return "it was written to meanwhile"
    if one.trial_id is None:
        vanish(one.path)
        return ""
    folder = Folder(root).path(one.trial_id)
    if one.kind == "leases":
        if lease.live(folder) is not None:
            return "it runs again"
        lease.release(folder, lease.read(folder, number_of(one.path)))
        return ""
    # Under the trial's own lease nobody begins it. Raises LeaseHeld where somebody has.
    held = lease.take(folder)
    whole = False
    try:
        vanish(one.path)
        whole = one.kind == "trials"
    finally:
        if not whole:
            lease.release(folder, held)
    return ""


def vanish(path: Path) -> None:
    """At once, by a rename, and then for good: nobody meets half of it."""
    if path.is_symlink() or not path.is_dir():
        with using(path), contextlib.suppress(FileNotFoundError):
            path.unlink()
        return
    with using(path):
        going = path.with_name(f".removed-{secrets.token_hex(4)}")
        os.rename(path, going)
        with contextlib.suppress(FileNotFoundError):  # Another one is at it, too.
            shutil.rmtree(going)


def number_of(path: Path) -> int:
    match = lease.NAME.fullmatch(path.name)
    assert match, path
    return int(match[1])


# ---- MLflow's runs


def left_running(root: Path, runs: Iterable[Running], *, own: bool) -> list[Running]:
    """Of the runs that MLflow takes for unfinished, those that nothing will end: trials' with
    neither a live process nor a result (that one `sweeper sync` delivers), and sweeps' where
    nothing in the store runs. With `own` the database is the store's, and so are trials that
    have no folder any more; else they may be another store's."""
    store = Folder(root)
    known = set(store.ids())
    live = {id for id in known if lease.live(store.path(id)) is not None}

    def is_left(run: Running) -> bool:
        if run.trial_id is None:
            return own and not live and time.time() - run.began > QUIET_SECONDS
        if run.trial_id not in known:
            return own
        return run.trial_id not in live and not store.evaluations(run.trial_id)

    return [run for run in runs if is_left(run)]
