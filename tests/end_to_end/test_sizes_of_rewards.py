"""Worlds in which rewards differ in size: the grid agent learns it, and goes by it; with sizes taken away it does not."""

import io
from collections.abc import Iterator, Sequence

import gymnasium
import numpy as np
import pytest
import torch
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Goal, Lava
from minigrid.minigrid_env import MiniGridEnv

from aif_dcpc import envs
from aif_dcpc.agent_runs.assembly import make_agent
from aif_dcpc.agents.gridworld.agent import HierarchicalAgent
from aif_dcpc.agents.gridworld.rewards import Sizes

LEFT, RIGHT, FORWARD = range(3)
EAST, WEST, NORTH = 0, 2, 3
SETTINGS = {"map_size": 16, "inference": {"num_particles": 4, "num_sweeps": 1}}


class Row(MiniGridEnv):
    """Cells 1, 2, ... in a row, walls around; it begins in one of them, or anywhere."""

    cells: int
    ends: tuple[str, str]  # what stands in the first and the last

    def __init__(self, cell: int | None = None, facing: int = NORTH) -> None:
        self.start = cell
        self.facing = facing
        mission = MissionSpace(lambda: "go")
        super().__init__(mission_space=mission, width=self.cells + 2, height=3, max_steps=40)

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        for x, name in ((1, self.ends[0]), (self.cells, self.ends[1])):
            thing = Lava() if name == "lava" else Goal()
            thing.color = "red" if name in ("lava", "red") else name
            self.grid.set(x, 1, thing)
        anywhere = self.start is None
        self.agent_pos = int(self.np_random.integers(2, self.cells)) if anywhere else self.start, 1
        self.agent_dir = int(self.np_random.integers(4)) if anywhere else self.facing
        self.mission = "go"


class TwoGoals(Row):
    """A red goal brings .2, a green one 1."""

    cells = 7
    ends = "red", "green"

    def _reward(self) -> float:
        return 0.2 if self.grid.get(*self.agent_pos).color == "red" else 1.0


class Toll(Row):
    """Each step costs .01, the lava 1; the goal brings 1."""

    cells = 12
    ends = "lava", "green"

    def step(self, action: int):
        observation, _, terminated, truncated, info = super().step(action)
        here = self.grid.get(*self.agent_pos)
        dead = here is not None and here.type == "lava"
        reward = -1.0 if dead else float(terminated) - 0.01
        return observation, reward, terminated, truncated, info


gymnasium.register("TwoGoals-v0", TwoGoals)
gymnasium.register("Toll-v0", Toll)


def world(name: str, **options: int) -> gymnasium.Env:
    return envs.make("MiniGrid", id=f"{name}-v0", **options)


def agent_for(env: gymnasium.Env, discount: float = 0.97) -> HierarchicalAgent:
    preferences = {"discount": discount}
    return make_agent("hierarchical", {**SETTINGS, "preferences": preferences}, env, 0)


def live(
    agent: HierarchicalAgent, env: gymnasium.Env, seed: int, actions: Sequence[int] = ()
) -> float:
    """The last reward of an episode; the first actions may be given."""
    given = list(actions)
    choose = agent._choose
    agent._choose = lambda plan, greedy: given.pop(0) if given else choose(plan, greedy)
    seen, _ = env.reset(seed=seed)
    agent.begin(seed=seed)
    over = False
    while not over:
        seen, reward, terminated, truncated, _ = env.step(agent.act(seen))
        agent.feedback(seen, reward, terminated, truncated)
        over = terminated or truncated
    agent._choose = choose
    return reward


def frozen(agent: HierarchicalAgent, env: gymnasium.Env) -> HierarchicalAgent:
    """A frozen agent that knows the same, as it comes out of a file."""
    file = io.BytesIO()
    torch.save(agent.state_dict(), file)
    file.seek(0)
    twin = agent_for(env, agent.settings.preferences.discount)
    twin.load_state_dict(torch.load(file, weights_only=True))
    twin.freeze()
    return twin


@pytest.fixture(params=["sizes", "signs"])
def sized(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether sizes count; or all rewards do as one."""
    if request.param == "signs":
        monkeypatch.setattr(Sizes, "worth", None)
    return request.param == "sizes"


@pytest.fixture(scope="module")
def rich() -> HierarchicalAgent:
    """It has lived ten episodes between two goals."""
    env = world("TwoGoals")
    agent = agent_for(env)
    for seed in range(10):
        live(agent, env, seed)
    return agent


@pytest.fixture(scope="module")
def wary() -> HierarchicalAgent:
    """It was led into the lava and to the goal, twice each."""
    env = world("Toll", cell=2, facing=EAST)
    agent = agent_for(env, 0.9)
    for seed, actions in enumerate([[RIGHT, RIGHT, FORWARD], [FORWARD] * 10] * 2):
        live(agent, env, seed, actions)
    return agent


def test_a_large_reward_is_worth_a_longer_way(rich: HierarchicalAgent, sized: bool) -> None:
    """Two steps to the red goal, four to the green one, and a turn."""
    env = world("TwoGoals", cell=3)
    agent = frozen(rich, env)
    assert [live(agent, env, seed) for seed in range(3)] == [1.0 if sized else 0.2] * 3


@pytest.mark.parametrize("facing", [EAST, NORTH])
def test_small_costs_are_no_reason_to_die(
    wary: HierarchicalAgent, sized: bool, facing: int
) -> None:
    """Ten steps to the goal: were each as bad as lava, this were the sooner end."""
    env = world("Toll", cell=2, facing=facing)
    reward = live(frozen(wary, env), env, 0)
    assert reward == pytest.approx(0.99 if sized else -1.0)


def test_sizes_go_on_bit_for_bit(wary: HierarchicalAgent) -> None:
    """In the midst of an episode with a reward at each step."""
    env = world("Toll", cell=2, facing=WEST)
    first = frozen(wary, env)
    seen, _ = env.reset(seed=5)
    first.begin(seed=5)
    for _ in range(3):
        seen, *after, _ = env.step(first.act(seen))
        first.feedback(seen, *after)
    second = frozen(first, env)
    assert second.episode_filter.episode.reward == [0.0, -0.01, -0.01]
    assert first.act(seen) == second.act(seen)
    assert np.array_equal(first.plan.risk, second.plan.risk)
    assert first.episode_filter.episode.reward == second.episode_filter.episode.reward
