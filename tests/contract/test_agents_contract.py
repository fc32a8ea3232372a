"""Every registered agent through one checklist, on a corridor world of four cells with its own tokens."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from aif_dcpc.agents import NAMES, Agent, AgentError, make
from aif_dcpc.agents.protocol import EgocentricView

FLOOR, WALL, GOAL, UNSEEN, EMPTY = 5, 9, 2, 0, 7
VIEW = EgocentricView(
    rows=3, columns=3, own_cell=(2, 1), num_tokens=10, unseen_token=UNSEEN, empty_hand_token=EMPTY
)
SPACE = gymnasium.spaces.Dict(
    view=gymnasium.spaces.Box(0, 9, (3, 3), np.int64),
    carried=gymnasium.spaces.Discrete(10),
    heading=gymnasium.spaces.Discrete(4),
)
SETTINGS = {
    "hierarchical": {"map_size": 12, "inference": {"num_particles": 4, "num_sweeps": 1}},
    "random": {},
}


class Corridor:
    """Cells 0..3 in a row, walls around, a goal in cell 3; action 2 steps ahead, 0 and 1 turn left and right."""

    def reset(self) -> dict[str, Any]:
        self.x, self.heading = 0, 2
        return self.look()

    def token(self, y: int, x: int) -> int:
        return (GOAL if x == 3 else FLOOR) if y == 0 and 0 <= x <= 3 else WALL

    def look(self) -> dict[str, Any]:
        ahead = [(0, 1), (1, 0), (0, -1), (-1, 0)]
        (fy, fx), (ry, rx) = ahead[self.heading], ahead[(self.heading + 1) % 4]
        view = np.full((3, 3), UNSEEN)
        for row in range(3):
            for column in range(3):
                f, r = 2 - row, column - 1
                view[row, column] = self.token(f * fy + r * ry, self.x + f * fx + r * rx)
        view[2, 1] = UNSEEN
        return {"view": view, "carried": np.int64(EMPTY), "heading": np.int64(self.heading)}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool]:
        self.heading = (self.heading + {0: 3, 1: 1}.get(action, 0)) % 4
        if action == 2 and self.heading in (0, 2):
            self.x = min(max(self.x + 1 - self.heading, 0), 3)
        return self.look(), float(self.x == 3), self.x == 3


class Renamed(Corridor):
    """The same with other tokens; only "unseen" and "empty hand" keep their names, which the agent is told."""

    def token(self, y: int, x: int) -> int:
        return {FLOOR: 8, WALL: 1, GOAL: 6}[super().token(y, x)]


def build(name: str, seed: int = 0) -> Agent:
    return make(
        name,
        observation_space=SPACE,
        action_space=gymnasium.spaces.Discrete(3),
        metadata={"egocentric_view": VIEW},
        settings=SETTINGS[name],
        seed=seed,
    )


def play(
    agent: Agent, steps: int, *, seed: int = 0, start: tuple[Corridor, dict[str, Any]] | None = None
) -> list[int]:
    """Actions of so many steps, over as many episodes as they take (30 steps at most each)."""
    world, observation = start or (Corridor(), {})
    chosen: list[int] = []
    if start is None:
        observation = world.reset()
        agent.begin(seed=seed)
    for step in range(steps):
        action = agent.act(observation)
        chosen.append(action)
        observation, reward, terminated = world.step(action)
        truncated = step % 30 == 29
        agent.feedback(observation, reward, terminated, truncated)
        if terminated or truncated:
            observation = world.reset()
            agent.begin(seed=seed + step + 1)
    return chosen


@pytest.mark.parametrize("name", NAMES)
def test_acts_and_reports(name: str) -> None:
    agent = build(name)
    assert isinstance(agent, Agent)
    assert set(play(agent, 12)) <= {0, 1, 2}
    report = agent.report(pictures=True)
    assert all(np.isfinite(value) for value in report.scalars.values())
    for picture in report.pictures.values():
        assert picture.dtype == np.uint8
        assert picture.ndim == 3


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_actions(name: str) -> None:
    assert play(build(name), 15) == play(build(name), 15)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", [3, 20])
def test_goes_on_bit_for_bit_from_its_state(name: str, before: int) -> None:
    first = build(name)
    world = Corridor()
    observation = world.reset()
    first.begin(seed=0)
    for _ in range(before):
        observation, reward, terminated = world.step(first.act(observation))
        first.feedback(observation, reward, terminated, False)
        if terminated:
            observation = world.reset()
            first.begin(seed=1)
    second = build(name, seed=0)
    second.load_state_dict(first.state_dict())
    twin = Corridor()
    twin.x, twin.heading = world.x, world.heading
    actions = [
        play(a, 12, start=(w, dict(observation))) for a, w in ((first, world), (second, twin))
    ]
    assert actions[0] == actions[1]
    assert same(without_times(first.report().scalars), without_times(second.report().scalars))


def without_times(scalars: Any) -> dict[str, float]:
    return {tag: value for tag, value in scalars.items() if not tag.startswith("speed/")}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("name", NAMES)
def test_state_is_plain_data(name: str) -> None:
    agent = build(name)
    play(agent, 8)
    plain = (int, float, str, bool, type(None), torch.Tensor)

    def check(value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                assert isinstance(key, str)
                check(item)
        elif isinstance(value, list):
            for item in value:
                check(item)
        else:
            assert isinstance(value, plain), type(value)

    check(agent.state_dict())


def test_a_frozen_agent_learns_nothing() -> None:
    agent = build("hierarchical")
    play(agent, 40)
    agent.freeze()
    before = agent.state_dict()["tracker"]["past"]
    play(agent, 30, seed=5)
    assert same(before, agent.state_dict()["tracker"]["past"])


def test_the_hierarchical_agent_learns_the_corridor() -> None:
    agent = build("hierarchical")
    play(agent, 60)
    agent.freeze()
    world = Corridor()
    observation = world.reset()
    agent.begin(seed=99)
    for length in range(1, 8):
        observation, _, done = world.step(agent.act(observation))
        if done:
            break
    assert done
    assert length == 5  # turn around, three steps


def test_renaming_tokens_changes_nothing() -> None:
    actions = []
    for world in (Corridor(), Renamed()):
        agent = build("hierarchical")
        observation = world.reset()
        agent.begin(seed=0)
        actions.append(play(agent, 40, start=(world, observation)))
    assert actions[0] == actions[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "hierachical"}, "Did you mean 'hierarchical'"),
        ({"settings": {"map_sise": 3}}, "Did you mean 'map_size'"),
        ({"settings": {"inference": {"num_particles": 0}}}, "at least 1"),
        ({"settings": {"precision": "high"}}, "precision must be of type float"),
        ({"metadata": {}}, "egocentric symbolic views"),
        ({"action_space": gymnasium.spaces.Box(0, 1, (2,))}, "discrete actions"),
    ],
)
def test_bad_requests_get_one_clear_sentence(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {
        "name": "hierarchical",
        "observation_space": SPACE,
        "action_space": gymnasium.spaces.Discrete(3),
        "metadata": {"egocentric_view": VIEW},
        "settings": {},
        "seed": 0,
    }
    given |= change
    with pytest.raises(AgentError, match=said):
        make(given.pop("name"), **given)
