"""Small worlds that stand outside the package, as a user's own would: `worlds:Corridor`."""

from typing import Any, ClassVar

import gymnasium
import numpy as np

FLOOR, WALL, GOAL = 5, 9, 2
UNSEEN, EMPTY_HAND = 0, 7
AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))  # (dy, dx) by heading


class Corridor(gymnasium.Env):
    """Cells 0..3 in a row, walls around, a goal in cell 3; action 2 steps ahead, 0 and 1 turn left and right."""

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": [],
        "egocentric_view": {
            "rows": 3,
            "columns": 3,
            "own_cell": (2, 1),
            "num_tokens": 10,
            "unseen_token": UNSEEN,
            "empty_hand_token": EMPTY_HAND,
        },
    }

    def __init__(self, max_steps: int = 30) -> None:
        self.max_steps = max_steps
        self.action_space = gymnasium.spaces.Discrete(3)
        self.observation_space = gymnasium.spaces.Dict(
            view=gymnasium.spaces.Box(0, 9, (3, 3), np.int64),
            carried=gymnasium.spaces.Discrete(10),
            heading=gymnasium.spaces.Discrete(4),
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.x, self.heading, self.steps = 0, 2, 0
        return self.look(), {}

    def step(self, action: int):
        self.steps += 1
        self.heading = (self.heading + {0: 3, 1: 1}.get(int(action), 0)) % 4
        if action == 2 and self.heading in (0, 2):
            self.x = min(max(self.x + 1 - self.heading, 0), 3)
        arrived = self.x == 3
        late = self.steps >= self.max_steps and not arrived
        return self.look(), float(arrived), arrived, late, {}

    def token(self, y: int, x: int) -> int:
        if y != 0 or not 0 <= x <= 3:
            return WALL
        return GOAL if x == 3 else FLOOR

    def look(self) -> dict[str, Any]:
        forward_y, forward_x = AHEAD[self.heading]
        right_y, right_x = AHEAD[(self.heading + 1) % 4]
        view = np.full((3, 3), UNSEEN)
        for row in range(3):
            for column in range(3):
                forward, right = 2 - row, column - 1
                y = forward * forward_y + right * right_y
                x = self.x + forward * forward_x + right * right_x
                view[row, column] = self.token(y, x)
        view[2, 1] = UNSEEN
        return {"view": view, "carried": np.int64(EMPTY_HAND), "heading": np.int64(self.heading)}


class Renamed(Corridor):
    """The same with other tokens; only "unseen" and "empty hand" keep their names, which an agent is told."""

    def token(self, y: int, x: int) -> int:
        return {FLOOR: 8, WALL: 1, GOAL: 6}[super().token(y, x)]


def not_a_world() -> str:
    return "a text"


class Bare(gymnasium.Env):
    """One number is observed, and the episode never ends by itself."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        return np.int64(0), {}

    def step(self, action: int):
        return np.int64(action), 0.0, False, False, {}


gymnasium.register("Bare-v0", entry_point=Bare)
