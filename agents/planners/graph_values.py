"""Values on a graph of beliefs: backwards for what each action costs, forwards for why.

Nodes are beliefs, sorted by the number of steps after which they are first reached; a *row* is a
node with an action, at `node * A + action`; an *edge* leads from a row by one outcome to the belief
after it. A node is one however many ways lead to it, and at whatever depth.
"""

from dataclasses import dataclass

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints


@dataclass(frozen=True)
class Graph:
    """Beliefs with what one step from each costs and where it leads.

    Attributes:
        num_actions: A.
        cost: `(rows,)` expected free energy of one step, nats.
        starts: `(rows + 1,)` the edges of row i are `starts[i] .. starts[i + 1] - 1`, at least one.
        chance: `(edges,)` probabilities of outcomes, in sum 1 for each row.
        child: `(edges,)` the node that each edge leads to.
        level_ends: number of nodes that are first reached after 0, 1, ... steps or fewer; the nodes
            of all levels but the last have rows, unless all have.
    """

    num_actions: int
    cost: Floats
    starts: Ints
    chance: Floats
    child: Ints
    level_ends: tuple[int, ...]

    def reached(self, steps: int) -> int:
        """Number of nodes that are reached after so many steps or fewer."""
        return self.level_ends[min(steps, len(self.level_ends) - 1)]

    def backwards(self, depth: int, discount: float, leaves: Floats) -> tuple[Floats, list[Floats]]:
        """Find what each action of every node costs, for every number of steps that remain.

        Args:
            depth: steps to look ahead from the first node.
            discount: weight of each step against the one before.
            leaves: `(nodes,)` what is expected to follow after the last step, nats.

        Returns:
            the expected free energy of the first node's actions, `(A,)`; and for 1 .. depth - 1
                remaining steps that of each action of the nodes that may then be reached.
        """
        values = leaves
        later: list[Floats] = []
        for remaining in range(1, depth):
            later.append(self.step_back(values, discount, self.reached(depth - remaining)))
            values = later[-1].min(1)
        return self.step_back(values, discount, 1)[0], later

    def step_back(self, values: Floats, discount: float, num_nodes: int) -> Floats:
        """Return the cost of each action of the first nodes, `(nodes, A)`, given what follows."""
        rows = num_nodes * self.num_actions
        edges = self.starts[rows]
        later = np.add.reduceat(
            self.chance[:edges] * values[self.child[:edges]], self.starts[:rows]
        )
        return (self.cost[:rows] + discount * later).reshape(num_nodes, self.num_actions)

    def forwards(self, depth: int, discount: float, later: list[Floats]) -> tuple[Floats, Floats]:
        """Follow each first action by the best ones, given what `backwards` found of later ones.

        Returns:
            how often each row is taken, discounted, `(A, rows)`, and each node is reached after the
                last step, `(A, nodes)`.
        """
        actions = np.arange(self.num_actions)
        rows = np.zeros((self.num_actions, len(self.cost)))
        now = np.zeros_like(rows)
        now[actions, actions] = 1.0
        for remaining in range(depth - 1, -1, -1):
            rows += now
            nodes = discount * self._children(now)
            if remaining:
                best = later[remaining - 1].argmin(1)
                now = np.zeros_like(rows)
                taken = np.arange(len(best)) * self.num_actions + best
                now[:, taken] = nodes[:, : len(best)]
        return rows, nodes

    def _children(self, rows: Floats) -> Floats:
        """Pass weights of rows `(A, rows)` on to nodes, `(A, nodes)`."""
        taken = np.flatnonzero(rows.any(0))
        counts = self.starts[taken + 1] - self.starts[taken]
        row_of_edge = np.repeat(np.arange(len(taken)), counts)
        first = np.repeat(self.starts[taken] - np.cumsum(counts) + counts, counts)
        edges = first + np.arange(len(row_of_edge))
        weights = rows[:, taken[row_of_edge]] * self.chance[edges]
        size = self.level_ends[-1]
        return np.stack([np.bincount(self.child[edges], weight, size) for weight in weights])
