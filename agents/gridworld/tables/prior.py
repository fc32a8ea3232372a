"""Conditional probability tables that find out for themselves which parts of their context matter.

A table p(x | head, context) has, for each head (an action, say), a *structure* h: how noisy rows
are (a concentration), whether the context matters at all, and, if it does, for each value of its
first axis (a token ahead, say) by itself, which of the other axes matter. What does not matter has
its counts pooled. How common each concentration is (a tiny one makes rows all but deterministic) is
learned from the heads together (`heads.learned_shares`); what an action does to some things it may do to others,
and if what is in hand matters for some it may for others (`heads`). Given the structure every row is
Dirichlet(alpha_h base), so evidence, posterior mean, novelty and exact draws are in closed form:

    log p(counts | h) = sum over rows [ln G(alpha) - ln G(alpha + n.) + sum_x ln G(alpha b_x + n_x)
    - ln G(alpha b_x)]

and p(h | counts) is proportional to p(h) p(counts | h). A count of what cannot be in a row (b_x = 0)
costs `IMPOSSIBLE` whatever else was counted there, and tells nothing else of the row.

Given the concentration, and that the context matters, values of the first axis are independent: the
sum over all their choices is a product of sums. Counts carry any leading axes: `(..., head,
*context, x)`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import digamma, entr, gammaln
from torch import Tensor

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.gridworld.tables.novelty import dirichlet_information

Array = npt.NDArray[Any]

Triple = tuple[Tensor, Tensor, Tensor]

TINY = 1e-30
MET = 0.5  # expected counts from which something counts as having happened
IMPOSSIBLE = (
    -12.0
)  # log probability of one (perhaps fractional) count where the base measure is zero


@dataclass(frozen=True)
class PooledDirichletPrior:
    """The prior of a table: a mixture over poolings of its rows.

    Rows of all poolings are laid out one after the other: R rows for L poolings. Tables are small,
    so that the arithmetic is done by numpy, on the memory of the tensors that come and go.

    Attributes:
        base: `(heads, R, X)` base measure of every row (one head: of all of them); zero where x is
            impossible.
        index: `(L, C)` the row that each of the C contexts has under each pooling; pooling 0
            ignores the context.
        alphas: `(H,)` total concentrations.
        shares: `(H,)` how likely each is.
        chances: `(heads, L)` prior probability that the context does not matter, and of each other
            pooling if it does (one head: of all of them).
        context: sizes of the context axes; the first has size G.
    """

    base: Array
    index: Array
    alphas: Array
    shares: Array
    chances: Array
    context: tuple[int, ...]

    @classmethod
    def of(
        cls,
        context: tuple[int, ...],
        pools: Sequence[tuple[int, ...]],
        bases: Sequence[Tensor],
        alphas: Sequence[float],
        chances: Sequence[float],
        shares: Sequence[float] | None = None,
    ) -> "PooledDirichletPrior":
        """Lay out the rows.

        Args:
            context: sizes of the context axes.
            pools: for each pooling, the context axes (0, 1, ...) that it ignores: all of them
                first, then never axis 0.
            bases: for each pooling, a base measure that broadcasts to `(*context, X)`, ignored axes
                having size 1.
            alphas: total concentrations.
            chances: prior probability that the context does not matter, and of each other pooling
                if it does.
            shares: how likely each concentration is; evenly by default.
        """
        rows = []
        index = []
        start = 0
        for pool, base in zip(pools, bases, strict=True):
            sizes = tuple(1 if axis in pool else size for axis, size in enumerate(context))
            number = math.prod(sizes)
            index.append(
                np.broadcast_to((start + np.arange(number)).reshape(sizes), context).ravel()
            )
            rows.append(base.expand(*sizes, base.shape[-1]).reshape(number, -1).numpy())
            start += number
        layout = np.concatenate(rows)
        return cls(
            layout[None],
            np.stack(index),
            np.array(alphas, layout.dtype),
            np.full(len(alphas), 1 / len(alphas)) if shares is None else np.array(shares, float),
            np.array(chances, float)[None],
            context,
        )

    def chances_of(self, heads: Ints) -> Array:
        """`chances` of cases that belong to heads `(N,)`."""
        return self.chances[np.zeros_like(heads) if len(self.chances) == 1 else heads]

    # -- layout ------------------------------------------------------------------------------------

    @cached_property
    def _pooling(self) -> Array:
        """`(R, C)` 1 where a row gathers a context's counts."""
        return (
            (self.index[:, None] == np.arange(self.num_rows)[:, None])
            .any(0)
            .astype(self.base.dtype)
        )

    @property
    def num_rows(self) -> int:
        """How many rows there are, R."""
        return self.base.shape[1]

    @cached_property
    def possible(self) -> npt.NDArray[np.bool_]:
        """`(R, X)` whether x is possible."""
        return self.base[0] > 0

    @cached_property
    def level(self) -> Array:
        """`(R,)` pooling of each row."""
        return (np.arange(self.num_rows)[:, None] >= self.index[:, 0]).sum(1) - 1

    @cached_property
    def group(self) -> Array:
        """`(R,)` value of the first axis that a row belongs to; 0 where the context is ignored."""
        groups = np.zeros(self.num_rows, np.int64)
        for rows in self.index[1:]:
            groups[rows] = self.group_of_context
        return groups

    @cached_property
    def group_of_context(self) -> Array:
        """`(C,)` value of the first axis."""
        return np.repeat(np.arange(self.context[0]), self.index.shape[1] // self.context[0])

    @cached_property
    def _membership(self) -> Array:
        """`(R, L * G)` 1 where a row belongs to a pooling and a value of the first axis."""
        place = self.level * self.context[0] + self.group
        return (place[:, None] == np.arange(len(self.index) * self.context[0])).astype(
            self.base.dtype
        )

    @cached_property
    def _prior(self) -> tuple[Array, Array, Array]:
        """alpha b `(H, heads, R, X)`, its log gamma function, and that of alpha `(H,)`."""
        prior = np.maximum(self.alphas[:, None, None, None] * self.base, TINY)
        return prior, gammaln(prior), gammaln(self.alphas)

    def pooled(self, counts: Array) -> Array:
        """Counts of every row, `(..., head, R, X)`."""
        leading = counts.shape[: counts.ndim - 1 - len(self.context)]
        pooled: Array = self._pooling @ counts.reshape(
            *leading, self.index.shape[1], counts.shape[-1]
        )
        return pooled

    def _upright(self, value: Array, like: Array) -> Array:
        """Concentrations along a new first axis before those of `like`."""
        return value.reshape(
            len(self.alphas), *(1,) * (like.ndim - value.ndim + 1), *value.shape[1:]
        )

    # -- inference ---------------------------------------------------------------------------------

    def log_evidences(self, pooled: Array) -> Array:
        """log p(counts | concentration, pooling) by value of the first axis, `(..., head, H, L, G)`."""
        prior, log_gamma = (self._upright(value, pooled) for value in self._prior[:2])
        return self._by_structure(self._row_evidence(pooled, prior, log_gamma, self.possible))

    def _row_evidence(
        self, pooled: Array, prior: Array, log_gamma: Array, possible: npt.NDArray[np.bool_]
    ) -> Array:
        """log p(counts | concentration) of rows `(..., X)`, `(H, ...)`; the others as `_prior` and `possible`."""
        gain = gammaln(pooled + prior) - log_gamma
        cells = np.where(possible, gain, IMPOSSIBLE * pooled).sum(-1)
        total = np.where(possible, pooled, 0).sum(-1)
        alphas, constant = (self._upright(value, total) for value in (self.alphas, self._prior[2]))
        evidence: Array = cells + constant - gammaln(total + alphas)
        return evidence

    def _by_structure(self, evidence: Array) -> Array:
        """Sums of what rows say `(H, ..., head, R)` by what they belong to, `(..., head, H, L, G)`."""
        logits = np.moveaxis(evidence @ self._membership, 0, -2)
        return logits.reshape(*logits.shape[:-1], len(self.index), self.context[0])

    def _row_weights(self, evidence: Array, heads: Ints) -> Array:
        """p(pooling of the row, concentration | counts) `(H, head, R)`, see `_row_evidence`."""
        cases = self._by_structure(evidence).astype(float)
        weights, _ = structure_posterior(cases, self.chances_of(heads), self.shares)
        return np.moveaxis(weights[:, :, self.level, self.group], 1, 0)

    # -- what planning needs -----------------------------------------------------------------------

    def _terms(self, pooled: Array, head: Ints, row: Ints) -> tuple[Array, Array, Array]:
        """What counts `(n, X)` say of rows, each by itself.

        Returns:
            log p(counts | concentration) `(H, n)`, the expected entropy `(H, n)`, and what one more
            x teaches if the row is the only one, `(n,)`.
        """
        prior, log_gamma = (part[:, self._base_of(head), row] for part in self._prior[:2])
        possible = self.possible[row]
        rows = np.where(possible, pooled + prior, pooled.dtype.type(0))
        total = rows.sum(-1, keepdims=True)
        entropy = digamma(total[..., 0] + 1) - (rows / total * digamma(rows + 1)).sum(-1)
        base = self.base[self._base_of(head), row]
        alone = dirichlet_information(base + pooled.astype(float))
        return self._row_evidence(pooled, prior, log_gamma, possible), entropy, alone

    def _base_of(self, heads: Ints) -> Ints:
        """Number of the base measures of heads."""
        return np.zeros_like(heads) if len(self.base) == 1 else heads

    @cached_property
    def _terms_without_counts(self) -> tuple[Array, Array, Array]:
        """`_terms` of all rows that have no counts, `(..., head, R)`."""
        head, row = np.indices(self.base.shape[:2])
        nothing = np.zeros((head.size, self.base.shape[2]), self.base.dtype)
        terms = self._terms(nothing, head.ravel(), row.ravel())
        evidence, entropy, alone = (part.reshape(*part.shape[:-1], *row.shape) for part in terms)
        return evidence, entropy, alone

    def _all_terms(self, pooled: Array, heads: Ints) -> tuple[Array, Array, Array]:
        """`_terms` of all rows `(..., head, R)` given counts `(head, R, X)`; most rows have none."""
        evidence, entropy, alone = (
            part[..., self._base_of(heads), :] for part in self._terms_without_counts
        )
        head, row = np.nonzero(pooled.any(-1))
        found = self._terms(pooled[head, row], heads[head], row)
        evidence[:, head, row], entropy[:, head, row], alone[head, row] = found
        return evidence, entropy, alone

    def apart(self, counts: Tensor, nothing: int) -> Array:
        """What one more x teaches of every row by itself, nats, `(head, *context)`.

        What other values of the first axis taught says how x is foreseen, but not that it need not be
        tried: a row is asked as if it were the only one, with a Dirichlet prior of mass 1. Which of the
        other axes matter is averaged over with the prior's chances: that nothing came of a thing in some
        colours is no reason not to try it in others. Where a value of the first axis has given
        something else than `nothing`, all of them may matter: such rows are what tasks are about.
        """
        heads = np.arange(len(counts))
        _, _, alone = self._all_terms(self.pooled(counts.numpy()), heads)
        return self._apart(counts.double().numpy(), alone, heads, nothing)

    def _apart(self, counts: Array, alone: Array, heads: Ints, nothing: int) -> Array:
        """As `apart`, given what is taught if a row is the only one, `(head, R)`."""
        weights = self.chances_of(heads)[:, self.level] * (self.level > 0)
        new = self._onto_contexts(weights * alone, -1)
        every = counts.reshape(*new.shape, -1)
        eventful = np.delete(every, nothing, -1).sum(-1)
        others = tuple(range(-len(self.context) + 1, 0))
        telling = np.broadcast_to(eventful.sum(others, keepdims=True) > MET, new.shape)
        new[telling] = dirichlet_information(self.base[0, 0] + every[telling])
        return new

    def _onto_contexts(self, rows: Array, axis: int) -> Array:
        """Sum over poolings of what a context's rows hold; the context axes replace that of rows."""
        at = axis % rows.ndim
        spread = rows.take(self.index, at).sum(at)
        return spread.reshape(*rows.shape[:at], *self.context, *rows.shape[at + 1 :])

    def summary(
        self, counts: Tensor, nothing: int, *, apart: bool = False, heads: Ints | None = None
    ) -> Triple:
        """What planning needs of every row `(head, *context)`.

        Args:
            counts: `(head, *context, x)`.
            nothing: what an idle trial gives.
            apart: novelty is that of `apart`.
            heads: which heads these are; all of them by default.

        Returns:
            the posterior mean; I(x; table) in nats; and the mean after one more trial of the row
            that gave x = `nothing` (structures as likely as before): a known row stays as it is, an
            untried one loses what it promised.

        novelty = H[mean] - E_h E[H(row) | h], with E[H] of a Dirichlet = digamma(a0 + 1) - sum_x
        m_x digamma(a_x + 1).
        """
        heads = np.arange(len(counts)) if heads is None else heads
        pooled = self.pooled(counts.numpy())
        evidence, entropy, alone = self._all_terms(pooled, heads)
        weights = self._row_weights(evidence, heads)
        prior = self._prior[0][:, self._base_of(heads)]
        rows = np.where(self.possible, pooled + prior, pooled.dtype.type(0))
        total = rows.sum(-1, keepdims=True)
        idle = rows.copy()
        idle[..., nothing] += 1
        mean, without_optimism = (
            self._onto_contexts((weights[..., None] * part).sum(0), -2)
            for part in (rows / total, idle / (total + 1))
        )
        if apart:
            novelty = self._apart(counts.double().numpy(), alone, heads, nothing)
            novelty = novelty.astype(mean.dtype)
        else:
            novelty = entr(mean).sum(-1) - self._onto_contexts((weights * entropy).sum(0), -1)
        return (
            torch.from_numpy(mean),
            torch.from_numpy(np.maximum(novelty, 0)),
            torch.from_numpy(without_optimism),
        )


@compiled
def structure_posterior(evidence: Array, chances: Array, shares: Array) -> tuple[Array, Array]:
    """What counts say about structures.

    Args:
        evidence: `(N, H, L, G)` log p(counts | concentration, pooling) of every value of the first
            axis.
        chances, shares: `(N, L)` and `(H,)`, see `PooledDirichletPrior`.

    Returns:
        p(concentration, pooling of a value of the first axis | counts) `(N, H, L, G)`, and log
            p(counts) `(N,)`.
    """
    number, alphas, poolings, groups = evidence.shape
    weights = np.zeros(evidence.shape)
    total = np.empty(number)
    logits = np.empty((alphas, 2))
    for case in range(number):
        for alpha in range(alphas):
            logits[alpha, 0] = math.log(shares[alpha] * chances[case, 0])
            logits[alpha, 1] = math.log(shares[alpha] * (1 - chances[case, 0]))
            for group in range(groups):
                logits[alpha, 0] += evidence[case, alpha, 0, group]
                top = -np.inf
                sum_ = 0.0
                for pooling in range(1, poolings):
                    top = max(top, evidence[case, alpha, pooling, group])
                for pooling in range(1, poolings):
                    weight = chances[case, pooling] * math.exp(
                        evidence[case, alpha, pooling, group] - top
                    )
                    weights[case, alpha, pooling, group] = weight
                    sum_ += weight
                for pooling in range(1, poolings):
                    weights[case, alpha, pooling, group] /= sum_
                logits[alpha, 1] += top + math.log(sum_)
        top = logits.max()
        total[case] = top + math.log(np.exp(logits - top).sum())
        for alpha in range(alphas):
            neutral = math.exp(logits[alpha, 0] - total[case])
            matters = math.exp(logits[alpha, 1] - total[case])
            for group in range(groups):
                weights[case, alpha, 0, group] = neutral
                for pooling in range(1, poolings):
                    weights[case, alpha, pooling, group] *= matters
    return weights, total


def numpy_generator(generator: torch.Generator | None) -> np.random.Generator:
    """A new source of randomness for numpy, seeded by torch's (for None: by whatever draws follow)."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def base_measure(size: int, favourite: int, mass: float) -> Tensor:
    """A distribution that puts `mass` on one outcome and spreads the rest."""
    base = torch.full((size,), (1 - mass) / (size - 1))
    base[favourite] = mass
    return base
