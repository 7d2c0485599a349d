"""What MLflow is told about one trial: the trial, its history and its record in, plain
values within MLflow's limits out. Touches no disk and no MLflow.

MLflow stores 1.797e308 for an infinity and cuts long values without a word, so what it
gets is made to fit here: only finite metrics, a digest in what is cut, names it accepts.
The record travels beside the metrics in a sealed tag, so that it comes back complete and
exact, and never mixes two attempts.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeper.record import Measurement, Record
from sweeper.track.folder import plain, restored
from sweeper.track.sealed import checksum, seal, unseal
from sweeper.trial import Trial, flatten, title

KEY_CHARACTERS, PARAM_CHARACTERS, TAG_CHARACTERS, DIGEST_CHARACTERS = 250, 6000, 8000, 36
BATCH_ITEMS, BATCH_METRICS, BATCH_BYTES = 100, 1000, 800_000
RECORD = "sweeper.record"  # and .1, .2, ... where one tag cannot hold it
RECORD_CHARACTERS = 7000

STATUS = {
    "done": "FINISHED",
    "failed": "FAILED",
    "diverged": "FAILED",
    "exceeded": "KILLED",
    "running": "RUNNING",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The sweep for which trials are published. `rows` is table -> the axis of its rows,
    `results` the result keys that its tables show, `curves` those that its figures follow."""

    sweep: str
    profile: str
    rows: Mapping[str, str] = field(default_factory=dict)
    axes: Sequence[str] = ()
    results: Sequence[str] = ()
    curves: Sequence[str] = ()

    @property
    def tag(self) -> str:
        return accepted(f"sweeper.sweep.{self.sweep}.{self.profile}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    key: str
    value: float
    at_ms: int
    step: int  # the cost: parameter updates


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    trial: Trial
    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: tuple[Point, ...]
    measured: int  # of the points: the first, which are the history's; the others are the result's
    config: str
    status: str
    started_ms: int
    ended_ms: int | None
    record: Record | None

    @property
    def record_digest(self) -> str | None:
        return checksum(seal(plain(self.record))) if self.record else None


def pack(
    trial: Trial,
    origin: Origin,
    history: Sequence[Measurement],
    record: Record | None,
    started_at: float,
) -> Parcel:
    """`record` is None or running while there is no result."""
    ended = record is not None and record.state != "running"
    status = STATUS[record.state] if record else "KILLED"
    return Parcel(
        trial=trial,
        tags={key: text(value, TAG_CHARACTERS) for key, value in tags(trial, origin, record)},
        params=params(trial),
        points=tuple(points(history, record)),
        measured=sum(1 for _ in points(history, None)),
        config=json.dumps(trial.full_config | {"seed": trial.seed}, indent=2) + "\n",
        status=status,
        started_ms=milliseconds(started_at),
        ended_ms=milliseconds(record.finished_at) if ended else None,
        record=record if ended else None,
    )


def tags(trial: Trial, origin: Origin, record: Record | None) -> Iterator[tuple[str, str]]:
    """Flat, because the UI shows nesting only when it sorts by creation."""
    yield "sweeper.kind", "trial"
    yield "sweeper.trial", trial.id
    yield "sweeper.evaluation", trial.evaluation_id
    yield "sweeper.seed", str(trial.seed)
    yield origin.tag, "true"
    yield "sweeper.trainer", trial.trainer.function or " ".join(trial.trainer.command)
    if origin.rows:
        yield "sweeper.table", ", ".join(origin.rows)
    row = next((trial.labels[axis] for axis in origin.rows.values() if axis in trial.labels), None)
    if row:
        yield "sweeper.row", row
    if corpus(trial):
        yield "sweeper.dataset", corpus(trial)
    for axis, label in trial.labels.items():
        yield axis_tag(axis), label
    yield "mlflow.runName", title(trial)
    yield "mlflow.source.name", f"sweeper: {origin.sweep}"
    if record and record.provenance.get("commit"):
        yield "mlflow.source.git.commit", record.provenance["commit"]
    problem = f"\n\n**{record.state}**: {record.error}" if record and record.error else ""
    trace = f"`sweeper why FILE {trial.id}` says where each of its settings is from"
    yield "mlflow.note.content", f"{title(trial)}: trial `{trial.id}`; {trace}{problem}"


def axis_tag(axis: str) -> str:
    """The tag by which runs are grouped by an axis's labels."""
    return accepted(f"axis.{axis}")


def corpus(trial: Trial) -> str | None:
    """The name of its data, if its configuration says it as text under `data`."""
    name = trial.config.get("data")
    return name if isinstance(name, str) else None


def params(trial: Trial) -> dict[str, str]:
    flat = flatten(trial.full_config) | {"seed": trial.seed}
    said = {key: x if isinstance(x, str) else json.dumps(x) for key, x in flat.items()}
    return {accepted(key): text(value, PARAM_CHARACTERS) for key, value in said.items()}


def points(history: Sequence[Measurement], record: Record | None) -> Iterator[Point]:
    """The history, then of a done trial's result what the history does not end with.

    MLflow calls that value the latest whose step, then time, then value is greatest. So
    points of one key and step are kept apart in time, and the later one is the latest."""
    measured = [(m.cost, m.at, m.values) for m in history]
    if record is not None and record.state == "done":
        cost = history[-1].cost if history else record.cost or 0.0
        measured.append((cost, record.finished_at, record.result))
    last: dict[str, Point] = {}
    for cost, at, values in measured:
        for name, value in values.items():
            key, step, at_ms = accepted(name), int(cost), milliseconds(at)
            before = last.get(key)
            if before and before.step == step:
                if before.value == value:
                    continue
                at_ms = max(at_ms, before.at_ms + 1)
            if math.isfinite(value):
                last[key] = Point(key=key, value=value, at_ms=at_ms, step=step)
                yield last[key]


def digest_of(some: Iterable[Point]) -> str:
    """Whatever their order: MLflow has a history for each name, and does not know whose was first
    of those that were measured at once. Nor does every database know a zero's sign."""
    lines = (f"{p.key}\0{p.value + 0.0!r}\0{p.at_ms}\0{p.step}" for p in some)
    return checksum("\n".join(sorted(lines)).encode())


def milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def seconds_of(at_ms: int) -> float:
    """Those of which `milliseconds` makes the same again: a quotient may be a hair too small."""
    at = at_ms / 1000
    return at if milliseconds(at) == at_ms else math.nextafter(at, math.inf)


def accepted(key: str) -> str:
    """`key` if MLflow takes it as a name, else the nearest it takes, made unlike any other."""
    near = re.sub(r"[^\w\-. /]", "_", key, flags=re.ASCII)
    if near == key and is_path(key) and len(key) <= KEY_CHARACTERS:
        return key
    return near.replace("/", "_")[:200].strip(".") + "_" + checksum(key.encode())[:8]


def is_path(key: str) -> bool:
    return posixpath.normpath(key) == key and not key.startswith((".", "/"))


def text(value: str, characters: int) -> str:
    """What a database can hold: no NUL, no lone surrogate; a digest in place of what is cut."""
    whole = value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if len(whole) <= characters:
        return whole
    digest = checksum(value.encode("utf-8", "replace"))
    return f"{whole[: characters - 40]} … cut, checksum {digest}"


def record_tags(record: Record) -> dict[str, str]:
    """Tags that hold the whole record. The length in front says how much of them is this
    record's, should a longer one have been there."""
    sealed = seal(plain(record)).decode()
    whole = f"{len(sealed)}:{sealed}"
    parts = [whole[at : at + RECORD_CHARACTERS] for at in range(0, len(whole), RECORD_CHARACTERS)]
    return {f"{RECORD}.{n}" if n else RECORD: part for n, part in enumerate(parts)}


def record_of(run_tags: Mapping[str, str]) -> Record | None:
    """The record in a run's tags. Raises ValueError if they were changed."""
    if RECORD not in run_tags:
        return None
    whole, part = run_tags[RECORD], 1
    while f"{RECORD}.{part}" in run_tags:
        whole += run_tags[f"{RECORD}.{part}"]
        part += 1
    length, _, sealed = whole.partition(":")
    return restored(unseal(sealed[: int(length)].encode()))


def batches(items: Sequence[Any], count: int) -> Iterator[list[Any]]:
    """`items` (dataclasses or pairs, in order) in lists within MLflow's limits: at most
    `count` and about a megabyte each."""
    batch: list[Any] = []
    size = 0
    for item in items:
        weight = len(json.dumps(str(item)))
        if batch and (len(batch) == count or size + weight > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += weight
    if batch:
        yield batch
