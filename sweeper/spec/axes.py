"""The `axes:` of a file's layers in; the axes of its design out.

model: {Plain: {}, Max: {pooling: max}}        levels, in one of the forms of levels.py
kl.cycles: {values: [2, 4], when: "kl.schedule == 'cyclical'"}    absent elsewhere
model: {only: [Max]}                           levels of the axis as it was before
model: {also: {Max: {optim.lr: 1e-3}}}         further settings over levels it had before
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from sweeper.errors import SpecError, quoted, unknown
from sweeper.spec.conditions import condition
from sweeper.spec.layers import Layer, nodes
from sweeper.spec.levels import FORMS, LONG, is_plain, levels
from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.section import MAX_NAMES, Section, check_names
from sweeper.spec.settings import settings
from sweeper.spec.sweep import Axis, Condition, Settings

CHANGES = ("only", "also")


def axes(
    written: Iterable[Node],
    problems: Problems,
    before: tuple[Axis, ...] = (),
    *,
    profile: str | None = None,
    labels: Mapping[str, Collection[str]],
) -> tuple[Axis, ...]:
    """The axes after each layer's. An axis named again is replaced where it stands, or with
    `only` reduced to some of its levels, in that order, or with `also` kept, with further
    settings in some of its levels. A `when` stays unless another is written. `labels` (see
    labels_written) are those that `also` may name: where one is not in the design, as a file
    has left it out that a profile was taken into, it goes without its settings, too. A profile
    adds no axis: the tables would not know where to put it."""
    found = {axis.name: axis for axis in before}
    for layer in written:
        if not layer.is_mapping:
            problems.refuse(layer.mark, f"axes must be a mapping, not {layer.kind}")
            continue
        check_names(layer.value, "axis", problems)
        for name, node in layer.value.items():
            if profile and name not in found:
                where = f" in profiles.{profile}"
                problems.refuse(node.place, unknown("axis", name, found, where))
                continue
            if changes(node):
                axis = changed(name, node, found, labels.get(name, ()), problems)
            else:
                axis = Axis(
                    name=name,
                    levels=levels(name, node, problems),
                    when=when(name, node, problems) or kept(name, node, found),
                    plain=is_plain(node),
                    mark=node.place,
                )
            if axis:
                found[name] = axis
            if len(found) > MAX_NAMES:
                problems.stop(node.place, f"with what is imported, more than {MAX_NAMES} axes")
    return tuple(found.values())


def changes(node: Node) -> bool:
    """Whether an axis's entry changes the axis as it was, and does not replace it."""
    return node.is_mapping and any(key in node.value for key in CHANGES)


def changed(
    name: str,
    node: Node,
    found: dict[str, Axis],
    labels: Collection[str],
    problems: Problems,
) -> Axis | None:
    section = Section(node, f"axes.{name}", problems, (*CHANGES, "when"))
    if name not in found:
        missing = unknown("axis", name, found)
        does = "'only' selects" if "only" in section else "'also' adds to"
        problems.refuse(node.place, f"{does} levels of an axis there is: {missing}")
        return None
    problems.count(len(found[name].levels), node.place)
    known = {level.label: level for level in found[name].levels}
    if "only" in section:
        chosen = section.names("only", "level", known)
        if not chosen:
            section.refuse(node.place, f"axes.{name}: 'only' leaves no level")
            return found[name]
        known = {label: known[label] for label in chosen}
        labels = chosen  # Who selects levels knows which there are.
    for label, child in section.each("also").items():
        further = further_settings(label, child, problems)
        if found[name].plain and name in further:
            said = f"{name!r} is what the label {quoted(label)} says; replace the axis to change it"
            section.refuse(further[name].mark, said, name)
        elif label in known:
            known[label] = replace(known[label], set={**known[label].set, **further})
        elif label not in labels:
            where = f" in axes.{name}.also"
            section.refuse(child.place, unknown("level", label, labels, where), label)
    return replace(
        found[name],
        levels=tuple(known.values()),
        when=when(name, node, problems) or found[name].when,
        mark=node.place,
    )


def when(name: str, node: Node, problems: Problems) -> Condition | None:
    """The condition of an axis. In a mapping of labels `when` would be one of them: an axis
    that has a condition says its levels in another form."""
    said = node.value.get("when") if node.is_mapping else None
    if said is None:
        return None
    if not changes(node) and not any(form in node.value for form in FORMS):
        problems.refuse(
            said.place,
            f"axes.{name}: beside 'when' the levels stand under 'levels' (or 'values')",
            "when",
        )
        return None
    return condition(said, f"axes.{name}.when", problems)


def kept(name: str, node: Node, found: dict[str, Axis]) -> Condition | None:
    """The `when` of the axis that is replaced."""
    says = node.is_mapping and "when" in node.value
    return found[name].when if name in found and not says else None


def further_settings(label: str, node: Node, problems: Problems) -> Settings:
    """What `also` writes over a level. Its note and its `override` stay as they are."""
    for key in LONG:
        if node.is_mapping and key in node.value:
            wrong = f"'also' takes configuration keys: no {key!r} over level {quoted(label)}"
            problems.refuse(node.value[key].place, wrong, key)
            return {}
    return settings(node, problems)


def labels_written(*groups: Sequence[Layer]) -> dict[str, tuple[str, ...]]:
    """Every label that an axis has in any layer, whether or not it is in the design."""
    found: dict[str, dict[str, None]] = {}
    problems = Problems()  # What is wrong with an axis is said where it itself is read.
    for node in (node for some in groups for node in nodes(some, "axes") if node.is_mapping):
        for name, child in node.value.items():
            labels = found.setdefault(name, {})
            if not changes(child):
                problems.clear()
                with suppress(SpecError):
                    labels.update((level.label, None) for level in levels(name, child, problems))
    return {name: tuple(labels) for name, labels in found.items()}
