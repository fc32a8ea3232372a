"""Exogenous noise: writing a draw as a function of its distribution and of noise that does not depend on it.

Location-scale families: (value - loc) / scale; transformed distributions: the base's noise;
multivariate Gaussians: the Cholesky factor's; anything else with a distribution function and its
inverse: u = cdf(value). Counterfactuals hold this noise fixed while the distribution changes.
"""

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Cauchy,
    Distribution,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    StudentT,
    TransformedDistribution,
)

from aif_dcpc.inference.errors import ModelError

LOCATION_SCALE = (Normal, Laplace, Cauchy, StudentT)


def to_noise(distribution: Distribution, value: Tensor, site: str) -> Tensor:
    """The noise behind a value, in the value's shape.

    Raises:
        ModelError: for discrete distributions, and for those whose noise cannot be inverted.
    """
    if isinstance(distribution, Independent):
        return to_noise(distribution.base_dist, value, site)
    if isinstance(distribution, TransformedDistribution):
        for transform in reversed(distribution.transforms):
            value = transform.inv(value)
        return to_noise(distribution.base_dist, value, site)
    if isinstance(distribution, LOCATION_SCALE):
        return (value - distribution.loc) / distribution.scale
    if isinstance(distribution, MultivariateNormal):
        return _solve(distribution.scale_tril, value - distribution.loc)
    return _uniform(distribution, "cdf", value, site)


def from_noise(distribution: Distribution, noise: Tensor, site: str) -> Tensor:
    """Inverse of `to_noise` under another distribution of the same family."""
    if isinstance(distribution, Independent):
        return from_noise(distribution.base_dist, noise, site)
    if isinstance(distribution, TransformedDistribution):
        value = from_noise(distribution.base_dist, noise, site)
        for transform in distribution.transforms:
            value = transform(value)
        return value
    if isinstance(distribution, LOCATION_SCALE):
        return distribution.loc + distribution.scale * noise
    if isinstance(distribution, MultivariateNormal):
        return distribution.loc + (distribution.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
    return _uniform(distribution, "icdf", noise, site)


def _solve(root: Tensor, difference: Tensor) -> Tensor:
    root = root.expand(*difference.shape, difference.shape[-1])
    return torch.linalg.solve_triangular(root, difference.unsqueeze(-1), upper=False).squeeze(-1)


def _uniform(distribution: Any, function: str, value: Tensor, site: str) -> Tensor:
    support = distribution.support
    why = "discrete" if support is not None and support.is_discrete else "not invertible"
    if why == "not invertible":
        with suppress(NotImplementedError):
            distribution.icdf(torch.full_like(value, 0.5))  # both directions are needed
            return getattr(distribution, function)(value)
    raise ModelError(
        f"site {site!r}: the noise of {type(distribution).__name__} is {why}, so what would have "
        "been is not determined; write the site as a deterministic function of a site with "
        "continuous noise."
    )
