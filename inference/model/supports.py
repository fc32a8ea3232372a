"""Supports: which values a distribution can take, and whether data lie there."""

import copy
import math
from collections.abc import Iterable, Sequence
from numbers import Number
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Categorical,
    Distribution,
    HalfCauchy,
    HalfNormal,
    Independent,
    Transform,
    TransformedDistribution,
    Uniform,
    constraints,
)

CLOSED = {  # open constraints and the closed ones that have the same bijection
    type(constraints.greater_than(0.0)): constraints.greater_than_eq,
    type(constraints.half_open_interval(0.0, 1.0)): constraints.interval,
}
INTEGER_SUPPORTS = tuple(
    type(c) for c in (constraints.nonnegative_integer, constraints.integer_interval(0, 1))
)
EDGES = {"lower_bound", "upper_bound"}
MINDFUL = (
    HalfCauchy,
    HalfNormal,
    Uniform,
)  # laws whose own densities are zero beyond their support
ROUNDING = 1e-5  # values this close to an edge, relative to their size, count as inside


def base_law(distribution: Distribution) -> Distribution:
    """The law of one element, where the elements of an event are independent."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def log_prob(distribution: Distribution, value: Tensor) -> Tensor:
    """Log density of a value, minus infinity beyond the support of a transformed law.

    Torch scores whatever a transform can be inverted at, also where the law beneath cannot lie.
    """
    found: Tensor = distribution.log_prob(value)
    possible = _reached(base_law(distribution), value, found.ndim)
    return found if possible is None else torch.where(possible, found, -torch.inf)


def exact_log_prob(distribution: Distribution, value: Tensor) -> Tensor:
    """Log density of a value, minus infinity where it is said to have probability zero.

    `Bernoulli` and `Categorical` clamp the probabilities that they are given to about 1e-7.
    """
    found = log_prob(distribution, value)
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
    found = _image(base_law(distribution))
    if isinstance(found, constraints.MixtureSameFamilyConstraint):
        return _hull(found.base_constraint)
    closed = CLOSED.get(type(found))
    return closed(**vars(found)) if closed else found


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


# -- transformed laws ------------------------------------------------------------------------------


def _unwound(law: Distribution) -> tuple[Distribution, list[Transform]]:
    """Return the law beneath transforms, and these from the inside out; none where it tells its support."""
    transforms: list[Transform] = []
    plain = TransformedDistribution.support
    while isinstance(law, TransformedDistribution) and type(law).support is plain:
        transforms = [*law.transforms, *transforms]
        law = base_law(law.base_dist)
    return law, transforms


def _reached(law: Distribution, value: Tensor, ndim: int) -> Tensor | None:
    """Return True where a value comes from a possible one of the law beneath, along `ndim` axes.

    None where nothing has to be looked at: latents and data do not leave a support that is the same
    whatever the parameters.
    """
    if type(law).log_prob is not TransformedDistribution.log_prob:
        return None
    source, transforms = _unwound(law)
    beneath = None if isinstance(source, MINDFUL) else _told(source)
    if not transforms and not has_bounds(beneath):
        return None
    supports = [beneath, *(_of_element(t.codomain) for t in transforms[:-1])]
    if not any(map(_has_edges, supports)):
        return None
    places = [value.detach()]
    for transform in reversed(transforms):
        places.insert(0, transform.inv(places[0]))
    possible = torch.ones((), dtype=torch.bool, device=value.device)
    for place, support in zip(places, supports, strict=False):
        if _has_edges(support):
            possible = possible & _along(support.check(place), ndim)
    return possible


def _along(flags: Tensor, ndim: int) -> Tensor:
    """Return True where all flags of an event are, along the `ndim` axes before it."""
    return flags.flatten(ndim).all(-1) if flags.ndim > ndim else flags


def _image(law: Distribution) -> Any:
    """Return the support of one element: that which a law tells, moved by what shifts and scales it.

    Torch calls the support of whatever has been shifted real.
    """
    source, transforms = _unwound(law)
    if not transforms or law.event_shape:
        return _told(law)
    found = _told(source)
    for transform in transforms:
        found = _moved(found, transform)
    if not has_bounds(found):
        return found
    bounds = {
        key: bound.expand(law.batch_shape) if isinstance(bound, Tensor) else bound
        for key, bound in vars(found).items()
    }
    return type(found)(**bounds)


def _moved(support: Any, transform: Transform) -> Any:
    """Return what a transform makes of a support: its codomain, where it does not shift and scale edges.

    Reads the signs of scales.
    """
    image = _of_element(transform.codomain)
    if not isinstance(transform, AffineTransform) or not _has_edges(support):
        return image
    edges = {key: transform(bound) for key, bound in vars(support).items()}
    sign = torch.as_tensor(transform.sign)
    if bool((sign < 0).all()):
        other = {"lower_bound": "upper_bound", "upper_bound": "lower_bound"}
        edges = {other[key]: bound for key, bound in edges.items()}
    elif not bool((sign > 0).all()):
        return image
    if len(edges) == 2:
        return constraints.interval(**edges)
    kind = constraints.greater_than_eq if "lower_bound" in edges else constraints.less_than
    return kind(**edges)


def _told(law: Distribution) -> Any:
    """Return the support of one element as torch has it; None where there is none."""
    try:
        return _of_element(law.support)
    except NotImplementedError:
        return None


def _of_element(support: Any) -> Any:
    """Return the support of one element of an event."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _has_edges(support: Any) -> bool:
    """Tell whether a support is all numbers on one side of an edge, or between two."""
    if support is None or not vars(support):
        return False
    return vars(support).keys() <= EDGES and not support.is_discrete


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
