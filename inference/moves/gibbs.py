"""Exact draws from the complete conditional of sites with a small finite support.

All values are tried at once (along the particle axis), slices of one colour together; for a site
with an own event shape, one element of the event after the other.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.model.densities import accumulate, evaluate, factors_of
from aif_dcpc.inference.model.factor_graph import Argument
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.chunks import Chunks
from aif_dcpc.inference.moves.layout import longest_lag


@dataclass(frozen=True)
class Gibbs:
    """Redraw the slices of one colour of a site with finite support; elements of the event are visited in turn.

    Attributes:
        site: name of the site.
        phase: which colour.
    """

    site: str
    phase: int = 0

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that the move changes."""
        return (self.site,)

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """One exact draw of every element of this colour; acceptance is 1."""
        site = state.conditioning.site(self.site)
        support = state.conditioning.supports[self.site]
        for index in product(*(range(n) for n in elements(state, self.site))):
            state = _draw(state, site, support, index, self.phase, generator)
        return state, state.log_weights.new_ones(())


def _draw(
    state: State,
    site: Site,
    support: Tensor,
    index: tuple[int, ...],
    phase: int,
    generator: torch.Generator | None,
) -> State:
    value = state.values[site.name]
    scores, free = element_conditional(state, site, index, phase)
    noise = torch.rand(scores.shape, dtype=scores.dtype, device=scores.device, generator=generator)
    gumbel = -torch.log(-torch.log(noise.clamp_min(torch.finfo(noise.dtype).tiny)))
    chosen = (scores + gumbel).argmax(0)
    drawn = support[chosen.flatten()].reshape(*chosen.shape, *support.shape[1:])
    keep = free if site.period is not None else free[0]
    mask = state.masks.get(site.name)
    if mask is not None:
        keep = keep & ~mask[_place(index[: mask.ndim - site.batch_ndim], 0)]
    shape = chosen.shape + (1,) * (support.ndim - 1)
    place = _place(index, support.ndim - 1)
    element_now = value[place] if index else value
    new = torch.where(keep.expand(chosen.shape).reshape(shape), drawn, element_now)
    updated = value.clone()
    if index:
        updated[place] = new
    else:
        updated = new
    return state.with_values({site.name: updated})


def element_conditional(
    state: State, site: Site, index: tuple[int, ...], phase: int
) -> tuple[Tensor, Tensor]:
    """Unnormalised log conditional of one element of the event at the slices of one colour.

    Args:
        state: the cloud.
        site: a latent site with finite support.
        index: which element of the event; () where the event is drawn as a whole.
        phase: which colour.

    Returns:
        `(M, K, B, [T])` nats, valid at the slices of this colour, and `(T or 1,)` True there.
    """
    support, value = state.conditioning.supports[site.name], state.values[site.name]
    timed = site.period is not None
    lag = longest_lag(state, site.name) if timed else 0
    chunks = Chunks.fit(value.shape[2], 1, lag, phase) if timed else Chunks(1, 1, 0)
    free = chunks.free(value.device)
    tries = [_with_element(site, value, index, element, free) for element in support]
    return _conditional(state, site, tries, chunks), free


def elements(state: State, name: str) -> tuple[int, ...]:
    """Shape of the independent elements of a site's event, each with the site's finite support."""
    site, value, support = (
        state.conditioning.site(name),
        state.values[name],
        state.conditioning.supports[name],
    )
    return tuple(value.shape[site.batch_ndim : value.ndim - (support.ndim - 1)])


def _place(index: tuple[int, ...], trailing: int) -> Any:
    """Index of one independent element of the event, whole in its own `trailing` axes."""
    return (..., *index, *([slice(None)] * trailing))


def _with_element(
    site: Site, value: Tensor, index: tuple[int, ...], element: Tensor, free: Tensor
) -> Tensor:
    """The site's values with one element of its event set on the free slices."""
    tried = value.clone()
    place = _place(index, element.ndim)
    now = tried[place] if index or element.ndim else tried
    flags = free.reshape(free.shape + (1,) * element.ndim) if site.period is not None else free[0]
    new = torch.where(flags, element.to(value.dtype), now)
    if index or element.ndim:
        tried[place] = new
        return tried
    return new


def _conditional(state: State, site: Site, tries: list[Tensor], chunks: Chunks) -> Tensor:
    """Unnormalised log conditional of each tried value, `(M, K, B, [T])`."""
    batched = torch.cat(tries)
    repeated = _repeat(state, site, len(tries))
    length = chunks.length if site.period is not None else 1
    total = state.log_weights.new_zeros(*batched.shape[:2], length)
    for factor in factors_of(state, site.name):
        log_prob = evaluate(repeated, factor, {site.name: batched}, scores=False).log_prob
        for lag in factor.lags(site.name):
            accumulate(total, state, site, factor, Argument(site.name, lag), log_prob)
    total = total if site.period is not None else total.squeeze(2)
    return total.unflatten(0, (len(tries), -1))


def _repeat(state: State, site: Site, times: int) -> State:
    """The state with every latent's particle axis repeated."""
    values = {
        n: v.repeat(times, *([1] * (v.ndim - 1)))
        if n in state.conditioning.latent and n != site.name
        else v
        for n, v in state.values.items()
    }
    return replace(state, values=values)
