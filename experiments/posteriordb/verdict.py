"""Draws held against a reference: the worst error of a mean and of a standard deviation, and what to call them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Draws = Mapping[str, NDArray[np.float64]]  # parameter -> (chains, draws)
Known = Mapping[str, Mapping[str, Any]]  # parameter -> mean, sd, or quantiles
RIGHT = (0.1, 0.1)  # of a mean in reference standard deviations; of a standard deviation, relative
WRONG = (0.2, 0.2)
# positive parameters whose right tail is too heavy for moments: compared on logarithms
BY_LOGARITHMS = ("one_comp_mm_elim_abs-one_comp_mm_elim_abs",)
LEVELS = {"q05": 0.05, "q50": 0.5, "q95": 0.95}
NORMAL_WIDTH = 3.2897  # from the 5 % to the 95 % quantile of a normal law, in standard deviations


@dataclass(frozen=True)
class Errors:
    """The worst errors over all parameters.

    Attributes:
        mean: error of a mean, in the reference's standard deviations.
        mean_at: of which parameter.
        sd: relative error of a standard deviation.
        sd_at: of which parameter.
    """

    mean: float
    mean_at: str
    sd: float
    sd_at: str

    @property
    def verdict(self) -> str:
        """One of right, middling and wrong; what is not finite is wrong."""
        if self.mean < RIGHT[0] and self.sd < RIGHT[1]:
            return "right"
        return "middling" if self.mean <= WRONG[0] and self.sd <= WRONG[1] else "wrong"


def errors(posterior: str, draws: Draws, known: Known) -> Errors:
    """Compare every parameter of a reference.

    Args:
        posterior: its name.
        draws: all parameters of the reference, perhaps others.
        known: the reference's `parameters`.
    """
    compare = _by_logarithms if posterior in BY_LOGARITHMS else _by_moments
    with np.errstate(all="ignore"):
        found = {name: compare(draws[name], row) for name, row in known.items()}
    by_mean = {name: _finite(mean) for name, (mean, _) in found.items()}
    by_sd = {name: _finite(sd) for name, (_, sd) in found.items()}
    mean_at = max(by_mean, key=by_mean.__getitem__)
    sd_at = max(by_sd, key=by_sd.__getitem__)
    return Errors(by_mean[mean_at], mean_at, by_sd[sd_at], sd_at)


def called(errors: Errors, *, warned: bool) -> str:
    """The verdict on a run; a wrong one without a warning is "silently wrong"."""
    silent = errors.verdict == "wrong" and not warned
    return "silently wrong" if silent else errors.verdict


def _by_moments(values: NDArray[np.float64], known: Mapping[str, float]) -> tuple[float, float]:
    mean = abs(values.mean() - known["mean"]) / known["sd"]
    return mean, abs(values.std(ddof=1) / known["sd"] - 1)


def _by_logarithms(values: NDArray[np.float64], known: Mapping[str, float]) -> tuple[float, float]:
    """Three quantiles of the logarithm; its standard deviation is that of a normal law as wide.

    The first error is the worst of the three quantiles', the second that of the width.
    """
    found = np.log(np.quantile(values, list(LEVELS.values())))
    expected = np.log([known[level] for level in LEVELS])
    width = expected[2] - expected[0]
    worst = np.abs(found - expected).max() / (width / NORMAL_WIDTH)
    return worst, abs((found[2] - found[0]) / width - 1)


def _finite(error: float) -> float:
    return float(error) if np.isfinite(error) else float("inf")
