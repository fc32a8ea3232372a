"""Preconditioned Langevin moves with accept/reject per particle: the exact default for continuous sites.

The Ornstein-Uhlenbeck proposal z' = z + a S eps + sqrt(a (2 - a)) S^(1/2) xi is an exact Gibbs draw where the complete
conditional is Gaussian with covariance S and a = 1. `noise="mala"` uses variance 2 a S instead (Roberts and Tweedie
1996). All chunks of a series move in one batched proposal; each is accepted on its own (arXiv 1908.09429). Factors are
evaluated once, at the proposal: accepted values and scores are kept, so a pass costs one evaluation of the factors.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from aif_dcpc.inference.adaptation import Preconditioner, SiteAdaptation, precondition
from aif_dcpc.inference.factors import (
    evaluate,
    fill_cache,
    merge,
    mergeable,
    onto_factor,
    onto_site,
    prediction_error,
    touching,
)
from aif_dcpc.inference.graph import Site
from aif_dcpc.inference.lowering import Factor, Leaf, align, widen
from aif_dcpc.inference.moves.chunks import Chunks
from aif_dcpc.inference.state import FactorValue, State

MAX_DENSE = 256
MAX_DENSE_STATIC = 64  # sites without time: above this a full matrix costs more than it gains


@dataclass(frozen=True)
class Langevin:
    """Move one continuous site, chunk by chunk.

    Attributes:
        site: name of the site.
        width: free slices per chunk; ignored without time.
        phase: shift of the chunks.
        noise: "ou" (variance a(2-a) S) or "mala" (variance 2a S).
    """

    site: str
    width: int = 1
    phase: int = 0
    noise: Literal["ou", "mala"] = "ou"

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
        return _pass(self, fill_cache(_fresh(state, self.site), self.sites), generator, adapt)


def longest_lag(state: State, name: str) -> int:
    """Longest distance in slices between two values of a site that share a factor."""
    spans = [max(f.offsets(name)) - min(f.offsets(name)) for f in touching(state, name)]
    return max(spans, default=0)


def _fresh(state: State, name: str) -> State:
    """Drop cached factors whose score towards the site was not kept."""
    lacking = {
        f.key
        for f in touching(state, name)
        if f.key in state.cache and any(Leaf(name, o) not in state.cache[f.key].scores for o in f.offsets(name))
    }
    return state.replace(cache={k: v for k, v in state.cache.items() if k not in lacking}) if lacking else state


def _chunks(move: Langevin, state: State, site: Site) -> Chunks:
    if site.period is None:
        return Chunks(1, 1, 0)
    return Chunks.fit(state.values[site.name].shape[2], move.width, longest_lag(state, site.name), move.phase)


def _flat(site: Site, x: Tensor) -> Tensor:
    """`(K, B, [T,] *event)` to `(K, B, T or 1, D)`."""
    if site.period is None:
        return x.reshape(*x.shape[:2], 1, -1)
    return x.reshape(*x.shape[:3], -1)


def _pass(move: Langevin, state: State, generator: torch.Generator | None, adapt: bool) -> tuple[State, Tensor]:
    site = state.problem.site(move.site)
    chunks = _chunks(move, state, site)
    z = state.values[move.site]
    learned: SiteAdaptation = state.adaptation.get(move.site, SiteAdaptation())
    preconditioner, learned = _preconditioner(state, site, chunks, learned)
    step = learned.log_step(chunks.width, z).exp()
    variance = step * (2 - step) if move.noise == "ou" else 2 * step

    flat_z, eps = _flat(site, z), _flat(site, prediction_error(state, move.site, state.cache))
    free = _free(state, site, chunks)
    direction = _apply(preconditioner, chunks, eps, root=False)
    noise = torch.randn(flat_z.shape, dtype=z.dtype, device=z.device, generator=generator)
    jump = step * direction + variance.sqrt() * _apply(preconditioner, chunks, noise, root=True)
    jump = torch.where(free.unsqueeze(-1), jump, torch.zeros_like(jump))
    proposal = (flat_z + jump).reshape(z.shape)

    factors = touching(state, move.site)
    new = {f.key: evaluate(state, f, {move.site: proposal}) for f in factors}
    new_eps = _flat(site, prediction_error(state, move.site, new))
    new_direction = _apply(preconditioner, chunks, new_eps, root=False)
    # log q(z | z') - log q(z' | z), by slice; S^-1 cancels
    reverse = -(2 * step * (jump * (eps + new_eps)) + step**2 * (new_eps * new_direction - eps * direction)).sum(-1) / (
        2 * variance
    )
    reverse = torch.where(free, reverse, torch.zeros_like(reverse))
    ratio = _by_chunk(chunks, reverse) + _log_ratio(state, site, chunks, factors, new)
    uniform = torch.rand(ratio.shape, dtype=z.dtype, device=z.device, generator=generator)
    accepted = chunks.spread(uniform.log() < ratio, free)
    flags = accepted if site.period is not None else accepted.squeeze(2)

    if adapt:
        learned = _learn(state, site, factors, new, proposal - z, learned, chunks.width)
        learned = learned.stepped(chunks.width, _mean_probability(ratio), z)
    values = {
        **state.values,
        move.site: torch.where(widen(flags, z), proposal, z),
    }
    cache = {**state.cache, **_merged(state, site, factors, flags, new)}
    adaptation = {**state.adaptation, move.site: learned}
    return state.replace(values=values, cache=cache, adaptation=adaptation), _mean_probability(ratio)


def _mean_probability(ratio: Tensor) -> Tensor:
    return torch.nan_to_num(ratio.clamp(max=0).exp(), nan=0.0).mean()


def _free(state: State, site: Site, chunks: Chunks) -> Tensor:
    """`(T or 1,)` or `(1, B, T or 1)`: True where a value may move (fixed slices and observed values may not)."""
    free = chunks.free(state.log_weights.device)
    mask = state.masks.get(site.name)
    if mask is None:
        return free
    return free & ~(mask if site.period is not None else mask.unsqueeze(-1))


def _by_chunk(chunks: Chunks, x: Tensor) -> Tensor:
    """Sum `(K, B, T)` over each chunk, `(K, B, count)`."""
    return chunks.split(x).sum(-1)


def _log_ratio(
    state: State, site: Site, chunks: Chunks, factors: tuple[Factor, ...], new: dict[str, FactorValue]
) -> Tensor:
    """log p(z', rest) - log p(z, rest) by chunk, `(K, B, count)`."""
    total = torch.zeros((), device=state.log_weights.device)
    length = chunks.length if site.period is not None else 0
    for factor in factors:
        difference = new[factor.key].log_prob - state.cache[factor.key].log_prob
        for offset, part in _homes(state, site, chunks, factor, difference):
            home = onto_site(state, site, factor, Leaf(site.name, offset), part, length)
            total = total + (home if site.period is not None else home.unsqueeze(2))
    return _by_chunk(chunks, total)


def _homes(state: State, site: Site, chunks: Chunks, factor: Factor, difference: Tensor) -> list[tuple[int, Tensor]]:
    """Split a factor's differences by the offset whose slice moved, so that each is counted once."""
    offsets = factor.offsets(site.name)
    if len(offsets) == 1 or chunks.single:
        return [(offsets[0], difference)]
    start = factor.slices(chunks.length)[0]
    slices = torch.arange(start, start + difference.shape[2], device=difference.device)
    taken = torch.zeros_like(slices, dtype=torch.bool)
    parts = []
    for offset in offsets:
        position = (slices - offset + chunks.phase) % chunks.stride
        mine = (position < chunks.width) & ~taken
        taken = taken | mine
        parts.append((offset, torch.where(mine, difference, torch.zeros_like(difference))))
    return parts


def _merged(
    state: State, site: Site, factors: tuple[Factor, ...], flags: Tensor, new: dict[str, FactorValue]
) -> dict[str, FactorValue]:
    merged = {}
    for factor in factors:
        spread = onto_factor(state, site, factor, factor.offsets(site.name), flags)
        merged[factor.key] = merge(state, factor, spread, new[factor.key], state.cache[factor.key])
    return merged


# -- preconditioning -------------------------------------------------------------------------------------------------


def _apply(preconditioner: Preconditioner | None, chunks: Chunks, x: Tensor, *, root: bool) -> Tensor:
    """Multiply each chunk's `(width * D)` vector by S or its root; `(K, B, T, D)` in and out, fixed slices zero."""
    if preconditioner is None:
        return x
    matrix = preconditioner.root if root else preconditioner.covariance
    cut = chunks.split(x)[..., : chunks.width, :]
    flat = cut.flatten(3)
    if not preconditioner.dense:
        done = flat * _kinds(matrix, chunks.count)
    elif chunks.count <= 3:
        done = (flat.unsqueeze(-2) @ _kinds(matrix, chunks.count).mT).squeeze(-2)
    else:
        ends = [flat[:, :, :1] @ matrix[0].mT, flat[:, :, 1:-1] @ matrix[1].mT, flat[:, :, -1:] @ matrix[2].mT]
        done = torch.cat(ends, 2)
    wide = done.unflatten(3, (chunks.width, x.shape[-1]))
    if chunks.gap:
        wide = torch.nn.functional.pad(wide, (0, 0, 0, chunks.gap))
    return chunks.join(wide)


def _kinds(matrix: Tensor, count: int) -> Tensor:
    """First, inner and last matrices laid along `count` chunks."""
    inner = matrix[1:2].expand(max(count - 2, 0), *matrix.shape[1:])
    return torch.cat([matrix[:1], inner, matrix[2:]])[:count] if count > 1 else matrix[:1]


def _is_dense(state: State, site: Site, width: int) -> bool:
    return _flat(site, state.values[site.name][:1, :1]).shape[-1] * width <= MAX_DENSE


def _preconditioner(
    state: State, site: Site, chunks: Chunks, learned: SiteAdaptation
) -> tuple[Preconditioner | None, SiteAdaptation]:
    if not learned.secants:
        return None, learned
    key = (chunks.width, chunks.phase, chunks.length)
    if key not in learned.preconditioners:
        built = precondition(_precisions(state, site, chunks, learned))
        learned = replace(learned, preconditioners={**learned.preconditioners, key: built})
    return learned.preconditioners[key], learned


def _precisions(state: State, site: Site, chunks: Chunks, learned: SiteAdaptation) -> Tensor:
    """Precision of the first, an inner and the last chunk given their fixed neighbours, `(3, N, N)` or `(3, N)`."""
    size = _flat(site, state.values[site.name][:1, :1]).shape[-1]
    dense = _is_dense(state, site, chunks.width) and next(iter(learned.secants.values())).xx.ndim == 2
    like = state.values[site.name]
    width = chunks.width
    blocks = torch.zeros(3, width, width, size, size) if dense else torch.zeros(3, width, size)
    blocks = blocks.to(like)
    for factor in touching(state, site.name):
        if factor.key in learned.secants:
            _add_factor(blocks, chunks, site, factor, learned.secants[factor.key].curvature(), dense)
    padded = ~_valid(chunks, range(width), 0, (0, chunks.length)).to(like.device)
    if dense:
        eye = torch.eye(width, device=like.device)[None] * padded[:, :, None]
        blocks = blocks + eye[..., None, None] * torch.eye(size, device=like.device)
        return blocks.transpose(2, 3).flatten(3).flatten(1, 2)
    return (blocks + padded[..., None]).flatten(1)


def _add_factor(blocks: Tensor, chunks: Chunks, site: Site, factor: Factor, curvature: Tensor, dense: bool) -> None:
    same_level = site.period is not None and site.period == factor.site.period
    offsets = factor.offsets(site.name) if same_level else (0,)
    covered = factor.slices(chunks.length) if same_level else (0, chunks.length)
    size, width = blocks.shape[-1], chunks.width
    for i, o in enumerate(offsets):
        for j, p in enumerate(offsets):
            rows = [r for r in range(width) if 0 <= r + o - p < width]
            if not rows or (not dense and i != j):
                continue
            valid = _valid(chunks, rows, o, covered).to(blocks)
            if dense:
                block = (
                    curvature[i * size : (i + 1) * size, j * size : (j + 1) * size]
                    if curvature.ndim == 2
                    else (
                        torch.diag(curvature[i * size : (i + 1) * size])
                        if i == j
                        else torch.zeros_like(blocks[0, 0, 0])
                    )
                )
                columns = [r + o - p for r in rows]
                blocks[:, rows, columns] += valid[:, :, None, None] * block
            else:
                row = curvature.diagonal() if curvature.ndim == 2 else curvature
                blocks[:, rows] += valid[:, :, None] * row[i * size : (i + 1) * size]


def _valid(chunks: Chunks, rows: "list[int] | range", offset: int, covered: tuple[int, int]) -> Tensor:
    """`(3, rows)`: whether a factor that reads slice r at this offset exists, in first, inner and last chunk."""
    starts = (0, min(1, chunks.count - 1), chunks.count - 1)
    first = [kind * chunks.stride - chunks.phase for kind in starts]
    return torch.tensor(
        [[0 <= s + r < chunks.length and covered[0] <= s + r + offset < covered[1] for r in rows] for s in first]
    )


def _learn(
    state: State,
    site: Site,
    factors: tuple[Factor, ...],
    new: dict[str, FactorValue],
    jump: Tensor,
    learned: SiteAdaptation,
    width: int,
) -> SiteAdaptation:
    """Secant moments of every factor around the site."""
    count = learned.updates.get(width, 0)
    for factor in factors:
        dx, dscore = _changes(state, site, factor, new[factor.key], jump)
        dense = dx.shape[-1] <= (MAX_DENSE if site.period is not None else MAX_DENSE_STATIC)
        learned = learned.learned(factor.key, dx.flatten(0, -2), dscore.flatten(0, -2), dense, count)
    return learned


def _changes(state: State, site: Site, factor: Factor, new: FactorValue, jump: Tensor) -> tuple[Tensor, Tensor]:
    """Changes of a factor's inputs and of its scores, `(..., num_offsets * D)`."""
    old = state.cache[factor.key]
    offsets = factor.offsets(site.name)
    if not mergeable(state, site, factor) or site.period is None:
        leaf = Leaf(site.name, offsets[0])
        length = jump.shape[2] if site.period is not None else 0
        change = onto_site(state, site, factor, leaf, new.scores[leaf] - old.scores[leaf], length)
        return _flat(site, jump), _flat(site, change)
    start, stop = factor.slices(jump.shape[2])
    leaves = [Leaf(site.name, o) for o in offsets]
    dx = [_flat(site, align(jump, site, leaf, factor.site, start, stop)) for leaf in leaves]
    dscore = [_flat(site, new.scores[leaf] - old.scores[leaf]) for leaf in leaves]
    return torch.cat(dx, -1), torch.cat(dscore, -1)
