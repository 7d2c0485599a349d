from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainers.updates import Updates


class Halves(nn.Module):
    """f(a, b) = 3 a + 4 b: a gradient of norm 5, of which the first half's part is 3."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def halves(self) -> dict[str, list[nn.Parameter]]:
        return {"encoder": [self.a], "decoder": [self.b]}

    def loss(self) -> torch.Tensor:
        return 3 * self.a + 4 * self.b


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("joint", (-0.6, -0.8)), ("encoder", (-0.6, 0.0)), ("decoder", (0.0, -0.8))],
)
def test_the_norm_is_of_the_whole_model_whichever_half_moves(
    kind: str, expected: tuple[float, float]
) -> None:
    model = Halves()
    updates = Updates(model, algorithm="sgd", lr=1.0, clip=1.0)
    updates.step(model.loss(), kind)
    # Clipped from 5 to 1 together: 3/5 and 4/5, not 3/3 for the encoder alone.
    assert (model.a.item(), model.b.item()) == pytest.approx(expected, abs=1e-6)


def test_a_short_gradient_is_left_alone() -> None:
    model = Halves()
    Updates(model, algorithm="sgd", lr=0.5, clip=5.1).step(model.loss(), "joint")
    assert (model.a.item(), model.b.item()) == pytest.approx((-1.5, -2.0))


def test_the_first_adam_update_has_the_size_of_the_rate() -> None:
    model = Halves()
    Updates(model, algorithm="adam", lr=0.01, clip=100.0).step(model.loss(), "joint")
    assert (model.a.item(), model.b.item()) == pytest.approx((-0.01, -0.01), rel=1e-5)


def test_cost_is_counted_by_kind() -> None:
    model = Halves()
    updates = Updates(model, algorithm="sgd", lr=0.1, clip=5.0)
    for kind in ("encoder", "encoder", "encoder", "decoder", "joint", "joint"):
        updates.step(model.loss(), kind)
    assert updates.cost() == {
        "cost/updates": 6,
        "cost/updates_joint": 2,
        "cost/updates_encoder": 3,
        "cost/updates_decoder": 1,
        "cost/updates_critic": 0,
        "cost/outer_steps": 3,
        "cost/inner_steps": 3,
    }


def test_new_optimisers_forget_and_the_count_does_not() -> None:
    model = Halves()
    updates = Updates(model, algorithm="adam", lr=0.01, clip=100.0)
    for _ in range(3):
        updates.step(model.loss(), "joint")
    updates.renew(0.5)
    assert all(not optimiser.state for optimiser in updates.optimisers.values())
    before = model.a.item()
    updates.step(model.loss(), "joint")
    assert model.a.item() - before == pytest.approx(-0.5, rel=1e-5)  # A first update again.
    assert updates.counts["joint"] == 4


def test_a_loss_that_is_not_finite_is_not_hidden() -> None:
    model = Halves()
    updates = Updates(model, algorithm="sgd", lr=1.0, clip=5.0)
    updates.step(model.loss() * math.nan, "joint")
    assert math.isnan(model.a.item())
