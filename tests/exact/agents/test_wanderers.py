"""Things that move by themselves are told from what stays, from what is misread, and from what the agent did."""

import numpy as np
import pytest

from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.vocabulary import Vocabulary, new_vocabulary
from aif_dcpc.agents.gridworld.planning.belief import Belief
from aif_dcpc.agents.gridworld.wanderers import Wanderers

FLOOR, WALL, BALL, UNSEEN = range(4)
CELLS = 30
BALLS = 4


def fresh() -> tuple[Vocabulary, Wanderers]:
    """Three kinds of things, and nothing counted yet."""
    looks = Looks.apart(4)
    known = new_vocabulary(looks, FLOOR)
    for token in (FLOOR, WALL, BALL):
        known.admit(token)
    return known, Wanderers(looks)


def watched(seed: int, *, moves: float, misread: float) -> set[int]:
    """Raw tokens taken to move after two hundred views of a row of cells, all in sight."""
    source = np.random.default_rng(seed)
    known, wanderers = fresh()
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


def test_what_moves_stands_where_it_is_seen_and_may_be_gone_next() -> None:
    """After two hundred views in which a ball left its cell three times of four, P(still there) is .25."""
    known, wanderers = fresh()
    wanderers.counts[wanderers.looks.kind[BALL]] = 150.0, 50.0
    slots = {token: slot for slot, token in enumerate(known.tokens.members)}
    ball = slots[BALL]
    cells = np.full((6, len(slots)), 1 / len(slots))
    nowhere = np.zeros((1, 3), np.int64)
    belief = Belief(np.zeros(2), cells, cells[0], np.zeros(6, bool), nowhere, np.ones(1), 0, 0, {})
    shown = np.array([slots[FLOOR], ball, slots[WALL]])
    found = wanderers.standing(belief, np.array([5, 2, 3]), shown, known)
    assert found.cells[2, ball] == 1
    assert found.later is not None
    assert found.later[2] == pytest.approx(
        0.75 * np.full(len(slots), 1 / len(slots)) + 0.25 * np.eye(len(slots))[ball]
    )
    rest = np.arange(6) != 2
    assert np.array_equal(found.cells[rest], cells[rest])
    assert np.array_equal(found.later[rest], cells[rest])
    wanderers.counts[wanderers.looks.kind[BALL]] = 1.0, 50.0  # it stays
    assert wanderers.slots(known) == []


def test_where_balls_roll_over_little_floor_it_is_the_balls_that_move() -> None:
    """Two balls on seven cells, first seen as they come: floor gives way to them as often as they leave."""
    for seed in range(20):
        source = np.random.default_rng(seed)
        known, wanderers = fresh()
        cells = np.arange(7)
        before = np.full(7, FLOOR)
        for _ in range(100):
            after = np.full(7, FLOOR)
            after[source.choice(7, 2, replace=False)] = BALL
            wanderers.watch([before, after], [cells, cells], ahead=-1, unseen=UNSEEN)
            before = after
        assert {known.tokens.members[slot] for slot in wanderers.slots(known)} == {BALL}
