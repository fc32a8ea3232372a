"""Action choice by expected free energy, searched over predicted outcomes.

Policies branch on what happens: within a configuration by value iteration over poses, between configurations along
predicted effects. The negative expected free energy of doing `a` in `s` and the best afterwards is

    Q(s, a) = E[log preference(outcome)] + epistemic(s, a) + discount E[goes on] V(s')

where epistemic = information gain about the map + novelty of the tables. A policy may collect one informative outcome
and then pursues preferences: after it the belief would be another one, and it is planned afresh. So nothing is counted
twice. For the same reason an untried row of a table promises its prior chance of reward once, in the informative step;
elsewhere Q uses the tables as they would be after a trial that did nothing. Otherwise a plan could play one unknown
chance again and again.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aif_dcpc.agents.planning.belief import Belief, Floats, Knowledge, Region, cell_information, region_of
from aif_dcpc.agents.planning.configurations import Key, Search, SearchBudget
from aif_dcpc.agents.planning.expected_free_energy import entropy
from aif_dcpc.agents.planning.reach import distances
from aif_dcpc.agents.planning.visibility import in_sight
from aif_dcpc.agents.preferences import Preferences
from aif_dcpc.agents.world_models.geometry import Geometry, Ints
from aif_dcpc.agents.world_models.vocabulary import UNSEEN

PREDICTED_STEPS = 40  # how far ahead a plan is remembered
POLICY_SWEEPS = 12  # evaluations of a policy between improvements
REACHABLE = 0.1  # events less likely than this do not bring a state within reach
SEES_AS_WELL = 0.5  # tokens whose transparencies differ by less are as good to see past


@dataclass(frozen=True)
class Plan:
    """The outcome of planning.

    Attributes:
        expected_free_energy: `(A,)` nats, of each first action followed by the best policy.
        risk, ambiguity, information_gain, novelty: `(A,)` nats, the terms of the first step: risk + ambiguity =
            -E[log preference] - information gain, with log preferences up to a constant.
        num_configurations: how many configurations were searched.
    """

    expected_free_energy: Floats
    risk: Floats
    ambiguity: Floats
    information_gain: Floats
    novelty: Floats
    num_configurations: int


@dataclass(frozen=True)
class Stage:
    """One-step quantities of every flat state; N = configurations * S.

    Attributes:
        preference: `(N, A)` expected log preference, endings included.
        ambiguity: `(N, A)` expected entropy of the outcome, given what is ahead and what happens.
        information: `(N, A)` information gain about the map.
        novelty: `(N, A)` information gain about the tables.
        flow: `(N, A, E)` discounted probability of each event with the episode going on.
        preference_again, flow_again: the same for a step that is not the informative one.
        successor: `(N, E)` flat state after each event.
        unopened: `(n,)` where in `successor`, flattened, an effect was not opened; there the value is bounded by that of
        bound: `(n,)` flat states.
        configuration: `(N,)` the configuration that each state belongs to.
    """

    preference: Floats
    ambiguity: Floats
    information: Floats
    novelty: Floats
    flow: Floats
    preference_again: Floats
    flow_again: Floats
    successor: Ints
    unopened: Ints
    bound: Ints
    configuration: Ints

    def later(self, value: Floats) -> Floats:
        """`(N, E)` value of what follows each event; effects not opened are worth no more than their bound."""
        later = value.take(self.successor)
        every = later.reshape(-1)
        every[self.unopened] = np.minimum(every[self.unopened], value[self.bound])
        return later

    def informative(self, value: Floats) -> Floats:
        """`(N, A)` Q of the informative step, with the value of what follows it."""
        later = np.matmul(self.flow, self.later(value)[..., None])[..., 0]
        return self.preference + self.information + self.novelty + later

    def plain(self, value: Floats) -> Floats:
        """`(N, A)` Q of any other step."""
        return self.preference_again + np.matmul(self.flow_again, self.later(value)[..., None])[..., 0]


class Planner:
    """Plans from a belief.

    Args:
        geometry: the view.
        preferences: over outcomes.
        budget: of the search.
        tolerance: value iteration stops when no value changes by more, nats.
        max_iterations: or after so many sweeps.
    """

    def __init__(
        self,
        geometry: Geometry,
        preferences: Preferences,
        budget: SearchBudget,
        *,
        tolerance: float = 0.1,
        max_iterations: int = 30,
    ) -> None:
        self.geometry, self.preferences, self.budget = geometry, preferences, budget
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self.intended: list[Key] = []
        self._region: Region | None = None

    def plan(self, belief: Belief, knowledge: Knowledge) -> Plan:
        """Expected free energy of every action at the present belief."""
        region = self._region = region_of(belief, knowledge, self.geometry, self._region)
        search = Search(belief, knowledge, region, self.budget, self.intended)
        roots = region.state(belief.pose)
        stage, at = self._stage(search, belief, knowledge, region, roots)
        pragmatic = self._iterate(stage, None)
        informative = stage.informative(pragmatic)
        value = self._iterate(stage, (pragmatic, informative.max(1)))
        scores = np.maximum(stage.plain(value), informative)
        expected = -np.tensordot(belief.weights, scores[at], 1)
        ahead = self._predicted(stage, scores, int(at[belief.weights.argmax()]))
        self.intended = [search.absolute(number) for number in dict.fromkeys(stage.configuration[ahead].tolist())]
        first = stage.preference[at], stage.ambiguity[at], stage.information[at], stage.novelty[at]
        preference, ambiguity, information, novelty = (np.tensordot(belief.weights, term, 1) for term in first)
        risk = -preference - information - ambiguity
        return Plan(expected, risk, ambiguity, information, novelty, len(search.found))

    def _predicted(self, stage: Stage, scores: Floats, state: int) -> list[int]:
        """States along the best policy if the likeliest always happens."""
        path = [state]
        for _ in range(PREDICTED_STEPS):
            action = scores[path[-1]].argmax()
            path.append(int(stage.successor[path[-1], stage.flow[path[-1], action].argmax()]))
        return path

    def _iterate(self, stage: Stage, informed: tuple[Floats, Floats] | None) -> Floats:
        """Value of every state: without informative outcomes, or with one.

        Args:
            stage: one-step quantities.
            informed: the value without, and the value of taking the best informative step now.

        Modified policy iteration: one improvement over all actions, then cheap sweeps of the policy found.
        """
        value, once = informed or (np.full(len(stage.preference), self.preferences.forever), None)
        states = np.arange(len(value))
        for _ in range(self.max_iterations):
            scores = stage.plain(value)
            best = scores.argmax(1)
            improved = scores[states, best] if once is None else np.maximum(scores[states, best], once)
            change, value = np.abs(improved - value).max(), improved
            if change < self.tolerance:
                break
            constant, flow = stage.preference_again[states, best], stage.flow_again[states, best]
            if once is not None:
                stop = once >= improved
                constant, flow = np.where(stop, once, constant), np.where(stop[:, None], 0.0, flow)
            for _ in range(POLICY_SWEEPS):
                value = constant + np.einsum("ne,ne->n", flow, stage.later(value))
        return value

    def _stage(
        self, search: Search, belief: Belief, knowledge: Knowledge, region: Region, roots: Ints
    ) -> tuple[Stage, Ints]:
        """One-step quantities of the states within reach, and where the roots are among them."""
        chance = np.concatenate([node.chance for node in search.found])
        everything = search.successors()
        kept, number = _within_reach(chance >= REACHABLE, everything, roots)
        here = np.arange(len(kept))[:, None]
        successor, worse = (number[after[kept]] for after in (everything, search.bounds()))
        successor = np.where(successor >= 0, successor, here)
        unopened = ((worse >= 0) & (worse != successor)).ravel().nonzero()[0]
        bound = unopened, worse.ravel()[unopened]
        which, state = np.divmod(kept, len(region.front))
        ahead = np.stack([node.cells for node in search.found])[which, region.front[state]]  # (N, V)
        hand = np.array([node.hand for node in search.found])[which]
        tables = {held: self._one_step(held, knowledge) for held in np.unique(hand).tolist()}
        parts = [np.empty((len(kept), *table.shape[1:])) for table in next(iter(tables.values()))]
        for held, own in tables.items():
            rows = hand == held
            for whole, table in zip(parts, own, strict=True):
                whole[rows] = np.tensordot(ahead[rows], table, 1)
        preference, ambiguity, novelty, flow, preference_again, flow_again, events = parts
        sight = self._information(search, belief, knowledge, region, kept, number)
        information = np.matmul(events, sight[successor][..., None])[..., 0]
        again = preference_again, flow_again
        return Stage(preference, ambiguity, information, novelty, flow, *again, successor, *bound, which), number[roots]

    def _one_step(self, hand: int, knowledge: Knowledge) -> tuple[Floats, ...]:
        """By token ahead, with something in hand.

        Returns:
            expected log preference, ambiguity of the outcome, and novelty, `(V, A)` nats; discounted flow, `(V, A, E)`;
            preference and flow of a step that is not informative; plain probabilities of events, `(V, A, E)`.
        """
        rows = knowledge.outcome_rows()
        table = knowledge.transition[:, :, hand]  # (A, V, E)
        unsure, new = (
            part[rows].transpose(0, 2, 1) for part in (entropy(knowledge.outcome, -1), knowledge.outcome_novelty)
        )
        novelty = knowledge.transition_novelty[:, :, hand] + (table * new).sum(-1)
        preference, flow = self._prospects(table, knowledge.outcome[rows])
        again = self._prospects(knowledge.transition_again[:, :, hand], knowledge.outcome_again[rows])
        return preference, (table * unsure).sum(-1).T, novelty.T, flow, *again, table.transpose(1, 0, 2)

    def _prospects(self, table: Floats, outcome: Floats) -> tuple[Floats, Floats]:
        """Expected log preference `(V, A)` and discounted flow `(V, A, E)`.

        Args:
            table: `(A, V, E)` p(event | action, token ahead).
            outcome: `(A, E, V, O)` p(outcome | action, event, token ahead).
        """
        likes = self.preferences
        gain = (outcome @ (likes.log_preference() + likes.discount * likes.tail())).transpose(0, 2, 1)
        stays = (outcome @ likes.goes_on()).transpose(0, 2, 1)
        return (table * gain).sum(-1).T, (likes.discount * table * stays).transpose(1, 0, 2)

    def _information(
        self, search: Search, belief: Belief, knowledge: Knowledge, region: Region, kept: Ints, number: Ints
    ) -> Floats:
        """Information gain about the map of arriving in every kept state, `(N,)`."""
        cells = np.stack([node.cells for node in search.found])
        worth = cell_information(cells, knowledge.misread, knowledge.num_tokens)
        which, state = np.divmod(kept, len(region.front))
        clear = (cells @ knowledge.transparency)[which[:, None], region.view[state]]
        sight = in_sight(clear, self.geometry)
        if belief.visited:
            self._recall(sight, clear, belief, knowledge, region, number.reshape(len(cells), -1))
        sight[..., self.geometry.own] = 0
        return (sight * worth[which[:, None], region.view[state]]).sum(-1)

    def _recall(
        self, sight: Floats, clear: Floats, belief: Belief, knowledge: Knowledge, region: Region, number: Ints
    ) -> None:
        """Where the agent has been, what is in sight is known, while all that was in sight lets as much sight through.

        Args:
            sight, clear: `(N, P)` probability that a view cell is in sight (overwritten), and that one sees past it.
            number: `(configurations, S)` row of each state, or -1.
        """
        views = np.stack(list(belief.visited.values()))
        rows = number[:, region.state(np.array(list(belief.visited)))]
        config, visit = (rows >= 0).nonzero()
        row, seen = rows[config, visit], views[visit]
        told = seen >= 0
        told[:, self.geometry.own] = False
        same = np.abs(clear[row] - knowledge.transparency[np.maximum(seen, 0)]) < SEES_AS_WELL
        valid = (same | ~told).all(1)
        sight[row[valid]] = seen[valid] != UNSEEN


def _within_reach(likely: npt.NDArray[np.bool_], successor: Ints, roots: Ints) -> tuple[Ints, Ints]:
    """Flat states that likely events lead to from the roots, and the number of each flat state among them (or -1)."""
    reached = np.isfinite(distances(successor, likely, np.unique(roots))).nonzero()[0]
    number = np.full(len(successor), -1)
    number[reached] = np.arange(len(reached))
    return reached, number
