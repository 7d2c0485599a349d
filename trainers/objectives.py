"""A model and a batch of sentences in; what training minimises out, in nats.

Shapes: B sentences, T words each, Z latent dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.models import LanguageModel, SequenceVAE
from trainers.streams import Streams
from trainers.text import UNK


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """`mean` is what is differentiated: the objective per sentence, a scalar. `rec_B` and
    `kl_B` are its terms per sentence, unweighted and detached."""

    mean: Tensor
    rec_B: Tensor
    kl_B: Tensor | None = None


def elbo(
    model: SequenceVAE,
    tokens_BT: Tensor,
    *,
    weight: float,
    streams: Streams,
    word_dropout: float = 0.0,
    mask_BT: Tensor | None = None,
) -> Loss:
    """mean_B [ -log p(x|z) + weight * KL(q(z|x) || p(z)) ], nats per sentence, with one
    sample z of q(z|x) per sentence (the paper's equation 1 with its sign turned, He et al.
    2019). Word dropout is the decoder's input's alone; the encoder reads every word."""
    _, posterior = model.encode(tokens_BT, mask_BT)
    mean_BZ = posterior.mean_BZ
    noise_BZ = torch.randn(mean_BZ.shape, generator=streams["noise"], device=mean_BZ.device)
    total, rec_B = model.decoder.reconstruction(
        tokens_BT,
        posterior.sample(noise_BZ),
        mask_BT=mask_BT,
        inputs_BT=drop_words(tokens_BT, word_dropout, streams),
        generator=streams["dropout"],
    )
    kl_B = posterior.kl()
    mean = (total + weight * kl_B.sum()) / len(tokens_BT)
    return Loss(mean=mean, rec_B=rec_B, kl_B=kl_B.detach())


def likelihood(
    model: LanguageModel,
    tokens_BT: Tensor,
    *,
    weight: float,
    streams: Streams,
    word_dropout: float = 0.0,
    mask_BT: Tensor | None = None,
) -> Loss:
    """mean_B [ -log p(x) ], nats per sentence, of a language model; `weight` is nothing to
    it."""
    total, rec_B = model.decoder.reconstruction(
        tokens_BT,
        None,
        mask_BT=mask_BT,
        inputs_BT=drop_words(tokens_BT, word_dropout, streams),
        generator=streams["dropout"],
    )
    return Loss(mean=total / len(tokens_BT), rec_B=rec_B)


def drop_words(tokens_BT: Tensor, rate: float, streams: Streams) -> Tensor | None:
    """The decoder's input with each word but `<s>` replaced by `<unk>` with probability
    `rate` (Bowman et al. 2016); None where nothing is to be replaced."""
    if rate == 0:
        return None
    inputs_BT = tokens_BT[:, :-1].clone()
    words_BT = inputs_BT[:, 1:]
    chance = torch.rand(words_BT.shape, generator=streams["word_dropout"], device=tokens_BT.device)
    words_BT.masked_fill_(chance < rate, UNK)
    return inputs_BT


OBJECTIVES = {"elbo": elbo}
