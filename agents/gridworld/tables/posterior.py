"""The posterior of a structured table while an episode runs: much past experience, few new counts.

The counts of stored episodes stay as they are while an episode runs, and its own counts touch few
cells of a table. What depends on the past alone is computed once; what the running episode adds is
computed for the touched cells only:

    log p(past + own | h) = log p(past | h) + sum over touched cells and rows of differences of log
    gamma functions

Counts come as N independent cases `(N, *context, x)`, each with the head (an action, say) that it
belongs to.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.tables.heads import learned_shares
from aif_dcpc.agents.gridworld.tables.loops import (
    Weighed,
    draw_tables,
    row_parameters,
    weigh_structures,
)
from aif_dcpc.agents.gridworld.tables.prior import TINY, Array, PooledDirichletPrior


@dataclass(frozen=True)
class TablePosterior:
    """A table with the counts of stored episodes.

    Attributes:
        prior: before any counts.
        past: `(head, *context, x)`.
    """

    prior: PooledDirichletPrior
    past: Tensor

    # -- what the past alone says ------------------------------------------------------------------

    @cached_property
    def _pooled_past(self) -> Array:
        """Past counts of every row, `(head, R, X)`."""
        return self.prior.pooled(self.past.double().numpy())

    @cached_property
    def _rows(self) -> Array:
        """Dirichlet parameters of every row given the past, `(H, head, R, X + 1)`; at X their sum."""
        prior = self.prior
        pooled = self._pooled_past
        alphas = prior.alphas.astype(float)
        base = prior.base.astype(float)
        rows = np.maximum(pooled + alphas[:, None, None, None] * base, TINY)
        totals = np.where(prior.possible, pooled, 0).sum(-1) + alphas[:, None, None]
        return np.concatenate([rows, totals[..., None]], -1)

    @cached_property
    def _log_gammas(self) -> Array:
        """Log gamma functions of `_rows`."""
        result: Array = gammaln(self._rows)
        return result

    @cached_property
    def _log_evidence(self) -> Array:
        """log p(past | concentration, pooling) of every head, `(head, H, L, G)`."""
        return self.prior.log_evidences(self._pooled_past)

    def with_learned_shares(self) -> "TablePosterior":
        """The same table, with concentrations as common as the past says."""
        shares = learned_shares(self._log_evidence.astype(float), self.prior)
        return replace(self, prior=replace(self.prior, shares=shares))

    # -- what the running episode adds -------------------------------------------------------------

    def _weighed(self, own: Tensor, label: Ints, head: Ints) -> Weighed:
        """What past and own counts `(N, *context, x)` say about structures, see `loops.weigh_structures`."""
        prior = self.prior
        counts = own.reshape(len(own), -1, own.shape[-1]).contiguous().numpy()
        layout = prior.index, prior.possible, prior.level, prior.group
        past = self._rows, self._log_gammas, self._log_evidence
        return weigh_structures(counts, label, head, *layout, *past, prior.chances, prior.shares)

    def log_evidence(self, own: Tensor, head: Tensor) -> Tensor:
        """log p(past + own), structures integrated out, `(N,)`."""
        heads = head.contiguous().numpy()
        _, _, kind, _, evidence = self._weighed(own, heads, heads)
        return torch.from_numpy(evidence[kind]).to(own.dtype)

    def mean_at(self, own: Tensor, head: Tensor, context: Tensor) -> Tensor:
        """Posterior mean `(N, x)` of the row of each case in one context (flat number, `(N,)`)."""
        prior = self.prior
        places = context.numpy()
        label = head.numpy() * prior.index.shape[1] + places
        pooled, first, kind, weights, _ = self._weighed(own, label, head.contiguous().numpy())
        heads = head.numpy()[first]
        at = places[first]
        rows = row_parameters(
            pooled, heads, prior.possible, self._rows, np.ascontiguousarray(prior.index[:, at].T)
        )
        here = weights[np.arange(len(at)), :, :, prior.group_of_context[at], None]  # (D, H, L, 1)
        mean = (here * rows / rows.sum(-1, keepdims=True)).sum((1, 2))
        return torch.from_numpy(mean[kind]).to(own.dtype)

    def draw(self, own: Tensor, head: Tensor, source: np.random.Generator) -> Tensor:
        """Draw every case's table exactly: a structure, then its rows; pooled rows are drawn once.

        Returns:
            probabilities in the shape of `own`.
        """
        prior = self.prior
        heads = head.contiguous().numpy()
        pooled, first, kind, weights, _ = self._weighed(own, heads, heads)
        by_kind = pooled, heads[first], prior.possible, self._rows, prior.index, weights
        drawn = draw_tables(source, kind, *by_kind)
        return torch.from_numpy(drawn).to(own.dtype).view(own.shape)


def evidence_gain(table: TablePosterior, before: Tensor, after: Tensor) -> Tensor:
    """log p(past + after) - log p(past + before), `(N,)`, for counts `(N, head, *context, x)`.

    Heads are independent, so that only those whose counts differ are looked at.
    """
    old, new = before.numpy(), after.numpy()
    case, head = (old != new).reshape(*old.shape[:2], -1).any(2).nonzero()
    gain = before.new_zeros(len(before))
    if not len(case):
        return gain
    own = torch.from_numpy(np.concatenate([old[case, head], new[case, head]]))
    less, more = table.log_evidence(own, torch.from_numpy(np.tile(head, 2))).chunk(2)
    return gain.index_add(0, torch.from_numpy(case), more - less)
