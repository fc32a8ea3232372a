"""Ranks of simulation-based calibration as a picture: even bars lie within the grey band."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aif_dcpc.files import atomic

if TYPE_CHECKING:
    from aif_dcpc.inference.checks.calibration import Calibration

MOST_PANELS = 16
COLUMNS = 4
BAND = 0.99  # chance that a bar of even ranks lies within the band


def save_rank_plot(calibration: "Calibration", path: Path) -> None:
    """Write one histogram of ranks for each number of each latent, the first 16 of them, as a PNG.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = list(_panels(calibration))[:MOST_PANELS]
    rows = -(-len(panels) // COLUMNS) or 1
    figure = Figure(figsize=(3 * COLUMNS, 2.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, ranks) in enumerate(panels):
        axes = figure.add_subplot(rows, COLUMNS, place + 1)
        _draw(axes, title, ranks, calibration.num_particles)
    with atomic(path) as file:
        figure.savefig(file, dpi=120, format="png")


def _panels(calibration: "Calibration") -> Iterator[tuple[str, Any]]:
    """Every number's name, with its p-value, and its ranks `(N,)`."""
    for name, ranks in calibration.ranks.items():
        for i, p in enumerate(calibration.p_values[name].tolist()):
            label = name if ranks.shape[1] == 1 else f"{name}[{i}]"
            yield f"{label}  p = {p:.2g}", ranks[:, i].numpy()


def _draw(axes: Any, title: str, ranks: Any, num_particles: int) -> None:
    """Draw one histogram over the band in which even ranks would lie."""
    from scipy.stats import binom

    cells = num_particles + 1
    low, high = binom.interval(BAND, len(ranks), 1 / cells)
    axes.axhspan(low, high, color="0.85")
    axes.axhline(len(ranks) / cells, color="0.5", linewidth=0.8)
    axes.hist(ranks, bins=[i - 0.5 for i in range(cells + 1)], color="tab:blue", rwidth=0.9)
    axes.set_title(title, fontsize=9)
    axes.set_xlim(-0.5, num_particles + 0.5)
