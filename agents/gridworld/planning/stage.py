"""One-step quantities of every state that a plan may come through, and policies on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from aif_dcpc.agents.arrays import Bools, Floats, Ints
from aif_dcpc.agents.gridworld.planning.terms import NUM_TERMS, Outcomes, add_up, reached
from aif_dcpc.agents.gridworld.planning.value_iteration import one_step, predecessors, until_left


@dataclass(frozen=True)
class Stage:
    """One-step quantities of every flat state; N = abstract states * S.

    Attributes:
        preference: `(N, A)` expected log preference, endings included.
        information: `(N, A)` information gain about the map.
        novelty: `(N, A)` information gain about the tables.
        flow: `(N, A, E)` discounted probability of each event with the episode going on.
        preference_without_optimism, flow_without_optimism: the same for a step that is not the
            informative one.
        successor: `(N, E)` flat state after each event.
        bound: `(N, E)` flat state whose value caps the value after an interaction that the search
            did not expand, so that a foreseen harm is not forgotten; elsewhere the successor.
        abstract_state: `(N,)` the abstract state that each state belongs to.
        token_ahead: `(N, V)` belief over the token ahead.
        situation: `(N,)` 2 * thing in hand, + 1 if the milestone is passed.
        arrival, arrival_without_optimism: `(N, A, O)` probability of the outcomes that hang on what
            is ahead after the step; None where none do.
        told: `(N,)` probability that arriving in a state tells which twin is wanted; None where that
            is known, or there are none.
        shows: `(N,)` probability that arriving in a state shows something rewarded; None where that is
            known already, or nothing was ever rewarded.
        resolved: the same stage, once that is known, for each twin that it may be, evenly.
    """

    preference: Floats
    information: Floats
    novelty: Floats
    flow: Floats
    preference_without_optimism: Floats
    flow_without_optimism: Floats
    successor: Ints
    bound: Ints
    abstract_state: Ints
    token_ahead: Floats
    situation: Ints
    arrival: Floats | None = None
    arrival_without_optimism: Floats | None = None
    told: Floats | None = None
    shows: Floats | None = None
    resolved: Sequence["Stage"] = ()

    @cached_property
    def until_left(self) -> tuple[Floats, Floats, Ints, Ints, Ints, Ints, Ints]:
        """What plain steps bring that go on until their state is left, and what hangs on each state."""
        found = until_left(
            self.preference_without_optimism,
            self.flow_without_optimism,
            self.successor,
            self.bound,
        )
        return *found, *predecessors(*found[2:])

    def after(self, value: Floats) -> Ints:
        """`(N, E)` the state whose value counts after each event: its successor, or the bound."""
        capped = value.take(self.bound) < value.take(self.successor)
        return np.where(capped, self.bound, self.successor)

    def informative(self, value: Floats) -> Floats:
        """`(N, A)` Q of the informative step, with the value of what follows it."""
        gain = self.preference + self.information + self.novelty
        return one_step(gain, self.flow, self.successor, self.bound, value)

    def plain(self, value: Floats) -> Floats:
        """`(N, A)` Q of any other step."""
        gain = self.preference_without_optimism
        return one_step(gain, self.flow_without_optimism, self.successor, self.bound, value)


@dataclass(frozen=True)
class Prospect:
    """What may follow an informative step.

    Attributes:
        share: `(N,)` probability that this follows, by the state after the step.
        steps: the best plain steps then.
    """

    share: Floats
    steps: "Following"


class Following(Protocol):
    """What is done after an informative step."""

    @property
    def value(self) -> Floats:
        """`(N,)` of every state."""

    def totals(self, entries: Ints) -> Floats:
        """Terms of all that follows from some states on, `(N, 4)`; other rows are void."""


@dataclass(frozen=True)
class Steps:
    """The best plain steps from every state, for values of what follows.

    Attributes:
        stage: what one step gives.
        outcomes: predicted by one step.
        value: `(N,)` of every state.
    """

    stage: Stage
    outcomes: Outcomes
    value: Floats

    @cached_property
    def after(self) -> Ints:
        """State that counts after each event, `(N, E)`."""
        return self.stage.after(self.value)

    @cached_property
    def scores(self) -> Floats:
        """Q of a plain step in every state, `(N, A)`."""
        return self.stage.plain(self.value)

    @cached_property
    def action(self) -> Ints:
        """Best action in every state, `(N,)`."""
        best: Ints = self.scores.argmax(1)
        return best

    def flow(self, stops: Bools | None = None) -> Floats:
        """`(N, E)` flow of the best action; none in states in which the steps stop."""
        flow = self.stage.flow_without_optimism[np.arange(len(self.action)), self.action]
        return flow if stops is None else np.where(stops[:, None], 0.0, flow)

    def totals(
        self, entries: Ints, stops: Bools | None = None, last: Floats | None = None
    ) -> Floats:
        """Terms of all steps from some states on, `(N, 4)`; rows that they do not lead to are void.

        Args:
            entries: the states.
            stops: `(N,)` where the informative step is taken, if it may be.
            last: `(N, 4)` terms from such a step on.
        """
        flow = self.flow(stops)
        order = reached(entries, flow, self.after)
        terms = np.zeros((len(flow), NUM_TERMS)) if last is None else last.copy()
        walked = order if stops is None else order[~stops[order]]
        terms[walked] = 0
        terms[walked, :2] = self.risks(walked, self.action[walked], informative=False)
        start = np.zeros(terms.shape)
        start[:, 0] = -self.value
        return add_up(terms, flow, self.after, order, start)

    def risks(self, states: Ints, actions: Ints, *, informative: bool) -> Floats:
        """Risk and ambiguity of one step, `(M, 2)`."""
        stage = self.stage
        every = stage.arrival if informative else stage.arrival_without_optimism
        found = self.outcomes.at(
            stage.token_ahead[states],
            stage.situation[states],
            informative=informative,
            arrival=0.0 if every is None else every[states],
        )
        return found[np.arange(len(states)), actions]


def terms_of_plan(now: Steps, prospects: Sequence[Prospect], scores: Floats, roots: Ints) -> Floats:
    """Terms of each first action in each root, the best steps following it, `(K, A, 4)`.

    Args:
        now: the best plain steps before the informative one.
        prospects: what may follow that.
        scores: `(N, A)` its Q.
        roots: `(K,)` states.
    """
    stage = now.stage
    stops = scores.max(1) > now.scores.max(1)
    entries = np.unique(now.after[roots])
    order = reached(entries, now.flow(stops), now.after)
    halted = order[stops[order]]
    best = scores[halted].argmax(1)
    first, action = (
        a.ravel() for a in np.broadcast_arrays(roots[:, None], np.arange(scores.shape[1]))
    )
    asked = np.concatenate([halted, first])
    informed = _informative_terms(now, prospects, asked, np.concatenate([best, action]))
    last = np.zeros((len(scores), NUM_TERMS))
    last[halted] = informed[: len(halted)]
    following = now.totals(entries, stops, last)
    terms = np.zeros((len(first), NUM_TERMS))
    terms[:, :2] = now.risks(first, action, informative=False)
    flow = stage.flow_without_optimism[first, action]
    terms += (flow[..., None] * following[now.after[first]]).sum(1)
    better = scores[first, action] > now.scores[first, action]
    terms = np.where(better[:, None], informed[len(halted) :], terms)
    return terms.reshape(len(roots), -1, NUM_TERMS)


def expected_value(prospects: Sequence[Prospect]) -> Floats:
    """Value of the states after an informative step, `(N,)`."""
    return sum((one.share * one.steps.value for one in prospects), np.zeros(()))


def _informative_terms(
    now: Steps, prospects: Sequence[Prospect], states: Ints, actions: Ints
) -> Floats:
    """Terms of an informative step and all plain steps after it, `(M, 4)`."""
    stage = now.stage
    terms = np.zeros((len(states), NUM_TERMS))
    terms[:, :2] = now.risks(states, actions, informative=True)
    terms[:, 2] = stage.information[states, actions]
    terms[:, 3] = stage.novelty[states, actions]
    after = stage.after(expected_value(prospects))[states]
    flow = stage.flow[states, actions]
    for one in prospects:
        following = one.steps.totals(np.unique(after))
        terms += ((flow * one.share[after])[..., None] * following[after]).sum(1)
    return terms
