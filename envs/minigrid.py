"""MiniGrid as streams of integers: what lies ahead, what is carried, which way the agent looks, the mission's words.

`view[r, c]` is drawn as the agent sees it: row 0 farthest ahead, the agent in the middle of the
last row. (MiniGrid indexes its image `[x, y]`, and shows the carried object in the agent's own
cell: here it is the stream `carried`, and the own cell holds the unseen token.) A token folds
MiniGrid's (type, colour, state) into one integer.
"""

import functools
import re
import zlib
from typing import Any

import gymnasium as gym
import gymnasium.utils
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from minigrid.core.constants import COLOR_TO_IDX, IDX_TO_COLOR, IDX_TO_OBJECT, OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.world_object import Door, WorldObj

from aif_dcpc.envs.errors import UnsupportedEnvironment

NUM_COLORS = len(COLOR_TO_IDX)
NUM_STATES = 3
NUM_TOKENS = len(OBJECT_TO_IDX) * NUM_COLORS * NUM_STATES
MISSION_WORDS = 48  # of a mission are read
LARGEST_WORD = 2**31 - 1
STATES = ("open", "closed", "locked")
TILE = 24  # pixels along a side
IntArray = npt.NDArray[np.int64]


def to_token(cells: npt.NDArray[Any]) -> IntArray:
    """Fold `(..., 3)` MiniGrid cells into tokens `(...)`."""
    kind, color, state = (cells[..., i].astype(np.int64) for i in range(3))
    return (kind * NUM_COLORS + color) * NUM_STATES + state


UNSEEN = int(to_token(np.array([OBJECT_TO_IDX["unseen"], 0, 0])))
EMPTY = int(to_token(np.array([OBJECT_TO_IDX["empty"], 0, 0])))
# kind, colour and state of every token
LOOKS = np.stack(
    np.unravel_index(np.arange(NUM_TOKENS), (len(OBJECT_TO_IDX), NUM_COLORS, NUM_STATES))
)


def to_words(mission: str) -> IntArray:
    """Words as numbers without a meaning, in their order, `(MISSION_WORDS,)`; 0 pads."""
    words = re.findall(r"\w+", mission.lower())[:MISSION_WORDS]
    numbers = np.zeros(MISSION_WORDS, np.int64)
    numbers[: len(words)] = [1 + zlib.crc32(word.encode()) % LARGEST_WORD for word in words]
    return numbers


def describe_token(token: int) -> str:
    """A token in words, such as "yellow door (locked)"."""
    rest, state = divmod(token, NUM_STATES)
    kind, color = divmod(rest, NUM_COLORS)
    name = IDX_TO_OBJECT[kind]
    if name in ("unseen", "empty"):
        return name
    return f"{IDX_TO_COLOR[color]} {name}" + (f" ({STATES[state]})" if name == "door" else "")


@functools.cache
def token_tile(token: int) -> npt.NDArray[np.uint8]:
    """A token as MiniGrid draws it, `(TILE, TILE, 3)`; what is unseen is dark."""
    rest, state = divmod(token, NUM_STATES)
    kind, color = divmod(rest, NUM_COLORS)
    name = IDX_TO_OBJECT[kind]
    thing: WorldObj | None = None
    if name == "door":
        thing = Door(IDX_TO_COLOR[color], is_open=state == 0, is_locked=state == 2)
    elif name not in ("unseen", "empty", "agent"):
        thing = WorldObj.decode(kind, color, state)
    tile: npt.NDArray[np.uint8] = Grid.render_tile(thing, tile_size=TILE)
    return tile // 4 if name == "unseen" else tile


class MiniGridStreams(gym.Wrapper[dict[str, Any], int, Any, Any], gym.utils.RecordConstructorArgs):
    """Lay a MiniGrid environment out as the streams `view`, `carried`, `heading` and `mission`.

    Args:
        env: a MiniGrid environment.
        misread: probability (0 to 1) that a seen cell, independently of the others, is read as a
            uniformly drawn token of this episode's grid. Heading and carried object are never
            misread.

    Raises:
        UnsupportedEnvironment: if the observation is not MiniGrid's.
    """

    def __init__(self, env: gym.Env[Any, Any], *, misread: float = 0.0) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, misread=misread)
        gym.Wrapper.__init__(self, env)
        self.misread = misread
        space = env.observation_space
        if not isinstance(space, spaces.Dict) or not {"image", "direction"} <= set(space.spaces):
            raise UnsupportedEnvironment(
                f"{env}: expected MiniGrid's image and direction, found {space}; "
                "choose a MiniGrid-* id or env=Gymnasium."
            )
        columns, rows = space["image"].shape[:2]  # type: ignore[index]
        self.own_cell = (rows - 1, columns // 2)
        self.observation_space = spaces.Dict(
            view=spaces.Box(0, NUM_TOKENS - 1, (rows, columns), np.int64),
            carried=spaces.Discrete(NUM_TOKENS),
            heading=spaces.Discrete(4),
            mission=spaces.Box(0, LARGEST_WORD, (MISSION_WORDS,), np.int64),
        )
        self.metadata = {
            **env.metadata,
            "egocentric_view": dict(
                rows=rows,
                columns=columns,
                own_cell=self.own_cell,
                num_tokens=NUM_TOKENS,
                unseen_token=UNSEEN,
                empty_hand_token=EMPTY,
                looks=LOOKS,
            ),
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode and lay its first view out."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._streams(observation), self._info(observation, info)

    def step(self, action: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act; an end that is both terminated and truncated counts as terminated."""
        observation, reward, terminated, truncated, info = self.env.step(int(action))
        info = self._info(observation, info)
        if terminated or truncated:
            info["success"] = bool(terminated and float(reward) > 0)
        return (
            self._streams(observation),
            float(reward),
            bool(terminated),
            bool(truncated and not terminated),
            info,
        )

    def describe_token(self, token: int) -> str:
        """A token in words."""
        return describe_token(token)

    def token_tile(self, token: int) -> npt.NDArray[np.uint8]:
        """How a token looks, `(TILE, TILE, 3)`."""
        return token_tile(token)

    def describe_action(self, action: int) -> str:
        """An action in a word."""
        return str(self.unwrapped.actions(action).name)  # type: ignore[attr-defined]

    def shortest_path(self) -> int | None:
        """Least number of steps from the present state to the goal; None where it is not known."""
        from aif_dcpc.envs.shortest_path import shortest_path

        return shortest_path(self.unwrapped)

    def _info(self, observation: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
        return {**info, "mission": str(observation.get("mission", ""))}

    def _streams(self, observation: dict[str, Any]) -> dict[str, Any]:
        view = to_token(observation["image"]).T.copy()
        carried = int(view[self.own_cell])
        view[self.own_cell] = UNSEEN
        if self.misread:
            view = self._blur(view)
        return {
            "view": view,
            "carried": np.int64(carried),
            "heading": np.int64(observation["direction"]),
            "mission": to_words(str(observation.get("mission", ""))),
        }

    def _blur(self, view: IntArray) -> IntArray:
        generator = self.unwrapped.np_random
        tokens = np.unique(to_token(self.unwrapped.grid.encode()))  # type: ignore[attr-defined]
        wrong = (generator.random(view.shape) < self.misread) & (view != UNSEEN)
        blurred: IntArray = np.where(
            wrong, generator.choice(tokens[tokens != UNSEEN], view.shape), view
        )
        return blurred
