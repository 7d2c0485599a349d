"""What all drawings have in common: sizes, colours, and what is said where there is nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

COLUMN_INCHES, PAGE_INCHES = 3.03, 6.30  # of the ACL's template

# Okabe and Ito's colours, which colour-blind readers tell apart, the pale yellow left out.
# Five dashes for seven colours: 35 series differ, and any two neighbours in both.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (2.5, 1)))


def look_of(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}


def in_a_row(labels: Collection[str], room_inches: float) -> int:
    """How many entries of the legend stand beside each other."""
    widths = [0.41 + 0.052 * len(label) for label in labels]  # a sample and its label
    if sum(widths) <= room_inches:
        return max(1, len(labels))
    return max(1, int(room_inches / max(widths)))


def say_nothing(axes: Any, why: str = "no data") -> None:
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color="grey")
    axes.set_yticks([])  # The other axis may be shared with a panel that has something.
