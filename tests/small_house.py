"""A house of a few rooms that an egocentric agent walks through; shared by tests of the agent around the grid model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from grid_walks import (
    BLUE_KEY,
    CARDINAL,
    FLOOR,
    LOOKS,
    RED_CLOSED,
    RED_OPEN,
    UNSEEN,
    WALL,
)

from aif_dcpc.agents.gridworld.settings import (
    HierarchicalSettings,
    InferenceSettings,
    ReplaySettings,
)
from aif_dcpc.agents.protocol import EgocentricView

VIEW = EgocentricView(
    rows=3, columns=3, own_cell=(2, 1), num_tokens=9, unseen_token=UNSEEN,
    empty_hand_token=FLOOR, looks=LOOKS,
)  # fmt: skip
LEFT, RIGHT, FORWARD, TOGGLE, PICK = range(5)
ACTIONS = 5
HERE = 8  # the token of a kind of its own, on which the episode ends (a ball elsewhere)
SETTINGS = HierarchicalSettings(
    map_size=8,
    inference=InferenceSettings(num_particles=3, num_sweeps=1),
    replay=ReplaySettings(capacity=2, refreshed=1, sweeps=1),
)


@dataclass
class House:
    """A corridor with a door, a key and an end; nothing hides what lies behind it."""

    length: int = 6
    door: int = 3
    key: int = 1

    def reset(self) -> dict[str, Any]:
        """Begin at its west end, looking east."""
        self.cells = {(y, x): WALL for y in (-1, 0, 1) for x in range(-1, self.length + 1)}
        for x in range(self.length):
            self.cells[0, x] = FLOOR
        self.cells[0, self.door] = RED_CLOSED
        self.cells[0, self.key] = BLUE_KEY
        self.cells[0, self.length - 1] = HERE
        self.place = (0, 0)
        self.heading = 0
        self.hand = FLOOR
        return self.seen()

    def ahead(self) -> tuple[int, int]:
        """The cell ahead."""
        dy, dx = CARDINAL[self.heading]
        return self.place[0] + dy, self.place[1] + dx

    def step(self, action: int) -> tuple[dict[str, Any], float, bool]:
        """Act; reward 1 and an end where the end is reached."""
        front = self.ahead()
        there = self.cells.get(front, WALL)
        if action in (LEFT, RIGHT):
            self.heading = (self.heading + (1 if action == RIGHT else 3)) % 4
        elif action == FORWARD and there in (FLOOR, RED_OPEN, HERE):
            self.place = front
        elif action == TOGGLE and there == RED_CLOSED:
            self.cells[front] = RED_OPEN
        elif action == PICK and there == BLUE_KEY:
            self.cells[front] = FLOOR
            self.hand = BLUE_KEY
        end = self.cells[self.place] == HERE
        return self.seen(), float(end), end

    def seen(self) -> dict[str, Any]:
        """The streams of an observation."""
        along = CARDINAL[self.heading]
        across = CARDINAL[(self.heading + 1) % 4]
        view = np.full((3, 3), UNSEEN)
        for row, column in np.ndindex(3, 3):
            y, x = (
                self.place[k] + (2 - row) * along[k] + (column - 1) * across[k] for k in range(2)
            )
            view[row, column] = self.cells.get((y, x), UNSEEN)
        mission = np.array([7, 0, 3, 3, 0])
        return {"view": view, "carried": self.hand, "heading": self.heading, "mission": mission}


WALKED = (PICK, FORWARD, FORWARD, TOGGLE, FORWARD, FORWARD, FORWARD)  # to the end
