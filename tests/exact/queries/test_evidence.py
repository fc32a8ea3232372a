"""Log evidence of models with closed forms, within .1 nats; tail indices of weights with a known law."""

import math
import warnings

import pytest
import torch
from models import gaussian_pair, gaussian_pair_evidence
from torch.distributions import Categorical, Normal

from aif_dcpc.experiments.evidence.models import KNOWN
from aif_dcpc.experiments.exactness import discrete, linear_gaussian
from aif_dcpc.inference import DCPC, GraphicalModel, ModelError
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.queries import importance
from aif_dcpc.inference.queries.evidence import estimate_evidence
from aif_dcpc.inference.queries.importance import bridge_log_evidence, pareto_k
from aif_dcpc.inference.smc import tempering

QUICK = {
    "chain": linear_gaussian.chain_of_two,
    "collider": linear_gaussian.collider,
    "levels": linear_gaussian.levels,
    "series": lambda: linear_gaussian.state_space(8, size=2),
    "missing": lambda: linear_gaussian.state_space(8, size=2, missing=True),
    "mild": lambda: discrete.hidden_markov_model(False),
    "sharp": lambda: discrete.hidden_markov_model(True),
    "switching": discrete.switching_system,
    "beta": discrete.beta_bernoulli,
    "gamma": discrete.gamma_poisson,
    "dirichlet": discrete.dirichlet_categorical,
    "mixture": discrete.mixture,
    "intervention": linear_gaussian.intervention,
}


@pytest.mark.parametrize("name", QUICK)
def test_log_evidence_within_a_tenth_of_a_nat(name):
    case = QUICK[name]()
    engine = DCPC(case.model, num_particles=64, moves=case.moves)
    found = estimate_evidence(
        engine, case.data, num_fit=4096, num_chains=1024, **case.setup, seed=0
    )
    assert abs(float(found.log_evidence) - case.log_evidence) < 0.1
    assert found.pareto_k.max() < 0.7


def test_a_proposal_density_that_forgets_its_scale_is_noticed(monkeypatch):
    case = linear_gaussian.collider()
    kept = importance.GaussMarkov.sample

    def careless(self, number):
        values, own, shared = kept(self, number)
        return (
            values,
            own + sum(c.root.diagonal(dim1=-2, dim2=-1).log().sum(-1) for c in self.conditionals),
            shared,
        )

    monkeypatch.setattr(importance.GaussMarkov, "sample", careless)
    with pytest.warns(ConvergenceWarning, match="nats apart"):
        found = DCPC(case.model).log_evidence(
            case.data, method="gauss_markov", num_fit=2048, seed=0
        )
    assert abs(float(found) - case.log_evidence) > 0.1
    # the engine's own choice is not taken in
    assert abs(float(DCPC(case.model).log_evidence(case.data, seed=0)) - case.log_evidence) < 0.1


def test_data_of_a_batch_are_estimated_apart():
    data = torch.tensor([-2.0, 0.0, 5.0])
    found = DCPC(gaussian_pair()).log_evidence({"x": data}, num_fit=2048, seed=0)
    assert (found - gaussian_pair_evidence(data)).abs().max() < 0.05


def test_tail_index_of_pareto_weights():
    """Weights 1 / u^k have a generalised Pareto tail of shape k; the estimator's error is about (1 + k) / sqrt(tail)."""
    uniform = torch.rand(4000, 5, generator=torch.Generator().manual_seed(0)).double()
    for k in (0.3, 1.0):
        found = pareto_k(-k * uniform.log())
        assert (found - k).abs().max() < 5 * (1 + k) / 190**0.5


def test_coupled_discrete_sites_are_summed_out_together():
    model = GraphicalModel()
    emit = torch.tensor([0.0, 1.0])
    move = torch.tensor([[0.7, 0.3], [0.4, 0.6]])
    model.add_site("a", lambda: Categorical(torch.tensor([0.6, 0.4])))
    model.add_site("b", lambda a: Categorical(move[a]), parents=["a"])
    model.add_site("x", lambda a, b: Normal(emit[a] + emit[b], 1.0), parents=["a", "b"])
    x = torch.tensor([1.5])
    joint = (
        torch.tensor([0.6, 0.4])[:, None]
        * move
        * Normal(emit[:, None] + emit, 1.0).log_prob(x).exp()
    )
    found = estimate_evidence(DCPC(model), {"x": x}, seed=0)
    assert found.method == "exact"
    assert abs(float(found.log_evidence) - float(joint.sum().log())) < 1e-5
    found = estimate_evidence(DCPC(model), {"x": x}, seed=0, method="annealed")
    assert abs(float(found.log_evidence) - float(joint.sum().log())) < 0.1


def test_unknown_method_is_refused():
    with pytest.raises(ModelError, match="Did you mean 'annealed'"):
        DCPC(linear_gaussian.collider().model).log_evidence(
            linear_gaussian.collider().data, method="aneal"
        )


def test_bridge_estimates_of_gaussians():
    """log Z of p = 5 N(1, 1) from draws of N(0, 1.5) and of p itself, to 5 standard errors (about .007 each)."""
    generator = torch.Generator().manual_seed(0)
    q = Normal(torch.tensor(0.0).double(), 1.5)
    p = Normal(torch.tensor(1.0).double(), 1.0)
    noise = torch.randn(2, 40_000, 1, generator=generator).double()
    ratios = [math.log(5) + p.log_prob(z) - q.log_prob(z) for z in (1.5 * noise[0], 1 + noise[1])]
    assert abs(float(bridge_log_evidence(*ratios)) - math.log(5)) < 0.03
    # draws of p where q hardly reaches pull the two apart
    apart = bridge_log_evidence(ratios[0], ratios[1] + 3)
    assert float(apart) > math.log(5) + 0.5


def test_a_proposal_knows_its_density_at_its_own_draws():
    case = linear_gaussian.levels()
    state = DCPC(case.model, num_particles=400).init(case.data, **case.setup, seed=0)
    names = [n for n in state.conditioning.latent if n not in state.conditioning.discrete]
    proposal = importance.GaussMarkov(state, {n: state.values[n] for n in names})
    values, own, shared = proposal.sample(300)
    found = proposal.log_prob(values)
    assert torch.allclose(found[0], own, atol=1e-3) and torch.allclose(found[1], shared, atol=1e-3)


@pytest.mark.parametrize("name", ["vague prior, sd 1e5", "32 modes"])
def test_hard_evidence_is_right_or_warned(name):
    known = KNOWN[name]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = DCPC(known.model).evidence(known.data, seed=1)
    assert abs(float(found.log_evidence) - known.log_evidence) < 0.1 or caught
    assert len(caught) == len(found.warnings)


def test_a_poor_proposal_is_said_to_be_poor():
    known = KNOWN["32 modes"]()
    with pytest.warns(ConvergenceWarning, match="method='annealed'"):
        found = DCPC(known.model).evidence(known.data, method="gauss_markov", seed=0)
    assert found.method == "gauss_markov" and found.warnings


def test_islands_that_disagree_are_said_to(monkeypatch):
    monkeypatch.setattr(tempering, "GROWTH", (1,))
    known = KNOWN["32 modes"]()
    with pytest.warns(ConvergenceWarning, match="raise num_chains to 8192"):
        found = DCPC(known.model).evidence(
            known.data, method="annealed", num_temperatures=5, seed=0
        )
    assert float(found.standard_error) > 0.03
