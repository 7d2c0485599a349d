from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainers import vocabulary
from trainers.vocabulary import ROWS, TILE, cross_entropy, log_likelihoods, onednn_takes


@pytest.fixture(autouse=True)
def as_if_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "FEW", 0)


@pytest.fixture(params=["onednn", "plain", "few"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kernels where this build has both, and the loss for small problems."""
    if request.param == "few":
        monkeypatch.setattr(vocabulary, "FEW", 2**24)
        return
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", request.param == "onednn")
    if request.param == "onednn" and not onednn_takes(torch.zeros(1)):
        pytest.skip("needs a torch whose CPU build has oneDNN")


def a_problem(rows: int, words: int = 40, hidden: int = 12, scale: float = 1.0):
    generator = torch.Generator().manual_seed(rows)
    states_NH = torch.randn(rows, hidden, generator=generator)
    weight_VH = scale * torch.randn(words, hidden, generator=generator)
    return states_NH, weight_VH, torch.randint(words, (rows,), generator=generator)


def reference(states_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, share: float = 1.0):
    """The loss per row and the gradients of `share` of their sum, by torch in float64."""
    states_NH = states_NH.double().requires_grad_()
    weight_VH = weight_VH.double().requires_grad_()
    nll_N = F.cross_entropy(states_NH @ weight_VH.T, targets_N, reduction="none")
    return nll_N.detach(), *torch.autograd.grad(share * nll_N.sum(), (states_NH, weight_VH))


def close(ours: Tensor, expected: Tensor, relative: float = 1e-5) -> bool:
    return bool((ours.double() - expected).norm() <= relative * expected.norm())


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("rows", [1, 7, ROWS["cpu"], ROWS["cpu"] + 1, 2 * ROWS["cpu"] + 55])
def test_value_and_gradients_are_those_of_the_plain_loss(rows: int) -> None:
    states_NH, weight_VH, targets_N = a_problem(rows)
    nll_N, grad_NH, grad_VH = reference(states_NH, weight_VH, targets_N, share=0.25)
    total, ours_N = cross_entropy(states_NH.requires_grad_(), weight_VH.requires_grad_(), targets_N)
    (0.25 * total).backward()
    assert close(total.detach(), nll_N.sum())
    assert close(ours_N, nll_N)
    assert close(states_NH.grad, grad_NH)
    assert close(weight_VH.grad, grad_VH)
    assert close(-log_likelihoods(states_NH, weight_VH, targets_N), nll_N)


@pytest.mark.usefixtures("route")
def test_a_weight_of_more_than_one_tile() -> None:
    words = TILE // 64 + 100
    states_NH, weight_VH, targets_N = a_problem(3, words=words, hidden=64, scale=0.1)
    targets_N[0] = words - 1
    _, _, grad_VH = reference(states_NH, weight_VH, targets_N)
    total, _ = cross_entropy(states_NH, weight_VH.requires_grad_(), targets_N)
    total.backward()
    assert close(weight_VH.grad, grad_VH)


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("scale", [1e-4, 3.0, 30.0, 300.0])
def test_logits_of_any_size_are_taken(scale: float) -> None:
    """At 300 the largest logits are in the thousands, where exp overflows."""
    states_NH, weight_VH, targets_N = a_problem(300, scale=scale)
    nll_N, grad_NH, grad_VH = reference(states_NH, weight_VH, targets_N)
    total, ours_N = cross_entropy(states_NH.requires_grad_(), weight_VH.requires_grad_(), targets_N)
    total.backward()
    assert close(ours_N, nll_N)
    assert close(states_NH.grad, grad_NH, 1e-4)
    assert close(weight_VH.grad, grad_VH, 1e-4)


@pytest.mark.usefixtures("route")
def test_rows_far_apart_in_size_may_share_a_chunk() -> None:
    """All words of one row have the logit `level`, so that its loss is log V."""
    levels_N = torch.tensor([-1000.0, -90.0, -5.0, 0.0, 30.0, 44.0, 60.0, 90.0, 1000.0])
    states_NH, weight_VH = levels_N.unsqueeze(1).requires_grad_(), torch.ones(16, 1)
    targets_N = torch.arange(len(levels_N))
    total, nll_N = cross_entropy(states_NH, weight_VH, targets_N)
    torch.testing.assert_close(nll_N, torch.full_like(levels_N, 16.0).log(), rtol=1e-4, atol=1e-4)
    total.backward()
    torch.testing.assert_close(states_NH.grad, torch.zeros_like(states_NH), rtol=0, atol=1e-5)


def test_gradients_agree_with_differences_in_float64() -> None:
    states_NH, weight_VH, targets_N = a_problem(9, words=11, hidden=4)
    inputs = states_NH.double().requires_grad_(), weight_VH.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda *it: cross_entropy(*it, targets_N)[0], inputs)


@pytest.mark.usefixtures("route")
def test_going_back_twice_gives_the_same_gradient() -> None:
    states_NH, weight_VH, targets_N = a_problem(20)
    total, _ = cross_entropy(states_NH.requires_grad_(), weight_VH, targets_N)
    (once,) = torch.autograd.grad(3 * total, states_NH, retain_graph=True)
    (twice,) = torch.autograd.grad(3 * total, states_NH)
    assert torch.equal(once, twice)


@pytest.mark.usefixtures("route")
def test_one_answer_to_the_bit() -> None:
    states_NH, weight_VH, targets_N = a_problem(600)
    states_NH.requires_grad_()
    answers = []
    for padding in range(3):
        # Other addresses of the same numbers.
        moved_VH = torch.cat([torch.zeros(padding, 12), weight_VH])[padding:].requires_grad_()
        total, nll_N = cross_entropy(states_NH, moved_VH, targets_N)
        answers.append([nll_N, *torch.autograd.grad(total, (states_NH, moved_VH))])
    for answer in answers[1:]:
        assert all(map(torch.equal, answers[0], answer))


@pytest.mark.usefixtures("route")
def test_the_loss_per_row_carries_no_gradient() -> None:
    states_NH, weight_VH, targets_N = a_problem(5)
    total, nll_N = cross_entropy(states_NH.requires_grad_(), weight_VH, targets_N)
    assert total.requires_grad
    assert not nll_N.requires_grad
    with torch.no_grad():
        unneeded, same_N = cross_entropy(states_NH, weight_VH, targets_N)
    assert not unneeded.requires_grad
    torch.testing.assert_close(same_N, nll_N)


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_seen_in_its_row(bad: float) -> None:
    states_NH, weight_VH, targets_N = a_problem(6)
    states_NH[2, 0] = bad
    nll_N = -log_likelihoods(states_NH, weight_VH, targets_N)
    assert nll_N.isfinite().tolist() == [True, True, False, True, True, True]


def test_onednn_is_left_alone_where_it_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not onednn_takes(torch.zeros(1, dtype=torch.float64))
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert not onednn_takes(torch.zeros(1))


def test_a_mode_that_rounds_to_bf16_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As oneDNN does where it may: factors rounded, sums in fp32."""
    exact = vocabulary.onednn_linear

    def rounded(left: Tensor, right: Tensor, *rest: object) -> Tensor:
        return exact(left.bfloat16().float(), right.bfloat16().float(), *rest)

    if not onednn_takes(torch.zeros(1)):
        pytest.skip("needs a torch whose CPU build has oneDNN")
    monkeypatch.setattr(vocabulary, "onednn_linear", rounded)
    assert not vocabulary.onednn_works.__wrapped__()


@pytest.mark.gpu
def test_on_a_gpu_too() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    states_NH, weight_VH, targets_N = a_problem(5000)
    nll_N, grad_NH, grad_VH = reference(states_NH, weight_VH, targets_N)
    states_NH, weight_VH = states_NH.cuda().requires_grad_(), weight_VH.cuda().requires_grad_()
    total, ours_N = cross_entropy(states_NH, weight_VH, targets_N.cuda())
    total.backward()
    assert close(ours_N.cpu(), nll_N)
    assert close(states_NH.grad.cpu(), grad_NH)
    assert close(weight_VH.grad.cpu(), grad_VH)
