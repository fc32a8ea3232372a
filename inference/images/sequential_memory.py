"""A sequence of images as a path of a latent state: memorised by learning, recalled from its first image.

    z_0 ~ Normal(0, I);  z_t ~ Normal(transition(z_{t-1}), noise^2 I);  image_t ~ Normal(decode(z_t), scale^2)

The memory is the weights alone. Learned from particles that wander about the path, the transition
must bring what is a little off back onto it, which is what recall from a damaged cue needs::

    state = engine.init({"image": cue[:, None]})       # one slice
    state, _ = engine.run(state, 200)
    engine.forecast(state, length=9)["image"]          # (K, B, 9, *image_shape)

Related: Tang, Barron, Bogacz (2023), "Sequential memory with temporal predictive coding", arXiv
    2305.11982.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from aif_dcpc.inference.images.dlgm import StandardNormal
from aif_dcpc.inference.model.graph import GraphicalModel, lag


def sequential_memory(
    image_shape: Sequence[int] = (1, 28, 28),
    *,
    latents: int = 32,
    hidden: int = 256,
    noise: float = 0.2,
    scale: float = 0.1,
) -> GraphicalModel:
    """Build the graph: the latent site `state` and the site `image`, both with time.

    Args:
        image_shape: of one image.
        latents: size of the state.
        hidden: units of the transition and of the decoder.
        noise: standard deviation of the state around the transition.
        scale: standard deviation of a pixel.
    """
    model = GraphicalModel()
    model.add_site(
        "state", Transition(latents, hidden, noise), parents=[lag("state")],
        initial=StandardNormal(latents), scope="slice",
    )  # fmt: skip
    model.add_site(
        "image",
        Decoder(latents, hidden, tuple(image_shape), scale),
        parents=["state"],
        scope="slice",
    )
    return model


class Transition(nn.Module):
    """p(state | state before): a Gaussian around a network with one hidden layer."""

    def __init__(self, latents: int, hidden: int, noise: float) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(latents, hidden), nn.Tanh(), nn.Linear(hidden, latents)
        )
        self.noise = noise

    def forward(self, before: Tensor) -> Distribution:
        """`(*batch, latents)` given the same."""
        return Independent(Normal(self.network(before), self.noise), 1)


class Decoder(nn.Module):
    """p(image | state): a Gaussian around a network with one hidden layer, pixels in (0, 1)."""

    def __init__(
        self, latents: int, hidden: int, image_shape: tuple[int, ...], scale: float
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.scale = scale
        self.network = nn.Sequential(
            nn.Linear(latents, hidden),
            nn.Tanh(),
            nn.Linear(hidden, math.prod(image_shape)),
            nn.Sigmoid(),
        )

    def forward(self, state: Tensor) -> Distribution:
        """`(*batch, *image_shape)` given `state (*batch, latents)`."""
        return Independent(
            Normal(self.network(state).unflatten(-1, self.image_shape), self.scale),
            len(self.image_shape),
        )
