"""Statements of a loop keep their names: data, masks, interventions, particles and results, by one's own names.

Posteriors against enumeration of all paths and closed forms, within 5 Monte Carlo standard errors
from independent clouds (see `clouds.agrees`); seeds are fixed.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from clouds import agrees, imported_posterior

from aif_dcpc.inference import DCPC, ClampError, GraphicalModel, ModelError, MoveError
from aif_dcpc.inference.queries.law import law

torch.manual_seed(4)
Y = torch.randn(9)
STEP = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
LEVELS = torch.tensor([-1.0, 1.0])


def effects(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    total = 0.0
    for i in range(len(y)):
        z = pyro.sample(f"z_{i}", dist.Normal(mu, 2.0))
        pyro.sample(f"y_{i}", dist.Normal(z, 1.0), obs=y[i])
        total = total + z
    pyro.deterministic("total", total)


def hidden_markov(y):
    x = 0
    for t in pyro.markov(range(len(y))):
        x = pyro.sample(f"x_{t}", dist.Categorical(STEP[x]))
        pyro.sample(f"y_{t}", dist.Normal(LEVELS[x], 1.0), obs=y[t])


def walk(y):
    z = pyro.sample("z_0", dist.Normal(0.0, 1.0))
    for t in range(1, len(y)):
        z = pyro.sample(f"z_{t}", dist.Normal(z, 0.8))
        pyro.sample(f"y_{t}", dist.Normal(z, 1.0), obs=y[t])


def autoregression(y):
    """Observed statements that read each other."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    before = pyro.sample("y_0", dist.Normal(0.0, 1.0), obs=y[0])
    for t in range(1, len(y)):
        before = pyro.sample(f"y_{t}", dist.Normal(a * before, 1.0), obs=y[t])


def one(value):
    return torch.tensor([value])


@pytest.fixture(scope="module")
def imported():
    return GraphicalModel.from_pyro(effects, Y)


def test_data_by_their_own_names_are_the_data_of_the_loop(imported):
    model, data = imported
    assert torch.equal(data["y_3"], Y[3:4])
    assert "y_3" not in data
    engine = DCPC(model, num_particles=2)
    named = {f"y_{i}": data[f"y_{i}"] for i in reversed(range(9))}
    state = engine.init(named, seed=0)
    assert torch.equal(state.values["y_*"], data["y_*"][None]) and not state.masks
    changed = engine.init({**data, "y_3": one(7.0)}, seed=0).values["y_*"][0, 0]
    assert changed[3] == 7.0 and torch.equal(changed[4:], Y[4:])


def test_what_is_not_given_of_a_loop_is_missing(imported):
    model, data = imported
    engine = DCPC(model, num_particles=2)
    shown = torch.ones(1, 1, 9, dtype=torch.bool)
    shown[..., 3] = False
    rest = {f"y_{i}": Y[i : i + 1] for i in range(9) if i != 3}
    assert torch.equal(engine.init(rest, seed=0).masks["y_*"], shown)
    masks = {"y_3": one(False)}
    assert torch.equal(engine.init(data, masks=masks, seed=0).masks["y_*"], shown)
    both = {"y_*": shown[0].roll(1), **masks}
    found = engine.init(data, masks=both, seed=0).masks["y_*"]
    assert torch.equal(found, shown & shown.roll(1))


def test_a_missing_observation_that_others_read_is_inferred():
    """y_4 given a is Normal(a (y_3 + y_5) / (1 + a^2), 1 / (1 + a^2)); a by quadrature."""
    model, _ = GraphicalModel.from_pyro(autoregression, Y)
    given = {f"y_{i}": Y[i : i + 1] for i in range(9) if i != 4}
    y = Y.double()
    a = torch.linspace(-5, 5, 4001).double()
    height = -0.5 * a.square()
    for t in range(1, 9):
        if t not in (4, 5):
            height = height - 0.5 * (y[t] - a * y[t - 1]).square()
    wide = 1 + a.square()
    height = height - 0.5 * (y[5] - a.square() * y[3]).square() / wide - 0.5 * wide.log()
    weights = torch.softmax(height, 0)
    found = imported_posterior((model, given), names=["a", "y_4"], sweeps=200, warmup=100)
    assert agrees(found["a"], (weights * a).sum(), floor=0.01)
    assert agrees(found["y_4"], (weights * a * (y[3] + y[5]) / wide).sum(), floor=0.01)


def paths(*, cut=None):
    """All paths `(2 ** 9, 9)` and their log densities; step `cut` is set, not drawn."""
    x = torch.cartesian_prod(*[torch.arange(2)] * 9)
    before = torch.cat([torch.zeros(len(x), 1).long(), x[:, :-1]], 1)
    steps = STEP.double()[before, x].log()
    if cut is not None:
        steps[:, cut] = 0.0
    seen = dist.Normal(LEVELS[x], 1.0).log_prob(Y).double()
    return x, (steps + seen).sum(1)


@pytest.mark.parametrize("how", ["data", "do"])
def test_a_hidden_state_is_observed_or_set(how):
    model, data = GraphicalModel.from_pyro(hidden_markov, Y)
    x, height = paths(cut=4 if how == "do" else None)
    weights = torch.softmax(height.masked_fill(x[:, 4] != 1, -math.inf), 0)
    names = [f"x_{t}" for t in range(9)]
    value = {"x_4": one(1)}
    given = ({**data, **value}, {}) if how == "data" else (data, {"do": value})
    found = imported_posterior((model, given[0]), names=names, sweeps=80, warmup=10, **given[1])
    states = torch.stack([found[name] for name in names], -1).double()
    assert agrees(states, (weights[:, None] * x).sum(0))


def test_a_step_of_a_walk_is_set():
    """Before it, the walk is smoothed without it; after it, it starts from there."""
    model, data = GraphicalModel.from_pyro(walk, Y)
    precision = torch.zeros(9, 9).double()
    linear = torch.zeros(9).double()
    precision[0, 0] = 1.0
    for t in range(1, 9):
        precision[t, t] += 1.0
        linear[t] += Y[t].double()
        if t != 4:
            step = torch.zeros(9).double()
            step[t] = 1.0
            step[t - 1] = -1.0
            precision += step.outer(step) / 0.64
    free = [t for t in range(9) if t != 4]
    shift = linear[free] - precision[free, 4] * 2.0
    expected = torch.linalg.solve(precision[free][:, free], shift)
    names = [f"z_{t}" for t in free]
    do = {"z_4": one(2.0)}
    found = imported_posterior((model, data), names=names, sweeps=200, warmup=100, do=do)
    assert agrees(torch.stack([found[n] for n in names], -1), expected, floor=0.01)


def test_results_by_ones_own_names(imported):
    model, data = imported
    engine = DCPC(model, num_particles=4)
    state = engine.init(data, particles={"z_3": torch.ones(4, 1)}, seed=0)
    assert torch.equal(state.particles["z_3"], torch.ones(4, 1))
    assert torch.equal(state.particles["z_2"], state.particles["z_*"][..., 2])
    assert engine.predict(state)["y_3"].shape == (4, 1)
    log_prob = law(state, "y_3").log_prob(torch.zeros(4, 1))
    assert torch.allclose(log_prob, dist.Normal(1.0, 1.0).log_prob(torch.zeros(4, 1)))
    draws = engine.sample(data, num_particles=8, seed=0)
    assert torch.equal(draws["z_3"], draws["z_*"][..., 3])
    assert torch.allclose(draws["total"], draws["z_*"].sum(-1), atol=1e-4)
    labels = [label for label, _ in draws.summary()]
    assert labels == ["mu", *(f"z_{i}" for i in range(9))]
    with pytest.raises(ModelError, match="'y_\\*' was given"):
        draws["y_*"]
    with pytest.raises(ModelError, match="unknown site 'z_99'"):
        draws["z_99"]


def test_names_of_elements_are_refused_where_only_whole_sites_can_be_named(imported):
    model, data = imported
    engine = DCPC(model, num_particles=2)
    state = engine.init(data, seed=0)
    with pytest.raises(ClampError, match="element 3 of site 'z_\\*'"):
        engine.run(state, 1, do={"z_3": one(0.0)})
    state, _ = engine.run(state, 1, do={f"z_{i}": one(float(i)) for i in range(9)})
    assert torch.equal(state.values["z_*"].flatten(), torch.arange(9.0))
    with pytest.raises(MoveError, match=r"moves=.'z_\*'"):
        DCPC(model, moves={"z_3": "mala"})
    with pytest.raises(ClampError, match="a mask needs data"):
        engine.init(data, masks={"z_3": one(True)})
    with pytest.raises(ClampError, match="'z_\\*' and need one shape"):
        engine.init({"z_1": one(0.0), "z_2": one(0.0)[None]})
    with pytest.raises(ClampError, match="expected a tensor"):
        engine.init({"z_1": 0.0})
    with pytest.raises(ClampError, match=r"\(B, 9\)"):
        engine.init({"y_*": Y[:8][None], "y_3": one(0.0)})
    with pytest.raises(ClampError, match="mask of site 'y_3': expected bool"):
        engine.init(data, masks={"y_3": one(1.0)})
    with pytest.raises(ClampError, match="append: site 'y_3'"):
        engine.append(state, {"y_3": one(0.0)})
    with pytest.raises(ClampError, match="append: site 'y_\\*' is a site without time"):
        engine.append(state, {"y_*": Y[None]})
    with pytest.raises(ClampError, match="particles of site 'z_3'"):
        engine.init(data, particles={"z_3": torch.ones(3, 1)})
