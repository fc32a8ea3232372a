"""Whether arrays are the distributions, preferences and counts that planners take them for."""

import numpy as np
from scipy.special import logsumexp

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.errors import AgentError

ROUNDING = 1e-6  # by which probabilities may miss 1, and two decompositions each other


def check_chances(what: str, chances: Floats, shape: tuple[int | None, ...], axis: int = 0) -> None:
    """Refuse an array of another shape (None: any size), or whose sums along an axis are not 1."""
    fits = len(shape) == chances.ndim and all(
        wanted in (None, found) for wanted, found in zip(shape, chances.shape, strict=True)
    )
    if not fits or not chances.size:
        wanted_shape = str(shape).replace("None", "any")
        raise AgentError(f"{what}: expected shape {wanted_shape}, found {chances.shape}.")
    least = chances.min()
    if not least >= 0:
        raise AgentError(
            f"{what}: expected probabilities, found {float(least):.4g} as the least; are "
            "these logarithms, or NaN?"
        )
    wrong = np.abs(chances.sum(axis) - 1)
    if not (wrong <= ROUNDING).all():
        raise AgentError(
            f"{what}: expected sums of 1 along axis {axis}, found one that misses it by "
            f"{float(wrong.max()):.4g}; normalise that axis."
        )


def check_log_preferences(log_preferences: Floats, num_outcomes: int) -> None:
    """Refuse log preferences of another number of outcomes, and NaN or plus infinity."""
    if log_preferences.shape != (num_outcomes,):
        raise AgentError(
            f"log preferences: expected shape {(num_outcomes,)}, one for each outcome, found "
            f"{log_preferences.shape}."
        )
    if np.isnan(log_preferences).any() or (log_preferences == np.inf).any():
        raise AgentError(
            "log preferences: expected numbers in nats, or -inf for what must not happen, found "
            f"{log_preferences.tolist()}."
        )


def check_normalised(log_preferences: Floats) -> None:
    """Refuse log preferences that are no log probabilities, such as utilities: risk would be no divergence."""
    missed = float(logsumexp(log_preferences))
    if not abs(missed) <= ROUNDING:
        raise AgentError(
            "log preferences: expected logarithms of probabilities that sum to 1, found a sum of "
            f"exp({missed:.4g}); from utilities u take u - logsumexp(u)."
        )


def check_counts(what: str, counts: Floats, shape: tuple[int, ...], axis: int = 0) -> None:
    """Refuse Dirichlet parameters of another shape, below 0, or all 0 along an axis."""
    if counts.shape != shape:
        raise AgentError(f"{what}: expected shape {shape}, found {counts.shape}.")
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise AgentError(
            f"{what}: expected Dirichlet counts of at least 0, found {float(counts.min()):.4g} as "
            "the least."
        )
    if not (counts.sum(axis) > 0).all():
        raise AgentError(
            f"{what}: a distribution has no Dirichlet count above 0; give each a prior count."
        )
