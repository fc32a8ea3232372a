"""Panels of pictures: of one height, each with a line of words below it, and of a size that stays."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Picture = npt.NDArray[np.uint8]
HEIGHT = 296  # pixels of what is drawn
WORDS = 24  # of the line of words below it
LETTER = 6  # width of a letter


def panel(drawn: Picture, words: str, width: int) -> Picture:
    """Put a picture on a page of the panels' height, with words below it.

    Args:
        drawn: `(h, w, 3)`, at most as high as the page.
        words: one line; the page is widened with white where they, or what is drawn, need more room.
        width: of the page, pixels.

    Returns:
        `(HEIGHT + WORDS, at least width, 3)`.

    >>> panel(np.zeros((296, 100, 3), np.uint8), "dark", 120).shape
    (320, 120, 3)
    """
    widest = max(width, drawn.shape[1], 8 + LETTER * len(words))
    page = Image.new("RGB", (widest, HEIGHT + WORDS), "white")
    page.paste(Image.fromarray(drawn))
    ImageDraw.Draw(page).text((4, HEIGHT + 6), words, fill="black")
    return np.asarray(page, dtype=np.uint8)


def enlarged(drawn: Picture) -> Picture:
    """Scale a picture to the panels' height, without smoothing."""
    width = max(1, round(drawn.shape[1] * HEIGHT / drawn.shape[0]))
    page = Image.fromarray(drawn).resize((width, HEIGHT), Image.Resampling.NEAREST)
    return np.asarray(page, dtype=np.uint8)
