"""Numbers in, summaries and verdicts out: means, spreads, intervals, paired tests.

Samples that are compared are mappings from what they share (a seed) to a value, so that
a pair is always a pair. Sums are exact (fsum), so no result depends on the order in
which records were read. Tests are two-sided; what cannot be tested is None, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key")

CONFIDENCE = 0.95
ALPHA = 0.05
MOST_SIGNS = 16  # 2^16 sign patterns are enumerated in about 10 ms


def mean(values: Sequence[float]) -> float:
    assert values, "the mean of nothing"
    return math.fsum(values) / len(values)


def sd(values: Sequence[float]) -> float | None:
    """Standard deviation with n - 1 below; None for fewer than two values."""
    if len(values) < 2:
        return None
    middle = mean(values)
    return math.sqrt(math.fsum((x - middle) ** 2 for x in values) / (len(values) - 1))


def t_half_width(values: Sequence[float], confidence: float = CONFIDENCE) -> float | None:
    """Half the width of Student's t interval for the mean: t(n - 1) sd / sqrt(n)."""
    if len(values) < 2:
        return None
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(values) - 1, 0.5 + confidence / 2))
    return quantile * sd(values) / math.sqrt(len(values))


def paired_differences(start: Mapping[Key, float], end: Mapping[Key, float]) -> dict[Key, float]:
    """end - start for every key that both have, in the order of `end`."""
    return {key: end[key] - start[key] for key in end if key in start}


def paired_t(differences: Sequence[float], *, size: float = 0.0) -> float | None:
    """p of the paired t test that the mean difference is 0; None for fewer than two pairs,
    and where the differences are all the same number: without a spread there is nothing to
    test against (three times one active unit more is no proof). All 0 is no difference.
    `size` is that of the numbers that were subtracted: what only their rounding spreads is
    one number, too."""
    if len(differences) < 2:
        return None
    middle, spread = mean(differences), sd(differences)
    rounding = 1e-12 * size
    if spread <= max(rounding, 1e-12 * abs(middle)):
        return None if abs(middle) > rounding else 1.0
    from scipy.special import stdtr

    t = middle / (spread / math.sqrt(len(differences)))
    return float(2 * stdtr(len(differences) - 1, -abs(t)))


def sign_flip(differences: Sequence[float]) -> float | None:
    """p of the exact sign-flip test: the share of the 2^n ways to sign the differences
    whose sum is at least as far from 0 as the observed one. None for no pairs."""
    if not differences:
        return None
    assert len(differences) <= MOST_SIGNS, len(differences)
    ordered = sorted(differences)
    sums = [0.0]
    for difference in ordered:
        sums = [total + difference for total in sums] + [total - difference for total in sums]
    edge = abs(math.fsum(ordered)) - 1e-9 * math.fsum(map(abs, ordered))  # ties are ties
    return sum(abs(total) >= edge for total in sums) / len(sums)


def least_sign_flip(pairs: int) -> float:
    """The smallest p that the sign-flip test can give with so many pairs: 2 / 2^n."""
    return 2.0 ** (1 - pairs)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: the i-th smallest of m is multiplied by m - i + 1, kept
    monotone and at most 1. To be compared with alpha."""
    adjusted = [0.0] * len(ps)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        running = max(running, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = running
    return adjusted


def corrected(ps: Sequence[float], correct: str) -> list[float]:
    return CORRECTIONS[correct](ps)


def resolved(differences: Sequence[float], alpha: float = ALPHA) -> bool | None:
    """Whether the paired t interval at 1 - alpha leaves out 0 (the same as p <= alpha of the
    paired t test); None where there is no second pair to tell a difference from noise."""
    p = paired_t(differences)
    return None if p is None else p <= alpha


CORRECTIONS = {"holm": holm, "none": list}
