"""Loops over rows of counts, compiled: each has few entries, and there are thousands.

Particles k = 0 .. K - 1 each hold shares of the three kinds of rows, a concentration and the usual
effects of every action (see `world`).
"""

import math

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.compiled import compiled

TINY = 1e-300


@compiled
def digamma(x: float) -> float:
    """Derivative of the log gamma function, for x > 0 (to 1e-10)."""
    shifted = 0.0
    while x < 8:
        shifted -= 1 / x
        x += 1
    f = 1 / (x * x)
    series = f * (1 / 12 - f * (1 / 120 - f * (1 / 252 - f * (1 / 240 - f / 132))))
    return shifted + math.log(x) - 0.5 / x - series


@compiled
def minus_entropy(chance: float) -> float:
    """Chance times its logarithm, 0 at 0."""
    return chance * math.log(chance) if chance > 0 else 0.0


@compiled
def log_own(
    usual: Floats, concentration: float, seen: Ints, counts: Floats, distinct: int
) -> float:
    """Log probability of a row's counts if its table is Dirichlet(concentration * usual)."""
    found = 0.0
    total = 0.0
    for place in range(distinct):
        base = concentration * max(usual[seen[place]], TINY)
        found += math.lgamma(base + counts[place]) - math.lgamma(base)
        total += counts[place]
    return found + math.lgamma(concentration) - math.lgamma(concentration + total)


@compiled
def kinds_of_row(
    shares: Floats,
    usual: Floats,
    concentration: float,
    seen: Ints,
    counts: Floats,
    distinct: int,
) -> Floats:
    """Posterior probabilities that a row is fixed, usual or has its own table, `(3,)`."""
    log = np.log(np.maximum(shares, TINY))
    for place in range(distinct):
        log[1] += counts[place] * math.log(max(usual[seen[place]], TINY))
    if distinct == 1:
        log[0] += math.log(max(usual[seen[0]], TINY))
    if distinct > 1:
        log[0] = -np.inf
    if distinct:
        log[2] += log_own(usual, concentration, seen, counts, distinct)
    found = np.exp(log - log.max())
    return found / found.sum()


@compiled
def draw_index(chances: Floats) -> int:
    """Draw an index by its probability."""
    left = np.random.random()
    for index in range(len(chances) - 1):
        left -= chances[index]
        if left < 0:
            return index
    return len(chances) - 1


@compiled
def draw_kinds(
    shares: Floats,
    concentration: float,
    effects: Floats,
    action: Ints,
    seen: Ints,
    counts: Floats,
    distinct: Ints,
) -> Ints:
    """Draw the kind of every row at one particle, `(R,)`."""
    found = np.zeros(len(action), np.int64)
    for row in range(len(action)):
        chances = kinds_of_row(
            shares, effects[action[row]], concentration, seen[row], counts[row], distinct[row]
        )
        found[row] = draw_index(chances)
    return found


@compiled
def draw_concentration(
    kinds: Ints,
    grid: Floats,
    effects: Floats,
    action: Ints,
    seen: Ints,
    counts: Floats,
    distinct: Ints,
) -> int:
    """Draw the concentration from its grid, given which rows have tables of their own."""
    log = np.zeros(len(grid))
    for row in range(len(action)):
        if kinds[row] == 2:
            usual = effects[action[row]]
            for index in range(len(grid)):
                log[index] += log_own(usual, grid[index], seen[row], counts[row], distinct[row])
    chances = np.exp(log - log.max())
    return draw_index(chances / chances.sum())


@compiled
def count_draws(
    tables: Floats,
    kinds: Ints,
    concentration: float,
    effects: Floats,
    action: Ints,
    seen: Ints,
    counts: Floats,
    distinct: Ints,
) -> None:
    """Add how often each row drew from its action's usual effects to `tables` (A, E + 1)."""
    for row in range(len(action)):
        a = action[row]
        for place in range(distinct[row]):
            effect = seen[row, place]
            if kinds[row] == 0:
                tables[a, effect] += 1
            elif kinds[row] == 1:
                tables[a, effect] += counts[row, place]
            else:
                base = concentration * max(effects[a, effect], TINY)
                for before in range(int(counts[row, place])):
                    if np.random.random() * (base + before) < base:
                        tables[a, effect] += 1


@compiled
def draw_rows(
    seed: int,
    shares: Floats,
    index: Ints,
    effects: Floats,
    grid: Floats,
    action: Ints,
    seen: Ints,
    counts: Floats,
    distinct: Ints,
) -> tuple[Ints, Floats, Floats]:
    """Draw what links rows to what they share, at every particle.

    Args:
        seed: of the draws.
        shares: `(K, 3)` of the kinds.
        index: `(K,)` of the concentration in the grid.
        effects: `(K, A, E + 1)`.
        grid: `(G,)` concentrations.
        action, seen, counts, distinct: of the visited rows.

    Returns:
        indices of new concentrations `(K,)`, numbers of rows by kind `(K, 3)`, and numbers of draws
        from each action's usual effects `(K, A, E + 1)`.
    """
    np.random.seed(seed)
    number = len(shares)
    chosen = np.zeros(number, np.int64)
    numbers = np.zeros((number, 3))
    tables = np.zeros(effects.shape)
    for k in range(number):
        kinds = draw_kinds(shares[k], grid[index[k]], effects[k], action, seen, counts, distinct)
        for kind in kinds:
            numbers[k, kind] += 1
        chosen[k] = draw_concentration(kinds, grid, effects[k], action, seen, counts, distinct)
        count_draws(tables[k], kinds, grid[chosen[k]], effects[k], action, seen, counts, distinct)
    return chosen, numbers, tables
