"""What one more outcome teaches about a row of a table, each row by itself."""

import numpy as np
from scipy.special import digamma, entr

from aif_dcpc.agents.arrays import Floats


def dirichlet_information(parameters: Floats) -> Floats:
    """Mutual information of a draw and the probabilities, `(...)`, for Dirichlet parameters `(..., O)`."""
    total = parameters.sum(-1, keepdims=True)
    mean = parameters / total
    known = digamma(total[..., 0] + 1) - (mean * digamma(parameters + 1)).sum(-1)
    information: Floats = np.maximum(entr(mean).sum(-1) - known, 0)
    return information
