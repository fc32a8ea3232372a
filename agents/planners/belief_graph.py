"""Exact planning on finite models: every action is chosen by what will have been seen by then.

    G(b, a) = expected free energy of one step
              + discount sum_o q(o | b, a) min_a' G(b after o, a')

is sophisticated inference (Friston et al. 2021). As a tree this grows as (A O)^depth, but different
histories often lead to the same belief: here every belief is one node of a graph, whatever leads to
it and when. The graph is expanded breadth first, all beliefs of a depth at once, and evaluated
backwards. Where whatever is seen identifies the state, nodes are states and this is dynamic
programming.

    >>> import numpy as np
    >>> from aif_dcpc.agents.planners.finite_model import FiniteModel
    >>> corridor = FiniteModel(
    ...     initial=np.array([0.0, 1.0, 0.0]),
    ...     transitions=np.stack([np.eye(3)[[0, 0, 1]], np.eye(3)[[1, 2, 2]]]),  # left, right
    ...     likelihood={"place": np.eye(3)},
    ...     log_preferences={"place": np.array([-3.0, -2.0, 0.0])},
    ... )
    >>> plan = BeliefGraph(horizon=2).plan_tables(corridor, corridor.initial)
    >>> plan.expected_free_energy.tolist(), plan.best
    ([5.0, 0.0], 1)

References: Friston, Da Costa, Hafner, Hesp, Parr (2021), "Sophisticated inference", equation 11;
    Kaelbling, Littman, Cassandra (1998) for beliefs as states.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.expected_free_energy import warn_unless_equal
from aif_dcpc.agents.kernel_tables import TableMemory
from aif_dcpc.agents.planners.belief_expansion import Expansion, point_graph
from aif_dcpc.agents.planners.deferred import Deferred
from aif_dcpc.agents.planners.finite_model import FiniteModel
from aif_dcpc.agents.planners.finite_steps import FiniteSteps
from aif_dcpc.agents.planners.graph_values import Graph
from aif_dcpc.agents.planners.protocol import Plan, Situation
from aif_dcpc.agents.table_checks import check_chances

HorizonValue = Callable[[Floats], Floats]


@dataclass(frozen=True, kw_only=True)
class BeliefGraph:
    """Plans exactly on a finite model, as far as its budget allows.

    Args:
        horizon: steps to look ahead, at least 1.
        discount: weight of each step against the one before, above 0 and at most 1.
        max_nodes: beliefs times actions to look at, at most; the last depth that is complete
            answers. One step is always looked ahead.
        seconds: to spend on expanding the graph, at most, checked between chunks of beliefs.
        novelty: whether learning about parameters counts.
        horizon_value: beliefs `(n, S)` -> `(n,)` expected free energy of all that follows after the
            last step, nats.

    Raises:
        AgentError: for settings out of range.
    """

    horizon: int
    discount: float = 1.0
    max_nodes: int = 1_000_000
    seconds: float | None = None
    novelty: bool = True
    horizon_value: HorizonValue | None = None
    memory: TableMemory = field(default_factory=TableMemory, init=False, repr=False, compare=False)
    _last: list[FiniteSteps] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.horizon < 1 or self.max_nodes < 1:
            raise AgentError(
                f"belief graph: horizon and max_nodes are at least 1, found {self.horizon} and "
                f"{self.max_nodes}."
            )
        if not 0 < self.discount <= 1:
            raise AgentError(
                f"belief graph: discount is above 0 and at most 1, found {self.discount}."
            )

    def plan(self, situation: Situation) -> Plan:
        """Plan from a cloud, with the tables and the belief that its model gives.

        Raises:
            AgentError: the model is not finite.
        """
        return self.plan_tables(*FiniteModel.read(situation, self.memory))

    def plan_tables(self, finite: FiniteModel, belief: Floats) -> Plan:
        """Plan from a belief `(S,)` on tables.

        Raises:
            AgentError: for a belief that does not fit, or outcomes too many to list.

        Warns:
            DecompositionWarning: the two decompositions of the first step disagree.
        """
        check_chances("belief (S,)", belief, (finite.num_states,))
        steps = self._steps(finite)
        if steps.points and finite.num_actions * (1 + finite.num_states) <= self.max_nodes:
            graph, beliefs = point_graph(steps, belief)
            depth = self.horizon
        else:
            expansion = Expansion(steps, belief)
            depth = self._expand(expansion)
            graph = expansion.graph()
            beliefs = expansion.beliefs
            for first, second in zip(*expansion.first_decompositions(), strict=True):
                warn_unless_equal(first, second)
        return self._evaluate(steps, graph, beliefs, depth)

    def _steps(self, finite: FiniteModel) -> FiniteSteps:
        """Lay out a model for planning, or find it where it was the last one."""
        if not self._last or self._last[0].model is not finite:
            self._last[:] = [FiniteSteps(finite, self.novelty)]
        return self._last[0]

    def _expand(self, expansion: Expansion) -> int:
        """Expand level by level within the budget; return how many steps may be looked ahead."""
        deadline = np.inf if self.seconds is None else time.monotonic() + self.seconds
        expansion.expand(np.inf, last=self._is_last(1))
        for depth in range(1, self.horizon):
            if expansion.closed:
                break
            too_many = expansion.rows_of_next_level > self.max_nodes
            if too_many or not expansion.expand(deadline, last=self._is_last(depth + 1)):
                return depth
        return self.horizon

    def _is_last(self, depth: int) -> bool:
        """Whether nothing that follows after so many steps counts."""
        return depth == self.horizon and self.horizon_value is None

    def _evaluate(self, steps: FiniteSteps, graph: Graph, beliefs: Floats, depth: int) -> Plan:
        """Evaluate the graph; what each first action's number is made of is told when asked for."""
        leaves = np.zeros(len(beliefs))
        if self.horizon_value is not None:
            leaves = np.asarray(self.horizon_value(beliefs), float)
        costs, later = graph.backwards(depth, self.discount, leaves)

        def terms() -> dict[str, torch.Tensor]:
            rows, last = graph.forwards(depth, self.discount, later)
            found = expected_terms(steps, beliefs, rows)
            if self.horizon_value is not None:
                found["horizon_value"] = weighted(last, leaves)
            return {name: torch.from_numpy(value) for name, value in found.items()}

        return Plan(
            policies=steps.policies,
            expected_free_energy=torch.from_numpy(costs),
            terms=Deferred(terms),
            nodes=len(graph.cost),
            depth=depth,
            complete=depth == self.horizon,
        )


def expected_terms(steps: FiniteSteps, beliefs: Floats, rows: Floats) -> dict[str, Floats]:
    """Sum the terms of all steps that follow each first action, `(A,)` nats each.

    Args:
        steps: the model.
        beliefs: `(nodes, S)`.
        rows: `(A, nodes * A)` how often each row is taken.
    """
    taken = np.flatnonzero(rows.any(0))
    node, action = np.divmod(taken, steps.model.num_actions)
    predicted = steps.predict_rows(beliefs[node], action)
    terms = steps.terms(beliefs[node], action, predicted)
    return {name: weighted(rows[:, taken], value) for name, value in terms.items()}


def weighted(weights: Floats, values: Floats) -> Floats:
    """Sum values `(n,)` by weights `(A, n)`; infinite ones of weight 0 do not count."""
    counted = np.where(weights > 0, values, 0.0)
    found: Floats = (weights * counted).sum(1)
    return found
