"""The types of a sweep file's `search:`: which configurations a search may try, how it chooses
among them, and what becomes of the best. `places` say where names of metrics and result keys
are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sweeper.errors import Mark
from sweeper.trial import Trial

if TYPE_CHECKING:
    from sweeper.spec.sweep import Condition  # which names these types, too

CONFIGURATION = "configuration"  # the axis on which what a search found lies
BASELINE = "as in the file"  # its level that is the file's own configuration

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A configuration key that takes one of `options` where `when` holds (over other keys of the
    space, one that is not there being null; None: everywhere), and is not set elsewhere."""

    key: str
    options: tuple[Scalar, ...]
    when: Condition | None = None
    mark: Mark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A configuration key that takes a number from `low` to `high`, both included: `whole`,
    uniform in its logarithm (`log`), or a multiple of `step` above `low`. `when` as above."""

    key: str
    low: float
    high: float
    whole: bool = False
    log: bool = False
    step: float | None = None
    when: Condition | None = None
    mark: Mark | None = None


Parameter = Choice | Span

ENDED = ("complete", "pruned", "failed")  # states of a trial of a study that was told of


def came_to(state: str, *, feasible: bool) -> str:
    """The state of a trial of a study in words: one that is complete may not be feasible."""
    return "not feasible" if state == "complete" and not feasible else state


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One trial of a study: the `number`th of that at the labels `at` (axis -> label), with
    `point` (key -> value) over the file's own configuration, called `label`. `values` are what
    the search and its figures read (metric or result key -> number): of a complete trial its
    result, of a pruned one what it had when it was stopped. `feasible`: it is complete and
    satisfies every constraint; `front`: no other feasible trial of its study beats it in every
    objective. `trial_id` and `evaluation_id` say which records it has."""

    at: Mapping[str, str]
    number: int
    state: Literal["waiting", "running", "complete", "pruned", "failed"]
    point: Mapping[str, Scalar] = field(default_factory=dict)
    label: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    feasible: bool = False
    front: bool = False
    why: str | None = None  # it was pruned, failed, or is not feasible
    trial_id: str | None = None
    evaluation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search has come to so far: all that was `tried`, study by study, and the file's own
    configuration for each study that has a record of it (`baselines`, number -1). `trials` are
    the trials that were run for that, each once. `complete`: every study has all its trials."""

    tried: tuple[Tried, ...] = ()
    baselines: tuple[Tried, ...] = ()
    trials: tuple[Trial, ...] = ()
    complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """How the next point is chosen: one of Optuna's samplers, or "package.module:thing", and
    the arguments it is made with."""

    name: str = "TPESampler"
    arguments: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """`metric` is the name of a metric of the file or a result key, as it was written; so
    wherever a search says `metric`."""

    metric: str
    goal: Literal["min", "max"]
    mark: Mark | None = field(default=None, compare=False)  # of the metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Trials that are behind by `metric` end early. Rungs are counted in `by`: the first at
    the share `grace` of what a whole trial takes, each further one at `factor` times the one
    before; the best 1 / `factor` of those that reach a rung go on, among those in which
    `settled` has come to rest (None: all)."""

    rule: Literal["successive_halving"]
    metric: str
    grace: float
    factor: int
    by: str = "cost/updates"
    goal: Literal["min", "max"] = "min"
    settled: str | None = None
    places: Mapping[str, Mark] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """What is trained again under each of `seeds` and scored on the split `score_on`: the
    feasible trials (with `front`, those that no other beats in every objective), at most `top`
    of them, by the first objective."""

    seeds: tuple[int, ...]
    front: bool = True
    top: int | None = None
    score_on: Literal["test", "valid"] = "test"
    mark: Mark | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpec:
    """One study of `trials` trials for each point of the axes `for_each` (every axis that the
    file has), `parallel` trials at a time. `storage` is an URL, or env:NAME of one, and None for
    a database in the store; a path in it is relative to where the sweep is run. A trial that does
    not satisfy the `constraints` is worth nothing. `enqueue` are points that are tried first (key
    -> value; what one leaves out is chosen). `mark` is the place of `search:`."""

    trials: int
    objectives: tuple[Objective, ...]
    space: Mapping[str, Parameter]
    for_each: tuple[str, ...] = ()
    storage: str | None = None
    sampler: Sampler = Sampler()
    parallel: int = 1
    constraints: tuple[Condition, ...] = ()
    enqueue: tuple[Mapping[str, Scalar], ...] = ()
    prune: Prune | None = None
    promote: Promote | None = None
    mark: Mark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRows:
    """The rows of a table that are what a search promoted, in the order of the metric or
    result key `order_by`."""

    order_by: str
    mark: Mark | None = field(default=None, compare=False)  # of `order_by`


@dataclass(frozen=True, slots=True, kw_only=True)
class Pareto:
    """A figure of a search's trials, by two metrics or result keys: a colour for each point of
    the axes `by`. `show` is what stands out: the front, and the file's own configuration."""

    name: str
    x: str
    y: str
    by: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    show: tuple[str, ...] = ("front", "baseline")
    labels: Mapping[str, str] = field(default_factory=dict)
    caption: str | None = None
    write: tuple[str, ...] = ("png", "pdf")
    mark: Mark | None = None
    places: Mapping[str, Mark] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfMetric:
    """What figures of a search by one `metric` have in common."""

    name: str
    metric: str
    caption: str | None = None
    write: tuple[str, ...] = ("png", "pdf")
    mark: Mark | None = None
    places: Mapping[str, Mark] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance(OfMetric):
    """A figure of how much of the variance of `metric` each key of the space explains, a panel
    for each study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History(OfMetric):
    """A figure of `metric` trial by trial, and of the best that was found so far, a panel for
    each study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices(OfMetric):
    """A figure of `metric` against the value of each of `keys` (empty: all of the space), a
    panel for each, study by study."""

    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel(OfMetric):
    """A figure with an axis for each of `keys` (empty: all of the space) and one for `metric`,
    and a line through them for each trial that is complete, a panel for each study."""

    keys: tuple[str, ...] = ()


SearchFigure = Pareto | Importance | History | Slices | Parallel
