"""Arrays of a pymdp agent as a `DiscreteModel`; pymdp itself is not needed.

Both kinds of its agents are read: object arrays of NumPy (0.0.x), and arrays of JAX with a leading
axis over a batch of agents (1.0).
"""

from typing import Any

import numpy as np

from aif_dcpc.agents.discrete.model import DiscreteModel
from aif_dcpc.agents.errors import AgentError


def from_pymdp(agent: Any, *, index: int = 0) -> DiscreteModel:
    """Read the arrays of an agent.

    Args:
        agent: what has the attributes A, B and, if it likes, C, D, E, pA, pB, pD, A_dependencies
            and B_dependencies.
        index: which agent of a batch.

    Raises:
        AgentError: it has no A or B, or the arrays do not fit.
    """
    for name in ("A", "B"):
        if getattr(agent, name, None) is None:
            raise AgentError(
                f"from_pymdp: {type(agent).__name__} has no {name}; hand an agent over."
            )
    reads_a = getattr(agent, "A_dependencies", None)
    reads_b = getattr(agent, "B_dependencies", None)
    batched = _is_batched(agent, reads_b)
    read = {}
    for name in ("A", "B", "C", "D", "pA", "pB", "pD"):
        given = getattr(agent, name, None)
        if given is not None:
            arrays = [np.asarray(array, float) for array in given]
            read[name] = [array[index] if batched else array for array in arrays]
    habit = getattr(agent, "E", None)
    if habit is not None:
        array = np.asarray(habit, float)
        habit = array[index] if batched and array.ndim > 1 else array
    model = DiscreteModel(**read, A_dependencies=reads_a, B_dependencies=reads_b)
    if habit is None or len(habit) != model.num_actions:
        return model  # a prior over longer policies says nothing about single actions
    return DiscreteModel(**read, E=habit, A_dependencies=reads_a, B_dependencies=reads_b)


def _is_batched(agent: Any, reads: Any) -> bool:
    """Whether arrays have a leading axis over agents: B has one axis more than its states and actions need."""
    first = np.asarray(agent.B[0])
    needed = 2 + (len(reads[0]) if reads is not None else 1)
    return first.ndim == needed + 1
