"""Wrappers that make a world less kind, or its labels meaningless: slipping actions, permuted tokens and actions."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from aif_dcpc.envs.errors import BadSetting


class Slip(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """With probability `probability`, a uniformly drawn action is executed instead of the chosen one.

    Raises:
        BadSetting: actions without bounds, of which none can be drawn uniformly.
    """

    def __init__(self, env: gym.Env[Any, Any], probability: float) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, probability=probability)
        gym.Wrapper.__init__(self, env)
        space = env.action_space
        if isinstance(space, spaces.Box) and not space.is_bounded():
            raise BadSetting(
                f"env.slip={probability}: no action can be drawn uniformly from {space}, which has "
                "no bounds; leave env.slip out."
            )
        self.probability = probability
        self.own_generator: np.random.Generator | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; where the environment does not seed its own generator, slips have one of theirs."""
        begun = self.env.reset(seed=seed, options=options)
        if seed is not None:
            seeded = self.unwrapped.np_random_seed == seed
            self.own_generator = None if seeded else np.random.default_rng(seed)
        return begun

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act, perhaps otherwise than chosen."""
        generator = self.own_generator or self.unwrapped.np_random
        if generator.random() < self.probability:
            action = uniform(self.action_space, generator)
        return self.env.step(action)


def uniform(space: gym.Space[Any], generator: np.random.Generator) -> Any:
    """Draw any action of a space that counts from 0, or of a bounded Box, all alike."""
    if isinstance(space, spaces.Discrete):
        return int(generator.integers(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return generator.integers(space.nvec)
    if isinstance(space, spaces.MultiBinary):
        return generator.integers(0, 2, space.shape).astype(space.dtype)
    assert isinstance(space, spaces.Box)
    if np.issubdtype(space.dtype, np.integer):
        return generator.integers(space.low, space.high, dtype=space.dtype, endpoint=True)
    return generator.uniform(space.low, space.high).astype(space.dtype)


def _shuffled(looks: Any, generator: np.random.Generator) -> Any:
    """Kinds, colours and states `(3, tokens)` under other numbers."""
    return np.stack([generator.permutation(values.max() + 1)[values] for values in looks])


class Permute(gym.Wrapper[Any, int, Any, int], gym.utils.RecordConstructorArgs):
    """Rename tokens and actions by a seed, consistently in observations and in the view's metadata."""

    def __init__(self, env: gym.Env[Any, Any], seed: int) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, seed=seed)
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.action_space, spaces.Discrete):
            raise TypeError("permuted actions need a Discrete action space")
        generator = np.random.default_rng(seed)
        self.actions = generator.permutation(int(env.action_space.n))
        view = dict(env.metadata["egocentric_view"])
        self.tokens = generator.permutation(view["num_tokens"])
        for key in ("unseen_token", "empty_hand_token"):
            view[key] = int(self.tokens[view[key]])
        if view.get("looks") is not None:
            view["looks"] = _shuffled(view["looks"], generator)[:, np.argsort(self.tokens)]
        self.metadata = {**env.metadata, "egocentric_view": view}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode, its tokens renamed."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._renamed(observation), info

    def step(self, action: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act by the renamed action."""
        observation, reward, terminated, truncated, info = self.env.step(int(self.actions[action]))
        return self._renamed(observation), reward, terminated, truncated, info

    def describe_token(self, token: int) -> str:
        """A renamed token in words."""
        original = int(np.flatnonzero(self.tokens == token)[0])
        words: str = self.env.get_wrapper_attr("describe_token")(original)
        return words

    def token_tile(self, token: int) -> Any:
        """How what a renamed token stands for looks."""
        original = int(np.flatnonzero(self.tokens == token)[0])
        return self.env.get_wrapper_attr("token_tile")(original)

    def describe_action(self, action: int) -> str:
        """A renamed action by what it does."""
        words: str = self.env.get_wrapper_attr("describe_action")(int(self.actions[action]))
        return words

    def _renamed(self, observation: dict[str, Any]) -> dict[str, Any]:
        renamed = {name: self.tokens[observation[name]] for name in ("view", "carried")}
        return {**observation, **renamed}
