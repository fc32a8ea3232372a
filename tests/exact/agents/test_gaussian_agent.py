"""The agent of continuous worlds, in a world whose equations are known."""

import gymnasium
import numpy as np
import pytest
import torch

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.gaussian.agent import GaussianAgent
from aif_dcpc.agents.gaussian.preferences import WISHES, find_wish
from aif_dcpc.agents.gaussian.requirements import DEFAULTS

SMALL = {"num_waves": 12, "horizon": 6, "candidates": 16, "inference": {"num_particles": 4}}


class Slide(gymnasium.Env):
    """A point on a line that is pushed: speed and place follow linearly; done beyond 1."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.normal(0, 0.1, 2)
        return self.place.copy(), {}

    def step(self, action):
        x, v = self.place
        self.place = np.array([x + 0.1 * v, 0.9 * v + 0.2 * float(action[0])])
        return self.place.copy(), -float(x**2), bool(x > 1), False, {}


def prefer_far(state, action):
    return -0.5 * (state[..., 0] - 1.0).square() / 0.1


def slide_agent(seed=0, **settings):
    space = gymnasium.spaces.Dict(state=Slide.observation_space)
    return GaussianAgent.build(
        space,
        Slide.action_space,
        {},
        {**SMALL, "preference": f"{__name__}:prefer_far", **settings},
        seed,
    )


def live(agent, steps, env=None, first=0):
    env = env or Slide()
    observation, _ = env.reset(seed=first)
    agent.begin(seed=first)
    actions = []
    for _ in range(steps):
        actions.append(agent.act({"state": observation}))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        agent.feedback({"state": observation}, reward, terminated, truncated)
        if terminated:
            first += 1
            observation, _ = env.reset(seed=first)
            agent.begin(seed=first)
    return actions, env, observation


@pytest.fixture
def wish(monkeypatch):
    monkeypatch.setitem(WISHES, "far", prefer_far)
    return "far"


def test_it_learns_a_linear_world_and_goes_where_it_wants(wish):
    """One step ahead the posterior mean is right to a thousandth; the goal is reached."""
    agent = slide_agent(preference=wish)
    live(agent, 60)
    linear = agent.world.learned["state"].linear
    mean = agent.world.learned["state"].last.regression.mean
    state = torch.tensor([[0.3, 0.4], [0.8, -0.1]], dtype=torch.double)
    push = torch.tensor([[0.5], [-1.0]], dtype=torch.double)
    found = state + linear.features.change * (linear.phi(state, push) @ mean)
    x, v = state.T
    expected = torch.stack([x + 0.1 * v, 0.9 * v + 0.2 * push[:, 0]], 1)
    assert torch.allclose(found, expected, atol=1e-3)
    assert int(agent.life.state.values["ended"].sum()) >= 1


def test_it_goes_on_bit_for_bit(wish):
    agent = slide_agent(preference=wish)
    _, env, observation = live(agent, 30)
    twin = slide_agent(preference=wish)
    twin.load_state_dict(agent.state_dict())
    for _ in range(15):
        chosen = agent.act({"state": observation})
        assert np.array_equal(chosen, twin.act({"state": observation}))
        observation, reward, terminated, truncated, _ = env.step(chosen)
        for either in (agent, twin):
            either.feedback({"state": observation}, reward, terminated, truncated)


def test_frozen_it_learns_nothing(wish):
    agent = slide_agent(preference=wish)
    live(agent, 20)
    mean = agent.world.learned["state"].last.regression.mean
    length = agent.life.state.length
    agent.freeze()
    live(agent, 10, first=7)
    assert torch.equal(agent.world.learned["state"].last.regression.mean, mean)
    agent.freeze(False)
    agent.begin(seed=0)
    assert agent.life.state.length == length


def test_rewards_are_learned_where_nothing_is_preferred():
    agent = slide_agent(preference=None)
    live(agent, 40)
    linear = agent.world.learned["outcome"].linear
    mean = agent.world.learned["outcome"].last.regression.mean
    state = torch.tensor([[0.05, 0.1], [-0.1, 0.0]], dtype=torch.double)
    found = linear.features.change * (linear.phi(state, torch.zeros(2, 1)) @ mean)
    assert torch.allclose(found[:, 0], -(state[:, 0] ** 2), atol=0.02)


def test_what_does_not_fit_is_told_in_a_sentence():
    number = gymnasium.spaces.Dict(state=gymnasium.spaces.Discrete(3))
    with pytest.raises(AgentError, match="agent=discrete"):
        GaussianAgent.build(number, Slide.action_space, {}, {}, 0)
    with pytest.raises(AgentError, match=r"horizn.*horizon"):
        slide_agent(horizn=3)
    with pytest.raises(AgentError, match="preference must be of type str, not 3"):
        slide_agent(preference=3)
    with pytest.raises(AgentError, match=r"pendulm.*pendulum"):
        find_wish("pendulm")
    assert set(DEFAULTS) >= set(SMALL) - {"inference"}


def test_upright_is_best():
    """What is preferred of a pendulum is minus its cost in Gymnasium, whose episodes start anywhere."""
    env = gymnasium.make("Pendulum-v1")
    before, _ = env.reset(seed=0)
    for _ in range(20):
        action = env.action_space.sample()
        after, reward, *_ = env.step(action)
        told = WISHES["pendulum"](torch.as_tensor(before), torch.as_tensor(action))
        assert float(told) == pytest.approx(reward, abs=1e-4)
        before = after
