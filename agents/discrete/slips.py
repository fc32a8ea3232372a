"""Rows that slip: one of three effects follows, with chances that are the same in every row.

Which effects a row's three *slots* hold is drawn once for the row, each from the action's usual
effects, so that two slots may hold the same; how probable each slot is, `slips` (3,), all rows
share. A few visits then tell which effects a row has, and thereby its whole table. What a row has
shown is explained by *fillings*: codes of three digits to base `distinct + 1`, a digit for each
slot, which says the place of its effect among those seen, or, by `distinct`, that it holds an
effect not seen here.
"""

import math

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.compiled import compiled

SLOTS = 3
ALL = 7  # all slots, as bits
TINY = 1e-300


@compiled
def sums_of_slots(slips: Floats) -> Floats:
    """Total probability of every set of slots, by its bits, `(8,)`."""
    found = np.zeros(ALL + 1)
    for slots in range(ALL + 1):
        for slot in range(SLOTS):
            if slots >> slot & 1:
                found[slots] += slips[slot]
    return found


@compiled
def slots_of(code: int, distinct: int) -> Ints:
    """Slots that hold each effect seen, as bits, then those that hold none of them, `(distinct + 1,)`."""
    found = np.zeros(distinct + 1, np.int64)
    for slot in range(SLOTS):
        found[code % (distinct + 1)] |= 1 << slot
        code //= distinct + 1
    return found


@compiled
def unseen_mass(usual: Floats, seen: Ints, distinct: int) -> float:
    """Usual probability of effects that a row has not shown."""
    found = 1.0
    for place in range(distinct):
        found -= usual[seen[place]]
    return max(found, TINY)


@compiled
def fillings(
    usual: Floats, slips: Floats, seen: Ints, counts: Floats, distinct: int
) -> tuple[float, Floats]:
    """Log probability of a row's counts, nats, and how probable each filling is, `(codes,)`.

    A row that has shown more effects than there are slots has none: minus infinity, and `(0,)`.
    """
    if distinct > SLOTS:
        return -np.inf, np.zeros(0)
    log_sums = np.log(np.maximum(sums_of_slots(slips), TINY))
    log_sums[0] = -np.inf
    log_held = np.zeros(distinct + 1)
    for place in range(distinct):
        log_held[place] = math.log(max(usual[seen[place]], TINY))
    log_held[distinct] = math.log(unseen_mass(usual, seen, distinct))
    found = np.zeros((distinct + 1) ** SLOTS)
    for code in range(len(found)):
        slots = slots_of(code, distinct)
        rest = code
        for _ in range(SLOTS):
            found[code] += log_held[rest % (distinct + 1)]
            rest //= distinct + 1
        for place in range(distinct):
            found[code] += counts[place] * log_sums[slots[place]]
    most = found.max()
    found = np.exp(found - most)
    total = found.sum()
    return most + math.log(total), found / total


@compiled
def shares_of_seen(chances: Floats, slips: Floats, distinct: int) -> Floats:
    """Expected probability of each effect seen, then of all others, `(distinct + 1,)`."""
    sums = sums_of_slots(slips)
    found = np.zeros(distinct + 1)
    for code in range(len(chances)):
        slots = slots_of(code, distinct)
        for place in range(distinct + 1):
            found[place] += chances[code] * sums[slots[place]]
    return found


@compiled
def powers_of(usual: Floats, unseen: float) -> Floats:
    """Sums of squares and of cubes of usual probabilities, the last spread over so many effects, `(2,)`."""
    found = np.zeros(2)
    for effect in range(len(usual) - 1):
        found[0] += usual[effect] ** 2
        found[1] += usual[effect] ** 3
    number = max(unseen, 1.0)
    found[0] += usual[-1] ** 2 / number
    found[1] += usual[-1] ** 3 / number**2
    return found


@compiled
def entropy_of_slots(slots: int, terms: Floats, mass: float, squares: float, cubes: float) -> float:
    """Expected sum of -p ln p over what these slots hold, each drawn apart from the same effects.

    Args:
        slots: as bits.
        terms: `(8,)` -p ln p of every set of slots.
        mass, squares, cubes: sums of powers of the effects' probabilities.
    """
    if slots == ALL:
        together = cubes / mass**3
        pair = (squares * mass - cubes) / mass**3
        apart = terms[1] + terms[2] + terms[4]
        pairs = terms[3] + terms[4] + terms[5] + terms[2] + terms[6] + terms[1]
        return together * terms[ALL] + pair * pairs + (1 - together - 3 * pair) * apart
    first = slots & -slots
    if slots == first:
        return terms[slots]
    same = squares / mass**2
    return same * terms[slots] + (1 - same) * (terms[first] + terms[slots - first])


@compiled
def entropy_of_fillings(
    chances: Floats, usual: Floats, slips: Floats, powers: Floats, seen: Ints, distinct: int
) -> float:
    """Expected entropy of a row's table, nats, by how probable its fillings are."""
    sums = sums_of_slots(slips)
    terms = np.zeros(ALL + 1)
    for some in range(1, ALL + 1):
        terms[some] = -sums[some] * math.log(max(sums[some], TINY))
    squares = powers[0]
    for place in range(distinct):
        squares -= usual[seen[place]] ** 2
    mass = unseen_mass(usual, seen, distinct)
    squares = min(max(squares, 0.0), mass**2)
    found = 0.0
    for code in range(len(chances)):
        if chances[code] > 0:
            held = slots_of(code, distinct)
            for place in range(distinct):
                found += chances[code] * terms[held[place]]
            found += chances[code] * entropy_of_slots(
                held[distinct], terms, mass, squares, powers[1]
            )
    return found
