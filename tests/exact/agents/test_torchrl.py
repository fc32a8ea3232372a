"""Agents under torchrl: a policy is the agent itself; an imagined world is the law that the posterior implies."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal

from aif_dcpc import agents, envs
from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.protocol import Plan
from aif_dcpc.inference import GraphicalModel, every, lag

torchrl_agents = pytest.importorskip("aif_dcpc.agents.torchrl")
from tensordict import TensorDict  # noqa: E402
from torchrl.collectors import Collector  # noqa: E402
from torchrl.envs import (  # noqa: E402
    ExplorationType,
    GymWrapper,
    SerialEnv,
    StepCounter,
    TransformedEnv,
    check_env_specs,
    set_exploration_type,
)

from aif_dcpc.agents.torchrl import (  # noqa: E402
    AgentPolicy,
    ImaginedEnv,
    action_spec,
    lived_in,
)

KEEP, NOISE, MISREAD, PULL = 0.9, 0.3, 0.2, 0.6


class Still:
    """A planner that does nothing."""

    def plan(self, situation):
        action = torch.zeros(1, 1, *situation.action_space.shape)
        return Plan(
            policies=action if situation.action_space.shape else action.long(),
            expected_free_energy=torch.zeros(1),
            terms={},
            nodes=1,
            depth=1,
            complete=True,
        )


def drift(x, u, reset):
    """Where a point goes that is pushed; an episode begins near 2."""
    begins = reset > 0
    return Normal(torch.where(begins, 2.0, KEEP * x + u[..., 0]), NOISE)


def pushed(*, told: bool = False) -> ActiveInferenceAgent:
    """An agent that sees a pushed point through noise; with `told`, reward and ending are seen as well."""
    model = GraphicalModel()
    model.add_input("u")
    model.add_input("reset")
    start = Normal(2.0, NOISE)
    model.add_site(
        "x", drift, [lag("x"), lag("u"), "reset"], initial=lambda reset: start.expand(reset.shape), scope="slice"
    )  # fmt: skip
    model.add_site("o", lambda x: Normal(x, MISREAD), ["x"], scope="slice")
    observed = {"o": lambda streams: streams["seen"][..., 0]}
    if told:
        model.add_site("gain", lambda x: Normal(2 * x, 0.01), ["x"], scope="slice")
        model.add_site(
            "over", lambda x: Categorical(torch.stack([x < 3, x >= 3], -1).float()), ["x"], scope="slice"
        )  # fmt: skip
        observed |= {"gain": "reward", "over": "terminated"}
    return ActiveInferenceAgent(
        model,
        action="u",
        action_space=gymnasium.spaces.Box(-9, 9, (1,)),
        observed=observed,
        preferences={"o": lambda o: -(o**2)},
        planner=Still(),
        num_particles=64,
        num_sweeps=5,
    )


def looked(agent: ActiveInferenceAgent) -> ActiveInferenceAgent:
    """The agent after three observations."""
    agent.begin(seed=0)
    for value in (2.1, 1.8, 1.5):
        agent.act({"seen": np.array([value], np.float32)})
        agent.feedback({"seen": np.array([value], np.float32)}, 2 * value, False, False)
    return agent


def test_imagined_trajectories_follow_the_law_of_the_model():
    """A policy pulls back what it sees; means and variances by the recursion, from the cloud's own.

    x' = .9 x + u + noise, u = -.6 o, o = x + misreading: x' = .3 x - .6 misreading + noise.
    Within five standard errors of 20,000 draws.
    """
    agent = looked(pushed())
    env = ImaginedEnv(agent, batch_size=20_000)
    found = env.rollout(4, lambda td: td.set("action", -PULL * td["o"].unsqueeze(-1)))
    cloud = agent.life.state
    weights, last = cloud.weights()[:, 0], cloud.value("x")[:, 0, -1]
    mean = float((weights * last).sum())
    variance = float((weights * (last - mean) ** 2).sum())
    gain = KEEP - PULL
    for step in range(4):
        if step == 0:  # the first action follows what was really seen, 1.5
            mean, variance = KEEP * mean - PULL * 1.5, KEEP**2 * variance + NOISE**2
        else:
            mean, variance = gain * mean, gain**2 * variance + (PULL * MISREAD) ** 2 + NOISE**2
        x = found["next", "world", "x"][:, step, -1]
        number = len(x)
        assert abs(float(x.mean()) - mean) < 5 * (variance / number) ** 0.5
        assert abs(float(x.var()) / variance - 1) < 5 * (2 / number) ** 0.5
        error = found["next", "o"][:, step] - x
        assert abs(float(error.var()) / MISREAD**2 - 1) < 5 * (2 / number) ** 0.5
        assert torch.allclose(
            found["next", "reward"][:, step, 0], -(found["next", "o"][:, step] ** 2)
        )


def test_what_one_trajectory_does_leaves_the_others_alone():
    """Two with the same seed: their draws differ where their actions differ, and there by what the model says."""
    draws = []
    for push in (0.0, 1.0):
        env = ImaginedEnv(looked(pushed()), batch_size=6, seed=3)
        actions = torch.zeros(6, 1)
        actions[2] = push
        draws.append(env.rollout(3, always(actions))["next", "world", "x"])
    difference = (draws[1] - draws[0])[..., -1]
    expected = torch.zeros(6, 3)
    expected[2] = torch.tensor([1.0, 1 + KEEP, 1 + KEEP + KEEP**2])
    assert torch.allclose(difference, expected, atol=1e-5)


def test_reward_and_ending_are_those_that_the_model_observes():
    env = ImaginedEnv(looked(pushed(told=True)), batch_size=500)
    first = env.reset()
    assert "gain" not in first.keys() and "over" not in first.keys()
    found = env.step(first.set("action", torch.full((500, 1), 1.4)))["next"]
    x = found["world", "x"][:, -1]
    assert (x > 3).any() and (x < 3).any()
    assert torch.allclose(found["reward"][:, 0], 2 * x, atol=0.06)
    assert torch.equal(found["terminated"][:, 0], x >= 3)
    assert torch.equal(found["done"], found["terminated"])


def test_a_world_model_names_what_it_reads_and_writes():
    """So that its parts can be put into sequences of torchrl's."""
    model = ImaginedEnv(looked(pushed(told=True))).world_model
    transition, consequences = model.get_transition_model_operator(), model.get_reward_operator()
    carried = transition.in_keys[:-1]
    assert {("world", name) for name in ("x", "o", "gain", "over")} <= set(carried)
    assert transition.in_keys[-1] == "action"
    assert transition.out_keys == [*carried, "o"]
    assert consequences.in_keys == ["o", ("world", "gain"), ("world", "over")]
    assert consequences.out_keys == ["reward", "terminated", "done"]
    plain = ImaginedEnv(looked(pushed())).world_model.get_reward_operator()
    assert plain.in_keys == ["o"]


def test_some_trajectories_may_begin_anew():
    env = ImaginedEnv(looked(pushed()), batch_size=4)
    found = env.rollout(2, lambda td: td.set("action", torch.full((4, 1), 5.0)))[:, -1]
    now = found["next"].clone().set("_reset", torch.tensor([[True], [False], [True], [False]]))
    again = env.reset(now)
    far = again["world", "x"][:, -1] > 4
    assert far.tolist() == [False, True, False, True]
    assert torch.equal(again["o"][[1, 3]], found["next", "o"][[1, 3]])


@pytest.mark.parametrize("name", ["pushed", "tmaze"])
def test_torchrl_finds_no_fault_with_imagined_worlds(name):
    if name == "tmaze":
        agent, world = tmaze_agent()
        agent.begin(seed=0)
        agent.act(world.reset(seed=0)[0])
    else:
        agent = looked(pushed())
    env = ImaginedEnv(agent, batch_size=5)
    check_env_specs(env)
    check_env_specs(TransformedEnv(env, StepCounter(max_steps=3)))
    one, two = (ImaginedEnv(agent, batch_size=5, seed=1).rollout(3, zero) for _ in range(2))
    assert (one == two).all()


def always(actions):
    return lambda td: td.set("action", actions)


def zero(td: TensorDict) -> TensorDict:
    like = (
        td["world", "action"][:, -1] if "action" in td["world"].keys() else td["world", "u"][:, -1]
    )
    return td.set("action", torch.zeros_like(like))


def tmaze_agent(world=None):
    world = world or envs.make("TMaze")
    agent = agents.make(
        "tmaze",
        observation_space=world.observation_space,
        action_space=world.action_space,
        metadata={},
        settings={"inference": {"num_particles": 8}},
        seed=0,
    )
    return agent, world


def test_what_cannot_be_imagined_is_refused_in_one_sentence():
    with pytest.raises(AgentError, match="act on an observation first"):
        ImaginedEnv(pushed())
    slow = GraphicalModel()
    slow.add_input("u")
    slow.add_input("reset")
    slow.add_site("level", lambda: Normal(0.0, 1.0), scope=every(2))
    slow.add_site("o", lambda level: Normal(level, 1.0), ["level"], scope="slice")
    agent = ActiveInferenceAgent(
        slow,
        action="u",
        action_space=gymnasium.spaces.Discrete(2),
        observed=["o"],
        preferences={"o": lambda o: -o},
        planner=Still(),
    )
    agent.begin(seed=0)
    agent.act({"o": np.float32(0.5)})
    with pytest.raises(AgentError, match="site 'level' does not have a value in every slice"):
        ImaginedEnv(agent)


# -- the agent as a policy -------------------------------------------------------------------------


@pytest.mark.parametrize("greedy", [True, False])
def test_a_collector_runs_the_agent_as_a_plain_loop_does(greedy):
    """Same seeds: the same observations, actions, rewards and endings, and the agent has learned the same."""
    agent, world = tmaze_agent()
    env = lived_in(GymWrapper(world), agent, seed=7)
    env.set_seed(3)
    kind = ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM
    collector = Collector(
        env,
        AgentPolicy(agent, env),
        frames_per_batch=9,
        total_frames=18,
        exploration_type=kind,
        auto_register_policy_transforms=False,
    )
    with set_exploration_type(kind):
        batches = [batch.clone() for batch in collector]
    collector.shutdown()
    frames = torch.cat(batches)
    twin, _ = tmaze_agent()
    episode = 7
    base = GymWrapper(envs.make("TMaze"))
    base.set_seed(3)
    td = base.reset()
    twin.begin(seed=episode)
    spec = base.observation_spec
    for frame in frames:
        observation = {name: spec[name].to_numpy(td[name]) for name in twin.life.observed}
        action = twin.act(observation, greedy=greedy)
        assert int(frame["action"].argmax()) == action
        nxt = base.step(td.set("action", base.action_spec.encode(action)))["next"]
        for name in observation:
            assert torch.equal(frame["next", name], nxt[name])
        assert torch.equal(frame["next", "reward"], nxt["reward"])
        seen = {name: spec[name].to_numpy(nxt[name]) for name in observation}
        ended = bool(nxt["terminated"]), bool(nxt["truncated"])
        twin.feedback(seen, float(nxt["reward"]), *ended)
        if any(ended):
            episode += 1
            td = base.reset()
            twin.begin(seed=episode)
        else:
            td = nxt.select(*observation).clone()
    assert episode > 9
    ours, theirs = agent.life.state, twin.life.state
    assert torch.equal(ours.value("trust"), theirs.value("trust"))


def test_box_actions_and_other_endings_reach_the_agent():
    """Pendulum cut off after five steps by torchrl itself: the agent hears of it."""
    world = envs.make("PositionsOnly", id="Pendulum-v1")
    agent = agents.make(
        "random",
        observation_space=world.observation_space,
        action_space=world.action_space,
        metadata={},
        settings={},
        seed=0,
    )
    told = []
    agent.feedback = lambda *consequences: told.append(consequences)
    env = lived_in(TransformedEnv(GymWrapper(world), StepCounter(max_steps=5)), agent)
    frames = env.rollout(12, AgentPolicy(agent, env), break_when_any_done=False)
    assert frames["action"].shape == (12, 1)
    assert [truncated for *_, truncated in told[:10]] == [False, False, False, False, True] * 2
    assert all(set(observation) == {"state"} for observation, *_ in told)
    assert np.array_equal(told[3][0]["state"], frames["next", "observation"][3].numpy())


def test_a_policy_without_an_ear_is_refused():
    agent, world = tmaze_agent()
    with pytest.raises(AgentError, match=r"env = lived_in\(env, agent\)"):
        AgentPolicy(agent, GymWrapper(world))
    with pytest.raises(AgentError, match="lives in one world at a time"):
        lived_in(SerialEnv(2, lambda: GymWrapper(envs.make("TMaze"))), agent)


def test_actions_that_do_not_count_from_0_are_refused():
    with pytest.raises(AgentError, match="from 0 on"):
        action_spec(gymnasium.spaces.Discrete(2, start=5))
    assert action_spec(gymnasium.spaces.Discrete(2)).n == 2


def test_ppo_trains_in_an_imagined_world():
    """torchrl's PPO pulls the imagined point to where it is preferred: returns rise by more than five standard errors."""
    from aif_dcpc.experiments.ppo.learner import Settings, learn

    env = TransformedEnv(ImaginedEnv(looked(pushed()), batch_size=32), StepCounter(max_steps=8))
    settings = Settings(frames=512, minibatch=256, epochs=4, rate=3e-3, width=16)
    batches = list(learn(env, ["o"], steps=512 * 12, settings=settings, seed=0))
    early = torch.cat([batch["next", "reward"].flatten() for batch in batches[:2]])
    late = torch.cat([batch["next", "reward"].flatten() for batch in batches[-2:]])
    error = (early.var() / len(early) + late.var() / len(late)).sqrt()
    assert float(late.mean() - early.mean()) > 5 * float(error)


def test_agents_start_without_torchrl():
    code = (
        "import sys, aif_dcpc.agents, aif_dcpc.agents.active_inference, aif_dcpc.agents.random_agent;"
        "assert not {'torchrl', 'tensordict'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
