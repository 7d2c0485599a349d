"""A trial: a trainer, a complete configuration and a seed in; its identity out.

The id is a digest of what training depends on and of nothing else, so two sweeps that
need the same run share it. Evaluation settings have a digest of their own: changing
them scores a kept checkpoint again instead of training again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

Config = Mapping[str, Any]

ID_CHARACTERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerRef:
    """How a trainer is named in a sweep file: a function ("pkg.module:name" or an entry
    point) or a command line, and optionally the module that types its configuration.
    Where code lies beside the sweep file, `folder` (absolute) is where it is looked for first,
    and `home` is that folder within the project: two scripts that are both called train.py
    are two trainers, wherever the project lies."""

    function: str | None = None
    command: tuple[str, ...] | None = None
    config: str | None = None
    folder: str | None = None
    home: str = ""

    def __post_init__(self) -> None:
        assert (self.function is None) != (self.command is None), (self.function, self.command)

    @property
    def identity(self) -> str | list[str]:
        if self.function is not None:
            return f"{self.home}/{self.function}" if self.home else self.function
        return [f"{self.home}/", *self.command] if self.home else list(self.command)

    @property
    def spelled(self) -> str:
        return spelled_identity(self)


class Key(NamedTuple):
    """What one record is of: a trial, trained once, as one evaluation scores it."""

    trial_id: str
    evaluation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One point of a design. `config` is effective: defaults filled, inert keys dropped,
    nested as the trainer reads it, without evaluation-only settings, which are in
    `evaluation`. `labels` (axis -> label) says where in a sweep it stands and is no part
    of its identity; two points of a sweep may be one trial."""

    trainer: TrainerRef
    config: Config
    evaluation: Config = field(default_factory=dict)
    seed: int
    data_digest: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    id: str = field(init=False)
    evaluation_id: str = field(init=False)
    key: Key = field(init=False)

    def __post_init__(self) -> None:
        parts = (self.trainer.spelled, spelled(self.config), self.seed, spelled(self.data_digest))
        object.__setattr__(self, "id", hashed("[{},{},{},{}]".format(*parts)))
        object.__setattr__(self, "evaluation_id", digest(self.evaluation))
        object.__setattr__(self, "key", Key(self.id, self.evaluation_id))

    @property
    def full_config(self) -> dict[str, Any]:
        """What the trainer is given: training and evaluation settings, nested together."""
        return merge(self.config, self.evaluation)


def told(labels: Mapping[str, str]) -> str:
    """ "model=MaxPool seed=0" """
    return " ".join(f"{axis}={label}" for axis, label in labels.items())


def title(trial: Trial) -> str:
    """ "MaxPool · Topics · seed 0" """
    labels = [label for axis, label in trial.labels.items() if axis != "seed"]
    return " · ".join([*labels, f"seed {trial.seed}"])


class Shared(dict):
    """A configuration that many trials have, which differ in their seed: spelled once."""

    __slots__ = ("_digest", "_spelled")

    @property
    def spelled(self) -> str:
        if not hasattr(self, "_spelled"):
            self._spelled = ENCODER.encode(canonical(self))
        return self._spelled

    @property
    def digest(self) -> str:
        if not hasattr(self, "_digest"):
            self._digest = hashed(self.spelled)
        return self._digest


def digest(value: Any) -> str:
    """First 16 hex characters of the SHA-256 of the canonical JSON of `value`.

    Key order and spelling do not matter (1.0 and 1 are one number); NaN is refused."""
    return value.digest if isinstance(value, Shared) else hashed(spelled(value))


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:ID_CHARACTERS]


@cache
def spelled_identity(trainer: TrainerRef) -> str:
    return spelled(trainer.identity)


def spelled(value: Any) -> str:
    if isinstance(value, Shared):
        return value.spelled
    return ENCODER.encode(canonical(value))


ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
)


def canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def merge(low: Config, high: Config) -> dict[str, Any]:
    """`high` over `low`, mappings merged key by key, everything else replaced."""
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def flatten(config: Config, prefix: str = "") -> dict[str, Any]:
    """{"kl": {"start": 0.1}} -> {"kl.start": 0.1}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"kl.start": 0.1} -> {"kl": {"start": 0.1}}."""
    config: dict[str, Any] = {}
    for dotted, value in flat.items():
        *parents, leaf = dotted.split(".")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return config
