"""Any Gymnasium environment as a dictionary of streams, whatever it observes and however it acts.

Observations in a Dict or a Tuple, nested or not, are laid out as one flat dictionary of streams:
`state` for a single space, `state_0`, `state_1` for a Tuple, `outer_inner` for a Dict in a Dict.
Discrete observations and actions count from 0, whatever the `start` of their spaces.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from aif_dcpc.envs.errors import UnsupportedEnvironment

SUPPORTED = (spaces.Discrete, spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)
BARE = "state"  # the name of a stream that the environment does not name
Space = gym.Space[Any]


@dataclass(frozen=True)
class Stream:
    """One stream: where it stands in the environment's own observation, and what it holds.

    Attributes:
        name: under which agents see it.
        path: keys and indices that lead to it.
        space: the environment's own, which may count from another number than 0.
    """

    name: str
    path: tuple[Any, ...]
    space: Space

    def read(self, observation: Any) -> Any:
        """The stream's value in one observation."""
        for key in self.path:
            observation = observation[key]
        start = first_of(self.space)
        return observation if start is None else np.asarray(observation - start)[()]


class Streams(gym.ObservationWrapper[dict[str, Any], Any, Any], gym.utils.RecordConstructorArgs):
    """Lay the observations of an environment out as streams.

    An environment may say more about itself, as those of the package do: the geometry of an
    egocentric view of tokens under `metadata["egocentric_view"]` (a mapping with the fields that
    `MiniGridStreams` gives), whether an episode was a success under `info["success"]`, and the
    methods `describe_token(token)` and `shortest_path()`.

    Raises:
        UnsupportedEnvironment: for texts, graphs and other spaces without a fixed number of
            numbers, and for actions in a Dict or a Tuple.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        if not isinstance(env.action_space, SUPPORTED):
            raise UnsupportedEnvironment(
                f"{env}: its actions are {env.action_space}; expected a Discrete, MultiDiscrete, "
                "MultiBinary or Box space: wrap it so that an action is one number or one array."
            )
        self.streams = list(_streams(env, "", (), env.observation_space))
        _check_names(env, self.streams)
        self.observation_space = spaces.Dict(
            {stream.name: from_zero(stream.space) for stream in self.streams}
        )
        self.first_action = first_of(env.action_space)
        self.action_space = from_zero(env.action_space)
        self.metadata = {"egocentric_view": None, **env.metadata}

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Act; discrete actions count from 0."""
        return super().step(action if self.first_action is None else action + self.first_action)

    def observation(self, observation: Any) -> dict[str, Any]:
        """One observation as streams."""
        return {stream.name: stream.read(observation) for stream in self.streams}


def _streams(
    env: gym.Env[Any, Any], name: str, path: tuple[Any, ...], space: Space
) -> Iterator[Stream]:
    """Yield the streams of a space, nested ones joined by underscores."""
    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _streams(env, f"{name}_{key}" if name else str(key), (*path, key), inner)
    elif isinstance(space, spaces.Tuple):
        for index, inner in enumerate(space.spaces):
            yield from _streams(env, f"{name or BARE}_{index}", (*path, index), inner)
    elif isinstance(space, SUPPORTED):
        yield Stream(name or BARE, path, space)
    else:
        raise UnsupportedEnvironment(
            f"{env}: stream {name or BARE!r} is {space}; expected Discrete, MultiDiscrete, "
            "MultiBinary or Box spaces: wrap the environment so that it leaves the stream out or "
            "lays it out as numbers."
        )


def _check_names(env: gym.Env[Any, Any], streams: list[Stream]) -> None:
    """Refuse two streams of one name: keys may have the underscores that join them."""
    names = [stream.name for stream in streams]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or not names:
        what = "it observes nothing" if twice is None else f"two streams are called {twice!r}"
        raise UnsupportedEnvironment(
            f"{env}: {what}; wrap it so that every stream has a name of its own."
        )


def first_of(space: Space) -> Any:
    """The number from which a space counts; None where that is 0, or nothing is counted."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return space.start if np.any(space.start) else None
    return None


def from_zero(space: Space) -> Space:
    """The same space, counting from 0."""
    if first_of(space) is None:
        return space
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n))
    assert isinstance(space, spaces.MultiDiscrete)
    return spaces.MultiDiscrete(space.nvec)
