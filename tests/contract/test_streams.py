"""Any Gymnasium spaces as streams and actions: names, counting from zero, repeated and slipping actions, refusals."""

import numpy as np
import pytest
import worlds  # noqa: F401, registers Absent-v0
from gymnasium import spaces

from aif_dcpc import agents, envs
from aif_dcpc.agent_runs.actions import admitted, plain
from aif_dcpc.agent_runs.assembly import agent_metadata
from aif_dcpc.agents import AgentError
from aif_dcpc.envs.noise import uniform
from aif_dcpc.errors import UserError

GYMNASIUM = [
    "CartPole-v1",
    "Pendulum-v1",
    "Blackjack-v1",
    "FrozenLake-v1",
    "CliffWalking-v1",
    "Acrobot-v1",
]
BABYAI = ["BabyAI-GoToRedBall-v0", "BabyAI-GoToObj-v0"]


def agent(name, env, **settings):
    return agents.make(
        name,
        observation_space=env.observation_space,
        action_space=env.action_space,
        metadata=agent_metadata(env),
        settings=settings,
        seed=0,
    )


@pytest.mark.parametrize(
    ("world", "settings"),
    [
        *(("Gymnasium", {"id": id}) for id in GYMNASIUM),
        *(("MiniGrid", {"id": id}) for id in BABYAI),
        ("worlds:Steered", {}),
        ("worlds:Counted", {}),
        ("worlds:Levers", {}),
        ("Gymnasium", {"id": "Pendulum-v1", "slip": 0.5}),
        ("Gymnasium", {"id": "CartPole-v1", "action_repeat": 3}),
    ],
    ids=str,
)
def test_what_is_observed_and_done_lies_in_the_spaces(world, settings):
    """Flat streams of supported spaces; a random agent acts, and its log can be played again bit for bit."""
    env = envs.make(world, **settings)
    assert all(
        isinstance(space, spaces.Discrete | spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary)
        for space in env.observation_space.spaces.values()
    )
    who = agent("random", env)
    observation, _ = env.reset(seed=0)
    who.begin(seed=0)
    for _ in range(25):
        assert env.observation_space.contains(observation)
        action = admitted(who.act(observation), env.action_space)
        again = admitted(plain(action), env.action_space)
        assert np.array_equal(action, again) and type(action) is type(again)
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()


def test_nested_observations_have_readable_names():
    env = envs.make("worlds:Steered")
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"state_0_place", "state_0_late", "state_1"}
    assert observation["state_1"] == 0
    assert env.observation_space["state_1"] == spaces.Discrete(10)
    assert set(envs.make("Gymnasium", id="Blackjack-v1").observation_space.spaces) == {
        "state_0",
        "state_1",
        "state_2",
    }


def test_discrete_spaces_count_from_zero():
    env = envs.make("worlds:Counted")
    assert (env.action_space, env.observation_space["state"]) == (
        spaces.Discrete(3),
        spaces.Discrete(4),
    )
    assert env.reset(seed=0)[0] == {"state": 0}
    assert [env.step(action)[0]["state"] for action in range(3)] == [1, 2, 3]  # sent 7, 8, 9
    levers = envs.make("worlds:Levers")
    levers.reset(seed=0)
    assert levers.step(np.array([1, 2]))[0]["state"].tolist() == [1, 2]
    assert levers.action_space == spaces.MultiDiscrete([2, 3])


def test_every_step_of_a_repeated_action_counts():
    """The same pole, pushed by hand: rewards add up, the episode ends within an action where it must."""
    once = envs.make("Gymnasium", id="CartPole-v1")
    held = envs.make("Gymnasium", id="CartPole-v1", action_repeat=4)
    once.reset(seed=3)
    held.reset(seed=3)
    total, over = 0.0, False
    steps = 0
    while not over:
        seen, reward, over, _, info = held.step(1)
        total += reward
        steps += info["env_steps"]
        for _ in range(info["env_steps"]):
            alone, _, ended, _, _ = once.step(1)
        assert np.array_equal(seen["state"], alone["state"]) and ended == over
    assert total == steps
    assert steps % 4 != 0  # it fell within an action


def test_slips_are_drawn_from_the_whole_box():
    env = envs.make("Gymnasium", id="MountainCarContinuous-v0", slip=1.0)
    sent = []
    inner = env.unwrapped.step
    env.unwrapped.step = lambda action: (sent.append(float(action[0])), inner(action))[1]
    env.reset(seed=0)
    for _ in range(200):
        env.step(np.zeros(1, np.float32))
    assert min(sent) < -0.9 and max(sent) > 0.9
    assert abs(np.mean(sent)) < 5 * (1 / 3 / 200) ** 0.5  # five standard errors of uniform draws


def test_slips_in_a_box_of_whole_numbers_are_even():
    """Five standard errors of counts of 3,000 draws; both bounds are drawn."""
    space = spaces.Box(-1, 1, (3_000,), np.int8)
    drawn = uniform(space, np.random.default_rng(0))
    assert space.contains(drawn)
    counts = [(drawn == value).sum() for value in (-1, 0, 1)]
    assert np.abs(np.array(counts) - 1_000).max() < 5 * (3_000 * 2 / 9) ** 0.5
    widest = spaces.Box(-(2**63), 2**63 - 1, (2,), np.int64)
    assert widest.contains(uniform(widest, np.random.default_rng(0)))


def slipped(world, seed, steps=40):
    """What was done by an agent that always chooses 0."""
    env = envs.make(world, slip=0.5)
    env.reset(seed=seed)
    return [int(env.step(0)[0]["state"]) - 1 for _ in range(steps)]


def test_slips_follow_the_seed_of_the_environment_or_else_their_own():
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(5)))  # of Gymnasium
    drawn = [generator.integers(3) if generator.random() < 0.5 else 0 for _ in range(40)]
    assert slipped("worlds:Counted", 5) == drawn
    unseeded = [slipped("worlds:Unseeded", seed) for seed in (5, 5, 6)]
    assert unseeded[0] == unseeded[1] != unseeded[2] and set(unseeded[0]) == {0, 1, 2}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "worlds:Spoken"}, "stream 'words' is Text.*leaves the stream out"),
        ({"name": "worlds:Twice"}, "two streams are called 'a_b'"),
        ({"name": "worlds:Handed"}, "its actions are Dict.*one number or one array"),
        ({"name": "worlds:Boundless", "slip": 0.1}, "has no bounds; leave env.slip out"),
        *(
            (settings, "needs what is not installed: No module named 'no_such_package'")
            for settings in (
                {"name": "Gymnasium", "id": "worlds:NeedsMore-v0"},
                {"name": "Gymnasium", "id": "worlds:Absent-v0"},
                {"name": "MiniGrid", "id": "worlds:NeedsMore-v0"},
                {"name": "MiniGrid", "id": "Absent-v0"},
                {"name": "worlds:needs_more"},
            )
        ),
        ({"name": "TMaze", "action_repeat": 0}, "env.action_repeat=0: expected at least 1"),
        ({"name": "MiniGrid", "id": "BabyAI-GoToRedBal-v0"}, "Did you mean 'BabyAI-GoToRedBall"),
        ({"name": "PositionsOnly", "id": "FrozenLake-v1"}, "expected CartPole-v1"),
        *(
            (
                {"name": "PositionsOnly", "noise": noise},
                f"noise={noise}: expected a number at least 0",
            )
            for noise in (-1, "abc", None, float("nan"), float("inf"), True)
        ),
    ],
    ids=str,
)
def test_what_cannot_be_laid_out_is_refused_in_one_sentence(settings, words):
    with pytest.raises(envs.EnvironmentError_, match=words) as refused:
        envs.make(**settings)
    assert "\n" not in str(refused.value)


# -- what builders and agents are handed -----------------------------------------------------------


def test_the_second_parameter_of_a_builder_says_what_it_is_handed():
    box = envs.make("worlds:Steered")
    assert agent("outside_agents:Tracer", box).action_space == box.action_space
    discrete = envs.make("worlds:Counted")
    assert agent("outside_agents:Stubborn", discrete).num_actions == 3
    assert agent("outside_agents:build_stubborn", discrete).act({}) == 2
    assert agent("random", discrete).num_actions == 3


@pytest.mark.parametrize("name", ["outside_agents:Stubborn", "outside_agents:build_stubborn"])
def test_an_agent_for_discrete_actions_refuses_others_in_one_sentence(name):
    with pytest.raises(AgentError, match=r"chooses among discrete actions.*Box\(.*wrap") as refused:
        agent(name, envs.make("worlds:Steered"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (spaces.Discrete(3), 3),
        (spaces.Discrete(3), -1),
        (spaces.Discrete(3), 1.5),
        (spaces.Discrete(3), "left"),
        (spaces.Discrete(3), np.array([0, 1])),
        (spaces.Box(-1, 1, (2,)), np.array([0.0, np.nan])),
        (spaces.Box(-1, 1, (2,)), np.array([0.0, 1.01])),
        (spaces.Box(-1, 1, (2,)), 0.5),
        (spaces.Box(-1, 1, (2,)), None),
        (spaces.MultiDiscrete([2, 3]), [0, 3]),
        (spaces.MultiDiscrete([2, 3]), [0.0, 1.5]),
        (spaces.MultiBinary(2), [0.5, 1.0]),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([300, 3])),
    ],
    ids=str,
)
def test_an_action_outside_its_space_is_no_action(space, action):
    with pytest.raises(UserError, match=r"is not in .* must keep to") as refused:
        admitted(action, space)
    assert "\n" not in str(refused.value)


def test_random_actions_fill_their_space():
    """Uniform: within five standard errors of the mean, whole numbers as often as each other."""
    number = 4_000
    for space, mean, sd in (
        (spaces.Box(-2, 6, (1,)), 2.0, 8 / 12**0.5),
        (spaces.Box(0, np.inf, (1,)), 10.0, 20 / 12**0.5),
        (spaces.Box(-np.inf, np.inf, (1,)), 0.0, 20 / 12**0.5),
        (spaces.MultiDiscrete([4]), 1.5, (15 / 12) ** 0.5),
        (spaces.MultiBinary(1), 0.5, 0.5),
        (spaces.Box(0, 3, (1,), np.int64), 1.5, (15 / 12) ** 0.5),
    ):
        world = envs.make("worlds:Counted")
        world.action_space = space
        drawn = agent("random", world).act_batch({"state": np.zeros(number)})
        assert all(space.contains(action) for action in drawn)
        assert abs(drawn.mean() - mean) < 5 * sd / number**0.5
        assert abs(drawn.std() - sd) < 0.05 * sd
