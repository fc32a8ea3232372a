"""Moves: updates of one site or block; all but the paper's leave the exact joint posterior invariant."""

from typing import Protocol

import torch
from torch import Tensor

from aif_dcpc.inference.model.state import State


class Move(Protocol):
    """One update of one site or block.

    A move is a frozen dataclass; calling it returns the new state and the mean acceptance
    probability (0-dim).
    """

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that the move changes."""

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """Apply the move once."""
