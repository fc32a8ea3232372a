"""Loops over the pooled counts of structured tables: their cells are few and mostly empty.

N cases `(N, ...)` each belong to a head; a table has R rows of X values, laid out for L poolings,
and H concentrations (see `PooledDirichletPrior`).
"""

import math

import numpy as np
import numpy.typing as npt

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.gridworld.tables.prior import (
    IMPOSSIBLE,
    TINY,
    Array,
    structure_posterior,
)

# counts of rows, first cases, kinds, weights of structures, log evidence: see `weigh_structures`
Weighed = tuple[Array, Ints, Ints, Array, Array]


@compiled
def kinds(counts: Array, label: Ints) -> tuple[Ints, Ints]:
    """Find cases that are alike: particles mostly agree.

    Args:
        counts: `(N, M)`.
        label: `(N,)`; cases with other labels are unlike.

    Returns:
        the first case of every kind, `(D,)`, and the kind of every case, `(N,)`.
    """
    number, width = counts.shape
    first = np.empty(number, np.int64)
    kind = np.empty(number, np.int64)
    found = 0
    for case in range(number):
        kind[case] = found
        for known in range(found):
            if label[first[known]] == label[case]:
                differs = 0
                for place in range(width):  # no early end: so it is vectorised
                    differs |= counts[first[known], place] != counts[case, place]
                if not differs:
                    kind[case] = known
                    break
        if kind[case] == found:
            first[found] = case
            found += 1
    return first[:found], kind


@compiled
def pool(counts: Array, index: Ints, num_rows: int) -> Array:
    """Counts of every row, `(N, R, X)`.

    Args:
        counts: `(N, C, X)` by context.
        index: `(L, C)` the row of each context under each pooling.
        num_rows: R.
    """
    number, contexts, width = counts.shape
    pooled = np.zeros((number, num_rows, width))
    for case in range(number):
        for context in range(contexts):
            for x in range(width):
                if counts[case, context, x] != 0:
                    for pooling in range(len(index)):
                        pooled[case, index[pooling, context], x] += counts[case, context, x]
    return pooled


@compiled
def add_new_evidence(
    evidence: Array,
    pooled: Array,
    head: Ints,
    possible: npt.NDArray[np.bool_],
    level: Ints,
    group: Ints,
    rows: Array,
    log_gamma: Array,
) -> None:
    """Add log p(new counts | past counts, concentration, pooling) to that of the past, in place.

    Args:
        evidence: `(N, H, L, G)`, see `structure_posterior`.
        pooled: `(N, R, X)` new counts.
        head: `(N,)`.
        possible: `(R, X)` whether x is.
        level, group: `(R,)` pooling and value of the first axis of each row.
        rows: `(H, head, R, X + 1)` Dirichlet parameters given the past; at X their sum.
        log_gamma: of `rows`.
    """
    number, num_rows, width = pooled.shape
    for case in range(number):
        at = head[case]
        for row in range(num_rows):
            total = 0.0
            for x in range(width):
                new = pooled[case, row, x]
                if new == 0:
                    continue
                if not possible[row, x]:
                    evidence[case, :, level[row], group[row]] += IMPOSSIBLE * new
                    continue
                total += new
                for alpha in range(len(rows)):
                    evidence[case, alpha, level[row], group[row]] += (
                        math.lgamma(new + rows[alpha, at, row, x]) - log_gamma[alpha, at, row, x]
                    )
            if total != 0:
                for alpha in range(len(rows)):
                    loss = (
                        math.lgamma(total + rows[alpha, at, row, width])
                        - log_gamma[alpha, at, row, width]
                    )
                    evidence[case, alpha, level[row], group[row]] -= loss


@compiled
def weigh_structures(
    counts: Array,
    label: Ints,
    head: Ints,
    index: Ints,
    possible: npt.NDArray[np.bool_],
    level: Ints,
    group: Ints,
    rows: Array,
    log_gamma: Array,
    past: Array,
    chances: Array,
    shares: Array,
) -> Weighed:
    """What past and new counts say about the structures of cases unlike in counts or label.

    Args:
        counts: `(N, C, X)` new ones by context.
        label: `(N,)`, see `kinds`.
        head: `(N,)`.
        index: `(L, C)` the row of each context under each pooling.
        possible, level, group, rows, log_gamma: as `add_new_evidence`.
        past: `(head, H, L, G)` log p(past counts | concentration, pooling).
        chances, shares: see `PooledDirichletPrior`.

    Returns:
        new counts of every row `(D, R, X)`, first case `(D,)` and kind `(N,)`, see `kinds`, and what
            `structure_posterior` tells of every kind.
    """
    first, kind = kinds(counts.reshape(len(counts), -1), label)
    at = head[first]
    pooled = pool(counts[first], index, len(possible))
    evidence = past[at]
    add_new_evidence(evidence, pooled, at, possible, level, group, rows, log_gamma)
    of_heads = chances[at] if len(chances) > 1 else chances[np.zeros_like(at)]
    weights, total = structure_posterior(evidence, of_heads, shares)
    return pooled, first, kind, weights, total


@compiled
def row_parameters(
    pooled: Array, head: Ints, possible: npt.NDArray[np.bool_], rows: Array, context_rows: Ints
) -> Array:
    """Dirichlet parameters of one row per case and pooling, `(N, H, L, X)`; 0 where impossible.

    Args:
        pooled, head, possible, rows: as `add_new_evidence`.
        context_rows: `(N, L)` the rows.
    """
    number, poolings = context_rows.shape
    width = pooled.shape[2]
    result = np.zeros((number, len(rows), poolings, width))
    for case in range(number):
        for pooling in range(poolings):
            row = context_rows[case, pooling]
            for alpha in range(len(rows)):
                for x in range(width):
                    if possible[row, x]:
                        result[case, alpha, pooling, x] = (
                            rows[alpha, head[case], row, x] + pooled[case, row, x]
                        )
    return result


@compiled
def choose(source: np.random.Generator, weights: Array) -> int:
    """Draw a place in proportion to `(n,)` weights."""
    rest = source.random() * weights.sum()
    for place in range(len(weights) - 1):
        rest -= weights[place]
        if rest < 0:
            return place
    return len(weights) - 1


@compiled
def choose_structures(source: np.random.Generator, kind: Ints, weights: Array) -> tuple[Ints, Ints]:
    """Draw a structure of every case: its concentration, and its pooling of each first-axis value.

    Args:
        source: of randomness.
        kind: `(N,)` kind of every case.
        weights: `(D, H, L, G)` by kind, see `structure_posterior`.

    Returns:
        concentration `(N,)` and pooling `(N, G)`.
    """
    number = len(kind)
    _, alphas, poolings, groups = weights.shape
    alpha = np.empty(number, np.int64)
    pooling = np.zeros((number, groups), np.int64)
    either = np.empty(2 * alphas)
    one = np.empty(poolings - 1)
    for case in range(number):
        weight = weights[kind[case]]
        for each in range(alphas):
            either[2 * each] = weight[each, 0, 0]
            either[2 * each + 1] = 0.0
            for level in range(1, poolings):
                either[2 * each + 1] += weight[each, level, 0]
        chosen = choose(source, either)
        alpha[case] = chosen // 2
        if chosen % 2:
            for group in range(groups):
                for level in range(1, poolings):
                    one[level - 1] = weight[alpha[case], level, group]
                pooling[case, group] = 1 + choose(source, one)
    return alpha, pooling


@compiled
def draw_tables(
    source: np.random.Generator,
    kind: Ints,
    pooled: Array,
    head: Ints,
    possible: npt.NDArray[np.bool_],
    rows: Array,
    index: Ints,
    weights: Array,
) -> Array:
    """Draw a structure of every case and its rows, laid out by context, `(N, C, X)`.

    A Dirichlet draw is a vector of gamma draws over their sum; Gamma(a) = Gamma(a + 1) U^(1/a) in
    log space, so that a row of tiny parameters never underflows to zeros.

    Args:
        source: of randomness.
        kind: `(N,)` kind of every case, see `kinds`; the next two and the last are by kind.
        pooled, head, possible, rows: as `add_new_evidence`.
        index: `(L, C)` the row of each context under each pooling.
        weights: `(D, H, L, G)`, see `structure_posterior`.
    """
    number = len(kind)
    _, num_rows, width = pooled.shape
    result = np.empty((number, index.shape[1], width), np.float32)
    each = index.shape[1] // weights.shape[3]  # contexts with one value of the first axis
    drawn = np.empty((num_rows, width))
    last = np.full(num_rows, -1)
    alpha, pooling = choose_structures(source, kind, weights)
    for case in range(number):
        counts = pooled[kind[case]]
        parameters = rows[alpha[case], head[kind[case]]]
        for context in range(index.shape[1]):
            row = index[pooling[case, context // each], context]
            if last[row] != case:
                last[row] = case
                top = -np.inf
                total = 0.0
                for x in range(width):
                    if possible[row, x]:
                        size = parameters[row, x] + counts[row, x]
                        gamma = max(source.standard_gamma(size + 1), TINY)
                        drawn[row, x] = (
                            math.log(gamma) + math.log(max(source.random(), TINY)) / size
                        )
                        top = max(top, drawn[row, x])
                for x in range(width):
                    drawn[row, x] = math.exp(drawn[row, x] - top) if possible[row, x] else 0.0
                    total += drawn[row, x]
                for x in range(width):
                    drawn[row, x] /= total
            for x in range(width):
                result[case, context, x] = drawn[row, x]
    return result
