"""The shape of a posterior from a moving cloud: from how places spread and how scores spread.

For a Gaussian target, places spread by its covariance C only once the cloud has arrived, but scores
g of any two places differ by minus the precision times the places' difference, wherever they are. The
geometric mean S = C # cov(g)^-1 is the target's covariance for a cloud of any width and place, and
minimises a Fisher divergence for others.

Reference: Hird and Livingstone 2023; Seyboldt, Carlson, Carpenter 2024 (nutpie) for the diagonal case.
"""

import torch
from torch import Tensor

from aif_dcpc.inference.moves.hamiltonian import Metric

DENSE = 1200  # more dimensions than this take a diagonal metric
FEW_ROWS = 3  # per dimension, below which a matrix is mostly its diagonal
WORTHWHILE = 300  # dimensions beyond which such a matrix costs more than it gives
CLIP = 3.0  # medians beyond which a row of scores is shortened, in many dimensions
CLIP_OF_ONE = 6.0  # in one, where lengths spread more: four standard deviations


def fisher_metric(places: Tensor, scores: Tensor) -> Metric:
    """S = C # cov(score)^-1 from rows `(N, G, D)` of places and scores."""
    x = places.double() - places.double().mean(0)
    g = _clipped(scores.double())
    return metric_of_pairs(x, g - g.mean(0), like=places)


def metric_of_pairs(x: Tensor, g: Tensor, *, like: Tensor | None = None) -> Metric:
    """S = cov(x) # cov(g)^-1 from differences of places `x` and of scores `g`, rows `(N, G, D)`."""
    like = x if like is None else like
    x = x.double()
    g = g.double()
    scale = _balanced_scale(x, g)
    if not is_dense(*x.shape):
        return _as_metric(scale, like)
    c = _covariance(x / scale)
    f = _covariance(g * scale)
    return _as_metric(scale.unsqueeze(-1) * _geometric_root(c, f), like)


def covariance_metric(places: Tensor) -> Metric:
    """The covariance of rows `(N, G, D)` of places, shrunk to its diagonal where rows are few."""
    x = places.double() - places.double().mean(0)
    scale = x.square().mean(0).sqrt().clamp_min(1e-30)
    if not is_dense(*x.shape):
        return _as_metric(scale, places)
    c = _covariance(x / scale)
    return _as_metric(scale.unsqueeze(-1) * torch.linalg.cholesky_ex(c)[0], places)


def is_dense(number: int, groups: int, dimension: int) -> bool:
    """Whether a metric from this many rows is a full matrix."""
    if dimension > WORTHWHILE and number < FEW_ROWS * dimension:
        return False
    return dimension <= DENSE


def within_chains(places: Tensor) -> Tensor:
    """Rows `(S K, G, D)` of draws `(S, K, G, D)` less the mean of their chain."""
    return (places - places.mean(0)).flatten(0, 1)


def _balanced_scale(x: Tensor, g: Tensor) -> Tensor:
    sd_x = x.square().mean(0).sqrt()
    sd_g = g.square().mean(0).sqrt()
    return (sd_x.clamp_min(1e-30) / sd_g.clamp_min(1e-30)).sqrt()


def _clipped(g: Tensor) -> Tensor:
    """Rows much longer than the median shortened: a few far chains must not set the scale."""
    scale = g.abs().median(0).values.clamp_min(1e-30)
    length = (g / scale).norm(dim=-1, keepdim=True)
    factor = max(CLIP, 1 + (CLIP_OF_ONE - 1) * g.shape[-1] ** -0.5)
    most = factor * length.median(0).values
    return g * (most / length.clamp_min(1e-30)).clamp(max=1.0)


def _covariance(x: Tensor) -> Tensor:
    """Second moments `(G, D, D)` of centred rows `(N, G, D)`, shrunk to the diagonal where N < 3 D."""
    number, dimension = x.shape[0], x.shape[-1]
    c = torch.einsum("ngi,ngj->gij", x, x) / number
    is_short = number < FEW_ROWS * dimension
    share = dimension / (dimension + number / 5) if is_short else 0.0
    diagonal = c.diagonal(dim1=-2, dim2=-1)
    tiny = 1e-9 * diagonal.clamp_min(1e-30)  # in units of the rows: a cloud may be very narrow
    return (1 - share) * c + torch.diag_embed(share * diagonal + tiny)


def _geometric_root(c: Tensor, f: Tensor) -> Tensor:
    """A with A A' = C # F^-1, the solution S of S F S = C: with F = L L', A = L'^-1 (L' C L)^(1/4)."""
    lower = torch.linalg.cholesky_ex(f)[0]
    inner = lower.mT @ c @ lower
    values, vectors = torch.linalg.eigh((inner + inner.mT) / 2)
    least = values.amax(-1, keepdim=True) * 1e-12
    halves = vectors * values.clamp_min(least).pow(0.25).unsqueeze(-2)
    return torch.linalg.solve_triangular(lower.mT, halves, upper=True)


def _as_metric(factor: Tensor, like: Tensor) -> Metric:
    return Metric(factor.to(like))
