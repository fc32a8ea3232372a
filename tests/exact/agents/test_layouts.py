"""Maps of earlier episodes: which one this may be, what it says of cells that were not seen, and when it is trusted."""

import numpy as np

from aif_dcpc.agents.gridworld.layouts import ALIKE, CHANGED, Layout, Layouts, recalled
from aif_dcpc.agents.gridworld.planning.belief import Belief

FLOOR, WALL, GOAL = 1, 2, 8
ROOM = {(y, x): WALL if y in (0, 5) else FLOOR for y in range(6) for x in range(5)}


def test_a_layout_is_trusted_once_two_episodes_had_it() -> None:
    layouts = Layouts()
    layouts.keep(ROOM)
    assert layouts.trusted({}) == []
    layouts.keep({place: ROOM[place] for place in list(ROOM)[:20]})
    ((chance, layout),) = layouts.trusted({})
    assert layout.cells == ROOM and layouts.repeats == 1
    assert (
        abs(chance - 1.5 / 3) < 1e-12
    )  # one repeat of two episodes, and half of one more of three


def test_the_chance_of_a_layout_follows_bayes_rule() -> None:
    layouts = Layouts([Layout(ROOM, 3), Layout({**ROOM, (2, 2): GOAL}, 2)], episodes=9, repeats=3)
    seen = {(2, 2): GOAL, (2, 3): FLOOR, (0, 0): WALL, (9, 9): WALL}
    old = 3.5 / 10
    first = old * 3 / 5 * CHANGED * (1 - CHANGED) ** 2
    second = old * 2 / 5 * (1 - CHANGED) ** 3
    # a new layout is held against each old one by the cells in common
    odds = np.array([first / ((1 - ALIKE) * ALIKE**2), second / ALIKE**3, 1 - old])
    found = [chance for chance, _ in layouts.trusted(seen)]
    assert np.allclose(found, odds[:2] / odds.sum())


def test_other_maps_are_layouts_of_their_own_and_the_rarest_goes() -> None:
    layouts = Layouts()
    for number in range(40):
        layouts.keep({place: 10 + number for place in ROOM})
    layouts.keep({place: 49 for place in ROOM})
    assert layouts.repeats == 1 and layouts.episodes == 41
    assert len(layouts.known) == 32 and layouts.known[-1].episodes == 2
    assert layouts.known[0].cells[0, 0] == 18


def test_what_is_recalled_fills_cells_that_were_not_seen() -> None:
    places = np.array([[0, 0], [0, 1], [0, 2]])
    cells = np.array([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]])
    layout = Layout({(0, 0): WALL, (0, 1): WALL, (7, 7): WALL}, 2)
    seen = np.array([True, False, False])
    nowhere = np.zeros((1, 3), np.int64)
    belief = Belief(places[0], cells, cells[0], seen, nowhere, np.ones(1), 0, 0, {})
    after = recalled(belief, places, [FLOOR, WALL], [(0.8, layout)])
    told = 0.8 * (1 - CHANGED)
    assert np.allclose(
        after.cells, [[1, 0], [0.5 * (1 - told), told + 0.5 * (1 - told)], [0.5, 0.5]]
    )
    assert after.seen.tolist() == [True, True, False]


def test_layouts_are_kept_in_checkpoints() -> None:
    layouts = Layouts([Layout(dict(ROOM), 3)], episodes=9, repeats=3)
    again = Layouts()
    again.load_state_dict(layouts.state_dict())
    assert again.state_dict() == layouts.state_dict()
