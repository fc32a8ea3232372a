"""What agent `gaussian` asks of spaces and settings, told before torch is imported."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium

from aif_dcpc.agents.errors import AgentError, AgentWarning
from aif_dcpc.agents.gaussian.preferences import find_wish
from aif_dcpc.agents.settings import check_ranges, read_settings

RANGES: Mapping[str, tuple[float, float]] = {
    "num_waves": (1, math.inf),
    "draws": (1, math.inf),
    "growth": (1, math.inf),
    "resolution": (0, math.inf),
    "reward_scale": (0, math.inf),
}
MAX_NUMBERS = 1000  # of a state: a step costs the cube of their number

# own settings; those of every agent stand in `settings.COMMON`
DEFAULTS: Mapping[str, Any] = {
    "preference": None,
    "reward_scale": 1.0,
    "num_waves": 128,
    "draws": 4,
    "horizon": 30,
    "candidates": 64,
    "iterations": 2,
    "elites": 8,
    "correlation": 0.75,
    "discount": 1.0,
    "novelty": True,
    "resolution": 0.03,
    "growth": 1.3,
    "hidden_velocities": False,
    "blur": 1e-4,
}


def read(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of `GaussianAgent`, whose preference exists.

    Raises:
        AgentError: a setting does not fit.
    """
    common, own = read_settings(settings, {"preference": str}, **DEFAULTS)
    check_ranges(own, RANGES)
    if own["preference"] is not None:
        find_wish(own["preference"])
    elif own["hidden_velocities"]:
        raise AgentError(
            "agent setting hidden_velocities=true: rewards are not learned where velocities are "
            "hidden; name what is preferred with agent.preference, of positions and what they gain."
        )
    if own["blur"] <= 0:
        raise AgentError(f"agent setting blur={own['blur']}: expected more than 0.")
    return {**common, **own}


def joined_streams(space: gymnasium.Space[Any]) -> tuple[tuple[str, ...], int]:
    """Names of the streams of an observation space, and how many numbers they are together.

    Raises:
        AgentError: one of them is not of numbers, or they are too many.
    """
    streams = space.spaces if isinstance(space, gymnasium.spaces.Dict) else {"state": space}
    for name, stream in streams.items():
        if not isinstance(stream, gymnasium.spaces.Box):
            raise AgentError(
                f"agent 'gaussian' models continuous values; stream {name!r} is {stream}: choose "
                "agent=discrete, or wrap the environment."
            )
    sizes = [math.prod(stream.shape or ()) for stream in streams.values()]
    if sum(sizes) > MAX_NUMBERS:
        raise AgentError(
            f"agent 'gaussian' models at most {MAX_NUMBERS:,} numbers, here {sum(sizes):,}: wrap the "
            "environment so that it shows what matters, not a picture of it."
        )
    return tuple(streams), sum(sizes)


def check_actions(space: gymnasium.Space[Any]) -> None:
    """Refuse actions that are neither Discrete, from 0 on, nor a Box of one axis.

    Raises:
        AgentError: they are of another kind.
    """
    flat = isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1
    if not flat and not (isinstance(space, gymnasium.spaces.Discrete) and space.start == 0):
        raise AgentError(
            f"agent 'gaussian' chooses among Discrete actions from 0 on, or in a Box of one axis; the "
            f"environment has {space}: wrap it."
        )


def check(
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    metadata: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Refuse what the agent cannot model, and settings that do not fit.

    Warns:
        AgentWarning: the world says that velocities are hidden, and the settings that they are not.
    """
    found = read(settings)
    joined_streams(observation_space)
    check_actions(action_space)
    if metadata.get("hidden") == "velocities" and not found["hidden_velocities"]:
        warnings.warn(
            "agent 'gaussian' takes what it sees for the whole state, and this environment hides "
            "velocities: it will not learn well; set agent.hidden_velocities=true, with "
            "agent.preference of positions and what they gain.",
            AgentWarning,
            stacklevel=2,
        )
