"""What usually stands where: predictives by hand, places that matter and places that do not."""

import numpy as np
import pytest

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.gridworld.usual_map import LIKENESS, MASSES, MOST, NEAR, PLACED, UsualMap

FLOOR, WALL, GOAL, KEY = 1, 2, 8, 5
BALLS = 9, 10  # of one kind
PLACES = [(y, x) for y in range(5) for x in range(6)]
ROOM = {(y, x): WALL if y in (0, 4) or x in (0, 5) else FLOOR for y, x in PLACES}
INSIDE = [place for place, token in ROOM.items() if token == FLOOR]


def told(usual: UsualMap, seen: dict[tuple[int, int], int], members: list[int]):
    """Place -> what it holds, by slot."""
    share = usual.of_slots(usual.told(seen), members)
    return dict(zip(map(tuple, usual.places.tolist()), share, strict=True))


def backed_off(
    near: float, near_times: float, every: float, times: float, kind: float, base: float
) -> Floats:
    """Chances by hand, `(B, A)`: of the near episodes, of all, of places of the kind, of any place."""
    of_all = np.array(
        [(every + mass * kind) / (times + mass) if mass < np.inf else base for mass in MASSES]
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
    # each place was met once, so that nothing is known of what others have there
    expected = np.log(backed_off(1, 1, 1, 1, base[0], base[0]) / base[0])
    assert np.allclose(usual.evidence, expected)
    found = usual.log_predictive({(0, 0): FLOOR, (0, 1): FLOOR, (9, 9): GOAL})
    base = np.array([2.5, 1.5, 0.5]) / 4.5
    walls = np.array([2.0, 0, 0]) + base  # where others have walls, both episodes have one
    first_kind, second_kind = walls[1] / walls.sum(), base[1]
    for likeness, one in zip(LIKENESS, found, strict=True):
        first = backed_off(0, 2, 0, 2, first_kind, base[1])  # neither episode differs elsewhere
        second = backed_off(1, 1, 1, 1, second_kind, base[1])
        assert np.allclose(one, np.log(first / base[1]) + np.log(second / base[1])), likeness
    assert (found[:, -1, -1] == 0).all()  # no regard to places


def test_how_a_map_lies_costs_what_it_was_unlikely_wherever_places_matter() -> None:
    usual = UsualMap()
    usual.keep(ROOM)
    before = usual.evidence + usual.log_predictive(ROOM)
    usual.keep(ROOM, log_prior=-3.0)
    assert np.allclose(usual.evidence, before - 3 * PLACED)
    assert PLACED.sum() == PLACED.size - len(LIKENESS) and (PLACED[:, -1, -1] == 0).all()
    certain = usual.told({})[0, 0]
    doubtful = usual.told({}, log_prior=-80.0)[0, 0]
    assert doubtful < 0.01 < 0.8 < certain


def test_what_stands_elsewhere_each_time_is_expected_on_what_it_stands_on() -> None:
    """A goal on some floor cell of a room whose walls stay: as likely on any floor cell, never in walls."""
    usual = UsualMap()
    for number in range(12):
        usual.keep({**ROOM, (1 + number % 3, 1 + number % 4): GOAL})
    seldom = usual.of_kind[usual.column[FLOOR]]
    floors = (
        12 * 12 - 12
    )  # sightings of floor; each of the goals stood on what others have as floor
    order = [usual.column[t] for t in (WALL, FLOOR, GOAL)]
    by_hand = np.zeros(4)
    by_hand[order] = [0, floors, 12]
    by_hand += usual.common
    assert np.allclose(seldom, by_hand / by_hand.sum())
    goal = {place: share[2] for place, share in told(usual, {}, [FLOOR, WALL, GOAL]).items()}
    inside = [goal[y, x] for y in range(1, 4) for x in range(1, 5)]
    assert min(inside) > 0.02 and max(goal[0, x] for x in range(6)) < 0.002
    assert sum(inside) == pytest.approx(1, abs=0.1)


def test_what_there_is_one_of_is_where_nothing_was_seen_yet() -> None:
    """All but two floor cells were seen: the goal is in one of them, by Bayes' rule."""
    usual = UsualMap()
    for number in range(20):
        usual.keep({**ROOM, INSIDE[number % 10]: GOAL})
    every = told(usual, {}, [FLOOR, GOAL])
    seen = {place: token for place, token in ROOM.items() if place not in INSIDE[-2:]}
    (goal,) = (one for one in usual.ones if usual.column[GOAL] in one.tokens)
    assert goal.sure == pytest.approx(20.5 / 21)
    left = {place: share[1] for place, share in told(usual, seen, [FLOOR, GOAL]).items()}
    alone = UsualMap()
    alone.load_state_dict(usual.state_dict())
    alone.ones = []  # what is told if nothing is known of how many there are
    before = {place: share[1] for place, share in told(alone, seen, [FLOOR, GOAL]).items()}
    rest = 2 / len(INSIDE) * 20.5 / 21
    expected = rest / (rest + 1 - 20.5 / 21)
    assert sum(left[place] for place in INSIDE[-2:]) == pytest.approx(expected, abs=0.1)
    assert sum(left.values()) > 3 * sum(before[place] for place in INSIDE[-2:])
    assert expected > 0.5 > 0.2 > sum(every[place][1] for place in INSIDE[-2:])
    for place in INSIDE[-2:]:  # what else may stand there makes room
        row = usual.row[place]
        assert usual.told(seen)[row].sum() == pytest.approx(alone.told(seen)[row].sum(), abs=1e-5)
    found = told(usual, {**seen, INSIDE[0]: GOAL}, [FLOOR, GOAL])
    assert max(found[place][1] for place in INSIDE[-2:]) < 0.1  # it was seen: there is no other


def test_a_thing_whose_colour_varies_is_one_of_its_kind() -> None:
    """A ball, red and blue by turns: it is where nothing was seen yet, as one of a single colour is."""
    kinds = np.array([*range(BALLS[0]), BALLS[0], BALLS[0]])
    usual, plain, alike = UsualMap(kinds), UsualMap(), UsualMap(kinds)
    for number in range(20):
        place = INSIDE[number % 10]
        for one, ball in (
            (usual, BALLS[number // 10]),
            (plain, BALLS[number // 10]),
            (alike, BALLS[0]),
        ):
            one.keep({**ROOM, place: ball})
    seen = {place: token for place, token in ROOM.items() if place not in INSIDE[-2:]}
    found, apart, single = (
        np.array([told(one, seen, [FLOOR, *BALLS])[place][1:] for place in INSIDE[-2:]])
        for one in (usual, plain, alike)
    )
    assert found.sum(1) == pytest.approx(single.sum(1), abs=0.02)
    assert found[:, 0] == pytest.approx(found[:, 1])
    assert found.sum() > 3 * apart.sum()
    shown = told(usual, {**seen, INSIDE[0]: BALLS[1]}, [FLOOR, *BALLS])
    assert max(shown[place][1:].max() for place in INSIDE[-2:]) < 0.1  # there is no other


def test_what_stands_elsewhere_each_time_is_no_likelier_where_it_once_stood() -> None:
    """Walls and a key keep to their places, the goal does not, and each is told by itself."""
    key = (2, 2)
    usual = UsualMap()
    free = [place for place in INSIDE if place != key]
    for number in range(8):
        usual.keep({**ROOM, key: KEY, free[number]: GOAL})
    found = told(usual, {(0, 0): WALL}, [WALL, FLOOR, GOAL, KEY])
    goals = np.array([found[place][2] for place in free])
    assert goals.sum() > 0.9
    assert goals[:8].max() < 2.5 * goals[8:].min()
    assert found[key][3] > 0.9
    seen = {place: ROOM[place] for place in free[2:]}
    left = told(usual, seen, [WALL, FLOOR, GOAL, KEY])
    assert left[free[0]][2] == pytest.approx(left[free[1]][2]) and left[free[0]][2] > 0.3


def test_a_map_is_put_in_the_place_of_another() -> None:
    usual = UsualMap()
    usual.keep({(0, 0): WALL, (0, 1): FLOOR})
    usual.keep({(0, 0): WALL})
    assert usual.map(0) == {(0, 0): WALL, (0, 1): FLOOR}
    usual.put(0, {(5, 5): GOAL})
    assert usual.map(0) == {(5, 5): GOAL} and usual.map(1) == {(0, 0): WALL}
    number = usual.row[0, 1]
    assert usual.times[number].sum() == 0 and usual.told({})[number].sum() == 0
    assert usual.times_without(1)[usual.row[0, 0]].sum() == 0
    assert (usual.times_without(None) == usual.times).all()


def test_episodes_that_are_like_this_one_count_more() -> None:
    """Two kinds of maps with the goal in one of two corners; the walls tell which it is."""
    usual = UsualMap()
    for number in range(12):
        kind = number % 2
        walls = {(y, kind): WALL for y in range(1, 4)}
        floors = {(y, 1 - kind): FLOOR for y in range(1, 4)}
        usual.keep({**walls, **floors, (0, kind): GOAL, (0, 1 - kind): FLOOR})
    seen = {(1, 1): WALL, (2, 1): WALL}
    usual.ones = []  # how many goals there are has a test of its own
    found = told(usual, seen, [FLOOR, WALL, GOAL])
    assert found[0, 1][2] > 0.8 > 0.2 > found[0, 0][2]
    chance = np.exp(usual.evidence - usual.evidence.max())
    assert chance[:, -1].sum() < chance[:, :-1].sum() / 100  # that likeness matters was learned
    chance = np.exp(usual.evidence + usual.log_predictive(seen))
    place = usual.row[0, 1]
    kind = usual.of_kind[usual.kind[place], usual.column[GOAL]]
    by_hand = [
        backed_off(6, 6 + 6 * np.exp(-2 * likeness), 6, 12, kind, 0) for likeness in LIKENESS
    ]  # two cells of the other kind differ
    assert found[0, 1][2] == pytest.approx((chance * by_hand).sum() / chance.sum())


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
        room = dict(ROOM)
        room[2, int(source.integers(1, 5))] = WALL
        usual.keep({**room, (3, 4): GOAL})
    found = told(usual, {}, [FLOOR, WALL, GOAL])
    assert found[3, 4][2] > 0.97
    assert found[0, 0][1] > 0.95
    middle = np.sum([found[2, x] for x in range(1, 5)], 0)
    assert 0.7 < middle[1] < 1.3
    assert max(share.sum() for share in found.values()) < 1 + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_where_maps_have_nothing_in_common_places_tell_nothing(seed: int) -> None:
    source = np.random.default_rng(seed)
    usual = UsualMap()
    for _ in range(20):
        usual.keep(
            dict(zip(PLACES, source.choice([FLOOR, WALL], len(PLACES)).tolist(), strict=True))
        )
    assert usual.told({}).max() < 0.75  # as either is anywhere, or nearly so
    assert (
        usual.evidence.argmax() >= 2
    )  # thirty episodes' worth of what holds everywhere, or no regard


def test_this_episode_tells_whether_places_matter() -> None:
    """After one episode nobody can know; the walls of the second say it before its goal is seen."""
    usual = UsualMap()
    usual.keep(
        {**{(0, x): WALL for x in range(6)}, **{(1, x): FLOOR for x in range(6)}, (5, 5): GOAL}
    )
    usual.ones = []  # how many goals there are has a test of its own
    goal = usual.row[5, 5], usual.column[GOAL]
    at_first = usual.told({})[goal]
    alike = usual.told({(0, x): WALL for x in range(6)})[goal]
    other = usual.told({(0, x): FLOOR for x in range(6)})[goal]
    assert other < at_first / 2 < at_first < alike
    kind = usual.of_kind[usual.kind[goal[0]], goal[1]]
    by_hand = [backed_off(1, 1, 1, 1, kind, 0) for _ in LIKENESS]
    assert at_first == pytest.approx(np.mean(by_hand))


def test_usual_maps_are_kept_in_checkpoints() -> None:
    usual = UsualMap()
    again = UsualMap()
    again.load_state_dict(usual.state_dict())
    usual.keep({(0, 0): WALL, (-1, 1): FLOOR})
    usual.keep({(0, 0): GOAL})
    again.load_state_dict(usual.state_dict())
    asked = {(0, 0): WALL, (-1, 1): WALL}
    assert (again.log_predictive(asked) == usual.log_predictive(asked)).all()
    assert (again.told(asked) == usual.told(asked)).all()
    assert (again.of_kind == usual.of_kind).all() and [one.sure for one in again.ones] == [
        one.sure for one in usual.ones
    ]
