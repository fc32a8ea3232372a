"""Noticing that a step may have done something that no event in the vocabulary does yet."""

from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.vocabulary import SAME, Effect


def suspected_effect(history: History, geometry: Geometry, columns: int) -> Effect | None:
    """The effect that the last two slices suggest, if any.

    The hand changed; or only the cell ahead changed, while all that was seen before and after
    stayed as it was.
    """
    if len(history) < 2 or int(history.heading[-1]) != int(history.heading[-2]):
        return None
    place = geometry.own - columns
    before = history.view[-2]
    after = history.view[-1]
    hand = SAME if int(history.hand[-1]) == int(history.hand[-2]) else int(history.hand[-1])
    changed = (
        int(after[place]) != int(before[place])
        and int(after[place]) >= 0
        and int(before[place]) >= 0
    )
    both = (before >= 0) & (after >= 0)
    both[place] = False
    still = bool((before[both] == after[both]).float().mean() > 0.8) if bool(both.any()) else True
    token = int(after[place]) if changed else SAME
    return (token, hand) if hand != SAME or (token != SAME and still) else None
