"""Expanding a graph of beliefs, breadth first, all beliefs of a level in array operations."""

import time
from typing import NamedTuple

import numpy as np
from scipy.special import xlogy

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.expected_free_energy import expectation
from aif_dcpc.agents.planners.finite_steps import FiniteSteps, information_by_posteriors
from aif_dcpc.agents.planners.graph_values import Graph

RESOLUTION = 1e9  # beliefs that agree in every state to one part in so many are the same node
CHUNK = 2**23  # numbers that are held at once, about


class Outcomes(NamedTuple):
    """What follows from some rows.

    Attributes:
        predicted: `(rows, S)` the next state.
        rows: `(m,)` the row of each outcome that can occur.
        chances: `(m,)` its probability.
        after: `(m, S)` the belief after it.
    """

    predicted: Floats
    rows: Ints
    chances: Floats
    after: Floats


class Expansion:
    """A graph of beliefs that grows level by level.

    Args:
        steps: the model.
        belief: `(S,)` the first node.
    """

    def __init__(self, steps: FiniteSteps, belief: Floats) -> None:
        self.steps = steps
        self.known = {keys_of(belief[None])[0]: 0}
        self.levels = [belief[None]]
        self.level_ends = [1]
        self.costs: list[Floats] = []
        self.counts: list[Ints] = []
        self.chances: list[Floats] = []
        self.children: list[Ints] = []
        self.first: Outcomes | None = None

    @property
    def closed(self) -> bool:
        """Whether no step leads to a belief that is not known yet."""
        return not len(self.levels[-1])

    @property
    def beliefs(self) -> Floats:
        """All nodes, `(nodes, S)`."""
        return np.concatenate(self.levels)

    @property
    def rows_of_next_level(self) -> int:
        """How many rows there will be in all when the newest nodes have been expanded."""
        return self.level_ends[-1] * self.steps.model.num_actions

    def expand(self, deadline: float, *, last: bool = False) -> bool:
        """Expand the newest nodes, all or none; tell whether they were, before the deadline.

        Where this is the `last` level, what follows is of no account and not looked for.
        """
        newest = self.levels[-1]
        before = (len(self.costs), len(self.known))
        size = chunk_size(self.steps)
        found = []
        for start in range(0, len(newest), size):
            if time.monotonic() > deadline:
                self._forget(*before)
                return False
            found.append(self._expand(newest[start : start + size], last))
        self.levels.append(np.concatenate(found) if found else newest[:0])
        self.level_ends.append(len(self.known))
        return True

    def _expand(self, beliefs: Floats, last: bool) -> Floats:
        """Take every action at some nodes; return the beliefs that are new."""
        predicted = self.steps.predict(beliefs)
        outcomes = self.steps.outcomes(predicted)
        self.costs.append(self.steps.costs(beliefs, predicted, outcomes))
        if last:
            self._lead_nowhere(len(predicted))
            return beliefs[:0]
        rows, chances, after = self.steps.after(predicted, outcomes)
        self.first = self.first or Outcomes(predicted, rows, chances, after)
        self.counts.append(np.bincount(rows, minlength=len(predicted)))
        self.chances.append(chances)
        known = len(self.known)
        nodes = self.known
        child = np.array([nodes.setdefault(key, len(nodes)) for key in keys_of(after)])
        self.children.append(child)
        # numbers are given in the order of first sight
        fresh = np.arange(known, len(nodes))
        return after[np.maximum.accumulate(child).searchsorted(fresh)]

    def _lead_nowhere(self, rows: int) -> None:
        """Give each row one edge, since every row has one; it leads to a node of no value."""
        self.counts.append(np.ones(rows, np.int64))
        self.chances.append(np.ones(rows))
        self.children.append(np.zeros(rows, np.int64))

    def _forget(self, chunks: int, nodes: int) -> None:
        """Drop what was found of a level that is not complete."""
        for found in (self.costs, self.counts, self.chances, self.children):
            del found[chunks:]
        for key in list(self.known)[nodes:]:
            del self.known[key]

    def graph(self) -> Graph:
        """Lay out what was found."""
        ends = self.level_ends[:-1] if self.closed else self.level_ends
        return Graph(
            self.steps.model.num_actions,
            np.concatenate(self.costs),
            np.concatenate([[0], np.cumsum(np.concatenate(self.counts))]),
            np.concatenate(self.chances),
            np.concatenate(self.children),
            tuple(ends),
        )

    def first_decompositions(self) -> tuple[Floats, Floats]:
        """Compute the first step's expected free energy in both ways, `(A,)` nats each.

        The first is the one that the graph holds, by entropies; in the second the information is
        that of the beliefs after each outcome.
        """
        steps = self.steps
        belief = self.levels[0]
        if self.first is None:  # one step is all that is looked ahead
            predicted = steps.predict(belief)
            self.first = Outcomes(predicted, *steps.after(predicted, steps.outcomes(predicted)))
        gained = information_by_posteriors(*self.first)
        second = -expectation(self.first.predicted, steps.log_preference) - gained
        if steps.novelty is not None:
            second = second - steps.novelty_of(belief, steps.novelty)
        return self.costs[0][: steps.model.num_actions], second


def keys_of(beliefs: Floats) -> list[bytes]:
    """Name beliefs `(n, S)` so that those, and only those, that are the same have the same name."""
    codes = np.rint(beliefs * RESOLUTION).astype(np.int32)
    width = codes.itemsize * codes.shape[1]
    whole = codes.tobytes()
    return [whole[start : start + width] for start in range(0, len(whole), width)]


def chunk_size(steps: FiniteSteps) -> int:
    """How many beliefs to expand at once."""
    each = steps.model.num_actions * steps.by_outcome.size
    return max(1, CHUNK // each)


def point_graph(steps: FiniteSteps, belief: Floats) -> tuple[Graph, Floats]:
    """Lay out the graph of a model in which whatever is seen identifies the state.

    Node 0 is the present belief, node 1 + s the belief that is sure of state s. What is seen tells
    the state, so that the information about it is the entropy of the predicted state.

    Returns:
        the graph, and its beliefs `(1 + S, S)`.
    """
    model = steps.model
    now = np.einsum("s,ast->at", belief, model.transitions)
    then = model.transitions.transpose(1, 0, 2).reshape(-1, model.num_states)
    predicted = np.concatenate([now, then])
    rows, states = np.nonzero(predicted)
    chance = predicted[rows, states]
    beliefs = np.concatenate([belief[None], np.eye(model.num_states)])
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows))])
    information = -np.add.reduceat(xlogy(chance, chance), starts[:-1])
    cost = -expectation(predicted, steps.log_preference) - information
    if steps.novelty is not None:
        cost = cost - steps.novelty_of(beliefs, steps.novelty)
    ends = (1, len(beliefs))
    return Graph(model.num_actions, cost, starts, chance, 1 + states, ends), beliefs
