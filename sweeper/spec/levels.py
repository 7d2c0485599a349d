"""An axis's entry as a sweep file says it in; its levels out.

pooling: [last, avg, max]                            a list: the axis's name is the key
kl.start: {values: [0.1, 0.2]}                       the same, where `when` has to go with it
seed: {range: [0, 4]}                                0 1 2 3 4, or {range: [0, 1, 0.25]} in steps
optim.lr: {logspace: [1e-4, 1e-1, 4]}                4 values between the two, evenly by logarithm
kl.start: {linspace: [0, 1, 5]}                      5 values between the two, evenly
lr: {zip: {optim.lr: [1.0, 0.5], optim.decay: [0.5, 0.7]}}   keys that move together
model: {Plain: {}, Max: {pooling: max}}              label: configuration
model: {levels: {Plain: {}}, when: ...}              the same, where `when` has to go with it
model: {Max: {set: {pooling: max}, note: ...}}       label: the long form, see LONG
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches

from sweeper.errors import Mark, quoted
from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.section import UNSHOWN, Section, label_of
from sweeper.spec.settings import differ, fault_in_key, line_of, settings
from sweeper.spec.sweep import Level, Setting
from sweeper.spec.trainers import trainer

NUMBERS = ("values", "range", "linspace", "logspace")  # levels that are values of one key
FORMS = (*NUMBERS, "zip", "levels")  # one of them says the levels of an axis
LONG = ("set", "note", "override", "trainer")

MAX_LABEL = 200
MAX_LEVELS = 20_000
DIGITS = 12  # of what is computed; more would be the noise of floating point


def levels(name: str, node: Node, problems: Problems) -> tuple[Level, ...]:
    """Those of the axis `name`; none, and a problem, where nothing can be read."""
    if node.is_mapping and any(form in node.value for form in FORMS):
        found = formed(name, node, problems)
    elif node.is_list:
        found = listed(name, node, problems)
    elif node.is_mapping:
        entries = {label: child for label, child in node.value.items() if label != "when"}
        found = [labelled(name, label, child, problems) for label, child in entries.items()]
    else:
        problems.refuse(
            node.mark, f"axes.{name} must be a list or a mapping of levels, not {node.kind}"
        )
        return ()
    if not found and not node.value:
        problems.refuse(node.mark, f"axis {name!r} has no levels")
    check_labels(name, found, problems, plain=is_plain(node))
    return tuple(found)


def is_plain(node: Node) -> bool:
    """Whether the levels of an axis are values of the key that it is named by."""
    return node.is_list or (node.is_mapping and any(form in node.value for form in NUMBERS))


def formed(name: str, node: Node, problems: Problems) -> list[Level]:
    """The long form of an axis, one of FORMS beside what else it says."""
    section = Section(node, f"axes.{name}", problems, (*FORMS, "when"))
    said = [form for form in FORMS if form in section]
    if len(said) > 1:
        first, second = said[:2]
        section.refuse(
            section.entries[second].place,
            f"axes.{name} says its levels by {first!r} and by {second!r}; one is enough",
        )
        return []
    return READ[said[0]](name, section, problems)


# ---- values of one key


def listed(name: str, node: Node, problems: Problems) -> list[Level]:
    found = [level for item in node.value if (level := of_value(name, item, problems))]
    check_values(name, found, problems)
    return found


def of_value(name: str, item: Node, problems: Problems) -> Level | None:
    if item.is_list or item.is_mapping:
        problems.refuse(
            item.mark,
            f"a level of {name!r} in a list is one value; write 'label: {{key: value}}' for more",
        )
        return None
    return single(name, item.value, label_of(item), item.mark)


def single(name: str, value: object, label: str, mark: Mark) -> Level:
    return Level(label=label, set={name: Setting(value=value, mark=mark)}, mark=mark)


def values(name: str, section: Section, problems: Problems) -> list[Level]:
    node = section.entries["values"]
    if not node.is_list:
        section.wrong("values", "a list of values")
        return []
    if not node.value:
        problems.refuse(node.mark, f"axis {name!r} has no levels")
    return listed(name, node, problems)


def in_range(name: str, section: Section, problems: Problems) -> list[Level]:
    """Both ends are among the values."""
    numbers = numbers_of(section, "range", (2, 3), "[from, to] or [from, to, step]")
    if numbers is None:
        return []
    low, high, step = (*numbers, Decimal(1))[:3]
    if step <= 0 or high < low:
        return refused(section, "range", "it goes up, in steps above 0")
    steps = (high - low) / step
    if steps >= MAX_LEVELS:
        return too_many(section, "range", int(steps) + 1)
    if steps != steps.to_integral_value():
        said = f"from {low:f} to {high:f} is no whole number of steps of {step:f}"
        return refused(section, "range", said)
    count = int(steps) + 1
    return numbered(name, section, "range", count, (low + n * step for n in range(count)))


def evenly(name: str, section: Section, problems: Problems) -> list[Level]:
    found = spaced(name, section, "linspace")
    if found is None:
        return []
    low, high, count = found
    between = (low + (high - low) * n / (count - 1) for n in range(count))
    return numbered(name, section, "linspace", count, between)


def evenly_by_logarithm(name: str, section: Section, problems: Problems) -> list[Level]:
    found = spaced(name, section, "logspace")
    if found is None:
        return []
    low, high, count = found
    if low <= 0 or high <= 0:
        return refused(section, "logspace", "both ends must be above 0")
    shares = (n / (count - 1) for n in range(count))
    between = (float(low) ** (1 - share) * float(high) ** share for share in shares)
    return numbered(name, section, "logspace", count, (Decimal(repr(value)) for value in between))


def spaced(name: str, section: Section, form: str) -> tuple[Decimal, Decimal, int] | None:
    """[from, to, how many], both ends among them."""
    numbers = numbers_of(section, form, (3,), "[from, to, how many]")
    if numbers is None:
        return None
    low, high, count = numbers
    if low == high or count < 2 or count != count.to_integral_value():
        refused(section, form, "two different ends, and how many values there are: 2 or more")
        return None
    if count > MAX_LEVELS:
        too_many(section, form, int(count))
        return None
    return low, high, int(count)


def numbers_of(
    section: Section, form: str, lengths: tuple[int, ...], what: str
) -> list[Decimal] | None:
    node = section.entries[form]
    plain = node.is_list and all(type(item.value) in (int, float) for item in node.value)
    if not plain or len(node.value) not in lengths:
        section.wrong(form, what)
        return None
    return [Decimal(repr(item.value)) for item in node.value]  # 1e-999999 is 0.


def numbered(
    name: str, section: Section, form: str, count: int, numbers: Iterator[Decimal]
) -> list[Level]:
    mark = section.entries[form].mark
    section.problems.count(count, mark)
    found, seen = [], set()
    for number in numbers:
        value = float(f"{number:.{DIGITS}g}")
        whole = value == int(value) and abs(value) < 2**53
        value = int(value) if whole else value
        found.append(single(name, value, f"{value:.{DIGITS}g}", mark))
        seen.add(value)
    if len(seen) < count:
        return refused(section, form, f"{count:,} values between are not apart in {DIGITS} digits")
    return found


def refused(section: Section, form: str, message: str) -> list[Level]:
    section.refuse(section.entries[form].mark, f"{section.called(form)}: {message}", form)
    return []


def too_many(section: Section, form: str, count: int) -> list[Level]:
    said = f"{count:,}" if count < 10**15 else f"{Decimal(count):.0e}"
    return refused(section, form, f"{said} levels are more than {MAX_LEVELS:,}")


# ---- keys that move together


def zipped(name: str, section: Section, problems: Problems) -> list[Level]:
    """Level n has the n-th value of each key; its label is those values."""
    columns = section.each("zip")
    wrong = len(problems)
    for key, node in columns.items():
        if fault := fault_in_key(key):
            problems.refuse(node.place, f"key {quoted(key)} {fault}")
        elif not node.is_list or not node.value:
            problems.refuse(node.mark, f"zip.{key} must be a list of values, not {node.kind}")
        else:
            for item in node.value:
                if item.is_list or item.is_mapping:
                    problems.refuse(item.mark, f"zip.{key} holds single values, not {item.kind}")
    if "zip" in section and not columns and section.entries["zip"].is_mapping:
        problems.refuse(section.entries["zip"].mark, f"axis {name!r} has no levels")
    if len(problems) > wrong or not columns:
        return []
    first, *others = columns.items()
    for key, node in others:
        if len(node.value) != len(first[1].value):
            problems.refuse(
                node.mark,
                f"{key!r} has {len(node.value)} values and {first[0]!r} has "
                f"{len(first[1].value)}: zipped keys move together",
                key,
            )
            return []
    return [
        Level(
            label=", ".join(label_of(item) for item in items),
            set={
                key: Setting(value=item.value, mark=item.mark)
                for key, item in zip(columns, items, strict=True)
            },
            mark=items[0].mark,
        )
        for items in zip(*(node.value for node in columns.values()), strict=True)
    ]


# ---- labels


def in_levels(name: str, section: Section, problems: Problems) -> list[Level]:
    entries = section.each("levels")
    if not entries and section.entries["levels"].is_mapping:
        problems.refuse(section.entries["levels"].mark, f"axis {name!r} has no levels")
    return [labelled(name, label, child, problems) for label, child in entries.items()]


def labelled(name: str, label: str, node: Node, problems: Problems) -> Level:
    place = node.place
    if node.value is not None and not node.is_mapping:
        near = get_close_matches(label, FORMS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        problems.refuse(
            node.mark,
            f"level {quoted(label)} of {name!r} must be a mapping of configuration keys, "
            f"not {node.kind}{hint}",
        )
        return Level(label=label, set={}, mark=place)
    if node.value is None or not any(key in node.value for key in LONG):
        return Level(label=label, set=settings(node, problems), mark=place)
    own = next(key for key in node.value if key in LONG)
    beside = f"; beside {own!r} the configuration stands under 'set'"
    section = Section(node, f"level {quoted(label)}", problems, LONG, hint=beside)
    run_by = section.entries.get("trainer")
    return Level(
        label=label,
        set=settings(section.entries["set"], problems) if "set" in section else {},
        note=section.text("note"),
        override=section.truth("override"),
        trainer=trainer(run_by, problems) if run_by else None,
        trainer_mark=run_by.place if run_by else None,
        mark=place,
    )


# ---- checks


def check_values(name: str, found: list[Level], problems: Problems) -> None:
    """No value twice: 1 and 1.0 are one value, 1 and true are not."""
    seen: dict[tuple[bool, object], Setting] = {}
    for level in found:
        setting = level.set[name]
        value = (isinstance(setting.value, bool), setting.value)
        if (first := seen.setdefault(value, setting)) is not setting:
            problems.refuse(
                setting.mark,
                f"{quoted(setting.value)} is in axis {name!r} twice; "
                f"the first is at {line_of(first.mark)}",
            )


def check_labels(name: str, found: list[Level], problems: Problems, *, plain: bool) -> None:
    seen: dict[str, Level] = {}
    for level in found:
        label = level.label
        if not label.strip() or UNSHOWN.search(label) or len(label) > MAX_LABEL:
            problems.refuse(
                level.mark,
                f"label {quoted(label)} of axis {name!r} must be 1 to {MAX_LABEL} "
                "printable characters",
            )
        elif (other := seen.setdefault(label.casefold(), level)) is not level:
            if other.label != label:
                said = f"differs from {other.label!r} in case only"
            elif plain and not differ(other.set[name].value, level.set[name].value):
                continue  # A value that is there twice: check_values says so.
            else:
                said = f"is there twice; the first is at {line_of(other.mark)}"
            problems.refuse(level.mark, f"label {label!r} of axis {name!r} {said}")


READ: Mapping = {
    "values": values,
    "range": in_range,
    "linspace": evenly,
    "logspace": evenly_by_logarithm,
    "zip": zipped,
    "levels": in_levels,
}
