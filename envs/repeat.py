"""An action that is held for several steps of the environment."""

from typing import Any

import gymnasium as gym


class Repeat(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Repeat every action, add up its rewards, and stop where the episode ends.

    Args:
        env: an environment.
        times: steps for which an action is held, at least 1; `info["env_steps"]` says how many
            were made.
    """

    def __init__(self, env: gym.Env[Any, Any], times: int) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, times=times)
        gym.Wrapper.__init__(self, env)
        self.times = times

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act until the episode ends, at most so many times."""
        total = 0.0
        made = 0
        for _ in range(self.times):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            made += 1
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, {**info, "env_steps": made}
