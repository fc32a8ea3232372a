"""Whether draws can be trusted, and what to do where they cannot.

Each chain is looked at on its own: a mean over many hides the one that stands still.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aif_dcpc.inference.queries.diagnostics import split_r_hat

MAX_R_HAT = 1.05
AIM_R_HAT = 1.03  # draws go on until here, or the budget ends
STUCK = 0.1
APART = 3.0
FAR_MODES = 2.0  # R-hat above which chains sit in different places altogether


@dataclass(frozen=True)
class Verdict:
    """How a set of draws looks.

    Attributes:
        r_hat: the worst, over coordinates and charts.
        site: where it is.
        stuck: share of chains whose proposals are hardly ever accepted.
        astray: share of chains whose log density lies far below the others'.
        lowest: the least mean acceptance of a chain.
    """

    r_hat: float
    site: str
    stuck: float
    astray: float
    lowest: float

    def with_ranks(self, r_hats: Mapping[str, Tensor]) -> "Verdict":
        """The verdict once R-hat on ranks is known by site."""
        worst, site = max((float(x.max()), name) for name, x in r_hats.items())
        return replace(self, r_hat=worst, site=site) if worst > self.r_hat else self

    @property
    def is_good(self) -> bool:
        """Whether nothing stands against the draws."""
        return self.r_hat <= MAX_R_HAT and not self.stuck and not self.astray

    @property
    def is_settled(self) -> bool:
        """Whether more draws would add nothing but precision."""
        return self.is_good and self.r_hat <= AIM_R_HAT

    def warnings(self) -> tuple[str, ...]:
        """One sentence for each cause, with its remedy."""
        said = []
        if self.stuck:
            said.append(
                f"{self.stuck:.1%} of the chains stand still (acceptance {self.lowest:.2f} at worst): the posterior "
                "has a region that is much narrower than the rest, which is undersampled; "
                "rewrite scale parameters with proper priors away from 0, or use float64."
            )
        if self.astray:
            said.append(
                f"{self.astray:.1%} of the chains lie far below the others in log density: they have not arrived; "
                "call sample with more max_seconds, or another seed."
            )
        if self.r_hat > FAR_MODES and not self.stuck:
            said.append(
                f"site {self.site!r}: chains sit in separate regions (R-hat {self.r_hat:.3g}): several modes, whose "
                "weights these draws do not tell; use engine.temper(data), or break a symmetry of labels by an order."
            )
        elif self.r_hat > MAX_R_HAT:
            said.append(
                f"site {self.site!r}: chains disagree (R-hat {self.r_hat:.3g}, expected below {MAX_R_HAT}): mixing is "
                "slow; call sample with more max_seconds."
            )
        return tuple(said)


def judge(
    places: list[Tensor],
    outside: list[tuple[str, Tensor]],
    log_prob: Tensor,
    acceptance: Tensor,
    sites: list[str],
) -> Verdict:
    """Judge draws by chain and by coordinate.

    Args:
        places: by chart, `(S, K, G, D)`.
        outside: other latents by name, `(S, K, B, [T,] *event)`.
        log_prob: `(S, K, G)` nats.
        acceptance: `(K, G)`, mean of each chain.
        sites: name of the site of each of the D coordinates.
    """
    r_hats = [(float(quick_r_hat(x).max()), name) for name, x in outside]
    if places:
        found = torch.stack([quick_r_hat(x) for x in places]).amax((0, 1))
        r_hats += list(zip(found.tolist(), sites, strict=True))
    worst, site = max(r_hats)
    height = log_prob.double().mean(0)
    middle = height.median(0).values
    spread = log_prob.double().flatten(0, 1).std(0).clamp_min(1e-6)
    astray = height < middle - APART * spread
    stuck = acceptance < STUCK
    return Verdict(
        worst,
        site,
        float(stuck.double().mean()),
        float(astray.double().mean()),
        float(acceptance.min()),
    )


def quick_r_hat(draws: Tensor) -> Tensor:
    """Split R-hat of draws `(S, K, *rest)` and of their distances from the mean, without ranks."""
    x = draws.double()
    folded = (x - x.mean((0, 1))).abs()
    return torch.maximum(split_r_hat(x), split_r_hat(folded))
