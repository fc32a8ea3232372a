"""Roles, coordinates and fillings of a first cloud; predictions and interventions on small models."""

import math
from inspect import signature

import pytest
import torch
from models import gaussian_pair, gaussian_pair_evidence, gaussian_pair_posterior
from torch import distributions as d

from aif_dcpc.inference import (
    DCPC,
    GraphicalModel,
    InferenceError,
    MoveError,
    NonFiniteError,
    every,
    lag,
)
from aif_dcpc.inference.model.state import Info
from aif_dcpc.inference.moves import schedule as schedules
from aif_dcpc.inference.moves.ffbs import ForwardFilterBackwardSample
from aif_dcpc.inference.moves.gibbs import Gibbs
from aif_dcpc.inference.moves.langevin import Langevin
from aif_dcpc.inference.queries.predictions import _downstream
from aif_dcpc.inference.smc.annealing import select as _select


def one(law, name="z"):
    model = GraphicalModel()
    model.add_site(name, lambda: law)
    return model


SUPPORTS = {
    "real": (d.Normal(0.0, 1.0), False, None),
    "vector": (d.MultivariateNormal(torch.zeros(2), torch.eye(2)), False, None),
    "independent": (d.Independent(d.Normal(torch.zeros(2), 1.0), 1), False, None),
    "positive": (d.Gamma(2.0, 1.0), True, None),
    "simplex": (d.Dirichlet(torch.ones(3)), True, None),
    "counts": (d.Poisson(2.0), False, (0.0, math.inf)),
    "interval": (d.Binomial(7, torch.tensor(0.4)), False, (0.0, 7.0)),
    "categorical": (d.Categorical(torch.ones(4)), False, (0.0, 3.0)),
    "tokens": (d.Independent(d.Categorical(torch.ones(2, 4)), 1), False, (0.0, 3.0)),
    "one hot": (d.OneHotCategorical(torch.ones(3)), False, None),
    "bernoulli": (d.Bernoulli(0.5), False, (0.0, 1.0)),
}


@pytest.mark.parametrize("name", SUPPORTS)
def test_roles_of_supports(name):
    law, constrained, bounds = SUPPORTS[name]
    state = DCPC(one(law), num_particles=2).init(batch_size=3, seed=0)
    conditioning = state.conditioning
    discrete = bool(law.support.is_discrete)
    assert (("z" in conditioning.discrete), ("z" in conditioning.bijections)) == (
        discrete,
        constrained,
    )
    assert conditioning.bounds.get("z") == bounds
    assert ("z" in conditioning.supports) == (law.has_enumerate_support or name == "tokens")
    assert law.support.check(state.particles["z"]).all()
    assert torch.allclose(
        conditioning.unconstrain(state.particles)["z"], state.values["z"], atol=1e-4
    )


def test_supports_list_every_value():
    assert DCPC(one(d.Categorical(torch.ones(3)))).init().conditioning.supports["z"].tolist() == [
        0,
        1,
        2,
    ]
    assert (
        DCPC(one(d.OneHotCategorical(torch.ones(3)))).init().conditioning.supports["z"].tolist()
        == torch.eye(3).tolist()
    )


def test_what_is_not_observed_is_filled_with_something_possible():
    model = one(d.Gamma(2.0, 1.0), "x")
    nan = float("nan")
    data = torch.tensor([nan, 3.0, nan, 4.0])
    shown = torch.tensor([False, True, False, True])
    state = DCPC(model, num_particles=2).init({"x": data}, masks={"x": shown}, seed=0)
    assert state.values["x"].tolist() == [[3.0, 3.0, 3.0, 4.0]]
    assert state.conditioning.latent == () and state.values["x"].shape[0] == 1
    expected = d.Gamma(2.0, 1.0).log_prob(torch.tensor([3.0, 4.0]))
    log_joint = DCPC(model).log_joint(state)
    assert torch.allclose(
        log_joint,
        torch.stack([torch.zeros(()), expected[0], torch.zeros(()), expected[1]]).expand(2, 4),
    )


def test_a_cloud_starts_with_equal_weights_and_itself_as_ancestor():
    state = DCPC(one(d.Normal(0.0, 1.0).expand((2,))), num_particles=4).init(batch_size=3, seed=0)
    assert state.values["z"].shape == (4, 3, 2)
    assert (state.log_weights == 0).all() and state.weights().allclose(torch.tensor(0.25))
    assert torch.equal(state.ancestors, torch.arange(4)[:, None].expand(4, 3))
    assert state.length == state.sweeps == 0 and state.log_evidence.tolist() == [0, 0, 0]
    assert (
        DCPC(one(d.Normal(torch.zeros(()).double(), 1.0))).init().log_weights.dtype == torch.float64
    )


def test_seeds_of_the_engine_and_of_the_call():
    model = one(d.Normal(0.0, 1.0))

    def first(engine, **options):
        return engine.init(batch_size=2, **options).values["z"]

    assert torch.equal(first(DCPC(model, seed=3)), first(DCPC(model), seed=3))
    assert not torch.equal(first(DCPC(model, seed=3)), first(DCPC(model)))
    assert torch.equal(first(DCPC(model)), first(DCPC(model), seed=0))
    engine = DCPC(model)
    assert not torch.equal(first(engine), first(engine))  # the generator goes on
    assert torch.equal(first(engine, seed=1), first(engine, seed=1))


def test_moves_adapt_while_warming_up_only():
    engine = DCPC(one(d.Normal(0.0, 1.0)), num_particles=4, warmup=3)
    state, _ = engine.run(engine.init(batch_size=2), 5)
    assert sum(state.adaptation["z"].updates.values()) == 3 and state.sweeps == 5
    frozen, _ = engine.run(engine.init(batch_size=2), 2, adapt=False)
    assert not any(a.updates for a in frozen.adaptation.values())
    again, _ = engine.run(state, 2, adapt=True)
    assert sum(again.adaptation["z"].updates.values()) == 5


def test_the_log_joint_that_is_not_finite_names_its_site():
    model = GraphicalModel()
    model.add_site("z", lambda: d.Normal(0.0, 1.0))
    model.add_site("x", lambda z: d.Normal(z, 1.0), ["z"])
    with pytest.raises(NonFiniteError, match="site 'x', by sweep 2"):
        DCPC(model).run(DCPC(model).init({"x": torch.tensor([math.inf])}), 2)
    engine = DCPC(model)
    state = engine.init({"x": torch.zeros(1)})
    engine.check_finite(state, Info({}, torch.zeros(1, 1)))
    # nothing to see in the factors themselves
    with pytest.raises(NonFiniteError, match="check_model"):
        engine.check_finite(state, Info({}, torch.full((1, 1), math.inf)))


# -- schedules -------------------------------------------------------------------------------------


def chain(size, lags=1):
    table = torch.full((size, size), 1.0) + torch.eye(size)
    model = GraphicalModel()
    model.add_site(
        "z",
        lambda z: d.Categorical(table[z]),
        [lag("z", lags)],
        initial=lambda: d.Categorical(table[0]),
        scope="slice",
    )
    model.add_site("x", lambda z: d.Normal(z.float(), 1.0), ["z"], scope="slice")
    return model


def passes(model, length=6, **options):
    engine = DCPC(model, num_particles=2, **options)
    found = engine.schedule(engine.init(batch_size=1, length=length))
    return found.moves(0), found.moves(1), found


def test_discrete_chains_are_drawn_whole_unless_too_large():
    assert passes(chain(32))[0][1] == ForwardFilterBackwardSample("z")
    assert passes(chain(33))[0][1:] == (Gibbs("z", 0), Gibbs("z", 1))
    assert passes(chain(3, lags=2))[0][1:] == tuple(Gibbs("z", phase) for phase in range(3))
    assert passes(chain(3), length=1)[0][1] == Gibbs("z", 0)


def walk(lags=1):
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: d.Normal(s, 1.0),
        [lag("s", lags)],
        initial=lambda: d.Normal(0.0, 1.0),
        scope="slice",
    )
    return model


def test_series_move_in_windows_and_slice_by_slice():
    even, odd, every = passes(walk(), length=20, window=6)
    assert even == (Langevin("s", 6, 0, "ou"), Langevin("s", 1, 1, "ou", gap=6))
    assert every.moves(2) == (Langevin("s", 6, 3, "ou"), Langevin("s", 1, 4, "ou", gap=6))
    assert odd == (Langevin("s", 1, 0, "mala"), Langevin("s", 1, 1, "mala"))
    assert every.moves(4) == even and every.moves(7) == odd
    assert passes(walk(), length=6, window=6)[0] == (Langevin("s", 6, 0, "ou"),)
    assert passes(walk(), length=7, window=6)[0] == even
    assert passes(walk(2), length=20, window=6)[0] == (
        Langevin("s", 6, 0, "ou"),
        Langevin("s", 2, 2, "ou", gap=6),
    )
    assert passes(walk(2), length=20, window=1)[0] == tuple(
        Langevin("s", 1, p, "ou") for p in range(3)
    )
    assert passes(walk(), length=1)[0] == (Langevin("s", noise="ou"),)
    blocks = passes(walk(), length=2000, window=6, moves={"s": "block"})
    assert blocks[0] == (Langevin("s", 1024, 0, "ou"), Langevin("s", 1, 1, "ou", gap=1024))
    assert blocks[1] == (Langevin("s", 6, 0, "ou"), Langevin("s", 6, 3, "ou"))
    assert passes(walk(), length=20, moves={"s": "barker"})[0] == tuple(
        Langevin("s", 1, p, "barker") for p in (0, 1)
    )


def test_a_site_without_a_sound_move_is_refused():
    with pytest.raises(MoveError, match="neither finite nor ordered"):
        passes(one(d.Multinomial(3, torch.ones(2))), length=None)


def test_an_engine_that_is_told_nothing_has_the_defaults_of_the_schedule():
    default = {name: entry.default for name, entry in signature(DCPC).parameters.items()}
    assert schedules.DEFAULTS == schedules.Options(window=default["window"], step=default["step"])
    untold = passes(walk(), length=40)
    assert untold == passes(walk(), length=40, window=default["window"])
    assert untold != passes(walk(), length=40, window=default["window"] + 1)


# -- predictions -----------------------------------------------------------------------------------


def triangle():
    model = GraphicalModel()
    model.add_site("a", lambda: d.Normal(0.0, 1.0))
    model.add_deterministic("twice", lambda a: 2 * a, ["a"])
    model.add_site("b", lambda t: d.Normal(t, 0.5), ["twice"])
    model.add_site("c", lambda a, b: d.Normal(a + b, 1.0), ["a", "b"])
    model.add_site("apart", lambda: d.Normal(0.0, 1.0))
    return model


def test_what_a_change_can_reach():
    state = DCPC(triangle(), num_particles=2).init(batch_size=1)
    assert _downstream(state, {"a"}) == ["b", "c"] and _downstream(state, {"b"}) == ["c"]
    assert _downstream(state, {"c"}) == [] == _downstream(state, {"apart"})
    cut = DCPC(triangle(), num_particles=2).init(do={"b": torch.zeros(1)})
    assert _downstream(cut, {"a"}) == ["c"]


def test_counterfactuals_replay_the_same_noise():
    engine = DCPC(triangle(), num_particles=3)
    state = engine.init({"c": torch.tensor([1.0, 2.0])}, seed=0)
    v = state.values
    found = engine.counterfactual(state, {"a": torch.tensor([3.0, -1.0])})
    change = torch.tensor([3.0, -1.0]) - v["a"]
    assert torch.allclose(found["a"], torch.tensor([3.0, -1.0]).expand(3, 2))
    assert torch.allclose(found["b"], v["b"] + 2 * change, atol=1e-5)
    assert torch.allclose(found["c"], v["c"] + 3 * change, atol=1e-5)
    assert torch.equal(found["apart"], v["apart"])


def test_counterfactuals_draw_what_was_missing():
    model = GraphicalModel()
    model.add_site("a", lambda: d.Normal(0.0, 1.0))
    model.add_site("b", lambda a: d.Normal(a, 0.1), ["a"])
    engine = DCPC(model, num_particles=2000)
    shown = torch.tensor([True, False])
    state = engine.init(
        {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([1.5, 0.0])}, masks={"b": shown}, seed=0
    )
    found = engine.counterfactual(state, {"a": torch.tensor([0.0, 0.0])})["b"]
    assert torch.allclose(found[:, 0], torch.tensor(0.5))  # its noise was .5
    assert abs(found[:, 1].mean()) < 5 * 0.1 / 2000**0.5 and abs(found[:, 1].std() / 0.1 - 1) < 0.1


def test_replicates_are_drawn_at_the_particles():
    model = GraphicalModel()
    model.add_site("g", lambda: d.Normal(0.0, 1.0), scope="global")
    model.add_site(
        "s",
        lambda s: d.Normal(s, 1.0),
        [lag("s")],
        initial=lambda: d.Normal(5.0, 1.0),
        scope="slice",
    )
    model.add_site("slow", lambda g: d.Normal(g, 1e-4), ["g"], scope=every(2))
    model.add_site("o", lambda s: d.Normal(s, 1e-4), ["s"], scope="slice")
    engine = DCPC(model, num_particles=3)
    state = engine.init({"o": torch.zeros(2, 5), "slow": torch.zeros(2, 3)}, seed=0)
    found = engine.predict(state)
    assert set(found) == {"o", "slow"} and found["slow"].shape == (3, 2, 3)
    assert torch.allclose(found["o"], state.values["s"], atol=1e-3)
    assert torch.allclose(found["slow"], state.values["g"].unsqueeze(-1).expand(3, 2, 3), atol=1e-3)


# -- tempering -------------------------------------------------------------------------------------


def test_lineages_are_selected_whole():
    model = GraphicalModel()
    model.add_site("g", lambda: d.Normal(0.0, 1.0), scope="global")
    model.add_site("z", lambda g: d.Normal(g, 1.0), ["g"])
    state = DCPC(model, num_particles=3).init(batch_size=2, seed=0)
    found = _select(state, torch.tensor([[2], [0], [2]]))
    for name in "gz":
        assert torch.equal(found.values[name], state.values[name][[2, 0, 2]])
    assert found.ancestors.tolist() == [[2, 2], [0, 0], [2, 2]]
    apart = DCPC(one(d.Normal(0.0, 1.0)), num_particles=3).init(batch_size=2, seed=0)
    found = _select(apart, torch.tensor([[2, 0], [0, 0], [2, 1]]))
    assert torch.equal(found.values["z"][:, 1], apart.values["z"][[0, 0, 1], 1])


def test_tempering_estimates_the_evidence_of_each_datum():
    x = torch.tensor([0.0, 2.0])
    mean, variance = gaussian_pair_posterior(x)
    state, info = DCPC(gaussian_pair(), num_particles=3000).temper(
        {"x": x}, num_temperatures=8, seed=0
    )
    assert (state.log_evidence - gaussian_pair_evidence(x)).abs().max() < 0.1
    assert info.trace["inverse_temperature"].shape == (8,)
    assert info.trace["ess_fraction"].shape == (8, 2)
    assert ((info.trace["ess_fraction"] > 0) & (info.trace["ess_fraction"] <= 1 + 1e-5)).all()
    assert (state.values["z"].mean(0) - mean).abs().max() < 5 * (variance / 3000) ** 0.5 * 2
    assert (state.values["z"].var(0) / variance - 1).abs().max() < 0.15
    assert state.inverse_temperature is None and set(info.acceptance) == {"z"}


def test_errors_have_one_root():
    assert issubclass(MoveError, InferenceError) and issubclass(NonFiniteError, InferenceError)
