"""Trials in, what came of them out: a folder per trial, the durable truth.

    <root>/trials/<trial id>/
        trial.json                     what is trained: trainer, configuration, seed, data digest
        lease-<attempt>.json           who runs it, or ran it (lease.py)
        journal.jsonl                  what happened (journal.py)
        result-<evaluation id>.json    the record, once it has ended; only this makes it done
        artifacts/ artifacts.json      the trainer's files, and their checksums
        checkpoints/ log.txt           the trainer's and the worker's own
        previous/                      the trainer's files that a result is of, while the
                                       training is made anew and has come to none yet

Only the attempt that holds the lease writes. Between the look at the fence and the write
there is a moment in which an attempt on another host could be taken over; what it then
writes is one valid result more, which the newer attempt replaces.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sweeper.errors import CorruptRecord, EnvironmentFault, NewerFormat
from sweeper.record import Measurement, Record
from sweeper.track import journal, lease
from sweeper.track.journal import Entry, Journal
from sweeper.track.lease import FencedOut, Lease, LeaseHeld
from sweeper.track.sealed import (
    LINKED,
    content_of,
    make,
    seal,
    spell,
    sync_folder,
    unseal,
    unspell,
    using,
    write_whole,
)
from sweeper.trial import Key, TrainerRef, Trial, digest

__all__ = ["Attempt", "FencedOut", "Folder", "LeaseHeld"]

FORMAT = 1  # of a record; a reader refuses a newer one
TRIAL_ID = re.compile(r"[0-9a-f]{8,64}")
RESULT = re.compile(r"result-([0-9a-f]{8,64})\.json")
PREVIOUS, RETURNING = "previous", ".returning"
NEVER_LINKS = ("log.txt", "artifacts", "checkpoints", PREVIOUS, RETURNING)
# What is not the trainer's: ours, our drafts, and what a removal did not finish.
OWN = re.compile(
    r"(trial|delivered|lease-\d+|result-[0-9a-f]{8,64})\.json|journal\.jsonl|log\.txt"
    rf"|{PREVIOUS}|\{RETURNING}|\.removed-\w+|\..+\.\d+\.[0-9a-f]{{8}}"
)
RENEWAL_SECONDS = lease.EXPIRY_SECONDS / 6


class Folder:
    """The store at `root`. Holds nothing but the path: the disk is the state."""

    def __init__(self, root: Path | str):
        self.root = Path(root).absolute()
        self._trials = str(self.root / "trials")

    def start(self, trial: Trial, code_digest: str | None = None, gpus: float = 0) -> Attempt:
        """A new attempt at `trial`, by the trainer's code as `code_digest` names it, with
        `gpus` (or a share of one) for itself. Raises LeaseHeld while another process is at it.

        A trial that has a result may be started again, under this or another evaluation."""
        folder = self.path(trial.id)
        make(folder)
        with using(folder):
            sync_folder(folder.parent)  # Who made it may have been killed before that.
        refuse_links(folder)
        held = lease.take(folder)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(lease.release, folder, held)
            describe(trial, folder / "trial.json")
            attempt = Attempt(trial, folder, held, code_digest, gpus)
            on_failure.pop_all()
        return attempt

    def find(self, trials: Iterable[Trial]) -> dict[Key, Record]:
        """A trial's key -> record. What cannot be believed, or keeps a trial from being begun,
        is one whose state is corrupt, and whose error says which file that is."""
        found: dict[Key, Record] = {}
        there = set(self.ids())
        for trial in trials:
            if trial.id not in there:
                continue
            try:
                record = self.record(trial)
                if record is None or record.state != "done":
                    self.check(trial.id)
            except CorruptRecord as fault:
                record = self.corrupt(trial, fault)
            if record is not None:
                found[trial.key] = record
        return found

    def check(self, trial_id: str) -> None:
        """Raises CorruptRecord where what an attempt at the trial reads first is damaged."""
        refuse_links(self.path(trial_id))
        self.described(trial_id)
        self.entries(trial_id)

    def corrupt(self, trial: Trial, fault: CorruptRecord) -> Record:
        return Record(
            trial_id=trial.id,
            evaluation_id=trial.evaluation_id,
            state="corrupt",
            error="; ".join(map(str, fault.problems)).replace(f"{self.root}/", ""),
        )

    def damage(self, trial_id: str) -> Iterator[tuple[Path, str]]:
        """Each file of a trial that cannot be believed, and what is wrong with it. All are
        read but the trainer's own. What a newer version wrote is sound."""
        folder = self.path(trial_id)
        keys = [Key(trial_id, match[1]) for match in map(RESULT.fullmatch, names(folder)) if match]
        for path in links(folder):
            yield path, LINKED
        looks: list[tuple[Path, Callable[[], object]]] = [
            (folder / "trial.json", lambda: self.described(trial_id)),
            (folder / "journal.jsonl", lambda: self.whole(trial_id, self.evaluations(trial_id))),
            (folder / "artifacts.json", lambda: self.artifacts(trial_id)),
            *(
                (path := Path(result_path(folder, key)), partial(read_result, path, key))
                for key in sorted(keys)
            ),
        ]
        for path, look in looks:
            try:
                look()
            except CorruptRecord as fault:
                if not isinstance(fault.__cause__, NewerFormat):
                    yield path, str(fault).removeprefix(str(path)).lstrip(": ")

    def trained(self, trials: Iterable[Trial]) -> set[str]:
        """The ids of those that have a valid result under whatever evaluation. What cannot
        be believed is none."""
        wanted = {trial.id for trial in trials}
        return {id for id in self.ids() if id in wanted and self.evaluations(id)}

    def evaluations(self, trial_id: str) -> list[str]:
        """The evaluations under which a trial has a valid result, sorted."""
        return sorted(key.evaluation_id for key in valid(self.path(trial_id), trial_id))

    def is_running(self, trial_id: str) -> bool:
        return lease.live(self.path(trial_id)) is not None

    def is_trained(self, trial_id: str) -> bool:
        """Whether the trainer's files are of a training with a valid result: none of one that
        is being made anew, and has come to none yet."""
        folder = self.path(trial_id)
        if not is_trained(folder, trial_id):
            return False
        entries = self.entries(trial_id)
        return not journal.begun_anew(entries) and aside(folder, trial_id, entries) != "standing"

    def trial(self, trial_id: str) -> Trial | None:
        """What is trained under an id, as the last attempt at it was to score it, without
        labels. Raises CorruptRecord if that is not what the id stands for."""
        what = self.described(trial_id)
        if what is None:
            return None
        path = self.path(trial_id) / "trial.json"
        try:
            named = what["trainer"]
            function = isinstance(named, str)
            found = Trial(
                trainer=TrainerRef(
                    function=named if function else None,
                    command=None if function else tuple(named),
                ),
                config=what["config"],
                seed=what["seed"],
                data_digest=what["data_digest"],
            )
        except (ValueError, KeyError, TypeError) as fault:
            raise CorruptRecord(f"{path}: {fault}") from fault
        if found.id != trial_id:
            raise CorruptRecord(f"{path}: this is trial {found.id}")
        scored = self.scorings(trial_id)
        return replace(found, evaluation=list(scored.values())[-1]) if scored else found

    def described(self, trial_id: str) -> dict[str, Any] | None:
        """What is trained under an id: {"trainer", "config", "seed", "data_digest"}, as the
        first attempt wrote it. Raises CorruptRecord if it says that it is another trial."""
        return description(self.path(trial_id) / "trial.json", trial_id)

    def scorings(self, trial_id: str) -> dict[str, Mapping[str, Any]]:
        """Evaluation id -> its settings, of each with which the trial was attempted; that of
        the last attempt last."""
        starts = [entry for entry in self.entries(trial_id) if entry["kind"] == "start"]
        last = {entry["evaluation_id"]: entry.get("evaluation", {}) for entry in reversed(starts)}
        return dict(reversed(last.items()))

    def record(self, trial: Trial) -> Record | None:
        """What is known of `trial`: its result, or that it is running, or nothing."""
        ended = self.result(trial)
        if ended is not None and ended.state == "done":
            return ended
        now = lease.live(self.path(trial.id))
        if now is None:
            return ended
        return Record(
            trial_id=trial.id,
            evaluation_id=trial.evaluation_id,
            state="running",
            attempt=now.attempt,
        )

    def result(self, trial: Trial) -> Record | None:
        """How `trial` ended, whoever is at it now."""
        return read_result(result_path(f"{self._trials}/{trial.id}", trial.key), trial.key)

    def history(self, trial_id: str, evaluation_id: str | None = None) -> tuple[Measurement, ...]:
        """The course of training by ascending cost, attempts joined (see journal.history).
        With an evaluation, what came after its own last attempt is left out."""
        entries = self.entries(trial_id)
        if evaluation_id is not None:
            entries = journal.until_last(entries, evaluation_id)
        return journal.history(entries)

    def course(self, trial: Trial) -> tuple[Measurement, ...]:
        """The history of what came to `trial`'s result. Raises CorruptRecord where the journal
        has been cut below that: what is left of it would pass for all of it."""
        there = is_done(result_path(self.path(trial.id), trial.key), trial.key)
        entries = self.whole(trial.id, [trial.evaluation_id] if there else [])
        return journal.history(journal.until_last(entries, trial.evaluation_id))

    def whole(self, trial_id: str, evaluations: Iterable[str]) -> list[Entry]:
        """The journal's entries. Raises CorruptRecord unless there is an end with a result
        under each of these evaluations: it is written, and is safe, before the result is."""
        entries = self.entries(trial_id)
        if all(journal.came_to_result(entries, one) for one in evaluations):
            return entries
        path = self.path(trial_id) / "journal.jsonl"
        raise CorruptRecord(f"{path}: it ends before the result that there is")

    def totals(self, trial_id: str) -> dict[str, Any]:
        """What all attempts at a trial took (see journal.totals); of one that has ended, read
        from its last line alone."""
        entry = journal.last(self.path(trial_id) / "journal.jsonl") or {}
        return entry.get("total") or journal.totals(self.entries(trial_id))

    def entries(self, trial_id: str) -> list[dict[str, Any]]:
        return journal.read(self.path(trial_id) / "journal.jsonl")[0]

    def artifacts(self, trial_id: str) -> dict[str, dict[str, Any]]:
        """Path below the trial's folder -> {"sha256", "bytes"}, as its last attempt left them."""
        path = self._left(trial_id, "artifacts.json")
        with using(path):
            try:
                return unseal(content_of(path))["files"]
            except FileNotFoundError:
                return {}
            except ValueError as fault:
                raise CorruptRecord(f"{path}: {fault}") from fault

    def artifact(self, trial_id: str, name: str) -> bytes | None:
        """The content of a file in `artifacts/`; None if there is none.
        Raises CorruptRecord if it is not what that left."""
        there = self.artifacts(trial_id).get(f"artifacts/{name}")
        if there is None:
            return None
        path = self._left(trial_id, "artifacts") / name
        with using(path):
            try:
                content = content_of(path)
            except FileNotFoundError:
                return None
            except ValueError as fault:
                raise CorruptRecord(f"{path}: {fault}") from fault
        if hashlib.sha256(content).hexdigest() != there["sha256"]:
            raise CorruptRecord(f"{path}: the checksum does not match")
        return content

    def forget(self, trial_id: str) -> None:
        """Removes all that is known of a trial. Raises LeaseHeld while it runs."""
        folder = self.path(trial_id)
        now = lease.live(folder)
        if now is not None:
            raise LeaseHeld(trial_id, now.owner, now.since, now.attempt)
        shutil.rmtree(folder, ignore_errors=True)

    def keeps_training(self, trial_id: str) -> bool:
        """Whether the trainer has left something there to continue from, or to score: a
        checkpoint, or another file with something in it that is no artifact."""
        folder = self.path(trial_id)
        others = (folder / name for name in trainers_own(folder))
        others = (path for path in others if path.name not in ("artifacts", "artifacts.json"))
        return any(
            any(names(path)) if path.is_dir() else path.lstat().st_size > 0 for path in others
        )

    def standing(self, trial_id: str) -> Path:
        """The folder of the trainer's files that a trial's result is of."""
        folder = self.path(trial_id)
        if not (folder / PREVIOUS).is_dir():
            return folder
        there = aside(folder, trial_id, self.entries(trial_id))
        return folder / PREVIOUS if there == "standing" else folder

    def _left(self, trial_id: str, name: str) -> Path:
        """One of the trainer's files that a result is of, also where they are being moved."""
        folder = self.standing(trial_id)
        if folder.name == PREVIOUS:
            return folder / name
        places = [folder / RETURNING / name, folder / PREVIOUS / name]
        if places[1].exists() and aside(folder, trial_id, self.entries(trial_id)) == "waste":
            del places[1]
        return next((path for path in places if path.exists()), folder / name)

    def path(self, trial_id: str) -> Path:
        assert TRIAL_ID.fullmatch(trial_id), trial_id
        return Path(self._trials, trial_id)

    def ids(self) -> list[str]:
        """Every trial that has a folder, sorted."""
        with using(self._trials):
            try:
                return sorted(name for name in os.listdir(self._trials) if TRIAL_ID.fullmatch(name))
            except FileNotFoundError:
                return []

    def prepare(self) -> None:
        """Raises EnvironmentFault unless the store can be written: asked before any trial."""
        make(Path(self._trials))
        write_whole(self.root / ".writable", b"")


class Attempt:
    """One try at a trial. Has state because it holds the lease and the open journal, and
    because it counts time from its own start."""

    def __init__(
        self, trial: Trial, folder: Path, held: Lease, code_digest: str | None, gpus: float
    ):
        self.trial, self.folder, self.number = trial, folder, held.attempt
        self.gpus = gpus
        self._code_digest = code_digest
        self._lease = held
        self._ended = False
        self._writing = threading.Lock()  # Heartbeats come from a thread of their own.
        self._renewed = self._began = time.monotonic()
        self._cpu_began = time.process_time()
        self._told = self._began  # when the journal last said how long it has taken
        self._journal = Journal(folder / "journal.jsonl")
        self._count_earlier()
        self._append(
            "start",
            evaluation_id=trial.evaluation_id,
            evaluation=trial.evaluation,
            code_digest=code_digest,
            gpus=gpus,
            host=held.host,
            pid=held.pid,
        )

    def arrange(self, retry: Collection[str]) -> None:
        """Sees that what is continued is what is to be. With "stale" or "diverged" in `retry`
        (the states that are run again), what other code trained, and what diverged, is begun
        anew: the trainer's files are set aside, for as long as there is no new result, if one
        is of them. Any other attempt goes back to them, unless the new training has come to its
        end and only its result was not written. A kill in between leaves nothing that the next
        attempt does not put right."""
        entries = self._journal.entries[:-1]
        fresh = journal.begun_anew(entries)
        trained = is_trained(self.folder, self.trial.id)
        self._return_files()
        there = aside(self.folder, self.trial.id, entries)
        if there == "waste":
            remove(self.folder, PREVIOUS)
        if not entries and not trained:
            clear(self.folder)  # The journal of these files is gone: their course would begin late.
        if self._is_outdated(entries, retry, fresh=fresh, trained=trained):
            if trained and not fresh and there != "standing":
                self._turn("aside")
                set_aside(self.folder)
            else:
                clear(self.folder)
            self._turn("anew")
        elif there == "moving" or (there == "standing" and fresh and "stale" not in retry):
            if fresh:
                clear(self.folder)
                self._turn("back")
            with using(self.folder):
                os.rename(self.folder / PREVIOUS, self.folder / RETURNING)
                sync_folder(self.folder)
            self._return_files()
        self._count_earlier()

    def _is_outdated(
        self, entries: Sequence[Entry], retry: Collection[str], *, fresh: bool, trained: bool
    ) -> bool:
        """`fresh`: it was begun anew already; `trained`: there is a valid result."""
        if not {"stale", "diverged"}.intersection(retry) or not entries:
            return False
        last = entries[-1]
        if last["kind"] == "end" and last["state"] == "diverged" and (fresh or not trained):
            return True
        if "stale" not in retry or not trained or self._code_digest is None:
            return False
        begun = {e["attempt"] for e in journal.current(entries) if e["kind"] == "anew"}
        parts = journal.contributors(entries) | begun
        return bool(digests(entries, parts) - {self._code_digest})

    def _return_files(self) -> None:
        returning = self.folder / RETURNING
        with using(self.folder):
            for name in names(returning):
                os.replace(returning / name, self.folder / name)
            if returning.is_dir():
                sync_folder(self.folder)
                returning.rmdir()
                sync_folder(self.folder)

    def _turn(self, kind: str) -> None:
        """Said for good before the trainer makes something that it would be untrue of."""
        self._append(kind)
        self._journal.sync()

    def _count_earlier(self) -> None:
        """What the training that is continued has taken before this attempt."""
        now = [e for e in journal.current(self._journal.entries) if e["attempt"] < self.number]
        self._earlier = journal.seconds_spent(now)
        self._earlier_gpu_hours = journal.gpu_hours(now)

    @property
    def cost(self) -> float:
        """In updates, what has been measured so far, by this attempt and earlier ones."""
        measured = journal.history(self._journal.entries)
        return measured[-1].cost if measured else 0.0

    @property
    def seconds(self) -> float:
        """Wall time that the trial has taken, earlier attempts' too; begun anew, since then."""
        return self._earlier["seconds"] + self._time()["seconds"]

    @property
    def gpu_hours(self) -> float:
        """Those that the trial has taken, as its time."""
        return self._earlier_gpu_hours + self.gpus * self._time()["seconds"] / 3600

    def measure(self, cost: float, values: Mapping[str, float]) -> None:
        """Appends one measurement, for good: the trainer's next step may be to keep a checkpoint,
        and what continues from that measures nothing of before it again. Raises FencedOut once
        a newer attempt exists."""
        self.heartbeat()
        self._append("measure", **self._time(), cost=float(cost), values=spell(values))
        self._journal.sync()

    def heartbeat(self) -> None:
        """Says that this attempt lives; cheap enough for every second, from any thread."""
        self._check()
        if time.monotonic() - self._renewed > RENEWAL_SECONDS:
            lease.renew(self.folder, self._lease)
            self._renewed = time.monotonic()

    def beat(self, peaks: Mapping[str, int] | None = None) -> None:
        """A heartbeat that is also in the journal, where that has said nothing of the time
        for long: so what is killed has cost its time, and not only that of measurements, and
        the memory that it took until then (`peaks`) is known."""
        self.heartbeat()
        with self._writing:
            if not self._ended and time.monotonic() - self._told > RENEWAL_SECONDS:
                self._write("beat", **self._time(), **(peaks or {}))

    def finish(self, record: Record) -> Record:
        """Ends the attempt and returns the record as it was written: with this attempt's
        number, the time, the seconds of earlier attempts added to its own, and the digest of
        all code that had a part in it.

        A result that is done is not replaced by a later failure."""
        self._check()
        own = self._time()
        written = replace(
            record,
            attempt=self.number,
            seconds=(record.seconds or own["seconds"]) + self._earlier["seconds"],
            cpu_seconds=(record.cpu_seconds or own["cpu_seconds"]) + self._earlier["cpu_seconds"],
            finished_at=time.time(),
            provenance={**record.provenance, **self._code_digests()},
        )
        try:
            self._list_artifacts()
            peaks = {peak: record.provenance.get(peak) for peak in journal.PEAKS}
            self._end(own, record.state, record.error, peaks)
            self._journal.sync()
            path = Path(result_path(self.folder, self.trial.key))
            if record.state == "done" or not is_done(path, self.trial.key):
                write_whole(path, seal(plain(written)) + b"\n")
            if record.state == "done":
                with contextlib.suppress(EnvironmentFault):  # The next attempt does it.
                    remove(self.folder, PREVIOUS)
        finally:
            self._release()
        return written

    def abandon(self, reason: str, peaks: Mapping[str, int] | None = None) -> None:
        """Gives the trial free without a result: stopped, to be continued later; `peaks` of
        memory are told of (journal.PEAKS). What has ended, or is another's by now, is left as
        it is. Files that it wrote are the trial's now."""
        if self._journal.closed:
            return
        try:
            self._check()
        except EnvironmentFault:
            self._journal.close()
            return
        try:
            self._list_artifacts()
            self._end(self._time(), "interrupted", reason, peaks or {})
            self._journal.sync()
        finally:
            self._release()

    def _end(
        self,
        took: Mapping[str, float],
        state: str,
        error: str | None,
        peaks: Mapping[str, int | None],
    ) -> None:
        known = {peak: most for peak, most in peaks.items() if most is not None}
        fields = {**took, "state": state, "error": error, **known}
        with self._writing:
            self._ended = True
            total = journal.totals(
                [*self._journal.entries, {"kind": "end", "attempt": self.number, **fields}]
            )
            self._write("end", **fields, total=total)

    def _list_artifacts(self) -> None:
        """Not while files are set aside, or brought back, in which an attempt was interrupted:
        of what is there by then no list is true."""
        there = aside(self.folder, self.trial.id, self._journal.entries)
        if there == "moving" or (self.folder / RETURNING).is_dir():
            return
        with using(self.folder / "artifacts"):
            files = manifest(self.folder)
        write_whole(self.folder / "artifacts.json", seal({"files": files}))

    def _code_digests(self) -> dict[str, list[str]]:
        """{"code_digests": ...} of this attempt and of those it continued; {} if unknown."""
        entries = self._journal.entries
        known = digests(entries, journal.contributors(entries) | {self.number})
        return {"code_digests": sorted(known)} if known else {}

    def _check(self) -> None:
        if not self._journal.in_place():
            raise EnvironmentFault(f"{self.folder} was removed while its trial was running")
        if lease.fenced(self.folder, self._lease):
            raise FencedOut(
                f"attempt {self.number} at trial {self.trial.id} was taken over by a newer one"
            )

    def _append(self, kind: str, **fields: Any) -> None:
        with self._writing:
            self._write(kind, **fields)

    def _write(self, kind: str, **fields: Any) -> None:
        self._journal.append({"kind": kind, "attempt": self.number, "at": time.time(), **fields})
        if "seconds" in fields:
            self._told = time.monotonic()

    def _time(self) -> dict[str, float]:
        return {
            "seconds": time.monotonic() - self._began,
            "cpu_seconds": time.process_time() - self._cpu_began,
        }

    def _release(self) -> None:
        try:
            lease.release(self.folder, self._lease)
        finally:
            self._journal.close()


def digests(entries: Iterable[Entry], attempts: Collection[int]) -> set[str]:
    """Of the code of some attempts, as far as it is known."""
    starts = (e for e in entries if e["kind"] == "start" and e["attempt"] in attempts)
    return {start["code_digest"] for start in starts if start.get("code_digest")}


# ---- the trainer's files


def trainers_own(folder: Path) -> list[str]:
    """What lies in a trial's folder and is the trainer's, artifacts and their list too."""
    return sorted(name for name in names(folder) if not OWN.fullmatch(name))


def aside(
    folder: Path, trial_id: str, entries: Sequence[Entry]
) -> Literal["none", "moving", "standing", "waste"]:
    """What is set aside: files that are still being moved there, or back; all those that the
    result is of; or those of a result that is replaced."""
    if not (folder / PREVIOUS).is_dir():
        return "none"
    by = journal.set_aside_by(entries)
    if by is None:
        return "moving"
    if any(attempt >= by for attempt in attempts(folder, trial_id)):
        return "waste"
    complete = any(e["kind"] == "anew" and e["attempt"] == by for e in entries)
    return "standing" if complete else "moving"


def attempts(folder: Path, trial_id: str) -> Iterator[int]:
    """Those that have left a valid result."""
    for key in valid(folder, trial_id):
        record = read_result(result_path(folder, key), key)
        if record is not None:
            yield record.attempt


def set_aside(folder: Path) -> None:
    """Into `previous`: may be called again where it was interrupted."""
    with using(folder):
        (folder / PREVIOUS).mkdir(exist_ok=True)
        sync_folder(folder)
        for name in trainers_own(folder):
            os.rename(folder / name, folder / PREVIOUS / name)
        sync_folder(folder / PREVIOUS)
        sync_folder(folder)


def clear(folder: Path) -> None:
    """Removes the trainer's files."""
    for name in trainers_own(folder):
        remove(folder, name)


def remove(folder: Path, name: str) -> None:
    """Out of the way at once, and then for good; nothing where there is no such thing."""
    gone = folder / f".removed-{secrets.token_hex(4)}"
    with using(folder):
        try:
            os.rename(folder / name, gone)
        except FileNotFoundError:
            return
        sync_folder(folder)
        if gone.is_dir() and not gone.is_symlink():
            shutil.rmtree(gone)
        else:
            gone.unlink()


def links(folder: Path) -> list[Path]:
    """Those that stand where something of the trial is to be, whoever planted them."""
    with using(folder):
        return [folder / name for name in NEVER_LINKS if os.path.islink(folder / name)]


def refuse_links(folder: Path) -> None:
    if found := links(folder):
        raise CorruptRecord(*(f"{path}: {LINKED}" for path in found))


def describe(trial: Trial, path: Path) -> None:
    """Writes what is trained, once. What is there already must be the same trial."""
    what = {
        "id": trial.id,
        "trainer": trial.trainer.identity,
        "config": trial.config,
        "seed": trial.seed,
        "data_digest": trial.data_digest,
    }
    if description(path, trial.id) is None:
        write_whole(path, json.dumps(what, indent=2, allow_nan=False).encode() + b"\n")


def description(path: Path, trial_id: str) -> dict[str, Any] | None:
    """A trial.json; None where there is none. Raises CorruptRecord for another trial's, and
    for one that was changed: an id is a checksum, too."""
    with using(path):
        try:
            there = json.loads(content_of(path))
        except FileNotFoundError:
            return None
        except ValueError as fault:
            raise CorruptRecord(f"{path}: {fault}") from fault
    id = there.get("id") if isinstance(there, dict) else None
    if id != trial_id:
        raise CorruptRecord(f"{path}: this is trial {id}, not {trial_id}")
    try:
        found = digest([there[part] for part in ("trainer", "config", "seed", "data_digest")])
    except (KeyError, ValueError) as fault:
        raise CorruptRecord(f"{path}: {fault}") from fault
    if found != trial_id:
        raise CorruptRecord(f"{path}: it was changed: this is trial {found}, not {trial_id}")
    return there


def names(folder: Path) -> list[str]:
    """What is in a folder; nothing where there is none."""
    with using(folder):
        try:
            return os.listdir(folder)
        except FileNotFoundError:
            return []


def plain(record: Record) -> dict[str, Any]:
    """A record as JSON can hold it; `restored` is the way back."""
    return {"format": FORMAT, **asdict(record), "result": spell(record.result)}


def restored(fields: Mapping[str, Any]) -> Record:
    """Raises NewerFormat for a record that a newer program wrote."""
    if fields["format"] > FORMAT:
        raise NewerFormat(f"written by a newer version (record format {fields['format']})")
    known = {key: value for key, value in fields.items() if key != "format"}
    return Record(**{**known, "result": unspell(fields["result"])})


def result_path(folder: str | Path, key: Key) -> str:
    return f"{folder}/result-{key.evaluation_id}.json"


def read_result(path: str | Path, key: Key) -> Record | None:
    with using(path):
        try:
            record = restored(unseal(content_of(path).rstrip(b"\n")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as fault:
            raise CorruptRecord(f"{path}: {fault}") from fault
    if record.key != key:
        raise CorruptRecord(f"{path}: this is the record of trial {record.trial_id}")
    return record


def valid(folder: Path, trial_id: str) -> Iterator[Key]:
    """The keys under which a trial's folder has a valid result."""
    keys = (Key(trial_id, match[1]) for match in map(RESULT.fullmatch, names(folder)) if match)
    return (key for key in keys if is_done(result_path(folder, key), key))


def is_trained(folder: Path, trial_id: str) -> bool:
    return any(True for _ in valid(folder, trial_id))


def is_done(path: str | Path, key: Key) -> bool:
    """A result that cannot be believed is none, and may be replaced."""
    try:
        record = read_result(path, key)
    except CorruptRecord:
        return False
    return record is not None and record.state == "done"


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The files under `folder`/artifacts with their checksums, made to survive a power cut;
    links are not followed."""
    files = {}
    if (folder / "artifacts").is_symlink():
        return files
    for parent, _, names in os.walk(folder / "artifacts"):
        sync_folder(Path(parent))
        for name in names:
            path = Path(parent, name)
            try:
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError as fault:
                if fault.errno == errno.ELOOP:
                    continue
                raise
            with open(handle, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                size = os.fstat(handle).st_size
                os.fsync(handle)
            files[path.relative_to(folder).as_posix()] = {"sha256": found, "bytes": size}
    return dict(sorted(files.items()))
