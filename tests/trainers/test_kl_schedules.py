from __future__ import annotations

from types import SimpleNamespace

import pytest

from trainers.config import Kl
from trainers.kl_schedules import KL_SCHEDULES, Constant, Cyclical, Linear


def test_linear_is_the_increment_of_he_et_al() -> None:
    """Yahoo: 100,000 sentences, batches of 32, ten epochs: +2.88e-5 before each batch, and
    the weight is 1 at update 31,250."""
    kl = SimpleNamespace(start=0.1, end=1.0, warmup_epochs=10, delay_epochs=0)
    schedule = Linear.configured(kl, 100_000 / 32)
    weight = 0.1
    for update in range(100):
        weight = min(1.0, weight + (1 - 0.1) / (10 * 100_000 / 32))
        assert schedule.weight(update) == pytest.approx(weight, rel=1e-12)
    assert schedule.weight(0) == pytest.approx(0.1 + 2.88e-5, rel=1e-12)
    assert schedule.weight(31_248) < 1
    assert schedule.weight(31_249) == pytest.approx(1.0, rel=1e-12)
    assert schedule.weight(10**6) == 1.0


def test_linear_from_one_is_no_annealing() -> None:
    schedule = Linear(start=1.0, warmup_updates=31_250)
    assert [schedule.weight(update) for update in (0, 1, 10**5)] == [1.0, 1.0, 1.0]


def test_constant_stays() -> None:
    schedule = Constant.configured(SimpleNamespace(weight=0.4), 3125)
    assert {schedule.weight(update) for update in range(5)} == {0.4}


def test_linear_with_a_delay_and_an_end_is_the_weight_of_wang_and_wang() -> None:
    """Their weight of step t is min(0.8, clip((t - 6000) / 40000, 0, 1))."""
    kl = SimpleNamespace(start=0.0, end=0.8, delay_epochs=3, warmup_epochs=16)
    schedule = Linear.configured(kl, 2000)
    for step in (1, 6000, 6001, 10_000, 37_999, 38_000, 60_000):
        expected = min(0.8, min(max((step - 6000) / 40_000, 0), 1))
        assert schedule.weight(step - 1) == pytest.approx(expected, rel=1e-12), step


def test_cyclical_is_the_equations_of_fu_et_al() -> None:
    """T = 10 updates in 2 cycles, half of each rising: t = 1 .. 5 is 0, 0.4, 0.8, 1, 1."""
    kl = SimpleNamespace(cycles=2, ratio=0.5, span_epochs=2)
    schedule = Cyclical.configured(kl, 5)
    weights = [schedule.weight(update) for update in range(12)]
    assert weights == pytest.approx([0, 0.4, 0.8, 1, 1] * 2 + [1, 1])
    assert schedule.settled_after == 10


def test_cycles_that_do_not_divide_the_span() -> None:
    """T = 10, M = 4: tau = ((t - 1) mod ceil(2.5)) / 2.5, so 0, 0.4, 0.8 over a ratio of 1."""
    schedule = Cyclical(cycles=4, ratio=1.0, span_updates=10)
    weights = [schedule.weight(update) for update in range(10)]
    assert weights == pytest.approx([0, 0.4, 0.8] * 3 + [0])


@pytest.mark.parametrize("name", KL_SCHEDULES)
def test_every_schedule_is_between_0_and_1(name: str) -> None:
    schedule = KL_SCHEDULES[name].configured(Kl(weight=0.7, start=0.2, warmup_epochs=2.5), 3.3)
    weights = [schedule.weight(update) for update in range(150)]
    assert all(0 <= weight <= 1 for weight in weights)
    assert weights == sorted(weights) or name == "cyclical"
    assert weights[-1] == (0.7 if name == "constant" else 1.0)
