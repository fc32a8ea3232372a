"""Pictures and animations: the belief beside the true view, episodes as animated GIFs.

Pictures are `(H, W, 3)` uint8 arrays; files are written whole or not at all.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageSequence

from aif_dcpc.files import atomic

Picture = npt.NDArray[np.uint8]
Frames = Sequence[Picture]
LETTER = 6  # width of a letter, pixels
MARGIN = ((0, 4), (0, 4), (0, 0))  # below and to the right


def side_by_side(pictures: Sequence[Picture], *, height: int = 320, gap: int = 8) -> Picture:
    """Put pictures in a row, each scaled to the same height without smoothing, with white gaps.

    >>> side_by_side([np.zeros((2, 4, 3), np.uint8), np.zeros((5, 5, 3), np.uint8)], height=10, gap=1).shape
    (10, 31, 3)
    """
    scaled = [_scaled(picture, height) for picture in pictures]
    space = np.full((height, gap, 3), 255, np.uint8)
    pieces = [piece for picture in scaled for piece in (picture, space)]
    return np.concatenate(pieces[:-1], axis=1)


def _scaled(picture: Picture, height: int) -> Picture:
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return np.asarray(
        Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST), dtype=np.uint8
    )


def captioned(picture: Picture, words: str, *, height: int = 24) -> Picture:
    """Write a line of words under a picture, which is widened with white where they need more room.

    >>> captioned(np.zeros((2, 4, 3), np.uint8), "dark", height=10).shape
    (12, 32, 3)
    """
    width = max(picture.shape[1], 8 + LETTER * len(words))
    strip = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(strip).text((4, height // 4), words, fill="black")
    wide = padded(picture, picture.shape[0], width)
    return np.concatenate([wide, np.asarray(strip, dtype=np.uint8)])


def legend(
    entries: Mapping[str, Picture], width: int, *, height: int = 20, least: int = 1
) -> Picture:
    """Draw words, each after a small picture of what they mean, in as many lines as they need.

    Args:
        entries: words -> picture.
        width: of the whole, pixels.
        height: of a line.
        least: lines that there are at any rate, so that a picture keeps its size while it learns words.

    >>> legend({"wall": np.zeros((24, 24, 3), np.uint8)}, 60, least=2).shape
    (40, 60, 3)
    """
    lines: list[list[tuple[int, str, Picture]]] = [[]]
    at = 4
    for words, looks in entries.items():
        needs = 34 + 6 * len(words)
        if at + needs > width and lines[-1]:
            lines.append([])
            at = 4
        lines[-1].append((at, words, looks))
        at += needs
    strip = Image.new("RGB", (width, height * max(len(lines), least)), "white")
    pen = ImageDraw.Draw(strip)
    for row, line in enumerate(lines):
        for left, words, looks in line:
            pen.rectangle(
                (left - 1, row * height + 2, left + 16, row * height + 19), outline="black"
            )
            small = Image.fromarray(looks).resize((16, 16), Image.Resampling.BOX)
            strip.paste(small, (left, row * height + 3))
            pen.text((left + 20, row * height + 4), words, fill="black")
    return np.asarray(strip, dtype=np.uint8)


def captioned_file(path: Path, words: str, *, times: int = 1) -> Picture:
    """A saved picture, enlarged so many times, with words below it and a white margin, to be laid beside others."""
    with Image.open(path) as opened:
        picture = np.asarray(opened.convert("RGB"), dtype=np.uint8)
    return np.pad(
        captioned(picture.repeat(times, 0).repeat(times, 1), words), MARGIN, constant_values=255
    )


def same_size(frames: Frames) -> list[Picture]:
    """Pad frames with white to the size of the largest, as an animation needs.

    >>> [f.shape for f in same_size([np.zeros((2, 4, 3), np.uint8), np.zeros((5, 3, 3), np.uint8)])]
    [(5, 4, 3), (5, 4, 3)]
    """
    height = max(f.shape[0] for f in frames)
    width = max(f.shape[1] for f in frames)
    return [padded(f, height, width) for f in frames]


def padded(picture: Picture, height: int, width: int) -> Picture:
    """Fill a picture up with white, below and to the right."""
    below = height - picture.shape[0]
    right = width - picture.shape[1]
    return np.pad(picture, ((0, below), (0, right), (0, 0)), constant_values=255)


def png_bytes(picture: Picture) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def picture_of(encoded: bytes) -> Picture:
    """Decode what `png_bytes` gave."""
    with Image.open(io.BytesIO(encoded)) as opened:
        return np.asarray(opened.convert("RGB"), dtype=np.uint8)


def gif_bytes(
    frames: Iterable[Picture], frames_per_second: int, *, number: int | None = None
) -> bytes:
    """Encode frames of one size as an animated GIF that repeats; the last frame stays for a second.

    Args:
        frames: one at a time is enough.
        frames_per_second: of all but the last.
        number: of frames, where they are no sequence.
    """
    count = len(frames) if isinstance(frames, Sequence) else number
    assert count
    reduced = (Image.fromarray(f).quantize(64, dither=Image.Dither.NONE) for f in frames)
    times = [1000 // frames_per_second] * (count - 1) + [1000]
    buffer = io.BytesIO()
    first = next(reduced)
    first.save(buffer, format="GIF", save_all=True, append_images=reduced, duration=times, loop=0)
    return buffer.getvalue()


def gif_facts(path: Path) -> tuple[int, int, int]:
    """The number of frames of an animation, its height and its width."""
    with Image.open(path) as animation:
        return getattr(animation, "n_frames", 1), animation.height, animation.width


def read_gif(path: Path) -> Iterator[Picture]:
    """Read the frames of an animation, one at a time."""
    with Image.open(path) as animation:
        for frame in ImageSequence.Iterator(animation):
            yield np.asarray(frame.convert("RGB"), dtype=np.uint8)


def save(path: Path, encoded: bytes) -> None:
    """Write an encoded picture or animation, whole or not at all."""
    with atomic(path) as file:
        file.write_bytes(encoded)


def image_grid(
    images: npt.NDArray[np.floating], *, columns: int, scale: int | None = None, gap: int = 1
) -> Picture:
    """Lay images `(N, C, H, W)` in [0, 1] in rows, grey gaps between, enlarged without smoothing to about 32 pixels.

    >>> image_grid(np.zeros((3, 1, 4, 4)), columns=2, scale=1).shape
    (11, 11, 3)
    """
    number, channels, height, width = images.shape
    pixels = np.round(np.clip(images, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    pixels = np.repeat(pixels, 3, axis=3) if channels == 1 else pixels
    rows = -(-number // columns)
    grid = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 128, np.uint8)
    for index, image in enumerate(pixels):
        top, left = (
            gap + (i * (size + gap))
            for i, size in zip(divmod(index, columns), (height, width), strict=True)
        )
        grid[top : top + height, left : left + width] = image
    times = scale if scale is not None else max(1, round(56 / height))
    return grid.repeat(times, 0).repeat(times, 1)
