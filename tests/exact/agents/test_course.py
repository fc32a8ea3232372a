"""What is left of an earlier plan is followed where the new one costs more, and nothing new is known."""

import numpy as np
import pytest

from aif_dcpc.agents.gridworld.model.counts import NOTHING
from aif_dcpc.agents.gridworld.planning.belief import Belief
from aif_dcpc.agents.gridworld.planning.plan import MARGIN, NOWHERE, Course, Going, fingerprint

POSES = np.array([[0, 1, 0], [0, 2, 0], [0, 3, 0]])
COURSE = Course(POSES, [2, 3, 4], np.array([5.0, 4.0, 3.0]))


def belief(pose: tuple[int, int, int], *, seen: int = 4, token: int = 1, hand: int = 0) -> Belief:
    """Eight cells with one token each, the first few of them seen; all particles stand at one place."""
    cells = np.eye(3)[np.full(8, token)]
    places = np.tile(pose, (5, 1))
    return Belief(
        np.zeros(2), cells, cells[0], np.arange(8) < seen, places, np.full(5, 0.2), hand, 0, {}
    )


def going(start: Belief) -> Going:
    """Whoever has just planned the course."""
    found = Going()
    assert found.follow(COURSE, 6.0, start, NOTHING) is None
    return found


def test_the_rest_of_a_plan_is_followed_as_long_as_the_new_one_is_worse():
    one = going(belief((0, 0, 0)))
    worse = Course(POSES, [0, 0, 0], np.zeros(3))
    assert one.follow(worse, 5.0 + 2 * MARGIN, belief((0, 1, 0)), NOTHING) == 2
    assert one.follow(worse, 4.0 + 2 * MARGIN, belief((0, 2, 0)), NOTHING) == 3
    assert (
        one.follow(worse, 3.0 + MARGIN / 2, belief((0, 3, 0)), NOTHING) is None
    )  # as good, but for rounding
    assert one.follow(worse, 9.0, belief((0, 1, 0)), NOTHING) == 0  # the new one was kept then


def test_it_ends_where_it_ends():
    one = going(belief((0, 0, 0)))
    for pose in POSES:
        assert one.follow(NOWHERE, 9.0, belief(tuple(pose)), NOTHING) is not None
    assert one.follow(NOWHERE, 9.0, belief((0, 3, 0)), NOTHING) is None


@pytest.mark.parametrize(
    "change",
    [{"seen": 5}, {"token": 2}, {"hand": 1}, {"pose": (0, 2, 0)}, {"pose": (0, 1, 1)}],
    ids=str,
)
def test_what_is_new_ends_it(change):
    """A cell more that was seen, another token, a thing in hand, or another pose than was foreseen."""
    one = going(belief((0, 0, 0)))
    assert one.follow(NOWHERE, 9.0, belief(**{"pose": (0, 1, 0), **change}), NOTHING) is None


def test_cells_that_were_not_seen_are_nothing_new():
    here = belief((0, 1, 0))
    other = belief((0, 1, 0))
    other.cells[4:] = np.eye(3)[2]
    assert fingerprint(here) == fingerprint(other)
    other.cells[3] = np.eye(3)[2]
    assert fingerprint(here) != fingerprint(other)


def test_it_is_kept_in_a_checkpoint():
    one, again = going(belief((0, 0, 0))), Going()
    again.load_state_dict(one.state_dict())
    assert again.follow(NOWHERE, 9.0, belief((0, 1, 0)), NOTHING) == 2
    assert one.follow(NOWHERE, 9.0, belief((0, 1, 0)), NOTHING) == 2
    assert one.state_dict() == again.state_dict()


def test_a_step_that_cost_something_ends_it():
    """What steps are worth is known otherwise then."""
    one = going(belief((0, 0, 0)))
    assert one.follow(NOWHERE, 9.0, belief((0, 1, 0)), NOTHING - 1) is None
