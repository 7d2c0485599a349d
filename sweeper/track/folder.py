"""Trials in, what came of them out: a folder per trial, the durable truth.

    <root>/trials/<trial id>/
        trial.json                     what is trained: trainer, configuration, seed, data digest
        lease-<attempt>.json           who runs it, or ran it (lease.py)
        journal.jsonl                  what happened (journal.py)
        result-<evaluation id>.json    the record, once it has ended; only this makes it done
        artifacts/ artifacts.json      the trainer's files, and their checksums
        checkpoints/ log.txt           the trainer's and the worker's own

Only the attempt that holds the lease writes. Between the look at the fence and the write
there is a moment in which an attempt on another host could be taken over; what it then
writes is one valid result more, which the newer attempt replaces.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sweeper.errors import CorruptRecord, EnvironmentFault
from sweeper.record import Measurement, Record
from sweeper.track import journal, lease
from sweeper.track.journal import Journal
from sweeper.track.lease import FencedOut, Lease, LeaseHeld
from sweeper.track.sealed import seal, spell, unseal, unspell, using, write_whole
from sweeper.trial import Key, TrainerRef, Trial

__all__ = ["Attempt", "FencedOut", "Folder", "LeaseHeld"]

FORMAT = 1  # of a record; a reader refuses a newer one
TRIAL_ID = re.compile(r"[0-9a-f]{8,64}")
RESULT = re.compile(r"result-([0-9a-f]{8,64})\.json")
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
        held = lease.take(folder)
        with ExitStack() as on_failure:
            on_failure.callback(lease.release, folder, held)
            describe(trial, folder / "trial.json")
            attempt = Attempt(trial, folder, held, code_digest, gpus)
            on_failure.pop_all()
        return attempt

    def find(self, trials: Iterable[Trial]) -> dict[Key, Record]:
        """A trial's key -> record. Raises CorruptRecord with all that cannot be believed."""
        found: dict[Key, Record] = {}
        corrupt = []
        there = set(self.ids())
        for trial in trials:
            if trial.id not in there:
                continue
            try:
                record = self.record(trial)
            except CorruptRecord as fault:
                corrupt += fault.problems
                continue
            if record is not None:
                found[trial.key] = record
        if corrupt:
            raise CorruptRecord(*corrupt)
        return found

    def trained(self, trials: Iterable[Trial]) -> set[str]:
        """The ids of those that have a valid result under whatever evaluation. What cannot
        be believed is none."""
        wanted = {trial.id for trial in trials}
        return {id for id in self.ids() if id in wanted and self.evaluations(id)}

    def evaluations(self, trial_id: str) -> list[str]:
        """The evaluations under which a trial has a valid result, sorted."""
        folder = self.path(trial_id)
        with using(folder):
            try:
                names = os.listdir(folder)
            except FileNotFoundError:
                return []
        keys = [Key(trial_id, match[1]) for match in map(RESULT.fullmatch, names) if match]
        return sorted(k.evaluation_id for k in keys if is_done(result_path(folder, k), k))

    def trial(self, trial_id: str) -> Trial | None:
        """What is trained under an id, as the last attempt at it was to score it, without
        labels. Raises CorruptRecord if that is not what the id stands for."""
        path = self.path(trial_id) / "trial.json"
        with using(path):
            try:
                what = json.loads(path.read_bytes())
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
            except FileNotFoundError:
                return None
            except (ValueError, KeyError, TypeError) as fault:
                raise CorruptRecord(f"{path}: {fault}; {REPAIR}") from fault
        if found.id != trial_id:
            raise CorruptRecord(f"{path}: this is trial {found.id}; {REPAIR}")
        scored = self.scorings(trial_id)
        return replace(found, evaluation=list(scored.values())[-1]) if scored else found

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

    def totals(self, trial_id: str) -> dict[str, Any]:
        """What all attempts at a trial took (see journal.totals); of one that has ended, read
        from its last line alone."""
        entry = journal.last(self.path(trial_id) / "journal.jsonl") or {}
        return entry.get("total") or journal.totals(self.entries(trial_id))

    def entries(self, trial_id: str) -> list[dict[str, Any]]:
        return journal.read(self.path(trial_id) / "journal.jsonl")[0]

    def artifacts(self, trial_id: str) -> dict[str, dict[str, Any]]:
        """Path below the trial's folder -> {"sha256", "bytes"}, as its last attempt left them."""
        path = self.path(trial_id) / "artifacts.json"
        with using(path):
            try:
                return unseal(path.read_bytes())["files"]
            except FileNotFoundError:
                return {}
            except ValueError as fault:
                raise CorruptRecord(f"{path}: {fault}; {REPAIR}") from fault

    def artifact(self, trial_id: str, name: str) -> bytes | None:
        """The content of a file in `artifacts/`; None if there is none.
        Raises CorruptRecord if it is not what that left."""
        there = self.artifacts(trial_id).get(f"artifacts/{name}")
        if there is None:
            return None
        path = self.path(trial_id) / "artifacts" / name
        with using(path):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
        if hashlib.sha256(content).hexdigest() != there["sha256"]:
            raise CorruptRecord(f"{path}: the checksum does not match; {REPAIR}")
        return content

    def forget(self, trial_id: str) -> None:
        """Removes all that is known of a trial. Raises LeaseHeld while it runs."""
        folder = self.path(trial_id)
        now = lease.live(folder)
        if now is not None:
            raise LeaseHeld(trial_id, now.owner, now.since, now.attempt)
        shutil.rmtree(folder, ignore_errors=True)

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
        self._lease = held
        self._renewed = self._began = time.monotonic()
        self._cpu_began = time.process_time()
        self._journal = Journal(folder / "journal.jsonl")
        self._earlier = journal.seconds_spent(self._journal.entries)
        self._earlier_gpu_hours = journal.gpu_hours(self._journal.entries)
        self._append(
            "start",
            evaluation_id=trial.evaluation_id,
            evaluation=trial.evaluation,
            code_digest=code_digest,
            gpus=gpus,
            host=held.host,
            pid=held.pid,
        )

    @property
    def cost(self) -> float:
        """In updates, what has been measured so far, by this attempt and earlier ones."""
        measured = journal.history(self._journal.entries)
        return measured[-1].cost if measured else 0.0

    @property
    def seconds(self) -> float:
        """Wall time that the trial has taken, earlier attempts' too."""
        return self._earlier["seconds"] + self._time()["seconds"]

    @property
    def gpu_hours(self) -> float:
        """Those that the trial has taken, earlier attempts' too."""
        return self._earlier_gpu_hours + self.gpus * self._time()["seconds"] / 3600

    def measure(self, cost: float, values: Mapping[str, float]) -> None:
        """Appends one measurement. Raises FencedOut once a newer attempt exists."""
        self.heartbeat()
        self._append("measure", **self._time(), cost=float(cost), values=spell(values))

    def heartbeat(self) -> None:
        """Says that this attempt lives; cheap enough for every second, from any thread."""
        self._check()
        if time.monotonic() - self._renewed > RENEWAL_SECONDS:
            lease.renew(self.folder, self._lease)
            self._renewed = time.monotonic()

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
        total = journal.totals(
            [*self._journal.entries, {"kind": "end", "attempt": self.number, **fields}]
        )
        self._append("end", **fields, total=total)

    def _list_artifacts(self) -> None:
        with using(self.folder / "artifacts"):
            files = manifest(self.folder)
        write_whole(self.folder / "artifacts.json", seal({"files": files}))

    def _code_digests(self) -> dict[str, list[str]]:
        """{"code_digests": ...} of this attempt and of those it continued; {} if unknown."""
        entries = self._journal.entries
        parts = journal.contributors(entries) | {self.number}
        starts = [e for e in entries if e["kind"] == "start" and e["attempt"] in parts]
        digests = {start["code_digest"] for start in starts if start.get("code_digest")}
        return {"code_digests": sorted(digests)} if digests else {}

    def _check(self) -> None:
        if not self._journal.in_place():
            raise EnvironmentFault(f"{self.folder} was removed while its trial was running")
        if lease.fenced(self.folder, self._lease):
            raise FencedOut(
                f"attempt {self.number} at trial {self.trial.id} was taken over by a newer one"
            )

    def _append(self, kind: str, **fields: Any) -> None:
        self._journal.append({"kind": kind, "attempt": self.number, "at": time.time(), **fields})

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


REPAIR = "delete its folder to train the trial again"


def make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise EnvironmentFault(f"cannot make the folder {folder}: {fault}") from fault


def describe(trial: Trial, path: Path) -> None:
    """Writes what is trained, once. What is there already must be the same trial."""
    what = {
        "id": trial.id,
        "trainer": trial.trainer.identity,
        "config": trial.config,
        "seed": trial.seed,
        "data_digest": trial.data_digest,
    }
    with using(path):
        try:
            there = json.loads(path.read_bytes())
        except FileNotFoundError:
            write_whole(path, json.dumps(what, indent=2, allow_nan=False).encode() + b"\n")
            return
        except ValueError as fault:
            raise CorruptRecord(f"{path}: {fault}; {REPAIR}") from fault
    if there.get("id") != trial.id:
        raise CorruptRecord(f"{path}: this is trial {there.get('id')}, not {trial.id}; {REPAIR}")


def plain(record: Record) -> dict[str, Any]:
    """A record as JSON can hold it; `restored` is the way back."""
    return {"format": FORMAT, **asdict(record), "result": spell(record.result)}


def restored(fields: Mapping[str, Any]) -> Record:
    """Raises ValueError for a record that a newer program wrote."""
    if fields["format"] > FORMAT:
        raise ValueError(f"written by a newer version (record format {fields['format']})")
    known = {key: value for key, value in fields.items() if key != "format"}
    return Record(**{**known, "result": unspell(fields["result"])})


def result_path(folder: str | Path, key: Key) -> str:
    return f"{folder}/result-{key.evaluation_id}.json"


def read_result(path: str | Path, key: Key) -> Record | None:
    with using(path):
        try:
            with open(path, "rb") as file:
                record = restored(unseal(file.read().rstrip(b"\n")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as fault:
            raise CorruptRecord(f"{path}: {fault}; {REPAIR}") from fault
    if record.key != key:
        raise CorruptRecord(f"{path}: this is the record of trial {record.trial_id}; {REPAIR}")
    return record


def is_done(path: str | Path, key: Key) -> bool:
    """A result that cannot be believed is none, and may be replaced."""
    try:
        record = read_result(path, key)
    except CorruptRecord:
        return False
    return record is not None and record.state == "done"


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The files under `folder`/artifacts with their checksums; links are not followed."""
    files = {}
    for parent, _, names in os.walk(folder / "artifacts"):
        for name in names:
            path = Path(parent, name)
            try:
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError as fault:
                if fault.errno == errno.ELOOP:
                    continue
                raise
            with open(handle, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = path.stat().st_size
            files[path.relative_to(folder).as_posix()] = {"sha256": digest, "bytes": size}
    return dict(sorted(files.items()))
