"""Where that stands of which every episode has just one: by hand, and by what it is to do."""

import numpy as np
import pytest

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.one_of_a_kind import LIKENESS, MASSES, OneOfAKind

FLOOR, WALL, GOAL = range(3)
EPISODES, PLACES = 6, 5


def random_maps(rng: np.random.Generator) -> Ints:
    """Maps of floor and walls, a tenth unseen, with one goal in all but the last."""
    maps = rng.integers(2, size=(EPISODES, PLACES))
    maps[rng.random(maps.shape) < 0.1] = -1
    maps[np.arange(EPISODES - 1), rng.integers(PLACES, size=EPISODES - 1)] = GOAL
    return maps


def foretold(maps: Ints, now: Ints, base: Floats, likeness: float, mass: float) -> Floats:
    """Where the goal is in one more episode, one earlier one after another, `(places,)`."""
    apart = [
        sum(a != b for a, b in zip(one, now, strict=True) if min(a, b) >= 0 and GOAL not in (a, b))
        for one in maps
    ]
    weights = [np.exp(-likeness * (a - min(apart))) for a in apart]
    counts = mass * base if mass < np.inf else base.copy()
    for one, weight in zip(maps, weights, strict=True):
        if mass < np.inf:
            counts = counts + weight * (one == GOAL)
    found: Floats = counts / counts.sum()
    return found


@pytest.mark.parametrize("seed", range(5))
def test_places_are_foretold_as_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = random_maps(rng)
    base = rng.dirichlet(np.ones(PLACES))
    scale = 0.3  # how common it is at places need not sum to 1
    one = OneOfAKind.of(maps, [GOAL], scale * base, np.tile(scale * base, (EPISODES, 1)))
    score = np.zeros((len(LIKENESS), len(MASSES)))
    now = rng.integers(2, size=PLACES)
    expected = np.zeros(PLACES)
    for episode in range(EPISODES - 1):
        others = np.delete(maps, episode, 0)
        place = (maps[episode] == GOAL).argmax()
        for at, likeness, mass in settings():
            score[at] += np.log(foretold(others, maps[episode], base, likeness, mass)[place])
    chance = np.exp(score) / np.exp(score).sum()
    assert np.allclose(one.chance, chance)
    for at, likeness, mass in settings():
        expected += chance[at] * foretold(maps, now, base, likeness, mass)
    assert np.allclose(one.told(now), expected)
    assert one.told(now).sum() == pytest.approx(1)


def settings() -> list[tuple[tuple[int, int], float, float]]:
    """All combinations of how much likeness and places may matter, and where they stand."""
    return [
        ((i, j), float(likeness), float(mass))
        for i, likeness in enumerate(LIKENESS[:, 0])
        for j, mass in enumerate(MASSES[:, 0])
    ]


def test_what_was_never_shown_is_where_its_kind_is() -> None:
    maps = np.full((3, PLACES), FLOOR)
    base = np.arange(1.0, 1 + PLACES)
    one = OneOfAKind.of(maps, [GOAL], base, np.tile(base, (3, 1)))
    assert np.allclose(one.told(maps[0]), base / base.sum())


def test_likeness_matters_where_it_tells_the_place_and_not_where_it_does_not() -> None:
    """Walls on one side or the other; the goal on the side without, or on either."""
    rng = np.random.default_rng(1)
    number = 16
    side = rng.integers(2, size=number)
    maps = np.full((number, 8), FLOOR)
    maps[side == 0, 2:5] = WALL
    maps[side == 1, 5:8] = WALL
    base = np.full(8, 0.1)
    told = maps.copy()
    told[np.arange(number), side] = GOAL
    one = OneOfAKind.of(told, [GOAL], base, np.tile(base, (number, 1)))
    assert one.chance[1:].sum() > 0.95
    assert one.told(maps[0])[side[0]] > 0.9
    blind = maps.copy()
    blind[np.arange(number), rng.integers(2, size=number)] = GOAL
    either = OneOfAKind.of(blind, [GOAL], base, np.tile(base, (number, 1)))
    assert either.chance[0].sum() > one.chance[0].sum()
    assert 0.2 < either.told(maps[0])[0] < 0.8
