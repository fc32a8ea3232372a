"""Diagnostics of draws on ranks, all coordinates at once: R-hat, bulk and tail effective sample size.

Reference: Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021, "Rank-normalization, folding, and
localization: an improved R-hat".
"""

from typing import NamedTuple

import torch
from torch import Tensor

from aif_dcpc.inference.queries.mixing import effective_sample_size, split_r_hat

LOW = 0.05
HIGH = 0.95


class RankDiagnostics(NamedTuple):
    """What ranks say of draws `(S, K, *rest)`, each `(*rest)`.

    Attributes:
        r_hat: split R-hat on ranks, the larger of plain and folded.
        bulk_ess: effective number of independent draws for the middle of the distribution.
        tail_ess: that for the 5 % and the 95 % quantile, the smaller of both.
    """

    r_hat: Tensor
    bulk_ess: Tensor
    tail_ess: Tensor


def rank_diagnostics(draws: Tensor) -> RankDiagnostics:
    """All three at the price of two sorts."""
    flat = draws.flatten(0, 1)
    columns = flat.reshape(len(flat), -1).T.contiguous()
    ordered, order = columns.sort(-1)
    scores = _scores(ordered, order, draws)
    folded = (draws - _median(ordered).reshape(draws.shape[2:])).abs()
    return RankDiagnostics(
        torch.maximum(split_r_hat(scores), split_r_hat(normal_scores(folded))),
        _ess(scores),
        _tail_ess(draws, ordered),
    )


def normal_scores(draws: Tensor) -> Tensor:
    """Ranks among all chains' draws as quantiles of a standard normal; ties share a rank."""
    flat = draws.flatten(0, 1)
    return _scores(*flat.reshape(len(flat), -1).T.contiguous().sort(-1), draws)


def _scores(ordered: Tensor, order: Tensor, like: Tensor) -> Tensor:
    """Normal scores of sorted columns `(C, N)`, put back in the places that `order` came from."""
    number = ordered.shape[-1]
    places = torch.arange(1.0, number + 1, dtype=torch.float64, device=ordered.device)
    if bool((ordered[:, 1:] == ordered[:, :-1]).any()):
        places = _shared_ranks(ordered, places)
    quantiles = torch.special.ndtri((places - 0.375) / (number + 0.25)).expand(ordered.shape)
    scores = torch.empty_like(quantiles.contiguous()).scatter_(-1, order, quantiles)
    return scores.T.reshape(like.shape)


def _shared_ranks(ordered: Tensor, places: Tensor) -> Tensor:
    """The mean rank of each group of equal values."""
    places = places.expand(ordered.shape)
    differs = ordered[:, 1:] != ordered[:, :-1]
    edge = torch.ones_like(differs[:, :1])
    first = torch.where(torch.cat([edge, differs], 1), places, 0.0).cummax(-1).values
    far = float(ordered.shape[-1] + 1)
    last = torch.where(torch.cat([differs, edge], 1), places, far)
    last = last.flip(-1).cummin(-1).values.flip(-1)
    return (first + last) / 2


def _median(ordered: Tensor) -> Tensor:
    """The middle of sorted columns `(C, N)`, or the mean of both middle ones, `(C, 1)`."""
    number = ordered.shape[-1]
    return (ordered[:, (number - 1) // 2, None] + ordered[:, number // 2, None]) / 2


def _at(ordered: Tensor, share: float) -> Tensor:
    """The largest value of sorted columns `(C, N)` that does not exceed a quantile, `(C, 1)`."""
    return ordered[:, int(share * (ordered.shape[-1] - 1)), None]


def _ess(draws: Tensor) -> Tensor:
    """Effective number of draws; what is constant is known exactly, so every draw of it counts."""
    spread = draws.amax((0, 1)) - draws.amin((0, 1))
    found = effective_sample_size(draws)
    number = float(draws.shape[0] // 2 * 2 * draws.shape[1])
    return torch.where(spread == 0, torch.full_like(found, number), found)


def _tail_ess(draws: Tensor, ordered: Tensor) -> Tensor:
    low = _at(ordered, LOW).reshape(draws.shape[2:])
    high = _at(ordered, HIGH).reshape(draws.shape[2:])
    below = _ess((draws <= low).float())
    above = _ess((draws <= high).float())
    return torch.minimum(below, above)
