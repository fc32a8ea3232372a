"""Drawing digits into frames: patches from a network, laid into canvases that are blended."""

from functools import reduce

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import pad


class Renderer(nn.Module):
    """p(frame | what and position of every digit): digits from one network, laid in and blended.

    Args:
        latents, hidden, patch, canvas, scale: as `bouncing_digits`.
    """

    def __init__(self, latents: int, hidden: int, patch: int, canvas: int, scale: float) -> None:
        super().__init__()
        self.patch = patch
        self.canvas = canvas
        last = nn.Linear(hidden, patch * patch)
        last.bias.data += spot(patch).flatten()
        self.network = nn.Sequential(nn.Linear(latents, hidden), nn.ReLU(), last)
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())

    def forward(self, *values: Tensor) -> Distribution:
        """Law of frames `(*batch, 1, canvas, canvas)`.

        Args:
            values: `what (*batch, latents)` and `position (*batch, 2)` of each digit in turn.
        """
        layers = (
            self.layer(what, position)
            for what, position in zip(values[::2], values[1::2], strict=True)
        )
        return self.law(reduce(blend, layers))

    def law(self, canvas: Tensor) -> Distribution:
        """Law of frames around a canvas `(*batch, 1, canvas, canvas)`."""
        return Independent(Normal(canvas, self.log_scale.exp()), 3)

    def log_fit(self, canvas: Tensor, frames: Tensor) -> Tensor:
        """log p(frames | canvas) up to a constant, `(*batch)` nats, to compare many canvases."""
        return -0.5 * (frames - canvas).square().flatten(-3).sum(-1) / (2 * self.log_scale).exp()

    def layer(self, what: Tensor, position: Tensor) -> Tensor:
        """One digit alone in its canvas, `(*batch, 1, canvas, canvas)`."""
        return render(self.digit(what), position, self.canvas)

    def digit(self, what: Tensor) -> Tensor:
        """The digit in its patch, `(*batch, 1, patch, patch)` in (0, 1)."""
        drawn: Tensor = torch.sigmoid(self.network(what))
        return drawn.unflatten(-1, (1, self.patch, self.patch))

    def best_positions(self, what: Tensor, frames: Tensor) -> Tensor:
        """Where each frame of one digit is most likely, among whole pixels, `(*batch, T, 2)`, folded.

        There |digit|^2 does not depend on the position, so the likelihood is greatest where digit
        and frame correlate most; all positions at once by the Fourier transform.

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
    """Logits `(patch, patch)` of a blurred spot: any digit is bright in the middle of its patch."""
    axis = torch.linspace(-1, 1, patch)
    return 1 - 5 * (axis[:, None].square() + axis.square())


def blend(first: Tensor, second: Tensor) -> Tensor:
    """Lay two canvases over each other, 1 - (1 - first) (1 - second): a bright pixel stays bright."""
    return first + second - first * second


def render(digit: Tensor, position: Tensor, canvas: int) -> Tensor:
    """Lay digits into an empty canvas, bilinearly.

    Args:
        digit: `(*batch, 1, patch, patch)`.
        position: `(*batch, 2)`, unfolded x and y of the centre; -1 and 1 touch the walls.
        canvas: side of the frame, pixels.

    Returns:
        `(*batch, 1, canvas, canvas)`.
    """
    across, down = shares(position, digit.shape[-1], canvas)
    return (down @ digit.squeeze(-3) @ across.mT).unsqueeze(-3)


def shares(position: Tensor, patch: int, canvas: int) -> tuple[Tensor, Tensor]:
    """Share of each pixel of a digit in each of the frame, by axis (x, then y), `(*batch, canvas, patch)` each."""
    corner = (fold(position) + 1) * ((canvas - patch) / 2)
    pixel = torch.arange(canvas, device=corner.device)[:, None] - torch.arange(
        patch, device=corner.device
    )
    across, down = (1 - (pixel - corner[..., None, None]).abs()).clamp_min(0).unbind(-3)
    return across, down


def bounce(
    digits: Tensor, *, frames: int = 10, canvas: int = 32, speed: float = 0.2
) -> tuple[Tensor, Tensor]:
    """Films of digits that bounce, from torch's global generator.

    Args:
        digits: `(B, 1, patch, patch)` in [0, 1].
        frames: T.
        canvas: side of a frame, pixels.
        speed: standard deviation of the velocity, half free widths per frame.

    Returns:
        films `(B, T, 1, canvas, canvas)`, and unfolded positions `(B, T, 2)`.
    """
    start = 2 * torch.rand(len(digits), 1, 2) - 1
    velocity = speed * torch.randn(len(digits), 1, 2)
    position = start + velocity * torch.arange(frames)[:, None]
    return render(digits.unsqueeze(1), position, canvas), position


def fold(position: Tensor) -> Tensor:
    """Straight lines to paths between mirrors at -1 and 1, elementwise."""
    return ((position + 1).remainder(4) - 2).abs().neg() + 1
