"""Importance sampling of the evidence from a proposal fitted to posterior draws, and what its weights say.

Discrete latents are summed out exactly (`elimination`); for the continuous ones a Gauss-Markov
proposal is fitted to one half of the draws. Its own draws weigh the posterior (`log_weights`); the
other half of the posterior's draws, weighed the same way, enters the bridge estimate, which sees
where the posterior reaches and the proposal does not.

References: Meng and Wong 1996 for bridge sampling; Zhang and Stephens 2009, Vehtari, Simpson,
Gelman, Yao, Gabry 2024 (arXiv 1507.02646) for k-hat.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.model.densities import active_factors, evaluate
from aif_dcpc.inference.model.elimination import eliminate
from aif_dcpc.inference.model.isolation import rng_from
from aif_dcpc.inference.model.resampling import is_coupled
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.queries.gauss_markov import GaussMarkov

VALUES_PER_CHUNK = 2**21
BRIDGE_STEPS = 30


@dataclass(frozen=True)
class Importance:
    """Log ratios log p(data, z) - log q(z) at draws of a proposal and of the posterior.

    Attributes:
        log_weights: `(N, B or 1)` nats, at draws of the proposal q.
        posterior_log_weights: `(N', B or 1)` nats, at draws of the posterior that q was not fitted
            to.
    """

    log_weights: Tensor
    posterior_log_weights: Tensor

    @property
    def log_evidence(self) -> Tensor:
        """Importance sampling estimate, `(B or 1,)` nats."""
        return torch.logsumexp(self.log_weights, 0) - math.log(len(self.log_weights))

    @property
    def standard_error(self) -> Tensor:
        """Standard error of the estimate by the spread of the weights, `(B or 1,)` nats."""
        ratios = (self.log_weights - self.log_evidence).exp()
        return ratios.std(0) / len(ratios) ** 0.5

    @property
    def bridge(self) -> Tensor:
        """Bridge sampling estimate, `(B or 1,)` nats."""
        return bridge_log_evidence(self.log_weights, self.posterior_log_weights)


def bridge_log_evidence(proposed: Tensor, drawn: Tensor) -> Tensor:
    """Estimate the log evidence from log ratios p / q at draws of q and of p, `(B,)` nats.

    Iterates Meng and Wong's optimal bridge: the mean over q of r / (s1 r + s2 Z) over the mean over
    p of 1 / (s1 r + s2 Z), with r the ratios, and s1, s2 the shares of draws of p and of q.

    Args:
        proposed: `(N, B)`, log ratios at draws of q.
        drawn: `(N', B)`, log ratios at draws of p.
    """
    total = len(proposed) + len(drawn)
    log_s1 = math.log(len(drawn) / total)
    log_s2 = math.log(len(proposed) / total)
    found = torch.logsumexp(proposed, 0) - math.log(len(proposed))
    for _ in range(BRIDGE_STEPS):
        above = proposed - torch.logaddexp(log_s1 + proposed, log_s2 + found)
        below = -torch.logaddexp(log_s1 + drawn, log_s2 + found)
        mean_above = torch.logsumexp(above, 0) - math.log(len(proposed))
        found = mean_above - torch.logsumexp(below, 0) + math.log(len(drawn))
    return found


def weigh(
    state: State,
    draws: Mapping[str, Tensor],
    number: int,
    generator: torch.Generator | None,
    max_cells: int,
) -> Importance:
    """Fit a proposal to posterior draws and weigh draws of both.

    Args:
        state: the conditioning and the data.
        draws: continuous latent -> `(N, B or 1, [T,] *event)` draws from the posterior in
            unconstrained coordinates, at least 4; those of one chain are one after the other.
        number: draws of the proposal.
        generator: source of randomness.
        max_cells: values of the largest table of discrete sites, which bounds the memory.
    """
    half = len(next(iter(draws.values()))) // 2
    proposal = GaussMarkov(state, {n: x[:half] for n, x in draws.items()})
    size = max(64, VALUES_PER_CHUNK // (max_cells * state.batch_size * max(state.length, 1)))
    proposed = []
    with rng_from(generator):
        for start in range(0, number, size):
            values, own, shared = proposal.sample(min(size, number - start))
            proposed.append(_log_ratio(state, values, own, shared))
    drawn = []
    for start in range(half, 2 * half, size):
        values = {n: x[start : min(start + size, 2 * half)] for n, x in draws.items()}
        drawn.append(_log_ratio(state, values, *proposal.log_prob(values)))
    return Importance(torch.cat(proposed), torch.cat(drawn))


def _log_ratio(state: State, values: Mapping[str, Tensor], own: Tensor, shared: Tensor) -> Tensor:
    """log p - log q, `(N, B)`, or `(N, 1)` where data are coupled."""
    log_q = own.sum(1, keepdim=True) + shared if is_coupled(state) else own
    return marginal_log_joint(state, values, len(own)) - log_q


def marginal_log_joint(state: State, values: Mapping[str, Tensor], number: int) -> Tensor:
    """log p(data, continuous latents) nats, discrete ones summed out.

    Args:
        state: the conditioning and the data.
        values: continuous latent -> `(number, B or 1, [T,] *event)`, unconstrained coordinates.
        number: of particles.

    Returns:
        `(number, B)`, or `(number, 1)` for all data together where they are coupled; minus infinity
            for impossible data.
    """
    discrete = state.conditioning.discrete
    idle = {n: state.values[n][:1] for n in discrete}  # never read
    weights = state.log_weights.new_zeros(number, state.batch_size)
    state = state.replace(
        values={**state.values, **idle, **values}, log_weights=weights, cache={}, adaptation={}
    )
    own = torch.zeros_like(weights).double()
    shared = own[:, :1]
    if discrete:
        own, shared = eliminate(state, discrete).log_normaliser()
    for factor in active_factors(state):
        if discrete.isdisjoint(argument.site for argument in factor.inputs):
            log_prob = evaluate(state, factor, scores=False).log_prob
            total = (log_prob if log_prob.ndim == 2 else log_prob.sum(2)).double()
            if factor.site.scope == "global":
                shared = shared + total
            else:
                own = own + total
    if is_coupled(state):
        return own.sum(1, keepdim=True) + shared
    return own + shared / state.batch_size


def pareto_k(log_weights: Tensor) -> Tensor:
    """Shape of the generalised Pareto law that fits the largest weights, `(N, B)` to `(B,)`.

    Distrust the weights where it is above .7.

    Zhang and Stephens 2009 with the prior of Vehtari et al. 2024, on the min(N/5, 3 sqrt N) largest
    weights.
    """
    number = len(log_weights)
    tail = int(min(0.2 * number, 3 * math.sqrt(number)))
    if tail < 5:
        return torch.full_like(log_weights[0], math.inf)
    largest = (log_weights - log_weights.max(0).values).double().sort(0).values[-tail - 1 :].exp()
    x = (largest[1:] - largest[0]).clamp_min(1e-300)
    grid = 30 + int(math.sqrt(tail))
    steps = torch.arange(1, grid + 1, device=x.device).double()[:, None]
    quartile = x[(tail + 2) // 4 - 1]
    theta = 1 / x[-1] + (1 - (grid / (steps - 0.5)).sqrt()) / (3 * quartile)  # (grid, B)
    shape = torch.log1p(-theta[:, None] * x).mean(1)
    profile = tail * (torch.log((-theta / shape).clamp_min(1e-300)) - shape - 1)
    mean = (theta * torch.softmax(profile, 0)).sum(0)
    k = torch.log1p(-mean * x).mean(0)
    k = (tail * k + 5) / (tail + 10)
    return torch.nan_to_num(k, nan=math.inf).to(log_weights.dtype)
