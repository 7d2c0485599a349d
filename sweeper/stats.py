"""Numbers in, summaries and verdicts out: means, spreads, intervals, paired tests.

Samples that are compared are mappings from what they share (a seed) to a value, so that
a pair is always a pair. Sums are exact (fsum), so no result depends on the order in
which records were read. Tests are two-sided; what cannot be tested is None, never a guess.

Seeds are few, so their mean has Student's interval and no bootstrap: a percentile bootstrap
of three values covers their mean 75 times of 100. What is resampled has LEAST_RESAMPLED items
at least, such as test sentences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np  # Loaded where there is something to resample.

Key = TypeVar("Key")

CONFIDENCE = 0.95
ALPHA = 0.05
MOST_SIGNS = 16  # 2^16 sign patterns are enumerated in about 10 ms
ROUNDING = 1e-12  # of numbers of size 1: what is smaller is none of a difference's
LEAST_RESAMPLED = 20
CHUNK = 2**22  # draws at a time: 32 MB of counts


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
    if spread <= ROUNDING * max(size, abs(middle)):
        return None if abs(middle) > ROUNDING * size else 1.0
    from scipy.special import stdtr

    t = middle / (spread / math.sqrt(len(differences)))
    return float(2 * stdtr(len(differences) - 1, -abs(t)))


def size_of(*samples: Mapping[Key, float]) -> float:
    """That of the numbers which are subtracted: what their differences are rounded by."""
    return max((abs(value) for sample in samples for value in sample.values()), default=0.0)


def sign_flip(differences: Sequence[float], *, size: float = 0.0) -> float | None:
    """p of the exact sign-flip test: the share of the 2^n ways to sign the differences
    whose sum is at least as far from 0 as the observed one. None for no pairs. What is only
    the rounding of numbers of `size` is no difference."""
    if not differences:
        return None
    assert len(differences) <= MOST_SIGNS, len(differences)
    ordered = sorted(x if abs(x) > ROUNDING * size else 0.0 for x in differences)
    sums = [0.0]
    for difference in ordered:
        sums = [total + difference for total in sums] + [total - difference for total in sums]
    edge = abs(math.fsum(ordered)) - 1e-9 * math.fsum(map(abs, ordered))  # ties are ties
    return sum(abs(total) >= edge for total in sums) / len(sums)


def least_sign_flip(pairs: int) -> float:
    """The smallest p that the sign-flip test can give with so many pairs: 2 / 2^n."""
    return 2.0 ** (1 - pairs)


def pairs_needed(tests: int, alpha: float) -> int:
    """The least number of pairs with which the sign-flip test can be significant where
    `tests` of them are corrected for: tests * 2^(1 - n) <= alpha."""
    return next(n for n in range(1, 1100) if tests * least_sign_flip(n) <= alpha)


def bootstrap(
    differences_KN: np.ndarray, *, samples: int, seed: int, size: float = 0.0
) -> list[float | None]:
    """p of the paired bootstrap for each of K comparisons over the same N items: whether the
    mean of its differences is 0 among items of which these are a sample.

    The share of the resamples, N items drawn with replacement, whose t about the observed mean
    is at least as far from 0 as the observed t: |m* - m| / s* >= |m| / s. A share of the means
    alone (percentiles) is too small by what t(N - 1) has over the normal distribution, and more
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 12 and 16). Where
    there are no more than `samples` resamples, N^N, each is taken once, and p is exact; else
    so many are drawn, the same for each comparison, and the observed one counts with them.
    None where the differences are all the same number, see `paired_t`."""
    import numpy as np

    N = differences_KN.shape[1]
    exact = N < 10 and samples >= N**N
    draws = all_resamples(N) if exact else drawn_resamples(N, samples, seed)
    means_K = differences_KN.mean(axis=1)
    centred_NK = (differences_KN - means_K[:, None]).T
    squares_NK = centred_NK**2
    spreads_K = np.sqrt(squares_NK.mean(axis=0))
    floor_K = ROUNDING * squares_NK.max(axis=0)  # A resample of one item N times has no spread.
    beyond_K = np.zeros(len(means_K), dtype=np.int64)
    for counts_BN in draws:
        shifts_BK = counts_BN @ centred_NK / N
        variances_BK = counts_BN @ squares_NK / N - shifts_BK**2
        s_BK = np.sqrt(np.where(variances_BK > floor_K, variances_BK, 0.0))
        edge_BK = np.abs(means_K) * s_BK * (1 - 1e-9)  # ties are ties
        beyond_K += (np.abs(shifts_BK) * spreads_K >= edge_BK).sum(axis=0)
    ps_K = beyond_K / N**N if exact else (beyond_K + 1) / (samples + 1)
    found: list[float | None] = []
    for p, middle, spread in zip(ps_K, np.abs(means_K), spreads_K, strict=True):
        if spread <= ROUNDING * max(size, middle):
            found.append(None if middle > ROUNDING * size else 1.0)
        else:
            found.append(float(p))
    return found


def all_resamples(N: int) -> Iterator[np.ndarray]:
    """How often each of N items is in each of the N^N resamples [B, N], some at a time."""
    import numpy as np

    indices = product(range(N), repeat=N)
    while some := list(islice(indices, CHUNK // N)):
        yield counted(np.array(some), N)


def drawn_resamples(N: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(seed))
    at_once = max(1, CHUNK // N)
    for start in range(0, samples, at_once):
        yield counted(generator.integers(N, size=(min(at_once, samples - start), N)), N)


def counted(indices_BN: np.ndarray, N: int) -> np.ndarray:
    import numpy as np

    B = len(indices_BN)
    places = indices_BN + N * np.arange(B)[:, None]
    return np.bincount(places.ravel(), minlength=B * N).reshape(B, N).astype(np.float64)


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


CORRECTIONS = {"holm": holm, "none": list}
