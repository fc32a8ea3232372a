"""Laws with mass near an edge of their support, by coordinate, where a rounded value cannot tell.

Float32 knows nothing between 1 - 6e-8 and 1, yet a fifth of the mass of Beta(.05, .05) lies there.
Its coordinate knows: log x and log(1 - x) come from it without a digit lost.

    >>> import torch
    >>> law = Beta(torch.tensor(0.05), torch.tensor(0.05))
    >>> far = torch.tensor([-40.0, 40.0])  # logits: both lie as far from their edge
    >>> log_prob_at(law, SigmoidTransform(), SigmoidTransform()(far), far).diff().abs() > 1e-3
    tensor([False])
    >>> law.log_prob(SigmoidTransform()(far)).diff().abs() > 1e-3
    tensor([True])
"""

import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    Dirichlet,
    Distribution,
    Gamma,
    Independent,
    SigmoidTransform,
    Transform,
)
from torch.nn.functional import logsigmoid

from aif_dcpc.inference.model.bijections import PositiveTransform, SimplexTransform
from aif_dcpc.inference.model.supports import log_prob as plain_log_prob

KINDS: dict[type[Distribution], type[Transform]] = {
    Beta: SigmoidTransform,
    Gamma: PositiveTransform,
    Dirichlet: SimplexTransform,
}


def is_unrounded(law: Distribution, bijection: Transform) -> bool:
    """Tell whether a law's density is had from coordinates alone."""
    law = _element(law)
    return any(
        type(law).log_prob is kind.log_prob and isinstance(bijection, way)
        for kind, way in KINDS.items()
    )


def log_prob_at(
    law: Distribution, bijection: Transform, value: Tensor, coordinate: Tensor
) -> Tensor:
    """Return log p(value), with the logarithms of the value taken from its coordinate where known."""
    if not is_unrounded(law, bijection):
        return plain_log_prob(law, value)
    if isinstance(law, Independent):
        inner = log_prob_at(law.base_dist, bijection, value, coordinate)
        axes = law.reinterpreted_batch_ndims
        return inner.flatten(inner.ndim - axes).sum(-1) if axes else inner
    if isinstance(law, Beta):
        return _beta(law, coordinate)
    if isinstance(law, Gamma):
        return _gamma(law, value, coordinate)
    return _dirichlet(law, bijection, coordinate)


def _element(law: Distribution) -> Distribution:
    while isinstance(law, Independent):
        law = law.base_dist
    return law


def _beta(law: Beta, logit: Tensor) -> Tensor:
    a = law.concentration1
    b = law.concentration0
    constant = torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)
    return constant + (a - 1) * logsigmoid(logit) + (b - 1) * logsigmoid(-logit)


def _gamma(law: Gamma, value: Tensor, log_value: Tensor) -> Tensor:
    a = law.concentration
    rate = law.rate
    return torch.xlogy(a, rate) - torch.lgamma(a) + (a - 1) * log_value - rate * value


def _dirichlet(law: Distribution, bijection: Transform, coordinate: Tensor) -> Tensor:
    a: Tensor = law.concentration  # type: ignore[attr-defined]
    constant = torch.lgamma(a.sum(-1)) - torch.lgamma(a).sum(-1)
    assert isinstance(bijection, SimplexTransform)
    return constant + ((a - 1) * bijection.log_shares(coordinate)).sum(-1)
