"""A body that keeps its energy and its temperature in range through day and night.

What it does takes hours to arrive: food lies in the stomach before it is energy, heat in the skin
before it is warmth. Nights are cold and without food or sun, noons are hot. Who waits until a
variable has left its range acts too late; who acts before stays within.

With hour h, ambient heat a = 2.2 cos(2 pi (h - 14) / 24), and standardised variables of which
those in the body should stay within -1 .. 1, one hour is

    skin'        = .7 skin + .3 (a + heat)          heat: -4 shade by day, 3 sun by day, 3 shiver
    temperature' = .9 temperature + .25 skin'       + noise
    stomach'     = .6 stomach + food                food: 1 eat by day
    energy'      = energy - .08 + .26 stomach'      + noise; shivering costs .03 more

No variable goes beyond -5 .. 5. Day is from 6 to 18 o'clock. Actions: 0 rest, 1 eat, 2 shade,
3 sun, 4 shiver.
"""

from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from aif_dcpc.envs.drawing import DRAWN, chart
from aif_dcpc.envs.errors import check_setting

REST, EAT, SHADE, SUN, SHIVER = range(5)
ACTIONS = ("rest", "eat", "shade", "sun", "shiver")
VARIABLES = ("energy", "temperature", "stomach", "skin")
HOURS = 24
DAY = (6, 18)
ENOUGH = 0.95  # share of hours in range that makes an episode a success
LIMIT = 5.0  # no variable, and nothing observed, goes beyond -5 .. 5
SHOWN = 72  # hours in a picture


class Allostasis(gym.Env[dict[str, Any], int]):
    """Energy and temperature to be kept within -1 .. 1; the reward is 1 for an hour in which both are.

    Observed are the streams `energy`, `temperature`, `stomach`, `skin`, `(1,)` each, with noise, and
    `clock`, `(2,)`: cosine and sine of the hour. `info["in_range"]` is the share of hours so far in
    which both were in range; an episode is a success if it is at least .95 at the end.

    Args:
        noise: standard deviation of what is observed, at least 0.
        drift: standard deviation of what happens by itself in an hour, at least 0.
        max_steps: hours until truncation.
    """

    metadata: dict[str, Any] = DRAWN

    def __init__(
        self,
        noise: float = 0.05,
        drift: float = 0.02,
        max_steps: int = 96,
        render_mode: str | None = None,
    ) -> None:
        check_setting("noise", noise, 0)
        check_setting("drift", drift, 0)
        self.noise = noise
        self.drift = drift
        self.max_steps = max_steps
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(len(ACTIONS))  # type: ignore[assignment]
        streams: dict[str, spaces.Space[Any]] = {
            name: spaces.Box(-LIMIT, LIMIT, (1,)) for name in VARIABLES
        }
        self.observation_space = spaces.Dict({**streams, "clock": spaces.Box(-1, 1, (2,))})
        self.body = np.zeros(len(VARIABLES))
        self.hour = 0
        self.steps = 0
        self.good = 0
        self.past: deque[tuple[float, float, int, int]] = deque(maxlen=SHOWN)

    def describe_action(self, action: int) -> str:
        """What an action does."""
        return ACTIONS[action]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin at any hour, well fed and neither hot nor cold."""
        super().reset(seed=seed)
        self.hour = int(self.np_random.integers(HOURS))
        self.body = np.array([0.5, 0.0, 0.0, 0.0])
        self.steps = 0
        self.good = 0
        self.past.clear()
        return self._observation(), {}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Live through an hour."""
        self.body = following(self.body, self.hour, np.asarray(action))
        self.body[:2] += self.drift * self.np_random.standard_normal(2)
        self.hour = (self.hour + 1) % HOURS
        self.steps += 1
        kept = bool((np.abs(self.body[:2]) <= 1).all())
        self.good += kept
        self.past.append((self.body[0], self.body[1], self.hour, int(action)))
        share = self.good / self.steps
        over = self.steps >= self.max_steps
        info = {"in_range": share, **({"success": share >= ENOUGH} if over else {})}
        return self._observation(), float(kept), False, over, info

    def _observation(self) -> dict[str, Any]:
        noise = self.noise * self.np_random.standard_normal(len(self.body))
        seen = np.clip(self.body + noise, -LIMIT, LIMIT)
        values = {n: np.array([v], np.float32) for n, v in zip(VARIABLES, seen, strict=True)}
        angle = 2 * np.pi * self.hour / HOURS
        return {**values, "clock": np.array([np.cos(angle), np.sin(angle)], np.float32)}

    def render(self) -> npt.NDArray[np.uint8]:  # type: ignore[override]
        """The last three days: energy above, temperature below, their ranges in green, nights in grey."""
        energy, temperature, hours, actions = (
            zip(*self.past, strict=True) if self.past else [()] * 4
        )
        dark = [not DAY[0] <= hour < DAY[1] for hour in hours]
        word = ACTIONS[actions[-1]] if actions else "begin"
        traces = {"energy": energy, "temperature": temperature}
        return chart(traces, dark, SHOWN, f"{self.hour:02d}:00  {word}")


def following(
    body: npt.NDArray[np.float64], hour: int, action: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """The body after an hour, noise apart.

    Args:
        body: energy, temperature, stomach, skin, `(..., 4)`.
        hour: 0 .. 23, at which the action is taken.
        action: `(...)`.
    """
    energy, temperature, stomach, skin = np.moveaxis(body, -1, 0)
    day = DAY[0] <= hour < DAY[1]
    ambient = 2.2 * np.cos(2 * np.pi * (hour - 14) / HOURS)
    heat = day * (3.0 * (action == SUN) - 4.0 * (action == SHADE)) + 3.0 * (action == SHIVER)
    skin = 0.7 * skin + 0.3 * (ambient + heat)
    stomach = 0.6 * stomach + day * (action == EAT)
    energy = energy - 0.08 - 0.03 * (action == SHIVER) + 0.26 * stomach
    temperature = 0.9 * temperature + 0.25 * skin
    return np.clip(np.stack([energy, temperature, stomach, skin], -1), -LIMIT, LIMIT)
