"""Images of which only some pixels are seen: the graph with a likelihood of the visible pixels alone."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.images.layers import GreyBernoulli
from aif_dcpc.inference.model.graph import GraphicalModel


class VisiblePixels(Distribution):
    """A law of images scored on visible pixels only.

    Args:
        law: of whole images, pixels independent given its parameters.
        visible: `(C, H, W)`, 1 where a pixel is seen, else 0.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, law: Distribution, visible: Tensor) -> None:
        self.law = law
        self.visible = visible
        super().__init__(law.batch_shape, law.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Mean of all pixels, `(*batch, C, H, W)`."""
        return self.law.mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> "VisiblePixels":
        """The same law for more data."""
        return VisiblePixels(self.law.expand(batch_shape), self.visible)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw whole images, hidden pixels included."""
        return self.law.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the visible pixels, `(*batch)`."""
        if isinstance(self.law, GreyBernoulli):
            pixels = self.law.pixel_log_prob(value)
        elif isinstance(self.law, Independent):
            pixels = self.law.base_dist.log_prob(value)
        else:
            raise ModelError(
                f"visible pixels: {type(self.law).__name__} does not score pixels one by one."
            )
        return (pixels * self.visible).flatten(-3).sum(-1)


class VisibleKernel(nn.Module):
    """A kernel of images that scores visible pixels only."""

    visible: Tensor

    def __init__(self, kernel: Callable[..., Distribution], visible: Tensor) -> None:
        super().__init__()
        self.kernel = kernel
        self.register_buffer("visible", visible, persistent=False)

    def forward(self, *parents: Tensor) -> Distribution:
        """The law of visible pixels."""
        return VisiblePixels(self.kernel(*parents), self.visible)


def with_visible(model: GraphicalModel, site: str, visible: Tensor) -> GraphicalModel:
    """The same graph and parameters, the pixels of `site` seen only where `visible` `(C, H, W)` is 1."""
    masked = GraphicalModel()
    for name, declared in model.sites.items():
        kernel: Any = declared.kernel
        if name == site:
            kernel = VisibleKernel(kernel, visible)
        masked.add_site(
            name, kernel, declared.parents, initial=declared.initial, scope=declared.scope
        )
    return masked
