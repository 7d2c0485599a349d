"""A configuration in; a model out, with weights that depend on the seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init

from trainers.config import Init, TextVaeConfig, has_critic
from trainers.critics import Critics
from trainers.decoders import DECODERS
from trainers.encoders import LSTMEncoder
from trainers.parts import find
from trainers.pooling import POOLINGS
from trainers.posteriors import POSTERIORS, BatchNorm, PlanarMap
from trainers.streams import seed_of, stream

# Their scale is part of what they are: they start by themselves under every scheme.
START_BY_THEMSELVES = (BatchNorm, PlanarMap)


class SequenceVAE(nn.Module):
    """Encoder and posterior are one half, the decoder the other: each has its optimiser, and
    so have the critics, where there are any, which stand beside the model."""

    def __init__(
        self,
        *,
        encoder: nn.Module,
        posterior: nn.Module,
        decoder: nn.Module,
        critics: Critics | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.posterior, self.decoder = encoder, posterior, decoder
        self.critics = critics

    def encode(self, tokens_BT: Tensor, mask_BT: Tensor | None = None) -> tuple[Tensor, Any]:
        """The feature that the posterior reads [B, H], and the posterior (see posteriors)."""
        feature_BH = self.encoder(tokens_BT, mask_BT)
        return feature_BH, self.posterior(feature_BH)

    def halves(self) -> dict[str, list[nn.Parameter]]:
        inference = [*self.encoder.parameters(), *self.posterior.parameters()]
        halves = {"encoder": inference, "decoder": list(self.decoder.parameters())}
        if self.critics is not None:
            halves["critic"] = list(self.critics.parameters())
        return halves


class LanguageModel(nn.Module):
    """A decoder without a code: its likelihood is exact."""

    def __init__(self, *, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def halves(self) -> dict[str, list[nn.Parameter]]:
        return {"decoder": list(self.decoder.parameters())}


def build_model(config: TextVaeConfig, words: int) -> SequenceVAE | LanguageModel:
    size = config.size
    latent = 0 if config.model == "language_model" else size.latent
    with torch.random.fork_rng(devices=[]):  # What torch initialises here is written over.
        decoder = find(DECODERS, config.decoder)(
            words=words,
            embedding=size.embedding,
            hidden=size.decoder,
            latent=latent,
            dropout=config.dropout,
        )
        if config.model == "language_model":
            return LanguageModel(decoder=decoder)
        encoder = LSTMEncoder(
            words=words,
            embedding=size.embedding,
            hidden=size.encoder,
            pooling=pooling(find(POOLINGS, config.pooling), size.encoder),
        )
        head = find(POSTERIORS, config.posterior)
        posterior = head(features=size.encoder, latent=latent, config=config)
        critics = None
        if has_critic(config):
            critics = Critics(
                latent=latent,
                features=size.encoder,
                hidden=config.critic.hidden,
                of=config.critic.of,
            )
    return SequenceVAE(encoder=encoder, posterior=posterior, decoder=decoder, critics=critics)


def pooling(part: Callable, hidden: int) -> Callable:
    """A function is a pooling; a class makes one, with weights for so many units."""
    return part(hidden=hidden) if isinstance(part, type) else part


@torch.no_grad()
def initialise(model: nn.Module, settings: Init, seed: int) -> None:
    """Fill every parameter from a seed of its own (of its module's own, under "default"),
    so that one part more moves no other part's weights. On the CPU, for one result on
    every device."""
    for name, module in leaves(model):
        by_itself = isinstance(module, START_BY_THEMSELVES) or name.startswith("critics.")
        if settings.scheme == "default" or by_itself:
            with torch.random.fork_rng(devices=[]):
                torch.random.default_generator.manual_seed(seed_of(seed, "init", name))
                module.reset_parameters()
            continue
        bound = settings.embedding if isinstance(module, nn.Embedding) else settings.scale
        for own, parameter in module.named_parameters(recurse=False):
            init.uniform_(parameter, -bound, bound, stream(seed, "init", f"{name}.{own}"))


def leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that hold parameters of their own."""
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            yield name, module
