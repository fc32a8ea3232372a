"""Images with labels of which some are missing: the latents of an image model explain the image and its label.

p(label | z) is a linear read-out of the layer above the pixels. A missing label is simply not scored, so that labelled
and unlabelled images learn the same graph; a new image is classified by joint inference: its particles are inferred from
the pixels, and the label's probabilities are averaged over them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from aif_dcpc.inference.graph import GraphicalModel
from aif_dcpc.inference.images.dlgm import PUBLISHED_SIZES, dlgm
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
