"""What agent `discrete` asks of spaces and settings, told before torch is imported."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.protocol import number_of
from aif_dcpc.agents.settings import check_ranges, read_settings

MAX_STATES = 20_000
DEFAULTS: Mapping[str, Any] = {
    "novelty": True,
    "draws": True,
    "least_novelty": 0.03,
    "reward_scale": None,
    "discount": 0.98,
    "growth": 0.02,
    "novel": 1.0,
    "max_iterations": 100,
    "tolerance": 1e-3,
}
RANGES: Mapping[str, tuple[float, float]] = {
    "least_novelty": (0, math.inf),
    "reward_scale": (0, math.inf),
    "discount": (0, 1),
    "growth": (0, math.inf),
    "novel": (1e-6, math.inf),
    "max_iterations": (1, math.inf),
    "tolerance": (0, math.inf),
}


def read(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of `ObservedAgent`, each of its type.

    Raises:
        AgentError: a setting does not fit.
    """
    common, own = read_settings(settings, {"reward_scale": float}, **DEFAULTS)
    check_ranges(own, RANGES)
    engine = {key: common[key] for key in ("num_particles", "num_sweeps", "precision")}
    return {**engine, **own}


def state_sizes(space: gymnasium.Space[Any]) -> dict[str, tuple[int, ...]]:
    """Number of values of each part of each stream, of a state that is seen as a whole.

    Raises:
        AgentError: a stream is not finite, or there are too many states.
    """
    streams = space.spaces if isinstance(space, spaces.Dict) else {"state": space}
    sizes = {name: _sizes(name, stream) for name, stream in streams.items()}
    total = math.prod(size for stream in sizes.values() for size in stream)
    if total > MAX_STATES:
        raise AgentError(
            f"agent 'discrete' lists all states, here {total:,}; at most {MAX_STATES:,}."
        )
    return sizes


def _sizes(name: str, stream: gymnasium.Space[Any]) -> tuple[int, ...]:
    """Number of values of each part of one stream."""
    if isinstance(stream, spaces.Discrete) and stream.start == 0:
        return (int(stream.n),)
    if isinstance(stream, spaces.MultiDiscrete) and not np.any(stream.start):
        return tuple(int(size) for size in stream.nvec.ravel())
    if isinstance(stream, spaces.MultiBinary):
        return (2,) * int(np.prod(stream.shape))
    raise AgentError(
        f"agent 'discrete' sees a finite state: stream {name!r} is {stream}; expected Discrete, "
        "MultiDiscrete or MultiBinary from 0 on."
    )


def state_numbers(parts: npt.NDArray[Any], sizes: Sequence[int]) -> Ints:
    """Numbers of states, `(B,)`, by their parts `(B, P)`, the last of which runs fastest.

    Raises:
        AgentError: a part lies outside its space.
    """
    if (parts < 0).any() or (parts >= sizes).any():
        raise AgentError(
            f"agent 'discrete': the world shows {parts.tolist()}, outside its observation space of "
            f"{tuple(sizes)} values: mend the space, or the world."
        )
    found: Ints = np.ravel_multi_index(tuple(parts.astype(np.int64).T), tuple(sizes))
    return found


def check(
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    metadata: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Refuse what the agent cannot model, and settings that do not fit."""
    number_of(action_space, "discrete")
    state_sizes(observation_space)
    read(settings)
