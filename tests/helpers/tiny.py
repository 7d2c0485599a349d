"""What a trainer needs of its surroundings, and a corpus of three words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SIZES = {"train": 72, "valid": 24, "test": 24}


@dataclass(frozen=True)
class Run:
    """As sweeper.Run, for a trainer that is called without sweeper."""

    folder: Path
    data: Path
    seed: int = 1
    device: str = "cpu"
    cpus: int = 1


def corpus(root: Path, sizes: Mapping[str, int] = SIZES, longest: int = 6) -> Path:
    """`root`, with `tiny` in it: sentences of one word over and over, `a a a` or `b b b b`, of 1
    to `longest` words."""
    (root / "tiny").mkdir(parents=True)
    for split, count in sizes.items():
        lines = [" ".join("abc"[n % 3] * (1 + n % longest)) for n in range(count)]
        (root / "tiny" / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root
