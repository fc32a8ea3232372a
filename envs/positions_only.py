"""Classic control with velocities hidden: what was seen before must be kept in mind.

The position-only tasks of POPGym on Gymnasium's own environments, rewards and lengths unchanged.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from aif_dcpc.envs.errors import UnsupportedEnvironment, check_setting

FARTHEST = 5.0  # standard deviations that noise adds at most to what lies at a bound
# class -> where positions stand in its observation, and within which width each lies while an
# episode goes on
POSITIONS: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "CartPoleEnv": ((0, 2), (4.8, 0.419)),
    "PendulumEnv": ((0, 1), (2.0, 2.0)),
    "MountainCarEnv": ((0,), (1.8,)),
    "Continuous_MountainCarEnv": ((0,), (1.8,)),
    "AcrobotEnv": ((0, 1, 2, 3), (2.0, 2.0, 2.0, 2.0)),
}


class PositionsOnly(gym.ObservationWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Observe positions alone, perhaps with noise.

    Args:
        env: CartPole, Pendulum, MountainCar, MountainCarContinuous or Acrobot.
        noise: standard deviation of what is observed, as a share of the width within which it
            lies while an episode goes on; at least 0.

    Raises:
        UnsupportedEnvironment: any other environment.
        BadSetting: a negative noise, or none that is a number.
    """

    def __init__(self, env: gym.Env[Any, Any], *, noise: float = 0.0) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, noise=noise)
        gym.ObservationWrapper.__init__(self, env)
        check_setting("noise", noise, 0)
        kind = type(env.unwrapped).__name__
        if kind not in POSITIONS:
            raise UnsupportedEnvironment(
                f"{env}: its positions are not known; expected CartPole-v1, Pendulum-v1, "
                "MountainCar-v0, MountainCarContinuous-v0 or Acrobot-v1."
            )
        places, widths = POSITIONS[kind]
        self.places = list(places)
        self.scale = noise * np.array(widths)
        full = env.observation_space
        assert isinstance(full, spaces.Box)
        reach = (FARTHEST * self.scale).astype(np.float32)
        self.low = full.low[self.places] - reach
        self.high = full.high[self.places] + reach
        self.observation_space = spaces.Box(self.low, self.high, dtype=np.float32)
        self.metadata = {**env.metadata, "hidden": "velocities"}

    def observation(self, observation: Any) -> Any:
        """The positions in one observation."""
        seen = np.asarray(observation, np.float64)[self.places]
        noise = self.unwrapped.np_random.standard_normal(len(seen)) if self.scale.any() else 0.0
        return np.clip((seen + self.scale * noise).astype(np.float32), self.low, self.high)
