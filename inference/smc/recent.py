"""Sweeping the last slices only, so that the cost per step does not grow with the series.

The cut-off past is held fixed, and so are sites without time, whose conditionals would need all of
it. What is lost: the past is no longer revised by new data, so use it with a length beyond which
the past does not matter.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from aif_dcpc.inference.model.state import Conditioning, State


def recent_slices(state: State, length: int) -> State:
    """The cloud over (about) the last `length` slices, its first ones held at their present values.

    Args:
        state: the cloud over T slices.
        length: how many slices, at least 1; rounded up to whole periods of slow sites.

    Returns:
        a cloud that moves conditionally on the past; `state` itself where the series is not longer.
    """
    part = last_slices(state, length)
    if part is state:
        return state
    masks = dict(part.masks)
    latent = tuple(n for n in part.conditioning.latent if part.conditioning.site(n).period)
    for name in latent:
        masks[name] = _held(part.values[name], masks.get(name), _longest(state.conditioning))
    return part.replace(conditioning=replace(state.conditioning, latent=latent), masks=masks)


def last_slices(state: State, length: int) -> State:
    """Cut a cloud to its last `length` slices and those that they read, rounded up to whole periods.

    Returns:
        the cut cloud; `state` itself where there is nothing to cut off.
    """
    start = _start(state, length)
    if start <= 0:
        return state
    past = past_values(state, start)
    return state.replace(
        values=without_past(state.values, past),
        masks=without_past(state.masks, past),
        length=state.length - start,
        cache={},
    )


def merge_window(state: State, part: State) -> State:
    """The whole cloud with its last slices replaced by those of `part`, a swept `recent_slices(state, ...)`."""
    if part.conditioning is state.conditioning:
        return part
    values = dict(state.values)
    for name in part.conditioning.latent:
        past = state.values[name].shape[2] - part.values[name].shape[2]
        values[name] = torch.cat([state.values[name][:, :, :past], part.values[name]], 2)
    return state.replace(values=values, cache={}, adaptation=part.adaptation, sweeps=part.sweeps)


def past_values(state: State, start: int) -> dict[str, int]:
    """Count the values of each site with time that begin before a slice."""
    sites = state.conditioning.factor_graph.model.sites
    periods = {name: sites[name].period for name in state.values}
    return {name: start // period for name, period in periods.items() if period is not None}


def without_past(tensors: Mapping[str, Tensor], past: Mapping[str, int]) -> dict[str, Tensor]:
    """Leave those of the past out of values or masks `(K or 1, B, T, ...)`.

    Sites without time stay as they are.
    """
    return {name: x[:, :, past[name] :] if name in past else x for name, x in tensors.items()}


def _start(state: State, length: int) -> int:
    """First slice that is kept, a multiple of every period."""
    sites = state.conditioning.factor_graph.model.sites.values()
    period = math.lcm(*(site.period for site in sites if site.period is not None))
    return (state.length - length - _longest(state.conditioning)) // period * period


def _longest(conditioning: Conditioning) -> int:
    """Longest lag of the model, in slices of the site that has it."""
    return max((f.start for f in conditioning.factor_graph.factors), default=0)


def _held(value: Tensor, mask: Tensor | None, count: int) -> Tensor:
    """`(1, B, T)` True on the first slices, and where the site is observed."""
    first = torch.arange(value.shape[2], device=value.device) < count
    held = first.expand(1, value.shape[1], -1)
    return held if mask is None else held | mask
