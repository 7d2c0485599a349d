"""A store and what is needed of it in; what it holds and nobody needs out, and its removal.

Nothing here touches a trial that runs: what is in a trial's folder is removed under the
trial's own lease, so that nobody begins it meanwhile. No link is followed, and the files of
leases stay, because the number of an attempt is never given out again.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.dispatch import scratch
from sweeper.errors import CorruptRecord, EnvironmentFault
from sweeper.needed import Needed
from sweeper.sizes import measured
from sweeper.track import lease, owner, snapshots
from sweeper.track.folder import Folder
from sweeper.track.mlflow import Running
from sweeper.track.sealed import using

# A write takes less than this, and so does the end of a run that was asked to stop.
QUIET_SECONDS = 600.0
DRAFT = re.compile(r"\..+\.\d+\.[0-9a-f]{8}")  # sealed.write_whole
REMOVED = re.compile(r"\.removed-[0-9a-f]{8}")  # ours, where we were interrupted
STOP = re.compile(r"\.stop-[0-9a-f]{8}")  # dispatch.ray_tune
ASKED = re.compile(r"\.asked-[0-9a-f]{16}(-.+)?")  # dispatch.nodes
UNFINISHED = ".unfinished"  # a checkpoint in the making
WHOLE = ("journal.jsonl", "artifacts.json")  # what a trial cannot do without

DAY = 86_400.0  # that a whole trial is left alone: what is new may be of what is not run yet.

KINDS = {
    "trials": "trials in no design",
    "designs": "designs that were left out",
    "leftovers": "left by what was interrupted",
    "leases": "leases of processes that died, to be marked as ended",
    "checkpoints": "checkpoints of finished trials, which are trained again to be scored anew",
    "corrupt": "what cannot be believed, to be made anew",
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


# ---- what can go


def check_store(root: Path) -> None:
    """Raises EnvironmentFault for a folder that is no store."""
    trials = root / "trials"
    if trials.is_symlink():
        raise EnvironmentFault(f"{trials} is a link: give the store that it leads into")
    if not trials.is_dir():
        raise EnvironmentFault(f"{root} is no store of trials: there is no folder {trials}")


def waste(
    root: Path,
    needed: Needed | None,
    *,
    checkpoints: bool = False,
    older_than: float | None = None,
) -> tuple[list[Waste], int]:
    """All that can go and was not written to for `older_than` seconds (None: a day for whole
    trials, and nothing for what is left over); without `needed`, no whole trials. And how
    many trials are nobody's, and too young."""
    check_store(root)
    now = lease.file_system_time(root)
    old, young = [], 0
    for one in look(root, needed, now - QUIET_SECONDS, checkpoints=checkpoints):
        least = DAY if older_than is None and one.kind == "trials" else older_than or 0.0
        if now - one.written >= least:
            old.append(one)
        else:
            young += one.kind == "trials"
    return old, young


def corrupt(root: Path) -> Iterator[Waste]:
    """What cannot be believed. A result is made anew from what is trained; where the journal
    or the list of files is damaged nobody knows what that is, and the whole trial goes. What
    runs is left."""
    check_store(root)
    store = Folder(root)
    for id in store.ids():
        folder = store.path(id)
        if folder.is_symlink() or not folder.is_dir() or lease.live(folder) is not None:
            continue
        found = dict(store.damage(id))
        says = "; ".join(f"{path.name}: {what}" for path, what in found.items())
        if any(path.name in WHOLE for path in found):
            yield thing("corrupt", folder, says, id)
            continue
        for path, what in found.items():
            yield thing("corrupt", path, what, id)
    for path, what in snapshots.damage(root).items():
        yield thing("corrupt", path, what)


def look(root: Path, needed: Needed | None, quiet: float, *, checkpoints: bool) -> Iterator[Waste]:
    """`quiet` is a time: what was begun and not ended then is not going to be."""
    store = Folder(root)
    owners = owner.folders(root)
    running = any(owner.members(folder) for folder in owners)
    for id in store.ids():
        folder = store.path(id)
        if folder.is_symlink() or not folder.is_dir():
            continue
        if lease.live(folder) is not None:
            running = True
            continue
        said = described(store, id)
        done = bool(store.evaluations(id))
        if needed is not None and not needed.covers(id, said):
            says = f"{'done' if done else 'not done'}, {summary(said)}"
            yield thing("trials", folder, says, id)
            continue
        yield from inside(folder, quiet, finished=checkpoints and done)
    for path in needed.without if needed is not None else ():
        yield thing("designs", path, needed.without[path])
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
        # Else it was released (and copied since, perhaps), or is gone.
        if 0 < renewed < math.inf and not lease.ended(last, folder):
            yield thing("leases", path, f"attempt {last.attempt} of {last.owner}", folder.name)
    if finished and kept.is_dir() and not kept.is_symlink() and entries(kept):
        yield thing("checkpoints", kept, "", folder.name)


def around(root: Path, quiet: float, *, running: bool) -> Iterator[Waste]:
    """What can go beside the trials."""
    owners = owner.folders(root)
    for folder in [root, root / "trials", root / "sweeps", *owners, *entries(root / "tables")]:
        for path in drafts(folder, quiet):
            yield thing("leftovers", path, "unfinished write")
    for path in owners:
        if not owner.members(path) and not owner.has_design(path) and measured(path)[1] < quiet:
            yield thing("leftovers", path, "who ran a sweep whose design has gone")
    for path in entries(root):
        if STOP.fullmatch(path.name) and written(path) < quiet:
            yield thing("leftovers", path, "word to the workers of a run that has ended")
        if not running and ASKED.fullmatch(path.name) and written(path) < quiet:
            yield thing("leftovers", path, "word to the nodes of a run that has ended")
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


def described(store: Folder, trial_id: str) -> dict[str, Any]:
    """What is trained; {} where that cannot be read."""
    try:
        return store.described(trial_id) or {}
    except (CorruptRecord, EnvironmentFault):
        return {}


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
        whole = one.path == folder
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
