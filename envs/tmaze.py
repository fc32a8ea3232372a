"""A T-maze with a cue: one arm holds a reward, and a detour to the cue tells which.

Locations: 0 centre, 1 left arm, 2 right arm, 3 cue. Action i goes to location i. Arms end the
episode. The stream `cue` reads 0 away from the cue, else 1 or 2 for the side it points to;
`outcome` reads 0, or in an arm 1 (no reward) or 2.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from aif_dcpc.envs.drawing import DRAWN, board
from aif_dcpc.envs.endings import ending
from aif_dcpc.envs.errors import check_setting

CENTRE, LEFT, RIGHT, CUE = range(4)
CELLS = {CENTRE: (0, 1), LEFT: (0, 0), RIGHT: (0, 2), CUE: (1, 1)}  # (row, column) in a picture


class TMaze(gym.Env[dict[str, Any], int]):
    """The T-maze with its cue.

    Args:
        cue_reliability: probability that the cue points to the rewarded side (.5 to 1).
        reward_probability: probability of reward in the right arm of the two (0 to 1).
        max_steps: steps after which the episode is truncated.
        cue_at_centre: whether the cue is shown at the centre as well, so that no detour is needed.
    """

    metadata: dict[str, Any] = DRAWN

    def __init__(
        self,
        cue_reliability: float = 0.95,
        reward_probability: float = 1.0,
        max_steps: int = 10,
        cue_at_centre: bool = False,
        render_mode: str | None = None,
    ) -> None:
        check_setting("cue_reliability", cue_reliability, 0.5, 1)
        check_setting("reward_probability", reward_probability, 0, 1)
        self.cue_reliability = cue_reliability
        self.reward_probability = reward_probability
        self.max_steps = max_steps
        self.cue_at_centre = cue_at_centre
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(4)  # type: ignore[assignment]
        self.observation_space = spaces.Dict(
            location=spaces.Discrete(4), cue=spaces.Discrete(3), outcome=spaces.Discrete(3)
        )
        self.location = CENTRE
        self.side = LEFT
        self.pointed = LEFT
        self.steps = 0
        self.told = False

    def describe_action(self, action: int) -> str:
        """Where an action goes."""
        return ("centre", "left arm", "right arm", "cue")[action]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Hide the reward and stand at the centre."""
        super().reset(seed=seed)
        self.side = int(self.np_random.integers(LEFT, RIGHT + 1))
        honest = self.np_random.random() < self.cue_reliability
        self.pointed = self.side if honest else LEFT + RIGHT - self.side
        self.location = CENTRE
        self.steps = 0
        self.told = False
        return self._observation(0), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go to a location; arms are terminal."""
        self.location = int(action)
        self.steps = self.steps + 1
        self.told = self.told or self.location == CUE
        outcome, rest = ending(
            self.np_random,
            ended=self.location in (LEFT, RIGHT),
            right=self.location == self.side,
            chance=self.reward_probability,
            out_of_time=self.steps >= self.max_steps,
        )
        return self._observation(outcome), *rest

    def _observation(self, outcome: int) -> dict[str, Any]:
        shown = self.location == CUE or (self.cue_at_centre and self.location == CENTRE)
        cue = self.pointed if shown else 0
        return {
            "location": np.int64(self.location),
            "cue": np.int64(cue),
            "outcome": np.int64(outcome),
        }

    def render(self) -> npt.NDArray[np.uint8]:  # type: ignore[override]
        """The maze from above: the rewarded arm in green, the cue with its word once it has been read."""
        arms = {CELLS[arm]: ("win" if arm == self.side else "lose", "arm") for arm in (LEFT, RIGHT)}
        word = ("left" if self.pointed == LEFT else "right") if self.told else "cue"
        cells = {**arms, CELLS[CENTRE]: ("floor", ""), CELLS[CUE]: ("cue", word)}
        return board(2, 3, cells, CELLS[self.location], missing="unseen")
