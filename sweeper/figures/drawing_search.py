"""A Figure of a search in; it is drawn on a sheet. One of the modules that load matplotlib.

A study has a colour and a shape, so that it is told from others without colours, too.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from sweeper.figures.looks import COLOURS, PAGE_INCHES, in_a_row, say_nothing
from sweeper.figures.panels import Bar, Figure, Line, Marks, Panel, Scale

SHAPES = ("o", "s", "^", "D", "v", "P", "h")
UP, DOWN = 6, 7  # matplotlib's carets, with the tip at the place
PALE, BAND = "#9cc3dc", "#e6e6e6"  # a bar that shows nothing, and how far chance reaches
LINE = {"linewidth": 0.9, "alpha": 0.8}
GREY = "#9a9a9a"
STRIP = 0.06  # of the way between two axes: the colours beside the last
GOLDEN = 0.6180339887498949  # Its multiples fall apart from each other: no two points are hidden.
LETTERS = 24  # of all choices under a panel of a key; where there are more they are turned
MOST_TICKS = 5
JITTER = 0.5  # of the way between two choices

# Area in points squared.
LOOKS: dict[str, dict[str, Any]] = {
    "front": {"s": 20, "edgecolors": "black", "linewidths": 0.6, "zorder": 5},
    "feasible": {"s": 11, "linewidths": 0.3, "alpha": 0.8, "edgecolors": "white", "zorder": 4},
    "infeasible": {"s": 10, "linewidths": 0.6, "alpha": 0.8, "zorder": 3},
    "pruned": {"s": 7, "linewidths": 0.6, "alpha": 0.6, "zorder": 2},
    "baseline": {"s": 48, "linewidths": 0.6, "edgecolors": "black", "zorder": 6},
}
WORDS = {"front": "on the front"}


# ---- one panel of points


def draw_pareto(sheet: Any, figure: Figure) -> None:
    (panel,) = figure.panels[0]
    axes = sheet.subplots()
    axes.set(xlabel=figure.x_label, ylabel=figure.rows[0])
    if draw_points(axes, panel):
        numbers_on(axes.xaxis)
        numbers_on(axes.yaxis)
        legend(sheet, figure)


def draw_points(axes: Any, panel: Panel) -> bool:
    """The lines and marks of a panel, if there are any; else it says why not."""
    if not panel.marks:
        say_nothing(axes, panel.note)
        axes.set_xticks([])
        return False
    for line in panel.lines:
        draw_line(axes, line)
    draw_marks(axes, panel, extent([panel]))
    return True


def draw_history(sheet: Any, figure: Figure) -> None:
    for axes, panel, i, j in panels_of(sheet, figure):
        axes.set_title(panel.title)
        axes.set_ylabel(figure.rows[i] if j == 0 else "")
        if is_last(figure, i, j):
            axes.set_xlabel(figure.x_label)
        if not draw_points(axes, panel):
            continue
        whole_numbers_on(axes.xaxis)
        xs = [x for it in panel.marks for x in it.xs] + [x for it in panel.lines for x in it.xs]
        room = max(0.5, 0.04 * (max(xs) - min(xs)))
        axes.set_xlim(min(xs) - room, max(xs) + room)
        numbers_on(axes.yaxis)
    legend(sheet, figure, line="best so far")


def draw_slices(sheet: Any, figure: Figure) -> None:
    extents = {
        name: extent([it for row in rows_called(figure, name) for it in row])
        for name in figure.rows
    }
    for axes, panel, i, j in panels_of(sheet, figure):
        axes.set_title(panel.title)
        axes.set_ylabel(figure.rows[i] if j == 0 else "")
        (scale,) = panel.scales
        lay_out(axes, scale)
        if not panel.marks:
            say_nothing(axes, panel.note)
            continue
        if scale.options:
            panel = jittered(panel)
        draw_marks(axes, panel, extents[figure.rows[i]])
        numbers_on(axes.yaxis)
        axes.tick_params(labelleft=j == 0)
    sheet.align_ylabels()
    legend(sheet, figure)


def panels_of(sheet: Any, figure: Figure) -> Iterable[tuple[Any, Panel, int, int]]:
    """Axes and panel, row and column; what only fills up a row is left blank."""
    shape = len(figure.rows), len(figure.columns)
    grid = sheet.subplots(*shape, squeeze=False)
    for i, j in np.ndindex(shape):
        panel = figure.panels[i][j]
        if panel == Panel():
            grid[i, j].set_axis_off()
        else:
            yield grid[i, j], panel, i, j


def is_last(figure: Figure, i: int, j: int) -> bool:
    """Whether no panel is below it."""
    return i + 1 == len(figure.rows) or figure.panels[i + 1][j] == Panel()


def rows_called(figure: Figure, name: str) -> list[tuple[Panel, ...]]:
    return [row for row, called in zip(figure.panels, figure.rows, strict=True) if called == name]


def draw_line(axes: Any, line: Line) -> None:
    style = "steps-post" if line.stepped else "default"
    colour = COLOURS[line.place % len(COLOURS)]
    axes.plot(line.xs, line.means, drawstyle=style, color=colour, zorder=2.5, **LINE)


def draw_marks(axes: Any, panel: Panel, limits: tuple[float, float]) -> None:
    low, high = limits
    room = 0.06 * (high - low) or 0.5
    axes.set_ylim(low - room, high + room)
    for marks in panel.marks:
        xs, ys = np.array(marks.xs), np.array(marks.ys)
        inside = (low <= ys) & (ys <= high)
        axes.scatter(xs[inside], ys[inside], **look_of_marks(marks.look, marks.place))
        colour = COLOURS[marks.place % len(COLOURS)]
        edge = {"s": 14, "linewidths": 0, "color": colour, "zorder": 3, "clip_on": False}
        for beyond, y, shape in ((ys > high, high + room, UP), (ys < low, low - room, DOWN)):
            axes.scatter(xs[beyond], np.full(beyond.sum(), y), marker=shape, **edge)


def look_of_marks(look: str, place: int) -> dict[str, Any]:
    colour, shape = COLOURS[place % len(COLOURS)], SHAPES[place % len(SHAPES)]
    if look == "infeasible":
        colours = {"facecolors": "white", "edgecolors": colour}
    else:
        colours = {"color": colour}
    return {"marker": {"pruned": "x", "baseline": "*"}.get(look, shape), **colours, **LOOKS[look]}


def extent(panels: Sequence[Panel]) -> tuple[float, float]:
    """The least and the greatest y that is shown at its place."""
    limits = next((panel.limits for panel in panels if panel.limits), None)
    if limits:
        return limits
    ys = [y for panel in panels for it in (*panel.marks,) for y in it.ys]
    return (min(ys), max(ys)) if ys else (0.0, 1.0)


def jittered(panel: Panel) -> Panel:
    """The same at x, apart from each other."""
    places, marks = 0, []
    for it in panel.marks:
        shifts = [(((places + k) * GOLDEN + 0.5) % 1 - 0.5) * JITTER for k in range(len(it.xs))]
        xs = tuple(x + shift for x, shift in zip(it.xs, shifts, strict=True))
        places += len(xs)
        marks.append(Marks(look=it.look, place=it.place, label=it.label, xs=xs, ys=it.ys))
    return Panel(marks=tuple(marks), limits=panel.limits, scales=panel.scales)


# ---- numbers along an axis


def number(value: float, _: object = None) -> str:
    """12000.0 -> "12,000", 0.00002 -> "2e−5"; what floating point adds is not shown."""
    if 0 < abs(value) < 1e-3:
        digits, _, power = f"{value:.3e}".partition("e")
        return f"{float(digits):g}e{int(power)}".replace("-", "−")
    return f"{value + 0.0:,.8g}".replace("-", "−")


def numbers_on(axis: Any, most: int = 5) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most))
    axis.set_major_formatter(number)


def whole_numbers_on(axis: Any, most: int = 5) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, integer=True))
    axis.set_major_formatter(number)


def lay_out(axes: Any, scale: Scale) -> None:
    """The x axis of a key."""
    if scale.options:
        axes.set_xticks(range(len(scale.options)), scale.options)
        if sum(map(len, scale.options)) > LETTERS:
            axes.tick_params(axis="x", rotation=30)
            for text in axes.get_xticklabels():
                text.set(ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.5, len(scale.options) - 0.5)
        return
    if scale.log:
        axes.set_xscale("log")
        axes.set_xticks(ticks := ticks_of(scale), [number(it) for it in ticks])
        axes.xaxis.minorticks_off()
        room = (scale.high / scale.low) ** 0.05
        axes.set_xlim(scale.low / room, scale.high * room)
        return
    (whole_numbers_on if scale.whole else numbers_on)(axes.xaxis, 4)
    room = 0.05 * (scale.high - scale.low) or 0.5
    axes.set_xlim(scale.low - room, scale.high + room)


def ticks_of(scale: Scale) -> list[float]:
    """Of a logarithmic scale: 1, 2, 5, 10, or only powers of ten where that is many."""
    low, high = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
    steps = (1, 2, 5) if high - low < 3 else (1,)
    found = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    found = [value for value in found if scale.low * 0.999 <= value <= scale.high * 1.001]
    found = found[:: max(1, -(-len(found) // MOST_TICKS))]
    return found if len(found) > 1 else [scale.low, scale.high]


# ---- what the signs are


def legend(sheet: Any, figure: Figure, line: str = "") -> None:
    """Above the panels, where it hides nothing."""
    from matplotlib.lines import Line2D

    signs = signs_of(figure, line)
    if signs:
        sheet.legend(
            [Line2D([], [], **look) for look in signs.values()],
            list(signs),
            loc="outside upper center",
            ncols=in_a_row(signs, sheet.get_figwidth()),
            frameon=False,
            handlelength=1.6,
            columnspacing=1.2,
        )


def signs_of(figure: Figure, line: str = "") -> dict[str, dict[str, Any]]:
    """Label -> how it looks: studies that share a panel, each state that occurs, the line (which
    on the way between trials of the front is a part of their sign). Where there are several
    studies, signs of states have no study's colour."""
    marks = [it for row in figure.panels for panel in row for it in panel.marks]
    lines = any(panel.lines for row in figure.panels for panel in row)
    studies = dict(sorted({it.place: it.label for it in marks}.items()))
    several = len(studies) > 1
    place = next(iter(studies), 0)
    colour = "#505050" if several else COLOURS[place % len(COLOURS)]
    shape = "o" if several else SHAPES[place % len(SHAPES)]
    signs: dict[str, dict[str, Any]] = {}
    if several and figure.kind == "pareto":  # In the others headings say it.
        for place, label in studies.items():
            signs[label] = sign(SHAPES[place % len(SHAPES)], COLOURS[place % len(COLOURS)])
    looks = {it.look for it in marks}
    for look in [it for it in LOOKS if it in looks]:
        signs[WORDS.get(look, look)] = {
            "front": sign(shape, colour, size=4.5, edge="black", line=LINE if lines else {}),
            "infeasible": sign(shape, colour, inside="white"),
            "pruned": sign("x", colour),
            "baseline": sign("*", colour, size=7.0, edge="black"),
        }.get(look) or sign(shape, colour)
    if line and lines:
        signs[line] = {"color": colour, **LINE}
    return signs


def sign(
    shape: str,
    colour: str,
    *,
    size: float = 3.5,
    edge: str | None = None,
    inside: str | None = None,
    line: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    return {
        "marker": shape,
        "color": colour,
        "markersize": size,
        "markeredgecolor": edge or colour,
        "markerfacecolor": inside or colour,
        "markeredgewidth": 0.6,
        **(line or {"linestyle": ""}),
    }


# ---- bars


def draw_importance(sheet: Any, figure: Figure) -> None:
    bars = [it for row in figure.panels for panel in row for it in panel.bars]
    longest = max((it.share for it in bars if it.share is not None), default=0.0)
    for axes, panel, i, j in panels_of(sheet, figure):
        axes.set_title(panel.title)
        if not panel.bars:
            say_nothing(axes, panel.note)
            axes.set_xticks([])
            continue
        draw_bars(axes, panel.bars)
        axes.set_xlim(0, max(longest * 1.3, 0.12))  # room for a number
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.locator_params(axis="x", nbins=4)
        if is_last(figure, i, j):
            axes.set_xlabel(figure.x_label)


def draw_bars(axes: Any, bars: Sequence[Bar]) -> None:
    for y, bar in enumerate(bars):
        if bar.share is None:
            axes.text(0, y, f" {bar.note}", va="center", fontsize=5.5, color="grey")
            continue
        colour = COLOURS[0] if bar.share > bar.chance else PALE
        axes.barh(y, bar.chance, height=0.86, color=BAND, zorder=1.5)
        axes.barh(y, bar.share, height=0.5, color=colour, zorder=2)
        axes.text(bar.share, y, f" {bar.share:.0%}", va="center", fontsize=5.5, zorder=3)
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)  # the first on top
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


# ---- parallel coordinates


def draw_parallel(sheet: Any, figure: Figure) -> None:
    for axes, panel, _, _ in panels_of(sheet, figure):
        axes.set_title(panel.title, loc="left", pad=8 + 8 * lines_over(panel))
        if panel.strands:
            draw_strands(axes, panel, figure.goal)
        else:
            say_nothing(axes, panel.note)
        names = [textwrap.fill(it, letters_between(len(panel.scales))) for it in labels_on(panel)]
        axes.set_xticks(range(len(names)), names)
        axes.xaxis.tick_top()
        axes.tick_params(axis="x", length=0, labelsize=6.5)
        axes.set_xlim(-0.35, len(names) - 0.55)
        axes.set_ylim(-0.05, 1.05)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)


def labels_on(panel: Panel) -> list[str]:
    return [scale.label for scale in panel.scales]


def letters_between(scales: int) -> int:
    """How many letters of a name stand over an axis without touching the next."""
    return max(8, int(PAGE_INCHES * 72 / scales / (0.62 * 6.5)))


def lines_over(panel: Panel) -> int:
    width = letters_between(len(panel.scales))
    return max(len(textwrap.wrap(label, width)) for label in labels_on(panel))


def draw_strands(axes: Any, panel: Panel, goal: str | None) -> None:
    scales, last = panel.scales, len(panel.scales) - 1
    colours = colours_of(goal)
    best = 0.0 if goal != "max" else 1.0
    shares = [[share_of(it, scale) for it, scale in zip(strand.at, scales, strict=True)]
              for strand in panel.strands]  # fmt: skip
    feasible = [strand.feasible for strand in panel.strands]
    thin = min(1.0, math.sqrt(100 / len(shares)))
    # The best on top, and what is not feasible below all others.
    order = sorted(range(len(shares)), key=lambda k: (feasible[k], -abs(shares[k][last] - best)))
    for k in order:
        ys = np.array([np.nan if it is None else it for it in shares[k]])
        look: dict[str, Any] = {"color": GREY, "linewidth": 0.5 * thin, "alpha": 0.7, "zorder": 2}
        if feasible[k]:
            width = 0.8 * thin
            look = {
                "color": colours(shares[k][last]),
                "linewidth": width,
                "alpha": 0.9,
                "zorder": 3,
            }
        axes.plot(range(last + 1), ys, marker="o", markersize=2.0, markeredgewidth=0, **look)
    for x, scale in enumerate(scales):
        draw_scale(axes, x, scale, right=x == last)
    strip = np.linspace(0, 1, 256)[:, None]
    box = (last, last + STRIP, 0.0, 1.0)
    axes.imshow(strip, cmap=colours, extent=box, origin="lower", aspect="auto", zorder=4)


def colours_of(goal: str | None) -> Any:
    """Dark is better. Without the palest end, which does not show on white."""
    import matplotlib
    from matplotlib.colors import ListedColormap

    whole = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, 256))
    return ListedColormap(whole[::-1] if goal == "max" else whole)


def share_of(value: float | None, scale: Scale) -> float | None:
    """Where it is on the scale, 0 the foot and 1 the head; the middle where that has no length."""
    if value is None:
        return None
    low, high, value = (math.log(it) if scale.log else it for it in (scale.low, scale.high, value))
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5


def draw_scale(axes: Any, x: int, scale: Scale, *, right: bool) -> None:
    axes.plot([x, x], [0, 1], color="black", linewidth=0.6, zorder=5)
    if scale.options:
        ticks = [
            (float(i), textwrap.fill(it, 12, break_long_words=False))
            for i, it in enumerate(scale.options)
        ]
    else:
        ticks = [(value, number(value)) for value in three(scale)]
    for value, text in ticks:
        y = share_of(value, scale)
        end = x + STRIP + 0.02 if right else x - 0.02
        axes.plot([x, end], [y, y], color="black", linewidth=0.6, zorder=5)
        axes.text(
            end + (0.02 if right else -0.02),
            y,
            text,
            ha="left" if right else "right",
            va="center",
            fontsize=5.5,
            zorder=6,
            bbox={
                "boxstyle": "square,pad=0.1",
                "facecolor": "white",
                "alpha": 0.75,
                "linewidth": 0,
            },
        )


def three(scale: Scale) -> list[float]:
    """The ends of a scale, and its middle where that is a plain number."""
    if scale.high == scale.low:
        return [rounded(scale.low)]
    if scale.log:
        ticks = [it for it in ticks_of(scale) if 0.15 < share_of(it, scale) < 0.85]
        return [scale.low, *ticks[len(ticks) // 2 :][:1], scale.high]
    middle = (scale.low + scale.high) / 2
    plain = middle.is_integer() if scale.whole else len(f"{middle:g}") <= 5
    return [rounded(scale.low), *([middle] if plain else []), rounded(scale.high)]


def rounded(value: float) -> float:
    """To five digits: more say nothing on an axis."""
    return float(f"{value:.5g}")


# ---- sizes

WIDE = ("parallel",)  # over the page, however few columns of panels there are


def height_of(figure: Figure, width: float) -> float:
    """Inches, without what is written below."""
    return HEIGHTS[figure.kind](figure, width)


def legend_inches(figure: Figure, width: float, line: str = "") -> float:
    labels = signs_of(figure, line)
    return 0.14 * -(-len(labels) // in_a_row(labels, width)) if labels else 0.0


def importance_inches(figure: Figure, width: float) -> float:
    bars = (max(len(panel.bars) for panel in row) for row in figure.panels)
    return sum(0.135 * max(n, 4) + 0.28 for n in bars) + 0.25


Height = Callable[[Figure, float], float]
HEIGHTS: dict[str, Height] = {
    "pareto": lambda figure, width: 2.35 + legend_inches(figure, width),
    "history": lambda figure, width: (
        1.55 * len(figure.rows) + 0.3 + legend_inches(figure, width, "best so far")
    ),
    "slices": lambda figure, width: 1.3 * len(figure.rows) + 0.2 + legend_inches(figure, width),
    "importance": importance_inches,
    "parallel": lambda figure, width: (
        sum(1.7 + 0.11 * lines_over(panel) for (panel,) in figure.panels) + 0.1
    ),
}
DRAWINGS = {
    "pareto": draw_pareto,
    "history": draw_history,
    "slices": draw_slices,
    "importance": draw_importance,
    "parallel": draw_parallel,
}
