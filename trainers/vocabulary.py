"""Decoder states and target words in; negative log likelihoods out, in nats per word.

The product of states and vocabulary is most of the work of a sequence VAE, and its result
is far larger than anything else. It is made here a few rows at a time, used while it is in
the cache and thrown away; the gradient is made in the same pass. On a CPU, in fp32, oneDNN
makes the product and the exponential in one kernel.

Shapes: N rows (one target word each), H units, V words.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Rows whose logits are alive at one time, and numbers in a tile of the weight's gradient. On
# a CPU enough to keep the products at full speed, few enough for the last cache, and below
# the 32 MB from which the C library asks the system for fresh, zeroed pages on each call.
ROWS = {"cpu": 256, "cuda": 4096}
TILE = 2**21

# Multiplications (rows x units x words) below which torch's own loss is faster: there the
# calls cost more than the work. At 800 x 32 x 128 it takes 0.4 of the time.
FEW = 2**24

# The fused exponential is sigmoid(logit - SHIFT), which is exp(logit - SHIFT) within 2e-6
# relative, half a unit in the last place of 60, where that is below e^-16, and loses nothing
# that counts where a row's sum is above e^-60. So it serves rows with 0 < log sum exp < 44,
# and the others are made the plain way. SGD keeps the mean of the vocabulary's weights where
# it started, near 0, and with it log sum exp above about log V; early training on Yahoo takes
# it to 30.
SHIFT = 60.0
LOWEST, HIGHEST = math.exp(-60), math.exp(-16)


def cross_entropy(states_NH: Tensor, weight_VH: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """-log softmax(states weight^T)[target]: the sum over rows, a scalar with a gradient
    for states and weight, and the value of each row, detached. Nats."""
    if states_NH.numel() * len(weight_VH) < FEW:
        nll_N = F.cross_entropy(states_NH @ weight_VH.T, targets_N, reduction="none")
        return nll_N.sum(), nll_N.detach()
    if torch.is_grad_enabled() and (states_NH.requires_grad or weight_VH.requires_grad):
        return CrossEntropy.apply(states_NH, weight_VH, targets_N)
    nll_N = -log_likelihoods(states_NH, weight_VH, targets_N)
    return nll_N.sum(), nll_N


@torch.no_grad()
def log_likelihoods(states_NH: Tensor, weight_VH: Tensor, targets_N: Tensor) -> Tensor:
    """log softmax(states weight^T)[target] of each row, in nats, without a gradient."""
    ll_N = states_NH.new_empty(len(states_NH))
    for rows in chunks(states_NH):
        _, sums_n, shift_n = exponentials(states_NH[rows], weight_VH)
        logits_n = (states_NH[rows] * weight_VH[targets_N[rows]]).sum(1)
        ll_N[rows] = logits_n - sums_n.log() - shift_n
    return ll_N


class CrossEntropy(torch.autograd.Function):
    """With P = softmax, rows n and one-hot targets T: d/d states = P W - T W and
    d/d weight = P^T states - T^T states. P is never made: exponentials are multiplied as
    they are and their sums divide the small factor or the small result."""

    @staticmethod
    def forward(ctx, states_NH, weight_VH, targets_N):
        nll_N = states_NH.new_empty(len(states_NH))
        grad_NH = torch.empty_like(states_NH)
        words = max(1, TILE // weight_VH.shape[1])
        # Transposed, which is how oneDNN makes this product best, and in tiles of words.
        tiles_Hv = [None] * math.ceil(len(weight_VH) / words)
        for rows in chunks(states_NH):
            states_nH, wanted_nH = states_NH[rows], weight_VH[targets_N[rows]]
            exps_nV, sums_n, shift_n = exponentials(states_nH, weight_VH)
            nll_N[rows] = sums_n.log() + shift_n - (states_nH * wanted_nH).sum(1)
            sums_n1 = sums_n.unsqueeze(1)
            torch.sub(times(exps_nV, weight_VH.T) / sums_n1, wanted_nH, out=grad_NH[rows])
            shares_Hn = (states_nH / sums_n1).T.contiguous()
            for place, exps_nv in enumerate(exps_nV.split(words, 1)):
                tiles_Hv[place] = plus_times(tiles_Hv[place], shares_Hn, exps_nv.T)
        ctx.save_for_backward(states_NH, targets_N, grad_NH, *tiles_Hv)
        ctx.mark_non_differentiable(nll_N)
        return nll_N.sum(), nll_N

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        states_NH, targets_N, grad_NH, *tiles_Hv = ctx.saved_tensors
        grad_VH = torch.cat([tile_Hv.T for tile_Hv in tiles_Hv]).mul_(grad)
        return grad_NH * grad, grad_VH.index_add_(0, targets_N, states_NH * -grad), None


def chunks(states_NH: Tensor) -> Iterator[slice]:
    """Ranges of rows of about one size, at most ROWS."""
    rows = len(states_NH)
    pieces = max(1, math.ceil(rows / ROWS[states_NH.device.type]))
    size = max(1, math.ceil(rows / pieces))
    return (slice(first, first + size) for first in range(0, rows, size))


def exponentials(states_nH: Tensor, weight_VH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """exp(states weight^T - shift) with a shift per row that keeps it from overflowing, the
    sums over words, and the shifts: log sum exp = log(sum) + shift."""
    if not onednn_takes(states_nH):
        return stable_exponentials(states_nH, weight_VH)
    shifts_V = weight_VH.new_full((len(weight_VH),), -SHIFT)
    exps_nV = onednn_linear(states_nH, weight_VH, shifts_V, "sigmoid")
    sums_n, shift_n = exps_nV.sum(1), states_nH.new_full((len(states_nH),), SHIFT)
    served_n = (sums_n > LOWEST) & (sums_n < HIGHEST)
    if not served_n.all():  # So are numbers that are not finite found, and kept.
        rest = (~served_n).nonzero().squeeze(1)
        exps_nV[rest], sums_n[rest], shift_n[rest] = stable_exponentials(states_nH[rest], weight_VH)
    return exps_nV, sums_n, shift_n


def stable_exponentials(states_nH: Tensor, weight_VH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same with the row's greatest logit as the shift."""
    logits_nV = times(states_nH, weight_VH)
    shift_n = logits_nV.amax(1)
    exps_nV = logits_nV.sub_(shift_n.unsqueeze(1)).exp_()
    return exps_nV, exps_nV.sum(1), shift_n


def times(left: Tensor, right: Tensor) -> Tensor:
    """left right^T."""
    return onednn_linear(left, right) if onednn_takes(left) else left @ right.T


def plus_times(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """total + left right^T; `total` may be overwritten, and None is 0."""
    if total is None:
        return times(left, right)
    if onednn_takes(left):
        return onednn_linear_plus(left, right, total)
    return total.addmm_(left, right.T)


def onednn_linear(
    left: Tensor, right: Tensor, bias: Tensor | None = None, activation: str = "none"
) -> Tensor:
    """activation(left right^T + bias)."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, activation, [], "")


def onednn_linear_plus(left: Tensor, right: Tensor, total: Tensor) -> Tensor:
    """total + left right^T."""
    return torch.ops.mkldnn._linear_pointwise.binary(left, total, right, None, "add")


def onednn_takes(values: Tensor) -> bool:
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and torch.backends.mkldnn.enabled
        and onednn_works()
    )


@functools.cache
def onednn_works() -> bool:
    """Whether this build of torch has the private product that oneDNN makes, and it is
    right to fp32 (a mode that rounds to bf16 is not). By capability and not by a race of
    kernels, whose winner on a noisy machine would change from run to run, and the last bits
    of the results with it."""
    if not torch.backends.mkldnn.is_available():
        return False
    # Factors of 13 and 12 bits, or a little more: rounded to fewer they are 2e-4 away.
    left = (1 + 2**-12) * torch.eye(2)
    right = (1 + 2**-11) * torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    try:
        product = onednn_linear_plus(left, right, right)
        sigmoid = onednn_linear(left, right, -right[0], "sigmoid")
    except (AttributeError, RuntimeError):
        return False
    exact = left.double() @ right.double().T
    return torch.allclose(product.double(), exact + right, rtol=1e-6) and torch.allclose(
        sigmoid.double(), torch.sigmoid(exact - right[0]), rtol=1e-6
    )
