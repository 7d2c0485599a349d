"""The `search:` of a sweep file in; a SearchSpec out, each key, metric and axis in it checked.

for_each: [dataset]                                      a study for each level
objectives: [{metric: valid/nll_iw, goal: min}, {metric: cost/updates, goal: min}]
constraints: ["valid/kl >= 0.5"]
space:
  kl.schedule: {choice: [linear, constant]}
  kl.start: {float: [0.0, 0.5], step: 0.1, when: "kl.schedule == 'linear'"}
  optim.epochs: {int: [4, 64], log: true}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from urllib.parse import parse_qs, urlsplit

from sweeper.errors import quoted, unknown
from sweeper.spec.conditions import at, condition_of
from sweeper.spec.designs import Design
from sweeper.spec.expressions import (
    Binary,
    Name,
    Value,
    value_written,
    walk,
    written,
)
from sweeper.spec.layers import Layer, nodes, over
from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.search_types import (
    BASELINE,
    CONFIGURATION,
    Objective,
    Promote,
    Prune,
    Sampler,
    SearchSpec,
)
from sweeper.spec.section import (
    GOALS,
    RESULT_KEY,
    Form,
    Section,
    few,
    is_whole,
    items,
    label_of,
    sections,
)
from sweeper.spec.settings import check_sections, line_of
from sweeper.spec.space import enqueued, parameters
from sweeper.spec.sweep import Axis, Condition, Level, Metric, Setting, Settings

SEARCH = (
    "for_each",
    "storage",
    "sampler",
    "trials",
    "parallel",
    "objectives",
    "constraints",
    "space",
    "enqueue",
    "prune",
    "promote",
)
OBJECTIVE = ("metric", "goal")
PRUNE = ("rule", "metric", "by", "settled", "goal", "grace", "factor")
RULES = ("successive_halving",)
PROMOTE = ("front", "top", "seeds", "score_on")
SPLITS = ("test", "valid")
# Those of Optuna's samplers whose arguments can be written in a file.
SAMPLERS = (
    "BruteForceSampler",
    "CmaEsSampler",
    "GPSampler",
    "NSGAIIISampler",
    "NSGAIISampler",
    "QMCSampler",
    "RandomSampler",
    "TPESampler",
)

TEST = "test/"  # how the keys of what is measured on the test split begin
UPDATES = "cost/updates"


ARGUMENT = Form(r"[A-Za-z_]\w*", "an argument's name, such as seed")
PART = Form(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", "package.module:thing")
ENVIRONMENT = Form(r"env:[A-Za-z_][A-Za-z0-9_]*", "env:NAME")
SQLITE = Form(r"sqlite:///(?!:memory:)[^?#\s]+", "sqlite:///path")
POSTGRESQL = "postgresql+psycopg2"
STORAGES = f"{SQLITE.words}, {POSTGRESQL}://user@host/database, or env:NAME of a variable with one"
SHARE = Form(r"([0-9]+(?:\.[0-9]+)?)%", "a share such as 20%")


def searched(
    below: Sequence[Layer],
    variants: Mapping[str, list[Layer]],
    profile: str,
    design: Design,
    given: Settings,
    metrics: Mapping[str, Metric],
    problems: Problems,
) -> SearchSpec | None:
    """The search under one profile. What other profiles say of it is read, too."""
    axes = {axis.name: axis for axis in design.axes}
    found: SearchSpec | None = None
    for name, some in (variants or {profile: []}).items():
        node = joined(nodes(below, "search"), nodes(some, "search"))
        read = search(node, axes, metrics, problems) if node else None
        found = read if name == profile else found
    if found:
        check_searched(found, design, given, problems)
    return found


def joined(below: Sequence[Node], above: Sequence[Node]) -> Node | None:
    """What the files say of a search and what a profile does (`above`), key by key; an entry of
    the space, and a sampler, that is named again is replaced whole. Its place is that in the
    file."""
    result: Node | None = None
    for node in (*below, *above):
        result = over_search(result, node) if result else node
    if result and below:
        result = Node(value=result.value, mark=below[-1].mark, key=below[-1].key)
    return result


def over_search(low: Node, high: Node) -> Node:
    both = over(low, high)
    if both is high:
        return high
    entries = dict(both.value)
    parts = {key: (low.value.get(key), high.value.get(key)) for key in ("space", "sampler")}
    before, after = parts["space"]
    if before and after and before.is_mapping and after.is_mapping:
        entries["space"] = Node(
            value={**before.value, **after.value}, mark=before.mark, key=before.key
        )
    before, after = parts["sampler"]
    if after and after.is_mapping and "name" in after.value:
        entries["sampler"] = after
    return Node(value=entries, mark=both.mark, key=both.key)


def search(
    node: Node, axes: Mapping[str, Axis], metrics: Mapping[str, Metric], problems: Problems
) -> SearchSpec:
    section = Section(node, "search", problems, SEARCH)
    section.required("trials", "objectives", "space")
    objectives = goals(section, metrics)
    space = parameters(section)
    return SearchSpec(
        for_each=for_each(section, axes),
        storage=storage(section),
        sampler=sampler(section),
        trials=section.whole("trials", 1),
        parallel=section.whole("parallel", 1),
        objectives=objectives,
        constraints=constraints(section, metrics),
        space=space,
        enqueue=enqueued(section, space),
        prune=prune(section, objectives, metrics),
        promote=promote(section, axes),
        mark=node.place,
    )


def study_axes(search: SearchSpec, axes: Mapping[str, Axis]) -> dict[str, Axis]:
    """The axes on which what a search promoted lies: those of its studies, the configurations,
    of which the file's own is known before, and the seeds."""
    found = {name: axes[name] for name in search.for_each if name in axes}
    own = Level(label=BASELINE, set={}, mark=search.mark)
    found[CONFIGURATION] = Axis(name=CONFIGURATION, levels=(own,), mark=search.mark)
    if search.promote:
        levels = (
            Level(label=str(seed), set={"seed": Setting(value=seed)})
            for seed in search.promote.seeds
        )
        found["seed"] = Axis(name="seed", levels=tuple(levels), plain=True)
    return found


def check_searched(search: SearchSpec, design: Design, given: Settings, problems: Problems) -> None:
    """A key that is searched is written by nothing that stands over the search."""
    searched = {key: Setting(value=None, mark=it.mark) for key, it in search.space.items()}
    levels = [
        (axis.name, level.set) for axis in design.axes for level in (*axis.levels, *axis.added)
    ]
    check_sections([design.base, *(some for _, some in levels), searched, given], problems)
    for axis, written_ in levels:
        for key in searched.keys() & written_.keys():
            problems.refuse(
                written_[key].mark,
                f"axis {axis!r} writes {key!r}, which is searched "
                f"({line_of(searched[key].mark)}): one or the other",
                key,
            )
    for key in searched.keys() & given.keys():
        problems.refuse(None, f"--set {key}: it is searched; set a key that is not", key)
    if taken := [axis for axis in design.axes if axis.name == CONFIGURATION]:
        said = f"axis {CONFIGURATION!r} is that of what the search finds: give this another name"
        problems.refuse(taken[0].mark, said, CONFIGURATION)
    for point in design.include:
        problems.refuse(
            point.mark, "a search has a study for each point of the cross: no 'include'", "include"
        )


# ---- metrics


def metric_of(section: Section, metrics: Mapping[str, Metric]) -> str:
    """The name of a metric under `metric`, or a result key, which has a / in it."""
    return key_of(section, "metric", metrics) or ""


def key_of(section: Section, key: str, metrics: Mapping[str, Metric]) -> str | None:
    """A metric or result key that a search may look at."""
    node = section.entries.get(key)
    if node is None:
        return None
    if not isinstance(node.value, str) or not node.value:
        section.wrong(key, "the name of a metric or a result key")
        return None
    if fault := fault_in_metric(node.value, metrics):
        section.refuse(node.mark, f"{section.called(key)}: {fault}", key)
        return None
    return node.value


def fault_in_metric(name: str, metrics: Mapping[str, Metric]) -> str | None:
    if name not in metrics and not ("/" in name and RESULT_KEY.fits(name)):
        return unknown("metric or result key", name, metrics)
    metric = metrics.get(name)
    sources = [metric.source, metric.fallback or ""] if metric else [name]
    if found := [source for source in sources if source.startswith(TEST)]:
        is_of = f"{name!r} is" if found[0] == name else f"{name!r} is {found[0]!r},"
        instead = f"valid/{found[0].removeprefix(TEST)}"
        return (
            f"{is_of} of the test split, which is scored once, after promotion; "
            f"search by one of the validation split, such as {instead}"
        )
    if metric and metric.fallback:
        return (
            f"{name!r} has 'or: {metric.fallback}', another quantity; a search compares one: "
            f"say {metric.source}"
        )
    return None


def source_of(name: str, metrics: Mapping[str, Metric]) -> str:
    return metrics[name].source if name in metrics else name


def goals(section: Section, metrics: Mapping[str, Metric]) -> tuple[Objective, ...]:
    found: list[Objective] = []
    for inner in sections(section, "objectives", OBJECTIVE):
        inner.required(*OBJECTIVE)
        metric = metric_of(inner, metrics)
        if metric and source_of(metric, metrics) in [source_of(it.metric, metrics) for it in found]:
            inner.refuse(inner.entries["metric"].mark, f"{metric!r} is an objective twice")
        found.append(
            Objective(
                metric=metric,
                goal=inner.choice("goal", GOALS, "min"),
                mark=inner.places("metric").get("metric"),
            )
        )
    return tuple(found)


def constraints(section: Section, metrics: Mapping[str, Metric]) -> tuple[Condition, ...]:
    """Comparisons of metrics with numbers and with each other, joined by and, or, not."""

    def faults(leaf: Binary) -> Iterator[str]:
        names = [node for node in walk(leaf) if isinstance(node, Name)]
        for name in names:
            if fault := fault_in_metric(name.name, metrics):
                yield at(name, fault)
        for value in (node for node in walk(leaf) if isinstance(node, Value)):
            if type(value.value) not in (int, float):
                said = value_written(value.value)
                yield at(value, f"a metric is compared with numbers, not with {said}")
        if not names:
            yield at(leaf, f"no metric in {quoted(written(leaf))}: it says nothing of a trial")

    if (node := section.entries.get("constraints")) is None:
        return ()
    if not node.is_list:
        section.wrong("constraints", "a list of conditions, such as 'valid/kl >= 0.5'")
        return ()
    if not few(section, "constraints"):
        return ()
    found = []
    for item in node.value:
        if read := condition_of(item, "search.constraints", faults, section.problems):
            found.append(read)
    return tuple(found)


# ---- studies, storage and sampler


def for_each(section: Section, axes: Mapping[str, Axis]) -> tuple[str, ...]:
    found = section.names("for_each", "axis", axes)
    node = section.entries.get("for_each")
    said = node.value if node and node.is_list else [node] if node else []
    if len(found) == len(said):  # else something is misspelt, and not also forgotten
        for axis in axes:
            if axis not in found:
                section.refuse(
                    section.node.place,
                    f"search does not say what to do with axis {axis!r}: put it in for_each, "
                    "for a study at each of its levels, or do not take it",
                    axis,
                )
    return found


def storage(section: Section) -> str | None:
    """An URL is not said again in messages: there may be a password in it."""
    node = section.entries.get("storage")
    if node is None:
        return None
    text = node.value
    if not isinstance(text, str) or not is_storage(text):
        hint = f"search.storage must be {STORAGES}"
        if isinstance(text, str) and has_password(text):
            hint = "search.storage has a password in it; write env:NAME, and the URL in that "
            hint += "variable"
        section.refuse(node.mark, hint, "storage")
        return None
    return text


def is_storage(text: str) -> bool:
    if ENVIRONMENT.fits(text) or SQLITE.fits(text):
        return True
    try:
        url = urlsplit(text)
        named = url.hostname and url.path.strip("/") and (url.port is None or url.port > 0)
    except ValueError:  # an address or a port that is none
        return False
    return url.scheme == POSTGRESQL and bool(named) and not has_password(text)


def has_password(text: str) -> bool:
    try:
        url = urlsplit(text)
        return bool(url.password) or "password" in parse_qs(url.query)
    except ValueError:
        return "@" in text


def sampler(section: Section) -> Sampler:
    node = section.entries.get("sampler")
    if node is None:
        return Sampler()
    if not node.is_mapping:
        section.wrong("sampler", "{name, and its arguments}")
        return Sampler()
    name, arguments = Sampler().name, {}
    for key, child in node.value.items():
        if key == "name":
            if child.text not in SAMPLERS and not PART.fits(child.value):
                said = unknown("sampler", label_of(child), SAMPLERS)
                section.refuse(child.mark, f"{said}, or {PART.words}", key)
            else:
                name = child.text
        elif not ARGUMENT.fits(key):
            section.refuse(child.place, f"search.sampler: {quoted(key)} is no {ARGUMENT.words}")
        elif child.is_list or child.is_mapping:
            section.refuse(
                child.mark, f"search.sampler.{key} must be text, a number or a truth", key
            )
        else:
            arguments[key] = child.value
    return Sampler(name=name, arguments=arguments)


# ---- what ends early, and what goes on


def prune(
    section: Section, objectives: Sequence[Objective], metrics: Mapping[str, Metric]
) -> Prune | None:
    if "prune" not in section:
        return None
    inner = Section(section.entries["prune"], "search.prune", section.problems, PRUNE)
    inner.required("rule", "metric", "grace", "factor")
    metric = metric_of(inner, metrics)
    known = {source_of(it.metric, metrics): it.goal for it in objectives}
    wanted = known.get(source_of(metric, metrics))
    goal = wanted or (metrics[metric].goal if metric in metrics else None)
    if wanted and inner.choice("goal", GOALS, wanted) != wanted:
        said = f"{metric!r} is an objective, and its goal is {wanted}"
        inner.refuse(inner.entries["goal"].mark, f"search.prune: {said}", "goal")
    return Prune(
        rule=inner.choice("rule", RULES, RULES[0]),
        metric=metric,
        by=key_of(inner, "by", metrics) or UPDATES,
        goal=inner.choice("goal", GOALS, goal or "min"),
        grace=share(inner, "grace"),
        factor=inner.whole("factor", 2, least=2),
        settled=key_of(inner, "settled", metrics),
        places=inner.places("metric", "by", "settled"),
    )


def share(section: Section, key: str) -> float:
    """ "20%" -> 0.2"""
    node = section.entries.get(key)
    if node is None:
        return 1.0
    found = re.fullmatch(SHARE.pattern, node.text) if isinstance(node.value, str) else None
    if not found or not 0 < float(found[1]) < 100:
        section.wrong(key, f"{SHARE.words}, above 0% and below 100%")
        return 1.0
    return float(Fraction(found[1]) / 100)


def promote(section: Section, axes: Mapping[str, Axis]) -> Promote | None:
    if "promote" not in section:
        return None
    inner = Section(section.entries["promote"], "search.promote", section.problems, PROMOTE)
    inner.required("seeds")
    front, top = inner.truth("front", True), inner.whole("top")
    if not front and "top" not in inner:
        inner.refuse(
            inner.node.place,
            "search.promote says of no trial that it goes on: front: true, or top",
        )
    if seeded := seeded_by(axes):
        inner.refuse(
            inner.node.place,
            f"promote.seeds and axis {seeded!r} both say which seeds there are: one or the other",
            "seeds",
        )
    return Promote(
        front=front,
        top=top,
        seeds=seeds(inner),
        score_on=inner.choice("score_on", SPLITS, "test"),
        mark=inner.node.place,
    )


def seeds(section: Section) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for item in items(section, "seeds", "a list of whole numbers"):
        if not is_whole(item.value, 0):
            section.refuse(
                item.mark,
                f"{section.called('seeds')}: a seed is a whole number, 0 or more, not {item.kind}",
            )
        elif item.value in found:
            section.refuse(item.mark, f"{section.called('seeds')}: seed {item.value} is here twice")
        else:
            found[item.value] = None
    return tuple(found)


def seeded_by(axes: Mapping[str, Axis]) -> str | None:
    """The axis that writes the seed, if one does."""
    for name, axis in axes.items():
        if any("seed" in level.set for level in (*axis.levels, *axis.added)):
            return name
    return None
