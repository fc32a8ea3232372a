"""Straight lines of cells that look alike, such as walls and rows of floor.

What stands at a cell mostly goes on at the next, so that cells of a line are not witnesses each of its
own. Every cell belongs to one line: to the longer of the two that it stands in.
"""

from typing import NamedTuple

import numpy as np

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.usual_map import Places

UNSEEN = -1  # no token: a cell that was not seen


class Line(NamedTuple):
    """Cells side by side, or one below the other, with one token.

    Attributes:
        token: raw token.
        y: row of its first cell.
        x: column of its first cell.
        upright: whether it goes down rather than to the right.
        length: cells.
    """

    token: int
    y: int
    x: int
    upright: bool
    length: int


def lines_of(seen: Places) -> set[Line]:
    """All lines of a map, as far as it was seen."""
    if not seen:
        return set()
    places = np.array(list(seen))
    top, left = places.min(0).tolist()
    tokens = np.full(np.ptp(places, 0) + 1, UNSEEN)
    tokens[*(places - [top, left]).T] = list(seen.values())
    upright = _lengths(tokens.T).T > _lengths(tokens)
    level = np.where(upright, UNSEEN, tokens)
    standing = np.where(upright, tokens, UNSEEN).T
    return {
        *(Line(t, top + y, left + x, False, n) for t, y, x, n in _stretches(level)),
        *(Line(t, top + y, left + x, True, n) for t, x, y, n in _stretches(standing)),
    }


def _number(tokens: Ints) -> Ints:
    """Count stretches of equal neighbours in every row, and give each cell the number of its own."""
    first = np.ones(tokens.shape, bool)
    first[:, 1:] = tokens[:, 1:] != tokens[:, :-1]
    return first.ravel().cumsum() - 1


def _lengths(tokens: Ints) -> Ints:
    """Length of the stretch that each cell stands in, `(rows, columns)`."""
    number = _number(tokens)
    return np.bincount(number)[number].reshape(tokens.shape)


def _stretches(tokens: Ints) -> list[tuple[int, int, int, int]]:
    """Token, row, column and length of every stretch that shows something."""
    _, first, length = np.unique(_number(tokens), return_index=True, return_counts=True)
    row, column = np.divmod(first, tokens.shape[1])
    token = tokens.flat[first]
    found = np.stack([token, row, column, length], 1)[token != UNSEEN]
    return [tuple(line) for line in found.tolist()]
