"""`run` arrives by itself: clouds that sweeps from the prior leave apart, against closed forms; all others are left alone."""

import warnings

import pytest
import torch
from clouds import close
from models import gaussian_pair, random_walk
from torch.distributions import Bernoulli, HalfCauchy, Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival.cloud import arrived
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.model.state import POSTERIOR, PRIOR


def vague_pair(scale, dtype=torch.float32):
    """z ~ Normal(0, scale), x ~ Normal(z, 1)."""
    model = GraphicalModel()
    zero = torch.zeros((), dtype=dtype)
    model.add_site("z", lambda: Normal(zero, scale))
    model.add_site("x", lambda z: Normal(z, 1.0), ["z"])
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e3, 1e4, 1e6])
def test_vague_priors_are_no_obstacle(scale, dtype):
    """Variance s^2 / (1 + s^2), mean x times that; a warning would be an error."""
    engine = DCPC(vague_pair(scale, dtype), num_particles=400)
    state, _ = engine.run(engine.init({"x": torch.ones(1, dtype=dtype)}, seed=0), 100)
    variance = scale**2 / (1 + scale**2)
    assert close(state.particles["z"], variance, variance)
    assert state.sweeps == 100
    if scale == 1e6:
        assert state.origin == POSTERIOR
        again, _ = engine.run(state, 20)
        assert again.origin == POSTERIOR


def test_a_regression_with_vague_priors():
    """Least squares: with 400 rows and a prior of sd 1,000 the posterior is Gaussian around it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.stack([torch.ones(400), torch.randn(400, generator=generator)], 1)
    y = 20 * (2 + 0.5 * x[:, 1] + torch.randn(400, generator=generator))
    model = GraphicalModel()
    model.add_site("b", lambda: Independent(Normal(torch.zeros(2), 1000.0), 1))
    model.add_site("s", lambda: HalfCauchy(torch.tensor(20.0)))
    model.add_site("y", lambda b, s: Independent(Normal(b @ x.T, s[..., None]), 1), ["b", "s"])
    engine = DCPC(model, num_particles=200)
    state, _ = engine.run(engine.init({"y": y[None]}, seed=0), 100)
    solution = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    noise = (y - x @ solution).square().sum() / 398
    covariance = noise * torch.linalg.inv(x.T @ x)
    for i in range(2):
        assert close(state.particles["b"][..., i], solution[i], covariance[i, i])


def stuck_pair():
    """b copies a but for one time in 1e7, so that no move of one site leads from (0, 0) to (1, 1)."""
    model = GraphicalModel()
    model.add_site("a", lambda: Bernoulli(torch.tensor(0.5)))
    model.add_site("b", lambda a: Bernoulli(1e-7 + (1 - 2e-7) * a), ["a"])
    model.add_site("x", lambda b: Bernoulli(0.1 + 0.8 * b), ["b"])
    return model


def test_discrete_sites_that_hold_each_other():
    """P(a | x = 1) = .9; by their own moves 1,000 particles stay where the prior put them, half at 0."""
    engine = DCPC(stuck_pair(), num_particles=1000)
    state, _ = engine.run(engine.init({"x": torch.ones(1)}, seed=0), 250)
    assert abs(float(state.particles["a"].mean()) - 0.9) < 5 * 0.3 / 1000**0.5
    state, _ = engine.run(state, 250)  # where it came from is known: no warning for standing still
    assert abs(float(state.particles["a"].mean()) - 0.9) < 5 * 0.3 / 1000**0.5


def test_the_machinery_says_what_it_could_not_do():
    """|z| is seen: two modes, whose weights no draw of the machinery tells."""
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 3.0))
    model.add_site("x", lambda z: Normal(z.abs(), 0.1), ["z"])
    engine = DCPC(model, num_particles=16)
    with pytest.warns(ConvergenceWarning, match="several modes.*engine.temper"):
        state, _ = engine.run(engine.init({"x": torch.full((2,), 3.0)}, seed=0), 250)
    assert state.origin == ""


# -- runs that are left as they are ----------------------------------------------------------------


@pytest.mark.parametrize("model, data", [(gaussian_pair, "x"), (random_walk, "o")])
def test_a_run_that_is_fine_is_its_sweeps(model, data):
    given = {data: torch.randn((1, 12) if data == "o" else (3,), generator=torch.Generator())}
    engine = DCPC(model(), num_particles=8)
    run, info = engine.run(engine.init(given, seed=1), 120)
    state = engine.init(given, seed=1)
    assert state.origin == PRIOR and run.origin == ""
    for _ in range(120):
        state, _ = engine.sweep(state)
    for name in state.conditioning.latent:
        assert torch.equal(run.values[name], state.values[name])
    assert torch.equal(info.log_joint, engine.log_joint(state))


@pytest.mark.parametrize(
    "options",
    [{"adapt": True}, {"record": lambda state: {}}, {"recent": 5}],
    ids=["adapt", "record", "recent"],
)
def test_runs_that_are_steered_are_left_alone(options):
    engine = DCPC(vague_pair(1e6), num_particles=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state, _ = engine.run(engine.init({"x": torch.ones(1)}, seed=0), 100, **options)
    assert state.origin == ""


def test_particles_of_ones_own_are_kept():
    engine = DCPC(vague_pair(1e6), num_particles=16)
    start = torch.linspace(-1e6, 1e6, 16)[:, None]
    state = engine.init({"x": torch.ones(1)}, particles={"z": start}, seed=0)
    with pytest.warns(ConvergenceWarning, match="particles stay apart|far below the others"):
        engine.run(state, 250)


def test_a_large_batch_is_only_warned_of():
    """30,000 data: more numbers in a gradient of 32 chains than arrival takes."""
    engine = DCPC(vague_pair(1e6), num_particles=4)
    state = engine.init({"x": torch.zeros(30_000)}, seed=0)
    assert arrived(engine, state, engine.generator) is None
    with pytest.warns(ConvergenceWarning, match="particles stay apart|far below the others"):
        engine.run(state, 250)


def test_each_particle_is_one_draw_of_a_chain():
    """Of 300 particles none is another's copy, and chains share them evenly."""
    engine = DCPC(vague_pair(1e4), num_particles=300)
    state = engine.init({"x": torch.ones(2)}, seed=0)
    found = arrived(engine, state, engine.generator)
    assert found is not None and not found.warnings
    z = found.state.values["z"]
    assert z.shape == (300, 2) and found.state.sweeps == 0
    assert len(z[:, 0].unique()) == 300
    for b in range(2):
        assert close(z[:, b], 1.0, 1.0)


def test_a_remedy_that_fails_leaves_the_run(monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError

    monkeypatch.setattr("aif_dcpc.inference.arrival.cloud.sampler_at", fails)
    engine = DCPC(vague_pair(1e6), num_particles=16)
    with pytest.warns(ConvergenceWarning, match="particles stay apart|far below the others"):
        engine.run(engine.init({"x": torch.ones(1)}, seed=0), 250)
