"""Loops over rows of counts, compiled: each has few entries, and there are thousands.

Particles k = 0 .. K - 1 each hold shares of the four kinds of rows, a concentration, the usual
effects of every action, and how rows slip (see `world`).
"""

import math

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.discrete.slips import SLOTS, fillings, slots_of, sums_of_slots

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
def log_kinds(
    shares: Floats,
    usual: Floats,
    concentration: float,
    slips: Floats,
    seen: Ints,
    counts: Floats,
    distinct: int,
) -> Floats:
    """Log joint probability of a row's counts with each kind: fixed, usual, own, slips, `(4,)`."""
    log = np.log(np.maximum(shares, TINY))
    for place in range(distinct):
        log[1] += counts[place] * math.log(max(usual[seen[place]], TINY))
    if distinct == 1:
        log[0] += math.log(max(usual[seen[0]], TINY))
    if distinct > 1:
        log[0] = -np.inf
    if distinct:
        log[2] += log_own(usual, concentration, seen, counts, distinct)
        log[3] += fillings(usual, slips, seen, counts, distinct)[0]
    return log


@compiled
def log_sum(log: Floats) -> float:
    """Logarithm of the sum of exponentials."""
    most = log.max()
    return float(most + math.log(np.exp(log - most).sum()))


@compiled
def kinds_of_row(
    shares: Floats,
    usual: Floats,
    concentration: float,
    slips: Floats,
    seen: Ints,
    counts: Floats,
    distinct: int,
) -> Floats:
    """Posterior probabilities that a row is fixed, usual, has its own table, or slips, `(4,)`."""
    log = log_kinds(shares, usual, concentration, slips, seen, counts, distinct)
    return np.exp(log - log_sum(log))


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
def propose_slips(slips: Floats, near: bool) -> tuple[Floats, float]:
    """Propose how rows slip, from the prior or near by; and the log of what corrects for the way."""
    found = np.zeros(SLOTS)
    correction = 0.0
    for slot in range(SLOTS):
        if near:
            found[slot] = slips[slot] * math.exp(0.3 * np.random.normal())
        else:
            found[slot] = np.random.exponential()
    found = np.maximum(found / found.sum(), 1e-9)
    if near:  # steps of log ratios are symmetric; slips have a uniform prior
        for slot in range(SLOTS):
            correction += math.log(found[slot] / max(slips[slot], 1e-9))
    return found, correction


@compiled
def move_slips(
    slips: Floats,
    shares: Floats,
    concentration: float,
    effects: Floats,
    action: Ints,
    seen: Ints,
    counts: Floats,
    distinct: Ints,
) -> Floats:
    """Move how rows slip by Metropolis steps, kinds and fillings of rows summed over, `(3,)`."""
    others = np.zeros(len(action))
    for row in range(len(action)):
        each = log_kinds(
            shares,
            effects[action[row]],
            concentration,
            slips,
            seen[row],
            counts[row],
            distinct[row],
        )
        others[row] = log_sum(each[:3])
    share = math.log(max(shares[3], TINY))
    now = -np.inf
    for proposal in range(3):
        wanted = slips
        correction = 0.0
        if proposal > 0:
            wanted, correction = propose_slips(slips, proposal == 2)
        total = correction
        for row in range(len(action)):
            log, _ = fillings(effects[action[row]], wanted, seen[row], counts[row], distinct[row])
            total += np.logaddexp(others[row], share + log)
        if math.log(max(np.random.random(), TINY)) < total - now:
            slips = wanted
            now = total - correction
    return slips


@compiled
def draw_kinds(
    shares: Floats,
    concentration: float,
    slips: Floats,
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
            shares,
            effects[action[row]],
            concentration,
            slips,
            seen[row],
            counts[row],
            distinct[row],
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
            elif kinds[row] == 2:
                base = concentration * max(effects[a, effect], TINY)
                for before in range(int(counts[row, place])):
                    if np.random.random() * (base + before) < base:
                        tables[a, effect] += 1


@compiled
def draw_unseen(usual: Floats, seen: Ints, distinct: int) -> int:
    """Draw one of the usual effects that a row has not shown."""
    left = usual.copy()
    for place in range(distinct):
        left[seen[place]] = 0.0
    return draw_index(left / left.sum()) if left.sum() > 0 else len(usual) - 1


@compiled
def count_slips(
    tables: Floats,
    slots_used: Floats,
    kinds: Ints,
    slips: Floats,
    effects: Floats,
    action: Ints,
    seen: Ints,
    counts: Floats,
    distinct: Ints,
) -> None:
    """Draw what slots of rows that slip hold; add that to `tables`, and what they gave to `slots_used`."""
    sums = sums_of_slots(slips)
    for row in range(len(action)):
        if kinds[row] == 3:
            usual = effects[action[row]]
            _, chances = fillings(usual, slips, seen[row], counts[row], distinct[row])
            slots = slots_of(draw_index(chances), distinct[row])
            for place in range(distinct[row] + 1):
                left = int(counts[row, place]) if place < distinct[row] else 0
                mass = sums[slots[place]]
                for slot in range(SLOTS):
                    if slots[place] >> slot & 1:
                        given = (
                            np.random.binomial(left, min(slips[slot] / mass, 1.0)) if left else 0
                        )
                        left -= given
                        mass = max(mass - slips[slot], TINY)
                        slots_used[slot] += given
                        effect = (
                            seen[row, place]
                            if place < distinct[row]
                            else draw_unseen(usual, seen[row], distinct[row])
                        )
                        tables[action[row], effect] += 1


@compiled
def draw_rows(
    seed: int,
    shares: Floats,
    index: Ints,
    slips: Floats,
    effects: Floats,
    grid: Floats,
    action: Ints,
    seen: Ints,
    counts: Floats,
    distinct: Ints,
) -> tuple[Ints, Floats, Floats, Floats]:
    """Draw what links rows to what they share, at every particle.

    Args:
        seed: of the draws.
        shares: `(K, 4)` of the kinds.
        index: `(K,)` of the concentration in the grid.
        slips: `(K, 3)`.
        effects: `(K, A, E + 1)`.
        grid: `(G,)` concentrations.
        action, seen, counts, distinct: of the visited rows.

    Returns:
        indices of new concentrations `(K,)`, numbers of rows by kind `(K, 4)`, numbers of draws from
        each action's usual effects `(K, A, E + 1)` and from each slot of rows that slip `(K, 3)`.
    """
    np.random.seed(seed)
    number = len(shares)
    chosen = np.zeros(number, np.int64)
    numbers = np.zeros((number, 4))
    tables = np.zeros(effects.shape)
    used = np.zeros((number, SLOTS))
    for k in range(number):
        before = grid[index[k]]
        moved = move_slips(slips[k], shares[k], before, effects[k], action, seen, counts, distinct)
        kinds = draw_kinds(shares[k], before, moved, effects[k], action, seen, counts, distinct)
        for kind in kinds:
            numbers[k, kind] += 1
        chosen[k] = draw_concentration(kinds, grid, effects[k], action, seen, counts, distinct)
        count_draws(tables[k], kinds, grid[chosen[k]], effects[k], action, seen, counts, distinct)
        count_slips(tables[k], used[k], kinds, moved, effects[k], action, seen, counts, distinct)
    return chosen, numbers, tables, used
