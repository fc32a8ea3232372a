"""Several worlds at a time: one run stopped anywhere is the run left alone; each world is the world alone."""

import json

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aif_dcpc import agents, envs
from aif_dcpc.agent_runs.inhabitants import AllAtOnce, OneInEach, settle
from aif_dcpc.agent_runs.loop import AgentLoop
from aif_dcpc.agent_runs.rollouts import SideBySide, play, rollout
from aif_dcpc.agent_runs.run import continue_agent_run, create_agent_run
from aif_dcpc.configuration import load_config
from aif_dcpc.errors import ConfigError, RunFolderError
from aif_dcpc.randomness import ENVIRONMENT_EPISODE, derive
from aif_dcpc.schema import rollout_config, train_config

STEERED = ("agent=outside_agents:Tracer", "env=worlds:Steered")
CROWD = ("agent=outside_agents:Crowd", "env=TMaze")
QUIET = ("picture_every=0", "video_every=0")
RUNS = {
    "Box actions": (*STEERED, "env.slip=.2"),
    "Box actions, companions": (*STEERED, "num_envs=3"),
    "Box actions, held": (*STEERED, "num_envs=2", "env.action_repeat=2"),
    "a batch": (*CROWD, "num_envs=5", "env.slip=.2"),
    "a batch that rests": (
        "agent=tmaze",
        "env=TMaze",
        "num_envs=3",
        "inference.num_particles=4",
    ),
    "a plan for all": (
        "agent=discrete",
        "env=Gymnasium",
        "env.id=FrozenLake-v1",
        "num_envs=3",
        "inference.num_particles=2",
    ),
    "hidden velocities": (
        "experiment=cart_pole_positions",
        "num_envs=2",
        "agent.num_waves=8",
        "agent.horizon=3",
        "agent.candidates=8",
        "agent.elites=2",
    ),
    "levers": ("agent=random", "env=worlds:Levers", "num_envs=2"),
    "one pole": ("agent=random", "env=Gymnasium", "env.id=CartPole-v1", "env.action_repeat=3"),
}


def config_of(*words):
    return train_config(load_config("train", *words))


def left_alone(place, steps, *words):
    """A run from its beginning to so many steps; its records, speeds apart."""
    config = config_of(*words, f"run_dir={place}", f"total_env_steps={steps}", "log_every=7")
    folder = create_agent_run(config)
    continue_agent_run(folder, config)
    return folder, config


def records(folder):
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if not key.startswith("speed/")}
        for line in lines
    ]


@pytest.mark.parametrize("words", RUNS.values(), ids=list(RUNS))
def test_a_run_that_was_stopped_and_resumed_is_the_same_bit_for_bit(words, tmp_path):
    """Stopped after numbers of steps that fall within episodes, actions and intervals of records.

    Once killed as well: the newest checkpoint was never written, what came after the one before is
    done again.
    """
    whole, _ = left_alone(tmp_path / "whole", 120, *words, *QUIET)
    parts, _ = left_alone(tmp_path / "parts", 13, *words, *QUIET)
    for steps in (29, 61, 120):
        if steps == 61:
            parts.checkpoints()[0].unlink()
        resumed = config_of(*words, *QUIET, f"total_env_steps={steps}", "log_every=7")
        continue_agent_run(parts, resumed)
    assert records(parts) == records(whole)
    assert len(records(whole)) > 10
    ours, theirs = parts.load_checkpoint(), whole.load_checkpoint()
    for key in ("agent", "tally", "worlds"):
        assert same(ours[key], theirs[key]), key


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_steps_are_those_of_the_environments():
    """Two worlds, actions held for two steps: episodes of nine steps end with an action of one."""
    words = (*STEERED, "num_envs=2", "env.action_repeat=2")
    config = config_of(*words)
    loop = loop_of(config, 2)
    loop.begin()
    seen = []
    while loop.statistics.episode < 6:
        before = loop.statistics.step
        ended = [record["train/episode_length"] for record in loop.step()]
        made = loop.statistics.step - before
        assert made == 4 - sum(length % 2 for length in ended)
        seen += ended
    assert any(length % 2 for length in seen)
    running = sum(world.episode.steps for world in loop.worlds)
    assert sum(seen) + running == loop.statistics.step


def loop_of(config, num_envs):
    worlds = [envs.make(config.env.name, **config.env.arguments()) for _ in range(num_envs)]
    agent = agents.make(
        config.agent["name"],
        observation_space=worlds[0].observation_space,
        action_space=worlds[0].action_space,
        metadata={},
        settings={},
        seed=1,
    )
    lives = settle(config.agent["name"], agent, num_envs)
    return AgentLoop(worlds, lives, seed=4, greedy=False, log_every=10**6)


def test_every_world_goes_through_the_episodes_that_it_would_go_through_alone():
    """Each is the environment reset by the seed of its episode, given the actions that were chosen in it."""
    loop = loop_of(config_of(*CROWD), 4)
    handed = []
    lives = loop.inhabitants
    feedback = lives.feedback
    lives.feedback = lambda outcomes: (handed.append(outcomes), feedback(outcomes))[1]
    loop.begin()
    alone = [envs.make("TMaze") for _ in range(4)]
    ended = 0
    for world, env in zip(loop.worlds, alone, strict=True):
        seen, _ = env.reset(seed=derive(4, ENVIRONMENT_EPISODE, world.episode.number))
        assert seen == world.observation
    for _ in range(40):
        before = [(world.episode, list(world.episode.actions)) for world in loop.worlds]
        loop.step()
        for world, env, (episode, past), outcome in zip(
            loop.worlds, alone, before, handed[-1], strict=True
        ):
            (action,) = episode.actions[len(past) :]
            seen, reward, terminated, truncated, info = env.step(action)
            assert (seen, reward, terminated, truncated) == (
                outcome.observation,
                outcome.reward,
                outcome.terminated,
                outcome.truncated,
            )
            assert info == outcome.info
            if (
                outcome.ended
            ):  # the last observation was handed over; what is seen now is a first one
                ended += 1
                seen, _ = env.reset(seed=derive(4, ENVIRONMENT_EPISODE, world.episode.number))
                assert world.episode.actions == []
            assert seen == world.observation
    assert ended > 20
    numbers = [world.episode.number for world in loop.worlds]
    assert len(set(numbers)) == 4 and max(numbers) == ended + 3
    crowd = lives.agent
    assert len(crowd.last) == ended and len(crowd.begun) == ended + 4


def test_companions_learn_into_one_memory():
    loop = loop_of(config_of(*STEERED), 3)
    lives = loop.inhabitants
    assert isinstance(lives, OneInEach)
    loop.begin()
    for _ in range(12):
        loop.step()
    assert all(other.memory is lives.agent.memory for other in lives.agents)
    twin = loop_of(config_of(*STEERED), 3)
    twin.restore(loop.state())
    memories = [other.memory for other in twin.inhabitants.agents]
    assert all(memory is memories[0] for memory in memories)
    assert torch.equal(memories[0], lives.agent.memory)


def test_an_environment_that_was_changed_since_is_noticed(tmp_path):
    folder, config = left_alone(tmp_path / "run", 13, *STEERED, *QUIET)
    checkpoint = folder.load_checkpoint()
    checkpoint["worlds"][0]["actions"][-1][0] *= -1
    folder.save_checkpoint(14, checkpoint)
    with pytest.raises(RunFolderError, match="no longer answers as it did"):
        continue_agent_run(folder, config)


def test_an_agent_of_one_world_says_so():
    with pytest.raises(ConfigError, match="lives in one world at a time") as refused:
        loop_of(config_of("agent=outside_agents:Stubborn", "env=TMaze"), 2)
    assert "\n" not in str(refused.value)


# -- rollouts --------------------------------------------------------------------------------------


def test_episodes_side_by_side_are_those_played_one_by_one():
    """An agent that does the same in any world: the same seeds, in their order, each once."""
    worlds = [envs.make("Gymnasium", id="CartPole-v1") for _ in range(4)]
    stubborn = [crowd(world) for world in worlds]
    singly = [play(worlds[0], stubborn[0], seed=30 + i, greedy=True) for i in range(11)]
    done = []
    together = SideBySide(worlds, OneInEach(stubborn), range(30, 41), greedy=True)
    found = together.play(lambda episodes: done.append(len(episodes)))
    assert [(e.episode_return, e.length, e.success) for e in found] == [
        (e.episode_return, e.length, e.success) for e in singly
    ]
    assert len({e.length for e in found}) > 2
    assert done[-1] == 11
    assert all(len(e.milliseconds) == e.length for e in found)


def crowd(world):
    return agents.make(
        "outside_agents:Crowd",
        observation_space=world.observation_space,
        action_space=world.action_space,
        metadata={},
        settings={},
        seed=0,
    )


def test_a_batch_is_handed_all_worlds_and_each_episode_is_counted_once():
    worlds = [envs.make("TMaze", max_steps=4) for _ in range(3)]
    agent = crowd(worlds[0])
    episodes = SideBySide(worlds, AllAtOnce(agent), range(8), greedy=True).play(len)
    assert len(episodes) == 8
    lengths = [episode.length for episode in episodes]
    assert max(lengths) <= 4
    spare = list(agent.last)
    for length in lengths:
        spare.remove(length)  # what is left are uncounted episodes
    assert len(spare) <= 2 * len(worlds)


@pytest.mark.parametrize("worlds", [1, 2])
@pytest.mark.parametrize("held", [1, 3])
def test_an_episode_without_an_end_is_cut_off_and_a_sentence_says_so(
    worlds, held, tmp_path, capsys
):
    words = ("agent=random", "env=worlds:Endless", f"env.action_repeat={held}")
    folder = create_agent_run(config_of(*words, *QUIET, f"run_dir={tmp_path / 'run'}"))
    asked = ["max_episode_steps=7", "episodes=5", f"num_envs={worlds}", "trust=worlds:Endless"]
    result = rollout(rollout_config(load_config("rollout", f"run={folder}", *asked)))
    steps = {1: 7, 3: 9}[held]  # the first multiple that is not below the limit
    assert result["mean_length"] == result["mean_return"] == steps
    said = capsys.readouterr().err
    assert said.count("5 of 5 episodes had no end within 7 environment steps") == 1
    asked[0] = "env.max_steps=5"  # an end of the world's own
    rollout(rollout_config(load_config("rollout", f"run={folder}", *asked)))
    assert "no end" not in capsys.readouterr().err


# -- what a run leaves behind ----------------------------------------------------------------------

TAGS = {
    "train/episode": (0, 1e4), "train/return": (-100, 100), "train/episode_length": (1, 10), "train/success": (0, 1),
    "train/success_rate": (0, 1), "speed/ms_inference": (0, 1e4), "speed/ms_planning": (0, 1e4),
    "speed/ms_learning": (0, 1e4), "speed/ms_environment": (0, 1e4), "speed/env_steps_per_second": (1, 1e6),
}  # fmt: skip


def board_of(folder):
    board = EventAccumulator(str(folder), size_guidance={"images": 0})
    board.Reload()
    return board


@pytest.mark.parametrize(
    ("words", "own"),
    [((*CROWD, "num_envs=5"), "crowd/seen"), (STEERED, "tracer/memory"), ((*STEERED, "num_envs=2"), "tracer/memory")],
    ids=["a batch", "Box actions", "companions"],
)  # fmt: skip
def test_every_tag_is_on_the_board(words, own, tmp_path):
    """Records, pictures and the recording of the first world; rollouts of as many worlds at a time."""
    folder, _ = left_alone(tmp_path / "run", 60, *words, "picture_every=20", "video_every=2")
    board = board_of(folder)
    for tag, (low, high) in {**TAGS, own: (-np.inf, np.inf)}.items():
        values = [event.value for event in board.Scalars(tag)]  # an unknown tag raises
        assert values and all(low <= value <= high for value in values), (tag, values)
    first = {"0_results/return", "0_results/success_rate"}
    assert {*TAGS, own} | first == set(board.Tags()["scalars"])
    assert len(board.Images("belief/beside_truth")) >= 3
    assert board.Images("episode/beside_truth")
    ended = [r for r in records(folder) if "train/episode" in r]
    assert [r["train/episode"] for r in ended] == list(range(len(ended)))
    trust = [word.partition("=")[2] for word in words if ":" in word]
    asked = ["episodes=5", "num_envs=2", "video=true", "video_episodes=1"]
    config = load_config("rollout", f"run={folder}", *asked, f"trust=[{','.join(trust)}]")
    result = rollout(rollout_config(config))
    assert result["episodes"] == 5 and 1 <= result["mean_length"] <= 10
    shown = [board_of(file).Tags() for file in folder.path.rglob("events.*")]
    assert "eval/episode" in [tag for tags in shown for tag in tags["images"]]
    rolled = {tag for tags in shown for tag in tags["scalars"]}
    assert {"eval/success_rate", "eval/return", "eval/episode_length"} <= rolled
