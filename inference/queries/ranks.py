"""Diagnostics of draws on ranks, all coordinates at once: R-hat, bulk and tail effective sample size.

Reference: Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021, "Rank-normalization, folding, and
localization: an improved R-hat".
"""

import torch
from torch import Tensor

from aif_dcpc.inference.queries.diagnostics import effective_sample_size, split_r_hat


def rank_r_hat(draws: Tensor) -> Tensor:
    """Split R-hat on ranks, folded and not, of draws `(S, K, *rest)`: `(*rest)`."""
    folded = (draws - draws.flatten(0, 1).median(0).values).abs()
    return torch.maximum(split_r_hat(normal_scores(draws)), split_r_hat(normal_scores(folded)))


def bulk_ess(draws: Tensor) -> Tensor:
    """Effective number of independent draws for the middle of the distribution, `(*rest)`."""
    return effective_sample_size(normal_scores(draws))


def tail_ess(draws: Tensor) -> Tensor:
    """Effective number for the 5 % and the 95 % quantile, the smaller of both, `(*rest)`."""
    flat = draws.flatten(0, 1)
    ordered = flat.sort(0).values
    low = ordered[int(0.05 * (len(flat) - 1))]
    high = ordered[int(0.95 * (len(flat) - 1))]
    below = effective_sample_size((draws <= low).double())
    above = effective_sample_size((draws <= high).double())
    return torch.minimum(below, above)


def normal_scores(draws: Tensor) -> Tensor:
    """Ranks among all chains' draws as quantiles of a standard normal, float64; ties share a rank."""
    flat = draws.flatten(0, 1)
    columns = flat.reshape(len(flat), -1).T.contiguous()
    ordered = columns.sort(-1).values
    below = torch.searchsorted(ordered, columns)
    up_to = torch.searchsorted(ordered, columns, right=True)
    ranks = (below + up_to + 1).double() / 2
    scores = torch.special.ndtri((ranks - 0.375) / (len(flat) + 0.25))
    return scores.T.reshape(draws.shape)
