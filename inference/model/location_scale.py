"""Which kernels are a location and a scale away from a fixed shape, in unconstrained coordinates.

A value u of such a kernel is u = location + scale * w (or location + matrix @ w), where the law of w
does not depend on the parents: w is the *standardised* coordinate. Kernels of positive values have
it on the logarithm: u = log x = log(scale of x) + w.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution

from aif_dcpc.inference.model.supports import base_law


class LocationScale(NamedTuple):
    """Where the standardised coordinate lies in the unconstrained one.

    Attributes:
        location: `(*batch, *event)`, or anything that broadcasts to it.
        scale: as the location, positive; a lower triangular matrix `(*batch, D, D)` if `is_matrix`.
        is_matrix: whether the scale multiplies whole event vectors.
    """

    location: Tensor
    scale: Tensor
    is_matrix: bool = False


def _from_attributes(law: Any, location: str, scale: str) -> LocationScale:
    return LocationScale(getattr(law, location), getattr(law, scale))


def _from_log_scale(law: Any, scale: str) -> LocationScale:
    shift = torch.log(getattr(law, scale))
    return LocationScale(shift, torch.ones_like(shift))


def _from_log_rate(law: Any, rate: str) -> LocationScale:
    shift = -torch.log(getattr(law, rate))
    return LocationScale(shift, torch.ones_like(shift))


READERS = {
    td.Normal: lambda law: _from_attributes(law, "loc", "scale"),
    td.Laplace: lambda law: _from_attributes(law, "loc", "scale"),
    td.Cauchy: lambda law: _from_attributes(law, "loc", "scale"),
    td.StudentT: lambda law: _from_attributes(law, "loc", "scale"),
    td.Gumbel: lambda law: _from_attributes(law, "loc", "scale"),
    td.LogNormal: lambda law: _from_attributes(law, "loc", "scale"),
    td.HalfNormal: lambda law: _from_log_scale(law, "scale"),
    td.HalfCauchy: lambda law: _from_log_scale(law, "scale"),
    td.Weibull: lambda law: _from_log_scale(law, "scale"),
    td.Exponential: lambda law: _from_log_rate(law, "rate"),
    td.Gamma: lambda law: _from_log_rate(law, "rate"),
    td.MultivariateNormal: lambda law: LocationScale(law.loc, law.scale_tril, is_matrix=True),
}


def location_scale(law: Distribution) -> LocationScale | None:
    """Location and scale of a law in unconstrained coordinates; None where it has none.

    Laws that know better (such as recorded statements) answer for themselves by a method of the
    same name.
    """
    law = base_law(law)
    own = getattr(law, "location_scale", None)
    if own is not None:
        return own()
    for kind in type(law).__mro__:
        if kind in READERS:
            return READERS[kind](law)
    return None
