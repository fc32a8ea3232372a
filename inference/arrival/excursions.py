"""Standard deviations that few draws have made: an excursion of one chain into a tail, or a tail that is heavy.

Means, ranks and R-hat hardly notice it. The second moments of chains do: if one of 32 holds half of the
variance, the standard error of the standard deviation, told by how much chains differ, is a quarter of it.
Where many draws of one chain do that, it has lingered there. Where single ones do, the tail itself
is heavy and explored: quantiles and what they say are right, and more draws are what the standard
deviation needs.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.draws import Draws
from aif_dcpc.inference.model.elements import Pick
from aif_dcpc.inference.model.factor_graph import arguments_of

MOST_ERROR = 0.1  # relative; twice as much is an error of a fifth
LINGERS = (
    5.0  # draws, by which a chain's part of a variance is made; single ones are a heavy tail's own
)
LEAST_CHAINS = 16  # with fewer, a standard error over chains says little
MOST_NUMBERS = 2**22  # of a computed site, in all draws


@dataclass(frozen=True)
class Excursion:
    """A standard deviation that is not well known.

    Attributes:
        site: where it is.
        error: standard error of the standard deviation, relative to it.
        share: of the variance, in the chain that makes most of it.
        chains: how many there are.
        lingers: whether many draws of that chain make it, not a few far out.
    """

    site: str = ""
    error: float = 0.0
    share: float = 0.0
    chains: int = 0
    lingers: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the standard deviation is known well enough."""
        return self.error <= MOST_ERROR

    def warning(self) -> str:
        """One sentence with its remedy; empty where the standard deviation is known well enough."""
        if self.is_known:
            return ""
        how = "lingering in a tail" if self.lingers else "by a few draws far out in a heavy tail"
        return (
            f"site {self.site!r}: one of {self.chains} chains makes {self.share:.0%} of a variance, {how}: that "
            f"standard deviation is known to {self.error:.0%} only; take quantiles in its place, or "
            "join the draws of several seeds."
        )


NO_EXCURSION = Excursion()


def worst_excursion(draws: Draws, names: Iterable[str]) -> Excursion:
    """The least known standard deviation of some sites, and of what the model computes from them.

    Args:
        draws: of the whole model.
        names: continuous latents.
    """
    names = list(names)
    found = [_of_site(name, draws[name]) for name in names + computed_from(draws, names)]
    return max(found, key=lambda e: e.error, default=NO_EXCURSION)


def computed_from(draws: Draws, names: list[str]) -> list[str]:
    """Deterministic sites of a moderate size that depend on no other latents than these."""
    graph = draws.state.conditioning.factor_graph
    latents = draws.state.conditioning.latent
    found = []
    for site in graph.model.sites.values():
        if site.kind != "deterministic" or isinstance(site.kernel, Pick):
            continue
        read = {a.site for a in arguments_of(graph.expression(site.name))} & set(latents)
        if read and read <= set(names):
            found.append(site.name)
    return [n for n in found if draws.num_draws * draws.state.value(n).numel() <= MOST_NUMBERS]


def _of_site(name: str, draws: Tensor) -> Excursion:
    chains = draws.shape[1]
    if chains < LEAST_CHAINS or not draws.is_floating_point():
        return Excursion(name)
    errors, shares = errors_of_sd(draws)
    worst = int(errors.argmax())
    lingers = float(draws_of_the_widest(draws)[worst]) > LINGERS
    return Excursion(name, float(errors[worst]), float(shares[worst]), chains, lingers)


def errors_of_sd(draws: Tensor) -> tuple[Tensor, Tensor]:
    """How well standard deviations are known, by how much the second moments of chains differ.

    Args:
        draws: `(S, K, B, *rest)`.

    Returns:
        relative standard error of each standard deviation, and the largest share of a chain in its
            variance, both of all numbers in a row, `(N,)`; 0 where there is none.
    """
    squares = _distances(draws).square().mean(0)
    total = squares.sum(0)
    errors = 0.5 * math.sqrt(len(squares)) * squares.std(0) / total
    shares = squares.amax(0) / total
    return torch.nan_to_num(errors, posinf=0.0), torch.nan_to_num(shares, posinf=0.0)


def draws_of_the_widest(draws: Tensor) -> Tensor:
    """By how many draws the chain with most of a variance makes its part, `(N,)`; at most S.

    Of draws with squared distances q from the mean, (sum q)^2 / sum q^2.
    """
    squares = _distances(draws).square()
    made = squares.sum(0)
    number = made.square() / squares.square().sum(0)
    return torch.nan_to_num(number.gather(0, made.argmax(0, keepdim=True))[0])


def _distances(draws: Tensor) -> Tensor:
    """From the mean of all draws, `(S, K, N)`."""
    x = draws.double().flatten(2)
    return x - x.mean((0, 1))
