"""A path from the prior to the posterior whose steps a pilot cloud chooses, with moves fitted to each.

A step is as long as keeps a set share of the pilot effective: short where the likelihood varies
much over the cloud, long where it does not, whatever the scale of the prior. The pilot is resampled
and swept as the cloud that follows will be; at each inverse temperature it sweeps until its log
likelihoods have forgotten where they started. What it found is then frozen, so that a fresh cloud
along the path estimates the evidence without bias.

Reference: Zhou, Johansen, Aston 2016 (arXiv 1303.3123) for conditional effective sample sizes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.model.resampling import ess, systematic
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.sampler import Sampler
from aif_dcpc.inference.smc.annealing import (
    AnnealingPath,
    forget,
    log_likelihood,
    select,
    set_inverse_temperature,
)

SHARE = 0.9  # of the pilot stays effective in every step
LEAST_SWEEPS = 2
MOST_SWEEPS = 16
FORGOTTEN = 0.5  # correlation of log likelihoods with those before the sweeps
SHORTEST = 1e-30  # step of the inverse temperature
BISECTIONS = 60
MOST_TEMPERATURES = 1000


def choose_path(
    engine: Sampler, state: State, *, share: float = SHARE, sweeps: int | None = None
) -> AnnealingPath:
    """Let a pilot cloud choose temperatures, sweeps and moves on its way to the posterior.

    Args:
        engine: gives the moves.
        state: a cloud drawn from the prior; it is used up.
        share: of the pilot that stays effective in every step, in (0, 1); of several data, in that
            where the fewest do.
        sweeps: at every temperature; by default until log likelihoods are forgotten.

    Raises:
        ModelError: where no draw from the prior can have given the data, or the path does not end.
    """
    powers: list[float] = []
    adaptations: list[Mapping[str, Any]] = []
    counts: list[int] = []
    power = 0.0
    while power < 1:
        if len(powers) == MOST_TEMPERATURES:
            raise ModelError(
                f"tempering: after {MOST_TEMPERATURES} temperatures the likelihood has power "
                f"{power:.2g} only; use proper priors nearer to the data."
            )
        before = log_likelihood(state)
        _check_possible(before)
        after = next_power(before, power, share)
        state = select(state, systematic((after - power) * before, engine.generator))
        state = set_inverse_temperature(state, torch.full_like(state.log_weights[0], after))
        state = state.replace(adaptation={n: forget(a) for n, a in state.adaptation.items()})
        state, count = _sweep_until_forgotten(engine, state, sweeps)
        power = after
        powers.append(power)
        adaptations.append(state.adaptation)
        counts.append(count)
    return AnnealingPath(torch.tensor(powers).double(), tuple(powers), adaptations, tuple(counts))


def _check_possible(log_likelihood: Tensor) -> None:
    """Refuse data that no particle explains."""
    if not bool(torch.isfinite(log_likelihood).any(0).all()):
        raise ModelError(
            f"tempering: none of {len(log_likelihood)} draws from the prior can have given the "
            "data (log likelihood -inf); raise num_pilot, or check the data against the kernels' "
            "supports."
        )


def next_power(log_likelihood: Tensor, power: float, share: float) -> float:
    """Find how far the inverse temperature can rise, by bisection.

    Args:
        log_likelihood: `(K, B or 1)` nats of an equally weighted cloud.
        power: the inverse temperature now.
        share: of the particles that stays effective.

    Returns:
        the next inverse temperature, at most 1; above `power` even where the share cannot be kept.
    """
    best = torch.where(torch.isfinite(log_likelihood), log_likelihood, -torch.inf).amax(0)
    relative = (log_likelihood - best).double()

    def effective(step: Tensor) -> Tensor:
        weights = torch.where(torch.isfinite(relative), step * relative, -torch.inf)
        return ess(weights).min() / len(relative)

    room = 1.0 - power
    low = torch.tensor(SHORTEST, dtype=torch.float64).to(relative).log()
    high = low.new_tensor(room).log()
    if float(effective(high.exp())) >= share:
        return 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = effective(middle.exp()) >= share
        low = torch.where(enough, middle, low)
        high = torch.where(enough, high, middle)
    return min(1.0, max(power + float(low.exp()), power * (1 + 1e-9), SHORTEST))


def _sweep_until_forgotten(engine: Sampler, state: State, sweeps: int | None) -> tuple[State, int]:
    """Sweep and adapt; return the state and the number of sweeps."""
    start = log_likelihood(state)
    most = MOST_SWEEPS if sweeps is None else sweeps
    for count in range(1, most + 1):
        state, _ = engine.sweep(state, adapt=True, log_joint=False)
        if sweeps is None and count >= LEAST_SWEEPS:
            if float(correlation(start, log_likelihood(state)).max()) < FORGOTTEN:
                return state, count
    return state, most


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Correlate two arrays `(K, B)` over the particles, `(B,)`; 0 where one of them is constant."""
    finite = torch.isfinite(x) & torch.isfinite(y)
    dx = _centred(x, finite)
    dy = _centred(y, finite)
    scale = (dx.square().sum(0) * dy.square().sum(0)).sqrt()
    return torch.where(scale > 0, (dx * dy).sum(0) / scale, torch.zeros_like(scale))


def _centred(x: Tensor, finite: Tensor) -> Tensor:
    """Take away the mean of the finite entries; the others become 0."""
    kept = torch.where(finite, x, torch.zeros_like(x)).double()
    mean = kept.sum(0) / finite.sum(0).clamp_min(1)
    return torch.where(finite, kept - mean, torch.zeros_like(kept))


def respaced(path: AnnealingPath, number: int) -> AnnealingPath:
    """Take another number of temperatures from a path, as unevenly spaced as its own."""
    own = torch.cat([torch.zeros(1).double(), path.inverse_temperatures])
    wanted = torch.linspace(0, len(own) - 1, number + 1).double()[1:]
    left = wanted.floor().long().clamp_max(len(own) - 2)
    powers = own[left] + (wanted - left) * (own[left + 1] - own[left])
    return replace(path, inverse_temperatures=powers)
