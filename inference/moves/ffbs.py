"""Forward filtering, backward sampling: whole paths of a discrete chain drawn exactly from their complete conditional.

Single-site updates stick where a chain is sharp; this draws all slices jointly, given the other
sites' particles. The number of tensor operations grows with log T (see `forward_backward`).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves import SiteMove
from aif_dcpc.inference.moves.forward_backward import chain_tables


@dataclass(frozen=True)
class ForwardFilterBackwardSample(SiteMove):
    """Redraw all slices of a site with finite support and lag 1.

    Attributes:
        site: name of the site.
    """

    needs: ClassVar[str] = "chain"

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """Draw all slices jointly and exactly; acceptance is 1."""
        tables = chain_tables(state, self.site)
        indices = tables.sample(state.num_particles, state.batch_size, generator)
        support = state.conditioning.supports[self.site]
        drawn = support.index_select(0, indices.flatten())
        drawn = drawn.reshape(*indices.shape, *support.shape[1:])
        return state.with_values({self.site: drawn}), state.log_weights.new_ones(())
