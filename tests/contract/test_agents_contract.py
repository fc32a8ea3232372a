"""Whatever is registered as an agent, through one checklist, in the smallest world that it can act in.

An agent is tried on the smallest instance of every registered environment, and on a world from outside the package: it
acts there, or refuses in one sentence. A module with a builder may say under `TRY_WITH` which settings are quick.
"""

from functools import cache
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from aif_dcpc import envs
from aif_dcpc.agent_runs.assembly import agent_metadata
from aif_dcpc.agents import BUILDERS, NAMES, Agent, AgentError, make
from aif_dcpc.envs.registry import ADAPTERS

OUTSIDE = ("outside_agents:Stubborn", "outside_agents:build_stubborn")
AGENTS = (*NAMES, *OUTSIDE)
WORLDS = {"worlds:Corridor": {}, **{name: adapter.smallest for name, adapter in ADAPTERS.items()}}
CORRIDOR = "worlds:Corridor"


def quick_settings(name: str) -> dict[str, Any]:
    module = import_module(BUILDERS[name].partition(":")[0]) if name in BUILDERS else None
    return dict(getattr(module, "TRY_WITH", {}))


def build(name: str, world: gymnasium.Env, *, seed: int = 0, **change: Any) -> Agent:
    given = {
        "observation_space": world.observation_space,
        "action_space": world.action_space,
        "metadata": agent_metadata(world),
        "settings": quick_settings(name),
        "seed": seed,
    }
    return make(name, **(given | change))


@cache
def homes(name: str) -> tuple[str, ...]:
    """The worlds that an agent does not refuse; every refusal is one sentence."""
    found = []
    for world, settings in WORLDS.items():
        try:
            build(name, envs.make(world, **settings))
        except AgentError as error:
            assert "\n" not in str(error)
            assert str(error).endswith(".")
        else:
            found.append(world)
    return tuple(found)


def at_home(name: str, *, seed: int = 0) -> "Life":
    """An agent in the first world that it can act in."""
    world = homes(name)[0]
    env = envs.make(world, **WORLDS[world])
    return Life(build(name, env, seed=seed), env)


class Life:
    """An agent in its world, episode after episode."""

    def __init__(self, agent: Agent, world: gymnasium.Env, *, first_seed: int = 0) -> None:
        self.agent, self.world, self.seed = agent, world, first_seed
        self.begin()

    def begin(self) -> None:
        self.observation, _ = self.world.reset(seed=self.seed)
        self.agent.begin(seed=self.seed)
        self.actions: list[int] = []

    def step(self) -> bool:
        """Act once; whether the episode ended."""
        action = self.agent.act(self.observation)
        self.actions.append(action)
        self.observation, reward, terminated, truncated, _ = self.world.step(action)
        self.agent.feedback(self.observation, float(reward), terminated, truncated)
        return terminated or truncated

    def live(self, steps: int) -> list[int]:
        """Actions of so many steps, over as many episodes as they take."""
        chosen: list[int] = []
        for _ in range(steps):
            ended = self.step()
            chosen.append(self.actions[-1])
            if ended:
                self.seed += 1
                self.begin()
        return chosen

    def copied(self, agent: Agent, world: gymnasium.Env) -> "Life":
        """The same moment with another agent, in a world that has been through the same."""
        twin = Life(agent, world, first_seed=self.seed)
        for action in self.actions:
            twin.observation, *_ = world.step(action)
        twin.actions = list(self.actions)
        return twin


@pytest.mark.parametrize("name", AGENTS)
def test_acts_somewhere(name: str) -> None:
    assert homes(name)


@pytest.mark.parametrize("name", AGENTS)
def test_acts_and_reports_wherever_it_does_not_refuse(name: str) -> None:
    for place in homes(name):
        world = envs.make(place, **WORLDS[place])
        life = Life(build(name, world), world)
        assert isinstance(life.agent, Agent)
        assert all(world.action_space.contains(action) for action in life.live(12))
        report = life.agent.report(pictures=True)
        assert all(np.isfinite(value) for value in report.scalars.values())
        for picture in report.pictures.values():
            assert picture.dtype == np.uint8
            assert picture.ndim == 3


@pytest.mark.parametrize("name", AGENTS)
def test_same_seed_same_actions(name: str) -> None:
    assert at_home(name).live(15) == at_home(name).live(15)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("before", [3, 20])
def test_goes_on_bit_for_bit_from_its_state(name: str, before: int) -> None:
    first = at_home(name)
    first.live(before)
    other = at_home(name)
    second = first.copied(other.agent, other.world)
    second.agent.load_state_dict(first.agent.state_dict())
    assert first.live(12) == second.live(12)
    reports = [without_times(life.agent.report().scalars) for life in (first, second)]
    assert same(*reports)


def without_times(scalars: Any) -> dict[str, float]:
    return {tag: value for tag, value in scalars.items() if not tag.startswith("speed/")}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("name", AGENTS)
def test_state_is_plain_data(name: str) -> None:
    life = at_home(name)
    life.live(8)
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

    check(life.agent.state_dict())


# -- the hierarchical agent in its corridor --------------------------------------------------------


def in_corridor(world: str = CORRIDOR) -> Life:
    env = envs.make(world)
    return Life(build("hierarchical", env), env)


def test_a_frozen_agent_learns_nothing() -> None:
    life = in_corridor()
    life.live(40)
    life.agent.freeze()
    before = life.agent.state_dict()["tracker"]["past"]
    life.live(30)
    assert same(before, life.agent.state_dict()["tracker"]["past"])


def test_the_hierarchical_agent_learns_the_corridor() -> None:
    life = in_corridor()
    life.live(120)
    life.agent.freeze()
    life.seed = 99
    life.begin()
    while not life.step():
        assert len(life.actions) < 8
    assert len(life.actions) == 5  # turn around, three steps


def test_renaming_tokens_changes_nothing() -> None:
    assert in_corridor().live(40) == in_corridor("worlds:Renamed").live(40)


# -- requests that cannot be met -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("hierachical", {}, "Did you mean 'hierarchical'"),
        ("hierarchical", {"settings": {"map_sise": 3}}, "Did you mean 'map_size'"),
        ("hierarchical", {"settings": {"inference": {"num_particles": 0}}}, "at least 1"),
        ("hierarchical", {"settings": {"precision": "high"}}, "precision must be of type float"),
        ("hierarchical", {"metadata": {}}, "egocentric symbolic views"),
        ("hierarchical", {"action_space": gymnasium.spaces.Box(0, 1, (2,))}, "discrete actions"),
        ("no_such_module:Agent", {}, "there is no module 'no_such_module'"),
        ("outside_agents:Stuborn", {}, "has no 'Stuborn'. Did you mean 'Stubborn'"),
        ("outside_agents:NUMBER", {}, "neither a builder nor a class"),
        ("outside_agents:takes_too_little", {}, "neither a builder nor a class"),
        ("outside_agents:ActsOnly", {}, "has no begin, feedback, report, freeze, state_dict"),
        ("outside_agents:Stubborn", {"settings": {"favorite": 1}}, "Did you mean 'favourite'"),
        (":Stubborn", {}, "module:name"),
    ],
)
def test_bad_requests_get_one_clear_sentence(name: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(AgentError, match=said) as refused:
        build(name, envs.make(CORRIDOR), **({"settings": {}} | change))
    assert "\n" not in str(refused.value)


def test_settings_reach_an_agent_from_outside() -> None:
    world = envs.make(CORRIDOR)
    observation, _ = world.reset(seed=0)
    chosen = build("outside_agents:Stubborn", world, settings={"favourite": 2, "inference": {}})
    built = build("outside_agents:build_stubborn", world, settings={"often": 1})
    assert (chosen.act(observation), built.act(observation)) == (2, 1)
