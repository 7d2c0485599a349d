import math
import random
from itertools import chain, combinations, permutations, product

import numpy as np
import pytest
from scipy import stats as scipy_stats

from sweeper import stats

DIFFERENCES = [
    [-0.95, -0.46, 0.10],
    [-1.22, -1.16, -0.60],
    [3.19, 1.92, 4.73, 2.2, 0.4],
    [0.3, -0.2],
]
RNG = random.Random(0)
DRAWN = [[RNG.gauss(0.3, 1.0) for _ in range(n)] for n in range(2, 12) for _ in "ab"]


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


@pytest.mark.parametrize("values", [*DIFFERENCES, *DRAWN])
def test_t_interval_is_scipys(values):
    low, high = scipy_stats.t.interval(
        0.95, len(values) - 1, loc=sum(values) / len(values), scale=scipy_stats.sem(values)
    )
    assert 2 * stats.t_half_width(values) == pytest.approx(high - low)


def test_t_interval_at_three_values_by_the_printed_quantile():
    assert stats.t_half_width([-1.0, 0.0, 1.0]) == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)


@pytest.mark.parametrize("values", [*DIFFERENCES, *DRAWN])
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


@pytest.mark.parametrize("values", [*DIFFERENCES, *DRAWN, [1.0, 1.0, 1.0, -1.0], [0.0, 2.0, -2.0]])
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


def test_the_paired_t_interval_leaves_out_zero_where_p_is_small():
    for values in chain(DIFFERENCES, DRAWN):
        outside = abs(stats.mean(values)) > stats.t_half_width(values)
        assert (stats.paired_t(values) <= 0.05) is outside


def test_one_pair_and_no_pair_are_not_tested():
    assert stats.paired_t([3.0]) is None
    assert stats.paired_t([]) is None
    assert stats.sign_flip([]) is None
    assert stats.sign_flip([3.0]) == 1.0


def test_signs_of_rounding_are_none():
    start = [100.1, 250.3, 600.7, 80.2, 80.3, 80.4, 90.1, 90.3]
    differences = [(x + 0.2) - 0.1 - (x + 0.1) for x in start]
    differences = [abs(x) + 1e-14 for x in differences]  # all of one sign, none of them real
    assert stats.sign_flip(differences) == 2 / 256
    assert stats.sign_flip(differences, size=600.7) == 1.0


def test_the_pairs_that_would_do():
    for tests, alpha in product((1, 2, 6, 20), (0.05, 0.01)):
        n = stats.pairs_needed(tests, alpha)
        assert tests * 2 / 2**n <= alpha < tests * 2 / 2 ** (n - 1)
    assert stats.pairs_needed(1, 0.05) == 6
    assert stats.pairs_needed(20, 0.05) == 10  # 20 x 2 / 1024 = 0.039


# Holm's procedure is the closed test of Bonferroni's: a hypothesis is rejected where each
# intersection of hypotheses that it is part of is ---------------------------------------------


@pytest.mark.parametrize("seed", range(14))
def test_holm_is_the_closure_of_bonferroni(seed):
    rng = random.Random(seed)
    ps = [rng.random() ** 3 for _ in range(1 + seed % 7)]
    ps += ps[:1] if seed % 3 == 0 else []  # a tie
    whole = range(len(ps))
    subsets = [set(s) for size in whole for s in combinations(whole, size + 1)]
    expected = [
        max(min(1.0, len(s) * min(ps[j] for j in s)) for s in subsets if i in s) for i in whole
    ]
    assert stats.holm(ps) == pytest.approx(expected)


# The bootstrap --------------------------------------------------------------------------------


def t_of(values, about=0.0):
    """(mean - about) over the standard deviation with n below; without a spread, infinite."""
    shift = sum(values) / len(values) - about
    spread = math.sqrt(sum((x - sum(values) / len(values)) ** 2 for x in values) / len(values))
    if spread < 1e-12:
        return math.inf
    return abs(shift) / spread


def enumerated(values):
    """The share of all resamples whose t is at least as far out: a plain loop."""
    middle = sum(values) / len(values)
    resamples = list(product(values, repeat=len(values)))
    observed = t_of(values)
    return sum(t_of(some, middle) >= observed * (1 - 1e-9) for some in resamples) / len(resamples)


@pytest.mark.parametrize("values", [x for x in chain(DIFFERENCES, DRAWN) if len(x) <= 5])
def test_the_bootstrap_takes_every_resample_of_a_few(values):
    assert stats.bootstrap(np.array([values]), samples=5**5, seed=0) == [
        pytest.approx(enumerated(values))
    ]


@pytest.mark.parametrize("n", [5, 6])
def test_resamples_that_are_drawn_give_what_all_of_them_give(n):
    rng = random.Random(n)
    rows = [[rng.gauss(shift, 1.0) for _ in range(n)] for shift in (0.2, 0.8, 1.5)]
    samples = n**n - 1
    drawn = stats.bootstrap(np.array(rows), samples=samples, seed=3)
    for p, values in zip(drawn, rows, strict=True):
        expected = enumerated(values)
        assert abs(p - expected) <= 1 / samples + 4 * math.sqrt(expected * (1 - expected) / samples)


def test_the_bootstrap_of_many_items_is_near_the_t_test():
    rng = np.random.default_rng(0)
    rows = rng.normal([[0.0], [0.05], [0.1], [0.15]], 1.0, size=(4, 1000))
    found = stats.bootstrap(rows, samples=4000, seed=1)
    expected = scipy_stats.ttest_1samp(rows, 0.0, axis=1).pvalue
    assert found == pytest.approx(list(expected), abs=0.03)


def test_the_bootstrap_depends_on_its_seed_and_on_nothing_else(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.normal(0.1, 1.0, size=(3, 100))
    once = stats.bootstrap(rows, samples=999, seed=5)
    assert stats.bootstrap(rows, samples=999, seed=5) == once
    assert stats.bootstrap(rows[1:2], samples=999, seed=5) == once[1:2]  # whatever is beside it
    assert stats.bootstrap(rows, samples=999, seed=6) != once
    monkeypatch.setattr(stats, "CHUNK", 1000)  # ten resamples at a time
    assert stats.bootstrap(rows, samples=999, seed=5) == pytest.approx(once)
    assert stats.bootstrap(rows * 1000 + 0.0, samples=999, seed=5) == pytest.approx(once)


def test_the_bootstrap_without_a_spread():
    rows = np.array([[0.0] * 30, [0.5] * 30, [1e-14, -1e-14] * 15])
    assert stats.bootstrap(rows, samples=100, seed=0, size=80.0) == [1.0, None, 1.0]


def test_why_the_mean_of_three_seeds_has_no_bootstrap():
    """A value three times over is 1 of 27 resamples, more than 2.5%: so the percentile interval
    is [least, greatest], which has the mean inside unless all three are on one side of it:
    1 - 2/8 = 75 times of 100. Student's has it 95 times."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 3))
    means = np.stack([draws[:, list(at)].mean(axis=1) for at in product(range(3), repeat=3)])
    low, high = np.quantile(means, [0.025, 0.975], axis=0, method="inverted_cdf")
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.75, abs=0.03)
    half = [stats.t_half_width(list(values)) for values in draws]
    assert np.mean(np.abs(draws.mean(axis=1)) <= half) == pytest.approx(0.95, abs=0.015)
