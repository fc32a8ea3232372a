"""Distributions that the programs need and Pyro lacks; all of them take leading axes.

Recurrences x[t] = a[t] + c x[t - 1] and products of transition matrices are computed by doubling:
log2 T tensor operations in place of T.
"""

import math
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Distribution, Normal, constraints
from torch.nn.functional import pad

LARGEST = 1e12  # of residuals: what lies beyond has density zero, and squares must stay finite


class CutNormal(TorchDistribution):  # type: ignore[misc]
    """N(loc, scale) cut to positive values."""

    arg_constraints = {  # noqa: RUF012
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.positive

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(
            torch.as_tensor(loc, dtype=torch.get_default_dtype()),
            torch.as_tensor(scale, dtype=torch.get_default_dtype()),
        )
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "CutNormal":
        """The same law for other batch axes."""
        shape = torch.Size(batch_shape)
        return CutNormal(self.loc.expand(shape), self.scale.expand(shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of positive values, in nats."""
        whole = Normal(self.loc, self.scale, validate_args=False).log_prob(value)
        return whole - log_phi(self.loc / self.scale)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw by inverting the survival function."""
        with torch.no_grad():
            shape = torch.Size(sample_shape) + self.batch_shape
            tiny = torch.finfo(self.loc.dtype).tiny
            uniform = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
            survival = uniform * torch.erfc(-self.loc / self.scale * math.sqrt(0.5)) / 2
            drawn = self.loc - self.scale * torch.special.ndtri(survival.clamp_min(tiny))
            return drawn.clamp_min(tiny)


class LowerOfPair(TorchDistribution):  # type: ignore[misc]
    """Law of a, where a ~ N(first, 1) and b ~ N(second, 1) are cut to 0 < a < b.

    Its density is proportional to N(a; first, 1) Phi(second - a); given a, b - a then is
    `CutNormal(second - a, 1)`. The constant is left out.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012
    support = constraints.positive

    def __init__(self, first: float, second: float, validate_args: bool | None = None) -> None:
        self.first, self.second = first, second
        super().__init__(validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density up to a constant, in nats."""
        whole = -0.5 * (value - self.first) ** 2
        return whole + log_phi(self.second - value)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw 64 pairs and take the first that is in order; every other one or more are."""
        noise = torch.randn(*torch.Size(sample_shape), 64, 2)
        low, high = (noise + torch.tensor([self.first, self.second])).unbind(-1)
        chosen = ((low > 0) & (low < high)).to(noise.dtype).argmax(-1, keepdim=True)
        return low.gather(-1, chosen).squeeze(-1)


class HiddenMarkov(TorchDistribution):  # type: ignore[misc]
    """A series whose hidden states are summed out; the first state is uniform.

    Args:
        transition: p(state j | state k) at `[..., k, j]`.
        emissions: law of one observation by state, batch shape `(..., states)`.
        length: number of observations.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012

    def __init__(
        self,
        transition: Tensor,
        emissions: Distribution,
        length: int,
        validate_args: bool | None = None,
    ) -> None:
        self.transition, self.emissions, self.length = transition, emissions, length
        event = torch.Size((length,)) + emissions.event_shape
        super().__init__(emissions.batch_shape[:-1], event, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:  # type: ignore[override]
        """The observations' support at every step."""
        return constraints.independent(self.emissions.support, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of whole series by the forward algorithm, in nats."""
        steps = value.movedim(-1 - self._event_dim, 0).unsqueeze(-1 - self._event_dim)
        emitted = self.emissions.log_prob(steps).movedim(0, -2)  # (..., T, states)
        moves = self.transition.log().unsqueeze(-3) + emitted[..., 1:, None, :]
        start = emitted[..., 0, :] - math.log(emitted.shape[-1])
        paths = start.unsqueeze(-1) + log_product(moves)
        return paths.logsumexp((-2, -1))

    @property
    def _event_dim(self) -> int:
        return len(self.emissions.event_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw a successor of every state at every step, follow them, then draw what is emitted."""
        shape = torch.Size(sample_shape)
        states = self.transition.shape[-1]
        lead = shape + self.transition.shape[:-2]
        noise = -torch.log(-torch.log(torch.rand(*lead, self.length, states, states)))
        successors = (self.transition.log().unsqueeze(-3) + noise)[..., 1:, :, :].argmax(-1)
        first = noise[..., :1, :1, :].argmax(-1).expand(*lead, 1, states)
        path = follow(torch.cat([first, successors], -2))
        chosen = torch.nn.functional.one_hot(path, states)
        chosen = chosen.reshape(chosen.shape + (1,) * self._event_dim)
        emitted = self.emissions.sample((self.length, *shape)).movedim(0, -2 - self._event_dim)
        drawn: Tensor = (emitted * chosen).sum(-1 - self._event_dim)
        return drawn


class Arma11(TorchDistribution):  # type: ignore[misc]
    """y[t] = mu + phi y[t - 1] + theta e[t - 1] + e[t], e[t] ~ N(0, sigma), y[0] = mu, e[0] = 0."""

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(
        self,
        mu: Tensor,
        phi: Tensor,
        theta: Tensor,
        sigma: Tensor,
        length: int,
        validate_args: bool | None = None,
    ) -> None:
        self.parts = torch.broadcast_tensors(mu, phi, theta, sigma)
        super().__init__(mu.shape, torch.Size((length,)), validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of whole series, in nats."""
        mu, phi, theta, sigma = (p.unsqueeze(-1) for p in self.parts)
        value, start = torch.broadcast_tensors(value, mu)
        before = torch.cat([start[..., :1], value[..., :-1]], -1)
        errors = linear_recurrence(-theta, value - mu - phi * before)
        return Normal(torch.zeros_like(sigma), sigma, validate_args=False).log_prob(errors).sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw the errors, then solve for the series."""
        shape = torch.Size(sample_shape) + self.batch_shape
        mu, phi, theta, sigma = (p.expand(shape).unsqueeze(-1) for p in self.parts)
        errors = sigma * torch.randn(*shape, *self.event_shape)
        inputs = mu + errors + theta * pad(errors[..., :-1], (1, 0))
        first = inputs[..., :1] + phi * mu
        return linear_recurrence(phi, torch.cat([first, inputs[..., 1:]], -1))


class Garch11(TorchDistribution):  # type: ignore[misc]
    """y[t] ~ N(mu, s[t]), s[t]^2 = alpha0 + alpha1 (y[t - 1] - mu)^2 + beta1 s[t - 1]^2; s[1] is given."""

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(
        self,
        mu: Tensor,
        alpha0: Tensor,
        alpha1: Tensor,
        beta1: Tensor,
        first: float,
        length: int,
        validate_args: bool | None = None,
    ) -> None:
        self.parts, self.first = torch.broadcast_tensors(mu, alpha0, alpha1, beta1), first
        super().__init__(mu.shape, torch.Size((length,)), validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of whole series, in nats."""
        mu, alpha0, alpha1, beta1 = (p.unsqueeze(-1) for p in self.parts)
        driven = alpha0 + alpha1 * (value[..., :-1] - mu) ** 2
        first = torch.full_like(driven[..., :1], self.first**2)
        variance = linear_recurrence(beta1, torch.cat([first, driven], -1))
        return Normal(mu, variance.sqrt(), validate_args=False).log_prob(value).sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw the noise, then solve for the variances."""
        shape = torch.Size(sample_shape) + self.batch_shape
        mu, alpha0, alpha1, beta1 = (p.expand(shape).unsqueeze(-1) for p in self.parts)
        noise = torch.randn(*shape, *self.event_shape)
        growth = pad(alpha1 * noise[..., :-1] ** 2 + beta1, (1, 0))
        driven = alpha0.expand_as(growth[..., 1:])
        first = torch.full_like(alpha0, self.first**2)
        return mu + linear_recurrence(growth, torch.cat([first, driven], -1)).sqrt() * noise


# -- recurrences -----------------------------------------------------------------------------------


def linear_recurrence(coefficients: Tensor, inputs: Tensor) -> Tensor:
    """x[t] = inputs[t] + coefficients[t] x[t - 1] along the last axis, kept within `LARGEST`."""
    powers, step = coefficients.expand_as(inputs), 1
    while step < inputs.shape[-1]:
        earlier, before = (pad(x[..., :-step], (step, 0)) for x in (inputs, powers))
        inputs = (inputs + powers * earlier).clamp(-LARGEST, LARGEST)
        powers, step = (powers * before).clamp(-LARGEST, LARGEST), 2 * step
    return inputs


def follow(successors: Tensor) -> Tensor:
    """The path through maps `(..., T, n)` of states to states, the first of them constant."""
    step = 1
    while step < successors.shape[-2]:
        later = successors[..., step:, :].gather(-1, successors[..., :-step, :])
        successors = torch.cat([successors[..., :step, :], later], -2)
        step *= 2
    return successors[..., 0]


def log_phi(x: Tensor) -> Tensor:
    """Logarithm of the standard normal distribution function, exact far into the lower tail."""
    lower = x.clamp_max(0.0)
    tail = (torch.special.erfcx(-lower * math.sqrt(0.5)) / 2).log() - lower**2 / 2
    return torch.where(x < 0, tail, torch.log1p(-torch.special.erfc(x * math.sqrt(0.5)) / 2))


def log_product(matrices: Tensor) -> Tensor:
    """Product of matrices `(..., T, n, n)` that are given, and returned, by their logarithms."""
    while matrices.shape[-3] > 1:
        even = matrices.shape[-3] // 2 * 2
        left, right = matrices[..., 0:even:2, :, :], matrices[..., 1:even:2, :, :]
        joint = (left.unsqueeze(-1) + right.unsqueeze(-3)).logsumexp(-2)
        matrices = torch.cat([joint, matrices[..., even:, :, :]], -3)
    return matrices.squeeze(-3)
