"""A digit that bounces in a canvas: what it is lasts for the episode, where it is changes from frame to frame.

    what ~ Normal(0, I);  velocity ~ Normal(0, speed^2 I);  position_0 ~ Normal(0, 1)
    position_t ~ Normal(position_{t-1} + velocity, noise^2);  frame_t ~ Normal(render(what, fold(position_t)), scale^2)

Positions are unfolded: walls are mirrors, `fold` maps the straight line that the digit would take without them back
into the canvas, so the dynamics are linear and forecasts bounce exactly. Rendering is differentiable (bilinear). The
posterior of the positions has many modes far from the truth, which local moves never leave: with `candidates` the model
hands the engine whole paths to choose from (see `straight_paths`), and local moves refine them::

    engine = DCPC(bouncing_digits(candidates=4), moves={"position": "langevin"})
"""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import pad

from aif_dcpc.inference.graph import GraphicalModel, lag
from aif_dcpc.inference.images.dlgm import StandardNormal
from aif_dcpc.inference.images.straight_paths import StraightPaths, fold


def bouncing_digits(
    *,
    latents: int = 8,
    hidden: int = 64,
    patch: int = 16,
    canvas: int = 32,
    speed: float = 0.2,
    noise: float = 0.02,
    scale: float = 0.1,
    candidates: int = 0,
) -> GraphicalModel:
    """Build the graph of one digit.

    Args:
        latents: size of `what`.
        hidden: units between `what` and the digit's pixels.
        patch, canvas: sides of the digit and of the frame, pixels.
        speed, noise: standard deviations of the velocity and of its disturbance, in half free widths per frame.
        scale: standard deviation of a pixel to start with.
        candidates: whole paths tried per sweep and particle; 0 leaves position and velocity to the engine's own moves.
    """
    model = GraphicalModel()
    model.add_site("what", StandardNormal(latents))
    model.add_site("velocity", lambda: Independent(Normal(torch.zeros(2), speed), 1))
    model.add_site(
        "position",
        lambda before, velocity: Independent(Normal(before + velocity, noise), 1),
        parents=[lag("position"), "velocity"],
        initial=lambda velocity: Independent(Normal(torch.zeros_like(velocity), 1.0), 1),
        scope="slice",
    )
    renderer = Renderer(latents, hidden, patch, canvas, scale)
    model.add_site("frame", renderer, parents=["what", "position"], scope="slice")
    if candidates:
        model.add_conditional(("velocity", "position"), StraightPaths(renderer, speed, noise, candidates))
    return model


class Renderer(nn.Module):
    """p(frame | what, position): a digit from a network, laid into an empty canvas.

    Args:
        latents, hidden, patch, canvas, scale: as `bouncing_digits`.
    """

    def __init__(self, latents: int, hidden: int, patch: int, canvas: int, scale: float) -> None:
        super().__init__()
        self.patch, self.canvas = patch, canvas
        last = nn.Linear(hidden, patch * patch)
        last.bias.data += spot(patch).flatten()
        self.network = nn.Sequential(nn.Linear(latents, hidden), nn.ReLU(), last)
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())

    def forward(self, what: Tensor, position: Tensor) -> Distribution:
        """Frames `(*batch, 1, canvas, canvas)` given `what (*batch, latents)` and `position (*batch, 2)`."""
        return Independent(Normal(render(self.digit(what), position, self.canvas), self.log_scale.exp()), 3)

    def digit(self, what: Tensor) -> Tensor:
        """The digit in its patch, `(*batch, 1, patch, patch)` in (0, 1)."""
        drawn: Tensor = torch.sigmoid(self.network(what))
        return drawn.unflatten(-1, (1, self.patch, self.patch))

    def best_positions(self, what: Tensor, frames: Tensor) -> Tensor:
        """Where each frame is most likely, among the positions that are whole pixels, `(*batch, T, 2)`, folded.

        There |digit|^2 does not depend on the position, so the likelihood is greatest where digit and frame correlate
        most; all positions at once by the Fourier transform.

        Args:
            what: `(*batch, latents)`.
            frames: `(*batch, T, 1, canvas, canvas)`.
        """
        width = self.canvas - self.patch
        wide = pad(self.digit(what), (0, width, 0, width)).unsqueeze(-4)
        product = torch.fft.rfft2(frames) * torch.fft.rfft2(wide).conj()
        fit = torch.fft.irfft2(product, s=frames.shape[-2:])[..., 0, : width + 1, : width + 1]
        best = fit.flatten(-2).argmax(-1)
        corner = torch.stack([best % (width + 1), best // (width + 1)], -1)
        return 2 * corner / max(width, 1) - 1


def spot(patch: int) -> Tensor:
    """Logits `(patch, patch)` of a blurred spot: a digit of unknown shape is bright in the middle of its patch."""
    axis = torch.linspace(-1, 1, patch)
    return 1 - 5 * (axis[:, None].square() + axis.square())


def render(digit: Tensor, position: Tensor, canvas: int) -> Tensor:
    """Lay digits into an empty canvas, bilinearly.

    Args:
        digit: `(*batch, 1, patch, patch)`.
        position: `(*batch, 2)`, unfolded x and y of the centre; -1 and 1 touch the walls.
        canvas: side of the frame, pixels.

    Returns:
        `(*batch, 1, canvas, canvas)`.
    """
    patch = digit.shape[-1]
    corner = (fold(position) + 1) * ((canvas - patch) / 2)
    pixel = torch.arange(canvas, device=corner.device)[:, None] - torch.arange(patch, device=corner.device)
    share = (1 - (pixel - corner[..., None, None]).abs()).clamp_min(0)  # of each pixel of the digit, by axis
    across, down = share.unbind(-3)
    return (down @ digit.squeeze(-3) @ across.mT).unsqueeze(-3)


def bounce(digits: Tensor, *, frames: int = 10, canvas: int = 32, speed: float = 0.2) -> tuple[Tensor, Tensor]:
    """Films of digits that bounce, from torch's global generator.

    Args:
        digits: `(B, 1, patch, patch)` in [0, 1].
        frames: T.
        canvas: side of a frame, pixels.
        speed: standard deviation of the velocity, half free widths per frame.

    Returns:
        films `(B, T, 1, canvas, canvas)`, and unfolded positions `(B, T, 2)`.
    """
    start, velocity = 2 * torch.rand(len(digits), 1, 2) - 1, speed * torch.randn(len(digits), 1, 2)
    position = start + velocity * torch.arange(frames)[:, None]
    return render(digits.unsqueeze(1), position, canvas), position
