"""Supports: which values a distribution can take, and whether data lie there."""

import copy
import math
from collections.abc import Iterable, Sequence
from numbers import Number
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, constraints

CLOSED = {  # open constraints and the closed ones that have the same bijection
    type(constraints.greater_than(0.0)): constraints.greater_than_eq,
    type(constraints.half_open_interval(0.0, 1.0)): constraints.interval,
}
INTEGER_SUPPORTS = tuple(
    type(c) for c in (constraints.nonnegative_integer, constraints.integer_interval(0, 1))
)
ROUNDING = 1e-5  # values this close to an edge, relative to their size, count as inside


def base_law(distribution: Distribution) -> Distribution:
    """The law of one element, where the elements of an event are independent."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def log_prob(distribution: Distribution, value: Tensor) -> Tensor:
    """Log density of a value as the distribution gives it."""
    return distribution.log_prob(value)


def exact_log_prob(distribution: Distribution, value: Tensor) -> Tensor:
    """Log density of a value, minus infinity where it is said to have probability zero.

    `Bernoulli` and `Categorical` clamp the probabilities that they are given to about 1e-7.
    """
    found = distribution.log_prob(value)
    law = base_law(distribution)
    probs = vars(law).get("probs")
    if probs is None or not isinstance(law, Bernoulli | Categorical):
        return found
    if isinstance(law, Bernoulli):
        chance = torch.where(value > 0, probs, 1 - probs)
    else:
        index = value.long().unsqueeze(-1)
        shape = torch.broadcast_shapes(index.shape[:-1], probs.shape[:-1])
        chance = probs.expand(*shape, -1).gather(-1, index.expand(*shape, 1)).squeeze(-1)
    impossible = chance.expand(torch.broadcast_shapes(chance.shape, value.shape)) == 0
    if impossible.ndim > found.ndim:
        impossible = impossible.flatten(found.ndim).any(-1)
    return torch.where(impossible, -torch.inf, found)


def support_of(distribution: Distribution) -> constraints.Constraint | None:
    """Return the support of one element of the event, edges included; None where it is not told."""
    try:
        found: Any = base_law(distribution).support
    except NotImplementedError:
        return None
    while isinstance(found, constraints.independent):
        found = found.base_constraint
    if isinstance(found, constraints.MixtureSameFamilyConstraint):
        return _hull(found.base_constraint)
    closed = CLOSED.get(type(found))
    return found if closed is None else closed(**vars(found))


def _hull(support: constraints.Constraint) -> constraints.Constraint:
    """Return the least support of its kind that holds those of all components of a mixture (last axis)."""
    found = copy.copy(support)
    for key, bound in vars(support).items():
        if isinstance(bound, Tensor) and bound.ndim:
            setattr(found, key, bound.amin(-1) if key == "lower_bound" else bound.amax(-1))
    return found


def is_real(support: constraints.Constraint) -> bool:
    """Whether every real number is possible."""
    return support in (constraints.real, constraints.real_vector)


def has_bounds(support: constraints.Constraint | None) -> bool:
    """Whether a support has bounds that may depend on parents."""
    return support is not None and any(isinstance(x, Tensor) for x in vars(support).values())


def fixed(distribution: Distribution, batch_ndim: int) -> constraints.Constraint | None:
    """Return the support without the leading axes of its bounds.

    None where bounds differ along the `batch_ndim` leading axes, or the distribution tells none.
    """
    support = support_of(distribution)
    if not has_bounds(support):
        return support
    shape = base_law(distribution).batch_shape
    found = copy.copy(support)
    for key, value in vars(support).items():
        if isinstance(value, Tensor) and value.shape == shape and value.ndim >= batch_ndim:
            first = value[(0,) * batch_ndim]
            if not torch.equal(value, first.expand_as(value)):
                return None
            setattr(found, key, first)
    return found


def same(supports: Iterable[constraints.Constraint | None]) -> bool:
    """Whether all supports are told and alike."""
    first, *others = supports
    return first is not None and all(s is not None and _alike(first, s) for s in others)


def _alike(first: constraints.Constraint, second: constraints.Constraint) -> bool:
    if is_real(first) and is_real(second):
        return True
    return type(first) is type(second) and all(
        _equal(x, vars(second).get(key)) for key, x in vars(first).items()
    )


def _equal(first: object, second: object) -> bool:
    if isinstance(first, Tensor | Number) and isinstance(second, Tensor | Number):
        numbers = (torch.as_tensor(first).double(), torch.as_tensor(second).double())
        return torch.equal(*torch.broadcast_tensors(*numbers))
    return first is second or type(first) is type(second)


def inside(distribution: Distribution, value: Tensor) -> Tensor | None:
    """Return True where values are possible, up to rounding; None where the support is not known.

    The shape is that of the support's own check. Values between 0 and 1 count as possible where 0
    and 1 are: grey pixels are expectations of black and white ones.
    """
    support = support_of(distribution)
    if support is None or type(support).__module__ != constraints.__name__:
        return None
    if isinstance(support, type(constraints.simplex)):
        return (value >= -ROUNDING).all(-1) & ((value.sum(-1) - 1).abs() < 1e-3)
    if isinstance(support, type(constraints.boolean)):
        return (value >= 0) & (value <= 1)
    if not _bounds_fit(support, base_law(distribution).batch_shape):
        return None  # recorded for other parents than these
    if support.event_dim or support.is_discrete:
        return support.check(value)
    slack = ROUNDING * value.abs().clamp_min(1.0)
    return support.check(value) | support.check(value + slack) | support.check(value - slack)


def _bounds_fit(support: constraints.Constraint, batch_shape: torch.Size) -> bool:
    """Tell whether all bounds that are tensors have the shape of the distribution's batch."""
    bounds = [x for x in vars(support).values() if isinstance(x, Tensor)]
    return all(bound.shape == batch_shape for bound in bounds)


# -- what is said of a site ------------------------------------------------------------------------


def integer_bounds(
    told: Sequence[constraints.Constraint | None], kept: Sequence[constraints.Constraint | None]
) -> tuple[float, float] | None:
    """Return least and greatest value of an ordered integer support; None for one-hot vectors, grids.

    A bound that depends on parents is left out: densities are zero beyond it.

    Args:
        told: the support under each law.
        kept: the same where its bounds do not vary, else None.
    """
    support = told[0]
    if support is constraints.boolean:
        return 0.0, 1.0
    if not isinstance(support, INTEGER_SUPPORTS):
        return None
    varies = has_bounds(support) and not same(kept)
    lower = _bound(support, "lower_bound", -math.inf, varies)
    upper = _bound(support, "upper_bound", math.inf, varies)
    return lower, upper


def _bound(support: constraints.Constraint, key: str, extreme: float, varies: bool) -> float:
    value = getattr(support, key, extreme)
    if varies and isinstance(value, Tensor):
        return extreme
    value = torch.as_tensor(value)
    return float(value.min() if extreme < 0 else value.max())


def unlike_supports(name: str, first: constraints.Constraint | None, law: Distribution) -> str:
    """Say that a site's support is not the same everywhere, and what to write instead.

    Args:
        name: the site.
        first: the support of its initial, or first, kernel.
        law: the distribution that has another.
    """
    if has_bounds(support_of(law)):
        return (
            f"site {name!r}: its support depends on its parents ({support_of(law)!s:.80}); give it "
            "a fixed support and compute with it, for example fraction ~ Uniform(0, 1) and a "
            "deterministic site a * fraction for Uniform(0, a)."
        )
    return (
        f"site {name!r}: its initial kernel has the support {first}, its kernel {support_of(law)}; "
        "give both the same support."
    )
