"""Forecasts, replicates, interventions and counterfactuals against closed forms; 5 standard errors at fixed seeds."""

import pytest
import torch
from clouds import close
from models import gaussian_pair, gaussian_pair_posterior
from torch.distributions import (
    Bernoulli,
    Exponential,
    Gamma,
    Independent,
    LogNormal,
    MultivariateNormal,
    Normal,
)

from aif_dcpc.experiments.exactness.linear_gaussian import counterfactual
from aif_dcpc.inference import DCPC, ClampError, GraphicalModel, ModelError, every, lag
from aif_dcpc.inference.queries.exogenous import from_noise, to_noise

K = 4000


def driven_series():
    """s' = .8 s + a + noise, o = s + noise, with an input a and a slow drift from an episode's offset."""
    model = GraphicalModel()
    model.add_input("a")
    model.add_site("c", lambda: Normal(0.0, 1.0))
    model.add_site(
        "s",
        lambda s, a, c: Normal(0.8 * s + a + c, 0.5),
        parents=[lag("s"), lag("a"), "c"],
        initial=lambda c: Normal(c, 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s: Normal(s, 0.3), parents=["s"], scope="slice")
    return model


def known_cloud(engine):
    """A cloud whose past is known: c = 1, s = (0, 2)."""
    actions = torch.tensor([[0.5, -1.0]])
    data = {
        "a": actions,
        "c": torch.ones(1),
        "s": torch.tensor([[0.0, 2.0]]),
        "o": torch.tensor([[0.1, 1.9]]),
    }
    return engine.init(data, seed=0)


def test_forecast_of_a_driven_series():
    engine = DCPC(driven_series(), num_particles=K)
    found = engine.forecast(known_cloud(engine), {"a": torch.tensor([[2.0, 0.0]])})
    first = 0.8 * 2 - 1.0 + 1
    second = 0.8 * (0.8 * 2 - 1.0 + 1) + 2.0 + 1
    assert set(found) == {"a", "s", "o"}
    assert found["o"].shape == (K, 1, 2)
    assert close(found["s"][..., 0], first, 0.25)
    assert close(found["s"][..., 1], second, 0.25 * (1 + 0.64))
    assert close(found["o"][..., 1], second, 0.25 * 1.64 + 0.09)
    assert close(found["o"][..., 1] - found["s"][..., 1], 0.0, 0.09)
    assert torch.equal(found["a"][7, 0], torch.tensor([2.0, 0.0]))


def test_forecast_says_what_is_missing():
    engine = DCPC(driven_series(), num_particles=2)
    state = known_cloud(engine)
    with pytest.raises(ClampError, match="future of 'a' is needed"):
        engine.forecast(state, length=3)
    with pytest.raises(ClampError, match="unknown input"):
        engine.forecast(state, {"o": torch.zeros(1, 2)})
    with pytest.raises(ClampError, match="should have shape"):
        engine.forecast(state, {"a": torch.zeros(2, 2)})


def test_replicates_follow_the_posterior_predictive():
    mean, variance = gaussian_pair_posterior(2.0, noise=1.0)
    engine = DCPC(gaussian_pair(noise=1.0), num_particles=K)
    state, _ = engine.run(engine.init({"x": torch.tensor([2.0])}, seed=0), 60)
    assert close(engine.predict(state)["x"], mean, variance + 1.0)
    engine = DCPC(driven_series(), num_particles=K)
    found = engine.predict(known_cloud(engine))
    assert close(found["s"][..., 0], 1.0, 1.0) and close(found["s"][..., 1], 0.5 + 1.0, 0.25)


def test_intervention_on_a_running_cloud():
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(0.0, 1.0))
    model.add_site("b", lambda a: Normal(a, 0.1), parents=["a"])
    model.add_site("c", lambda a, b: Normal(a + b, 1.0), parents=["a", "b"])
    engine = DCPC(model, num_particles=K)
    state, _ = engine.run(engine.init({"c": torch.tensor([3.0])}, seed=0), 60)
    kept = state.particles["a"]
    state, info = engine.run(state, 60, do={"b": torch.tensor([1.0])})
    assert set(state.particles) == {"a"} and "b" not in info.acceptance
    assert close(state.particles["a"], 1.0, 0.5)  # c - b = 2 sees a alone
    assert not close(kept, 1.0, 0.5)
    again, _ = engine.run(state, 1, do={"b": torch.tensor([1.0])})
    assert again.conditioning is state.conditioning
    with pytest.raises(ClampError, match="unknown site"):
        engine.run(state, 1, do={"bb": torch.tensor([1.0])})
    with pytest.raises(ClampError, match="events of shape"):
        engine.run(state, 1, do={"a": torch.ones(1, 2)})


def test_counterfactual_of_a_linear_model():
    """x = u, y = 2 x + c + e with a hidden common cause c of x and y: the posterior of c + e is what y keeps."""
    model = GraphicalModel()
    model.add_site("c", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda c: Normal(c, 0.5), parents=["c"])
    model.add_site("y", lambda x, c: Normal(2 * x + c, 1.0), parents=["x", "c"])
    model.add_site("w", lambda y: Normal(y, 1.0), parents=["y"])
    engine = DCPC(model, num_particles=K)
    data = {"x": torch.tensor([1.0]), "y": torch.tensor([3.5])}
    state, _ = engine.run(engine.init(data, seed=0), 60)
    found = engine.counterfactual(state, {"x": torch.tensor([-1.0])})
    # y - 2 x is the same in both worlds
    assert torch.allclose(found["y"], torch.tensor(3.5 - 4.0), atol=1e-5)
    assert torch.allclose(found["w"] - state.particles["w"], torch.tensor(-4.0), atol=1e-5)
    assert torch.equal(found["c"], state.particles["c"])  # causes do not change
    interventional = engine.init(do={"x": torch.tensor([-1.0])}, seed=0).particles["y"]
    assert close(interventional, -2.0, 2.0)  # without abduction the answer is another


def test_counterfactual_moments_with_hidden_causes():
    """Means and covariances of 4 sites in the other world: 14 entries of a Gaussian within 5 of its standard errors."""
    case = counterfactual()
    engine = DCPC(case.model, num_particles=K)
    state, _ = engine.run(engine.init(case.data, seed=0), 60)
    found = engine.counterfactual(state, case.counterfactual)
    draws = torch.stack([found[n][:, 0] for n in case.sites], 1).double() - case.mean
    variances = case.covariance.diagonal()
    products = draws.mT @ draws / K
    assert bool((draws.mean(0).abs() < 5 * (variances / K).sqrt()).all())
    spread = ((torch.outer(variances, variances) + case.covariance.square()) / K).sqrt()
    assert bool(((products - case.covariance).abs() < 5 * spread).all())
    factual = (
        torch.stack([state.natural[n][:, 0].expand(K) for n in case.sites], 1).double().mean(0)
    )
    # this world is another
    assert bool(((factual - case.mean).abs() > 5 * (variances / K).sqrt())[1:].all())


def test_counterfactual_actions_in_a_series():
    engine = DCPC(driven_series(), num_particles=3)
    state = known_cloud(engine)
    found = engine.counterfactual(state, {"a": torch.tensor([[1.5, 7.0]])})
    # one more unit of action arrives one slice later
    assert torch.allclose(found["s"], torch.tensor([0.0, 3.0]))
    assert torch.allclose(found["o"], torch.tensor([0.1, 2.9]))


@pytest.mark.parametrize(
    "make",
    [
        lambda m: Normal(m, 1 + m.square()),
        lambda m: LogNormal(m, 0.5),
        lambda m: Exponential(m.exp()),
        lambda m: Independent(Normal(m.unsqueeze(-1).expand(-1, 2), 2.0), 1),
        lambda m: MultivariateNormal(
            m.unsqueeze(-1).expand(-1, 2), torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double()
        ),
    ],
)
def test_noise_gives_the_value_back_and_does_not_depend_on_the_parents(make):
    torch.manual_seed(0)
    here = make(torch.linspace(-1, 1, 5).double())
    there = make(torch.linspace(2, 0, 5).double())
    value = here.sample()
    noise = to_noise(here, value, "z")
    assert torch.allclose(from_noise(here, noise, "z"), value, atol=1e-6)
    assert torch.allclose(to_noise(there, from_noise(there, noise, "z"), "z"), noise, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda x: Bernoulli(x.sigmoid()), "discrete"),
        (lambda x: Gamma(x.exp(), 1.0), "not invertible"),
    ],
)
def test_noise_that_cannot_be_inverted_is_refused(make, why):
    model = GraphicalModel()
    model.add_site("x", lambda: Normal(0.0, 1.0))
    model.add_site("y", make, parents=["x"])
    engine = DCPC(model, num_particles=2)
    state = engine.init({"x": torch.zeros(1), "y": torch.ones(1)})
    with pytest.raises(ModelError, match=why):
        engine.counterfactual(state, {"x": torch.ones(1)})
    found = engine.counterfactual(state, {"y": torch.zeros(1)})  # upstream nothing is inverted
    assert float(found["x"].abs().max()) == 0


def test_a_slow_input_is_needed_only_where_a_new_value_begins():
    model = GraphicalModel()
    model.add_input("u", scope=every(3))
    model.add_site("s", lambda u: Normal(u, 0.1), parents=["u"], scope="slice")
    engine = DCPC(model, num_particles=K)
    state = engine.init({"u": torch.tensor([[1.0, 5.0]])}, length=4)
    found = engine.forecast(state, length=2)["s"]
    assert found.shape == (K, 1, 2) and close(found, 5.0, 0.01)
    with pytest.raises(ClampError, match="future of 'u' is needed"):
        engine.forecast(state, length=3)
    found = engine.forecast(state, {"u": torch.tensor([[-2.0]])}, length=3)["s"]
    assert close(found[..., 2], -2.0, 0.01)
