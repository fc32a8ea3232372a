"""What one more outcome teaches about a row of a table, each row by itself."""

import numpy as np
import torch
from scipy.special import digamma, entr
from torch import Tensor

from aif_dcpc.agents.arrays import Floats


def alone(counts: Tensor, base: Floats) -> Floats:
    """I(outcome; row of the table) in nats, `(R, P)`, of every row and place by itself.

    What other places taught says how an outcome is foreseen, but not that it need not be tried: a
    row is asked as if it were the only one, with a Dirichlet prior of mass 1.

    Args:
        counts: `(R, P, O)` expected counts.
        base: `(O,)` base measure.
    """
    prior = base.astype(float)
    novelty = np.full(counts.shape[:2], float(_dirichlet_information(prior)))
    met = (counts.sum(-1) > 0).numpy()
    novelty[met] = _dirichlet_information(prior + counts[torch.as_tensor(met)].double().numpy())
    return novelty


def _dirichlet_information(parameters: Floats) -> Floats:
    """Mutual information of a draw and the probabilities, `(...)`, for Dirichlet parameters `(..., O)`."""
    total = parameters.sum(-1, keepdims=True)
    mean = parameters / total
    known = digamma(total[..., 0] + 1) - (mean * digamma(parameters + 1)).sum(-1)
    information: Floats = entr(mean).sum(-1) - known
    return information
