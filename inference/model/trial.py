"""Is every kernel able to score what it draws? Tried once on a first cloud, before the first sweep."""

import torch

from aif_dcpc.inference.errors import ModelError, named_failure
from aif_dcpc.inference.model.densities import active_factors, evaluate
from aif_dcpc.inference.model.factor_graph import Factor
from aif_dcpc.inference.model.state import FactorValue, State


def scored(state: State) -> State:
    """Evaluate every factor with its scores, and keep them in the cache.

    Raises:
        ModelError: for one that fails, or whose log density does not lie along particles and data.
    """
    cache = dict(state.cache)
    for factor in active_factors(state):
        with named_failure(f"site {factor.site.name!r}: its kernel cannot score a value"):
            found = evaluate(state, factor)
        _check_shape(state, factor, found)
        cache[factor.key] = found
    return state.replace(cache=cache)


def _check_shape(state: State, factor: Factor, found: FactorValue) -> None:
    """Refuse log densities of other axes than `(K or 1, B or 1, [T or 1])`."""
    site = factor.site
    shape = tuple(found.log_prob.shape)
    widest = [state.num_particles, state.batch_size]
    if site.period is not None:
        start, stop = factor.slices(state.values[site.name].shape[2])
        widest.append(stop - start)
    fits = len(shape) == len(widest) and all(
        n in (1, most) for n, most in zip(shape, widest, strict=True)
    )
    if not fits:
        raise ModelError(
            f"site {site.name!r}: its log density has shape {shape}, expected {tuple(widest)} "
            "(K, B, [T]); the distribution's batch shape must start with the leading axes of the "
            "parents."
        )
    if not torch.is_floating_point(found.log_prob):
        raise ModelError(
            f"site {site.name!r}: its log density is {found.log_prob.dtype}, expected real numbers."
        )
