"""Climbs and starts: where chains end, what they cost, and what becomes of those that get nowhere."""

import pytest
import torch
from synchronisation import NoSynchronisation

from aif_dcpc.inference.arrival.climb import (
    CHECK,
    HISTORY,
    MOST,
    PATIENCE,
    Climb,
    _direction,
    climb,
)
from aif_dcpc.inference.arrival.start import WIDTH, arrive, healthy_sources, scatter

CHAINS = 128


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def starts(dimension, groups=1, dtype=torch.float64):
    return scatter((CHAINS, groups, dimension), torch.zeros(1, dtype=dtype), generator())


def gaussian(scales, mean=0.0):
    """Log density, 0 at its mode, of independent Gaussians, and its score."""

    def density(place):
        pull = (place - mean) / scales**2
        return -0.5 * ((place - mean) * pull).sum(-1), -pull

    return density


class Counted:
    """A density that counts its evaluations."""

    def __init__(self, density):
        self.density = density
        self.calls = 0

    def __call__(self, place):
        self.calls += 1
        return self.density(place)


# -- where chains start ----------------------------------------------------------------------------


def test_starts_are_spread_evenly():
    """Uniform on (-2, 2): mean 0, variance 4/3, each within 5 standard errors of 50,000 draws."""
    found = scatter((1000, 5, 10), torch.zeros(1, dtype=torch.float64), generator()).flatten()
    assert found.abs().max() <= WIDTH
    assert abs(found.mean()) < 5 * (4 / 3 / len(found)) ** 0.5
    assert abs(found.var() - 4 / 3) < 5 * (16 / 5 - 16 / 9) ** 0.5 / len(found) ** 0.5


# -- where they arrive -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("mean", [0.0, 1.0])
@pytest.mark.parametrize("dimension, low, high", [(2, -3, 6), (10, -3, 3), (10, -3, 6), (20, 0, 4)])
def test_chains_reach_the_mass_of_badly_scaled_gaussians(dimension, low, high, mean, dtype):
    """From half a million nats below to what a draw from the target would cost, D / 2 or not much more."""
    scales = torch.logspace(low, high, dimension, dtype=dtype)
    density = gaussian(scales, mean * scales.clamp(max=10))
    start = starts(dimension, dtype=dtype)
    found, _ = arrive(density, start, generator())
    if low < 0:
        assert density(start)[0].median() < -1e4
    assert found.log_prob.min() > -max(2.0 * dimension, 20) - max(3.0 * dimension, 30)
    assert found.log_prob.median() > -2.0 * dimension
    assert found.evaluations < MOST / 2


def test_chains_stop_short_of_the_mode():
    """In 100 dimensions a draw lies about 50 nats below the mode (standard deviation 7); so do chains."""
    for scales in (torch.ones(100), torch.logspace(-0.5, 0.5, 100)):
        density = gaussian(scales.double())
        found, _ = arrive(density, starts(100), generator())
        assert -75 < found.log_prob.median() < -15
        assert found.log_prob.max() < -5


def test_a_climb_that_has_arrived_goes_no_further():
    """Chains that arrive early stay, however long the others take."""
    scales = torch.logspace(-1, 1, 100, dtype=torch.float64)
    density = gaussian(scales)
    found = climb(density, starts(100))
    assert found.log_prob.max() < -5
    assert found.log_prob.median() > -50


def test_values_scores_and_places_belong_together():
    density = gaussian(torch.logspace(-3, 3, 10, dtype=torch.float64), 1.0)
    for found in (climb(density, starts(10, 2)), arrive(density, starts(10, 2), generator())[0]):
        log_prob, score = density(found.place)
        assert torch.equal(found.log_prob, log_prob)
        assert torch.equal(found.score, score)


def test_groups_climb_on_their_own():
    """Two data, one of which has its mass a thousand widths away."""
    mean = torch.tensor([[0.0] * 5, [100.0] * 5]).double()
    density = gaussian(torch.full((5,), 0.1).double(), mean)
    found, _ = arrive(density, starts(5, 2), generator())
    assert found.log_prob.min() > -60
    assert ((found.place.mean(0) - mean).abs() < 0.1).all()


# -- what gets nowhere -----------------------------------------------------------------------------


def trap(place):
    """A Gaussian, and for x > 1 a hill ten thousand nats below that no slope leads away from."""
    log_prob, score = gaussian(torch.full((3,), 0.3).double())(place)
    x = place[..., 0]
    inside = x > 1
    hill = -1e4 - 50 * (x - 1.5) ** 2 - 50 * place[..., 1:].square().sum(-1)
    pull = -100 * torch.cat([(x - 1.5).unsqueeze(-1), place[..., 1:]], -1)
    return torch.where(inside, hill, log_prob), torch.where(inside.unsqueeze(-1), pull, score)


def test_chains_that_end_in_a_far_tail_are_replaced():
    start = starts(3)
    trapped = climb(trap, start).log_prob < -9000
    assert 10 < int(trapped.sum()) < 60  # a quarter starts there
    found, _ = arrive(trap, start, generator())
    assert found.log_prob.min() > -60
    log_prob, score = trap(found.place)
    assert torch.equal(found.log_prob, log_prob) and torch.equal(found.score, score)
    assert len(found.place.flatten(1).unique(dim=0)) == CHAINS  # spread, not copied


@pytest.mark.parametrize("value", [-torch.inf, torch.nan, torch.inf])
def test_chains_that_start_where_there_is_no_density_are_replaced(value):
    def walled(place):
        log_prob, score = gaussian(torch.ones(3).double())(place)
        wall = place[..., 0] < -1
        no_score = score.masked_fill(wall.unsqueeze(-1), torch.nan)
        return log_prob.masked_fill(wall, value), no_score

    for seed in (0, 3):
        found, metric = arrive(walled, starts(3), generator(seed))
        assert torch.isfinite(found.log_prob).all() and torch.isfinite(found.score).all()
        assert torch.isfinite(metric.factor).all()
        assert (found.place[..., 0] >= -1).all()
        assert len(found.place.flatten(1).unique(dim=0)) > CHAINS / 2


def test_the_unhealthy_take_the_places_of_the_healthy_evenly():
    healthy = torch.zeros(12, 3, dtype=torch.bool)
    healthy[:, 0] = True
    healthy[3:6, 1] = True
    healthy[7, 2] = True
    for seed in range(20):
        sources = healthy_sources(healthy, generator(seed))
        assert torch.equal(sources[:, 0], torch.arange(12))
        for group, places in ((1, [3, 4, 5]), (2, [7])):
            counts = torch.bincount(sources[:, group], minlength=12)
            assert counts[places].sum() == 12
            assert counts[places].max() - counts[places].min() <= 1 + 1
            assert (sources[places, group] == torch.tensor(places)).all()


def test_who_replaces_is_drawn_anew():
    healthy = torch.arange(12).unsqueeze(1) >= 6
    found = {tuple(healthy_sources(healthy, generator(s)).flatten().tolist()) for s in range(10)}
    assert len(found) == 10


# -- what it costs ---------------------------------------------------------------------------------


def test_a_round_is_one_evaluation_and_looks_at_numbers_are_rare():
    density = Counted(gaussian(torch.logspace(-3, 3, 10, dtype=torch.float64)))
    start = starts(10)
    with NoSynchronisation() as mode:
        found = climb(density, start)
    assert density.calls == found.evaluations > 2 * CHECK
    assert {name for name, _ in mode.found} == {"_local_scalar_dense"}
    assert len(mode.found) <= found.evaluations // CHECK


def test_a_climb_without_end_ends():
    """Up an endless slope."""

    def slope(place):
        return place.exp().sum(-1), place.exp()

    density = Counted(lambda place: (place.sum(-1), torch.ones_like(place)))
    assert climb(density, starts(2)).evaluations == density.calls == MOST
    assert climb(slope, starts(2)).evaluations <= MOST


def slopes(share, depth=-1e6):
    """Flat for some chains, an endless slope for a share of them, that begins at a depth."""

    def density(place):
        rises = torch.arange(CHAINS).unsqueeze(-1) < share * CHAINS
        score = torch.where(rises.unsqueeze(-1), torch.ones_like(place), torch.zeros_like(place))
        return torch.where(rises, place.sum(-1) + depth, torch.zeros(())), score

    return density


def side_by_side(first, second):
    """Two data with densities of their own."""

    def density(place):
        pairs = zip(first(place), second(place), strict=True)
        (low, high), (score, other) = pairs
        is_second = torch.tensor([False, True])
        return torch.where(is_second, high, low), torch.where(is_second.unsqueeze(-1), other, score)

    return density


def test_a_climb_ends_where_half_of_each_datums_chains_gain_next_to_nothing():
    early = PATIENCE * CHECK + CHECK
    assert climb(slopes(0.4), starts(2)).evaluations <= early
    assert climb(slopes(0.6), starts(2)).evaluations == MOST
    assert climb(side_by_side(slopes(0.4), slopes(0.3)), starts(2, 2)).evaluations <= early
    assert climb(side_by_side(slopes(0.4), slopes(0.6)), starts(2, 2)).evaluations == MOST


# -- the direction against its definition ----------------------------------------------------------


def test_the_direction_is_that_of_the_updated_matrix():
    """H <- (I - r s y') H (I - r y s') + r s s', r = 1 / s'y, from the oldest pair to the newest.

    The first H is s'y / y'y of the newest pair; pairs of zeros are none. Nocedal and Wright 2006, 7.16.
    """
    steps, noise = torch.randn(2, HISTORY, 4, 1, 6, dtype=torch.float64, generator=generator())
    falls = steps * torch.logspace(-1, 1, 6, dtype=torch.float64) + 0.05 * noise
    steps[:3, 1] = falls[:3, 1] = 0  # the second chain has five pairs only, the third one
    steps[:-1, 2] = falls[:-1, 2] = 0
    steps[:, 3] = falls[:, 3] = 0
    score = torch.randn(4, 1, 6, dtype=torch.float64, generator=generator(1))
    zeros = torch.zeros(4, 1, dtype=torch.float64)
    direction, known = _direction(Climb(score, zeros, score, steps, falls, 1))
    assert known.flatten().tolist() == [1, 1, 1, 0]
    for chain in range(4):
        matrix = by_matrices(steps[:, chain, 0], falls[:, chain, 0])
        assert torch.allclose(direction[chain, 0], matrix @ score[chain, 0])


def by_matrices(steps, falls):
    pairs = [(s, y) for s, y in zip(steps, falls, strict=True) if s @ y > 0]
    eye = torch.eye(steps.shape[-1], dtype=torch.float64)
    if not pairs:
        return eye
    newest = pairs[-1]
    matrix = (newest[0] @ newest[1]) / (newest[1] @ newest[1]) * eye
    for s, y in pairs:
        left = eye - torch.outer(s, y) / (s @ y)
        matrix = left @ matrix @ left.T + torch.outer(s, s) / (s @ y)
    return matrix
