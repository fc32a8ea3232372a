"""Sweeping the last slices only, so that the cost per step does not grow with the series.

The cut-off past is held fixed, and so are sites without time, whose conditionals would need all of
it. What is lost: the past is no longer revised by new data, so use it with a length beyond which
the past does not matter.
"""

from dataclasses import replace

import torch
from torch import Tensor

from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.state import Conditioning, State


def recent_slices(state: State, length: int) -> State:
    """The cloud over (about) the last `length` slices, its first ones held at their present values.

    Args:
        state: the cloud over T slices.
        length: how many slices, at least 1; rounded up to whole periods of slow sites.

    Returns:
        a cloud that moves conditionally on the past; `state` itself where the series is not longer.
    """
    part = state.last(length)
    if part is state:
        return state
    part = hold_timeless(part).replace(opened=state.doubled)  # its moves learn as those of a series
    masks = dict(part.masks)
    for name in part.conditioning.latent:
        masks[name] = _held(part.values[name], masks.get(name), _longest(state.conditioning))
    return part.replace(masks=masks)


def hold_timeless(state: State) -> State:
    """Hold sites without time at their present values, particle by particle: sweeps move the series alone."""
    latent = tuple(n for n in state.conditioning.latent if state.conditioning.site(n).period)
    return state.replace(conditioning=replace(state.conditioning, latent=latent))


def merge_window(state: State, part: State) -> State:
    """The whole cloud with its last slices replaced by those of `part`, a swept `recent_slices(state, ...)`."""
    if part.conditioning is state.conditioning:
        return part
    values = dict(state.values)
    for name in part.conditioning.latent:
        past = state.values[name].shape[2] - part.values[name].shape[2]
        values[name] = torch.cat([state.values[name][:, :, :past], part.values[name]], 2)
    return state.replace(values=values, cache={}, adaptation=part.adaptation, sweeps=part.sweeps)


def for_constants_alone(state: State, swept: State, warmup: int) -> State:
    """A whole cloud swept for the sake of sites without time: moves of the series stay as windows know them.

    Windows need no new factorisations then.
    """
    if state.sweeps < state.doubled + warmup:
        return swept  # they are still learning
    sites = state.conditioning.factor_graph.model.sites
    kept = {n: a for n, a in state.adaptation.items() if n in sites and sites[n].period is not None}
    return swept.replace(adaptation={**swept.adaptation, **kept})


def _longest(conditioning: Conditioning) -> int:
    """Longest lag of the model, in slices of the site that has it."""
    return max((f.start for f in conditioning.factor_graph.factors), default=0)


def _held(value: Tensor, mask: Tensor | None, count: int) -> Tensor:
    """`(1, B, T, *elements)` True on the first slices, and where the site is observed."""
    first = torch.arange(value.shape[2], device=value.device) < count
    held = first.expand(1, value.shape[1], -1)
    return held if mask is None else expand_trailing(held, mask) | mask
