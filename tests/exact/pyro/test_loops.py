"""Loops of Pyro programs: statements that do the same are one site, with the densities and posteriors of the loop.

Against Pyro's own densities, forward-backward recursions and closed forms; posteriors within 5 Monte
Carlo standard errors from independent clouds (see `clouds.agrees`); seeds are fixed.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from clouds import agrees, imported_posterior

from aif_dcpc.inference import DCPC, GraphicalModel

torch.manual_seed(2)
Y = torch.randn(10)
STEP = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.1, 0.6]])
LEVELS = torch.tensor([-1.0, 0.5, 2.0])


def effects(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    for i in pyro.plate("data", len(y)):
        z = pyro.sample(f"z_{i}", dist.Normal(mu, 2.0))
        pyro.sample(f"y_{i}", dist.Normal(z, 1.0), obs=y[i])


def walk(y):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
    z = pyro.sample("z_0", dist.Normal(0.0, 1.0))
    for t in range(len(y)):
        z = pyro.sample(f"z_{t + 1}", dist.Normal(0.9 * z, scale))
        pyro.sample(f"y_{t}", dist.Normal(z + y.sum() * t, torch.tensor(1.0 + t)), obs=y[t])


def hidden_markov(y):
    x = 0
    for t in pyro.markov(range(len(y))):
        x = pyro.sample(f"x_{t}", dist.Categorical(STEP[x]))
        pyro.sample(f"y_{t}", dist.Normal(LEVELS[x], 1.0), obs=y[t])


def many_chains(y):
    """Chains in a plate, each seen twice a step."""
    with pyro.plate("chains", 2, dim=-1):
        x = torch.zeros(2, dtype=torch.long)
        for t in pyro.markov(range(9)):
            x = pyro.sample(f"x_{t}", dist.Categorical(STEP[x]))
            with pyro.plate(f"twice_{t}", 2, dim=-2):
                pyro.sample(f"y_{t}", dist.Normal(LEVELS[x], 2.0), obs=y[t] + torch.eye(2))


def coins(y):
    p = pyro.sample("p", dist.Beta(2.0, 3.0))
    for i in range(len(y)):
        which = pyro.sample(f"which_{i}", dist.Bernoulli(p))
        pyro.sample(f"y_{i}", dist.Normal(2 * which, 1.0), obs=y[i])


def autoregression(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    for t in range(1, len(y)):
        pyro.sample(f"y_{t}", dist.Normal(a * y[t - 1], 1.0), obs=y[t])


def read_observations(y):
    """Observed statements that read each other."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    before = pyro.sample("y_0", dist.Normal(0.0, 1.0), obs=y[0])
    for t in range(1, len(y)):
        before = pyro.sample(f"y_{t}", dist.Normal(a * before, 1.0), obs=y[t])


def feedback(y):
    """States and actions in turn: neither loop can be one site beside the other."""
    s = pyro.sample("s_0", dist.Normal(0.0, 1.0))
    for t in range(9):
        a = pyro.sample(f"a_{t}", dist.Normal(-s, 0.5))
        s = pyro.sample(f"s_{t + 1}", dist.Normal(s + a.tanh(), 0.3))
        pyro.sample(f"y_{t}", dist.Normal(s, 1.0), obs=y[t])


PROGRAMS = [
    effects,
    walk,
    hidden_markov,
    many_chains,
    coins,
    autoregression,
    read_observations,
    feedback,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_densities_are_those_of_the_program(program):
    """The log joint of a model at its own draws, against the sum of Pyro's."""
    model, data = GraphicalModel.from_pyro(program, Y)
    state = DCPC(model, num_particles=4).init(data, seed=0)
    trace = pyro.poutine.trace(program).get_trace(Y)
    names = [n for n in trace.stochastic_nodes if n in model.sites and n != "data"]
    values = {name: state.value(name) for name in names}
    natural = state.natural
    joint = 0.0
    for site in (s for s in model.sites.values() if s.kind == "stochastic"):
        parents = [state.value(str(p)) for p in site.parents]
        found = site.kernel(*parents).log_prob(natural[site.name])
        joint = joint + found.flatten(2).sum(2)[:, 0] if found.ndim > 2 else joint + found[:, 0]
    for k in range(4):
        here = {name: value[k, 0] for name, value in values.items()}
        expected = pyro.poutine.trace(pyro.condition(program, data=here)).get_trace(Y)
        assert math.isclose(joint[k], expected.log_prob_sum(), rel_tol=1e-4, abs_tol=1e-4)


def test_statements_of_a_loop_are_one_site_and_keep_their_names():
    model, data = GraphicalModel.from_pyro(effects, Y)
    assert [n for n, s in model.sites.items() if s.kind == "stochastic"] == ["mu", "z_*", "y_*"]
    assert torch.equal(data["y_*"], Y[None])
    state = DCPC(model).init(data, seed=0)
    assert torch.equal(state.value("z_3"), state.particles["z_*"][:, :, 3])
    model, _ = GraphicalModel.from_pyro(effects, Y[:7])
    assert "z_*" not in model.sites and model.sites["z_3"].kind == "stochastic"
    model, _ = GraphicalModel.from_pyro(feedback, Y)
    stacked = {n for n, s in model.sites.items() if s.kind == "stochastic" and "*" in n}
    assert "y_*" in stacked and not {"s_*", "a_*"} <= stacked


def test_independent_effects():
    """mu given y is Normal(10 mean(y) / 5 / (1 + 10 / 5), 1 / 3)."""
    found = imported_posterior(GraphicalModel.from_pyro(effects, Y), names=["mu", "z_4"])
    mean = Y.double().sum() / 5 / 3
    assert agrees(found["mu"], mean, floor=0.01)
    assert agrees((found["mu"] - mean).square(), 1 / 3, floor=0.02)
    assert agrees(found["z_4"], mean + 0.8 * (Y[4].double() - mean), floor=0.01)


def smoothed(scores):
    """Marginals `(T, S)` of a chain that starts from state 0, and its log evidence."""
    step = STEP.double()
    forward = [step[0] * scores[0].exp()]
    for score in scores[1:]:
        forward.append(forward[-1] @ step * score.exp())
    backward = torch.ones(3).double()
    marginals = [forward[-1]]
    for t in range(len(scores) - 2, -1, -1):
        backward = step @ (backward * scores[t + 1].exp())
        marginals.append(forward[t] * backward)
    found = torch.stack(marginals[::-1])
    return found / found.sum(1, keepdim=True), forward[-1].sum().log()


def test_a_hidden_markov_loop_is_drawn_at_once():
    model, data = GraphicalModel.from_pyro(hidden_markov, Y)
    assert ("x_*",) in model.conditionals
    scores = dist.Normal(LEVELS, 1.0).log_prob(Y[:, None]).double()
    expected, evidence = smoothed(scores)
    names = [f"x_{t}" for t in range(10)]
    found = imported_posterior((model, data), names=names, sweeps=60, warmup=10)
    states = torch.stack([found[name] for name in names], -1)
    for value in range(3):
        assert agrees((states == value).double(), expected[:, value])
    assert abs(DCPC(model, num_particles=64).log_evidence(data) - evidence) < 0.1


def test_missing_data_of_a_loop():
    """Step 4 is not seen."""
    model, data = GraphicalModel.from_pyro(hidden_markov, Y)
    scores = dist.Normal(LEVELS, 1.0).log_prob(Y[:, None]).double()
    scores[4] = 0.0
    expected, _ = smoothed(scores)
    shown = torch.ones_like(data["y_*"], dtype=torch.bool)
    shown[0, 4 - 10] = False  # the first statements may stand apart
    found = imported_posterior(
        (model, data), names=["x_4", "x_5"], sweeps=60, warmup=10, masks={"y_*": shown}
    )
    for value in range(3):
        assert agrees((found["x_4"] == value).double(), expected[4, value])
        assert agrees((found["x_5"] == value).double(), expected[5, value])


def test_chains_in_a_plate():
    model, data = GraphicalModel.from_pyro(many_chains, Y)
    assert ("x_*",) in model.conditionals
    found = imported_posterior((model, data), names=["x_3", "x_8"], sweeps=60, warmup=10)
    for chain in range(2):
        seen = (Y[:9, None] + torch.eye(2)[:, chain]).double()
        scores = dist.Normal(LEVELS.double(), 2.0).log_prob(seen[..., None]).sum(1)
        expected, _ = smoothed(scores)
        for t in (3, 8):
            for value in range(3):
                assert agrees((found[f"x_{t}"][..., chain] == value).double(), expected[t, value])


def test_independent_coins():
    model, data = GraphicalModel.from_pyro(coins, Y)
    assert ("which_*",) in model.conditionals
    grid = ((torch.arange(4000) + 0.5) / 4000).double()[:, None]
    one = grid.log() + dist.Normal(2.0, 1.0).log_prob(Y)
    zero = (1 - grid).log() + dist.Normal(0.0, 1.0).log_prob(Y)
    joint = torch.logaddexp(one, zero)
    weights = torch.softmax(joint.sum(1) + grid[:, 0].log() + 2 * (1 - grid[:, 0]).log(), 0)
    expected = (weights[:, None] * (one - joint).exp()).sum(0)
    names = [f"which_{i}" for i in range(10)]
    found = imported_posterior((model, data), names=names)
    assert agrees(torch.stack([found[n] for n in names], -1).double(), expected, floor=0.01)


def test_parameters_in_a_loop_stay_one():
    def program(y):
        scale = pyro.param("scale", torch.tensor(2.0))
        for i in range(len(y)):
            z = pyro.sample(f"z_{i}", dist.Normal(0.0, scale))
            pyro.sample(f"y_{i}", dist.Normal(z, 1.0), obs=y[i])

    with pyro.get_param_store().scope():
        model, _ = GraphicalModel.from_pyro(program, Y)
    assert "z_*" in model.sites
    assert len(list(model.parameters())) == 1
    (parameter,) = model.parameters()
    z = Y[None, None]
    log_prob = model.sites["z_*"].kernel().log_prob(z)
    (gradient,) = torch.autograd.grad(log_prob.sum(), [parameter])
    expected = (Y.square() / 8 - 1 / 2).sum()  # d/ds of sum log N(z; 0, s) at s = 2
    assert torch.allclose(gradient, expected, atol=1e-5)
