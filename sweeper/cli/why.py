"""The verb why: what a trial is and why it is in its state, in what two are different, or what a
number of a table is made of (why_cells.py)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from sweeper.cli.completing import asked_about, trial_ids
from sweeper.cli.frame import Opened, json_option, main, sweep_options
from sweeper.cli.words import again, remedy, shown
from sweeper.design import points, settings_of
from sweeper.differences import (
    ABSENT,
    EVALUATION,
    Difference,
    Value,
    differences,
    dropped,
    explained,
    nearest,
    of_training,
    same,
    spelled,
)
from sweeper.errors import CorruptRecord, SpecError, quoted, unknown
from sweeper.plan import Plan, state
from sweeper.record import Record
from sweeper.sizes import clock
from sweeper.spec.search_types import came_to
from sweeper.spec.sweep import Settings
from sweeper.track import adopting, lease, snapshots
from sweeper.trial import Trial, told

DIGEST = 16  # characters of a corpus's that tell it from another
WIDTH = 96  # columns that lines keep to where they can
NAMED = 8  # trials or keys that a message lists
NO_RESULT = ("missing", "running", "failed", "diverged", "exceeded", "corrupt")


@main.command("why")
@json_option
@sweep_options
@click.argument("id", metavar="ID|TABLE/ROW/COLUMN", shell_complete=asked_about)
@click.argument("other", metavar="[OTHER]", required=False, shell_complete=trial_ids)
def show_why(opened: Opened, id: str, other: str | None, as_json: bool) -> None:
    """What the trial ID is, and why it is in its state; or how it differs from OTHER. Or of
    which runs a number of a table is made, as in table3/MaxPool/Topics/With.

    A trial is named by its id or the beginning of it, of FILE or of the store, or by labels,
    as in "model=Max seed=0"."""
    from sweeper import run
    from sweeper.cli import why_cells

    cell = why_cells.is_path(id, opened)
    if cell and other is not None:
        raise SpecError(f"{quoted(id)} is a number of a table: there is no other to compare it to")
    plan = run.look(opened.sweep, opened.place)
    if cell:
        why_cells.show_cell(opened, plan, id, as_json)
        return
    asked = Asked(opened, plan)
    one = two = asked.about(id)
    if other is not None:
        two = asked.about(other)
        found = differences(one.trial, two.trial)
        said = apart_as_json(one, two, found) if as_json else apart(one, two, found)
    else:
        near = asked.nearest(one) if one.state in NO_RESULT else None
        said = alone_as_json(one, near) if as_json else alone(one, near)
    click.echo(json.dumps(said, indent=1) if as_json else "\n".join(said))
    if "corrupt" in (one.state, two.state):
        sys.exit(CorruptRecord.exit_code)


# ---- what is asked about


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A trial that was asked about: its labels at each point of the file where it stands
    (`written`: what each of them writes), or in `elsewhere` where it stood in runs of other
    sweeps or of this one. `others` says how further evaluations of it are."""

    trial: Trial
    state: str
    because: str
    labels: tuple[Mapping[str, str], ...] = ()
    written: tuple[Settings, ...] = ()
    elsewhere: str | None = None
    others: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings | None:
        return self.written[0] if self.written else None

    @property
    def title(self) -> str:
        return told(self.labels[0]) if self.labels else self.elsewhere or "not in this file"

    def as_json(self) -> dict[str, Any]:
        trial = self.trial
        return {
            "id": trial.id,
            "evaluation_id": trial.evaluation_id,
            "labels": [dict(labels) for labels in self.labels],
            "elsewhere": self.elsewhere,
            "state": self.state,
            "because": self.because,
            "trainer": trial.trainer.identity,
            "seed": trial.seed,
            "data_digest": trial.data_digest,
        }


class Asked:
    """Where trials are looked up: the file's, as planned, and the store's."""

    def __init__(self, opened: Opened, plan: Plan):
        self.opened, self.plan = opened, plan
        self.sweep, self.folder = opened.sweep, opened.place.folder

    def about(self, given: str) -> Subject:
        """The trial that a person names. Raises SpecError for none, or several."""
        if "=" in given:
            return self.in_file(*self.labelled(given))
        own = {trial.id: trial for trial in reversed(self.plan.trials)}
        known = sorted({*own, *self.folder.ids()})
        found = [given] if given in known else [id for id in known if id.startswith(given)]
        if not found:
            said = f"no trial of {self.sweep.source} or of the store has an id that begins so"
            raise SpecError(f"{quoted(given)}: {said}; {again('plan', self.opened)} lists ids")
        if len(found) > 1:
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            said = ", ".join(found[:NAMED])
            raise SpecError(f"{quoted(given)} begins several trials: {said}{more}")
        return self.in_file(own[found[0]]) if found[0] in own else self.in_store(found[0])

    def labelled(self, given: str) -> tuple[Trial, Mapping[str, str]]:
        axes = {axis.name: axis for axis in self.sweep.axes}
        names = "|".join(sorted(map(re.escape, axes), key=len, reverse=True)) or "(?!)"
        head, *rest = re.split(rf"(?:^|\s+)({names})=", given.strip())
        if head:
            raise SpecError(unknown("axis", head.partition("=")[0], axes))
        wanted = dict(zip(rest[::2], rest[1::2], strict=True))
        for axis, label in wanted.items():
            if label not in axes[axis].labels:
                raise SpecError(unknown("level", label, axes[axis].labels, f" of {axis}"))
        found = {
            trial.key: trial
            for trial in reversed(self.plan.trials)
            if wanted.items() <= trial.labels.items()
        }
        if not found:
            raise SpecError(f"no trial is at {told(wanted)}")
        if len(found) > 1:
            some = [f"{t.id} {told(t.labels)}" for t in reversed(found.values())]
            more = [f"and {len(some) - NAMED} more"] if len(some) > NAMED else []
            lines = "\n  ".join([*some[:NAMED], *more])
            raise SpecError(f"{told(wanted)} names {len(some)} trials:\n  {lines}")
        return found.popitem()[1], wanted

    def in_file(self, trial: Trial, at_first: Mapping[str, str] | None = None) -> Subject:
        """`at_first` says which of its points comes first."""
        first = (at_first or {}).items()
        design = zip(points(self.sweep), self.plan.trials, strict=True)
        at = [(point, other) for (point, _), other in design if other.id == trial.id]
        here = [(point, other) for point, other in at if other.key == trial.key]
        here.sort(key=lambda pair: not first <= pair[1].labels.items())
        further = {other.key: other for _, other in at if other.key != trial.key}
        return Subject(
            trial=trial,
            state=self.plan.states[trial.key],
            because=self.because(trial, self.plan.states[trial.key]),
            labels=tuple(other.labels for _, other in here),
            written=tuple(settings_of(self.sweep, point) for point, _ in here),
            others=tuple(f"{told(o.labels)}: {self.plan.states[k]}" for k, o in further.items()),
        )

    def in_store(self, id: str) -> Subject:
        trial = self.folder.trial(id)
        if trial is None:
            raise CorruptRecord(f"{self.folder.path(id)} does not say what is trained there")
        record = self.folder.find([trial]).get(trial.key)
        # The code of a trial that the file does not have is compared where it is of a trainer
        # that the file names: a module for its configuration is part of that.
        known = {t.trainer.identity: t.trainer for t in self.plan.trials if t.trainer.function}
        trainer = known.get(str(trial.trainer.identity))
        code = code_now(trainer) if trainer else None
        now = state(record, code, trained=bool(self.folder.evaluations(id)))
        return Subject(
            trial=trial,
            state=now,
            because=self.because(trial, now, record, code),
            elsewhere=self.elsewhere(id),
        )

    def elsewhere(self, id: str) -> str | None:
        """ "model=Max seed=0 of table1 (run 2026-11-25)"; of this file's search "dataset=Topics
        number 7 of its search, pruned: linear · start 0.1" """
        for one in self.sweep.found.tried if self.sweep.found else ():
            if one.trial_id == id:
                state = came_to(one.state, feasible=one.feasible)
                where = f"{told(one.at)} number {one.number}".strip()
                return f"{where} of its search, {state}: {one.label}"
        for then in snapshots.all_kept(self.folder.root)[0]:
            for labels, key in then.labelled():
                if key.trial_id == id:
                    return f"{told(labels)} of {then.sweep} (run {then.when[:10]})"
        return None

    def nearest(self, subject: Subject) -> tuple[Subject, tuple[Difference, ...]] | None:
        """The trial with a result that differs from the subject in the fewest keys."""
        others = []
        for id in self.folder.ids():
            try:
                other = self.folder.trial(id) if id != subject.trial.id else None
            except CorruptRecord:  # Said where it is asked about itself.
                continue
            others += [other] if other is not None else []
        for other in nearest(subject.trial, others):
            if self.folder.evaluations(other.id):
                found = of_training(differences(subject.trial, other))
                own = [trial for trial in self.plan.trials if trial.id == other.id]
                return self.in_file(own[0]) if own else self.in_store(other.id), found
        return None

    def because(
        self, trial: Trial, now: str, record: Record | None = None, code: str | None = None
    ) -> str:
        """Why it is in that state, from what the store has."""
        record = record or self.plan.records.get(trial.key)
        if now == "missing":
            return self.unfinished(trial)
        if now == "unscored":
            return self.scored_otherwise(trial)
        if now == "running":
            live = lease.live(self.folder.path(trial.id))
            return f"by {live.owner} since {clock(live.since)}" if live else "it has just ended"
        assert record is not None, now
        if now == "corrupt":
            return f"{record.error}; {remedy(self.folder.root)}"
        ended = f"attempt {record.attempt} ended {clock(record.finished_at)}"
        if now == "stale":
            code = code or code_now(trial.trainer)
            what = f"made by code {', '.join(record.codes)}, which is {code} now"
            return f"{what}; {ended}{self.source(trial)}; {self.retry(now)} trains it anew"
        if now == "done":
            return f"{ended} after {record.seconds:,.1f} s{self.source(trial)}"
        log = shown(self.folder.path(trial.id) / "log.txt")
        return f"{record.error}; {ended}; its log is {log}; {self.retry(now)} runs it again"

    def source(self, trial: Trial) -> str:
        """From which run somebody's result was adopted, if it was."""
        found = adopting.source_of(self.folder.entries(trial.id), trial.evaluation_id)
        if found is None:
            return ""
        host = f" on {found['host']}" if found.get("host") else ""
        return f"{host}; adopted from MLflow run {found['run']} ({found['uri']})"

    def retry(self, now: str) -> str:
        return f"{again('run', self.opened)} --retry {now}"

    def unfinished(self, trial: Trial) -> str:
        entries = self.folder.entries(trial.id)
        if not entries:
            return "nothing is recorded of it"
        last = entries[-1]
        how = f"{last.get('error')}" if last["kind"] == "end" else "it died"
        reached = max((entry.get("cost", 0.0) for entry in entries), default=0.0)
        tried = f"attempt {last['attempt']} came to {reached:,.0f} updates and no result"
        return f"{tried} ({how}, {clock(last['at'])})"

    def scored_otherwise(self, trial: Trial) -> str:
        scored = self.folder.scorings(trial.id)
        said = []
        for id in self.folder.evaluations(trial.id):
            other = Trial(
                trainer=trial.trainer,
                config=trial.config,
                evaluation=scored.get(id, {}),
                seed=trial.seed,
                data_digest=trial.data_digest,
            )
            some = [
                f"{d.key} {spelled(d.other)} (here {spelled(d.one)})"
                for d in differences(trial, other)
                if d.part == EVALUATION
            ]
            said.append(", ".join(some) or id)
        return f"trained, and scored with {'; with '.join(said)}"


def code_now(trainer: Any) -> str | None:
    from sweeper.provenance import code_digest

    return code_digest(trainer)


# ---- one trial


def alone(one: Subject, near: tuple[Subject, tuple[Difference, ...]] | None) -> list[str]:
    trial = one.trial
    rows = [
        *(("labels", told(labels)) for labels in one.labels or ()),
        *([] if one.labels else [("labels", one.title)]),
        ("state", f"{one.state}: {one.because}"),
        *(("also", other) for other in one.others),
        ("trainer", spelled(trial.trainer.identity)),
        ("seed", f"{trial.seed}{place_of('seed', one.settings)}"),
        *([("data", trial.data_digest)] if trial.data_digest else []),
    ]
    return [
        f"trial {trial.id}",
        *filled(rows),
        *section("configuration", values(trial.config, one.settings)),
        *section(f"evaluation {trial.evaluation_id}", values(trial.evaluation, one.settings)),
        *section(
            "written, and dropped since it changes nothing here",
            dropped(trial.full_config, one.settings) if one.settings else (),
        ),
        *nearby(one, near),
    ]


def alone_as_json(
    one: Subject, near: tuple[Subject, tuple[Difference, ...]] | None
) -> dict[str, Any]:
    trial, settings = one.trial, one.settings
    return {
        **one.as_json(),
        "configuration": [v.as_json() for v in values(trial.config, settings)],
        "evaluation": [v.as_json() for v in values(trial.evaluation, settings)],
        "dropped": [v.as_json() for v in dropped(trial.full_config, settings)] if settings else [],
        "nearest": near
        and {**near[0].as_json(), "differences": [found.as_json() for found in near[1]]},
    }


def values(config: Mapping[str, Any], settings: Settings | None) -> tuple[Value, ...]:
    if settings is not None:
        return explained(config, settings)
    return tuple(Value(key=v.key, value=v.value) for v in explained(config, {}))


def place_of(key: str, settings: Settings | None) -> str:
    found = explained({key: None}, settings or {})[0].place
    return f"  {found}" if settings is not None else ""


def section(title: str, found: Sequence[Value]) -> Iterator[str]:
    if not found:
        return
    yield f"  {title}"
    rows = []
    for value in found:
        written = "" if value.written is ABSENT else f" (as {spelled(value.written)})"
        rows.append((value.key, spelled(value.value), f"{value.place or ''}{written}"))
    yield from columns(rows, "    ")


def nearby(one: Subject, near: tuple[Subject, tuple[Difference, ...]] | None) -> Iterator[str]:
    if one.state not in NO_RESULT:
        return
    if near is None:
        yield "  no other trial in the store has a result"
        return
    other, found = near
    yield f"  nearest that has a result: {other.trial.id}  {other.title}"
    yield from columns(compared(found[:NAMED], "here", "there"), "    ")
    if len(found) > NAMED:
        yield f"    and {len(found) - NAMED} keys more"


# ---- two trials


def apart(one: Subject, two: Subject, found: Sequence[Difference]) -> list[str]:
    training = of_training(found)
    scoring = [difference for difference in found if difference.part == EVALUATION]
    if training:
        what = f"not the same trial: {counted(len(training))} of their training"
    elif scoring:
        what = f"one trial, scored in two ways: {counted(len(scoring))} of its evaluation"
    else:
        what = "one trial"
    lines = [what]
    lines += columns(
        [
            (name, subject.trial.id, subject.state, subject.title)
            for name, subject in (("one", one), ("other", two))
        ],
        "  ",
    )
    lines += columns(compared(training, "one", "other"), "  ")
    if training and scoring:
        lines.append(f"  and scored in two ways: {counted(len(scoring))} of their evaluation")
    lines += columns(compared(scoring, "one", "other"), "  ")
    idle = without_effect(one, two)
    if idle and not training:
        lines.append("  written differently, which changes nothing here")
        lines += columns(compared(idle, "one", "other"), "  ")
    return lines


def apart_as_json(one: Subject, two: Subject, found: Sequence[Difference]) -> dict[str, Any]:
    return {
        "same_training": not of_training(found),
        "same": not found,
        "one": one.as_json(),
        "other": two.as_json(),
        "differences": [difference.as_json() for difference in found],
        "without_effect": [difference.as_json() for difference in without_effect(one, two)],
    }


def without_effect(one: Subject, two: Subject) -> list[Difference]:
    """What the two points write differently and the effective configurations have alike."""
    if one.settings is None or two.settings is None:
        return []
    real = {difference.key for difference in differences(one.trial, two.trial)}
    keys = dict.fromkeys([*one.settings, *two.settings])
    pairs = ((key, *(value_of(key, some) for some in (one.settings, two.settings))) for key in keys)
    return [
        Difference(part="written", key=key, one=here, other=there)
        for key, here, there in pairs
        if key not in real and not same(here, there)
    ]


def value_of(key: str, settings: Settings) -> Any:
    return settings[key].value if key in settings else ABSENT


def counted(keys: int) -> str:
    return "1 key" if keys == 1 else f"{keys} keys"


def compared(found: Iterable[Difference], one: str, other: str) -> list[tuple[str, str, str]]:
    rows = [("", one, other)]
    for it in found:
        length = DIGEST if it.part == "data" else None
        rows.append((it.key, spelled(it.one)[:length], spelled(it.other)[:length]))
    return rows if len(rows) > 1 else []


# ---- columns


def filled(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Name and text, the text over several lines where it is long."""
    import textwrap

    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        lines = textwrap.wrap(text, WIDTH - width - 4, break_on_hyphens=False) or [""]
        yield f"  {name:<{width}}  {lines[0]}"
        yield from (f"  {'':<{width}}  {line}" for line in lines[1:])


def columns(rows: Sequence[tuple[str, ...]], indent: str) -> list[str]:
    """Aligned where all fits; a row that is too long for it has its cells below each other."""
    if not rows:
        return []
    room = WIDTH - len(indent)
    fitting = [row for row in rows if sum(map(len, row)) + 2 * len(row) <= room]
    widths = [max(map(len, column)) for column in zip(*(fitting or rows), strict=True)]
    lines = []
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(cells).rstrip()
        if row in fitting and len(line) <= room:
            lines.append(f"{indent}{line}")
        else:
            first, *rest = row
            lines += [f"{indent}{first}", *(f"{indent}    {cell}" for cell in rest if cell)]
    return lines
