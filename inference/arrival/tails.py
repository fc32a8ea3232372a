"""Tails that chains of Hamiltonian moves do not explore: those without a variance.

Where the tail of a density falls as a power, a trajectory sees next to no slope there: chains enter
seldom and come back late, and neither means nor R-hat on ranks tell. Two things together do: the
index of the tail (Hill 1975), which is below 2 where there is no variance, and few effective draws of
being in the outermost hundredth. A scale that moves beside its site explores the same tail well.
"""

import torch
from torch import Tensor

from aif_dcpc.inference.queries.mixing import effective_sample_size

OUTER = 0.02  # share of the draws by which the index of a tail is estimated
FAR = 0.01
LEAST_INDEX = 2.5  # an estimate of less than 2 is often above it where few chains go out
LEAST_SHARE = 0.2  # of draws that are effective for the outermost hundredth
LEAST_DRAWS = 2000


def has_unexplored_tails(draws: Tensor) -> Tensor:
    """Tell of draws `(S, K, G, D)` whose tails are heavy and badly mixed, `(G, D)`."""
    number = draws.shape[0] * draws.shape[1]
    found = torch.zeros(draws.shape[2:], dtype=torch.bool, device=draws.device)
    if number < LEAST_DRAWS:
        return found
    outer = (draws - draws.flatten(0, 1).median(0).values).abs()
    heavy = tail_index(outer.flatten(0, 1)) < LEAST_INDEX
    if bool(heavy.any()):
        found[heavy] = _share_effective(outer[:, :, heavy]) < LEAST_SHARE
    return found


def tail_index(distances: Tensor) -> Tensor:
    """Hill's estimate from distances `(N, *rest)` from the middle, `(*rest)`."""
    number = max(int(OUTER * len(distances)), 2)
    top = distances.topk(number, 0).values.double().clamp_min(1e-300).log()
    return 1 / (top[:-1] - top[-1]).mean(0).clamp_min(1e-30)


def _share_effective(distances: Tensor) -> Tensor:
    """Effective draws of being far out, by draws, of distances `(S, K, C)`."""
    flat = distances.flatten(0, 1)
    edge = flat.kthvalue(int((1 - FAR) * len(flat)), 0).values
    return effective_sample_size((distances > edge).double()) / len(flat)
