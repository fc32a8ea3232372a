"""Pictures of held-out films: truth, reconstruction and prediction, digits apart in colours, places drawn in."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.experiments.bouncing_digits.scoring import Belief
from aif_dcpc.inference.images.rendering import Renderer
from aif_dcpc.inference.images.straight_paths import fold
from aif_dcpc.pictures import captioned, gif_bytes, image_grid, png_bytes, save, side_by_side

COLOURS = ((1.0, 0.35, 0.35), (0.35, 1.0, 0.35), (0.45, 0.55, 1.0), (1.0, 0.9, 0.3), (0.9, 0.4, 1.0))
ENLARGED = 6  # screen pixels per pixel of an animation


def draw_films(
    path: Path,
    test: Tensor,
    shown: Tensor,
    predicted: Tensor,
    apart: Tensor | None = None,
    *,
    seen: int,
    number: int = 4,
) -> None:
    """Of each film rows of truth, reconstruction, its digits in colours, and the prediction of what was not seen.

    Args:
        path: of the PNG.
        test, shown: films and their reconstructions, `(B, T, 1, canvas, canvas)`.
        predicted: the same from the first `seen` frames; those are left empty.
        apart: the reconstruction in colours `(B, T, 3, canvas, canvas)`, or None for no such row.
        seen: frames from which the rest was predicted.
        number: films.
    """
    ahead = torch.cat([torch.zeros_like(test[:, :seen]), predicted[:, seen:]], 1)
    kinds = [test, shown, ahead] if apart is None else [test, shown, apart, ahead]
    rows = torch.stack([kind.expand(-1, -1, 3, -1, -1) for kind in kinds], 1)[:number].flatten(0, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, png_bytes(image_grid(rows.numpy(), columns=test.shape[1], scale=2)))


def coloured(belief: Belief, renderer: Renderer) -> Tensor:
    """One particle's digits, each in its colour, `(B, T, 3, canvas, canvas)`."""
    layers = belief.layers(renderer)[0]
    colours = torch.tensor(COLOURS)[torch.arange(layers.shape[2]) % len(COLOURS)]
    return (layers * colours[:, :, None, None]).sum(2).clamp(0, 1)


def animate(path: Path, film: Tensor, belief: Belief, renderer: Renderer, *, seen: int) -> None:
    """One film with the places where its digits were found, beside what one particle believes, as a GIF.

    Args:
        path: of the GIF.
        film: `(T, 1, canvas, canvas)`.
        belief: of this film, one particle, from the first `seen` frames; the rest is predicted.
        renderer: draws it.
        seen: frames seen.
    """
    right = coloured(belief, renderer)[0]
    places = (fold(belief.position[0, 0]) + 1) * ((renderer.canvas - renderer.patch) / 2)
    frames = []
    for number, (truth, believed, corners) in enumerate(zip(film, right, places, strict=True)):
        left = enlarged(truth.expand(3, -1, -1))
        for corner, colour in zip(corners, COLOURS, strict=False):
            frame_around(left, corner, renderer.patch, colour)
        pair = side_by_side([as_picture(left), as_picture(enlarged(believed))], height=left.shape[1])
        words = f"frame {number + 1}: " + ("film and places found; belief" if number < seen else "PREDICTED, not seen")
        frames.append(captioned(pair, words))
    save(path, gif_bytes(frames, 2))


def enlarged(image: Tensor) -> Tensor:
    """`(3, H, W)` with every pixel a square."""
    return image.repeat_interleave(ENLARGED, 1).repeat_interleave(ENLARGED, 2)


def frame_around(image: Tensor, corner: Tensor, patch: int, colour: tuple[float, float, float]) -> None:
    """Draw the outline of a patch whose corner (x, y) is given in pixels, in place."""
    left, top = (int(v) for v in (corner * ENLARGED).round())
    side = patch * ENLARGED
    ink = torch.tensor(colour)[:, None]
    for line in (top, top + side - 1):
        image[:, line, left : left + side] = ink
    for line in (left, left + side - 1):
        image[:, top : top + side, line] = ink


def as_picture(image: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """`(H, W, 3)` bytes of `(3, H, W)` in [0, 1]."""
    return (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
