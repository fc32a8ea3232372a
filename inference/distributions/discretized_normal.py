"""A Gaussian rounded to a regular grid: the likelihood of quantised data such as 8-bit pixels.

    >>> import torch
    >>> pixels = DiscretizedNormal(torch.tensor(0.1), torch.tensor(0.3), low=-1.0, high=1.0, levels=256)
    >>> bool((pixels.enumerate_support() - pixels.sample()).abs().min() < 1e-6)
    True

References: Salimans et al. (2017), arXiv 1701.05517, section 2.1, with a Gaussian in the place of
    the logistic.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import broadcast_all

NARROW = 0.01  # half a cell, in standard deviations
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Grid(constraints.Constraint):
    """Values low, low + width, ..., high."""

    is_discrete = True

    def __init__(self, low: float, high: float, levels: int) -> None:
        self.low = low
        self.high = high
        self.levels = levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether each value lies on the grid, up to rounding."""
        place = (value - self.low) * ((self.levels - 1) / (self.high - self.low))
        return ((place - place.round()).abs() < 1e-3) & (place > -0.5) & (place < self.levels - 0.5)


class DiscretizedNormal(Distribution):
    r"""log p(x) = log [Phi((x + w/2 - loc) / scale) - Phi((x - w/2 - loc) / scale)], w the width of a grid cell.

    The first and the last cell reach to minus and plus infinity, so the probabilities sum to one
    whatever `loc` is. The logarithm is taken of differences of `log_ndtr`, in the tail where it is
    exact: it stays finite, with a finite gradient, where the probability itself underflows.

    Args:
        loc, scale: mean and standard deviation before rounding, tensors that broadcast.
        low, high: first and last grid value.
        levels: number of grid values, at least 2.

    Raises:
        ValueError: if the grid is empty.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}  # noqa: RUF012
    has_enumerate_support = True

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        *,
        low: float = 0.0,
        high: float = 1.0,
        levels: int = 256,
        validate_args: bool | None = None,
    ) -> None:
        if levels < 2 or not low < high:
            raise ValueError(
                f"DiscretizedNormal: expected low < high and 2 levels, found {low}, {high}, "
                f"{levels}."
            )
        self.loc, self.scale = broadcast_all(loc, scale)
        self.low = low
        self.high = high
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def width(self) -> float:
        """Distance of neighbouring grid values."""
        return (self.high - self.low) / (self.levels - 1)

    @property
    def support(self) -> Grid:
        """The grid of possible values."""
        return Grid(self.low, self.high, self.levels)

    @property
    def mean(self) -> Tensor:
        """Mean of the normal before rounding."""
        return self.loc

    def expand(self, batch_shape: Any, _instance: Any = None) -> "DiscretizedNormal":
        """The same distribution with another batch shape."""
        shape = torch.Size(batch_shape)
        loc = self.loc.expand(shape)
        scale = self.scale.expand(shape)
        return DiscretizedNormal(
            loc,
            scale,
            low=self.low,
            high=self.high,
            levels=self.levels,
            validate_args=self._validate_args,
        )

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw a Gaussian and round it to the grid."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            drawn = torch.normal(self.loc.expand(shape), self.scale.expand(shape))
            place = ((drawn - self.low) / self.width).round().clamp(0, self.levels - 1)
            return self.low + place * self.width

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of a grid value, nats."""
        if self._validate_args:
            self._validate_sample(value)
        half = 0.5 * self.width
        first = value < self.low + half
        last = value > self.high - half
        place = torch.where(first, self.low, torch.where(last, self.high, value))
        middle = (place - self.loc) / self.scale
        # reflect to the lower tail, where log_ndtr is exact: the mass of [a, b] is that of [-b, -a]
        tail = torch.where(first, middle, torch.where(last, -middle, -middle.abs()))
        return _log_mass(tail, half / self.scale, first | last)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All grid values along a new first axis."""
        values = (
            torch.arange(self.levels, dtype=self.loc.dtype, device=self.loc.device) * self.width
            + self.low
        )
        values = values.reshape(-1, *([1] * len(self.batch_shape)))
        return values.expand(-1, *self.batch_shape) if expand else values


def _log_mass(middle: Tensor, half: Tensor, is_open: Tensor) -> Tensor:
    """Log of the standard normal mass of [middle - half, middle + half], for middle <= 0, or below middle + half if open."""
    tilt = middle * half  # the log density falls by 2 |tilt| across the cell
    narrow = (half < NARROW) & (tilt > -0.5) & ~is_open
    wide_half = torch.where(narrow, torch.ones_like(half), half)
    upper = torch.special.log_ndtr(middle + wide_half)
    lower = torch.special.log_ndtr(middle - wide_half)
    rest = torch.log(-torch.expm1((lower - upper).clamp_max(-1e-30)))
    difference = upper + torch.where(is_open, torch.zeros_like(rest), rest)
    # a narrow cell cancels in the difference: density at the middle times width, with log(sinh(t) /
    # t) in t = tilt
    curve = tilt.square() / 6 - tilt.square().square() / 180 - half.square() / 6
    density = -0.5 * middle.square() - HALF_LOG_TWO_PI + torch.log(2 * half) + curve
    return torch.where(narrow, density, difference)
