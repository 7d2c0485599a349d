"""Where what came of trials is kept. A trial goes in; its record comes out.

folder  the durable truth: a folder per trial, written by the process that runs it.
mlflow  the published copy, delivered from the folders by the courier; also readable back.

Importing this package imports neither mlflow nor any other heavy library.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from sweeper.lookup import named
from sweeper.record import Record
from sweeper.trial import Key, Trial


class Attempt(Protocol):
    """One try at a trial, alone in writing to its folder until it is finished."""

    number: int
    folder: Path

    @property
    def cost(self) -> float: ...

    @property
    def seconds(self) -> float: ...

    @property
    def gpu_hours(self) -> float: ...

    def arrange(self, retry: Collection[str]) -> None: ...

    def measure(self, cost: float, values: Mapping[str, float]) -> None: ...

    def beat(self) -> None: ...

    def finish(self, record: Record) -> Record: ...

    def abandon(self, reason: str, peaks: Mapping[str, int] | None = None) -> None: ...


class Readable(Protocol):
    """All that tables and plans need of a store."""

    def find(self, trials: Iterable[Trial]) -> dict[Key, Record]:
        """A trial's key -> record, of those trials about which something is known."""
        ...

    def trained(self, trials: Iterable[Trial]) -> set[str]:
        """The ids of those trials that have a valid result under whatever evaluation."""
        ...


class Store(Readable, Protocol):
    """All that a worker needs of one."""

    def start(self, trial: Trial, code_digest: str | None = None, gpus: float = 0) -> Attempt: ...


def open_store(name: str, root: Path, tracking: str | None = None) -> Readable:
    """The store called `name`: that of the folder `root`, or of the MLflow that is fed from
    it, at the URI `tracking` (None: the database in `root`). "my_pkg.module:function" is a
    name too."""
    return named(name, STORES, "store")(root, tracking)


def open_folder(root: Path, tracking: str | None) -> Readable:
    from sweeper.track.folder import Folder

    return Folder(root)


def open_mlflow(root: Path, tracking: str | None) -> Readable:
    from sweeper.track.mlflow import MLflowStore

    return MLflowStore(root, tracking)


STORES = {"folder": open_folder, "mlflow": open_mlflow}
