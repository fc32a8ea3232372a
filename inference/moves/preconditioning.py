"""From learned curvatures to the root R of each chunk's preconditioner S = R R', and its use.

The precision of a chunk given its fixed neighbours is assembled from the curvatures of all factors
that read its slices: block-tridiagonal for a chain, so that a linear-Gaussian chunk is drawn
exactly. The first, the inner and the last chunk differ (they hold other factors, and empty places),
so there are three of each.
"""

import torch
from torch import Tensor

from aif_dcpc.inference.model.densities import factors_of
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
            chunks are many.
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
        root = _along(root, chunks.count) if root.ndim == 2 or few else root
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


def _precisions(state: State, site: Site, chunks: Chunks, learned: SiteAdaptation) -> Tensor:
    """Precision of the first, an inner and the last chunk given their fixed neighbours, `(3, N, N)` or `(3, N)`."""
    like = state.values[site.name]
    size = flatten_event(site, like[:1, :1]).shape[-1]
    width = chunks.width
    full = all(secant.xx.ndim == 2 for secant in learned.secants.values())
    dense = size * width <= MAX_DENSE_BLOCK and full
    shape = (3, width, width, size, size) if dense else (3, width, size)
    blocks = like.new_zeros(shape)
    for factor in factors_of(state, site.name):
        if factor.key in learned.secants:
            curvature = learned.secants[factor.key].curvature()
            add = _add_factor if dense else _add_diagonal
            add(blocks, chunks, curvature, *_reach(chunks, site, factor))
    empty = 1 - _valid(chunks, range(width), 0, (0, chunks.length), like)
    if not dense:
        return (blocks + empty[..., None]).flatten(1)
    blocks.diagonal(dim1=1, dim2=2).diagonal(dim1=1, dim2=2).add_(empty[..., None])
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)


def _reach(chunks: Chunks, site: Site, factor: Factor) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Lags at which a factor reads the site, and its slices.

    A factor of another level reads every slice once.
    """
    if site.period is not None and site.period == factor.site.period:
        return factor.lags(site.name), factor.slices(chunks.length)
    return (0,), (0, chunks.length)


def _add_factor(
    blocks: Tensor,
    chunks: Chunks,
    curvature: Tensor,
    lags: tuple[int, ...],
    covered: tuple[int, int],
) -> None:
    """Add the curvature of one factor `(lags * size, lags * size)`, in place, to blocks `(3, width, width, size, size)`."""
    size = blocks.shape[-1]
    width = chunks.width
    for i, lag in enumerate(lags):
        for j, other in enumerate(lags):
            rows = range(max(0, other - lag), min(width, width + other - lag))
            if not len(rows):
                continue
            valid = _valid(chunks, rows, lag, covered, blocks)
            block = curvature[i * size : (i + 1) * size, j * size : (j + 1) * size]
            band = blocks.diagonal(lag - other, dim1=1, dim2=2)  # (3, size, size, rows)
            band += valid[:, None, None] * block[..., None]


def _add_diagonal(
    blocks: Tensor,
    chunks: Chunks,
    curvature: Tensor,
    lags: tuple[int, ...],
    covered: tuple[int, int],
) -> None:
    """Add the diagonal of the curvature of one factor, in place, to blocks `(3, width, size)`."""
    size = blocks.shape[-1]
    diagonal = curvature.diagonal() if curvature.ndim == 2 else curvature
    for i, lag in enumerate(lags):
        valid = _valid(chunks, range(chunks.width), lag, covered, blocks)
        blocks += valid[:, :, None] * diagonal[i * size : (i + 1) * size]


def _valid(
    chunks: Chunks, rows: range, offset: int, covered: tuple[int, int], like: Tensor
) -> Tensor:
    """`(3, rows)` 1 where a factor that reads slice r at this offset exists in first, inner and last chunk, else 0."""
    within = torch.arange(rows.start, rows.stop, device=like.device)
    starts = (
        kind * chunks.stride - chunks.phase
        for kind in (0, min(1, chunks.count - 1), chunks.count - 1)
    )
    slices = torch.stack([within + start for start in starts])
    read = slices + offset
    valid = (slices >= 0) & (slices < chunks.length) & (read >= covered[0]) & (read < covered[1])
    return valid.to(like.dtype)
