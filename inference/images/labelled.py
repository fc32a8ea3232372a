"""Images with labels of which some are missing: the latents of an image model explain the image and its label.

A missing label is simply not scored, so that labelled and unlabelled images learn the same graph; a new image is
classified by joint inference: its particles are inferred from the pixels, and the label's probabilities are averaged
over them. `labelled_dlgm` reads the label off the layer above the pixels; `labelled_embedding` has one wide embedding
between two networks, whose particles mix within some dozens of sweeps.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from aif_dcpc.inference.graph import GraphicalModel
from aif_dcpc.inference.images.dlgm import PUBLISHED_SIZES, StandardNormal, dlgm
from aif_dcpc.inference.images.layers import GreyBernoulli, image_logits
from aif_dcpc.inference.state import State


def labelled_dlgm(
    num_classes: int,
    sizes: Sequence[int] = PUBLISHED_SIZES,
    image_shape: Sequence[int] = (1, 28, 28),
    **options: Any,
) -> GraphicalModel:
    """The deep latent Gaussian model with a site `label` beside `image`, both children of the last latents.

    Args:
        num_classes: labels 0 .. num_classes - 1.
        sizes, image_shape, options: as `dlgm`.
    """
    model = dlgm(sizes, image_shape, **options)
    model.add_site("label", LabelLayer(sizes[-1], num_classes), parents=[f"z{len(sizes)}"])
    return model


def labelled_embedding(
    num_classes: int,
    image_shape: Sequence[int] = (1, 28, 28),
    *,
    latents: int = 48,
    hidden: int = 256,
    label_hidden: int = 256,
) -> GraphicalModel:
    """One embedding that explains an image and its label, each through a network with one hidden layer.

    embedding ~ Normal(0, I);  image ~ Bernoulli pixels(embedding);  label ~ Categorical(softmax(net(embedding))).

    Args:
        num_classes: labels 0 .. num_classes - 1.
        image_shape: `(C, H, W)`; pixels lie in [0, 1].
        latents: size of the embedding.
        hidden, label_hidden: units between the embedding and the pixels, and the label.
    """
    model = GraphicalModel()
    model.add_site("embedding", StandardNormal(latents))
    model.add_site("image", PixelNetwork(latents, hidden, image_shape), parents=["embedding"])
    model.add_site("label", LabelNetwork(latents, label_hidden, num_classes), parents=["embedding"])
    return model


class PixelNetwork(nn.Module):
    """p(image | z): independent grey pixels with logits W relu(V z + c) + b."""

    def __init__(self, inputs: int, hidden: int, image_shape: Sequence[int]) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.hidden = nn.Linear(inputs, hidden)
        self.linear = nn.Linear(hidden, int(torch.Size(self.image_shape).numel()))

    def forward(self, z: Tensor) -> Distribution:
        """The pixels' law given z `(*batch, inputs)`."""
        return GreyBernoulli(image_logits(self.linear(torch.relu(self.hidden(z))), self.image_shape))


class LabelNetwork(nn.Module):
    """p(label | z) = Categorical(softmax(W relu(V z + c) + b))."""

    def __init__(self, inputs: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.linear = nn.Linear(hidden, num_classes)

    def forward(self, z: Tensor) -> Distribution:
        """The label's law given z `(*batch, inputs)`."""
        return Categorical(logits=self.linear(torch.relu(self.hidden(z))), validate_args=False)


class LabelLayer(nn.Module):
    """p(label | z) = Categorical(softmax(W relu(z) + b))."""

    def __init__(self, inputs: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, num_classes)

    def forward(self, z: Tensor) -> Distribution:
        """The label's law given z `(*batch, inputs)`."""
        return Categorical(logits=self.linear(torch.relu(z)), validate_args=False)


@torch.no_grad()
def class_probabilities(state: State, site: str = "label") -> Tensor:
    """p(label | data) averaged over particles, `(B, num_classes)`; rows sum to one."""
    factor = next(f for f in state.problem.lowered.factors if f.site.name == site)
    law: Any = factor.distribution({leaf: state.natural[leaf.site] for leaf in factor.inputs})
    return (law.probs * state.weights().unsqueeze(-1)).sum(0)
