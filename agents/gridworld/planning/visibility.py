"""Which cells of a view will be in sight, predicted from learned transparencies.

A cell is seen if one of its up to three neighbours nearer to the agent is seen and transparent
(noisy or). How transparent each token is is learned from views in which all nearer neighbours of a
cell agree.
"""

from dataclasses import dataclass

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.vocabulary import OUT_OF_SIGHT

SEES_AS_WELL = 0.5  # a token that is clearer by less is no better to see past


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
        """Count, in a view `(P,)` of codes, the cells whose nearer neighbours that are in sight all show one token."""
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


@compiled
def still_holds(
    clear: Floats, view: Ints, outwards: Ints, remembered: Ints, transparency: Floats
) -> bool:
    """Whether nothing in a remembered view lets more sight through now: no other cell is in sight.

    Args:
        clear, view, outwards, remembered: as `visible_information`.
        transparency: `(V,)` of tokens.
    """
    for place in outwards:
        if remembered[place] >= 0:
            if clear[view[place]] - transparency[remembered[place]] >= SEES_AS_WELL:
                return False
    return True


@compiled
def visible_information(
    clear: Floats,
    information: Floats,
    view: Ints,
    nearer: Ints,
    outwards: Ints,
    own: int,
    remembered: Ints,
) -> float:
    """Information gain of looking at a view, nats: that of its cells, as far as they will be in sight.

    Where a view is remembered its visibility is used; else visibility is propagated outwards by
    noisy-or.

    Args:
        clear: `(cells,)` probability that one sees past each cell of a region, were it in sight.
        information: `(cells,)` information gain of a sighting of each cell.
        view: `(P,)` cells in the view.
        nearer, outwards, own: see `Geometry`.
        remembered: `(P,)` codes of a view that was seen here and still holds; empty if there is
            none.
    """
    known = len(remembered) > 0
    # the last place stands for no neighbour
    total = 0.0
    through = np.zeros(len(view) + 1)
    through[own] = 1.0
    for place in outwards:
        if known:
            sight = 1.0 if remembered[place] != OUT_OF_SIGHT else 0.0
        else:
            dark = 1.0
            for neighbour in nearer[place]:
                dark *= 1 - through[neighbour]
            sight = 1 - dark
            through[place] = sight * clear[view[place]]
        total += sight * information[view[place]]
    return total


@compiled
def information_at(
    clear: Floats,
    information: Floats,
    which: Ints,
    view: Ints,
    nearer: Ints,
    outwards: Ints,
    own: int,
    memory: Ints,
    views: Ints,
    transparency: Floats,
) -> Floats:
    """`visible_information` in N states.

    Args:
        clear, information: `(n, cells)` in n abstract states.
        which: `(N,)` abstract state of each state.
        view: `(N, P)`.
        nearer, outwards, own, transparency: as `visible_information`.
        memory: `(N, M)` rows of `views` that were seen in a state, or -1; of those that still hold
            the one counts by which least is told.
        views: `(W, P)` codes.
    """
    result = np.empty(len(which))
    for state in range(len(which)):
        here = which[state]
        known = clear[here], information[here], view[state]
        least = np.inf
        for one in memory[state]:
            if one >= 0 and still_holds(
                clear[here], view[state], outwards, views[one], transparency
            ):
                least = min(least, visible_information(*known, nearer, outwards, own, views[one]))
        if least == np.inf:
            least = visible_information(*known, nearer, outwards, own, views[0, :0])
        result[state] = least
    return result
