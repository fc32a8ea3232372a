"""Shortest paths lead to the reward in the environment itself, and nothing shorter does."""

import copy
from itertools import product

import pytest
from minigrid.core.actions import Actions
from minigrid.core.world_object import Ball, Door, Key, Wall

from aif_dcpc import envs
from aif_dcpc.envs.aims import aim_of
from aif_dcpc.envs.shortest_path import shortest_actions, shortest_path
from aif_dcpc.envs.world_state import Layout

TASKS = [
    *(
        f"MiniGrid-{name}-v0"
        for name in (
            "SimpleCrossingS9N1", "LavaGapS5", "MultiRoom-N4-S5", "DoorKey-5x5", "FourRooms", "LockedRoom", "Unlock",
            "UnlockPickup", "BlockedUnlockPickup", "KeyCorridorS3R1", "KeyCorridorS3R3", "RedBlueDoors-6x6", "MemoryS7",
            "Fetch-5x5-N2", "GoToDoor-5x5", "GoToObject-6x6-N2",
        )
    ),
    *(f"BabyAI-{name}-v0" for name in ("GoToRedBall", "GoToLocal", "PickupDist", "OpenDoor", "PickupLoc")),
]  # fmt: skip
SMALL = [
    "MiniGrid-Fetch-5x5-N2-v0",
    "MiniGrid-GoToDoor-5x5-v0",
    "MiniGrid-GoToObject-6x6-N2-v0",
    "MiniGrid-MemoryS7-v0",
    "BabyAI-GoToRedBall-v0",
]
ENOUGH = 5  # steps; more cannot be enumerated


def world_of(id, seed):
    """MiniGrid's own environment, an episode begun."""
    env = envs.make("MiniGrid", id=id).unwrapped
    env.reset(seed=seed)
    return env


def outcome(env, actions):
    """Reward and end of the last action, and how many were taken until then."""
    for number, action in enumerate(actions, 1):
        _, reward, ended, _, _ = env.step(action)
        if ended:
            return float(reward), number
    return 0.0, None


@pytest.mark.parametrize("id", TASKS)
def test_it_is_a_way(id):
    for seed in range(4):
        env = world_of(id, seed)
        actions = shortest_actions(env)
        reward, number = outcome(env, actions)
        assert reward > 0 and number == len(actions) == shortest_path(world_of(id, seed))


@pytest.mark.parametrize("id", SMALL)
def test_no_way_is_shorter(id):
    """All sequences of actions, in the environment itself: of 20 episodes those of which few steps are enough."""
    tried = 0
    for seed in range(20):
        env = world_of(id, seed)
        least = shortest_path(env)
        if least > ENOUGH:
            continue
        tried += 1
        worlds = [env]
        for _ in range(least - 1):
            found = [(copy.deepcopy(world), action) for world, action in product(worlds, Actions)]
            ends = [world.step(action)[1:3] for world, action in found]
            assert not any(reward > 0 for reward, _ in ends)
            worlds = distinct(
                world for (world, _), (_, end) in zip(found, ends, strict=True) if not end
            )
    assert tried >= 5


def distinct(worlds):
    """One of all that are in the same state."""
    kept = {}
    for world in worlds:
        hand = world.carrying and (world.carrying.type, world.carrying.color)
        pose = (*map(int, world.agent_pos), world.agent_dir)
        kept[pose, hand, world.grid.encode().tobytes()] = world
    return list(kept.values())


def test_what_is_in_the_way_is_put_aside_and_the_key_is_put_down():
    """A ball before the door, a box behind it: the ball goes first, and hands are free for the box."""
    actions = shortest_actions(world_of("MiniGrid-BlockedUnlockPickup-v0", 0))
    assert actions.count(Actions.pickup) == 3 and actions.count(Actions.drop) == 2
    assert actions.count(Actions.toggle) == 1


def test_a_way_goes_on_from_where_it_is():
    """After any number of its own steps what is left is as much shorter, with a thing in hand too."""
    id = "MiniGrid-UnlockPickup-v0"
    actions = shortest_actions(world_of(id, 3))
    for steps in range(1, len(actions)):
        env = world_of(id, 3)
        outcome(env, actions[:steps])
        assert shortest_path(env) == len(actions) - steps


def test_what_is_gone_cannot_be_had_by_empty_hands():
    env = world_of("MiniGrid-UnlockPickup-v0", 3)
    env.grid.set(*env.obj.cur_pos, None)
    assert shortest_path(env) is None


def test_open_doors_are_ways_and_what_is_there_already_takes_a_step():
    env = world_of("MiniGrid-Empty-5x5-v0", 0)
    for y in (1, 3):
        env.grid.set(2, y, Wall())
    env.grid.set(2, 2, Door("red", is_open=True))
    assert shortest_path(env) == 7  # down, through the door, down again: 4 steps ahead, 3 turns
    facing = world_of("BabyAI-GoToRedBall-v0", 0)
    outcome(facing, shortest_actions(facing)[:-1])
    assert shortest_path(facing) == 1


@pytest.mark.parametrize(("thing", "steps"), [(Key, 8), (Ball, None)])
def test_only_a_key_opens_a_lock(thing, steps):
    """Take what is below, turn to the door, open it, go through it, and down to the goal."""
    env = world_of("MiniGrid-Empty-5x5-v0", 0)
    env.grid.set(1, 2, thing("red"))
    env.grid.set(2, 1, Door("red", is_locked=True))
    for y in (2, 3):
        env.grid.set(2, y, Wall())
    env.agent_dir = 1
    assert shortest_path(env) == steps


@pytest.mark.parametrize(("id", "ends"), [("PickupDist", False), ("PickupDistDebug", True)])
def test_where_an_instruction_is_strict_the_wrong_thing_ends_the_episode(id, ends):
    env = world_of(f"BabyAI-{id}-v0", 0)
    layout = Layout.of(env)
    wrong = next(
        number
        for number, thing in enumerate(layout.things)
        if thing.type != "door" and thing not in env.instrs.desc.obj_set
    )
    state = layout.state_of(env)
    aim = aim_of(env, layout)
    assert aim.missed(state._replace(carried=wrong)) == ends
    assert not aim.reached(state._replace(carried=wrong)) and not aim.missed(state)


@pytest.mark.parametrize(("id", "ends"), [("OpenDoor", False), ("OpenDoorDebug", True)])
def test_where_an_instruction_is_strict_the_wrong_door_ends_the_episode(id, ends):
    env = world_of(f"BabyAI-{id}-v0", 0)
    layout = Layout.of(env)
    doors = {number for number, thing in enumerate(layout.things) if thing.type == "door"}
    right = set(map(layout.number_of, env.instrs.desc.obj_set))
    state = layout.state_of(env)
    aim = aim_of(env, layout)
    wrong = state._replace(opened=frozenset(doors - right))
    assert doors > right and aim.missed(wrong) == ends and not aim.reached(wrong)
    opened = state._replace(opened=frozenset(right))
    assert aim.reached(opened) and not aim.missed(opened)


def test_no_hands_no_things():
    """Only three actions: balls are in the way, and cannot be taken."""
    env = world_of("MiniGrid-Dynamic-Obstacles-5x5-v0", 0)
    assert set(shortest_actions(env)) <= {Actions.left, Actions.right, Actions.forward}


@pytest.mark.parametrize("id", ["MiniGrid-PutNear-6x6-N2-v0", "BabyAI-PutNextLocal-v0"])
def test_aims_that_are_not_told_have_no_shortest_path(id):
    assert shortest_path(world_of(id, 0)) is None
