"""Moves of what a block does not hold: discrete sites, and sites whose move or conditional is the user's."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves import Move
from aif_dcpc.inference.moves.schedule import Schedule


@dataclass(frozen=True)
class RestMoves:
    """The engine's own moves of some sites.

    Attributes:
        schedule: state -> the moves of all sites.
        sites: which of them are visited.
        joint: draws of coupled discrete sites, in the place of their own moves.
    """

    schedule: Callable[[State], Schedule]
    sites: frozenset[str]
    joint: tuple[Move, ...] = ()

    def sweep(self, state: State, generator: torch.Generator | None, *, adapt: bool) -> State:
        """Visit every site once, given all others."""
        jointly = {site for move in self.joint for site in move.sites}
        single = self.sites - jointly
        own = (m for m in self.schedule(state).moves(state.sweeps) if single.issuperset(m.sites))
        for move in (*self.joint, *own):
            state, _ = move(state, generator, adapt=adapt)
        return state.replace(sweeps=state.sweeps + 1)
