"""Standardised coordinates: their law is the same whatever the location and the scale are.

The law of u = location + scale w, less the scale, is one function of w: log p(u) + log scale is
compared at two settings of the parameters.
"""

import pyro
import pyro.distributions as dist
import pytest
import torch
from block_models import data, number
from torch import distributions as td
from torch.distributions import biject_to

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.model.location_scale import READERS, location_scale

LOC = number([-3.0, 0.0, 1.5])
SCALE = number([0.2, 1.0, 30.0])
MATRIX = number([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [-0.3, 0.2, 0.5]])
# two settings of what is standardised; shapes (degrees of freedom, concentrations) stay
LAWS = {
    td.Normal: lambda loc, scale: td.Normal(loc, scale),
    td.Laplace: lambda loc, scale: td.Laplace(loc, scale),
    td.Cauchy: lambda loc, scale: td.Cauchy(loc, scale),
    td.StudentT: lambda loc, scale: td.StudentT(number(4.0), loc, scale),
    td.Gumbel: lambda loc, scale: td.Gumbel(loc, scale),
    td.LogNormal: lambda loc, scale: td.LogNormal(loc, scale),
    td.HalfNormal: lambda loc, scale: td.HalfNormal(scale),
    td.HalfCauchy: lambda loc, scale: td.HalfCauchy(scale),
    td.Weibull: lambda loc, scale: td.Weibull(scale, number(1.7)),
    td.Exponential: lambda loc, scale: td.Exponential(scale),
    td.Gamma: lambda loc, scale: td.Gamma(number([0.5, 1.0, 3.0]), scale),
    td.MultivariateNormal: lambda loc, scale: td.MultivariateNormal(
        loc, scale_tril=MATRIX @ torch.diag(scale)
    ),
}
SETTINGS = ((LOC, SCALE), (torch.zeros(3, dtype=torch.float64), torch.ones_like(SCALE)))


def standardised_log_prob(law, w):
    """Log density of the standardised coordinate, element by element (of whole vectors for a matrix)."""
    place = location_scale(law)
    if place.is_matrix:
        u = place.location + (place.scale @ w.unsqueeze(-1)).squeeze(-1)
        return law.log_prob(u) + torch.linalg.slogdet(place.scale)[1]
    u = place.location + place.scale * w
    bijection = biject_to(law.support)
    x = bijection(u)
    jacobian = bijection.log_abs_det_jacobian(u, x)
    return law.log_prob(x) + (jacobian if jacobian.shape == u.shape else 0) + place.scale.log()


@pytest.mark.parametrize("kind", READERS, ids=lambda kind: kind.__name__)
def test_the_standardised_law_does_not_depend_on_location_and_scale(kind):
    w = data(50, 3)
    one, other = (standardised_log_prob(LAWS[kind](*s), w) for s in SETTINGS)
    assert torch.allclose(one, other)


def test_a_subclass_is_read_as_what_it_is():
    """A chi-square is a Gamma of rate 1/2."""
    place = location_scale(td.Chi2(number([1.0, 4.0])))
    assert torch.allclose(place.location, torch.log(number([2.0, 2.0])))
    assert torch.equal(place.scale, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("kind", READERS, ids=lambda kind: kind.__name__)
def test_independent_elements_and_expanded_laws_have_those_of_their_parts(kind):
    law = LAWS[kind](LOC, SCALE)
    plain = location_scale(law)
    expanded = law.expand((4, *law.batch_shape))
    for found in (td.Independent(expanded, 1), td.Independent(law, len(law.batch_shape)), expanded):
        place = location_scale(found)
        assert place.is_matrix == plain.is_matrix == (kind is td.MultivariateNormal)
        for part, same in zip(place[:2], plain[:2], strict=True):
            assert torch.equal(*torch.broadcast_tensors(part, same))


@pytest.mark.parametrize(
    "law",
    [
        td.Beta(number(2.0), number(3.0)),
        td.Uniform(number(0.0), number(1.0)),
        td.Dirichlet(torch.ones(3)),
        td.Categorical(torch.ones(3)),
        td.Poisson(number(2.0)),
        td.TransformedDistribution(td.Normal(0.0, 1.0), td.SigmoidTransform()),
        td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.Normal(torch.zeros(2), 1.0)),
    ],
    ids=lambda law: type(law).__name__,
)
def test_other_laws_have_none(law):
    assert location_scale(law) is None


def test_a_law_answers_for_itself():
    class Own(td.Normal):
        def location_scale(self):
            return "its own answer"

    assert location_scale(Own(0.0, 1.0)) == "its own answer"
    assert location_scale(td.Independent(Own(torch.zeros(2), 1.0), 1)) == "its own answer"


# -- recorded statements ---------------------------------------------------------------------------


def program(y):
    mean = pyro.sample("mean", dist.Normal(1.0, 2.0))
    spread = pyro.sample("spread", dist.HalfCauchy(3.0))
    with pyro.plate("groups", 3):
        effect = pyro.sample("effect", dist.StudentT(4.0, mean, spread))
        rate = pyro.sample("rate", dist.Gamma(2.0, 1 + mean**2 + effect**2))
        pyro.sample("share", dist.Beta(1.0 + rate, 2.0))
        pyro.sample("y", dist.Normal(effect, rate), obs=y)


def test_recorded_statements_have_the_location_and_scale_of_their_laws():
    model, observed = GraphicalModel.from_pyro(program, torch.tensor([1.0, -1.0, 0.5]))
    state = DCPC(model, num_particles=4).init(observed, seed=0)
    mean, effect = state.particles["mean"], state.particles["effect"]
    spread = state.particles["spread"]
    wide = torch.ones_like(effect)
    expected = {
        "mean": (torch.ones(()), torch.full((), 2.0)),
        "spread": (torch.tensor(3.0).log(), torch.ones(())),
        "effect": (mean.unsqueeze(-1) * wide, spread.unsqueeze(-1) * wide),
        "rate": (-torch.log(1 + mean.unsqueeze(-1) ** 2 + effect**2), wide),
    }
    for name, (location, scale) in expected.items():
        place = law_of(model, name, state).location_scale()
        assert torch.allclose(place.location, location.to(place.location))
        assert torch.allclose(place.scale, scale.to(place.scale))
    for name in ("share", "y"):  # another kind of law; observed
        assert law_of(model, name, state).location_scale() is None


def law_of(model, name, state):
    """A recorded statement's law at a cloud."""
    site = model.sites[name]
    return site.kernel(*(state.particles[parent] for parent in site.parents))
