"""Pictures of what an agent believes about every slice of its running episode, as inferred now.

One column a slice, up to the present one, from the episode's first on or the latest 30; one row a value (of a finite site),
or a bin of values (of a number). The darker, the more probable. What was believed about the past
changes as more is seen: beliefs are revised in hindsight.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aif_dcpc.agents.panels import HEIGHT, panel
from aif_dcpc.inference import State

WIDTH = 300  # pixels of a picture
CELL_WIDTHS = (10, 50)
MOST_SLICES = WIDTH // CELL_WIDTHS[0]  # the latest
BINS = 24
MOST_SITES = 6
MOST_VALUES = 32
INK = np.array([20, 60, 140])  # of what is certain; white is impossible
LINE = 215  # grey of the lines between cells


def belief_pictures(state: State, episode_length: int) -> dict[str, npt.NDArray[np.uint8]]:
    """Draw the marginal of every latent site with time, over the running episode.

    Args:
        state: the cloud over a life, one datum.
        episode_length: how many of its last slices belong to the running episode.

    Returns:
        "belief/SITE" (with an index, for vectors) -> `(H, W, 3)` uint8, of at most `MOST_SITES`.
    """
    weights = state.weights()[:, 0].double()
    found: dict[str, npt.NDArray[np.uint8]] = {}
    for name in state.conditioning.latent:
        if state.conditioning.site(name).period != 1:
            continue
        shown = min(max(episode_length, 1), MOST_SLICES)
        values = state.constrained(name)[:, 0, -shown:].detach().double()
        for label, series in _parts(name, values):
            if len(found) < MOST_SITES:
                shares, values_shown = _shares(state, name, series, weights)
                words = f"{label} at each step; {values_shown}"
                found[f"belief/{label}"] = panel(_heat(shares), words, WIDTH)
    return found


def present(state: State) -> dict[str, npt.NDArray[np.float64]]:
    """Values of the particles of every latent site with time in the last slice, `(K, n)`."""
    names = [n for n in state.conditioning.latent if state.conditioning.site(n).period == 1]
    last = {name: state.constrained(name)[:, 0, -1].detach().double() for name in names}
    return {name: values.reshape(len(values), -1).numpy() for name, values in last.items()}


def _parts(name: str, values: Tensor) -> list[tuple[str, Tensor]]:
    """Split a site's values `(K, T, *event)` into series `(K, T)` with names."""
    flat = values.flatten(2) if values.ndim > 2 else values.unsqueeze(-1)
    if flat.shape[-1] == 1:
        return [(name, flat[..., 0])]
    return [(f"{name}_{index}", flat[..., index]) for index in range(flat.shape[-1])]


def _shares(state: State, name: str, series: Tensor, weights: Tensor) -> tuple[Tensor, str]:
    """Probability of each value or bin in each slice, `(rows, T)`, large values on top; and their range in words."""
    support = state.conditioning.supports.get(name)
    if support is not None and support.ndim == 1 and len(support) <= MOST_VALUES:
        edges = support.double()
        place = (series.unsqueeze(-1) - edges).abs().argmin(-1)
        rows = len(edges)
    else:
        edges = torch.stack([series.min(), series.max()])
        span = (edges[1] - edges[0]).clamp_min(1e-12)
        place = ((series - edges[0]) / span * BINS).long().clamp(0, BINS - 1)
        rows = BINS
    inside = torch.nn.functional.one_hot(place, rows).double()
    shares = torch.einsum("k,ktr->rt", weights, inside).flip(0)
    return shares, f"{float(edges[0]):.3g} to {float(edges[-1]):.3g}, upwards"


def _heat(shares: Tensor) -> npt.NDArray[np.uint8]:
    """Draw probabilities `(rows, T)` as cells between white and ink, `(HEIGHT, W, 3)`."""
    rows, length = shares.shape
    width = int(np.clip(WIDTH // length, *CELL_WIDTHS))
    ink = shares.clamp(0, 1).sqrt().numpy()[..., None]
    cells = (255 * (1 - ink) + INK * ink).round().astype(np.uint8).repeat(width, 1)
    drawn: npt.NDArray[np.uint8] = cells[np.arange(HEIGHT) * rows // HEIGHT].copy()
    drawn[:, ::width] = LINE
    drawn[[HEIGHT * row // rows for row in range(rows)]] = LINE
    return drawn
