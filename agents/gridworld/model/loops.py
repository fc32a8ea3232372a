"""The loops of `paths`, `segments` and `counts`, compiled: N event sequences are followed step by step."""

import numpy as np

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.gridworld.model.vocabulary import SAME
from aif_dcpc.agents.gridworld.tables.prior import Array

NEVER = -1e9  # log probability of what cannot be


@compiled
def walk(
    events: Ints,
    heading: Ints,
    held: Ints,
    faced: Ints,
    steps: Ints,
    writes: Ints,
    milestone: int,
    start: Ints,
    wrap: int,
    stride: int,
    cells_ahead: Ints,
    wide: Ints,
) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Where event sequences lead.

    Args:
        events: `(N, T)`; that of slice 0 is ignored.
        heading: `(T,)` as observed.
        held, faced: `(T,)` thing in hand and token ahead before the step into the slice.
        steps, writes, milestone: what events do, see `Effects`.
        start: `(2,)` position (y, x) at slice 0.
        wrap, stride, cells_ahead, wide: cells along a side of the map and of the wide frame, shift of
            the cell ahead by heading, and map cell of every place in the frame, see `Torus`.

    Returns:
        `(N, T, 2)` position without wrapping, `(N, T)` its anchor, the map cell ahead, the token
            written on the way into the slice, or SAME, and whether the milestone has been written.
    """
    number, length = events.shape
    position = np.empty((number, length, 2), np.int64)
    anchor = np.empty((number, length), np.int64)
    cell_ahead = np.empty((number, length), np.int64)
    written = np.full((number, length), SAME)
    passed = np.zeros((number, length), np.int64)
    unknown = writes.shape[1] - 1
    for case in range(number):
        y = start[0]
        x = start[1]
        done = 0
        for time in range(length):
            if time:
                event = events[case, time]
                facing = heading[time - 1]
                y = y + steps[event, facing, 0]
                x = x + steps[event, facing, 1]
                token = faced[time] if faced[time] >= 0 else unknown
                written[case, time] = writes[event, token, held[time]]
                if milestone >= 0 and written[case, time] == milestone:
                    done = 1
            position[case, time, 0] = y
            position[case, time, 1] = x
            anchor[case, time] = (y % wrap) * stride + x % wrap
            cell_ahead[case, time] = wide[anchor[case, time] + cells_ahead[heading[time]]]
            passed[case, time] = done
    return position, anchor, cell_ahead, written, passed


@compiled
def shares(position: Ints, weights: Array) -> Array:
    """Weight of all particles that stand where each does, `(K,)`, given positions `(K, 2)` and weights `(K,)`."""
    share = np.zeros_like(weights)
    for one in range(len(position)):
        for other in range(len(position)):
            same_row = position[one, 0] == position[other, 0]
            if same_row and position[one, 1] == position[other, 1]:
                share[one] += weights[other]
    return share


@compiled
def heaviest(position: Ints, weights: Array, share: Array) -> int:
    """The heaviest particle of the likeliest place; of places that are as likely, the uppermost and leftmost."""
    best = 0
    for one in range(1, len(position)):
        rank = -share[one], position[one, 0], position[one, 1], -weights[one]
        if rank < (-share[best], position[best, 0], position[best, 1], -weights[best]):
            best = one
    return best


@compiled
def cells_in_use(
    anchor: Ints, cell_ahead: Ints, sighting_time: Ints, sighting_shift: Ints, wide: Ints, size: int
) -> tuple[Ints, Ints]:
    """Number the map cells that some sequence saw or faced.

    Args:
        anchor, cell_ahead, sighting_time, sighting_shift, wide, size: as `divide`.

    Returns:
        the numbered cells `(U,)`, and the number of every map cell, or -1, `(size,)`.
    """
    place = np.full(size, -1)
    for case in range(len(cell_ahead)):
        for time in range(cell_ahead.shape[1]):
            place[cell_ahead[case, time]] = 0
        for sighting in range(len(sighting_time)):
            place[wide[anchor[case, sighting_time[sighting]] + sighting_shift[sighting]]] = 0
    cells = np.flatnonzero(place == 0)
    for number in range(len(cells)):
        place[cells[number]] = number
    return cells, place


@compiled
def most_writes(written: Ints) -> int:
    """How many steps of a sequence wrote a token, at most over sequences `(N, T)`."""
    most = 0
    for case in range(len(written)):
        most = max(most, np.sum(written[case] != SAME))
    return most


@compiled
def divide(
    anchor: Ints,
    cell_ahead: Ints,
    written: Ints,
    sighting_time: Ints,
    sighting_shift: Ints,
    wide: Ints,
    size: int,
) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Number the map cells in use, and divide their histories into segments (see `Segments`).

    Args:
        anchor, cell_ahead, written: `(N, T)`, see `Trajectory`.
        sighting_time, sighting_shift: `(S,)`, see `Sightings`.
        wide: map cell of every place in the wide frame, see `Torus`.
        size: number of map cells.

    Returns:
        cells `(U,)`, seen `(N, S)`, cell_ahead `(N, T)`, token `(N, J)`, latest `(N, U)`.
    """
    number, length = cell_ahead.shape
    cells, place = cells_in_use(anchor, cell_ahead, sighting_time, sighting_shift, wide, size)
    most = most_writes(written)
    used = len(cells)
    seen = np.empty((number, len(sighting_time)), np.int64)
    ahead = np.empty((number, length), np.int64)
    token = np.full((number, most), SAME)
    latest = np.empty((number, used), np.int64)
    for case in range(number):
        now = latest[case]  # the present segment of every cell
        now[:] = np.arange(used)
        writes = sighting = 0
        for time in range(length):
            if written[case, time] != SAME:  # the cell that was ahead of the slice before
                cell = place[cell_ahead[case, time - 1]]
                token[case, writes] = written[case, time]
                now[cell] = used + writes
                writes += 1
            ahead[case, time] = now[place[cell_ahead[case, time]]]
            while sighting < len(sighting_time) and sighting_time[sighting] == time:
                cell = wide[anchor[case, time] + sighting_shift[sighting]]
                seen[case, sighting] = now[place[cell]]
                sighting += 1
    return cells, seen, ahead, token, latest


@compiled
def begin_scores(scores: Array, token: Ints, used: int, log_prior: Array) -> None:
    """Write what a sequence's segments hold before any sighting, `(U + J, V)`.

    Args:
        scores: overwritten.
        token: `(J,)` of its writes.
        used: U.
        log_prior: `(V,)` without a context.
    """
    for segment in range(len(scores)):
        written = token[segment - used] if segment >= used else SAME
        if written == SAME:
            scores[segment] = log_prior
        else:
            scores[segment] = NEVER
            scores[segment, written] = 0.0


@compiled
def token_scores(
    seen: Ints, code: Ints, context: Ints, token: Ints, used: int, odds: Array, log_prior: Array
) -> Array:
    """log p(token of every segment, its sightings) up to a constant, `(N, U + J, V)`.

    It is the token prior in the context of the first sighting, or a point mass where a token was
    written, and the log odds of every right sighting. Written segments that a sequence does not
    have keep the token prior, which sums to one: they add nothing.

    Args:
        seen, token: `(N, S)`, `(N, J)`, see `Segments`; `used` is U.
        code, context: `(S,)`, see `Sightings`, in the order of time.
        odds: `(N,)` log odds of a right sighting, see `misread_log_odds`.
        log_prior: `(N or 1, X, V)` by context.
    """
    number = len(seen)
    slots = log_prior.shape[2]
    shown = np.full(used, -1)
    scores = np.empty((number, used + token.shape[1], slots), np.float32)
    for case in range(number):
        prior = log_prior[min(case, len(log_prior) - 1)]
        begin_scores(scores[case], token[case], used, prior[0])
        for sighting in range(len(code)):
            segment = seen[case, sighting]
            if segment < used and shown[segment] != case:
                shown[segment] = case
                for slot in range(slots):
                    scores[case, segment, slot] = prior[context[sighting], slot]
            if code[sighting] >= 0:
                scores[case, segment, code[sighting]] += odds[case]
    return scores


@compiled
def first_sights(
    seen: Ints, time: Ints, context: Ints, token: Ints, used: int, log_prior: Array, length: int
) -> Array:
    """Log p(token | context) - log p(token | no context) of the cells first seen in a slice, `(N, T)`.

    Args:
        seen, token: `(N, S)`, `(N, U + J)`, see `Segments`; the first `used` are initial ones.
        time, context: `(S,)`, see `Sightings`, in the order of time.
        used: U.
        log_prior: `(N or 1, X, V)` by context.
        length: T.
    """
    gain = np.zeros((len(seen), length), np.float32)
    shown = np.full(used, -1)
    for case in range(len(seen)):
        prior = log_prior[min(case, len(log_prior) - 1)]
        for sighting in range(len(time)):
            segment = seen[case, sighting]
            if segment < used and shown[segment] != case:
                shown[segment] = case
                there = token[case, segment]
                gain[case, time[sighting]] += prior[context[sighting], there] - prior[0, there]
    return gain


@compiled
def tally_steps(
    events: Ints,
    held: Ints,
    faced: Ints,
    action: Ints,
    outcome: Ints,
    passed: Ints,
    cell_ahead: Ints,
    seen: Ints,
    code: Ints,
    context: Ints,
    token: Ints,
    used: int,
    classes: Ints,
    grips: Ints,
    places: Ints,
    moving: Array,
    sizes: tuple[int, int, int, int, int, int, int, int],
) -> tuple[Array, Array, Array, Array]:
    """What happened how often, see `Counts`.

    Args:
        events: `(N, T)`.
        held, faced, action, outcome: `(T,)`.
        passed: `(N, T)`, see `Trajectory`.
        cell_ahead, seen, code, context: `(N, T)`, `(N, S)`, `(S,)`, `(S,)`, see `Segments` and
            `Sightings`.
        token: `(N, U + J)` of every segment; the first `used` are initial ones.
        used: U.
        classes, grips, places: contexts of tables by token, `(V,)`, `(V, C)`, `(V, 2)`, see
            `Effects`.
        moving: `(V,)`, see `Effects`.
        sizes: of the tables, see `Counts`.
    """
    number, length = events.shape
    num_actions, num_classes, num_grips, num_events, num_places, num_outcomes = sizes[:6]
    event_counts = np.zeros((number, num_actions, num_classes, num_grips, num_events), np.float32)
    rows = num_actions + num_events
    outcome_counts = np.zeros((number, rows, num_places, num_outcomes), np.float32)
    initial = np.zeros((number, sizes[6], sizes[7]), np.float32)
    readings = np.zeros((number, 2), np.float32)
    shown = np.full(used, -1)
    for case in range(number):
        for time in range(1, length):
            event = events[case, time]
            ahead = token[case, cell_ahead[case, time - 1]]
            if faced[time] >= 0 and moving[faced[time]]:
                ahead = faced[time]
            grip = grips[ahead, held[time]]
            event_counts[case, action[time], classes[ahead], grip, event] += 1
            row = action[time] if event == 0 else num_actions + event
            place = places[ahead, passed[case, time - 1]]
            outcome_counts[case, row, place, outcome[time]] += 1
        for sighting in range(len(code)):
            segment = seen[case, sighting]
            readings[case, 0 if token[case, segment] == code[sighting] else 1] += 1
            if segment < used and shown[segment] != case:
                shown[segment] = case
                initial[case, context[sighting], token[case, segment]] += 1
    return event_counts, outcome_counts, initial, readings
