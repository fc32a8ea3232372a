"""Noticing that a step may have done something that no event in the vocabulary does yet."""

from torch import Tensor

from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.vocabulary import (
    PUT,
    TAKEN,
    UNCHANGED,
    Change,
    Effect,
    Vocabulary,
)

STILL = 0.8  # share of what was seen before and after that must stay as it was


def suspected_effect(
    history: History, geometry: Geometry, columns: int, vocabulary: Vocabulary
) -> tuple[Effect, int] | None:
    """The effect that the last two slices suggest, if any, and the kind of thing that it was done to.

    The hand changed; or only the cell ahead changed, while all that was seen before and after
    stayed as it was. What can be said relatively is: the hand took what was ahead, what was in hand
    lies ahead, or the thing ahead is in another state.

    Args:
        history: what was observed.
        geometry: the view.
        columns: of the view, cells.
        vocabulary: names of the codes.
    """
    if len(history) < 2 or int(history.heading[-1]) != int(history.heading[-2]):
        return None
    place = geometry.own - columns
    before = history.view[-2]
    after = history.view[-1]
    seen = min(int(before[place]), int(after[place])) >= 0  # in sight, and known
    faced = vocabulary.tokens.members[int(before[place])] if seen else None
    grasp = _grasp(history, vocabulary, faced)
    wrote = seen and int(before[place]) != int(after[place])
    if grasp == UNCHANGED and not (wrote and _stayed(before, after, place)):
        return None
    change = UNCHANGED if faced is None else _change(history, vocabulary, int(after[place]), faced)
    kind = -1 if faced is None else int(vocabulary.looks.kind[faced])
    return (change, grasp), kind


def _grasp(history: History, vocabulary: Vocabulary, faced: int | None) -> Change:
    """What happened to the hand."""
    before = int(history.hand[-2])
    after = int(history.hand[-1])
    if before == after:
        return UNCHANGED
    return TAKEN if vocabulary.hands.members[after] == faced else ("thing", after)


def _change(history: History, vocabulary: Vocabulary, after: int, faced: int) -> Change:
    """What happened to the cell ahead, which holds the token of slot `after` now."""
    token = vocabulary.tokens.members[after]
    if token == faced:
        return UNCHANGED
    thing = vocabulary.hands.members[int(history.hand[-2])]
    if int(history.hand[-2]) and token == thing:
        return PUT
    looks = vocabulary.looks
    state = int(looks.state[token])
    return ("state", state) if looks.in_state(faced, state) == token else ("token", after)


def _stayed(before: Tensor, after: Tensor, place: int) -> bool:
    """Whether what was seen before and after, `(P,)` codes, is the same but for one place."""
    both = (before >= 0) & (after >= 0)
    both[place] = False
    if not bool(both.any()):
        return True
    return bool((before[both] == after[both]).float().mean() > STILL)
