"""Bringing scattered chains to where the posterior's mass is, before anything is sampled.

Every chain climbs on its own by limited-memory quasi-Newton steps (L-BFGS), all chains in one batched
evaluation a step, and stops where the expected gain of another step, g' H g / 2, is small for D
dimensions: in the typical set's neighbourhood, not at the mode.

Reference: Nocedal and Wright 2006, algorithm 7.4; Zhang et al. 2022 (Pathfinder) for the idea.
"""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.moves.hamiltonian import Density

HISTORY = 8
ENOUGH = 0.1  # nats of expected gain per dimension below which a chain has arrived
SHRINK = 0.3  # of the step, after a failure
SLACK = 1e-4  # a step must gain this share of what its slope promises
MOST = 300  # evaluations
SHARE = 0.5  # of each datum's chains whose end is that of the climb: the others go on by sampling
CHECK = 5  # evaluations between looks at whether the climb may end
PATIENCE = 4  # looks over which a chain that gains next to nothing has ended, arrived or not


@dataclass
class Climb:
    """What a climb has found.

    Attributes:
        place: `(K, G, D)`, the highest point of each chain.
        log_prob: `(K, G)` nats.
        score: `(K, G, D)`.
        steps, falls: the last `HISTORY` differences of places and of minus scores,
            `(HISTORY, K, G, D)`; zero where there was no good pair.
        evaluations: how many batched evaluations it took.
    """

    place: Tensor
    log_prob: Tensor
    score: Tensor
    steps: Tensor
    falls: Tensor
    evaluations: int


def climb(density: Density, start: Tensor) -> Climb:
    """Climb from `start` `(K, G, D)` until enough chains have arrived or go no further, or the budget ends."""
    log_prob, score = density(start)
    dimension = start.shape[-1]
    history = (HISTORY, *start.shape)
    found = Climb(
        start, log_prob, _finite(score), start.new_zeros(history), start.new_zeros(history), 1
    )
    size = 1.0 / found.score.norm(dim=-1).clamp_min(1.0)
    calm = torch.zeros_like(log_prob)
    past = deque([torch.full_like(log_prob, -torch.inf)] * PATIENCE)
    while found.evaluations < MOST:
        direction, has_pairs = _direction(found)
        gain = (direction * found.score).sum(-1)
        near = gain < 2 * ENOUGH * dimension
        calm = torch.where(near, calm + has_pairs, torch.zeros_like(calm))
        tried = found.place + size.unsqueeze(-1) * direction
        log_prob, score = density(tried)
        better = log_prob > found.log_prob + SLACK * size * gain
        better = better & torch.isfinite(score).all(-1)
        better = better | ~torch.isfinite(found.log_prob) & torch.isfinite(log_prob)
        better = better & (calm < 2)  # who has arrived stays: further up lies the mode
        _remember(found, tried, score, better)
        wide = better.unsqueeze(-1)
        found.place = torch.where(wide, tried, found.place)
        found.score = torch.where(wide, score, found.score)
        found.log_prob = torch.where(better, log_prob, found.log_prob)
        size = torch.where(better, torch.ones_like(size), size * SHRINK)
        found.evaluations += 1
        if found.evaluations % CHECK == 0:
            idle = found.log_prob - past.popleft() < ENOUGH * dimension
            if _is_over((calm >= 2) | idle):
                break
            past.append(found.log_prob)
    return found


def _is_over(ended: Tensor) -> bool:
    """Whether half of each datum's chains have ended (reads a number)."""
    return bool((ended.double().mean(0) >= SHARE).all())


def _finite(score: Tensor) -> Tensor:
    return torch.nan_to_num(score, nan=0.0, posinf=0.0, neginf=0.0)


def _direction(found: Climb) -> tuple[Tensor, Tensor]:
    """Two-loop recursion, all chains at once: H g, and 1 where a chain has pairs."""
    products = (found.steps * found.falls).sum(-1)
    known = products > 0
    inverse = torch.where(known, 1 / products.where(known, torch.ones_like(products)), 0.0)
    direction = found.score
    shares = []
    for s, y, rho in zip(
        reversed(found.steps), reversed(found.falls), inverse.flip(0), strict=True
    ):
        share = rho * (s * direction).sum(-1)
        direction = direction - share.unsqueeze(-1) * y
        shares.append(share)
    direction = direction * _first_scale(found, products, known).unsqueeze(-1)
    for s, y, rho, share in zip(found.steps, found.falls, inverse, reversed(shares), strict=True):
        back = rho * (y * direction).sum(-1)
        direction = direction + (share - back).unsqueeze(-1) * s
    return direction, known.any(0).to(direction)


def _first_scale(found: Climb, products: Tensor, known: Tensor) -> Tensor:
    """s'y / y'y of the newest pair of each chain; 1 where there is none."""
    squares = found.falls.square().sum(-1).clamp_min(1e-30)
    scale = torch.ones_like(products[0])
    for product, square, has in zip(products, squares, known, strict=True):
        scale = torch.where(has, product / square, scale)
    return scale


def _remember(found: Climb, tried: Tensor, score: Tensor, better: Tensor) -> None:
    step = tried - found.place
    fall = found.score - score
    product = (step * fall).sum(-1)
    good = better & (product > 1e-10 * step.norm(dim=-1) * fall.norm(dim=-1))
    good = good.unsqueeze(-1)
    new_steps = torch.cat([found.steps[1:], step[None]])
    new_falls = torch.cat([found.falls[1:], fall[None]])
    found.steps = torch.where(good, new_steps, found.steps)
    found.falls = torch.where(good, new_falls, found.falls)
