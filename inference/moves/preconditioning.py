"""From learned curvatures to the root R of each chunk's preconditioner S = R R', and its use.

The precision of a chunk given its fixed neighbours is assembled from the curvatures of all factors
that read its slices: block-tridiagonal for a chain, so that a linear-Gaussian chunk is drawn
exactly. The first, the inner and the last chunk differ (they hold other factors, and empty places),
so there are three of each. Where data are missing, each chunk has its own: a slice in a gap is held by
its neighbours alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.model.densities import counted_elements, factor_slices, factors_of
from aif_dcpc.inference.model.factor_graph import Factor
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.adaptation import SiteAdaptation, root_of_inverse
from aif_dcpc.inference.moves.chunks import Chunks
from aif_dcpc.inference.moves.layout import flatten_event

MAX_DENSE = 256
MAX_DENSE_BLOCK = 1024  # a chunk of slices
# numbers, up to which each chunk has a matrix of its own in memory, so that one product serves all
MAX_SEPARATE = 2**22
MAX_DENSE_STATIC = 64  # sites without time: above this a full matrix costs more than it gains


def preconditioner(
    state: State, site: Site, chunks: Chunks, learned: SiteAdaptation
) -> tuple[Tensor | None, SiteAdaptation]:
    """The roots of these chunks, kept until the curvature is learned anew.

    Returns:
        diagonals `(count, N)`; matrices `(count, N, N)`, or `(3, N, N)` (first, inner, last) where
            chunks are many and alike.
    """
    if not learned.secants:
        return None, learned
    key = (chunks.width, chunks.gap, chunks.phase, chunks.length)
    if key not in learned.roots:
        precisions = _precisions(state, site, chunks, learned)
        if chunks.count == 1:
            # also a site without time: curvatures of far and near particles mix, and few are large
            magnitude = precisions.shape[-1] <= MAX_DENSE_STATIC
            root = root_of_inverse(precisions[:1], magnitude=magnitude)
        else:
            root = root_of_inverse(precisions)
        few = chunks.count * root[0].numel() <= MAX_SEPARATE
        if len(root) != chunks.count and (root.ndim == 2 or few):
            root = _along(root, chunks.count)
        learned = learned.kept_root(key, root)
    return learned.roots[key], learned


def multiply(root: Tensor | None, x: Tensor, *, transposed: bool = False) -> Tensor:
    """R x, or R' x, for every chunk; `x` `(count, K * B, N)`."""
    if root is None:
        return x
    if root.ndim == 2:
        return x * root.unsqueeze(1)
    matrix = root if transposed else root.mT  # x is a row
    if matrix.shape[0] == x.shape[0]:
        return torch.bmm(x, matrix)
    inner = x @ matrix[1]
    inner[0] = x[0] @ matrix[0]
    inner[-1] = x[-1] @ matrix[2]
    return inner


def _along(root: Tensor, count: int) -> Tensor:
    """First, inner and last roots laid along `count` chunks."""
    if count == 1:
        return root[:1]
    return torch.cat([root[:1], root[1:2].expand(count - 2, *root.shape[1:]), root[2:]])


@dataclass(frozen=True)
class _Places:
    """The chunks of which precisions are assembled.

    Attributes:
        chunks: all of them.
        kinds: which: the first, an inner and the last, or each.
    """

    chunks: Chunks
    kinds: tuple[int, ...]

    @classmethod
    def of(cls, chunks: Chunks, *, differ: bool) -> "_Places":
        """Three chunks where the others are like them, else all."""
        if differ:
            return cls(chunks, tuple(range(chunks.count)))
        return cls(chunks, (0, min(1, chunks.count - 1), chunks.count - 1))

    def valid(
        self, rows: range, offset: int, covered: tuple[int, int], like: Tensor, share: Tensor | None
    ) -> Tensor:
        """How much of a factor that reads slice r at this offset exists, `(kinds, rows)`, 0 to 1.

        `share` `(stop - start,)` or `(1,)` is the part of its data that is observed; None for all.
        """
        within = torch.arange(rows.start, rows.stop, device=like.device)
        starts = (kind * self.chunks.stride - self.chunks.phase for kind in self.kinds)
        slices = torch.stack([within + start for start in starts])
        read = slices + offset
        inside = (slices >= 0) & (slices < self.chunks.length)
        valid = (inside & (read >= covered[0]) & (read < covered[1])).to(like.dtype)
        if share is None:
            return valid
        return valid * share[(read - covered[0]).clamp(0, len(share) - 1)]


def _precisions(state: State, site: Site, chunks: Chunks, learned: SiteAdaptation) -> Tensor:
    """Precisions of chunks given their fixed neighbours, `(kinds, N, N)` or `(kinds, N)`."""
    like = state.values[site.name]
    size = flatten_event(site, like[:1, :1]).shape[-1]
    width = chunks.width
    full = all(secant.xx.ndim == 2 for secant in learned.secants.values())
    dense = size * width <= MAX_DENSE_BLOCK and full
    factors = [f for f in factors_of(state, site.name) if f.key in learned.secants]
    shares = {f.key: observed_share(state, site, f) for f in factors}
    numbers = chunks.count * size * width * (size * width if dense else 1)
    differ = numbers <= MAX_SEPARATE and _has_gaps(state, site, shares.values())
    places = _Places.of(chunks, differ=differ)
    kinds = len(places.kinds)
    blocks = like.new_zeros((kinds, width, width, size, size) if dense else (kinds, width, size))
    add = _add_factor if dense else _add_diagonal
    for factor in factors:
        curvature = learned.secants[factor.key].curvature()
        share = _usable_share(shares[factor.key], like, by_slice=differ)
        add(blocks, places, curvature, *_reach(chunks, site, factor), share)
    empty = 1 - places.valid(range(width), 0, (0, chunks.length), like, None)
    if not dense:
        return (blocks + empty[..., None]).flatten(1)
    blocks.diagonal(dim1=1, dim2=2).diagonal(dim1=1, dim2=2).add_(empty[..., None])
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)


def _has_gaps(state: State, site: Site, shares: Iterable[Tensor | None]) -> bool:
    """Whether data are missing at slices that stay where they are, as those of a window do not."""
    return site.name not in state.masks and any(share is not None for share in shares)


def _usable_share(share: Tensor | None, like: Tensor, *, by_slice: bool) -> Tensor | None:
    """A share by slice, or the mean of all slices for chunks that stand for each other."""
    if share is None:
        return None
    return (share if by_slice else share.mean()[None]).to(like.dtype)


def observed_share(state: State, site: Site, factor: Factor) -> Tensor | None:
    """The part of a factor's data that is observed, by slice `(stop - start,)`; None for all.

    None as well where the factor has other slices than the site.
    """
    if site.period is None or site.period != factor.site.period:
        return None
    counted = counted_elements(state, factor, *factor_slices(state, factor))
    return None if counted is None else counted.double().movedim(2, 0).flatten(1).mean(1)


def _reach(chunks: Chunks, site: Site, factor: Factor) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Lags at which a factor reads the site, and its slices.

    A factor of another level reads every slice once.
    """
    if site.period is not None and site.period == factor.site.period:
        return factor.lags(site.name), factor.slices(chunks.length)
    return (0,), (0, chunks.length)


def _add_factor(
    blocks: Tensor,
    places: _Places,
    curvature: Tensor,
    lags: tuple[int, ...],
    covered: tuple[int, int],
    share: Tensor | None,
) -> None:
    """Add the curvature of one factor `(lags * size, lags * size)`, to blocks `(kinds, width, width, size, size)`."""
    size = blocks.shape[-1]
    width = places.chunks.width
    for i, lag in enumerate(lags):
        for j, other in enumerate(lags):
            rows = range(max(0, other - lag), min(width, width + other - lag))
            if not len(rows):
                continue
            valid = places.valid(rows, lag, covered, blocks, share)
            block = curvature[i * size : (i + 1) * size, j * size : (j + 1) * size]
            band = blocks.diagonal(lag - other, dim1=1, dim2=2)  # (kinds, size, size, rows)
            band += valid[:, None, None] * block[..., None]


def _add_diagonal(
    blocks: Tensor,
    places: _Places,
    curvature: Tensor,
    lags: tuple[int, ...],
    covered: tuple[int, int],
    share: Tensor | None,
) -> None:
    """Add the diagonal of the curvature of one factor, in place, to blocks `(kinds, width, size)`."""
    size = blocks.shape[-1]
    diagonal = curvature.diagonal() if curvature.ndim == 2 else curvature
    for i, lag in enumerate(lags):
        valid = places.valid(range(places.chunks.width), lag, covered, blocks, share)
        blocks += valid[:, :, None] * diagonal[i * size : (i + 1) * size]
