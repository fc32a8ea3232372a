"""Tempering for multimodal posteriors: a cloud of whole particles carried from the prior to the posterior.

Local moves never hop between distant modes, so a cloud keeps the mode weights that it started with.
Here the cloud follows p(latents) p(data | latents)^b from b = 0 to 1 (sequential Monte Carlo
sampler; Del Moral, Doucet, Jasra 2006): at each inverse temperature whole lineages are resampled in
proportion to the likelihood's increment, all sites of a particle together, and swept. Modes are
weighed while they can still be told apart and reached. Moves and temperatures are fitted on a pilot
cloud (`annealing.fit_path`), so the evidence estimate is unbiased as well.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ConvergenceWarning, ModelError
from aif_dcpc.inference.model.ancestral import no_validation
from aif_dcpc.inference.model.densities import log_joint
from aif_dcpc.inference.model.resampling import ess, systematic, take
from aif_dcpc.inference.model.state import Info, State
from aif_dcpc.inference.sampler import Sampler
from aif_dcpc.inference.smc.annealing import (
    Path,
    fit_path,
    is_coupled,
    log_likelihood,
    set_inverse_temperature,
)

POOR = 0.1  # an importance ESS below this fraction of K calls for more temperatures


def temper(
    engine: Sampler,
    data: Mapping[str, Tensor] | None = None,
    *,
    num_temperatures: int = 10,
    sweeps_per_temperature: int = 2,
    num_pilot: int = 64,
    seed: int | None = None,
    **setup: Any,
) -> tuple[State, Info]:
    """Draw a cloud from the posterior by tempering.

    Args:
        engine: model, moves and K; weights of modes have a standard error of about sqrt(w (1 - w) /
            K).
        data: as `engine.init`.
        num_temperatures: steps between prior and posterior; about as many as the posterior is nats
            away from the prior divided by the square root of its dimension.
        sweeps_per_temperature: sweeps after each resampling.
        num_pilot: particles of the pilot cloud.
        seed: seeds the engine's generator.
        setup: `masks`, `do`, `batch_size`, `length`, as `engine.init`.

    Returns:
        the cloud, equally weighted, its `log_evidence` `(B,)` estimated (with global latents: of
            all data together);
        and diagnostics, whose trace holds `inverse_temperature` and `ess_fraction`
            `(num_temperatures, [B])`.

    Raises:
        ModelError: for less than one temperature.

    Warns:
        ConvergenceWarning: where a step left less than a tenth of the particles effective.
    """
    if num_temperatures < 1:
        raise ModelError(f"num_temperatures={num_temperatures}: expected at least 1.")
    engine = engine.with_num_particles(engine.num_particles)
    with no_validation(), torch.no_grad():
        pilot = engine.with_num_particles(num_pilot)
        path = fit_path(pilot, pilot.init(data, seed=seed, **setup), num_temperatures)
        engine.generator = pilot.generator
        state, acceptance, fractions = _climb(
            engine, engine.init(data, **setup), path, sweeps_per_temperature
        )
    worst = float(fractions.min())
    if worst < POOR:
        warnings.warn(
            f"tempering: a step left an ESS of {worst:.3f} K; raise num_temperatures (now "
            f"{num_temperatures}).",
            ConvergenceWarning,
            stacklevel=3,
        )
    trace = {"inverse_temperature": path.inverse_temperatures, "ess_fraction": fractions}
    return state, Info(acceptance, log_joint(state), trace)


def _climb(
    engine: Sampler, state: State, path: Path, sweeps: int
) -> tuple[State, Mapping[str, Tensor], Tensor]:
    """Resample and sweep at rising inverse temperatures."""
    acceptance: Mapping[str, Tensor] = {}
    evidence = torch.zeros_like(state.log_evidence)
    fractions = []
    before = 0.0
    for after in path.inverse_temperatures.tolist():
        weights = (after - before) * log_likelihood(state)
        fractions.append(ess(weights) / state.num_particles)
        evidence = evidence + torch.logsumexp(weights, 0) - math.log(state.num_particles)
        state = _select(state, systematic(weights, engine.generator))
        state = set_inverse_temperature(state, torch.full_like(state.log_weights[0], after))
        state = state.replace(adaptation=path.adaptations[path.nearest(after)])
        for _ in range(sweeps):
            state, info = engine.sweep(state, adapt=False, log_joint=False)
            acceptance = info.acceptance
        before = after
    return (
        set_inverse_temperature(state, None).replace(log_evidence=evidence),
        acceptance,
        torch.stack(fractions),
    )


def _select(state: State, indices: Tensor) -> State:
    """Keep the lineages `indices` `(K, B)`, or `(K, 1)` where all data share one."""
    wide = indices.expand(state.num_particles, state.batch_size)
    moved = {}
    for name in state.conditioning.latent:
        value = state.values[name]
        is_global = is_coupled(state) and value.shape[1] == 1
        moved[name] = take(value, indices if is_global else wide)
    return state.with_values(moved).replace(ancestors=state.ancestors.gather(0, wide))
