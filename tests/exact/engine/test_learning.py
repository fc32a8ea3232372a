"""Learning against closed-form maximum likelihood, where the exact posterior makes both the same."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, NonFiniteError
from aif_dcpc.inference.learning import Learner, learn_step, parameter_groups, reuse_gradients_step
from aif_dcpc.inference.stores import ParticleStore


class Shifted(nn.Module):
    """p(x | z) = Normal(z + shift, .5)."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, z):
        return Independent(Normal(z + self.shift, 0.5), 1)


def shifted_model():
    model = GraphicalModel()
    model.add_site("z", lambda: Independent(Normal(torch.zeros(1), 1.0), 1))
    model.add_site("x", Shifted(), parents=["z"])
    return model


def test_a_mean_reaches_its_maximum_likelihood():
    # x ~ Normal(shift, 1.25): the maximum is the sample mean, and a miss of d costs d^2 / 2.5 nats
    # per datum
    x = 3 + 1.118 * torch.randn(64, 1, generator=torch.Generator().manual_seed(1))
    model = shifted_model()
    engine = DCPC(model, num_particles=8)
    state = engine.init({"x": x}, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.003)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.003 / (1 + step / 30)
        state, info = learn_step(engine, state, optimizer)
    shift = model.modules_of_sites["x:kernel"].shift
    assert (shift - x.mean()).square().item() / 2.5 < 0.01
    assert info.log_joint.shape == (8, 64)


class LoadingLayer(nn.Module):
    """p(x | z) = Normal(W z + mean, scale^2 I)."""

    def __init__(self, latents, data):
        super().__init__()
        self.linear = nn.Linear(latents, data)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, z):
        return Independent(Normal(self.linear(z), self.log_scale.exp()), 1)


def ppca(latents, data):
    model = GraphicalModel()
    model.add_site("z", lambda: Independent(Normal(torch.zeros(latents), 1.0), 1))
    model.add_site("x", LoadingLayer(latents, data), parents=["z"])
    return model


def ppca_log_likelihood(layer, x):
    """Mean log Normal(x; mean, W W' + scale^2 I), nats per datum."""
    cov = layer.linear.weight @ layer.linear.weight.mT + layer.log_scale.mul(2).exp() * torch.eye(
        x.shape[1]
    )
    return torch.distributions.MultivariateNormal(layer.linear.bias, cov).log_prob(x).mean().item()


def ppca_maximum(x, latents):
    """The closed-form maximum (Tipping and Bishop 1999, equation 7 with 8), nats per datum."""
    size = x.shape[1]
    values = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0)).flip(0)
    rest = values[latents:].mean()
    log_det = values[:latents].log().sum() + (size - latents) * rest.log()
    return (-0.5 * (size * math.log(2 * math.pi) + log_det + size)).item()


def test_probabilistic_pca_learned_in_minibatches_reaches_the_closed_form_maximum():
    torch.manual_seed(0)
    x = torch.randn(400, 2) @ torch.tensor([[2.0, 1.0, 0.0, -1.0, 0.5], [0.0, 1.0, -1.5, 0.5, 1.0]])
    x = x + 0.7 * torch.randn(400, 5) + 1.0
    model = ppca(2, 5)
    engine = DCPC(model, num_particles=8)
    optimizer = torch.optim.Adam(parameter_groups(model, 0.05))
    size = 100
    state = engine.init({"x": x[:size]}, seed=0)
    store = ParticleStore.like(state, len(x))
    learner = Learner(engine, optimizer, state, store)
    learner.fill(engine, store, {"x": x[:size]}, torch.arange(400).split(size))
    num_steps = 600
    for step in range(num_steps):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.05 * (
            1 - step / num_steps
        )
        indices = torch.randperm(400)[:size]
        learner.step({"x": x[indices]}, indices)
    best = ppca_maximum(x, 2)
    found = ppca_log_likelihood(model.modules_of_sites["x:kernel"], x)
    assert best - 0.01 < found < best + 1e-4


def test_gradients_stay_at_their_site():
    # d/d shift of log p(x | z) alone: the sum of residuals over the variance, averaged over
    # particles
    model = shifted_model()
    engine = DCPC(model, num_particles=3)
    state = engine.init({"x": torch.tensor([[2.0], [1.0]])}, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = model.modules_of_sites["x:kernel"].shift.item()
    state, _ = learn_step(engine, state, optimizer, num_sweeps=2, scale=5.0)
    residual = torch.tensor([[2.0], [1.0]]) - state.values["z"] - before
    expected = 5 * (residual / 0.25).mean(0).sum().item()
    assert model.modules_of_sites["x:kernel"].shift.item() - before == pytest.approx(
        expected, rel=1e-4
    )
    assert not state.cache


def test_a_recycled_gradient_is_that_of_the_particles_that_came():
    model = shifted_model()
    engine = DCPC(model, num_particles=3)
    x = torch.tensor([[2.0], [1.0]])
    came = engine.init({"x": x}, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    state, info = reuse_gradients_step(engine, came, optimizer)
    expected = ((x - came.values["z"]) / 0.25).mean(0).sum().item()
    assert model.modules_of_sites["x:kernel"].shift.item() == pytest.approx(expected, rel=1e-4)
    assert not state.cache and not torch.equal(state.values["z"], came.values["z"])
    law = Normal(came.values["z"], 0.5).log_prob(x) + Normal(0.0, 1.0).log_prob(came.values["z"])
    assert torch.allclose(info.log_joint, law.squeeze(-1), atol=1e-5)


def test_a_recycled_sweep_is_the_same_sweep():
    x = torch.tensor([[2.0], [1.0]])
    swept = []
    for move in (learn_step, reuse_gradients_step):
        model = shifted_model()
        engine = DCPC(model, num_particles=3)
        state, _ = move(
            engine, engine.init({"x": x}, seed=0), torch.optim.SGD(model.parameters(), lr=1.0)
        )
        swept.append(state.values["z"])
    assert torch.allclose(*swept, atol=1e-6)


@pytest.mark.parametrize(("move", "sweep"), [(learn_step, 1), (reuse_gradients_step, 0)])
def test_a_non_finite_objective_is_refused_and_nothing_is_learned(move, sweep):
    model = shifted_model()
    engine = DCPC(model, num_particles=2)
    state = engine.init({"x": torch.tensor([[math.inf]])}, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(NonFiniteError, match=f"site 'x', sweep {sweep}"):
        move(engine, state, optimizer)
    assert model.modules_of_sites["x:kernel"].shift.item() == 0


def test_stored_particles_are_memory_mapped_and_come_back_by_index(tmp_path):
    engine = DCPC(shifted_model(), num_particles=3)
    state = engine.init({"x": torch.zeros(4, 1)}, seed=0)
    store = ParticleStore.like(state, 10, folder=tmp_path)
    indices = torch.tensor([7, 2, 9, 0])
    store.write(indices, state.values)
    assert torch.equal(store.read(indices)["z"], state.values["z"])
    assert torch.equal(store.read(indices[[1]])["z"], state.values["z"][:, [1]])
    assert store.read(torch.tensor([5]))["z"].abs().sum() == 0
    again = ParticleStore.like(state, 10, folder=tmp_path / "again")
    again.load_state_dict(store.state_dict())
    assert torch.equal(again.read(indices)["z"], state.values["z"])
    assert list(tmp_path.glob("*.particles"))
