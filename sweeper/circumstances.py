"""What results were made with in (see provenance); in what they are not all alike out.

Numbers of different versions or kinds of machine may stand side by side; whoever reads them
is told. Code is told of elsewhere: by it a result is stale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PACKAGES = ("torch", "numpy")
MADE = {"python": "with Python", "torch": "with torch", "numpy": "with numpy", "device": "on"}

Stamp = Mapping[str, Any]  # the provenance of one result


def circumstances(stamp: Stamp) -> dict[str, str]:
    """What of a stamp can make a difference to a number; what it does not say is left out."""
    packages = stamp.get("packages") or {}
    found = {"python": stamp.get("python"), "device": stamp.get("device")}
    found |= {name: packages.get(name) for name in PACKAGES}
    return {name: str(found[name]) for name in MADE if found[name]}


def unlike(stamps: Iterable[Stamp]) -> list[str]:
    """ "made with torch 2.12.0 (12), 2.13.0 (24)" of each that is not one throughout."""
    said = []
    for name, counts in counted(stamps).items():
        if len(counts) > 1:
            listed = ", ".join(f"{value} ({counts[value]})" for value in sorted(counts))
            said.append(f"made {MADE[name]} {listed}")
    return said


def unlike_here(stamps: Sequence[Stamp], here: Stamp) -> list[str]:
    """ "12 of 36 were made with torch 2.12.0, this is 2.13.0" of each that is another here.
    What either does not say is not compared."""
    said = []
    now = circumstances(here)
    for name, counts in counted(stamps).items():
        others = {
            value: count
            for value, count in counts.items()
            if name in now and not is_same(value, now[name])
        }
        if others:
            count, values = sum(others.values()), ", ".join(sorted(others))
            were = "was" if count == 1 else "were"
            made = f"{count} of {len(stamps)} {were} made {MADE[name]} {values}"
            said.append(f"{made}, this is {now[name]}")
    return said


def counted(stamps: Iterable[Stamp]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {name: Counter() for name in MADE}
    for stamp in stamps:
        for name, value in circumstances(stamp).items():
            counts[name][value] += 1
    return counts


def is_same(made: str, here: str) -> bool:
    """A slice of a GPU is named after it: "cuda: NVIDIA H200 MIG 1g.18gb"."""
    return made == here or made.startswith(f"{here} MIG ")
