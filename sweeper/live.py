"""A sweep that is running in; what a terminal shows of it out: trials done, running and
failed, updates per second, time left, and the first table filling up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from sweeper.plan import Plan
from sweeper.record import COST, PROGRESS, Record
from sweeper.render import terminal
from sweeper.tables import Table
from sweeper.track.folder import Folder
from sweeper.trial import Key, Trial, title

SECONDS_BETWEEN_LOOKS = 1.0
LOST = ("failed", "diverged", "exceeded", "corrupt")


@dataclass(kw_only=True)
class Watch:
    """What is known of a run so far. It has state because it is told of records as they
    come and remembers the updates it saw, from which the rate is taken."""

    plan: Plan
    trials: Sequence[Trial]  # those of the plan that are run
    folder: Folder
    slots: int
    tables: Callable[[Plan], Sequence[Table]]
    by: Sequence[str] = ()  # who trains it, if that is not whoever watches
    seen: Sequence[Trial] | None = None  # those that run, where somebody else looks for them
    records: dict[Key, Record] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.todo = {trial.key: trial for trial in self.trials}
        anew = {key.trial_id for key in self.todo if self.is_made_anew(key)}
        ids = dict.fromkeys(key.trial_id for key in self.todo)
        self.costs_before = {id: 0.0 if id in anew else self.cost_so_far(id) for id in ids}
        # A record's seconds are all that was spent in its trial. Where that was trained
        # before, in this run or another, it is no measure of what a scoring takes.
        self.spent = {
            id: self.total(id)["seconds"] for id in (ids.keys() & self.plan.trained) - anew
        }
        self.took: dict[Key, float] = {}
        self.first: dict[str, tuple[float, float]] = {}  # trial -> its cost as first seen, and when

    def notice(self, record: Record) -> None:
        self.records[record.key] = record
        if record.seconds:
            self.took[record.key] = record.seconds - self.spent.get(record.trial_id, 0.0)
            self.spent[record.trial_id] = record.seconds

    def is_made_anew(self, key: Key) -> bool:
        """Whether nothing of its training counts as made: other code did it, and no attempt has
        begun it anew yet."""
        return self.plan.states[key] == "stale" and self.total(key.trial_id)["done"]

    def total(self, trial_id: str) -> Mapping[str, Any]:
        """What the training took whose files are there."""
        total = self.folder.totals(trial_id)
        return total.get("now", total)

    def cost_so_far(self, trial_id: str) -> float:
        history = self.folder.history(trial_id)
        return history[-1].cost if history else 0.0

    @property
    def running(self) -> list[Trial]:
        """One a trial: its next evaluation is what waits or runs, the others come later."""
        if self.seen is not None:
            return list(self.seen)
        unfinished = [trial for key, trial in self.todo.items() if key not in self.records]
        found = self.folder.find(unfinished)
        running = [
            trial
            for trial in unfinished
            if (trial.key in found and found[trial.key].state == "running")
            # The result that other code made is found until there is a new one.
            or (self.plan.states[trial.key] == "stale" and self.folder.is_running(trial.id))
        ]
        return list({trial.id: trial for trial in reversed(running)}.values())[::-1]

    def updates_per_second(self, running: Sequence[Trial]) -> float:
        """Updates made since the start by everything that ran, over the time since."""
        costs = {key.trial_id: r.result.get(COST, 0.0) for key, r in self.records.items()}
        costs |= {trial.id: self.cost_so_far(trial.id) for trial in running}
        made = sum(max(cost - self.costs_before[id], 0.0) for id, cost in costs.items())
        return made / max(time.monotonic() - self.began, 1e-9)

    def seconds_left(self, running: Sequence[Trial]) -> float | None:
        """Wall seconds until all is done, from how long trials of the same labels took, or
        will take by the progress that they tell; None while nothing is known of any."""
        begun = {trial.key: self.total(trial.id) for trial in running}
        told = {key: it for key, it in begun.items() if PROGRESS in it and not it["done"]}
        took = {key: it["seconds"] / it[PROGRESS] for key, it in told.items()} | self.took
        if not took:
            return None
        everything = statistics.fmean(took.values())
        alike: dict[tuple[str, ...], list[float]] = {}
        for key, seconds in took.items():
            alike.setdefault(kind(self.todo[key]), []).append(seconds)
        total = 0.0
        for key, trial in self.todo.items():
            if key in self.records:
                continue
            expected = statistics.fmean(alike.get(kind(trial), [everything]))
            left = 1 - told[key][PROGRESS] if key in told else 1 / 2 if key in begun else 1
            total += left * (took[key] if key in told else expected)
        return total / self.slots

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        running = self.running
        records = {**self.plan.records, **self.records}
        states = self.plan.states | {key: record.state for key, record in self.records.items()}
        states |= {trial.key: "running" for trial in running}
        now = Plan(trials=self.plan.trials, records=records, states=states)
        yield Group(
            *(Text(line, "dim") for line in self.by),
            self.headline(now, running),
            bar(finished(now), now.counts["total"]),
            self.running_trials(running),
            *(terminal.text(table, progress=True) for table in self.tables(now)[:1]),
        )

    def headline(self, now: Plan, running: Sequence[Trial]) -> Text:
        counts = now.counts
        parts = [f"{finished(now)}/{counts['total']} done", f"{len(running)} running"]
        parts += [f"{counts[s]} {s}" for s in LOST if counts[s]]
        parts.append(f"{self.updates_per_second(running):,.0f} updates/s")
        left = self.seconds_left(running)
        parts.append(f"{clock(left)} left" if left is not None else "time left: not known yet")
        return Text("  ·  ".join(parts), style="bold")

    def running_trials(self, running: Sequence[Trial]) -> Grid:
        grid = Grid.grid(padding=(0, 2))
        for trial in running:
            cost, now = self.cost_so_far(trial.id), time.monotonic()
            before, since = self.first.setdefault(trial.id, (cost, now))
            grid.add_row(
                Text(title(trial)),
                Text(f"{cost:,.0f} updates", "dim"),
                Text(f"{(cost - before) / (now - since):,.1f}/s" if cost > before else "", "dim"),
            )
        return grid


def bar(done: int, total: int) -> Grid:
    grid = Grid.grid()
    grid.add_row(ProgressBar(total=total, completed=done, width=60))
    return grid


def finished(plan: Plan) -> int:
    return plan.counts["done"] + plan.counts["stale"]


def kind(trial: Trial) -> tuple[str, ...]:
    return tuple(label for axis, label in trial.labels.items() if axis != "seed")


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def line(record: Record, trial: Trial, place: int, total: int) -> str:
    """What a log says of one record, where there is no terminal to draw on."""
    told = f"[{place}/{total}] {title(trial)}: {record.state}"
    if record.state == "done":
        cost = record.cost
        paid = f", {cost:,.0f} updates" if cost is not None else ""
        return f"{told} in {record.seconds:.1f} s{paid}"
    return f"{told}: {record.error}" if record.error else told


def view(watch: RenderableType, console: Console, *, alone: bool = True) -> Live:
    """A context in which the terminal shows `watch`, looked at once a second, unless it is not
    left `alone`: whoever opened it says when."""
    return Live(
        watch,
        console=console,
        auto_refresh=alone,
        refresh_per_second=1 / SECONDS_BETWEEN_LOOKS,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
