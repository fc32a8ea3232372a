"""What the heads of a structured table, and the rows of a head, have in common.

A table of events has an action for each head. What an action does to some things it may do to others:
the base measure of a row that was hardly tried leans towards what has happened in others (each row
that x happened in counts once, as in a Chinese restaurant franchise whose rows have a table for
each x: Teh et al. 2006). And where what is in hand matters for some things, it may for others.
"""

from dataclasses import replace

import numpy as np
from torch import Tensor

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.tables.prior import (
    MET,
    Array,
    PooledDirichletPrior,
    structure_posterior,
)

EM_ROUNDS = 20
OFTEN = 2.5  # expected counts from which a row speaks for itself
MASS = 2.0  # of what is expected before any row, in rows


def learned_shares(evidence: Array, prior: PooledDirichletPrior) -> Array:
    """How common each concentration is among heads: the mode of its posterior, `(H,)`.

    The shares have a Dirichlet prior, with what `prior` says counting as much as one head for each
    concentration; the mode is found by expectation and maximisation.

    Args:
        evidence: `(heads, H, L, G)` log p(counts | concentration, pooling) of every head.
        prior: of each head.
    """
    pseudo = len(prior.alphas) * prior.shares
    shares = prior.shares
    chances = prior.chances_of(np.arange(len(evidence)))
    for _ in range(EM_ROUNDS):
        weights, _ = structure_posterior(evidence, chances, shares)
        expected = weights[:, :, :, 0].sum((0, 2))
        shares = (expected + pseudo) / (expected + pseudo).sum()
    return shares


def stages(counts: Tensor) -> Tensor:
    """0 where a row's event never happened, 1 where it did, and more where its row was tried often."""
    every = counts.sum(-1, keepdim=True) > OFTEN
    by_class = counts.sum((-2, -1), keepdim=True) > OFTEN
    return (counts > MET).int() + 2 * every.int() + 4 * by_class.int()


def taught(prior: PooledDirichletPrior, counts: Tensor, free: int) -> PooledDirichletPrior:
    """The prior of a table of events by class and grip, as what was met of every action says.

    Args:
        prior: of all actions alike; poolings: of all, of grips, of nothing.
        counts: `(A, G, H, E)` of events; all that counts is what happened, and what was tried often.
        free: number of the first event that is not known yet.
    """
    pooled = prior.pooled((counts > MET).double().numpy())
    hands = np.arange(prior.context[1]) > 0
    alike = np.full(prior.num_rows, -1)
    alike[prior.index[1]] = 0
    alike[prior.index[2]] = 1 + np.tile(hands, prior.context[0])
    # what others taught is for what was hardly tried: in a noisy row it would be hoped for for ever
    known = prior.pooled(counts.numpy()).sum(-1) > OFTEN
    return _taught_chances(_taught_bases(prior, pooled, alike, free, known), pooled)


def _taught_bases(
    prior: PooledDirichletPrior, pooled: Array, alike: Ints, free: int, known: Array
) -> PooledDirichletPrior:
    """Let base measures of rows that are not known lean towards what happened in other rows of their head.

    What cannot be in a row speaks for something there that is not known yet.

    Args:
        prior: with one base measure for all heads.
        pooled: `(head, R, X)` counts of every row.
        alike: `(R,)` number of the rows that teach each other; less than 0 where none do.
        free: the first x that is not known yet.
        known: `(head, R)` rows that stay as they are.
    """
    happened = (pooled > MET).astype(float)
    base = np.repeat(prior.base, len(pooled), 0)
    for number in range(alike.max() + 1):
        rows = alike == number
        times = happened[:, rows].sum(1)[:, None]  # (head, 1, X)
        can = prior.possible[rows]
        spread = times * can
        unknown = can[:, free:]
        share = unknown / np.maximum(unknown.sum(-1, keepdims=True), 1)
        spread[..., free:] += (times * ~can).sum(-1, keepdims=True) * share
        mixed = MASS * prior.base[:, rows] + spread
        base[:, rows] = mixed / mixed.sum(-1, keepdims=True)
    base[known] = np.broadcast_to(prior.base, base.shape)[known]
    return replace(prior, base=base)


def _taught_chances(prior: PooledDirichletPrior, pooled: Array) -> PooledDirichletPrior:
    """Give every head the chances of poolings that what was met of it speaks for.

    A Dirichlet prior has the mass of `MASS` values of the first axis; the mode is found by
    expectation and maximisation over values that were met.
    """
    evidence = prior.log_evidences(pooled).astype(float)
    heads = np.arange(len(evidence))
    first = prior.chances_of(heads)
    chances = first.copy()
    seen = (pooled[:, prior.level == 1].sum(-1) > MET).astype(float)
    met = np.minimum(seen @ np.eye(prior.context[0])[prior.group[prior.level == 1]], 1)
    for _ in range(EM_ROUNDS):
        weights, _ = structure_posterior(evidence, chances, prior.shares)
        each = weights.sum(1)[:, 1:]  # (head, L - 1, G)
        each = each / np.maximum(each.sum(1, keepdims=True), 1e-300)
        mass = MASS * first[:, 1:] + (each * met[:, None]).sum(2)
        chances[:, 1:] = mass / mass.sum(1, keepdims=True)
    return replace(prior, chances=chances)
