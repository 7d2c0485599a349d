"""Lines, points and shares in; drawings that are part of a page out. Colours are the page's
classes (`s0`, `s1`, ...), so a drawing is light or dark as the page is; texts are texts.

Lengths are of the drawing's own box, WIDTH wide, which is shown about as many pixels wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sweeper.figures import Line
from sweeper.render.markup import Child, Html, joined, tag
from sweeper.tables.numerals import MINUS, numeral

WIDTH, HEIGHT, TALL = 360.0, 216.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 8.0, 30.0
COLOURS = 10  # classes; a series beyond them has the colour of an earlier one, and dashes
MOST_POINTS = 120  # of a line
LONGEST = 26  # characters of a label in a plot
LETTER = 5.8  # width of one of a label, on average


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point of a plot: the means of what it sums up, with the range of the second, and
    what is said of it. `front`: nothing is better in both."""

    label: str
    place: int
    x: float
    y: float
    low: float
    high: float
    says: str
    front: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Numbers from `low` to `high` in; places from `start` to `stop` out."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low)
        return self.start + share * (self.stop - self.start)

    def ticks(self, most: int) -> list[float]:
        return decades(self.low, self.high) if self.log else steps(self.low, self.high, most)


def look(place: int) -> str:
    dashes = (place // COLOURS) % 3
    return f"s s{place} c{place % COLOURS}" + (f" d{dashes}" if dashes else "")


# ---- curves


def curves(lines: Sequence[Line], x_label: str, name: str) -> Html:
    """A panel of some lines. `name` is that of its clip, and of no other panel on the page."""
    xs = [x for line in lines for x in line.xs]
    # The frame is that of the means: where few runs are behind a line, an interval would
    # press all of them flat, so bands are cut at the frame.
    low, high = wider([y for line in lines for y in line.means])
    x = Scale(low=min(xs), high=max(xs), start=LEFT, stop=WIDTH - RIGHT)
    if x.low == x.high:
        x = Scale(low=x.low - 0.5, high=x.low + 0.5, start=x.start, stop=x.stop)
    y = Scale(low=low, high=high, start=HEIGHT - BOTTOM, stop=TOP)
    bands = [
        tag("path", d=band(line, x, y), class_=f"band {look(line.place)}")
        for line in lines
        if line.lows
    ]
    drawn = [course(line, x, y) for line in lines if len(line.xs) > 1]
    dots = [dot(line, x, y) for line in lines if len(line.xs) == 1]
    clip = tag("clipPath", frame(y), id=name)
    inside = tag("g", *bands, *drawn, clip_path=f"url(#{name})")
    return sheet(HEIGHT, clip, axes(x, y, HEIGHT, x_label), inside, dots)


def course(line: Line, x: Scale, y: Scale) -> Html:
    points = thinned(list(zip(line.xs, line.means, strict=True)))
    d = through([(x(a), y(b)) for a, b in points], stepped=line.stepped)
    return tag("path", tag("title", line.label), d=d, class_=f"line {look(line.place)}")


def dot(line: Line, x: Scale, y: Scale) -> Html:
    at, height = _n(x(line.xs[0])), _n(y(line.means[0]))
    name = tag("title", line.label)
    return tag("circle", name, cx=at, cy=height, r=2.8, class_=f"dot {look(line.place)}")


def band(line: Line, x: Scale, y: Scale) -> str:
    """There along the upper edge, back along the lower."""
    room = 10 * (y.high - y.low)

    def within(value: float) -> float:
        return min(max(value, y.low - room), y.high + room)

    edges = thinned(list(zip(line.xs, line.lows, line.highs, strict=True)))
    above = [(x(at), y(within(high))) for at, _, high in edges]
    below = [(x(at), y(within(low))) for at, low, _ in edges]
    back = through(below[::-1], stepped=line.stepped, backward=True)
    return f"{through(above, stepped=line.stepped)}L{back[1:]}Z"


def through(points: Iterable[tuple[float, float]], *, stepped: bool, backward: bool = False) -> str:
    """A path. One of steps keeps its height up to the next point."""
    (x, y), *others = points
    d = [f"M{_n(x)} {_n(y)}"]
    for x, y in others:
        if stepped:
            d.append(f"V{_n(y)}H{_n(x)}" if backward else f"H{_n(x)}V{_n(y)}")
        else:
            d.append(f"L{_n(x)} {_n(y)}")
    return "".join(d)


def thinned(points: list) -> list:
    """At most MOST_POINTS, evenly, the first and the last among them."""
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(i * step)] for i in range(MOST_POINTS)]


# ---- points


def pareto(marks: Sequence[Mark], x_label: str) -> Html:
    """Some points with the range of what is behind them, the front joined and named."""
    xs = [mark.x for mark in marks]
    log = min(xs) > 0 and max(xs) / min(xs) > 12
    low, high = wider(xs, 0.06)
    if log:
        pad = (max(xs) / min(xs)) ** 0.06
        low, high = min(xs) / pad, max(xs) * pad
    elif min(xs) >= 0:
        low = max(low, 0.0) if low > 0.25 * high else -0.03 * high
    x = Scale(low=low, high=high, start=LEFT, stop=WIDTH - RIGHT, log=log)
    bottom, top = wider([v for mark in marks for v in (mark.low, mark.high)], 0.08)
    y = Scale(low=bottom, high=top, start=TALL - BOTTOM, stop=TOP)
    front = sorted((mark for mark in marks if mark.front), key=lambda mark: mark.x)
    joint = through([(x(m.x), y(m.y)) for m in front], stepped=True) if len(front) > 1 else ""
    parts: list[Child] = [tag("path", d=joint, class_="front") if joint else None]
    for mark in sorted(marks, key=lambda mark: mark.front):
        at, height = _n(x(mark.x)), _n(y(mark.y))
        spread = tag("path", d=f"M{at} {_n(y(mark.low))}V{_n(y(mark.high))}", class_="spread")
        dot = tag("circle", cx=at, cy=height, r=4.2 if mark.front else 3.2, class_="dot")
        kind = " first" if mark.front else ""
        parts.append(tag("g", tag("title", mark.says), spread, dot, class_=look(mark.place) + kind))
    taken = [(x(m.x) - 4, y(m.y) - 4, x(m.x) + 4, y(m.y) + 4) for m in marks]
    return sheet(TALL, axes(x, y, TALL, x_label), parts, names(front, x, y, taken))


def names(
    front: Sequence[Mark], x: Scale, y: Scale, taken: list[tuple[float, float, float, float]]
) -> Iterator[Html]:
    """The labels of the front, each where it hides nothing; one that has no such place is
    left to the list below the plot. Where one is long, all are their numbers in that list."""
    short = all(len(mark.label) <= LONGEST for mark in front)
    for number, mark in enumerate(front, 1):
        text = mark.label if short else str(number)
        wide, at, height = LETTER * len(text), x(mark.x), y(mark.y)
        for left, base in (
            (at + 7, height - 6),
            (at - 7 - wide, height + 14),
            (at + 7, height + 14),
            (at - 7 - wide, height - 6),
            (at - wide / 2, height - 12),
            (at - wide / 2, height + 20),
        ):
            box = (left, base - 9, left + wide, base + 2)
            fits = left >= LEFT and box[2] <= WIDTH - 2 and box[1] >= 0 and base <= TALL - BOTTOM
            if fits and not any(meet(box, other) for other in taken):
                taken.append(box)
                yield tag("text", text, x=_n(left), y=_n(base), class_="name")
                break


def meet(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


# ---- shares


def shares(counts: Sequence[tuple[str, float]]) -> Html:
    """One bar, of (class, amount) parts."""
    whole = sum(amount for _, amount in counts) or 1.0
    parts, at = [], 0.0
    for name, amount in counts:
        wide = 100 * amount / whole
        parts.append(tag("rect", x=_n(at), y=0, width=_n(wide), height=4, class_=name))
        at += wide
    box = {"viewBox": "0 0 100 4", "preserveAspectRatio": "none", "aria_hidden": "true"}
    return tag("svg", *parts, class_="shares", **box)


def share(part: float, whole: float) -> Html:
    """A bar as long as the part is of the whole."""
    return shares([("part", part), ("rest", max(whole - part, 0.0))])


# ---- frames


def sheet(height: float, *parts: Child) -> Html:
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH:g} {height:g}", class_="plot")


def frame(y: Scale) -> Html:
    box = {"x": LEFT, "y": TOP, "width": WIDTH - LEFT - RIGHT, "height": y.start - TOP}
    return tag("rect", **box)


def axes(x: Scale, y: Scale, height: float, x_label: str) -> Html:
    base = height - BOTTOM
    across = [_n(y(tick)) for tick in y.ticks(5)]
    grid = "".join(f"M{LEFT:g} {at}H{WIDTH - RIGHT:g}" for at in across)
    parts: list[Child] = [
        tag("path", d=grid, class_="grid") if grid else None,
        tag("path", d=f"M{LEFT:g} {base:g}H{WIDTH - RIGHT:g}", class_="base"),
    ]
    for at, text in zip(across, written(y.ticks(5)), strict=True):
        down = _n(float(at) + 3.5)
        parts.append(tag("text", text, x=LEFT - 6, y=down, text_anchor="end"))
    ticks = x.ticks(5)
    for tick, text in zip(ticks, written(ticks), strict=True):
        at = x(tick)
        parts.append(tag("path", d=f"M{_n(at)} {base:g}v3", class_="base"))
        parts.append(tag("text", text, x=_n(at), y=_n(base + 14), text_anchor="middle"))
    end = {"x": WIDTH - RIGHT, "y": height - 3, "text_anchor": "end"}
    return joined([*parts, tag("text", x_label, class_="axis", **end)])


def wider(values: Sequence[float], by: float = 0.05) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = by * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room


def steps(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, at most `most` and one more."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten; of many decades only their powers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    within = [
        times * 10.0**power
        for power in range(first, last + 1)
        for times in (1, 2, 5)
        if low <= times * 10.0**power <= high
    ]
    few = [v for v in within if math.isclose(math.log10(v) % 1, 0, abs_tol=1e-9)]
    return within if len(within) <= 6 else few or within[:1]


def written(ticks: Sequence[float]) -> list[str]:
    """Ticks of one axis, with as many decimals as tell them apart: 0, 0.5, 1; 0, 50k, 100k."""
    largest = max(map(abs, ticks), default=0.0)
    for least, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if largest >= least:
            unit = 1e3 if letter == "k" else least
            return [f"{_plain(tick / unit)}{letter if tick else ''}" for tick in ticks]
    if 0 < largest < 1e-3:
        return [numeral(tick, ".1e") for tick in ticks]
    apart = min((b - a for a, b in pairwise(ticks)), default=largest) or 1.0
    decimals = min(max(0, -math.floor(math.log10(abs(apart)) + 1e-9)), 6)
    return [numeral(tick, f",.{decimals}f") for tick in ticks]


def _plain(value: float) -> str:
    return f"{value:.4g}".replace("-", MINUS)


def _n(length: float) -> str:
    """A length, to a tenth."""
    return f"{length:.1f}".removesuffix(".0")
