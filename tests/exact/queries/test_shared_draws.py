"""Common random numbers: each candidate has its own law, and all share the noise; 5 standard errors at fixed seeds."""

import math

import pytest
import torch
from torch import distributions as td
from torch.distributions import Categorical, Independent, Normal

from aif_dcpc.inference.model.shared_draws import SharedDraws

K = 4000

FAMILIES = {
    "normal": lambda a: Normal(a, a),
    "multivariate normal": lambda a: td.MultivariateNormal(
        a[..., None].expand(*a.shape, 2), torch.tensor([[1.0, 0.5], [0.5, 2.0]])
    ),
    "uniform": lambda a: td.Uniform(0 * a, a),
    "exponential": lambda a: td.Exponential(1 / a),
    "laplace": lambda a: td.Laplace(a, a),
    "gumbel": lambda a: td.Gumbel(a, a),
    "log-normal": lambda a: td.LogNormal(0.3 * a, 0.3),
    "student": lambda a: td.StudentT(5 + a, a, a),
    "gamma": lambda a: td.Gamma(a, a),
    "beta": lambda a: td.Beta(a, 2 * a),
    "dirichlet": lambda a: td.Dirichlet(torch.stack([a, 2 * a, a], -1)),
    "bernoulli": lambda a: td.Bernoulli(a / 4),
    "categorical": lambda a: Categorical(torch.stack([a, 3 - a, 1 + 0 * a], -1)),
    "one-hot": lambda a: td.OneHotCategorical(torch.stack([a, 3 - a, 1 + 0 * a], -1)),
    "multinomial": lambda a: td.Multinomial(5, torch.stack([a, 3 - a, 1 + 0 * a], -1)),
    "binomial": lambda a: td.Binomial(10, a / 4),
    "poisson": lambda a: td.Poisson(3 * a),
    "geometric": lambda a: td.Geometric(a / 4),
    "negative binomial": lambda a: td.NegativeBinomial(3 * a, 0.4),
    "two axes": lambda a: Independent(Normal(a[..., None] + torch.arange(3.0), 1.0), 1),
}


ONE_BY_ONE = ("poisson", "binomial", "negative binomial")


@pytest.mark.parametrize("family", FAMILIES)
def test_each_candidate_has_its_own_law_and_all_share_the_noise(family):
    """Means and variances within 5 standard errors (kurtosis of at most 9 granted); equal laws, equal draws."""
    level = torch.tensor([1.0, 2.0, 2.0]).expand(K, 3)[..., None]
    law = FAMILIES[family](level)
    with SharedDraws(0, K, 1, 3):
        draws = law.sample()
    flat = draws.float().flatten(2)
    mean = law.mean.expand(draws.shape).flatten(2)[0]
    variance = law.variance.expand(draws.shape).flatten(2)[0]
    if family == "categorical":
        weights = law.probs[0, :, 0]
        mean = (weights * torch.arange(3.0)).sum(-1, keepdim=True)
        variance = (weights * torch.arange(3.0).square()).sum(-1, keepdim=True) - mean.square()
    assert ((flat.mean(0) - mean).abs() < 5 * (variance / K).sqrt() + 1e-6).all()
    assert ((flat.var(0) / variance - 1).abs() < 5 * math.sqrt(8 / K)).all()
    assert torch.equal(flat[:, 1], flat[:, 2])
    if draws.ndim == 3 and family not in ONE_BY_ONE:
        gap = (flat[:, 0] - flat[:, 1]).var()
        assert gap < 0.5 * (variance[0] + variance[1])  # 1 for independent draws
    neighbours = ((flat[1:] - mean) * (flat[:-1] - mean)).mean(0) / variance
    assert (neighbours.abs() < 5 / math.sqrt(K)).all()  # particles are independent


def test_each_draw_is_new():
    """A series of draws of a family that is made candidate by candidate is not correlated."""
    law = td.Poisson(torch.full((K, 2, 1), 2.0))
    with SharedDraws(0, K, 1, 2):
        first = law.sample()
        second = law.sample()
    product = ((first - 2) * (second - 2)).mean(0) / 2
    assert (product.abs() < 5 / math.sqrt(K)).all()


def test_tiny_concentrations_keep_their_moments():
    """Beta(.02, .04): nearly all mass at the ends, mean 1/3; variance m (1 - m) / 1.06."""
    law = td.Beta(torch.full((K, 2, 1), 0.02), torch.full((K, 2, 1), 0.04))
    with SharedDraws(0, K, 1, 2):
        draws = law.sample()
    assert torch.isfinite(draws).all()
    variance = (1 / 3) * (2 / 3) / 1.06
    assert ((draws.mean(0) - 1 / 3).abs() < 5 * math.sqrt(variance / K)).all()


@pytest.mark.parametrize(
    "law", [Categorical(torch.ones(K, 6, 1, 2)), td.Normal(torch.zeros(K, 6, 1), 1.0)]
)
def test_several_data_have_noise_of_their_own(law):
    with SharedDraws(0, K, 2, 3):
        draws = law.sample().float()
    for datum in (draws[:, :3], draws[:, 3:]):
        assert torch.equal(datum, datum[:, :1].expand_as(datum))
    first = draws[:, 0, 0] - draws.mean()
    second = draws[:, 3, 0] - draws.mean()
    assert (first * second).mean().abs() / draws.var() < 5 / math.sqrt(K)
