"""The `aif_dcpc.agents` package: agents by name. A new one is a module with a builder, and a line in `BUILDERS`.

>>> sorted(NAMES)
['hierarchical', 'random']
"""

if not __name__.startswith("aif_dcpc."):
    raise ImportError(
        "import aif_dcpc.agents, not agents: the folder is installed as part of aif_dcpc"
    )

from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any

import gymnasium

from aif_dcpc.agents.errors import AgentError, unknown
from aif_dcpc.agents.protocol import Agent

Builder = Callable[[gymnasium.Space[Any], int, Mapping[str, Any], Mapping[str, Any], int], Agent]

# name -> module:builder(observation_space, number of actions, metadata, settings, seed); imported
# when asked for
BUILDERS = {
    "hierarchical": "aif_dcpc.agents.gridworld.agent:build_hierarchical",
    "random": "aif_dcpc.agents.random_agent:build_random",
}
NAMES = tuple(BUILDERS)


def make(
    name: str,
    *,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    metadata: Mapping[str, Any],
    settings: Mapping[str, Any],
    seed: int,
) -> Agent:
    """Build an agent for an environment's spaces.

    Args:
        name: one of `NAMES`.
        observation_space, action_space: of the environment; actions must be discrete.
        metadata: of the environment; grid agents need an `EgocentricView` under "egocentric_view".
        settings: the agent's own settings.
        seed: everything random in the agent follows from it and from the seeds of `begin`.

    Raises:
        AgentError: for an unknown name, spaces that the agent cannot model, or settings that do not
            fit.
    """
    if name not in NAMES:
        raise AgentError(unknown("agent", name, NAMES))
    if not isinstance(action_space, gymnasium.spaces.Discrete):
        raise AgentError(
            f"agent {name!r} chooses among discrete actions, the environment has {action_space}."
        )
    build: Builder = resolve_name(BUILDERS[name])
    return build(observation_space, int(action_space.n), metadata, settings, seed)


__all__ = ["NAMES", "Agent", "AgentError", "make"]
