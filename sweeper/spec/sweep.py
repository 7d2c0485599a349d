"""The types of a parsed sweep file: what exists, before anything is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sweeper.errors import Mark
from sweeper.spec.expressions import Expression, written
from sweeper.spec.search_types import Found, SearchFigure, SearchRows, SearchSpec
from sweeper.trial import TrainerRef, digest

Settings = Mapping[str, "Setting"]  # dotted key -> what was written, and where


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    value: Any
    mark: Mark | None = None  # None: given on the command line


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One choice on an axis: a partial configuration under a label. `trainer` is what the
    trials of this level are run by, in place of the file's."""

    label: str
    set: Settings
    note: str | None = None
    override: bool = False
    trainer: TrainerRef | None = None
    trainer_mark: Mark | None = None
    mark: Mark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that holds at some points of a design; see conditions.py."""

    test: Expression
    mark: Mark | None = None

    def __str__(self) -> str:
        return written(self.test)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """`levels` are crossed with those of the other axes, where `when` holds (None:
    everywhere); elsewhere the axis is absent. `added` are levels that only included points
    have. `plain`: the axis's name is a configuration key, its labels are that key's values."""

    name: str
    levels: tuple[Level, ...]
    when: Condition | None = None
    added: tuple[Level, ...] = ()
    plain: bool = False
    mark: Mark | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(level.label for level in (*self.levels, *self.added))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One trial to be: a level of each axis that it has (axis -> level, in the order of the
    axes), and `further` settings over them where it was included by itself."""

    levels: Mapping[str, Level]
    further: Settings = field(default_factory=dict)
    mark: Mark | None = None

    @property
    def labels(self) -> dict[str, str]:
        return {axis: level.label for axis, level in self.levels.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """How a recorded metric is shown. `source` is its key in a result, `fallback` (`or:`)
    another that may stand in, marked with the level's note. `goal` ranks; `scale`
    multiplies before `format` (a closed grammar: `.1f`, `.0f`, `,.0f`, `.2e`, `g`).
    `note` is a footnote of the metric's column. `places`: where `from` and `or` are written."""

    name: str
    source: str
    fallback: str | None = None
    goal: Literal["min", "max"] | None = None
    format: str = ".2f"
    label: str | None = None
    unit: str = ""
    scale: float = 1.0
    note: str | None = None
    mark: Mark | None = None
    places: Mapping[str, Mark] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one trial takes. `gpus` may be a fraction, or "auto": one where the machine
    has any, else none. `stall`: the seconds without a measurement after which it hangs."""

    cpus: int = 1
    gpus: float | Literal["auto"] = 0
    stall: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that something may cost (None: any amount): `updates`, `wall` in seconds,
    `gpu_hours` (the hours of each GPU, or share of one, summed)."""

    updates: int | None = None
    wall: float | None = None
    gpu_hours: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """`total` is what all trials of a sweep may cost together, whoever ran them (its `wall`:
    what one run may take), `per_trial` what each may. At the limit no trial is started;
    those that run finish, or are stopped at their next measurement (`on_exceed`)."""

    total: Limits = Limits()
    per_trial: Limits = Limits()
    on_exceed: Literal["finish_running", "stop"] = "finish_running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A first row under `label` that is no level of any axis but says something of the
    corpus, such as its entropy: for each named value, the result key it is read from,
    averaged over all trials of the column."""

    label: str
    values: Mapping[str, str]
    places: Mapping[str, Mark] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """Which values have their best cell marked, one a column, or one a group of columns
    that agree on the axes `per`. What a paired test at level `alpha` does not tell from it
    shares its mark; `correct` is the correction for the many pairs of a group."""

    values: tuple[str, ...]
    per: tuple[str, ...] = ()
    mark: Literal["bold"] = "bold"
    alpha: float = 0.05
    correct: Literal["holm", "none"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Significance:
    """A paired test of `value` against the row `against` (both None inside a delta, whose
    two sides are what is compared); `correct` is the correction for many tests."""

    value: str | None = None
    against: str | None = None
    alpha: float = 0.05
    correct: Literal["holm", "none"] = "holm"
    mark: str = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """A paired bootstrap of `value` against the row `against`, over the items (`over`:
    sentences) that each trial has a number for: `array` in the file `artifact` that it left,
    else in `fallback` (`or:`), where {key} is a value of its configuration. The mean of the
    numbers is the value. It says whether these trained models differ on other such items,
    and nothing about other seeds."""

    value: str
    against: str
    artifact: str
    array: str
    fallback: str | None = None
    over: str = "items"
    samples: int = 10_000
    alpha: float = 0.05
    correct: Literal["holm", "none"] = "holm"
    mark: str = "°"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A further column: level `end` of `axis` minus its level `start` (`to`, `from`); or,
    where there is a `row`, one beside each value: each row minus that row."""

    axis: str | None = None
    start: str = ""
    end: str = ""
    row: str | None = None
    label: str = "Δ"
    significance: Significance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RelativeTo:
    """Each cell's mean divided by that of `row`, shown after the value as `form` says
    (`as:`, a template over {ratio})."""

    row: str
    form: str = "{ratio:.1f}x"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """A query over records. Every axis of the sweep is `rows`, in `columns`, pinned by
    `where` (axis -> label), or under `over`; `searched` rows are what a search found.
    `rows_only` selects and orders row labels, `labels` renames labels of rows and columns, the
    rows' axis and metrics for display, `rules_after` are row labels. `groups` are headings
    over rows, in this order, below the rows that are in none.
    `cell` is a template over {mean} {sd} {ci95} {n} {min} {max}; `at` reads every trial
    at so many updates, "min" at those of the cheapest."""

    name: str
    rows: str
    searched: SearchRows | None = None
    rows_only: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    cell: str = "{mean}"
    labels: Mapping[str, str] = field(default_factory=dict)
    rules_after: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    caption: str | None = None
    references: tuple[Reference, ...] = ()
    best: Best | None = None
    delta: Delta | None = None
    relative_to: RelativeTo | None = None
    significance: Significance | None = None
    checkpoints: Checkpoints | None = None
    beside: Literal["paper"] | None = None
    at: int | Literal["min"] | None = None
    write: tuple[str, ...] = ("md",)
    mark: Mark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """A figure of what trials recorded on the way: a row of panels for each of `y`, a column
    for each level of `panels`, a line for each level of `series`. A line is the mean over the
    axes under `over`, in a band of their range, their standard deviation or the 95% interval
    of the mean. `x` and `y` are names of metrics or result keys; `y_labels` names some of `y`
    on their axes; `series_only` and `panels_only` select and order labels. `places`: where each
    of `x` and `y` is written."""

    name: str
    y: tuple[str, ...]
    series: str
    x: str = "cost/updates"
    series_only: tuple[str, ...] | None = None
    panels: str | None = None
    panels_only: tuple[str, ...] | None = None
    over: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    band: Literal["range", "ci95", "sd"] = "range"
    labels: Mapping[str, str] = field(default_factory=dict)
    caption: str | None = None
    x_label: str | None = None
    y_labels: Mapping[str, str] = field(default_factory=dict)
    write: tuple[str, ...] = ("png", "pdf")
    mark: Mark | None = None
    places: Mapping[str, Mark] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """A figure of points that trials left in a file: `array` ([N, H], H at least 2) of
    `artifact`, coloured by `colour` ([N], in the same file). A trial is a panel: a column for
    each level of `panels`, a row for each of `rows`, every other axis pinned by `where`."""

    name: str
    artifact: str
    array: str
    colour: str | None = None
    panels: str | None = None
    panels_only: tuple[str, ...] | None = None
    rows: str | None = None
    rows_only: tuple[str, ...] | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    caption: str | None = None
    write: tuple[str, ...] = ("png", "pdf")
    mark: Mark | None = None


FigureSpec = Curves | Scatter | SearchFigure


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSpec:
    """Something that the records may support or refute: `say` in words, `test` as an
    expression over metrics at levels. It is judged for each combination of the axes `each`;
    its pairs are the points of the axes `over` and `pool`. `axis_of` says of which axis each
    label in `test` is a level. `alpha` is the level of the tests."""

    name: str
    say: str
    test: Expression
    each: tuple[str, ...] = ()
    pool: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    axis_of: Mapping[str, str] = field(default_factory=dict)
    alpha: float = 0.05
    mark: Mark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep file under one profile, imports and profile already merged in. `base` and
    the levels keep where each value was written. `reported` is the published values, as
    plain data: table -> row -> column path -> value. `data_root` is the folder of corpora. `found`
    is what its `search` has come to, once that was looked up: no file says it."""

    name: str
    source: Path
    profile: str
    trainer: TrainerRef
    trainer_mark: Mark | None
    base: Settings
    axes: tuple[Axis, ...]
    exclude: tuple[Condition, ...] = ()  # what of the cross is no trial
    include: tuple[Point, ...] = ()
    overrides: Settings = field(default_factory=dict)
    description: str | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    tables: Mapping[str, TableSpec] = field(default_factory=dict)
    figures: Mapping[str, FigureSpec] = field(default_factory=dict)
    claims: Mapping[str, ClaimSpec] = field(default_factory=dict)
    resources: Resources = Resources()
    budget: Budget = Budget()
    search: SearchSpec | None = None
    found: Found | None = None
    reported: Mapping[str, Any] = field(default_factory=dict)
    data_root: Path | None = None  # absolute
    data_root_mark: Mark | None = None

    @property
    def variant(self) -> str:
        """The profile; and where --set changed something, what tells it from the file's own."""
        if not self.overrides:
            return self.profile
        changed = digest({key: setting.value for key, setting in self.overrides.items()})
        return f"{self.profile}+{changed[:8]}"

    def axis(self, name: str) -> Axis:
        return next(axis for axis in self.axes if axis.name == name)
