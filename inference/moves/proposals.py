"""Gradient proposals in whitened coordinates, for accept/reject with any preconditioner.

A pass proposes z' = z + R u, with S = R R' the preconditioner, w = R' eps(z) the whitened
prediction error and u drawn given w. It then reverses by -u from z' (an involution that keeps
volume), so the acceptance probability needs only log p(-u | w') - log p(u | w), whatever R is, and
also when observed values are held back from moving.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

LIMIT = 5.0  # standard deviations of the conditional, where the preconditioner is right


class StepConstants(NamedTuple):
    """What a step size a comes to, 0-dim tensors: computed when the step changes, not at each pass.

    Attributes:
        step: a.
        deviation: standard deviation of the noise.
        slope: minus a over the variance of the noise.
    """

    step: Tensor
    deviation: Tensor
    slope: Tensor


class Proposal(Protocol):
    """How u is drawn given w.

    Shapes: `w`, `new_w`, `u` are `(count, K * B, N)`; `step` is 0-dim.
    """

    def constants(self, step: Tensor) -> StepConstants:
        """What a step size comes to."""

    def draw(
        self, w: Tensor, constants: StepConstants, generator: torch.Generator | None
    ) -> Tensor:
        """Draw u given the whitened prediction error."""

    def log_ratio(self, u: Tensor, w: Tensor, new_w: Tensor, constants: StepConstants) -> Tensor:
        """log p(-u | w') - log p(u | w), `(count, K * B)` nats."""


class Gaussian:
    """u ~ Normal(a drift(w), variance(a)): Langevin proposals."""

    def drift(self, w: Tensor) -> Tensor:
        """Where to go, given the whitened prediction error: along it."""
        return w

    def variance(self, step: Tensor) -> Tensor:
        """Variance of the noise at step a."""
        return 2 * step

    def constants(self, step: Tensor) -> StepConstants:
        """What a step size comes to."""
        variance = self.variance(step)
        return StepConstants(step, variance.sqrt(), -step / variance)

    def draw(
        self, w: Tensor, constants: StepConstants, generator: torch.Generator | None
    ) -> Tensor:
        """Draw u given the whitened prediction error."""
        noise = torch.randn(w.shape, dtype=w.dtype, device=w.device, generator=generator)
        return noise.mul_(constants.deviation).addcmul_(self.drift(w), constants.step)

    def log_ratio(self, u: Tensor, w: Tensor, new_w: Tensor, constants: StepConstants) -> Tensor:
        """log p(-u | w') - log p(u | w), `(count, K * B)` nats."""
        w = self.drift(w)
        new_w = self.drift(new_w)
        # |u - a w|^2 - |u + a w'|^2 = -2 a (w + w') . (u + a / 2 (w' - w))
        total = (w + new_w) * torch.addcmul(u, new_w - w, constants.step, value=0.5)
        return total.sum(-1) * constants.slope


class OrnsteinUhlenbeck(Gaussian):
    """Variance a (2 - a): an exact Gibbs draw of a Gaussian conditional with covariance S at a = 1."""

    def variance(self, step: Tensor) -> Tensor:
        """Variance of the noise at step a."""
        return step * (2 - step)


class Mala(Gaussian):
    """Variance 2 a and a truncated drift (Roberts and Tweedie 1996, section 1.4.3, "MALTA").

    Where the density falls faster than a Gaussian, as to the left of a scale that the data exclude,
    an error of any size would throw every proposal past the mode, and the particle would never
    leave.
    """

    def drift(self, w: Tensor) -> Tensor:
        """Along the whitened prediction error, at most LIMIT in each coordinate."""
        return w.clamp(-LIMIT, LIMIT)


class Barker:
    """u = b |noise| with sign b drawn by the prediction error: robust where scales are misjudged.

    Reference: Livingstone and Zanella 2022, arXiv 1908.11812.
    """

    def constants(self, step: Tensor) -> StepConstants:
        """What a step size comes to."""
        return StepConstants(step, (2 * step).sqrt(), torch.full_like(step, -0.5))

    def draw(
        self, w: Tensor, constants: StepConstants, generator: torch.Generator | None
    ) -> Tensor:
        """Draw u given the whitened prediction error."""
        noise = (
            torch.randn(w.shape, dtype=w.dtype, device=w.device, generator=generator)
            * constants.deviation
        )
        uniform = torch.rand(w.shape, dtype=w.dtype, device=w.device, generator=generator)
        return torch.where(uniform < torch.sigmoid(noise * w), noise, -noise)

    def log_ratio(self, u: Tensor, w: Tensor, new_w: Tensor, constants: StepConstants) -> Tensor:
        """log p(-u | w') - log p(u | w), `(count, K * B)` nats."""
        return (softplus(-u * w) - softplus(u * new_w)).sum(-1)


PROPOSALS: dict[str, Proposal] = {"ou": OrnsteinUhlenbeck(), "mala": Mala(), "barker": Barker()}
