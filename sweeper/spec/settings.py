"""Partial configurations as a sweep file says them in; dotted keys with value and place out.

`kl.start: 0.1` and `kl: {start: 0.1}` say the same. A list is one value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sweeper.errors import Mark, SpecError, quoted
from sweeper.redaction import HINT, in_items, is_secret, learn, references, remember
from sweeper.spec.files import read_named
from sweeper.spec.loader import MAX_DEPTH, Node, decode, plain, tree
from sweeper.spec.problems import Problems
from sweeper.spec.section import UNSHOWN
from sweeper.spec.sweep import Axis, Setting, Settings

MAX_KEYS = 5000
MAX_LENGTH = 250  # of a key: what MLflow can keep


def settings(node: Node, problems: Problems) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    if node.value is None:  # `base:` with nothing under it
        return found
    if not node.is_mapping:
        problems.refuse(node.mark, f"configuration keys are expected (key: value), not {node.kind}")
        return found
    collect(node, "", found, problems)
    if len(found) > MAX_KEYS:
        problems.stop(node.mark, f"{len(found):,} configuration keys; at most {MAX_KEYS:,}")
    return found


def collect(node: Node, prefix: str, found: dict[str, Setting], problems: Problems) -> None:
    for key, child in node.value.items():
        dotted = f"{prefix}{key}"
        if wrong := fault_in_key(dotted):
            problems.refuse(child.place, f"key {quoted(dotted)} {wrong}")
        elif child.is_mapping:
            collect(child, f"{dotted}.", found, problems)
        elif dotted in found:
            first = found[dotted].mark
            problems.refuse(
                child.place, f"{dotted!r} is here a second time; the first is at {line_of(first)}"
            )
        else:
            found[dotted] = Setting(value=plain(child), mark=child.place)


def fault_in_key(dotted: str) -> str | None:
    parts = dotted.split(".")
    if not all(parts) or UNSHOWN.search(dotted):
        return "has an empty or unprintable part"
    if len(dotted) > MAX_LENGTH:
        return f"has more than {MAX_LENGTH} characters"
    return f"has more than {MAX_DEPTH} parts" if len(parts) > MAX_DEPTH else None


def base_settings(node: Node, problems: Problems) -> dict[str, Setting]:
    """`base:` and a profile's `set:` may also be the path of a file that holds the mapping."""
    if not isinstance(node.value, str):
        return settings(node, problems)
    try:
        return settings(read_named(node), problems)
    except SpecError as error:
        problems.add(*error.problems)
        return {}


def command_line(items: Sequence[str], problems: Problems) -> dict[str, Setting]:
    """["optim.lr=0.1", ...] of the command line; values are read as in a file."""
    found: dict[str, Setting] = {}
    for item in items:
        key, equals, text = item.partition("=")
        key = key.strip()
        if not equals or fault_in_key(key):
            problems.refuse(None, f"--set {quoted(item)}: key=value is expected")
            continue
        if is_secret(key, text):
            learn(text)  # What is wrong with it is said without it.
        try:
            node = tree(decode(text, "--set"), "--set")
        except SpecError as error:
            for problem in error.problems:
                problems.refuse(None, f"--set {item}: {problem.message}", key)
            continue
        if node is None or node.is_mapping:
            problems.refuse(None, f"--set {item}: one value is expected after '='", key)
        elif key in found:
            problems.refuse(None, f"--set {key} is given twice", key)
        else:
            found[key] = Setting(value=plain(node))
    return found


def line_of(mark: Mark | None) -> str:
    return f"{mark.source}:{mark.line}" if mark else "the command line"


# ---- checks over a whole design


def check_secrets(every: Iterable[Settings], problems: Problems) -> None:
    """A secret is named, not written. What is found is not said again in any message, so
    nothing else is looked for; what is named may not be shown either."""
    found = False
    for some in every:
        for key, setting in some.items():
            remember(*references(setting.value))
            if secrets := [*in_items(key, setting.value)]:
                learn(*secrets)
                where = "" if setting.mark else f"--set {key}: "
                problems.refuse(setting.mark, f"{where}{quoted(key)} is a secret; {HINT}", key)
                found = True
    if found:
        problems.raise_any()


def check_sections(every: Iterable[Settings], problems: Problems) -> None:
    """A key cannot be a value in one place and a section in another."""
    values: dict[str, Mark | None] = {}
    for some in every:
        for key, setting in some.items():
            values.setdefault(key, setting.mark)
    for key, mark in values.items():
        parts = key.split(".")
        for depth in range(1, len(parts)):
            section = ".".join(parts[:depth])
            if section in values:
                problems.refuse(
                    values[section],
                    f"{section!r} is a value here and a section at {line_of(mark)}",
                    section,
                )


def check_conflicts(axes: Sequence[Axis], problems: Problems) -> None:
    """Two axes that write different values to one key are an error, unless the level that
    comes later says `override: true`."""
    written: dict[str, tuple[Axis, list[Setting]]] = {}
    check_trainers(axes, problems)
    for axis in axes:
        own: dict[str, list[Setting]] = {}
        for level in axis.levels:
            for key, setting in level.set.items():
                own.setdefault(key, []).append(setting)
                if key not in written or level.override:
                    continue
                other, earlier = written[key]
                if axis.when is not None and other.when is not None:
                    continue  # They may never meet: where they do, is seen at the points.
                clash = next((e for e in earlier if differ(e.value, setting.value)), None)
                if clash is not None:
                    problems.refuse(
                        setting.mark,
                        f"{key!r} is {quoted(setting.value)} here and {quoted(clash.value)} at "
                        f"{line_of(clash.mark)}: axes {axis.name!r} and {other.name!r} both "
                        "write it; say 'override: true' in this level to let it win",
                        key,
                    )
        for key, found in own.items():
            earlier = written[key][1] if key in written else []
            written[key] = (axis, two_that_differ([*earlier, *found]))


def check_trainers(axes: Sequence[Axis], problems: Problems) -> None:
    """Nor may two axes name trainers."""
    first: Axis | None = None
    for axis in axes:
        naming = [level for level in axis.levels if level.trainer]
        for level in naming if first is not None else ():
            if not level.override:
                problems.refuse(
                    level.trainer_mark,
                    f"axes {axis.name!r} and {first.name!r} both name trainers; say "
                    "'override: true' in this level to let it win",
                    "trainer",
                )
        first = first or (axis if naming else None)


def two_that_differ(found: list[Setting]) -> list[Setting]:
    """Whatever differs from any of `found` differs from one of these."""
    other = next((f for f in found if differ(f.value, found[0].value)), None)
    return [found[0], other] if other else found[:1]


def differ(one: object, other: object) -> bool:
    """1 and 1.0 are one value; 1 and true are not."""
    return isinstance(one, bool) != isinstance(other, bool) or one != other


def check_seeds(
    every: Iterable[Settings], axes: Sequence[Axis], given: Settings, problems: Problems
) -> None:
    """Seeds are whole numbers, and no two levels of an axis are one seed."""
    for some in every:
        for key in some:
            if key.startswith("seed."):
                problems.refuse(some[key].mark, f"{key!r}: a seed is one number, no section", key)
        seed = some.get("seed")
        if seed is None:
            continue
        if isinstance(seed.value, bool) or not isinstance(seed.value, int) or seed.value < 0:
            where = "" if seed.mark else "--set seed: "
            problems.refuse(
                seed.mark,
                f"{where}a seed is a whole number, 0 or more, not {quoted(seed.value)}",
                "seed",
            )
    for axis in axes:
        if "seed" in given and sum("seed" in level.set for level in axis.levels) > 1:
            problems.refuse(
                None,
                f"--set seed: axis {axis.name!r} varies it; all its levels would be one run",
                "seed",
            )
