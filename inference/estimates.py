"""What an engine is asked once there is a cloud, or data: marginals, predictions, evidence, draws.

Each question is a module of `queries`, `smc` or `arrival`; here stands its door.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from aif_dcpc.inference.arrival.draws import Draws
from aif_dcpc.inference.arrival.sample import sample
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import Info, State
from aif_dcpc.inference.moves.forward_backward import marginals
from aif_dcpc.inference.queries.evidence import Evidence, estimate_evidence
from aif_dcpc.inference.queries.imagination import imagine
from aif_dcpc.inference.queries.law import law
from aif_dcpc.inference.queries.predictions import counterfactual, forecast, predict
from aif_dcpc.inference.sampler import Sampler
from aif_dcpc.inference.smc.tempering import temper


class Estimates(Sampler):
    """The doors to what an engine estimates; the engine itself does the sweeps."""

    def marginals(self, state: State, site: str) -> Tensor:
        """Return exact probabilities of a discrete site's values, `(K, B, [T,] M)`."""
        with no_validation(), torch.no_grad():
            return marginals(state, site)

    def law(self, state: State, site: str) -> Distribution:
        """Return p(site | parents) at the particles, batch shape `(K, B, [T])` (see `law.law`)."""
        return law(state, site)

    def forecast(
        self, state: State, inputs: Mapping[str, Tensor] | None = None, *, length: int | None = None
    ) -> dict[str, Tensor]:
        """Draw H future slices of every site at every particle (see `predictions.forecast`)."""
        with no_validation(), torch.no_grad():
            return forecast(state, inputs, length=length, generator=self.generator)

    def imagine(
        self,
        state: State,
        actions: Mapping[str, Tensor],
        sites: Sequence[str] | None = None,
        *,
        inputs: Mapping[str, Tensor] | None = None,
        log_prob: Sequence[str] = (),
        cross_log_prob: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Draw what follows from N sequences of actions, `(K, N, H, *event)` (see `imagination.imagine`)."""
        with no_validation(), torch.no_grad():
            return imagine(
                state,
                actions,
                sites,
                inputs=inputs,
                log_prob=log_prob,
                cross_log_prob=cross_log_prob,
                generator=generator or self.generator,
            )

    def predict(self, state: State) -> dict[str, Tensor]:
        """Draw every observed site anew at the particles (see `predictions.predict`)."""
        with no_validation(), torch.no_grad():
            return predict(state, self.generator)

    def counterfactual(self, state: State, do: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what would have been, had sites been set (see `predictions.counterfactual`)."""
        with no_validation(), torch.no_grad():
            return counterfactual(state, do, self.generator)

    def log_evidence(self, data: Mapping[str, Tensor], **options: Any) -> Tensor:
        """Return log p(data), `(B,)` nats, or `(1,)` with global latents (see `evidence`)."""
        return self.evidence(data, **options).log_evidence

    def evidence(self, data: Mapping[str, Tensor], **options: Any) -> Evidence:
        """Return log p(data) with its quality (options: those of `estimate_evidence`)."""
        return estimate_evidence(self, data, **options)

    def sample(
        self,
        data: Mapping[str, Tensor] | None = None,
        *,
        masks: Mapping[str, Tensor] | None = None,
        do: Mapping[str, Tensor] | None = None,
        batch_size: int | None = None,
        length: int | None = None,
        num_particles: int | None = None,
        max_seconds: float = 30.0,
        seed: int | None = None,
        progress: bool | None = None,
    ) -> Draws:
        """Draw from the posterior in one call: start, warm up until mixed, draw, diagnose.

        All continuous latents move as one block, by Hamiltonian trajectories in declared and in
        standardised coordinates in turn; discrete sites, and sites with a move or a conditional of
        the user's, by their own moves in between. Where the draws do not look as they should, the
        block warms up once more with longer trajectories; what still does not is said.

        Slow chains go on for as long as `max_seconds` allows, and every second, every fourth ... draw
        is kept. What cannot be seen: a mode that no start climbs to, and a spike that no trajectory
        crosses, as one that is narrow in several directions at once.

        Args:
            data, masks, do, batch_size, length: as in `init`.
            num_particles: K; by default 32 to 128, by what one gradient costs.
            max_seconds: processor time after which warming up and drawing end; twice that where
                the block had to warm up again.
            seed: seeds the engine's generator.
            progress: shows how far it has come on standard error: None for a bar on a terminal and a
                line a minute elsewhere.

        Returns:
            draws `(S, K, B, [T,] *event)` by site, their diagnosis and warnings (print it).

        Warns:
            ConvergenceWarning: one sentence for each thing that stands against the draws.
        """
        setup = {"masks": masks, "do": do, "batch_size": batch_size, "length": length}
        return sample(
            self,
            data,
            num_particles=num_particles,
            max_seconds=max_seconds,
            seed=seed,
            progress=progress,
            **setup,
        )

    def temper(
        self, data: Mapping[str, Tensor] | None = None, **options: Any
    ) -> tuple[State, Info]:
        """Draw a cloud by tempering, for multimodal posteriors (options: `tempering.temper`)."""
        return temper(self, data, **options)
