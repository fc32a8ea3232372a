"""Lines of cells that look alike: every cell belongs to one, to the longer of the two that it stands in."""

from collections import Counter

import numpy as np
import pytest

from aif_dcpc.agents.gridworld.lines import Line, lines_of
from aif_dcpc.agents.gridworld.usual_map import Place, Places

FLOOR, WALL = 1, 2


def cells(line: Line) -> list[Place]:
    down, right = (1, 0) if line.upright else (0, 1)
    return [(line.y + down * step, line.x + right * step) for step in range(line.length)]


def straight(seen: Places, place: Place, down: int, right: int) -> int:
    """How many cells before and behind are alike, the cell with them."""
    number = 1
    for sign in (-1, 1):
        step = sign
        while seen.get((place[0] + step * down, place[1] + step * right)) == seen[place]:
            number += 1
            step += sign
    return number


def some_map(seed: int) -> Places:
    source = np.random.default_rng(seed)
    height, width = source.integers(1, 9, 2)
    return {
        (int(y) - 3, int(x) + 2): int(token)
        for y in range(height)
        for x in range(width)
        if (token := source.choice([0, FLOOR, FLOOR, WALL, 70])) > 0 or source.random() < 0.5
    }


def test_a_wall_with_a_corner() -> None:
    seen = {(0, x): WALL for x in range(4)} | {(y, 0): WALL for y in range(6)} | {(1, 1): FLOOR}
    assert lines_of(seen) == {
        Line(WALL, 0, 0, True, 6),  # the corner belongs to the longer wall
        Line(WALL, 0, 1, False, 3),
        Line(FLOOR, 1, 1, False, 1),
    }


@pytest.mark.parametrize("seed", range(20))
def test_every_cell_belongs_to_the_longer_of_its_two_lines(seed: int) -> None:
    seen = some_map(seed)
    lines = lines_of(seen)
    assert Counter(place for line in lines for place in cells(line)) == Counter(seen.keys())
    for line in lines:
        for place in cells(line):
            assert seen[place] == line.token
            assert line.upright == (straight(seen, place, 1, 0) > straight(seen, place, 0, 1))


def test_numbers_are_pythons_own() -> None:
    """They are keys of dictionaries, and compared with what checkpoints give."""
    (line,) = lines_of({(-2, 5): WALL})
    assert [type(value) for value in line] == [int, int, int, bool, int]


def test_of_nothing_there_are_none() -> None:
    assert lines_of({}) == set()
