from __future__ import annotations

from types import SimpleNamespace

import pytest

from trainers.kl_schedules import KL_SCHEDULES, Constant, Linear


def test_linear_is_the_increment_of_he_et_al() -> None:
    """Yahoo: 100,000 sentences, batches of 32, ten epochs: +2.88e-5 before each batch, and
    the weight is 1 at update 31,250."""
    kl = SimpleNamespace(start=0.1, warmup_epochs=10)
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


@pytest.mark.parametrize("name", KL_SCHEDULES)
def test_every_schedule_is_between_0_and_1_and_does_not_fall(name: str) -> None:
    kl = SimpleNamespace(weight=0.7, start=0.2, warmup_epochs=2.5)
    schedule = KL_SCHEDULES[name].configured(kl, 3.3)
    weights = [schedule.weight(update) for update in range(30)]
    assert all(0 <= weight <= 1 for weight in weights)
    assert weights == sorted(weights)
