"""From unconstrained coordinates to a support, safely up to its edge, and around a circle.

A value at the edge of a support has infinite coordinates, and often an infinite density: what lies
there never moves again. Here values stop short of the edge by as much as a number can tell, and
coordinates are finite: those of a value at the edge are where the *span* ends.

    >>> import torch
    >>> coordinates(bijection_to(constraints.positive), torch.tensor([0.0, 1.0])).isfinite().all()
    tensor(True)
    >>> Wrap()(torch.tensor([0.0, 3 * math.pi])).abs() <= math.pi
    tensor([True, True])
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    ExpTransform,
    MixtureSameFamily,
    SigmoidTransform,
    StickBreakingTransform,
    Transform,
    TransformedDistribution,
    biject_to,
    constraints,
)
from torch.nn.functional import logsigmoid, pad

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.model.supports import base_law, is_real

CIRCULAR = {"VonMises", "SineBivariateVonMises", "SineSkewed"}  # torch and Pyro call angles real


class Wrap(Transform):
    """An angle on the line, shown in (-pi, pi]: 2 pi further on is the same place.

    A density of the wrapped angle is periodic on the line. Moves that only see its slopes and steps
    commute with whole turns, so that they leave the density on the circle invariant.
    """

    domain = constraints.real
    codomain = constraints.interval(-math.pi, math.pi)
    bijective = False

    def __eq__(self, other: object) -> bool:
        """All wraps are alike."""
        return isinstance(other, Wrap)

    def _call(self, x: Tensor) -> Tensor:
        return math.pi - torch.remainder(math.pi - x, 2 * math.pi)

    def _inverse(self, y: Tensor) -> Tensor:
        return y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Zero: turning stretches nothing."""
        return torch.zeros_like(x)


class PositiveTransform(ExpTransform):
    """The exponential of a coordinate, never as small as zero."""

    def _call(self, x: Tensor) -> Tensor:
        return x.exp().clamp(_tiny(x), torch.finfo(x.dtype).max)


class SimplexTransform(StickBreakingTransform):
    """Stick breaking in logarithms: small shares keep all their digits, and none is zero."""

    def _call(self, x: Tensor) -> Tensor:
        return self.log_shares(x).exp().clamp_min(_tiny(x))

    def log_shares(self, x: Tensor) -> Tensor:
        """Logarithms of the shares, however small."""
        broken = x - _offset(x)
        left = logsigmoid(-broken).cumsum(-1)
        return pad(logsigmoid(broken), [0, 1]) + pad(left, [1, 0])

    def _inverse(self, y: Tensor) -> Tensor:
        safe = y.clamp_min(_tiny(y))
        rest = safe.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        return safe[..., :-1].log() - rest.log() + _offset(rest)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum over breaks of log share + log of what is left of the stick, in shares of it."""
        broken = x - _offset(x)
        left = pad(logsigmoid(-broken).cumsum(-1), [1, 0])[..., :-1]
        return (logsigmoid(broken) + logsigmoid(-broken) + left).sum(-1)


def _offset(x: Tensor) -> Tensor:
    """Shift of each break, by which equal shares have coordinates 0: log of the number of later ones."""
    number = x.shape[-1]
    return torch.arange(number, 0, -1, dtype=x.dtype, device=x.device).log()


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny


def bijection_for(
    name: str, laws: Sequence[Distribution], domain: constraints.Constraint | None
) -> Transform | None:
    """Return the map from unconstrained coordinates to a continuous site's values; None where they are the same.

    Args:
        name: the site.
        laws: its distributions.
        domain: the support of one element, where it is known.

    Raises:
        ModelError: for values that have no such coordinates.
    """
    if any(map(_moves_angles, laws)):
        raise ModelError(
            f"site {name!r}: its law transforms angles, and the circle of the result is not known; "
            "let the site have the angles' own law and transform it in a deterministic site."
        )
    if any(map(_is_circular, laws)):
        return Wrap()
    if domain is None or is_real(domain):
        return None
    try:
        return bijection_to(domain)
    except NotImplementedError:
        raise ModelError(
            f"site {name!r}: its support, {domain}, has no unconstrained coordinates to move in; "
            "clamp the site, or build its value in a deterministic site from others that have, "
            "such as LKJCholesky factors and positive scales for a covariance."
        ) from None


def bijection_to(domain: constraints.Constraint) -> Transform:
    """Return the map from unconstrained coordinates to a support.

    Raises:
        NotImplementedError: for a support that has none.
    """
    bounds = vars(domain)
    if bounds.keys() == {"lower_bound"} and _is_zero(bounds["lower_bound"]):
        return PositiveTransform()
    found = biject_to(domain)
    return SimplexTransform() if isinstance(found, StickBreakingTransform) else found


def _is_zero(bound: Any) -> bool:
    return isinstance(bound, int | float) and bound == 0


def span(bijection: Transform, like: Tensor) -> tuple[float, float]:
    """Return the coordinates between which a bijection tells values from the edge.

    Infinite where nothing is known of the edge.
    """
    kind = torch.finfo(like.dtype)
    small = -math.log(kind.tiny) - 1
    coarse = -math.log(kind.eps) - 1
    if isinstance(bijection, PositiveTransform | SimplexTransform):
        return -small, small
    if isinstance(bijection, SigmoidTransform):
        return -small, coarse
    parts = getattr(bijection, "parts", ())
    if any(isinstance(part, SigmoidTransform) for part in parts):
        return -coarse, coarse
    if any(isinstance(part, ExpTransform) for part in parts):
        return -coarse, small
    return -math.inf, math.inf


def coordinates(bijection: Transform, value: Tensor) -> Tensor:
    """Return the unconstrained coordinates of a value, at the end of the span for one at the edge."""
    return bijection.inv(value).clamp(*span(bijection, value))


def at_edge(bijection: Transform, coordinate: Tensor) -> Tensor:
    """Tell which coordinates have reached the end of the span, in their shape."""
    low, high = span(bijection, coordinate)
    return (coordinate <= low) | (coordinate >= high)


def declared_law(law: Distribution) -> Distribution:
    """The law of one element as the user declared it, whose kind tells what its numbers are."""
    element = base_law(law)
    return base_law(getattr(element, "recorded_from", element))


def _is_circular(law: Distribution) -> bool:
    """Tell whether a distribution is one of angles."""
    element = declared_law(law)
    if isinstance(element, MixtureSameFamily):
        return _is_circular(element.component_distribution)
    return any(kind.__name__ in CIRCULAR for kind in type(element).__mro__)


def _moves_angles(law: Distribution) -> bool:
    """Tell whether a distribution is one of transformed angles, which are on no known circle."""
    element = declared_law(law)
    return isinstance(element, TransformedDistribution) and _is_circular(element.base_dist)
