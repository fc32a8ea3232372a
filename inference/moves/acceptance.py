"""Accepting a proposed value slice by slice (Metropolis and Hastings), each particle and data point on its own."""

import torch
from torch import Tensor

from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import State


def accept(
    state: State,
    site: Site,
    free: Tensor,
    proposal: Tensor,
    log_ratio: Tensor,
    generator: torch.Generator | None,
) -> tuple[State, Tensor]:
    """Move the free slices of a site to their proposed values with probability min(1, exp(log_ratio)).

    Args:
        state: the cloud.
        site: the site that moves.
        free: `(T or 1,)` or `(1, B, T or 1)`, True where a slice may move.
        proposal: `(K, B, [T,] *event)` in unconstrained coordinates.
        log_ratio: `(K, B, T or 1)` nats; a ratio that is no number is a rejection.
        generator: source of randomness.

    Returns:
        the new cloud, and the mean acceptance probability over the free slices (0-dim).
    """
    uniform = torch.rand(
        log_ratio.shape, dtype=log_ratio.dtype, device=log_ratio.device, generator=generator
    )
    accepted = (uniform.log() < log_ratio) & free
    flags = accepted if site.period is not None else accepted.squeeze(2)
    value = state.values[site.name]
    moved = torch.where(expand_trailing(flags, value), proposal, value)
    return state.with_values({site.name: moved}), mean_acceptance(log_ratio, free)


def mean_acceptance(log_ratio: Tensor, free: Tensor) -> Tensor:
    """Average min(1, exp(log_ratio)) over the free slices, 0-dim."""
    probability = torch.nan_to_num(log_ratio.clamp(max=0).exp(), nan=0.0)
    total = torch.where(free, probability, torch.zeros_like(probability)).sum()
    return total / free.expand_as(log_ratio).sum().clamp_min(1)
