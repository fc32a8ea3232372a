"""How far states are from each other along the motions and effects that count as a way."""

import numpy as np
import numpy.typing as npt

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.compiled import compiled


@compiled
def distances(successor: Ints, allowed: npt.NDArray[np.bool_], entries: Ints) -> Floats:
    """Steps from the nearest entry to every state, `(S,)`; infinite where there is no way.

    Args:
        successor: `(S, E)` state after each event.
        allowed: `(S, E)` whether the event counts as a way.
        entries: states at distance 0.
    """
    steps = np.full(len(successor), np.inf)
    queue = np.empty(len(successor), np.int64)
    size = 0
    for entry in entries:
        if steps[entry] > 0:
            steps[entry] = 0
            queue[size] = entry
            size += 1
    done = 0
    while done < size:
        state = queue[done]
        done += 1
        for event in range(successor.shape[1]):
            after = successor[state, event]
            if allowed[state, event] and np.isinf(steps[after]):
                steps[after] = steps[state] + 1
                queue[size] = after
                size += 1
    return steps


@compiled
def least_effort(
    distance: Floats, chance: Floats, cell_ahead: Ints, num_cells: int, min_chance: float
) -> Floats:
    """Steps until an event has happened at each cell, `(num_cells,)`.

    They are the way to it, and 1 / chance trials.

    Args:
        distance: `(S,)` steps to every state.
        chance: `(S,)` of the event in every state; infinite effort where it is less than
            `min_chance`.
        cell_ahead: `(S,)` cell ahead.
    """
    effort = np.full(num_cells, np.inf)
    for state in range(len(cell_ahead)):
        cell = cell_ahead[state]
        if cell < num_cells and chance[state] >= min_chance:
            effort[cell] = min(effort[cell], distance[state] + 1 / chance[state])
    return effort
