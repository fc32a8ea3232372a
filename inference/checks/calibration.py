"""Simulation-based calibration of a model with the engine: are true values ranked evenly among draws?

Many data sets are drawn from the model itself, one per entry of the batch axis, and the engine
infers each. Every particle is a chain of its own from the prior, so the rank of the true value
among the K particles is uniform on 0 .. K. Evenness is tested by chi-square for each number of each
latent, at a false-alarm rate of 1e-4 for the whole model; where it is rejected, the chains run on
for four times as long and are tested once more, so that slow mixing alone is less of a fault.

Reference: Talts, Betancourt, Simpson, Vehtari, Gelman 2018 (arXiv 1804.06788).
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.checks.geweke import (
    MAX_ELEMENTS,
    as_episodes,
    drawn,
    inputs_of,
    observed_of,
)
from aif_dcpc.inference.checks.joint_draws import cloud_at
from aif_dcpc.inference.engine import DCPC
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.model.graph import GraphicalModel
from aif_dcpc.inference.model.state import State

FALSE_ALARM = 1e-4
LONGER = 4  # times as many sweeps before a rejection is believed


@dataclass(frozen=True)
class Calibration:
    """Ranks of true values among draws.

    Attributes:
        ranks: latent site -> `(N, elements)` whole numbers from 0 to `num_particles`.
        num_particles: K, draws that each true value is ranked among.
        num_sweeps: made before the last draws.
        p_values: latent site -> `(elements,)` of the chi-square test.
        faults: one sentence for each site whose ranks are not even.
    """

    ranks: Mapping[str, Tensor]
    num_particles: int
    num_sweeps: int
    p_values: Mapping[str, Tensor]
    faults: tuple[str, ...]


def calibrate(
    model: GraphicalModel,
    data: Mapping[str, Tensor] | None = None,
    *,
    moves: Mapping[str, str] | None = None,
    num_data_sets: int = 400,
    num_particles: int = 19,
    num_sweeps: int = 150,
    seed: int = 0,
) -> Calibration:
    """Rank true values among the engine's draws.

    Args:
        model: the model.
        data: site -> `(B, [T,] *event)`: inputs, which are repeated, and which sites are observed
            (the leaves of the graph where none is); the observations are drawn anew.
        moves: as in `DCPC`.
        num_data_sets: N.
        num_particles: K.
        num_sweeps: from the prior to the draws, warming up included.
        seed: of all random draws.

    Raises:
        InferenceError: where the engine cannot infer such data.
    """
    model = as_episodes(model)
    engine = DCPC(model, num_particles=num_particles, moves=moves, seed=seed)
    inputs, length = inputs_of(model, data, num_data_sets)
    sizes = (num_data_sets, length)
    observed = observed_of(model, data)
    truth = drawn(engine.with_num_particles(1), inputs, sizes, seed)
    if truth.have_moving_bounds(observed):
        state = _near_truth(engine, inputs, sizes, truth.values, observed)
    else:
        given = {**inputs, **{name: truth.values[name][0] for name in observed}}
        state = engine.init(given, seed=seed + 1, batch_size=num_data_sets, length=length)
    found = _ranked(engine, state, truth.values, num_sweeps)
    if found.faults:
        found = _ranked(engine, state, truth.values, (1 + LONGER) * num_sweeps)
    return found


def _near_truth(
    engine: DCPC,
    inputs: Mapping[str, Tensor],
    sizes: tuple[int, int | None],
    truth: Mapping[str, Tensor],
    observed: Sequence[str],
) -> State:
    """A cloud of prior draws, the first of them the truth: the others may all be impossible."""
    prior = drawn(engine, inputs, sizes, engine.seed + 1).values
    latents = prior.keys() - {*inputs, *observed}
    starts = {name: torch.cat([truth[name], prior[name][1:]]) for name in latents}
    return cloud_at(engine.factor_graph, {**truth, **starts}, observed, engine.generator)


def _ranked(
    engine: DCPC, state: State, truth: Mapping[str, Tensor], num_sweeps: int
) -> Calibration:
    """Sweep, rank and test."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # ranks say it for all data sets at once
        # ranks are the judge here: a run that records itself is left as it is
        state, _ = engine.run(state, num_sweeps, record=lambda state: {})
    generator = torch.Generator().manual_seed(engine.seed)
    number = state.num_particles
    ranks = {n: _ranks(x, truth[n], generator) for n, x in state.particles.items()}
    p_values = {name: _evenness(x, number) for name, x in ranks.items()}
    return Calibration(ranks, number, num_sweeps, p_values, _faults(p_values, num_sweeps))


def _ranks(draws: Tensor, truth: Tensor, generator: torch.Generator) -> Tensor:
    """Rank the truth `(1, N, ...)` among draws `(K, N, ...)`, ties in random order: `(N, elements)`."""
    flat, true = (
        x.detach().cpu().flatten(2) if x.ndim > 2 else x[..., None] for x in (draws, truth)
    )
    flat, true = flat[..., :MAX_ELEMENTS], true[..., :MAX_ELEMENTS]
    below = (flat < true).sum(0)
    ties = (flat == true).sum(0)
    noise = torch.rand(ties.shape, generator=generator)
    return below + (noise * (ties + 1)).floor().long()


def _evenness(ranks: Tensor, num_particles: int) -> Tensor:
    """Return chi-square p-values of uniform ranks `(N, elements)`."""
    cells = num_particles + 1
    counts = torch.nn.functional.one_hot(ranks, cells).sum(0).double()
    expected = len(ranks) / cells
    statistic = ((counts - expected) ** 2 / expected).sum(-1)
    freedom = torch.full_like(statistic, num_particles / 2)
    return torch.special.gammaincc(freedom, statistic / 2)


def _faults(p_values: Mapping[str, Tensor], num_sweeps: int) -> tuple[str, ...]:
    """One sentence for each site with an uneven number, by Bonferroni's bound."""
    limit = FALSE_ALARM / max(sum(p.numel() for p in p_values.values()), 1)
    return tuple(
        f"site {name!r}: true values are not ranked evenly among draws after {num_sweeps} sweeps "
        f"(simulation-based calibration: p = {float(p.min()):.1g}, limit {limit:.1g}); the engine's "
        "posterior is not the model's: look for a kernel whose draws and density differ, a wrong "
        "conditional or move, or chains that mix too slowly from the prior."
        for name, p in p_values.items()
        if bool((p < limit).any())
    )
