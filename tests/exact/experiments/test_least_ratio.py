"""The least steps over the shortest path: a corridor whose end must be guessed, by hand, and a world of one layout."""

import numpy as np
import pytest

from aif_dcpc.experiments.minigrid.least_ratio import Belief, Layouts, layouts_of


def corridor(share: float, *, told: bool) -> Layouts:
    """Five cells, the goal at the left or the right end; actions go left, right, or stay; views may tell which."""
    cells = np.arange(5)
    after = np.stack([np.maximum(cells - 1, 0), np.minimum(cells + 1, 4), cells], -1)
    goal = np.stack([cells == 0, cells == 4])
    shown = np.zeros((2, 5), np.int64)
    shown[1] = int(told)
    start = np.full(2, 2)
    return Layouts(
        np.stack([after, after]), shown, goal, start, np.array([share, 1 - share]), np.full(2, 2.0)
    )


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_who_has_to_guess_tries_the_likelier_end_first(share: float) -> None:
    """Two steps there, and six where it was the other end."""
    assert Belief(corridor(share, told=True)).at_start() == pytest.approx(1)
    likelier = max(share, 1 - share)
    expected = (2 * likelier + 6 * (1 - likelier)) / 2
    assert Belief(corridor(share, told=False)).at_start() == pytest.approx(expected)


def test_a_world_of_one_layout_needs_the_shortest_path() -> None:
    layouts = layouts_of("MiniGrid-Empty-5x5-v0", 3)
    assert layouts.share.tolist() == [1]
    assert layouts.shortest.tolist() == [5]
    assert Belief(layouts).at_start() == pytest.approx(1)
