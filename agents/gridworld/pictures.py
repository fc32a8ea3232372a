"""The inferred map with the belief over the pose, as a picture."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aif_dcpc.agents.gridworld.model.geometry import AHEAD
from aif_dcpc.agents.gridworld.planning.belief import Belief

CELL = 24  # pixels along a cell
LEAST = 9  # cells along a side of the picture, at least
POSE = np.array([255.0, 255.0, 255.0])
# grey levels of cells never seen, and of the lines between cells
UNKNOWN = 25.0
LINE = 45.0


def token_colours(num_slots: int) -> npt.NDArray[np.float64]:
    """A colour for every token slot, spread by the golden ratio."""
    hue = (np.arange(num_slots) * 0.618 + 0.55) % 1.0
    phase = hue[:, None] + np.array([0.0, 1 / 3, 2 / 3])
    return 140.0 + 90.0 * np.cos(2 * np.pi * phase)


def token_legend(tokens: Sequence[int]) -> dict[int, tuple[int, int, int]]:
    """Colour of every raw token, given in the order of their slots."""
    colours = token_colours(len(tokens)).astype(int).tolist()
    return {
        token: (red, green, blue) for token, (red, green, blue) in zip(tokens, colours, strict=True)
    }


def map_picture(belief: Belief) -> npt.NDArray[np.uint8]:
    """Cells coloured by their tokens, as sure as they are; the poses of the particles as white arrowheads.

    Returns:
        `(H, H, 3)` uint8: a square around the part of the map that was seen.
    """
    colours = token_colours(belief.cells.shape[1])
    size = math.isqrt(len(belief.cells))
    entropy = -(belief.cells * np.log(np.maximum(belief.cells, 1e-12))).sum(-1)
    sure = np.exp(-entropy)[:, None] * belief.seen[:, None]
    cells = (belief.cells @ colours) * sure + UNKNOWN * (1 - sure)
    top, left = (belief.origin % size).tolist()
    seen = np.roll(belief.seen.reshape(size, size), (-top, -left), (0, 1))
    square = np.roll(cells.reshape(size, size, 3), (-top, -left), (0, 1))
    picture = square.repeat(CELL, 0).repeat(CELL, 1)
    picture[::CELL] = LINE
    picture[:, ::CELL] = LINE
    for (y, x, heading), weight in zip(belief.pose.tolist(), belief.weights.tolist(), strict=True):
        _draw_pose(picture, (y - top) % size, (x - left) % size, heading, weight)
    top, left, side = _square(seen)
    return picture[top : top + side, left : left + side].clip(0, 255).astype(np.uint8)


def _square(seen: npt.NDArray[np.bool_]) -> tuple[int, int, int]:
    """Top, left and side, in pixels, of a square around what was seen."""
    ends = [(places.min(), places.max() + 1) for places in seen.nonzero()]
    side = min(max(LEAST, *(high - low + 2 for low, high in ends)), len(seen))
    first = [int(np.clip((low + high - side) // 2, 0, len(seen) - side)) for low, high in ends]
    return first[0] * CELL, first[1] * CELL, side * CELL


def _draw_pose(
    picture: npt.NDArray[np.float64], y: int, x: int, heading: int, weight: float
) -> None:
    """Blend in an arrowhead, as opaque as its particle is heavy."""
    place = (np.mgrid[:CELL, :CELL] - (CELL - 1) / 2) / (CELL / 2)  # from -1 to 1 over the cell
    ahead = np.tensordot(AHEAD[heading], place, 1)
    aside = np.abs(np.tensordot(AHEAD[(heading + 1) % 4], place, 1))
    inside = (ahead > -0.7) & (aside < (0.75 - ahead) / 2.2)
    patch = picture[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL]
    patch += min(1.0, weight) * inside[..., None] * (POSE - patch)
