"""Preconditioned Langevin moves with accept/reject per particle: the exact default for continuous sites.

The Ornstein-Uhlenbeck proposal z' = z + a S eps + sqrt(a (2 - a)) S^(1/2) xi is an exact Gibbs draw where the complete
conditional is Gaussian with covariance S and a = 1; `proposals` holds it and its relatives. All chunks of a series move
in one batched proposal; each is accepted on its own (Tong et al. 2019, arXiv 1908.09429). Factors are evaluated once,
at the proposal: accepted values and scores are kept, so a pass costs one evaluation of the factors around the site.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.adaptation import SiteAdaptation
from aif_dcpc.inference.factors import (
    add_onto,
    add_scores,
    evaluate,
    fill_cache,
    home_offset,
    merge,
    mergeable,
    touching,
)
from aif_dcpc.inference.graph import Site
from aif_dcpc.inference.lowering import Factor, Leaf, align, widen
from aif_dcpc.inference.moves.chunks import Chunks
from aif_dcpc.inference.moves.layout import flatten_event, site_chunks
from aif_dcpc.inference.moves.preconditioning import MAX_DENSE, MAX_DENSE_STATIC, multiply, preconditioner
from aif_dcpc.inference.moves.proposals import PROPOSALS
from aif_dcpc.inference.state import FactorValue, State


@dataclass(frozen=True)
class Langevin:
    """Move one continuous site, chunk by chunk.

    Attributes:
        site: name of the site.
        width: free slices per chunk; ignored without time.
        phase: shift of the chunks.
        noise: name of a proposal: "ou", "mala" or "barker".
    """

    site: str
    width: int = 1
    phase: int = 0
    noise: str = "ou"

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that the move changes."""
        return (self.site,)

    def __call__(self, state: State, generator: torch.Generator | None, *, adapt: bool) -> tuple[State, Tensor]:
        """One pass.

        Args:
            state: the cloud.
            generator: source of randomness.
            adapt: whether to learn step and curvature (does not preserve the target).

        Returns:
            the new state and the mean acceptance probability (0-dim).
        """
        state = fill_cache(_fresh(state, self.site), self.sites)
        return _pass(self, state, generator, adapt)


def _fresh(state: State, name: str) -> State:
    """Drop cached factors whose score towards the site was not kept."""
    lacking = {
        f.key
        for f in touching(state, name)
        if f.key in state.cache and any(Leaf(name, o) not in state.cache[f.key].scores for o in f.offsets(name))
    }
    return state.replace(cache={k: v for k, v in state.cache.items() if k not in lacking}) if lacking else state


def _pass(move: Langevin, state: State, generator: torch.Generator | None, adapt: bool) -> tuple[State, Tensor]:
    site, z, proposal = state.problem.site(move.site), state.values[move.site], PROPOSALS[move.noise]
    chunks = site_chunks(state, site, move.width, move.phase)
    learned: SiteAdaptation = state.adaptation.get(move.site, SiteAdaptation())
    root, learned = preconditioner(state, site, chunks, learned)
    key = (move.noise, chunks.width)
    step = learned.log_step(key, z).exp()

    w = _whitened_error(state, site, chunks, root, state.cache)
    u = proposal.draw(w, step, generator)
    jump = _held(state, site, chunks.join(multiply(root, u))).reshape(z.shape)
    moved = z + jump
    factors = touching(state, move.site)
    new = {f.key: evaluate(state, f, {move.site: moved}) for f in factors}
    new_w = _whitened_error(state, site, chunks, root, new)
    ratio = proposal.log_ratio(u, w, new_w, step) + _gain(state, site, chunks, factors, new)
    uniform = torch.rand(ratio.shape, dtype=z.dtype, device=z.device, generator=generator)
    accepted = chunks.spread(uniform.log() < ratio)  # all slices of a chunk: fixed ones did not move
    flags = accepted if site.period is not None else accepted.squeeze(2)

    probability = _mean_probability(ratio)
    if adapt:
        learned = _learn(state, site, factors, new, jump, learned, learned.updates.get(key, 0))
        learned = learned.stepped(key, probability, z)
    values = {**state.values, move.site: torch.where(widen(flags, z), moved, z)}
    cache = {**state.cache, **_merged(state, site, factors, flags, new)}
    adaptation = {**state.adaptation, move.site: learned}
    return state.replace(values=values, cache=cache, adaptation=adaptation), probability


def _mean_probability(ratio: Tensor) -> Tensor:
    return torch.nan_to_num(ratio.clamp(max=0).exp(), nan=0.0).mean()


def _whitened_error(
    state: State, site: Site, chunks: Chunks, root: Tensor | None, current: Mapping[str, FactorValue]
) -> Tensor:
    """R' eps of every chunk, `(K, B, count, N)`."""
    value = state.values[site.name]
    total = value.new_zeros(*value.shape[:2], chunks.padded, *value.shape[site.num_lead :])
    add_scores(total, state, site, current, shift=chunks.phase)
    return multiply(root, chunks.cut(total.reshape(*total.shape[:3], -1)), transposed=True)


def _held(state: State, site: Site, jump: Tensor) -> Tensor:
    """The jump `(K, B, T or 1, D)` with observed values held back."""
    mask = state.masks.get(site.name)
    if mask is None:
        return jump
    return torch.where(
        widen(mask if site.period is not None else mask.unsqueeze(-1), jump), torch.zeros_like(jump), jump
    )


def _gain(
    state: State, site: Site, chunks: Chunks, factors: tuple[Factor, ...], new: Mapping[str, FactorValue]
) -> Tensor:
    """log p(z', rest) - log p(z, rest) by chunk, `(K, B, count)`."""
    total = state.values[site.name].new_zeros(*state.values[site.name].shape[:2], chunks.padded)
    for factor in factors:
        difference = new[factor.key].log_prob - state.cache[factor.key].log_prob
        leaf = Leaf(site.name, home_offset(factor, site.name))
        add_onto(total, state, site, factor, leaf, difference, shift=chunks.phase)
    return chunks.sum(total)


def _merged(
    state: State, site: Site, factors: tuple[Factor, ...], flags: Tensor, new: Mapping[str, FactorValue]
) -> dict[str, FactorValue]:
    """Every factor's value after acceptance."""
    merged = {}
    for factor in factors:
        leaf = Leaf(site.name, home_offset(factor, site.name))
        covered = factor_flags(state, site, factor, leaf, flags)
        merged[factor.key] = merge(state, factor, covered, new[factor.key], state.cache[factor.key])
    return merged


def factor_flags(state: State, site: Site, factor: Factor, leaf: Leaf, flags: Tensor) -> Tensor:
    """Flags of a site `(K, B, [T])` laid along the slices of a factor that reads it."""
    start, stop = (0, 0) if factor.site.period is None else factor.slices(state.values[factor.site.name].shape[2])
    return align(flags, site, leaf, factor.site, start, stop)


# -- learning the curvature ------------------------------------------------------------------------------------------


def _learn(
    state: State,
    site: Site,
    factors: tuple[Factor, ...],
    new: Mapping[str, FactorValue],
    jump: Tensor,
    learned: SiteAdaptation,
    count: int,
) -> SiteAdaptation:
    """Secant moments of every factor around the site."""
    for factor in factors:
        dx, dscore = _changes(state, site, factor, new[factor.key], jump)
        dense = dx.shape[-1] <= (MAX_DENSE if site.period is not None else MAX_DENSE_STATIC)
        learned = learned.learned(factor.key, dx.flatten(0, -2), dscore.flatten(0, -2), dense, count)
    return learned


def _changes(state: State, site: Site, factor: Factor, new: FactorValue, jump: Tensor) -> tuple[Tensor, Tensor]:
    """Changes of a factor's inputs and of its scores, `(..., num_offsets * D)`."""
    old = state.cache[factor.key]
    leaves = [Leaf(site.name, o) for o in factor.offsets(site.name)]
    if not mergeable(state, site, factor) or site.period is None:
        change = torch.zeros_like(jump if site.period is not None else jump.unsqueeze(2))
        add_onto(change, state, site, factor, leaves[0], new.scores[leaves[0]] - old.scores[leaves[0]])
        return flatten_event(site, jump), change.reshape(*change.shape[:3], -1)
    start, stop = factor.slices(jump.shape[2])
    dx = [flatten_event(site, align(jump, site, leaf, factor.site, start, stop)) for leaf in leaves]
    dscore = [flatten_event(site, new.scores[leaf] - old.scores[leaf]) for leaf in leaves]
    return torch.cat(dx, -1), torch.cat(dscore, -1)
