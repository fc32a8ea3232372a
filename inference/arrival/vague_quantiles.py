"""Quantiles that slow chains do not know: a tail that all of them enter seldom and leave late.

Chains that have all begun in the same part agree, and their R-hat is near 1, before they have been in a
tail for long enough to know how much of the posterior lies there. How far the 5 % and the 95 % quantile
would move with their share of draws, by the effective samples of the tails, tells.

Reference: Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021 (arXiv 1903.08008), section 4.4.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.queries.ranks import HIGH, LOW

MOST_ERROR = 0.1  # standard deviations of a normal law as wide; two of them are an error of .2
NORMAL_WIDTH = 3.2897  # from the 5 % to the 95 % quantile of a normal law, in standard deviations


@dataclass(frozen=True)
class VagueQuantile:
    """A quantile, and how well it is known.

    Attributes:
        site: where it is.
        level: .05 or .95.
        error: its standard error, in standard deviations of a normal law as wide.
    """

    site: str = ""
    level: float = HIGH
    error: float = 0.0

    def warning(self) -> str:
        """One sentence with its remedy; empty where the quantile is known well enough."""
        if self.error <= MOST_ERROR:
            return ""
        return (
            f"site {self.site!r}: its chains enter a tail seldom and leave it late: the {100 * self.level:.0f} % "
            f"quantile is known to {self.error:.2f} standard deviations at best; call sample with more max_seconds, or join "
            "the draws of several seeds."
        )


WELL_KNOWN = VagueQuantile()


def vaguest_quantile(
    draws: Mapping[str, Tensor], tail_ess: Mapping[str, Tensor], names: Iterable[str]
) -> VagueQuantile:
    """The least known 5 % or 95 % quantile of some sites.

    Args:
        draws: by site, `(S, K, *rest)`.
        tail_ess: by site, effective samples of its tails, `(*rest)`.
        names: continuous latents.
    """
    found = []
    for name in names:
        for level, errors in errors_of_quantiles(draws[name], tail_ess[name]).items():
            found.append(VagueQuantile(name, level, float(errors.max())))
    return max(found, key=lambda q: q.error, default=WELL_KNOWN)


def errors_of_quantiles(draws: Tensor, tail_ess: Tensor) -> dict[float, Tensor]:
    """Standard errors of both quantiles of draws `(S, K, *rest)`, in a normal law's deviations, `(N,)`.

    Half the way between the quantiles a standard error of the share further down and up; 0 where
    nothing varies.
    """
    ordered = draws.double().flatten(0, 1).flatten(1).sort(0).values
    size = tail_ess.double().flatten().clamp_min(1.0)
    width = (
        _at(ordered, size.new_full(size.shape, HIGH)) - _at(ordered, 0 * size + LOW)
    ) / NORMAL_WIDTH
    found = {}
    for level in (LOW, HIGH):
        error = (level * (1 - level) / size).sqrt()
        half = (_at(ordered, level + error) - _at(ordered, level - error)) / 2
        found[level] = torch.nan_to_num(half / width, posinf=0.0)
    return found


def _at(ordered: Tensor, share: Tensor) -> Tensor:
    """The values of sorted columns `(M, N)` that shares `(N,)` of the draws do not exceed, `(N,)`."""
    last = len(ordered) - 1
    place = (share * last).round().long().clamp(0, last)
    return ordered.gather(0, place.unsqueeze(0))[0]
