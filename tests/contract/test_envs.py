"""Whatever is registered as an environment against Gymnasium's own checker, and the conventions of streams and views."""

import gymnasium
import numpy as np
import pytest
import worlds  # noqa: F401, registers Lab/Corridor-v0
from gymnasium.utils.env_checker import check_env

from aif_dcpc import envs
from aif_dcpc.envs.minigrid import UNSEEN, to_token
from aif_dcpc.envs.registry import ADAPTERS

SMALLEST = {name: dict(adapter.smallest) for name, adapter in ADAPTERS.items()}
SYMBOLIC = [name for name, adapter in ADAPTERS.items() if adapter.symbolic]
CASES = [
    *({"name": name, **settings} for name, settings in SMALLEST.items()),
    *(
        {"name": name, **settings, "slip": 0.1, "max_steps": 5}
        for name, settings in SMALLEST.items()
    ),
    *({"name": name, **SMALLEST[name], "misread": 0.05} for name in SYMBOLIC),
    *({"name": name, **SMALLEST[name], "permute_seed": 3} for name in SYMBOLIC),
    {"name": "MiniGrid", "id": "MiniGrid-FourRooms-v0"},
    {"name": "worlds:Corridor"},
    {"name": "Gymnasium", "id": "worlds:Bare-v0"},
]


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version.*")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gymnasium_checker(case):
    check_env(envs.make(**case), skip_render_check=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_observations_are_streams_and_say_whether_they_are_a_view(case):
    env = envs.make(**case)
    assert isinstance(env.observation_space, gymnasium.spaces.Dict)
    assert isinstance(env.action_space, gymnasium.spaces.Discrete)
    observation, _ = env.reset(seed=0)
    assert observation.keys() == env.observation_space.spaces.keys()
    view = env.metadata["egocentric_view"]
    assert view is not None or case["name"] not in SYMBOLIC
    if view is not None:
        assert observation["view"].shape == (view["rows"], view["columns"])
        assert observation["view"][view["own_cell"]] == view["unseen_token"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_seed_and_actions_same_episode(case):
    runs = []
    for _ in range(2):
        env = envs.make(**case)
        observation, _ = env.reset(seed=9)
        seen = [observation]
        for action in range(8):
            observation, _, terminated, truncated, _ = env.step(action % int(env.action_space.n))
            seen.append(observation)
            if terminated or truncated:
                break
        runs.append(seen)
    assert len(runs[0]) == len(runs[1])
    for first, second in zip(*runs, strict=True):
        for name, value in first.items():
            assert np.array_equal(value, second[name])


@pytest.mark.parametrize("case", [case for case in CASES if "max_steps" in case], ids=str)
def test_an_episode_ends_after_max_steps(case):
    env = envs.make(**case)
    env.reset(seed=0)
    for step in range(1, 6):
        _, _, terminated, truncated, _ = env.step(0)
        if terminated or truncated:
            break
    assert terminated or truncated
    assert terminated or step == 5


def test_view_is_the_grid_seen_from_the_agent():
    env = envs.make("MiniGrid", id="MiniGrid-FourRooms-v0")
    observation, _ = env.reset(seed=1)
    base, (rows, columns) = env.unwrapped, observation["view"].shape
    forward, right = base.dir_vec, base.right_vec
    seen = 0
    for row in range(rows):
        for column in range(columns):
            token = observation["view"][row, column]
            if token == UNSEEN:
                continue
            cell = base.agent_pos + (rows - 1 - row) * forward + (column - columns // 2) * right
            content = base.grid.get(*cell)
            assert token == to_token(np.array([1, 0, 0] if content is None else content.encode()))
            seen += 1
    assert seen > 5


def test_permutation_renames_the_same_world():
    plain, renamed = envs.make("MiniGrid"), envs.make("MiniGrid", permute_seed=5)
    first, second = plain.reset(seed=4)[0], renamed.reset(seed=4)[0]
    assert (renamed.tokens[first["view"]] == second["view"]).all()
    assert sorted(renamed.tokens) == list(range(len(renamed.tokens)))
    for action in range(7):
        first = plain.step(int(renamed.actions[action]))[0]
        second = renamed.step(action)[0]
        assert (renamed.tokens[first["view"]] == second["view"]).all()


def test_same_seed_same_noise():
    runs = []
    for _ in range(2):
        env = envs.make("MiniGrid", slip=0.3, misread=0.2)
        env.reset(seed=9)
        runs.append([env.step(a % 7)[0]["view"] for a in range(20)])
    assert all((a == b).all() for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "MiniGird"}, "Did you mean 'MiniGrid'"),
        ({"name": "MiniGrid", "id": "MiniGrid-DoorKy-5x5-v0"}, "DoorKey"),
        ({"name": "MiniGrid", "id": "CartPole-v1"}, "not a registered MiniGrid environment"),
        ({"name": "MiniGrid", "slip": 1.5}, "slip"),
        ({"name": "TMaze", "max_steps": 0}, "at least 1"),
        ({"name": "TMaze", "misread": 0.5}, "leave them out"),
        ({"name": "Gymnasium"}, "env.id"),
        (
            {"name": "Gymnasium", "id": "no_such_module:World-v0"},
            "env.id=no_such_module:World-v0: there is no module 'no_such_module'",
        ),
        ({"name": "Gymnasium", "id": "worlds:Bear-v0"}, "Did you mean 'Bare-v0'"),
        ({"name": "no_such_module:World"}, "there is no module 'no_such_module'"),
        ({"name": "worlds:Coridor"}, "has no 'Coridor'. Did you mean 'Corridor'"),
        ({"name": "worlds:WALL"}, "expected an environment class or a function"),
        ({"name": "worlds:not_a_world"}, "expected a Gymnasium environment, found str"),
        ({"name": ":Corridor"}, "module:name"),
        ({"name": "TMaze", "id": "CartPole-v1"}, "leave env.id out"),
        ({"name": "MiniGrid", "agent_view_size": 6}, "must be odd"),
        ({"name": "MiniGrid", "agent_view": 6}, "keywords that it does not know"),
        (
            {"name": "TMaze", "cue_reliability": 1.7},
            "cue_reliability=1.7: expected.* from 0.5 to 1",
        ),
        (
            {"name": "CueChaining", "reward_probability": -1},
            "reward_probability=-1: .* from 0 to 1",
        ),
        ({"name": "Allostasis", "noise": -0.1}, "noise=-0.1: expected a number at least 0"),
        (
            {"name": "Gymnasium", "id": "FrozenLake-v1", "map_name": "9x9"},
            "env.id=FrozenLake-v1 cannot be made with .*KeyError: '9x9'",
        ),
        ({"name": "worlds:Picky", "size": 4}, "env=worlds:Picky cannot be made with .*asserts"),
        ({"name": "Gymnasium", "id": "BabyAI-GoToRedBall-v0"}, "write env=MiniGrid env.id=BabyAI-"),
    ],
    ids=str,
)
def test_bad_settings_are_one_sentence(settings, words):
    with pytest.raises(envs.EnvironmentError_, match=words) as refused:
        envs.make(**settings)
    assert "\n" not in str(refused.value)


def test_a_grid_world_may_be_registered_under_any_name():
    env = envs.make("MiniGrid", id="Lab/Corridor-v0")
    assert env.unwrapped.width == 6


def test_what_is_wrong_with_a_world_itself_is_left_as_it_is():
    """Nothing was asked of it: its author wants to see where."""
    with pytest.raises(KeyError, match="broken"):
        envs.make("worlds:Broken")


def test_options_reach_an_environment_from_outside():
    assert envs.make("worlds:Corridor", max_steps=70, slip=0.5).unwrapped.max_steps == 70
    assert envs.make("TMaze", cue_reliability=0.7).unwrapped.cue_reliability == 0.7
    assert envs.make(
        "gymnasium.envs.toy_text:CliffWalkingEnv", is_slippery=True
    ).unwrapped.is_slippery


@pytest.mark.parametrize("case", CASES, ids=str)
def test_pictures_may_be_asked_of_any_environment(case):
    """One that cannot draw is made without; the recorder then shows the agent's pictures alone."""
    env = envs.make(**case, render=True)
    env.reset(seed=0)
    if env.render_mode == "rgb_array":
        assert env.render().shape[-1] == 3


def test_shortest_path_of_the_empty_room():
    env = envs.make("MiniGrid", id="MiniGrid-Empty-5x5-v0")
    env.reset(seed=0)
    assert env.shortest_path() == 5  # 2 forward, 1 turn, 2 forward


def test_no_way_leads_off_the_grid():
    """A door in the outer wall stands open: the search must not step out of the world."""
    env = envs.make("MiniGrid", id="MiniGrid-Empty-5x5-v0")
    env.reset(seed=0)
    env.unwrapped.grid.set(1, 0, None)
    assert env.get_wrapper_attr("shortest_path")() == 5


def test_vector_autoreset_has_no_junk_step():
    vector = envs.make_vector(2, "TMaze")
    vector.reset(seed=0)
    _, _, terminated, _, info = vector.step(np.array([1, 3]))
    assert terminated.tolist() == [True, False]
    assert info["_final_obs"].tolist() == [True, False]
    assert info["final_obs"][0]["location"] == 1
    won = info["final_obs"][0]["outcome"] == 2
    assert info["final_info"]["success"][0] == won  # what was told at the end is found there
