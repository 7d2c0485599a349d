"""Critics against densities that are known, and what may move them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from trainers.config import typed
from trainers.critics import Critics
from trainers.metrics import encode_split
from trainers.models import SequenceVAE, build_model, initialise
from trainers.objectives import dual
from trainers.schemes import Adversarial
from trainers.streams import Streams
from trainers.updates import Updates

WORDS = 12


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# What they learn: two sentences, told apart by their features, q(z|x) = N(+-1.2, 0.6^2).

MEANS, DEVIATION = (-1.2, 1.2), 0.6


def drawn(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of the posteriors, codes of the prior and features, half of each sentence."""
    feature_BH = torch.eye(2).repeat(count // 2, 1)
    mean_BZ = torch.tensor(MEANS).repeat(count // 2)[:, None]
    noise_BZ, prior_BZ = (torch.randn(count, 1, generator=generator) for _ in range(2))
    return mean_BZ + DEVIATION * noise_BZ, prior_BZ, feature_BH


@pytest.fixture(scope="module")
def learned() -> Critics:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        critics = Critics(latent=1, features=2, hidden=16, of="pair")
    optimiser, generator = torch.optim.Adam(critics.parameters(), lr=3e-3), seeded(1)
    for _ in range(600):
        optimiser.zero_grad()
        critics.loss(*drawn(256, generator)).backward()
        optimiser.step()
    return critics


@torch.no_grad()
def estimated(critics: Critics, network: int) -> tuple[float, float]:
    """mean nu(q's codes) - mean e^nu(p's codes) + 1, and four standard errors of it."""
    codes_BZ, prior_BZ, feature_BH = drawn(100_000, seeded(2))
    under_q = critics(codes_BZ, feature_BH)[network].double()
    under_p = critics(prior_BZ, feature_BH)[network].double().exp()
    error = math.sqrt((under_q.var() + under_p.var()) / 100_000)
    return float(under_q.mean() - under_p.mean()) + 1, 4 * error


def test_the_pairs_critic_comes_to_the_kl_from_below(learned: Critics) -> None:
    exact = float(kl_divergence(Normal(MEANS[1], DEVIATION), Normal(0.0, 1.0)))
    found, error = estimated(learned, 0)
    assert 0.9 * exact - error < found < exact + error
    assert error < 0.05


def test_the_codes_critic_comes_to_the_kl_of_the_aggregate(learned: Critics) -> None:
    """Of a mixture of two normals, by quadrature."""
    grid = np.linspace(-9, 9, 20_001)
    density = sum(np.exp(-0.5 * ((grid - mean) / DEVIATION) ** 2) for mean in MEANS) / 2
    density /= DEVIATION * math.sqrt(2 * math.pi)
    log_prior = -0.5 * (grid**2 + math.log(2 * math.pi))
    exact = np.trapezoid(density * (np.log(density + 1e-300) - log_prior), grid)
    found, error = estimated(learned, 1)
    assert 0.8 * exact - error < found < exact + error


class Ratio(nn.Module):
    """log q(z|x) / p(z) + offset, in the place of a network of both."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, both_BN: Tensor) -> Tensor:
        code_B1, mean_B1 = both_BN[:, :1], both_BN[:, 1:] @ torch.tensor(MEANS)[:, None]
        log_q_B1 = Normal(mean_B1, DEVIATION).log_prob(code_B1)
        return log_q_B1 - Normal(0.0, 1.0).log_prob(code_B1) + self.offset


class Nothing(nn.Module):
    def forward(self, codes_BZ: Tensor) -> Tensor:
        return torch.zeros(len(codes_BZ), 1)


def test_the_loss_is_least_at_the_ratio_of_densities() -> None:
    """There it is 1 - KL; an offset d adds e^d - 1 - d. A network of zeros adds e^0 - 0."""
    critics = Critics(latent=1, features=2, hidden=4, of="pair")
    critics.code = Nothing()
    exact = float(kl_divergence(Normal(MEANS[1], DEVIATION), Normal(0.0, 1.0)))
    for offset in (-0.3, 0.0, 0.3):
        critics.pair = Ratio(offset)
        loss = float(critics.loss(*drawn(200_000, seeded(3))))
        expected = 1 - exact + math.exp(offset) - 1 - offset + 1
        assert loss == pytest.approx(expected, abs=0.02), offset


def test_which_critic_stands_for_the_kl() -> None:
    critics = Critics(latent=1, features=2, hidden=4, of="pair")
    codes_BZ, _, feature_BH = drawn(6, seeded(4))
    pair_B, code_B = critics(codes_BZ, feature_BH)
    assert pair_B.shape == code_B.shape == (6,)
    torch.testing.assert_close(critics.divergence(codes_BZ, feature_BH), pair_B)
    critics.of = "code"
    torch.testing.assert_close(critics.divergence(codes_BZ, feature_BH), code_B)


# What may move them


def small(**changes: Any) -> tuple[SequenceVAE, Any]:
    config = typed(
        {
            "data": "any",
            "posterior": "implicit",
            "objective": "dual",
            "scheme": "adversarial",
            "dropout": 0.0,
            "size": {"embedding": 4, "encoder": 5, "decoder": 5, "latent": 3},
            "init": {"scheme": "default"},
            "critic": {"hidden": 6, "steps": 3, "lr": 1e-3},
        }
        | changes
    )
    model = build_model(config, WORDS)
    initialise(model, config.init, 1)
    return model, config


def an_updater(model: SequenceVAE, *, clip: float = 5.0) -> Updates:
    return Updates(model, algorithm="sgd", lr=0.1, clip=clip, critic_lr=1e-3)


def sentences(count: int = 8, words: int = 3, seed: int = 5) -> Tensor:
    tokens_BT = torch.randint(4, WORDS, (count, words + 2), generator=seeded(seed))
    tokens_BT[:, 0], tokens_BT[:, -1] = 1, 2
    return tokens_BT


def weights_of(model: SequenceVAE, half: str) -> list[Tensor]:
    return [it.detach().clone() for it in model.halves()[half]]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_nothing_is_learned_through_the_feature_that_a_critic_reads() -> None:
    critics = Critics(latent=1, features=2, hidden=4, of="pair")
    codes_BZ, prior_BZ, feature_BH = (it.requires_grad_() for it in drawn(6, seeded(4)))
    gradients = torch.autograd.grad(
        critics.divergence(codes_BZ, feature_BH).sum(), [codes_BZ, feature_BH], allow_unused=True
    )
    assert gradients[0].abs().min() > 0
    assert gradients[1] is None
    gradients = torch.autograd.grad(
        critics.loss(codes_BZ, prior_BZ, feature_BH), [codes_BZ, feature_BH], allow_unused=True
    )
    assert gradients == (None, None)


def test_a_joint_update_leaves_the_critics_and_their_optimiser_alone() -> None:
    model, config = small()
    updates = an_updater(model, clip=1e-3)
    before = {half: weights_of(model, half) for half in model.halves()}
    loss = dual(model, sentences(), weight=1.0, streams=Streams(1), config=config)
    updates.step(loss.mean, "joint")
    assert same(weights_of(model, "critic"), before["critic"])
    assert not updates.optimisers["critic"].state
    for half in ("encoder", "decoder"):
        assert not same(weights_of(model, half), before[half])
    # Clipped to 1e-3 without what flowed into the critics; plain SGD moves by 0.1 of it.
    moved = [
        (new - old).flatten().double()
        for half in ("encoder", "decoder")
        for new, old in zip(weights_of(model, half), before[half], strict=True)
    ]
    assert float(torch.cat(moved).norm()) == pytest.approx(1e-4, rel=1e-3)


def test_a_critics_update_moves_nothing_else_and_is_not_clipped() -> None:
    """Adam's first update is lr g / (|g| + 1e-8): of a gradient clipped to 1e-20, nothing."""
    model, _ = small()
    updates = an_updater(model, clip=1e-20)
    before = {half: weights_of(model, half) for half in model.halves()}
    feature_BH, posterior = model.encode(sentences())
    codes_BZ, prior_BZ = (torch.randn(8, 3, generator=seeded(seed)) for seed in (6, 7))
    codes_BZ = posterior.sample(codes_BZ)
    expected = torch.autograd.grad(
        model.critics.loss(codes_BZ, prior_BZ, feature_BH), list(model.critics.parameters())
    )
    updates.step(model.critics.loss(codes_BZ, prior_BZ, feature_BH), "critic")
    for half in ("encoder", "decoder"):
        assert same(weights_of(model, half), before[half])
    for new, old, gradient in zip(
        weights_of(model, "critic"), before["critic"], expected, strict=True
    ):
        clear = gradient.abs() > 1e-5
        assert clear.any()
        torch.testing.assert_close(
            (new - old)[clear], -1e-3 * gradient.sign()[clear], rtol=2e-3, atol=1e-7
        )
    assert updates.cost()["cost/updates_critic"] == updates.cost()["cost/updates"] == 1
    assert updates.cost()["cost/outer_steps"] == updates.cost()["cost/inner_steps"] == 0


def test_no_rule_changes_the_critics_rate() -> None:
    updates = an_updater(small()[0])

    def rates() -> dict[str, float]:
        return {half: it.param_groups[0]["lr"] for half, it in updates.optimisers.items()}

    assert rates() == {"encoder": 0.1, "decoder": 0.1, "critic": 1e-3}
    updates.set_lr(0.05)
    assert rates() == {"encoder": 0.05, "decoder": 0.05, "critic": 1e-3}
    updates.renew(0.025)
    assert rates() == {"encoder": 0.025, "decoder": 0.025, "critic": 1e-3}


@pytest.mark.parametrize(("of", "network"), [("pair", 0), ("code", 1)])
def test_dual_is_its_two_terms(of: str, network: int) -> None:
    model, config = small(critic={"of": of, "hidden": 6})
    tokens_BT = sentences()
    loss = dual(model, tokens_BT, weight=0.4, streams=Streams(2), config=config)
    noise_BZ = torch.randn(8, 3, generator=Streams(2)["noise"])
    feature_BH, posterior = model.encode(tokens_BT)
    codes_BZ = posterior.sample(noise_BZ)
    _, rec_B = model.decoder.reconstruction(tokens_BT, codes_BZ)
    nu_B = model.critics(codes_BZ, feature_BH)[network]
    torch.testing.assert_close(loss.mean, (rec_B + 0.4 * nu_B).mean())
    torch.testing.assert_close(loss.rec_B, rec_B)
    torch.testing.assert_close(loss.kl_B, nu_B.detach())


def test_a_trained_posterior_has_the_kl_of_its_covariance() -> None:
    """z = W_h h + c + W_e e: N(W_h h + c, W_e W_e^T), in float64."""
    model, config = small()
    streams, updates = Streams(3), an_updater(model)
    scheme = Adversarial(config, updates, streams)
    batches = [sentences(8, words, seed=words) for words in (0, 1, 2, 4)]
    for step in range(40):
        scheme.step(
            batches[step % 4],
            batches,
            lambda tokens: dual(model, tokens, weight=0.1, streams=streams, config=config),
        )
    assert updates.counts == {"joint": 40, "encoder": 0, "decoder": 0, "critic": 120}
    weight, bias = (it.detach().double() for it in model.posterior.linear.parameters())
    covariance_ZZ = weight[:, 5:] @ weight[:, 5:].T
    prior = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    split = [(tokens_BT, torch.arange(8)) for tokens_BT in batches]
    with torch.no_grad():
        codes = encode_split(model.eval(), split, seeded(8))
    means_NZ = codes.feature_NH.double() @ weight[:, :5].T + bias
    expected_N = kl_divergence(MultivariateNormal(means_NZ, covariance_ZZ), prior)
    torch.testing.assert_close(codes.kl_N, expected_N, rtol=1e-5, atol=0)
    torch.testing.assert_close(codes.centre_NZ.double(), means_NZ, rtol=1e-4, atol=1e-5)
