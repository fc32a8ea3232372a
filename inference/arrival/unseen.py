"""A spike that chains step over: much mass where none of them ever stands.

A trajectory that crosses a region far narrower than its steps is thrown out of it and rejected, and
draws never tell. Its leapfrog points do: some stand much higher than any draw. From the highest a
climb goes on, and importance weights of a Gaussian there (Laplace's) say how much mass it has beside
that of the draws, which is taken as large as a Gaussian of their covariance allows. What no point of
a trajectory ever meets is not found: a spike that is narrow in many directions at once, or lies
where the chains never come.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.block_sampler import BlockSampler
from aif_dcpc.inference.arrival.climb import climb
from aif_dcpc.inference.moves.hamiltonian import Density

HIGHER = 3.0  # nats above all draws
LEAST_SHARE = 0.05  # of the mass
HALVINGS = 40
MOST_DIMENSIONS = 200  # beyond which second derivatives cost too much


@dataclass
class Highest:
    """The highest leapfrog point of each chain in the first chart.

    Attributes:
        place: `(K, G, D)`.
        log_prob: `(K, G)` nats.
    """

    place: Tensor
    log_prob: Tensor

    def see(self, place: Tensor, log_prob: Tensor) -> None:
        """Keep what is higher."""
        higher = log_prob > self.log_prob
        self.place = torch.where(higher.unsqueeze(-1), place, self.place)
        self.log_prob = torch.where(higher, log_prob, self.log_prob)


@contextmanager
def watched(sampler: BlockSampler) -> Iterator[Highest]:
    """Look on while a sampler's first chart moves."""
    point = sampler.point
    highest = Highest(point.place, torch.full_like(point.log_prob, -torch.inf))
    if not sampler.moves:
        yield highest
        return
    move = sampler.moves[0]
    density = move.density

    def seen(place: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        found = density(place, *others)
        highest.see(place, found[0])
        return found

    move.density = seen
    try:
        yield highest
    finally:
        move.density = density


def unseen_mass(sampler: BlockSampler, highest: Highest, places: Tensor, log_prob: Tensor) -> float:
    """Share of the mass, at least `LEAST_SHARE`, that lies in a spike without a draw; 0 if none is known.

    Args:
        sampler: whose first chart was watched.
        highest: what was seen.
        places: draws in that chart, `(S, K, G, D)`.
        log_prob: their log density there, `(S, K, G)`.
    """
    above = highest.log_prob > log_prob.flatten(0, 1).amax(0) + HIGHER
    if places.shape[-1] > MOST_DIMENSIONS or not bool(above.any()):
        return 0.0
    density = sampler.density(sampler.moves[0])
    wide = above.unsqueeze(-1)
    found = climb(density, torch.where(wide, highest.place, places[-1]))
    height = torch.where(above, found.log_prob, torch.full_like(found.log_prob, -torch.inf))
    shares = []
    for group in above.any(0).nonzero().flatten().tolist():
        top = found.place[height[:, group].argmax(), group]
        spike = _Spike.at(density, top, places[-1], group)
        if spike is not None:
            shares.append(spike.share(places[:, :, group], log_prob[:, :, group]))
    share = max(shares, default=0.0)
    return share if share > LEAST_SHARE else 0.0


@dataclass(frozen=True)
class _Spike:
    """A local maximum, and the Gaussian of its curvature.

    Attributes:
        top: `(D,)`.
        root: L of the precision L L', `(D, D)`.
        log_mass: log of the integral of the density around it, nats.
    """

    top: Tensor
    root: Tensor
    log_mass: float

    @classmethod
    def at(cls, density: Density, top: Tensor, like: Tensor, group: int) -> "_Spike | None":
        """The spike at a place; None where it is no maximum."""

        def at_places(places: Tensor) -> tuple[Tensor, Tensor]:
            return _in_batches(density, places, like, group)

        precision = -_second_derivatives(at_places, top)
        root, failed = torch.linalg.cholesky_ex(precision)
        if bool(failed) or not bool(torch.isfinite(root).all()):
            return None
        generator = torch.Generator(device=top.device).manual_seed(0)
        noise = torch.randn(
            (len(like), len(top)), dtype=torch.float64, device=top.device, generator=generator
        )
        tried = top + torch.linalg.solve_triangular(root.mT, noise.mT, upper=True).mT
        log_prob, _ = at_places(tried.to(top))
        log_proposal = -0.5 * (noise.square() + math.log(2 * math.pi)).sum(-1)
        log_proposal = log_proposal + root.diagonal().log().sum()
        weights = torch.nan_to_num(log_prob.double() - log_proposal, nan=-math.inf)
        return cls(top, root, float(torch.logsumexp(weights, 0)) - math.log(len(weights)))

    def share(self, places: Tensor, log_prob: Tensor) -> float:
        """Its share of all mass beside draws `(S, K, D)`; 0 where these go there as often as they should."""
        x = places.double().flatten(0, 1)
        dimension = x.shape[-1]
        covariance = torch.atleast_2d(torch.cov(x.T))
        log_volume = 0.5 * torch.linalg.slogdet(covariance)[1]
        rest = log_prob.double().mean() + log_volume
        rest = rest + 0.5 * dimension * (1 + math.log(2 * math.pi))
        share = 1 / (1 + math.exp(min(float(rest) - self.log_mass, 700.0)))
        distance = ((x - self.top) @ self.root).square().sum(-1)
        inside = distance < dimension + 5 * math.sqrt(2 * dimension)
        return share if float(inside.double().mean()) < share / 4 else 0.0


def _in_batches(
    density: Density, places: Tensor, like: Tensor, group: int
) -> tuple[Tensor, Tensor]:
    """Log density `(N,)` and score `(N, D)` at places `(N, D)` of one group; a recording takes K at a time."""
    found = []
    for part in places.split(len(like)):
        batch = like.clone()
        batch[: len(part), group] = part
        log_prob, score = density(batch)
        found.append((log_prob[: len(part), group], score[: len(part), group]))
    return torch.cat([x for x, _ in found]), torch.cat([x for _, x in found])


def _second_derivatives(at_places: Density, top: Tensor) -> Tensor:
    """Differences of scores `(D, D)`, over steps that lower the log density by less than half a nat."""
    identity = torch.eye(len(top), dtype=top.dtype, device=top.device)
    height, _ = at_places(top[None])
    step = torch.ones_like(top)
    for _ in range(HALVINGS):
        up, _ = at_places(top + step[:, None] * identity)
        down, _ = at_places(top - step[:, None] * identity)
        far = ~(torch.minimum(up, down) > height - 0.5)
        if not bool(far.any()):
            break
        step = torch.where(far, step / 2, step)
    _, up = at_places(top + step[:, None] * identity)
    _, down = at_places(top - step[:, None] * identity)
    found = (up - down).double() / (2 * step.double()[:, None])
    return (found + found.mT) / 2
