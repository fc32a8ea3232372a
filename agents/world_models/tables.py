"""Conditional probability tables that find out for themselves which parts of their context matter.

A table p(x | head, context) has, for each head (an action, say), a *structure* h = (pooling, concentration): which
context axes are ignored (their counts pooled), and how noisy rows are. Given the structure every row is
Dirichlet(alpha_h base), so evidence, posterior mean, novelty and exact draws are in closed form:

    log p(counts | h) = sum over rows [ln G(alpha) - ln G(alpha + n.) + sum_x ln G(alpha b_x + n_x) - ln G(alpha b_x)]
    p(h | counts) proportional to p(h) p(counts | h)

Counts carry any leading axes: `(..., head, *context, x)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TINY = 1e-30
IMPOSSIBLE = -12.0  # log evidence of one (perhaps fractional) count where the base measure is zero


@dataclass(frozen=True)
class Structured:
    """A family of tables.

    Attributes:
        context_axes: number of context axes.
        pools: for each pooling, the context axes (negative, counted from the end, x being -1) that it ignores.
        alphas: total concentrations.
        log_prior: log prior of each structure, poolings outermost; empty for a uniform one.
    """

    context_axes: int
    pools: tuple[tuple[int, ...], ...]
    alphas: tuple[float, ...]
    log_prior: tuple[float, ...] = ()

    def posterior(self, counts: Tensor, bases: Sequence[Tensor]) -> Tensor:
        """p(h | counts), `(H, ..., head)`; h = pooling * number of concentrations + concentration."""
        shared = self._shared(counts)
        terms = [self._log_evidence(shared, base, pool) for base, pool in zip(bases, self.pools, strict=True)]
        logits = torch.cat(terms)
        if self.log_prior:
            logits = logits + self._upright(logits.new_tensor(self.log_prior), logits.ndim)
        return logits.softmax(0).expand(-1, *counts.shape[: counts.ndim - self.context_axes - 1])

    def _shared(self, counts: Tensor) -> Tensor:
        """One row where all particles (the first axis, if there is one) have the same counts."""
        particles = counts.ndim > self.context_axes + 2
        return counts[:1] if particles and bool((counts == counts[:1]).all()) else counts

    @staticmethod
    def _upright(vector: Tensor, ndim: int) -> Tensor:
        return vector.reshape(-1, *(1,) * (ndim - 1))

    def _prior(self, base: Tensor, ndim: int) -> Tensor:
        """alpha_h base, the concentrations along a new first axis."""
        return self._upright(base.new_tensor(self.alphas), ndim + 1) * base

    def _log_evidence(self, counts: Tensor, base: Tensor, pool: tuple[int, ...]) -> Tensor:
        """log p(counts | pooling, concentration), `(concentration, ..., head)`."""
        pooled = counts.sum(pool, keepdim=True) if pool else counts
        prior, alphas = self._prior(base, counts.ndim), self._upright(counts.new_tensor(self.alphas), counts.ndim)
        safe = prior.clamp_min(TINY)
        gain = torch.lgamma(pooled + safe) - torch.lgamma(safe)
        cells = torch.where(base > 0, gain, IMPOSSIBLE * pooled)
        rows = cells.sum(-1) + torch.lgamma(alphas) - torch.lgamma(pooled.sum(-1) + alphas)
        return rows.flatten(-self.context_axes).sum(-1)

    def _rows(self, counts: Tensor, base: Tensor, pool: tuple[int, ...]) -> Tensor:
        """Dirichlet parameters `(concentration, ..., head, *context, x)`; pooled axes have size 1; 0 if impossible."""
        pooled = counts.sum(pool, keepdim=True) if pool else counts
        return torch.where(base > 0, pooled + self._prior(base, counts.ndim), torch.zeros(()))

    def mean(self, counts: Tensor, bases: Sequence[Tensor]) -> Tensor:
        """Posterior mean table, in the shape of `counts`."""
        shared, number = self._shared(counts), len(self.alphas)
        weights = self._spread(self.posterior(shared, bases))
        total = torch.zeros_like(shared)
        for level, (base, pool) in enumerate(zip(bases, self.pools, strict=True)):
            rows = self._rows(shared, base, pool)
            total = total + (weights[level * number : (level + 1) * number] * rows / rows.sum(-1, keepdim=True)).sum(0)
        return total.expand_as(counts)

    def mean_and_novelty(self, counts: Tensor, bases: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Posterior mean, and I(x; table) in nats for every row `(..., head, *context)`.

        novelty = H[mean] - E_h E[H(row) | h], with E[H] of a Dirichlet = digamma(a0 + 1) - sum_x m_x digamma(a_x + 1).
        """
        weights, number = self._spread(self.posterior(counts, bases)), len(self.alphas)
        mean, conditional = torch.zeros_like(counts), torch.zeros_like(counts[..., 0])
        for level, (base, pool) in enumerate(zip(bases, self.pools, strict=True)):
            rows, weight = self._rows(counts, base, pool), weights[level * number : (level + 1) * number]
            total = rows.sum(-1, keepdim=True)
            entropy = torch.digamma(total[..., 0] + 1) - (rows / total * torch.digamma(rows + 1)).sum(-1)
            mean, conditional = mean + (weight * rows / total).sum(0), conditional + (weight[..., 0] * entropy).sum(0)
        return mean, (torch.special.entr(mean).sum(-1) - conditional).clamp_min(0)

    def _spread(self, weight: Tensor) -> Tensor:
        return weight.reshape(*weight.shape, *(1,) * (self.context_axes + 1))

    def draw(self, counts: Tensor, bases: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        """An exact draw of the whole table: a structure per head, then its rows; pooled rows are drawn once.

        Returns:
            probabilities in the shape of `counts`.
        """
        weights = self.posterior(counts, bases)
        flat = torch.multinomial(weights.flatten(1).T, 1, generator=generator)
        chosen = self._spread(flat.reshape(weights.shape[1:]))
        level, alpha = chosen // len(self.alphas), counts.new_tensor(self.alphas)[chosen % len(self.alphas)]
        result = torch.zeros_like(counts)
        for number, (pool, base) in enumerate(zip(self.pools, bases, strict=True)):
            pooled = counts.sum(pool, keepdim=True) if pool else counts
            concentration = torch.where(base > 0, pooled + alpha * base, TINY)
            result = torch.where(level == number, dirichlet(concentration, generator), result)
        return result


@dataclass
class Summary:
    """Posterior mean and novelty of a table, recomputed only for the heads whose counts have changed.

    Attributes:
        family: of the table.
        counts, mean, novelty: as they were last; None before the first use.
    """

    family: Structured
    counts: Tensor | None = None
    mean: Tensor | None = None
    novelty: Tensor | None = None
    bases: Sequence[Tensor] = ()

    def update(self, counts: Tensor, bases: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Posterior mean and novelty at `counts` `(head, *context, x)`."""
        mean, novelty = self.mean, self.novelty
        if mean is None or novelty is None or self.counts is None or not self._same_prior(counts, bases):
            mean, novelty = self.family.mean_and_novelty(counts, bases)
        else:
            changed = (counts != self.counts).flatten(1).any(1).nonzero()[:, 0]
            mean, novelty = mean.clone(), novelty.clone()
            mean[changed], novelty[changed] = self.family.mean_and_novelty(counts[changed], bases)
        self.counts, self.mean, self.novelty, self.bases = counts, mean, novelty, bases
        return mean, novelty

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors; recomputing all heads at once could differ in the last bit."""
        return {"counts": self.counts, "mean": self.mean, "novelty": self.novelty, "bases": list(self.bases)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.counts, self.mean, self.novelty = state["counts"], state["mean"], state["novelty"]
        self.bases = tuple(state["bases"])

    def _same_prior(self, counts: Tensor, bases: Sequence[Tensor]) -> bool:
        old = self.counts is not None and self.counts.shape == counts.shape
        return old and all(torch.equal(a, b) for a, b in zip(self.bases, bases, strict=True))


def dirichlet(concentration: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from Dirichlet distributions along the last axis, safe for tiny concentrations.

    Gamma(a) = Gamma(a + 1) U^(1/a) in log space, so that a draw never underflows to a row of zeros.
    """
    gamma = torch._standard_gamma(concentration + 1, generator=generator).clamp_min(TINY).log()
    uniform = torch.rand(concentration.shape, generator=generator, dtype=concentration.dtype).clamp_min(TINY)
    return torch.softmax(gamma + uniform.log() / concentration, -1)


def base_measure(size: int, favourite: int, mass: float) -> Tensor:
    """A distribution that puts `mass` on one outcome and spreads the rest."""
    base = torch.full((size,), (1 - mass) / (size - 1))
    base[favourite] = mass
    return base
