"""Every adapter against Gymnasium's own checker, and the conventions of the egocentric view."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from aif_dcpc import envs
from aif_dcpc.envs.minigrid import UNSEEN, to_token

CASES = [
    {"name": "TMaze"},
    {"name": "MiniGrid"},
    {"name": "MiniGrid", "id": "MiniGrid-FourRooms-v0"},
    {"name": "MiniGrid", "slip": 0.1, "misread": 0.05},
    {"name": "MiniGrid", "permute_seed": 3},
]


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version.*")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gymnasium_checker(case):
    check_env(envs.make(**case), skip_render_check=True)


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
        ({"name": "MiniGird"}, "MiniGrid"),
        ({"name": "MiniGrid", "id": "MiniGrid-DoorKy-5x5-v0"}, "DoorKey"),
        ({"name": "MiniGrid", "slip": 1.5}, "slip"),
        ({"name": "Gymnasium"}, "env.id"),
    ],
)
def test_bad_settings_are_one_sentence(settings, words):
    with pytest.raises(envs.EnvironmentError_, match=words):
        envs.make(**settings)


def test_shortest_path_of_the_empty_room():
    env = envs.make("MiniGrid", id="MiniGrid-Empty-5x5-v0")
    env.reset(seed=0)
    assert env.shortest_path() == 5  # 2 forward, 1 turn, 2 forward


def test_vector_autoreset_has_no_junk_step():
    vector = envs.make_vector(2, "TMaze")
    vector.reset(seed=0)
    _, _, terminated, _, info = vector.step(np.array([1, 3]))
    assert terminated.tolist() == [True, False]
    assert info["final_obs"][0]["location"] == 1
