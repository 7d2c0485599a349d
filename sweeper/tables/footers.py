"""What was asked and what was read in; the sentences under a table out, one a line.

They say what the cells are, what the marks mean, what is missing, and under which profile,
on which corpora and by which code the table was made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

from sweeper.circumstances import unlike
from sweeper.spec.sweep import Sweep, TableSpec
from sweeper.tables.cells import Cell, Column
from sweeper.tables.numerals import numeral
from sweeper.tables.readings import Readings
from sweeper.trial import Trial, title

LOST = ("failed", "diverged", "exceeded", "corrupt")
LOST_SHOWN = 12  # lost trials that are named one by one
_WORDS = {"ci95": "half a 95% t interval", "min": "least", "max": "greatest"}


def footer(
    spec: TableSpec,
    sweep: Sweep,
    columns: Sequence[Column],
    cells: Sequence[Sequence[Cell]],
    shown: Sequence[Trial],
    readings: Readings,
    limits: Sequence[float | None],
    verdicts: Sequence[str],
) -> tuple[str, ...]:
    return tuple(
        chain(
            _cells(spec, columns, cells),
            verdicts,
            _read_at(spec, columns, limits),
            _relative(spec),
            _beside(spec, sweep, columns),
            _progress(shown, readings),
            made(sweep, shown, readings),
        )
    )


def _cells(
    spec: TableSpec, columns: Sequence[Column], cells: Sequence[Sequence[Cell]]
) -> Iterator[str]:
    metrics = {column.metric.name: column.metric for column in columns}.values()
    names = ", ".join(metric.label or metric.name for metric in metrics)
    template = re.sub(r"\{(\w+)\}", lambda m: _WORDS.get(m[1], m[1]), spec.cell)
    most = max((cell.points for line in cells for cell in line), default=0)
    over = f" over {', '.join(spec.over)} (n={most} where not said otherwise)" if spec.over else ""
    goals = [
        f"{word} is better: {', '.join(m.label or m.name for m in metrics if m.goal == goal)}"
        for goal, word in (("min", "lower"), ("max", "higher"))
        if any(metric.goal == goal for metric in metrics)
    ]
    yield "; ".join([f"{names}: {template}{over}", *goals])
    values = [
        cell
        for line in cells
        for column, cell in zip(columns, line, strict=True)
        if column.kind == "value"
    ]
    if any(len(cell.trials) > cell.points > 0 for cell in values):
        yield "a training that is scored in several ways counts once, as the mean of its scores"
    for metric in metrics:
        if metric.note:
            yield f"{metric.label or metric.name}: {metric.note}"


def _read_at(
    spec: TableSpec, columns: Sequence[Column], limits: Sequence[float | None]
) -> Iterator[str]:
    if spec.at is None:
        return
    costs = {
        ", ".join(column.at.values()): numeral(limit, ",.0f")
        for column, limit in zip(columns, limits, strict=True)
        if column.kind == "value"
    }
    if len(set(costs.values())) == 1:
        said = f"{next(iter(costs.values()))} updates"
    else:
        several = ", ".join(f"{cost} ({place})" for place, cost in costs.items())
        said = f"so many updates: {several}"
    yield f"every trial read at its last measurement at or before {said}"


def _relative(spec: TableSpec) -> Iterator[str]:
    if spec.relative_to is not None:
        yield f"÷: mean divided by that of {spec.relative_to.row}"


def _beside(spec: TableSpec, sweep: Sweep, columns: Sequence[Column]) -> Iterator[str]:
    if any(column.kind == "paper" for column in columns):
        source = sweep.reported[spec.name].get("source", "as published")
        yield f"paper: {source}; diff: ours minus paper"


def _progress(shown: Sequence[Trial], readings: Readings) -> Iterator[str]:
    """How many trials there are to the table and, where any lack, what became of them."""
    distinct = {trial.key: trial for trial in shown}.values()
    states = {trial.key: readings.state(trial) for trial in distinct}
    counts = Counter(states.values())
    done = counts["done"] + counts["stale"]
    stale = f" ({counts['stale']} stale)" if counts["stale"] else ""
    order = ("running", "unscored", "missing", *LOST)
    others = [f"{counts[state]} {state}" for state in order if counts[state]]
    yield ", ".join([f"trials: {done} of {len(states)} done{stale}", *others])
    lost = [trial for trial in distinct if states[trial.key] in LOST]
    for trial in lost[:LOST_SHOWN]:
        record = readings.records.get(trial.key)
        why = f": {record.error}" if record is not None and record.error else ""
        yield f"{states[trial.key]}: {title(trial)} ({trial.id}){why}"
    if len(lost) > LOST_SHOWN:
        yield f"and {len(lost) - LOST_SHOWN} more that are failed, diverged, exceeded or corrupt"


def made(sweep: Sweep, shown: Sequence[Trial], readings: Readings) -> Iterator[str]:
    corpora = dict.fromkeys(
        f"{trial.config['data']} ({trial.data_digest[:8]})"
        if trial.data_digest
        else str(trial.config["data"])
        for trial in shown
        if "data" in trial.config
    )
    done = {t.key: t for t in shown if readings.done(t)}
    stamps = [readings.records[key].provenance for key in done]
    parts = [f"profile {sweep.profile}"]
    parts += [f"--set {key}={setting.value}" for key, setting in sweep.overrides.items()]
    if corpora:
        parts.append(f"data {', '.join(corpora)}")
    codes = sorted({str(s["code_digest"])[:12] for s in stamps if s.get("code_digest")})
    if codes:
        parts.append(f"code {', '.join(codes)}")
    commits = {
        str(s["commit"])[:12] + (" with changes" if s.get("dirty") else "")
        for s in stamps
        if s.get("commit")
    }
    if commits:
        parts.append(f"commit {', '.join(sorted(commits))}")
    yield "; ".join([*parts, *unlike(stamps)])
