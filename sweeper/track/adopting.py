"""Trials that a store has nothing of in; those that others have finished, as its own, out.

What many people publish to one MLflow is for each of them to use: a trial is its content, so one
with a result there, made by the code that would make it here, is taken over instead of trained.
The store then has the folder that it would have had the trial run here: the journal is rebuilt
from MLflow's points with their times, the record is the one that was sealed, the files are those
that were left, and the digests of what was delivered say whether all of it is. So it is
delivered again without a point sent twice, and all that reads a store reads it, with or without
MLflow. Only checkpoints and large files stay with who made them.

MLflow is asked in a process of its own, as it is told in one (courier.py). Whatever ends that
leaves whole trials and those of which nothing is believed: the result is written last.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from sweeper.errors import EnvironmentFault
from sweeper.record import COST, Measurement, Record
from sweeper.redaction import conceal, without_secrets
from sweeper.track import journal, lease
from sweeper.track.courier import LOG, environment, trial_of
from sweeper.track.folder import (
    PREVIOUS,
    Folder,
    clear,
    describe,
    manifest,
    plain,
    refuse_links,
    result_path,
    trainers_own,
)
from sweeper.track.journal import Entry, Journal
from sweeper.track.lease import LeaseHeld
from sweeper.track.mlflow import CONFIG, MLflowStore, Published, files_digest
from sweeper.track.parcel import (
    Origin,
    Point,
    accepted,
    digest_of,
    milliseconds,
    points,
    seconds_of,
)
from sweeper.track.sealed import checksum, make, seal, spell, sync_folder, using, write_whole
from sweeper.trial import Key, Trial

TRIES = 2  # of one trial, before MLflow is taken for gone
PAUSE_SECONDS = 1.0
SILENT_SECONDS = 120.0  # without a trial, or a byte of one, after which MLflow is away
LOOK_SECONDS = 1.0  # between two looks at whether something came
GUESSES = 100  # at what was measured in the very moment of the end
DRAFT = ".adopted"


class Unasked(EnvironmentFault):
    """MLflow could not be asked, or not to the end: no fault of the store's."""


class Incomplete(ValueError):
    """What MLflow has of a trial is not what was delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The trials that were taken over; how many more have a result there that other code made;
    and why others with a result were not."""

    keys: tuple[Key, ...] = ()
    stale: int = 0
    refused: tuple[str, ...] = ()


# --- the driver's side -----------------------------------------------------------------------


def take_over(
    wanted: Iterable[tuple[Trial, str | None]], folder: Folder, uri: str, origin: Origin
) -> Taken:
    """Each trial with the digest of the code that would make it here (None: not compared).
    Raises Unasked where MLflow could not be asked, EnvironmentFault where the store could not be
    written; what had come until then is in the store."""
    about = {
        "root": str(folder.root),
        "uri": uri,
        "origin": asdict(origin),
        "trials": [[asdict(trial), code] for trial, code in wanted],
    }
    if not about["trials"]:
        return Taken()
    make(folder.root)
    with contextlib.ExitStack() as stack:
        with using(folder.root / LOG):
            log = stack.enter_context(open(folder.root / LOG, "ab"))
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for the driver, which ends us.
            env=environment(),
        )
    said = list(answers_in(answered(process, json.dumps(about) + "\n", folder)))
    for one in said:
        if "fault" in one:
            raise (Unasked if one["of"] == "MLflow" else EnvironmentFault)(one["fault"])
    if process.returncode:
        raise Unasked(f"the process that asks MLflow ended; see {folder.root / LOG}")
    return Taken(
        keys=tuple(Key(*one["taken"]) for one in said if "taken" in one),
        stale=sum("stale" in one for one in said),
        refused=tuple(one["refused"] for one in said if "refused" in one),
    )


def answered(process: subprocess.Popen[str], question: str, folder: Folder) -> str:
    """All that it says until it ends. Raises Unasked where nothing comes for too long."""
    asking: str | None = question
    came, at = None, time.monotonic()
    try:
        while True:
            try:
                return process.communicate(asking, timeout=LOOK_SECONDS)[0]
            except subprocess.TimeoutExpired as late:
                asking = None
                now = len(late.output or b""), size_of_drafts(folder, process.pid)
            if now != came:
                came, at = now, time.monotonic()
            elif time.monotonic() - at > SILENT_SECONDS:
                raise Unasked(f"MLflow: nothing came for {SILENT_SECONDS:g} s")
    except BaseException:
        process.kill()
        process.communicate()  # Waits, and closes what was read from.
        raise


def size_of_drafts(folder: Folder, pid: int) -> int:
    """Of a large file that is on its way nothing else is seen."""
    total = 0
    for path in folder.root.glob(f"{DRAFT}.{pid}.*/**/*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def answers_in(out: str) -> Iterator[dict[str, Any]]:
    """What was said; of a process that was killed the last line may be torn."""
    for line in out.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def source_of(entries: Iterable[Entry], evaluation_id: str) -> Mapping[str, str] | None:
    """{"run", "host", "uri"} of the run from which a trial's result was taken over, if it was."""
    starts = [e for e in entries if e["kind"] == "start" and e["evaluation_id"] == evaluation_id]
    return starts[-1].get("adopted") if starts else None


# --- the process ------------------------------------------------------------------------------


def main() -> None:
    """What is asked on standard input; what came of it on standard output, an object a line."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Others who like to print may do so in the log.
    about = json.loads(sys.stdin.readline() or "null")
    if about is None:
        return
    folder, origin = Folder(about["root"]), Origin(**about["origin"])
    wanted = [(trial_of(said), code) for said, code in about["trials"]]
    try:
        for answer in asked(wanted, MLflowStore(folder.root, about["uri"]), folder, origin):
            answers.write(json.dumps(answer) + "\n")
    except Unasked as fault:
        answers.write(json.dumps({"fault": str(fault), "of": "MLflow"}) + "\n")
    except (EnvironmentFault, OSError) as fault:
        answers.write(json.dumps({"fault": conceal(str(fault)), "of": "the store"}) + "\n")


def asked(
    wanted: Sequence[tuple[Trial, str | None]],
    store: MLflowStore,
    folder: Folder,
    origin: Origin,
) -> Iterator[dict[str, Any]]:
    """What came of each trial that has a result in MLflow: "taken", "stale" or "refused".
    Raises Unasked where MLflow cannot be asked at all, EnvironmentFault or OSError where the
    store cannot be written; where MLflow goes away later, what is left is not taken over."""
    try:
        there = store.published([trial for trial, _ in wanted], origin)
    except EnvironmentFault as fault:
        raise Unasked(*fault.problems) from fault
    gone = ""
    for trial, code in wanted:
        found = there.get(trial.key)
        if found is None or found.record.state not in ("done", "corrupt"):
            continue
        if found.record.state == "corrupt":
            yield {"refused": str(found.record.error)}
            continue
        if found.record.made_by_other(code):
            yield {"stale": trial.id}
            continue
        run = f"MLflow run {found.run_id}"
        if gone:
            yield {"refused": f"{run}: {gone}"}
            continue
        with draft(folder) as below:
            try:
                names = (*origin.curves, *origin.results)  # those that figures and tables show
                history = fetched(found, store, below, names)
            except Incomplete as fault:
                yield {"refused": f"{run}: {fault}"}
                continue
            except EnvironmentFault as fault:
                gone = str(fault)
                yield {"refused": f"{run}: {gone}"}
                continue
            with contextlib.suppress(LeaseHeld):  # Somebody is at it here, by now.
                write(trial, found, history, below, folder, store.uri)
                yield {"taken": list(trial.key)}


@contextlib.contextmanager
def draft(folder: Folder) -> Iterator[Path]:
    """An empty folder in the store, named as drafts are, which `gc` finds where we are killed."""
    below = folder.root / f"{DRAFT}.{os.getpid()}.{secrets.token_hex(4)}"
    make(below)
    try:
        yield below
    finally:
        shutil.rmtree(below, ignore_errors=True)


def fetched(
    found: Published, store: MLflowStore, below: Path, names: Iterable[str]
) -> tuple[Measurement, ...]:
    """A trial's history (`names` as for `rebuilt`); its files are in `below` then. Raises
    Incomplete where one of both is not as it was delivered, EnvironmentFault where MLflow goes
    away, OSError where the store is full."""
    arrived = found.arrived
    if arrived.get("record") != checksum(seal(plain(found.record))):
        raise Incomplete("its delivery has not come to its end")
    for left in reversed(range(TRIES)):
        try:
            sent = store.points(found)
            if arrived.get("artifacts") != files_digest({}):
                shutil.rmtree(below)
                below.mkdir()
                store.download(found, below / "artifacts")
            break
        except EnvironmentFault as fault:
            if (full := full_disk(fault)) is not None:
                raise full from fault
            if not left:
                raise
            time.sleep(PAUSE_SECONDS)
    if len(sent) != arrived.get("points") or digest_of(sent) != arrived.get("digest"):
        raise Incomplete("its metrics are not those that were delivered")
    history = rebuilt(sent, found.record, names, arrived.get("measured"))
    if history is None:
        raise Incomplete("no history has these metrics")
    if arrived.get("artifacts") != files_digest(manifest(below)):
        with contextlib.suppress(FileNotFoundError):  # Ours, beside the trainer's.
            (below / "artifacts" / CONFIG).unlink()
        if arrived.get("artifacts") != files_digest(manifest(below)):
            raise Incomplete("its files are not those that were delivered")
    return history


def full_disk(fault: BaseException | None) -> OSError | None:
    """What MLflow's client came upon where it wrote a file here, and says as its own fault."""
    while fault is not None:
        if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT):
            return fault
        fault = fault.__cause__ or fault.__context__
    return None


def write(
    trial: Trial,
    found: Published,
    history: Sequence[Measurement],
    below: Path,
    folder: Folder,
    uri: str,
) -> None:
    """The trial's folder, as if it had run here, under its lease. Raises LeaseHeld."""
    place = folder.path(trial.id)
    make(place)
    refuse_links(place)
    # Where the number is free it is the record's, which then is the one that MLflow has.
    held = lease.take(place, first=found.record.attempt)
    with contextlib.ExitStack() as at_end:
        at_end.callback(lease.release, place, held)
        if (place / PREVIOUS).exists():
            raise LeaseHeld(trial.id, held.owner, held.since, held.attempt)
        describe(trial, place / "trial.json")
        book = Journal(place / "journal.jsonl")
        at_end.callback(book.close)
        anew = bool(book.entries or trainers_own(place))
        if anew:
            clear(place)  # What is unfinished; or of another evaluation, which keeps its result.
        record = replace(found.record, attempt=held.attempt)
        for entry in told(trial, found, history, book.entries, record, uri, anew=anew):
            book.append(entry)
        book.sync()
        with using(place):
            files = manifest(below)
            if files:
                os.rename(below / "artifacts", place / "artifacts")
                sync_folder(place)
        write_whole(place / "artifacts.json", seal({"files": files}))
        write_whole(Path(result_path(place, trial.key)), seal(plain(record)) + b"\n")


def told(
    trial: Trial,
    found: Published,
    history: Sequence[Measurement],
    earlier: Sequence[Entry],
    record: Record,
    uri: str,
    *,
    anew: bool,
) -> Iterator[dict[str, Any]]:
    """The journal of the attempt that would have come to this history and record. What it took
    until each measurement nobody knows: what it took at all stands in its end."""
    stamp = record.provenance
    host = str(stamp.get("host") or "")
    start = {
        "kind": "start",
        "at": found.began,
        "evaluation_id": trial.evaluation_id,
        "evaluation": trial.evaluation,
        "code_digest": stamp.get("code_digest"),
        "gpus": stamp.get("gpus") or 0,
        "host": host,
        "adopted": {"run": found.run_id, "host": host, "uri": without_secrets(uri)},
    }
    entries = [start, *([{"kind": "anew", "at": found.began}] if anew else [])]
    for measured in history:
        values = spell(measured.values)
        entries.append(
            {"kind": "measure", "at": measured.at, "cost": measured.cost, "values": values}
        )
    took = {"seconds": record.seconds, "cpu_seconds": record.cpu_seconds}
    peaks = {peak: stamp[peak] for peak in journal.PEAKS if stamp.get(peak) is not None}
    end = {"kind": "end", "at": record.finished_at, **took, "state": "done", "error": None, **peaks}
    entries = [{"attempt": record.attempt, **entry} for entry in (*entries, end)]
    entries[-1]["total"] = journal.totals([*earlier, *entries])
    yield from entries


# --- the history --------------------------------------------------------------------------------


def rebuilt(
    sent: Sequence[Point],
    record: Record,
    names: Iterable[str] = (),
    measured: int | None = None,
) -> tuple[Measurement, ...] | None:
    """The history of which, with the record, these points are made (see parcel.points); None
    where there is none. Of the metrics whose names MLflow does not take those are called again as
    they were that the record has, or that are among `names`. A measurement in the very moment of
    the end looks like the result: `measured` says how many points are the history's."""
    known = {accepted(name): name for name in (*names, *record.result)}
    last = max((point.step for point in sent), default=0)

    def of_result(point: Point) -> bool:
        value = record.result.get(known.get(point.key, point.key))
        late = point.at_ms >= milliseconds(record.finished_at)
        return late and point.step == last and repr(value) == repr(point.value)

    late: dict[str, Point] = {}  # the last of each name that may be the result's
    for point in sorted(filter(of_result, sent), key=lambda it: (it.step, it.at_ms)):
        late[point.key] = point
    # What the course has nowhere else is the result's alone, as a rule.
    course = {point.key for point in sent if not of_result(point)}
    likely = sorted(late, key=lambda key: (key in course, -late[key].at_ms))
    counts = [len(late.keys() - course), 0, len(late)]
    if measured is not None:
        counts.insert(0, len(sent) - measured)
    for count in counts:
        for some in islice(combinations(likely, max(count, 0)), GUESSES):
            of_end = {late[key] for key in some}
            history = tuple(joined([it for it in sent if it not in of_end], known, record.result))
            if digest_of(points(history, record)) == digest_of(sent):
                return history
    return None


def joined(
    some: Iterable[Point], known: Mapping[str, str], result: Mapping[str, float]
) -> Iterator[Measurement]:
    """The points that were measured at once as one measurement, in the order of training. A
    point does not repeat a value of the one before it at the same cost: the cost is filled in,
    and in the last one what it has in common with the result."""
    groups: dict[tuple[int, int], dict[str, float]] = {}
    for point in some:
        group = groups.setdefault((point.step, point.at_ms), {})
        group[known.get(point.key, point.key)] = point.value
    order = {name: number for number, name in enumerate(result)}
    places = sorted(groups)
    step, before = -1, {}
    for step_now, at_ms in places:
        before = before if step_now == step else {}
        step, values = step_now, groups[step_now, at_ms]
        repeated = {COST: before[COST]} if COST in before else {}
        if (step, at_ms) == places[-1]:
            repeated |= {name: x for name, x in before.items() if result.get(name) == x}
        values = repeated | values
        before |= values
        cost = values.get(COST, float(step))
        names = sorted(values, key=lambda name: (order.get(name, len(order)), name))
        yield Measurement(
            cost=cost if int(cost) == step else float(step),
            values={name: values[name] for name in names},
            at=seconds_of(at_ms),
        )


if __name__ == "__main__":
    main()
