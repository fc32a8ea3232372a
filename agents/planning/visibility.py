"""Which cells of a view will be in sight, predicted from learned transparencies.

A cell is seen if one of its up to three neighbours nearer to the agent is seen and transparent (noisy or). How
transparent each token is is learned from views in which all nearer neighbours of a cell agree.
"""

from dataclasses import dataclass

import numpy as np

from aif_dcpc.agents.planning.belief import Floats
from aif_dcpc.agents.world_models.geometry import Geometry, Ints


@dataclass
class Transparency:
    """Beta counts per token slot.

    Attributes:
        counts: `(V, 2)` (seen past, not seen past).
    """

    counts: Floats

    @classmethod
    def new(cls, num_slots: int) -> "Transparency":
        """Nothing known: probability one half."""
        return cls(np.zeros((num_slots, 2)))

    def update(self, view: Ints, geometry: Geometry) -> None:
        """Count one view `(P,)` of codes: cells whose nearer neighbours in sight all show one token."""
        near = np.where(geometry.nearer >= 0, view[geometry.nearer], -1)
        touches_own = (geometry.nearer == geometry.own).any(1)
        top = near.max(1)
        agree = ((near == -1) | (near == top[:, None])).all(1) & (top >= 0) & ~touches_own
        agree[geometry.own] = False
        for token, seen in zip(top[agree], view[agree] != -1, strict=True):
            self.counts[token, 0 if seen else 1] += 1

    def grow(self, num_slots: int) -> None:
        """Make room for more tokens."""
        missing = num_slots - len(self.counts)
        if missing > 0:
            self.counts = np.concatenate([self.counts, np.zeros((missing, 2))])

    def mean(self) -> Floats:
        """`(V,)` posterior means under a uniform prior."""
        return (self.counts[:, 0] + 1) / (self.counts.sum(1) + 2)


def in_sight(clear: Floats, geometry: Geometry) -> Floats:
    """Probability that each view cell is in sight.

    Args:
        clear: `(..., P)` probability that one sees past each view cell, were it in sight.
        geometry: rings and neighbours of view cells.
    """
    count = clear.shape[-1]
    sight = np.zeros((count + 1, *clear.shape[:-1]))
    through = np.zeros_like(sight)
    sight[geometry.own], through[geometry.own] = 1.0, 1.0
    clear = np.moveaxis(clear, -1, 0)
    for ring in geometry.rings:
        first, second, third = (1 - through[cells] for cells in geometry.nearer[ring].T)
        sight[ring] = 1 - first * second * third
        through[ring] = sight[ring] * clear[ring]
    return np.moveaxis(sight[:count], 0, -1)
