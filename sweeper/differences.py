"""Trials in; in what two of them differ, which is nearest to one, and where each value of its
configuration was written, out.

Two trials are one if their trainer, effective configuration, seed and data are the same. A
difference in evaluation settings alone is the same training, scored in another way.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.spec.sweep import Setting, Settings
from sweeper.trial import Trial, canonical, flatten


class Absent:
    """The value of a key that is not there, which null is not."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()
EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """`part` is trainer, configuration, seed, data or evaluation; `key` a dotted key of it,
    or what it is called. A value is ABSENT where the key is not there."""

    part: str
    key: str
    one: Any
    other: Any

    def as_json(self) -> dict[str, Any]:
        """An absent value is left out."""
        values = {"one": self.one, "other": self.other}
        there = {name: value for name, value in values.items() if value is not ABSENT}
        return {"part": self.part, "key": self.key, **there}


def differences(one: Trial, other: Trial) -> tuple[Difference, ...]:
    """Those that make them two trials first, those of their evaluation last."""
    return (
        *apart("trainer", whole("trainer", one), whole("trainer", other)),
        *apart("configuration", flatten(one.config), flatten(other.config)),
        *apart("seed", whole("seed", one), whole("seed", other)),
        *apart("data", whole("data digest", one), whole("data digest", other)),
        *apart(EVALUATION, flatten(one.evaluation), flatten(other.evaluation)),
    )


def of_training(found: Iterable[Difference]) -> tuple[Difference, ...]:
    return tuple(difference for difference in found if difference.part != EVALUATION)


def nearest(trial: Trial, others: Iterable[Trial]) -> list[Trial]:
    """`others`, the nearest first. As where costs are estimated, one of another trainer is
    farther than any of the same, then each setting counts one; what tells trials of one
    configuration apart, their seed and data, comes last."""

    def apart(other: Trial) -> tuple[int, int, int]:
        parts = Counter(difference.part for difference in differences(trial, other))
        return parts["trainer"], parts["configuration"], parts["seed"] + parts["data"]

    return sorted(others, key=apart)


def apart(part: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Difference]:
    for key in dict.fromkeys([*one, *other]):
        values = one.get(key, ABSENT), other.get(key, ABSENT)
        if same(*values):
            continue
        yield Difference(part=part, key=key, one=values[0], other=values[1])


def same(one: Any, other: Any) -> bool:
    """As identity has it: 1 and 1.0 are one number, 1 and true are not."""
    if one is ABSENT or other is ABSENT:
        return one is other
    return spelled(canonical(one)) == spelled(canonical(other))


def whole(key: str, trial: Trial) -> dict[str, Any]:
    values = {
        "trainer": trial.trainer.identity,
        "seed": trial.seed,
        "data digest": trial.data_digest,
    }
    return {key: values[key]} if values[key] is not None else {}


def spelled(value: Any) -> str:
    """Text as it is, everything else as JSON has it."""
    if value is ABSENT:
        return "absent"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


# ---- where values come from


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One key of a configuration, and who says so: `place` is "file:line", "--set", or
    "default" where the trainer's module filled it in (None: not known). `written` is what
    was written there, if the module made something else of it."""

    key: str
    value: Any
    place: str | None = None
    written: Any = ABSENT

    def as_json(self) -> dict[str, Any]:
        there = {} if self.written is ABSENT else {"written": self.written}
        return {"key": self.key, "value": self.value, "place": self.place, **there}


def explained(config: Mapping[str, Any], settings: Settings) -> tuple[Value, ...]:
    """Each key of an effective configuration, by what a point of the design has written."""
    found = []
    for key, value in flatten(config).items():
        written = nearest_written(key, settings)
        if written is None:
            found.append(Value(key=key, value=value, place="default"))
            continue
        setting = settings[written]
        differs = written == key and not same(setting.value, value)
        found.append(
            Value(
                key=key,
                value=value,
                place=place(setting),
                written=setting.value if differs else ABSENT,
            )
        )
    return tuple(found)


def dropped(config: Mapping[str, Any], settings: Settings) -> tuple[Value, ...]:
    """What was written and is not in the effective configuration: it changes nothing here."""
    effective = flatten(config)
    used = {nearest_written(key, settings) for key in effective} | {"seed"}
    return tuple(
        Value(key=key, value=setting.value, place=place(setting))
        for key, setting in settings.items()
        if key not in used and not any(key.startswith(f"{there}.") for there in effective)
    )


def nearest_written(key: str, settings: Settings) -> str | None:
    """The key itself, or the section that it is in, if that was written as one value."""
    while key:
        if key in settings:
            return key
        key = key.rpartition(".")[0]
    return None


def place(setting: Setting) -> str:
    return f"{setting.mark.source}:{setting.mark.line}" if setting.mark else "--set"
