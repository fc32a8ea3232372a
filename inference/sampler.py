"""What estimators ask of an engine: clouds, sweeps, and another number of particles.

Annealing, tempering and evidence are written against this protocol; `DCPC` is the sampler that they
are given.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from aif_dcpc.inference.model.state import Info, State

Readout = Callable[[State], Mapping[str, Tensor]]


class Sampler(Protocol):
    """An engine that draws clouds and sweeps them.

    Attributes:
        num_particles: K.
        warmup: sweeps during which moves adapt.
        generator: source of all randomness; None before the first cloud.
    """

    num_particles: int
    warmup: int
    generator: torch.Generator | None

    def with_num_particles(self, num_particles: int) -> Self:
        """Return the same engine with another number of particles and exact moves."""
        ...

    def init(
        self,
        data: Mapping[str, Tensor] | None = None,
        *,
        masks: Mapping[str, Tensor] | None = None,
        do: Mapping[str, Tensor] | None = None,
        batch_size: int | None = None,
        length: int | None = None,
        seed: int | None = None,
    ) -> State:
        """Draw a cloud from the prior, data clamped."""
        ...

    def sweep(
        self,
        state: State,
        generator: torch.Generator | None = None,
        *,
        adapt: bool | None = None,
        log_joint: bool = True,
    ) -> tuple[State, Info]:
        """Update every latent once; `log_joint=False` leaves `Info.log_joint` None."""
        ...

    def run(
        self,
        state: State,
        num_sweeps: int,
        generator: torch.Generator | None = None,
        *,
        record: Sequence[str] | Readout = (),
        adapt: bool | None = None,
    ) -> tuple[State, Info]:
        """Run `num_sweeps` sweeps; return the final cloud and diagnostics."""
        ...
