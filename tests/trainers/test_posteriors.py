"""Posteriors against torch.distributions, autograd's Jacobian, sums over a grid, and a toy
whose likelihood and true posterior are known.

Shapes: N sentences, S codes per sentence, Z latent dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import MultivariateNormal

from trainers.metrics import active_units, centre_nll, encode_split, importance_nll, mi_full
from trainers.posteriors import (
    BatchNorm,
    Flow,
    Gaussian,
    ImplicitHead,
    PlanarFlowHead,
    SharedGaussian,
    k_means,
    log_normal,
    planar,
)

Map = tuple[Tensor, Tensor, Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def random_map(latent: int, seed: int, size: float = 1.0) -> Map:
    u, w, b = random(latent, seed=seed), random(latent, seed=seed + 1), random(1, seed=seed + 2)[0]
    return size * u, size * w, b


def plainly(codes: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """A planar map of codes [.., Z] and its log-determinant, after Rezende & Mohamed (2015):
    1 + w.u' = log(1 + e^(w.u)), and the determinant is 1 + (1 - tanh^2) w.u'."""
    along = (w * u).sum()
    u = u + ((1 + along.exp()).log() - 1 - along) * w / (w * w).sum()
    bent = torch.tanh((codes * w).sum(-1) + b)
    return codes + bent[..., None] * u, (1 + (1 - bent**2) * (w * u).sum()).log()


# At the prior


def at_the_prior(count: int, latent: int) -> dict[str, Any]:
    zeros = torch.zeros(count, latent)
    gaussian = Gaussian(mean_BZ=zeros, logvar_BZ=zeros)
    w, b = torch.linspace(0.5, 2, latent), torch.tensor(0.3)
    # u = a w / |w|^2 with log(1 + e^a) = 1 is moved to u' = 0: a map that is the identity.
    identity = math.log(math.e - 1) * w / w.square().sum(), w, b
    return {
        "gaussian": gaussian,
        "shared": SharedGaussian(mean_BZ=zeros, mixing_ZZ=torch.eye(latent)),
        "flow of no map": Flow(base=gaussian, maps=()),
        "flow of the identity": Flow(base=gaussian, maps=(identity, identity)),
    }


@pytest.mark.parametrize("kind", at_the_prior(1, 1))
def test_a_posterior_that_is_the_prior_costs_nothing_and_says_nothing(kind: str) -> None:
    """Noise of +-1 has the mean square of the prior, which leaves no chance in a flow's KL."""
    posterior = at_the_prior(64, 4)[kind]
    noise_BZ = torch.randint(0, 2, (64, 4), generator=seeded()) * 2.0 - 1
    torch.testing.assert_close(posterior.kl(noise_BZ), torch.zeros(64), rtol=0, atol=1e-5)
    base = posterior.base
    information = mi_full(base.mean_BZ, base.logvar_BZ, base.sample(noise_BZ))
    assert information == pytest.approx(0, abs=1e-6)
    assert active_units(posterior.centre_BZ) == 0
    codes_BZ, log_q_B = posterior.draw(noise_BZ)
    torch.testing.assert_close(codes_BZ, noise_BZ)
    torch.testing.assert_close(log_q_B, log_normal(noise_BZ))


# One covariance for all sentences


def shared(count: int = 6, latent: int = 3) -> tuple[SharedGaussian, MultivariateNormal]:
    """With a mixing that is neither triangular nor symmetric, and its density."""
    mean_NZ, mixing_ZZ = random(count, latent, seed=1), random(latent, latent, seed=2)
    density = MultivariateNormal(mean_NZ, mixing_ZZ @ mixing_ZZ.T)
    return SharedGaussian(mean_BZ=mean_NZ, mixing_ZZ=mixing_ZZ), density


def test_a_shared_gaussian_against_torch_distributions() -> None:
    posterior, density = shared()
    codes_BSZ, log_q_BS = posterior.draw(random(6, 50, 3, seed=3))
    torch.testing.assert_close(log_q_BS, density.log_prob(codes_BSZ.transpose(0, 1)).T)
    codes_BZ, log_q_B = posterior.draw(random(6, 3, seed=4))
    torch.testing.assert_close(log_q_B, density.log_prob(codes_BZ))
    prior = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    torch.testing.assert_close(posterior.kl(), torch.distributions.kl_divergence(density, prior))


def test_codes_of_a_shared_gaussian_have_its_covariance() -> None:
    posterior, density = shared(count=1)
    codes_SZ = posterior.sample(random(1, 200_000, 3, seed=5))[0]
    size = density.covariance_matrix[0].diagonal().max()
    error = 4 * float(size) * math.sqrt(2 / 200_000)
    assert (codes_SZ.T.cov() - density.covariance_matrix[0]).abs().max() < error
    assert (codes_SZ.mean(0) - density.mean[0]).abs().max() < 4 * float(size.sqrt()) / 200_000**0.5


def test_information_taken_in_the_base_is_that_of_the_codes() -> None:
    posterior, density = shared(count=8)
    noise_NZ = random(8, 3, seed=6)
    total = 0.0
    for code_Z in posterior.sample(noise_NZ):
        likelihoods = [
            float(MultivariateNormal(mean_Z, density.covariance_matrix[0]).log_prob(code_Z).exp())
            for mean_Z in density.mean
        ]
        total -= math.log(sum(likelihoods) / 8)
    expected = total / 8 - float(density.entropy().mean())
    base = posterior.base
    found = mi_full(base.mean_BZ, base.logvar_BZ, base.sample(noise_NZ))
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_implicit_head_is_one_linear_map_of_feature_and_noise() -> None:
    head = ImplicitHead(features=5, latent=3)
    feature_BH, noise_BZ = random(4, 5).float(), random(4, 3, seed=1).float()
    expected = head.linear(torch.cat([feature_BH, noise_BZ], 1))
    torch.testing.assert_close(head(feature_BH).sample(noise_BZ), expected)


@pytest.mark.parametrize("kind", ["shared", "flow"])
def test_a_split_has_each_code_and_what_it_is_the_image_of(kind: str) -> None:
    model = Toy(a_shared if kind == "shared" else a_flow)
    with torch.no_grad():
        split = encode_split(model, [(it, torch.arange(3)) for it in TOKENS_NT.split(3)], seeded(4))
    posterior = model.encode(TOKENS_NT)[1]
    if kind == "shared":
        images_NZ = split.base_NZ @ posterior.mixing_ZZ.T
    else:
        images_NZ, _ = posterior.pushed(split.base_NZ)
    torch.testing.assert_close(split.codes_NZ, images_NZ)
    torch.testing.assert_close(split.mean_NZ, posterior.base.mean_BZ)
    noise_NZ = (split.base_NZ - split.mean_NZ) / (split.logvar_NZ / 2).exp()
    torch.testing.assert_close(split.codes_NZ, posterior.sample(noise_NZ))
    draws_SNZ = random(2000, 6, 2, seed=9)
    rest_NS = torch.stack([posterior.double().kl(noise_NZ) for noise_NZ in draws_SNZ], 1)
    if kind == "shared":
        torch.testing.assert_close(split.kl_N, posterior.double().kl())
    else:  # The mean of 64 codes, beside that of 2,000 others.
        error_N = rest_NS.std(1) * math.sqrt(1 / 64 + 1 / 2000)
        assert ((split.kl_N - rest_NS.mean(1)).abs() < 4 * error_N).all()
    assert split.sizes == [3, 3]


# Planar maps


@pytest.mark.parametrize("length", [1, 3])
def test_log_determinants_are_those_of_autograds_jacobian(length: int) -> None:
    maps = tuple(random_map(4, seed=10 * k, size=1.5) for k in range(length))
    base = Gaussian(mean_BZ=torch.zeros(1, 4).double(), logvar_BZ=torch.zeros(1, 4).double())
    flow = Flow(base=base, maps=maps)
    for code_Z in 2 * random(50, 4, seed=7):
        image_Z, log_det = flow.pushed(code_Z)
        matrix_ZZ = jacobian(lambda z: flow.pushed(z)[0], code_Z)
        sign, expected = torch.linalg.slogdet(matrix_ZZ)
        assert sign > 0
        torch.testing.assert_close(log_det, expected, rtol=1e-9, atol=1e-9)
        plain_Z = code_Z
        for one in maps:
            plain_Z, _ = plainly(plain_Z, *one)
        torch.testing.assert_close(image_Z, plain_Z)


def test_a_flow_does_with_many_codes_what_it_does_with_each() -> None:
    flow = Flow(
        base=Gaussian(mean_BZ=random(3, 2), logvar_BZ=random(3, 2, seed=1)),
        maps=(random_map(2, 2), random_map(2, 5)),
    )
    noise_BSZ = random(3, 4, 2, seed=8)
    codes_BSZ, log_q_BS = flow.draw(noise_BSZ)
    for s in range(4):
        codes_BZ, log_q_B = flow.draw(noise_BSZ[:, s])
        torch.testing.assert_close(codes_BSZ[:, s], codes_BZ)
        torch.testing.assert_close(log_q_BS[:, s], log_q_B)
    torch.testing.assert_close(flow.sample(noise_BSZ), codes_BSZ)


@pytest.mark.parametrize("size", [0.01, 1.0, 3.0, 30.0])
def test_planar_maps_are_invertible_whatever_their_parameters(size: float) -> None:
    """In float32, as in training. Where tanh is 0 a map contracts most: its determinant there
    is log(1 + e^(w.u)), small and never 0; w.u goes down to -80. A size of 1 is how they
    start."""
    for seed in range(200):
        u, w, _ = (it.float() for it in random_map(32, 3 * seed, size=size))
        along = -abs(float(w.double() @ u.double()))
        u = u * math.copysign(min(1.0, 80 / -along), -float(w @ u))
        _, log_det = planar(torch.zeros(32), u, w, torch.zeros(()))
        expected = math.log(math.log1p(math.exp(max(along, -80.0))))
        assert float(log_det) == pytest.approx(expected, rel=1e-3, abs=1e-3), (seed, along)


def test_a_flows_density_integrates_to_one() -> None:
    """Over the images of a grid's cells, whose areas are taken from their corners alone."""
    flow = Flow(
        base=Gaussian(
            mean_BZ=torch.tensor([[0.4, -0.2]]).double(),
            logvar_BZ=torch.tensor([[0.3, -0.5]]).double(),
        ),
        maps=(random_map(2, 11, size=1.3), random_map(2, 20, size=1.3)),
    )
    ticks = torch.linspace(-6, 6, 801, dtype=torch.float64)
    corners = flow.sample(torch.cartesian_prod(ticks, ticks).unsqueeze(0)).view(801, 801, 2)
    middles = (ticks[1:] + ticks[:-1]) / 2
    log_q = flow.draw(torch.cartesian_prod(middles, middles).unsqueeze(0)).log_q.view(800, 800)
    across, athwart = corners[1:, 1:] - corners[:-1, :-1], corners[:-1, 1:] - corners[1:, :-1]
    areas = 0.5 * (across[..., 0] * athwart[..., 1] - across[..., 1] * athwart[..., 0])
    assert (areas > 0).all()  # No cell is turned over: the map is one to one.
    assert float((log_q.exp() * areas).sum()) == pytest.approx(1, abs=1e-3)


def test_a_flows_kl_is_the_integral() -> None:
    """In one dimension, dz_K / dz_0 by differences on a grid."""
    count, mean, logvar = 400_000, 0.7, -0.4
    maps = (random_map(1, 31), random_map(1, 40))
    grid_S = np.linspace(mean - 9, mean + 9, 200_001)
    image_S = torch.as_tensor(grid_S)[:, None]
    for one in maps:
        image_S, _ = plainly(image_S, *one)
    image_S = image_S[:, 0].numpy()
    log_q0_S = -0.5 * ((grid_S - mean) ** 2 / math.exp(logvar) + logvar + math.log(2 * math.pi))
    log_p_S = -0.5 * (image_S**2 + math.log(2 * math.pi))
    integrand = np.exp(log_q0_S) * (log_q0_S - np.log(np.gradient(image_S, grid_S)) - log_p_S)
    expected = np.trapezoid(integrand, grid_S)
    flow = Flow(
        base=Gaussian(
            mean_BZ=torch.full((count, 1), mean).double(),
            logvar_BZ=torch.full((count, 1), logvar).double(),
        ),
        maps=maps,
    )
    noise_BZ = random(count, 1, seed=9)
    codes_BZ, log_q_B = flow.draw(noise_BZ)
    for estimates_B in (flow.kl(noise_BZ), log_q_B - log_normal(codes_BZ)):
        error = 4 * float(estimates_B.std()) / math.sqrt(count)
        assert float(estimates_B.mean()) == pytest.approx(expected, abs=error)
        assert error < 0.02


def test_crowding_is_the_sum_over_maps_of_the_nearest_centres_kernels() -> None:
    maps, centres_CZ = (random_map(2, 50), random_map(2, 60)), random(3, 2, seed=70)
    base = Gaussian(mean_BZ=random(4, 2, seed=71), logvar_BZ=random(4, 2, seed=72))
    noise_BZ = random(4, 2, seed=73)
    expected = []
    for n in range(4):
        code_Z = base.mean_BZ[n] + noise_BZ[n] * (base.logvar_BZ[n] / 2).exp()
        total = 0.0
        for one in maps:
            nearest = min(float(((code_Z - centre_Z) ** 2).sum()) for centre_Z in centres_CZ)
            # 2 Z s over (Tolstikhin et al. 2018): Z = 2.
            kernels = [4 * s / (4 * s + nearest) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
            total += math.log(sum(kernels))
            code_Z, _ = plainly(code_Z, *one)
        expected.append(total)
    found_B = Flow(base=base, maps=maps, centres_CZ=centres_CZ).crowding(noise_BZ)
    torch.testing.assert_close(found_B, torch.tensor(expected).double())


# Importance-weighted NLL under posteriors that are no diagonal Gaussian


class Toy(nn.Module):
    """z ~ N(0, 1) in two dimensions, x ~ N(LOADING z, NOISE^2), x in tenths the second and
    third token of a sentence. Its posterior is what `posterior_of(x)` says."""

    LOADING_XZ = torch.tensor([[1.2, 0.9], [-0.4, 1.0]]).double()
    NOISE = 0.7

    def __init__(self, posterior_of: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.posterior_of = posterior_of

    @property
    def decoder(self) -> Toy:
        return self

    def encode(self, tokens_BT: Tensor) -> tuple[Tensor, Any]:
        x_BX = self.numbers(tokens_BT)
        return x_BX, self.posterior_of(x_BX)

    def log_likelihood(self, tokens_BT: Tensor, latent_BSZ: Tensor) -> Tensor:
        centres_BSX = latent_BSZ.double() @ self.LOADING_XZ.T
        noise = torch.distributions.Normal(centres_BSX, self.NOISE)
        return noise.log_prob(self.numbers(tokens_BT).unsqueeze(1)).sum(2)

    def exact_nll(self, tokens_BT: Tensor) -> Tensor:
        covariance_XX = self.LOADING_XZ @ self.LOADING_XZ.T + self.NOISE**2 * torch.eye(2)
        p = MultivariateNormal(torch.zeros(2).double(), covariance_XX)
        return -p.log_prob(self.numbers(tokens_BT))

    @classmethod
    def true_posterior(cls, x_BX: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of each sentence and covariance of all."""
        precision_ZZ = torch.eye(2) + cls.LOADING_XZ.T @ cls.LOADING_XZ / cls.NOISE**2
        covariance_ZZ = torch.linalg.inv(precision_ZZ)
        return x_BX @ cls.LOADING_XZ @ covariance_ZZ / cls.NOISE**2, covariance_ZZ

    @staticmethod
    def numbers(tokens_BT: Tensor) -> Tensor:
        return (tokens_BT[:, 1:3] - 50).double() / 10


TOKENS_NT = torch.tensor([[1, *x, 2] for x in product((32, 50, 61), (40, 63))])


def a_shared(x_BX: Tensor, *, shift: float = 0.0, widening: float = 1.0) -> SharedGaussian:
    """The true posterior, its noise turned by 0.5, moved and widened."""
    mean_BZ, covariance_ZZ = Toy.true_posterior(x_BX)
    turn = torch.tensor([[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]]).double()
    mixing_ZZ = widening * torch.linalg.cholesky(covariance_ZZ) @ turn
    return SharedGaussian(mean_BZ=(mean_BZ + shift).float(), mixing_ZZ=mixing_ZZ.float())


def a_flow(x_BX: Tensor) -> Flow:
    """Wider than the true posterior, and bent."""
    mean_BZ = Toy.true_posterior(x_BX)[0].float()
    u, w, b = (it.float() for it in random_map(2, 80, size=0.7))
    maps = ((u, w, b), (w, -u, b))
    return Flow(base=Gaussian(mean_BZ=mean_BZ, logvar_BZ=torch.zeros_like(mean_BZ)), maps=maps)


def test_under_a_true_posterior_of_full_covariance_one_sample_is_exact() -> None:
    model = Toy(a_shared)
    estimate = importance_nll(model, [(TOKENS_NT, torch.arange(6))], 2, seeded())
    torch.testing.assert_close(estimate.nll_N, model.exact_nll(TOKENS_NT), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "posterior_of", [lambda x: a_shared(x, shift=0.1, widening=1.3), a_flow], ids=["shared", "flow"]
)
def test_importance_nll_tends_to_the_exact_nll(posterior_of: Callable[[Tensor], Any]) -> None:
    """Four standard errors, by the delta method sqrt(1/ess - 1/S)."""
    model, samples = Toy(posterior_of), 200_000
    estimate = importance_nll(model, [(TOKENS_NT, torch.arange(6))], samples, seeded(1))
    error_N = (1 / estimate.ess_N - 1 / samples).sqrt()
    assert error_N.max() < 0.01
    assert ((estimate.nll_N - model.exact_nll(TOKENS_NT)).abs() < 4 * error_N).all()


def test_the_nll_at_the_centre_of_a_flow_is_that_of_the_code_of_wang_and_wang() -> None:
    """-(log p(x|z) + log p(z) + H(q_0) + log |det J|) at z, the image of q_0's mean."""
    model, x_BX = Toy(a_flow), Toy.numbers(TOKENS_NT)
    flow = a_flow(x_BX)
    codes_BZ, log_det_B = flow.base.mean_BZ, 0
    for one in flow.maps:
        codes_BZ, grown_B = plainly(codes_BZ, *one)
        log_det_B = log_det_B + grown_B
    normal = torch.distributions.Normal
    entropy_B = normal(flow.base.mean_BZ, (flow.base.logvar_BZ / 2).exp()).entropy().sum(1)
    rec_B = -model.log_likelihood(TOKENS_NT, codes_BZ.unsqueeze(1))[:, 0]
    expected_B = rec_B - normal(0, 1).log_prob(codes_BZ).sum(1) - entropy_B - log_det_B
    found = centre_nll(model, [(TOKENS_NT, torch.arange(6))])["nll_at_centre"]
    assert found == pytest.approx(float(expected_B.mean()), rel=1e-5)


def test_a_mixing_that_cannot_be_inverted_is_no_crash() -> None:
    singular = SharedGaussian(mean_BZ=torch.ones(2, 2), mixing_ZZ=torch.ones(2, 2))
    assert singular.kl().isinf().all()
    assert not singular.base.mean_BZ.isfinite().all()


def test_the_published_nll_of_flows_does_not() -> None:
    """The code of Wang & Wang (2019) has the prior at z_0 and + sum log |det J| in log q."""
    model, samples = Toy(a_flow), 200_000
    x_BX = Toy.numbers(TOKENS_NT)
    flow = a_flow(x_BX)
    noise_BSZ = random(6, samples, 2, seed=2)
    start_BSZ = flow.base.mean_BZ.unsqueeze(1) + noise_BSZ
    codes_BSZ, log_det_BS = start_BSZ, 0
    for one in flow.maps:
        codes_BSZ, grown_BS = plainly(codes_BSZ, *one)
        log_det_BS = log_det_BS + grown_BS
    log_p_BS = model.log_likelihood(TOKENS_NT, codes_BSZ)
    start_of_prior, log_q0 = (
        torch.distributions.Normal(0, 1).log_prob(it).sum(2) for it in (start_BSZ, noise_BSZ)
    )
    nll_N = -((log_p_BS + start_of_prior - log_q0 - log_det_BS).logsumexp(1) - math.log(samples))
    exact_N = model.exact_nll(TOKENS_NT)
    assert (nll_N - exact_N).abs().mean() > 0.1
    ours = importance_nll(model, [(TOKENS_NT, torch.arange(6))], samples, seeded(2))
    assert (ours.nll_N - exact_N).abs().mean() < 0.01


# Heads


def test_a_batch_of_one_sentence_is_normalised_by_what_is_known() -> None:
    norm = BatchNorm(3)
    batch_BZ = 5 + 2 * random(400, 3).float()
    torch.testing.assert_close(norm(batch_BZ).mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(norm(batch_BZ).var(0), torch.ones(3), rtol=1e-2, atol=0)
    with torch.no_grad():
        norm.weight.fill_(0.5)
        norm.bias.fill_(2.0)
    known = {name: it.clone() for name, it in norm.state_dict().items()}
    one_1Z = batch_BZ[:1]
    expected = 2 + 0.5 * (one_1Z - known["running_mean"]) / (known["running_var"] + 1e-5).sqrt()
    assert norm.training
    torch.testing.assert_close(norm(one_1Z), expected)
    assert all(torch.equal(it, known[name]) for name, it in norm.state_dict().items())
    torch.testing.assert_close(norm.eval()(one_1Z), expected)


def flow_config(**changes: Any) -> Any:
    given = {"objective": "wasserstein", "band": 0.5, "centres": 4, "length": 2} | changes
    return SimpleNamespace(
        model="seq_vae",
        posterior="planar_flow",
        objective=given["objective"],
        wasserstein=SimpleNamespace(band=given["band"], centres=given["centres"]),
        flow=SimpleNamespace(length=given["length"]),
    )


def test_a_flow_knows_its_centres_once_they_are_fitted() -> None:
    head = PlanarFlowHead(features=5, latent=2, config=flow_config())
    feature_BH = random(6, 5).float()
    assert head.wants_centres
    assert head(feature_BH).centres_CZ is None
    head.fit_centres(random(50, 2).float(), seed=3)
    assert head(feature_BH).centres_CZ.isfinite().all()
    assert "centres_CZ" in head.state_dict()
    for changes in ({"objective": "elbo"}, {"band": 0.0}):
        head = PlanarFlowHead(features=5, latent=2, config=flow_config(**changes))
        assert not head.wants_centres
        assert head(feature_BH).centres_CZ is None


# Centres


def test_well_separated_clusters_are_found() -> None:
    middles = np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [50.0, 50.0]])
    points = np.repeat(middles, 30, 0) + np.random.default_rng(0).normal(size=(120, 2))
    before = np.random.get_state()[1].copy()
    found = k_means(points, 4, seed=1)
    expected = points.reshape(4, 30, 2).mean(1)
    np.testing.assert_allclose(found[np.lexsort(found.round().T)], expected, atol=2)
    np.testing.assert_allclose(
        sorted(map(tuple, found)), sorted(map(tuple, expected)), rtol=1e-9, atol=1e-9
    )
    assert np.array_equal(k_means(points, 4, seed=1), found)
    assert np.array_equal(np.random.get_state()[1], before)


def test_with_fewer_points_than_centres_they_are_the_points() -> None:
    points = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(k_means(points, 5, 0), points[[0, 1, 0, 1, 0]])
    assert np.isfinite(k_means(np.repeat(points, 10, 0), 5, 0)).all()
