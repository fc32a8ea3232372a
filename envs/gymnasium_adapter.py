"""Any Gymnasium environment with Discrete or Box observations and Discrete actions, as a dictionary of streams."""

from typing import Any

import gymnasium as gym
from gymnasium import spaces

from aif_dcpc.envs.errors import UnsupportedEnvironment

SUPPORTED = (spaces.Discrete, spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)


class Streams(gym.ObservationWrapper[dict[str, Any], int, Any], gym.utils.RecordConstructorArgs):
    """Wrap a single observation as the stream `state`; pass dictionaries through.

    An environment may say more about itself, as those of the package do: the geometry of an
    egocentric view of tokens under `metadata["egocentric_view"]` (a mapping with the fields that
    `MiniGridStreams` gives), whether an episode was a success under `info["success"]`, and the
    methods `describe_token(token)` and `shortest_path()`.

    Raises:
        UnsupportedEnvironment: for other observation or action spaces.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        if not isinstance(env.action_space, spaces.Discrete):
            raise UnsupportedEnvironment(
                f"{env}: expected a Discrete action space, found {env.action_space}; "
                "wrap it with a discretisation of its actions."
            )
        space = env.observation_space
        self.bare = not isinstance(space, spaces.Dict)
        streams = spaces.Dict(state=space) if self.bare else space
        assert isinstance(streams, spaces.Dict)
        for name, stream in streams.items():
            if not isinstance(stream, SUPPORTED):
                raise UnsupportedEnvironment(
                    f"{env}: stream {name!r} is {stream}; expected Discrete or Box spaces."
                )
        self.observation_space = streams
        self.metadata = {"egocentric_view": None, **env.metadata}

    def observation(self, observation: Any) -> dict[str, Any]:
        """One observation as streams."""
        return {"state": observation} if self.bare else observation
