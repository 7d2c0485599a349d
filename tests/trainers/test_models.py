from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers.config import TextVaeConfig, typed
from trainers.decoders import DECODERS
from trainers.models import SequenceVAE, build_model, initialise
from trainers.objectives import drop_words, elbo, likelihood
from trainers.pooling import POOLINGS
from trainers.posteriors import Gaussian
from trainers.streams import Streams, seed_of
from trainers.text import BOS, EOS, UNK, padded_batch

WORDS = 30
SMALL = {"embedding": 7, "encoder": 9, "decoder": 8, "latent": 4}


def configured(**changes: object) -> TextVaeConfig:
    given = {"data": "any", "size": SMALL, "dropout": 0.0, "init": {"scheme": "default"}}
    return typed(given | changes)


def made(seed: int = 1, **changes: object) -> SequenceVAE:
    config = configured(**changes)
    model = build_model(config, WORDS)
    initialise(model, config.init, seed)
    return model


def sentences(*lengths: int) -> list[np.ndarray]:
    """<s>, so many words, </s>."""
    draw = np.random.default_rng(0)
    return [np.array([BOS, *draw.integers(4, WORDS, length), EOS]) for length in lengths]


def gradients(model: SequenceVAE) -> dict[str, Tensor]:
    return {name: it.grad for name, it in model.named_parameters()}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_changes_nothing(pooling: str, decoder: str) -> None:
    """Features, loss and gradients of a padded batch against each sentence on its own, down
    to the empty sentence, which is `<s> </s>`."""
    model = made(pooling=pooling, decoder=decoder)
    all_of_them = sentences(6, 1, 0, 3)
    tokens_BT, mask_BT = map(torch.as_tensor, padded_batch(all_of_them))
    noise_BZ = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))

    def loss(tokens: Tensor, mask: Tensor | None, noise: Tensor) -> tuple[Tensor, Tensor]:
        feature, posterior = model.encode(tokens, mask)
        total, _ = model.decoder.reconstruction(tokens, posterior.sample(noise), mask_BT=mask)
        return feature, total + posterior.kl().sum()

    feature_BH, total = loss(tokens_BT, mask_BT, noise_BZ)
    total.backward()
    padded = gradients(model)
    model.zero_grad()
    alone = [
        loss(torch.as_tensor(sentence)[None], None, noise_BZ[place : place + 1])
        for place, sentence in enumerate(all_of_them)
    ]
    sum(one for _, one in alone).backward()
    torch.testing.assert_close(feature_BH, torch.cat([f for f, _ in alone]), rtol=1e-5, atol=1e-6)
    assert float(total.detach()) == pytest.approx(sum(one.item() for _, one in alone), rel=1e-5)
    for name, gradient in gradients(model).items():
        assert gradient.isfinite().all(), name
        torch.testing.assert_close(padded[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_parts_are_named_as_in_the_code_of_he_et_al() -> None:
    names = [name for name, _ in made().named_parameters()]
    lstm = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    assert sorted(names) == sorted(
        [
            "encoder.embed.weight",
            *(f"encoder.lstm.{part}" for part in lstm),
            "posterior.linear.weight",
            "decoder.embed.weight",
            "decoder.trans_linear.weight",
            *(f"decoder.lstm.{part}" for part in lstm),
            "decoder.pred_linear.weight",
        ]
    )


def test_the_halves_are_the_whole_model() -> None:
    for model in (made(), made(model="language_model")):
        halves = [it for half in model.halves().values() for it in half]
        assert {id(it) for it in halves} == {id(it) for it in model.parameters()}
        assert len(halves) == len(list(model.parameters()))


@pytest.mark.parametrize("scheme", ["uniform", "default"])
def test_weights_depend_on_the_seed_and_their_name_alone(scheme: str) -> None:
    init = {"scheme": scheme}
    model, again, other = made(3, init=init), made(3, init=init), made(4, init=init)
    language_model = made(3, init=init, model="language_model")
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
        assert not torch.equal(weight, other.state_dict()[name])
    for name in ("decoder.embed.weight", "decoder.pred_linear.weight"):
        assert torch.equal(model.state_dict()[name], language_model.state_dict()[name])


@pytest.mark.parametrize("scheme", ["uniform", "default"])
def test_building_a_model_leaves_the_global_generator_alone(scheme: str) -> None:
    before = torch.random.get_rng_state()
    made(init={"scheme": scheme})
    assert torch.equal(torch.random.get_rng_state(), before)


def test_uniform_weights_fill_their_range() -> None:
    model = made(init={"scheme": "uniform", "scale": 0.01, "embedding": 0.1})
    for name, weight in model.named_parameters():
        bound = 0.1 if "embed" in name else 0.01
        assert float(weight.detach().abs().max()) <= bound, name
        # Of n draws the largest is below 0.7 of the bound with probability 0.7^n.
        assert float(weight.detach().abs().max()) > 0.7 * bound, name


def test_a_gaussian_against_torch_distributions() -> None:
    draw = torch.Generator().manual_seed(0)
    mean, logvar = torch.randn(3, 5, generator=draw), torch.randn(3, 5, generator=draw)
    q = Gaussian(mean_BZ=mean, logvar_BZ=logvar)
    reference = torch.distributions.Normal(mean, (logvar / 2).exp())
    prior = torch.distributions.Normal(torch.zeros(3, 5), torch.ones(3, 5))
    kl = torch.distributions.kl_divergence(reference, prior).sum(1)
    torch.testing.assert_close(q.kl(), kl)
    noise_BSZ = torch.randn(3, 7, 5, generator=draw)
    codes_BSZ = q.sample(noise_BSZ)
    torch.testing.assert_close(codes_BSZ[:, 2], q.sample(noise_BSZ[:, 2]))
    log_q = reference.log_prob(codes_BSZ.transpose(0, 1)).sum(2).T
    torch.testing.assert_close(q.log_prob(codes_BSZ), log_q)


def test_a_posterior_at_the_prior_has_no_kl() -> None:
    q = Gaussian(mean_BZ=torch.zeros(2, 3), logvar_BZ=torch.zeros(2, 3))
    assert q.kl().tolist() == [0.0, 0.0]
    # A mean of 1 in each of 3 dimensions: 3/2.
    assert Gaussian(mean_BZ=torch.ones(1, 3), logvar_BZ=torch.zeros(1, 3)).kl().item() == 1.5


def test_elbo_is_the_mean_over_sentences_of_its_two_terms() -> None:
    model, streams = made(), Streams(5)
    tokens_BT = torch.as_tensor(np.stack(sentences(4, 4, 4)))
    loss = elbo(model, tokens_BT, weight=0.3, streams=streams, config=configured())
    expected = (loss.rec_B + 0.3 * loss.kl_B).mean()
    torch.testing.assert_close(loss.mean.detach(), expected)
    assert loss.mean.requires_grad
    assert not loss.rec_B.requires_grad
    assert not loss.kl_B.requires_grad


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_gradients_of_elbo_are_those_of_its_equations(weight: float) -> None:
    """Against the model written out in float64; the KL term is of order 1."""
    model = made()
    with torch.no_grad():
        model.posterior.linear.weight.mul_(15)
    tokens_BT = torch.as_tensor(np.stack(sentences(4, 4, 4)))
    loss = elbo(model, tokens_BT, weight=weight, streams=Streams(5), config=configured())
    assert 0.5 < float(loss.kl_B.mean()) < 5
    loss.mean.backward()
    twin = {name: it.detach().double().requires_grad_() for name, it in model.named_parameters()}
    noise_BZ = torch.randn(3, 4, generator=Streams(5)["noise"]).double()
    mean = elbo_written_out(twin, tokens_BT, noise_BZ, weight)
    expected = torch.autograd.grad(mean, list(twin.values()))
    assert loss.mean.item() == pytest.approx(mean.item(), rel=1e-6)
    for (name, gradient), exact in zip(gradients(model).items(), expected, strict=True):
        assert (gradient.double() - exact).norm() < 1e-5 * exact.norm(), name


def elbo_written_out(
    weights: dict[str, Tensor], tokens_BT: Tensor, noise_BZ: Tensor, kl_weight: float
) -> Tensor:
    """mean_B [ -log p(x|z) + weight KL ], word by word."""
    zero_BH = torch.zeros(len(tokens_BT), SMALL["encoder"], dtype=torch.float64)
    *_, feature_BH = lstm_written_out(
        weights, "encoder", weights["encoder.embed.weight"][tokens_BT], zero_BH, zero_BH
    )
    heads_BZ = feature_BH @ weights["posterior.linear.weight"].T
    mean_BZ, logvar_BZ = heads_BZ[:, :4], heads_BZ[:, 4:]
    variance_BZ = logvar_BZ.exp()
    kl_B = (mean_BZ**2 / 2 + variance_BZ / 2 - logvar_BZ / 2 - 0.5).sum(1)
    code_BZ = mean_BZ + variance_BZ.sqrt() * noise_BZ
    words_BTE = weights["decoder.embed.weight"][tokens_BT[:, :-1]]
    codes_BTZ = torch.stack([code_BZ] * words_BTE.shape[1], 1)
    cell_BH = code_BZ @ weights["decoder.trans_linear.weight"].T
    states = lstm_written_out(
        weights, "decoder", torch.cat([words_BTE, codes_BTZ], 2), cell_BH.tanh(), cell_BH
    )
    nll = 0.0
    for state_BH, target_B in zip(states, tokens_BT.T[1:], strict=True):
        p_BV = (state_BH @ weights["decoder.pred_linear.weight"].T).softmax(1)
        nll = nll - p_BV[range(len(tokens_BT)), target_B].log()
    return (nll + kl_weight * kl_B).mean()


def lstm_written_out(
    weights: dict[str, Tensor], half: str, inputs_BTE: Tensor, hidden_BH: Tensor, cell_BH: Tensor
) -> list[Tensor]:
    """The state after each word."""
    from_input, from_state, bias, other_bias = (
        weights[f"{half}.lstm.{name}_l0"]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    states = []
    for input_BE in inputs_BTE.unbind(1):
        gates_BG = input_BE @ from_input.T + hidden_BH @ from_state.T + bias + other_bias
        enter_BH, forget_BH, new_BH, out_BH = gates_BG.chunk(4, 1)
        cell_BH = forget_BH.sigmoid() * cell_BH + enter_BH.sigmoid() * new_BH.tanh()
        hidden_BH = out_BH.sigmoid() * cell_BH.tanh()
        states.append(hidden_BH)
    return states


def test_a_model_that_knows_nothing_is_uniform_over_words() -> None:
    """All weights 0: each of 4 words and </s> costs log V, whatever the code."""
    tokens_BT = torch.as_tensor(np.stack(sentences(4, 4)))
    for kind, objective in (("seq_vae", elbo), ("language_model", likelihood)):
        model = made(model=kind)
        for parameter in model.parameters():
            parameter.data.zero_()
        loss = objective(model, tokens_BT, weight=1.0, streams=Streams(0), config=configured())
        assert loss.mean.item() == pytest.approx(5 * math.log(WORDS), rel=1e-6)


def test_word_dropout_takes_words_and_neither_s_nor_the_tokens() -> None:
    tokens_BT = torch.as_tensor(np.stack(sentences(*[50] * 200)))
    before, streams = tokens_BT.clone(), Streams(1)
    first = drop_words(tokens_BT, 0.5, streams)
    second = drop_words(tokens_BT, 0.5, streams)
    assert torch.equal(tokens_BT, before)
    assert first.shape == (200, 51)
    assert (first[:, 0] == BOS).all()
    dropped = first != tokens_BT[:, :-1]
    assert (first[dropped] == UNK).all()
    # 10,000 words at 1/2: standard deviation 50.
    assert abs(int(dropped.sum()) - 5000) < 300
    assert not torch.equal(first, second)
    assert drop_words(tokens_BT, 0.0, streams) is None


def test_dropout_reads_its_own_stream() -> None:
    tokens_BT = torch.as_tensor(np.stack(sentences(5, 5)))
    model = made(dropout=0.5).train()
    before = torch.random.get_rng_state()
    known = {"weight": 1.0, "config": configured()}
    first = elbo(model, tokens_BT, streams=Streams(1), **known).mean.item()
    assert elbo(model, tokens_BT, streams=Streams(1), **known).mean.item() == first
    streams = Streams(1)
    streams.generators["dropout"] = torch.Generator().manual_seed(99)
    assert elbo(model, tokens_BT, streams=streams, **known).mean.item() != first
    assert torch.equal(torch.random.get_rng_state(), before)


def test_streams_are_told_apart_and_go_on_from_their_state() -> None:
    streams = Streams(7)
    noise = torch.rand(3, generator=streams["noise"])
    assert not torch.equal(noise, torch.rand(3, generator=streams["dropout"]))
    other = Streams(7)
    other.load_state_dict(streams.state_dict())
    assert torch.equal(
        torch.rand(3, generator=streams["noise"]), torch.rand(3, generator=other["noise"])
    )
    # echo -n '[7, "noise"]' | sha256sum, the first 16 digits halved: the same everywhere.
    assert seed_of(7, "noise") == 3960116774596537454
