"""A limit for episodes that may have no end: worlds without a time limit, under a policy that never gets there."""

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium

CUT = "cut_off"  # of a step's info


class CutOff(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Truncates an episode after so many environment steps, and says so in `info`.

    Args:
        env: any.
        limit: steps of an episode, as the environment counts them.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], limit: int) -> None:
        super().__init__(env)
        self.limit = limit
        self.steps = 0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode and count anew."""
        self.steps = 0
        return super().reset(**options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act once; at the limit the episode ends with it."""
        observation, reward, terminated, truncated, info = super().step(action)
        self.steps += int(info.get("env_steps", 1))
        if self.steps < self.limit or terminated or truncated:
            return observation, reward, terminated, truncated, info
        return observation, reward, terminated, True, {**info, CUT: True}


def is_cut_off(info: Mapping[str, Any]) -> bool:
    """Tell whether the step that this came with was the last because of the limit alone."""
    return bool(info.get(CUT, False))


def limit_reached(cut_off: Iterable[bool], limit: int) -> str | None:
    """Say in one sentence that episodes were cut off; None where none was.

    >>> print(limit_reached([True, False], 100))
    1 of 2 episodes had no end within 100 environment steps and was cut off there: what is reported of it is \
what came until then; max_episode_steps=N moves that limit.
    """
    found = list(cut_off)
    number = sum(found)
    if not number:
        return None
    verb, pronoun = ("was", "it") if number == 1 else ("were", "them")
    return (
        f"{number} of {len(found)} episodes had no end within {limit} environment steps and {verb} cut off there: "
        f"what is reported of {pronoun} is what came until then; max_episode_steps=N moves that limit."
    )
