"""Where episodes began on the map that they share: Bayes' rule by hand, and rooms entered anywhere."""

import numpy as np
import pytest

from aif_dcpc.agents.gridworld.bearings import (
    FAMILIAR,
    MASS,
    NEARBY,
    NEW,
    ONWARD,
    PART,
    REACH,
    SPAN,
    STEP,
    STRAY,
    Bearings,
    moved,
)
from aif_dcpc.agents.gridworld.layouts import Layouts
from aif_dcpc.agents.gridworld.usual_map import UsualMap

FLOOR, WALL, GOAL, DOOR = 1, 2, 8, 4
EVERY = (2 * SPAN + 1) ** 2


def bearings_of(*maps: dict[tuple[int, int], int]) -> Bearings:
    """Bearings that know these maps, which all began at one place."""
    usual = UsualMap()
    bearings = Bearings()
    for number, seen in enumerate(maps):
        usual.keep(seen)
        bearings.keep((0, 0), number + 1)
    bearings.learn(usual)
    return bearings


def near(shift: int) -> float:
    """How likely a new shift is that far from one that an episode had, along one axis."""
    every = [np.exp(-abs(other) / REACH) for other in range(-SPAN, SPAN + 1)]
    return float(np.exp(-abs(shift) / REACH) / sum(every))


def test_the_posterior_of_a_shift_follows_bayes_rule() -> None:
    first = {(0, 0): WALL, (0, 1): FLOOR}
    bearings = bearings_of(first, {(0, 0): WALL, (0, 1): WALL})
    steps = range(-SPAN, SPAN + 1)
    nearby = np.array([[near(y) * near(x) for x in steps] for y in steps])
    new = NEW / (1 + NEW + FAMILIAR)
    prior = new * (NEARBY * nearby + (1 - NEARBY) / EVERY)
    prior[SPAN, SPAN] += 1 - new
    assert np.allclose(np.exp(bearings.log_prior()), prior) and prior.sum() == pytest.approx(1)
    common = np.array([3.5, 1.5]) / 5  # wall, floor
    usual = np.ones_like(prior)
    usual[SPAN, SPAN + 1] = (0.0 + 1 + MASS * common[1]) / (2 + MASS) / common[1]
    usual[SPAN, SPAN] = MASS * common[1] / (2 + MASS) / common[1]
    posterior = prior * ((1 - STRAY) * usual + STRAY) ** PART
    found = bearings.posterior({(0, 0): FLOOR, (40, 0): WALL, (1, 1): GOAL})
    assert np.allclose(found, posterior / posterior.sum(), rtol=1e-4)


def test_a_wall_that_stands_elsewhere_is_one_surprise() -> None:
    """Of a line: as it usually is, or somewhere else, by hand; twice as long costs no more than going on."""
    floor = {(y, x): FLOOR for y in range(12) for x in range(12)}
    room = floor | {(y, 11): WALL for y in range(12)}
    bearings = bearings_of(room, room, room)
    common = (3 * np.array([132, 12]) + 0.5) / (3 * 144 + 1)  # floor, wall
    there = (3 + MASS * common[1]) / (3 + MASS) / common[1]
    elsewhere = MASS / (3 + MASS)
    for length in (4, 8):
        wall = {(y, 5): WALL for y in range(length)}
        found = bearings.log_likelihood(wall).copy()
        stray = STRAY * (ONWARD / common[1]) ** (length - 1)
        for shift, usual in ((6, there), (0, elsewhere)):
            right = PART * np.log((1 - STRAY) * usual**length + stray)
            assert found[SPAN, SPAN + shift] == pytest.approx(right, abs=1e-5)
    gain = there**8 / (STRAY / (1 - STRAY) * (ONWARD / common[1]) ** 7)
    odds = found[SPAN, SPAN + 6] - found[SPAN, SPAN]
    assert odds == pytest.approx(PART * np.log(gain), abs=0.05)  # not 8 log(there / elsewhere)


def test_a_line_speaks_as_far_as_it_reaches_the_map() -> None:
    """Cells that no shift brings to what is known say nothing, the others of the line all they know."""
    bearings = bearings_of({(0, 0): WALL, (0, 1): FLOOR}, {(0, 0): WALL, (0, 1): FLOOR})
    reaching = bearings.log_likelihood({(0, SPAN + 1 + x): FLOOR for x in range(3)}).copy()
    alone = bearings.log_likelihood({(0, SPAN + 1): FLOOR}).copy()
    assert reaching[SPAN, 0] - reaching[0, 0] > 0.1 and alone[SPAN, 0] - alone[0, 0] > 0.1
    assert np.ptp(bearings.log_likelihood({(0, SPAN + 2): FLOOR})) == 0
    above = bearings.log_likelihood({(-SPAN, 1): FLOOR}).copy()
    before = bearings.log_likelihood({(0, -SPAN): WALL}).copy()
    assert above[-1, SPAN] - above[0, SPAN] > 0.1 and before[SPAN, -1] - before[SPAN, 0] > 0.1
    assert np.ptp(bearings.log_likelihood({(-SPAN - 1, 1): FLOOR})) == 0


def test_what_is_seen_later_counts_as_if_it_had_been_seen_at_once() -> None:
    """To the last bit: a run that is gone on with has to act as one that was not stopped."""
    source = np.random.default_rng(0)
    room = {(y, x): int(source.choice([WALL, FLOOR])) for y in range(6) for x in range(6)}
    bearings = bearings_of(room, {**room, (0, 0): DOOR})
    fresh = bearings_of(room, {**room, (0, 0): DOOR})
    seen = {}
    for place in source.permutation(list(room)).tolist():
        seen[tuple(place)] = FLOOR
        bearings.posterior(seen)
    changed = {**seen, (2, 2): WALL}
    del changed[5, 5]
    assert (bearings.posterior(changed) == fresh.posterior(changed)).all()
    assert (bearings.total * STEP == np.round(bearings.total * STEP)).all()


def four_rooms(source: np.random.Generator) -> dict[tuple[int, int], int]:
    """Walls around and between four rooms, a gap in each, a goal anywhere."""
    size = 13
    walls = {0, 6, 12}
    room = {
        (y, x): WALL if y in walls or x in walls else FLOOR
        for y in range(size)
        for x in range(size)
    }
    for near in (0, 6):
        room[6, near + int(source.integers(1, 6))] = FLOOR
        room[near + int(source.integers(1, 6)), 6] = FLOOR
    floors = [place for place, token in room.items() if token == FLOOR]
    room[floors[int(source.integers(len(floors)))]] = GOAL
    return room


@pytest.mark.parametrize("seed", range(5))
def test_episodes_that_begin_anywhere_are_laid_over_each_other(seed: int) -> None:
    """Twelve episodes that show two rooms or more, entered at random: all lie as they did."""
    source = np.random.default_rng(seed)
    layouts = Layouts()
    begun = []
    for _ in range(12):
        room = four_rooms(source)
        begun.append((int(source.integers(1, 12)), int(source.integers(1, 12))))
        rows = slice(0, 13) if source.random() < 0.5 else slice(0, 9)
        shown = {p: token for p, token in room.items() if p[0] in range(13)[rows]}
        layouts.keep(moved(shown, (-begun[-1][0], -begun[-1][1])))
    first = begun[0]
    against = {
        (y - first[0] - a, x - first[1] - b)
        for (y, x), (a, b) in zip(begun, layouts.bearings.lain, strict=True)
    }
    assert len(against) == 1  # all alike, wherever the first lies
    shifts = layouts.bearings.episodes
    assert shifts.total() == 12 and min(shifts.values()) > 0


def test_worlds_that_always_begin_at_one_place_are_not_shifted() -> None:
    source = np.random.default_rng(3)
    layouts = Layouts()
    for _ in range(8):
        room = four_rooms(source)
        layouts.keep(room)
    assert layouts.bearings.episodes == {(0, 0): 8}
    ((chance, shift, log_prior),) = layouts.bearings.likely({(0, 0): WALL})
    assert shift == (0, 0) and chance > 0.95 and -0.1 < log_prior < 0


def test_what_was_laid_wrongly_is_laid_anew_once_more_is_known() -> None:
    source = np.random.default_rng(5)
    layouts = Layouts()
    for _ in range(4):
        layouts.keep(four_rooms(source))
    wrong = moved(layouts.usual.map(1), (0, 6))
    layouts.usual.put(1, wrong)
    layouts.bearings.lain[1] = (0, 6)
    layouts.bearings.episodes[0, 0] -= 1
    layouts.bearings.episodes[0, 6] += 1
    for _ in range(3):
        layouts.keep(four_rooms(source))
    assert layouts.bearings.lain == [(0, 0)] * 7
    assert layouts.bearings.episodes == {(0, 0): 7}
    assert (0, 18) not in layouts.usual.map(1) and (0, 12) in layouts.usual.map(1)


def test_bearings_are_kept_in_checkpoints() -> None:
    source = np.random.default_rng(7)
    layouts, again = Layouts(), Layouts()
    for shift in ((0, 0), (3, -2), (0, 0)):
        layouts.keep(moved(four_rooms(source), shift))
    again.load_state_dict(layouts.state_dict())
    seen = moved({p: t for p, t in four_rooms(source).items() if p[0] < 6}, (1, 1))
    assert again.bearings.likely(seen) == layouts.bearings.likely(seen)
    assert again.state_dict() == layouts.state_dict()
