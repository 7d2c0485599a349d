"""The same model in plain PyTorch: what one writes first, and the yardstick of the benchmarks.

Logits of a whole batch are made and kept, the loss is F.cross_entropy, dropout is
F.dropout, both halves have their own SGD; evaluation decodes every sample word by word from
the start and makes passes over the split for each figure. Written for clarity, and not
slow on purpose: it must reach a fifth of the machine's best matrix product.

Shapes: B sentences, T words each, S codes per sentence, Z latent dimensions, V words.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLIP, LR = 5.0, 1.0
SAMPLES_AT_ONCE = 100


class PlainVAE(nn.Module):
    def __init__(
        self, *, words: int, embedding: int, hidden: int, latent: int, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.encoder_embed = nn.Embedding(words, embedding)
        self.encoder_lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.to_posterior = nn.Linear(hidden, 2 * latent, bias=False)
        self.decoder_embed = nn.Embedding(words, embedding)
        self.decoder_lstm = nn.LSTM(embedding + latent, hidden, batch_first=True)
        self.to_cell = nn.Linear(latent, hidden, bias=False)
        self.to_words = nn.Linear(hidden, words, bias=False)

    def encode(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, (last_1BH, _) = self.encoder_lstm(self.encoder_embed(tokens_BT))
        mean_BZ, logvar_BZ = self.to_posterior(last_1BH[0]).chunk(2, 1)
        return last_1BH[0], mean_BZ, logvar_BZ

    def reconstruct(self, tokens_BT: Tensor, code_BZ: Tensor) -> Tensor:
        """-log p(x|z) of each sentence, nats."""
        inputs_BT, targets_BT = tokens_BT[:, :-1], tokens_BT[:, 1:]
        words_BTE = F.dropout(self.decoder_embed(inputs_BT), self.dropout, self.training)
        code_BTZ = code_BZ.unsqueeze(1).expand(-1, inputs_BT.shape[1], -1)
        cell_1BH = self.to_cell(code_BZ).unsqueeze(0)
        states_BTH, _ = self.decoder_lstm(
            torch.cat([words_BTE, code_BTZ], 2), (cell_1BH.tanh(), cell_1BH)
        )
        logits_BTV = self.to_words(F.dropout(states_BTH, self.dropout, self.training))
        nll_N = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none")
        return nll_N.view(targets_BT.shape).sum(1)

    def terms(self, tokens_BT: Tensor, noise_BZ: Tensor) -> tuple[Tensor, Tensor]:
        """-log p(x|z) and KL of each sentence, nats."""
        _, mean_BZ, logvar_BZ = self.encode(tokens_BT)
        code_BZ = mean_BZ + noise_BZ * (0.5 * logvar_BZ).exp()
        return self.reconstruct(tokens_BT, code_BZ), kl(mean_BZ, logvar_BZ)

    def loss(self, tokens_BT: Tensor, noise_BZ: Tensor, weight: float) -> Tensor:
        rec_B, kl_B = self.terms(tokens_BT, noise_BZ)
        return (rec_B + weight * kl_B).mean()


class PlainTraining:
    """A model and its two optimisers."""

    def __init__(self, model: PlainVAE) -> None:
        self.model = model
        halves: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in model.named_parameters():
            halves[name.startswith(("encoder", "to_posterior"))].append(parameter)
        self.optimisers = [torch.optim.SGD(half, lr=LR) for half in halves.values()]

    def step(self, tokens_BT: Tensor, noise_BZ: Tensor, weight: float) -> Tensor:
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss = self.model.loss(tokens_BT, noise_BZ, weight)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        for optimiser in self.optimisers:
            optimiser.step()
        return loss.detach()


@torch.no_grad()
def importance_nll(model: PlainVAE, tokens_BT: Tensor, noise_BSZ: Tensor) -> Tensor:
    """The importance-weighted NLL of each sentence, nats: sentence by sentence, a hundred
    samples at a time, as the code of He et al. (2019) goes about it."""
    return torch.stack(
        [
            sentence_nll(model, tokens_BT[place : place + 1], noise_SZ)
            for place, noise_SZ in enumerate(noise_BSZ)
        ]
    )


def sentence_nll(model: PlainVAE, tokens_1T: Tensor, noise_SZ: Tensor) -> Tensor:
    log_weights = []
    for noise_sZ in noise_SZ.split(SAMPLES_AT_ONCE):
        _, mean_1Z, logvar_1Z = model.encode(tokens_1T)
        code_sZ = mean_1Z + noise_sZ * (0.5 * logvar_1Z).exp()
        rec_s = model.reconstruct(tokens_1T.expand(len(code_sZ), -1), code_sZ)
        prior_s = -0.5 * (code_sZ**2 + math.log(2 * math.pi)).sum(1)
        posterior_s = -0.5 * (noise_sZ**2 + logvar_1Z + math.log(2 * math.pi)).sum(1)
        log_weights.append(prior_s - rec_s - posterior_s)
    return math.log(len(noise_SZ)) - torch.cat(log_weights).logsumexp(0)


@torch.no_grad()
def summary(model: PlainVAE, batches: list[Tensor], noise: list[Tensor]) -> dict[str, float]:
    """ELBO and KL from one pass; batch-wise mutual information and active units, each from
    passes of its own."""
    sentences = sum(len(tokens_BT) for tokens_BT in batches)
    terms = [
        model.terms(tokens_BT, noise_BZ) for tokens_BT, noise_BZ in zip(batches, noise, strict=True)
    ]
    rec, divergence = (sum(values_B.sum() for values_B in own) for own in zip(*terms, strict=True))
    information = sum(
        mutual_information(*model.encode(tokens_BT)[1:], noise_BZ) * len(tokens_BT)
        for tokens_BT, noise_BZ in zip(batches, noise, strict=True)
    )
    mean_Z = sum(model.encode(tokens_BT)[1].sum(0) for tokens_BT in batches) / sentences
    squares = [((model.encode(tokens_BT)[1] - mean_Z) ** 2).sum(0) for tokens_BT in batches]
    return {
        "nelbo": float((rec + divergence) / sentences),
        "kl": float(divergence / sentences),
        "mi_batch": float(information / sentences),
        "au": float((sum(squares) / (sentences - 1) >= 0.01).sum()),
    }


def kl(mean_BZ: Tensor, logvar_BZ: Tensor) -> Tensor:
    return 0.5 * (mean_BZ**2 + logvar_BZ.exp() - logvar_BZ - 1).sum(1)


def mutual_information(mean_BZ: Tensor, logvar_BZ: Tensor, noise_BZ: Tensor) -> Tensor:
    code_BZ = mean_BZ + noise_BZ * (0.5 * logvar_BZ).exp()
    negative_entropy = (-0.5 * (math.log(2 * math.pi) + 1 + logvar_BZ)).sum(1).mean()
    apart_BBZ = (code_BZ.unsqueeze(1) - mean_BZ) ** 2 / logvar_BZ.exp()
    log_q_BB = -0.5 * (apart_BBZ + logvar_BZ + math.log(2 * math.pi)).sum(2)
    return negative_entropy - (log_q_BB.logsumexp(1) - math.log(len(code_BZ))).mean()
