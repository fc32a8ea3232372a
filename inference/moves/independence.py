"""Independence proposals: a whole site is proposed afresh, whatever its present value; accepted per particle.

`FromPrior` draws from the site's own kernel given its parents (the children decide), `MixtureProposal`
from a Gaussian mixture around stored particles. They hop between modes where local moves cannot,
and accept rarely where data say much.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from aif_dcpc.inference.model.ancestral import expand_to, rng_from_labels
from aif_dcpc.inference.model.densities import accumulate, evaluate, factor_slices, factors_of
from aif_dcpc.inference.model.factor_graph import Argument, Factor, align, expand_trailing
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.layout import flatten_event, free_values, site_chunks


@dataclass(frozen=True)
class FromPrior:
    """Propose a site (one colour of its slices) from its kernel.

    Attributes:
        site: name of the site.
        phase: which colour.
    """

    site: str
    phase: int = 0

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that the move changes."""
        return (self.site,)

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """One pass; the acceptance ratio is that of the children's densities."""
        site, z = state.conditioning.site(self.site), state.values[self.site]
        own = [f for f in factors_of(state, self.site) if f.site is site]
        with rng_from_labels(generator, self, state.sweeps):
            parts = [_draw(state, factor) for factor in own]
        drawn = torch.cat(parts, 2) if site.period is not None else parts[0]
        free = free_values(state, site, site_chunks(state, site, 1, self.phase))
        flags = free.expand(*z.shape[:2], -1)
        flags = flags if site.period is not None else flags.squeeze(2)
        proposal = torch.where(
            expand_trailing(flags, z),
            state.conditioning.unconstrain({self.site: drawn})[self.site],
            z,
        )
        children = tuple(f for f in factors_of(state, self.site) if f not in own)
        ratio = _gain(state, site, children, proposal)
        for (
            factor
        ) in own:  # a fixed later slice is a child as well; the free slice's own density cancels
            ratio = ratio + _later_gain(state, site, factor, proposal, free)
        return accept(state, site, self.phase, proposal, ratio, generator)


@dataclass(frozen=True)
class MixtureProposal:
    """Propose a site without time from a Gaussian mixture around a bank of values.

    Attributes:
        site: name of a continuous site.
        bank: `(M, *event)` in the site's own support, for example particles of earlier data.
        bandwidth: standard deviation of each component, as a fraction of the bank's (per
            dimension).
    """

    site: str
    bank: Tensor
    bandwidth: float = 0.3

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that the move changes."""
        return (self.site,)

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """One proposal per particle and datum."""
        site, z = state.conditioning.site(self.site), state.values[self.site]
        flat = flatten_event(site, z)
        centres = state.conditioning.unconstrain({self.site: self.bank})[self.site].reshape(
            self.bank.shape[0], -1
        )
        scale = (centres.std(0) * self.bandwidth).clamp_min(1e-6)
        index = torch.randint(len(centres), flat.shape[:3], device=z.device, generator=generator)
        noise = torch.randn(flat.shape, dtype=z.dtype, device=z.device, generator=generator)
        proposal = centres[index] + scale * noise
        ratio = _gain(state, site, factors_of(state, self.site), proposal.reshape(z.shape))
        ratio = ratio + _log_mixture(flat, centres, scale) - _log_mixture(proposal, centres, scale)
        return accept(state, site, 0, proposal.reshape(z.shape), ratio, generator)


FromBank = MixtureProposal  # its former name


def accept(
    state: State,
    site: Site,
    phase: int,
    proposal: Tensor,
    ratio: Tensor,
    generator: torch.Generator | None,
) -> tuple[State, Tensor]:
    """Accept `proposal` where its log ratio `(K, B, T or 1)` says so, on the free slices of one colour."""
    z = state.values[site.name]
    free = free_values(state, site, site_chunks(state, site, 1, phase))
    uniform = torch.rand(ratio.shape, dtype=ratio.dtype, device=ratio.device, generator=generator)
    accepted = (uniform.log() < ratio) & free
    flags = accepted if site.period is not None else accepted.squeeze(2)
    probability = torch.nan_to_num(ratio.clamp(max=0).exp(), nan=0.0)
    mean = torch.where(free, probability, torch.zeros_like(ratio)).sum() / free.expand_as(
        ratio
    ).sum().clamp_min(1)
    return state.with_values({site.name: torch.where(expand_trailing(flags, z), proposal, z)}), mean


def _draw(state: State, factor: Factor) -> Tensor:
    start, stop = factor_slices(state, factor)
    natural = state.natural
    sites = state.conditioning.site
    aligned = {
        argument: align(
            natural[argument.site], sites(argument.site), argument, factor.site, start, stop
        )
        for argument in factor.inputs
    }
    distribution: Distribution = factor.distribution(aligned)
    own = natural[factor.site.name]
    lead = own.shape[:2] if factor.site.period is None else (*own.shape[:2], stop - start)
    drawn: Tensor = expand_to(distribution, tuple(lead), root=not factor.args).sample()
    return drawn


def _zeros(state: State, site: Site) -> Tensor:
    z = state.values[site.name]
    return state.log_weights.new_zeros(*z.shape[:2], z.shape[2] if site.period is not None else 1)


def _gain(state: State, site: Site, factors: tuple[Factor, ...], proposal: Tensor) -> Tensor:
    """Change of the log densities of some factors, by slice of the site, `(K, B, T or 1)`."""
    total = _zeros(state, site)
    for factor in factors:
        new = evaluate(state, factor, {site.name: proposal}, scores=False).log_prob
        old = evaluate(state, factor, scores=False).log_prob
        for lag in factor.lags(site.name):
            accumulate(total, state, site, factor, Argument(site.name, lag), new - old)
    return total


def _later_gain(state: State, site: Site, factor: Factor, proposal: Tensor, free: Tensor) -> Tensor:
    """Change of a site's own later transitions, booked to the slice that moved, `(K, B, T or 1)`."""
    total = _zeros(state, site)
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
    """log density of the mixture at `x` `(K, B, 1, D)`, up to a constant."""
    distance = ((x.unsqueeze(-2) - centres) / scale).square().sum(-1)
    return torch.logsumexp(-0.5 * distance, -1) - math.log(len(centres))
