"""The unnormalised log complete conditional of a site: log gamma(z), the sum of the log densities that read it.

Given all other sites, p(z | rest) is proportional to gamma(z), the product of the site's own factor
and those of its children (Sennesh, Wu, Salvatori 2024, arXiv 2408.05834).
For a series every factor counts at each slice of the site that it reads; the sum by slice is the
complete conditional of one slice as long as the slices that move at once share no factor (see
`layout`).
"""

from collections.abc import Iterable

from torch import Tensor

from aif_dcpc.inference.model.densities import accumulate, evaluate, factors_of
from aif_dcpc.inference.model.factor_graph import Argument, Factor
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import State


def log_conditional(state: State, site: Site, value: Tensor) -> Tensor:
    """Evaluate log gamma at one value of the site per particle.

    Args:
        state: gives all other sites.
        site: a latent site.
        value: `(K, B, [T,] *event)` in unconstrained coordinates.

    Returns:
        nats by slice, `(K, B, T or 1)`.
    """
    total = zeros_by_slice(state, site, value)
    for factor in factors_of(state, site.name):
        log_prob = evaluate(state, factor, {site.name: value}, scores=False).log_prob
        add_by_slice(total, state, site, factor, log_prob)
    return total


def log_conditionals(state: State, site: Site, tries: Tensor) -> Tensor:
    """Evaluate log gamma at several values of the site per particle, all at once along the particle axis.

    Args:
        state: gives all other sites.
        site: a latent site.
        tries: `(M, K, B, [T,] *event)` in unconstrained coordinates.

    Returns:
        nats by slice, `(M, K, B, T or 1)`.
    """
    count = tries.shape[0]
    repeated = _with_particles_repeated(state, site, count)
    return log_conditional(repeated, site, tries.flatten(0, 1)).unflatten(0, (count, -1))


def log_conditional_ratio(
    state: State, site: Site, value: Tensor, factors: Iterable[Factor]
) -> Tensor:
    """Evaluate what some factors contribute to log gamma(value) - log gamma(present value), `(K, B, T or 1)` nats."""
    total = zeros_by_slice(state, site, value)
    for factor in factors:
        new = evaluate(state, factor, {site.name: value}, scores=False).log_prob
        old = evaluate(state, factor, scores=False).log_prob
        add_by_slice(total, state, site, factor, new - old)
    return total


def zeros_by_slice(state: State, site: Site, value: Tensor) -> Tensor:
    """Give zeros for every slice of a site's value `(K, B, [T,] *event)`, `(K, B, T or 1)`."""
    slices = 1 if site.period is None else value.shape[2]
    return state.log_weights.new_zeros(*value.shape[:2], slices)


def add_by_slice(total: Tensor, state: State, site: Site, factor: Factor, part: Tensor) -> None:
    """Add a factor's quantity, in place, at every slice of the site that the factor reads."""
    for lag in factor.lags(site.name):
        accumulate(total, state, site, factor, Argument(site.name, lag), part)


def _with_particles_repeated(state: State, site: Site, times: int) -> State:
    """Repeat the particle axis of every site but this one, whose values are given anew.

    Sites that are held have values of their own at each particle as well.
    """
    values = dict(state.values)
    for name, value in state.values.items():
        is_by_particle = name in state.conditioning.latent or len(value) > 1
        if is_by_particle and name != site.name:
            values[name] = value.repeat(times, *[1] * (value.ndim - 1))
    return state.replace(values=values)
