"""Pieces of work in; CPU seconds, interleaved, out.

Two implementations are timed in turns in one process, so that whatever else the machine is
doing slows both; what is printed is the median over rounds of the ratio within a round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from trainers import vocabulary


def interleave(works: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each work in each round, A B A B ..., after a round to warm up. A work
    is given the round's number."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(-1, rounds):
        for name, work in works.items():
            start = time.process_time()
            work(max(turn, 0))
            if turn >= 0:
                seconds[name].append(time.process_time() - start)
    return seconds


def compare(
    unit: str, amounts: list[float], seconds: Mapping[str, list[float]], goal: float
) -> dict[str, float]:
    """Print and give back how much of `unit` each work does per second, and print the ratio
    of ours to the baseline. `amounts` are what a round does."""
    rates = {
        name: statistics.median(a / s for a, s in zip(amounts, own, strict=True))
        for name, own in seconds.items()
    }
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["baseline"], strict=True)]
    ratio = statistics.median(ratios)
    for name, rate in rates.items():
        print(f"{name:9} {rate:10.2f} {unit} per CPU second")
    print(
        f"ratio     {ratio:10.2f}x "
        f"(rounds {min(ratios):.2f} to {max(ratios):.2f}; goal {goal}x){missed(ratio >= goal)}"
    )
    return rates


def missed(reached: bool) -> str:
    """What stands beside a figure that is short of its goal."""
    return "" if reached else "  missed"


def matmul_gflops(rows: int, inner: int, columns: int, rounds: int = 7) -> dict[str, float]:
    """fp32 rates of torch.mm and, where this build has it, oneDNN for one shape."""
    left, right = torch.randn(rows, inner), torch.randn(columns, inner)
    works = {"torch.mm": lambda _: torch.mm(left, right.T)}
    if vocabulary.onednn_takes(left):
        works["oneDNN"] = lambda _: vocabulary.onednn_linear(left, right)
    flops = 2 * rows * inner * columns / 1e9
    return {
        name: flops / statistics.median(seconds)
        for name, seconds in interleave(works, rounds).items()
    }


def best_gflops() -> float:
    """The best fp32 rate seen: of either kernel, on a large square."""
    return max(matmul_gflops(2048, 2048, 2048).values())
