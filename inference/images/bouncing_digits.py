"""A digit that bounces in a canvas: what it is lasts for the episode, where it is changes from frame to frame.

    what ~ Normal(0, I);  velocity ~ Normal(0, speed^2 I);  position_0 ~ Normal(0, 1)
    position_t ~ Normal(position_{t-1} + velocity, noise^2);  frame_t ~ Normal(render(what, fold(position_t)), scale^2)

Positions are unfolded: walls are mirrors, `fold` maps the straight line that the digit would take without them back
into the canvas, so the dynamics are linear and forecasts bounce exactly. Rendering is differentiable (bilinear
`grid_sample`). The posterior of the position has many modes far from the truth: start near it, or temper.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import affine_grid, grid_sample

from aif_dcpc.inference.graph import GraphicalModel, lag
from aif_dcpc.inference.images.dlgm import StandardNormal


def bouncing_digits(
    *,
    latents: int = 8,
    hidden: int = 64,
    patch: int = 16,
    canvas: int = 32,
    speed: float = 0.2,
    noise: float = 0.02,
    scale: float = 0.1,
) -> GraphicalModel:
    """Build the graph of one digit.

    Args:
        latents: size of `what`.
        hidden: units between `what` and the digit's pixels.
        patch, canvas: sides of the digit and of the frame, pixels.
        speed, noise: standard deviations of the velocity and of its disturbance, in half free widths per frame.
        scale: standard deviation of a pixel to start with.
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
    return model


def fold(position: Tensor) -> Tensor:
    """Straight lines to paths between mirrors at -1 and 1, elementwise."""
    return ((position + 1).remainder(4) - 2).abs().neg() + 1


class Renderer(nn.Module):
    """p(frame | what, position): a digit from a network, laid into an empty canvas.

    Args:
        latents, hidden, patch, canvas, scale: as `bouncing_digits`.
    """

    def __init__(self, latents: int, hidden: int, patch: int, canvas: int, scale: float) -> None:
        super().__init__()
        self.patch, self.canvas = patch, canvas
        self.network = nn.Sequential(nn.Linear(latents, hidden), nn.ReLU(), nn.Linear(hidden, patch * patch))
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())

    def forward(self, what: Tensor, position: Tensor) -> Distribution:
        """Frames `(*batch, 1, canvas, canvas)` given `what (*batch, latents)` and `position (*batch, 2)`."""
        digit = torch.sigmoid(self.network(what)).unflatten(-1, (1, self.patch, self.patch))
        return Independent(Normal(render(digit, position, self.canvas), self.log_scale.exp()), 3)


def render(digit: Tensor, position: Tensor, canvas: int) -> Tensor:
    """Lay digits into an empty canvas.

    Args:
        digit: `(*batch, 1, patch, patch)`.
        position: `(*batch, 2)`, unfolded x and y of the centre; -1 and 1 touch the walls.
        canvas: side of the frame, pixels.

    Returns:
        `(*batch, 1, canvas, canvas)`.
    """
    lead = torch.broadcast_shapes(digit.shape[:-3], position.shape[:-1])
    patches = digit.expand(*lead, *digit.shape[-3:]).reshape(-1, *digit.shape[-3:])
    ratio = canvas / digit.shape[-1]
    shift = -(ratio - 1) * fold(position).expand(*lead, 2).reshape(-1, 2)
    zoom = (ratio * torch.eye(2, dtype=shift.dtype, device=shift.device)).expand(len(shift), 2, 2)
    grid = affine_grid(torch.cat([zoom, shift.unsqueeze(-1)], -1), [len(shift), 1, canvas, canvas], align_corners=False)
    return grid_sample(patches, grid, align_corners=False).unflatten(0, lead)


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
