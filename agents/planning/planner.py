"""Action choice by expected free energy, searched over predicted outcomes.

Policies branch on what happens: within a configuration by value iteration over poses, between configurations along
predicted effects. The negative expected free energy of doing `a` in `s` and the best afterwards is

    Q(s, a) = E[log preference(outcome)] + epistemic(s, a) + discount E[goes on] V(s')

where epistemic = information gain about the map + novelty of the tables. A policy may collect one informative outcome and
then pursues preferences: after it the belief would be another one, and it is planned afresh. So nothing is counted twice.
"""

from dataclasses import dataclass

import numpy as np
from aif_dcpc.agents.planning.belief import Belief, Floats, Knowledge, Region, cell_information, region_of
from aif_dcpc.agents.planning.configurations import Search, SearchBudget
from aif_dcpc.agents.planning.visibility import in_sight
from aif_dcpc.agents.preferences import Preferences
from aif_dcpc.agents.world_models.geometry import Geometry, Ints


@dataclass(frozen=True)
class Plan:
    """The outcome of planning.

    Attributes:
        expected_free_energy: `(A,)` nats, of each first action followed by the best policy.
        risk, ambiguity, information_gain, novelty: `(A,)` nats, its four terms summed along the predicted path.
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
        information: `(N, A)` information gain about the map.
        novelty: `(N, A)` information gain about the tables.
        flow: `(N, A, E)` discounted probability of each event with the episode going on.
        successor: `(N, E)` flat state after each event.
    """

    preference: Floats
    information: Floats
    novelty: Floats
    flow: Floats
    successor: Ints

    def backup(self, value: Floats) -> Floats:
        """`(N, A)` discounted expected value afterwards."""
        return np.matmul(self.flow, value[self.successor][..., None])[..., 0]


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
        max_iterations: int = 100,
    ) -> None:
        self.geometry, self.preferences, self.budget = geometry, preferences, budget
        self.tolerance, self.max_iterations = tolerance, max_iterations

    def plan(self, belief: Belief, knowledge: Knowledge) -> Plan:
        """Expected free energy of every action at the present belief."""
        region = region_of(belief, knowledge, self.geometry)
        search = Search(belief, knowledge, region, self.budget)
        stage = self._stage(search, belief, knowledge, region)
        pragmatic = self._iterate(stage, None)
        value = self._iterate(stage, pragmatic)
        at = region.state(belief.pose)
        scores = self._scores(stage, value, pragmatic)
        expected = -np.tensordot(belief.weights, scores[at], 1)
        best = stage.preference[at], stage.information[at], stage.novelty[at]
        preference, information, novelty = (np.tensordot(belief.weights, b, 1) for b in best)
        return Plan(expected, -preference, np.zeros_like(expected), information, novelty, len(search.found))

    def _scores(self, stage: Stage, value: Floats, pragmatic: Floats) -> Floats:
        epistemic = stage.information + stage.novelty
        return stage.preference + np.maximum(stage.backup(value), epistemic + stage.backup(pragmatic))

    def _iterate(self, stage: Stage, pragmatic: Floats | None) -> Floats:
        """Value of every flat state: without informative outcomes, or with one given the value without."""
        forever = self.preferences.forever
        value = np.full(len(stage.preference), forever) if pragmatic is None else pragmatic.copy()
        once = None
        if pragmatic is not None:
            once = stage.information + stage.novelty + stage.backup(pragmatic)
        for _ in range(self.max_iterations):
            later = stage.backup(value)
            later = later if once is None else np.maximum(later, once)
            new = (stage.preference + later).max(1)
            change = np.abs(new - value).max()
            value = new
            if change < self.tolerance:
                break
        return value

    def _stage(self, search: Search, belief: Belief, knowledge: Knowledge, region: Region) -> Stage:
        preference, flow, novelty = zip(*(self._one_step(node.cells, node.hand, region, knowledge)
                                          for node in search.found), strict=True)
        sight = self._information(search, belief, knowledge, region)
        successor = search.successors()
        events = np.concatenate([node.events for node in search.found])
        information = np.matmul(events, sight[successor][..., None])[..., 0]
        return Stage(np.concatenate(preference), information, np.concatenate(novelty), np.concatenate(flow), successor)

    def _one_step(self, cells: Floats, hand: int, region: Region, knowledge: Knowledge) -> tuple[Floats, Floats, Floats]:
        """Expected log preference `(S, A)`, discounted flow `(S, A, E)` and novelty `(S, A)` of one configuration."""
        likes, rows = self.preferences, knowledge.outcome_rows()
        gain = knowledge.outcome @ (likes.log_preference() + likes.discount * likes.tail())  # (A + E, V)
        stays = knowledge.outcome @ likes.goes_on()
        table = knowledge.transition[:, :, hand]  # (A, V, E)
        gain, stays, new = (t[rows].transpose(0, 2, 1) for t in (gain, stays, knowledge.outcome_novelty))  # (A, V, E)
        preference = (table * gain).sum(-1).T
        novelty = (knowledge.transition_novelty[:, :, hand] + (table * new).sum(-1)).T
        flow = (likes.discount * table * stays).transpose(1, 0, 2)
        return tuple(np.tensordot(cells, t, 1)[region.front] for t in (preference, flow, novelty))  # type: ignore[return-value]

    def _information(self, search: Search, belief: Belief, knowledge: Knowledge, region: Region) -> Floats:
        """Information gain about the map of arriving in every flat state, `(N,)`."""
        cells = np.stack([node.cells for node in search.found])
        worth = cell_information(cells, knowledge.misread, knowledge.num_tokens)
        clear = (cells @ knowledge.transparency)[:, region.view]
        sight = in_sight(clear, self.geometry)
        for pose, seen in belief.visited.items():
            state = region.state(np.array(pose))
            for number, node in enumerate(search.found):
                if not node.changes.keys() & set(region.view[state].tolist()):
                    sight[number, state] = seen
        sight[..., self.geometry.own] = 0
        return (sight * worth[:, region.view]).sum(-1).ravel()
