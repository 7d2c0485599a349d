from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainers.decoders import LSTMDecoder
from trainers.encoders import LSTMEncoder
from trainers.metrics import (
    active_units,
    batch_information,
    centre_nll,
    dual_summary,
    effective_sample_size,
    exact_nll,
    features,
    importance_log_likelihood,
    importance_nll,
    kl,
    mean_and_error,
    mean_pairwise_cosine,
    mi_batch,
    mi_full,
    monte_carlo_error,
    perplexity,
    posterior_summary,
)
from trainers.models import LanguageModel, SequenceVAE
from trainers.pooling import POOLINGS
from trainers.posteriors import Flow, Gaussian, GaussianHead

SLOPE, NOISE = 1.5, 0.8  # Of the toy's likelihood N(x; SLOPE z, NOISE^2).


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class LinearGaussian(nn.Module):
    """A model whose p(x) is known: z ~ N(0, 1), x ~ N(SLOPE z, NOISE^2), one dimension. Its
    posterior is the true one, with its mean moved by `shift` and its variance times
    `widening`. A sentence's only number, in tenths, is its second token."""

    def __init__(self, shift: float = 0.0, widening: float = 1.0) -> None:
        super().__init__()
        self.shift, self.widening = shift, widening

    @property
    def decoder(self) -> LinearGaussian:
        return self

    def encode(self, tokens_BT: Tensor) -> tuple[Tensor, Gaussian]:
        x_B1 = self.numbers(tokens_BT)
        variance = NOISE**2 / (SLOPE**2 + NOISE**2)
        mean_BZ = x_B1 * SLOPE / (SLOPE**2 + NOISE**2) + self.shift
        logvar_BZ = torch.full_like(mean_BZ, math.log(self.widening * variance))
        return torch.cat([x_B1, torch.ones_like(x_B1)], 1), Gaussian(
            mean_BZ=mean_BZ, logvar_BZ=logvar_BZ
        )

    def reconstruction(self, tokens_BT: Tensor, latent_BZ: Tensor) -> tuple[Tensor, Tensor]:
        nll_B = -self.log_likelihood(tokens_BT, latent_BZ.unsqueeze(1)).squeeze(1)
        return nll_B.sum(), nll_B

    def log_likelihood(self, tokens_BT: Tensor, latent_BSZ: Tensor) -> Tensor:
        apart_BS = (self.numbers(tokens_BT) - SLOPE * latent_BSZ.squeeze(2)) / NOISE
        return -0.5 * apart_BS**2 - math.log(NOISE * math.sqrt(2 * math.pi))

    def exact_nll(self, tokens_BT: Tensor) -> Tensor:
        variance = SLOPE**2 + NOISE**2
        x_B = self.numbers(tokens_BT).squeeze(1).double()
        return 0.5 * (x_B**2 / variance + math.log(2 * math.pi * variance))

    @staticmethod
    def numbers(tokens_BT: Tensor) -> Tensor:
        return (tokens_BT[:, 1:2] - 50) / 10.0


def toy_batches() -> list[tuple[Tensor, Tensor]]:
    tokens_NT = torch.stack([torch.ones(12), torch.arange(12) * 8, torch.full((12,), 2)], 1).long()
    places_N = torch.randperm(12, generator=seeded())
    return [(tokens_NT[places_B], places_B) for places_B in places_N.split(5)]


def a_vae(latent: int = 1, scale: float = 0.8) -> SequenceVAE:
    size = {"words": 12, "embedding": 4, "hidden": 5}
    model = SequenceVAE(
        encoder=LSTMEncoder(**size, pooling=POOLINGS["last"]),
        posterior=GaussianHead(features=5, latent=latent),
        decoder=LSTMDecoder(**size, latent=latent, dropout=0.5),
    )
    generator = seeded(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-scale, scale, generator=generator)
    return model


def word_batches(sizes: tuple[int, ...] = (3, 2, 4)) -> list[tuple[Tensor, Tensor]]:
    """Batches of sentences of 5, 6, ... tokens, their places in the split shuffled."""
    generator = seeded(6)
    places = torch.randperm(sum(sizes), generator=generator).split(list(sizes))
    batches = []
    for length, (size, places_B) in enumerate(zip(sizes, places, strict=True), 5):
        tokens_BT = torch.randint(4, 12, (size, length), generator=generator)
        tokens_BT[:, 0], tokens_BT[:, -1] = 1, 2
        batches.append((tokens_BT, places_B))
    return batches


# Importance-weighted NLL


def test_importance_nll_tends_to_the_exact_nll() -> None:
    model, batches = LinearGaussian(shift=0.3, widening=1.5), toy_batches()
    exact_N = torch.empty(12, dtype=torch.float64)
    for tokens_BT, places_B in batches:
        exact_N[places_B] = model.exact_nll(tokens_BT)
    errors = []
    for samples in (10, 1000, 100_000):
        estimate = importance_nll(model, batches, samples, seeded(1))
        errors.append(float((estimate.nll_N - exact_N).abs().max()))
    assert errors[-1] < 0.02
    assert all(later < earlier for earlier, later in pairwise(errors))
    # Per sample an effective 1 / E[(p(z|x) / q(z|x))^2], q with variance w v against v:
    # E_q[(p/q)^2] = w / sqrt(2 w - 1) exp(shift^2 / (v (2 w - 1))).
    variance = NOISE**2 / (SLOPE**2 + NOISE**2)
    expected = math.sqrt(2.0) / 1.5 / math.exp(0.3**2 / (2.0 * variance))
    torch.testing.assert_close(
        estimate.ess_N / 100_000, torch.full((12,), expected).double(), rtol=0.05, atol=0
    )


def test_monte_carlo_error_is_the_spread_over_generators() -> None:
    """A spread of 100 values is known within 7%."""
    model, batches = LinearGaussian(shift=0.3, widening=1.5), toy_batches()
    estimates = [importance_nll(model, batches, 200, seeded(seed)) for seed in range(100)]
    spread = np.std([float(it.nll_N.mean()) for it in estimates], ddof=1)
    errors = [monte_carlo_error(it.ess_N, 200) for it in estimates]
    assert np.mean(errors) == pytest.approx(spread, rel=0.25)
    assert monte_carlo_error(torch.tensor([200.0, 200.0 + 1e-9]).double(), 200) == 0
    # Two sentences, one with half of its 8 samples: sqrt(1/4 - 1/8) / 2.
    assert monte_carlo_error(torch.tensor([8.0, 4.0]), 8) == pytest.approx(0.125**0.5 / 2)


def test_under_the_true_posterior_one_sample_is_exact() -> None:
    model, batches = LinearGaussian(), toy_batches()
    estimate = importance_nll(model, batches, 3, seeded(1))
    exact = torch.cat([model.exact_nll(tokens_BT) for tokens_BT, _ in batches])
    places = torch.cat([places_B for _, places_B in batches])
    torch.testing.assert_close(estimate.nll_N[places], exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(estimate.ess_N, torch.full((12,), 3.0).double(), rtol=1e-5, atol=0)


def test_importance_nll_of_a_real_decoder_is_the_integral_over_codes() -> None:
    model, batches = a_vae().eval(), word_batches()
    estimate = importance_nll(model, batches, 4000, seeded(1))
    grid_S = torch.linspace(-7, 7, 1401)
    log_prior_S = -0.5 * (grid_S**2 + math.log(2 * math.pi))
    for tokens_BT, places_B in batches:
        for tokens_T, place in zip(tokens_BT, places_B, strict=True):
            with torch.no_grad():
                _, nll_S = model.decoder.reconstruction(
                    tokens_T.expand(len(grid_S), -1), grid_S.unsqueeze(1)
                )
            exact = -((log_prior_S - nll_S).double().logsumexp(0) + math.log(14 / 1400))
            ess = float(estimate.ess_N[place])
            assert ess > 100
            assert float(estimate.nll_N[place]) == pytest.approx(float(exact), abs=5 / ess**0.5)
            assert float(estimate.nll_N[place]) == pytest.approx(float(exact), abs=0.05)


def test_effective_sample_size_is_between_one_and_all() -> None:
    log_weights_BS = torch.full((3, 8), -700.0)
    log_weights_BS[1, 4] = 0.0
    log_weights_BS[2, :4] = 90.0
    torch.testing.assert_close(
        effective_sample_size(log_weights_BS), torch.tensor([8.0, 1.0, 4.0]).double()
    )


def test_importance_log_likelihood_is_the_log_of_the_mean_weight() -> None:
    weights_BS = torch.tensor([[1.0, 2.0, 6.0], [0.5, 0.5, 0.5]])
    found_B = importance_log_likelihood(weights_BS.log() - 5000)
    torch.testing.assert_close(
        found_B + 5000, torch.tensor([3.0, 0.5]).double().log(), rtol=0, atol=1e-3
    )


# Mutual information


def test_a_posterior_that_is_the_prior_says_nothing() -> None:
    """Codes of +-1 have the mean square of the prior, which leaves no noise."""
    nothing_NZ = torch.zeros(64, 4)
    codes_NZ = torch.randint(0, 2, (64, 4), generator=seeded()) * 2.0 - 1
    assert mi_full(nothing_NZ, nothing_NZ, codes_NZ) == pytest.approx(0, abs=1e-9)
    assert mi_batch(nothing_NZ, nothing_NZ, codes_NZ, [32, 32]) == pytest.approx(0, abs=1e-9)
    assert active_units(nothing_NZ) == 0


def test_mi_full_is_a_mixtures_information() -> None:
    """Sentences of three kinds: I(kind; z) = H(z) - H(z|kind), H(z) by quadrature."""
    kinds_N = torch.randint(0, 3, (3000,), generator=seeded())
    shares = np.bincount(kinds_N) / len(kinds_N)
    means, deviation = np.array([-1.5, 0.0, 2.0]), 0.7
    grid = np.linspace(-10, 10, 20_001)
    density = sum(
        share * np.exp(-0.5 * ((grid - mean) / deviation) ** 2)
        for share, mean in zip(shares, means, strict=True)
    ) / (deviation * math.sqrt(2 * math.pi))
    entropy = -np.trapezoid(density * np.log(density + 1e-300), grid)
    expected = entropy - 0.5 * math.log(2 * math.pi * math.e * deviation**2)
    mean_NZ = torch.tensor(means).float()[kinds_N].unsqueeze(1)
    logvar_NZ = torch.full_like(mean_NZ, 2 * math.log(deviation))
    codes_NZ = mean_NZ + deviation * torch.randn(mean_NZ.shape, generator=seeded(1))
    noise = 4 * math.sqrt(0.5 / 3000)
    assert mi_full(mean_NZ, logvar_NZ, codes_NZ) == pytest.approx(expected, abs=noise)


def test_mi_batch_is_the_information_within_a_batch() -> None:
    """On average over 2000 batches of three sentences: I(sentence; z), H(z) by quadrature."""
    means, deviation = torch.tensor([-1.5, 0.0, 2.0]), 0.7
    grid = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    components = torch.distributions.Normal(means.double(), deviation)
    density = components.log_prob(grid[:, None]).exp().mean(1)
    entropy = -float(torch.trapezoid(torch.xlogy(density, density), grid))
    expected = entropy - float(components.entropy()[0])
    assert 0.5 < expected < math.log(3)
    mean_NZ = means.repeat(2000)[:, None]
    logvar_NZ = torch.full_like(mean_NZ, 2 * math.log(deviation))
    codes_NZ = mean_NZ + deviation * torch.randn(mean_NZ.shape, generator=seeded(1))
    noise = 4 * math.sqrt(0.5 / 6000)
    found = mi_batch(mean_NZ, logvar_NZ, codes_NZ, [3] * 2000)
    assert found == pytest.approx(expected, abs=noise)


def test_mi_batch_is_capped_by_its_batches_and_mi_full_is_not() -> None:
    """Posteriors that never overlap: the information is the log of their number."""
    mean_NZ = torch.stack([1000.0 * torch.arange(512), torch.zeros(512)], 1)
    logvar_NZ = torch.randn(512, 2, generator=seeded())
    codes_NZ = mean_NZ + torch.randn(512, 2, generator=seeded(1)) * (0.5 * logvar_NZ).exp()
    noise = 4 * math.sqrt(2 / 2 / 512)  # Four deviations of the mean of z^2 / 2 in two dims.
    in_batches = mi_batch(mean_NZ, logvar_NZ, codes_NZ, [32] * 16)
    assert in_batches == pytest.approx(math.log(32), abs=noise)
    assert mi_full(mean_NZ, logvar_NZ, codes_NZ) == pytest.approx(math.log(512), abs=noise)
    generator = seeded(2)
    overlapping = mi_batch(
        3 * torch.randn(512, 2, generator=generator),
        torch.zeros(512, 2),
        3 * torch.randn(512, 2, generator=generator),
        [32] * 16,
    )
    assert overlapping < math.log(32)


def test_mi_batch_is_the_formula_in_loops() -> None:
    generator = seeded(3)
    mean_NZ, logvar_NZ, codes_NZ = (torch.randn(7, 2, generator=generator) for _ in range(3))
    total = 0.0
    for first, size in ((0, 4), (4, 3)):
        rows = range(first, first + size)
        for i in rows:
            densities = []
            for j in rows:
                log_density = 0.0
                for d in range(2):
                    variance = math.exp(logvar_NZ[j, d])
                    apart = float(codes_NZ[i, d] - mean_NZ[j, d])
                    log_density -= 0.5 * (apart**2 / variance + math.log(2 * math.pi * variance))
                densities.append(math.exp(log_density))
            entropy = sum(0.5 * (math.log(2 * math.pi) + 1 + logvar_NZ[i, d]) for d in range(2))
            total += -float(entropy) - math.log(sum(densities) / size)
    assert mi_batch(mean_NZ, logvar_NZ, codes_NZ, [4, 3]) == pytest.approx(total / 7, rel=1e-6)


# Features


def test_pairwise_cosine_is_a_double_loop() -> None:
    features_NH = torch.randn(9, 4, generator=seeded())

    def loop(rows: range) -> list[float]:
        return [
            float(torch.cosine_similarity(features_NH[i], features_NH[j], dim=0))
            for i in rows
            for j in rows
            if i != j
        ]

    assert mean_pairwise_cosine([features_NH]) == pytest.approx(np.mean(loop(range(9))), abs=1e-6)
    groups = features_NH.split([4, 1, 4])
    expected = np.mean([*loop(range(4)), *loop(range(5, 9))])
    assert mean_pairwise_cosine(groups) == pytest.approx(expected, abs=1e-6)
    assert mean_pairwise_cosine([features_NH[:1].expand(5, -1)]) == pytest.approx(1.0)
    assert math.isnan(mean_pairwise_cosine([features_NH[:1]]))


def test_active_units_are_those_that_vary_enough() -> None:
    """Values +-a of two sentences have the unbiased variance 2 a^2."""
    spread_Z = torch.tensor([0.0, 0.0705, 0.0709, 3.0])
    mean_NZ = torch.stack([spread_Z, -spread_Z]) + 7
    assert active_units(mean_NZ) == 2
    assert active_units(mean_NZ, threshold=0.009) == 3
    assert math.isnan(active_units(mean_NZ[:1]))


# Splits


def test_the_summary_of_a_known_model() -> None:
    """KL and the bound against the closed forms, x = -5 .. 3.8 in steps of 0.8."""
    model, batches = LinearGaussian(widening=2.0), toy_batches()
    summary = posterior_summary(model, batches, seeded(5))
    x = (np.arange(12) * 8 - 50) / 10
    variance = 2.0 * NOISE**2 / (SLOPE**2 + NOISE**2)
    mean = x * SLOPE / (SLOPE**2 + NOISE**2)
    divergence = np.mean(0.5 * (mean**2 + variance - math.log(variance) - 1))
    assert summary["kl"] == pytest.approx(divergence, rel=1e-5)
    assert summary["nelbo"] == pytest.approx(summary["rec"] + summary["kl"])
    exact = float(torch.cat([model.exact_nll(tokens_BT) for tokens_BT, _ in batches]).mean())
    repeats = [posterior_summary(model, batches, seeded(seed)) for seed in range(200)]
    nelbo = np.array([repeat["nelbo"] for repeat in repeats])
    # The bound's gap is KL(q || p(z|x)), with twice the variance 1/2 (2 - log 2 - 1).
    gap = 0.5 * (1 - math.log(2))
    assert abs(nelbo.mean() - exact - gap) < 5 * nelbo.std() / math.sqrt(200)
    assert summary["au"] == (np.var(mean, ddof=1) >= 0.01)
    angles = np.arctan2(np.ones(12), x)
    cosines = np.cos(angles[:, None] - angles)
    assert summary["cosine"] == pytest.approx((cosines.sum() - 12) / (12 * 11), rel=1e-5)


def test_a_collapsed_posterior_has_no_kl_information_or_active_units() -> None:
    model, batches = a_vae(latent=3), word_batches((32, 32, 17))
    with torch.no_grad():
        model.posterior.linear.weight.zero_()
    summary = posterior_summary(model, batches, seeded())
    assert summary["kl"] == 0
    assert summary["au"] == 0
    noise = 4 * math.sqrt(3 / 2 / 81)
    assert abs(summary["mi_full"]) < noise
    assert abs(summary["mi_batch"]) < noise
    alone = batch_information(model, batches, seeded())
    assert alone == pytest.approx(summary["mi_batch"])


def test_kl_near_collapse_is_not_below_0() -> None:
    """mean 0 and log var l: 1/2 (l^2 / 2 + l^3 / 6) a dimension, below float32's unit of 1."""
    logvar_BZ = torch.tensor([[1e-4, -1e-4], [3e-5, 2e-5], [-1e-6, 1e-6]])
    kl_B = Gaussian(mean_BZ=torch.zeros(3, 2), logvar_BZ=logvar_BZ).double().kl()
    logvar_BZ = logvar_BZ.double()
    expected_B = 0.5 * (logvar_BZ**2 / 2 + logvar_BZ**3 / 6).sum(1)
    torch.testing.assert_close(kl_B, expected_B, rtol=1e-4, atol=0)
    assert (kl_B > 0).all()


def test_results_stand_in_the_splits_order() -> None:
    model, batches = LanguageModel(decoder=a_vae().decoder), word_batches()
    model.decoder = LSTMDecoder(words=12, embedding=4, hidden=5, latent=0, dropout=0.5).eval()
    nll_N = exact_nll(model, batches)
    for tokens_BT, places_B in batches:
        for tokens_T, place in zip(tokens_BT, places_B, strict=True):
            states_TH, _ = model.decoder.lstm(model.decoder.embed(tokens_T[:-1]))
            logits_TV = model.decoder.pred_linear(states_TH)
            expected = nn.functional.cross_entropy(logits_TV, tokens_T[1:], reduction="sum")
            assert float(nll_N[place]) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_left_changed_and_all_chance_is_the_generators(training: bool) -> None:
    model, batches = a_vae(), word_batches()
    model.train(training)
    before = torch.random.get_rng_state()
    first = [
        posterior_summary(model, batches, seeded(1)),
        importance_nll(model, batches, 5, seeded(1)).nll_N.tolist(),
    ]
    second = [
        posterior_summary(model, batches, seeded(1)),
        importance_nll(model, batches, 5, seeded(1)).nll_N.tolist(),
    ]
    assert first == second
    assert model.training is training
    assert model.decoder.training is training
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(TypeError):
        exact_nll(model, [(None, None)])
    assert model.training is training


def test_mean_and_its_standard_error() -> None:
    mean, error = mean_and_error(torch.tensor([1.0, 2.0, 3.0, 6.0]).double())
    assert mean == 3.0
    assert error == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3) / 2)
    assert math.isnan(mean_and_error(torch.tensor([1.0]))[1])


# What one paper alone reports


class Critic:
    """Callable as critics are: log q(z|x) / p(z), and log q(z) / p(z) with q(z) the mean over
    the toy's sentences, each multiplied by `scale` and moved by `offset`."""

    def __init__(self, model: LinearGaussian, *, scale: float = 1.0, offset: float = 0.0) -> None:
        self.model, self.scale, self.offset = model, scale, offset

    def __call__(self, codes_BSZ: Tensor, feature_BSH: Tensor) -> tuple[Tensor, Tensor]:
        codes_BS, x_BS = codes_BSZ.squeeze(-1), feature_BSH[..., 0]
        log_p_BS = torch.distributions.Normal(0.0, 1.0).log_prob(codes_BS)
        of_one = torch.distributions.Normal(*self.moments(x_BS))
        of_all = torch.distributions.Normal(*self.moments(toy_numbers()))
        log_q_BS = of_all.log_prob(codes_BS[..., None]).logsumexp(-1) - math.log(12)
        ratios = of_one.log_prob(codes_BS) - log_p_BS, log_q_BS - log_p_BS
        return tuple(self.scale * it + self.offset for it in ratios)

    def moments(self, x: Tensor) -> tuple[Tensor, float]:
        """Mean and deviation of q(z|x)."""
        variance = self.model.widening * NOISE**2 / (SLOPE**2 + NOISE**2)
        return x * SLOPE / (SLOPE**2 + NOISE**2) + self.model.shift, math.sqrt(variance)


def toy_numbers() -> Tensor:
    return (torch.arange(12) * 8 - 50) / 10


def of_toy(model: LinearGaussian) -> dict[str, float]:
    """Per sentence: KL of q(z|x), KL of q(z) by quadrature, E_q[-log p(x|z)]."""
    mean_N, deviation = Critic(model).moments(toy_numbers().double())
    q_N, p = torch.distributions.Normal(mean_N, deviation), torch.distributions.Normal(0.0, 1.0)
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    density = q_N.log_prob(grid[:, None]).exp().mean(1)
    ratio = torch.xlogy(density, density) - density * p.log_prob(grid)
    apart_N = (toy_numbers() - SLOPE * mean_N) ** 2 + (SLOPE * deviation) ** 2
    rec_N = 0.5 * apart_N / NOISE**2 + math.log(NOISE * math.sqrt(2 * math.pi))
    return {
        "kl": float(torch.distributions.kl_divergence(q_N, p).mean()),
        "aggregate_kl": float(torch.trapezoid(ratio, grid)),
        "rec": float(rec_N.mean()),
    }


def repeatedly(summary: Callable[[torch.Generator], dict[str, float]]) -> dict[str, Any]:
    """Mean of each figure over 60 generators and four standard errors of it."""
    rows = [summary(seeded(seed)) for seed in range(60)]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {name: (it.mean(), 4 * it.std(ddof=1) / math.sqrt(60)) for name, it in columns.items()}


def test_with_the_true_ratios_the_dual_form_is_the_kl() -> None:
    model, batches = LinearGaussian(shift=0.2, widening=1.2), toy_batches()
    model.critics = Critic(model)
    found, exact = repeatedly(lambda it: dual_summary(model, batches, 400, it)), of_toy(model)
    expected = {
        "kl_dual": exact["kl"],
        "nll_dual": exact["rec"] + exact["kl"],
        "mi_dual": exact["kl"] - exact["aggregate_kl"],
    }
    assert found.keys() == expected.keys()
    for name, (mean, error) in found.items():
        assert mean == pytest.approx(expected[name], abs=error), name
        assert error < 0.1, name


@pytest.mark.parametrize("wrong", [{"offset": 0.7}, {"offset": -1.0}, {"scale": 0.4}, {"scale": 0}])
def test_with_any_others_it_is_less_than_the_negative_elbo(wrong: dict[str, float]) -> None:
    model, batches = LinearGaussian(shift=0.2, widening=1.2), toy_batches()
    model.critics = Critic(model, **wrong)
    found, exact = repeatedly(lambda it: dual_summary(model, batches, 400, it)), of_toy(model)
    mean, error = found["kl_dual"]
    assert mean < exact["kl"] - error
    mean, error = found["nll_dual"]
    assert mean < exact["rec"] + exact["kl"] - error


def test_the_nll_at_the_centre_is_its_three_terms() -> None:
    """- log p(x|z) - log p(z) at z = mean, less the entropy of q."""
    model, batches = LinearGaussian(shift=0.2, widening=1.2), toy_batches()
    mean_N, deviation = Critic(model).moments(toy_numbers())
    q_N = torch.distributions.Normal(mean_N, deviation)
    rec_N = -torch.distributions.Normal(SLOPE * mean_N, NOISE).log_prob(toy_numbers())
    prior_N = -torch.distributions.Normal(0.0, 1.0).log_prob(mean_N)
    expected = float((rec_N + prior_N - q_N.entropy()).mean())
    found = centre_nll(model, batches)
    assert found == {"nll_at_centre": pytest.approx(expected, rel=1e-5)}


def test_a_kl_without_a_closed_form_is_the_mean_over_many_codes() -> None:
    """Of a flow of no maps it is its base's, whose log p(z) at one code is 0.87 off or so."""
    base = Gaussian(mean_BZ=torch.full((40, 1), 0.5), logvar_BZ=torch.zeros(40, 1))
    found_B = kl(Flow(base=base, maps=()), seeded())
    assert found_B.dtype == torch.float64
    assert float(found_B.mean()) == pytest.approx(0.125, abs=4 * 0.87 / math.sqrt(40 * 64))
    assert float(found_B.std()) == pytest.approx(0.87 / math.sqrt(64), rel=0.5)


def test_features_stand_in_the_splits_order() -> None:
    features_NH = features(LinearGaussian(), toy_batches())
    assert features_NH.dtype == torch.float64
    torch.testing.assert_close(features_NH[:, 0].float(), toy_numbers())


# NLL and perplexity of test splits in print: Yang et al. (2017), Kim et al. (2018), He et al.
# (2019) and Fang et al. (2019). NLL / ln PPL is the mean number of targets, `</s>` counted and
# `<s>` not; rounded as they are the pairs give it within 3e-4.
PUBLISHED = {
    "yahoo": (
        79.867,
        [
            (334.9, 66.2),
            *((327.5, 60.4), (329.1, 61.6)),
            *((328.0, 60.75), (328.6, 61.21), (326.7, 59.77)),
            *((309.5, 48.22), (309.1, 47.93)),
        ],
    ),
    "yelp": (96.656, [(362.7, 42.6), (357.03, 40.20), (348.2, 36.70), (348.7, 36.88)]),
}


def test_a_perplexity_that_no_float_holds_is_infinite() -> None:
    assert perplexity(2 * 800.0, 2) == math.inf
    assert perplexity(2 * math.log(7), 2) == pytest.approx(7)


@pytest.mark.parametrize("corpus", PUBLISHED)
def test_published_perplexities_follow_from_published_nll(corpus: str) -> None:
    targets, pairs = PUBLISHED[corpus]
    for nll, published in pairs:
        found = perplexity(nll * 10_000, round(targets * 10_000))
        assert found == pytest.approx(published, rel=1.5e-3)
        assert nll / math.log(published) == pytest.approx(targets, rel=3e-4)
