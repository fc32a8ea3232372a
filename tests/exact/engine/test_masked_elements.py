"""Masks over elements of an event, and conditionals that models supply, with data partly missing.

Monte Carlo checks allow 5 standard errors at fixed seeds.
"""

import math

import pyro
import pytest
import torch
from clouds import close
from pyro import distributions as p
from torch import distributions as d

from aif_dcpc.inference import DCPC, ClampError, GraphicalModel, ModelError, MoveError, lag
from aif_dcpc.inference.images.layers import GreyBernoulli
from aif_dcpc.inference.moves.user_conditional import UserConditional

K = 2000
SHOWN = torch.tensor([[True, False, True]])


def often(flags, probability):
    return abs(flags.double().mean() - probability) < 5 * math.sqrt(
        probability * (1 - probability) / flags.numel()
    )


def three(z):
    return z.unsqueeze(-1).expand(*z.shape, 3)


LAWS = {
    "independent": lambda z: d.Independent(d.Normal(three(z), 1.0), 1),
    "batch": lambda z: d.Normal(three(z), 1.0),
}


@pytest.mark.parametrize("hidden", [9.0, float("nan")])
@pytest.mark.parametrize("law", LAWS)
def test_hidden_elements_say_nothing(law, hidden):
    """Two of three readings of z: posterior mean 3 / 3 and variance 1 / 3; for the second datum one reading."""
    model = GraphicalModel()
    model.add_site("z", lambda: d.Normal(0.0, 1.0))
    model.add_site("x", LAWS[law], ["z"])
    engine = DCPC(model, num_particles=K)
    data = {"x": torch.tensor([[1.0, hidden, 2.0], [hidden, 2.0, hidden]])}
    masks = {"x": torch.cat([SHOWN, ~SHOWN])}
    state, _ = engine.run(engine.init(data, masks=masks, seed=0), 60)
    assert close(state.particles["z"][:, 0], 1.0, 1 / 3)
    assert close(state.particles["z"][:, 1], 1.0, 1 / 2)
    seen = [torch.tensor([1.0, 2.0]), torch.tensor([2.0])]
    exact = [
        d.MultivariateNormal(torch.zeros(len(x)), torch.eye(len(x)) + 1).log_prob(x) for x in seen
    ]
    found = engine.log_evidence(data, masks=masks, num_samples=2000, num_fit=2000)
    assert (found - torch.stack(exact)).abs().max() < 0.05


def test_hidden_elements_of_slices():
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: d.Normal(s, 1.0),
        [lag("s")],
        initial=lambda: d.Normal(0.0, 1.0),
        scope="slice",
    )
    model.add_site("o", LAWS["batch"], ["s"], scope="slice")
    masks = {"o": torch.tensor([[[True, True, False], [False, False, False]]])}
    engine = DCPC(model, num_particles=K)
    state = engine.init(
        {"o": torch.tensor([[[1.0, 2.0, 9.0], [9.0, 9.0, 9.0]]])}, masks=masks, seed=0
    )
    state, _ = engine.run(state, 60)
    assert close(state.particles["s"][..., 0], 1.0, 1 / 3)
    assert close(state.particles["s"][..., 1], 1.0, 4 / 3)
    state = engine.append(
        state, {"o": torch.full((1, 3), 9.0)}, masks={"o": torch.zeros(1, dtype=torch.bool)}
    )
    assert state.log_evidence == 0 and state.masks["o"].shape == (1, 1, 3, 3)


def test_elements_that_are_not_scored_apart_are_refused():
    model = GraphicalModel()
    model.add_site("z", lambda: d.Normal(0.0, 1.0))
    model.add_site("x", lambda z: d.MultivariateNormal(three(z), torch.eye(3)), ["z"])
    model.add_site("image", lambda z: GreyBernoulli(three(z)[..., None, None]), ["z"])
    data = {"x": torch.zeros(1, 3), "image": torch.zeros(1, 3, 1, 1)}
    for masks in ({"x": SHOWN}, {"image": SHOWN}):
        with pytest.raises(ClampError, match="does not score the elements of an event one by one"):
            DCPC(model).init(data, masks=masks)


# -- latents of which elements are observed --------------------------------------------------------


def vector():
    model = GraphicalModel()
    model.add_site("z", lambda: d.Independent(d.Normal(torch.zeros(3), 1.0), 1))
    model.add_site("x", lambda z: d.Normal(z.sum(-1), 1.0), ["z"])
    return model


@pytest.mark.parametrize("kind", ["langevin", "mala", "barker"])
def test_observed_elements_of_a_latent_vector_stay(kind):
    """z_0 = 1 and z_2 = 2 observed, x = 4: z_1 ~ Normal(.5, .5)."""
    engine = DCPC(vector(), num_particles=K, moves={"z": kind})
    data = {"x": torch.tensor([4.0]), "z": torch.tensor([[1.0, float("nan"), 2.0]])}
    state, _ = engine.run(engine.init(data, masks={"z": SHOWN}, seed=0), 80)
    assert (state.particles["z"][..., [0, 2]] == torch.tensor([1.0, 2.0])).all()
    assert close(state.particles["z"][..., 1], 0.5, 0.5)


def test_observed_elements_of_a_latent_series_stay():
    model = GraphicalModel()
    law = d.Independent(d.Normal(torch.zeros(2), 1.0), 1)
    step = lambda s: d.Independent(d.Normal(s, 1.0), 1)  # noqa: E731
    model.add_site("s", step, [lag("s")], initial=lambda: law, scope="slice")
    masks = torch.rand(1, 30, 2, generator=torch.Generator().manual_seed(0)) < 0.5
    values = torch.randn(1, 30, 2, generator=torch.Generator().manual_seed(1))
    engine = DCPC(model, num_particles=500, window=4)
    state, _ = engine.run(engine.init({"s": values}, masks={"s": masks}, seed=0), 120)
    cov = torch.minimum(torch.arange(1.0, 31)[:, None], torch.arange(1.0, 31))
    for e in range(2):
        seen = masks[0, :, e]
        gain = cov[:, seen] @ torch.linalg.inv(cov[seen][:, seen])
        mean = gain @ values[0, seen, e]
        variance = (cov - gain @ cov[seen]).diagonal()
        found = state.particles["s"][:, 0, :, e]
        assert torch.equal(found[:, seen], values[0, seen, e].expand(500, -1))
        error = (found.mean(0) - mean)[~seen].abs() / (variance[~seen] / 500).sqrt()
        assert error.max() < 5
        assert (found.var(0) / variance)[~seen].log().abs().max() < 5 * (2 / 500) ** 0.5


def test_observed_elements_of_a_latent_binary_vector_stay():
    """Pairs (z_0 = 1, z_1) under x = z_0 + z_1 + noise by enumeration."""
    model = GraphicalModel()
    model.add_site("z", lambda: d.Bernoulli(torch.tensor([0.3, 0.6])))
    model.add_site("x", lambda z: d.Normal(z.sum(-1), 0.7), ["z"])
    data = {"x": torch.tensor([1.4]), "z": torch.tensor([[1.0, 0.0]])}
    engine = DCPC(model, num_particles=K)
    state, _ = engine.run(engine.init(data, masks={"z": torch.tensor([[True, False]])}, seed=0), 5)
    odds = (
        torch.tensor([0.4, 0.6])
        * d.Normal(torch.tensor([1.0, 2.0]), 0.7).log_prob(torch.tensor(1.4)).exp()
    )
    assert (state.particles["z"][..., 0] == 1).all()
    assert often(state.particles["z"][..., 1], odds[1] / odds.sum())


def test_moves_and_estimates_that_cannot_hold_elements_say_so():
    data = {"x": torch.tensor([4.0]), "z": torch.zeros(1, 3)}
    engine = DCPC(vector(), moves={"z": "prior"})
    with pytest.raises(MoveError, match="holds elements; choose 'langevin' or 'gibbs'"):
        engine.sweep(engine.init(data, masks={"z": SHOWN}))
    for method in ("gauss_markov", "annealed"):
        with pytest.raises(ModelError, match="elements of a latent's event apart"):
            DCPC(vector(), warmup=2).log_evidence(
                data, masks={"z": SHOWN}, method=method, num_fit=64
            )


# -- one more slice --------------------------------------------------------------------------------


LAWS_OF_TWO = {
    "independent": lambda s: d.Independent(d.Normal(s, 0.8), 1),
    "batch": lambda s: d.Normal(s, 0.8),
    "whole": lambda s: d.MultivariateNormal(s, 0.64 * torch.eye(2)),
}


def walk(law):
    """An engine of s_0 ~ law(0), s_t ~ law(s_{t-1}), and its first slice with one element seen."""
    model = GraphicalModel()
    model.add_site("s", law, [lag("s")], initial=lambda: law(torch.zeros(2)), scope="slice")
    engine = DCPC(model, num_particles=4)
    first = torch.tensor([[[True, False]]])
    return engine, engine.init({"s": torch.tensor([[[0.5, 9.0]]])}, masks={"s": first}, seed=0)


@pytest.mark.parametrize("name", ["independent", "batch"])
def test_a_slice_arrives_with_one_element_of_a_latent(name):
    """What is seen, .5, -1 and 2, is a random walk of its own; sweeps of the last slices leave it as it is."""
    engine, state = walk(LAWS_OF_TWO[name])
    for value in (-1.0, 2.0):
        seen = {"s": torch.tensor([[value, 9.0]])}
        state = engine.append(state, seen, masks={"s": torch.tensor([[True, False]])})
    state = engine.append(state, {})
    exact = d.Normal(torch.tensor([0.5, -1.0]), 0.8).log_prob(torch.tensor([-1.0, 2.0])).sum()
    assert torch.allclose(state.log_evidence, exact)
    swept, _ = engine.run(state, 20, recent=2)
    before = state.particles["s"][:, 0]
    after = swept.particles["s"][:, 0]
    assert torch.equal(after[:, :3, 0], torch.tensor([0.5, -1.0, 2.0]).expand(4, 3))
    assert torch.equal(after[:, :2], before[:, :2])
    assert (after[:, 2, 1] != before[:, 2, 1]).any() and (after[:, 3] != before[:, 3]).any()


def test_events_that_are_scored_as_a_whole_arrive_as_a_whole():
    engine, state = walk(LAWS_OF_TWO["whole"])
    value = torch.tensor([[1.0, 2.0]])
    longer = engine.append(state, {"s": value})
    expected = LAWS_OF_TWO["whole"](state.particles["s"][:, :, 0]).log_prob(value)
    evidence = torch.logsumexp(expected, 0) - math.log(4)
    assert torch.allclose(longer.log_evidence, evidence)
    with pytest.raises(ClampError, match="does not score the elements of an event one by one"):
        engine.append(state, {"s": value}, masks={"s": torch.tensor([[True, False]])})


# -- supplied conditionals -------------------------------------------------------------------------


def supplied(scope="episode", **options):
    """z ~ Normal(0, 1), x ~ Normal(z, 1), with the exact draw of z given x."""

    def draw(values, generator):
        return {"z": torch.randn(values["z"].shape, generator=generator) / 2**0.5 + values["x"] / 2}

    model = GraphicalModel()
    model.add_site("z", lambda: d.Normal(0.0, 1.0), conditional=draw, scope=scope)
    model.add_site("x", lambda z: d.Normal(z, 1.0), ["z"], scope=scope)
    return model


def test_a_supplied_draw_keeps_what_is_observed():
    engine = DCPC(supplied(), num_particles=K)
    masks = {"z": torch.tensor([True, False])}
    state = engine.init(
        {"x": torch.tensor([1.0, 3.0]), "z": torch.tensor([7.0, 7.0])}, masks=masks, seed=0
    )
    assert engine.schedule(state).moves(0) == (UserConditional(("z",)),)
    state, _ = engine.run(state, 3)
    assert (state.particles["z"][:, 0] == 7).all() and close(state.particles["z"][:, 1], 1.5, 0.5)


def test_a_supplied_draw_that_would_read_hidden_data_is_not_used():
    engine = DCPC(supplied(), num_particles=K)
    data = {"x": torch.tensor([5.0, 2.0])}
    state = engine.init(data, masks={"x": torch.tensor([False, True])}, seed=0)
    state, _ = engine.run(state, 60)
    assert close(state.particles["z"][:, 0], 0.0, 1.0)
    assert close(state.particles["z"][:, 1], 1.0, 0.5)
    unmasked = engine.init(data, seed=0)
    assert engine.schedule(unmasked).moves(0) == (UserConditional(("z",)),)


def test_a_supplied_draw_of_a_series_is_not_used_where_slices_are_observed():
    engine = DCPC(supplied("slice"), num_particles=K)
    data = {"x": torch.tensor([[1.0, 3.0]]), "z": torch.tensor([[7.0, 0.0]])}
    state, _ = engine.run(engine.init(data, masks={"z": torch.tensor([[True, False]])}, seed=0), 60)
    assert (state.particles["z"][..., 0] == 7).all()
    assert close(state.particles["z"][..., 1], 1.5, 0.5)


def plated(y):
    with pyro.plate("n", 3):
        c = pyro.sample("c", p.Bernoulli(0.3))
        pyro.sample("y", p.Normal(2 * c, 1.0), obs=y)


def test_plated_sites_of_a_pyro_program_keep_what_is_observed_and_ignore_what_is_hidden():
    """c_0 observed, y_1 hidden: c_1 has its prior, c_2 the odds of its own reading."""
    model, data = GraphicalModel.from_pyro(plated, torch.tensor([0.0, 2.0, 1.4]))
    engine = DCPC(model, num_particles=K)
    masks = {"c": torch.tensor([[True, False, False]]), "y": torch.tensor([[True, False, True]])}
    state, _ = engine.run(engine.init({**data, "c": torch.ones(1, 3)}, masks=masks, seed=0), 3)
    c = state.particles["c"][:, 0]
    odds = (
        torch.tensor([0.7, 0.3])
        * d.Normal(torch.tensor([0.0, 2.0]), 1.0).log_prob(torch.tensor(1.4)).exp()
    )
    assert (c[:, 0] == 1).all() and often(c[:, 1], 0.3) and often(c[:, 2], odds[1] / odds.sum())


def test_what_is_said_of_masked_pyro_programs_works():
    def program(y):
        z = pyro.sample("z", p.Normal(0.0, 1.0))
        with pyro.plate("n", 3):
            pyro.sample("y", p.Normal(z, 1.0), obs=y)

    model, data = GraphicalModel.from_pyro(program, torch.tensor([1.0, 9.0, 2.0]))
    engine = DCPC(model, num_particles=K)
    state, _ = engine.run(engine.init(data, masks={"y": SHOWN}, seed=0), 60)
    assert close(state.particles["z"], 1.0, 1 / 3)
