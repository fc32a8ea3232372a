"""Things that move by themselves are told from what stays, from what is misread, and from what the agent did."""

import itertools

import numpy as np
import pytest

from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.vocabulary import Vocabulary, new_vocabulary
from aif_dcpc.agents.gridworld.planning.belief import Belief
from aif_dcpc.agents.gridworld.wanderers import Wanderers

FLOOR, WALL, BALL, UNSEEN = range(4)  # what is unseen looks like nothing
COLUMNS = 6
CELLS = 30
BALLS = 4


def fresh() -> tuple[Vocabulary, Wanderers]:
    """Three kinds of things, and nothing counted yet."""
    looks = Looks.apart(3)
    known = new_vocabulary(looks, FLOOR)
    for token in (FLOOR, WALL, BALL):
        known.admit(token)
    return known, Wanderers(looks, COLUMNS)


def rolled(
    place: int, taken: list[int], source: np.random.Generator, cells: int = CELLS - 12
) -> int:
    """Where a ball is that has rolled to a free cell of the floor beside its own, if there is one."""
    y, x = divmod(place, COLUMNS)
    beside = [
        (y + down) * COLUMNS + x + right
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
        if 0 <= x + right < COLUMNS and 0 <= y + down
    ]
    free = [cell for cell in beside if cell < cells and cell not in taken]
    return int(source.choice(free)) if free else place


def watched(seed: int, *, moves: float, misread: float) -> set[int]:
    """Raw tokens taken to move after two hundred views of a floor with a wall behind it, all in sight."""
    source = np.random.default_rng(seed)
    known, wanderers = fresh()
    places = source.choice(CELLS - 12, BALLS, replace=False).tolist()

    def view() -> np.ndarray:
        seen = np.repeat([FLOOR, WALL], [CELLS - 12, 12])
        seen[places] = BALL
        wrong = source.random(CELLS) < misread
        return np.where(wrong, source.integers(0, 3, CELLS), seen)

    before = view()
    for _ in range(200):
        for ball in range(BALLS):
            if source.random() < moves:
                places[ball] = rolled(places[ball], places, source)
        after = view()
        wanderers.watch([before, after], [np.arange(CELLS)] * 2, ahead=-1, unseen=UNSEEN)
        before = after
    return {known.tokens.members[slot] for slot in wanderers.slots(known)}


@pytest.mark.parametrize("seed", range(3))
def test_what_moves_is_found_and_nothing_else(seed: int) -> None:
    assert watched(seed, moves=0.7, misread=0.0) == {BALL}
    assert watched(seed, moves=0.7, misread=0.05) == {BALL}


@pytest.mark.parametrize("seed", range(3))
def test_misreading_moves_nothing(seed: int) -> None:
    assert watched(seed, moves=0.0, misread=0.1) == set()


@pytest.mark.parametrize("length", [3, 10, 30, 300])
def test_what_is_only_ever_misread_moves_nothing(length: int) -> None:
    """Sightings of a thing that is not there are gone at the next look, whatever the length."""
    for seed in range(20):
        source = np.random.default_rng(seed)
        known, wanderers = fresh()
        views = [
            np.where(source.random(CELLS) < 0.1, source.integers(0, 3, CELLS), FLOOR)
            for _ in range(length)
        ]
        for before, after in itertools.pairwise(views):
            wanderers.watch([before, after], [np.arange(CELLS)] * 2, ahead=-1, unseen=UNSEEN)
        assert wanderers.slots(known) == []


@pytest.mark.parametrize(
    ("before", "after", "went"),
    [
        ([BALL, FLOOR, WALL], [FLOOR, BALL, WALL], True),
        ([FLOOR, WALL, BALL], [FLOOR, WALL, FLOOR], False),  # nowhere to be seen
        ([BALL, BALL, WALL], [FLOOR, BALL, WALL], False),  # the other one was there before
        ([BALL, FLOOR, FLOOR], [FLOOR, FLOOR, BALL], False),  # too far
        ([BALL, UNSEEN, WALL], [FLOOR, BALL, WALL], True),
    ],
)
def test_what_went_is_seen_beside_where_it_was(before, after, went) -> None:
    _, wanderers = fresh()
    kind = wanderers.looks.kind[BALL]
    gone = wanderers.counts[kind, 0]
    padded = [np.array(view + 3 * [UNSEEN]) for view in (before, after)]
    wanderers.watch(padded, [np.arange(COLUMNS)] * 2, ahead=-1, unseen=UNSEEN)
    assert wanderers.counts[kind, 0] - gone == went


def test_what_the_agent_may_have_done_does_not_count() -> None:
    """The cell ahead shows something else at every look, and nothing follows from it."""
    looks = Looks.apart(3)
    known = new_vocabulary(looks, FLOOR)
    known.admit(BALL)
    wanderers = Wanderers(looks, 1)
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
    """Six balls on twelve cells, first seen as they come: floor gives way to them as often as they leave."""
    for seed in range(20):
        source = np.random.default_rng(seed)
        known, wanderers = fresh()
        cells = np.arange(2 * COLUMNS)
        places = [0, 2, 4, 7, 9, 11]
        before = np.full(len(cells), FLOOR)
        for _ in range(100):
            for ball in range(len(places)):
                places[ball] = rolled(places[ball], places, source, len(cells))
            after = np.full(len(cells), FLOOR)
            after[places] = BALL
            wanderers.watch([before, after], [cells, cells], ahead=-1, unseen=UNSEEN)
            before = after
        assert {known.tokens.members[slot] for slot in wanderers.slots(known)} == {BALL}
