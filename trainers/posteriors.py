"""A sentence's feature in; its approximate posterior q(z|x) over latent codes out.

Shapes: B sentences, S codes per sentence, Z latent dimensions, H feature units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussian:
    """N(mean, exp(logvar)), independent over dimensions, against the prior N(0, 1)."""

    mean_BZ: Tensor
    logvar_BZ: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Codes of the shape of `noise`, standard normal draws [B, Z] or [B, S, Z]."""
        mean, logvar = self.mean_BZ, self.logvar_BZ
        if noise.dim() == 3:
            mean, logvar = mean.unsqueeze(1), logvar.unsqueeze(1)
        return mean + noise * (0.5 * logvar).exp()

    def kl(self) -> Tensor:
        """KL(q(z|x) || N(0, 1)) of each sentence [B], nats, in closed form:
        1/2 sum_z (mean^2 + var - log var - 1)."""
        return 0.5 * (self.mean_BZ**2 + self.logvar_BZ.exp() - self.logvar_BZ - 1).sum(1)

    def log_prob(self, codes_BSZ: Tensor) -> Tensor:
        """log q(z|x) of each code under its own sentence's posterior [B, S], nats."""
        mean, logvar = self.mean_BZ.unsqueeze(1), self.logvar_BZ.unsqueeze(1)
        squares = (codes_BSZ - mean) ** 2 / logvar.exp()
        return -0.5 * (squares + logvar + math.log(2 * math.pi)).sum(2)


class GaussianHead(nn.Module):
    """One linear map, without bias, to mean and log-variance."""

    def __init__(self, *, features: int, latent: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent, bias=False)

    def forward(self, feature_BH: Tensor) -> Gaussian:
        mean_BZ, logvar_BZ = self.linear(feature_BH).chunk(2, 1)
        return Gaussian(mean_BZ=mean_BZ, logvar_BZ=logvar_BZ)


POSTERIORS = {"gaussian": GaussianHead}
