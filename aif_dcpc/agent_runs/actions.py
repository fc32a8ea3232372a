"""Actions on their way from an agent to its environment, and into a checkpoint."""

from typing import Any

import gymnasium
import numpy as np

from aif_dcpc.agents.protocol import Action
from aif_dcpc.errors import UserError

Plain = Any  # a whole number, or numbers in lists: what a checkpoint may hold


def admitted(action: Any, space: gymnasium.Space[Any]) -> Action:
    """Return an action as its space has it: a number if it is Discrete, else an array of its type.

    Args:
        action: what an agent chose, or what `plain` made of it.
        space: of the environment's actions; discrete ones count from 0.

    Raises:
        UserError: it is not in the space; it is not clipped, since the agent would then believe
            that it did what it did not do.
    """
    try:
        if isinstance(space, gymnasium.spaces.Discrete):
            chosen: Action = int(action)
            known = 0 <= chosen < space.n and chosen == action
        else:
            chosen = np.asarray(action, dtype=space.dtype)
            known = space.contains(chosen) and _is_same(chosen, action)
    except (TypeError, ValueError, OverflowError):
        known = False
    if not known:
        raise UserError(
            f"the agent chose the action {' '.join(str(action).split())}, which is not in {space}: "
            "its act must keep to the bounds and the shape."
        )
    return chosen


def _is_same(chosen: np.ndarray, action: Any) -> bool:
    """Tell whether an action is still the same in the type of its space; numbers with a fraction may be rounded."""
    return chosen.dtype.kind == "f" or np.array_equal(chosen, action)


def plain(action: Action) -> Plain:
    """Return an action as a checkpoint holds it; `admitted` takes it back bit for bit."""
    return action if isinstance(action, int) else action.tolist()
