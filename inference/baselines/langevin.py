"""Published relatives of the engine's sweep: every latent moves at once along the gradient of the log joint.

    z' = z + step * grad_z log p(x, z) + sqrt(2 step temperature) * noise,    no accept/reject

- PGD, particle gradient descent (Kuntz, Lim, Johansen 2023, arXiv 2204.12965): K particles per
  data point that persist, one noisy step before each step of the parameters.
- MCPC, Monte Carlo predictive coding (Oliviers, Bogacz, Meulemans 2024, arXiv 2402.19384):
  particles started afresh for every batch, many noisy steps, then one step of the parameters.
- MAP predictive coding (Rao and Ballard 1999; Whittington and Bogacz 2017): as MCPC without noise.

`UnadjustedLangevin` is used in the place of the engine, so that graph, learner and stores are the
very same.
"""

import math

import torch
from torch import Tensor

from aif_dcpc.inference.engine import DCPC
from aif_dcpc.inference.model.densities import fill_cache, is_continuous, prediction_error
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import State


class UnadjustedLangevin(DCPC):
    """An engine whose sweep moves all latents together, without accept/reject: biased by its step size.

    Args:
        engine: gives the model, the number of particles and the seed.
        step: size of the step.
        temperature: 1 for sampling, 0 for climbing to a mode.
        inner_steps: steps per sweep.
        persistent: whether particles go on from where they were, or start afresh from the prior at
            each sweep.
    """

    def __init__(
        self,
        engine: DCPC,
        *,
        step: float,
        temperature: float = 1.0,
        inner_steps: int = 1,
        persistent: bool = True,
    ) -> None:
        super().__init__(engine.model, num_particles=engine.num_particles, seed=engine.seed)
        self.step_size = step
        self.temperature = temperature
        self.inner_steps = inner_steps
        self.persistent = persistent

    def _update_latents(
        self, state: State, generator: torch.Generator | None, adapt: bool | None
    ) -> tuple[State, dict[str, Tensor]]:
        """Make `inner_steps` steps of all latents; nothing is ever rejected."""
        with no_validation(), torch.no_grad():
            if not self.persistent:
                state = state.with_values(self._afresh(state))
            for _ in range(self.inner_steps):
                state = self._move(state, generator or self.generator)
        return state.replace(sweeps=state.sweeps + 1), {}

    def _afresh(self, state: State) -> dict[str, Tensor]:
        """Particles from the prior."""
        drawn = self.init(batch_size=state.batch_size).values
        return {name: drawn[name] for name in state.conditioning.latent}

    def _move(self, state: State, generator: torch.Generator | None) -> State:
        names = tuple(n for n in state.conditioning.latent if is_continuous(state.conditioning, n))
        state = fill_cache(state, names)
        scale = math.sqrt(2 * self.step_size * self.temperature)
        moved = {}
        for name in names:
            z = state.values[name]
            noise = torch.randn(z.shape, dtype=z.dtype, device=z.device, generator=generator)
            moved[name] = (
                z + self.step_size * prediction_error(state, name, state.cache) + scale * noise
            )
        return state.with_values(moved)
