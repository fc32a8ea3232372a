"""Conditional probability tables that find out for themselves which parts of their context matter.

A table p(x | head, context) has, for each head (an action, say), a *structure* h = (pooling, concentration): which context
axes are ignored (their counts pooled), and how noisy rows are. Given the structure every row is Dirichlet(alpha_h base), so
evidence, posterior mean, novelty and exact draws are in closed form:

    log p(counts | h) = sum over rows [ln G(alpha) - ln G(alpha + n.) + sum_x ln G(alpha b_x + n_x) - ln G(alpha b_x)]
    p(h | counts) proportional to p(h) p(counts | h)

Counts carry any leading axes: `(..., head, *context, x)`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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

    @property
    def hypotheses(self) -> list[tuple[tuple[int, ...], float]]:
        """(pooled axes, concentration) of each structure."""
        return [(pool, alpha) for pool in self.pools for alpha in self.alphas]

    def posterior(self, counts: Tensor, bases: Sequence[Tensor]) -> Tensor:
        """p(h | counts), `(..., head, num_structures)`."""
        terms = [self._log_evidence(counts, bases[n], pool, a) for n, pool in enumerate(self.pools) for a in self.alphas]
        logits = torch.stack(terms, -1)
        return torch.softmax(logits + logits.new_tensor(self.log_prior) if self.log_prior else logits, -1)

    def _log_evidence(self, counts: Tensor, base: Tensor, pool: tuple[int, ...], alpha: float) -> Tensor:
        pooled = counts.sum(pool, keepdim=True) if pool else counts
        prior = alpha * base.expand_as(pooled)
        gain = torch.lgamma(pooled + prior.clamp_min(TINY)) - torch.lgamma(prior.clamp_min(TINY))
        cells = torch.where(prior > 0, gain, IMPOSSIBLE * pooled)
        total = pooled.sum(-1)
        rows = cells.sum(-1) + math.lgamma(alpha) - torch.lgamma(total + alpha)
        return rows.flatten(-self.context_axes).sum(-1)

    def concentration(self, counts: Tensor, base: Tensor, pool: tuple[int, ...], alpha: float) -> Tensor:
        """Dirichlet parameters of every row under one structure, pooled axes of size 1; 0 where impossible."""
        pooled = counts.sum(pool, keepdim=True) if pool else counts
        return torch.where(base > 0, pooled + alpha * base, torch.zeros(()))

    def mean(self, counts: Tensor, bases: Sequence[Tensor]) -> Tensor:
        """Posterior mean table, in the shape of `counts`."""
        weights = self.posterior(counts, bases)
        total = torch.zeros_like(counts)
        for number, (pool, alpha) in enumerate(self.hypotheses):
            rows = self.concentration(counts, bases[number // len(self.alphas)], pool, alpha)
            total = total + self._spread(weights[..., number]) * rows / rows.sum(-1, keepdim=True)
        return total

    def mean_and_novelty(self, counts: Tensor, bases: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Posterior mean, and I(x; table) in nats for every row `(..., head, *context)`.

        novelty = H[mean] - E_h E[H(row) | h], with E[H] of a Dirichlet = digamma(a0 + 1) - sum_x m_x digamma(a_x + 1).
        """
        weights = self.posterior(counts, bases)
        mean, conditional = torch.zeros_like(counts), torch.zeros_like(counts[..., 0])
        for number, (pool, alpha) in enumerate(self.hypotheses):
            rows = self.concentration(counts, bases[number // len(self.alphas)], pool, alpha)
            weight, total = self._spread(weights[..., number]), rows.sum(-1, keepdim=True)
            entropy = torch.digamma(total[..., 0] + 1) - (rows / total * torch.digamma(rows + 1)).sum(-1)
            mean, conditional = mean + weight * rows / total, conditional + weight[..., 0] * entropy
        return mean, (torch.special.entr(mean).sum(-1) - conditional).clamp_min(0)

    def _spread(self, weight: Tensor) -> Tensor:
        return weight.reshape(*weight.shape, *(1,) * (self.context_axes + 1))

    def draw(self, counts: Tensor, bases: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        """An exact draw of the whole table: a structure per head, then its rows; pooled rows are drawn once.

        Returns:
            probabilities in the shape of `counts`.
        """
        weights = self.posterior(counts, bases)
        flat = torch.multinomial(weights.flatten(0, -2), 1, generator=generator)
        chosen = self._spread(flat.reshape(weights.shape[:-1]))
        level, alpha = chosen // len(self.alphas), counts.new_tensor(self.alphas)[chosen % len(self.alphas)]
        result = torch.zeros_like(counts)
        for number, (pool, base) in enumerate(zip(self.pools, bases, strict=True)):
            pooled = counts.sum(pool, keepdim=True) if pool else counts
            concentration = torch.where(base > 0, pooled + alpha * base, TINY)
            result = torch.where(level == number, dirichlet(concentration, generator), result)
        return result


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
