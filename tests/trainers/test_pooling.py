from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers.models import pooling
from trainers.pooling import POOLINGS


def slowly(name: str, states_TH: Tensor) -> Tensor:
    """The pooling of one sentence's states, unit by unit in plain Python."""
    pooled = []
    attended = attention(states_TH) if name == "attention" else ()
    for unit in states_TH.unbind(1):
        values = list(unit)
        if name == "last":
            pooled.append(values[-1])
        elif name == "avg":
            pooled.append(sum(values) / len(values))
        elif name == "max":
            pooled.append(max(values, key=Tensor.item))
        elif name == "attention":
            pooled.append(sum(w * value for w, value in zip(attended, values, strict=True)))
        else:
            pooled.append(max(values, key=lambda value: abs(value.item())))
    return torch.stack(pooled)


def attention(states_TH: Tensor) -> list[Tensor]:
    """Weights of the positions: e^(v . tanh(W h + b)) over their sum."""
    layer = a_pooling("attention")
    W, b, v = layer.project.weight, layer.project.bias, layer.context.weight[0]
    scores = [(v * torch.tanh((W * state).sum(1) + b)).sum().exp() for state in states_TH]
    return [score / sum(scores) for score in scores]


def a_pooling(name: str) -> Callable[[Tensor, Tensor | None], Tensor]:
    """One that has weights has those of seed 1."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return pooling(POOLINGS[name], 5)


@pytest.fixture(params=["without a mask", "with a mask"])
def batch(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor | None, list[int]]:
    """States [B, T, H], mask and lengths. Some units are negative everywhere, and padding
    holds values that would win anything."""
    generator = torch.Generator().manual_seed(5)
    states_BTH = torch.rand(4, 6, 5, generator=generator) * 2 - 1
    states_BTH[:, :, 0] = -states_BTH[:, :, 0].abs()
    if request.param == "without a mask":
        return states_BTH, None, [6] * 4
    lengths = [6, 1, 3, 5]
    mask_BT = torch.arange(6) < torch.tensor(lengths)[:, None]
    states_BTH[~mask_BT] = 100.0
    return states_BTH, mask_BT, lengths


@pytest.mark.parametrize("name", POOLINGS)
def test_every_pooling_is_the_plain_loop_with_its_gradient(
    name: str, batch: tuple[Tensor, Tensor | None, list[int]]
) -> None:
    states_BTH, mask_BT, lengths = batch
    fast = states_BTH.clone().requires_grad_()
    plain = states_BTH.clone().requires_grad_()
    got = a_pooling(name)(fast, mask_BT)
    expected = torch.stack([slowly(name, plain[b, :length]) for b, length in enumerate(lengths)])
    torch.testing.assert_close(got, expected)
    weights = torch.linspace(-1, 1, got.numel()).view_as(got)
    (got * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(fast.grad, plain.grad)
    if mask_BT is not None:
        assert not fast.grad[~mask_BT].any()


def test_ties_of_the_maximum_share_the_gradient() -> None:
    states_BTH = torch.tensor([[[1.0], [1.0], [0.0]]], requires_grad=True)
    POOLINGS["max"](states_BTH, None).sum().backward()
    np.testing.assert_array_equal(states_BTH.grad.flatten(), [0.5, 0.5, 0.0])


def test_absolute_keeps_the_sign() -> None:
    states_BTH = torch.tensor([[[0.5], [-0.9], [0.8]]])
    assert POOLINGS["abs"](states_BTH, None).item() == pytest.approx(-0.9)
