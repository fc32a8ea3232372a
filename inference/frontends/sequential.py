"""A feed-forward network as a graphical model: a Gaussian latent after every layer but the last.

    >>> import torch
    >>> from torch import nn
    >>> from torch.distributions import Categorical
    >>> from aif_dcpc.inference import DCPC, GraphicalModel
    >>> net = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.Tanh()), nn.Linear(8, 3))
    >>> def output(logits):
    ...     return Categorical(logits=logits)
    >>> model = GraphicalModel.from_sequential(net, 0.1, output=output)
    >>> model.order
    ('input', 'layer1', 'output')
    >>> data = {"input": torch.zeros(5, 4), "output": torch.zeros(5).long()}
    >>> state = DCPC(model, num_particles=2).init(data)
    >>> state.particles["layer1"].shape
    torch.Size([2, 5, 8])

Clamp input and output, sweep, and learn with `learning.learn_step`: each layer's parameters follow
the prediction error of their own latent, so nothing is propagated backwards through the network. A
first cloud is the forward pass with noise. In the limit of small noise and of converged sweeps the
update is that of backpropagation, scaled by the noise variance of the layer (Whittington and Bogacz
2017); at any noise it ascends log p(output | input) of the noisy network.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.model.graph import GraphicalModel

Head = Callable[[Tensor], Distribution]
COUPLING = (nn.modules.batchnorm._BatchNorm,)
RANDOM = (nn.modules.dropout._DropoutNd,)


class LayerKernel(nn.Module):
    """p(value | parent) around the output of one layer.

    Args:
        layer: takes `(N, *event)`.
        head: makes a distribution of the layer's output `(K, B, *event)`.
    """

    def __init__(self, layer: nn.Module, head: Head) -> None:
        super().__init__()
        self.layer = layer
        self.head = head

    def forward(self, parent: Tensor) -> Distribution:
        """The distribution given a parent `(K, B, *event)`."""
        return self.head(self.layer(parent.flatten(0, 1)).unflatten(0, parent.shape[:2]))


def gaussian(noise: float) -> Head:
    """Independent Gaussians of standard deviation `noise` around the layer's output."""

    def head(mean: Tensor) -> Distribution:
        return Independent(Normal(mean, torch.full_like(mean, noise)), mean.ndim - 2)

    return head


def from_sequential(
    net: nn.Sequential, noise: float | Sequence[float], *, output: Head | None = None
) -> GraphicalModel:
    """Put Gaussian latents between a network's layers (see `GraphicalModel.from_sequential`)."""
    layers = list(net)
    scales = [noise] * len(layers) if isinstance(noise, float | int) else list(noise)
    if not layers or len(scales) != len(layers):
        raise ModelError(
            f"from_sequential: expected one noise per layer, {len(layers)}, found {len(scales)}."
        )
    if min(scales) <= 0:
        raise ModelError(
            f"from_sequential: noise {min(scales)}: expected positive standard deviations."
        )
    for place, layer in enumerate(layers):
        _check_layer(place, layer)
    model = GraphicalModel()
    model.add_input("input", scope="episode")
    parent = "input"
    for place, (layer, scale) in enumerate(zip(layers, scales, strict=True), start=1):
        last = place == len(layers)
        name = "output" if last else f"layer{place}"
        head = output if last and output is not None else gaussian(float(scale))
        model.add_site(name, LayerKernel(layer, head), [parent])
        parent = name
    return model


def _check_layer(place: int, layer: nn.Module) -> None:
    for module in layer.modules():
        if isinstance(module, COUPLING):
            raise ModelError(
                f"from_sequential: layer {place} holds {type(module).__name__}, which couples the "
                "data of a batch, so that no datum has a posterior of its own; use GroupNorm or "
                "LayerNorm."
            )
        if isinstance(module, RANDOM) and module.p > 0:
            raise ModelError(
                f"from_sequential: layer {place} holds {type(module).__name__}, so its density "
                "would differ from call to call; leave it out: the latents' noise does its work."
            )
