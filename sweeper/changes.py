"""The design that a run had and the one that its file says now in; what is different out.

since the run of 2026-11-25 14:02: 12 new (seed=3), 6 removed (model=iVAE; their records stay)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sweeper.spec.sweep import Sweep
from sweeper.trial import Key, Trial

FORMAT = 1  # of a snapshot as JSON; a reader refuses a newer one
LEVELS = 8  # that are named as what explains something
LISTED = 3  # points that are listed where no level does
LINE = 100  # columns up to which all is said in one line

Labels = frozenset[tuple[str, str]]  # the (axis, label) pairs of a point


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The design of a sweep at a time (`at`, seconds since the epoch): its `axes` (name ->
    labels, both in order) and its `points`, each with the labels in the order of the axes
    (None: it is without that axis) and what it is a trial of."""

    sweep: str
    variant: str
    source: str = ""
    at: float = 0.0
    axes: Mapping[str, tuple[str, ...]]
    points: tuple[tuple[tuple[str | None, ...], Key], ...]

    @classmethod
    def of(cls, sweep: Sweep, trials: Sequence[Trial], at: float = 0.0) -> Snapshot:
        """`trials` are those of the whole sweep, in its order."""
        names = [axis.name for axis in sweep.axes]
        return cls(
            sweep=sweep.name,
            variant=sweep.variant,
            source=str(sweep.source),
            at=at,
            axes={axis.name: axis.labels for axis in sweep.axes},
            points=tuple((tuple(map(t.labels.get, names)), t.key) for t in trials),
        )

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset(key for _, key in self.points)

    @property
    def when(self) -> str:
        return datetime.fromtimestamp(self.at).strftime("%Y-%m-%d %H:%M")

    def labelled(self) -> list[tuple[dict[str, str], Key]]:
        """Each point's labels by axis, without the axes that it has not."""
        return [
            ({axis: label for axis, label in zip(self.axes, row, strict=True) if label}, key)
            for row, key in self.points
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "sweep": self.sweep,
            "variant": self.variant,
            "source": self.source,
            "at": self.at,
            "axes": [[name, list(labels)] for name, labels in self.axes.items()],
            "points": [[list(row), *key] for row, key in self.points],
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Snapshot:
        """Raises ValueError, KeyError or TypeError for what is not one that we know."""
        if fields["format"] > FORMAT:
            raise ValueError(f"written by a newer version (format {fields['format']})")
        return cls(
            sweep=fields["sweep"],
            variant=fields["variant"],
            source=fields["source"],
            at=float(fields["at"]),
            axes={name: tuple(labels) for name, labels in fields["axes"]},
            points=tuple((tuple(row), Key(*key)) for row, *key in fields["points"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Trials to which one thing happened: `count` of them, and what they have in common or
    are (`of`: levels, or single points, `more` of which are not listed)."""

    count: int = 0
    of: tuple[str, ...] = ()
    more: int = 0

    def __str__(self) -> str:
        return ", ".join(self.of) + (f" and {self.more} more" if self.more else "")

    def as_json(self) -> dict[str, Any]:
        return {"count": self.count, "of": list(self.of), "more": self.more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What became of names in an order, of axes or of the levels of one: `renamed` is
    old -> new, `reordered` whether those that stay stand in another order."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    reordered: bool = False

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.renamed or self.reordered)

    def as_json(self) -> dict[str, Any]:
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "renamed": dict(self.renamed),
            "reordered": self.reordered,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """From the design of the run at `since` to that of now. `axes` is what became of the
    axes, `levels` of each axis's levels (by its name now). Of trials, by what they are:
    `new` and `removed` ones (of the new, `trained` are there under another evaluation),
    `rescored` (the same training, another evaluation), `changed` (another trial under the
    same labels), `renamed` (the same under a level's other label), `moved` (the same under
    other labels that no renaming explains), `again` and `less` (a further label for it, or
    one less). `kept` says at which level of an added (or removed) axis that is which there
    was (or is left); `idle` and `was_idle` are levels added and removed that no trial has."""

    since: Snapshot
    axes: Edit = Edit()
    levels: Mapping[str, Edit] = field(default_factory=dict)
    new: Group = Group()
    trained: int = 0
    changed: Group = Group()
    rescored: Group = Group()
    removed: Group = Group()
    renamed: Group = Group()
    moved: Group = Group()
    again: Group = Group()
    less: Group = Group()
    kept: Mapping[str, str] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    was_idle: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.parts())

    def parts(self) -> list[str]:
        """One for each thing that explains some of it."""
        said = [
            *(f"axis {axis} added{self.where(axis, 'what there was')}" for axis in self.axes.added),
            *(
                f"axis {axis} removed{self.where(axis, 'what is left')}"
                for axis in self.axes.removed
            ),
            *(f"axis {old} renamed to {new}" for old, new in self.axes.renamed.items()),
        ]
        if self.new.count:
            trained = "" if self.trained < self.new.count else ", to be scored only"
            some = f"; {self.trained} of them are trained"
            trained = some if 0 < self.trained < self.new.count else trained
            said.append(f"{self.new.count} new ({self.new}){trained}")
        if self.changed.count:
            said.append(
                f"{self.changed.count} changed ({self.changed}; other trials under these labels)"
            )
        if self.rescored.count:
            said.append(f"{self.rescored.count} scored in another way ({self.rescored})")
        if self.removed.count:
            said.append(f"{self.removed.count} removed ({self.removed}; their records stay)")
        if self.renamed.count:
            said.append(f"{self.renamed.count} renamed ({self.renamed})")
        if self.moved.count:
            said.append(f"{self.moved.count} under other labels ({self.moved})")
        if self.again.count:
            said.append(f"{self.again.count} under one more label ({self.again})")
        if self.less.count:
            said.append(f"{self.less.count} under one label less ({self.less})")
        said += [f"order of {axis} changed" for axis, edit in self.levels.items() if edit.reordered]
        if self.axes.reordered:
            said.append("order of axes changed")
        said += [f"level {level} added, without a trial" for level in self.idle]
        said += [f"level {level} removed, which had no trial" for level in self.was_idle]
        return said

    def where(self, axis: str, what: str) -> str:
        return f" ({what} is at {axis}={self.kept[axis]})" if axis in self.kept else ""

    def lines(self) -> list[str]:
        parts = self.parts()
        if not parts:
            return [f"the same as in the run of {self.since.when}"]
        head = f"since the run of {self.since.when}: "
        whole = head + ", ".join(parts)
        return [whole] if len(whole) <= LINE else [head.rstrip(), *(f"  {part}" for part in parts)]

    def as_json(self) -> dict[str, Any]:
        groups = ("changed", "rescored", "removed", "renamed", "moved", "again", "less")
        return {
            "since": datetime.fromtimestamp(self.since.at, UTC).isoformat(timespec="seconds"),
            "source": self.since.source,
            "same": not self,
            "axes": self.axes.as_json() | {"kept": dict(self.kept)},
            "levels": {axis: edit.as_json() for axis, edit in self.levels.items()},
            "new": self.new.as_json() | {"trained": self.trained},
            **{name: getattr(self, name).as_json() for name in groups},
        }


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


def spelled(labels: Mapping[str, str]) -> str:
    return " ".join(f"{axis}={label}" for axis, label in labels.items())


Points = Sequence[tuple[Mapping[str, str], Key]]


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
    listed = [
        f"{spelled(before[old][0])} -> {spelled(after[new][0])}" for new, old in sorted(moved)
    ]
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
    rest = [spelled(some[place][0]) for place in sorted(left)]
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
