"""Loops over map cells with the token prior integrated out, compiled.

A cell that is first seen in context x holds token z with probability theta_x[z]; theta_x has a
Dirichlet prior of its own. A draw of theta is wild where little was met: tokens that were never met
in a context get e^-50 or less, and the map drawn given it bows to it for good. So theta is
integrated out: cells are drawn one after another, each from the urn

    p(z | earlier cells) = (a_x[z] + number of them first seen in x that hold z) / sum over z'

times the likelihood of its own sightings. The product of the normalisers Z of such draws is an
unbiased estimate of the probability of the views, all but exact where misreading is rare.

Arguments, all of one length along N (event sequences), S (sightings) or U (numbered cells):

    seen `(N, S)`, code, context `(S,)`   see `Segments` and `Sightings`, in the order of time
    token `(N, U)`       of every numbered cell at first
    odds `(N,)`          log odds of a right sighting, see `misread_log_odds`
    urn `(X, V)`         Dirichlet parameters a of the token prior
"""

import numpy as np

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.gridworld.tables.prior import Array

NOT_DRAWN = -1


@compiled
def read_sightings(
    seen: Ints, code: Ints, context: Ints, used: int, slots: int
) -> tuple[Ints, Array]:
    """What one sequence saw of every numbered cell before anything was written there.

    Returns:
        context of its first sighting, or -1, `(U,)`, and how often it showed each token, `(U, V)`.
    """
    first = np.full(used, -1)
    shown = np.zeros((used, slots))
    for sighting in range(len(code)):
        cell = seen[sighting]
        if cell < used:
            if first[cell] < 0:
                first[cell] = context[sighting]
            if code[sighting] >= 0:
                shown[cell, code[sighting]] += 1
    return first, shown


@compiled
def fill_urn(urn: Array, total: Array, first: Ints, token: Ints) -> None:
    """Add, in place, all cells `(U,)` that were seen."""
    for cell in range(len(token)):
        if first[cell] >= 0:
            urn[first[cell], token[cell]] += 1
            total[first[cell]] += 1


@compiled
def weigh(chance: Array, urn: Array, shown: Array, odds: float) -> float:
    """Write urn x likelihood of the sightings into `chance`, both up to `exp(result)`; all `(V,)`."""
    most = shown.max()
    top = odds * most
    none = np.exp(-top)
    for slot in range(len(chance)):
        likelihood = none if shown[slot] == 0 else np.exp(odds * shown[slot] - top)
        chance[slot] = urn[slot] * likelihood
    return top


@compiled
def pick(chance: Array, mass: float, number: float) -> int:
    """Draw a slot by a uniform number, `chance` summing to `mass`."""
    left = number * mass
    for slot in range(len(chance)):
        left -= chance[slot]
        if left < 0:
            return slot
    return int(chance.argmax())


@compiled
def one_after_another(
    cells: Ints,
    first: Ints,
    shown: Array,
    token: Ints,
    number: Array,
    urn: Array,
    total: Array,
    odds: float,
    chance: Array,
) -> float:
    """Put cells into the urn one after another, and return the log of the product of their Z.

    Args:
        cells: `(F,)` numbers of the cells; those less than 0 are passed over.
        first, shown: of every cell, see `read_sightings`.
        token: `(F,)` what they hold; drawn and overwritten where it is `NOT_DRAWN`.
        number: `(F,)` uniform numbers.
        urn, total: `(X, V)` and its sums `(X,)`; changed.
        odds: log odds of a right sighting.
        chance: `(V,)` room to work in.
    """
    log_mass = 0.0
    for place in range(len(cells)):
        cell = cells[place]
        if cell < 0:
            continue
        row = first[cell]
        top = weigh(chance, urn[row], shown[cell], odds)
        mass = chance.sum()
        log_mass += np.log(mass / total[row]) + top
        if token[place] == NOT_DRAWN:
            token[place] = pick(chance, mass, number[place])
        urn[row, token[place]] += 1
        total[row] += 1
    return log_mass


@compiled
def draw_in_turn(
    seen: Ints,
    code: Ints,
    context: Ints,
    token: Ints,
    written: Ints,
    odds: Array,
    urn: Array,
    number: Array,
) -> tuple[Ints, Array]:
    """Draw the cells that a sequence saw one after another, in the order of their numbers.

    Args:
        token: `(N, U)`; what is not `NOT_DRAWN` is taken as drawn.
        written: `(N, J)` token of every write.
        number: `(N, U)` uniform numbers.

    Returns:
        tokens `(N, U)`, `NOT_DRAWN` where a cell was not seen; and the log of the product of Z, times
        the likelihood of the sightings of what was written, `(N,)`.
    """
    found = token.copy()
    used = token.shape[1]
    gain = np.zeros(len(seen))
    chance = np.empty(urn.shape[1])
    start = urn.sum(1)
    for case in range(len(seen)):
        first, shown = read_sightings(seen[case], code, context, used, urn.shape[1])
        cells = np.arange(used)
        for cell in range(used):
            if first[cell] < 0:
                cells[cell] = -1
        free = number[case]
        full = urn.copy()
        total = start.copy()
        gain[case] = one_after_another(
            cells, first, shown, found[case], free, full, total, odds[case], chance
        )
        for sighting in range(len(code)):
            segment = seen[case, sighting]
            if segment >= used and written[case, segment - used] == code[sighting]:
                gain[case] += odds[case]
    return found, gain


@compiled
def redraw_cells(
    seen: Ints,
    code: Ints,
    context: Ints,
    token: Ints,
    odds: Array,
    urn: Array,
    steps: Array,
    number: Array,
) -> Ints:
    """Draw each cell anew given all others, a Gibbs sweep; cells that were not seen are kept.

    Args:
        steps: `(N, U, V)` log probability of all that was done to a cell, by its token.
        number: `(N, U)` uniform numbers.
    """
    found = token.copy()
    used = token.shape[1]
    chance = np.empty(urn.shape[1])
    for case in range(len(seen)):
        first, shown = read_sightings(seen[case], code, context, used, urn.shape[1])
        full = urn.copy()
        total = urn.sum(1)
        fill_urn(full, total, first, found[case])
        for cell in range(used):
            row = first[cell]
            if row < 0:
                continue
            full[row, found[case, cell]] -= 1
            weigh(chance, full[row], shown[cell], odds[case])
            done = steps[case, cell]
            chance *= np.exp(done - done.max())
            mass = chance.sum()
            if mass > 0:
                found[case, cell] = pick(chance, mass, number[case, cell])
            full[row, found[case, cell]] += 1
    return found
