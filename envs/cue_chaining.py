"""Two cues on a grid: the first tells where the second is, the second which end is rewarded.

The grid is 5 x 7, cells numbered row by row. The agent begins in a corner, the first cue lies at
(2, 0); the second at one of four places, (0, 2), (1, 3), (3, 3), (4, 2); the ends at (1, 5) and
(3, 5) end the episode. Actions: 0 up, 1 down, 2 left, 3 right, 4 stay; walls hold. Streams:

    location   0 .. 34
    cue_1      0 away from the first cue, else 1 .. 4: the place of the second
    cue_2      0 away from the second cue, else 1 or 2: the upper or the lower end is rewarded
    outcome    0, or at an end 1 (no reward) or 2 (reward)

References:
    The task of pymdp's demonstration "cue chaining".
"""

from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from aif_dcpc.envs.drawing import DRAWN, board
from aif_dcpc.envs.endings import ending
from aif_dcpc.envs.errors import check_setting

ROWS = 5
COLUMNS = 7
START = (0, 0)
FIRST = (2, 0)
SECOND = ((0, 2), (1, 3), (3, 3), (4, 2))
ENDS = ((1, 5), (3, 5))
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))
Cell = tuple[int, int]


class CueChaining(gym.Env[dict[str, Any], int]):
    """The grid with its two cues; the reward is 1 at the end that the second cue tells.

    Args:
        reward_probability: probability of reward at the rewarded end, and of none at the other (0
            to 1).
        max_steps: steps after which the episode is truncated.
    """

    metadata: dict[str, Any] = DRAWN

    def __init__(
        self,
        reward_probability: float = 1.0,
        max_steps: int = 20,
        render_mode: str | None = None,
    ) -> None:
        check_setting("reward_probability", reward_probability, 0, 1)
        self.reward_probability = reward_probability
        self.max_steps = max_steps
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(len(MOVES))  # type: ignore[assignment]
        self.observation_space = spaces.Dict(
            location=spaces.Discrete(ROWS * COLUMNS),
            cue_1=spaces.Discrete(len(SECOND) + 1),
            cue_2=spaces.Discrete(len(ENDS) + 1),
            outcome=spaces.Discrete(3),
        )
        self.place = 0
        self.rewarded = 0
        self.cell = START
        self.steps = 0
        self.told = [False, False]

    def describe_action(self, action: int) -> str:
        """Where an action goes."""
        return ("up", "down", "left", "right", "stay")[action]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Hide the second cue and the reward, and stand in the corner."""
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(len(SECOND)))
        self.rewarded = int(self.np_random.integers(len(ENDS)))
        self.cell = START
        self.steps = 0
        self.told = [False, False]
        return self._observation(0), {}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Move to a neighbouring cell; the ends are terminal."""
        self.cell = moved(self.cell, int(action))
        self.steps += 1
        outcome, rest = ending(
            self.np_random,
            ended=self.cell in ENDS,
            right=self.cell == ENDS[self.rewarded],
            chance=self.reward_probability,
            out_of_time=self.steps >= self.max_steps,
        )
        return self._observation(outcome), *rest

    def shortest_path(self) -> int:
        """Fewest steps from the beginning to the rewarded end by way of both cues."""
        stations = (START, FIRST, SECOND[self.place], ENDS[self.rewarded])
        pairs = pairwise(stations)
        return sum(abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in pairs)

    def _observation(self, outcome: int) -> dict[str, Any]:
        at_cue = (self.cell == FIRST, self.cell == SECOND[self.place])
        self.told = [told or here for told, here in zip(self.told, at_cue, strict=True)]
        return {
            "location": np.int64(self.cell[0] * COLUMNS + self.cell[1]),
            "cue_1": np.int64((self.place + 1) * at_cue[0]),
            "cue_2": np.int64((self.rewarded + 1) * at_cue[1]),
            "outcome": np.int64(outcome),
        }

    def render(self) -> npt.NDArray[np.uint8]:  # type: ignore[override]
        """The grid: cues in yellow, with their word once read; the rewarded end in green."""
        cells = {cell: ("floor", "2?") for cell in SECOND}
        cells[SECOND[self.place]] = ("cue", "2" + (" up", " dn")[self.rewarded] * self.told[1])
        cells[FIRST] = ("cue", "1" + f" {'ABCD'[self.place]}" * self.told[0])
        for index, cell in enumerate(ENDS):
            cells[cell] = ("win", "end") if index == self.rewarded else ("lose", "end")
        return board(ROWS, COLUMNS, cells, self.cell)


def moved(cell: Cell, action: int) -> Cell:
    """The cell to which an action leads; one that would leave the grid stays."""
    row = cell[0] + MOVES[action][0]
    column = cell[1] + MOVES[action][1]
    return (row, column) if 0 <= row < ROWS and 0 <= column < COLUMNS else cell
