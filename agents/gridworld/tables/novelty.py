"""What one more draw teaches about a row of a table, each row by itself."""

import numpy as np
from scipy.special import digamma, entr, gammaln

from aif_dcpc.agents.arrays import Floats

TINY = 1e-30  # parameter of what cannot be


def row_information(base: Floats, counts: Floats, alphas: Floats, shares: Floats) -> Floats:
    """Mutual information of the next draw and a row whose concentration is not known, `(...)` nats.

    The row is Dirichlet(alpha base), alpha one of `alphas` `(H,)` with probabilities `shares` `(H,)`:

        H[mean] - sum over alpha of p(alpha | counts) E[H(row) | alpha, counts]

    Args:
        base: `(..., O)` base measure, zero where x is impossible.
        counts: `(..., O)` what the row has given.
    """
    upright = alphas.reshape(-1, *(1,) * counts.ndim)
    prior = np.maximum(upright * base, TINY)
    rows = prior + counts
    total = rows.sum(-1)
    evidence = (gammaln(rows) - gammaln(prior)).sum(-1) + gammaln(upright[..., 0]) - gammaln(total)
    weights = shares.reshape(-1, *(1,) * (counts.ndim - 1)) * np.exp(evidence - evidence.max(0))
    weights /= weights.sum(0)
    means = rows / total[..., None]
    known = digamma(total + 1) - (means * digamma(rows + 1)).sum(-1)
    mean = (weights[..., None] * means).sum(0)
    information: Floats = np.maximum(entr(mean).sum(-1) - (weights * known).sum(0), 0)
    return information
