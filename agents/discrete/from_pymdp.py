"""Arrays of a pymdp agent as a `DiscreteModel`; pymdp itself is not needed.

Both kinds of its agents are read: object arrays of NumPy (0.0.x), and arrays of JAX with a leading
axis over a batch of agents (1.0).
"""

import dataclasses
from typing import Any

import numpy as np

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.discrete.model import DiscreteModel
from aif_dcpc.agents.errors import AgentError

ARRAYS = ("A", "B", "C", "D", "pA", "pB", "pD")


def from_pymdp(agent: Any, *, index: int = 0) -> DiscreteModel:
    """Read the arrays of an agent.

    Args:
        agent: what has the attributes A, B and, if it likes, C, D, E, pA, pB, pD, A_dependencies
            and B_dependencies.
        index: which agent of a batch.

    Raises:
        AgentError: it has no A or B, or the arrays do not fit.
    """
    _check_agent(agent)
    reads_a = getattr(agent, "A_dependencies", None)
    reads_b = getattr(agent, "B_dependencies", None)
    one = index if _is_batched(agent, reads_b) else None
    read: dict[str, Any] = {name: _arrays(agent, name, one) for name in ARRAYS}
    model = DiscreteModel(**read, A_dependencies=reads_a, B_dependencies=reads_b)
    habit = _habit(agent, one)
    if habit is None or len(habit) != model.num_actions:
        return model  # a prior over longer policies says nothing about single actions
    return dataclasses.replace(model, E=habit)


def _check_agent(agent: Any) -> None:
    """Refuse what has no arrays A and B."""
    for name in ("A", "B"):
        if getattr(agent, name, None) is None:
            raise AgentError(
                f"from_pymdp: {type(agent).__name__} has no {name}; hand an agent over."
            )


def _habit(agent: Any, index: int | None) -> Floats | None:
    """The array E, of one agent of a batch; None where there is none."""
    if getattr(agent, "E", None) is None:
        return None
    habit = np.asarray(agent.E, float)
    return habit[index] if index is not None and habit.ndim > 1 else habit


def _arrays(agent: Any, name: str, index: int | None) -> list[Any] | None:
    """Arrays of one name, of one agent of a batch; None where there are none."""
    given = getattr(agent, name, None)
    if given is None:
        return None
    arrays = [np.asarray(array, float) for array in given]
    return arrays if index is None else [array[index] for array in arrays]


def _is_batched(agent: Any, reads: Any) -> bool:
    """Whether arrays have a leading axis over agents, which B would not need."""
    first = np.asarray(agent.B[0])
    needed = 2 + (len(reads[0]) if reads is not None else 1)
    return first.ndim == needed + 1
