"""How well chains have mixed, by ArviZ: the same formulas for every sampler."""

import arviz
import numpy as np
from numpy.typing import NDArray

from aif_dcpc.experiments.posteriordb.verdict import Draws


def least_ess(draws: Draws) -> float:
    """The least bulk effective sample size of any parameter; 0 where one does not move."""
    return min(_ess(values) for values in draws.values())


def worst_r_hat(draws: Draws) -> float:
    """The worst R-hat of any parameter, on ranks, a lone chain in halves; infinite where one does not move."""
    return max(_r_hat(values) for values in draws.values())


def _ess(values: NDArray[np.float64]) -> float:
    return float(np.nan_to_num(arviz.ess(values, method="bulk"))) if _moves(values) else 0.0


def _r_hat(values: NDArray[np.float64]) -> float:
    halves = values.reshape(2, -1) if len(values) == 1 else values
    return float(np.nan_to_num(arviz.rhat(halves), nan=np.inf)) if _moves(values) else np.inf


def _moves(values: NDArray[np.float64]) -> bool:
    """Whether draws differ; ArviZ takes those that do not for independent ones."""
    return bool(np.ptp(values) > 0)
