"""Annealed log evidence against closed forms; the tolerance is five standard errors of the chains, at fixed seeds."""

import math

import torch
from models import by_table, hidden_markov, shared_mean, shared_mean_evidence
from torch.distributions import Bernoulli, Beta, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.smc import annealing
from aif_dcpc.inference.smc.annealing import annealed_log_evidence


def within(found, exact):
    """Five standard errors of log mean weight (delta method), a rule that fails once in a million times."""
    share = torch.softmax(found.log_weights.double(), 0)
    error = (share.square().sum(0) - 1 / len(share)).clamp_min(1e-6).sqrt()
    return bool(((found.log_evidence - exact).abs() < 5 * error).all() and (error < 0.2).all())


def hierarchy():
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(torch.zeros(2), 1.0))
    model.add_site("b", lambda a: Normal(a, 0.5), parents=["a"])
    model.add_site("x", lambda b: Normal(b, 0.3), parents=["b"])
    return model


HIERARCHY_SCALE = math.sqrt(1 + 0.25 + 0.09)


def test_hierarchy_of_gaussians():
    data = torch.tensor([[0.5, -1.0], [3.0, 2.0]])
    exact = Normal(0.0, HIERARCHY_SCALE).log_prob(data).sum(1)
    found = annealed_log_evidence(
        DCPC(hierarchy()), {"x": data}, num_temperatures=60, num_chains=200, seed=0
    )
    assert within(found, exact)


def test_forward_and_reverse_bound_simulated_data():
    model = hierarchy()
    engine = DCPC(model).with_num_particles(1)
    # one exact joint draw per datum: latents are posterior draws
    truth = engine.init(batch_size=50, seed=1)
    data = {"x": truth.constrained("x")[0]}
    exact = Normal(0.0, HIERARCHY_SCALE).log_prob(data["x"]).sum(1)
    chains = engine.init(data, seed=2).with_values({n: truth.values[n] for n in "ab"})
    options = {"num_temperatures": 30, "num_chains": 1, "seed": 3}
    lower = annealed_log_evidence(engine, data, **options).log_evidence
    upper = annealed_log_evidence(engine, data, reverse=chains, **options).log_evidence
    spread = 5 * torch.stack([lower - exact, upper - exact]).std(1).max() / math.sqrt(50)
    assert (lower - exact).mean() < spread and (upper - exact).mean() > -spread
    assert (upper - lower).mean() > 0


def test_a_constrained_latent_is_integrated_as_by_the_beta_function():
    model = GraphicalModel()
    model.add_site("p", lambda: Beta(2.0, 3.0))
    model.add_site("x", lambda p: Bernoulli(p.unsqueeze(-1).expand(*p.shape, 6)), parents=["p"])
    x = torch.tensor([[1.0, 1, 0, 1, 1, 0]])
    exact = (
        torch.lgamma(torch.tensor([6.0, 5.0, 5.0])).sum()
        - torch.lgamma(torch.tensor([2.0, 3.0, 11.0])).sum()
    )
    found = annealed_log_evidence(
        DCPC(model), {"x": x}, num_temperatures=40, num_chains=200, seed=0
    )
    assert within(found, exact)


def test_slices_that_are_missing_do_not_count():
    start = torch.tensor([0.6, 0.4])
    move = torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    emit = torch.tensor([[0.9, 0.1], [0.25, 0.75]])
    data = torch.tensor([[0, 1, 1]])
    model = hidden_markov(start, move, by_table(emit))
    shown = torch.tensor([[True, False, True]])
    exact = (start * emit[:, 0] @ move @ move @ emit[:, 1]).log()
    found = annealed_log_evidence(
        DCPC(model), {"o": data}, masks={"o": shown}, num_temperatures=30, num_chains=300, seed=0
    )
    assert within(found, exact)


def test_global_latents_give_the_evidence_of_all_data():
    data = torch.tensor([1.0, 2.0, -0.5])
    found = annealed_log_evidence(
        DCPC(shared_mean()), {"x": data}, num_temperatures=40, num_chains=300, seed=0
    )
    assert found.log_evidence.shape == (1,)
    assert within(found, shared_mean_evidence(data))


def test_a_likelihood_left_at_full_power_is_noticed(monkeypatch):
    data = torch.tensor([[3.0, 2.0]])
    exact = Normal(0.0, HIERARCHY_SCALE).log_prob(data).sum(1)
    monkeypatch.setattr(annealing, "set_inverse_temperature", lambda state, power: state)
    found = annealed_log_evidence(
        DCPC(hierarchy()), {"x": data}, num_temperatures=60, num_chains=200, seed=0
    )
    assert not within(found, exact)
