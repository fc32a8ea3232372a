"""What the agents of the package ask of spaces and settings, told before torch is imported, which takes seconds.

Every agent has a function `check` for that, which its builder's own refusals come from as well.
"""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

import gymnasium

from aif_dcpc.agents.protocol import number_of
from aif_dcpc.agents.settings import read_settings, require_streams

# name -> module:function, imported when it is asked for
CHECKS = {
    "discrete": "aif_dcpc.agents.discrete.requirements:check",
    "gaussian": "aif_dcpc.agents.gaussian.requirements:check",
    "hierarchical": "aif_dcpc.agents.gridworld.requirements:check",
    "tmaze": "aif_dcpc.agents.requirements:check_tmaze",
}
TMAZE_STREAMS = ("location", "cue", "outcome")
TMAZE: Mapping[str, Any] = {"horizon": 4, "discount": 0.95, "wish": 3.0, "cue_at_centre": False}


def check_request(
    name: str,
    *,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    metadata: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Refuse what an agent of the package would refuse; nothing is known here of agents from elsewhere.

    Args:
        name: of the agent.
        observation_space, action_space, metadata: of the environment.
        settings: the agent's own, and the engine's under "inference".

    Raises:
        AgentError: the agent cannot model the spaces, or a setting does not fit.
    """
    if name in CHECKS:
        resolve_name(CHECKS[name])(observation_space, action_space, metadata, settings)


def read_tmaze(
    space: gymnasium.Space[Any], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keywords of `ActiveInferenceAgent`, and the settings of the T-maze's own model.

    Raises:
        AgentError: for another world, or settings that do not fit.
    """
    require_streams("tmaze", space, TMAZE_STREAMS)
    return read_settings(settings, **TMAZE)


def check_tmaze(
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    metadata: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Refuse worlds other than the T-maze, and settings that do not fit."""
    number_of(action_space, "tmaze")
    read_tmaze(observation_space, settings)
