"""Worlds whose velocities are hidden, against regression, smoothing and one step written out."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch

from aif_dcpc import agents, envs
from aif_dcpc.agents.errors import AgentError, AgentWarning
from aif_dcpc.agents.gaussian import requirements
from aif_dcpc.agents.gaussian.features import Scales, Shape
from aif_dcpc.agents.gaussian.hidden import WholeState, declare_hidden
from aif_dcpc.inference import DCPC
from aif_dcpc.inference.smc.recent import hold_timeless

BLUR = torch.tensor([0.05, 0.1]).double()
WAVES = 6


def world(seed=0):
    """Two positions, two discrete actions."""
    generator = torch.Generator().manual_seed(seed)
    found = declare_hidden(
        blur=BLUR, num_inputs=8, num_actions=2, num_waves=WAVES, generator=generator
    )
    features = found.features("state")
    scales = Scales(
        centre=torch.linspace(-0.2, 0.3, 8).double(),
        spread=torch.linspace(0.5, 2.0, 8).double(),
        change=torch.tensor([0.3, 0.2]).double(),
    )
    features.set(scales, Shape.default(8))
    return found


def lived(length, num_particles=3, seed=0):
    """An engine, and a cloud over a series in which the second episode begins at slice 4."""
    found = world(seed)
    engine = DCPC(found.model, num_particles=num_particles, seed=seed)
    source = np.random.default_rng(seed)
    reset = torch.zeros(1, length).long()
    reset[:, ::4] = 1
    data = {
        "seen": torch.tensor(source.normal(size=(1, length, 2))),
        "action": torch.tensor(source.integers(0, 2, (1, length))),
        "reset": reset,
        "ended": torch.zeros(1, length),
    }
    return found, engine, engine.init(data, seed=seed)


def z_of(x, actions, t):
    """Positions, what they gained, and the action before, in slice t."""
    return torch.cat([x[t], x[t] - x[t - 1], torch.eye(2).double()[actions[t - 1]]])


def row(found, x, actions, t):
    """Features of slice t with its action."""
    inputs = torch.cat([z_of(x, actions, t), torch.eye(2).double()[actions[t]]])
    return found.features("state")(inputs)


def test_the_law_is_the_one_written_down():
    found, _, state = lived(8)
    values = state.natural
    change = found.features("state").change
    densities = []
    for k in range(3):
        x = values["x"][k, 0]
        actions = values["action"][0, 0]
        weights = values["x.weights"][k, 0]
        noise = values["x.noise"][k, 0]
        total = 0.0
        for t in (2, 3, 6, 7):
            phi = row(found, x, actions, t - 1)
            mean = 2 * x[t - 1] - x[t - 2] + change * (phi @ weights)
            law = torch.distributions.Normal(mean, change * noise.sqrt())
            total = total + law.log_prob(x[t]).sum()
        densities.append(float(total))
    linear = found.learned["state"].linear
    x = values["x"]
    action = values["action"]
    at = [2, 3, 6, 7]

    def back(value, steps):
        return value[:, :, [t - steps for t in at]]

    law = linear.next(
        back(x, 1),
        back(x, 2),
        back(action, 1),
        back(action, 2),
        back(values["reset"], 0),
        back(values["ended"], 0),
        back(values["reset"], 1),
        values["x.weights"][:, :, None],
        values["x.noise"][:, :, None],
    )
    found_densities = law.log_prob(back(x, 0)).sum((1, 2))
    assert torch.allclose(found_densities, torch.tensor(densities).double())


def test_a_slice_is_weighed_with_weights_integrated_out():
    """Of particles with a series each: predictive mean and variance by the normal equations."""
    found, _, state = lived(8, num_particles=3)
    features = found.features("state")
    values = state.natural
    observation = {
        "seen": torch.tensor([[0.4, -0.3]]).double(),
        "action": torch.zeros(1).long(),
        "reset": torch.zeros(1).long(),
        "ended": torch.zeros(1),
    }
    propose = found.model.slice_proposal
    new, log_weights = propose(values, observation, torch.Generator().manual_seed(0))
    assert new["x"].shape == (3, 1, 9, 2)
    for k in range(3):
        x = values["x"][k, 0]
        actions = values["action"][0, 0]
        used = (2, 3, 6, 7)
        phi = torch.stack([row(found, x, actions, t - 1) for t in used])
        gains = torch.stack([x[t] - 2 * x[t - 1] + x[t - 2] for t in used]) / features.change
        precision = torch.diag(features.prior_scale**-2) + phi.T @ phi
        mean_weights = torch.linalg.solve(precision, phi.T @ gains)
        now = row(found, x, actions, 7)
        mean = 2 * x[7] - x[6] + features.change * (now @ mean_weights)
        unknown = now @ torch.linalg.solve(precision, now)
        noise = values["x.noise"][k, 0]
        variance = features.change.square() * noise * (1 + unknown)
        law = torch.distributions.Normal(mean, (variance + BLUR.square()).sqrt())
        expected = law.log_prob(observation["seen"][0]).sum()
        assert float(log_weights[k, 0]) == pytest.approx(float(expected), rel=1e-6)


def test_sweeps_draw_positions_from_the_exact_smoother():
    """Weights on waves at 0 make the series Gaussian: means within five standard errors, variances too."""
    length = 4
    found, engine, state = lived(length, num_particles=300, seed=1)
    features = found.features("state")
    weights = torch.zeros(1, 1, features.num_features, 2).double()
    weights[..., 1:5, :] = 0.1 * torch.randn(4, 2, generator=torch.Generator().manual_seed(2))
    noise = torch.full((1, 1, 2), 0.5).double()
    told = state.conditioning.unconstrain(
        {"x.weights": weights.expand(300, -1, -1, -1), "x.noise": noise.expand(300, -1, -1)}
    )
    state = hold_timeless(state.with_values(told))
    state, _ = engine.run(state, 150)
    state, info = engine.run(state, 100, record=["x"])
    drawn = info.trace["x"][:, :, 0].flatten(2).double()
    mean, covariance = smoothed(found, state.natural, weights[0, 0], noise[0, 0], length)
    chains = drawn.mean(0)
    error = chains.std(0) / np.sqrt(300)
    assert ((chains.mean(0) - mean).abs() < 5 * error).all()
    spread = drawn.flatten(0, 1).var(0)
    assert ((spread / covariance.diagonal() - 1).abs() < 0.1).all()


def smoothed(found, values, weights, noise, length):
    """Mean and covariance of all positions of one episode given what was seen, by a dense joint Gaussian."""
    linear = found.learned["state"].linear
    features = linear.features
    size = 2 * length
    actions = values["action"][0, 0]
    usual = torch.distributions.Normal(*linear._usual())
    rows, targets, precisions = [], [], []

    def add(matrix, target, variance):
        rows.append(matrix)
        targets.append(target)
        precisions.append(1 / variance)

    unit = torch.eye(size).double()
    at = [unit[2 * t : 2 * t + 2] for t in range(length)]
    for t in range(length):
        add(at[t], values["seen"][0, 0, t], BLUR.square())
        if t < 2:
            add(at[t], usual.loc, usual.scale.square())
            continue
        zero = torch.zeros(length, 2).double()
        constant = features.change * (row(found, zero, actions, t - 1) @ weights)
        slopes = features.change[:, None] * (weights[1:5].T / features.spread[:4])
        moved = slopes[:, :2] @ at[t - 1] + slopes[:, 2:] @ (at[t - 1] - at[t - 2])
        add(at[t] - 2 * at[t - 1] + at[t - 2] - moved, constant, features.change.square() * noise)
    design = torch.cat(rows)
    precision = design.T @ (torch.cat(precisions)[:, None] * design)
    mean = torch.linalg.solve(precision, design.T @ (torch.cat(precisions) * torch.cat(targets)))
    return mean, torch.linalg.inv(precision)


def test_plans_step_as_the_law_does():
    """Positions gain their new velocity, velocities the learned change, the action before is the action."""
    found, _, state = lived(8)
    whole = WholeState(found.learned["state"].linear)
    values = state.natural
    now = whole.state(values)
    features = whole.laid_out()
    weights = whole.weights(values["x.weights"][:, 0])
    for k in range(3):
        x = values["x"][k, 0]
        actions = values["action"][0, 0].clone()
        assert torch.allclose(now[k], z_of(x, actions, 7))
        for action in (0, 1):
            actions[7] = action
            phi = row(found, x, actions, 7)
            gained = features.change[:2] * (phi @ values["x.weights"][k, 0])
            velocity = x[7] - x[6] + gained
            expected = torch.cat([x[7] + velocity, velocity, torch.eye(2).double()[action]])
            assert torch.allclose(now[k] + features.change * (phi @ weights[k]), expected)


def test_where_an_episode_begins_nothing_was_gained_and_nothing_done():
    found, _, state = lived(5)
    now = WholeState(found.learned["state"].linear).state(state.natural)
    assert torch.equal(now[:, :2], state.natural["x"][:, 0, 4])
    assert not now[:, 2:].any()


def test_where_each_of_several_worlds_is_follows_from_its_own_series():
    """The first begins an episode, the second goes on."""
    found, engine, _ = lived(3)
    told = {
        "seen": torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(3)).double(),
        "action": torch.tensor([[0, 1, 0], [1, 0, 1]]),
        "reset": torch.tensor([[1, 0, 1], [1, 0, 0]]),
        "ended": torch.zeros(2, 3),
    }
    values = engine.init(told, seed=0).natural
    now = WholeState(found.learned["state"].linear).states(values)
    assert now.shape == (3, 2, 6)
    for k in range(3):
        x, actions = values["x"][k], values["action"][0]
        assert torch.equal(now[k, 0], torch.cat([x[0, 2], torch.zeros(4).double()]))
        assert torch.allclose(now[k, 1], z_of(x[1], actions[1], 2))


def agent_of_positions(**settings):
    """An agent that sees one position and prefers it to be large."""
    small = {"num_waves": 4, "horizon": 3, "candidates": 4, "elites": 2, "iterations": 1}
    return agents.make(
        "gaussian",
        observation_space=gymnasium.spaces.Box(-1, 1, (1,), np.float32),
        action_space=gymnasium.spaces.Discrete(2),
        metadata={},
        settings={
            "hidden_velocities": True,
            "preference": "mountain_car",
            "blur": 0.01,
            **small,
            **settings,
        },
        seed=0,
    )


def test_what_is_attained_in_any_world_is_noted():
    """Of positions -.5 and .45, at rest, the best is .05 short of the flag, but for how finely it is seen."""
    agent = agent_of_positions()
    agent.begin_batch(seeds=[0, 1])
    seen = {"state": np.array([[-0.5], [0.45]], np.float32)}
    for _ in range(3):
        agent.act_batch(seen)
        agent.feedback_batch(seen, np.zeros(2), np.zeros(2, bool), np.zeros(2, bool))
    assert agent.judge.attained.best == pytest.approx(-0.05, abs=0.1)


def test_frozen_it_infers_positions_under_the_weights_that_it_has():
    """Weights and noise stay those of some particle, their posterior as it is; past positions move."""
    agent = agent_of_positions(inference={"num_particles": 4})

    def live(steps):
        place = 0.0
        for step in range(steps):
            agent.act({"state": np.array([place], np.float32)})
            place += 0.05 * np.cos(step)
            yield agent.life.state
            ends = step == steps - 1
            agent.feedback({"state": np.array([place], np.float32)}, 0.0, False, ends)

    agent.begin(seed=0)
    list(live(8))
    agent.freeze()
    posterior = agent.world.learned["state"].last
    learned = agent.life.state.particles
    agent.begin(seed=1)
    firsts = []
    for state in live(4):
        for name in ("x.weights", "x.noise"):
            known = {tuple(row.flatten().tolist()) for row in learned[name]}
            assert {tuple(row.flatten().tolist()) for row in state.particles[name]} <= known
        firsts.append(state.particles["x"][:, 0, 9, 0])
    assert agent.world.learned["state"].last is posterior
    assert not torch.isin(firsts[-1], firsts[0]).any()
    agent.freeze(False)
    agent.begin(seed=2)
    for state in live(1):
        assert agent.world.learned["state"].last is not posterior


def test_what_is_learned_without_a_preference_is_refused():
    with pytest.raises(AgentError, match=r"hidden_velocities.*preference"):
        agents.make(
            "gaussian",
            observation_space=gymnasium.spaces.Box(-1, 1, (2,)),
            action_space=gymnasium.spaces.Discrete(2),
            metadata={},
            settings={"hidden_velocities": True},
            seed=0,
        )


def test_who_takes_positions_for_the_whole_state_is_warned() -> None:
    """The world says that velocities are hidden; with the setting there is nothing to say."""
    world = envs.make("PositionsOnly", id="Pendulum-v1")
    asked = world.observation_space, world.action_space, world.metadata
    wish = {"preference": "pendulum_positions"}
    with pytest.warns(AgentWarning, match=r"hidden_velocities=true.*preference"):
        requirements.check(*asked, wish)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        requirements.check(*asked, {**wish, "hidden_velocities": True})
        seen = envs.make("Gymnasium", id="Pendulum-v1")
        requirements.check(seen.observation_space, seen.action_space, seen.metadata, {})


def test_a_preference_for_what_is_not_seen_is_told_in_a_sentence() -> None:
    world = envs.make("PositionsOnly", id="Pendulum-v1")
    agent = agents.make(
        "gaussian",
        observation_space=world.observation_space,
        action_space=world.action_space,
        metadata={},
        settings={"preference": "pendulum"},
        seed=0,
    )
    agent.begin(seed=0)
    observation, _ = world.reset(seed=0)
    with pytest.raises(AgentError, match=r"more than the 2 numbers.*agent\.preference"):
        for _ in range(20):
            observation, reward, ended, cut, _ = world.step(agent.act(observation))
            agent.feedback(observation, float(reward), ended, cut)
