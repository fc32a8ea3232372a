"""The deep latent Gaussian model of the paper's MNIST experiments.

z1 ~ Normal(0, I);  z_{l+1} ~ Normal(W_l relu(z_l) + b_l, Sigma_l);  image ~ pixels(W relu(z_L) + b), with 20, 128 and
256 latents and 28 x 28 pixels as published (arXiv 2408.05834, section 5.1; Rezende, Mohamed, Wierstra 2014).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import ContinuousBernoulli, Distribution, Independent, Normal

from aif_dcpc.inference.distributions import DiscretizedNormal
from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.images.layers import GaussianLayer, GreyBernoulli, image_logits
from aif_dcpc.inference.model.graph import GraphicalModel

LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "discretized_normal")
PUBLISHED_SIZES = (20, 128, 256)


def dlgm(
    sizes: Sequence[int] = PUBLISHED_SIZES,
    image_shape: Sequence[int] = (1, 28, 28),
    *,
    covariance: str = "full",
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> GraphicalModel:
    """Build the graph: latent sites z1, z2, ... and the site `image`.

    Args:
        sizes: number of latents of each level, the most abstract first.
        image_shape: `(C, H, W)`; pixels lie in [0, 1].
        covariance: of the levels below the first: "full" (as published), "low_rank" or "diagonal".
        likelihood: "bernoulli", "continuous_bernoulli" or "discretized_normal" (one learned scale).
        levels: grey levels of the discretised normal.

    Raises:
        ModelError: no level, or an unknown likelihood.
    """
    if not sizes:
        raise ModelError("dlgm: expected at least one level of latents, e.g. sizes=(20, 128, 256).")
    model = GraphicalModel()
    model.add_site("z1", StandardNormal(sizes[0]))
    for level, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        layer = GaussianLayer(inputs, outputs, covariance=covariance)
        model.add_site(f"z{level + 1}", layer, parents=[f"z{level}"])
    model.add_site(
        "image", PixelLayer(sizes[-1], image_shape, likelihood, levels), parents=[f"z{len(sizes)}"]
    )
    return model


class StandardNormal(nn.Module):
    """p(z) = Normal(0, I) in `size` dimensions."""

    zero: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(size), persistent=False)

    def forward(self) -> Distribution:
        """The prior, whatever the data."""
        return Independent(Normal(self.zero, torch.ones_like(self.zero)), 1)


class PixelLayer(nn.Module):
    """p(image | z): logits of the pixels' means are W relu(z) + b."""

    def __init__(
        self, inputs: int, image_shape: Sequence[int], likelihood: str, levels: int = 256
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise ModelError(
                f"likelihood {likelihood!r}: expected one of {', '.join(LIKELIHOODS)}."
            )
        self.image_shape = tuple(image_shape)
        self.likelihood = likelihood
        self.levels = levels
        if likelihood == "discretized_normal":
            self.log_scale = nn.Parameter(torch.tensor(-1.5))
        self.linear = nn.Linear(inputs, int(torch.Size(self.image_shape).numel()))

    def forward(self, z: Tensor) -> Distribution:
        """The pixels' law given z `(*batch, inputs)`."""
        logits = image_logits(self.linear(torch.relu(z)), self.image_shape)
        if self.likelihood == "bernoulli":
            return GreyBernoulli(logits)
        if self.likelihood == "discretized_normal":
            pixels = DiscretizedNormal(
                torch.sigmoid(logits), self.log_scale.exp(), levels=self.levels
            )
            return Independent(pixels, 3)
        return Independent(ContinuousBernoulli(logits=logits, validate_args=False), 3)
