"""Trainers of closed forms, to be searched: nothing is learnt, and the best is known."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BRANIN_BEST = 0.397887  # at (-pi, 12.275), (pi, 2.275) and (9.42478, 2.475)


def branin(x: float, y: float) -> float:
    """Dixon and Szego 1978, The global optimization problem: an introduction."""
    bent = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
    return bent * bent + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def falls(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Branin's function in (x, y), approached from above in `steps` steps of 10 updates. Says
    which trial it is, when it begins and when it ends, in $TOY_CALLS."""
    note(run, "began")
    steps = config.get("steps", 4)
    loss = branin(config["x"], config["y"])
    for step in range(1, steps + 1):
        time.sleep(config.get("pause", 0.0))
        far = 10 * (1 - step / steps)
        found = {"cost/updates": 10.0 * step, "valid/loss": loss + far, "valid/x": config["x"]}
        yield {**found, "progress": step / steps}
    note(run, "ended")
    yield {**found, "test/loss": loss + 0.01 * run.seed}


def choosy(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Fails at x = 1, diverges at x = 2, says nothing of its loss at x = 3."""
    note(run, "began")
    x = config["x"]
    if x == 1:
        raise ValueError("one is out of luck")
    yield {"cost/updates": 1.0, "valid/loss": math.nan if x == 2 else 9.0}
    yield {"cost/updates": 2.0, "valid/other" if x == 3 else "valid/loss": float(x)}


def note(run: Any, what: str) -> None:
    if path := os.environ.get("TOY_CALLS"):
        with open(path, "a", encoding="utf-8") as calls:
            print(what, Path(run.folder).name, os.getpid(), file=calls)
