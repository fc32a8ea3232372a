"""Climbing a differentiable log density by gradients, for what stands outside of any graph.

>>> import torch
>>> top = ascend(lambda x: -(x - 1.0).square().sum(), torch.zeros(2), steps=200, rate=0.1)
>>> bool((top - 1.0).abs().max() < 0.05)
True
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def ascend(
    log_density: Callable[[Tensor], Tensor], start: Tensor, *, steps: int, rate: float
) -> Tensor:
    """Return the highest of the points that so many steps of Adam have seen, the start among them.

    Args:
        log_density: point -> log density (0-dim), nats up to a constant.
        start: where to begin; it is left as it is.
        steps: how many points are looked at.
        rate: step size of Adam, in units of the point's coordinates.
    """
    point = start.detach().clone().requires_grad_()
    adam = torch.optim.Adam([point], lr=rate)
    best = -math.inf
    highest = start.detach().clone()
    with torch.enable_grad():
        for _ in range(steps):
            found = log_density(point)
            if float(found.detach()) > best:
                best = float(found.detach())
                highest = point.detach().clone()
            adam.zero_grad()
            (-found).backward()
            adam.step()
    return highest
