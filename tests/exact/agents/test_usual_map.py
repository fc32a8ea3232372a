"""What usually stands where: predictives by hand, places that matter and places that do not."""

import numpy as np
import pytest

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.gridworld.planning.belief import Belief
from aif_dcpc.agents.gridworld.usual_map import LIKENESS, MASSES, MOST, NEAR, UsualMap, as_usual

FLOOR, WALL, GOAL = 1, 2, 8
PLACES = [(y, x) for y in range(5) for x in range(6)]


def backed_off(near: float, near_times: float, every: float, times: float, base: float) -> Floats:
    """Chances by hand, `(B, A)`: of the near episodes, then of all, then of any place."""
    of_all = np.array(
        [(every + mass * base) / (times + mass) if mass < np.inf else base for mass in MASSES]
    )
    rows = [
        (near + mass * of_all) / (near_times + mass) if mass < np.inf else of_all for mass in NEAR
    ]
    return np.array(rows)


def test_a_map_is_foretold_by_the_frequencies_of_its_places() -> None:
    usual = UsualMap()
    usual.keep({(0, 0): WALL, (0, 1): FLOOR})
    assert (usual.evidence == 0).all()  # nothing was known before
    usual.keep({(0, 0): WALL})
    base = (
        np.array([1.5, 1.5, 0.5]) / 3.5
    )  # wall, floor, and what is new, half an episode each more
    expected = np.log(backed_off(1, 1, 1, 1, base[0]) / base[0])
    assert np.allclose(usual.evidence, expected)
    found = usual.log_predictive({(0, 0): FLOOR, (0, 1): FLOOR, (9, 9): GOAL})
    base = np.array([2.5, 1.5, 0.5]) / 4.5
    for likeness, one in zip(LIKENESS, found, strict=True):
        first = backed_off(0, 2, 0, 2, base[1])  # neither episode differs elsewhere
        second = backed_off(1, 1, 1, 1, base[1])
        assert np.allclose(one, np.log(first / base[1]) + np.log(second / base[1])), likeness
    assert (found[:, -1, -1] == 0).all()  # no regard to places


def test_episodes_that_are_like_this_one_count_more() -> None:
    """Two kinds of maps with the goal in one of two corners; the walls tell which it is."""
    usual = UsualMap()
    for number in range(12):
        kind = number % 2
        walls = {(y, kind): WALL for y in range(1, 4)}
        floors = {(y, 1 - kind): FLOOR for y in range(1, 4)}
        usual.keep({**walls, **floors, (0, kind): GOAL, (0, 1 - kind): FLOOR})
    seen = {(1, 1): WALL, (2, 1): WALL}
    found, share = usual.told(seen, [FLOOR, WALL, GOAL])
    told = dict(zip(map(tuple, found.tolist()), share, strict=True))
    assert told[0, 1][2] > 0.8 > 0.2 > told[0, 0][2]
    chance = np.exp(usual.evidence - usual.evidence.max())
    assert chance[:, -1].sum() < chance[:, :-1].sum() / 100  # that likeness matters was learned
    chance = np.exp(usual.evidence + usual.log_predictive(seen))
    by_hand = [
        backed_off(6, 6 + 6 * np.exp(-2 * likeness), 6, 12, 0) for likeness in LIKENESS
    ]  # two cells of the other kind differ
    assert told[0, 1][2] == pytest.approx((chance * by_hand).sum() / chance.sum())


def test_the_latest_episodes_are_kept() -> None:
    usual = UsualMap()
    for number in range(MOST + 3):
        usual.keep({(0, number): WALL})
    assert len(usual.maps) == MOST and usual.maps[0].argmax() == 3


@pytest.mark.parametrize("seed", range(5))
def test_places_that_are_always_alike_are_believed_and_others_by_how_often(seed: int) -> None:
    """A goal in its corner, walls around, and one wall somewhere inside; twenty episodes, five seeds."""
    source = np.random.default_rng(seed)
    usual = UsualMap()
    for _ in range(20):
        room = {(y, x): WALL if y in (0, 4) or x in (0, 5) else FLOOR for y, x in PLACES}
        room[2, int(source.integers(1, 5))] = WALL
        usual.keep({**room, (3, 4): GOAL})
    found, share = usual.told({}, [FLOOR, WALL, GOAL])
    told = dict(zip(map(tuple, found.tolist()), share, strict=True))
    assert told[3, 4][2] > 0.98
    assert told[0, 0][1] > 0.95
    middle = np.sum([told[2, x] for x in range(1, 5)], 0)
    assert 0.7 < middle[1] < 1.3
    assert share.sum(1).max() < 1


@pytest.mark.parametrize("seed", range(5))
def test_where_maps_have_nothing_in_common_places_tell_nothing(seed: int) -> None:
    source = np.random.default_rng(seed)
    usual = UsualMap()
    for _ in range(20):
        usual.keep(
            dict(zip(PLACES, source.choice([FLOOR, WALL], len(PLACES)).tolist(), strict=True))
        )
    assert usual.told({}, [FLOOR, WALL])[1].sum(1).max() < 0.5
    assert (
        usual.evidence.argmax() >= 2
    )  # thirty episodes' worth of what holds everywhere, or no regard


def test_this_episode_tells_whether_places_matter() -> None:
    """After one episode nobody can know; the walls of the second say it before its goal is seen."""
    usual = UsualMap()
    usual.keep(
        {**{(0, x): WALL for x in range(6)}, **{(1, x): FLOOR for x in range(6)}, (5, 5): GOAL}
    )
    at_first = usual.told({}, [FLOOR, WALL, GOAL])[1][-1, 2]
    alike = usual.told({(0, x): WALL for x in range(6)}, [FLOOR, WALL, GOAL])[1][-1, 2]
    other = usual.told({(0, x): FLOOR for x in range(6)}, [FLOOR, WALL, GOAL])[1][-1, 2]
    assert other < at_first / 2 < at_first < alike
    by_hand = [backed_off(1, 1, 1, 1, 0) for _ in LIKENESS]
    assert at_first == pytest.approx(np.mean(by_hand))


def test_cells_that_were_not_seen_hold_what_usually_stands_there() -> None:
    usual = UsualMap()
    for _ in range(60):
        usual.keep({(0, 0): FLOOR, (0, 1): WALL})
    places = np.array([[0, 0], [0, 1], [0, 2]])
    cells = np.array([[1.0, 0.0, 0.0], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    nowhere = np.zeros((1, 3), np.int64)
    seen = np.array([True, False, False])
    belief = Belief(places[0], cells, cells[0], seen, nowhere, np.ones(1), 0, 0, {})
    after = as_usual(belief, places, [FLOOR, WALL], usual, {})
    told = usual.told({}, [FLOOR, WALL])[1][1, 1]
    assert told > 0.9
    assert np.allclose(after.cells[[0, 2]], cells[[0, 2]])
    assert np.allclose(after.cells[1], (1 - told) * cells[1] + [0, told, 0])
    assert after.seen.tolist() == [True, True, False]
    assert np.allclose(belief.cells, cells) and not belief.seen[1]


def test_usual_maps_are_kept_in_checkpoints() -> None:
    usual = UsualMap()
    again = UsualMap()
    again.load_state_dict(usual.state_dict())
    usual.keep({(0, 0): WALL, (-1, 1): FLOOR})
    usual.keep({(0, 0): GOAL})
    again.load_state_dict(usual.state_dict())
    asked = {(0, 0): WALL, (-1, 1): WALL}
    assert (again.log_predictive(asked) == usual.log_predictive(asked)).all()
    for mine, theirs in zip(again.told(asked, [GOAL]), usual.told(asked, [GOAL]), strict=True):
        assert (mine == theirs).all()
