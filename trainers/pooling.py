"""The encoder's states at all positions in; one feature per sentence out.

Shapes: B sentences, T positions (`<s>` and `</s>` among them, as the encoder reads them),
H hidden units. mask_BT is true at real positions, of which each sentence has at least one;
None says that no position is padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def last(states_BTH: Tensor, mask_BT: Tensor | None) -> Tensor:
    """The state after the last word: what a plain encoder gives."""
    if mask_BT is None:
        return states_BTH[:, -1]
    last_B11 = (mask_BT.sum(1) - 1)[:, None, None]
    return states_BTH.gather(1, last_B11.expand(-1, 1, states_BTH.shape[2])).squeeze(1)


def average(states_BTH: Tensor, mask_BT: Tensor | None) -> Tensor:
    if mask_BT is None:
        return states_BTH.mean(1)
    return (states_BTH * mask_BT.unsqueeze(2)).sum(1) / mask_BT.sum(1, keepdim=True)


def maximum(states_BTH: Tensor, mask_BT: Tensor | None) -> Tensor:
    """The greatest value of each unit; states tied for it share the gradient."""
    if mask_BT is not None:
        # Zeros would win over units that are negative everywhere.
        states_BTH = states_BTH.masked_fill(~mask_BT.unsqueeze(2), float("-inf"))
    return states_BTH.amax(1)


def absolute(states_BTH: Tensor, mask_BT: Tensor | None) -> Tensor:
    """The value of each unit that is farthest from 0, with its sign."""
    size_BTH = states_BTH.detach().abs()
    if mask_BT is not None:
        size_BTH = size_BTH.masked_fill(~mask_BT.unsqueeze(2), -1.0)
    return states_BTH.gather(1, size_BTH.argmax(1, keepdim=True)).squeeze(1)


class SelfAttention(nn.Module):
    """Sum of the states, each weighted by softmax_t(v . tanh(W h_t + b)) (Yang et al. 2016,
    equations 5 to 7, with as many attention units as states; the paper does not give its
    size). The only pooling with weights of its own."""

    def __init__(self, *, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, hidden)
        self.context = nn.Linear(hidden, 1, bias=False)

    def forward(self, states_BTH: Tensor, mask_BT: Tensor | None) -> Tensor:
        scores_BT1 = self.context(torch.tanh(self.project(states_BTH)))
        if mask_BT is not None:
            scores_BT1 = scores_BT1.masked_fill(~mask_BT.unsqueeze(2), float("-inf"))
        return (scores_BT1.softmax(1) * states_BTH).sum(1)


POOLINGS = {
    "abs": absolute,
    "attention": SelfAttention,
    "avg": average,
    "last": last,
    "max": maximum,
}
