"""The `axes:` of a file's layers in; the axes of its design out.

pooling: [last, avg, max]                      a list: the axis's name is the key
model: {Plain: {}, Max: {pooling: max}}        label: configuration
model: {Max: {set: {pooling: max}, note: ...}} label: configuration, footnote, override
model: {only: [Max]}                           levels of the axis as it was before
model: {also: {Max: {optim.lr: 1e-3}}}         further settings over levels it had before
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from sweeper.errors import quoted, unknown
from sweeper.spec.layers import Layer, nodes
from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.section import UNSHOWN, Section, check_names, label_of
from sweeper.spec.settings import line_of, settings
from sweeper.spec.sweep import Axis, Level, Setting, Settings

LATER = ("values", "zip", "when", "range", "linspace", "logspace")
LONG = ("set", "note", "override")
CHANGES = ("only", "also")

MAX_LABEL = 200


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
    settings in some of its levels. `labels` (see labels_written) are those that `also` may
    name: where one is not in the design, as a file has left it out that a profile was taken
    into, it goes without its settings, too. A profile adds no axis: the tables
    would not know where to put it."""
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
                axis = Axis(name=name, levels=levels(name, node, problems), mark=node.place)
            if axis:
                found[name] = axis
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
    section = Section(node, f"axes.{name}", problems, CHANGES)
    if name not in found:
        missing = unknown("axis", name, found)
        does = "'only' selects" if "only" in section else "'also' adds to"
        problems.refuse(node.place, f"{does} levels of an axis there is: {missing}")
        return None
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
        if label in known:
            known[label] = replace(known[label], set={**known[label].set, **further})
        elif label not in labels:
            where = f" in axes.{name}.also"
            section.refuse(child.place, unknown("level", label, labels, where), label)
    return Axis(name=name, levels=tuple(known.values()), mark=node.place)


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
    for node in (node for some in groups for node in nodes(some, "axes") if node.is_mapping):
        for name, child in node.value.items():
            labels = found.setdefault(name, {})
            if child.is_list:
                labels.update((label_of(item), None) for item in child.value)
            elif child.is_mapping and not changes(child):
                labels.update((label, None) for label in child.value)
    return {name: tuple(labels) for name, labels in found.items()}


def levels(name: str, node: Node, problems: Problems) -> tuple[Level, ...]:
    if node.is_list:
        found = [listed(name, item, problems) for item in node.value]
        check_values(name, found, problems)
    elif node.is_mapping:
        for key in LATER:
            if key in node.value:
                problems.refuse(node.value[key].place, f"{key!r} is not supported yet", key)
        entries = {label: child for label, child in node.value.items() if label not in LATER}
        found = [labelled(name, label, child, problems) for label, child in entries.items()]
        if not entries and node.value:
            return ()
    else:
        problems.refuse(
            node.mark, f"axes.{name} must be a list or a mapping of levels, not {node.kind}"
        )
        return ()
    if not found:
        problems.refuse(node.mark, f"axis {name!r} has no levels")
    check_labels(name, [level for level in found if level], problems)
    return tuple(level for level in found if level)


def listed(name: str, item: Node, problems: Problems) -> Level | None:
    if item.is_list or item.is_mapping:
        problems.refuse(
            item.mark,
            f"a level of {name!r} in a list is one value; write 'label: {{key: value}}' for more",
        )
        return None
    label = label_of(item)
    return Level(label=label, set={name: Setting(value=item.value, mark=item.mark)}, mark=item.mark)


def labelled(name: str, label: str, node: Node, problems: Problems) -> Level:
    place = node.place
    if node.value is not None and not node.is_mapping:
        problems.refuse(
            node.mark,
            f"level {quoted(label)} of {name!r} must be a mapping of configuration keys, "
            f"not {node.kind}",
        )
        return Level(label=label, set={}, mark=place)
    if node.value is None or not any(key in node.value for key in LONG):
        return Level(label=label, set=settings(node, problems), mark=place)
    section = Section(node, f"level {quoted(label)}", problems, LONG)
    return Level(
        label=label,
        set=settings(section.entries["set"], problems) if "set" in section else {},
        note=section.text("note"),
        override=section.truth("override"),
        mark=place,
    )


def check_values(name: str, found: list[Level | None], problems: Problems) -> None:
    """No value twice: 1 and 1.0 are one value, 1 and true are not."""
    seen: dict[tuple[bool, object], Setting] = {}
    for level in found:
        if level is None:
            continue
        setting = level.set[name]
        value = (isinstance(setting.value, bool), setting.value)
        if (first := seen.setdefault(value, setting)) is not setting:
            problems.refuse(
                setting.mark,
                f"{setting.value!r} is in axis {name!r} twice; "
                f"the first is at {line_of(first.mark)}",
            )


def check_labels(name: str, found: list[Level], problems: Problems) -> None:
    seen: dict[str, str] = {}
    for level in found:
        label = level.label
        if not label.strip() or UNSHOWN.search(label) or len(label) > MAX_LABEL:
            problems.refuse(
                level.mark,
                f"label {quoted(label)} of axis {name!r} must be 1 to {MAX_LABEL} "
                "printable characters",
            )
        elif (other := seen.setdefault(label.casefold(), label)) != label:
            problems.refuse(
                level.mark, f"label {label!r} of axis {name!r} differs from {other!r} in case only"
            )
