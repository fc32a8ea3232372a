"""Data that are partly missing, in all the places where they may be: posteriors by closed forms.

Monte Carlo checks allow 5 standard errors of independent particles at fixed seeds.
"""

import math

import pytest
import torch
from clouds import close
from models import hidden_markov, random_walk, random_walk_covariance
from torch import distributions as d

from aif_dcpc.inference import DCPC, ClampError, GraphicalModel, lag

K = 1500
NAN = float("nan")


def drift():
    """x' = x + z + noise of standard deviation .5, with an unknown drift z."""
    model = GraphicalModel()
    model.add_site("z", lambda: d.Normal(0.0, 1.0))
    model.add_site(
        "x",
        lambda x, z: d.Normal(x + z, 0.5),
        [lag("x"), "z"],
        initial=lambda z: d.Normal(0 * z, 1.0),
        scope="slice",
    )
    return model


@pytest.mark.parametrize("hidden", [0.0, NAN])
def test_a_hidden_slice_of_an_observed_series_is_inferred(hidden):
    """x_2 given x_0 and z is Normal(x_0 + 2 z, variance .5): z has precision 1 + 4 / .5 and mean (2 * 4 / .5) / 9."""
    engine = DCPC(drift(), num_particles=K)
    shown = torch.tensor([[True, False, True]])
    state = engine.init({"x": torch.tensor([[0.0, hidden, 4.0]])}, masks={"x": shown}, seed=0)
    state, _ = engine.run(state, 60)
    assert close(state.particles["z"], 16 / 9, 1 / 9)
    assert (state.particles["x"][..., [0, 2]] == torch.tensor([0.0, 4.0])).all()
    assert close(state.particles["x"][..., 1], 2.0, 0.125)  # halfway, whatever the drift


def test_forecasts_start_from_what_is_inferred_at_a_hidden_end():
    model = GraphicalModel()
    model.add_site(
        "x",
        lambda x: d.Normal(x, 0.5),
        [lag("x")],
        initial=lambda: d.Normal(0.0, 1.0),
        scope="slice",
    )
    engine = DCPC(model, num_particles=K)
    shown = torch.tensor([[True, False, True, False]])
    state = engine.init({"x": torch.tensor([[0.0, 9.0, 4.0, 1.0]])}, masks={"x": shown}, seed=0)
    state, _ = engine.run(state, 60)
    assert close(engine.forecast(state, length=1)["x"], 4.0, 0.5)


def two_readings():
    model = GraphicalModel()
    model.add_site("z", lambda: d.Normal(0.0, 1.0))
    model.add_site("x", lambda z: d.Gamma(2.0 + 0 * z, z.exp()), ["z"])
    model.add_site("y", lambda z: d.Normal(z, 0.5), ["z"])
    return model


@pytest.mark.parametrize("hidden", [NAN, -1.0])
def test_a_site_that_is_hidden_everywhere_says_nothing(hidden):
    engine = DCPC(two_readings(), num_particles=K)
    data = {"x": torch.tensor([hidden]), "y": torch.tensor([2.0])}
    state, _ = engine.run(engine.init(data, masks={"x": torch.tensor([False])}, seed=0), 60)
    assert state.conditioning.latent == ("z",)
    assert close(state.particles["z"], 1.6, 0.2)


def test_a_mask_needs_data():
    engine = DCPC(two_readings())
    with pytest.raises(ClampError, match="'x': a mask needs data"):
        engine.init({"y": torch.zeros(2)}, masks={"x": torch.ones(2, dtype=torch.bool)})


@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (1,)])
def test_masks_of_wrong_shapes_are_refused(shape):
    data = {"x": torch.ones(2), "y": torch.ones(2)}
    with pytest.raises(ClampError, match="mask of site 'x': expected one flag per value"):
        DCPC(two_readings()).init(data, masks={"x": torch.ones(shape, dtype=torch.bool)})


# -- one more slice --------------------------------------------------------------------------------


@pytest.mark.parametrize("masked_before", [False, True])
def test_a_slice_arrives_without_its_observation(masked_before):
    """o_0 and o_2 seen by the first datum, o_0 alone by the second: weights, evidence and smoothed means."""
    prior = random_walk_covariance(3)
    engine = DCPC(random_walk(), num_particles=4000)
    masks = {"o": torch.ones(2, 1, dtype=torch.bool)} if masked_before else None
    state = engine.init({"o": torch.tensor([[1.0], [1.0]])}, masks=masks, seed=0)
    state, _ = engine.run(state, 30)
    hidden = torch.zeros(2, dtype=torch.bool)
    state = engine.append(state, {"o": torch.full((2,), NAN)}, masks={"o": hidden})
    assert torch.equal(state.log_evidence, torch.zeros(2))
    assert state.values["o"][0, :, 1].tolist() == [1.0, 1.0]
    state = engine.append(
        state, {"o": torch.tensor([2.0, NAN])}, masks={"o": torch.tensor([True, False])}
    )
    assert state.masks["o"].tolist() == [[[True, False, True], [True, False, False]]]
    joint = d.MultivariateNormal(torch.zeros(2), prior[[0, 2]][:, [0, 2]] + 0.25 * torch.eye(2))
    exact = joint.log_prob(torch.tensor([1.0, 2.0])) - d.Normal(0.0, 1.25**0.5).log_prob(
        torch.tensor(1.0)
    )
    assert abs(state.log_evidence[0] - exact) < 0.1 and state.log_evidence[1] == 0
    state, _ = engine.run(state, 30)
    means = prior[:, [0, 2]] @ torch.linalg.solve(joint.covariance_matrix, torch.tensor([1.0, 2.0]))
    alone = prior[:, 0] / 1.25
    for datum, expected in enumerate((means, alone)):
        found = (state.weights()[:, datum, None] * state.particles["s"][:, datum]).sum(0)
        assert (found - expected).abs().max() < 0.1


def test_a_partly_observed_series_grows_by_seen_and_hidden_values():
    """z, x_0 and x_2 of the drifting series, one slice after the other; evidence of x_2 given x_0 = Normal(0, 4.5)."""
    engine = DCPC(drift(), num_particles=4000)
    state = engine.init(
        {"x": torch.zeros(1, 1)}, masks={"x": torch.ones(1, 1, dtype=torch.bool)}, seed=0
    )
    state = engine.append(state, {})
    assert not state.masks["x"][0, 0, 1] and state.log_evidence == 0
    state = engine.append(state, {"x": torch.tensor([4.0])})
    assert abs(state.log_evidence - d.Normal(0.0, 4.5**0.5).log_prob(torch.tensor(4.0))) < 0.15
    state, _ = engine.run(state, 60)
    assert close(state.particles["z"][:1500], 16 / 9, 1 / 9)
    assert (state.particles["x"][..., 2] == 4).all()


def test_what_cannot_be_hidden_in_a_new_slice_is_said():
    engine = DCPC(drift(), num_particles=3)
    state = engine.init({"x": torch.zeros(1, 2)})
    with pytest.raises(ClampError, match=r"what is hidden of it must be inferred: begin with init"):
        engine.append(state, {"x": torch.zeros(1)}, masks={"x": torch.zeros(1, dtype=torch.bool)})
    with pytest.raises(ClampError, match="mask needs data"):
        engine.append(state, {}, masks={"x": torch.zeros(1, dtype=torch.bool)})
    with pytest.raises(ClampError, match="mask of site 'x'"):
        engine.append(state, {"x": torch.zeros(1)}, masks={"x": torch.zeros(2, dtype=torch.bool)})


def test_data_that_share_a_global_latent_are_weighed_and_resampled_together():
    """g ~ Normal(0, 1), o_bt ~ Normal(g, 1), two data: after o = 0, 3 | 3 the posterior mean is 6 / 5, variance 1 / 5."""
    model = GraphicalModel()
    model.add_site("g", lambda: d.Normal(0.0, 1.0), scope="global")
    model.add_site("o", lambda g: d.Normal(g, 1.0), ["g"], scope="slice")
    engine = DCPC(model, num_particles=K)
    state, _ = engine.run(engine.init({"o": torch.tensor([[0.0], [3.0]])}, seed=0), 40)
    state = engine.append(state, {"o": torch.tensor([0.0, 3.0])})
    assert state.values["g"].shape == (K, 1)
    assert torch.equal(state.weights()[:, 0], state.weights()[:, 1])
    mean, second = ((state.weights()[:, :1] * state.particles["g"] ** p).sum() for p in (1, 2))
    assert abs(mean - 1.2) < 0.1 and abs(second - mean**2 - 0.2) < 0.05
    prior = torch.eye(4) + 1
    before = d.MultivariateNormal(torch.zeros(2), prior[:2, :2]).log_prob(torch.tensor([0.0, 3.0]))
    whole = d.MultivariateNormal(torch.zeros(4), prior).log_prob(torch.tensor([0.0, 3.0, 0.0, 3.0]))
    assert (state.log_evidence - (whole - before)).abs().max() < 0.1
    # unlikely: lineages are resampled, all data alike
    state = engine.append(state, {"o": torch.tensor([9.0, 9.0])})
    assert state.values["g"].shape == (K, 1)
    assert torch.equal(state.ancestors[:, 0], state.ancestors[:, 1])
    state, _ = engine.run(state, 40)
    assert close(state.particles["g"], 24 / 7, 1 / 7)


# -- interventions on part of a series -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["langevin", "block", "prior"])
def test_a_slice_that_is_set_tells_nothing_of_the_past(kind):
    """The walk with s_1 set to 3: s_0 sees o_0 alone, s_2 starts from 3; o_0 = 1, o_1 = 0, o_2 = 2."""
    engine = DCPC(random_walk(), num_particles=K, moves={"s": kind})
    data = {"o": torch.tensor([[1.0, 0.0, 2.0]])}
    do = {"s": torch.tensor([[NAN, 3.0, NAN]])}
    setup = {"do": do, "masks": {"s": torch.tensor([[False, True, False]])}}
    state, _ = engine.run(engine.init(data, **setup, seed=0), 100)
    s = state.particles["s"]
    assert (s[..., 1] == 3).all() and close(s[..., 0], 0.8, 0.2)
    precision = 1 / 0.64 + 4
    assert close(s[..., 2], (3 / 0.64 + 2 * 4) / precision, 1 / precision)
    exact = [d.Normal(0.0, 1.25**0.5), d.Normal(3.0, 0.5), d.Normal(3.0, 0.89**0.5)]
    exact = sum(law.log_prob(x) for law, x in zip(exact, data["o"][0], strict=True))
    for method in ("gauss_markov", "annealed"):
        found = engine.log_evidence(data, **setup, method=method, seed=0, num_fit=4000)
        assert abs(found - exact) < 0.1
    state = engine.append(state, {"o": torch.tensor([2.0])})
    assert state.masks["s"].tolist() == [[[False, True, False, False]]]


def test_a_chain_that_is_set_in_part():
    """Two values, sticky; set to 1 at the second slice: the first slice keeps its own posterior, the third starts anew."""
    start = torch.tensor([0.7, 0.3])
    move = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    model = hidden_markov(start, move, lambda s: d.Normal(s.float(), 1.0))
    o = torch.tensor([[0.8, 0.0, 0.3]])
    likelihood = d.Normal(torch.arange(2.0)[:, None], 1.0).log_prob(o[0]).exp()
    first = start * likelihood[:, 0]
    last = move[1] * likelihood[:, 2]
    for kind in ("ffbs", "gibbs"):
        engine = DCPC(model, num_particles=2000, moves={"s": kind})
        masks = {"s": torch.tensor([[False, True, False]])}
        state = engine.init({"o": o}, do={"s": torch.tensor([[0, 1, 0]])}, masks=masks, seed=0)
        state, _ = engine.run(state, 5)
        for t, odds in ((0, first), (2, last)):
            p = odds[1] / odds.sum()
            share = (state.particles["s"][..., t] == 1).double().mean()
            assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / 2000)
            assert torch.allclose(
                engine.marginals(state, "s")[:, :, t, 1].mean(),
                p,
                atol=0.05 if kind == "gibbs" else 1e-5,
            )


def test_what_was_set_stays_set_in_a_counterfactual():
    engine = DCPC(random_walk(), num_particles=4)
    masks = {"s": torch.tensor([[True, False, True]])}
    state = engine.init(
        {"o": torch.zeros(1, 3)}, do={"s": torch.tensor([[1.0, 0.0, 5.0]])}, masks=masks, seed=0
    )
    found = engine.counterfactual(state, {"o": torch.ones(1, 3)})
    assert torch.equal(found["s"], state.particles["s"])
    again, _ = engine.run(state, 2, do={"s": torch.zeros(1, 3)})
    assert again.conditioning.partly_intervened == frozenset()
    assert again.conditioning.intervened == {"s"}


def test_data_that_are_set_for_some_only():
    model = GraphicalModel()
    model.add_site("a", lambda: d.Normal(0.0, 1.0))
    model.add_site("b", lambda a: d.Normal(a, 1.0), ["a"])
    model.add_site("c", lambda b: d.Normal(b, 1.0), ["b"])
    engine = DCPC(model, num_particles=K)
    masks = {"b": torch.tensor([True, False])}
    state = engine.init(
        {"c": torch.tensor([3.0, 3.0])}, do={"b": torch.tensor([1.0, 0.0])}, masks=masks, seed=0
    )
    state, _ = engine.run(state, 80)
    assert close(state.particles["a"][:, 0], 0.0, 1.0)
    assert close(state.particles["a"][:, 1], 1.0, 2 / 3)
    assert (state.particles["b"][:, 0] == 1).all()
