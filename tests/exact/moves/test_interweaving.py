"""Scales that move together with what they scale: which do, that the joint distribution stays, and what is gained."""

import math

import pytest
import torch
from synchronisation import NoSynchronisation
from torch.distributions import (
    Bernoulli,
    Gamma,
    HalfCauchy,
    HalfNormal,
    Independent,
    MultivariateNormal,
    Normal,
)

from aif_dcpc.inference import DCPC, GraphicalModel, lag
from aif_dcpc.inference.checks.geweke import joint_test
from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.moves import interweaving
from aif_dcpc.inference.moves.interweaving import Interweaving
from aif_dcpc.inference.moves.schedule import Schedule

ONE = torch.ones(())


def hierarchy(size=3) -> GraphicalModel:
    """A scale, values around a mean of their own, and data of each."""
    model = GraphicalModel()
    model.add_site("m", lambda: Normal(0 * ONE, ONE))
    model.add_site("s", lambda: Gamma(2 * ONE, 2 * ONE))
    model.add_site(
        "z",
        lambda m, s: Independent(Normal(m[..., None].expand(*m.shape, size), s[..., None]), 1),
        ["m", "s"],
    )
    model.add_site("x", lambda z: Independent(Normal(z, ONE), 1), ["z"])
    return model


SHAPE = torch.tensor([[1.0, 0.0], [0.5, 1.0]])


def shared() -> GraphicalModel:
    """One scale for all data, and a matrix that it is a part of."""
    model = GraphicalModel()
    model.add_site("s", lambda: Gamma(2 * ONE, 2 * ONE), scope="global")
    zeros = torch.zeros(2)
    model.add_site(
        "z", lambda s: MultivariateNormal(zeros, scale_tril=s[..., None, None] * SHAPE), ["s"]
    )
    model.add_site("x", lambda z: Independent(Normal(z.exp(), ONE), 1), ["z"])
    return model


def walk() -> GraphicalModel:
    """A path whose steps have an unknown size."""
    model = GraphicalModel()
    model.add_site("s", lambda: Gamma(2 * ONE, 2 * ONE))
    model.add_site(
        "z", lambda z, s: Normal(z, s), [lag("z"), "s"],
        initial=lambda s: Normal(0 * s, ONE), scope="slice",
    )  # fmt: skip
    model.add_site("x", lambda z: Normal(z, ONE), ["z"], scope="slice")
    return model


def chosen(model, data, **options):
    engine = DCPC(model, num_particles=4, **{k: v for k, v in options.items() if k == "moves"})
    state = engine.init(data, seed=0, **{k: v for k, v in options.items() if k != "moves"})
    moves = engine.schedule(state).moves(0)
    return [m for m in moves if isinstance(m, Interweaving)]


# -- which sites -----------------------------------------------------------------------------------


def test_scales_that_latents_set_move_with_what_they_scale():
    data = {"x": torch.zeros(2, 3)}
    assert chosen(hierarchy(), data) == [Interweaving("s", ("z",))]
    assert chosen(shared(), {"x": torch.zeros(5, 2)}) == [Interweaving("s", ("z",))]
    assert chosen(walk(), {"x": torch.zeros(2, 6)}) == [Interweaving("s", ("z",))]


@pytest.mark.parametrize("name", ["s", "z"])
def test_a_site_with_a_move_of_the_users_stays_where_that_puts_it(name):
    assert chosen(hierarchy(), {"x": torch.zeros(2, 3)}, moves={name: "mala"}) == []


def test_given_scales_children_and_partly_given_ones_are_not_moved():
    data = {"x": torch.zeros(2, 3)}
    assert chosen(hierarchy(), data | {"s": torch.ones(2)}) == []
    assert chosen(hierarchy(), data | {"z": torch.zeros(2, 3)}) == []
    given = {"x": torch.zeros(2, 6), "z": torch.zeros(2, 6)}
    known = torch.arange(6).expand(2, 6) < 3
    assert chosen(walk(), given, masks={"z": known}) == []


def test_scales_that_do_not_depend_on_latents_are_left_alone():
    model = GraphicalModel()
    model.add_site("m", lambda: Normal(0 * ONE, ONE))
    model.add_site("k", lambda: Bernoulli(0.5 * ONE))
    model.add_site("z", lambda m, k: Normal(m, 1 + k), ["m", "k"])
    model.add_site("x", lambda z: Normal(z, ONE), ["z"])
    assert chosen(model, {"x": torch.zeros(2)}) == []


def test_sites_of_many_numbers_are_left_alone():
    def model(size):
        found = GraphicalModel()
        found.add_site("s", lambda: Independent(HalfNormal(torch.ones(size)), 1))
        found.add_site("z", lambda s: Independent(Normal(torch.zeros(size), s), 1), ["s"])
        found.add_site("x", lambda z: Independent(Normal(z, ONE), 1), ["z"])
        return found

    assert chosen(model(50), {"x": torch.zeros(1, 50)})
    assert not chosen(model(51), {"x": torch.zeros(1, 51)})


# -- the joint distribution ------------------------------------------------------------------------

MODELS = {"hierarchy": (hierarchy, (3,)), "shared": (shared, (2,)), "walk": (walk, (3,))}


@pytest.fixture
def alone(monkeypatch):
    """Let engines make this move alone."""
    whole = DCPC.schedule

    def part(self, state):
        cycle = whole(self, state).cycle
        return Schedule(
            tuple(tuple(m for m in moves if isinstance(m, Interweaving)) for moves in cycle)
        )

    monkeypatch.setattr(DCPC, "schedule", part)


def disturbances(name, num_sweeps=6):
    """Sentences of Geweke's test (see `checks.geweke`), one for each site that is disturbed."""
    build, event = MODELS[name]
    data = {"x": torch.zeros(1, *event)}
    return joint_test(build(), data, moves=None, replicates=4000, num_sweeps=num_sweeps, seed=1)


@pytest.mark.parametrize("name", MODELS)
def test_the_joint_distribution_stays(name, alone):
    """A right move fails it once in 1e5 pairs of seeds."""
    assert disturbances(name) == []


def no_jacobian(monkeypatch):
    plain = Block.to_declared
    monkeypatch.setattr(Block, "to_declared", lambda self, w: (plain(self, w)[0], w.new_zeros(())))


def no_children(monkeypatch):
    chosen_all = interweaving._chosen
    monkeypatch.setattr(interweaving, "_chosen", lambda *given: {"s": chosen_all(*given)["s"]})


def no_ratio(monkeypatch):
    monkeypatch.setattr(Interweaving, "_gain", lambda self, state, block, moved: torch.tensor(9.0))


@pytest.mark.parametrize("fault", [no_jacobian, no_children, no_ratio])
def test_a_fault_is_noticed(fault, alone, monkeypatch):
    fault(monkeypatch)
    assert disturbances("hierarchy", num_sweeps=12)


def test_a_scale_of_all_data_keeps_the_prior(alone):
    """One chain for three data: s and its products with z^2 before and after, within 4.5 standard errors (7e-6 each)."""
    engine = DCPC(shared(), num_particles=4000)
    start = engine.init({}, batch_size=3, seed=0)
    warm, _ = engine.run(start, 30, adapt=True)
    moved, _ = engine.run(start.replace(adaptation=warm.adaptation), 8, adapt=False)
    other = engine.init({}, batch_size=3, seed=1)
    share = (moved.particles["s"] != start.particles["s"]).double().mean()
    assert share > 0.8
    for function in (lambda s, z: s, lambda s, z: (s * z.square().sum((1, 2))).tanh()):
        found = [function(c.particles["s"].flatten(), c.particles["z"]) for c in (moved, other)]
        error = (sum(x.var() / len(x) for x in found)).sqrt()
        assert abs(found[0].mean() - found[1].mean()) < 4.5 * error


def test_sweeps_do_not_wait_for_the_device():
    for build, event in MODELS.values():
        engine = DCPC(build(), num_particles=4)
        state = engine.init({"x": torch.zeros(2, *event)}, seed=0)
        for _ in range(4):
            state, _ = engine.sweep(state, log_joint=False)
        with NoSynchronisation() as mode:
            for adapt in (True, False):
                state, _ = engine.sweep(state, adapt=adapt, log_joint=False)
        assert not mode.found


# -- what is gained --------------------------------------------------------------------------------


def neck() -> GraphicalModel:
    """Five groups around 0 whose scale may be very small: log s has a long lower tail."""
    model = GraphicalModel()
    model.add_site("s", lambda: HalfCauchy(ONE))
    model.add_site("z", lambda s: Independent(Normal(torch.zeros(5), s[..., None]), 1), ["s"])
    model.add_site("x", lambda z: Independent(Normal(z, ONE), 1), ["z"])
    return model


def exact_log_scale(data):
    """Mean and standard deviation of log s, and P(s < .1), by a grid: x_i ~ N(0, 1 + s^2)."""
    u = torch.linspace(-14, 9, 60001, dtype=torch.float64)
    variance = 1 + (2 * u).exp()
    log_p = u - variance.log() - 0.5 * (data.double()[:, None] ** 2 / variance).sum(0)
    log_p = log_p - 0.5 * len(data) * variance.log()
    p = torch.softmax(log_p, 0)
    mean = (p * u).sum()
    return float(mean), float((p * (u - mean) ** 2).sum().sqrt()), float(p[u < math.log(0.1)].sum())


def test_the_neck_of_a_hierarchy_is_visited_by_few_particles():
    """Sixteen particles, 1,500 sweeps; without this move none goes where s < .1, and sds are .15 to .2 too small.

    Effective draws are at least 1,000, so that an error of .12 sd in the mean is 3.8 of its standard errors.
    """
    data = torch.tensor([2.0, -1.0, 0.5, 3.0, -2.0])
    mean, sd, below = exact_log_scale(data)
    engine = DCPC(neck(), num_particles=16)
    state, _ = engine.run(engine.init({"x": data[None]}, seed=5), 100)
    _, info = engine.run(state, 1500, record=["s"])
    u = info.trace["s"].log()
    assert abs(float(u.mean()) - mean) < 0.12 * sd
    assert 0.3 * below < float((u < math.log(0.1)).double().mean()) < 2 * below
