"""Images with labels of which some are missing: the latents of an image model explain the image and its label.

A missing label is simply not scored, so that labelled and unlabelled images learn the same graph; a
new image is classified by joint inference: its particles are inferred from the pixels, and the
label's probabilities are averaged over them. `labelled_dlgm` reads the label off the layer above
the pixels; `labelled_embedding` has one wide embedding between two networks, whose particles mix
within some dozens of sweeps. In `class_embedding` the label comes first: images of a class lie
together, which tells more than a few labels can, and a class can be drawn.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution
from torch.nn.functional import one_hot

from aif_dcpc.inference.images.dlgm import PUBLISHED_SIZES, StandardNormal, dlgm
from aif_dcpc.inference.images.layers import GreyBernoulli, WhitenedNormal, image_logits
from aif_dcpc.inference.model.graph import GraphicalModel
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.queries.law import law


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


def class_embedding(
    num_classes: int,
    image_shape: Sequence[int] = (1, 28, 28),
    *,
    latents: int = 12,
    hidden: int = 256,
) -> GraphicalModel:
    """A class, an embedding from the Gaussian of the class, and an image.

    label ~ Categorical(1 / num_classes);  embedding ~ Normal(mean_label, covariance_label);
    image ~ Bernoulli pixels(embedding), through a network with one hidden layer. A missing label is a latent (Kingma,
    Mohamed, Rezende, Welling 2014, arXiv 1406.5298, learn with such latents by amortised variational inference).

    Args:
        num_classes: labels 0 .. num_classes - 1.
        image_shape: `(C, H, W)`; pixels lie in [0, 1].
        latents: size of the embedding; few, for Gaussians with full covariances stand in it.
        hidden: units between the embedding and the pixels.
    """
    model = GraphicalModel()
    model.add_site("label", UniformLabel(num_classes))
    model.add_site("embedding", ClassGaussians(num_classes, latents), parents=["label"])
    model.add_site("image", PixelNetwork(latents, hidden, image_shape), parents=["embedding"])
    return model


class UniformLabel(nn.Module):
    """p(label), the same for all classes."""

    logits: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("logits", torch.zeros(num_classes), persistent=False)

    def forward(self) -> Distribution:
        """The prior of a label."""
        return Categorical(logits=self.logits, validate_args=False)


class ClassGaussians(nn.Module):
    """p(z | label) = Normal(mean_label, covariance_label), each with a full covariance.

    Standard normal at first.

    Args:
        num_classes: number of Gaussians.
        size: D, of z.
    """

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(num_classes, size))
        self.log_scale = nn.Parameter(torch.zeros(num_classes, size))
        self.lower_scale = nn.Parameter(
            torch.zeros(num_classes, size, size)
        )  # strictly lower part of the whitening

    def forward(self, label: Tensor) -> Distribution:
        """The law of z given labels `(*batch)`."""
        whitening = self.lower_scale.tril(-1) + torch.diag_embed((-self.log_scale).exp())
        return WhitenedNormal(self.mean[label], whitening[label])

    @torch.no_grad()
    def start(self, z: Tensor, labels: Tensor, *, ridge: float = 0.05) -> None:
        """Set means to those of each class, and all covariances to the common one within classes.

        Args:
            z: `(N, D)`.
            labels: `(N,)`, every class at least once.
            ridge: added to the variances.
        """
        chosen = one_hot(labels, self.mean.shape[0]).to(z.dtype)
        self.mean.copy_(chosen.mT @ z / chosen.sum(0).unsqueeze(-1))
        away = z - self.mean[labels]
        covariance = away.mT @ away / max(len(z) - len(self.mean), 1) + ridge * torch.eye(
            z.shape[-1], dtype=z.dtype, device=z.device
        )
        whitening = torch.linalg.inv(torch.linalg.cholesky(covariance))
        self.log_scale.copy_(-whitening.diagonal().log().expand_as(self.log_scale))
        self.lower_scale.copy_(whitening.tril(-1).expand_as(self.lower_scale))


class PixelNetwork(nn.Module):
    """p(image | z): independent grey pixels with logits W relu(V z + c) + b."""

    def __init__(self, inputs: int, hidden: int, image_shape: Sequence[int]) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.hidden = nn.Linear(inputs, hidden)
        self.linear = nn.Linear(hidden, int(torch.Size(self.image_shape).numel()))

    def forward(self, z: Tensor) -> Distribution:
        """The pixels' law given z `(*batch, inputs)`."""
        return GreyBernoulli(
            image_logits(self.linear(torch.relu(self.hidden(z))), self.image_shape)
        )


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
    labels: Any = law(state, site)
    return (labels.probs * state.weights().unsqueeze(-1)).sum(0)
