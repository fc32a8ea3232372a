"""One of two distributions, chosen element by element: kernels that start anew where an input says so.

>>> import torch
>>> from torch.distributions import Normal
>>> both = switched(torch.tensor([True, False]), Normal(0.0, 1.0), Normal(torch.ones(2), 2.0))
>>> both
Normal(loc: torch.Size([2]), scale: torch.Size([2]))
>>> both.loc.tolist(), both.scale.tolist()
([0.0, 1.0], [1.0, 2.0])
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    constraints,
)

# families that stay what they are, so that moves know them -> their parameters
PARAMETERS: Mapping[type[Distribution], tuple[str, ...]] = {
    Normal: ("loc", "scale"),
    Bernoulli: ("probs",),
    Categorical: ("probs",),
    MultivariateNormal: ("loc", "scale_tril"),
}


def switched(condition: Tensor, first: Distribution, second: Distribution) -> Distribution:
    """Return `first` where a condition holds, else `second`.

    Args:
        condition: bool, leading axes of the batch shape of the result.
        first, second: of one kind of event; batch shapes that broadcast.

    Returns:
        a distribution of their own family where both are Normal, Bernoulli, Categorical or
        MultivariateNormal, otherwise `Switched`.
    """
    if isinstance(first, Independent) and isinstance(second, Independent):
        axes = second.reinterpreted_batch_ndims
        if first.reinterpreted_batch_ndims == axes:
            return Independent(switched(condition, first.base_dist, second.base_dist), axes)
    family = type(second)
    if type(first) is not family or family not in PARAMETERS:
        return Switched(condition, first, second)
    chosen = {
        name: _where(condition, getattr(first, name), getattr(second, name))
        for name in PARAMETERS[family]
    }
    make: Callable[..., Distribution] = family
    return make(**chosen)


def _where(condition: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Choose between tensors whose leading axes those of the condition are."""
    axes = max(first.ndim, second.ndim) - condition.ndim
    return torch.where(condition.reshape(*condition.shape, *[1] * max(axes, 0)), first, second)


class Switched(Distribution):
    """One of two distributions over the same kind of event, element by element.

    Args:
        condition: bool, leading axes of the batch shape.
        first: where it holds.
        second: elsewhere.
    """

    arg_constraints: Mapping[str, Any] = {}  # type: ignore[assignment]

    def __init__(self, condition: Tensor, first: Distribution, second: Distribution) -> None:
        batch = torch.broadcast_shapes(first.batch_shape, second.batch_shape)
        missing = max(len(batch) - condition.ndim, 0)
        self.condition = condition.reshape(*condition.shape, *[1] * missing)
        self.first = first.expand(batch)
        self.second = second.expand(batch)
        super().__init__(batch, second.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The support, which both have."""
        return self.second.support

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether both have reparameterised draws."""
        return self.first.has_rsample and self.second.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Whether the values are finitely many."""
        return self.second.has_enumerate_support

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Values of the support, `(N, *batch)`."""
        return self.second.enumerate_support(expand)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Switched":
        """Return the same over a larger batch."""
        condition = self.condition.expand(batch_shape)
        return Switched(condition, self.first.expand(batch_shape), self.second.expand(batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw from both, and keep what is chosen."""
        with torch.no_grad():
            first = self.first.sample(sample_shape)
            return self._chosen(first, self.second.sample(sample_shape), len(self.event_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw from both, differentiably, and keep what is chosen."""
        first = self.first.rsample(sample_shape)
        return self._chosen(first, self.second.rsample(sample_shape), len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the one that is chosen, nats."""
        return self._chosen(self.first.log_prob(value), self.second.log_prob(value), 0)

    def _chosen(self, first: Tensor, second: Tensor, event_axes: int) -> Tensor:
        """Choose between `(*sample, *batch, *event)`."""
        axes = len(self.batch_shape) - self.condition.ndim + event_axes
        return torch.where(
            self.condition.reshape(*self.condition.shape, *[1] * axes), first, second
        )
