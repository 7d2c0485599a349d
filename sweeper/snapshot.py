"""A sweep and its trials in; the design as it was at a time, a snapshot, out: as JSON, and back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.errors import NewerFormat
from sweeper.sizes import clock
from sweeper.spec.sweep import Sweep
from sweeper.trial import Key, Trial

FORMAT = 2  # of a snapshot as JSON; a reader refuses a newer one. 1 knows of no search.


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The design of a sweep at a time (`at`, seconds since the epoch): its `axes` (name ->
    labels, both in order) and its `points`, each with the labels in the order of the axes
    (None: it is without that axis) and what it is a trial of. `source` is the absolute path of
    its file: two files may give one name to two sweeps. One that is `begun` was not run as a
    whole: some of its trials were probed, or scored. `tried` is what a search has tried, beside
    what it came to."""

    sweep: str
    variant: str
    source: str = ""
    at: float = 0.0
    begun: bool = False
    axes: Mapping[str, tuple[str, ...]]
    points: tuple[tuple[tuple[str | None, ...], Key], ...]
    tried: tuple[Key, ...] = ()

    @classmethod
    def of(
        cls,
        sweep: Sweep,
        trials: Sequence[Trial],
        at: float = 0.0,
        *,
        begun: bool = False,
        tried: Iterable[Key] = (),
    ) -> Snapshot:
        """`trials` are those of the whole sweep, in its order."""
        names = [axis.name for axis in sweep.axes]
        return cls(
            sweep=sweep.name,
            variant=sweep.variant,
            source=os.path.abspath(sweep.source),
            at=at,
            begun=begun,
            axes={axis.name: axis.labels for axis in sweep.axes},
            points=tuple((tuple(map(t.labels.get, names)), t.key) for t in trials),
            tried=tuple(dict.fromkeys(tried)),
        )

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset(key for _, key in self.points)

    @property
    def when(self) -> str:
        return clock(self.at)

    def labelled(self) -> list[tuple[dict[str, str], Key]]:
        """Each point's labels by axis, without the axes that it has not."""
        return [
            ({axis: label for axis, label in zip(self.axes, row, strict=True) if label}, key)
            for row, key in self.points
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT if self.tried else 1,
            "sweep": self.sweep,
            "variant": self.variant,
            "source": self.source,
            "at": self.at,
            "begun": self.begun,
            "axes": [[name, list(labels)] for name, labels in self.axes.items()],
            "points": [[list(row), *key] for row, key in self.points],
            **({"tried": [list(key) for key in self.tried]} if self.tried else {}),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Snapshot:
        """Raises ValueError, KeyError or TypeError for what is not one that we know."""
        if fields["format"] > FORMAT:
            raise NewerFormat(f"written by a newer version (format {fields['format']})")
        return cls(
            sweep=fields["sweep"],
            variant=fields["variant"],
            source=fields["source"],
            at=float(fields["at"]),
            begun=fields.get("begun", False),
            axes={name: tuple(labels) for name, labels in fields["axes"]},
            points=tuple((tuple(row), Key(*key)) for row, *key in fields["points"]),
            tried=tuple(Key(*key) for key in fields.get("tried", ())),
        )
