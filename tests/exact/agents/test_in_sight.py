"""Looking for what is rewarded: which tokens are, and when there is nothing to look for.

What it is worth stands in `test_planner_terms`, against enumeration.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from aif_dcpc.agents.gridworld.model.geometry import geometry_of
from aif_dcpc.agents.gridworld.planning.belief import rewarded_tokens
from aif_dcpc.agents.gridworld.planning.in_sight import surprise_at_none, way_through
from aif_dcpc.agents.protocol import EgocentricView

FLOOR, GOAL, KEY, PIT = range(4)
NOTHING, AHEAD, TAKEN = range(3)


def tables(goal: float = 0.9, key: float = 0.2) -> SimpleNamespace:
    """Two actions, three events, four tokens, two hands; reward by going on goals or by taking keys."""
    transition = np.zeros((2, 4, 2, 3))
    transition[..., NOTHING] = 1
    transition[0, :, :] = [0.2, 0.8, 0]
    transition[1, KEY, 1] = [0.3, 0, 0.7]  # with one hand alone
    outcome = np.zeros((2, 2 + 3, 4, 6))
    outcome[..., 1] = 1
    outcome[:, 2 + AHEAD, GOAL] = [0, 1 - goal, 0, 0, 0, goal]
    outcome[1, 2 + TAKEN, KEY] = [0, 1 - key, key, 0, 0, 0]  # once the milestone is passed
    outcome[:, 2 + AHEAD, PIT] = [0, 0, 0, 0, 1, 0]
    rows = np.array([[0, 3, 4], [1, 3, 4]])
    found = SimpleNamespace(transition=transition, outcome=outcome, outcome_rows=rows)
    found.rewarded = rewarded_tokens(found)
    return found


def test_rewarded_is_what_some_action_is_likely_to_be_rewarded_for() -> None:
    assert rewarded_tokens(tables()).tolist() == [False, True, False, False]
    assert rewarded_tokens(tables(goal=0.6)).tolist() == [False, False, False, False]  # .8 * .6
    assert rewarded_tokens(tables(key=0.75)).tolist() == [False, True, True, False]  # .7 * .75
    assert rewarded_tokens(tables(key=0.7)).tolist() == [False, True, False, False]


def test_where_a_reward_is_known_or_none_is_there_is_nothing_to_look_for() -> None:
    cells = np.array([[[0.7, 0.3, 0, 0], [0.9, 0, 0.1, 0], [1, 0, 0, 0]]])
    found = surprise_at_none(cells, tables())
    assert found == pytest.approx(-np.log([[0.7, 1, 1]]))
    both = surprise_at_none(cells, tables(key=1.0))
    assert both == pytest.approx(-np.log([[0.7, 0.9, 1]]))
    known = cells.copy()
    known[0, 2] = [0.4, 0.6, 0, 0]
    assert surprise_at_none(known, tables()) is None
    assert surprise_at_none(cells[:, 1:], tables()) is None
    assert surprise_at_none(cells, tables(goal=0.5)) is None
    later = surprise_at_none(np.concatenate([cells, known]), tables())
    assert later is not None and later[1, 2] == pytest.approx(
        np.log(2)
    )  # what may be brought about


def test_the_way_through_a_view_is_counted_in_steps_and_turns() -> None:
    view = EgocentricView(
        rows=2, columns=3, own_cell=(1, 1), num_tokens=5, unseen_token=99, empty_hand_token=0
    )
    # straight ahead 1, ahead and aside 2 + 1 twice, beside 1 + 1 twice, here 0
    assert way_through(geometry_of(view, 16)) == pytest.approx((1 + 3 + 3 + 2 + 2) / 6)
