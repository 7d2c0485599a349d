"""A sweep that is running in; what a terminal shows of it out: trials done, running and
failed, updates per second, time left, and the first table filling up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from sweeper.plan import Plan
from sweeper.record import COST, Record
from sweeper.render import terminal
from sweeper.tables import Table
from sweeper.track.folder import Folder
from sweeper.trial import Trial

SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(kw_only=True)
class Watch:
    """What is known of a run so far. It has state because it is told of records as they
    come and remembers the updates it saw, from which the rate is taken."""

    plan: Plan
    folder: Folder
    slots: int
    tables: Callable[[Plan], Sequence[Table]]
    records: dict[str, Record] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.todo = {trial.id: trial for trial in self.plan.todo}
        self.costs_before = {id: self.cost_so_far(id) for id in self.todo}

    def notice(self, record: Record) -> None:
        self.records[record.trial_id] = record

    def cost_so_far(self, trial_id: str) -> float:
        history = self.folder.history(trial_id)
        return history[-1].cost if history else 0.0

    @property
    def running(self) -> list[Trial]:
        unfinished = [trial for id, trial in self.todo.items() if id not in self.records]
        found = self.folder.find(unfinished)
        return [t for t in unfinished if t.id in found and found[t.id].state == "running"]

    def updates_per_second(self, running: Sequence[Trial]) -> float:
        """Updates made since the start by everything that ran, over the time since."""
        ids = [*self.records, *(trial.id for trial in running)]
        made = sum(max(self.cost_of(id) - self.costs_before.get(id, 0.0), 0.0) for id in ids)
        return made / max(time.monotonic() - self.began, 1e-9)

    def cost_of(self, trial_id: str) -> float:
        record = self.records.get(trial_id)
        return record.result.get(COST, 0.0) if record else self.cost_so_far(trial_id)

    def seconds_left(self, running: Sequence[Trial]) -> float | None:
        """Wall seconds until all is done, from how long trials of the same labels took; None
        while nothing has finished."""
        took = {id: record.seconds for id, record in self.records.items() if record.seconds}
        if not took:
            return None
        everything = statistics.fmean(took.values())
        alike: dict[tuple[str, ...], list[float]] = {}
        for id, seconds in took.items():
            alike.setdefault(kind(self.todo[id]), []).append(seconds)
        waiting = {trial.id for trial in running}
        total = 0.0
        for id, trial in self.todo.items():
            if id not in self.records:
                expected = statistics.fmean(alike.get(kind(trial), [everything]))
                total += expected / 2 if id in waiting else expected
        return total / self.slots

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        running = self.running
        records = self.plan.records | self.records
        states = self.plan.states | {id: record.state for id, record in self.records.items()}
        states |= {trial.id: "running" for trial in running}
        now = Plan(trials=self.plan.trials, records=records, states=states)
        yield Group(
            self.headline(now, running),
            bar(finished(now), now.counts["total"]),
            self.running_trials(running),
            *(terminal.text(table, progress=True) for table in self.tables(now)[:1]),
        )

    def headline(self, now: Plan, running: Sequence[Trial]) -> Text:
        counts = now.counts
        parts = [f"{finished(now)}/{counts['total']} done", f"{len(running)} running"]
        parts += [f"{counts[s]} {s}" for s in ("failed", "diverged") if counts[s]]
        parts.append(f"{self.updates_per_second(running):,.0f} updates/s")
        left = self.seconds_left(running)
        parts.append(f"{clock(left)} left" if left is not None else "time left: not known yet")
        return Text("  ·  ".join(parts), style="bold")

    def running_trials(self, running: Sequence[Trial]) -> Grid:
        grid = Grid.grid(padding=(0, 2))
        for trial in running:
            grid.add_row(
                Text(title(trial)), Text(f"{self.cost_so_far(trial.id):,.0f} updates", "dim")
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


def title(trial: Trial) -> str:
    """ "Topics · MaxPool · With · seed 1" """
    return " · ".join([*kind(trial), f"seed {trial.seed}"])


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


def view(watch: Watch, console: Console) -> Live:
    """A context in which the terminal shows `watch`, looked at once a second."""
    return Live(
        watch,
        console=console,
        refresh_per_second=1 / SECONDS_BETWEEN_LOOKS,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
