"""Systematic resampling of whole lineages: all sites of a particle move, so no pairing is broken."""

from collections.abc import Mapping

import torch
from torch import Tensor

from aif_dcpc.inference.model.state import State


def ess(log_weights: Tensor) -> Tensor:
    """Return the effective sample size of weights `(K, B)`, `(B,)` from 1 to K.

    It is 1 / (sum of squared normalised weights).
    """
    return 1 / torch.softmax(log_weights, 0).square().sum(0)


def systematic(
    log_weights: Tensor, generator: torch.Generator | None, number: int | None = None
) -> Tensor:
    """Draw offspring indices `(K, B)`, or `(number, B)`.

    A particle of normalised weight w gets floor(K w) or ceil(K w) offspring.

    Reference: Douc and Cappe 2005.
    """
    num_particles, batch = log_weights.shape
    number = num_particles if number is None else number
    cumulative = torch.softmax(log_weights, 0).cumsum(0)
    cumulative = cumulative / cumulative[-1]
    start = torch.rand(
        1, batch, dtype=log_weights.dtype, device=log_weights.device, generator=generator
    )
    points = (torch.arange(number, device=log_weights.device)[:, None] + start) / number
    found = torch.searchsorted(cumulative.mT.contiguous(), points.mT.contiguous())
    return found.mT.clamp_max(num_particles - 1)


def take(values: Tensor, indices: Tensor) -> Tensor:
    """Pick particles `(K, B, *rest)` by `indices` `(K, B)`; not for global sites `(K, 1, *rest)`."""
    batch = values.shape[1]
    rows = indices * batch + torch.arange(batch, device=indices.device)
    return values.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, indices.shape)


def is_coupled(state: State) -> bool:
    """Whether a latent global site ties all data to one lineage."""
    return any(
        state.conditioning.site(name).scope == "global" for name in state.conditioning.latent
    )


def resample_lineages(
    state: State, generator: torch.Generator | None, *, threshold: float = 0.5
) -> State:
    """Resample the cloud of each data point whose ESS fell below `threshold * K`.

    Its weights become equal there. The decision is taken on the device, without a host
    synchronisation (in main memory it is looked at, so that nothing is copied in vain). With global
    latents all data share one lineage, and their weights, which are equal, are taken once.
    """
    poor = ess(state.log_weights) < threshold * state.num_particles
    weights = state.log_weights[:, :1] if is_coupled(state) else state.log_weights
    drawn = systematic(weights, generator)
    if poor.device.type == "cpu" and not bool(poor.any()):
        return state
    identity = torch.arange(state.num_particles, device=poor.device)[:, None].expand_as(
        state.ancestors
    )
    indices = torch.where(poor, drawn, identity)
    moved = {
        name: take(value, indices[:, : value.shape[1]])
        for name, value in _own_particles(state).items()
    }
    level = torch.logsumexp(state.log_weights, 0) - torch.log(
        state.log_weights.new_full((), state.num_particles)
    )
    weights = torch.where(poor, level.expand_as(state.log_weights), state.log_weights)
    return state.with_values(moved).replace(
        log_weights=weights, ancestors=state.ancestors.gather(0, indices)
    )


def _own_particles(state: State) -> Mapping[str, Tensor]:
    return {
        n: state.values[n]
        for n in state.conditioning.latent
        if state.values[n].shape[0] == state.num_particles
    }


def unique_ancestors(state: State) -> Tensor:
    """Number of distinct first-slice ancestors that survive, `(B,)`."""
    present = torch.zeros_like(state.ancestors).scatter(
        0, state.ancestors, torch.ones_like(state.ancestors)
    )
    return present.sum(0)
