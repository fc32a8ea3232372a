"""Value of every state by modified policy iteration: one improvement over all actions, then cheap sweeps of the policy.

Puterman and Shin (1978), "Modified policy iteration algorithms for discounted Markov decision
problems".
"""

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.compiled import compiled

POLICY_SWEEPS = 12  # evaluations of a policy between improvements


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
def optimal_value(
    preference: Floats,
    flow: Floats,
    successor: Ints,
    bound: Ints,
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
        value_of_information_step: `(N,)` value of stopping the policy for something else; minus infinity if that cannot
            be.
        start: `(N,)` values to start from.
        tolerance: no further improvement once no value changes by more.
        max_improvements: nor after so many.
    """
    flow, successor, bound, size = merged(flow, successor, bound)
    number, actions, events = flow.shape
    value = start.copy()
    improved = np.empty(number)
    later = np.empty(events)
    policy = np.zeros(number, np.int64)
    for _ in range(max_improvements):
        change = 0.0
        for state in range(number):
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
            improved[state] = best
            change = max(change, abs(best - value[state]))
        value, improved = improved, value
        if change < tolerance:
            break
        for sweep in range(POLICY_SWEEPS):
            for place in range(number):
                state = (
                    place if sweep % 2 else number - 1 - place
                )  # back and forth: in place, news travels both ways
                action = policy[state]
                if action >= 0:
                    score = preference[state, action]
                    for event in range(size[state]):
                        after = min(value[successor[state, event]], value[bound[state, event]])
                        score += flow[state, action, event] * after
                    value[state] = score
    return value
