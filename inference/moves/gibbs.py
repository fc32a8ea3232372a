"""Exact draws from the complete conditional of sites with a small finite support.

All values are tried at once (along the particle axis), slices of one colour together; for a site
with an own event shape, one element of the event after the other.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor

from aif_dcpc.inference.model.draws import gumbel_argmax
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves import SiteMove
from aif_dcpc.inference.moves.complete_conditional import log_conditionals
from aif_dcpc.inference.moves.layout import site_chunks

Index = tuple[int, ...]


@dataclass(frozen=True)
class Gibbs(SiteMove):
    """Redraw the slices of one colour of a site with finite support.

    Elements of the event are visited in turn.

    Attributes:
        site: name of the site.
        phase: which colour.
    """

    needs: ClassVar[str] = "finite"
    phase: int = 0

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """Draw every element of this colour exactly; acceptance is 1."""
        site = state.conditioning.site(self.site)
        for index in element_indices(state, self.site):
            state = _draw(state, site, index, self.phase, generator)
        return state, state.log_weights.new_ones(())


def _draw(
    state: State, site: Site, index: Index, phase: int, generator: torch.Generator | None
) -> State:
    """Redraw one element of the event on the slices of one colour, observed ones kept."""
    support = state.conditioning.supports[site.name]
    scores, free = element_conditional(state, site, index, phase)
    chosen = gumbel_argmax(scores, generator, 0)
    drawn = support[chosen.flatten()].reshape(*chosen.shape, *support.shape[1:])
    moves = _may_move(state, site, index, free).expand(chosen.shape)
    moves = moves.reshape(chosen.shape + (1,) * (support.ndim - 1))
    value = state.values[site.name]
    if not index:
        return state.with_values({site.name: torch.where(moves, drawn, value)})
    place = _place(index, support.ndim - 1)
    updated = value.clone()
    updated[place] = torch.where(moves, drawn, value[place])
    return state.with_values({site.name: updated})


def _may_move(state: State, site: Site, index: Index, free: Tensor) -> Tensor:
    """True where an element of the event is on a free slice and not observed, `(T,)`, `(1, B, [T])` or 0-dim."""
    moves = free if site.period is not None else free[0]
    mask = state.masks.get(site.name)
    if mask is None:
        return moves
    masked_axes = mask.ndim - site.batch_ndim
    return moves & ~mask[_place(index[:masked_axes], 0)]


def element_conditional(
    state: State, site: Site, index: Index, phase: int
) -> tuple[Tensor, Tensor]:
    """Evaluate the unnormalised log conditional of one element of the event at the slices of one colour.

    Args:
        state: the cloud.
        site: a latent site with finite support.
        index: which element of the event; () where the event is drawn as a whole.
        phase: which colour.

    Returns:
        `(M, K, B, [T])` nats, valid at the slices of this colour, and `(T or 1,)` True there.
    """
    value = state.values[site.name]
    free = site_chunks(state, site, 1, phase).free(value.device)
    support = state.conditioning.supports[site.name]
    tries = [_with_element(site, value, index, element, free) for element in support]
    logits = log_conditionals(state, site, torch.stack(tries))
    return (logits if site.period is not None else logits.squeeze(-1)), free


def elements(state: State, name: str) -> tuple[int, ...]:
    """Shape of the independent elements of a site's event, each with the site's finite support."""
    first = state.conditioning.site(name).batch_ndim
    value = state.values[name]
    element_ndim = state.conditioning.supports[name].ndim - 1
    return tuple(value.shape[first : value.ndim - element_ndim])


def element_indices(state: State, name: str) -> list[Index]:
    """List the index of every independent element of a site's event; [()] where there is one."""
    return list(product(*(range(size) for size in elements(state, name))))


def _place(index: Index, trailing: int) -> Any:
    """Index one independent element of the event, whole in its own `trailing` axes."""
    return (..., *index, *([slice(None)] * trailing))


def _with_element(site: Site, value: Tensor, index: Index, element: Tensor, free: Tensor) -> Tensor:
    """Set one element of a site's event on the free slices."""
    flags = free[0]
    if site.period is not None:
        flags = free.reshape(free.shape + (1,) * element.ndim)
    element = element.to(value.dtype)
    if not index and not element.ndim:
        return torch.where(flags, element, value)
    tried = value.clone()
    place = _place(index, element.ndim)
    tried[place] = torch.where(flags, element, tried[place])
    return tried
