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
class Panel:
    lines: tuple[Line, ...] = ()
    cloud: Cloud | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`panels` is row by row; `columns` are the headings above them ("" where there is
    nothing to tell apart), `rows` what stands to the left of each row. `footer` says how it
    was made and what is not in it, one statement a line. `filled`: every trial that it
    shows has a result."""

    name: str
    kind: Literal["curves", "scatter"]
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    panels: tuple[tuple[Panel, ...], ...]
    x_label: str = ""
    colour: str | None = None
    caption: str | None = None
    footer: tuple[str, ...] = ()
    filled: bool = True
