"""How a site's values lie in chunks: event axes flattened, which values are free, how far its slices couple."""

import torch
from torch import Tensor

from aif_dcpc.inference.errors import MoveError
from aif_dcpc.inference.model.densities import SPLIT, factors_of
from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.chunks import Chunks


def longest_lag(state: State, name: str) -> int:
    """Longest distance in slices between two values of a site that share a factor."""
    spans = [max(f.lags(name)) - min(f.lags(name)) for f in factors_of(state, name)]
    return max(spans, default=0)


def site_chunks(state: State, site: Site, width: int, phase: int, gap: int = 0) -> Chunks:
    """The chunks of a pass, at least `gap` slices apart.

    A site without time is one chunk of one slice.
    """
    if site.period is None:
        return Chunks(1, 1, 0)
    gap = max(gap, longest_lag(state, site.name))
    return Chunks.fit(state.values[site.name].shape[2], width, gap, phase)


def flatten_event(site: Site, x: Tensor) -> Tensor:
    """`(K, B, [T,] *event)` to `(K, B, T or 1, D)`."""
    if site.period is None:
        return x.reshape(*x.shape[:2], 1, -1)
    return x.reshape(*x.shape[:3], -1)


def free_values(state: State, site: Site, chunks: Chunks) -> Tensor:
    """`(T or 1,)` or `(1, B, T or 1)`: True where a value may move (fixed slices and observed values may not)."""
    free = chunks.free(state.log_weights.device)
    mask = state.masks.get(site.name)
    if mask is None:
        return free
    if mask.ndim > site.batch_ndim:
        raise MoveError(
            f"site {site.name!r}: this move draws whole events, of which the mask holds "
            f"elements; choose 'langevin' or 'gibbs', or {SPLIT}"
        )
    return free & ~(mask if site.period is not None else mask.unsqueeze(-1))


def where_free(site: Site, free: Tensor, proposal: Tensor, value: Tensor) -> Tensor:
    """Take a proposal where a value may move, and the present value elsewhere.

    Args:
        site: the site.
        free: what `free_values` gave.
        proposal, value: `(K, B, [T,] *event)`.
    """
    flags = free.expand(*value.shape[:2], -1)
    flags = flags if site.period is not None else flags.squeeze(2)
    return torch.where(expand_trailing(flags, value), proposal, value)
