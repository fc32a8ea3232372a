"""Agents by name: of this package by a line in `BUILDERS`, from anywhere else as `module:name`.

Their names are `NAMES`:

    >>> "random" in NAMES
    True
"""

if not __name__.startswith("aif_dcpc."):
    raise ImportError(
        "import aif_dcpc.agents, not agents: the folder is installed as part of aif_dcpc"
    )

from collections.abc import Mapping
from typing import Any

import gymnasium

from aif_dcpc.agents.builders import actions_for, check_agent, check_builder_name, find_builder
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.protocol import Agent, BaseAgent

# name -> module:builder, imported when it is asked for
BUILDERS = {
    "discrete": "aif_dcpc.agents.discrete.observed_agent:ObservedAgent",
    "gaussian": "aif_dcpc.agents.gaussian.agent:GaussianAgent",
    "hierarchical": "aif_dcpc.agents.gridworld.agent:HierarchicalAgent",
    "random": "aif_dcpc.agents.random_agent:RandomAgent",
    "tmaze": "aif_dcpc.agents.tmaze:build",
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
        name: one of `NAMES`, or `module:name` of a builder or an agent class anywhere.
        observation_space, action_space: of the environment; a builder whose second parameter is
            `num_actions` needs discrete actions.
        metadata: of the environment; grid agents need an `EgocentricView`, or its fields, under
            "egocentric_view".
        settings: the agent's own settings.
        seed: everything random in the agent follows from it and from the seeds of `begin`.

    Raises:
        AgentError: for an unknown name, spaces that the agent cannot model, or settings that do not
            fit.
    """
    build = find_builder(name, BUILDERS)
    actions = actions_for(name, build, action_space)
    return check_agent(name, build(observation_space, actions, metadata, settings, seed))


def check_name(name: str) -> None:
    """Refuse the name of an agent that the package does not have; `module:name` may be anywhere.

    Raises:
        AgentError: there is no such agent.
    """
    check_builder_name(name, BUILDERS)


__all__ = ["NAMES", "Agent", "AgentError", "BaseAgent", "check_name", "make"]
