"""Budgets and windows in figures, from both sides of each: climbs, warm-ups, draws."""

import math
from dataclasses import replace

import pytest
import torch
from arrivals import GOOD, gaussian_sampler, normals
from torch.distributions import Bernoulli, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival import cloud, progress, start
from aif_dcpc.inference.arrival import sample as sampling
from aif_dcpc.inference.arrival import warm_up as warming
from aif_dcpc.inference.arrival.climb import Climb, climb
from aif_dcpc.inference.arrival.kept import Kept
from aif_dcpc.inference.arrival.warm_up import Window
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.moves.hamiltonian import Metric
from aif_dcpc.inference.moves.interweaving import interweavings

# -- climbs ----------------------------------------------------------------------------------------


def test_a_climb_takes_three_hundred_evaluations_at_most():
    found = climb(lambda x: (x.sum(-1), torch.ones_like(x)), torch.zeros(3, 1, 2).double())
    assert found.evaluations == 300
    assert found.steps.shape == (8, 3, 1, 2)


def test_a_climb_ends_after_twenty_evaluations_without_a_gain():
    """Looks at the 5th, 10th, 15th and 20th have nothing to compare with; the one at the 25th has."""
    found = climb(lambda x: (torch.zeros(x.shape[:2]), 0 * x), torch.zeros(3, 1, 2).double())
    assert found.evaluations == 25


def test_a_first_step_that_leads_far_too_far_is_shortened():
    """A hill a ten thousandth wide, begun a few widths from its top: steps of unit length fail a dozen times."""

    def hill(x):
        return -0.5 * (x * 1e4).square().sum(-1), -x * 1e8

    found = climb(hill, 3e-4 * normals(16, 1, 2))
    assert found.evaluations < 60
    assert float(found.log_prob.median()) > -2


def test_where_a_start_has_no_score_the_chain_waits():
    """Not a number at its start: no direction to go in, and no step in a made-up one."""

    def density(x):
        inside = x.abs().amax(-1) > 0
        wide = inside.unsqueeze(-1)
        score = torch.where(wide, -x, torch.full_like(x, math.nan))
        return -0.5 * x.square().sum(-1), score

    begin = normals(8, 1, 2)
    begin[0] = 0
    found = climb(density, begin)
    assert torch.equal(found.place[0], begin[0]) and torch.equal(found.score[0], 0 * begin[0])


@pytest.mark.parametrize("dimension, most", [(1, 20.0), (10, 20.0), (30, 60.0)])
def test_a_chain_has_not_arrived_twenty_nats_or_two_a_dimension_below_the_best(dimension, most):
    height = torch.tensor([0.0, -most + 0.1, -most - 0.1]).unsqueeze(-1)
    place = torch.arange(3.0)[:, None, None].expand(3, 1, dimension)
    pairs = torch.zeros(8, 3, 1, dimension)
    found = Climb(place, height, place, pairs, pairs, 1)
    start._replace_far(found, torch.Generator().manual_seed(0))
    assert found.place[:2].equal(place[:2])
    assert float(found.place[2].max()) < 2


# -- warming up ------------------------------------------------------------------------------------


def test_a_warm_up_has_seventeen_windows_at_most(monkeypatch):
    """Five that grow, twelve more; then four rounds of eight sweeps in which only steps are learned."""
    sizes = []
    uses = []
    run = warming.run_window
    metric = warming.new_metric

    def accepted_seldom(sampler, size, **given):
        sizes.append(size)
        window = run(sampler, size, **given)
        window.acceptance = window.acceptance.clamp_max(0.4)
        return window

    monkeypatch.setattr(warming, "run_window", accepted_seldom)
    monkeypatch.setattr(
        warming,
        "new_metric",
        lambda *a, use_scores: uses.append(use_scores) or metric(*a, use_scores=use_scores),
    )
    with no_validation(), torch.no_grad():
        warming.warm_up(gaussian_sampler(), math.inf)
    assert sizes == [10, 10, 10, 20, 40] + 12 * [40] + 4 * [8]
    assert uses == 2 * [True] + 15 * [False]


@pytest.mark.parametrize("growth, rounds", [(1.9, 1), (2.1, 4)])
def test_steps_are_learned_again_where_trajectories_have_doubled(growth, rounds, monkeypatch):
    sampler = gaussian_sampler()
    sizes = []

    def run(sampler, size, **_):
        sizes.append(size)
        sampler.moves[0].log_step -= math.log(growth)
        return Window({}, {}, torch.zeros(8, 4, 1), torch.ones(4, 1))

    monkeypatch.setattr(warming, "run_window", run)
    sampler.moves[0].fix_length()
    sampler.moves[0].relative.fill_(0.1)
    warming.settle(sampler)
    assert sizes == rounds * [8]
    assert sampler.moves[0].relative.eq(0.25).all()


# -- drawing ---------------------------------------------------------------------------------------


def drawn(monkeypatch, verdict, *, patient=False, deadline=math.inf):
    """The draws of a verdict that stays, for 1,000 sweeps at most."""

    def told(kept, block):
        return verdict if kept.sweeps < 1000 else GOOD

    monkeypatch.setattr(Kept, "verdict", told)
    with no_validation(), torch.no_grad():
        return sampling._draw(gaussian_sampler(16), deadline, patient=patient)[0]


@pytest.mark.parametrize(
    "r_hat, patient, sweeps",
    [(1.09, False, 1600), (1.11, False, 400), (1.11, True, 1600), (2.1, True, 400)],
)
def test_four_hundred_draws_and_more_where_more_would_help(r_hat, patient, sweeps, monkeypatch):
    """Chains that nearly agree, or for which nothing else is left to be done, go on, every second and fourth draw kept."""
    kept = drawn(monkeypatch, replace(GOOD, r_hat=r_hat), patient=patient)
    assert (len(kept), kept.sweeps, kept.every) == (400, sweeps, sweeps // 400)


def test_where_time_is_up_there_are_twenty_draws_all_the_same(monkeypatch):
    kept = drawn(monkeypatch, replace(GOOD, r_hat=1.2), deadline=-math.inf)
    assert len(kept) == 20


def test_a_line_a_minute(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.SampleProgress() as told:
        told.begin("drawing", 4)
        for seconds, said in ((59.9, False), (60.1, True), (119.9, False), (120.3, True)):
            now[0] = 100 + seconds
            told.advance()
            assert bool(capsys.readouterr().err) is said


@pytest.mark.parametrize("number, fits", [(10_000, True), (10_001, False)])
def test_ten_thousand_numbers_outside_a_block_are_not_too_many_for_a_run_to_start_elsewhere(
    number, fits
):
    model = GraphicalModel()
    model.add_site("k", lambda: Bernoulli(torch.full((number,), 0.5)))
    model.add_site("x", lambda k: Normal(k.sum(-1), 1.0), ["k"])
    state = DCPC(model, num_particles=2).init({"x": torch.zeros(1)}, seed=0)
    assert (cloud._fitting_number(state) is not None) is fits


# -- starts and steps ------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension, most", [(1, 30.0), (10, 30.0), (20, 60.0)])
@pytest.mark.parametrize("spare, moves", [(0.1, True), (-0.1, False), (math.nan, False)])
def test_noise_is_added_where_it_costs_three_nats_a_dimension_at_most(
    dimension, most, spare, moves
):
    place = torch.zeros(4, 1, dimension).double()

    def density(x):
        height = torch.where(x[..., 0] == 0, 0.0, -most + (0.1 if math.isnan(spare) else spare))
        return height, torch.full_like(x, math.nan if math.isnan(spare) else 1.0)

    pairs = torch.zeros(8, 4, 1, dimension)
    found = Climb(place, torch.zeros(4, 1).double(), place, pairs, pairs, 1)
    metric = Metric(torch.eye(dimension)[None].double())
    start._spread(density, found, metric, torch.Generator().manual_seed(0))
    assert bool((found.place != 0).all()) is moves
    assert bool((found.log_prob < 0).all()) is moves
    assert found.score.eq(1.0 if moves else 0.0).all()
    assert found.evaluations == 2


def test_steps_of_a_chain_are_shortened_to_a_ten_thousandth_at_most():
    move = gaussian_sampler().moves[0]
    for _ in range(20):
        move.adapt_chains(torch.zeros(4, 1))
    assert move.relative.flatten().tolist() == pytest.approx([1e-4] * 4)
    move.adapt(torch.zeros(4, 1))
    move.restart()
    assert move.time == 6


@pytest.mark.parametrize("size, moves", [(50, 1), (51, 0)])
def test_fifty_numbers_that_set_a_scale_move_beside_what_they_scale(size, moves):
    model = GraphicalModel()
    model.add_site("s", lambda: Normal(torch.zeros(size), 1.0))
    model.add_site("z", lambda s: Normal(torch.zeros(size), s.exp()), ["s"])
    model.add_site("x", lambda z: Normal(z.sum(-1), 1.0), ["z"])
    state = DCPC(model, num_particles=2).init({"x": torch.zeros(1)}, seed=0)
    assert len(interweavings(state, frozenset())) == moves
