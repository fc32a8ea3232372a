"""How episodes end in worlds that end in one of several places, of which one is rewarded."""

from typing import Any

import numpy as np

NOTHING, NO_REWARD, REWARD = range(3)  # what is observed as outcome
Ending = tuple[float, bool, bool, dict[str, Any]]


def ending(
    source: np.random.Generator, *, ended: bool, right: bool, chance: float, out_of_time: bool
) -> tuple[int, Ending]:
    """Draw whether there is reward at an end, and tell how a step ends.

    Args:
        source: of randomness, asked at ends alone.
        ended: whether an end was reached.
        right: whether it is the one that is rewarded.
        chance: probability of reward there, and of none at the others.
        out_of_time: whether no more steps are left.

    Returns:
        the outcome to observe; then reward, terminated, truncated and info of the step.
    """
    won = ended and bool(source.random() < (chance if right else 1 - chance))
    truncated = out_of_time and not ended
    info = {"success": won} if ended or truncated else {}
    outcome = (REWARD if won else NO_REWARD) if ended else NOTHING
    return outcome, (float(won), ended, truncated, info)
