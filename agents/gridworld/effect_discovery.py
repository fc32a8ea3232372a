"""Noticing that a step may have done something that no event in the vocabulary does yet."""

from torch import Tensor

from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.vocabulary import SAME, Effect

STILL = 0.8  # share of what was seen before and after that must stay as it was


def suspected_effect(history: History, geometry: Geometry, columns: int) -> Effect | None:
    """The effect that the last two slices suggest, if any.

    The hand changed; or only the cell ahead changed, while all that was seen before and after
    stayed as it was.

    Args:
        history: what was observed.
        geometry: the view.
        columns: of the view, cells.
    """
    if len(history) < 2 or int(history.heading[-1]) != int(history.heading[-2]):
        return None
    place = geometry.own - columns
    before = history.view[-2]
    after = history.view[-1]
    hand = _changed(int(history.hand[-2]), int(history.hand[-1]))
    token = _changed(int(before[place]), int(after[place]))
    if min(int(before[place]), int(after[place])) < 0:  # out of sight, or not known
        token = SAME
    if hand != SAME or (token != SAME and _stayed(before, after, place)):
        return token, hand
    return None


def _changed(before: int, after: int) -> int:
    """What there is after a change; SAME if nothing changed."""
    return SAME if before == after else after


def _stayed(before: Tensor, after: Tensor, place: int) -> bool:
    """Whether what was seen before and after, `(P,)` codes, is the same but for one place."""
    both = (before >= 0) & (after >= 0)
    both[place] = False
    if not bool(both.any()):
        return True
    return bool((before[both] == after[both]).float().mean() > STILL)
