"""Draw the pictures of the gallery: `python docs/pictures/draw.py`.

Most are figures of notebooks, as these keep them (`make notebooks` draws them anew). A test holds
them to be the same.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch.distributions import Normal

from aif_dcpc.inference import DCPC, GraphicalModel

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "notebooks"))

import notebooks  # noqa: E402

# picture -> the notebook that it is in, and its place among the figures there
FIGURES = {
    "schools": ("hierarchical", 0),
    "levels": ("state_space", 0),
    "hours": ("hmm", 0),
    "tmaze": ("tmaze", 0),
    "grid": ("minigrid", 1),
    "plan": ("minigrid", 2),
    "digits": ("digits", 0),
}
SWEEPS = (0, 1, 3, 10, 100)
SEEN = 2.0


def figure_of(stem: str, place: int) -> bytes:
    """A figure of a notebook as a PNG file."""
    parts = notebooks.parts(notebooks.HERE / f"{stem}.ipynb")
    return [picture for part in parts for picture in part.pictures][place]


def pair_model() -> GraphicalModel:
    """Two latents, one seen number: z2 follows z1 closely, x follows z2."""
    model = GraphicalModel()
    model.add_site("z1", lambda: Normal(0.0, 1.0))
    model.add_site("z2", lambda z1: Normal(z1, 0.4), ["z1"])
    model.add_site("x", lambda z2: Normal(z2, 1.0), ["z2"])
    return model


def exact_pair(seen: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean `(2,)` and covariance `(2, 2)` of both latents given x, by conditioning a Gaussian."""
    prior = torch.tensor([[1.0, 1.0], [1.0, 1.16]])
    cross = prior[:, 1]
    gain = cross / (cross[1] + 1.0)
    return gain * seen, prior - torch.outer(gain, cross)


def _draw_exact(axis: Axes) -> None:
    """Ellipses of one and two standard deviations of the exact posterior."""
    mean, covariance = exact_pair(SEEN)
    turn = torch.linspace(0, 2 * torch.pi, 100)
    circle = torch.stack([turn.cos(), turn.sin()])
    root = torch.linalg.cholesky(covariance)
    for radius in (1.0, 2.0):
        line = mean[:, None] + radius * root @ circle
        axis.plot(*line, color="tab:orange", lw=1)


def draw_sweeps(path: Path) -> None:
    """A cloud of particles after some numbers of sweeps, beside the exact posterior."""
    engine = DCPC(pair_model(), num_particles=200, seed=0)
    state = engine.init({"x": torch.tensor([SEEN])})
    figure, axes = plt.subplots(1, len(SWEEPS), figsize=(11, 2.6), sharex=True, sharey=True)
    done = 0
    for axis, sweeps in zip(axes, SWEEPS, strict=True):
        if sweeps > done:
            state, _ = engine.run(state, num_sweeps=sweeps - done)
        done = sweeps
        _draw_exact(axis)
        axis.plot(state.particles["z1"][:, 0], state.particles["z2"][:, 0], ".", ms=3, alpha=0.5)
        axis.set(title=f"{sweeps} sweep{'s' * (sweeps != 1)}", xlabel="z1")
    axes[0].set_ylabel("z2")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Write every picture."""
    plt.switch_backend("Agg")
    for name, (stem, place) in FIGURES.items():
        (HERE / f"{name}.png").write_bytes(figure_of(stem, place))
    draw_sweeps(HERE / "sweeps.png")


if __name__ == "__main__":
    main()
