"""Maps of earlier episodes: which one this may be, what it says of cells that were not seen, and when it is trusted."""

import numpy as np
import pytest

from aif_dcpc.agents.gridworld.layouts import (
    ALIKE,
    CHANGED,
    ENOUGH,
    Here,
    Layout,
    Layouts,
    with_told,
)
from aif_dcpc.agents.gridworld.planning.belief import Belief

FLOOR, WALL, GOAL = 1, 2, 8
ROOM = {(y, x): WALL if y in (0, 5) else FLOOR for y in range(6) for x in range(5)}


def test_a_layout_is_trusted_once_two_episodes_had_it() -> None:
    layouts = Layouts()
    layouts.keep(ROOM)
    assert layouts.trusted({}, {}) == []
    layouts.keep({place: ROOM[place] for place in list(ROOM)[:20]})
    ((chance, layout),) = layouts.trusted({}, {})
    assert layout.cells == ROOM and layouts.repeats == 1
    assert (
        abs(chance - 1.5 / 3) < 1e-12
    )  # one repeat of two episodes, and half of one more of three


def test_an_episode_that_showed_nothing_is_kept_like_any_other() -> None:
    """Not a cell of it is known: there is nothing to lay out, and nothing to be told of the next."""
    layouts = Layouts()
    for number in range(3):
        layouts.keep({})
        assert layouts.episodes == number + 1 and layouts.proven == []
    layouts.keep(ROOM)
    layouts.keep(ROOM)
    assert layouts.proven[0].cells == ROOM


@pytest.mark.parametrize(("common", "repeats"), [(ENOUGH - 1, 0), (ENOUGH, 1)])
def test_maps_are_the_same_if_they_have_enough_in_common(common: int, repeats: int) -> None:
    layouts = Layouts()
    layouts.keep(ROOM)
    layouts.keep(dict(list(ROOM.items())[:common]))
    assert layouts.repeats == repeats


def test_the_chance_of_a_layout_follows_bayes_rule() -> None:
    layouts = Layouts([Layout(ROOM, 3), Layout({**ROOM, (2, 2): GOAL}, 2)], episodes=9, repeats=3)
    seen = {(2, 2): GOAL, (2, 3): FLOOR, (0, 0): WALL, (9, 9): WALL}
    old = 3.5 / 10
    first = old * 3 / 5 * CHANGED * (1 - CHANGED) ** 2
    second = old * 2 / 5 * (1 - CHANGED) ** 3
    # a new layout is held against each old one by the cells in common
    odds = np.array([first / ((1 - ALIKE) * ALIKE**2), second / ALIKE**3, 1 - old])
    found = [chance for chance, _ in layouts.trusted(seen, {})]
    assert np.allclose(found, odds[:2] / odds.sum())


def test_what_usually_stands_there_does_not_speak_for_a_layout() -> None:
    """A wall that all episodes have tells nothing; one that few have does."""
    layout = Layout(ROOM, 3)
    seen = {(0, 0): WALL, (1, 1): FLOOR, (2, 2): GOAL, (9, 9): WALL}
    usual = {(0, 0): 0.999, (2, 2): 0.4}
    by_hand = np.log([(1 - CHANGED) / 0.999, (1 - CHANGED) / ALIKE, CHANGED / 0.4]).sum()
    assert np.isclose(layout.log_odds(seen, usual), by_hand)
    by_hand = np.log([(1 - CHANGED) / ALIKE, (1 - CHANGED) / ALIKE, CHANGED / (1 - ALIKE)]).sum()
    assert np.isclose(layout.log_odds(seen, {}), by_hand)


def test_other_maps_are_layouts_of_their_own_and_the_rarest_goes() -> None:
    layouts = Layouts()
    for number in range(40):
        layouts.keep({place: 10 + number for place in ROOM})
    layouts.keep({place: 49 for place in ROOM})
    assert layouts.repeats == 1 and layouts.episodes == 41
    assert len(layouts.known) == 32 and layouts.known[-1].episodes == 2
    assert set(layouts.known[0].cells.values()) == {18}


def belief_of(places: np.ndarray) -> Belief:
    """Three cells of which the first was seen."""
    cells = np.array([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]])
    seen = np.array([True, False, False])
    nowhere = np.zeros((1, 3), np.int64)
    return Belief(places[0], cells, cells[0], seen, nowhere, np.ones(1), 0, 0, {})


def test_what_is_told_fills_cells_that_were_not_seen() -> None:
    places = np.array([[0, 0], [0, 1], [0, 2]])
    belief = belief_of(places)
    layout = Layout({(3, 4): WALL, (3, 5): WALL, (7, 7): WALL, (3, 6): GOAL}, 2)
    told = Here(belief, places).laid_out(*layout.told([FLOOR, WALL]), (3, 4))
    assert np.allclose(told, [[0, 0], [0, 1 - CHANGED], [0, 0]])  # as it lies here
    after = with_told(belief, 0.8 * told, 0.5)
    share = 0.8 * (1 - CHANGED)
    assert np.allclose(
        after.cells, [[1, 0], [0.5 * (1 - share), share + 0.5 * (1 - share)], [0.5, 0.5]]
    )
    assert after.seen.tolist() == [True, True, False]
    assert with_told(belief, 0.8 * told, 0.9).seen.tolist() == [True, False, False]
    assert not belief.seen[1] and belief.cells[1, 0] == 0.5


def test_a_room_that_is_entered_elsewhere_is_recalled_as_it_lies_now() -> None:
    """Six times by one place, then by another: what was not seen is told of from there."""
    layouts = Layouts()
    walls = {(y, x) for y in range(9) for x in range(9) if y in (0, 8) or x in (0, 8)}
    walls |= {(2, 2), (2, 5), (4, 3), (6, 5), (5, 1)}
    room = {(y, x): WALL if (y, x) in walls else FLOOR for y in range(9) for x in range(9)}
    room[2, 7] = GOAL
    for _ in range(6):
        layouts.keep(room)
    shift = (-2, 1)
    seen = {(y + 2, x - 1): token for (y, x), token in room.items() if y < 7 and x < 7}
    places = np.array([(y, x) for y in range(2, 11) for x in range(-1, 8)])
    cells = np.full((len(places), 3), 1 / 3)
    known = np.array([(y, x) in seen for y, x in places.tolist()])
    nowhere = np.zeros((1, 3), np.int64)
    belief = Belief(places[0], cells, cells[0], known, nowhere, np.ones(1), 0, 0, {})
    after = layouts.recall(belief, places, [FLOOR, WALL, GOAL], seen)
    there = {(y + shift[0], x + shift[1]): n for n, (y, x) in enumerate(places.tolist())}
    assert after.cells[there[2, 7]].argmax() == 2 and after.cells[there[2, 7], 2] > 0.8
    assert after.cells[there[8, 2], 1] > 0.8 and after.seen[there[8, 2]]
    assert (after.cells[known] == 1 / 3).all()
    # a layout that is known goes before what is usual
    layouts.known = [Layout({**room, (4, 7): GOAL}, 6)]
    layouts.repeats = 5
    other = layouts.recall(belief, places, [FLOOR, WALL, GOAL], seen)
    assert after.cells[there[4, 7]].argmax() == 0 and other.cells[there[4, 7]].argmax() == 2


def test_layouts_are_kept_in_checkpoints() -> None:
    layouts = Layouts([Layout(dict(ROOM), 3)], episodes=9, repeats=3)
    again = Layouts()
    again.load_state_dict(layouts.state_dict())
    assert again.state_dict() == layouts.state_dict()
