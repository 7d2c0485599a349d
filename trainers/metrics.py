"""A trained model and a split in batches in; what the model is worth out.

NLL is a sentence's, summed over its target words (`</s>` counted, `<s>` not), in nats. An
exact NLL, an importance-weighted estimate of it and a bound on it are three quantities and
have three names. Nothing here touches a global generator, and the model is left in the mode
it was in.

Shapes: N sentences of a split, B of a batch, S codes per sentence, Z latent dimensions, H
feature units. A batch is (tokens_BT, index_B), sentences of one length and their places in
the split; results per sentence stand in the split's order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.posteriors import log_normal

Batch = tuple[Tensor, Tensor]

# Sentences times codes that are decoded together: enough rows to keep the processor's
# matrix product busy, few enough for the cache.
ROWS = {"cpu": 1024, "cuda": 16384}

# Codes of each sentence from which a KL without a closed form is estimated.
KL_CODES = 64

# Codes by posteriors that are alive at one time in the aggregate density, 64 MB.
DENSITIES = 2**23


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportanceNll:
    """Estimates of -log p(x) in nats and the effective sample size behind each."""

    nll_N: Tensor
    ess_N: Tensor


def importance_nll(
    model: Any, batches: Sequence[Batch], samples: int, generator: torch.Generator
) -> ImportanceNll:
    """The importance-weighted NLL of each sentence: -log 1/S sum_s p(x|z) p(z) / q(z|x),
    z from q(z|x) (Burda et al. 2016, equation 8; He et al. 2019 with S = 500). Each
    sentence is encoded once; the weights are summed in float64."""
    nll, ess = [], []
    with evaluating(model):
        for tokens_BT, _ in batches:
            log_weights_BS = importance_log_weights(model, tokens_BT, samples, generator)
            nll.append(-importance_log_likelihood(log_weights_BS))
            ess.append(effective_sample_size(log_weights_BS))
    return ImportanceNll(nll_N=in_split_order(batches, nll), ess_N=in_split_order(batches, ess))


def importance_log_weights(
    model: Any, tokens_BT: Tensor, samples: int, generator: torch.Generator
) -> Tensor:
    """log p(x|z) + log p(z) - log q(z|x) at each of S codes from q(z|x), [B, S], float64."""
    _, posterior = model.encode(tokens_BT)
    codes_BSZ, log_q_BS = posterior.draw(normal(posterior, samples, generator=generator))
    log_p_BS = decoded(model, tokens_BT, codes_BSZ)
    return log_p_BS + log_normal(codes_BSZ.double()) - log_q_BS.double()


def decoded(model: Any, tokens_BT: Tensor, codes_BSZ: Tensor) -> Tensor:
    """log p(x|z) of each sentence under each of its codes, [B, S], float64."""
    sentences = max(1, ROWS[tokens_BT.device.type] // codes_BSZ.shape[1])
    pieces = zip(tokens_BT.split(sentences), codes_BSZ.split(sentences), strict=True)
    return torch.cat([model.decoder.log_likelihood(*piece) for piece in pieces]).double()


def importance_log_likelihood(log_weights_BS: Tensor) -> Tensor:
    """log 1/S sum_s w_s of each sentence, nats."""
    return log_weights_BS.double().logsumexp(1) - math.log(log_weights_BS.shape[1])


def effective_sample_size(log_weights_BS: Tensor) -> Tensor:
    """(sum_s w_s)^2 / sum_s w_s^2 of each sentence (Kong 1992), between 1 and S: how many
    equally good codes the estimate is worth."""
    log_weights_BS = log_weights_BS.double()
    return (2 * log_weights_BS.logsumexp(1) - (2 * log_weights_BS).logsumexp(1)).exp()


def monte_carlo_error(ess_N: Tensor, samples: int) -> float:
    """Standard error of the mean over sentences of importance_nll, nats, that is due to the
    S samples alone: sqrt(sum var_N) / N, sentences being independent, and by the delta method
    var_N = Var[w] / (S E[w]^2) = (E[w^2] / E[w]^2 - 1) / S = 1/ess - 1/S.

    Too small where few weights say nearly everything, as ess is then too large."""
    var_N = (1 / ess_N - 1 / samples).clamp_min(0)
    return float(var_N.sum().sqrt()) / len(var_N)


def exact_nll(model: Any, batches: Sequence[Batch]) -> Tensor:
    """-log p(x) of each sentence under a language model, nats, float64, [N]."""
    with evaluating(model):
        nll = [model.decoder.reconstruction(tokens_BT, None)[1] for tokens_BT, _ in batches]
    return in_split_order(batches, nll)


def perplexity(nll_nats: float, targets: int) -> float:
    """exp of a split's summed NLL per target word, `</s>` counted; infinite where no float
    holds it."""
    try:
        return math.exp(nll_nats / targets)
    except OverflowError:
        return math.inf


def mean_and_error(values_N: Tensor) -> tuple[float, float]:
    """Mean over sentences and its standard error, their spread / sqrt N, which needs two."""
    error = values_N.std() / math.sqrt(len(values_N)) if len(values_N) > 1 else math.nan
    return float(values_N.mean()), float(error)


def posterior_summary(
    model: Any,
    batches: Sequence[Batch],
    generator: torch.Generator,
    *,
    active_threshold: float = 0.01,
) -> dict[str, float]:
    """What the posterior holds and what a bound on the NLL is, from one encoding of the
    split and one code per sentence. Per sentence and in nats: nelbo = rec + kl, the
    negative ELBO at KL weight 1, and both mutual informations. au counts dimensions;
    cosine and cosine_batch are of the features that the posterior reads."""
    with evaluating(model):
        codes = encode_split(model, batches, generator)
        rec = [
            model.decoder.reconstruction(tokens_BT, codes_BZ)[1]
            for (tokens_BT, _), codes_BZ in zip(
                batches, codes.codes_NZ.split(codes.sizes), strict=True
            )
        ]
    rec_nats, kl_nats = float(torch.cat(rec).double().mean()), float(codes.kl_N.double().mean())
    gaussians = codes.mean_NZ, codes.logvar_NZ, codes.base_NZ
    return {
        "nelbo": rec_nats + kl_nats,
        "rec": rec_nats,
        "kl": kl_nats,
        "mi_batch": mi_batch(*gaussians, codes.sizes),
        "mi_full": mi_full(*gaussians),
        "au": active_units(codes.centre_NZ, active_threshold),
        "cosine": mean_pairwise_cosine([codes.feature_NH]),
        "cosine_batch": mean_pairwise_cosine(codes.feature_NH.split(codes.sizes)),
    }


def batch_information(model: Any, batches: Sequence[Batch], generator: torch.Generator) -> float:
    """mi_batch of a split, nats: an encoding pass and nothing else."""
    with evaluating(model):
        codes = encode_split(model, batches, generator)
    return mi_batch(codes.mean_NZ, codes.logvar_NZ, codes.base_NZ, codes.sizes)


def dual_summary(
    model: Any, batches: Sequence[Batch], samples: int, generator: torch.Generator
) -> dict[str, float]:
    """What Fang et al. (2019) report of a split, nats per sentence, from S codes of each: the
    mean reconstruction, and with their critics KL^ = mean nu(z_q, h) - mean e^nu(z_p, h) + 1,
    z_q from q(z|x) and z_p from the prior. nll_dual is their sum, kl_dual = KL^, and mi_dual
    is KL^ less the same of nu(z).

    Any nu makes KL^ at most the KL, so that nll_dual is a lower bound of the negative ELBO,
    which is itself an upper bound of the NLL: it bounds nothing, and ranks with nothing."""
    rec, pair, code = [], [], []
    with evaluating(model):
        for tokens_BT, _ in batches:
            feature_BH, posterior = model.encode(tokens_BT)
            codes_BSZ = posterior.sample(normal(posterior, samples, generator=generator))
            prior_BSZ = normal(posterior, samples, generator=generator)
            repeated_BSH = feature_BH.unsqueeze(1).expand(-1, samples, -1)
            rec.append(-decoded(model, tokens_BT, codes_BSZ).mean(1))
            under_q = model.critics(codes_BSZ, repeated_BSH)
            under_p = model.critics(prior_BSZ, repeated_BSH)
            for kept, q_BS, p_BS in zip((pair, code), under_q, under_p, strict=True):
                kept.append(q_BS.double().mean(1) - p_BS.double().exp().mean(1) + 1)
    rec_nats, pair_nats, code_nats = (float(torch.cat(x).mean()) for x in (rec, pair, code))
    return {
        "nll_dual": rec_nats + pair_nats,
        "kl_dual": pair_nats,
        "mi_dual": pair_nats - code_nats,
    }


def centre_nll(model: Any, batches: Sequence[Batch]) -> dict[str, float]:
    """What the code of Wang & Wang (2019) reports as the NLL of a split, nats per sentence:
    - log p(x|z) - log p(z) at z, the code in the posterior's centre, less the entropy of the
    base and log |det J| at z.

    At its centre a posterior is likelier under the prior than its codes are on average, by half
    a nat a dimension where it is the prior: no bound, and it ranks with nothing. Their
    importance-weighted NLL, which averages likelihoods over a batch before the log and scores
    the prior at the flow's input, is not copied: importance_nll is right for flows."""
    values = []
    with evaluating(model):
        for tokens_BT, _ in batches:
            _, posterior = model.encode(tokens_BT)
            codes_BZ, log_q_B = posterior.draw(torch.zeros_like(posterior.centre_BZ))
            minus_entropy_B = log_q_B.double() - codes_BZ.shape[1] / 2  # and - log |det J|
            log_p_B = decoded(model, tokens_BT, codes_BZ.unsqueeze(1))[:, 0]
            values.append(minus_entropy_B - log_normal(codes_BZ.double()) - log_p_B)
    return {"nll_at_centre": float(torch.cat(values).mean())}


def features(model: Any, batches: Sequence[Batch]) -> Tensor:
    """What the posterior reads of each sentence, [N, H], in the split's order, on the CPU."""
    with evaluating(model):
        rows = [model.encode(tokens_BT)[0] for tokens_BT, _ in batches]
    return in_split_order(batches, rows)


def base_means(model: Any, batches: Iterable[Tensor]) -> Tensor:
    """The mean of each sentence's posterior in its base, [N, Z]."""
    with evaluating(model):
        return torch.cat([model.encode(tokens_BT)[1].base.mean_BZ for tokens_BT in batches])


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """A split as its encoder sees it, in the batches' order. Mean, log-variance and `base_NZ`
    are of the posterior's base and a draw from it, `codes_NZ` the draw's image."""

    feature_NH: Tensor
    centre_NZ: Tensor
    mean_NZ: Tensor
    logvar_NZ: Tensor
    base_NZ: Tensor
    codes_NZ: Tensor
    kl_N: Tensor
    sizes: list[int]


def encode_split(model: Any, batches: Iterable[Batch], generator: torch.Generator) -> Codes:
    """Each sentence's feature, posterior, one code from it and its KL to the prior, nats,
    float64: near collapse it is far smaller than its terms."""
    rows = []
    for tokens_BT, _ in batches:
        feature_BH, posterior = model.encode(tokens_BT)
        noise_BZ = normal(posterior, generator=generator)
        base, kl_B = posterior.base, kl(posterior, generator)
        codes = base.sample(noise_BZ), posterior.sample(noise_BZ)
        rows.append((feature_BH, posterior.centre_BZ, base.mean_BZ, base.logvar_BZ, *codes, kl_B))
    columns = map(torch.cat, zip(*rows, strict=True))
    names = ("feature_NH", "centre_NZ", "mean_NZ", "logvar_NZ", "base_NZ", "codes_NZ", "kl_N")
    sizes = [len(row[0]) for row in rows]
    return Codes(**dict(zip(names, columns, strict=True)), sizes=sizes)


def kl(posterior: Any, generator: torch.Generator) -> Tensor:
    """KL of each sentence's posterior to the prior [B], nats, float64: in closed form, or where
    there is none from KL_CODES codes of each."""
    if posterior.has_exact_kl:
        return posterior.double().kl()
    noise_BSZ = normal(posterior, KL_CODES, generator=generator)
    return posterior.double().kl(noise_BSZ.double())


def mi_batch(mean_NZ: Tensor, logvar_NZ: Tensor, codes_NZ: Tensor, sizes: Sequence[int]) -> float:
    """Mutual information of sentence and code as He et al. (2019) estimate it: within each
    batch of `sizes`, averaged with the batches' sizes as weights. Nats. About log B at
    most, so that it depends on the batches; may be negative."""
    parts = (part.split(list(sizes)) for part in (mean_NZ, logvar_NZ, codes_NZ))
    batches = zip(sizes, *parts, strict=True)
    return sum(size * mi_full(*batch) for size, *batch in batches) / sum(sizes)


def mi_full(mean_NZ: Tensor, logvar_NZ: Tensor, codes_NZ: Tensor) -> float:
    """Mutual information of sentence and code over a whole split: mean_i [ -H(q(z|x_i)) ]
    - mean_i log 1/N sum_j q(z_i|x_j), nats, z_i one code from q(z|x_i) [N, Z].

    The entropy is exact and the other term has one code per sentence (He et al.'s code,
    Li et al. 2019's too): its noise does not cancel, so that it may be negative."""
    entropy_N = 0.5 * (math.log(2 * math.pi) + 1 + logvar_NZ.double()).sum(1)
    return float(-entropy_N.mean() - log_aggregate(mean_NZ, logvar_NZ, codes_NZ).mean())


def log_aggregate(mean_NZ: Tensor, logvar_NZ: Tensor, codes_MZ: Tensor) -> Tensor:
    """log 1/N sum_j q(z_i|x_j) of each code [M], nats, float64.

    (z - mean)^2 / var is multiplied out into matrix products, in float64 because it then
    cancels, some codes at a time."""
    mean_NZ, codes_MZ = mean_NZ.double(), codes_MZ.double()
    precision_NZ = (-logvar_NZ.double()).exp()
    constant_N = (mean_NZ**2 * precision_NZ + logvar_NZ + math.log(2 * math.pi)).sum(1)
    linear_ZN, square_ZN = (2 * mean_NZ * precision_NZ).T, precision_NZ.T
    log_sums = [
        (0.5 * (codes_mZ @ linear_ZN - codes_mZ**2 @ square_ZN - constant_N)).logsumexp(1)
        for codes_mZ in codes_MZ.split(max(1, DENSITIES // len(mean_NZ)))
    ]
    return torch.cat(log_sums) - math.log(len(mean_NZ))


def active_units(mean_NZ: Tensor, threshold: float = 0.01) -> float:
    """How many latent dimensions have a posterior mean that varies over sentences: unbiased
    variance >= threshold (Burda et al. 2016). Under a flow, whose mean has no closed form, it
    is the image of its base's mean. Not a number for fewer than two sentences."""
    if len(mean_NZ) < 2:
        return math.nan
    return float((mean_NZ.double().var(0) >= threshold).sum())


def mean_pairwise_cosine(groups: Iterable[Tensor]) -> float:
    """Mean cosine of the features [N, H] of all pairs of different sentences in one group
    (the paper's dispersion is over a split, one group).

    Exact without the N^2 cosines: with unit vectors u, sum_{i != j} u_i.u_j =
    |sum u|^2 - sum |u|^2. Not a number without a pair."""
    total, pairs = 0.0, 0
    for features_NH in groups:
        units_NH = F.normalize(features_NH.double(), dim=1)
        total += float(units_NH.sum(0).square().sum() - units_NH.square().sum())
        pairs += len(units_NH) * (len(units_NH) - 1)
    return total / pairs if pairs else math.nan


def normal(posterior: Any, *samples: int, generator: torch.Generator) -> Tensor:
    """Standard normal draws for a posterior over B sentences: [B, Z] or [B, S, Z]."""
    centre_BZ = posterior.centre_BZ
    batch, size = centre_BZ.shape
    return torch.randn((batch, *samples, size), generator=generator, device=centre_BZ.device)


def in_split_order(batches: Sequence[Batch], values: Sequence[Tensor]) -> Tensor:
    """Values or rows per sentence, batch by batch in; by place in the split out, float64, on
    the CPU."""
    values_N = torch.cat(list(values)).double().cpu()
    places_N = torch.cat([index_B for _, index_B in batches]).cpu()
    return torch.empty_like(values_N).index_copy_(0, places_N, values_N)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """No dropout and no gradients inside; the model's mode as it was afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
