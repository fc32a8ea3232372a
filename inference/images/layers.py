"""Kernels of image models: Gaussian layers with a learned covariance, and likelihoods of pixels."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    Normal,
    constraints,
)
from torch.nn.functional import softplus

COVARIANCES = ("full", "low_rank", "diagonal")


class WhitenedNormal(Distribution):
    """A multivariate normal given by a lower-triangular whitening matrix P: P (x - mean) is standard normal.

    The covariance is (P' P)^-1. Scoring needs one matrix product and no solve.

    Args:
        mean: `(*batch, D)`.
        whitening: `(D, D)` for all, or `(*batch, D, D)`; lower triangular with a positive diagonal.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (the base class declares it so)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, mean: Tensor, whitening: Tensor) -> None:
        self.mean_ = mean
        self.whitening = whitening
        super().__init__(mean.shape[:-1], mean.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Mean of the normal, `(*batch, D)`."""
        return self.mean_

    def expand(self, batch_shape: Any, _instance: Any = None) -> "WhitenedNormal":
        """The same law for more data."""
        size = self.mean_.shape[-1]
        whitening = self.whitening
        wide = whitening if whitening.ndim == 2 else whitening.expand(*batch_shape, size, size)
        return WhitenedNormal(self.mean_.expand(*batch_shape, size), wide)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Mean plus P^-1 times standard normal noise."""
        shape = (*sample_shape, *self.mean_.shape)
        noise = torch.randn(shape, dtype=self.mean_.dtype, device=self.mean_.device)
        if self.whitening.ndim > 2:
            solved = torch.linalg.solve_triangular(
                self.whitening, noise.unsqueeze(-1), upper=False
            ).squeeze(-1)
        else:
            solved = torch.linalg.solve_triangular(
                self.whitening, noise.reshape(-1, shape[-1]).mT, upper=False
            ).mT
        return self.mean_ + solved.reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at a value, `(*batch)` nats."""
        away = value - self.mean_
        shared = self.whitening.ndim == 2
        white = (
            away @ self.whitening.mT
            if shared
            else (self.whitening @ away.unsqueeze(-1)).squeeze(-1)
        )
        constant = 0.5 * white.shape[-1] * math.log(2 * math.pi)
        log_volume = self.whitening.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_volume - constant - 0.5 * white.square().sum(-1)


class GreyBernoulli(Distribution):
    """Independent Bernoulli pixels, scored at grey values in [0, 1] by the expected log-probability of their binarisation.

    Args:
        logits: `(*batch, C, H, W)`.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    support = constraints.independent(constraints.boolean, 3)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-3], logits.shape[-3:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Probability of a white pixel, `(*batch, C, H, W)`."""
        return torch.sigmoid(self.logits)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "GreyBernoulli":
        """The same law for more data."""
        return GreyBernoulli(self.logits.expand(*batch_shape, *self.event_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Black and white images."""
        return torch.bernoulli(self.mean.detach().expand(*sample_shape, *self.logits.shape))

    def pixel_log_prob(self, value: Tensor) -> Tensor:
        """Minus the binary cross-entropy of each pixel, `(*batch, C, H, W)` nats."""
        return value * self.logits - softplus(self.logits)

    def log_prob(self, value: Tensor) -> Tensor:
        """Minus the binary cross-entropy, `(*batch)` nats."""
        result: Tensor = _GreyLogProb.apply(self.logits.flatten(-3), value.flatten(-3))  # type: ignore[no-untyped-call]
        return result


class _GreyLogProb(torch.autograd.Function):
    """sum over pixels of value * logit - log(1 + exp(logit)) in few passes over memory: it is half of a sweep's rest.

    The logarithms of four pixels are taken at once, of a product that lies between 1 and 16.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor) -> Tensor:
        """`(*batch)` from `(*batch, D)` each, which broadcast."""
        ctx.save_for_backward(logits, value)
        factors = logits.abs().neg_().exp_().add_(1)
        whole = factors.shape[-1] // 4 * 4
        first, second, third, fourth = factors[..., :whole].chunk(4, -1)
        softplus_rest = (first * second).mul_(third).mul_(fourth).log_().sum(-1) + factors[
            ..., whole:
        ].log().sum(-1)
        linear = torch.mul(logits, value).sum(-1) - logits.clamp_min(0).sum(-1)
        return linear - softplus_rest

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """value - sigmoid(logit) towards logits, logits towards the value."""
        logits, value = ctx.saved_tensors
        wide = grad.unsqueeze(-1)
        residual = (value - torch.sigmoid(logits)).mul_(wide).sum_to_size(logits.shape)
        towards_value = (
            (wide * logits).sum_to_size(value.shape) if ctx.needs_input_grad[1] else None
        )
        return residual, towards_value


class LearnedNormal(nn.Module):
    """p(z) = Normal(mean, covariance), both learned; standard normal at first.

    Args:
        size: D, of z.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(size))
        self.log_scale = nn.Parameter(torch.zeros(size))
        self.lower_scale = nn.Parameter(
            torch.zeros(size, size)
        )  # strictly lower part of the whitening matrix

    def forward(self) -> Distribution:
        """The prior of z, as learned so far."""
        return WhitenedNormal(
            self.mean, self.lower_scale.tril(-1) + torch.diag((-self.log_scale).exp())
        )


class GaussianLayer(nn.Module):
    """p(z | parent) = Normal(W relu(parent) + b, covariance), the covariance shared by all data.

    Args:
        inputs, outputs: sizes.
        covariance: "full", "low_rank" (rank 16 plus diagonal) or "diagonal".
        rank: of the low-rank part.
    """

    def __init__(
        self, inputs: int, outputs: int, *, covariance: str = "full", rank: int = 16
    ) -> None:
        super().__init__()
        if covariance not in COVARIANCES:
            raise ValueError(
                f"covariance {covariance!r}: expected one of {', '.join(COVARIANCES)}."
            )
        self.linear = nn.Linear(inputs, outputs)
        self.covariance = covariance
        self.log_scale = nn.Parameter(torch.zeros(outputs))
        if covariance == "full":  # strictly lower part of the whitening matrix
            self.lower_scale = nn.Parameter(torch.zeros(outputs, outputs))
        if covariance == "low_rank":
            self.factor_scale = nn.Parameter(0.01 * torch.randn(outputs, rank))

    def forward(self, parent: Tensor) -> Distribution:
        """The layer's law given its parent `(*batch, inputs)`."""
        mean = self.linear(torch.relu(parent))
        if self.covariance == "full":
            whitening = self.lower_scale.tril(-1) + torch.diag((-self.log_scale).exp())
            return WhitenedNormal(mean, whitening)
        if self.covariance == "low_rank":
            return LowRankMultivariateNormal(mean, self.factor_scale, (2 * self.log_scale).exp())
        return Independent(Normal(mean, self.log_scale.exp()), 1)


def image_logits(flat: Tensor, image_shape: Sequence[int]) -> Tensor:
    """`(*batch, C H W)` to `(*batch, C, H, W)`."""
    return flat.unflatten(-1, tuple(image_shape))
