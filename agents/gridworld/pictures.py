"""The inferred map with the belief over the pose and the plan, as a picture.

Cells are drawn as their tokens look, as far as that is known: whoever shows the picture may hand
over tiles, as the world draws them. The agent never looks at these.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.model.geometry import AHEAD
from aif_dcpc.agents.gridworld.planning.belief import Belief
from aif_dcpc.agents.panels import HEIGHT, enlarged, panel

CELL = 24  # pixels along a cell, and along a tile
LEAST = 9  # cells along a side of the picture, at least
POSE = np.array([255.0, 255.0, 255.0])
PLAN = np.array([0.0, 190.0, 255.0])
# grey levels of cells never seen, and of the lines between cells
UNKNOWN = 25.0
LINE = 45.0
CAPTION = "inferred map and pose; dark: unsure; dots: plan"
Tile = npt.NDArray[np.uint8]
Canvas = npt.NDArray[np.float64]


def token_colours(num_slots: int) -> Canvas:
    """A colour for every token slot, spread by the golden ratio, where nothing is known of its looks."""
    hue = (np.arange(num_slots) * 0.618 + 0.55) % 1.0
    phase = hue[:, None] + np.array([0.0, 1 / 3, 2 / 3])
    return 140.0 + 90.0 * np.cos(2 * np.pi * phase)


def token_tiles(tokens: Sequence[int], known: Mapping[int, Tile], num_slots: int) -> Canvas:
    """A tile for every token slot, `(V, CELL, CELL, 3)`: as it looks, or of one colour.

    Args:
        tokens: raw tokens in the order of their slots; slots beyond stand for none.
        known: raw token -> `(CELL, CELL, 3)`.
        num_slots: V.
    """
    tiles = np.empty((num_slots, CELL, CELL, 3))
    tiles[:] = token_colours(num_slots)[:, None, None]
    for slot, token in enumerate(tokens[:num_slots]):
        if token in known:
            tiles[slot] = known[token]
    return tiles


def token_legend(tokens: Sequence[int], known: Mapping[int, Tile]) -> dict[int, Tile]:
    """The tile of every raw token, given in the order of their slots."""
    tiles = token_tiles(tokens, known, len(tokens)).astype(np.uint8)
    return dict(zip(tokens, tiles, strict=True))


def map_picture(belief: Belief, tiles: Canvas, path: Ints) -> npt.NDArray[np.uint8]:
    """Draw cells as sure as they are, the poses of the particles as white arrowheads, and the plan as dots.

    Args:
        belief: about the map and the pose.
        tiles: `(V, CELL, CELL, 3)` of the token slots.
        path: `(L, 3)` poses (y, x, heading), without wrapping, that the plan leads through.

    Returns:
        a panel: a square around the part of the map that was seen, scaled to one size.
    """
    size = math.isqrt(len(belief.cells))
    top, left = (belief.origin % size).tolist()
    seen = np.roll(belief.seen.reshape(size, size), (-top, -left), (0, 1))
    first_row, first_column, side = _square(seen)
    index = np.roll(np.arange(size * size).reshape(size, size), (-top, -left), (0, 1))
    shown = index[first_row : first_row + side, first_column : first_column + side]
    canvas = _cells(belief, shown.ravel(), tiles).reshape(side, side, CELL, CELL, 3)
    canvas = canvas.transpose(0, 2, 1, 3, 4).reshape(side * CELL, side * CELL, 3)
    canvas[::CELL] = LINE
    canvas[:, ::CELL] = LINE
    corner = np.array([top + first_row, left + first_column])
    _draw_path(canvas, (path[:, :2] - corner) % size)
    for (y, x, heading), weight in zip(belief.pose.tolist(), belief.weights.tolist(), strict=True):
        row, column = ((y, x) - corner) % size
        _draw_pose(canvas, row, column, heading, weight)
    drawn = canvas.clip(0, 255).astype(np.uint8)
    return panel(enlarged(drawn), CAPTION, HEIGHT)


def _cells(belief: Belief, cells: Ints, tiles: Canvas) -> Canvas:
    """Pixels of some cells, `(N, CELL, CELL, 3)`: a mixture of tiles that fades where the belief is spread."""
    chances: Floats = belief.cells[cells]
    entropy = -(chances * np.log(np.maximum(chances, 1e-12))).sum(-1)
    sure = (np.exp(-entropy) * belief.seen[cells])[:, None, None, None]
    return np.tensordot(chances, tiles, 1) * sure + UNKNOWN * (1 - sure)


def _square(seen: npt.NDArray[np.bool_]) -> tuple[int, int, int]:
    """Top, left and side, in cells, of a square around what was seen."""
    ends = [(places.min(), places.max() + 1) for places in seen.nonzero()]
    side = min(max(LEAST, *(high - low + 2 for low, high in ends)), len(seen))
    first = [int(np.clip((low + high - side) // 2, 0, len(seen) - side)) for low, high in ends]
    return first[0], first[1], int(side)


def _patch(canvas: Canvas, row: int, column: int) -> Canvas:
    """The pixels of a cell; none of one outside."""
    return canvas[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]


def _draw_path(canvas: Canvas, places: Ints) -> None:
    """Put a dot in every cell that a plan leads through."""
    radius = np.hypot(*(np.mgrid[:CELL, :CELL] - (CELL - 1) / 2))
    for row, column in np.unique(places, axis=0).tolist():
        patch = _patch(canvas, row, column)
        if patch.size:
            patch[radius < CELL / 8] = PLAN


def _draw_pose(canvas: Canvas, row: int, column: int, heading: int, weight: float) -> None:
    """Blend in an arrowhead, as opaque as its particle is heavy."""
    place = (np.mgrid[:CELL, :CELL] - (CELL - 1) / 2) / (CELL / 2)  # from -1 to 1 over the cell
    ahead = np.tensordot(AHEAD[heading], place, 1)
    aside = np.abs(np.tensordot(AHEAD[(heading + 1) % 4], place, 1))
    inside = (ahead > -0.7) & (aside < (0.75 - ahead) / 2.2)
    patch = _patch(canvas, row, column)
    if patch.size:
        patch += min(1.0, weight) * inside[..., None] * (POSE - patch)
