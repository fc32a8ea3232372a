"""Moves: updates of one site or block.

All but the paper's leave the exact joint posterior invariant.

A move of one's own is anything of the protocol `Move`. `SiteMove` is a base with the defaults of a
move of one site: a frozen dataclass with a field `site`, from which `sites` follows.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Negate(SiteMove):
    ...     def __call__(self, state, generator, *, adapt):
    ...         moved = {self.site: -state.values[self.site]}
    ...         return state.with_values(moved), state.log_weights.new_ones(())
    >>> Negate("z").sites
    ('z',)

The engine takes it as an object, or by name from any module that can be imported:
`DCPC(model, moves={"z": Negate("z")})`, `DCPC(model, moves={"z": "my_package.moves:Negate"})`. A
move that every user should find by a short name is a line in `schedule.KINDS`; one contract test
then holds it to the exact joint and to never waiting for the device.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

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
        """Apply the move once.

        Args:
            state: the cloud; it is left as it is.
            generator: source of all randomness.
            adapt: whether the move may learn from this cloud, in `state.adaptation`; what has
                nothing to learn ignores it.

        Returns:
            the new cloud and the mean acceptance probability (0-dim, on the cloud's device); 1 for
                exact draws.
        """


@dataclass(frozen=True)
class SiteMove:
    """Base of moves of one site.

    Attributes:
        needs: what the site must have, as for `schedule.MoveKind`; by default nothing.
        site: name of the site.
    """

    needs: ClassVar[str] = "density"
    site: str

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that the move changes: its one site."""
        return (self.site,)
