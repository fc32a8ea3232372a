"""Metrics of Gaussian targets: the target's covariance, whatever the cloud that it is learned from.

Scores are shortened where they are far longer than most: of a Gaussian, hardly any.
"""

import pytest
import torch

from aif_dcpc.inference.arrival import metric
from aif_dcpc.inference.arrival.climb import climb
from aif_dcpc.inference.arrival.metric import (
    DENSE,
    FEW_ROWS,
    WORTHWHILE,
    covariance_metric,
    fisher_metric,
    metric_of_pairs,
    within_chains,
)
from aif_dcpc.inference.arrival.start import scatter
from aif_dcpc.inference.moves.hamiltonian import Metric

ROWS = 2000
CLOUDS = {  # width of the cloud and how far it is displaced, in units of the target's scales
    "at home": (1.0, 0.0),
    "displaced": (1.0, 30.0),
    "narrow": (1e-3, 0.0),
    "narrow and displaced": (1e-3, 10.0),
    "wide": (1e3, 0.0),
    "wide and displaced": (1e3, 100.0),
}


def normals(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def scales(dimension):
    """Units of the coordinates, from a thousandth to a million."""
    return torch.logspace(-3, 6, dimension, dtype=torch.float64)


def covariance(dimension, seed=0):
    """A covariance of correlated coordinates in unlike units; without units its condition is 10."""
    basis = torch.linalg.qr(normals(dimension, dimension, seed=seed))[0]
    spread = torch.logspace(-0.5, 0.5, dimension, dtype=torch.float64)
    unit = scales(dimension)
    return unit[:, None] * (basis @ torch.diag(spread) @ basis.T) * unit


def cloud(target, width, shift, *, rows=ROWS, seed=1):
    """Places `(N, 1, D)` of a cloud, and the scores of a Gaussian target there."""
    dimension = len(target)
    places = (width * normals(rows, 1, dimension, seed=seed) + shift) * scales(dimension)
    return places, -torch.linalg.solve(target, places.mT).mT


def error(metric, target):
    """Largest entry of L^-1 S L^-T - I, where the target's covariance is L L' (group 0)."""
    factor = metric.factor[0].double()
    shape = factor @ factor.T if factor.ndim == 2 else torch.diag(factor**2)
    root = torch.linalg.cholesky(target)
    half = torch.linalg.solve_triangular(root, shape, upper=False)
    whole = torch.linalg.solve_triangular(root, half.T, upper=False)
    return float((whole - torch.eye(len(target))).abs().max())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("dimension", [1, 2, 5, 20])
@pytest.mark.parametrize("where", CLOUDS.values(), ids=CLOUDS)
def test_a_gaussian_has_its_covariance_from_any_cloud(where, dimension, dtype):
    target = covariance(dimension)
    places, scores = cloud(target, *where)
    found = fisher_metric(places.to(dtype), scores.to(dtype))
    assert found.factor.dtype is dtype
    assert error(found, target) < 0.01


def test_groups_of_chains_have_metrics_of_their_own():
    targets = [covariance(5, seed=s) for s in (0, 3)]
    clouds = [cloud(t, 1.0, 0.0) for t in targets]
    found = fisher_metric(*(torch.cat(parts, 1) for parts in zip(*clouds, strict=True)))
    for g, target in enumerate(targets):
        assert error(type(found)(found.factor[g : g + 1]), target) < 0.01


def test_a_few_far_rows_do_not_set_the_shape():
    """One score in a hundred a thousand times too long: without shortening, C # F^-1 shrinks by 100."""
    target = covariance(5)
    places, scores = cloud(target, 1.0, 0.0)
    scores[::100] *= 1000
    assert error(fisher_metric(places, scores), target) < 0.2
    x = places - places.mean(0)
    assert error(metric_of_pairs(x, scores - scores.mean(0)), target) > 0.9


@pytest.mark.parametrize("rows", [5, 10, 20])
def test_few_rows_give_a_metric_all_the_same(rows):
    """Fewer rows than dimensions: units are right, the matrix is positive definite, correlations are shrunk."""
    dimension = 30
    units = torch.diag(scales(dimension) ** 2)
    places, scores = cloud(units, 1.0, 3.0, rows=rows)
    assert error(fisher_metric(places, scores), units) < 0.01
    target = covariance(dimension)
    places, scores = cloud(target, 1.0, 3.0, rows=rows)
    factor = fisher_metric(places, scores).factor[0]
    units_apart = factor / target.diagonal().sqrt().unsqueeze(-1)
    assert torch.isfinite(factor).all()
    assert float(torch.linalg.svdvals(units_apart).min()) > 1e-4  # positive definite
    ratio = factor.square().sum(-1) / target.diagonal()
    assert 0.05 < float(ratio.min()) and float(ratio.max()) < 20


@pytest.mark.parametrize("rows, share", [(5, 5 / 6), (14, 5 / 7.8), (FEW_ROWS * 5, 0.0)])
def test_correlations_of_few_rows_are_shrunk(rows, share):
    """Towards the diagonal by D / (D + N / 5), of 5 dimensions here; not at all from `FEW_ROWS` rows for each on."""
    x = normals(rows, 1, 5) @ torch.linalg.cholesky(covariance(5)).T
    second = (x[:, 0].T @ x[:, 0]) / rows
    expected = (1 - share) * second + share * torch.diag(second.diagonal())
    unit = second.diagonal().sqrt()
    difference = (metric._covariance(x)[0] - expected) / (unit * unit[:, None])
    assert float(difference.abs().max()) < 1e-8


def test_a_coordinate_that_never_moved_does_no_harm():
    target = covariance(5)
    places, scores = cloud(target, 1.0, 0.0)
    still = torch.zeros(ROWS, 1, 1, dtype=torch.float64)
    wide = torch.cat([places, still], -1)
    fisher = fisher_metric(wide, torch.cat([scores, still], -1))
    for found, others, most in (
        (fisher, target, 0.01),
        (covariance_metric(wide), covariance_of(places), 1e-6),
    ):
        assert torch.isfinite(found.factor).all()
        assert error(Metric(found.factor[:, :5]), others) < most


def covariance_of(places):
    x = places[:, 0] - places[:, 0].mean(0)
    return x.T @ x / len(x)


def test_pairs_of_a_climb_tell_the_covariance():
    """Differences of scores of a Gaussian are minus the precision times differences of places."""
    target = covariance(5)
    unit = scales(5)

    def density(w):  # climbed in its own units, as a standardised chart would be
        place = (w - 1) * unit
        score = -torch.linalg.solve(target, place.mT).mT
        return 0.5 * (place * score).sum(-1), score * unit

    generator = torch.Generator().manual_seed(0)
    start = scatter((64, 1, 5), torch.zeros(1, dtype=torch.float64), generator)
    found = climb(density, start)
    steps, falls = found.steps.flatten(0, 1), found.falls.flatten(0, 1)
    shape = target / unit[:, None] / unit
    assert error(metric_of_pairs(steps, falls), shape) < 0.01


def test_the_covariance_of_many_rows_and_of_rows_less_their_chains_mean():
    target = covariance(5)
    draws = normals(400, 50, 1, 5) @ torch.linalg.cholesky(target).T
    assert error(covariance_metric(draws.flatten(0, 1)), target) < 0.1
    apart = draws + 100 * normals(50, 1, 5, seed=4) * scales(5)
    assert error(covariance_metric(within_chains(apart)), target) < 0.1
    assert error(covariance_metric(apart.flatten(0, 1)), target) > 100


@pytest.mark.parametrize(
    "number, dimension, dense",
    [
        (1, WORTHWHILE, True),
        (FEW_ROWS * (WORTHWHILE + 1) - 1, WORTHWHILE + 1, False),
        (FEW_ROWS * (WORTHWHILE + 1), WORTHWHILE + 1, True),
        (10 * DENSE, DENSE, True),
        (10 * DENSE, DENSE + 1, False),
    ],
)
def test_a_large_matrix_is_learned_from_three_rows_a_dimension_alone(number, dimension, dense):
    assert metric.is_dense(number, 1, dimension) is dense


def test_many_dimensions_take_a_diagonal_metric():
    unit = scales(DENSE + 1)
    places = normals(50, 1, DENSE + 1) * unit
    for found in (fisher_metric(places, -places / unit**2), covariance_metric(places)):
        assert found.factor.shape == (1, DENSE + 1)
        assert (found.factor / unit - 1).abs().max() < 0.6
    assert (fisher_metric(places, -places / unit**2).factor / unit - 1).abs().max() < 0.05


@pytest.mark.parametrize("rows", [ROWS, 12])
def test_a_cloud_without_width_in_a_direction_has_a_metric(rows):
    """Two coordinates are the same: the covariance is singular, its factor is finite all the same."""
    places = normals(rows, 1, 3)
    places[..., 2] = places[..., 1]
    for found in (covariance_metric(places), fisher_metric(places, -places)):
        assert torch.isfinite(found.factor).all()
    factor = covariance_metric(places).factor[0]
    assert (factor.diagonal() > 0).all()
    if rows == ROWS:
        assert torch.allclose(factor @ factor.T, torch.cov(places[:, 0].T, correction=0))


@pytest.mark.parametrize("dimension, factor", [(1, 6.0), (4, 3.5), (25, 3.0)])
def test_a_score_far_longer_than_the_median_is_shortened_to_a_multiple_of_it(dimension, factor):
    """Six medians in one dimension, three in many, 1 + 5 / sqrt(d) in between; shorter ones stay."""
    rows = torch.ones(41, 1, dimension, dtype=torch.float64)
    rows[::2] *= -1
    rows[0] *= 100
    rows[1] *= 0.9 * factor
    found = metric._clipped(rows)
    assert torch.allclose(found[0], torch.full((1, dimension), -factor).double())
    assert torch.equal(found[1:], rows[1:])
