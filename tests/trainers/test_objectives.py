"""Objectives and their terms against plain loops in float64, and their gradients against
differences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from trainers.config import TextVaeConfig, typed
from trainers.models import SequenceVAE, build_model, initialise
from trainers.objectives import OBJECTIVES, batch_cosine, elbo, mmd, wasserstein
from trainers.streams import Streams

WORDS, LATENT = 12, 3
SCALES = (0.1, 0.2, 0.5, 1, 2, 5, 10)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


# Terms over a batch


def mmd_in_loops(codes_BZ: Tensor, prior_BZ: Tensor) -> float:
    """Tolstikhin et al. (2018), algorithm 2: pairs of one sample without the diagonal."""
    sentences, latent = codes_BZ.shape

    def kernel(one_Z: Tensor, other_Z: Tensor) -> float:
        square = float(((one_Z - other_Z) ** 2).sum())
        return sum(2 * latent * s / (2 * latent * s + square) for s in SCALES)

    total = 0.0
    for i in range(sentences):
        for j in range(sentences):
            if i != j:
                among = kernel(codes_BZ[i], codes_BZ[j]) + kernel(prior_BZ[i], prior_BZ[j])
                total += among / (sentences * (sentences - 1))
            total -= 2 * kernel(codes_BZ[i], prior_BZ[j]) / sentences**2
    return total


def cosine_in_loops(feature_BH: Tensor) -> Tensor:
    pairs = [
        (one_H * other_H).sum() / (one_H.norm() * other_H.norm())
        for i, one_H in enumerate(feature_BH)
        for j, other_H in enumerate(feature_BH)
        if i != j
    ]
    return torch.stack(pairs).mean()


def test_mmd_is_the_double_loop() -> None:
    codes_BZ, prior_BZ = 1.5 * random(6, 4) + 0.5, random(6, 4, seed=1)
    expected = mmd_in_loops(codes_BZ, prior_BZ)
    assert float(mmd(codes_BZ, prior_BZ)) == pytest.approx(expected, rel=1e-12)
    assert float(mmd(codes_BZ.float(), prior_BZ.float())) == pytest.approx(expected, rel=1e-4)
    assert float(mmd(codes_BZ[:1], prior_BZ[:1])) == 0


def test_mmd_of_two_samples_of_one_distribution_is_0_in_the_mean() -> None:
    pairs = random(2000, 2, 5, 3, seed=2)
    values_N = torch.stack([mmd(*pair) for pair in pairs])
    error = float(values_N.std()) / math.sqrt(len(values_N))
    assert abs(float(values_N.mean())) < 4 * error
    moved = torch.stack([mmd(codes + 0.5, prior) for codes, prior in pairs])
    assert float(moved.mean()) > 10 * error
    assert error < 0.02


def test_batch_cosine_is_the_double_loop_with_its_gradient() -> None:
    fast, plain = (random(5, 4, seed=3).requires_grad_() for _ in range(2))
    found, expected = batch_cosine(fast), cosine_in_loops(plain)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    found.backward()
    expected.backward()
    torch.testing.assert_close(fast.grad, plain.grad)


def test_batch_cosine_is_between_its_bounds() -> None:
    assert float(batch_cosine(random(1, 4).expand(7, 4))) == pytest.approx(1)
    # The corners of a simplex are as far apart as four directions can be.
    corners_BH = torch.eye(4).double() - 0.25
    assert float(batch_cosine(corners_BH)) == pytest.approx(-1 / 3)
    assert float(batch_cosine(random(1, 4))) == 0
    with_a_zero = torch.stack([torch.zeros(4), torch.ones(4), torch.ones(4)]).requires_grad_()
    value = batch_cosine(with_a_zero)
    value.backward()
    assert float(value.detach()) == pytest.approx(1 / 3)
    assert with_a_zero.grad.isfinite().all()


# Whole objectives


def made(**changes: Any) -> tuple[SequenceVAE, TextVaeConfig]:
    """In evaluation mode: batch normalisation by running statistics, here not those of its
    start."""
    given = {
        "data": "any",
        "dropout": 0.0,
        "size": {"embedding": 4, "encoder": 5, "decoder": 6, "latent": LATENT},
        "init": {"scheme": "default"},
        "flow": {"length": 2},
        "wasserstein": {"mmd": 3.0, "band": 0.5, "centres": 4},
        "critic": {"hidden": 5, "of": "code"},
    }
    config = typed(given | changes)
    model = build_model(config, WORDS)
    initialise(model, config.init, 1)
    for name, it in model.named_buffers():
        if "running" in name:
            it.copy_(0.2 + torch.rand(it.shape, generator=seeded(9)))
    return model.eval(), config


def sentences(*, seed: int = 5) -> Tensor:
    tokens_BT = torch.randint(4, WORDS, (6, 5), generator=seeded(seed))
    tokens_BT[:, 0], tokens_BT[:, -1] = 1, 2
    return tokens_BT


def fitted(model: SequenceVAE) -> Tensor:
    centres_CZ = random(4, LATENT, seed=6).float()
    model.posterior.centres_CZ.copy_(centres_CZ)
    return centres_CZ.double()


@torch.no_grad()
def written_out(
    model: SequenceVAE, tokens_BT: Tensor, noise_BZ: Tensor, centres_CZ: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, KL and crowding of each sentence under a flow, from the feature on, in float64."""
    head = model.posterior
    feature_BH = model.encode(tokens_BT)[0].double()

    def normalised(linear: Any, norm: Any) -> Tensor:
        values_BZ = feature_BH @ linear.weight.double().T + linear.bias.double()
        spread_Z = (norm.running_var.double() + 1e-5).sqrt()
        return (values_BZ - norm.running_mean.double()) / spread_Z * norm.weight + norm.bias

    mean_BZ = normalised(head.mean, head.mean_norm)
    deviation_BZ = (normalised(head.logvar, head.logvar_norm) / 2).exp()
    codes_BZ = mean_BZ + deviation_BZ * noise_BZ.double()
    # E[log q(z_0)] in closed form, the rest at this code.
    kl_B = -(0.5 + 0.5 * math.log(2 * math.pi) + deviation_BZ.log()).sum(1)
    crowding_B = torch.zeros(len(tokens_BT)).double()
    for one in head.maps:
        u, w, b = (it.double() for it in (one.u, one.w, one.b))
        if centres_CZ is not None:
            for place, code_Z in enumerate(codes_BZ):
                nearest = min(float(((code_Z - centre) ** 2).sum()) for centre in centres_CZ)
                kernels = [2 * LATENT * s / (2 * LATENT * s + nearest) for s in SCALES]
                crowding_B[place] += math.log(sum(kernels))
        u = u + (math.log1p(math.exp(w @ u)) - 1 - w @ u) * w / (w @ w)
        bent_B = torch.tanh(codes_BZ @ w + b)
        kl_B = kl_B - (1 + (1 - bent_B**2) * (u @ w)).log()
        codes_BZ = codes_BZ + torch.outer(bent_B, u)
    log_prior_B = -0.5 * (codes_BZ**2 + math.log(2 * math.pi)).sum(1)
    return codes_BZ, kl_B - log_prior_B, crowding_B


@pytest.mark.parametrize("is_fitted", [True, False])
@pytest.mark.parametrize("weight", [0.0, 0.4, 5.0])
def test_wasserstein_is_its_terms_written_out(weight: float, is_fitted: bool) -> None:
    """A KL weight over the MMD's own leaves the MMD out."""
    model, config = made(objective="wasserstein", posterior="planar_flow", cosine=0.7)
    centres_CZ = fitted(model) if is_fitted else None
    tokens_BT = sentences()
    loss = wasserstein(model, tokens_BT, weight=weight, streams=Streams(3), config=config)
    noise_BZ = torch.randn(6, LATENT, generator=Streams(3)["noise"])
    prior_BZ = torch.randn(6, LATENT, generator=Streams(3)["prior"]).double()
    codes_BZ, kl_B, crowding_B = written_out(model, tokens_BT, noise_BZ, centres_CZ)
    assert (crowding_B.abs().sum() > 0) == is_fitted
    _, rec_B = model.decoder.reconstruction(tokens_BT, codes_BZ.float())
    expected = float((rec_B.double() + weight * kl_B + 0.5 * crowding_B).mean())
    expected += max(0.0, 3.0 - weight) * mmd_in_loops(codes_BZ, prior_BZ)
    expected += 0.7 * float(cosine_in_loops(model.encode(tokens_BT)[0].detach().double()))
    assert float(loss.mean.detach()) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(loss.rec_B, rec_B)
    torch.testing.assert_close(loss.kl_B.double(), kl_B, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("posterior", ["gaussian", "implicit"])
def test_wasserstein_of_a_posterior_without_maps_has_no_penalty_of_theirs(posterior: str) -> None:
    model, config = made(objective="wasserstein", posterior=posterior)
    tokens_BT = sentences()
    loss = wasserstein(model, tokens_BT, weight=0.4, streams=Streams(3), config=config)
    plain = elbo(model, tokens_BT, weight=0.4, streams=Streams(3), config=config)
    noise_BZ = torch.randn(6, LATENT, generator=Streams(3)["noise"])
    prior_BZ = torch.randn(6, LATENT, generator=Streams(3)["prior"])
    codes_BZ = model.encode(tokens_BT)[1].sample(noise_BZ).detach()
    expected = float(plain.mean.detach()) + 2.6 * mmd_in_loops(codes_BZ.double(), prior_BZ.double())
    assert float(loss.mean.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def everything_in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("posterior", ["gaussian", "implicit", "planar_flow"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_are_those_of_differences(
    objective: str, posterior: str, everything_in_float64: None
) -> None:
    """Along one direction in all parameters. The critic of codes alone: that of pairs is cut
    off from the feature."""
    scheme = "adversarial" if objective == "dual" else "joint"
    model, config = made(objective=objective, posterior=posterior, scheme=scheme, cosine=0.7)
    if posterior == "planar_flow" and objective == "wasserstein":
        fitted(model)
    tokens_BT, parameters = sentences(), list(model.parameters())

    def loss() -> Tensor:
        return OBJECTIVES[objective](
            model, tokens_BT, weight=0.4, streams=Streams(3), config=config
        ).mean

    directions = [random(*it.shape, seed=n) for n, it in enumerate(parameters)]
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    slope = sum(
        float((gradient * along).sum())
        for gradient, along in zip(gradients, directions, strict=True)
        if gradient is not None
    )
    values = []
    with torch.no_grad():
        for step in (1e-5, -2e-5):
            for parameter, along in zip(parameters, directions, strict=True):
                parameter += step * along
            values.append(float(loss()))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_the_regulariser_is_over_the_features_that_the_posterior_reads() -> None:
    model, config = made(cosine=2.5)
    tokens_BT = sentences()
    loss, plain = (
        elbo(model, tokens_BT, weight=0.3, streams=Streams(3), config=it).mean.detach()
        for it in (config, config.model_copy(update={"cosine": 0.0}))
    )
    cosine = cosine_in_loops(model.encode(tokens_BT)[0].detach().double())
    assert float(loss - plain) == pytest.approx(2.5 * float(cosine), rel=1e-4)
