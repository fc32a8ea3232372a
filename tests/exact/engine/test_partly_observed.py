"""Latent sites that are observed at some data or slices: shown values stay, the rest has its exact posterior.

Monte Carlo checks allow 5 standard errors over independent copies along the batch axis; seeds are
fixed.
"""

import pytest
import torch
from clouds import agrees
from models import (
    gaussian_pair,
    gaussian_pair_evidence,
    gaussian_pair_posterior,
    hidden_markov,
    random_walk,
    random_walk_covariance,
)
from torch.distributions import Bernoulli, Categorical, MultivariateNormal, Normal, Poisson

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.model.densities import evaluate, fill_cache
from aif_dcpc.inference.queries.evidence import estimate_evidence
from aif_dcpc.inference.smc.annealing import (
    annealed_log_evidence,
    likelihood_factors,
    log_likelihood,
    set_inverse_temperature,
)

COPIES = 24
SHOWN = torch.arange(2 * COPIES) < COPIES  # the first half of the data


def swept(model, data, kind, value, site="z"):
    """Traces of the shown and of the hidden half, site `z` shown at `value` in the first."""
    engine = DCPC(model, num_particles=32, moves={site: kind}, warmup=40)
    given = {name: x.expand(2 * COPIES, *x.shape) for name, x in {**data, site: value}.items()}
    state = engine.init(given, masks={site: SHOWN}, seed=0)
    state, _ = engine.run(state, 40)
    _, info = engine.run(state, 100, record=[site])
    return info.trace[site][:, :, :COPIES], info.trace[site][:, :, COPIES:]


@pytest.mark.parametrize("kind", ["langevin", "mala", "barker", "prior"])
def test_a_continuous_site(kind):
    shown, hidden = swept(gaussian_pair(), {"x": torch.tensor(1.0)}, kind, torch.tensor(3.0))
    mean, variance = gaussian_pair_posterior(1.0)
    assert (shown == 3).all()
    assert agrees(hidden, mean) and agrees(hidden.square(), variance + mean**2)


@pytest.mark.parametrize("kind", ["gibbs", "prior", "discrete_langevin"])
def test_a_categorical_site(kind):
    prior = torch.tensor([0.5, 0.3, 0.2])
    means = torch.tensor([0.0, 1.0, 3.0])
    model = GraphicalModel()
    model.add_site("z", lambda: Categorical(prior))
    model.add_site("x", lambda z: Normal(means[z], 1.0), ["z"])
    shown, hidden = swept(model, {"x": torch.tensor(1.5)}, kind, torch.tensor(2))
    joint = prior * Normal(means, 1.0).log_prob(torch.tensor(1.5)).exp()
    assert (shown == 2).all()
    for value in range(3):
        assert agrees(hidden == value, joint[value] / joint.sum())


def test_elements_of_an_event():
    """Two Bernoulli elements of which each is redrawn in turn; the posterior by enumeration of the four pairs."""
    model = GraphicalModel()
    model.add_site("z", lambda: Bernoulli(torch.tensor([0.3, 0.6])))
    model.add_site("x", lambda z: Normal(z.sum(-1), 0.7), ["z"])
    shown, hidden = swept(model, {"x": torch.tensor(0.8)}, "gibbs", torch.tensor([1.0, 0.0]))
    assert (shown == torch.tensor([1.0, 0.0])).all()
    pairs = torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0))
    joint = Bernoulli(torch.tensor([0.3, 0.6])).log_prob(pairs).sum(-1)
    joint = (joint + Normal(pairs.sum(-1), 0.7).log_prob(torch.tensor(0.8))).softmax(0)
    for pair, probability in zip(pairs, joint, strict=True):
        assert agrees((hidden == pair).all(-1), probability)


def test_counts():
    model = GraphicalModel()
    model.add_site("z", lambda: Poisson(2.0))
    model.add_site("x", lambda z: Normal(z, 1.0), ["z"])
    shown, hidden = swept(model, {"x": torch.tensor(3.0)}, "discrete_langevin", torch.tensor(7.0))
    support = torch.arange(40.0)
    posterior = (
        Poisson(2.0).log_prob(support) + Normal(support, 1.0).log_prob(torch.tensor(3.0))
    ).softmax(0)
    assert (shown == 7).all()
    assert agrees(hidden, (posterior * support).sum())


@pytest.mark.parametrize("kind", ["gibbs", "ffbs", "prior", "discrete_langevin"])
def test_slices_of_a_chain(kind):
    start = torch.tensor([0.5, 0.3, 0.2])
    move = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])
    model = hidden_markov(start, move, lambda s: Normal(s.float(), 1.0))
    o = torch.tensor([1.0, 0.2, 1.4])
    shown = torch.tensor([False, True, False])
    engine = DCPC(model, num_particles=32, moves={"s": kind}, warmup=40)
    data = {"s": torch.tensor([0, 2, 0]).expand(COPIES, -1), "o": o.expand(COPIES, -1)}
    state, _ = engine.run(engine.init(data, masks={"s": shown.expand(COPIES, -1)}, seed=0), 40)
    _, info = engine.run(state, 100, record=["s"])
    likelihood = Normal(torch.arange(3.0)[:, None], 1.0).log_prob(o).exp()
    first = start * move[:, 2] * likelihood[:, 0]
    last = move[2] * likelihood[:, 2]
    assert (info.trace["s"][..., 1] == 2).all()
    for value in range(3):
        assert agrees(info.trace["s"][..., 0] == value, first[value] / first.sum())
        assert agrees(info.trace["s"][..., 2] == value, last[value] / last.sum())


# -- evidence --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"method": "gauss_markov"},
        {"method": "annealed", "num_chains": 300, "num_temperatures": 100},
    ],
)
def test_shown_slices_count_as_data(options):
    """log p(o, shown values of s) by the joint Gaussian, for slices shown first, last and nowhere."""
    shown = torch.tensor([[True, False, False], [False, False, True], [False, False, False]])
    s = torch.tensor([0.5, -1.0, 2.0])
    o = torch.tensor([1.0, 0.0, 1.5])
    prior = random_walk_covariance(3)
    engine = DCPC(random_walk(), num_particles=64)
    setup = {"s": shown}
    data = {"s": s.expand(3, -1), "o": o.expand(3, -1)}
    found = (
        estimate_evidence(
            engine, data, masks=setup, seed=0, num_samples=4000, num_fit=4000, **options
        )
        if options["method"] == "gauss_markov"
        else estimate_evidence(engine, data, masks=setup, seed=0, **options)
    )
    joint = torch.cat(
        [torch.cat([prior, prior], 1), torch.cat([prior, prior + 0.25 * torch.eye(3)], 1)]
    )
    for datum in range(3):
        keep = torch.cat([shown[datum], torch.ones(3, dtype=torch.bool)])
        exact = MultivariateNormal(torch.zeros(int(keep.sum())), joint[keep][:, keep]).log_prob(
            torch.cat([s, o])[keep]
        )
        assert abs(found.log_evidence[datum] - exact) < 0.1


def test_a_shown_datum_counts_as_data():
    model = gaussian_pair(noise=1.0)
    data = {"z": torch.tensor([0.7, 0.0]), "x": torch.tensor([1.0, 1.0])}
    masks = {"z": torch.tensor([True, False])}
    one = torch.tensor(1.0)
    exact = [
        Normal(0.0, 1.0).log_prob(data["z"][0]) + Normal(0.7, 1.0).log_prob(one),
        gaussian_pair_evidence(one, noise=1.0),
    ]
    found = annealed_log_evidence(
        DCPC(model), data, masks=masks, num_temperatures=40, num_chains=400, seed=0
    )
    assert (found.log_evidence - torch.stack(exact)).abs().max() < 0.1
    found = estimate_evidence(DCPC(model), data, method="gauss_markov", masks=masks, seed=0)
    assert (found.log_evidence - torch.stack(exact)).abs().max() < 0.02


# -- tempered states -------------------------------------------------------------------------------


def everything():
    """A global latent, an observed global value, a partly observed site and a series of data."""
    model = GraphicalModel()
    model.add_site("g", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site("h", lambda g: Normal(g, 2.0), ["g"], scope="global")
    model.add_site("z", lambda g: Normal(g, 1.0), ["g"])
    model.add_site("o", lambda z: Normal(z, 0.5), ["z"], scope="slice")
    data = {"h": torch.tensor(0.3), "z": torch.tensor([0.5, 0.0, 0.0]), "o": torch.randn(3, 4)}
    return DCPC(model, num_particles=5).init(
        data, masks={"z": torch.tensor([True, False, False])}, seed=0
    )


def test_reheated_factors_are_what_they_would_be_evaluated_anew():
    state = set_inverse_temperature(everything(), torch.full((3,), 0.3))
    state = set_inverse_temperature(fill_cache(state, ("g", "z")), torch.full((3,), 0.8))
    assert {f.site.name for f in likelihood_factors(state)} == {"h", "z", "o"}
    assert set(state.cache) >= {"h", "o"}
    for factor in state.conditioning.factor_graph.factors:
        fresh = evaluate(state, factor)
        kept = state.cache.get(factor.key, fresh)
        assert torch.allclose(kept.log_prob, fresh.log_prob, atol=1e-5)
        assert all(
            torch.allclose(kept.scores[argument], score, atol=1e-5)
            for argument, score in fresh.scores.items()
        )


@pytest.mark.parametrize("cached", [True, False])
def test_the_likelihood_is_that_of_what_is_observed_at_temperature_one(cached):
    state = set_inverse_temperature(everything(), torch.full((3,), 0.25))
    state = fill_cache(state, ("g", "z")) if cached else state
    g = state.values["g"]
    z = state.values["z"]
    series = Normal(z[..., None], 0.5).log_prob(state.values["o"]).sum((1, 2))
    shown = Normal(g[:, 0], 1.0).log_prob(z[:, 0])
    expected = series + shown + Normal(g[:, 0], 2.0).log_prob(torch.tensor(0.3))
    assert torch.allclose(log_likelihood(state).squeeze(1), expected, atol=1e-4)


def test_what_all_data_share_is_divided_among_them():
    """An observed global value without latent parents: the evidence of the data, summed, holds its density once."""
    model = GraphicalModel()
    model.add_site("g", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site("z", lambda g: Normal(g, 1.0), ["g"])
    model.add_site("x", lambda z: Normal(z, 1.0), ["z"])
    x = torch.tensor([0.0, 1.0, 2.0])
    g = torch.tensor(0.5)
    exact = Normal(0.5, 2**0.5).log_prob(x).sum() + Normal(0.0, 1.0).log_prob(g)
    for method in ("gauss_markov", "annealed"):
        found = estimate_evidence(DCPC(model), {"g": g, "x": x}, method=method, seed=0)
        assert found.log_evidence.shape == (3,)
        assert abs(found.log_evidence.sum() - exact) < 0.2
