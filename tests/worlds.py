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


class Steered(gymnasium.Env):
    """Box actions, and observations in a Dict in a Tuple: where it is, drawn on by noise, and what was done last.

    The episode ends after nine steps, or when the point leaves -4 .. 4.
    """

    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    observation_space = gymnasium.spaces.Tuple(
        (
            gymnasium.spaces.Dict(
                place=gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64),
                late=gymnasium.spaces.MultiBinary(2),
            ),
            gymnasium.spaces.Discrete(10, start=5),
        )
    )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.place, self.steps = np.zeros(2), 0
        return self.look(), {}

    def step(self, action):
        assert action.dtype == np.float32
        self.steps += 1
        self.place = self.place + action + 0.1 * self.np_random.standard_normal(2)
        gone = bool((np.abs(self.place) > 4).any())
        return self.look(), float(self.place[0]), gone, self.steps >= 9 and not gone, {}

    def look(self):
        late = np.array([self.steps > 4, self.steps > 7], np.int8)
        return ({"place": self.place.copy(), "late": late}, np.int64(5 + self.steps))


class Counted(gymnasium.Env):
    """Actions and observations that do not count from 0: it shows the action that it was sent."""

    action_space = gymnasium.spaces.Discrete(3, start=7)
    observation_space = gymnasium.spaces.Discrete(4, start=6)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        return np.int64(6), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return np.int64(action), 1.0, False, False, {}


class Unseeded(Counted):
    """It does not hand its seed to Gymnasium."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        return np.int64(6), {}


class Levers(Counted):
    """Several levers at once, which do not count from 0 either."""

    action_space = gymnasium.spaces.MultiDiscrete([2, 3], start=[1, 5])
    observation_space = gymnasium.spaces.MultiDiscrete([2, 3], start=[1, 5])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        return np.array([1, 5]), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return action, 1.0, False, False, {}


class Spoken(Bare):
    """It says what no agent here can read."""

    observation_space = gymnasium.spaces.Dict(
        here=gymnasium.spaces.Discrete(2), words=gymnasium.spaces.Text(5)
    )


class Twice(Bare):
    """Two streams of one name."""

    observation_space = gymnasium.spaces.Dict(
        {
            "a_b": gymnasium.spaces.Discrete(2),
            "a": gymnasium.spaces.Dict(b=gymnasium.spaces.Discrete(2)),
        }
    )


class Handed(Bare):
    """Its actions are a dictionary."""

    action_space = gymnasium.spaces.Dict(left=gymnasium.spaces.Discrete(2))


class Boundless(Bare):
    """Its actions have no bounds."""

    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))


def needs_more(**_: Any) -> gymnasium.Env:
    """A world that stands on a package which nobody has."""
    import no_such_package  # noqa: F401

    return Bare()


gymnasium.register("NeedsMore-v0", entry_point=needs_more)
gymnasium.register("Absent-v0", entry_point="no_such_package:World")


class Picky(Bare):
    """A world that has nothing but an assertion against its option."""

    def __init__(self, size: int = 3) -> None:
        assert size % 2


class Broken(Bare):
    """A world that its author has not finished."""

    def __init__(self) -> None:
        raise KeyError("broken")


gymnasium.register("Lab/Corridor-v0", entry_point="minigrid.envs:EmptyEnv", kwargs={"size": 6})


class Endless(gymnasium.Env):
    """Nothing ever ends it."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Discrete(2)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int):
        return int(action), 1.0, False, False, {}
