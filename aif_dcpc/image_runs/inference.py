"""Inferring held-out images afresh, and what the particles say about them.

The model is used as it stands; nothing here learns. Randomness is an engine's own, so that looking
at a model does not change how its training goes on.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from aif_dcpc.image_runs.reconstruction import Reconstruction
from aif_dcpc.inference import DCPC, State
from aif_dcpc.inference.baselines.langevin import UnadjustedLangevin
from aif_dcpc.inference.model.densities import log_joint
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.queries.law import law
from aif_dcpc.inference.queries.mixing import effective_sample_size

IMAGE = "image"
WARM = 0.8  # share of the sweeps that are unadjusted, where a warm start is asked for
ADAPT = 0.5  # share of the sweeps during which moves adapt; then they are frozen


def infer(
    engine: DCPC,
    images: Tensor,
    num_sweeps: int,
    *,
    warm_step: float = 0.0,
    record: Callable[[State], None] | None = None,
) -> State:
    """Particles of images, from the prior by `num_sweeps` sweeps in all.

    Args:
        engine: model and moves, which adapt during the first half of its own sweeps.
        images: `(B, C, H, W)`.
        num_sweeps: how many.
        warm_step: where positive, the first 80 % are unadjusted Langevin steps of this size: they approach the
            posterior of a large hierarchy faster than accepted ones, which then correct their bias.
        record: shown the cloud after every sweep that no longer adapts.
    """
    state = engine.init({IMAGE: images})
    warm = 0
    if warm_step:
        warm = round(WARM * num_sweeps)
        start = UnadjustedLangevin(engine, step=warm_step, inner_steps=warm)
        state, _ = start.sweep(state, engine.generator, log_joint=False)
        state = state.replace(cache={}, sweeps=0)
    for sweep in range(num_sweeps - warm):
        adapt = sweep < ADAPT * (num_sweeps - warm)
        state, _ = engine.sweep(state, adapt=adapt, log_joint=False)
        if record is not None and not adapt:
            record(state)
    return state


def image_law(state: State) -> torch.distributions.Distribution:
    """Return p(image | particles), batch shape `(K, B)`."""
    return law(state, IMAGE)


def reconstruct(state: State) -> Reconstruction:
    """Lay the images of a cloud beside the means that its particles give."""
    with torch.no_grad(), no_validation():
        return Reconstruction(
            images=state.values[IMAGE][0],
            means=image_law(state).mean.mean(0),
            log_joint=log_joint(state),
        )


def infer_watched(engine: DCPC, images: Tensor, num_sweeps: int) -> tuple[Reconstruction, float]:
    """As `infer` and `reconstruct`, with the effective number of particles, 0 to K.

    This is the effective sample size of the log joint along the sweeps that no longer adapt
    (autocorrelation and disagreement of particles count), divided by their number and averaged over
    images; nan with fewer than 4 of them.
    """
    energies: list[Tensor] = []
    state = infer(
        engine, images, num_sweeps, record=lambda cloud: energies.append(engine.log_joint(cloud))
    )
    size = (
        effective_sample_size(torch.stack(energies).double()).mean().item()
        if len(energies) >= 4
        else math.nan
    )
    return reconstruct(state), min(size / max(len(energies), 1), engine.num_particles)


def sample_prior(engine: DCPC, number: int) -> Tensor:
    """Mean images of ancestor samples `(number, C, H, W)`."""
    state = engine.init(batch_size=number)
    return image_law(state).mean[0]
