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
from aif_dcpc.agents.gridworld.compiled import compiled
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
        cells = np.where(first >= 0, np.arange(used), -1)
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


@compiled
def sort_out(
    view: Ints,
    code: Ints,
    cell_ahead: int,
    wrote: int,
    place_of: Ints,
    latest: Ints,
    fixed: Ints,
    first: Ints,
    initial: Ints,
    written: Ints,
    odds: float,
    old: Ints,
    new: Ints,
) -> float:
    """Which cells of a new view are drawn, and the score of those that are not.

    Args:
        view, code: `(P,)` map cells in view, and what is seen there.
        cell_ahead, wrote: the map cell ahead before the event, and what it wrote there, or less than 0.
        place_of: `(M,)` number of every map cell, or -1.
        latest, fixed, first: `(U,)`, see `take_view` and `read_sightings`.
        initial: `(M,)` the initial map.
        written: `(J,)` token of every write.
        odds: log odds of a right sighting.
        old, new: `(P,)`; overwritten with numbers of the cells that are drawn, those that were seen
            before and those that were not (U + place), and -1.
    """
    used = len(first)
    score = 0.0
    for place in range(len(view)):
        old[place] = -1
        new[place] = -1
        number = place_of[view[place]]
        holds = NOT_DRAWN
        if view[place] == cell_ahead and wrote >= 0:
            holds = wrote
        elif number >= 0 and latest[number] >= used:
            holds = written[latest[number] - used]
        elif number >= 0 and fixed[number]:
            holds = initial[view[place]]
        if holds != NOT_DRAWN:
            score += odds if holds == code[place] else 0.0
        elif number >= 0 and first[number] >= 0:
            old[place] = number
        else:
            new[place] = used + place
    return score


@compiled
def put(urn: Array, total: Array, cells: Ints, first: Ints, token: Ints, times: int) -> None:
    """Put cells (numbers `(P,)`, -1 for none) that hold tokens `(P,)` into the urn, or take them out (-1)."""
    for place in range(len(cells)):
        if cells[place] >= 0:
            urn[first[cells[place]], token[place]] += times
            total[first[cells[place]]] += times


@compiled
def show(shown: Array, cells: Ints, code: Ints, times: int) -> None:
    """Add one sighting of each cell (numbers `(P,)`, -1 for none), in place, or take it away."""
    for place in range(len(cells)):
        if cells[place] >= 0 and code[place] >= 0:
            shown[cells[place], code[place]] += times


@compiled
def take_view(
    seen: Ints,
    code: Ints,
    context: Ints,
    initial: Ints,
    written: Ints,
    cells: Ints,
    latest: Ints,
    fixed: Ints,
    view: Ints,
    view_code: Ints,
    view_context: Ints,
    cell_ahead: Ints,
    writes: Ints,
    kept: Ints,
    odds: Array,
    urn: Array,
    number: Array,
) -> tuple[Ints, Array]:
    """How well each event that may have led to a new view predicts it, and a map for each.

    The cells in view are drawn anew, one after another, with the new view and, as they were,
    without it: the ratio of the products of Z is a properly weighted estimate of p(view | event,
    what the other cells hold). Cells that were acted on, or written, keep their tokens.

    Args:
        initial: `(N, M)` initial maps.
        written: `(N, J)` token of every write.
        cells: `(U,)` map cell of each number.
        latest: `(N, U)` the present segment of every numbered cell.
        fixed: `(N, U)` 1 where a cell keeps its token.
        view: `(N, E, P)` map cells that the new view would show after each event.
        view_code, view_context: `(P,)` of the new sightings.
        cell_ahead: `(N,)` map cell ahead before the event.
        writes: `(E,)` what an event writes there, or less than 0.
        kept: `(N,)` the event whose map is the given one, which knows the new view already, or -1.
            That map is not drawn; and the cells in its view are drawn as they would have been
            without it, before all else.
        number: `(N, E + 1, P)` uniform numbers.

    Returns:
        tokens `(N, E, P)` of the cells in view, `NOT_DRAWN` where they are not drawn; and the log
        estimate up to a constant, `(N, E)`.
    """
    cases, events, places = view.shape
    slots = urn.shape[1]
    used = len(cells)
    found = np.full((cases, events, places), NOT_DRAWN)
    gain = np.zeros((cases, events))
    chance = np.empty(slots)
    place_of = np.full(initial.shape[1], -1)
    place_of[cells] = np.arange(used)
    rows = urn.sum(1)
    old = np.empty(places, np.int64)
    new = np.empty(places, np.int64)
    before = np.empty(places, np.int64)
    first = np.full(used + places, -1)
    first[used:] = view_context
    shown = np.zeros((used + places, slots))
    for case in range(cases):
        first[:used], shown[:used] = read_sightings(seen[case], code, context, used, slots)
        holds = initial[case].copy()
        full = urn.copy()
        total = rows.copy()
        fill_urn(full, total, first, holds[cells])
        for turn in range(-1, events):
            event = turn if turn >= 0 else kept[case]
            if event < 0:
                continue
            shows = view[case, event]
            mine = found[case, event]
            score = sort_out(
                shows,
                view_code,
                cell_ahead[case],
                writes[event],
                place_of,
                latest[case],
                fixed[case],
                first[:used],
                holds,
                written[case],
                odds[case],
                old,
                new,
            )
            before[:] = holds[shows]
            put(full, total, old, first, before, -1)
            if turn < 0:
                before[:] = NOT_DRAWN
            free = number[case, turn]
            score -= one_after_another(
                old, first, shown, before, free, full, total, odds[case], chance
            )
            if turn < 0:
                holds[shows] = np.where(old >= 0, before, holds[shows])
                continue
            put(full, total, old, first, before, -1)
            if event == kept[case]:
                mine[:] = initial[case][shows]
            for fresh in (old, new):
                show(shown, fresh, view_code, 1)
                score += one_after_another(
                    fresh, first, shown, mine, free, full, total, odds[case], chance
                )
                show(shown, fresh, view_code, -1)
            for fresh in (old, new):
                put(full, total, fresh, first, mine, -1)
            put(full, total, old, first, before, 1)
            mine[:] = np.where((old >= 0) | (new >= 0), mine, NOT_DRAWN)
            gain[case, event] = score
    return found, gain
