"""Things that move by themselves are told from what stays, from what is misread, and from what the agent did."""

import numpy as np
import pytest

from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.vocabulary import new_vocabulary
from aif_dcpc.agents.gridworld.wanderers import Wanderers

FLOOR, WALL, BALL, UNSEEN = range(4)
CELLS = 30
BALLS = 4


def watched(seed: int, *, moves: float, misread: float) -> set[int]:
    """Raw tokens taken to move after two hundred views of a row of cells, all in sight."""
    source = np.random.default_rng(seed)
    looks = Looks.apart(4)
    known = new_vocabulary(looks, FLOOR)
    for token in (FLOOR, WALL, BALL):
        known.admit(token)
    wanderers = Wanderers(looks)
    place = source.choice(CELLS - 10, BALLS, replace=False)

    def view() -> np.ndarray:
        seen = np.repeat([FLOOR, WALL], [CELLS - 10, 10])
        seen[place] = BALL
        wrong = source.random(CELLS) < misread
        return np.where(wrong, source.integers(0, 3, CELLS), seen)

    before = view()
    for _ in range(200):
        jumps = source.random(BALLS) < moves
        place = np.where(jumps, source.choice(CELLS - 10, BALLS, replace=False), place)
        after = view()
        wanderers.watch([before, after], [np.arange(CELLS)] * 2, ahead=0, unseen=UNSEEN)
        before = after
    return {known.tokens.members[slot] for slot in wanderers.slots(known)}


@pytest.mark.parametrize("seed", range(3))
def test_what_moves_is_found_and_nothing_else(seed: int) -> None:
    assert watched(seed, moves=0.7, misread=0.0) == {BALL}
    assert watched(seed, moves=0.7, misread=0.05) == {BALL}


@pytest.mark.parametrize("seed", range(3))
def test_misreading_moves_nothing(seed: int) -> None:
    assert watched(seed, moves=0.0, misread=0.1) == set()


def test_what_the_agent_may_have_done_does_not_count() -> None:
    """The cell ahead shows something else at every look, and nothing follows from it."""
    looks = Looks.apart(4)
    known = new_vocabulary(looks, FLOOR)
    known.admit(BALL)
    wanderers = Wanderers(looks)
    for _ in range(50):
        for views in ([BALL], [FLOOR]), ([FLOOR], [BALL]):
            pair = [np.array(view) for view in views]
            wanderers.watch(pair, [np.array([7])] * 2, ahead=7, unseen=UNSEEN)
    assert wanderers.slots(known) == []
