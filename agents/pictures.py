"""The inferred map with the belief over the pose, as a picture."""

import numpy as np
import numpy.typing as npt

from aif_dcpc.agents.planning.belief import Belief
from aif_dcpc.agents.world_models.geometry import AHEAD

CELL = 12  # pixels along a cell
POSE = np.array([255.0, 60.0, 60.0])


def token_colours(num_slots: int) -> npt.NDArray[np.float64]:
    """A colour for every token slot, spread by the golden ratio."""
    hue = (np.arange(num_slots) * 0.618 + 0.55) % 1.0
    phase = hue[:, None] + np.array([0.0, 1 / 3, 2 / 3])
    return 140.0 + 90.0 * np.cos(2 * np.pi * phase)


def map_picture(belief: Belief, size: int) -> npt.NDArray[np.uint8]:
    """Cells coloured by their tokens, as sure as they are; poses in red, headings as a notch.

    Returns:
        `(H, W, 3)` uint8: the part of the map that was seen, with a margin.
    """
    colours = token_colours(belief.cells.shape[1])
    entropy = -(belief.cells * np.log(np.maximum(belief.cells, 1e-12))).sum(-1)
    sure = np.exp(-entropy)[:, None] * belief.seen[:, None]
    cells = (belief.cells @ colours) * sure + 25.0 * (1 - sure)
    picture = cells.reshape(size, size, 3).repeat(CELL, 0).repeat(CELL, 1)
    for (y, x, heading), weight in zip(belief.pose.tolist(), belief.weights.tolist(), strict=True):
        _draw_pose(picture, y % size, x % size, heading, weight)
    rows, columns = belief.seen.reshape(size, size).nonzero()
    top, left = max(rows.min() - 1, 0) * CELL, max(columns.min() - 1, 0) * CELL
    cut = picture[top : (rows.max() + 2) * CELL, left : (columns.max() + 2) * CELL]
    return cut.clip(0, 255).astype(np.uint8)


def _draw_pose(picture: npt.NDArray[np.float64], y: int, x: int, heading: int, weight: float) -> None:
    centre = np.array([y * CELL + CELL // 2, x * CELL + CELL // 2])
    tip = centre + AHEAD[heading] * (CELL // 3)
    for (row, column), radius in ((centre, CELL // 4), (tip, CELL // 8)):
        patch = picture[max(row - radius, 0) : row + radius, max(column - radius, 0) : column + radius]
        patch += min(1.0, weight) * (POSE - patch)
