"""Sentences and latent codes in; how likely the decoder finds the sentences out, in nats.

Shapes: B sentences, T words each, S codes per sentence, Z latent dimensions, E embedding,
H hidden units, G gates (4 H), V words; N rows of any kind (the target words of a batch,
sentences in parallel). Tokens are `<s> w1 .. wn </s>`: the decoder reads all but the last
and predicts all but the first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.vocabulary import cross_entropy, log_likelihoods, times


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A decoder between two words, for each of N sentences in parallel: what it has read, and
    what stays: the code and what the code adds to every sum before the gates (None: nothing)."""

    hidden_NH: Tensor
    cell_NH: Tensor
    latent_NZ: Tensor | None
    latent_NG: Tensor | None

    def of(self, rows_M: Tensor) -> State:
        """Of these rows, in this order; a row may be taken more than once."""
        parts = self.hidden_NH, self.cell_NH, self.latent_NZ, self.latent_NG
        hidden, cell, latent, gates = (None if it is None else it[rows_M] for it in parts)
        return State(hidden_NH=hidden, cell_NH=cell, latent_NZ=latent, latent_NG=gates)


class LSTMDecoder(nn.Module):
    """One LSTM layer over words, each with the code beside it; c0 = W z, h0 = tanh(c0).

    latent = 0 is a plain language model. With `skip` the code also stands beside each
    output (Dieng et al. 2019): logits = W [dropout(h); z], z not dropped. Without `feed` no
    code stands beside the words: it enters through the initial state alone, as in Wang and
    Wang (2019), whose h0 and c0 are the halves of tanh(A z + b); ours stay as above."""

    def __init__(
        self,
        *,
        words: int,
        embedding: int,
        hidden: int,
        latent: int,
        dropout: float,
        skip: bool = False,
        feed: bool = True,
    ) -> None:
        super().__init__()
        assert not (skip and latent == 0), "a skip connection needs a code"
        self.dropout = dropout
        self.skip, self.feed = skip, feed
        self.embed = nn.Embedding(words, embedding)
        self.lstm = nn.LSTM(embedding + latent * feed, hidden, batch_first=True)
        if latent:
            self.trans_linear = nn.Linear(latent, hidden, bias=False)
        self.pred_linear = nn.Linear(hidden + latent * skip, words, bias=False)

    def reconstruction(
        self,
        tokens_BT: Tensor,
        latent_BZ: Tensor | None,
        *,
        mask_BT: Tensor | None = None,
        inputs_BT: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """-log p(x|z): its sum over sentences and target words, with a gradient, and its
        value per sentence, detached.

        `inputs_BT` stands in for tokens_BT[:, :-1] where word dropout replaced some;
        padded positions (mask_BT false) add nothing. Dropout, in training only, draws its
        masks from `generator`."""
        words_BT = tokens_BT[:, :-1] if inputs_BT is None else inputs_BT
        # Time-major throughout: what the fused LSTM wants inside, so nothing is copied.
        states_TBH = self.states(words_BT.T, latent_BZ, generator)
        states_NH, targets_N = states_TBH.flatten(0, 1), tokens_BT[:, 1:].T.flatten()
        if mask_BT is None:
            total, nll_N = cross_entropy(states_NH, self.pred_linear.weight, targets_N)
            return total, nll_N.view(words_BT.T.shape).sum(0)
        real_N = mask_BT[:, 1:].T.flatten()
        total, nll_real = cross_entropy(
            states_NH[real_N], self.pred_linear.weight, targets_N[real_N]
        )
        nll_N = nll_real.new_zeros(real_N.shape).masked_scatter_(real_N, nll_real)
        return total, nll_N.view(words_BT.T.shape).sum(0)

    def states(
        self, words_TB: Tensor, latent_BZ: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """What the output layer reads at each position."""
        inputs_TBE = self.drop(self.embed(words_TB), generator)
        if latent_BZ is None:
            hidden_BTH, _ = self.lstm(inputs_TBE.transpose(0, 1))
            return self.drop(hidden_BTH.transpose(0, 1), generator)
        latent_TBZ = latent_BZ.expand(len(words_TB), -1, -1)
        cell_BH = self.trans_linear(latent_BZ)
        start = cell_BH.tanh().unsqueeze(0), cell_BH.unsqueeze(0)
        if self.feed:
            inputs_TBE = torch.cat([inputs_TBE, latent_TBZ], 2)
        hidden_BTH, _ = self.lstm(inputs_TBE.transpose(0, 1), start)
        states_TBH = self.drop(hidden_BTH.transpose(0, 1), generator)
        return torch.cat([states_TBH, latent_TBZ], 2) if self.skip else states_TBH

    def drop(self, values: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training or self.dropout == 0:
            return values
        return values * dropout_mask(values, self.dropout, generator)

    @torch.no_grad()
    def log_likelihood(self, tokens_BT: Tensor, latent_BSZ: Tensor) -> Tensor:
        """log p(x|z) of each sentence under each of its codes, [B, S], in nats, without
        dropout. Words are projected once per sentence and codes once; S times B rows are
        alive, at one position at a time."""
        batch, samples, _ = latent_BSZ.shape
        words_TBG = self.word_gates(tokens_BT[:, :-1].T)
        state = self.start(latent_BSZ.flatten(0, 1))
        hidden_NH, cell_NH = state.hidden_NH, state.cell_NH
        ll_N = cell_NH.new_zeros(batch * samples)
        for words_BG, targets_B in zip(words_TBG, tokens_BT[:, 1:].T, strict=True):
            gates_NG = self.state_gates(hidden_NH, state.latent_NG)
            gates_NG.view(batch, samples, -1).add_(words_BG.unsqueeze(1))
            hidden_NH = advance(gates_NG, cell_NH)
            outputs_NH = self.outputs(hidden_NH, state.latent_NZ)
            targets_N = targets_B.repeat_interleave(samples)
            ll_N += log_likelihoods(outputs_NH, self.pred_linear.weight, targets_N)
        return ll_N.view(batch, samples)

    @torch.no_grad()
    def start(self, latent_NZ: Tensor | None, rows: int | None = None) -> State:
        """Before `<s>` is read: a row for each code or, for a language model, `rows` of them."""
        if latent_NZ is None:
            zeros_NH = self.lstm.weight_hh_l0.new_zeros(rows, self.lstm.hidden_size)
            return State(hidden_NH=zeros_NH, cell_NH=zeros_NH, latent_NZ=None, latent_NG=None)
        from_latent_GZ = self.lstm.weight_ih_l0[:, self.embed.embedding_dim :]
        cell_NH = self.trans_linear(latent_NZ)
        return State(
            hidden_NH=cell_NH.tanh(),
            cell_NH=cell_NH,
            latent_NZ=latent_NZ,
            latent_NG=F.linear(latent_NZ, from_latent_GZ) if self.feed else None,
        )

    @torch.no_grad()
    def step(self, words_N: Tensor, state: State) -> tuple[Tensor, State]:
        """log p of each next word [N, V], nats, after one more word in each row, and the state
        then. Without dropout; `state` stays as it is, so that one may go on from it twice."""
        gates_NG = self.state_gates(state.hidden_NH, state.latent_NG)
        cell_NH = state.cell_NH.clone()
        hidden_NH = advance(gates_NG.add_(self.word_gates(words_N)), cell_NH)
        logits_NV = times(self.outputs(hidden_NH, state.latent_NZ), self.pred_linear.weight)
        return logits_NV.log_softmax(1), replace(state, hidden_NH=hidden_NH, cell_NH=cell_NH)

    def word_gates(self, words: Tensor) -> Tensor:
        """What words and biases add to the sums before the gates, in the shape of `words`."""
        from_words_GE = self.lstm.weight_ih_l0[:, : self.embed.embedding_dim]
        bias_G = self.lstm.bias_ih_l0 + self.lstm.bias_hh_l0
        return F.linear(self.embed(words), from_words_GE, bias_G)

    def state_gates(self, hidden_NH: Tensor, latent_NG: Tensor | None) -> Tensor:
        """What the state and the code add."""
        gates_NG = times(hidden_NH, self.lstm.weight_hh_l0)
        return gates_NG if latent_NG is None else gates_NG.add_(latent_NG)

    def outputs(self, hidden_NH: Tensor, latent_NZ: Tensor | None) -> Tensor:
        """What the output layer reads, without dropout."""
        return torch.cat([hidden_NH, latent_NZ], 1) if self.skip else hidden_NH


def dropout_mask(values: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Inverted dropout: 0 with probability `rate`, otherwise what keeps the mean, in the
    shape of `values`. Drawn from `generator`, so that a resumed run draws the same mask
    (torch's own dropout reads the global one). Sixteen bits decide an element, four to a
    draw: on a CPU a seventh of the time of bernoulli_, for a rate exact to 2^-17."""
    count, kept = values.numel(), max(1, round((1 - rate) * 2**16))
    draws = torch.empty(-(-count // 4), dtype=torch.int64, device=values.device)
    draws.random_(-(2**63), None, generator=generator)
    keep = draws.view(torch.int16)[:count] <= kept - 2**15 - 1
    return keep.view(values.shape).to(values.dtype).mul_(2**16 / kept)


def advance(gates_NG: Tensor, cell_NH: Tensor) -> Tensor:
    """One LSTM step from the sums before the gates; the cell is updated in place."""
    enter_NH, forget_NH, new_NH, out_NH = gates_NG.chunk(4, 1)
    cell_NH.mul_(forget_NH.sigmoid_()).addcmul_(enter_NH.sigmoid_(), tanh(new_NH))
    return out_NH.sigmoid_() * tanh(cell_NH)


def tanh(values: Tensor) -> Tensor:
    """2 sigmoid(2x) - 1: five times as fast as torch.tanh on a CPU, within 1e-7."""
    return (2 * values).sigmoid_().mul_(2).sub_(1)


DECODERS = {
    "initial": partial(LSTMDecoder, feed=False),
    "lstm": LSTMDecoder,
    "skip": partial(LSTMDecoder, skip=True),
}
