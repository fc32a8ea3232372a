"""Parts of the evidence estimates: the Gauss-Markov proposal's own density, its quality, and the tail index."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_t
from torch.distributions import Categorical, MultivariateNormal, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError, every, lag
from aif_dcpc.inference.model.nodes import Node
from aif_dcpc.inference.moves.adaptation import SiteAdaptation
from aif_dcpc.inference.queries import importance
from aif_dcpc.inference.queries.evidence import estimate_evidence
from aif_dcpc.inference.queries.gauss_markov import (
    GaussMarkov,
    _nodes,
    _student_log_prob,
    _triangulated,
)
from aif_dcpc.inference.queries.importance import pareto_k
from aif_dcpc.inference.smc.annealing import _even, fit_path, forget

# -- the proposal ----------------------------------------------------------------------------------


def correlated():
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(torch.zeros(2), 1.0))
    model.add_site("b", lambda a: Normal(a.sum(-1), 0.5), ["a"])
    return model


def fitted(number=200_000):
    """The proposal fitted to exact draws of a Gaussian (a1, a2, b), and that Gaussian's covariance."""
    state = DCPC(correlated(), num_particles=number).init(batch_size=1, seed=0)
    draws = {n: state.values[n] for n in "ab"}
    covariance = torch.tensor([[1.0, 0, 1], [0, 1, 1], [1, 1, 2.25]]).double()
    return GaussMarkov(state, draws), covariance


def test_student_densities():
    noise = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    expected = multivariate_t(loc=np.zeros(3), shape=np.eye(3), df=6.5).logpdf(noise.numpy())
    assert torch.allclose(_student_log_prob(noise, 6.5), torch.as_tensor(expected))


def test_the_proposal_has_the_moments_that_it_was_fitted_to():
    proposal, covariance = fitted()
    assert proposal.freedom == 5 + math.sqrt(3)
    for conditional in proposal.conditionals:
        assert conditional.free.tolist() == [True]
    values, own, shared = proposal.sample(200_000)
    assert own.shape == (200_000, 1) and (shared == 0).all()
    draws = torch.cat([values["a"][:, 0], values["b"]], 1).double()
    # variance of Student's t over its squared scale
    inflation = proposal.freedom / (proposal.freedom - 2)
    first = next(c for c in proposal.conditionals if c.node.site == "a")
    assert torch.allclose(first.root[0] @ first.root[0].T, covariance[:2, :2], atol=0.02)
    assert torch.allclose(torch.cov(draws[:, :2].T) / inflation, covariance[:2, :2], atol=0.03)
    second = next(c for c in proposal.conditionals if c.node.site == "b")
    assert torch.allclose(second.gain[0], torch.ones(2, 1).double(), atol=0.01)
    assert abs(second.root.item() - 0.5) < 0.005


def test_the_proposal_knows_its_own_density():
    """The mean of p / q over draws of q is one, for p the Gaussian itself: to 5 standard errors."""
    proposal, covariance = fitted(20_000)
    values, own, _ = proposal.sample(100_000)
    draws = torch.cat([values["a"][:, 0], values["b"]], 1).double()
    ratio = (
        MultivariateNormal(torch.zeros(3).double(), covariance).log_prob(draws) - own[:, 0]
    ).exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / 100_000**0.5
    assert ratio.std() < 0.6


def test_where_nothing_is_observed_the_evidence_is_one():
    for model in (correlated(), walks()):
        found = estimate_evidence(
            DCPC(model),
            {},
            method="gauss_markov",
            seed=0,
            length=4 if _timed(model) else None,
        )
        assert abs(float(found.log_evidence)) < 0.03
        assert found.method == "gauss_markov" and 0.5 < float(found.ess_fraction) <= 1


def _timed(model):
    return any(s.period for s in model.sites.values())


def walks():
    model = GraphicalModel()
    model.add_site("g", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site("e", lambda g: Normal(g, 1.0), ["g"])
    model.add_site("slow", lambda e: Normal(e, 1.0), ["e"], scope=every(2))
    model.add_site(
        "s",
        lambda s, c: Normal(s + c, 1.0),
        [lag("s"), "slow"],
        initial=lambda c: Normal(c, 1.0),
        scope="slice",
    )
    return model


def test_the_share_of_effective_samples_is_that_of_a_student_proposal():
    """1 / E_q[w^2] of a Gaussian proposed from Student's t with 6 degrees of freedom, by quadrature."""
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    found = estimate_evidence(DCPC(model), {}, method="gauss_markov", seed=0, num_samples=60_000)
    grid = torch.linspace(-12, 12, 20_001).double()
    log_p = Normal(0.0, 1.0).log_prob(grid)
    square = torch.exp(2 * log_p - torch.distributions.StudentT(6.0).log_prob(grid)).sum() * (
        grid[1] - grid[0]
    )
    assert float(found.ess_fraction) == pytest.approx(1 / float(square), abs=0.01)
    assert float(found.pareto_k) < 0.3


def test_nodes_are_drawn_slow_before_fast_and_read_their_neighbours():
    state = DCPC(walks(), num_particles=2).init(batch_size=1, length=4, seed=0)
    nodes = _nodes(state, state.conditioning.latent)
    order = [
        Node("g", None),
        Node("e", None),
        Node("slow", 0),
        Node("s", 0),
        Node("s", 1),
        Node("slow", 1),
    ]
    assert nodes == [*order, Node("s", 2), Node("s", 3)]
    parents = _triangulated(state, nodes)
    assert parents[Node("e", None)] == (Node("g", None),)
    assert parents[Node("s", 3)] == (Node("slow", 1), Node("s", 2))
    assert parents[Node("s", 2)] == (Node("s", 1), Node("slow", 1))
    # linked by eliminating s at slice 2
    assert parents[Node("slow", 1)] == (Node("e", None), Node("s", 1))
    assert parents[Node("s", 1)] == (Node("e", None), Node("slow", 0), Node("s", 0))
    assert parents[Node("slow", 0)] == (Node("e", None),)


def test_discrete_latents_alone_are_summed_out_exactly():
    model = GraphicalModel()
    model.add_site("c", lambda: Categorical(torch.tensor([0.2, 0.8])))
    model.add_site("x", lambda c: Normal(c.float(), 1.0), ["c"])
    x = torch.tensor([0.0, 1.0, 3.0])
    found = estimate_evidence(DCPC(model), {"x": x}, seed=0)
    exact = torch.logsumexp(
        torch.tensor([0.2, 0.8]).log() + Normal(torch.arange(2.0), 1.0).log_prob(x[:, None]), 1
    )
    assert found.method == "exact"
    assert torch.allclose(found.log_evidence, exact.to(found.log_evidence), atol=1e-5)
    assert (found.ess_fraction == 1).all() and (found.pareto_k == 0).all()


def test_elements_without_a_small_table_are_annealed():
    model = GraphicalModel()
    model.add_site("f", lambda: torch.distributions.Bernoulli(torch.tensor([0.2, 0.6])))
    model.add_site("x", lambda f: Normal(f.sum(-1), 1.0), ["f"])
    with pytest.raises(ModelError, match="no small table"):
        estimate_evidence(DCPC(model), {"x": torch.zeros(1)}, method="gauss_markov")
    found = estimate_evidence(
        DCPC(model), {"x": torch.zeros(1)}, num_temperatures=20, num_chains=300, seed=0
    )
    law = torch.tensor([0.8 * 0.4, 0.2 * 0.4 + 0.8 * 0.6, 0.2 * 0.6]).log()
    exact = torch.logsumexp(law + Normal(torch.arange(3.0), 1.0).log_prob(torch.tensor(0.0)), 0)
    assert found.method == "annealed" and abs(float(found.log_evidence) - exact) < 0.05


def test_many_samples_are_drawn_in_parts(monkeypatch):
    monkeypatch.setattr(importance, "VALUES_PER_CHUNK", 100)
    model = correlated()
    found = estimate_evidence(
        DCPC(model), {"b": torch.zeros(3)}, method="gauss_markov", num_samples=2000, seed=0
    )
    assert (found.log_evidence - Normal(0.0, 1.5).log_prob(torch.tensor(0.0))).abs().max() < 0.05


# -- tails -----------------------------------------------------------------------------------------


def reference_k(log_weights):
    """Zhang and Stephens (2009) as in the appendix of Vehtari et al. (2024), one datum, loops of numpy."""
    weights = np.sort(np.exp(log_weights - log_weights.max()))
    count = len(weights)
    tail = int(min(0.2 * count, 3 * np.sqrt(count)))
    x = weights[-tail:] - weights[-tail - 1]
    grid = 30 + int(np.sqrt(tail))
    quartile = x[int(tail / 4 + 0.5) - 1]
    theta = np.array(
        [1 / x[-1] + (1 - np.sqrt(grid / (j - 0.5))) / (3 * quartile) for j in range(1, grid + 1)]
    )
    shape = np.array([np.mean(np.log1p(-t * x)) for t in theta])
    likelihood = tail * (np.log(-theta / shape) - shape - 1)
    posterior = np.array([1 / np.sum(np.exp(likelihood - one)) for one in likelihood])
    best = np.sum(theta * posterior)
    k = np.mean(np.log1p(-best * x))
    return (tail * k + 5) / (tail + 10)


@pytest.mark.parametrize("count", [25, 100, 1001])
def test_the_tail_index_is_that_of_the_reference(count):
    uniform = torch.rand(count, 3, generator=torch.Generator().manual_seed(count)).double()
    for k in (0.1, 0.5, 1.5):
        found = pareto_k(-k * uniform.log())
        expected = [reference_k(-k * np.log(uniform[:, b].numpy())) for b in range(3)]
        assert torch.allclose(found, torch.tensor(expected), atol=1e-6)


def test_too_few_weights_have_no_tail_index():
    assert pareto_k(torch.zeros(24, 2)).tolist() == [math.inf] * 2  # the tail would have 4
    assert torch.isfinite(pareto_k(torch.randn(25, 2))).all()


# -- paths -----------------------------------------------------------------------------------------


def test_temperatures_lie_at_equal_lengths():
    """A deviation of 4 below b = .5 and 1 above: lengths 2 (less the slope between the knots) and .5."""
    knots = torch.tensor([0.0, 0.5, 1.0])
    powers = _even(knots, torch.tensor([4.0, 4.0, 0.0]).double(), 12)  # lengths 2 and 1
    expected = [0.5 * i / 8 for i in range(1, 9)] + [0.5 + 0.5 * i / 4 for i in range(1, 5)]
    assert torch.allclose(powers, torch.tensor(expected).double(), atol=3e-3)
    assert powers[-1] == 1
    assert torch.allclose(
        _even(knots, torch.ones(3).double(), 4), torch.tensor([0.25, 0.5, 0.75, 1.0]).double()
    )


def test_a_path_serves_the_nearest_temperature():
    model = correlated()
    engine = DCPC(model, update="paper").with_num_particles(30)
    assert engine.num_particles == 30 and engine.update == "exact"
    path = fit_path(engine, engine.init({"b": torch.zeros(2)}, seed=0), 5, num_knots=4, sweeps=1)
    assert path.knots == pytest.approx([(i / 4) ** 4 for i in range(1, 5)])
    assert len(path.adaptations) == 4 and len(path.inverse_temperatures) == 5
    assert [path.nearest(p) for p in (1e-4, 1 / 256, 0.04, 0.2, 0.7, 1.0)] == [0, 0, 1, 2, 3, 3]
    assert forget(SiteAdaptation(updates={("ou", 1): 50, ("ou", 2): 3})).updates == {
        ("ou", 1): 10,
        ("ou", 2): 3,
    }
    assert forget("anything else") == "anything else"
