"""What a step may have done, by the definition, for views and hands drawn at random."""

import numpy as np
import pytest
import torch
from grid_walks import BALL, FLOOR, LOOKS, RED_KEY, VIEW, vocabulary

from aif_dcpc.agents.gridworld.effect_discovery import suspected_effect
from aif_dcpc.agents.gridworld.model.geometry import geometry_of
from aif_dcpc.agents.gridworld.model.paths import History

GEOMETRY = geometry_of(VIEW, 16)
KNOWN = vocabulary()
KNOWN.hold(BALL)
ROWS, COLUMNS = 4, 3
AHEAD = 4  # place of the cell ahead
Views = tuple[np.ndarray, np.ndarray]


def history(
    before: np.ndarray, after: np.ndarray, hands: tuple[int, int], turn: int = 0
) -> History:
    """Two slices."""
    none = torch.zeros(2, dtype=torch.long)
    heading = torch.tensor([0, turn])
    view = torch.as_tensor(np.stack([before, after]))
    return History(none, heading, torch.tensor(hands), view, none, none, none)


def alike(before: np.ndarray, after: np.ndarray, down: int = 0, right: int = 0) -> float:
    """Share of cells seen in both views that are the same if all of the first has moved."""
    old, new = before.reshape(ROWS, COLUMNS), after.reshape(ROWS, COLUMNS)
    same = []
    for y, x in np.ndindex(ROWS, COLUMNS):
        if 0 <= y - down < ROWS and 0 <= x - right < COLUMNS:
            a, b = old[y - down, x - right], new[y, x]
            if a >= 0 and b >= 0:
                same.append(a == b)
    return float(np.mean(same)) if same else 1.0


def expected(before: np.ndarray, after: np.ndarray, hands: tuple[int, int]) -> object:
    """The definition, step by step."""
    members = KNOWN.tokens.members
    things = KNOWN.hands.members
    old, new = before[AHEAD], after[AHEAD]
    seen = old >= 0 and new >= 0
    faced = members[old] if seen else None
    grasp = ("same", 0)
    if hands[0] != hands[1]:
        taken = hands[1] > 0 and things[hands[1]] == faced
        grasp = ("taken", 0) if taken else ("thing", hands[1])
    rest = before.copy()
    rest[AHEAD] = -1
    still = alike(rest, after)
    shifts = [alike(before, after, *shift) for shift in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    wrote = seen and old != new and still > 0.8 - 1e-6 and still >= max(shifts)
    if grasp == ("same", 0) and not wrote:
        return None
    change = ("same", 0)
    if seen and old != new:
        kind, colour, state = LOOKS[:, members[new]]
        other_state = tuple(LOOKS[:2, members[old]]) == (kind, colour)
        if hands[0] > 0 and things[hands[0]] == members[new]:
            change = ("put", 0)
        else:
            change = ("state", state) if other_state else ("token", new)
    return (change, grasp), int(LOOKS[0, faced]) if seen else -1


def drawn(source: np.random.Generator) -> Views:
    """A view, and one that is mostly the same, or has moved, in which the cell ahead may differ."""
    number = len(KNOWN.tokens.members)
    before = source.integers(0, 3, ROWS * COLUMNS)
    before[source.random(before.shape) < source.choice([0.1, 0.5, 0.95])] = -1
    after = before.copy()
    if source.random() < 0.3:
        down, right = [(1, 0), (-1, 0), (0, 1), (0, -1)][source.integers(4)]
        after = np.roll(before.reshape(ROWS, COLUMNS), (down, right), (0, 1)).ravel()
    wrong = source.random(after.shape) < source.choice([0.0, 0.15])
    after = np.where(wrong, source.integers(-2, 3, after.shape), after)
    if source.random() < 0.8:
        before[AHEAD], after[AHEAD] = source.integers(0, number, 2)
    return before, after


@pytest.mark.parametrize("seed", range(4))
def test_what_is_suspected_is_the_definition(seed: int) -> None:
    source = np.random.default_rng(seed)
    kinds = set()
    for _ in range(250):
        before, after = drawn(source)
        hands = (0, 0) if source.random() < 0.5 else tuple(source.integers(0, 3, 2).tolist())
        found = suspected_effect(history(before, after, hands), GEOMETRY, COLUMNS, KNOWN)
        wanted = expected(before, after, hands)
        assert found == wanted, (before, after, hands)
        kinds.add("nothing" if wanted is None else (wanted[0][0][0], wanted[0][1][0]))
    assert {"nothing", ("token", "same"), ("put", "same"), ("same", "thing")} <= kinds


def test_a_turn_or_a_first_slice_suggests_nothing() -> None:
    floor, key = (KNOWN.tokens.members.index(t) for t in (FLOOR, RED_KEY))
    before = np.full(ROWS * COLUMNS, floor)
    after = before.copy()
    after[AHEAD] = key
    seen = history(before, after, (0, 0))
    assert suspected_effect(seen, GEOMETRY, COLUMNS, KNOWN) == ((("token", key), ("same", 0)), 0)
    assert suspected_effect(seen.head(1), GEOMETRY, COLUMNS, KNOWN) is None
    turned = history(before, after, (0, 1), turn=3)
    assert suspected_effect(turned, GEOMETRY, COLUMNS, KNOWN) is None


def test_four_of_five_cells_that_stay_are_enough_and_three_of_four_are_not() -> None:
    floor, wall = 1, 0
    before = np.full(ROWS * COLUMNS, -1)
    before[[0, 3, 6, 9, 8, AHEAD]] = floor, wall, floor, floor, wall, floor
    after = before.copy()
    after[[AHEAD, 0]] = 2, wall
    assert suspected_effect(history(before, after, (0, 0)), GEOMETRY, COLUMNS, KNOWN) is not None
    before[9] = -1
    assert suspected_effect(history(before, after, (0, 0)), GEOMETRY, COLUMNS, KNOWN) is None
