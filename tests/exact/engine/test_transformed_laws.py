"""Laws made by transforms: no density where the law beneath cannot lie, and the support that they truly have."""

import math

import pytest
import torch
from torch.distributions import (
    AffineTransform,
    Beta,
    Exponential,
    ExpTransform,
    Gamma,
    Gumbel,
    Independent,
    LogNormal,
    Normal,
    Pareto,
    SigmoidTransform,
    TransformedDistribution,
    Uniform,
    constraints,
)

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.supports import log_prob, same, support_of

tensor = torch.tensor


def moved(law, loc, scale=1.0):
    return TransformedDistribution(law, [AffineTransform(loc, scale)])


def waited(z):
    """A time after z: an exponential one of rate 2 later."""
    return moved(Exponential(torch.full_like(z, 2.0)), z)


def pair(root, kernel):
    model = GraphicalModel()
    model.add_site("z", root)
    model.add_site("x", kernel, ["z"])
    return model


LOG_NORMAL = TransformedDistribution(Normal(0.0, 1.0), [ExpTransform()])
BEYOND = {
    "pareto": (Pareto(2.0, 3.0), 2.5, 1.0),
    "later": (moved(Exponential(2.0), 1.0), 1.5, 0.9),
    "earlier": (moved(Exponential(2.0), 1.0, -1.0), 0.5, 1.1),
    "between": (moved(Beta(1.0, 1.0), 1.0, 2.0), 2.9, 3.1),
    "shifted log-normal": (moved(LOG_NORMAL, 1.0), 1.5, 0.5),
    "twice": (moved(moved(Exponential(2.0), 1.0), 1.0), 2.5, 1.5),
    "grown": (TransformedDistribution(Exponential(2.0), [ExpTransform()]), 1.5, 0.5),
}


@pytest.mark.parametrize("name", BEYOND)
def test_a_density_is_zero_where_the_law_beneath_cannot_lie(name):
    law, inside, beyond = BEYOND[name]
    place = tensor([inside, beyond])
    with no_validation():
        found = log_prob(law.expand((2,)), place)
        known = law.log_prob(place[0])
    assert torch.equal(found, torch.stack([known, tensor(-torch.inf)]))


def test_an_event_with_one_impossible_element_is_impossible():
    law = Independent(moved(Exponential(torch.ones(2, 3)), 1.0), 1)
    place = tensor([[1.5, 1.5, 1.5], [1.5, 0.5, 1.5]])
    with no_validation():
        assert log_prob(law, place).tolist() == [-1.5, -math.inf]


def test_the_slope_towards_a_bound_is_zero_beyond_it():
    z = tensor([0.0, 2.0], requires_grad=True)
    with no_validation():
        found = log_prob(waited(z), torch.ones(2))
    (slope,) = torch.autograd.grad(found.sum(), z)
    assert slope.tolist() == [2.0, 0.0]


TRUE = {
    "later": (moved(Exponential(2.0), 5.0), constraints.greater_than_eq(5.0)),
    "scaled": (moved(Exponential(2.0), 0.0, 3.0), constraints.greater_than_eq(0.0)),
    "earlier": (moved(Exponential(2.0), 5.0, -2.0), constraints.less_than(5.0)),
    "between": (moved(Uniform(0.0, 1.0), 5.0, -2.0), constraints.interval(3.0, 5.0)),
    "shifted log-normal": (moved(LOG_NORMAL, 5.0), constraints.greater_than_eq(5.0)),
    "anything": (moved(Normal(0.0, 1.0), 5.0), constraints.real),
    "either side": (
        moved(Exponential(torch.ones(2)), 5.0, tensor([1.0, -1.0])),
        constraints.real,
    ),
    "logistic": (
        TransformedDistribution(Uniform(0.0, 1.0), [SigmoidTransform().inv, AffineTransform(1, 2)]),
        constraints.real,
    ),
    "gumbel": (Gumbel(0.0, 1.0), constraints.real),
    "log-normal": (LogNormal(0.0, 1.0), constraints.greater_than_eq(0.0)),
}


@pytest.mark.parametrize("name", TRUE)
def test_a_shifted_law_has_a_shifted_support(name):
    law, expected = TRUE[name]
    found = support_of(law)
    assert same([found, expected]) and (found is constraints.real) == (expected is constraints.real)


def normal_below(mean, edge):
    """Mean and standard deviation of Normal(mean, 1) below an edge."""
    place = tensor(edge - mean, dtype=torch.float64)
    ratio = Normal(0.0, 1.0).log_prob(place).exp() / torch.special.ndtr(place)
    return mean - float(ratio), float(1 - place * ratio - ratio**2) ** 0.5


def truncated_gamma(shape, edge):
    """Mean and standard deviation of Gamma(shape, 1) below an edge."""

    def moment(power):
        a = tensor(shape + power, dtype=torch.float64)
        mass = torch.special.gammainc(a, tensor(edge, dtype=torch.float64))
        return float(mass.log() + torch.lgamma(a))

    mean, square = (math.exp(moment(power) - moment(0.0)) for power in (1.0, 2.0))
    return mean, (square - mean**2) ** 0.5


def normal_above(mean, edge):
    """Mean and standard deviation of Normal(mean, 1) above an edge."""
    mirrored, sd = normal_below(-mean, -edge)
    return -mirrored, sd


POSTERIORS = {
    # z^3 / x^4 times z exp(-z), below x
    "pareto": (
        lambda: Gamma(2.0, 1.0),
        lambda z: Pareto(z, 3.0),
        1.0,
        truncated_gamma(5.0, 1.0),
    ),
    # exp(2 z) times a standard normal density, below x
    "later": (lambda: Normal(0.0, 1.0), waited, 0.5, normal_below(2.0, 0.5)),
    # exp(-z) times Normal(x, 1), above 5
    "latent": (
        lambda: moved(Exponential(1.0), 5.0),
        lambda z: Normal(z, 1.0),
        5.5,
        normal_above(4.5, 5.0),
    ),
}


@pytest.mark.parametrize("name", POSTERIORS)
def test_bounds_of_transformed_laws_give_the_exact_posterior(name):
    """Within 5 standard errors of independent chains: false alarms about once in a million times."""
    prior, kernel, x, (mean, sd) = POSTERIORS[name]
    engine = DCPC(pair(prior, kernel), num_particles=2000)
    state, _ = engine.run(engine.init({"x": tensor([x])}, seed=0), 200)
    draws = state.particles["z"].flatten().double()
    assert abs(float(draws.mean()) - mean) < 5 * sd / math.sqrt(len(draws))


def test_a_latent_with_a_bound_that_depends_on_its_parents_is_refused():
    with pytest.raises(ModelError, match="its support depends on its parents"):
        DCPC(pair(lambda: Normal(0.0, 1.0), waited)).init(batch_size=2, seed=0)
