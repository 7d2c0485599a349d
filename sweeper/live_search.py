"""A search that is under way in; what a terminal shows of it out: how far each study is, what it
has found to be best, and what runs now."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from sweeper.found import with_front
from sweeper.live import clock
from sweeper.objectives import losses, value
from sweeper.record import Record
from sweeper.search import Outcome
from sweeper.spec.search_types import BASELINE, CONFIGURATION, ENDED, Tried
from sweeper.spec.sweep import Sweep
from sweeper.track.folder import Folder
from sweeper.trial import Key, Trial

At = Mapping[str, str]  # the labels of a study
FRONT_SHOWN = 5  # of each study


@dataclass(kw_only=True)
class SearchWatch:
    """What is known of a search so far. It has state because it is told of what ends as it
    comes. It may be drawn in another thread than it is told in."""

    sweep: Sweep
    folder: Folder
    at: Sequence[At]
    tried: list[Tried] = field(default_factory=list)
    running: dict[Key, Trial] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.before = 0

    def take(self, tried: Iterable[Tried]) -> None:
        """What was tried before, but what is told of again when it has ended."""
        self.tried = [one for one in tried if one.state in ENDED]
        self.before = len(self.tried)

    def begin(self, trial: Trial) -> None:
        self.running[trial.key] = trial

    def end(self, record: Record) -> Trial | None:
        return self.running.pop(record.key, None)

    def told(self, at: At, number: int, trial: Trial, outcome: Outcome) -> None:
        one = Tried(
            at=at,
            number=number,
            state=outcome.state,
            label=trial.labels[CONFIGURATION],
            values=outcome.result,
            feasible=outcome.feasible,
            why=outcome.why,
            trial_id=trial.id,
        )
        self.tried = [*self.tried, one]

    def of(self, at: At) -> list[Tried]:
        return [one for one in self.tried if one.at == at]

    # ---- lines, where there is no terminal to draw on

    def line(self, at: At, trial: Trial, outcome: Outcome) -> str:
        """ "[12/20 Topics] linear · start 0.1: complete, valid/nelbo 83.1, cost/updates 1,200" """
        place = " ".join([f"{len(self.of(at))}/{self.sweep.search.trials}", *at.values()])
        return f"[{place}] {trial.labels[CONFIGURATION]}: {said(outcome, self.sweep)}"

    def own_line(self, record: Record, trial: Trial) -> str:
        paid = f", {record.cost:,.0f} updates" if record.cost is not None else ""
        where = " ".join(label for axis, label in trial.labels.items() if axis != CONFIGURATION)
        error = f": {record.error}" if record.error else ""
        return f"[{where or 'search'}] {BASELINE}: {record.state}{paid}{error}"

    # ---- the terminal

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        total = self.sweep.search.trials * len(self.at)
        done = len(self.tried)
        yield Group(
            self.headline(done, total),
            Grid.grid(),
            ProgressBar(total=total, completed=done, width=60),
            Text(""),
            *(self.study(at) for at in self.at),
            self.now(),
        )

    def headline(self, done: int, total: int) -> Text:
        states = [one.state for one in self.tried]
        parts = [f"{done}/{total} tried", f"{len(self.running)} running"]
        parts += [f"{states.count(it)} {it}" for it in ("pruned", "failed") if it in states]
        fresh = done - self.before
        if fresh:
            seconds = (time.monotonic() - self.began) / fresh * (total - done)
            parts.append(f"about {clock(seconds)} left")
        else:
            parts.append("time left: not known yet")
        return Text("  ·  ".join(parts), style="bold")

    def study(self, at: At) -> Grid:
        """The front, best by the first objective first."""
        search, metrics = self.sweep.search, self.sweep.metrics
        names = [it.metric for it in search.objectives]
        tried = self.of(at)
        front = [one for one in with_front(tried, search, metrics) if one.front]
        front.sort(key=lambda one: losses(one.values, search.objectives, metrics))
        grid = Grid(box=None, padding=(0, 2), header_style="dim")
        where = " ".join(at.values()) or "study"
        grid.add_column(f"{where}: {len(tried)} of {search.trials}, best so far")
        for name in names:
            grid.add_column(name, justify="right")
        for one in front[:FRONT_SHOWN]:
            found = [value(name, one.values, metrics) for name in names]
            grid.add_row(Text(one.label), *(number(it) for it in found))
        return grid

    def now(self) -> Grid:
        grid = Grid.grid(padding=(0, 2))
        for trial in list(self.running.values()):
            history = self.folder.history(trial.id)
            paid = f"{history[-1].cost:,.0f} updates" if history else ""
            grid.add_row(Text(" · ".join(trial.labels.values())), Text(paid, "dim"))
        return grid


def said(outcome: Outcome, sweep: Sweep) -> str:
    names = [it.metric for it in sweep.search.objectives]
    found = [(name, value(name, outcome.result, sweep.metrics)) for name in names]
    numbers = ", ".join(f"{name} {number(it)}" for name, it in found if it is not None)
    state = outcome.state
    if outcome.state == "complete" and not outcome.feasible:
        broken = next(text for text, by in outcome.broken.items() if by > 0)
        state = f"not feasible (not {broken})"
    elif outcome.why:
        return f"{state}: {outcome.why}"
    return ", ".join(filter(None, [state, numbers]))


def number(found: float | None) -> str:
    if found is None:
        return "-"
    return f"{found:,.0f}" if abs(found) >= 1000 else f"{found:.4g}"
