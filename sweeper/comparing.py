"""The design that a run had and the one that its file says now in; their changes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sweeper.changes import Changes, Edit, Group
from sweeper.snapshot import Snapshot
from sweeper.trial import Key, told

LEVELS = 8  # that are named as what explains something
LISTED = 3  # points that are listed where no level does

Labels = frozenset[tuple[str, str]]  # the (axis, label) pairs of a point
Points = Sequence[tuple[Mapping[str, str], Key]]


def compare(then: Snapshot, now: Snapshot) -> Changes:
    """Trials are told apart by what they are and counted once, whatever their labels."""
    if list(then.axes.items()) == list(now.axes.items()) and then.points == now.points:
        return Changes(since=then)
    axes = edit_of_axes(then, now)
    before = [
        ({axes.renamed.get(axis, axis): label for axis, label in labels.items()}, key)
        for labels, key in then.labelled()
    ]
    after = now.labelled()
    former = {axes.renamed.get(axis, axis): labels for axis, labels in then.axes.items()}
    levels = edits_of_levels(former, now.axes, before, after)
    current = [  # as it was, spelled with the labels of now
        (
            {
                axis: levels[axis].renamed.get(label, label) if axis in levels else label
                for axis, label in labels.items()
            },
            key,
        )
        for labels, key in before
    ]
    keys_then, keys_now = then.keys, now.keys
    gone, come = keys_then - keys_now, keys_now - keys_then
    ids_then = {key.trial_id for key in keys_then}

    # Who stands where somebody stood who is gone: scored otherwise, or another trial.
    leavers: dict[Labels, set[Key]] = {}
    for labels, key in current:
        if key in gone:
            leavers.setdefault(pairs(labels), set()).add(key)
    rescored: dict[Key, None] = {}
    changed: dict[Key, None] = {}
    replaced: set[Key] = set()
    for labels, key in after:
        others = leavers.get(pairs(labels), set()) if key in come else set()
        same = {other for other in others if other.trial_id == key.trial_id}
        if others:
            (rescored if same else changed)[key] = None
            replaced |= same or others
    new = [key for key in dict.fromkeys(k for _, k in after) if key in come]
    new = [key for key in new if key not in rescored and key not in changed]
    removed = gone - replaced

    stay = keys_then & keys_now
    kept = {axis: label for axis in axes.added if (label := level_of_all(axis, after, stay))}
    left = {axis: label for axis in axes.removed if (label := level_of_all(axis, before, stay))}
    fresh = [(axis, label) for axis, edit in levels.items() for label in edit.added]
    fresh += [(axis, label) for axis in kept for label in now.axes[axis] if label != kept[axis]]
    lost = [(axis, label) for axis, edit in levels.items() for label in edit.removed]
    lost += [(axis, label) for axis in left for label in then.axes[axis] if label != left[axis]]
    places = {pairs(labels) for labels, _ in current}
    both = [(labels, key) for labels, key in after if pairs(labels) in places]
    renamed, moved, again, less = relabelled(before, current, after, stay, axes)
    names = {(axis, new) for axis, edit in levels.items() for new in edit.renamed.values()}
    renamed |= {key for labels, key in after if key in rescored and names & labels.items()}
    return Changes(
        since=then,
        axes=axes,
        levels=levels,
        new=group(after, set(new), fresh),
        trained=sum(key.trial_id in ids_then for key in new),
        changed=group(both, changed.keys() - rescored.keys()),
        rescored=group(both, rescored.keys()),
        removed=group(before, removed, lost),
        renamed=Group(count=len(renamed), of=spelled_renamings(levels)) if renamed else Group(),
        moved=moved,
        again=group(after, again, fresh, of_keys=False),
        less=group(before, less, lost, of_keys=False),
        kept=kept | left,
        idle=idle(after, fresh),
        was_idle=idle(before, lost),
    )


def pairs(labels: Mapping[str, str]) -> Labels:
    return frozenset(labels.items())


# ---- names


def edit_of_axes(then: Snapshot, now: Snapshot) -> Edit:
    """An axis is renamed if another name divides the trials of both designs in the same way
    into two or more, or has the same labels."""
    removed = [axis for axis in then.axes if axis not in now.axes]
    added = [axis for axis in now.axes if axis not in then.axes]
    before, after = then.labelled(), now.labelled()
    mark, common = shared(before, after)
    renamed: dict[str, str] = {}
    for old in removed:
        parts = set(blocks(before, old, mark, common).values())
        for new in added:
            alike = parts == set(blocks(after, new, mark, common).values()) and len(parts) > 1
            same = set(then.axes[old]) == set(now.axes[new])
            if (alike or same) and new not in renamed.values():
                renamed[old] = new
                break
    return edit(list(then.axes), list(now.axes), renamed)


def edits_of_levels(
    then: Mapping[str, Sequence[str]],
    now: Mapping[str, Sequence[str]],
    before: Points,
    after: Points,
) -> dict[str, Edit]:
    """By axis, of those whose levels are not what they were. A level is renamed if another
    label has its trials, those of both designs, and it has them no longer itself."""
    mark, common = shared(before, after)
    found = {}
    for axis in (axis for axis in now if axis in then):
        was, has = blocks(before, axis, mark, common), blocks(after, axis, mark, common)
        free: dict[frozenset[Any], list[str]] = {}  # what has new trials, by these
        for label in reversed(now[axis]):
            if label in has and was.get(label) != has[label]:
                free.setdefault(has[label], []).append(label)
        renamed: dict[str, str] = {}
        for old in then[axis]:
            if old in was and was[old] != has.get(old) and free.get(was[old]):
                renamed[old] = free[was[old]].pop()
        if change := edit(then[axis], now[axis], renamed):
            found[axis] = change
    return found


def shared(before: Points, after: Points) -> tuple[Callable[[Key], Any], set[Any]]:
    """By what the trials of two designs are recognised, and those that are in both: their
    keys; where all are scored in another way, their ids."""
    for mark in (lambda key: key, lambda key: key.trial_id):
        if common := {mark(key) for _, key in before} & {mark(key) for _, key in after}:
            return mark, common
    return lambda key: key, set()


def blocks(
    points: Points, axis: str, mark: Callable[[Key], Any], common: Collection[Any]
) -> dict[str, frozenset[Any]]:
    """Label -> the trials under it, of those in `common`; a label without any is left out."""
    found: dict[str, set[Any]] = {}
    for labels, key in points:
        if axis in labels and mark(key) in common:
            found.setdefault(labels[axis], set()).add(mark(key))
    return {label: frozenset(some) for label, some in found.items()}


def edit(then: Sequence[str], now: Sequence[str], renamed: Mapping[str, str]) -> Edit:
    was = dict.fromkeys(renamed.get(name, name) for name in then)
    there = set(now)
    return Edit(
        added=tuple(name for name in now if name not in was),
        removed=tuple(n for n in then if n not in there and n not in renamed),
        renamed=renamed,
        reordered=[n for n in was if n in there] != [n for n in now if n in was],
    )


def spelled_renamings(levels: Mapping[str, Edit]) -> tuple[str, ...]:
    return tuple(
        f"{axis}: {old} -> {new}"
        for axis, edit in levels.items()
        for old, new in edit.renamed.items()
    )


# ---- trials


def relabelled(
    before: Points, current: Points, after: Points, stay: Collection[Key], axes: Edit
) -> tuple[set[Key], Group, list[int], list[int]]:
    """Of the trials in both designs (`stay`): those under a renamed level; those under
    other labels altogether; which points of `after` are a further label of one, and which
    of `before` one less. Axes that came or went are left out: they say nothing new."""
    apart = {*axes.added, *axes.removed}

    def known(points: Points) -> dict[Key, dict[Labels, int]]:
        found: dict[Key, dict[Labels, int]] = {key: {} for key in stay}
        for place, (labels, key) in enumerate(points):
            if key in found:
                rest = {axis: label for axis, label in labels.items() if axis not in apart}
                found[key].setdefault(pairs(rest), place)
        return found

    was, spelled_now, has = known(before), known(current), known(after)
    renamed, moved, again, less = set(), [], [], []
    for key in stay:
        same = spelled_now[key].keys() & has[key].keys()
        more = [place for labels, place in has[key].items() if labels not in same]
        fewer = [place for labels, place in spelled_now[key].items() if labels not in same]
        if not same:
            moved.append((min(more), min(fewer)))
            continue
        again += more
        less += fewer
        if not was[key].keys() & has[key].keys():
            renamed.add(key)
    listed = [f"{told(before[old][0])} -> {told(after[new][0])}" for new, old in sorted(moved)]
    return (
        renamed,
        Group(count=len(listed), of=tuple(listed[:LISTED]), more=max(len(listed) - LISTED, 0)),
        again,
        less,
    )


def group(
    points: Points,
    wanted: Collection[Key] | Collection[int],
    first: Collection[tuple[str, str]] = (),
    *,
    of_keys: bool = True,
) -> Group:
    """Those of `points` that are `wanted`, by their keys or their places: the levels of
    `first` that they have, other levels that are wanted altogether, and the points that
    are left."""
    wanted = set(wanted)
    some = [
        (labels, key)
        for place, (labels, key) in enumerate(points)
        if (key if of_keys else place) in wanted
    ]
    if not some:
        return Group()
    count = len({key for _, key in some})
    there = Counter(pair for labels, _ in points for pair in labels.items())
    here: dict[tuple[str, str], list[int]] = {}
    for place, (labels, _) in enumerate(some):
        for pair in labels.items():
            here.setdefault(pair, []).append(place)
    left = set(range(len(some)))
    said = []
    for pair in (pair for pair in first if not left.isdisjoint(here.get(pair, ()))):
        said.append("=".join(pair))
        left.difference_update(here[pair])
    if left and len(some) == len(points):
        return Group(count=count, of=("all there are",))
    for pair, places in here.items():
        if len(places) == there[pair] and not left.isdisjoint(places):
            said.append("=".join(pair))
            left.difference_update(places)
    rest = [told(some[place][0]) for place in sorted(left)]
    listed = (*said[:LEVELS], *rest[:LISTED])
    return Group(count=count, of=listed, more=len(said) + len(rest) - len(listed))


def idle(points: Points, levels: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Those of `levels` at which no point is."""
    there = {pair for labels, _ in points for pair in labels.items()}
    return tuple(f"{axis}={label}" for axis, label in levels if (axis, label) not in there)


def level_of_all(axis: str, points: Points, stay: Iterable[Key]) -> str | None:
    """The one level of an axis at which every trial in both designs is; None: there is none."""
    found: dict[Key, set[str]] = {}
    for labels, key in points:
        if key in stay:
            found.setdefault(key, set()).update([labels[axis]] if axis in labels else [])
    common = set.intersection(*found.values()) if found else set()
    return common.pop() if len(common) == 1 else None
