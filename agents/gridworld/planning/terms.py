"""What an expected free energy is made of: risk, ambiguity, information gain and novelty along a policy.

With the planner's states s (pose and abstract state) and q(o | s, a) the outcomes that it predicts,
one step has, in nats,

    risk             = KL[q(o | s, a) || C], with C up to a constant; what follows an ending counts
                       to the outcome that ends
    ambiguity        = H[q(o | s, a)]
    information gain = expected information about the map from the view after the step, if the
                       episode goes on
    novelty          = expected information about the tables

The last two count in the one informative step of a policy. Steps add up, each weighted by the
discount and by the chance that the episode still goes on:

    expected free energy = risk + ambiguity - information gain - novelty

risk + ambiguity is minus the expected log preference, which value iteration adds up by itself.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.expected_free_energy import entropy
from aif_dcpc.agents.gridworld.planning.belief import PosteriorTables

NUM_TERMS = 4
SIGNS = np.array([1.0, 1.0, -1.0, -1.0])  # of risk, ambiguity, information gain, novelty
CLOSE = 1e-3  # nats by which no term may still change
MAX_SWEEPS = 30
LIKELY = 1e-3  # what follows less likely events counts as risk altogether: their sum is right


@dataclass(frozen=True)
class Outcomes:
    """Predicted outcomes by situation (thing in hand, milestone passed) and token ahead.

    Attributes:
        tables: what is predicted from.
        log_preference: `(O,)` nats, endings included.
    """

    tables: PosteriorTables
    log_preference: Floats

    @cached_property
    def _chances(self) -> dict[tuple[int, bool], Floats]:
        return {}

    def chances(self, situation: int, *, informative: bool) -> Floats:
        """p(outcome | token ahead, action) with all events averaged out, `(V, A, O)`; kept for further callers.

        Args:
            situation: 2 * thing in hand, + 1 if the milestone is passed.
            informative: whether the step is the informative one.
        """
        key = situation, informative
        if key not in self._chances:
            self._chances[key] = self._predicted(situation, informative=informative)
        return self._chances[key]

    def _predicted(self, situation: int, *, informative: bool) -> Floats:
        """Average all events out, as `chances` tells."""
        tables = self.tables
        hand, passed = divmod(situation, 2)
        transition = tables.transition if informative else tables.transition_without_optimism
        outcome = tables.outcome if informative else tables.outcome_without_optimism
        rows = outcome[passed][tables.outcome_rows]
        predicted: Floats = np.einsum("ave,aevo->vao", transition[:, :, hand], rows)
        return predicted

    def risk_and_ambiguity(self, chances: Floats) -> tuple[Floats, Floats]:
        """Both of predicted outcomes `(..., O)`, each from its definition."""
        ambiguity = entropy(chances, -1)
        positive = np.maximum(chances, 1e-300)
        risk: Floats = (chances * (np.log(positive) - self.log_preference)).sum(-1)
        return risk, ambiguity

    def at(
        self,
        token_ahead: Floats,
        situation: Ints,
        *,
        informative: bool,
        arrival: Floats | float = 0.0,
    ) -> Floats:
        """Risk and ambiguity of every action in M states, `(M, A, 2)`.

        Args:
            token_ahead: `(M, V)` belief over the token ahead.
            situation: `(M,)`.
            informative: whether the step is the informative one.
            arrival: `(M, A, O)` probability of the outcomes that hang on what is ahead afterwards.
        """
        tables = self.tables
        chances = np.empty((len(situation), tables.num_actions, len(self.log_preference)))
        for one in np.flatnonzero(np.bincount(situation)).tolist():
            rows = situation == one
            predicted = self.chances(one, informative=informative)
            flat = token_ahead[rows].dot(predicted.reshape(len(predicted), -1))
            chances[rows] = flat.reshape(-1, *chances.shape[1:])
        return np.stack(self.risk_and_ambiguity(chances + arrival), -1)


@compiled
def reached(entries: Ints, flow: Floats, after: Ints) -> Ints:
    """States that likely events lead to from entries under a policy, in the order of finding.

    Args:
        entries: states.
        flow: `(N, E)` discounted probability of each event under the policy.
        after: `(N, E)` state after each event.
    """
    found = np.zeros(len(after), np.bool_)
    queue = np.empty(len(after), np.int64)
    size = 0
    for entry in entries:
        if not found[entry]:
            found[entry] = True
            queue[size] = entry
            size += 1
    done = 0
    while done < size:
        state = queue[done]
        done += 1
        for event in range(after.shape[1]):
            following = after[state, event]
            if flow[state, event] > LIKELY and not found[following]:
                found[following] = True
                queue[size] = following
                size += 1
    return queue[:size].copy()


@compiled
def add_up(terms: Floats, flow: Floats, after: Ints, order: Ints, start: Floats) -> Floats:
    """Sum of the terms of all steps of a policy from some states on, `(N, 4)`.

    Args:
        terms: `(N, 4)` of one step under the policy.
        flow, after: as `reached`; states in which the policy stops have no flow.
        order: states to be evaluated; whatever else follows keeps what it is started with.
        start: `(N, 4)` to start from.
    """
    total = start.copy()
    new = np.empty(terms.shape[1])
    for sweep in range(MAX_SWEEPS):
        change = 0.0
        for place in range(len(order)):
            state = order[place] if sweep % 2 else order[len(order) - 1 - place]
            new[:] = terms[state]
            for event in range(after.shape[1]):
                chance = flow[state, event]
                if chance > 0:
                    for term in range(len(new)):
                        new[term] += chance * total[after[state, event], term]
            for term in range(len(new)):
                change = max(change, abs(new[term] - total[state, term]))
                total[state, term] = new[term]
        if change < CLOSE:
            break
    return total
