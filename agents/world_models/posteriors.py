"""The posterior of a structured table while an episode runs: much past experience, few new counts.

The counts of stored episodes stay as they are while an episode runs, and its own counts touch few cells of a table. What
depends on the past alone is computed once; what the running episode adds is computed for the touched cells only:

    log p(past + own | h) = log p(past | h) + sum over touched cells and rows of differences of log gamma functions

Counts come as N independent cases `(N, *context, x)`, each with the head (an action, say) that it belongs to.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor

from aif_dcpc.agents.world_models.geometry import Ints
from aif_dcpc.agents.world_models.tables import IMPOSSIBLE, TINY, Array, Structured, dirichlet, normalised


@dataclass(frozen=True)
class TablePosterior:
    """A table with the counts of stored episodes.

    Attributes:
        prior: before any counts.
        past: `(head, *context, x)`.
    """

    prior: Structured
    past: Tensor

    # -- what the past alone says -------------------------------------------------------------------------------------

    @cached_property
    def _pooled_past(self) -> Array:
        """Past counts of every row, `(head, R, X)`."""
        return self.prior.pooled(self.past.double().numpy())

    @cached_property
    def _rows(self) -> tuple[Array, Array]:
        """Dirichlet parameters of every row given the past, `(H, head, R, X)`, and their sums `(H, head, R)`."""
        prior, pooled = self.prior, self._pooled_past
        alphas, base = prior.alphas.astype(float), prior.base.astype(float)
        rows = np.maximum(pooled + alphas[:, None, None, None] * base, TINY)
        return rows, pooled.sum(-1) + alphas[:, None, None]

    @cached_property
    def _log_gammas(self) -> tuple[Array, Array]:
        """Log gamma functions of `_rows`."""
        rows, totals = self._rows
        return gammaln(rows), gammaln(totals)

    @cached_property
    def _log_evidence(self) -> Array:
        """log p(past | h) of every head, `(head, L * H)`."""
        return self.prior.log_evidences(self._pooled_past)

    # -- what the running episode adds --------------------------------------------------------------------------------

    def _pooled(self, own: Tensor) -> Array:
        """Own counts of every row, `(N, R, X)`."""
        prior = self.prior
        (length, width), flat = prior.base.shape, own.numpy().reshape(len(own), -1, own.shape[-1])
        case, context, x = flat.nonzero()
        place = (case * length + prior.index[:, context]) * width + x
        amount = np.broadcast_to(flat[case, context, x], place.shape)
        total = np.bincount(place.ravel(), amount.ravel(), len(flat) * length * width)
        return total.reshape(len(flat), length, width)

    def _log_evidences(self, pooled: Array, head: Ints) -> Array:
        """log p(past + own | h), `(N, L * H)`."""
        (rows, totals), (log_rows, log_totals), prior = self._rows, self._log_gammas, self.prior
        case, row, x = pooled.nonzero()
        own, at = pooled[case, row, x], head[case]
        gain = gammaln(own + rows[:, at, row, x]) - log_rows[:, at, row, x]
        gain = np.where(prior.base[row, x] > 0, gain, IMPOSSIBLE * own)
        total = pooled.sum(-1)
        place = case * len(prior.index) + prior.level[row]
        case, row = total.nonzero()
        at = head[case]
        loss = log_totals[:, at, row] - gammaln(total[case, row] + totals[:, at, row])
        place = np.concatenate([place, case * len(prior.index) + prior.level[row]])
        amount, size = np.concatenate([gain, loss], 1), len(pooled) * len(prior.index)
        added = np.stack([np.bincount(place, each, size) for each in amount], 1)
        result: Array = self._log_evidence[head] + added.reshape(len(pooled), -1)
        return result

    def _weights(self, pooled: Array, head: Ints) -> Array:
        """p(h | past + own), `(N, L * H)`."""
        return normalised(self._log_evidences(pooled, head))

    def log_evidence(self, own: Tensor, head: Tensor) -> Tensor:
        """log p(past + own), structures integrated out (evenly likely before), `(N,)`."""
        logits = torch.from_numpy(self._log_evidences(self._pooled(own), head.numpy()))
        return (logits.logsumexp(1) - np.log(logits.shape[1])).to(own.dtype)

    def mean_at(self, own: Tensor, head: Tensor, context: Tensor) -> Tensor:
        """Posterior mean of the row that each case has in one context (its flat number, `(N,)`), `(N, x)`."""
        prior, pooled, heads = self.prior, self._pooled(own), head.numpy()
        row = prior.index[:, context.numpy()]
        counts = self._rows[0][:, heads, row] + pooled[np.arange(len(own)), row]
        counts = np.where(prior.base[row] > 0, counts, 0.0)  # (H, L, N, X)
        weights = self._weights(pooled, heads).reshape(len(own), len(row), -1)
        mean = np.einsum("nlh,hlnx->nx", weights, counts / counts.sum(-1, keepdims=True))
        return torch.from_numpy(mean).to(own.dtype)

    def draw(self, own: Tensor, head: Tensor, generator: torch.Generator) -> Tensor:
        """An exact draw of every case's table: a structure, then its rows; pooled rows are drawn once.

        Returns:
            probabilities in the shape of `own`.
        """
        prior, pooled, heads = self.prior, self._pooled(own), head.numpy()
        uniform = torch.rand(len(own), 1, generator=generator).numpy()
        chosen = (uniform >= self._weights(pooled, heads).cumsum(1)[:, :-1]).sum(1)
        level, alpha = np.divmod(chosen, len(prior.alphas))
        number, first = prior.sizes[level], prior.index[level, 0]
        start = number.cumsum() - number
        case = np.repeat(np.arange(len(own)), number)
        row = np.arange(len(case)) + (first - start)[case]
        counts = self._rows[0][alpha[case], heads[case], row] + pooled[case, row]
        counts = np.where(prior.base[row] > 0, counts, TINY)
        drawn = dirichlet(torch.from_numpy(counts).to(own.dtype), generator)
        place = torch.from_numpy(prior.index[level] + (start - first)[:, None])
        return drawn.index_select(0, place.flatten()).view(own.shape)


def evidence_gain(table: TablePosterior, before: Tensor, after: Tensor) -> Tensor:
    """log p(past + after) - log p(past + before), `(N,)`, for counts `(N, head, *context, x)`.

    Heads are independent, so that only those whose counts differ are looked at.
    """
    case, head = (before != after).flatten(2).any(2).nonzero(as_tuple=True)
    if not len(case):
        return before.new_zeros(len(before))
    own = torch.cat([before[case, head], after[case, head]])
    old, new = table.log_evidence(own, head.repeat(2)).chunk(2)
    return before.new_zeros(len(before)).index_add(0, case, new - old)
