"""Claims, trials and records in; for each claim a verdict out: supported, refuted, undecided
or missing, with the numbers that say so.

A comparison a < b is decided by its pairs: the points, one for each combination of the axes
under `over` and `pool`, at which both sides have a value. The two-sided paired t test on the
differences a - b supports it where their mean has the claimed sign and p is at most alpha,
and refutes it where the mean has the other sign; < and <= are one test. A side without a
metric is a constant. `x in low..high` is supported where the t interval of x at 1 - alpha
lies inside, refuted where it lies outside: its p is that of the test against the nearer
bound. All p of one claim are corrected by Holm's method.

A training that is scored in several ways is one pair, of the means of its scores.

What no test can decide is undecided, however clear it looks: fewer than two pairs, and
differences that are all the same number (three times one active unit more is no proof). While
trials lack that may still come, the comparison is missing; where some failed, diverged or
exceeded their budget it is undecided, since those that are left may be the lucky ones. The
numbers are printed all the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from sweeper import stats
from sweeper.record import Record
from sweeper.spec import expressions
from sweeper.spec.expressions import Binary, Expression, Pick, Unary, Value, walk, written
from sweeper.spec.sweep import ClaimSpec, Metric, Sweep
from sweeper.tables.footers import made
from sweeper.tables.pivot import STALE
from sweeper.tables.readings import ABSENT, Reading, Readings, label_of
from sweeper.trial import Key, Trial

Status = Literal["supported", "refuted", "undecided", "missing"]
STATUSES: tuple[Status, ...] = ("supported", "refuted", "undecided", "missing")
NOWHERE = "not in this design"
COMPUTED = ".4g"  # the format of what is no metric's value but made of some

Place = tuple[str, ...]  # labels on some axes, in their order
Points = dict[Place, dict[Pick, Trial | None]]  # None: there is no such trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A side of a comparison: `text` unless it is a number, its mean over the pairs, and how
    its numbers are written."""

    text: str
    mean: float | None
    form: str
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """A metric that gave no value at a point, and why: a trial's state, or in words."""

    what: str
    state: str
    trial: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One comparison of a claim at one place. `estimate` is what is tested: left minus right,
    or for a range (`bounds`) the left side itself. `samples` are the estimates of single
    pairs, `n` of `points` that there could be. `p_adjusted` is p after Holm's correction,
    which `status` goes by; `why` is said where there is no test. `notes` say what else there
    is to know of the values; `trials` are those that were asked."""

    text: str
    op: str
    left: Quantity
    right: Quantity | None
    bounds: tuple[float, float] | None
    estimate: Quantity
    interval: tuple[float, float] | None
    p: float | None
    n: int
    points: int
    samples: Mapping[str, float]
    lacking: tuple[Lack, ...]
    notes: tuple[str, ...]
    trials: tuple[Key, ...]
    why: str = ""
    p_adjusted: float | None = None
    status: Status = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a claim comes to `at` one combination of the axes `each`, axis -> label."""

    at: Mapping[str, str]
    status: Status
    comparisons: tuple[Comparison, ...]

    @property
    def where(self) -> str:
        return ", ".join(self.at.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`status` is that of all findings together; `method` says how they were tested."""

    name: str
    say: str
    test: str
    alpha: float
    status: Status
    findings: tuple[Finding, ...]
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Those of one sweep; `footer` says under which profile and by which code the records
    were made."""

    sweep: str
    profile: str
    verdicts: tuple[Verdict, ...]
    footer: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Status -> how many claims have it, those of none left out."""
        found = Counter(verdict.status for verdict in self.verdicts)
        return {status: found[status] for status in STATUSES if found[status]}


def judge(
    sweep: Sweep,
    trials: Sequence[Trial],
    records: Mapping[Key, Record],
    *,
    states: Mapping[Key, str] | None = None,
    names: Iterable[str] = (),
) -> Verdicts:
    """The claims called `names`, by default all. `trials` is the sweep's whole design;
    `records` and `states` are as a plan gives them."""
    readings = Readings(records=records, states=states)
    verdicts = [
        verdict(sweep.claims[name], sweep, trials, readings) for name in names or sweep.claims
    ]
    asked = {
        key
        for found in verdicts
        for finding in found.findings
        for comparison in finding.comparisons
        for key in comparison.trials
    }
    shown = [trial for trial in trials if trial.key in asked]
    return Verdicts(
        sweep=sweep.name,
        profile=sweep.profile,
        verdicts=tuple(verdicts),
        footer=tuple(made(sweep, shown, readings)),
    )


def verdict(spec: ClaimSpec, sweep: Sweep, trials: Sequence[Trial], readings: Readings) -> Verdict:
    check_axes(spec, sweep)
    asked = list(dict.fromkeys(comparisons(spec.test)))
    places = groups(spec, sweep, trials)
    compared = {
        (place, node): comparison(node, spec, sweep, there, readings)
        for place, there in places.items()
        for node in asked
    }
    tested = [key for key, found in compared.items() if found.p is not None]
    adjusted = stats.holm([compared[key].p for key in tested])
    for key, p in zip(tested, adjusted, strict=True):
        compared[key] = replace(compared[key], p_adjusted=p)
    for key, found in compared.items():
        compared[key] = replace(found, status=decided(found, spec.alpha))
    findings = tuple(
        Finding(
            at=dict(zip(spec.each, place, strict=True)),
            status=truth(spec.test, {node: compared[place, node].status for node in asked}),
            comparisons=tuple(compared[place, node] for node in asked),
        )
        for place in places
    )
    return Verdict(
        name=spec.name,
        say=spec.say,
        test=written(spec.test),
        alpha=spec.alpha,
        status=every(finding.status for finding in findings),
        findings=findings,
        method=method(spec, len(tested)),
    )


def check_axes(spec: ClaimSpec, sweep: Sweep) -> None:
    """Each axis has one place in each metric. A file that says otherwise was refused with its
    place when it was read; this holds for everyone else."""
    axes = sorted(axis.name for axis in sweep.axes)
    for pick in picks(spec.test):
        fixed = [spec.axis_of[label] for label in pick.labels]
        placed = sorted([*fixed, *spec.each, *spec.pool, *spec.over])
        assert placed == axes, f"{spec.name}: no silent averaging: {placed}, {axes}"


def method(spec: ClaimSpec, tests: int) -> str:
    pairs = ", ".join((*spec.pool, *spec.over)) or "trial"
    plural = "" if tests == 1 else "s"
    holm = f", Holm over {tests} comparison{plural}" if tests else ""
    return f"two-sided t test, paired by {pairs}{holm}, α = {spec.alpha:g}"


# ---- three values and a fourth


def every(statuses: Iterable[Status]) -> Status:
    """All of them: refuted by one, else no surer than the least sure."""
    found = set(statuses)
    order: tuple[Status, ...] = ("refuted", "missing", "undecided")
    return next((status for status in order if status in found), "supported")


def opposite(status: Status) -> Status:
    return {"supported": "refuted", "refuted": "supported"}.get(status, status)


def truth(test: Expression, statuses: Mapping[Binary, Status]) -> Status:
    """Kleene's logic: undecided and missing are its unknown, missing the more unknown."""
    match test:
        case Unary(op="not"):
            return opposite(truth(test.operand, statuses))
        case Binary(op="and"):
            return every((truth(test.left, statuses), truth(test.right, statuses)))
        case Binary(op="or"):
            sides = (opposite(truth(side, statuses)) for side in (test.left, test.right))
            return opposite(every(sides))
    return statuses[test]


def decided(found: Comparison, alpha: float) -> Status:
    """Not before all trials that can come are there, and not on the survivors of those that
    failed: either would choose the seeds by their outcome."""
    states = {lack.state for lack in found.lacking}
    if states & {"missing", "running", "unscored", "corrupt"}:
        return "missing"
    if states & {"failed", "diverged", "exceeded"}:
        return "undecided"
    if found.p_adjusted is None:
        return "missing" if found.n < 2 and found.lacking else "undecided"
    if found.p_adjusted > alpha:
        return "undecided"
    mean = found.estimate.mean
    if found.bounds is not None:
        holds = found.bounds[0] <= mean <= found.bounds[1]
    else:
        holds = (mean < 0) == (found.op in ("<", "<="))
    return "supported" if holds else "refuted"


# ---- one comparison at one place


def comparisons(test: Expression) -> Iterator[Binary]:
    """Those that a test is made of, in reading order."""
    for node in walk(test):
        if isinstance(node, Binary) and node.op in (*expressions.ORDERED, "in"):
            yield node


def picks(node: Expression) -> list[Pick]:
    """The metrics that are named, each once, in reading order."""
    return list(dict.fromkeys(part for part in walk(node) if isinstance(part, Pick)))


def groups(spec: ClaimSpec, sweep: Sweep, trials: Sequence[Trial]) -> dict[Place, list[Trial]]:
    """The trials at each combination of the axes `each` that there is, in level order. Where
    one of these axes is absent, the claim may be about nothing that is there."""
    found: dict[Place, list[Trial]] = {}
    for trial in trials:
        found.setdefault(tuple(label_of(trial, axis) for axis in spec.each), []).append(trial)
    order = list(product(*(levels(sweep, axis) for axis in spec.each)))
    return {
        place: found[place]
        for place in order
        if place in found and (ABSENT not in place or speaks_of(spec, found[place]))
    }


def speaks_of(spec: ClaimSpec, trials: Sequence[Trial]) -> bool:
    """Whether each metric of the claim has a trial among these."""
    return all(
        any(
            all(label_of(trial, spec.axis_of[label]) == label for label in pick.labels)
            for trial in trials
        )
        for pick in picks(spec.test)
    )


def levels(sweep: Sweep, axis: str) -> tuple[str, ...]:
    return (*sweep.axis(axis).labels, ABSENT)


def comparison(
    node: Binary, spec: ClaimSpec, sweep: Sweep, there: Sequence[Trial], readings: Readings
) -> Comparison:
    bounds = bounds_of(node)
    right = node.right if bounds is None else Value(value=0)
    points, same = distinct(node, spec, sweep, there)
    pairs: dict[str, tuple[float, float]] = {}
    got: dict[tuple[str, Key], tuple[Metric, Reading]] = {}
    gone = {pick: written(pick) for pick in picks(node) if not at_levels(pick, spec, there)}
    lacking = [Lack(what=what, state=NOWHERE) for what in gone.values()]
    trained = by_training(points)
    for places in trained:
        sides: list[tuple[float | None, float | None]] = []
        at = ", ".join(places[0])
        for trial_of in map(points.__getitem__, places):
            values = {}
            for pick, trial in trial_of.items():
                if trial is None:
                    what = gone.get(pick, f"{written(pick)}, {at}")
                    lacking.append(Lack(what=what, state=NOWHERE))
                    continue
                metric = sweep.metrics[pick.metric]
                reading = readings.read(trial, metric)
                if reading.value is None:
                    lacking.append(lack(pick, trial, reading, spec))
                else:
                    values[pick] = reading.value
                    got[pick.metric, trial.key] = metric, reading
            if len(values) == len(trial_of):
                sides.append((finite(node.left, values), finite(right, values)))
        if any(None in pair for pair in sides):
            lacking.append(Lack(what=at, state="no finite number"))
        elif len(sides) == len(places):
            pairs[at] = stats.mean([a for a, _ in sides]), stats.mean([b for _, b in sides])
    differences = {at: a - b for at, (a, b) in pairs.items()}
    found = Comparison(
        text=written(node),
        op=node.op,
        left=quantity(node.left, [a for a, _ in pairs.values()], sweep),
        right=quantity(right, [b for _, b in pairs.values()], sweep) if bounds is None else None,
        bounds=bounds,
        estimate=estimated(node, list(differences.values()), sweep),
        interval=None,
        p=None,
        n=len(pairs),
        points=len(trained),
        samples=differences,
        lacking=tuple(dict.fromkeys(lacking)),
        notes=tuple(noted(list(got.values()), same if points else 0, trained)),
        trials=tuple(trial.key for of in points.values() for trial in of.values() if trial),
    )
    size = max((abs(value) for pair in pairs.values() for value in pair), default=0.0)
    return tested(found, size, spec.alpha)


def bounds_of(node: Binary) -> tuple[float, float] | None:
    if node.op != "in":
        return None
    return expressions.number(node.right.low, {}), expressions.number(node.right.high, {})


def distinct(
    node: Binary, spec: ClaimSpec, sweep: Sweep, there: Sequence[Trial]
) -> tuple[Points, int]:
    """The points of a comparison, in level order: what is one trial under several labels
    counts once. And how many points were left out because their two sides are one trial
    under two labels: nothing differs there, and not for want of an effect."""
    axes = (*spec.pool, *spec.over)
    found: dict[Pick, dict[Place, Trial]] = {}
    for pick in picks(node):
        points: dict[Place, Trial] = {}
        for trial in at_levels(pick, spec, there):
            place = tuple(label_of(trial, axis) for axis in axes)
            first = points.setdefault(place, trial)
            assert first.key == trial.key, f"two trials at {place} of {written(pick)}"
        found[pick] = points
    kept: Points = {}
    seen: set[tuple[Key | None, ...]] = set()
    same = 0
    for place in product(*(levels(sweep, axis) for axis in axes)):
        if not any(place in points for points in found.values()):
            continue
        trial_of = {pick: points.get(place) for pick, points in found.items()}
        keys = {pick: trial and trial.key for pick, trial in trial_of.items()}
        whole = None not in keys.values()
        if whole and node.op != "in" and alike(node.left, node.right, keys):
            same += 1
        elif not whole or tuple(keys.values()) not in seen:
            seen.add(tuple(keys.values()))
            kept[place] = trial_of
    return kept, same


def by_training(points: Points) -> list[list[Place]]:
    """Points together whose sides are the same trainings, scored in several ways."""
    found: dict[object, list[Place]] = {}
    for place, trial_of in points.items():
        whole = None not in trial_of.values()
        ids = tuple(trial.id for trial in trial_of.values()) if whole else place
        found.setdefault((whole, ids), []).append(place)
    return list(found.values())


def at_levels(pick: Pick, spec: ClaimSpec, there: Sequence[Trial]) -> list[Trial]:
    at = {spec.axis_of[label]: label for label in pick.labels}
    return [t for t in there if all(label_of(t, axis) == label for axis, label in at.items())]


def alike(a: Expression, b: Expression, keys: Mapping[Pick, Key | None]) -> bool:
    """Whether two sides are the same arithmetic on the same results."""
    match a, b:
        case Pick(), Pick():
            return a.metric == b.metric and keys[a] == keys[b]
        case (Binary(), Binary()) | (Unary(), Unary()):
            parts = zip(expressions.children(a), expressions.children(b), strict=True)
            return a.op == b.op and all(alike(x, y, keys) for x, y in parts)
    return a == b


def finite(node: Expression, values: Mapping[Pick, float]) -> float | None:
    try:
        value = expressions.number(node, values)
    except ArithmeticError:
        return None
    return value if math.isfinite(value) else None


def lack(pick: Pick, trial: Trial, reading: Reading, spec: ClaimSpec) -> Lack:
    what = ", ".join(label for axis, label in trial.labels.items() if axis not in spec.each)
    absent = reading.state == "not applicable"
    return Lack(what=what, state=f"no {pick.metric}" if absent else reading.state, trial=trial.id)


def noted(
    read: Sequence[tuple[Metric, Reading]], same: int, trained: Sequence[Sequence[Place]]
) -> Iterator[str]:
    stale = sum(reading.state == "stale" for _, reading in read)
    if stale:
        yield f"stale: {stale} of {len(read)} values {STALE}"
    filled = Counter(
        f"{metric.fallback} in place of {metric.source}" for metric, got in read if got.filled
    )
    for text, count in filled.items():
        yield f"{text} in {count} of {len(read)} values"
    if same:
        plural = "s" if same > 1 else ""
        yield f"{same} pair{plural} left out: one trial on both sides"
    if any(len(places) > 1 for places in trained):
        yield "a training that is scored in several ways is one pair, of the means of its scores"


def quantity(node: Expression, values: Sequence[float], sweep: Sweep) -> Quantity:
    form, unit = form_of(node, sweep)
    mean = stats.mean(values) if values else None
    text = "" if isinstance(node, Value) else written(node)
    text = f"({text})" if isinstance(node, Binary) else text
    return Quantity(text=text, mean=mean, form=form, unit=unit)


def estimated(node: Binary, differences: Sequence[float], sweep: Sweep) -> Quantity:
    """Written as the metrics of both sides are, where they are written alike."""
    sides = [node.left] if node.op == "in" else [node.left, node.right]
    forms = {form_of(side, sweep) for side in sides if not isinstance(side, Value)}
    form, unit = forms.pop() if len(forms) == 1 else (COMPUTED, "")
    mean = stats.mean(differences) if differences else None
    return Quantity(text=written(node), mean=mean, form=form, unit=unit)


def form_of(node: Expression, sweep: Sweep) -> tuple[str, str]:
    if isinstance(node, Pick):
        metric = sweep.metrics[node.metric]
        return metric.format, metric.unit
    return ("g" if isinstance(node, Value) else COMPUTED), ""


def tested(found: Comparison, size: float, alpha: float) -> Comparison:
    """With its interval and its p, or why there are none. `size` is that of the numbers whose
    differences they are: rounding is no spread."""
    estimates = list(found.samples.values())
    if len(estimates) < 2:
        pairs = "no pair" if not estimates else "one pair"
        same = not found.points and not found.lacking
        return replace(found, why="one trial on both sides" if same else f"{pairs}, no test")
    mean, against = found.estimate.mean, 0.0
    if found.bounds is not None:
        against = min(found.bounds, key=lambda bound: abs(mean - bound))
    p = stats.paired_t([x - against for x in estimates], size=max(size, abs(against)))
    if p is None:
        return replace(found, why=f"all {len(estimates)} are the same number, no test")
    half = stats.t_half_width(estimates, 1 - alpha)
    return replace(found, p=p, interval=(mean - half, mean + half))
