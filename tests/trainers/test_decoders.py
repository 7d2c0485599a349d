from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainers.decoders import DECODERS, LSTMDecoder, State, dropout_mask, tanh

WORDS, EMBEDDING, HIDDEN, LATENT = 23, 6, 10, 3


@pytest.fixture(params=["onednn", "plain"], autouse=True)
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", request.param == "onednn")


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> LSTMDecoder:
    return a_decoder(request.param)


def a_decoder(name: str, latent: int = LATENT, dropout: float = 0.0) -> LSTMDecoder:
    decoder = DECODERS[name](
        words=WORDS, embedding=EMBEDDING, hidden=HIDDEN, latent=latent, dropout=dropout
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.uniform_(-0.8, 0.8, generator=generator)
    return decoder


def sentences(batch: int, length: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    tokens_BT = torch.randint(4, WORDS, (batch, length), generator=generator)
    tokens_BT[:, 0], tokens_BT[:, -1] = 1, 2
    return tokens_BT, torch.randn(batch, LATENT, generator=generator)


def slow_nll(decoder: LSTMDecoder, tokens: list[int], code_Z: Tensor, inputs=None) -> Tensor:
    """-log p(x|z) of one sentence, from the equations, word by word in float64."""
    weights = {name: it.double() for name, it in decoder.named_parameters()}
    code_Z = code_Z.double()
    cell_H = weights["trans_linear.weight"] @ code_Z
    hidden_H = torch.tanh(cell_H)
    total = torch.zeros((), dtype=torch.float64)
    for word, target in zip(inputs or tokens[:-1], tokens[1:], strict=True):
        read = weights["embed.weight"][word]
        read = torch.cat([read, code_Z]) if decoder.feed else read
        gates = weights["lstm.weight_ih_l0"] @ read + weights["lstm.bias_ih_l0"]
        gates = gates + weights["lstm.weight_hh_l0"] @ hidden_H + weights["lstm.bias_hh_l0"]
        enter, forget, new, out = gates.split(HIDDEN)
        cell_H = torch.sigmoid(forget) * cell_H + torch.sigmoid(enter) * torch.tanh(new)
        hidden_H = torch.sigmoid(out) * torch.tanh(cell_H)
        shown = torch.cat([hidden_H, code_Z]) if decoder.skip else hidden_H
        total = total - torch.log_softmax(weights["pred_linear.weight"] @ shown, 0)[target]
    return total


def test_reconstruction_is_the_equations_sum(decoder: LSTMDecoder) -> None:
    tokens_BT, latent_BZ = sentences(4, 7)
    expected = [
        slow_nll(decoder, *pair) for pair in zip(tokens_BT.tolist(), latent_BZ, strict=True)
    ]
    gradients = torch.autograd.grad(sum(expected), list(decoder.parameters()))
    total, nll_B = decoder.reconstruction(tokens_BT, latent_BZ)
    ours = torch.autograd.grad(total, list(decoder.parameters()))
    torch.testing.assert_close(nll_B.double(), torch.stack(expected).detach(), rtol=1e-5, atol=0)
    assert not nll_B.requires_grad
    for gradient, slow in zip(ours, gradients, strict=True):
        assert (gradient - slow).norm() <= 1e-5 * slow.norm()


def test_log_likelihood_is_the_plain_decoders(decoder: LSTMDecoder) -> None:
    tokens_BT, _ = sentences(3, 9)
    latent_BSZ = torch.randn(3, 5, LATENT, generator=torch.Generator().manual_seed(8))
    decoder.dropout = 0.5  # Must not count here.
    ll_BS = decoder.log_likelihood(tokens_BT, latent_BSZ)
    with torch.no_grad():
        expected = [
            [-slow_nll(decoder, tokens, code_Z) for code_Z in latent_SZ]
            for tokens, latent_SZ in zip(tokens_BT.tolist(), latent_BSZ, strict=True)
        ]
    torch.testing.assert_close(ll_BS.double(), torch.tensor(expected).double(), rtol=1e-5, atol=0)
    assert not ll_BS.requires_grad


def test_steps_add_up_to_reconstruction(decoder: LSTMDecoder) -> None:
    tokens_BT, latent_BZ = sentences(4, 9)
    decoder.dropout = 0.5  # Must not count here.
    steps = stepwise(decoder, tokens_BT, decoder.start(latent_BZ, 4))
    _, nll_B = decoder.eval().reconstruction(tokens_BT, latent_BZ)
    torch.testing.assert_close(-sum(steps), nll_B, rtol=1e-5, atol=0)


def test_steps_of_a_language_model_add_up_to_reconstruction() -> None:
    model, (tokens_BT, _) = a_decoder("lstm", latent=0), sentences(4, 9)
    _, nll_B = model.reconstruction(tokens_BT, None)
    steps = stepwise(model, tokens_BT, model.start(None, 4))
    torch.testing.assert_close(-sum(steps), nll_B.detach(), rtol=1e-5, atol=0)


def stepwise(decoder: LSTMDecoder, tokens_BT: Tensor, state: State) -> list[Tensor]:
    """log p of each target word [B], in its turn."""
    log_p = []
    for words_B, targets_B in zip(tokens_BT.T[:-1], tokens_BT.T[1:], strict=True):
        log_p_BV, state = decoder.step(words_B, state)
        torch.testing.assert_close(log_p_BV.exp().sum(1), torch.ones(len(words_B)))
        assert not log_p_BV.requires_grad
        log_p.append(log_p_BV[range(len(words_B)), targets_B])
    return log_p


def test_one_may_go_on_from_a_state_in_two_ways(decoder: LSTMDecoder) -> None:
    """Row 2 and twice row 0 of three sentences, whose states a step leaves as they are."""
    tokens_BT, latent_BZ = sentences(3, 4)
    rows = torch.tensor([2, 0, 0])
    state, alone = decoder.start(latent_BZ), decoder.start(latent_BZ[rows])
    for words_B in tokens_BT.T[:2]:
        _, state = decoder.step(words_B, state)
        _, alone = decoder.step(words_B[rows], alone)
    words_B = torch.tensor([7, 8, 9])
    expected, _ = decoder.step(words_B, alone)
    decoder.step(tokens_BT.T[2], state)
    found, _ = decoder.step(words_B, state.of(rows))
    torch.testing.assert_close(found, expected)


def test_a_code_that_is_not_fed_matters_through_the_initial_state_alone() -> None:
    """Where no state leads on to the next (forget gates shut, no recurrent weights) no word
    knows the code."""
    decoder = a_decoder("initial")
    assert decoder.lstm.weight_ih_l0.shape == (4 * HIDDEN, EMBEDDING)
    with torch.no_grad():
        decoder.lstm.weight_hh_l0.zero_()
        decoder.lstm.bias_ih_l0[HIDDEN : 2 * HIDDEN] = -1e4
    tokens_BT, latent_BZ = sentences(1, 6)
    first, second = decoder.start(latent_BZ), decoder.start(-latent_BZ)
    assert not torch.equal(first.cell_NH, second.cell_NH)
    assert torch.equal(first.cell_NH.tanh(), first.hidden_NH)
    steps = [stepwise(decoder, tokens_BT, state) for state in (first, second)]
    torch.testing.assert_close(*steps, rtol=0, atol=0)
    with torch.no_grad():
        decoder.lstm.bias_ih_l0[HIDDEN : 2 * HIDDEN] = 0
    steps = [stepwise(decoder, tokens_BT, state) for state in (first, second)]
    assert all(not torch.equal(*pair) for pair in zip(*steps, strict=True))


def test_padding_adds_nothing(decoder: LSTMDecoder) -> None:
    lengths = [7, 3, 5]
    tokens_BT, latent_BZ = sentences(3, 7)
    mask_BT = torch.arange(7) < torch.tensor(lengths)[:, None]
    tokens_BT[~mask_BT] = 0
    total, nll_B = decoder.reconstruction(tokens_BT, latent_BZ, mask_BT=mask_BT)
    gradients = torch.autograd.grad(total, list(decoder.parameters()))
    alone = [
        decoder.reconstruction(tokens_BT[[row], :length], latent_BZ[[row]])
        for row, length in enumerate(lengths)
    ]
    torch.testing.assert_close(nll_B, torch.cat([nll_1 for _, nll_1 in alone]))
    expected = torch.autograd.grad(sum(part for part, _ in alone), list(decoder.parameters()))
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-5)


def test_replaced_inputs_are_read_and_targets_are_not_replaced(decoder: LSTMDecoder) -> None:
    tokens_BT, latent_BZ = sentences(2, 6)
    inputs_BT = tokens_BT[:, :-1].clone()
    inputs_BT[:, 2] = 3
    _, nll_B = decoder.reconstruction(tokens_BT, latent_BZ, inputs_BT=inputs_BT)
    for row in range(2):
        expected = slow_nll(
            decoder, tokens_BT[row].tolist(), latent_BZ[row], inputs_BT[row].tolist()
        )
        assert float(nll_B[row]) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_language_model_starts_from_zero() -> None:
    """With weights of zero into the gates and biases b, its states are those of the
    recurrence c = s(b) c + s(b) tanh(b) from c = 0, whatever the words."""
    model = a_decoder("lstm", latent=0)
    tokens_BT, _ = sentences(2, 5)
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_hh_l0"):
            getattr(model.lstm, name).zero_()
        model.lstm.bias_ih_l0.fill_(0.7)
    _, nll_B = model.reconstruction(tokens_BT, None)
    gate, cell, expected_B = 1 / (1 + math.exp(-0.7)), 0.0, torch.zeros(2)
    for targets_B in tokens_BT[:, 1:].T:
        cell = gate * cell + gate * math.tanh(0.7)
        logits_V = gate * math.tanh(cell) * model.pred_linear.weight.detach().sum(1)
        expected_B -= torch.log_softmax(logits_V, 0)[targets_B]
    torch.testing.assert_close(nll_B, expected_B)


def test_a_skip_connection_does_not_drop_the_code() -> None:
    """With the states' weights at zero the words depend on W z alone."""
    decoder = a_decoder("skip", dropout=0.5).train()
    with torch.no_grad():
        decoder.pred_linear.weight[:, :HIDDEN] = 0
    tokens_BT, latent_BZ = sentences(3, 8)
    _, nll_B = decoder.reconstruction(
        tokens_BT, latent_BZ, generator=torch.Generator().manual_seed(1)
    )
    log_p_BV = torch.log_softmax(latent_BZ @ decoder.pred_linear.weight.detach()[:, HIDDEN:].T, 1)
    torch.testing.assert_close(nll_B, -log_p_BV.gather(1, tokens_BT[:, 1:]).sum(1))


def test_dropout_is_in_training_only_and_from_the_generator(decoder: LSTMDecoder) -> None:
    decoder.dropout = 0.5
    tokens_BT, latent_BZ = sentences(3, 8)

    def nll(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return decoder.reconstruction(tokens_BT, latent_BZ, generator=generator)[1]

    before = torch.random.get_rng_state()
    assert torch.equal(nll(1), nll(1))
    assert not torch.equal(nll(1), nll(2))
    decoder.eval()
    assert torch.equal(nll(1), nll(2))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.7])
def test_a_dropout_mask_keeps_the_mean(rate: float) -> None:
    values = torch.zeros(101, 1001)
    mask = dropout_mask(values, rate, torch.Generator().manual_seed(2))
    assert mask.shape == values.shape
    kept = mask[mask > 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=1e-4, atol=0)
    for part in range(4):  # An element's place says which bits of a draw decide it.
        share = float((mask.flatten()[part::4] == 0).double().mean())
        assert abs(share - rate) < 5 * math.sqrt(rate * (1 - rate) / 25_000)


def test_dropout_masks_of_neighbours_are_independent() -> None:
    mask = dropout_mask(torch.zeros(200_000), 0.5, torch.Generator().manual_seed(2)) - 1
    for apart in (1, 2, 3, 4, 64):
        assert abs(float((mask[apart:] * mask[:-apart]).mean())) < 5 / math.sqrt(199_000)


def test_the_fast_tanh_is_tanh() -> None:
    values = torch.linspace(-20, 20, 4001)
    expected = torch.tanh(values.double())
    assert float((tanh(values) - expected).abs().max()) < 2e-7


def test_parts_and_their_shapes() -> None:
    names = {name: tuple(it.shape) for name, it in a_decoder("skip").named_parameters()}
    assert names == {
        "embed.weight": (WORDS, EMBEDDING),
        "lstm.weight_ih_l0": (4 * HIDDEN, EMBEDDING + LATENT),
        "lstm.weight_hh_l0": (4 * HIDDEN, HIDDEN),
        "lstm.bias_ih_l0": (4 * HIDDEN,),
        "lstm.bias_hh_l0": (4 * HIDDEN,),
        "trans_linear.weight": (HIDDEN, LATENT),
        "pred_linear.weight": (WORDS, HIDDEN + LATENT),
    }
    plain = dict(a_decoder("lstm", latent=0).named_parameters())
    assert plain["pred_linear.weight"].shape == (WORDS, HIDDEN)
    assert "trans_linear.weight" not in plain
