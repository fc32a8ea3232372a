"""Fused loops in standardised coordinates, and loops that read each other: densities, charts, posteriors.

Against Pyro's own densities, quadrature and linear algebra; posteriors within 5 Monte Carlo standard
errors of chains (`clouds.off`) at fixed seeds.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from clouds import agrees, imported_posterior, off

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival.block_sampler import charts_of
from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.elements import names_of_elements
from aif_dcpc.inference.model.supports import base_law
from aif_dcpc.inference.queries.law import law

EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
Y = torch.tensor([0.3, -0.2, 0.6, 1.1, 0.7, 1.6, 1.2, 0.4, 0.9, 0.1, -0.5, -0.1])


def schools(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfNormal(5.0))
    for i in range(len(y)):
        theta = pyro.sample(f"theta_{i}", dist.Normal(mu, tau))
        pyro.sample(f"y_{i}", dist.Normal(theta, ERRORS[i]), obs=y[i])


def walk(y):
    scale = pyro.sample("scale", dist.LogNormal(-1.0, 1.0))
    z = pyro.sample("z_0", dist.Normal(0.0, 1.0))
    for t in range(len(y)):
        z = pyro.sample(f"z_{t + 1}", dist.Normal(z, scale))
        pyro.sample(f"y_{t}", dist.Normal(z, 0.5), obs=y[t])


def second_order(y):
    """x_t follows from the two before it."""
    before = pyro.sample("x_0", dist.Normal(0.0, 1.0))
    x = pyro.sample("x_1", dist.Normal(0.0, 1.0))
    for t in range(2, len(y)):
        new = pyro.sample(f"x_{t}", dist.Normal(1.2 * x - 0.4 * before, 0.6))
        before = x
        x = new
        pyro.sample(f"y_{t}", dist.Normal(x, 0.5), obs=y[t])


def pair(y):
    """A loop that carries two numbers, each read by both."""
    spread = pyro.sample("spread", dist.LogNormal(-1.0, 0.5))
    carried = (torch.tensor(0.0), torch.tensor(0.0))
    for t in range(len(y)):
        a = pyro.sample(f"a_{t}", dist.Normal(0.8 * carried[0] + 0.5 * carried[1], spread))
        b = pyro.sample(f"b_{t}", dist.Normal(0.8 * carried[1] - 0.5 * carried[0], 0.4))
        carried = (a, b)
        pyro.sample(f"y_{t}", dist.Normal(a + b, 0.5), obs=y[t])


def triple(y):
    """Three of them, in a plate, the second within its step."""
    a = b = c = torch.zeros(2)
    with pyro.plate("series", 2):
        for t in range(9):
            a = pyro.sample(f"a_{t}", dist.Normal(0.5 * a + 0.1 * c, 1.0))
            b = pyro.sample(f"b_{t}", dist.Normal((a - b).tanh(), 0.5))
            c = pyro.sample(f"c_{t}", dist.Laplace(0.3 * b + 0.2 * c, 0.7))
            pyro.sample(f"y_{t}", dist.Normal(a + b + c, 1.0), obs=y[t])


def block_of(program, y):
    model, data = GraphicalModel.from_pyro(program, y)
    return Block.of(DCPC(model, num_particles=3).init(data, seed=0))


@pytest.mark.parametrize(
    ("program", "site", "location", "scale"),
    [(schools, "theta_*", "mu", "tau"), (walk, "z_*", "z_0", "scale")],
    ids=["schools", "walk"],
)
def test_a_fused_loop_is_standardised_as_a_whole(program, site, location, scale):
    """Its coordinate is (value - location) / scale, that of a walk from where it starts."""
    block = block_of(program, EFFECTS if program is schools else Y)
    assert set(charts_of(block)) == {"declared", "standardised"}
    state = block.state
    flat = block.flatten(state.values)
    found = block.unflatten(block.to_standardised(flat))[site]
    expected = (state.value(site) - state.value(location)[..., None]) / state.value(scale)[
        ..., None
    ]
    assert torch.allclose(found, expected, atol=1e-4)
    back, log_det = block.to_declared(block.to_standardised(flat))
    assert torch.allclose(back, flat, atol=1e-4)
    number = expected.shape[-1]
    rest = log_det - number * state.value(scale).log()  # of the other sites, whose scales are fixed
    assert torch.allclose(rest, rest[:1].expand_as(rest), atol=1e-3)


def schools_by_quadrature():
    """E mu, E tau and E theta_0 under the posterior of the hierarchy."""
    mu = torch.linspace(-25, 30, 551).double()[:, None, None]
    tau = (torch.arange(400) + 0.5).double()[None, :, None] * 0.1
    wide = ERRORS.double().square() + tau.square()
    height = -0.5 * ((EFFECTS.double() - mu).square() / wide + wide.log()).sum(-1)
    height = height - mu[..., 0].square() / 50 - tau[..., 0].square() / 50
    weights = torch.softmax(height.flatten(), 0).reshape(height.shape)
    own = tau[..., 0].square() / (tau[..., 0].square() + ERRORS[0].double() ** 2)
    theta = mu[..., 0] + own * (EFFECTS[0].double() - mu[..., 0])
    return [(weights * x).sum() for x in (mu[..., 0], tau[..., 0], theta)]


def test_centred_schools_in_a_loop():
    model, data = GraphicalModel.from_pyro(schools, EFFECTS)
    draws = DCPC(model).sample(data, seed=0)
    assert not draws.warnings
    expected = schools_by_quadrature()
    for name, mean in zip(("mu", "tau", "theta_0"), expected, strict=True):
        assert off(draws[name][..., 0], mean) < 5


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (second_order, ["x_0", "x_1", "x_*"]),
        (pair, ["spread", "a_0", "b_0", "a_*+b_*"]),
        (triple, ["a_0", "b_0", "c_0", "a_*+b_*+c_*"]),
    ],
    ids=["second order", "pair", "triple"],
)
def test_loops_that_read_their_past_are_one_site_of_the_programs_density(program, expected):
    model, data = GraphicalModel.from_pyro(program, Y)
    state = DCPC(model, num_particles=3).init(data, seed=1)
    assert list(state.conditioning.latent) == expected
    joint = DCPC(model).log_joint(state)
    for name in state.conditioning.latent:
        if name in state.conditioning.bijections:
            bijection = state.conditioning.bijections[name]
            z = state.values[name]
            joint = joint - bijection.log_abs_det_jacobian(z, bijection(z)).reshape(3, 1)
    trace = pyro.poutine.trace(program).get_trace(Y)
    names = [n for n in trace.stochastic_nodes if n in model.sites]
    for k in range(3):
        here = {name: state.value(name)[k, 0] for name in names}
        there = pyro.poutine.trace(pyro.condition(program, data=here)).get_trace(Y)
        assert math.isclose(joint[k, 0], there.log_prob_sum(), rel_tol=1e-4, abs_tol=1e-3)


def test_densities_of_statements_stand_in_the_order_of_the_program():
    """Each against the law of the statement by its own name."""
    model, data = GraphicalModel.from_pyro(pair, Y)
    state = DCPC(model, num_particles=3).init(data, seed=1)
    name = "a_*+b_*"
    statements = names_of_elements(model.sites, name)
    assert statements[:4] == ["a_1", "b_1", "a_2", "b_2"]
    found = base_law(law(state, name)).log_prob(state.value(name))
    for index, statement in enumerate(statements):
        expected = law(state, statement).log_prob(state.value(statement))
        assert torch.allclose(found[..., index], expected, atol=1e-5)


def test_second_order_states_are_those_of_linear_algebra():
    model, data = GraphicalModel.from_pyro(second_order, Y)
    size = len(Y)
    precision = torch.zeros(size, size).double()
    linear = torch.zeros(size).double()
    precision[0, 0] = precision[1, 1] = 1.0
    for t in range(2, size):
        step = torch.zeros(size).double()
        step[t] = 1.0
        step[t - 1] = -1.2
        step[t - 2] = 0.4
        precision += step.outer(step) / 0.36
        precision[t, t] += 4.0
        linear[t] = 4 * Y[t].double()
    expected = torch.linalg.solve(precision, linear)
    names = [f"x_{t}" for t in range(size)]
    found = imported_posterior((model, data), names=names, sweeps=200, warmup=100)
    assert agrees(torch.stack([found[n] for n in names], -1), expected, floor=0.01)
