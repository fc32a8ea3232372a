"""Pictures of held-out films: truth, reconstruction, prediction, digits in colours, places."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.experiments.bouncing_digits.rendering import Renderer, fold
from aif_dcpc.experiments.bouncing_digits.scoring import Belief
from aif_dcpc.pictures import (
    Picture,
    captioned,
    gif_bytes,
    image_grid,
    png_bytes,
    save,
    side_by_side,
)

COLOURS = ((1.0, 0.2, 0.2), (0.2, 0.9, 0.2), (0.3, 0.5, 1.0), (1.0, 0.9, 0.2), (0.9, 0.3, 1.0))
ENLARGED = 5  # screen pixels of an animation per pixel
ARM = 6  # length of a cross's arms, screen pixels


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
    """Draw of each film truth, reconstruction, digits in colours, and what was predicted unseen.

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


def animate(path: Path, films: Tensor, belief: Belief, renderer: Renderer, *, seen: int) -> None:
    """Films with the centres of the digits found drawn in, above what one particle believes, as a GIF.

    Args:
        path: of the GIF.
        films: `(B, T, 1, canvas, canvas)`.
        belief: one particle of each film, from the first `seen` frames; the rest is predicted.
        renderer: draws it.
        seen: frames seen.
    """
    believed = coloured(belief, renderer)
    centres = (fold(belief.position[0]) + 1) * (
        (renderer.canvas - renderer.patch) / 2
    ) + renderer.patch / 2
    frames = []
    for time in range(films.shape[1]):
        above = [
            marked(film, places)
            for film, places in zip(films[:, time], centres[:, time], strict=True)
        ]
        below = [as_picture(enlarged(image)) for image in believed[:, time]]
        rows = [side_by_side(row, height=renderer.canvas * ENLARGED) for row in (above, below)]
        words = f"frame {time + 1}, " + (
            "seen: film and belief" if time < seen else "not seen: film and PREDICTION"
        )
        rows.insert(1, np.full_like(rows[0][:8], 255))
        frames.append(captioned(np.concatenate(rows), words))
    save(path, gif_bytes(frames, 2))


def marked(image: Tensor, centres: Tensor) -> Picture:
    """A grey image `(1, H, W)`, enlarged, with a cross in its colour at each centre (x, y), pixels."""
    picture = as_picture(enlarged(image.expand(3, -1, -1)))
    for (x, y), colour in zip((centres * ENLARGED).round().int().tolist(), COLOURS, strict=False):
        ink = np.array(colour) * 255
        picture[y - ARM : y + ARM + 1, x - 1 : x + 2] = ink
        picture[y - 1 : y + 2, x - ARM : x + ARM + 1] = ink
    return picture


def enlarged(image: Tensor) -> Tensor:
    """`(3, H, W)` with every pixel a square."""
    return image.repeat_interleave(ENLARGED, 1).repeat_interleave(ENLARGED, 2)


def as_picture(image: Tensor) -> Picture:
    """`(H, W, 3)` bytes of `(3, H, W)` in [0, 1]."""
    return (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
