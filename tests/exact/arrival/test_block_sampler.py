"""Sweeps of a block and of what lies outside it: nothing is lost between charts, and nothing waits for the device."""

import math

import pytest
import torch
from block_models import MODELS
from synchronisation import NoSynchronisation
from torch.distributions import Bernoulli, Categorical, Gamma, Independent, Normal, Uniform

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival.block_sampler import ChartMove
from aif_dcpc.inference.arrival.build import block_names, build_sampler
from aif_dcpc.inference.arrival.size import LEAST, MOST, few, fitting_num_particles
from aif_dcpc.inference.arrival.warm_up import run_window, warm_up
from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.densities import log_joint
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.moves.hamiltonian import Metric

K = 12


@pytest.fixture(autouse=True)
def as_in_sample():
    with no_validation(), torch.no_grad():
        yield


def labelled():
    """A label for each datum, and two places that all data share."""
    model = GraphicalModel()
    model.add_site("which", lambda: Categorical(torch.tensor([0.3, 0.7])))
    model.add_site("place", lambda: Normal(0.0, 2.0), scope="global")
    model.add_site("mean", lambda place: Normal(place, 0.5), ["place"])
    model.add_site(
        "x",
        lambda which, mean: Normal(torch.where(which == 1, mean, 3.0), 0.8),
        ["which", "mean"],
    )
    return model, {"x": torch.tensor([2.0, 0.1, 1.2, 2.9])}


def gated():
    """A gate that all data share, outside of blocks that are each datum's own."""
    model = GraphicalModel()
    model.add_site("gate", lambda: Bernoulli(0.5), scope="global")
    model.add_site("z", lambda gate: Normal(3 * gate, 1.0), ["gate"])
    model.add_site("u", lambda z: Normal(z, 1.0), ["z"])
    model.add_site("x", lambda u: Normal(u, 1.0), ["u"])
    return model, {"x": torch.tensor([1.0, 2.0, 3.0])}


BUILD = {**MODELS, "labelled": labelled, "gated": gated}
ANY = pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)


def sampler_of(build):
    model, observed = build()
    return build_sampler(DCPC(model), observed, K, seed=0)


def stands(sampler):
    """Whether the point's density and score are those of where the chains stand."""
    (move,) = (m for m in sampler.moves if m.chart == sampler.chart)
    log_prob, score = sampler.density(move)(sampler.point.place)
    return torch.equal(log_prob, sampler.point.log_prob) and torch.equal(score, sampler.point.score)


@ANY
def test_a_sweep_leaves_chains_with_the_density_of_their_place(build):
    sampler = sampler_of(build)
    for adapt in (True, False):
        acceptance, points = sampler.sweep(adapt=adapt)
        assert stands(sampler)
        assert set(acceptance) == set(points) == {m.chart for m in sampler.moves}
        assert all(((0 <= a) & (a <= 1)).all() for a in acceptance.values())
    check_log_joint(sampler)


def check_log_joint(sampler):
    """What is told is the engine's, at the declared place; data that share a latent count together."""
    declared, found = sampler.declared()
    block = sampler.block
    whole = log_joint(sampler.state.with_values(block.unflatten(declared)))
    if block.is_coupled:
        found, whole = found.diff(dim=0), whole.sum(1, keepdim=True).diff(dim=0)
        whole = whole - (block.state.batch_size - 1) * shared_part(sampler, declared).diff(dim=0)
    assert torch.allclose(found, whole, atol=1e-4)


def shared_part(sampler, declared):
    """What the global sites of a model count for: once, not for every datum."""
    state = sampler.state.with_values(sampler.block.unflatten(declared))
    total = torch.zeros(K, 1, dtype=declared.dtype)
    for name in sampler.block.names:
        if state.conditioning.site(name).scope == "global":
            value = state.constrained(name)
            total = total + state.conditioning.site(name).kernel().log_prob(value)
            if name in state.conditioning.bijections:
                total = total + value.log()  # positive sites on the logarithm
    return total


@pytest.mark.parametrize("name", [n for n in MODELS if n != "switched"])
def test_changing_charts_leads_back(name):
    sampler = sampler_of(MODELS[name])
    here = sampler.point.place
    declared = next(m for m in sampler.moves if m.chart == "declared")
    standardised = next(m for m in sampler.moves if m.chart == "standardised")
    before, _ = sampler.declared()
    check_log_joint(sampler)
    sampler.change_chart(declared)
    assert torch.allclose(sampler.point.place, before)
    assert stands(sampler)
    check_log_joint(sampler)
    sampler.change_chart(standardised)
    assert torch.allclose(sampler.point.place, here, atol=1e-8)


@ANY
def test_a_sweep_does_not_wait_for_the_device(build):
    """But for kernels that make tensors of numbers, as some of these do where they are not recorded."""
    sampler = sampler_of(build)
    sampler.sweep(adapt=True, adapt_chains=True)
    with NoSynchronisation() as mode:
        for adapt in (True, False):
            sampler.sweep(adapt=adapt, adapt_chains=adapt)
    assert {found for found in mode.found if found[0] != "lift_fresh"} == set()


# -- replacing chains ------------------------------------------------------------------------------


@ANY
def test_a_replaced_chain_has_all_of_its_source(build):
    sampler = sampler_of(build)
    sampler.sweep(adapt=True)
    before = sampler.point.place.clone()
    outside = {n: sampler.state.values[n].clone() for n in sampler.state.values}
    sources = torch.arange(K)[:, None].repeat(1, sampler.block.num_chains)
    sources[0] = 5
    sources[7, -1] = 2
    sampler.replace_chains(sources)
    assert torch.equal(sampler.point.place[0], before[5])
    assert torch.equal(sampler.point.place[7, -1], before[2, -1])
    assert torch.equal(sampler.point.place[1], before[1])
    assert stands(sampler)
    for name in set(sampler.state.conditioning.latent) - set(sampler.block.names):
        value = sampler.state.values[name]
        if value.shape[1] >= sampler.block.num_chains:
            assert torch.equal(value[0], outside[name][5])
        else:  # data whose chains part share it: it stays
            assert torch.equal(value, outside[name])


# -- what is learned -------------------------------------------------------------------------------


def move_of(step=0.5, chains=4):
    return ChartMove(
        "declared",
        lambda place: (place.sum(-1), place),
        Metric(torch.eye(2)[None]),
        torch.tensor([math.log(step)]),
        torch.ones(chains, 1),
    )


def test_the_step_follows_the_acceptance():
    """Up where more than the target is accepted, down where less, by gains of 1.5 t^-.6."""
    high, low = move_of(), move_of()
    changes = []
    for _ in range(3):
        before = high.log_step.clone()
        high.adapt(torch.ones(4, 1))
        low.adapt(torch.zeros(4, 1))
        changes.append(float(high.log_step - before))
    gains = [1.5 * number**-0.6 for number in (1, 2, 3)]
    assert changes == pytest.approx([0.2 * gain for gain in gains], rel=1e-4)
    assert low.log_step < math.log(0.5) < high.log_step
    steady = move_of()
    steady.adapt(torch.full((4, 1), steady.target))
    assert torch.allclose(steady.log_step, torch.tensor([math.log(0.5)]))


def test_a_chain_that_is_hardly_accepted_takes_shorter_steps_of_its_own():
    move = move_of()
    acceptance = torch.tensor([[0.0], [0.09], [0.5], [1.0]])
    move.adapt_chains(acceptance)
    assert move.relative.flatten().tolist() == [0.5, 0.5, 1.0, 1.0]
    move.adapt_chains(torch.ones(4, 1))
    assert move.relative.flatten().tolist() == [0.75, 0.75, 1.0, 1.0]


def test_a_trajectory_is_as_long_as_its_steps_and_its_budget_allow():
    """A quarter of a turn in steps of a tenth: sixteen for the whole, eight for half of it."""
    move = move_of(step=0.1)
    move.restart()
    assert (move.steps(1.0), move.steps(0.5), move.steps(1e-9)) == (16, 8, 1)
    tiny = move_of(step=1e-6)
    tiny.restart()
    assert tiny.steps(1.0) == tiny.most_steps
    failed = move_of(step=0.0 + 1e-300)
    failed.restart()
    assert failed.steps(1.0) == failed.most_steps


def test_warming_up_finds_the_step_of_its_target():
    sampler = sampler_of(MODELS["path"])
    warm_up(sampler, math.inf, more=0)
    window = run_window(sampler, 60, adapt_chains=False)
    assert 0.6 < float(window.acceptance.mean()) < 0.97
    assert all(float(m.relative.min()) >= 0.25 for m in sampler.moves)


# -- which sites, and how many chains --------------------------------------------------------------


def test_the_block_holds_what_is_continuous_and_has_no_move_of_its_own():
    model, observed = labelled()
    engine = DCPC(model, moves={"mean": "mala"})
    state = engine.init(observed, seed=0)
    assert block_names(state, {}) == ("place", "mean")
    assert block_names(state, engine.moves) == ("place",)


@pytest.mark.parametrize("size, expected", [(10, MOST), (1_300, MOST // 2), (100_000, LEAST)])
def test_many_particles_where_a_gradient_is_cheap_and_fewer_where_it_is_not(size, expected):
    """Ten terms are nothing; a hundred thousand are arithmetic, whatever each of them takes.

    Thirteen hundred fit 64 chains where a term makes 16 to 30 numbers, its gradient included.
    """
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda z: Normal(z.unsqueeze(-1).expand(*z.shape, size), 1.0), ["z"])
    state = DCPC(model, num_particles=2).init({"x": torch.zeros(1, size)}, seed=0)
    block = Block.of(state)
    assert fitting_num_particles(block, few(state.log_weights, block)) == expected


@pytest.mark.parametrize(
    "dimension, data, expected", [(300, 1, MOST), (600, 1, LEAST), (300, 4, LEAST)]
)
def test_products_with_the_metric_count_as_well(dimension, data, expected):
    """A tenth of a number for each of D^2 and datum: 9,000 a chain leave room for 128 chains, 36,000 for 64 at most."""
    model = GraphicalModel()
    model.add_site("z", lambda: Independent(Normal(torch.zeros(dimension), 1.0), 1))
    state = DCPC(model, num_particles=2).init(batch_size=data, seed=0)
    block = Block.of(state)
    assert fitting_num_particles(block, few(state.log_weights, block)) == expected


def test_data_that_few_draws_from_the_prior_allow_are_tried_with_many_particles():
    """One draw in eleven from the prior lies above 40: hardly one of two, but some of 128."""
    model = GraphicalModel()
    model.add_site("n", lambda: Gamma(2.0, 0.1))
    model.add_site("x", lambda n: Uniform(torch.zeros_like(n), n), ["n"])
    sampler = build_sampler(DCPC(model), {"x": torch.tensor([40.0])}, None, seed=0)
    assert sampler.point.log_prob.shape == (MOST, 1)
    assert bool((sampler.declared()[0].exp() >= 40.0).all())
