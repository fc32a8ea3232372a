"""Value of every state by value iteration in place, over the states that there is news for.

Moore and Atkeson (1993), "Prioritized sweeping": a state is looked at again when the value of a
state that may follow it has changed. An action counts until its state is left.
"""

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.compiled import compiled


@compiled
def one_step(
    preference: Floats, flow: Floats, successor: Ints, bound: Ints, value: Floats
) -> Floats:
    """Q of every action in every state, `(N, A)`.

    Args:
        preference: `(N, A)` expected log preference of one step.
        flow: `(N, A, E)` discounted probability of each event with the episode going on.
        successor: `(N, E)` state after each event.
        bound: `(N, E)` state whose value the value after the event does not exceed (the successor
            itself: no bound).
        value: `(N,)` of the states.
    """
    number, actions, events = flow.shape
    score = preference.copy()
    later = np.empty(events)
    for state in range(number):
        for event in range(events):
            later[event] = min(value[successor[state, event]], value[bound[state, event]])
        for action in range(actions):
            total = score[state, action]
            for event in range(events):
                total += flow[state, action, event] * later[event]
            score[state, action] = total
    return score


@compiled
def place_among(after: Ints, limit: Ints, follows: int, capped: int, size: int) -> int:
    """Number of a pair among the first ones; their number if it is new."""
    place = 0
    while place < size and (after[place] != follows or limit[place] != capped):
        place += 1
    return place


@compiled
def until_left(
    preference: Floats, flow: Floats, successor: Ints, bound: Ints
) -> tuple[Floats, Floats, Ints, Ints, Ints]:
    """Let an action go on until its state is left, and add up events that lead to the same state.

    An action that is worth trying is worth trying again: summed in closed form, a door that opens
    with one push in ten takes one update for dozens.

    Args:
        preference, flow, successor, bound: as `one_step`.

    Returns:
        preference `(N, A)`, flow `(N, E, A)`, successor `(N, E)` and bound `(N, E)` with the distinct
            ones first, and their number `(N,)`.
    """
    number, actions, events = flow.shape
    gain = preference.copy()
    total = np.zeros((number, events, actions))
    again = np.empty(actions)
    size = np.zeros(number, np.int64)
    after = successor.copy()
    limit = bound.copy()
    for state in range(number):
        again[:] = 0
        for event in range(events):
            follows = successor[state, event]
            capped = bound[state, event]
            if follows == state and capped == state:
                for action in range(actions):
                    again[action] += flow[state, action, event]
                continue
            place = place_among(after[state], limit[state], follows, capped, size[state])
            after[state, place] = follows
            limit[state, place] = capped
            size[state] = max(size[state], place + 1)
            for action in range(actions):
                total[state, place, action] += flow[state, action, event]
        for action in range(actions):
            gain[state, action] /= 1 - again[action]
            for place in range(size[state]):
                total[state, place, action] /= 1 - again[action]
    return gain, total, after, limit, size


@compiled
def predecessors(successor: Ints, bound: Ints, size: Ints) -> tuple[Ints, Ints]:
    """States whose value hangs on that of each state, one after another, and where those of each begin.

    Args:
        successor, bound, size: as `until_left` returns them.

    Returns:
        the states, and `(N + 1,)` beginnings.
    """
    number = len(size)
    first = np.zeros(number + 1, np.int64)
    for state in range(number):
        for place in range(size[state]):
            for after in (successor[state, place], bound[state, place]):
                first[after + 1] += 1
    first = np.cumsum(first)
    free = first[:-1].copy()
    before = np.empty(first[-1], np.int64)
    for state in range(number):
        for place in range(size[state]):
            for after in (successor[state, place], bound[state, place]):
                before[free[after]] = state
                free[after] += 1
    return before, first


@compiled
def optimal_value(
    preference: Floats,
    flow: Floats,
    successor: Ints,
    bound: Ints,
    size: Ints,
    before: Ints,
    first: Ints,
    value_of_information_step: Floats,
    start: Floats,
    tolerance: float,
    max_sweeps: int,
) -> Floats:
    """Values `(N,)` of the best policy, nats, by sweeps back and forth.

    Args:
        preference, flow, successor, bound, size: as `until_left` returns them.
        before, first: as `predecessors` returns them.
        value_of_information_step: `(N,)` value of stopping the policy for an informative step;
            minus infinity if that cannot be.
        start: `(N,)` values to start from.
        tolerance: a change of a value by less is no news.
        max_sweeps: no more than these.
    """
    number = len(start)
    value = start.copy()
    score = np.empty(preference.shape[1])
    news = np.ones(number, np.bool_)
    for sweep in range(max_sweeps):
        settled = True
        for place in range(number):
            state = place if sweep % 2 else number - 1 - place
            if not news[state]:
                continue
            news[state] = False
            score[:] = preference[state]
            for event in range(size[state]):
                later = min(value[successor[state, event]], value[bound[state, event]])
                for action in range(len(score)):
                    score[action] += flow[state, event, action] * later
            best = max(value_of_information_step[state], score.max())
            if abs(best - value[state]) >= tolerance:
                settled = False
                for number_before in range(first[state], first[state + 1]):
                    news[before[number_before]] = True
            value[state] = best
        if settled:
            break
    return value
