"""Independence proposals: a whole site is proposed afresh, whatever its present value.

Each particle is accepted or rejected on its own.

`FromPrior` draws from the site's own kernel given its parents (the children decide),
`MixtureProposal` from a Gaussian mixture around stored particles. They hop between modes where
local moves cannot, and accept rarely where data say much.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from aif_dcpc.inference.model.ancestral import expand_to
from aif_dcpc.inference.model.densities import (
    accumulate,
    aligned_inputs,
    evaluate,
    factor_slices,
    factors_of,
)
from aif_dcpc.inference.model.factor_graph import Argument, Factor
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.isolation import rng_from_labels
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves import SiteMove
from aif_dcpc.inference.moves.acceptance import accept
from aif_dcpc.inference.moves.complete_conditional import log_conditional_ratio, zeros_by_slice
from aif_dcpc.inference.moves.layout import flatten_event, free_values, site_chunks, where_free


@dataclass(frozen=True)
class FromPrior(SiteMove):
    """Propose a site (one colour of its slices) from its kernel.

    Attributes:
        site: name of the site.
        phase: which colour.
    """

    phase: int = 0

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """Propose once; the acceptance ratio is that of the children's densities."""
        site = state.conditioning.site(self.site)
        around = factors_of(state, self.site)
        own = [f for f in around if f.site is site]
        children = [f for f in around if f.site is not site]
        free = free_values(state, site, site_chunks(state, site, 1, self.phase))
        proposal = self._propose(state, site, own, free, generator)
        ratio = log_conditional_ratio(state, site, proposal, children)
        # a fixed later slice is a child as well; the free slice's own density cancels
        for factor in own:
            ratio = ratio + _later_gain(state, site, factor, proposal, free)
        return accept(state, site, free, proposal, ratio, generator)

    def _propose(
        self,
        state: State,
        site: Site,
        own: list[Factor],
        free: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Draw the free slices from the site's kernels, `(K, B, [T,] *event)` in unconstrained coordinates."""
        kernels = [_kernel(state, factor) for factor in own]
        with rng_from_labels(generator, self, state.sweeps):
            parts: list[Tensor] = [kernel.sample() for kernel in kernels]
        drawn = torch.cat(parts, 2) if site.period is not None else parts[0]
        drawn = state.conditioning.unconstrain({self.site: drawn})[self.site]
        return where_free(site, free, drawn, state.values[self.site])


@dataclass(frozen=True)
class MixtureProposal(SiteMove):
    """Propose a site without time from a Gaussian mixture around a bank of values.

    Attributes:
        site: name of a continuous site without time.
        bank: `(M, *event)` in the site's own support, for example particles of earlier data.
        bandwidth: standard deviation of each component, as a fraction of the bank's (per
            dimension).
    """

    needs: ClassVar[str] = "score without time"
    bank: Tensor
    bandwidth: float = 0.3

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """Propose once for each particle and data point."""
        site = state.conditioning.site(self.site)
        z = state.values[self.site]
        flat = flatten_event(site, z)
        bank = state.conditioning.unconstrain({self.site: self.bank})[self.site]
        centres = bank.reshape(len(bank), -1)
        scale = (centres.std(0) * self.bandwidth).clamp_min(1e-6)
        index = torch.randint(len(centres), flat.shape[:3], device=z.device, generator=generator)
        noise = torch.randn(flat.shape, dtype=z.dtype, device=z.device, generator=generator)
        proposal = centres[index] + scale * noise

        moved = proposal.reshape(z.shape)
        ratio = log_conditional_ratio(state, site, moved, factors_of(state, self.site))
        ratio = ratio + _log_mixture(flat, centres, scale) - _log_mixture(proposal, centres, scale)
        free = free_values(state, site, site_chunks(state, site, 1, 0))
        return accept(state, site, free, moved, ratio, generator)


FromBank = MixtureProposal  # its former name


def _kernel(state: State, factor: Factor) -> Distribution:
    """Distribution of a site given its parents, over `(K, B, [T_factor,] *event)` in its own support."""
    start, stop = factor_slices(state, factor)
    natural = state.natural
    batch_shape = tuple(natural[factor.site.name].shape[:2])
    if factor.site.period is not None:
        batch_shape = (*batch_shape, stop - start)
    kernel = factor.distribution(aligned_inputs(state, factor, natural))
    return expand_to(kernel, batch_shape, root=not factor.args)


def _later_gain(state: State, site: Site, factor: Factor, proposal: Tensor, free: Tensor) -> Tensor:
    """Log ratio of a site's own later transitions, attributed to the slice that moved, `(K, B, T or 1)`."""
    total = zeros_by_slice(state, site, proposal)
    lags = [lag for lag in factor.lags(site.name) if lag > 0]
    if not lags:
        return total
    start, stop = factor_slices(state, factor)
    new = evaluate(state, factor, {site.name: proposal}, scores=False).log_prob
    old = evaluate(state, factor, scores=False).log_prob
    change = torch.where(free[..., start:stop], torch.zeros_like(new), new - old)
    for lag in lags:
        accumulate(total, state, site, factor, Argument(site.name, lag), change)
    return total


def _log_mixture(x: Tensor, centres: Tensor, scale: Tensor) -> Tensor:
    """Log density of the mixture at `x` `(K, B, 1, D)`, up to a constant."""
    distance = ((x.unsqueeze(-2) - centres) / scale).square().sum(-1)
    return torch.logsumexp(-0.5 * distance, -1) - math.log(len(centres))
