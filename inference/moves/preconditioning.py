"""From learned curvatures to the root R of each chunk's preconditioner S = R R', and its use.

The precision of a chunk given its fixed neighbours is assembled from the curvatures of all factors
that read its slices: block-tridiagonal for a chain, so that a linear-Gaussian chunk is drawn
exactly. The first, the inner and the last chunk differ (they hold other factors, and empty places),
so there are three of each.
"""

from dataclasses import replace

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
MAX_SEPARATE = (
    2**22
)  # numbers, up to which each chunk has a matrix of its own in memory, so that one product serves all
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
        if (
            chunks.count == 1
        ):  # also a site without time: curvatures of far and near particles mix, and few are large
            root = root_of_inverse(
                precisions[:1], magnitude=precisions.shape[-1] <= MAX_DENSE_STATIC
            )
        else:
            root = root_of_inverse(precisions)
        few = chunks.count * root[0].numel() <= MAX_SEPARATE
        root = _along(root, chunks.count) if root.ndim == 2 or few else root
        learned = replace(learned, roots={**learned.roots, key: root})
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
    size, width = flatten_event(site, like[:1, :1]).shape[-1], chunks.width
    dense = size * width <= MAX_DENSE_BLOCK and all(
        s.xx.ndim == 2 for s in learned.secants.values()
    )
    blocks = (
        like.new_zeros(3, width, width, size, size) if dense else like.new_zeros(3, width, size)
    )
    for factor in factors_of(state, site.name):
        if factor.key in learned.secants:
            _add_factor(
                blocks, chunks, site, factor, learned.secants[factor.key].curvature(), dense
            )
    empty = 1 - _valid(chunks, range(width), 0, (0, chunks.length), like)
    if not dense:
        return (blocks + empty[..., None]).flatten(1)
    blocks.diagonal(dim1=1, dim2=2).diagonal(dim1=1, dim2=2).add_(empty[..., None])
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)


def _add_factor(
    blocks: Tensor, chunks: Chunks, site: Site, factor: Factor, curvature: Tensor, dense: bool
) -> None:
    same_level = site.period is not None and site.period == factor.site.period
    lags = factor.lags(site.name) if same_level else (0,)
    covered = factor.slices(chunks.length) if same_level else (0, chunks.length)
    size, width = blocks.shape[-1], chunks.width
    if not dense:
        curvature = curvature.diagonal() if curvature.ndim == 2 else curvature
    for i, o in enumerate(lags):
        for j, p in enumerate(lags):
            rows = range(max(0, p - o), min(width, width + p - o))
            if not len(rows) or (not dense and i != j):
                continue
            valid = _valid(chunks, rows, o, covered, blocks)
            here = slice(i * size, (i + 1) * size)
            if dense:
                block = curvature[here, j * size : (j + 1) * size]
                band = blocks.diagonal(o - p, dim1=1, dim2=2)  # (3, size, size, rows)
                band += valid[:, None, None] * block[..., None]
            else:
                blocks[:, rows.start : rows.stop] += valid[:, :, None] * curvature[here]


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
