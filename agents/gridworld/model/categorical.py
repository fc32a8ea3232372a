"""Draws from categorical distributions, each from a single uniform number.

Gumbel noise (`aif_dcpc.inference.model.draws`) would take one number for every value that could be
drawn, and whole maps are drawn here at every step.
"""

import torch
from torch import Tensor


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from categorical distributions along the last axis."""
    return draw_categorical(logits.softmax(-1), generator)


def draw_alike(chances: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Draw `number` values from each of K distributions `(K, V)`, `(K, number)`.

    Each row is a sample of independent values; all rows use the same uniform numbers, sorted once,
    which is fast.
    """
    uniform, order = torch.rand(number, generator=generator).sort()
    total = chances.cumsum(1)
    below = torch.searchsorted(uniform, total[:, :-1] / total[:, -1:])  # numbers below each step
    # a value is the number of steps that lie below its uniform number
    sorted_values = torch.zeros(len(chances), number + 1, dtype=torch.long)
    sorted_values.scatter_add_(1, below, torch.ones_like(below))
    drawn = torch.empty(len(chances), number, dtype=torch.long)
    return drawn.index_copy_(1, order, sorted_values.cumsum(1)[:, :-1])


def draw_categorical(chances: Tensor, generator: torch.Generator) -> Tensor:
    """Draw by inverting the distribution function along the last axis."""
    total = chances.cumsum(-1)
    uniform = torch.rand(chances.shape[:-1], generator=generator)[..., None] * total[..., -1:]
    return (uniform >= total).sum(-1).clamp_max(chances.shape[-1] - 1)
