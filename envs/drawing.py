"""Small pictures of the package's own worlds, `(H, W, 3)` uint8: cells, or variables over time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

DRAWN: dict[str, Any] = {"render_modes": ["rgb_array"], "egocentric_view": None}  # of such a world
Picture = npt.NDArray[np.uint8]
Cell = tuple[int, int]
CELL = 40  # pixels along a side
HOUR = 4  # pixels of a step in a chart
HEIGHT = 70  # pixels of one variable in a chart
TOP = 2.0  # the value at the upper edge of a chart
SHADES = {
    "floor": (236, 236, 236),
    "unseen": (90, 90, 90),
    "cue": (250, 214, 120),
    "win": (130, 200, 130),
    "lose": (226, 140, 130),
    "agent": (60, 90, 190),
    "band": (205, 235, 205),
    "night": (200, 200, 214),
}


def board(
    rows: int,
    columns: int,
    cells: Mapping[Cell, tuple[str, str]],
    agent: Cell,
    *,
    missing: str = "floor",
) -> Picture:
    """Draw a board of cells, an agent standing on one of them.

    Args:
        rows, columns: how many cells.
        cells: (row, column) -> (name of its shade, a short word to be written in it).
        agent: (row, column) of the agent.
        missing: shade of all other cells.
    """
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (columns * CELL, rows * CELL), "white")
    pen = ImageDraw.Draw(picture)
    for row in range(rows):
        for column in range(columns):
            shade, word = cells.get((row, column), (missing, ""))
            left = column * CELL
            top = row * CELL
            pen.rectangle((left, top, left + CELL - 2, top + CELL - 2), fill=SHADES[shade])
            pen.text((left + 4, top + 3), word, fill="black")
    left = agent[1] * CELL
    top = agent[0] * CELL
    pen.ellipse((left + 12, top + 16, left + CELL - 12, top + CELL - 8), fill=SHADES["agent"])
    return np.asarray(picture, dtype=np.uint8)


def chart(
    traces: Mapping[str, Sequence[float]], dark: Sequence[bool], width: int, words: str
) -> Picture:
    """Draw variables over time, each in a strip, with the band from -1 to 1 and the nights.

    Args:
        traces: name -> its values, standardised.
        dark: whether each step was a night.
        width: steps in a picture.
        words: under it.
    """
    from PIL import Image, ImageDraw

    size = (width * HOUR, len(traces) * HEIGHT + 20)
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for strip, (name, values) in enumerate(traces.items()):
        top = strip * HEIGHT
        pen.rectangle((0, _y(1, top), size[0], _y(-1, top)), fill=SHADES["band"])
        for step, night in enumerate(dark):
            if night:
                pen.rectangle((step * HOUR, top, step * HOUR + HOUR, top + 5), fill=SHADES["night"])
        points = [(step * HOUR, _y(value, top)) for step, value in enumerate(values)]
        if len(points) > 1:
            pen.line(points, fill=SHADES["agent"], width=2)
        pen.text((4, top + 6), name, fill="black")
    pen.text((4, size[1] - 16), words, fill="black")
    return np.asarray(picture, dtype=np.uint8)


def _y(value: float, top: float) -> float:
    """Where a value lies in a strip, pixels from above."""
    share: Any = np.clip((TOP - value) / (2 * TOP), 0, 1)
    return top + float(share) * (HEIGHT - 4)
