"""Noticing that a step may have done something that no event in the vocabulary does yet."""

import numpy as np

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.vocabulary import (
    OUT_OF_SIGHT,
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
    place = geometry.place_ahead
    before, after = history.view[-2:].numpy()
    seen = min(int(before[place]), int(after[place])) >= 0  # in sight, and known
    faced = vocabulary.tokens.members[int(before[place])] if seen else None
    grasp = _grasp(history, vocabulary, faced)
    wrote = seen and int(before[place]) != int(after[place])
    if grasp == UNCHANGED and not (wrote and _stayed(before, after, place, columns)):
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
    return TAKEN if after and vocabulary.hands.members[after] == faced else ("thing", after)


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


def _stayed(before: Ints, after: Ints, place: int, columns: int) -> bool:
    """Whether what was seen before and after, `(P,)` codes, is the same but for one place.

    Nor may it look more as if all of it had moved by one cell.
    """
    rest = before.copy()
    rest[place] = OUT_OF_SIGHT
    still = _alike(rest, after)
    if still <= STILL:
        return False
    wide = np.pad(before.reshape(-1, columns), 1, constant_values=OUT_OF_SIGHT)
    shifts = ((1, 0), (-1, 0), (0, 1), (0, -1))
    return still >= max(_alike(_shifted(wide, *shift).ravel(), after) for shift in shifts)


def _shifted(wide: Ints, down: int, right: int) -> Ints:
    """A view as it looks when all of it has moved by up to a cell, out of one with a margin of one."""
    rows, columns = wide.shape
    return wide[1 - down : rows - 1 - down, 1 - right : columns - 1 - right]


def _alike(before: Ints, after: Ints) -> float:
    """Share of the codes known in both that are the same; 1 if there are none."""
    both = (before >= 0) & (after >= 0)
    return float((before[both] == after[both]).mean(dtype=np.float32)) if both.any() else 1.0
