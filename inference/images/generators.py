"""Convolutional generators: one vector of latents, an image of 32 x 32 or 64 x 64 pixels.

Sizes follow the published ones: 64 x 64 as in arXiv 2408.05834, section 5.2 (40 latents, five
transposed convolutions, discretised Gaussian with learned variance); 32 x 32 as in Kuntz, Lim,
Johansen 2023 (64 latents, residual blocks). Group normalisation stands where those have batch
normalisation, which would couple the data of a batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from aif_dcpc.inference.distributions import DiscretizedNormal
from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.images.dlgm import StandardNormal
from aif_dcpc.inference.images.layers import LearnedNormal
from aif_dcpc.inference.model.graph import GraphicalModel

LIKELIHOODS = ("discretized_normal", "normal")
PRIORS = ("standard", "learned")
GROUPS = 8


def generator(
    image_shape: Sequence[int] = (3, 32, 32),
    *,
    latents: int | None = None,
    width: int | None = None,
    likelihood: str = "discretized_normal",
    scale: float = 0.1,
    prior: str = "standard",
) -> GraphicalModel:
    """Build the graph: a latent vector `z` and the site `image`.

    Args:
        image_shape: `(C, 32, 32)` or `(C, 64, 64)`; pixels lie in [0, 1].
        latents: size of z; 64 for 32 x 32 and 40 for 64 x 64 by default, as published.
        width: channels of the widest feature map, a multiple of 16; 64 by default.
        likelihood: "discretized_normal" (256 levels) or "normal", with one learned scale.
        scale: standard deviation of a pixel to start with.
        prior: of z: "standard" normal, as published, or a "learned" normal. The first layer is
            linear, so that both describe the same images; but a decoder that spreads its latents
            wider than the prior takes very long to be called back by it, where a learned prior
            follows at once (parameter expansion: Liu, Rubin and Wu 1998).

    Raises:
        ModelError: another size, width, likelihood or prior.
    """
    channels, height, side = image_shape
    if height != side or side not in (32, 64):
        raise ModelError(
            f"generator: expected images of 32 x 32 or 64 x 64 pixels, found {height} x {side}."
        )
    width = width or 64
    if width % (2 * GROUPS):
        raise ModelError(f"generator: width={width}, expected a multiple of {2 * GROUPS}.")
    if prior not in PRIORS:
        raise ModelError(f"generator: prior {prior!r}, expected one of {', '.join(PRIORS)}.")
    size = latents or (64 if side == 32 else 40)
    body = _body_32(size, width, channels) if side == 32 else _body_64(size, width, channels)
    model = GraphicalModel()
    model.add_site("z", StandardNormal(size) if prior == "standard" else LearnedNormal(size))
    model.add_site("image", ConvolutionalKernel(body, likelihood, scale), parents=["z"])
    return model


class ConvolutionalKernel(nn.Module):
    """p(image | z) with means from a network and one learned scale.

    Args:
        body: `(N, latents)` to `(N, C, H, W)`; a tanh squashes what it gives.
        likelihood: one of `LIKELIHOODS`.
        scale: standard deviation to start with.
    """

    def __init__(self, body: nn.Module, likelihood: str, scale: float) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise ModelError(
                f"likelihood {likelihood!r}: expected one of {', '.join(LIKELIHOODS)}."
            )
        # channels last: a fifth faster on CPUs
        self.body = body.to(memory_format=torch.channels_last)
        self.likelihood = likelihood
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())

    def forward(self, z: Tensor) -> Distribution:
        """The pixels' law given z `(*batch, latents)`."""
        mean = 0.5 + 0.5 * torch.tanh(self.body(z.flatten(0, -2)))
        mean = mean.unflatten(0, z.shape[:-1])
        if self.likelihood == "normal":
            return Independent(Normal(mean, self.log_scale.exp()), 3)
        return Independent(DiscretizedNormal(mean, self.log_scale.exp(), levels=256), 3)


def _body_64(latents: int, width: int, channels: int) -> nn.Module:
    half = width // 2
    return nn.Sequential(
        nn.Linear(latents, 256),
        nn.SiLU(),
        nn.Unflatten(-1, (256, 1, 1)),
        *_up(256, width, stride=1),
        *_up(width, width),
        *_up(width, half),
        *_up(half, half),
        nn.ConvTranspose2d(half, channels, 4, stride=2, padding=1),
    )


def _up(inputs: int, outputs: int, *, stride: int = 2) -> tuple[nn.Module, ...]:
    """A transposed convolution: from 1 x 1 to 4 x 4 pixels with stride 1, doubling with stride 2."""
    convolution = nn.ConvTranspose2d(
        inputs, outputs, 4, stride=stride, padding=0 if stride == 1 else 1
    )
    return convolution, nn.GroupNorm(GROUPS, outputs), nn.SiLU()


def _body_32(latents: int, width: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(latents, width * 16 * 16),
        nn.Unflatten(-1, (width, 16, 16)),
        Residual(width),
        Residual(width),
        *_up(width, width),
        nn.Conv2d(width, channels, 3, padding=1),
    )


class Residual(nn.Module):
    """A residual block: x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x `(N, width, H, W)`."""
        result: Tensor = x + self.inner(x)
        return result
