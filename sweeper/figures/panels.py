"""The types of a composed figure: what drawing is given. Plain numbers, nothing to decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The mean of `n` courses at each of `xs`, and the band around it (empty where there is
    no spread). `place` counts the series of the figure: what a line looks like. `stepped`:
    the courses had grids of their own, so each keeps its last value between its points."""

    label: str
    place: int
    xs: tuple[float, ...]
    means: tuple[float, ...]
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    n: int = 1
    stepped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cloud:
    """Points [N, 2] or [N, 3], and how they were made of what was read. `axes` says what the
    two or three directions are; `colours` is [N] or None."""

    points: np.ndarray
    made: Literal["scaled", "plain", "projected"]
    axes: tuple[str, ...]
    colours: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The trials of one study that are in one state, at `xs` and `ys`. `place` counts the
    studies of the figure."""

    look: Literal["front", "feasible", "infeasible", "pruned", "baseline"]
    place: int
    label: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis of its own: from `low` to `high`, or one place for each of `options`, 0 the first."""

    label: str
    low: float
    high: float
    log: bool = False
    whole: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Strand:
    """A trial's place on each scale of the panel, None where it has none."""

    at: tuple[float | None, ...]
    feasible: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A share, 0 to 1, and what chance reaches; both None where there is `note` instead."""

    label: str
    share: float | None = None
    chance: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What is in one. `title` is a heading of its own, `note` what is said where there is
    nothing. What is beyond `limits`, those of y, is drawn at their edge."""

    lines: tuple[Line, ...] = ()
    cloud: Cloud | None = None
    marks: tuple[Marks, ...] = ()
    bars: tuple[Bar, ...] = ()
    strands: tuple[Strand, ...] = ()
    scales: tuple[Scale, ...] = ()
    title: str = ""
    note: str = ""
    limits: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`panels` is row by row; `columns` are the headings above them ("" where there is
    nothing to tell apart), `rows` what stands to the left of each row. `footer` says how it
    was made and what is not in it, one statement a line. `filled`: every trial that it
    shows has a result. `goal` says which end of a colour is better."""

    name: str
    kind: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    panels: tuple[tuple[Panel, ...], ...]
    x_label: str = ""
    colour: str | None = None
    goal: Literal["min", "max"] | None = None
    caption: str | None = None
    footer: tuple[str, ...] = ()
    filled: bool = True
