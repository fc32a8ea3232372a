"""Imported Pyro programs: densities against Pyro's own trace, draws and posteriors against closed forms.

Posteriors allow 5 Monte Carlo standard errors from independent clouds (see `clouds.agrees`); seeds
are fixed.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from clouds import agrees, imported_posterior
from scipy.stats import kstest

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError


def regression(x, y):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    weights = pyro.sample("weights", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        # does not broadcast over particles
        pyro.sample("y", dist.Normal(x @ weights, scale), obs=y)


def nested(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("groups", 3, dim=-2):
        group = pyro.sample("group", dist.Normal(mu, 1.0))
        with pyro.plate("members", 4, dim=-1):
            pyro.sample("y", dist.Normal(group, 0.5), obs=y)


def chain(y):
    state = pyro.sample("s0", dist.Normal(0.0, 1.0))
    for t in pyro.markov(range(1, len(y))):
        pyro.sample(f"y{t - 1}", dist.Normal(state, 0.5), obs=y[t - 1])
        state = pyro.sample(f"s{t}", dist.Normal(0.9 * state, 0.3))
    pyro.sample(f"y{len(y) - 1}", dist.Normal(state, 0.5), obs=y[-1])


LOCATIONS = torch.tensor([-1.0, 0.5, 2.0])


def mixture(y):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("data", len(y)):
        which = pyro.sample("which", dist.Categorical(weights))
        pyro.sample("y", dist.Normal(LOCATIONS[which], 1.0), obs=y)


def written_in_place(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Gamma(2.0, 1.0))
    loc = torch.zeros(2)
    loc[0] = a
    loc[1] = 2 * b
    loc += torch.tensor([1.0, 2.0])
    cov = torch.eye(2) + torch.full((2, 2), 0.5)
    pyro.sample("y", dist.MultivariateNormal(loc, cov), obs=y)


torch.manual_seed(1)
PROGRAMS = {
    "regression": (regression, torch.randn(5, 3), torch.randn(5)),
    "nested plates": (nested, torch.randn(3, 4)),
    "loop": (chain, torch.randn(4)),
    "mixture": (mixture, torch.randn(5)),
    "written in place": (written_in_place, torch.randn(2)),
}


@pytest.mark.parametrize("case", PROGRAMS.values(), ids=PROGRAMS)
def test_densities_are_those_of_the_program(case):
    program, *arguments = case
    model, data = GraphicalModel.from_pyro(program, *arguments)
    state = DCPC(model, num_particles=3).init(data, batch_size=1, seed=0)
    natural = state.natural
    for k in range(3):
        values = {n: v[min(k, v.shape[0] - 1), 0] for n, v in natural.items()}
        trace = pyro.poutine.trace(pyro.condition(program, data=values)).get_trace(*arguments)
        trace.compute_log_prob()
        for name, site in model.sites.items():
            found = site.kernel(*(natural[p] for p in site.parents)).log_prob(natural[name])
            expected = trace.nodes[name]["log_prob"]
            assert torch.allclose(found[min(k, found.shape[0] - 1), 0], expected, atol=1e-5)


def test_parents_are_what_the_density_reads():
    model, data = GraphicalModel.from_pyro(*PROGRAMS["loop"])
    assert {n: s.parents for n, s in model.sites.items()} == {
        **{"s0": (), "y0": ("s0",)},
        **{f"s{t}": (f"s{t - 1}",) for t in range(1, 4)},
        **{f"y{t}": (f"s{t}",) for t in range(1, 4)},
    }
    assert set(data) == {f"y{t}" for t in range(4)}
    model, _ = GraphicalModel.from_pyro(*PROGRAMS["regression"])
    assert model.sites["y"].parents == ("scale", "weights")


FAMILIES = {
    "beta": lambda p: dist.Beta(p, 2.0),
    "cauchy": lambda p: dist.Cauchy(p, 2.0),
    "exponential": lambda p: dist.Exponential(p),
    "gamma": lambda p: dist.Gamma(p, 2.0),
    "half Cauchy": lambda p: dist.HalfCauchy(p),
    "Laplace": lambda p: dist.Laplace(p, 2.0),
    "multivariate": lambda p: dist.MultivariateNormal(p * torch.ones(1), torch.eye(1)),
    "Student": lambda p: dist.StudentT(4.0, p, 2.0),
    "uniform": lambda p: dist.Uniform(p - p, p / p),
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_draws_follow_the_statement(family):
    """Kolmogorov-Smirnov against the family's own draws, transformed: each particle and datum draws for itself."""

    def program():
        pyro.sample("x", family(pyro.sample("p", dist.Gamma(50.0, 40.0))))

    model, _ = GraphicalModel.from_pyro(program)
    torch.manual_seed(0)
    parent = torch.full((2000, 2), 1.3)
    drawn = model.sites["x"].kernel(parent).sample().reshape(2000, 2)
    expected = family(torch.tensor(1.3)).sample((20000,)).reshape(-1)
    assert drawn.unique().numel() > 3900
    assert kstest(drawn.flatten().numpy(), expected.numpy()).pvalue > 1e-6
    assert abs(torch.corrcoef(drawn.T)[0, 1]) < 5 / math.sqrt(2000)


def test_conjugate_counts():
    def program(coins, counts):
        p = pyro.sample("p", dist.Beta(2.0, 3.0))
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("coins", len(coins)):
            pyro.sample("coin", dist.Bernoulli(p), obs=coins)
        with pyro.plate("counts", len(counts)):
            pyro.sample("count", dist.Poisson(rate), obs=counts)

    coins = torch.tensor([1.0, 1, 0, 1, 1, 0])
    counts = torch.tensor([4.0, 2.0])
    found = imported_posterior(
        GraphicalModel.from_pyro(program, coins, counts), names=["p", "rate"]
    )
    assert agrees(found["p"], 6 / 11)
    assert agrees(found["p"].square(), 6 * 7 / (11 * 12))
    assert agrees(found["rate"], 8 / 3, floor=0.01)


def test_linear_regression():
    _, x, y = PROGRAMS["regression"]

    def program(x, y):
        weights = pyro.sample("weights", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x @ weights, 0.7), obs=y)

    covariance = torch.linalg.inv(torch.eye(3).double() + x.double().T @ x.double() / 0.49)
    mean = covariance @ x.double().T @ y.double() / 0.49
    found = imported_posterior(GraphicalModel.from_pyro(program, x, y), names=["weights"])[
        "weights"
    ]
    assert agrees(found, mean)
    outer = found.unsqueeze(-1) * found.unsqueeze(-2)
    assert agrees(outer, covariance + torch.outer(mean, mean), floor=0.01)


def test_state_space_loop_against_the_smoother():
    _, y = PROGRAMS["loop"]
    precision = torch.diag(torch.tensor([1.0, *[1 / 0.09] * 3]).double() + 4)
    for t in range(3):
        precision[t, t] += 0.81 / 0.09
        precision[t, t + 1] = precision[t + 1, t] = -0.9 / 0.09
    covariance = precision.inverse()
    mean = covariance @ (4 * y.double())
    found = imported_posterior(GraphicalModel.from_pyro(chain, y), names=["s0", "s1", "s2", "s3"])
    states = torch.stack([found[f"s{t}"] for t in range(4)], -1)
    assert agrees(states, mean, floor=0.01)
    assert agrees(states[..., 1] * states[..., 2], covariance[1, 2] + mean[1] * mean[2], floor=0.01)


def test_mixture_assignments_against_enumeration():
    _, y = PROGRAMS["mixture"]
    model, _ = GraphicalModel.from_pyro(mixture, y)
    assert ("which",) in model.conditionals  # one draw for the whole plate
    likelihood = dist.Normal(LOCATIONS, 1.0).log_prob(y.unsqueeze(-1)).exp().double()
    paths = torch.cartesian_prod(*[torch.arange(3)] * 5)
    counts = torch.nn.functional.one_hot(paths, 3).sum(1).double()
    prior = torch.lgamma(counts + 1).sum(1).exp() * 2 / math.factorial(7)
    joint = prior * likelihood[torch.arange(5), paths].prod(1)
    joint = joint / joint.sum()
    found = imported_posterior(GraphicalModel.from_pyro(mixture, y), names=["which", "weights"])
    for m in range(3):
        assert agrees((found["which"] == m).double(), ((paths == m) * joint[:, None]).sum(0))
    assert agrees(found["weights"], (joint[:, None] * (counts + 1) / 8).sum(0))


def test_nested_plates_against_the_joint_precision():
    _, y = PROGRAMS["nested plates"]
    precision = torch.diag(torch.tensor([4.0, 17.0, 17.0, 17.0]).double())
    precision[0, 1:] = precision[1:, 0] = -1
    mean = precision.inverse() @ torch.cat([torch.zeros(1), 4 * y.sum(1)]).double()
    found = imported_posterior(
        GraphicalModel.from_pyro(nested, y), names=["mu", "group"], sweeps=300
    )
    assert found["group"].shape[3:] == (3, 1)
    assert agrees(found["mu"], mean[0], floor=0.01)
    assert agrees(found["group"].squeeze(-1), mean[1:], floor=0.01)


def test_parameters_are_learnable():
    def program(y):
        scale = pyro.param("scale", torch.tensor(2.0), constraint=dist.constraints.positive)
        z = pyro.sample("z", dist.Normal(0.0, scale))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    with pyro.get_param_store().scope():
        model, _ = GraphicalModel.from_pyro(program, torch.tensor(1.0))
    (parameter,) = model.parameters()
    z = torch.tensor([[0.5]])
    log_prob = model.sites["z"].kernel().log_prob(z)
    assert torch.allclose(log_prob, dist.Normal(0.0, 2.0).log_prob(z))
    (gradient,) = torch.autograd.grad(log_prob.sum(), [parameter])
    # d/d log scale of log N(z; 0, scale)
    assert torch.allclose(gradient, torch.tensor(-1 + 0.25 / 4))


def branching(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(0.0 if z > 0 else 1.0, 1.0), obs=y)


def subsampled(y):
    with pyro.plate("data", 4, subsample_size=2):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def growing(y):
    growing.calls = getattr(growing, "calls", 0) + 1
    pyro.sample(f"z{growing.calls}", dist.Normal(0.0, 1.0))


def moving_support(y):
    top = pyro.sample("top", dist.Gamma(2.0, 1.0))
    pyro.sample("z", dist.Uniform(0.0, top))


@pytest.mark.parametrize(
    "program, sentence",
    [
        (branching, "reads the numbers in a latent"),
        (subsampled, "'z' is subsampled"),
        (growing, "differ from run to run"),
        (moving_support, "'z': its support depends"),
    ],
)
def test_programs_without_static_structure_are_refused(program, sentence):
    with pytest.raises(ModelError, match=sentence):
        GraphicalModel.from_pyro(program, torch.zeros(2))
