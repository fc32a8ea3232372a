"""An agent from a declared model: its posterior is exact, frozen lives forget, kept ones go on."""

import copy
import functools
import time

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal

from aif_dcpc.agent_runs.episode_statistics import RunningEpisode
from aif_dcpc.agent_runs.inhabitants import AllAtOnce
from aif_dcpc.agent_runs.worlds import World, stacked
from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.protocol import Plan
from aif_dcpc.inference import GraphicalModel, lag

STEPS = (5, 7)  # of two episodes
NOISE = 0.6
STEP = 0.4


class Alternate:
    """Plans to go left and right in turn, which costs nothing, against standing still, which costs one nat."""

    def plan(self, situation):
        sign = 1.0 if situation.state.length % 2 else -1.0
        policies = torch.tensor([[[sign]], [[0.0]]])
        return Plan(policies=policies, expected_free_energy=torch.tensor([0.0, 1.0]))


class Fixed:
    """Plans one action."""

    def __init__(self, action):
        self.action = action

    def plan(self, situation):
        return Plan(
            policies=torch.tensor([[[self.action]]]), expected_free_energy=torch.tensor([0.0])
        )


def drifting():
    """A position moved by actions and an unknown drift that all episodes share, seen with noise."""
    model = GraphicalModel()
    model.add_input("push")
    model.add_site("drift", lambda: Normal(torch.zeros(1), 1.0), scope="global")
    model.add_site(
        "x",
        lambda x, push, drift: Normal(x + push + drift, STEP),
        [lag("x"), lag("push"), "drift"],
        initial=lambda drift: Normal(torch.zeros(1), 1.0),
        scope="slice",
    )
    model.add_site("seen", lambda x: Normal(x, NOISE), ["x"], scope="slice")
    return model


def agent_of(model, **settings):
    settings = {"num_particles": 16, "num_sweeps": 2, "planner": Alternate(), **settings}
    return ActiveInferenceAgent(
        model,
        action="push",
        action_space=settings.pop("action_space", gymnasium.spaces.Box(-1, 1, (1,))),
        observed={"seen": "position"},
        preferences={"seen": lambda x: -x.square().sum(-1)},
        **settings,
    )


def live(agent, episodes, seed=0, drift=0.3):
    """Play episodes in a world of one dimension; returns what was seen and done in each."""
    world = np.random.default_rng(seed)
    told = []
    for number, steps in enumerate(episodes):
        agent.begin(seed=number)
        x = world.normal()
        seen = []
        done = []
        for step in range(steps):
            observation = {"position": np.array([x + NOISE * world.normal()], np.float32)}
            seen.append(float(observation["position"][0]))
            if step == steps - 1:
                agent.feedback(observation, 0.0, False, True)
                done.append(0.0)
                break
            if step:
                agent.feedback(observation, 0.0, False, False)
            action = agent.act(observation)
            done.append(float(action[0]))
            x = x + action[0] + drift + STEP * world.normal()
        told.append((seen, done))
    return told


def exact_posterior(told):
    """Mean and covariance of drift and all positions: (1 + T,) and (1 + T, 1 + T), by normal equations."""
    total = sum(len(seen) for seen, _ in told)
    rows, targets, weights = [], [], []

    def add(row, target, sd):
        rows.append(row)
        targets.append(target)
        weights.append(1 / sd**2)

    def unit(**at):
        row = np.zeros(1 + total)
        for index, value in at.values():
            row[index] += value
        return row

    add(unit(drift=(0, 1.0)), 0.0, 1.0)
    place = 1
    for seen, done in told:
        for t, value in enumerate(seen):
            if t == 0:
                add(unit(x=(place, 1.0)), 0.0, 1.0)
            else:
                row = unit(x=(place, 1.0), before=(place - 1, -1.0), drift=(0, -1.0))
                add(row, done[t - 1], STEP)
            add(unit(x=(place, 1.0)), value, NOISE)
            place += 1
    design = np.array(rows)
    precision = design.T @ (np.array(weights)[:, None] * design)
    mean = np.linalg.solve(precision, design.T @ (np.array(weights) * np.array(targets)))
    return torch.tensor(mean), torch.tensor(np.linalg.inv(precision))


def test_a_life_is_inferred_exactly():
    """Positions of both episodes and the drift, against the joint Gaussian; five standard errors of 400 chains."""
    agent = agent_of(drifting(), num_particles=400, num_sweeps=1)
    told = live(agent, STEPS)
    mean, covariance = exact_posterior(told)
    state, _ = agent.life.engine.run(agent.life.state, 60)
    _, info = agent.life.engine.run(state, 100, record=["x", "drift"])
    found = torch.cat([info.trace["drift"][..., 0, :], info.trace["x"][:, :, 0, :, 0]], -1)
    check_moments(found.double(), mean, covariance)


class Line:
    """The world of `live` as an environment with episodes of given lengths."""

    def __init__(self, steps, seed):
        self.world = np.random.default_rng(seed)
        self.steps = list(steps)
        self.told = []

    def reset(self, *, seed=None):
        self.x = self.world.normal()
        self.told.append(([], []))
        return self.seen(), {}

    def step(self, action):
        self.told[-1][1].append(float(action[0]))
        self.x += action[0] + 0.3 + STEP * self.world.normal()
        seen = self.seen()
        over = len(self.told[-1][0]) == self.steps[0]
        if over:
            self.steps.pop(0)
            self.told[-1][1].append(0.0)
        return seen, 0.0, False, over, {}

    def seen(self):
        value = np.array([self.x + NOISE * self.world.normal()], np.float32)
        self.told[-1][0].append(float(value[0]))
        return {"position": value}


def test_two_worlds_at_once_are_inferred_exactly():
    """Episodes of 4 and 5, of 3 and 6 slices: all positions and the drift of both, five standard errors of 400 chains."""
    agent = agent_of(drifting(), num_particles=400, num_sweeps=1)
    lines = [Line((4, 5), 1), Line((3, 6), 2)]
    worlds = [World(line, True) for line in lines]
    for line in lines:
        line.action_space = agent.action_space
    lives = AllAtOnce(agent)
    begun = iter(range(100))

    def begin(world):
        number = next(begun)
        world.begin(RunningEpisode(number), number)
        return number

    lives.begin([begin(world) for world in worlds])
    for _ in range(9 - 1):
        actions = lives.act([world.observation for world in worlds], greedy=True)
        outcomes = [world.step(a) for world, a in zip(worlds, actions, strict=True)]
        lives.feedback(outcomes)
        more = [outcome.ended and bool(line.steps) for outcome, line in zip(outcomes, lines)]
        if any(more):
            lives.begin([begin(w) if due else None for w, due in zip(worlds, more, strict=True)])
    agent._observe(stacked([world.observation for world in worlds]))
    assert agent.life.state.length == 9
    mean, covariance = exact_posterior([*lines[0].told, *lines[1].told])
    state, _ = agent.life.engine.run(agent.life.state, 60)
    _, info = agent.life.engine.run(state, 100, record=["x", "drift"])
    x = info.trace["x"][..., 0].flatten(2)
    found = torch.cat([info.trace["drift"][..., 0, :], x], -1).double()
    check_moments(found, mean, covariance)


def check_moments(found, mean, covariance):
    """Compare means and variances of 400 chains `(S, 400, D)` with exact ones: five standard errors."""
    by_chain = found.mean(0)
    error = by_chain.std(0) / 20
    assert bool(((by_chain.mean(0) - mean).abs() < 5 * error + 1e-3).all())
    spread = (found - mean).square().mean(0)
    error = spread.std(0) / 20
    assert bool(((spread.mean(0) - covariance.diagonal()).abs() < 5 * error + 1e-3).all())


def test_a_life_of_several_worlds_cannot_shrink_while_it_learns():
    agent = agent_of(drifting())
    live(agent, (3,))
    with pytest.raises(AgentError, match="num_envs=1"):
        agent.begin_batch(seeds=[1, 2])
    agent.freeze()
    agent.begin_batch(seeds=[1, 2])
    agent.act_batch({"position": np.zeros((2, 1), np.float32)})
    assert agent.life.state.batch_size == 2


def test_frozen_episodes_are_forgotten():
    agent = agent_of(drifting())
    live(agent, STEPS)
    learned = agent.life.state
    agent.freeze()
    live(agent, (4, 4), seed=1)
    assert agent.life.state.length == learned.length + 4
    drifts = set(agent.life.state.particles["drift"].flatten().tolist())
    assert drifts <= set(learned.particles["drift"].flatten().tolist())
    agent.freeze(False)
    assert agent.life.state is learned
    live(agent, (3,), seed=2)
    assert agent.life.state.length == learned.length + 3


def test_an_agent_that_was_kept_goes_on_bit_for_bit():
    agent = agent_of(drifting())
    live(agent, STEPS)
    kept = agent.state_dict()
    other = agent_of(drifting())
    other.load_state_dict(kept)
    for one in (agent, other):
        live(one, (6,), seed=5)
    for name, value in agent.life.state.values.items():
        assert torch.equal(value, other.life.state.values[name])


def test_greedy_takes_the_best_and_sampling_the_others_as_often_as_precision_says():
    """Odds exp(-precision) of the second policy: 400 draws, within 5 standard errors."""
    agent = agent_of(drifting(), precision=1.0)
    plan = Plan(policies=torch.zeros(2, 1, 1), expected_free_energy=torch.tensor([0.0, 1.0]))
    agent.begin(seed=0)
    choose = functools.partial(agent.deliberation.choose, plan, agent.generator)
    assert {choose(greedy=True) for _ in range(20)} == {0}
    share = np.mean([choose(greedy=False) for _ in range(400)])
    expected = 1 / (1 + np.e)
    assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / 400)


@pytest.mark.parametrize(
    ("space", "planned", "done"),
    [
        (gymnasium.spaces.Box(0, 3, (1,), np.int64), 1.6, 2),
        (gymnasium.spaces.Box(-3, 0, (1,), np.int8), -0.6, -1),
        (gymnasium.spaces.Box(-0.1, 0.1, (1,), np.float64), 0.1, 0.1),
        (gymnasium.spaces.Box(-1, 1, (1,), np.float32), 0.3, np.float32(0.3)),
    ],
)
def test_what_is_done_lies_in_its_space_and_is_what_is_noted(space, planned, done):
    """Whole numbers are rounded to; a tenth in single precision lies beyond the one of a double box."""
    agent = agent_of(drifting(), action_space=space, planner=Fixed(planned))
    agent.begin(seed=0)
    action = agent.act({"position": np.zeros(1, np.float32)})
    assert space.contains(action) and action.tolist() == [done]
    assert float(agent.life.state.values["push"][0, 0, -1, 0]) == pytest.approx(done, abs=1e-7)


class Slide(nn.Module):
    """x' ~ Normal(rate x + push, STEP) with a rate that is learned by gradients."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.zeros(()))

    def forward(self, x, push):
        return Normal(self.rate * x + push, STEP)


def sliding():
    """A position that slides at a rate that is learned, seen almost exactly."""
    model = GraphicalModel()
    model.add_input("push")
    model.add_site(
        "x",
        Slide(),
        [lag("x"), lag("push")],
        initial=lambda: Normal(torch.zeros(1), 2.0),
        scope="slice",
    )
    model.add_site("seen", lambda x: Normal(x, 0.01), ["x"], scope="slice")
    return model


def test_parameters_of_kernels_are_learned_by_local_gradients():
    """With x seen almost exactly the rate goes to its least-squares value."""
    agent = agent_of(sliding(), learning_rate=0.1, learning_steps=60, num_particles=4)
    told = live(agent, (30, 30), drift=0.0)
    before = np.concatenate([seen[:-1] for seen, _ in told])
    after = np.concatenate([np.subtract(seen[1:], done[:-1]) for seen, done in told])
    (rate,) = agent.model.parameters()
    assert abs(float(rate.detach()) - before @ after / (before @ before)) < 0.05


def test_what_is_kept_of_the_optimizer_stays_as_it_was():
    """Neither the agent that it was taken from nor one that took it in changes it."""
    agents = [agent_of(sliding(), learning_steps=2, num_particles=2) for _ in range(2)]
    live(agents[0], (3,))
    kept = agents[0].state_dict()
    agents[1].load_state_dict(kept)
    before = copy.deepcopy(kept["optimizer"]["state"])
    for agent in agents:
        live(agent, (3,))
    for name, value in before[0].items():
        assert torch.equal(kept["optimizer"]["state"][0][name], value)


def test_reports_and_explains():
    agent = agent_of(drifting())
    assert not agent.report().scalars
    start = time.perf_counter()
    live(agent, (4,))
    passed = 1e3 * (time.perf_counter() - start)
    scalars = agent.report().scalars
    assert all(
        0 <= scalars[f"speed/ms_{n}"] < passed for n in ("planning", "inference", "learning")
    )
    assert {"inference/ess", "inference/free_energy", "efe/total", "speed/ms_planning"} <= set(
        scalars
    )
    assert len(agent.explain().splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action": "pull"}, "push"),
        ({"observed": {"saw": "position"}}, "seen"),
        ({"preferences": {"x": torch.zeros(2)}}, "preferred site"),
        ({"action_space": gymnasium.spaces.MultiBinary(2)}, "Discrete"),
    ],
)
def test_what_does_not_fit_is_said(changes, words):
    settings = {
        "action": "push",
        "action_space": gymnasium.spaces.Box(-1, 1, (1,)),
        "observed": {"seen": "position"},
        "preferences": {},
        "planner": Alternate(),
        **changes,
    }
    with pytest.raises(AgentError, match=words):
        ActiveInferenceAgent(drifting(), **settings)


def test_an_untold_input_and_a_missing_stream_are_named():
    model = drifting()
    model.add_input("wind")
    with pytest.raises(AgentError, match="wind"):
        agent_of(model)
    agent = agent_of(drifting())
    agent.begin(seed=0)
    with pytest.raises(AgentError, match="position"):
        agent.act({"place": np.zeros(1)})


def test_pictures_show_the_running_episode_slice_by_slice():
    """Six columns between grey lines; each column's ink squared sums to one."""
    agent = agent_of(drifting(), num_particles=64)
    live(agent, (4, 6))
    (picture,) = agent.report(pictures=True).pictures.values()
    cells = picture[:296, : 6 * 50, 0]
    assert (cells[:, ::50] == 215).all() and not (cells[:, 25::50] == 215).all()
    middles = [int((row + 0.5) * 296 / 24) for row in range(24)]
    ink = (255 - cells[middles][:, 24::50].astype(float)) / (255 - 20)
    assert ink.shape == (24, 6)
    assert np.abs((ink**2).sum(0) - 1).max() < 0.05
