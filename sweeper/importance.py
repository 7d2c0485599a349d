"""The points and values of a search's trials in; how much each key of the space matters out.

A key explains, by itself, a share of the variance of the trials' ranks: the adjusted R² of the
means of its choices or of a cubic of its number, which is 0 on average where it has no influence.
Ranks, as one trial that came to grief would be most of the variance of the values.

Not Optuna's PED-ANOVA: its densities are so smooth for choices that one of four that decides
everything is said to explain a tenth, less than a number of little influence; and its fANOVA
needs scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweeper.spec.conditions import same
from sweeper.spec.search_types import Choice, Parameter, Scalar
from sweeper.spec.space import fault_in_value

LEAST = 4  # trials
TRIALS_A_POWER = 4  # how many trials there are for each power of a polynomial
HIGHEST_POWER = 3
# Of 199 shuffles and the trials themselves, all alike where a key has no influence, the trials
# are above the 10th largest with a probability of 10 in 200.
SHUFFLES, RANK = 199, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a key explains, 0 to 1, among the `n` trials that have it; `chance` is what shuffled
    trials reach 1 time in 20. Both are None where it cannot be said, and `why` not."""

    key: str
    n: int
    share: float | None = None
    chance: float | None = None
    why: str = ""


def shares(
    space: Mapping[str, Parameter],
    points: Sequence[Mapping[str, Scalar]],
    values: Sequence[float],
) -> tuple[Share, ...]:
    """The keys of the space, the most important first. `points` and `values` are one for each
    complete trial. A key that only some trials have is judged among those; a value that the
    space has not (any more) counts as none."""
    found = [share_of(parameter, points, values) for parameter in space.values()]
    return tuple(sorted(found, key=lambda it: (it.share is None, -(it.share or 0.0))))


def share_of(
    parameter: Parameter, points: Sequence[Mapping[str, Scalar]], values: Sequence[float]
) -> Share:
    key = parameter.key
    pairs = [
        (point[key], value)
        for point, value in zip(points, values, strict=True)
        if key in point and fault_in_value(parameter, point[key]) is None
    ]
    n = len(pairs)
    few = "not testable with 1 trial" if n == 1 else f"not testable with {n} trials"
    if n < LEAST:
        return Share(key=key, n=n, why=few)
    settings, ends = zip(*pairs, strict=True)
    basis_ND = basis_of(parameter, settings)
    freedom = basis_ND.shape[1]
    if not freedom:
        return Share(key=key, n=n, why="not testable with one value")
    if n - freedom < 3:  # Almost any ranks would be met.
        return Share(key=key, n=n, why=few)
    ranks_N = ranks(np.array(ends, dtype=float))
    ranks_N -= ranks_N.mean()
    generator = np.random.default_rng(0)
    shuffled_NS = np.stack([generator.permutation(ranks_N) for _ in range(SHUFFLES)], axis=1)
    (share,) = explained(basis_ND, ranks_N[:, None])
    return Share(
        key=key,
        n=n,
        share=float(share),
        chance=float(np.sort(explained(basis_ND, shuffled_NS))[-RANK]),
    )


def basis_of(parameter: Parameter, settings: Sequence[Scalar]) -> np.ndarray:
    """Orthonormal columns [N, D], each with mean 0, of what can be made of a key's values:
    anything for each choice, else powers of the number (on a logarithmic scale, of that)."""
    n = len(settings)
    if isinstance(parameter, Choice):
        places_N = np.array([place_of(parameter, it) for it in settings])
        columns_ND = places_N[:, None] == np.unique(places_N)[None, 1:]
    else:
        numbers_N = np.array(settings, dtype=float)
        low, high = parameter.low, parameter.high
        if parameter.log:
            numbers_N, low, high = np.log(numbers_N), np.log(low), np.log(high)
        different = len(np.unique(numbers_N))
        most = min(HIGHEST_POWER, different - 1, max(1, n // TRIALS_A_POWER))
        along_N = 2 * (numbers_N - low) / (high - low) - 1
        columns_ND = along_N[:, None] ** np.arange(1, most + 1)[None]
    centred_ND = columns_ND - columns_ND.mean(axis=0)
    return np.linalg.qr(centred_ND)[0]


def place_of(choice: Choice, value: Scalar) -> int:
    return next(i for i, option in enumerate(choice.options) if same(option, value))


def explained(basis_ND: np.ndarray, ranks_NS: np.ndarray) -> np.ndarray:
    """Adjusted R² [S] of each column of centred ranks, not below 0; 0 of what does not vary."""
    n, freedom = basis_ND.shape
    whole_S = (ranks_NS**2).sum(axis=0)
    within_S = ((basis_ND.T @ ranks_NS) ** 2).sum(axis=0)
    lost_S = 1 - within_S / np.where(whole_S > 0, whole_S, 1.0)
    adjusted_S = 1 - lost_S * (n - 1) / (n - 1 - freedom)
    return np.where(whole_S > 0, np.clip(adjusted_S, 0.0, 1.0), 0.0)


def ranks(values_N: np.ndarray) -> np.ndarray:
    """From 1; what is equal shares the mean of its ranks."""
    _, places_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places_N]
