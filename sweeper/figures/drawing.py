"""A Figure in; the bytes of a picture out, PNG or PDF. With drawing_search, which it draws the
figures of a search by, the only module that loads matplotlib.

Sized for a paper's column or, with several columns of panels, its page; no text is smaller
than that page can carry. No date goes into a file: what was drawn before is drawn the same.
"""

from __future__ import annotations

import io
import textwrap
from itertools import chain
from typing import Any

import numpy as np

from sweeper.figures import drawing_search
from sweeper.figures.looks import (
    COLOURS,
    COLUMN_INCHES,
    PAGE_INCHES,
    in_a_row,
    look_of,
    say_nothing,
)
from sweeper.figures.panels import Cloud, Figure, Line

CURVES_INCHES = 1.45  # the height of a row of panels; that of points is a panel's width
DOTS_PER_INCH = 300
SMALL_POINTS = 5.0  # the footer's type
MANY = 2000  # points; more are drawn as pixels, also in a PDF

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 7.0,
    "axes.labelsize": 7.0,
    "axes.titlesize": 7.5,
    "xtick.labelsize": 6.0,
    "ytick.labelsize": 6.0,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.4,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.0,
    "ytick.major.size": 2.0,
    "lines.linewidth": 1.1,
    "text.parse_math": False,  # A label is text, dollars and all.
    "pdf.fonttype": 42,  # outlines that every printer and publisher takes
}


def draw(figure: Figure, style: str) -> bytes:
    """`style` is png or pdf."""
    import matplotlib.style
    from matplotlib.figure import Figure as Sheet

    # From the defaults: what a person keeps in a matplotlibrc does not change a figure.
    with matplotlib.style.context(["default", STYLE]):
        sheet = Sheet(figsize=size_of(figure), dpi=DOTS_PER_INCH, layout="constrained")
        DRAWINGS[figure.kind](sheet, figure)
        write_below(sheet, figure)
        file = io.BytesIO()
        sheet.savefig(file, format=style, metadata=METADATA[style](figure))
    return file.getvalue()


def size_of(figure: Figure) -> tuple[float, float]:
    """Width and height, inches."""
    columns, width = len(figure.columns), width_of(figure)
    if figure.kind in drawing_search.DRAWINGS:
        height = drawing_search.height_of(figure, width)
    elif figure.kind == "curves":
        named = series_of(figure)
        legend_rows = -(-len(named) // in_a_row(named.values(), width))
        height = CURVES_INCHES * len(figure.rows) + 0.5 + 0.14 * legend_rows
    else:
        height = width / max(columns, 2) * len(figure.rows) + 0.25  # headings
    return width, height + 0.09 * len(lines_below(figure))


def width_of(figure: Figure) -> float:
    wide = len(figure.columns) > 1 or figure.kind in drawing_search.WIDE
    return PAGE_INCHES if wide else COLUMN_INCHES


METADATA = {
    "png": lambda figure: {"Title": figure.name, "Description": "; ".join(figure.footer)},
    "pdf": lambda figure: {
        "Title": figure.name,
        "Subject": "; ".join(figure.footer),
        "CreationDate": None,
    },
}


def lines_below(figure: Figure) -> list[str]:
    """The caption and the footer, broken to the figure's width."""
    characters = int(
        width_of(figure) * 72 / (0.56 * SMALL_POINTS)
    )  # A letter of DejaVu Sans, on average.
    said = filter(None, (figure.caption, *figure.footer))
    return list(chain.from_iterable(textwrap.wrap(text, characters) for text in said))


def write_below(sheet: Any, figure: Figure) -> None:
    text = "\n".join(lines_below(figure))
    # As the label of the whole sheet: the layout leaves room for that.
    sheet.supxlabel(text, x=0.01, ha="left", fontsize=SMALL_POINTS, color="#404040")


# ---- curves


def draw_curves(sheet: Any, figure: Figure) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    shape = len(figure.rows), len(figure.columns)
    grid = sheet.subplots(*shape, sharex="col", squeeze=False)
    for i, j in np.ndindex(shape):
        axes, panel = grid[i, j], figure.panels[i][j]
        for line in panel.lines:
            draw_line(axes, line)
        if not panel.lines:
            say_nothing(axes)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 50k
            axes.yaxis.set_major_locator(MaxNLocator(5))
        if i == 0:
            axes.set_title(figure.columns[j])
        if i == shape[0] - 1:
            axes.set_xlabel(figure.x_label)
        if j == 0:
            axes.set_ylabel(figure.rows[i])
    sheet.align_ylabels()
    legend(sheet, figure)


def draw_line(axes: Any, line: Line) -> None:
    look, colour = look_of(line.place), COLOURS[line.place % len(COLOURS)]
    style = "steps-post" if line.stepped else "default"
    marker = "o" if len(line.xs) == 1 else None
    axes.plot(line.xs, line.means, drawstyle=style, marker=marker, markersize=2.5, zorder=3, **look)
    if line.lows:
        step = "post" if line.stepped else None
        below = {"color": colour, "zorder": 2}
        axes.fill_between(line.xs, line.lows, line.highs, step=step, alpha=0.12, lw=0, **below)
        for edge in (line.lows, line.highs):
            axes.plot(line.xs, edge, drawstyle=style, alpha=0.45, lw=0.3, **below)


def series_of(figure: Figure) -> dict[int, str]:
    """Place -> label of the series that have a line anywhere, in order."""
    lines = (line for row in figure.panels for panel in row for line in panel.lines)
    return dict(sorted({line.place: line.label for line in lines}.items()))


def legend(sheet: Any, figure: Figure) -> None:
    """Above the panels, where it hides nothing, in as many columns as the width has room for."""
    from matplotlib.lines import Line2D

    named = series_of(figure)
    if not named:
        return
    sheet.legend(
        [Line2D([], [], **look_of(place)) for place in named],
        list(named.values()),
        loc="outside upper center",
        ncols=in_a_row(named.values(), sheet.get_figwidth()),
        frameon=False,
        handlelength=2.4,
        columnspacing=1.2,
    )


# ---- points


def draw_scatter(sheet: Any, figure: Figure) -> None:
    shape = len(figure.rows), len(figure.columns)
    clouds = [panel.cloud for row in figure.panels for panel in row if panel.cloud is not None]
    limits, colours = flat_limits(clouds), colour_limits(clouds)
    pad = -4 if any(cloud.points.shape[1] == 3 for cloud in clouds) else None
    every, last = [], None
    for i, j in np.ndindex(shape):
        cloud = figure.panels[i][j].cloud
        solid = cloud is not None and cloud.points.shape[1] == 3
        place = i * shape[1] + j + 1
        axes = sheet.add_subplot(*shape, place, projection="3d" if solid else None)
        axes.set_title(figure.columns[j] if i == 0 else "", pad=pad)
        every.append(axes)
        if cloud is None:
            say_nothing(axes)
            axes.set_box_aspect(1)
            axes.set_xticks([])
            axes.spines[:].set_visible(False)
        else:
            (lay_out_sphere if solid else lay_out_plane)(axes, cloud, limits)
            drawn = draw_cloud(axes, cloud, colours)
            last = drawn if cloud.colours is not None else last
        if j == 0 and figure.rows[i] and solid:
            there = {"transform": axes.transAxes, "rotation": 90, "va": "center"}
            axes.text2D(-0.3, 0.5, figure.rows[i], **there)
        elif j == 0 and figure.rows[i]:
            axes.set_ylabel(f"{figure.rows[i]}\n{axes.get_ylabel()}".strip())
    if last is not None:
        bar = sheet.colorbar(last, ax=every, shrink=0.8, aspect=30)
        bar.set_label(figure.colour)
        bar.outline.set_linewidth(0.5)


def draw_cloud(axes: Any, cloud: Cloud, colours: tuple[float, float] | None) -> Any:
    look: dict[str, Any] = {"color": COLOURS[0]}
    if cloud.colours is not None:
        look = {"c": cloud.colours, "cmap": "cividis", "vmin": colours[0], "vmax": colours[1]}
    return axes.scatter(
        *cloud.points.T,
        s=3.0,
        alpha=0.7,
        linewidths=0,
        zorder=3,
        rasterized=len(cloud.points) > MANY,
        **look,
    )


def lay_out_sphere(axes: Any, cloud: Cloud, limits: Any) -> None:
    """The unit sphere as a faint wire net; the same limits for every panel."""
    turn, height = np.linspace(0, 2 * np.pi, 25), np.linspace(0, np.pi, 13)
    net = (
        np.outer(np.cos(turn), np.sin(height)),
        np.outer(np.sin(turn), np.sin(height)),
        np.outer(np.ones_like(turn), np.cos(height)),
    )
    axes.plot_wireframe(*net, color="#b0b0b0", linewidth=0.25, alpha=0.6, zorder=1)
    for letter, name in zip("xyz", cloud.axes, strict=True):
        axes.set(**{f"{letter}lim": (-1, 1), f"{letter}ticks": (-0.5, 0, 0.5)})
        getattr(axes, f"set_{letter}label")(name, labelpad=-10)
        axes.tick_params(letter, pad=-4, labelsize=5)
        getattr(axes, f"{letter}axis").set_pane_color((1, 1, 1, 0))
    axes.set_box_aspect((1, 1, 1), zoom=1.1)
    axes.grid(False)
    axes.view_init(elev=20, azim=35)


def lay_out_plane(axes: Any, cloud: Cloud, limits: Any) -> None:
    axes.set(xlabel=cloud.axes[0], ylabel=cloud.axes[1])
    if cloud.made == "plain":
        axes.set(xlim=limits, ylim=limits)
    axes.set_box_aspect(1)


def flat_limits(clouds: list[Cloud]) -> tuple[float, float] | None:
    """Of all points that are drawn as they are, so that panels can be compared."""
    plain = [cloud.points for cloud in clouds if cloud.made == "plain"]
    if not plain:
        return None
    least, most = min(map(np.min, plain)), max(map(np.max, plain))
    room = 0.05 * (most - least) or 0.5
    return least - room, most + room


def colour_limits(clouds: list[Cloud]) -> tuple[float, float] | None:
    found = [cloud.colours for cloud in clouds if cloud.colours is not None]
    return (min(map(np.min, found)), max(map(np.max, found))) if found else None


DRAWINGS = {"curves": draw_curves, "scatter": draw_scatter, **drawing_search.DRAWINGS}
