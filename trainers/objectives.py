"""A model and a batch of sentences in; what training minimises out, in nats.

    objective(model, tokens_BT, weight=, streams=, config=, mask_BT=None) -> Loss

Shapes: B sentences, T words each, Z latent dimensions, H feature units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.models import LanguageModel, SequenceVAE
from trainers.posteriors import inverse_multiquadratic
from trainers.streams import Streams, normal_like
from trainers.text import UNK


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """`mean` is what is differentiated: the objective per sentence, a scalar. `rec_B` and
    `kl_B` are its terms per sentence, unweighted and detached."""

    mean: Tensor
    rec_B: Tensor
    kl_B: Tensor | None = None


class Pass(NamedTuple):
    """A batch through encoder, posterior and decoder, with one code a sentence. `total` is
    -log p(x|z) summed over the batch, with a gradient; `rec_B` each sentence's, detached."""

    feature_BH: Tensor
    posterior: Any
    noise_BZ: Tensor
    codes_BZ: Tensor
    total: Tensor
    rec_B: Tensor


def autoencoded(
    model: SequenceVAE, tokens_BT: Tensor, mask_BT: Tensor | None, streams: Streams, config: Any
) -> Pass:
    """Word dropout is the decoder's input's alone; the encoder reads every word."""
    feature_BH, posterior = model.encode(tokens_BT, mask_BT)
    noise_BZ = normal_like(posterior.centre_BZ, streams["noise"])
    codes_BZ = posterior.sample(noise_BZ)
    total, rec_B = model.decoder.reconstruction(
        tokens_BT,
        codes_BZ,
        mask_BT=mask_BT,
        inputs_BT=drop_words(tokens_BT, config.word_dropout, streams),
        generator=streams["dropout"],
    )
    return Pass(feature_BH, posterior, noise_BZ, codes_BZ, total, rec_B)


def finished(made: Pass, penalty: Tensor, kl_B: Tensor, config: Any) -> Loss:
    """(sum_B -log p(x|z) + penalty) / B, and the cosine regulariser over it."""
    mean = (made.total + penalty) / len(made.rec_B)
    if config.cosine:
        mean = mean + config.cosine * batch_cosine(made.feature_BH)
    return Loss(mean=mean, rec_B=made.rec_B, kl_B=kl_B.detach())


def elbo(
    model: SequenceVAE,
    tokens_BT: Tensor,
    *,
    weight: float,
    streams: Streams,
    config: Any,
    mask_BT: Tensor | None = None,
) -> Loss:
    """mean_B [ -log p(x|z) + weight * KL(q(z|x) || p(z)) ], nats per sentence, with one
    sample z of q(z|x) per sentence (the paper's equation 1 with its sign turned, He et al.
    2019)."""
    made = autoencoded(model, tokens_BT, mask_BT, streams, config)
    kl_B = made.posterior.kl(made.noise_BZ)
    return finished(made, weight * kl_B.sum(), kl_B, config)


def dual(
    model: SequenceVAE,
    tokens_BT: Tensor,
    *,
    weight: float,
    streams: Streams,
    config: Any,
    mask_BT: Tensor | None = None,
) -> Loss:
    """mean_B [ -log p(x|z) + weight * nu ], nats per sentence, nu a critic's log density ratio
    at z in place of the KL (Fang et al. 2019, equations 8 and 10): KL(q||p) = max_nu E_q[nu] -
    E_p[e^nu] + 1, of which only E_q[nu] depends on the encoder. Its critics are moved by
    scheme adversarial.

    Ours differs in what all systems here share: encoder and decoder are clipped together (theirs
    one by one); the decoder starts at h0 = tanh(Wz), c0 = Wz without biases (theirs at h0 = Wz + b,
    c0 = 0); the weights that are kept are those of the best validation bound, which the exact KL
    makes possible (theirs are the last)."""
    made = autoencoded(model, tokens_BT, mask_BT, streams, config)
    nu_B = model.critics.divergence(made.codes_BZ, made.feature_BH)
    return finished(made, weight * nu_B.sum(), nu_B, config)


def wasserstein(
    model: SequenceVAE,
    tokens_BT: Tensor,
    *,
    weight: float,
    streams: Streams,
    config: Any,
    mask_BT: Tensor | None = None,
) -> Loss:
    """mean_B [ -log p(x|z) + weight * KL ] + (mmd - weight) * MMD(q(z), p(z)), and under a flow
    its Riemannian penalty * band per sentence (Wang & Wang 2019, equation 14 and their code).

    Where their code is not their paper, the paper is followed: the KL is weighted whole (their
    code leaves -log |det J| out of the weight, so that at weight 0 nothing keeps a flow from
    growing), and the MMD is of the codes that the decoder reads, not of the flow's input. Its
    kernel is the inverse multiquadratic of their command for PTB; the one for Yahoo leaves it at
    a Gaussian. Ours differs from theirs in what all systems here share: embeddings of encoder and
    decoder are two, nothing is dropped in the encoder, the best weights are kept."""
    made = autoencoded(model, tokens_BT, mask_BT, streams, config)
    kl_B, settings = made.posterior.kl(made.noise_BZ), config.wasserstein
    prior_BZ = normal_like(made.codes_BZ, streams["prior"])
    divergence = max(0.0, settings.mmd - weight) * mmd(made.codes_BZ, prior_BZ)
    penalty = weight * kl_B.sum() + len(tokens_BT) * divergence
    if getattr(made.posterior, "centres_CZ", None) is not None:
        penalty = penalty + settings.band * made.posterior.crowding(made.noise_BZ).sum()
    return finished(made, penalty, kl_B, config)


def likelihood(
    model: LanguageModel,
    tokens_BT: Tensor,
    *,
    weight: float,
    streams: Streams,
    config: Any,
    mask_BT: Tensor | None = None,
) -> Loss:
    """mean_B [ -log p(x) ], nats per sentence, of a language model; `weight` is nothing to
    it."""
    total, rec_B = model.decoder.reconstruction(
        tokens_BT,
        None,
        mask_BT=mask_BT,
        inputs_BT=drop_words(tokens_BT, config.word_dropout, streams),
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


def batch_cosine(feature_BH: Tensor) -> Tensor:
    """The mean cosine of the features of two different sentences of a batch (the paper's
    section 4.2), between -1/(B-1) and 1, with a gradient; 0 for one sentence."""
    sentences = len(feature_BH)
    if sentences < 2:
        return feature_BH.new_zeros(())
    units_BH = F.normalize(feature_BH, dim=1)
    same = units_BH.square().sum()  # B, or less where a feature is 0.
    return (units_BH.sum(0).square().sum() - same) / (sentences * (sentences - 1))


def mmd(codes_BZ: Tensor, prior_BZ: Tensor) -> Tensor:
    """The squared maximum mean discrepancy between two samples of one size, unbiased, with
    inverse multiquadratic kernels (Tolstikhin et al. 2018, algorithm 2); 0 for one sentence."""
    sentences, latent = codes_BZ.shape
    if sentences < 2:
        return codes_BZ.new_zeros(())

    def kernel(one_BZ: Tensor, other_BZ: Tensor) -> Tensor:
        squares_BB = (one_BZ.unsqueeze(1) - other_BZ.unsqueeze(0)).square().sum(2)
        return inverse_multiquadratic(squares_BB, latent)

    def of_pairs(values_BZ: Tensor) -> Tensor:
        kernel_BB = kernel(values_BZ, values_BZ)
        return (kernel_BB.sum() - kernel_BB.trace()) / (sentences * (sentences - 1))

    return of_pairs(codes_BZ) + of_pairs(prior_BZ) - 2 * kernel(codes_BZ, prior_BZ).mean()


OBJECTIVES = {"dual": dual, "elbo": elbo, "wasserstein": wasserstein}
