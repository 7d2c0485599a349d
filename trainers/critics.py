"""Codes and features in; how much likelier a code is under a posterior than under the prior,
as two networks have learned it, out.

Shapes: B sentences, Z latent dimensions, H feature units.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class Critics(nn.Module):
    """nu(z, h), which tends to log q(z|x) / p(z), and nu(z), which tends to log q(z) / p(z)
    (Fang et al. 2019, equations 6 to 9). They start as PyTorch starts them under every
    scheme of initialisation, as in their code.

    `of` says which of them stands for the KL in the objective: `pair` or `code`."""

    def __init__(self, *, latent: int, features: int, hidden: int, of: str) -> None:
        super().__init__()
        self.of = of
        self.pair = network(latent + features, hidden)
        self.code = network(latent, hidden)

    def forward(self, codes_BZ: Tensor, feature_BH: Tensor) -> tuple[Tensor, Tensor]:
        """nu(z, h) and nu(z), [B] each. The feature says which sentence it is, and nothing is
        learned through it."""
        both = torch.cat([codes_BZ, feature_BH.detach()], -1)
        return self.pair(both).squeeze(-1), self.code(codes_BZ).squeeze(-1)

    def divergence(self, codes_BZ: Tensor, feature_BH: Tensor) -> Tensor:
        """What the objective takes for the KL of each sentence [B]: nu at the posterior's
        codes. The other two terms of the dual form do not depend on them."""
        pair_B, code_B = self(codes_BZ, feature_BH)
        return pair_B if self.of == "pair" else code_B

    def loss(self, codes_BZ: Tensor, prior_BZ: Tensor, feature_BH: Tensor) -> Tensor:
        """mean e^nu(prior codes) - mean nu(posterior codes), of both networks added up: they
        share no weight. Its negative plus 1 is a lower bound on the KL, tight at the best nu."""
        under_q = self(codes_BZ.detach(), feature_BH)
        under_p = self(prior_BZ, feature_BH)
        return sum(p.exp().mean() - q.mean() for q, p in zip(under_q, under_p, strict=True))


def network(inputs: int, hidden: int) -> nn.Sequential:
    widths = [inputs, hidden, hidden, hidden]
    layers: list[nn.Module] = []
    for width, wider in pairwise(widths):
        layers += [nn.Linear(width, wider), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, 1))
