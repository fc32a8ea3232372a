"""Small parts of the arrival by their definitions: what a sweep hands on, and what is counted, compared and named."""

import math
import warnings

import pytest
import torch
from arrivals import normals
from torch.distributions import Bernoulli, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival import block_sampler, size, unseen
from aif_dcpc.inference.arrival.block_sampler import ChartMove, _replaced
from aif_dcpc.inference.arrival.build import block_names, build_sampler
from aif_dcpc.inference.arrival.draws import element_names
from aif_dcpc.inference.arrival.metric import _clipped, _covariance, _geometric_root
from aif_dcpc.inference.arrival.start import healthy_sources
from aif_dcpc.inference.arrival.tails import _share_effective
from aif_dcpc.inference.arrival.vague_quantiles import errors_of_quantiles
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import Info
from aif_dcpc.inference.moves.hamiltonian import GOLDEN, jitter
from aif_dcpc.inference.queries import looks
from aif_dcpc.inference.queries.diagnostics import diagnose
from aif_dcpc.inference.queries.mixing import effective_sample_size, split_r_hat


def two_charts(chains=6):
    model = GraphicalModel()
    model.add_site("m", lambda: Normal(0.0, 1.0))
    model.add_site("z", lambda m: Normal(m, 1.0), ["m"])
    model.add_site("x", lambda z: Normal(z, 1.0), ["z"])
    return build_sampler(DCPC(model), {"x": torch.zeros(1)}, chains, seed=0)


# -- sweeps ----------------------------------------------------------------------------------------


def test_a_sweep_gives_each_chart_its_own_steps_metric_and_length(monkeypatch):
    """Each chain the step of its group times its own, and a trajectory of the next share of the longest."""
    sampler = two_charts()
    for number, move in enumerate(sampler.moves):
        move.log_step.fill_(math.log(0.3 / (number + 1)))
        move.relative = torch.linspace(0.1, 1.0, 6)[:, None]
        move.num_steps = 20.0 + 9 * number
    given = []
    run = block_sampler.trajectory

    def trajectory(density, point, metric, step, num_steps, generator):
        given.append((metric, step, num_steps, generator))
        return run(density, point, metric, step, num_steps, generator)

    monkeypatch.setattr(block_sampler, "trajectory", trajectory)
    with no_validation(), torch.no_grad():
        for _ in range(3):
            sampler.sweep(adapt=False)
    shares = jitter()
    assert len(given) == 6
    for number, (metric, step, num_steps, generator) in enumerate(given):
        move = sampler.moves[number % 2]
        assert metric is move.metric and generator is sampler.generator
        assert torch.allclose(step, 0.3 / (number % 2 + 1) * move.relative)
        assert num_steps == math.ceil(next(shares) * move.num_steps)


def test_a_sweep_learns_what_it_is_told_to(monkeypatch):
    asked = []
    monkeypatch.setattr(ChartMove, "adapt", lambda move, rate: asked.append(("all", move.chart)))
    monkeypatch.setattr(
        ChartMove, "adapt_chains", lambda move, rate: asked.append(("each", move.chart))
    )
    sampler = two_charts()
    charts = [move.chart for move in sampler.moves]
    with no_validation(), torch.no_grad():
        sampler.sweep(adapt=False, adapt_chains=False)
        assert asked == []
        sampler.sweep(adapt=True, adapt_chains=False)
        assert asked == [("all", chart) for chart in charts]
        asked.clear()
        sampler.sweep(adapt=True, adapt_chains=True)
    assert sorted(asked) == sorted((kind, chart) for kind in ("all", "each") for chart in charts)


def test_lengths_follow_the_golden_sequence():
    shares = jitter()
    found = [next(shares) for _ in range(5)]
    assert pytest.approx((5**0.5 - 1) / 2) == GOLDEN
    assert found == pytest.approx([1 - 0.5 * ((n * GOLDEN) % 1) for n in range(1, 6)])


def test_what_data_share_stays_where_chains_are_replaced():
    sources = torch.tensor([[2, 0], [1, 1], [2, 1]])
    own = normals(3, 2, 4)
    assert torch.equal(_replaced(own, sources), own[sources, torch.arange(2)])
    shared = normals(3, 1, 4)
    assert torch.equal(_replaced(shared, sources), shared)
    one = torch.tensor([[2], [1], [1]])
    assert torch.equal(_replaced(own, one), own[one[:, 0]])


def test_who_is_healthy_stays_and_who_is_not_takes_the_place_of_one_who_is():
    healthy = torch.tensor([[True, False], [False, True], [True, False], [True, False]])
    found = healthy_sources(healthy, torch.Generator().manual_seed(0))
    assert found[[0, 2, 3], 0].tolist() == [0, 2, 3] and int(found[1, 0]) in (0, 2, 3)
    assert found[:, 1].tolist() == [1, 1, 1, 1]


def test_a_discrete_site_with_a_move_of_the_users_is_no_part_of_the_block():
    model = GraphicalModel()
    model.add_site("k", lambda: Bernoulli(0.5))
    model.add_site("j", lambda: Bernoulli(0.5))
    model.add_site("z", lambda k: Normal(k, 1.0), ["k"])
    model.add_site("w", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda z, w: Normal(z + w, 1.0), ["z", "w"])
    state = DCPC(model, num_particles=2).init({"x": torch.zeros(1)}, seed=0)
    assert block_names(state, {}) == ("z", "w")
    assert block_names(state, {"k": "gibbs"}) == ("z", "w")
    assert block_names(state, {"k": "gibbs", "w": "mala"}) == ("z",)


# -- metrics ---------------------------------------------------------------------------------------


def test_the_geometric_mean_of_two_matrices_solves_its_equation():
    """S F S = C; with F = C^-1, S = C."""
    x = normals(1, 50, 3)
    c = torch.einsum("gni,gnj->gij", x, x)
    f = torch.einsum("gni,gnj->gij", normals(1, 50, 3, seed=1), normals(1, 50, 3, seed=1))
    root = _geometric_root(c, f)
    s = root @ root.mT
    assert torch.allclose(s @ f @ s, c)
    root = _geometric_root(c, torch.linalg.inv(c))
    assert torch.allclose(root @ root.mT, c)


@pytest.mark.parametrize("rows", [4, 14, 15, 100])
def test_second_moments_of_few_rows_lean_to_their_diagonal(rows):
    """Where rows are fewer than three a dimension, off the diagonal D / (D + N / 5) is taken away."""
    x = normals(rows, 1, 5)
    plain = torch.einsum("ngi,ngj->gij", x, x) / rows
    share = 5 / (5 + rows / 5) if rows < 15 else 0.0
    diagonal = torch.diag_embed(plain.diagonal(dim1=-2, dim2=-1))
    assert torch.allclose(_covariance(x), (1 - share) * plain + share * diagonal, rtol=1e-6)


def test_rows_that_are_not_long_are_left_as_they_are():
    """In units of each coordinate's median, however far these are apart."""
    g = torch.ones(9, 1, 2).double() * torch.tensor([1e-3, 1e4]).double()
    assert torch.allclose(_clipped(g), g)
    g[4] *= 100
    most = max(3.0, 1 + 5 / 2**0.5)
    expected = g.clone()
    expected[4] *= most / 100
    assert torch.allclose(_clipped(g), expected)


# -- what is counted -------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_mixing_does_not_depend_on_units(scale):
    trace = normals(60, 4, 2).cumsum(0)
    assert torch.allclose(split_r_hat(scale * trace), split_r_hat(trace))
    assert torch.allclose(effective_sample_size(scale * trace), effective_sample_size(trace))


def test_the_outermost_hundredth_is_counted_by_its_indicator():
    draws = normals(100, 8, 2).abs()
    found = _share_effective(draws)
    for column in range(2):
        x = draws[..., column]
        edge = x.flatten().sort().values[-9]  # 792 of 800 do not exceed it
        expected = effective_sample_size((x > edge).double().unsqueeze(-1)) / 800
        assert found[column] == pytest.approx(float(expected))


def test_a_quantile_errs_by_half_of_what_a_standard_error_of_its_share_moves():
    """On the whole numbers from 0 to 1,000, shares are places."""
    draws = torch.arange(1001.0).double().reshape(1001, 1, 1)
    found = errors_of_quantiles(draws, torch.tensor([19.0]))
    error = (0.05 * 0.95 / 19) ** 0.5  # .05: from the lowest draw to the tenth
    width = 900 / 3.2897
    assert float(found[0.05]) == pytest.approx(round(1000 * 2 * error) / 2 / width)
    assert float(found[0.95]) == pytest.approx(float(found[0.05]))


def test_particles_that_are_compared_are_two_hundred_and_fifty_six_at_most(monkeypatch):
    seen = []
    known = looks.rank_diagnostics
    monkeypatch.setattr(looks, "rank_diagnostics", lambda x: seen.append(x.shape) or known(x))
    for particles, columns in ((256, 1), (257, 1), (1000, 3), (4, 1500)):
        clouds = [{"z": normals(particles, columns, seed=n)} for n in range(16)]
        looks.Looks(0, 1, 16, clouds)._r_hat("z")
    assert seen == [(16, 256, 1), (16, 129, 1), (16, 250, 3), (16, 4, 750)]


def test_numbers_of_operations_are_counted_for_each_chain():
    """Two chains, one multiplication and one sum of a vector of three: eight numbers, four a chain."""
    counter = size.Counter()
    x = torch.ones(2, 3)
    with counter:
        (x * 2).sum(-1)
    assert counter.numbers == 6 + 2


@pytest.mark.parametrize("dimension, asked", [(200, 1), (201, 0)])
def test_spikes_are_looked_for_in_two_hundred_dimensions_at_most(dimension, asked, monkeypatch):
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(torch.zeros(dimension), 1.0))
    model.add_site("x", lambda z: Normal(z.sum(-1), 1.0), ["z"])
    climbs = []
    with no_validation(), torch.no_grad():
        sampler = build_sampler(DCPC(model), {"x": torch.zeros(1)}, 2, seed=0)
        climb = unseen.climb
        monkeypatch.setattr(unseen, "climb", lambda *a: climbs.append(a) or climb(*a))
        monkeypatch.setattr(unseen._Spike, "at", lambda *a: None)
        place = sampler.point.place
        highest = unseen.Highest(place, torch.full((2, 1), 1e6))
        unseen.unseen_mass(sampler, highest, place[None], torch.zeros(1, 2, 1))
    assert len(climbs) == asked


# -- what is named ---------------------------------------------------------------------------------


def test_an_axis_of_one_is_no_part_of_a_name_and_one_of_two_is():
    assert element_names("z", (1,)) == ["z"]
    assert element_names("z", (1, 2)) == ["z[0]", "z[1]"]
    assert element_names("z", (2, 1)) == ["z[0, 0]", "z[1, 0]"]


def test_whoever_asks_for_a_diagnosis_is_warned_in_his_own_line():
    trace = normals(40, 4, 1) + 10 * torch.arange(4.0)[:, None]
    info = Info({}, torch.zeros(4, 1), {"z": trace})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = diagnose(info, warn=True)
    assert [str(w.message) for w in caught] == list(found.warnings) != []
    assert {w.category for w in caught} == {ConvergenceWarning}
    assert {w.filename for w in caught} == {__file__}
