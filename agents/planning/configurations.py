"""Configurations: what the world can be made into by acting on it.

A configuration is what is in hand and which cells have been changed. Inside one, the agent only moves; an interaction
whose predicted effect is likely enough leads to another. They are expanded nearest first, under a budget.
"""

import heapq
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from aif_dcpc.agents.planning.belief import Belief, Floats, Knowledge, Region
from aif_dcpc.agents.world_models.geometry import Ints

Key = tuple[int, tuple[tuple[int, int], ...]]


@dataclass
class Configuration:
    """One node of the search.

    Attributes:
        hand: slot in hand.
        changes: region cell -> token.
        cells: `(cells + 1, V)` belief over tokens, the last row for everything outside.
        chance: `(S, E)` the most that any action makes of each event (an upper bound where the token ahead is uncertain).
        children: (region cell ahead, event) -> number of the configuration it leads to.
    """

    hand: int
    changes: dict[int, int]
    cells: Floats
    chance: Floats
    children: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Identity."""
        return self.hand, tuple(sorted(self.changes.items()))


@dataclass(frozen=True, kw_only=True)
class SearchBudget:
    """How far the search looks.

    Attributes:
        configurations: how many at most.
        per_event: how many cells (the nearest) each kind of effect is tried on, per configuration.
        min_probability: predicted effects less likely than this are not followed.
        passable: motions less likely than this do not count as a way.
    """

    configurations: int = 8
    per_event: int = 2
    min_probability: float = 0.05
    passable: float = 0.1


class Search:
    """Best-first expansion of configurations from the present one."""

    def __init__(self, belief: Belief, knowledge: Knowledge, region: Region, budget: SearchBudget) -> None:
        self.knowledge, self.region, self.budget = knowledge, region, budget
        self.effects = [e for e in range(knowledge.num_events) if max(knowledge.writes[e], knowledge.takes[e]) >= 0]
        outside = belief.unseen[None]
        self.present = np.concatenate([belief.cells[region.index], outside])
        self.found: list[Configuration] = []
        self.numbers: dict[Key, int] = {}
        self._run(int(region.state(belief.pose[belief.weights.argmax()])), belief.hand)

    def _run(self, state: int, hand: int) -> None:
        self._number(hand, {})
        queue = [(0.0, 0, np.array([state]))]
        while queue:
            cost, number, entries = heapq.heappop(queue)
            for distance, child, states in self._expand(number, entries):
                heapq.heappush(queue, (cost + distance + 1, child, states))

    def _expand(self, number: int, entries: Ints) -> list[tuple[float, int, Ints]]:
        """Interactions of one configuration; returns the new configurations with where they are entered."""
        node = self.found[number]
        if not self.effects or len(self.found) >= self.budget.configurations:
            return []
        chance = node.chance
        distance = self._distances(chance, entries)
        opened = []
        for event in self.effects:
            likely = (chance[:, event] >= self.budget.min_probability) & np.isfinite(distance)
            states = likely.nonzero()[0]
            opened += self._open(number, event, states[np.argsort(distance[states], kind="stable")], distance)
        return opened

    def _open(self, number: int, event: int, states: Ints, distance: Floats) -> list[tuple[float, int, Ints]]:
        node, opened = self.found[number], []
        fronts = list(dict.fromkeys(self.region.front[states].tolist()))
        for cell in [f for f in fronts if f < self.region.num_cells][: self.budget.per_event]:
            hand, changes = node.hand, dict(node.changes)
            if self.knowledge.takes[event] >= 0:
                hand = int(self.knowledge.takes[event])
            if self.knowledge.writes[event] >= 0:
                changes = self._changed(changes, cell, int(self.knowledge.writes[event]))
            known = (hand, tuple(sorted(changes.items()))) in self.numbers
            if not known and len(self.found) >= self.budget.configurations:
                continue
            child = self._number(hand, changes)
            node.children[cell, event] = child
            if not known:
                at = states[self.region.front[states] == cell]
                opened.append((float(distance[at].min()), child, at))
        return opened

    def _changed(self, changes: dict[int, int], cell: int, token: int) -> dict[int, int]:
        """Changes after writing a token; a cell that is back to what it surely was is no change."""
        rest = {c: t for c, t in changes.items() if c != cell}
        return rest if self.present[cell, token] > 1 - self.budget.min_probability else {**rest, cell: token}

    def _number(self, hand: int, changes: dict[int, int]) -> int:
        key = (hand, tuple(sorted(changes.items())))
        if key not in self.numbers:
            cells = self.present.copy()
            for cell, token in changes.items():
                cells[cell] = np.eye(cells.shape[1])[token]
            chance = (cells @ self.knowledge.transition[:, :, hand].max(0))[self.region.front]
            self.numbers[key] = len(self.found)
            self.found.append(Configuration(hand, changes, cells, chance))
        return self.numbers[key]

    def _distances(self, chance: Floats, entries: Ints) -> Floats:
        """Steps from the nearest entry to each state along passable motions."""
        size = len(chance)
        start, event = (chance[:, : len(self.knowledge.turns)] >= self.budget.passable).nonzero()
        graph = scipy.sparse.csr_matrix(
            (np.ones(len(start)), (start, self.region.next[start, event])), shape=(size, size)
        )
        return np.asarray(scipy.sparse.csgraph.dijkstra(graph, unweighted=True, indices=entries, min_only=True))

    def successors(self) -> Ints:
        """`(n * S, E)` flat state (configuration * S + state) after every event."""
        size = len(self.region.front)
        result = np.empty((len(self.found), size, self.knowledge.num_events), dtype=np.int64)
        for number, node in enumerate(self.found):
            result[number] = number * size + self.region.next
            for (cell, event), child in node.children.items():
                at = (self.region.front == cell).nonzero()[0]
                result[number, at, event] = child * size + at
        return result.reshape(-1, self.knowledge.num_events)
