"""Bayesian linear regression of several outputs in closed form.

    y_d = phi @ w_d + e_d,   e_d ~ N(0, v_d),   w_d ~ N(0, v_d diag(s^2)),   v_d ~ InverseGamma(a, b)

for outputs d = 1 .. D with the same features phi `(F,)`. Given data, all weights have the same
precision P = diag(1 / s^2) + sum phi phi', and

    w_d | v_d ~ N(m_d, v_d P^-1),   v_d ~ InverseGamma(a + n / 2, b + (y_d' y_d - m_d' P m_d) / 2)

(Bishop 2006, section 3.5 and exercise 3.12). What n outcomes would tell about the weights is
1/2 ln det(I + Phi P^-1 Phi') nats for each output.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

SHAPE = 2.0  # a
RATE = 1e-4  # b: noise is a hundredth of what changes, until data say otherwise


@dataclass(frozen=True, kw_only=True)
class Sums:
    """What the posterior needs to know of the data.

    Attributes:
        count: `(...)`, how many rows.
        gram: `(..., F, F)`, sum of phi phi'.
        cross: `(..., F, D)`, sum of phi y'.
        square: `(..., D)`, sum of y^2.
    """

    count: Tensor
    gram: Tensor
    cross: Tensor
    square: Tensor

    @classmethod
    def of(cls, features: Tensor, outputs: Tensor, used: Tensor | None = None) -> Self:
        """Sum over rows `(..., N, F)` and `(..., N, D)`, those where `used` `(..., N)` is True."""
        weight = features.new_ones(features.shape[:-1]) if used is None else used.to(features)
        weighted = features * weight[..., None]
        return cls(
            count=weight.sum(-1),
            gram=weighted.mT @ features,
            cross=weighted.mT @ outputs,
            square=(weight[..., None] * outputs.square()).sum(-2),
        )

    def pooled(self) -> "Sums":
        """Sum over the second of two leading axes, which stays with size one."""
        return Sums(
            count=self.count.sum(1, keepdim=True),
            gram=self.gram.sum(1, keepdim=True),
            cross=self.cross.sum(1, keepdim=True),
            square=self.square.sum(1, keepdim=True),
        )

    def only(self) -> "Sums":
        """Drop two leading axes of size one."""
        return Sums(
            count=self.count[0, 0],
            gram=self.gram[0, 0],
            cross=self.cross[0, 0],
            square=self.square[0, 0],
        )

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            count=self.count + other.count,
            gram=self.gram + other.gram,
            cross=self.cross + other.cross,
            square=self.square + other.square,
        )


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Posterior of weights and noise.

    Attributes:
        root: `(..., F, F)` lower triangular, root @ root' = P.
        mean: `(..., F, D)`.
        shape: `(...)`, of the noise variances.
        rate: `(..., D)`.
        prior_scale: `(F,)`, s.
    """

    root: Tensor
    mean: Tensor
    shape: Tensor
    rate: Tensor
    prior_scale: Tensor

    @classmethod
    def given(cls, sums: Sums, prior_scale: Tensor) -> Self:
        """Update the prior by data."""
        precision = sums.gram + torch.diag(prior_scale**-2)
        root = torch.linalg.cholesky(precision)
        whitened = torch.linalg.solve_triangular(root, sums.cross, upper=False)
        mean = torch.linalg.solve_triangular(root.mT, whitened, upper=True)
        residual = sums.square - whitened.square().sum(-2)
        return cls(
            root=root,
            mean=mean,
            shape=SHAPE + sums.count / 2,
            rate=RATE + residual.clamp(min=0) / 2,
            prior_scale=prior_scale,
        )

    @property
    def noise(self) -> Tensor:
        """Posterior mean of the noise variances, `(..., D)`."""
        return self.rate / (self.shape - 1)[..., None]

    def log_evidence(self) -> Tensor:
        """Log density of the data under the prior, summed over outputs, `(...)` nats."""
        outputs = self.rate.shape[-1]
        count = 2 * (self.shape - SHAPE)
        diagonal = self.root.diagonal(dim1=-2, dim2=-1)
        determinants = self.prior_scale.log().sum() + diagonal.log().sum(-1)
        gammas = torch.lgamma(self.shape) - math.lgamma(SHAPE) + SHAPE * math.log(RATE)
        constant = gammas - count / 2 * math.log(2 * math.pi) - determinants
        return outputs * constant - (self.shape[..., None] * self.rate.log()).sum(-1)

    def draw(self, *size: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Draw weights `(*size, F, D)` and noise variances `(*size, D)` jointly.

        Args:
            size: how many draws of one posterior; where there are several, their leading axes, or
                axes that those broadcast to.
            generator: source of randomness.
        """
        features, outputs = self.mean.shape[-2:]
        shape = self.shape[..., None].expand(*size, outputs).contiguous()
        noise = self.rate / torch._standard_gamma(shape, generator=generator)
        dtype = self.mean.dtype
        eps = torch.randn(*size, features, outputs, generator=generator, dtype=dtype)
        spread = torch.linalg.solve_triangular(self.root.mT, eps, upper=True)
        return self.mean + noise.sqrt()[..., None, :] * spread, noise

    @property
    def whitening(self) -> Tensor:
        """Return the inverse of `root`: whitening @ phi has as squared length phi' P^-1 phi."""
        unit = torch.eye(self.root.shape[-1], dtype=self.root.dtype)
        return torch.linalg.solve_triangular(self.root, unit, upper=False)
