"""Loops over the map cells of a new view, compiled: each event that may have led to it is tried with a map of its own.

Arguments as in `urn`.
"""

import numpy as np

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.gridworld.model.urn import (
    NOT_DRAWN,
    fill_urn,
    one_after_another,
    read_sightings,
)
from aif_dcpc.agents.gridworld.tables.prior import Array


@compiled
def settled(latest: Ints, fixed: Ints, written: Ints, token: Ints) -> Ints:
    """What every numbered cell surely holds: what was written last, or what was acted on; else `NOT_DRAWN`.

    Args:
        latest, fixed: `(U,)`, see `take_view`.
        written: `(J,)` token of every write.
        token: `(U,)` what the cells held at first.
    """
    used = len(latest)
    sure = np.full(used, NOT_DRAWN)
    for cell in range(used):
        if latest[cell] >= used:
            sure[cell] = written[latest[cell] - used]
        elif fixed[cell]:
            sure[cell] = token[cell]
    return sure


@compiled
def sort_out(view: Ints, sure: Ints, place_of: Ints, first: Ints, old: Ints, new: Ints) -> Ints:
    """Which cells of a new view are drawn, and what the others hold, `(P,)`, else `NOT_DRAWN`.

    Args:
        view: `(P,)` map cells in view.
        sure: `(U,)`, see `settled`.
        place_of: `(M,)` number of every map cell, or -1.
        first: `(U,)`, see `read_sightings`.
        old, new: `(P,)`; overwritten with numbers of the cells that are drawn, those that were seen
            before and those that were not (U + place), and -1.
    """
    holds = np.full(len(view), NOT_DRAWN)
    for place in range(len(view)):
        number = place_of[view[place]]
        old[place] = -1
        new[place] = -1
        if number >= 0:
            holds[place] = sure[number]
        if holds[place] == NOT_DRAWN and number >= 0 and first[number] >= 0:
            old[place] = number
        elif holds[place] == NOT_DRAWN:
            new[place] = len(first) + place
    return holds


@compiled
def put_at(known: Ints, view: Ints, cell: int, token: int) -> None:
    """Write a token, in place, wherever a view `(P,)` shows a map cell."""
    for place in range(len(view)):
        if view[place] == cell:
            known[place] = token


@compiled
def keep_drawn(found: Ints, mine: Ints, old: Ints, new: Ints) -> None:
    """Write the tokens `(P,)` of the cells that were drawn, see `sort_out`, in place."""
    for place in range(len(found)):
        if old[place] >= 0 or new[place] >= 0:
            found[place] = mine[place]


@compiled
def read_rightly(known: Ints, code: Ints) -> int:
    """How many cells that surely hold something `(P,)` are seen as that."""
    times = 0
    for place in range(len(known)):
        if known[place] >= 0 and known[place] == code[place]:
            times += 1
    return times


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
def as_before(
    old: Ints,
    first: Ints,
    shown: Array,
    token: Ints,
    number: Array,
    urn: Array,
    total: Array,
    odds: float,
    chance: Array,
) -> None:
    """Draw the cells in a view as they would have been without it, in place: `token`, and the urn with it."""
    put(urn, total, old, first, token, -1)
    for place in range(len(old)):
        if old[place] >= 0:
            token[place] = NOT_DRAWN
    one_after_another(old, first, shown, token, number, urn, total, odds, chance)


@compiled
def ratio(
    code: Ints,
    old: Ints,
    new: Ints,
    first: Ints,
    shown: Array,
    before: Ints,
    mine: Ints,
    number: Array,
    urn: Array,
    total: Array,
    odds: float,
    chance: Array,
) -> float:
    """Log ratio of the products of Z with a new view and without it; the urn is left as it was.

    Args:
        code: `(P,)` what is seen.
        old, new: `(P,)`, see `sort_out`.
        before: `(P,)` what the cells held without it.
        mine: `(P,)` what they hold with it; drawn and overwritten where it is `NOT_DRAWN`.
        first, shown, number, urn, total, odds, chance: as `one_after_another`.
    """
    put(urn, total, old, first, before, -1)
    score = -one_after_another(old, first, shown, before, number, urn, total, odds, chance)
    put(urn, total, old, first, before, -1)
    for fresh in (old, new):
        show(shown, fresh, code, 1)
        score += one_after_another(fresh, first, shown, mine, number, urn, total, odds, chance)
        show(shown, fresh, code, -1)
    for fresh in (old, new):
        put(urn, total, fresh, first, mine, -1)
    put(urn, total, old, first, before, 1)
    return score


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

    The cells in view are drawn anew, one after another, with the new view and, as they were, without
    it: the ratio of the products of Z is a properly weighted estimate of p(view | event, all other
    cells). Cells that were acted on, or written, keep their tokens.

    Args:
        initial, written: `(N, M)` initial maps, `(N, J)` token of every write.
        cells: `(U,)` map cell of each number.
        latest: `(N, U)` the present segment of every numbered cell.
        fixed: `(N, U)` 1 where a cell keeps its token.
        view: `(N, E, P)` map cells that the new view would show after each event.
        view_code, view_context: `(P,)` of the new sightings.
        cell_ahead, writes: `(N,)` map cell ahead before the event, `(E,)` what it writes there or < 0.
        kept: `(N,)` the event whose map is the given one, which knows the new view already (its cells
            are first drawn as they would have been without it), or -1.
        number: `(N, E + 1, P)` uniform numbers.

    Returns:
        tokens `(N, E, P)` in view, or `NOT_DRAWN`; and the log estimate up to a constant, `(N, E)`.
    """
    cases, events, places = view.shape
    used = len(cells)
    found = np.full(view.shape, NOT_DRAWN)
    gain = np.zeros((cases, events))
    chance = np.empty(urn.shape[1])
    place_of = np.full(initial.shape[1], -1)
    place_of[cells] = np.arange(used)
    old = np.empty(places, np.int64)
    new = np.empty(places, np.int64)
    first = np.full(used + places, -1)
    first[used:] = view_context
    shown = np.zeros((used + places, urn.shape[1]))
    for case in range(cases):
        first[:used], shown[:used] = read_sightings(seen[case], code, context, used, urn.shape[1])
        holds = initial[case].copy()
        sure = settled(latest[case], fixed[case], written[case], holds[cells])
        full = urn.copy()
        total = urn.sum(1)
        fill_urn(full, total, first, holds[cells])
        rest = full, total, odds[case], chance
        if kept[case] >= 0:
            shows = view[case, kept[case]]
            sort_out(shows, sure, place_of, first[:used], old, new)
            token = holds[shows]
            as_before(old, first, shown, token, number[case, events], *rest)
            holds[shows] = token
        for event in range(events):
            shows = view[case, event]
            known = sort_out(shows, sure, place_of, first[:used], old, new)
            if writes[event] >= 0:  # the cell ahead was acted on: it is not drawn
                put_at(known, shows, cell_ahead[case], writes[event])
            mine = initial[case][shows] if event == kept[case] else np.full(places, NOT_DRAWN)
            gain[case, event] = odds[case] * read_rightly(known, view_code)
            own = number[case, event]
            gain[case, event] += ratio(
                view_code, old, new, first, shown, holds[shows], mine, own, *rest
            )
            keep_drawn(found[case, event], mine, old, new)
    return found, gain
