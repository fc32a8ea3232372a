"""Features of a state and an action: a constant, the values themselves, and random Fourier waves.

    phi(z) = (1, z, sqrt(2 / R) cos(z @ frequencies / lengthscales + phases))

of normalised inputs z. A Gaussian prior of weights on the waves is a Gaussian process with a
squared exponential kernel, up to the error of R waves (Rahimi, Recht 2007, "Random features for
large-scale kernel machines").
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

REACH = 10.0  # standard deviations beyond which the linear part goes on level


@dataclass(frozen=True, kw_only=True)
class Scales:
    """How large inputs and changes are.

    Attributes:
        centre, spread: of inputs, `(I,)`, in their own units.
        change: of what is predicted, `(D,)`, in its own units.
    """

    centre: Tensor
    spread: Tensor
    change: Tensor


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Prior of smoothness, in units of `Scales`.

    Attributes:
        lengthscales: `(I,)`, by how much an input must change for a prediction to turn around.
        linear, waves: 0-dim, prior standard deviation of the linear part and of the rest, each
            relative to the noise.
    """

    lengthscales: Tensor
    linear: Tensor
    waves: Tensor

    @classmethod
    def default(cls, num_inputs: int) -> Self:
        """Prior guess, before any data: smooth over three standard deviations."""
        tensor = torch.full((num_inputs,), 3.0, dtype=torch.double)
        return cls(lengthscales=tensor, linear=_number(10.0), waves=_number(10.0))


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.double)


class Features(nn.Module):
    """Features of rows of inputs, whose scales and smoothness are learned from outside.

    Args:
        num_inputs: I, of state and action together.
        num_outputs: D, of what is predicted.
        num_waves: R.
        generator: draws the directions of the waves.
    """

    base: Tensor
    phases: Tensor
    projection: Tensor
    offset: Tensor
    centre: Tensor
    spread: Tensor
    change: Tensor
    prior_scale: Tensor

    def __init__(
        self, num_inputs: int, num_outputs: int, num_waves: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.num_inputs = num_inputs
        self.num_waves = num_waves
        self.register_buffer("base", orthogonal_frequencies(num_inputs, num_waves, generator))
        phases = torch.rand(num_waves, generator=generator, dtype=torch.double)
        self.register_buffer("phases", 2 * math.pi * phases)
        ones = torch.ones(num_inputs, dtype=torch.double)
        change = torch.ones(num_outputs, dtype=torch.double)
        self.set(
            Scales(centre=0 * ones, spread=ones, change=change),
            Shape.default(num_inputs),
        )

    @property
    def num_features(self) -> int:
        """F = 1 + I + R."""
        return 1 + self.num_inputs + self.num_waves

    def set(self, scales: Scales, shape: Shape) -> None:
        """Take other scales and another smoothness; weights of the old ones lose their meaning."""
        projection = self.base / (shape.lengthscales * scales.spread)[:, None]
        buffers = {
            "centre": scales.centre,
            "spread": scales.spread,
            "change": scales.change,
            "projection": projection,
            "offset": self.phases - scales.centre @ projection,
            "prior_scale": prior_scale(shape, self.num_inputs, self.num_waves),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.detach().clone())
        self.scales = scales
        self.shape = shape

    def forward(self, inputs: Tensor) -> Tensor:
        """Features `(..., F)` of inputs `(..., I)` in their own units, in the inputs' dtype."""
        dtype = inputs.dtype
        ones = inputs.new_ones(*inputs.shape[:-1], 1)
        linear = (inputs - self.centre.to(dtype)) / self.spread.to(dtype)
        linear = linear.clamp(-REACH, REACH)
        angles = inputs @ self.projection.to(dtype) + self.offset.to(dtype)
        waves = math.sqrt(2 / self.num_waves) * angles.cos()
        return torch.cat([ones, linear, waves], -1)


def prior_scale(shape: Shape, num_inputs: int, num_waves: int) -> Tensor:
    """Prior standard deviations of the weights relative to the noise, `(F,)`."""
    linear = shape.linear.expand(1 + num_inputs)
    return torch.cat([linear, shape.waves.expand(num_waves)])


def orthogonal_frequencies(num_inputs: int, num_waves: int, generator: torch.Generator) -> Tensor:
    """Draw frequencies N(0, 1), `(I, R)`, in blocks at right angles to each other.

    They cover the space more evenly than independent ones (Yu et al. 2016, "Orthogonal random
    features").
    """
    blocks = []
    for _ in range(-(-num_waves // num_inputs)):
        square = torch.randn(num_inputs, num_inputs, generator=generator, dtype=torch.double)
        lengths = torch.randn(num_inputs, num_inputs, generator=generator, dtype=torch.double)
        blocks.append(torch.linalg.qr(square).Q * lengths.norm(dim=0))
    return torch.cat(blocks, 1)[:, :num_waves]


def inputs_of(state: Tensor, action: Tensor, num_actions: int | None) -> Tensor:
    """Join states `(..., D)` and actions; those of `num_actions` kinds `(...)` one-hot, others `(..., A)`."""
    if num_actions is not None:
        action = one_hot(action.long(), num_actions)
    action = action.to(state.dtype)
    shape = torch.broadcast_shapes(state.shape[:-1], action.shape[:-1])
    state = state.expand(*shape, state.shape[-1])
    return torch.cat([state, action.expand(*shape, action.shape[-1])], -1)
