import math
import random
from itertools import permutations, product

import pytest
from scipy import stats as scipy_stats

from sweeper import stats

DIFFERENCES = [
    [-0.95, -0.46, 0.10],
    [-1.22, -1.16, -0.60],
    [3.19, 1.92, 4.73, 2.2, 0.4],
    [0.3, -0.2],
]


def test_mean_and_sd_by_hand():
    assert stats.mean([1.0, 2.0, 6.0]) == 3.0
    assert stats.sd([1.0, 2.0, 6.0]) == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert stats.sd([5.0]) is None
    assert stats.t_half_width([5.0]) is None


def test_sums_do_not_depend_on_the_order():
    values = [1e16, 3.3, -1e16, 0.1, 7.7]
    results = {(stats.mean(p), stats.sd(p)) for p in map(list, permutations(values))}
    assert len(results) == 1
    assert next(iter(results))[0] == pytest.approx(11.1 / 5)


@pytest.mark.parametrize("values", DIFFERENCES)
def test_t_interval_is_scipys(values):
    low, high = scipy_stats.t.interval(
        0.95, len(values) - 1, loc=sum(values) / len(values), scale=scipy_stats.sem(values)
    )
    assert 2 * stats.t_half_width(values) == pytest.approx(high - low)


def test_t_interval_at_three_values_by_the_printed_quantile():
    assert stats.t_half_width([-1.0, 0.0, 1.0]) == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)


@pytest.mark.parametrize("values", DIFFERENCES)
def test_paired_t_is_scipys(values):
    start = [80.0 + i for i in range(len(values))]
    end = [a + d for a, d in zip(start, values, strict=True)]
    assert stats.paired_t(values) == pytest.approx(scipy_stats.ttest_rel(end, start).pvalue)


def test_paired_t_without_spread_or_pairs():
    assert stats.paired_t([8.0, 8.0, 8.0]) is None
    assert stats.paired_t([0.0, 0.0]) == 1.0
    assert stats.paired_t([1.0]) is None


def test_what_only_rounding_spreads_is_one_number():
    differences = [b - a for a, b in [(100.1, 100.101), (250.3, 250.301), (600.7, 600.701)]]
    assert stats.paired_t(differences) < 1e-12
    assert stats.paired_t(differences, size=600.7) is None
    assert stats.paired_t([1e-14, -2e-14], size=600.7) == 1.0  # no difference at all
    real = [0.1, 0.2, 0.1]
    assert stats.paired_t(real, size=600.7) == stats.paired_t(real)


def test_differences_pair_by_key_not_by_position():
    start = {"0": 1.0, "1": 2.0, "2": 4.0}
    end = {"2": 5.0, "0": 1.5, "7": 9.0}
    assert stats.paired_differences(start, end) == {"2": 1.0, "0": 0.5}


@pytest.mark.parametrize("values", [*DIFFERENCES, [1.0, 1.0, 1.0, -1.0]])
def test_sign_flip_is_the_enumeration(values):
    observed = abs(sum(values))
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in product([1, -1], repeat=len(values))
    ]
    expected = sum(total >= observed - 1e-12 for total in sums) / len(sums)
    assert stats.sign_flip(values) == expected


def test_sign_flip_is_scipys_exact_permutation_test():
    values = [0.5, 1.5, -0.2, 0.9, 2.0, 0.1]
    exact = scipy_stats.permutation_test(
        (values, [0.0] * len(values)),
        lambda x, y: (x - y).mean(),
        permutation_type="samples",
        vectorized=False,
    )
    assert stats.sign_flip(values) == pytest.approx(exact.pvalue)


def test_three_seeds_cannot_reach_five_percent_by_sign_flips():
    rng = random.Random(0)
    least = min(stats.sign_flip([rng.gauss(5, 0.01) for _ in range(3)]) for _ in range(50))
    assert least == stats.least_sign_flip(3) == 0.25
    assert stats.least_sign_flip(6) == 2 / 64


def test_holm_by_hand():
    # 4 tests: 0.01 x 4, 0.02 x 3, 0.03 x 2 (kept at the one before), 0.9 x 1
    assert stats.holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert stats.holm([0.6, 0.7]) == [1.0, 1.0]
    assert stats.holm([]) == []


@pytest.mark.parametrize("values", DIFFERENCES)
def test_resolved_is_an_interval_that_leaves_out_zero(values):
    half = stats.t_half_width(values)
    assert stats.resolved(values) is (abs(stats.mean(values)) > half)


def test_one_pair_resolves_nothing():
    assert stats.resolved([3.0]) is None
    assert stats.resolved([]) is None
