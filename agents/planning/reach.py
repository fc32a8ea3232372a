"""How far states are from each other along the motions and effects that count as a way."""

import numpy as np
import numpy.typing as npt

from aif_dcpc.agents.planning.belief import Floats
from aif_dcpc.agents.world_models.geometry import Ints


def distances(successor: Ints, allowed: npt.NDArray[np.bool_], entries: Ints) -> Floats:
    """Steps from the nearest entry to every state, `(S,)`; infinite where there is no way.

    Args:
        successor: `(S, E)` state after each event.
        allowed: `(S, E)` whether the event counts as a way.
        entries: states at distance 0.
    """
    steps = np.full(len(successor), np.inf)
    steps[entries] = 0
    frontier, distance = np.asarray(entries), 0
    while len(frontier):
        distance += 1
        ahead = successor[frontier][allowed[frontier]]
        steps[ahead[np.isinf(steps[ahead])]] = distance
        frontier = (steps == distance).nonzero()[0]
    return steps
