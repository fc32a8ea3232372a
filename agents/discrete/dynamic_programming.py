"""Planning where the state is seen: expected free energy of every row by value iteration.

    G(s, a) = sum_s' p(s' | s, a) [ -ln C(outcome) + discount p(goes on) min_a' G(s', a') ] - novelty(s, a)

with tables that are expected, or drawn (see `drawn_tables`). `Steps` lays these sums out; iteration
begins at the values that were found last, so that one more observation costs few sweeps.
"""

from dataclasses import dataclass

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.discrete.outcomes import STRENGTH, Outcomes
from aif_dcpc.agents.discrete.transitions import Transitions

LEAST = 1e-3  # probability of an effect that is not followed; the rest is scaled up


@dataclass(frozen=True)
class Steps:
    """One step from every row.

    Attributes:
        cost: `(S A,)` expected -ln C of the outcome, nats.
        following: `(S A, E)` states that may follow, as many as have weight, from the front.
        weight: `(S A, E)` discounted probability that each follows and the episode goes on.
        anywhere: `(S A,)` the same of effects never seen, which may lead anywhere.
    """

    cost: Floats
    following: Ints
    weight: Floats
    anywhere: Floats

    @property
    def after(self) -> tuple[Ints, Floats, Floats]:
        """What follows and how likely: `following`, `weight` and `anywhere`."""
        return self.following, self.weight, self.anywhere

    @classmethod
    def lay_out(
        cls,
        chances: Floats,
        transitions: Transitions,
        outcomes: Outcomes,
        *,
        scale: float,
        discount: float,
    ) -> "Steps":
        """Lay out what follows by tables of chances `(S A, E + 1)`."""
        rows = transitions.num_states * transitions.num_actions
        effects = np.array(transitions.effects, np.int64)
        found = cls(
            np.zeros(rows),
            np.zeros((rows, len(effects)), np.int64),
            np.zeros((rows, len(effects))),
            np.zeros(rows),
        )
        if outcomes.levels:
            wanted = outcomes.log_preferences(scale)
            ends = np.array([float(ended) for _, ended in outcomes.levels])
            values = np.stack([np.ones_like(ends), -wanted, ends], 1)
            by_reached, by_row, by_action = (table @ values for table in outcomes.counts)
            by_step = outcomes.steps @ values
            _lay_out(
                chances,
                effects,
                transitions.num_actions,
                outcomes.weights,
                by_reached,
                by_row,
                by_action,
                by_step,
                transitions.seen,
                np.minimum(transitions.distinct, by_step.shape[1]),
                discount,
                found.cost,
                found.following,
                found.weight,
                found.anywhere,
            )
        return found


@compiled
def _blend(sums: Floats, base: Floats) -> Floats:
    """Mean of a Dirichlet table with that base: sums hold the number, the costs and the endings."""
    return (sums[1:] + STRENGTH * base) / (sums[0] + STRENGTH)


@compiled
def _place_of(seen: Ints, effect: int) -> int:
    """Find an effect among those seen in a row; -1 where it was not."""
    for place in range(len(seen)):
        if seen[place] == effect:
            return place
    return -1


@compiled
def _lay_out(
    chances: Floats,
    effects: Ints,
    num_actions: int,
    parents: Floats,
    by_reached: Floats,
    by_row: Floats,
    by_action: Floats,
    by_step: Floats,
    seen: Ints,
    distinct: Ints,
    discount: float,
    cost: Floats,
    following: Ints,
    weight: Floats,
    anywhere: Floats,
) -> None:
    """Fill `cost`, `following`, `weight` and `anywhere` of all rows (see `Steps`)."""
    num_states = len(by_reached)
    for row in range(len(chances)):
        action = row % num_actions
        number = max(by_action[action, 0], 1e-9)
        base = by_action[action, 1:] / number
        own = _blend(by_row[row], base)
        kept = 0.0
        for effect in range(chances.shape[1]):
            kept += chances[row, effect] if chances[row, effect] > LEAST else 0.0
        cost[row] = 0.0
        place = 0
        for effect in range(len(effects)):
            chance = chances[row, effect]
            if chance > LEAST:
                reached = (row // num_actions + effects[effect]) % num_states
                there = _blend(by_reached[reached], base)
                at = _place_of(seen[row, : distinct[row]], effect)
                mixed = parents[2] * base
                if at >= 0:
                    mixed += parents[0] * there + parents[3] * _blend(by_step[row, at], there)
                    mixed += parents[1] * own + parents[4] * _blend(by_step[row, at], own)
                else:
                    mixed += (parents[0] + parents[3]) * there + (parents[1] + parents[4]) * own
                cost[row] += chance / kept * mixed[0]
                following[row, place] = reached
                weight[row, place] = discount * chance / kept * (1 - mixed[1])
                place += weight[row, place] > 0
        rest = chances[row, -1]
        anywhere[row] = 0.0
        if rest > LEAST:
            cost[row] += rest / kept * base[0]
            anywhere[row] = discount * rest / kept * (1 - base[1])


@compiled
def iterate(
    values: Floats,
    cost: Floats,
    following: Ints,
    weight: Floats,
    anywhere: Floats,
    most: int,
    tolerance: float,
) -> tuple[Floats, int]:
    """Improve `values` (S,) in place until no sweep changes them by more than a tolerance, nats.

    Returns:
        `(S, A)` the expected free energy of each action, and the number of sweeps.
    """
    num_states = len(values)
    num_actions = len(cost) // num_states
    found = np.zeros((num_states, num_actions))
    sweep = 0
    while sweep < most:
        sweep += 1
        change = 0.0
        mean = values.mean()
        for turn in range(num_states):
            state = turn if sweep % 2 else num_states - 1 - turn
            best = np.inf
            for action in range(num_actions):
                row = state * num_actions + action
                total = cost[row] + anywhere[row] * mean
                for place in range(following.shape[1]):
                    if weight[row, place] <= 0:
                        break
                    total += weight[row, place] * values[following[row, place]]
                found[state, action] = total
                best = min(best, total)
            change = max(change, abs(best - values[state]))
            values[state] = best
        if change < tolerance:
            break
    return found, sweep


@compiled
def follow(
    values: Floats,
    told: Floats,
    best: Ints,
    following: Ints,
    weight: Floats,
    anywhere: Floats,
    most: int,
    tolerance: float,
) -> None:
    """Sum what every step tells, nats, while the best actions `(S,)` are taken: in place, `values` (S,)."""
    num_actions = len(told) // len(values)
    for sweep in range(most):
        change = 0.0
        mean = values.mean()
        for turn in range(len(values)):
            state = turn if sweep % 2 else len(values) - 1 - turn
            row = state * num_actions + best[state]
            total = told[row] + anywhere[row] * mean
            for place in range(following.shape[1]):
                if weight[row, place] <= 0:
                    break
                total += weight[row, place] * values[following[row, place]]
            change = max(change, abs(total - values[state]))
            values[state] = total
        if change < tolerance:
            break
