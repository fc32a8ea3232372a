"""Hamiltonian moves of a whole block, accepted or rejected for each chain.

A trajectory starts with a fresh momentum, follows the block's prediction error (the score of its
joint density) for several leapfrog steps in a metric S = L L', and is accepted with the ratio of
joint densities: exact at every K. Lengths are jittered, so that no period of the target resonates.

References: Neal 2011, "MCMC using Hamiltonian dynamics"; Bou-Rabee and Sanz-Serna 2017 on jitter.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Density = Callable[..., tuple[Tensor, ...]]
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Point:
    """Where the chains of a block stand, in one chart.

    Attributes:
        place: `(K, G, D)`.
        log_prob: `(K, G)` nats.
        score: `(K, G, D)`, gradient of `log_prob`.
    """

    place: Tensor
    log_prob: Tensor
    score: Tensor

    def where(self, taken: Tensor, other: "Point") -> "Point":
        """This point where `taken` `(K, G)` is True, the other one elsewhere."""
        wide = taken.unsqueeze(-1)
        return Point(
            torch.where(wide, self.place, other.place),
            torch.where(taken, self.log_prob, other.log_prob),
            torch.where(wide, self.score, other.score),
        )


@dataclass(frozen=True)
class Metric:
    """A positive definite matrix S = L L' for each chain group, and its factor.

    Attributes:
        factor: L, `(G, D, D)`; `(G, D)` where S is diagonal.
    """

    factor: Tensor

    def velocity(self, momentum: Tensor) -> Tensor:
        """L p of momenta `(K, G, D)`."""
        if self.factor.ndim == 2:
            return self.factor * momentum
        return _multiply(momentum, self.factor.mT)

    def force(self, score: Tensor) -> Tensor:
        """L' g of scores `(K, G, D)`."""
        if self.factor.ndim == 2:
            return self.factor * score
        return _multiply(score, self.factor)


def _multiply(vectors: Tensor, matrices: Tensor) -> Tensor:
    """`(K, G, D)` times `(G, D, D)`."""
    if matrices.shape[0] == 1:
        return vectors @ matrices[0]
    return torch.einsum("kgi,gij->kgj", vectors, matrices)


def trajectory(
    density: Density,
    point: Point,
    metric: Metric,
    step: Tensor,
    num_steps: int,
    generator: torch.Generator | None,
) -> tuple[Point, Tensor]:
    """One proposal by `num_steps` leapfrog steps, accepted chain by chain.

    Args:
        density: vector `(K, G, D)` -> log density `(K, G)` and score `(K, G, D)`.
        point: where the chains stand.
        metric: its factor makes momenta standard normal.
        step: leapfrog steps, `(K, G)`.
        num_steps: how many, at least 1.
        generator: source of momenta and of acceptance.

    Returns:
        the new point, and the probability of acceptance `(K, G)`.
    """
    momentum = torch.randn(
        point.place.shape, dtype=point.place.dtype, device=point.place.device, generator=generator
    )
    uniform = torch.rand(
        point.log_prob.shape,
        dtype=point.place.dtype,
        device=point.place.device,
        generator=generator,
    )
    wide = step.unsqueeze(-1)
    start = point.log_prob - 0.5 * momentum.square().sum(-1)
    place = point.place
    momentum = momentum + 0.5 * wide * metric.force(point.score)
    for number in range(num_steps):
        place = place + wide * metric.velocity(momentum)
        log_prob, score = density(place)
        share = 0.5 if number == num_steps - 1 else 1.0
        momentum = momentum + share * wide * metric.force(score)
    end = log_prob - 0.5 * momentum.square().sum(-1)
    log_ratio = torch.nan_to_num(end - start, nan=-math.inf, posinf=-math.inf)
    acceptance = log_ratio.clamp(max=0).exp()
    finite = torch.isfinite(score).all(-1)
    acceptance = torch.where(finite, acceptance, torch.zeros_like(acceptance))
    return Point(place, log_prob, score).where(uniform < acceptance, point), acceptance


def jitter() -> Iterator[float]:
    """Shares of the longest trajectory, evenly spread over (.5, 1] (the golden sequence)."""
    place = 0.0
    while True:
        place = (place + GOLDEN) % 1.0
        yield 1.0 - 0.5 * place
