"""The course of learning as one picture of one size, drawn when a run ends: `learning_curve.png` of its folder."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aif_dcpc.files import atomic
from aif_dcpc.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "learning_curve.png"
SIZE = (10.5, 3.2)  # inches, at 100 dots an inch
SMOOTH = 10  # episodes in the running mean
Panel = tuple[str, tuple[str, ...]]
# what is shown of runs of each kind: title, and tags of which the first ones that were recorded are drawn
PANELS: Mapping[str, tuple[Panel, ...]] = {
    "agent": (
        ("return of each episode", ("train/return",)),
        ("success rate, last 20 episodes", ("train/success_rate",)),
        ("environment steps of each episode", ("train/episode_length",)),
    ),
    "images": (
        ("free energy, nats per image", ("train/free_energy", "valid/free_energy")),
        ("cross-entropy of held-out images, nats", ("valid/reconstruction_bce",)),
        ("squared error of held-out images, per pixel", ("valid/mse",)),
    ),
}
AXES = {"agent": "environment steps", "images": "learning steps"}
LABELS = {"train/free_energy": "training", "valid/free_energy": "held out"}


def save_learning_curve(folder: Path, kind: str) -> None:
    """Draw what a run recorded; a run that recorded nothing of it has no picture.

    Args:
        folder: of the run.
        kind: "agent" or "images".

    Raises:
        OSError: it cannot be written.
    """
    picture = learning_curve(folder / "metrics.jsonl", kind, PANELS[kind])
    if picture is None:
        return
    with atomic(folder / NAME) as file:
        file.write_bytes(picture)


def learning_curve(metrics: Path, kind: str, panels: Sequence[Panel]) -> bytes | None:
    """Draw panels of what a run recorded, as PNG; None where it recorded nothing of them."""
    records = Results(metrics).rows()
    drawn = [panel for panel in panels if any(_points(records, tag) for tag in panel[1])]
    if not drawn:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=100, layout="constrained")
    for place, (title, tags) in enumerate(drawn):
        axes = figure.add_subplot(1, len(drawn), place + 1)
        axes.set_title(title, fontsize="small")
        axes.set_xlabel(AXES[kind], fontsize="small")
        axes.tick_params(labelsize="small")
        axes.grid(alpha=0.3)
        for tag in tags:
            _draw(axes, tag, _points(records, tag))
        if "train/free_energy" in tags:
            _leave_out_the_fall(axes)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _leave_out_the_fall(axes: "Axes") -> None:
    """Let what comes after the first steep fall fill the panel."""
    low, high = np.percentile(np.concatenate([line.get_ydata() for line in axes.lines]), [0, 95])
    axes.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low) + 1e-6)


def _points(records: Sequence[Mapping[str, Any]], tag: str) -> list[tuple[float, float]]:
    """Steps and values of one tag."""
    return [(r["step"], r[tag]) for r in records if r.get(tag) is not None]


def _draw(axes: "Axes", tag: str, points: Sequence[tuple[float, float]]) -> None:
    """Draw a line; of what belongs to single episodes a dot each, and a running mean."""
    if not points:
        return
    steps, values = zip(*points, strict=True)
    single = tag in ("train/return", "train/episode_length")
    if single:
        axes.plot(steps, values, ".", ms=3, color="0.6")
        values = running_means(values)
    axes.plot(steps, values, "o-" if len(steps) == 1 else "-", lw=1.2, ms=3, label=LABELS.get(tag))
    if tag == "train/success_rate":
        axes.set_ylim(-0.03, 1.03)
    if tag in LABELS:
        axes.legend(fontsize="small")


def running_means(values: Sequence[float]) -> tuple[float, ...]:
    """Means of up to the last ten values.

    >>> running_means([1.0, 3.0])
    (1.0, 2.0)
    """
    windows = [values[max(0, end - SMOOTH) : end] for end in range(1, len(values) + 1)]
    return tuple(sum(window) / len(window) for window in windows)
