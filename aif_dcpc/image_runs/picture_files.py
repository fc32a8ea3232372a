"""Picture files as people have them: read right, or refused by name.

Upright as the camera says (EXIF), 16-bit grey scaled to 8 bits, transparency laid on white, the first frame
of an animation. Pictures of floating-point numbers have no agreed white and are refused.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aif_dcpc.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jfif",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".gif",
    ".ppm",
    ".pgm",
    ".pbm",
    ".tga",
    ".jp2",
)
SIXTEEN_BITS = 65535
BACKGROUND = (255, 255, 255, 255)  # what shows through transparent pixels


def open_picture(path: Path) -> "Image":
    """Read a file as an upright RGB picture of 8 bits.

    Raises:
        ConfigError: it is damaged, or of numbers that have no agreed white.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(), Image.open(path) as opened:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            upright = ImageOps.exif_transpose(opened)
            return _without_transparency(_in_eight_bits(upright)).convert("RGB")
    except Exception as error:  # whatever a decoder meets in a damaged file
        raise ConfigError(
            f"{path} is not a whole picture ({one_line(error)}) Remove or replace it."
        ) from None


def _in_eight_bits(picture: "Image") -> "Image":
    """Scale grey of 16 bits, which Pillow would cut off at 255."""
    from PIL import Image

    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers: save it with 8 or 16 bits")
    if not picture.mode.startswith("I"):
        return picture
    grey = np.asarray(picture).astype(np.int64)
    if grey.min() < 0 or grey.max() > SIXTEEN_BITS:
        raise ValueError("its pixels have more than 16 bits: save it with 8 or 16 bits")
    return Image.fromarray(np.round(grey * (255 / SIXTEEN_BITS)).astype(np.uint8))


def _without_transparency(picture: "Image") -> "Image":
    """Lay what is transparent on white; the colour stored under it was never meant to be seen."""
    from PIL import Image

    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, BACKGROUND), picture)


def one_line(error: Exception) -> str:
    """What went wrong, as the end of a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")[:160] + "."
