"""Value of every state by modified policy iteration: an improvement, then cheap evaluations.

Puterman and Shin (1978), "Modified policy iteration algorithms for discounted Markov decision
problems".
"""

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.compiled import compiled

POLICY_SWEEPS = 8  # evaluations of a policy between improvements


@compiled
def merged(flow: Floats, successor: Ints, bound: Ints) -> tuple[Floats, Ints, Ints, Ints]:
    """Events that lead to the same state, added up: most events change nothing in most states.

    Args:
        flow, successor, bound: as `optimal_value`.

    Returns:
        flow `(N, A, E)`, successor `(N, E)` and bound `(N, E)` with the distinct ones first, and
            their number `(N,)`.
    """
    number, actions, events = flow.shape
    total = np.zeros(flow.shape)
    size = np.zeros(number, np.int64)
    after = successor.copy()
    limit = bound.copy()
    for state in range(number):
        for event in range(events):
            place = 0
            while place < size[state] and (
                after[state, place] != successor[state, event]
                or limit[state, place] != bound[state, event]
            ):
                place += 1
            if place == size[state]:
                after[state, place] = successor[state, event]
                limit[state, place] = bound[state, event]
                size[state] += 1
            for action in range(actions):
                total[state, action, place] += flow[state, action, event]
    return total, after, limit, size


@compiled
def improve(
    preference: Floats,
    flow: Floats,
    successor: Ints,
    bound: Ints,
    size: Ints,
    value_of_information_step: Floats,
    value: Floats,
    policy: Ints,
    turn: int,
) -> float:
    """Choose the best action in every state, one after another; return the largest change of a value.

    Values are brought up to date in place, so that one sweep tells of a goal along a whole corridor.

    Args:
        preference, value_of_information_step: as `optimal_value`.
        flow, successor, bound, size: as `merged` returns them.
        value: `(N,)` of the states, brought up to date.
        policy: `(N,)`, overwritten: the best action, or -1 for the informative step.
        turn: number of the improvement; the last state comes first in even ones.
    """
    number, actions, events = flow.shape
    later = np.empty(events)
    change = 0.0
    for place in range(number):
        state = place if turn % 2 else number - 1 - place
        for event in range(size[state]):
            later[event] = min(value[successor[state, event]], value[bound[state, event]])
        best = value_of_information_step[state]
        policy[state] = -1
        for action in range(actions):
            score = preference[state, action]
            for event in range(size[state]):
                score += flow[state, action, event] * later[event]
            if score > best:
                best = score
                policy[state] = action
        change = max(change, abs(best - value[state]))
        value[state] = best
    return change


@compiled
def evaluate(
    preference: Floats,
    flow: Floats,
    successor: Ints,
    bound: Ints,
    size: Ints,
    policy: Ints,
    value: Floats,
) -> None:
    """Evaluate a policy by sweeps in place, back and forth: so news travels both ways.

    Args:
        preference, flow, successor, bound, size, policy: as `improve`.
        value: `(N,)` of the states, brought up to date.
    """
    number = len(value)
    for sweep in range(POLICY_SWEEPS):
        for place in range(number):
            state = place if sweep % 2 else number - 1 - place
            action = policy[state]
            if action >= 0:
                score = preference[state, action]
                for event in range(size[state]):
                    after = min(value[successor[state, event]], value[bound[state, event]])
                    score += flow[state, action, event] * after
                value[state] = score


@compiled
def optimal_value(
    preference: Floats,
    flow: Floats,
    successor: Ints,
    bound: Ints,
    size: Ints,
    value_of_information_step: Floats,
    start: Floats,
    tolerance: float,
    max_improvements: int,
) -> Floats:
    """Values `(N,)` of the best policy, nats.

    Args:
        preference: `(N, A)` expected log preference of one step.
        flow: `(N, A, E)` discounted probability of each event with the episode going on.
        successor: `(N, E)` state after each event.
        bound: `(N, E)` state whose value the value after the event does not exceed (the successor
            itself: no bound).
        size: `(N,)` how many events there are in each state, the first ones; see `merged`.
        value_of_information_step: `(N,)` value of stopping the policy for an informative step;
            minus infinity if that cannot be.
        start: `(N,)` values to start from.
        tolerance: no further improvement once no value changes by more.
        max_improvements: nor after so many.
    """
    value = start.copy()
    policy = np.zeros(len(start), np.int64)
    for turn in range(max_improvements):
        change = improve(
            preference,
            flow,
            successor,
            bound,
            size,
            value_of_information_step,
            value,
            policy,
            turn,
        )
        if change < tolerance:
            break
        evaluate(preference, flow, successor, bound, size, policy, value)
    return value
