"""The least steps over the shortest path: a corridor whose end must be guessed, by hand, and a world of one layout."""

import numpy as np
import pytest

from aif_dcpc.experiments.minigrid.least_ratio import Belief, Layouts, layouts_of


def corridor(share: float, told: list[int], *, once: bool = False) -> Layouts:
    """Five cells, the goal at the left or the right end; actions go left, right, or stay.

    Views of some cells tell which. If there is one try alone the other end is lost.
    """
    cells = np.arange(5)
    after = np.stack([np.maximum(cells - 1, 0), np.minimum(cells + 1, 4), cells], -1)
    goal = np.stack([cells == 0, cells == 4])
    shown = np.zeros((2, 5), np.int64)
    shown[1, told] = 1
    start = np.full(2, 2)
    lost = goal[::-1] & once
    shares = np.array([share, 1 - share])
    return Layouts(np.stack([after, after]), shown, goal, lost, start, shares, np.full(2, 2.0))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_who_has_to_guess_tries_the_likelier_end_first(share: float) -> None:
    """Two steps there, and six where it was the other end."""
    assert Belief(corridor(share, [0, 1, 2, 3, 4])).at_start() == pytest.approx(1)
    likelier = max(share, 1 - share)
    expected = (2 * likelier + 6 * (1 - likelier)) / 2
    assert Belief(corridor(share, [])).at_start() == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_where_a_wrong_end_is_the_last_whoever_never_fails_looks_first(share: float) -> None:
    """One cell to the left it is told: two steps in all where the goal is there, else four. Untold nobody is sure."""
    found = Belief(corridor(share, [1], once=True)).at_start()
    assert found == pytest.approx((2 * share + 4 * (1 - share)) / 2)
    assert Belief(corridor(share, [], once=True)).at_start() == np.inf


def test_who_has_to_look_back_for_a_sample_needs_more() -> None:
    """MemoryS7, sixteen layouts: more than the shortest path, less than going to the sample."""
    layouts = layouts_of("MiniGrid-MemoryS7-v0", 200)
    assert len(layouts.share) == 16
    assert (layouts.lost.sum(1) == 4).all() and not (layouts.lost & layouts.goal).any()
    assert 1.3 < Belief(layouts).at_start() < 1.5


def test_a_world_of_one_layout_needs_the_shortest_path() -> None:
    layouts = layouts_of("MiniGrid-Empty-5x5-v0", 3)
    assert layouts.share.tolist() == [1]
    assert layouts.shortest.tolist() == [5]
    assert Belief(layouts).at_start() == pytest.approx(1)
