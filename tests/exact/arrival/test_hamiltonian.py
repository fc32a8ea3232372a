"""Hamiltonian moves: laws that they must keep, the leapfrog against its definition, what is rejected.

Many chains are drawn exactly from a law and moved; they are independent, so a mean over them has its
standard error in closed form. A right move fails one number at 4.5 standard errors 7 times in a million.
"""

import math
from itertools import pairwise

import pytest
import torch
from arrivals import normals
from synchronisation import NoSynchronisation

from aif_dcpc.inference.moves.hamiltonian import Metric, Point, jitter, trajectory

CHAINS = 4000
MOVES = 20
COVARIANCE = torch.tensor([[4.0, 1.2, 0.0], [1.2, 1.0, -0.1], [0.0, -0.1, 0.04]]).double()
MEAN = torch.tensor([1.0, -2.0, 0.5]).double()
CURVED = 0.4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(place):
    """Log density and score of a correlated Gaussian."""
    pull = torch.linalg.solve(COVARIANCE, (place - MEAN).mT).mT
    return -0.5 * ((place - MEAN) * pull).sum(-1), -pull


def banana(place):
    """x ~ N(0, 1), y ~ N(.4 (x^2 - 1), .5), z ~ N(0, 1) in the third coordinate."""
    x, y, z = place.unbind(-1)
    error = (y - CURVED * (x**2 - 1)) / 0.25
    score = torch.stack([-x + 2 * CURVED * x * error, -error, -z], -1)
    return -0.5 * (x**2 + 0.25 * error**2 + z**2), score


def gaussian_draws(shape, seed=1):
    return MEAN + normals(*shape, 3, seed=seed) @ torch.linalg.cholesky(COVARIANCE).T


def banana_draws(shape, seed=1):
    x, y, z = normals(*shape, 3, seed=seed).unbind(-1)
    return torch.stack([x, CURVED * (x**2 - 1) + 0.5 * y, z], -1)


def moments(place):
    """Functions of a place and of pairs of its coordinates, `(..., number)`."""
    pairs = place.unsqueeze(-1) * place.unsqueeze(-2)
    upper = torch.triu_indices(3, 3)
    products = pairs[..., upper[0], upper[1]]
    return torch.cat([place, products, torch.sin(2 * place)], -1)


def gaussian_moments():
    """E x, E x x', and E sin 2x = sin(2 mean) exp(-2 variance)."""
    second = COVARIANCE + MEAN[:, None] * MEAN
    upper = torch.triu_indices(3, 3)
    waves = torch.sin(2 * MEAN) * torch.exp(-2 * COVARIANCE.diagonal())
    return torch.cat([MEAN, second[upper[0], upper[1]], waves])


def banana_moments():
    """By hand, but for E sin 2y: an integral over x, sum_x N(x) sin(2 m(x)) exp(-2/4)."""
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    weight = torch.exp(-0.5 * x**2)
    wave = (weight * torch.sin(2 * CURVED * (x**2 - 1))).sum() / weight.sum() * math.exp(-0.5)
    variance = 2 * CURVED**2 + 0.25
    return torch.tensor([0, 0, 0, 1, 0, 0, variance, 0, 1, 0, wave, 0], dtype=torch.float64)


CASES = {
    "gaussian": (gaussian, gaussian_draws, gaussian_moments, 1.5),
    "banana": (banana, banana_draws, banana_moments, 0.8),
}
SHAPES = {
    "gaussian": torch.linalg.cholesky(COVARIANCE),
    "banana": torch.eye(3, dtype=torch.float64),
}


def metrics(case="banana"):
    """Two groups of chains, each with a lower triangular factor of its own, roughly the law's."""
    rough = 0.3 * normals(2, 3, 3, seed=5).tril() + 0.8 * torch.eye(3, dtype=torch.float64)
    return Metric(SHAPES[case] @ rough)


def moved(case):
    """Chains after some moves, and the mean acceptance."""
    density, draw, _, step = CASES[case]
    place = draw((CHAINS, 2))
    point = Point(place, *density(place))
    steps = torch.full((CHAINS, 2), step, dtype=torch.float64)
    source = generator(2)
    shares = jitter()
    total = 0.0
    for _ in range(MOVES):
        length = math.ceil(4 * next(shares))
        point, acceptance = trajectory(density, point, metrics(case), steps, length, source)
        total += float(acceptance.mean()) / MOVES
    return point, total


def z_scores(case, point):
    """How many standard errors means over chains are from their expectations, `(2, number)`."""
    found = moments(point.place)
    error = found.std(0) / math.sqrt(CHAINS)
    return (found.mean(0) - CASES[case][2]()) / error


@pytest.mark.parametrize("case", CASES)
def test_exact_draws_stay_exact(case):
    """24 numbers a law: a right move fails with probability 2e-4 over all seeds."""
    point, acceptance = moved(case)
    assert 0.3 < acceptance < 0.9  # rejections matter
    assert z_scores(case, point).abs().max() < 4.5
    density = CASES[case][0]
    for kept, right in zip((point.log_prob, point.score), density(point.place), strict=True):
        assert torch.equal(kept, right)


@pytest.mark.parametrize("case", CASES)
def test_a_forgotten_rejection_is_noticed(case, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, **how: -torch.ones(shape, dtype=torch.float64))
    point, _ = moved(case)
    assert not z_scores(case, point).abs().max() < 4.5


def test_chains_far_from_the_law_arrive_at_it():
    """A move that stood still would keep any law."""
    density = gaussian
    place = torch.full((CHAINS, 1, 3), 3.0, dtype=torch.float64)
    point = Point(place, *density(place))
    metric = Metric(torch.linalg.cholesky(COVARIANCE)[None])
    steps = torch.full((CHAINS, 1), 0.5, dtype=torch.float64)
    source = generator(3)
    for share, _ in zip(jitter(), range(30), strict=False):
        point, _ = trajectory(density, point, metric, steps, math.ceil(share * 4), source)
    assert z_scores("gaussian", point).abs().max() < 4.5


# -- the leapfrog against its definition -----------------------------------------------------------


def leapfrog(density, place, momentum, factor, step, number):
    """Half a step of momentum, steps of place and momentum in turn, half a step of momentum."""
    for _ in range(number):
        momentum = momentum + step / 2 * density(place)[1] @ factor
        place = place + step * momentum @ factor.T
        momentum = momentum + step / 2 * density(place)[1] @ factor
    return place, momentum


def energy(density, place, momentum):
    return -density(place)[0] + 0.5 * momentum.square().sum(-1)


def proposal(density, place, momentum, factor, step, number, monkeypatch):
    """Where `trajectory` goes from a given momentum when it accepts, and its acceptance."""
    monkeypatch.setattr(torch, "randn", lambda *_, **__: momentum)
    monkeypatch.setattr(torch, "rand", lambda shape, **__: -torch.ones(shape, dtype=torch.float64))
    steps = torch.full(place.shape[:2], step, dtype=torch.float64)
    point = Point(place, *density(place))
    metric = Metric(factor[None])
    found, acceptance = trajectory(density, point, metric, steps, number, None)
    return found, acceptance


FACTOR = torch.tensor([[0.8, 0.0, 0.0], [0.3, 0.5, 0.0], [-0.4, 0.2, 1.1]]).double()


@pytest.mark.parametrize("number", [1, 2, 7])
@pytest.mark.parametrize("case", CASES)
def test_a_trajectory_is_the_leapfrog_of_its_metric(case, number, monkeypatch):
    density, draw, _, _ = CASES[case]
    place = draw((50, 1))
    momentum = normals(50, 1, 3, seed=7)
    end, last = leapfrog(density, place, momentum, FACTOR, 0.3, number)
    fall = energy(density, place, momentum) - energy(density, end, last)
    found, acceptance = proposal(density, place, momentum, FACTOR, 0.3, number, monkeypatch)
    assert torch.allclose(found.place, end)
    assert torch.allclose(acceptance, fall.exp().clamp(max=1))


@pytest.mark.parametrize("case", CASES)
def test_a_flipped_momentum_leads_back(case, monkeypatch):
    density, draw, _, _ = CASES[case]
    place = draw((50, 1))
    momentum = normals(50, 1, 3, seed=7)
    _, last = leapfrog(density, place, momentum, FACTOR, 0.3, 5)
    there, _ = proposal(density, place, momentum, FACTOR, 0.3, 5, monkeypatch)
    back, _ = proposal(density, there.place, -last, FACTOR, 0.3, 5, monkeypatch)
    assert torch.allclose(back.place, place)


def test_volumes_are_kept():
    """The Jacobian of the map of places and momenta has determinant 1."""
    draws = banana_draws((1, 1)).reshape(3)

    def flow(both):
        place, momentum = both.reshape(2, 1, 1, 3)
        return torch.stack(leapfrog(banana, place, momentum, FACTOR, 0.3, 5)).reshape(6)

    matrix = torch.autograd.functional.jacobian(flow, torch.cat([draws, normals(3)]))
    assert torch.allclose(torch.linalg.det(matrix), torch.ones(()).double())


@pytest.mark.parametrize("case", CASES)
def test_acceptance_rises_to_one_as_the_square_of_the_step(case, monkeypatch):
    """At one length, half the step makes a quarter of the energy's error."""
    density, draw, _, _ = CASES[case]
    place = draw((400, 1))
    momentum = normals(400, 1, 3, seed=7)
    errors = []
    for number in (32, 64, 128):
        step = 1.5 / number
        _, acceptance = proposal(density, place, momentum, FACTOR, step, number, monkeypatch)
        errors.append(float((1 - acceptance).mean()))
    assert errors[2] < 2e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


# -- metrics ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2])
def test_velocities_have_the_metric_as_covariance_and_forces_are_its_dual(groups):
    factor = normals(groups, 3, 3, seed=8).tril()
    metric = Metric(factor)
    unit = torch.eye(3, dtype=torch.float64)[:, None].expand(3, groups, 3)
    columns = metric.velocity(unit)
    for g in range(groups):
        assert torch.allclose(columns[:, g].T, factor[g])
        assert torch.allclose(metric.force(unit)[:, g], factor[g])
    score, momentum = normals(2, 5, groups, 3, seed=9)
    power = (score * metric.velocity(momentum)).sum(-1)
    assert torch.allclose(power, (metric.force(score) * momentum).sum(-1))


def test_a_diagonal_metric_is_the_matrix_with_that_diagonal():
    diagonal = normals(2, 3).exp()
    wide = Metric(torch.diag_embed(diagonal))
    x = normals(5, 2, 3, seed=4)
    assert torch.allclose(Metric(diagonal).velocity(x), wide.velocity(x))
    assert torch.allclose(Metric(diagonal).force(x), wide.force(x))


def test_in_its_own_metric_a_gaussian_turns_about_its_mean(monkeypatch):
    """With S the covariance the motion is a rotation: after a quarter of a turn, mean + L p."""
    factor = torch.linalg.cholesky(COVARIANCE)
    place = gaussian_draws((20, 1))
    momentum = normals(20, 1, 3, seed=7)
    number = 4000
    step = math.pi / 2 / number
    found, _ = proposal(gaussian, place, momentum, factor, step, number, monkeypatch)
    assert torch.allclose(found.place, MEAN + momentum @ factor.T, atol=1e-5)


# -- what is rejected ------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond", [-math.inf, math.inf, math.nan])
@pytest.mark.parametrize("of", ["log_prob", "score"])
def test_what_is_not_finite_is_rejected(beyond, of):
    """Half of the space has no finite density, or no finite score: no chain goes there."""

    def walled(place):
        log_prob, score = gaussian(place)
        wall = place[..., 0] > 1
        if of == "log_prob":
            return log_prob.masked_fill(wall, beyond), score
        return log_prob, score.masked_fill(wall.unsqueeze(-1), beyond)

    place = gaussian_draws((500, 1))
    place[..., 0] = 1 - (place[..., 0] - 1).abs()
    point = Point(place, *walled(place))
    steps = torch.full((500, 1), 0.5, dtype=torch.float64)
    metric = Metric(torch.linalg.cholesky(COVARIANCE)[None])
    source = generator(4)
    stayed = 0
    for _ in range(10):
        before = point
        point, acceptance = trajectory(walled, before, metric, steps, 3, source)
        assert torch.isfinite(point.log_prob).all() and torch.isfinite(point.score).all()
        assert torch.isfinite(acceptance).all() and (point.place[..., 0] <= 1).all()
        rejected = acceptance == 0
        assert torch.equal(point.place[rejected], before.place[rejected])
        stayed += int(rejected.sum())
    assert 500 < stayed < 4500


def test_chains_have_steps_of_their_own(monkeypatch):
    """A chain of step 0 stays; twice the step goes twice as far where no force acts."""

    def flat(place):
        return torch.zeros(place.shape[:2], dtype=torch.float64), torch.zeros_like(place)

    place = torch.zeros(3, 1, 2, dtype=torch.float64)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: torch.ones(3, 1, 2).double())
    steps = torch.tensor([[0.0], [0.1], [0.2]]).double()
    metric = Metric(torch.ones(1, 2, dtype=torch.float64))
    found, _ = trajectory(flat, Point(place, *flat(place)), metric, steps, 5, generator())
    assert torch.allclose(found.place[:, 0, 0], torch.tensor([0.0, 0.5, 1.0]).double())


def test_a_trajectory_does_not_wait_for_the_device():
    place = gaussian_draws((5, 2))
    point = Point(place, *gaussian(place))
    steps = torch.full((5, 2), 0.5, dtype=torch.float64)
    for metric in (metrics(), Metric(torch.ones(2, 3, dtype=torch.float64))):
        with NoSynchronisation() as mode:
            trajectory(banana, point, metric, steps, 3, generator())
        assert mode.found == []


def test_lengths_are_spread_over_half_of_the_longest():
    """No length comes twice, and none of 100 is further than .5 2 / 100 from the next."""
    shares = jitter()
    found = sorted(next(shares) for _ in range(100))
    assert found[0] > 0.5 and found[-1] <= 1
    gaps = [b - a for a, b in pairwise(found)]
    assert 0 < min(gaps) and max(gaps) < 0.01
