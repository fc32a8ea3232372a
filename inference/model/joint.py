"""The log joint of a block as one function of its vector, with its gradient: recorded once, replayed flat.

The gradient of the log joint at a chain's vector is the prediction error of all its sites side by
side. Kernels are Python; what they compute is a fixed graph of tensor operations for given shapes,
so it is recorded once (kernels, change of coordinates and backward pass together) and replayed
without distributions or autograd. Where a kernel cannot be recorded, it is called every time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.definite import NaNWhereNotDefinite
from aif_dcpc.inference.model.densities import (
    active_factors,
    aligned_inputs,
    factor_slices,
    log_density,
)
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.replay import replayed
from aif_dcpc.inference.model.state import State

Chart = Literal["declared", "standardised"]


def block_log_joint(state: State, block: Block, declared: Tensor) -> Tensor:
    """log p(data, block, other latents) at declared coordinates `(K, G, D)`, `(K, G)` nats."""
    values = {**state.values, **block.unflatten(declared)}
    total = declared.new_zeros(declared.shape[:2])
    for factor in active_factors(state):
        inputs = aligned_inputs(state, factor, values)
        part = log_density(state, factor, inputs, *factor_slices(state, factor))
        part = part if part.ndim == 2 else part.sum(2)
        total = total + (part.sum(1, keepdim=True) if block.is_coupled else part)
    return total


@dataclass(frozen=True)
class JointDensity:
    """Log density and score of a block in one chart.

    Attributes:
        block: which sites, of which cloud.
        chart: the coordinates of the vector.
    """

    block: Block
    chart: Chart

    def log_prob(self, flat: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """Log density in this chart, `(K, G)` nats; that of idle coordinates is part of it.

        NaN where a kernel's covariance is not positive definite.
        """
        state = self.block.state.with_values(others)
        block = replace(self.block, state=state)
        idle = block.idle_log_prob(flat)
        with NaNWhereNotDefinite():
            if self.chart == "declared":
                return block_log_joint(state, block, flat) + idle
            declared, log_det = block.to_declared(flat)
            return block_log_joint(state, block, declared) + log_det + idle

    def value_and_score(self, flat: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        """Log density `(K, G)` and its gradient `(K, G, D)`, by one autograd call.

        `others` are the latents outside the block, in the order of `block.outside`.
        """
        named = dict(zip(self.block.outside, others, strict=True))
        with torch.enable_grad():
            place = flat.detach().requires_grad_()
            log_prob = self.log_prob(place, named)
            (score,) = torch.autograd.grad(log_prob.sum(), place)
        return log_prob.detach(), score

    def recorded(
        self, flat: Tensor, *, compiles: bool = False
    ) -> Callable[..., tuple[Tensor, ...]]:
        """`value_and_score` for vectors of this shape, as a flat graph where that can be had."""
        with no_validation():
            others = self.block.others()
            return replayed(self.value_and_score, flat, *others, compiles=compiles)


def recorded_map(block: Block, chart: Chart, example: Tensor) -> Callable[..., tuple[Tensor, ...]]:
    """How vectors arrive at a chart from the other one, given the latents outside the block.

    The way to declared coordinates gives log |det| `(K, G)` as well.
    """

    def change(vector: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        held = block.state.with_values(dict(zip(block.outside, others, strict=True)))
        here = replace(block, state=held)
        with NaNWhereNotDefinite():
            if chart == "declared":
                return here.to_declared(vector)
            return (here.to_standardised(vector),)

    with no_validation():
        return replayed(change, example, *block.others())
