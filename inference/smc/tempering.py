"""Tempering for multimodal posteriors: a cloud of whole particles carried from the prior to the posterior.

Local moves never hop between distant modes, so a cloud keeps the mode weights that it started with.
Here the cloud follows p(latents) p(data | latents)^b from b = 0 to 1 (sequential Monte Carlo
sampler; Del Moral, Doucet, Jasra 2006): at each inverse temperature lineages are weighed by the
likelihood's increment, resampled where weights have grown uneven, all sites of a particle together,
and swept. Modes are weighed while they can still be told apart and reached. Moves, temperatures and
sweeps are fitted on a pilot cloud (`paths`), so the evidence estimate is unbiased as well.

The cloud consists of independent *islands*: particles meet in resampling within an island only.
What islands disagree about is not known, and their spread is the standard error of whatever is read
off the cloud (`share_of`). Particles of one lineage are not independent either: the standard error
counts surviving ancestors as well (Chan and Lai 2013), and the larger of the two is given.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ConvergenceWarning, ModelError
from aif_dcpc.inference.model.densities import log_joint
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.resampling import ess, systematic, unique_ancestors
from aif_dcpc.inference.model.state import Info, State
from aif_dcpc.inference.sampler import Sampler
from aif_dcpc.inference.smc.annealing import (
    AnnealingPath,
    log_likelihood,
    select,
    set_inverse_temperature,
)
from aif_dcpc.inference.smc.paths import choose_path, respaced

ISLANDS = 16
NUM_PILOT = 256
LEAST_ISLAND = 128  # particles, however few are asked for
RESAMPLE_BELOW = 0.5  # of an island's particles effective
MAX_SHARE_ERROR = 0.03
MAX_EVIDENCE_ERROR = 0.1  # nats
AIM = 0.7  # of these, before which clouds grow
GROWTH = (1, 4, 16)
MOST_CHAINS = 2**16  # particles times data, to which clouds grow at most
MOST_WORK = 2**29  # coordinates times sweeps of a cloud that has grown, a minute or two of a core


@dataclass(frozen=True)
class Climb:
    """A weighted cloud at the end of a path.

    Attributes:
        state: M particles, island after island, at temperature 1.
        log_weights: `(M, B or 1)` nats, of all islands together: their log mean exponential is the
            log evidence.
        log_evidences: `(num_islands, B or 1)` nats, one estimate of each island.
        acceptance: of the last sweep.
        ess_fractions: `(num_temperatures, B or 1)`, effective share of the least island.
        ancestors: `(num_temperatures, B)`, how many of the prior's draws have descendants left.
    """

    state: State
    log_weights: Tensor
    log_evidences: Tensor
    acceptance: Mapping[str, Tensor]
    ess_fractions: Tensor
    ancestors: Tensor

    @property
    def log_evidence(self) -> Tensor:
        """Mean over islands of the evidence, `(B or 1,)` in log nats."""
        return torch.logsumexp(self.log_evidences, 0) - math.log(len(self.log_evidences))

    @property
    def evidence_error(self) -> Tensor:
        """Standard error of the log evidence by the spread of islands, `(B or 1,)` nats."""
        ratios = (self.log_evidences - self.log_evidence).exp()
        return ratios.std(0) / len(ratios) ** 0.5

    @property
    def islands(self) -> Tensor:
        """Number of each particle's island, `(M, B)`."""
        size = self.state.num_particles // len(self.log_evidences)
        numbers = torch.arange(self.state.num_particles, device=self.log_weights.device) // size
        return numbers[:, None].expand_as(self.state.log_weights)

    def is_within(self, nats: float) -> bool:
        """Whether the log evidence of every datum has at most this standard error."""
        return bool((self.evidence_error <= nats).all())

    def share_errors(self) -> Tensor:
        """Largest standard error of a share, `(B,)`, over coordinates cut at their means.

        It is that of one resampled cloud, which is the same whenever it is asked for.
        """
        own = torch.Generator(device=self.log_weights.device).manual_seed(0)
        indices = systematic(self.log_weights.double(), own).expand_as(self.islands)
        return share_errors(select(self.state, indices), self.islands.gather(0, indices))


def temper(
    engine: Sampler,
    data: Mapping[str, Tensor] | None = None,
    *,
    num_temperatures: int | None = None,
    sweeps_per_temperature: int | None = None,
    num_pilot: int = NUM_PILOT,
    seed: int | None = None,
    **setup: Any,
) -> tuple[State, Info]:
    """Draw a cloud from the posterior by tempering.

    Args:
        engine: model, moves and K. At least 2,048 particles (16 islands of 128) are tempered, and
            K drawn from them.
        data: as `engine.init`.
        num_temperatures: steps between prior and posterior; by default a pilot cloud chooses them,
            so that each leaves nine tenths of it effective.
        sweeps_per_temperature: by default as many as the pilot needed to forget its log likelihood.
        num_pilot: particles of the pilot cloud.
        seed: seeds the engine's generator.
        setup: `masks`, `do`, `batch_size`, `length`, as `engine.init`.

    Returns:
        the cloud, equally weighted, its `log_evidence` `(B,)` estimated (with global latents: of
            all data together);
        and diagnostics, whose trace holds `inverse_temperature` `(num_temperatures,)`,
            `ess_fraction` and `unique_ancestors` `(num_temperatures, [B])`, `island` `(K, B)` for
            `share_of`, and `log_evidence_error` and `share_error` `(B,)`: the largest standard
            error of a share, over all coordinates cut at their means.

    Raises:
        ModelError: for less than one temperature or two pilot particles, or data that no draw from
            the prior can have given.

    Warns:
        ConvergenceWarning: where islands disagree about shares by more than .03, or about the log
            evidence by more than .1 nats (standard errors).
    """
    if num_temperatures is not None and num_temperatures < 1:
        raise ModelError(f"num_temperatures={num_temperatures}: expected at least 1.")
    if num_pilot < 2:
        raise ModelError(f"num_pilot={num_pilot}: expected at least 2.")
    with no_validation(), torch.no_grad():
        pilot = engine.with_num_particles(num_pilot)
        start = pilot.init(data, seed=seed, **setup)
        path = choose_path(pilot, start, sweeps=sweeps_per_temperature)
        if num_temperatures is not None:
            path = respaced(path, num_temperatures)
        engine.generator = pilot.generator
        found = climb_until(engine, path, _is_good, data, **setup)
        _warn(found)
        return _thinned(found, path, engine)


def climb_until(
    engine: Sampler,
    path: AnnealingPath,
    is_good: Callable[[Climb], bool],
    data: Mapping[str, Tensor] | None,
    **setup: Any,
) -> Climb:
    """Climb with fresh clouds, each four times as large as the one before, until one is good.

    The last, of 16 times as many particles as the first (or of as many as the number of data, of
    coordinates and of sweeps allows), is returned as it is.
    """
    first = ISLANDS * max(LEAST_ISLAND, math.ceil(engine.num_particles / ISLANDS))
    for growth in GROWTH:
        climber = engine.with_num_particles(growth * first)
        start = climber.init(data, **setup)
        found = climb(climber, start, path, ISLANDS)
        if is_good(found) or not _may_grow(start, path):
            break
    return found


def _may_grow(start: State, path: AnnealingPath) -> bool:
    """Whether a cloud four times as large as one from this start is within the budget."""
    chains = 4 * start.num_particles * start.batch_size
    work = chains * num_coordinates(start) * num_sweeps(path)
    return chains <= MOST_CHAINS and work <= MOST_WORK


def num_coordinates(state: State) -> int:
    """Number of the latent coordinates of one particle and datum, over all slices."""
    return sum(state.values[name][0, 0].numel() for name in state.conditioning.latent)


def num_sweeps(path: AnnealingPath) -> int:
    """Number of sweeps from the prior to the posterior."""
    return sum(path.sweeps[path.nearest(power)] for power in path.inverse_temperatures.tolist())


def _is_good(found: Climb) -> bool:
    """Whether shares and evidence are known with a margin."""
    share = float(found.share_errors().max())
    return share <= AIM * MAX_SHARE_ERROR and found.is_within(AIM * MAX_EVIDENCE_ERROR)


def climb(engine: Sampler, state: State, path: AnnealingPath, num_islands: int) -> Climb:
    """Weigh, resample and sweep islands of particles along a path.

    Args:
        engine: gives the moves.
        state: a cloud drawn from the prior, of a multiple of `num_islands` particles.
        path: temperatures, sweeps and frozen moves.
        num_islands: islands of equal size.
    """
    increments = log_likelihood(state)
    weights = increments.new_zeros(num_islands, len(increments) // num_islands, increments.shape[1])
    fitted = list(path.adaptations)
    acceptance: Mapping[str, Tensor] = {}
    fractions = []
    ancestors = []
    before = 0.0
    for after in path.inverse_temperatures.tolist():
        weights = weights + (after - before) * log_likelihood(state).unflatten(0, weights.shape[:2])
        fractions.append(_island_ess(weights).amin(0))
        state, weights = _resample(state, weights, engine.generator)
        ancestors.append(unique_ancestors(state))
        knot = path.nearest(after)
        state = set_inverse_temperature(state, torch.full_like(state.log_weights[0], after))
        state = state.replace(adaptation=fitted[knot])
        for _ in range(path.sweeps[knot]):
            state, info = engine.sweep(state, adapt=False, log_joint=False)
            acceptance = info.acceptance
        fitted[knot] = state.adaptation  # keeps the factorisations
        before = after
    return Climb(
        state=set_inverse_temperature(state, None),
        log_weights=weights.flatten(0, 1),
        log_evidences=torch.logsumexp(weights, 1) - math.log(weights.shape[1]),
        acceptance=acceptance,
        ess_fractions=torch.stack(fractions),
        ancestors=torch.stack(ancestors),
    )


def _island_ess(weights: Tensor) -> Tensor:
    """Effective share of each island's weights `(I, N, B)`, `(I, B)`."""
    return ess(weights.transpose(0, 1).flatten(1)).unflatten(0, weights[:, 0].shape) / len(
        weights[0]
    )


def _resample(
    state: State, weights: Tensor, generator: torch.Generator | None
) -> tuple[State, Tensor]:
    """Resample the islands whose weights are uneven; theirs become their mean.

    The decision is taken on the device.
    """
    number, size, batch = weights.shape
    poor = (_island_ess(weights) < RESAMPLE_BELOW).unsqueeze(1)
    side_by_side = weights.transpose(0, 1).flatten(1)
    chosen = systematic(side_by_side, generator).unflatten(1, (number, batch)).transpose(0, 1)
    places = torch.arange(size, device=weights.device)[:, None]
    first = size * torch.arange(number, device=weights.device)[:, None, None]
    indices = (torch.where(poor, chosen, places) + first).flatten(0, 1)
    level = torch.logsumexp(weights, 1, keepdim=True) - math.log(size)
    return select(state, indices), torch.where(poor, level, weights)


def _thinned(found: Climb, path: AnnealingPath, engine: Sampler) -> tuple[State, Info]:
    """Draw K equally weighted particles from all islands."""
    indices = systematic(found.log_weights, engine.generator, engine.num_particles)
    state = select(found.state, indices)
    islands = found.islands.gather(0, indices.expand(-1, state.batch_size))
    evidence = found.log_evidence.expand_as(state.log_evidence)
    state = state.replace(
        log_evidence=evidence.clone(),
        log_weights=torch.zeros_like(state.log_weights),
        ancestors=_renumbered(state.ancestors),
    )
    trace = {
        "inverse_temperature": path.inverse_temperatures,
        "ess_fraction": found.ess_fractions,
        "unique_ancestors": found.ancestors,
        "island": islands,
        "log_evidence_error": found.evidence_error,
        "share_error": share_errors(state, islands),
    }
    return state, Info(found.acceptance, log_joint(state), trace)


def _renumbered(groups: Tensor) -> Tensor:
    """Number the groups of every column `(K, B)` from 0 on."""
    columns = [groups[:, b].unique(return_inverse=True)[1] for b in range(groups.shape[1])]
    return torch.stack(columns, 1)


# -- standard errors -------------------------------------------------------------------------------


def share_of(state: State, info: Info, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate the posterior probability of a region, such as the weight of a mode.

    Args:
        state, info: as `temper` returned them.
        inside: `(K, B)`, True for particles in the region.

    Returns:
        the share `(B,)` and its standard error `(B,)`.
    """
    values = inside.double()
    errors = [grouped_error(values, g) for g in (info.trace["island"], state.ancestors)]
    return values.mean(0), torch.stack(errors).amax(0)


def grouped_error(values: Tensor, groups: Tensor) -> Tensor:
    """Standard error of a mean over particles that depend on each other within groups.

    The square root of n / (n - 1) times the sum over the n groups of their squared sums of
    deviations, over K; infinite for one group.

    Args:
        values: `(K, B, *rest)`.
        groups: `(K, B)` number of each particle's group.

    Returns:
        `(B, *rest)`.
    """
    deviations = values - values.mean(0)
    wide = groups.reshape(*groups.shape, *[1] * (values.ndim - 2)).expand_as(values)
    most = int(groups.max()) + 1
    totals = deviations.new_zeros(most, *values.shape[1:]).scatter_add(0, wide, deviations)
    present = groups.new_zeros(most, groups.shape[1]).scatter(0, groups, torch.ones_like(groups))
    number = present.sum(0).double()
    factor = (number / (number - 1)).reshape(-1, *[1] * (values.ndim - 2))
    found = (factor * totals.square().sum(0)).sqrt() / len(values)
    return torch.where(torch.isfinite(factor), found, torch.inf)


def share_errors(state: State, islands: Tensor) -> Tensor:
    """Largest standard error over coordinates of the share above the coordinate's mean, `(B,)`."""
    found = torch.zeros_like(state.log_weights[0]).double()
    for name in state.conditioning.latent:
        value = state.values[name].double()
        value = value.expand(-1, state.batch_size, *value.shape[2:])
        above = (value > value.mean(0)).double()
        for groups in (islands, state.ancestors):
            errors = grouped_error(above, groups).reshape(state.batch_size, -1)
            found = torch.maximum(found, errors.amax(1))
    return found


def _warn(found: Climb) -> None:
    """Say what the islands disagree about."""
    share = float(found.share_errors().max())
    nats = float(found.evidence_error.max())
    if share > MAX_SHARE_ERROR or not nats <= MAX_EVIDENCE_ERROR:
        size = found.state.num_particles
        warnings.warn(
            f"tempering: independent parts of the cloud disagree: shares of modes are known to "
            f"{share:.3f} and the log evidence to {nats:.2f} nats (standard errors; {size} "
            f"particles, {int(found.ancestors[-1].min())} lineages left); raise num_particles to "
            f"{4 * size}, or sweeps_per_temperature.",
            ConvergenceWarning,
            stacklevel=4,
        )
