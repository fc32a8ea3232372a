"""Annealed importance sampling: the log evidence from a path of distributions between the prior and the posterior.

The distribution at inverse temperature b is p(latents) p(data | latents)^b up to a constant. Chains
start with exact draws from the prior and are moved at rising b by moves that leave each
distribution invariant; the products of likelihood increments are unbiased for the evidence. Moves
adapt on a *pilot* cloud of their own, which also places the temperatures where the likelihood
varies; the chains that are weighed use them frozen, so nothing biases the estimate.

Started from draws of the exact posterior (simulated data, see `reverse`) the same path run
backwards bounds the evidence from above: between the two bounds lies the truth (Grosse, Ghahramani,
Adams 2015, arXiv 1511.02543).

    >>> import torch
    >>> from torch.distributions import Normal
    >>> from aif_dcpc.inference import DCPC, GraphicalModel
    >>> model = GraphicalModel()
    >>> model.add_site("z", lambda: Normal(0.0, 1.0))
    >>> model.add_site("x", lambda z: Normal(z, 1.0), parents=["z"])
    >>> data = torch.tensor([0.0, 2.0])
    >>> found = annealed_log_evidence(DCPC(model), {"x": data}, num_temperatures=50, num_chains=64, seed=0)
    >>> exact = Normal(0.0, 2.0**0.5).log_prob(data)
    >>> bool((found.log_evidence - exact).abs().max() < 0.2)
    True

References: Neal 2001; Wu, Burda, Salakhutdinov, Grosse 2017 (arXiv 1611.04273).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.model.densities import active_factors, evaluate, refuse_masked_elements
from aif_dcpc.inference.model.factor_graph import Factor
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.resampling import ess, take
from aif_dcpc.inference.model.resampling import is_coupled as is_coupled
from aif_dcpc.inference.model.state import FactorValue, State
from aif_dcpc.inference.moves.adaptation import SiteAdaptation
from aif_dcpc.inference.sampler import Sampler

# gains of the pilot's adaptation never fall below those after this many sweeps: its target moves
PILOT_MEMORY = 10


@dataclass(frozen=True)
class AnnealedEvidence:
    """What an annealed run found.

    Attributes:
        log_evidence: `(B,)` nats, or `(1,)` for all data together where a latent site is global; a
            lower bound in expectation (an upper one when run in reverse).
        log_weights: `(num_chains, B or 1)` of the chains.
        ess_fraction: `(B or 1,)` importance ESS of the chains divided by their number.
        inverse_temperatures: `(num_temperatures,)` rising to 1.
        acceptance: site -> mean acceptance probability over the path.
        state: the chains at the end of the path.
    """

    log_evidence: Tensor
    log_weights: Tensor
    ess_fraction: Tensor
    inverse_temperatures: Tensor
    acceptance: Mapping[str, Tensor]
    state: State


@dataclass(frozen=True)
class AnnealingPath:
    """Inverse temperatures with moves fitted to each.

    Attributes:
        inverse_temperatures: `(num_temperatures,)` rising to 1.
        knots: inverse temperatures at which moves were fitted, rising.
        adaptations: what moves learned at each knot.
        sweeps: at each knot; empty where whoever follows the path decides.
    """

    inverse_temperatures: Tensor
    knots: tuple[float, ...]
    adaptations: list[Mapping[str, Any]]
    sweeps: tuple[int, ...] = ()

    def nearest(self, power: float) -> int:
        """The knot whose moves serve this inverse temperature."""
        return min(range(len(self.knots)), key=lambda i: abs(math.log(self.knots[i] / power)))


# -- tempered states -------------------------------------------------------------------------------


def likelihood_factors(state: State) -> tuple[Factor, ...]:
    """Active factors whose density is (at some slices) that of observed values."""
    names = state.conditioning.latent
    return tuple(
        f for f in active_factors(state) if f.site.name not in names or f.site.name in state.masks
    )


def set_inverse_temperature(state: State, power: Tensor | None) -> State:
    """Set the power of the likelihood; cached factors are rescaled, not evaluated again.

    Args:
        state: the cloud.
        power: `(B,)`, above 0; None goes back to the posterior itself.
    """
    new = torch.ones(state.batch_size).to(state.log_weights) if power is None else power
    old = torch.ones_like(new) if state.inverse_temperature is None else state.inverse_temperature
    cache = dict(state.cache)
    for factor in likelihood_factors(state):
        value = cache.pop(factor.key, None)
        if value is not None and factor.site.name not in state.conditioning.latent:
            ratio = (new / old)[:1] if factor.site.scope == "global" else new / old
            cache[factor.key] = _scaled(value, ratio)
    return state.replace(cache=cache, inverse_temperature=power)


def _scaled(value: FactorValue, ratio: Tensor) -> FactorValue:
    """A factor's log density and scores times a ratio `(B or 1,)`."""

    def scale(x: Tensor) -> Tensor:
        return x * ratio.reshape(1, -1, *([1] * (x.ndim - 2)))

    scores = {argument: scale(score) for argument, score in value.scores.items()}
    return FactorValue(scale(value.log_prob), scores)


def log_likelihood(state: State) -> Tensor:
    """log p(data | latents) of the particles at temperature 1, `(K, B)` nats.

    Where data are coupled it is their sum, `(K, 1)`.
    """
    plain = state.replace(inverse_temperature=None)
    total = torch.zeros_like(state.log_weights)
    shared = torch.zeros_like(state.log_weights[:, :1])
    for factor in likelihood_factors(state):
        log_prob = _observed_part(plain, factor, _plain_log_prob(state, plain, factor))
        if factor.site.scope == "global":
            shared = shared + log_prob
        else:
            total = total + log_prob
    if is_coupled(state):
        return total.sum(1, keepdim=True) + shared
    return total + shared / state.batch_size


def _plain_log_prob(state: State, plain: State, factor: Factor) -> Tensor:
    """A factor's log density at temperature 1, `(K or 1, B or 1, [T])`, from the cache where it is there."""
    cached = state.cache.get(factor.key)
    power = state.inverse_temperature
    if cached is None or factor.site.name in state.conditioning.latent:
        return evaluate(plain, factor, scores=False).log_prob
    if power is None:
        return cached.log_prob
    power = power[:1] if factor.site.scope == "global" else power
    return cached.log_prob / power.reshape(1, -1, *([1] * (cached.log_prob.ndim - 2)))


def _observed_part(state: State, factor: Factor, log_prob: Tensor) -> Tensor:
    """Sum over the observed slices, `(K or 1, B or 1)`."""
    mask = state.masks.get(factor.site.name)
    if mask is not None and factor.site.name in state.conditioning.latent:
        refuse_masked_elements(factor.site, mask)
        if factor.site.period is not None:
            start, stop = factor.slices(mask.shape[2])
            mask = mask[:, :, start:stop]
        log_prob = torch.where(mask, log_prob, torch.zeros_like(log_prob))
    return log_prob if log_prob.ndim == 2 else log_prob.sum(2)


def select(state: State, indices: Tensor) -> State:
    """Keep the lineages `indices` `(K', B)`, or `(K', 1)` where all data share one.

    Weights and ancestors of the cloud are those of the lineages kept.
    """
    wide = indices.expand(-1, state.batch_size)
    moved = {}
    for name in state.conditioning.latent:
        value = state.values[name]
        is_global = is_coupled(state) and value.shape[1] == 1
        moved[name] = take(value, indices if is_global else wide)
    return state.with_values(moved).replace(
        ancestors=state.ancestors.gather(0, wide), log_weights=state.log_weights.gather(0, wide)
    )


# -- paths -----------------------------------------------------------------------------------------


def fit_path(
    engine: Sampler, state: State, num_temperatures: int, *, num_knots: int = 24, sweeps: int = 4
) -> AnnealingPath:
    """Adapt moves and place temperatures on a pilot cloud drawn from the prior.

    Temperatures lie at equal distances of the length element sd(log likelihood) db, along which the
    variance of the increments is even.

    Args:
        engine: gives the moves.
        state: a cloud drawn from the prior, of at least 2 particles; it is used up.
        num_temperatures: number of inverse temperatures, 1 included and 0 not.
        num_knots: inverse temperatures at which moves are fitted.
        sweeps: pilot sweeps at each.
    """
    knots = [((i + 1) / num_knots) ** 4 for i in range(num_knots)]
    adaptations: list[Mapping[str, Any]] = []
    deviations = [_deviation(log_likelihood(state))]
    for knot in knots:
        state = set_inverse_temperature(
            state, torch.full((state.batch_size,), knot).to(state.log_weights)
        )
        state = state.replace(adaptation={n: forget(a) for n, a in state.adaptation.items()})
        for _ in range(sweeps):
            state, _ = engine.sweep(state, adapt=True, log_joint=False)
        adaptations.append(state.adaptation)
        deviations.append(_deviation(log_likelihood(state)))
    deviation = torch.stack(deviations).cpu()
    powers = _even(torch.tensor([0.0, *knots]), deviation, num_temperatures)
    return AnnealingPath(powers, tuple(knots), adaptations)


def forget(adaptation: Any) -> Any:
    """What a move has learned, with gains that stay large enough to follow a target that moves."""
    if not isinstance(adaptation, SiteAdaptation):
        return adaptation
    updates = {key: min(count, PILOT_MEMORY) for key, count in adaptation.updates.items()}
    return replace(adaptation, updates=updates)


def _deviation(log_likelihood: Tensor) -> Tensor:
    """Standard deviation over particles of log likelihoods `(K, B or 1)`, root mean square over data."""
    finite = torch.nan_to_num(log_likelihood, neginf=-1e6).double()
    return finite.var(0).mean().sqrt()


def _even(knots: Tensor, deviations: Tensor, number: int) -> Tensor:
    """`number` inverse temperatures, the last 1, at equal steps of the integral of the deviations."""
    knots = knots.double()
    speed = deviations + 1e-3 * deviations.mean() + 1e-12
    steps = (speed[1:] + speed[:-1]) / 2 * knots.diff()
    length = torch.cat([torch.zeros(1).double(), steps.cumsum(0)])
    wanted = torch.linspace(0, 1, number + 1).double()[1:] * length[-1]
    right = torch.searchsorted(length, wanted).clamp(1, len(knots) - 1)
    share = (wanted - length[right - 1]) / (length[right] - length[right - 1])
    powers = knots[right - 1] + share * (knots[right] - knots[right - 1])
    powers[-1] = 1.0
    return powers


# -- estimates -------------------------------------------------------------------------------------


def annealed_log_evidence(
    engine: Sampler,
    data: Mapping[str, Tensor],
    *,
    num_temperatures: int = 200,
    num_chains: int = 16,
    sweeps_per_temperature: int = 1,
    path: AnnealingPath | None = None,
    reverse: State | None = None,
    seed: int | None = None,
    **setup: Any,
) -> AnnealedEvidence:
    """Estimate log p(data) by annealed importance sampling, all chains and data at once.

    Args:
        engine: model and moves.
        data: as `engine.init`.
        num_temperatures: steps between prior and posterior.
        num_chains: K, independent chains per data point.
        sweeps_per_temperature: sweeps at each step.
        path: temperatures and frozen moves; fitted on a pilot cloud of `num_chains` (at least 2) by
            default.
        reverse: for simulated data, a cloud whose particles are exact posterior draws (those that
            made the data): the path is run from the posterior to the prior, and the estimate
            becomes an upper bound in expectation.
        seed: seeds the engine's generator.
        setup: `masks`, `do`, `batch_size`, `length`, as `engine.init`.

    Raises:
        ModelError: for less than one temperature.
        MoveError: where a latent site has no sound move.
    """
    if num_temperatures < 1:
        raise ModelError(f"num_temperatures={num_temperatures}: expected at least 1.")
    chains = engine.with_num_particles(num_chains)
    with no_validation(), torch.no_grad():
        if path is None:
            pilot = engine.with_num_particles(max(num_chains, 2))
            path = fit_path(pilot, pilot.init(data, seed=seed, **setup), num_temperatures)
            chains.generator = pilot.generator
            seed = None
        if reverse is not None:
            start = reverse.replace(cache={})
        else:
            start = chains.init(data, seed=seed, **setup)
        engine.generator = chains.generator
        return _walk(chains, start, path, sweeps_per_temperature, reverse=reverse is not None)


def _walk(
    engine: Sampler, state: State, path: AnnealingPath, sweeps: int, *, reverse: bool
) -> AnnealedEvidence:
    """Follow the path and weigh by the increments of the likelihood's power."""
    powers = path.inverse_temperatures.tolist()
    steps = list(pairwise([0.0, *powers]))
    if reverse:
        steps = [(after, before) for before, after in reversed(steps)]
    fitted = list(path.adaptations)
    log_weights = torch.zeros_like(log_likelihood(state))
    acceptance: dict[str, Tensor] = {}
    for before, after in steps:
        log_weights = log_weights + (after - before) * log_likelihood(state)
        if after == 0:  # the prior needs no move: the walk ends here
            break
        knot = path.nearest(after)
        state = set_inverse_temperature(
            state, torch.full((state.batch_size,), after).to(state.log_weights)
        )
        state = state.replace(adaptation=fitted[knot])
        for _ in range(sweeps):
            state, info = engine.sweep(state, adapt=False, log_joint=False)
            for name, rate in info.acceptance.items():
                acceptance[name] = acceptance.get(name, 0) + rate / (sweeps * len(powers))
        fitted[knot] = state.adaptation  # keeps the factorisations
    mean = torch.logsumexp(log_weights, 0) - math.log(log_weights.shape[0])
    return AnnealedEvidence(
        log_evidence=-mean if reverse else mean,
        log_weights=log_weights,
        ess_fraction=ess(log_weights) / log_weights.shape[0],
        inverse_temperatures=path.inverse_temperatures,
        acceptance=acceptance,
        state=state if reverse else set_inverse_temperature(state, None),
    )
