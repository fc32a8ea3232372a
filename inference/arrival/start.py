"""Scattered starts: every chain somewhere else, then a climb, then a little of the posterior's own spread.

Chains start uniformly in (-2, 2) of the standardised coordinates, so that a vague prior or a raw unit
says nothing about where they begin; they climb; those that ended far below the best are replaced by
copies of others; all are spread by the curvature that the climb has met.
"""

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.climb import Climb, climb
from aif_dcpc.inference.arrival.metric import metric_of_pairs
from aif_dcpc.inference.moves.hamiltonian import Density, Metric

WIDTH = 2.0
FAR = 20.0  # nats below the best, or two per dimension, at which a chain has not arrived


def scatter(shape: tuple[int, int, int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Vectors `(K, G, D)` evenly in (-2, 2)."""
    uniform = torch.rand(shape, dtype=like.dtype, device=like.device, generator=generator)
    return (2 * uniform - 1) * WIDTH


def arrive(
    density: Density, start: Tensor, generator: torch.Generator | None
) -> tuple[Climb, Metric]:
    """Climb, drop what has not arrived, spread; the metric is that of the pairs met on the way."""
    found = climb(density, start)
    _replace_far(found, generator)
    metric = _pooled_metric(found)
    _spread(density, found, metric, generator)
    return found, metric


def _replace_far(found: Climb, generator: torch.Generator | None) -> None:
    """Chains far below the best take the place of one that is not."""
    height = torch.nan_to_num(found.log_prob, nan=-torch.inf, posinf=-torch.inf)
    near = height > height.amax(0) - max(FAR, 2.0 * found.place.shape[-1])
    sources = healthy_sources(near, generator)
    wide = sources.unsqueeze(-1).expand_as(found.place)
    found.place = found.place.gather(0, wide)
    found.score = found.score.gather(0, wide)
    found.log_prob = found.log_prob.gather(0, sources)
    pairs = wide.expand_as(found.steps)
    found.steps = found.steps.gather(1, pairs)
    found.falls = found.falls.gather(1, pairs)


def healthy_sources(healthy: Tensor, generator: torch.Generator | None) -> Tensor:
    """For every chain itself if `healthy` `(K, G)`, else one that is, drawn evenly: `(K, G)` indices."""
    noise = torch.rand(healthy.shape, device=healthy.device, generator=generator)
    order = torch.where(healthy, noise, noise - 2).argsort(0, descending=True)
    number = healthy.sum(0).clamp_min(1)
    own = torch.arange(healthy.shape[0], device=healthy.device).unsqueeze(1)
    other = order.gather(0, (own % number).expand_as(order))
    return torch.where(healthy, own.expand_as(other), other)


def _pooled_metric(found: Climb) -> Metric:
    """The geometric mean of how places and scores differ in the climb's pairs, all chains together."""
    steps = found.steps.flatten(0, 1)
    falls = found.falls.flatten(0, 1)
    size = (steps * falls).sum(-1, keepdim=True)
    share = torch.where(size > 0, size.clamp_min(1e-30).rsqrt(), torch.zeros_like(size))
    return metric_of_pairs(steps * share, falls * share)


def _spread(
    density: Density, found: Climb, metric: Metric, generator: torch.Generator | None
) -> None:
    """Add the metric's own noise where that costs no more than a draw from a Gaussian would."""
    dimension = found.place.shape[-1]
    noise = torch.randn(
        found.place.shape, dtype=found.place.dtype, device=found.place.device, generator=generator
    )
    tried = found.place + metric.velocity(noise)
    log_prob, score = density(tried)
    fits = log_prob > found.log_prob - max(3.0 * dimension, 30.0)
    fits = fits & torch.isfinite(score).all(-1)
    wide = fits.unsqueeze(-1)
    found.place = torch.where(wide, tried, found.place)
    found.score = torch.where(wide, score, found.score)
    found.log_prob = torch.where(fits, log_prob, found.log_prob)
    found.evaluations += 1
