"""Whether draws can be trusted, and what to do where they cannot.

Each chain is looked at on its own: a mean over many hides the one that stands still. Each cause is
told once: a chain that is lost is left out where it is asked whether the others agree.

Prediction errors, the gradients of the log density, average to zero over any posterior whose density
has no jumps. Where they do not, some part of it is visited too rarely, however well the chains agree.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.excursions import NO_EXCURSION, Excursion
from aif_dcpc.inference.arrival.tails import has_unexplored_tails
from aif_dcpc.inference.arrival.vague_quantiles import WELL_KNOWN, VagueQuantile
from aif_dcpc.inference.queries.mixing import split_r_hat

MAX_R_HAT = 1.05
AIM_R_HAT = 1.03  # draws go on until here, or the budget ends
STUCK = 0.1
APART = 3.0
FAR_MODES = 2.0  # R-hat above which chains sit in different places altogether
WANDERING = 1.1  # R-hat of the halves of one chain, above which it does not sit anywhere
LEANING = 5.0  # standard errors of a mean prediction error; about twice in a million coordinates by chance
LEAST_SHARE = 0.1  # below which chains agree by having all begun in the same part
LEAST_CHAINS = 16  # with fewer, a standard error over chains says little


@dataclass(frozen=True)
class Verdict:
    """How a set of draws looks.

    Attributes:
        r_hat: the worst, over coordinates and charts, of the chains that are not lost.
        site: where it is.
        stuck: share of chains whose proposals are hardly ever accepted.
        astray: share of chains whose log density lies far below the others'.
        lowest: the least mean acceptance of a chain.
        sources: `(K, G)`, each chain, or the one that stands for it where it is stuck or astray.
        not_finite: site with a draw that is not a number, or infinite; "" for none.
        heavy: site with tails that are too heavy to be explored; "" for none.
        lean: standard errors by which a mean prediction error misses zero, the worst.
        lean_site: where it is.
        unseen: share of the mass in a spike that no chain stands in.
        share: effective draws of a sweep of one chain, the least of the block's sites, tails included.
        excursion: the standard deviation that is known least.
        vague: the quantile that is known least, looked for where `share` is small.
        wanders: whether chains still move about where they disagree most.
    """

    r_hat: float
    site: str
    stuck: float
    astray: float
    lowest: float
    sources: Tensor
    not_finite: str = ""
    heavy: str = ""
    lean: float = 0.0
    lean_site: str = ""
    unseen: float = 0.0
    share: float = 1.0
    excursion: Excursion = NO_EXCURSION
    vague: VagueQuantile = WELL_KNOWN
    wanders: bool = False

    def with_ranks(self, r_hats: Mapping[str, Tensor]) -> "Verdict":
        """The verdict once R-hat on ranks is known by site."""
        known = [(worst(x), name) for name, x in r_hats.items() if name != self.not_finite]
        highest, site = max(known, default=(self.r_hat, self.site))
        return replace(self, r_hat=highest, site=site) if highest > self.r_hat else self

    @property
    def is_good(self) -> bool:
        """Whether nothing stands against the draws."""
        return not self.warnings()

    @property
    def is_settled(self) -> bool:
        """Whether more draws would add nothing but precision."""
        return self.is_good and self.r_hat <= AIM_R_HAT

    @property
    def is_slow(self) -> bool:
        """Whether more draws would help, and nothing else is known to."""
        disagree = MAX_R_HAT < self.r_hat <= FAR_MODES or bool(self.astray)
        is_slow = disagree or self.share < LEAST_SHARE
        return is_slow and not (self.heavy or self.not_finite or self.stuck)

    @property
    def wants_more(self) -> bool:
        """Whether more draws are what is missing, if only for chains to agree a little better."""
        return self.is_slow or (self.is_good and not self.is_settled)

    @property
    def may_improve(self) -> bool:
        """Whether smaller steps or longer trajectories may be a remedy."""
        lingering = self.excursion if self.excursion.lingers else NO_EXCURSION
        others = replace(self, unseen=0.0, excursion=lingering)
        is_known = others.is_good and self.share >= LEAST_SHARE
        return not (is_known or self.heavy or self.not_finite)

    def warnings(self) -> tuple[str, ...]:
        """One sentence for each cause, with its remedy."""
        said = [self._not_finite(), self._stuck(), self._heavy() or self._astray()]
        said += [self._disagreement(), self._leaning(), self._unseen()]
        said += [self._excursion() or self._vague()]
        return tuple(sentence for sentence in said if sentence)

    def _not_finite(self) -> str:
        if not self.not_finite:
            return ""
        return (
            f"site {self.not_finite!r}: some of its draws are infinite or not a number; "
            "check its kernel at extreme values of its parents, or use float64."
        )

    def _stuck(self) -> str:
        if not self.stuck:
            return ""
        return (
            f"{self.stuck:.1%} of the chains stand still (acceptance {self.lowest:.2f} at worst): the posterior "
            "has a region that is much narrower than the rest, which is undersampled; "
            "rewrite scale parameters with proper priors away from 0, or use float64."
        )

    def _heavy(self) -> str:
        if not self.heavy:
            return ""
        return (
            f"site {self.heavy!r}: its tails are too heavy for the chains to explore: extreme quantiles, mean "
            "and standard deviation are not to be trusted; write the site as a scale mixture (Student's t as "
            "Normal(m, s * w ** -0.5) with w ~ Gamma(df / 2, df / 2), a site of its own), or give it a "
            "prior with lighter tails."
        )

    def _astray(self) -> str:
        if not self.astray:
            return ""
        return (
            f"{self.astray:.1%} of the chains lie far below the others in log density: they have not arrived; "
            "call sample with more max_seconds, or another seed."
        )

    def _disagreement(self) -> str:
        if self.heavy or self.r_hat <= MAX_R_HAT or self.stuck + self.astray > 0.5:
            return ""
        if self.r_hat > FAR_MODES and not self.wanders:
            return (
                f"site {self.site!r}: chains sit in separate regions (R-hat {self.r_hat:.3g}): several modes, whose "
                "weights these draws do not tell; use engine.temper(data), or break a symmetry of labels by an order."
            )
        return (
            f"site {self.site!r}: chains disagree (R-hat {self.r_hat:.3g}, expected below {MAX_R_HAT}): mixing is "
            "slow; call sample with more max_seconds."
        )

    def _leaning(self) -> str:
        if self.lean <= LEANING or self.stuck or self.heavy or self._disagreement():
            return ""
        return (
            f"site {self.lean_site!r}: its prediction errors do not average to zero ({self.lean:.0f} standard "
            "errors off): a part of the posterior that is much narrower than the rest is undersampled; give the "
            "site a prior that spreads over fewer orders of magnitude, or rewrite it."
        )

    def _unseen(self) -> str:
        if not self.unseen or self.stuck:
            return ""
        return (
            f"about {self.unseen:.0%} of the mass lies in a spike that the chains step over, and no draw comes from "
            "it; use engine.temper(data), whose particles start from the prior, or write a mixture's value "
            "as location[k] + scale[k] * w, with sites k and w of their own."
        )

    def _excursion(self) -> str:
        return "" if self._is_told else self.excursion.warning()

    def _vague(self) -> str:
        return "" if self._is_told else self.vague.warning()

    @property
    def _is_told(self) -> bool:
        """Whether a fault is told that explains what tails show."""
        is_lost = self.not_finite or self.stuck or self.astray
        return bool(is_lost or self.heavy or self._disagreement())


def judge(
    places: list[Tensor],
    outside: list[tuple[str, Tensor]],
    log_prob: Tensor,
    acceptance: Tensor,
    sites: list[str],
    *,
    scores: Sequence[Tensor] = (),
    declared: Tensor | None = None,
    unseen: float = 0.0,
) -> Verdict:
    """Judge draws by chain and by coordinate.

    Args:
        places: by chart, `(S, K, G, D)`.
        outside: other latents by name, `(S, K, B, [T,] *event)`.
        log_prob: `(S, K, G)` nats.
        acceptance: `(K, G)`, mean of each chain.
        sites: name of the site of each of the D coordinates.
        scores: by chart, the mean prediction error of each chain, `(K, G, D)`.
        declared: draws in declared coordinates, `(S, K, G, D)`, whose tails are looked at.
        unseen: share of the mass in a spike without a draw.
    """
    height = log_prob.double().mean(0)
    middle = height.median(0).values
    spread = log_prob.double().flatten(0, 1).std(0).clamp_min(1e-6)
    astray = height < middle - APART * spread
    stuck = acceptance < STUCK
    sources = sources_of(~(astray | stuck))
    r_hat, site, not_finite = _agreement(places, outside, sites, sources)
    lean, lean_site = max(zip(leaning(scores, len(sites)), sites, strict=True), default=(0.0, ""))
    return Verdict(
        r_hat,
        site,
        float(stuck.double().mean()),
        float(astray.double().mean()),
        float(acceptance.min()),
        sources,
        not_finite,
        _heavy_site(declared, sites, sources),
        lean,
        lean_site,
        unseen,
        wanders=r_hat > FAR_MODES and _wanders([*places, *(x for _, x in outside)], sources),
    )


def _agreement(
    places: list[Tensor], outside: list[tuple[str, Tensor]], sites: list[str], sources: Tensor
) -> tuple[float, str, str]:
    """The worst R-hat and its site, and a site whose draws are not all finite."""
    parts = [([name], x.unsqueeze(-1)) for name, x in outside] + [(sites, x) for x in places]
    rows = [row for names, x in parts for row in _by_name(names, x, sources)]
    lost = [name for name, finite, _ in rows if not finite]
    known = [(r_hat, name) for name, _, r_hat in rows if name not in lost]
    highest, site = max(known, default=(1.0, ""))
    return highest, site, lost[0] if lost else ""


def _by_name(names: list[str], draws: Tensor, sources: Tensor) -> list[tuple[str, bool, float]]:
    """Name, whether all is finite, and the worst R-hat along the last axis of draws `(S, K, B, .., N)`."""
    finite = torch.isfinite(draws).flatten(0, -2).all(0)
    r_hat = quick_r_hat(stand_in(draws, sources)).reshape(-1, len(names))
    highest = torch.nan_to_num(r_hat, nan=math.inf).amax(0)
    return list(zip(names, finite.tolist(), highest.tolist(), strict=True))


def _wanders(arrays: Sequence[Tensor], sources: Tensor) -> bool:
    """Whether chains move on where draws `(S, K, B, ...)` disagree most: then they are slow, not in modes."""
    found = []
    for draws in arrays:
        x = stand_in(draws, sources)
        r_hat = torch.nan_to_num(quick_r_hat(x), nan=0.0, posinf=0.0).flatten()
        found.append((float(r_hat.max()), x.double().flatten(2)[..., int(r_hat.argmax())]))
    return own_r_hat(max(found, key=lambda pair: pair[0])[1]) > WANDERING


def own_r_hat(draws: Tensor) -> float:
    """R-hat of the two halves of a chain, over all chains of draws `(S, K)`: 1 where each stays in its place."""
    half = len(draws) // 2
    first = draws[:half]
    last = draws[-half:]
    within = (first.var(0) + last.var(0)).mean() / 2
    apart = (first.mean(0) - last.mean(0)).square().mean() / 2
    return float((1 + apart / within.clamp_min(1e-300)).sqrt())


def worst(r_hat: Tensor) -> float:
    """The largest R-hat; infinite where one is not a number (reads from the device)."""
    return float(torch.nan_to_num(r_hat, nan=math.inf).max())


def quick_r_hat(draws: Tensor) -> Tensor:
    """Split R-hat of draws `(S, K, *rest)` and of their distances from the mean, without ranks."""
    x = draws.double()
    x = x / x.abs().amax((0, 1)).clamp_min(1e-300)  # squares of very large draws overflow
    folded = (x - x.mean((0, 1))).abs()
    return torch.maximum(split_r_hat(x), split_r_hat(folded))


def sources_of(healthy: Tensor) -> Tensor:
    """For every chain itself if `healthy` `(K, G)`, or if few are, else one that is: `(K, G)` indices."""
    healthy = healthy | (healthy.double().mean(0) < 0.5)
    own = torch.arange(len(healthy), device=healthy.device)[:, None].expand_as(healthy)
    first = healthy.int().argsort(dim=0, descending=True, stable=True)
    number = healthy.sum(0).clamp_min(1)
    return torch.where(healthy, own, first.gather(0, own % number))


def stand_in(draws: Tensor, sources: Tensor) -> Tensor:
    """Draws `(S, K, B or 1, *rest)` with the chains of `sources` `(K, G)` in the place of lost ones."""
    own = torch.arange(len(sources), device=sources.device)[:, None]
    width = draws.shape[2]
    if bool((sources == own).all()) or width < sources.shape[1]:
        return draws
    return draws[:, sources.expand(-1, width), torch.arange(width, device=sources.device)]


def leaning(scores: Sequence[Tensor], dimension: int) -> list[float]:
    """Standard errors by which mean prediction errors `(K, G, D)` of chains miss zero, the worst by coordinate."""
    found = [mean_and_error(x) for x in scores if len(x) >= LEAST_CHAINS]
    if not found:
        return [0.0] * dimension
    ratios = [(mean.abs() / error.clamp_min(1e-300)).amax(0) for mean, error in found]
    worst_ratio: list[float] = torch.stack(ratios).amax(0).tolist()
    return worst_ratio


def mean_and_error(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over chains of numbers `(K, G, D)`, and its standard error, `(G, D)`."""
    x = scores.double()
    return x.mean(0), x.std(0) / math.sqrt(len(x))


def leans_alike(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Tell whether what leans in one attempt leans as much in another that took other steps.

    Then it is the density's own: one with a jump, or an edge where it is not zero.
    """
    for one, other in zip(first, second, strict=True):
        mean, error = mean_and_error(one)
        mean_now, error_now = mean_and_error(other)
        leans = mean_now.abs() > LEANING * error_now
        apart = (mean - mean_now).abs() > 5 * (error.square() + error_now.square()).sqrt()
        if bool((leans & apart).any()):
            return False
    return True


def _heavy_site(declared: Tensor | None, sites: list[str], sources: Tensor) -> str:
    if declared is None or not sites:
        return ""
    heavy = has_unexplored_tails(stand_in(declared, sources)).any(0).tolist()
    return next((name for name, is_heavy in zip(sites, heavy, strict=True) if is_heavy), "")
