"""A sentence's feature in; its approximate posterior q(z|x) over latent codes out.

Shapes: B sentences, S codes per sentence, Z latent dimensions, H feature units, K flows, C
centres. Noise is standard normal, [B, Z] or [B, S, Z]; codes have its shape.

Every posterior here is a diagonal Gaussian, its `base`, pushed through an invertible map that
all sentences share. So all that compares sentences (mutual information) is taken in the base,
where it is the same and simple; all that compares with the prior is taken of the codes:

    sample(noise)  codes, differentiable            draw(noise)  codes and log q(z|x) at them
    kl(noise)      KL(q(z|x) || N(0, 1)), nats [B]  centre_BZ    the code in its middle
    base           the diagonal Gaussian            double()     the same in float64
    has_exact_kl   kl needs no noise
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.config import has_centres


class Draw(NamedTuple):
    codes: Tensor  # [B, Z] or [B, S, Z]
    log_q: Tensor  # log q(z|x) of each, nats, [B] or [B, S]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussian:
    """N(mean, exp(logvar)), independent over dimensions, against the prior N(0, 1)."""

    mean_BZ: Tensor
    logvar_BZ: Tensor
    has_exact_kl: ClassVar[bool] = True

    def sample(self, noise: Tensor) -> Tensor:
        mean, logvar = (per_code(it, noise) for it in (self.mean_BZ, self.logvar_BZ))
        return mean + noise * (0.5 * logvar).exp()

    def draw(self, noise: Tensor) -> Draw:
        return Draw(self.sample(noise), log_normal(noise) - 0.5 * self.log_volume(noise))

    def log_volume(self, noise: Tensor) -> Tensor:
        logvar_B = self.logvar_BZ.sum(1)
        return logvar_B.unsqueeze(1) if noise.dim() == 3 else logvar_B

    def kl(self, noise: Tensor | None = None) -> Tensor:
        """In closed form: 1/2 sum_z (mean^2 + (var - 1 - log var)). Near collapse the bracket
        is far smaller than its terms, so that it is made of expm1; in float32, which is all
        that training needs, it may still come out below 0."""
        bracket_BZ = self.logvar_BZ.expm1() - self.logvar_BZ
        return 0.5 * (self.mean_BZ**2 + bracket_BZ).sum(1)

    def log_prob(self, codes_BSZ: Tensor) -> Tensor:
        """log q(z|x) of each code under its own sentence's posterior [B, S], nats."""
        mean, logvar = self.mean_BZ.unsqueeze(1), self.logvar_BZ.unsqueeze(1)
        squares = (codes_BSZ - mean) ** 2 / logvar.exp()
        return -0.5 * (squares + logvar + math.log(2 * math.pi)).sum(2)

    @property
    def centre_BZ(self) -> Tensor:
        return self.mean_BZ

    @property
    def base(self) -> Gaussian:
        return self

    def double(self) -> Gaussian:
        return Gaussian(mean_BZ=self.mean_BZ.double(), logvar_BZ=self.logvar_BZ.double())


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedGaussian:
    """z = mean + A e: N(mean, A A^T), one covariance for all sentences. A must be invertible."""

    mean_BZ: Tensor
    mixing_ZZ: Tensor
    has_exact_kl: ClassVar[bool] = True

    def sample(self, noise: Tensor) -> Tensor:
        return per_code(self.mean_BZ, noise) + noise @ self.mixing_ZZ.T

    def draw(self, noise: Tensor) -> Draw:
        return Draw(self.sample(noise), log_normal(noise) - self.log_volume())

    def log_volume(self) -> Tensor:
        """log |det A|."""
        return torch.linalg.slogdet(self.mixing_ZZ).logabsdet

    def kl(self, noise: Tensor | None = None) -> Tensor:
        """In closed form: 1/2 (|mean|^2 + |A|_F^2 - Z - log det A A^T)."""
        trace = self.mixing_ZZ.square().sum()
        constant = trace - self.mixing_ZZ.shape[0] - 2 * self.log_volume()
        return 0.5 * ((self.mean_BZ**2).sum(1) + constant)

    @property
    def centre_BZ(self) -> Tensor:
        return self.mean_BZ

    @property
    def base(self) -> Gaussian:
        """N(A^-1 mean, 1), which A maps onto this; not finite where A is not invertible."""
        solved = torch.linalg.solve_ex(self.mixing_ZZ.double(), self.mean_BZ.double().T)
        mean_BZ = solved.result.T.to(self.mean_BZ.dtype)
        return Gaussian(mean_BZ=mean_BZ, logvar_BZ=torch.zeros_like(mean_BZ))

    def double(self) -> SharedGaussian:
        return SharedGaussian(mean_BZ=self.mean_BZ.double(), mixing_ZZ=self.mixing_ZZ.double())


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A Gaussian pushed through planar maps, one after the other. `centres_CZ`, in the base,
    are None where there is no penalty or they have not been fitted."""

    base: Gaussian
    maps: tuple[tuple[Tensor, Tensor, Tensor], ...]  # (u [Z], w [Z], b []) of each
    centres_CZ: Tensor | None = None
    has_exact_kl: ClassVar[bool] = False

    def sample(self, noise: Tensor) -> Tensor:
        return self.pushed(self.base.sample(noise))[0]

    def draw(self, noise: Tensor) -> Draw:
        codes, log_q = self.base.draw(noise)
        codes, log_det = self.pushed(codes)
        return Draw(codes, log_q - log_det)

    def pushed(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The maps' image of codes of the base, and sum_k log |det J_k|."""
        log_det = codes.new_zeros(codes.shape[:-1])
        for u, w, b in self.maps:
            codes, grown = planar(codes, u, w, b)
            log_det = log_det + grown
        return codes, log_det

    def kl(self, noise: Tensor) -> Tensor:
        """Estimated at the codes of `noise`: E[log q(z_0)] in closed form, and of one code, or
        the mean of several, - log |det J| - log p(z_K) (Rezende & Mohamed 2015, equation 15)."""
        codes, log_det = self.pushed(self.base.sample(noise))
        entropy_B = 0.5 * (self.base.logvar_BZ + 1 + math.log(2 * math.pi)).sum(1)
        rest = -log_det - log_normal(codes)
        return (rest.mean(1) if rest.dim() == 2 else rest) - entropy_B

    def crowding(self, noise: Tensor) -> Tensor:
        """The Riemannian penalty of Wang & Wang (2019) as their code has it, [B]: the sum over
        maps of log sum_s C_s / (C_s + min_c |z - c|^2) at each map's input z."""
        assert self.centres_CZ is not None
        codes_BZ, total_B = self.base.sample(noise), noise.new_zeros(len(noise))
        for u, w, b in self.maps:
            nearest_B = (codes_BZ.unsqueeze(1) - self.centres_CZ).square().sum(2).amin(1)
            total_B = total_B + inverse_multiquadratic(nearest_B, codes_BZ.shape[1]).log()
            codes_BZ, _ = planar(codes_BZ, u, w, b)
        return total_B

    @property
    def centre_BZ(self) -> Tensor:
        """The image of the base's mean: q(z|x) has no mean in closed form."""
        return self.pushed(self.base.mean_BZ)[0]

    def double(self) -> Flow:
        maps = tuple((u.double(), w.double(), b.double()) for u, w, b in self.maps)
        return Flow(base=self.base.double(), maps=maps, centres_CZ=self.centres_CZ)


def per_code(values_BZ: Tensor, noise: Tensor) -> Tensor:
    """One row a sentence, to stand beside one code a sentence or several."""
    return values_BZ.unsqueeze(1) if noise.dim() == 3 else values_BZ


def log_normal(values: Tensor) -> Tensor:
    """log N(values; 0, 1), summed over the last dimension, nats."""
    return -0.5 * (values.square() + math.log(2 * math.pi)).sum(-1)


def planar(codes: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """z + u' tanh(w.z + b) and log |det| of its Jacobian, 1 + (1 - tanh^2) w.u', where u' is
    u moved along w until w.u' = softplus(w.u) - 1 > -1, so that the map is invertible (Rezende
    & Mohamed 2015, equations 10 to 12 and appendix A.1). Near -1 the determinant is nearly 0;
    written as tanh^2 + (1 - tanh^2) softplus(w.u) it is no difference of nearly equal numbers."""
    along = w @ u
    above = F.softplus(along)
    u = u + (above - 1 - along) * w / w.square().sum()
    bent = torch.tanh(codes @ w + b)
    squared = bent.square()
    return codes + bent.unsqueeze(-1) * u, (squared + (1 - squared) * above).log()


def inverse_multiquadratic(squares: Tensor, latent: int) -> Tensor:
    """sum_s C_s / (C_s + d^2) of squared distances, C_s = 2 Z s, over seven scales s
    (Tolstikhin et al. 2018, and the code of Wang & Wang 2019)."""
    widths = [2 * latent * scale for scale in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)]
    return torch.stack([width / (width + squares) for width in widths]).sum(0)


class GaussianHead(nn.Module):
    """One linear map, without bias, to mean and log-variance (He et al. 2019)."""

    def __init__(self, *, features: int, latent: int, config: object = None) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent, bias=False)

    def forward(self, feature_BH: Tensor) -> Gaussian:
        mean_BZ, logvar_BZ = self.linear(feature_BH).chunk(2, 1)
        return Gaussian(mean_BZ=mean_BZ, logvar_BZ=logvar_BZ)


class ImplicitHead(nn.Module):
    """z = W [h; e] + c with e ~ N(0, 1), one linear map of the feature and as much noise as
    there are dimensions (Fang et al. 2019). Called implicit, since their training never asks
    for its density; it is a Gaussian whose covariance all sentences share. Where that is nearly
    singular, few importance samples count, and an NLL estimated from them is too high."""

    def __init__(self, *, features: int, latent: int, config: object = None) -> None:
        super().__init__()
        self.linear = nn.Linear(features + latent, latent)

    def forward(self, feature_BH: Tensor) -> SharedGaussian:
        latent, both = self.linear.weight.shape
        from_feature_ZH, mixing_ZZ = self.linear.weight.split([both - latent, latent], 1)
        mean_BZ = F.linear(feature_BH, from_feature_ZH, self.linear.bias)
        return SharedGaussian(mean_BZ=mean_BZ, mixing_ZZ=mixing_ZZ)


class PlanarFlowHead(nn.Module):
    """Mean and log-variance, each through a linear map and batch normalisation, which their
    code always applies; then planar maps (Wang & Wang 2019).

    Their encoder reads the last state and the last cell; this one reads whatever feature the
    pooling gives."""

    def __init__(self, *, features: int, latent: int, config: object) -> None:
        super().__init__()
        self.mean, self.mean_norm = nn.Linear(features, latent), BatchNorm(latent)
        self.logvar, self.logvar_norm = nn.Linear(features, latent), BatchNorm(latent)
        self.maps = nn.ModuleList(PlanarMap(latent) for _ in range(config.flow.length))
        centres = config.wasserstein.centres if has_centres(config) else 0
        self.register_buffer("centres_CZ", torch.full((centres, latent), math.nan))

    def forward(self, feature_BH: Tensor) -> Flow:
        base = Gaussian(
            mean_BZ=self.mean_norm(self.mean(feature_BH)),
            logvar_BZ=self.logvar_norm(self.logvar(feature_BH)),
        )
        maps = tuple((it.u, it.w, it.b) for it in self.maps)
        return Flow(base=base, maps=maps, centres_CZ=self.centres_CZ if self.is_fitted else None)

    @property
    def wants_centres(self) -> bool:
        return len(self.centres_CZ) > 0

    @property
    def is_fitted(self) -> bool:
        """Not before the end of the first epoch."""
        return self.wants_centres and not self.centres_CZ[0, 0].isnan()

    @torch.no_grad()
    def fit_centres(self, means_NZ: Tensor, seed: int) -> None:
        """Centres of the codes, by k-means. Theirs come from a model trained before; these
        are the model's own, of each epoch's end. Means that are not finite change nothing."""
        means = means_NZ.double().cpu().numpy()
        if not np.isfinite(means).all():
            return
        centres = torch.from_numpy(k_means(means, len(self.centres_CZ), seed))
        self.centres_CZ.copy_(centres)


class PlanarMap(nn.Module):
    """The parameters of one planar map, started as in the code of Wang & Wang (2019)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.u, self.w = nn.Parameter(torch.empty(latent)), nn.Parameter(torch.empty(latent))
        self.b = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.u)
        nn.init.normal_(self.w)
        nn.init.ones_(self.b)


class BatchNorm(nn.BatchNorm1d):
    """Over the sentences of a batch in training. One sentence has no spread: it is normalised
    by the running statistics, and leaves them as they are."""

    def forward(self, values_BZ: Tensor) -> Tensor:
        if self.training and len(values_BZ) == 1:
            known = self.running_mean, self.running_var, self.weight, self.bias
            return F.batch_norm(values_BZ, *known, training=False, eps=self.eps)
        return super().forward(values_BZ)


def k_means(points: np.ndarray, centres: int, seed: int) -> np.ndarray:
    """Centres [C, Z] of points [N, Z] by Lloyd's algorithm from k-means++. With no more
    points than centres, the points, repeated."""
    if len(points) <= centres:
        return points[np.arange(centres) % len(points)]
    import warnings

    from scipy.cluster.vq import kmeans2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A cluster that runs empty keeps its centre.
        found, _ = kmeans2(points, centres, minit="++", rng=np.random.default_rng(seed))
    return found


POSTERIORS = {"gaussian": GaussianHead, "implicit": ImplicitHead, "planar_flow": PlanarFlowHead}
