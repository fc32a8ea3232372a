"""Agents that stand on one declared model: trained, killed, resumed bit for bit, rolled out and filmed; every tag is there."""

import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aif_dcpc import agents
from aif_dcpc.agent_runs.rollouts import rollout
from aif_dcpc.agent_runs.run import continue_agent_run, create_agent_run
from aif_dcpc.charts import SHOWN_WHEN_CHANGED
from aif_dcpc.configuration import load_config
from aif_dcpc.schema import rollout_config, train_config

SMALL = ("env.max_steps=8", "log_every=6", "checkpoint_every=10")
WORLDS = {
    "tmaze": ("env=TMaze",),
    "discrete": ("env=Gymnasium", "env.id=FrozenLake-v1"),
    "gaussian": ("env=Gymnasium", "env.id=Pendulum-v1"),
}
SHARES = (0.0, 1.0)
ANY = (-1e9, 1e9)
POSITIVE = (0.0, 1e9)
TAGS = {
    "train/episode": POSITIVE, "train/return": ANY, "train/episode_length": (1, 8), "train/success": SHARES,
    "train/success_rate": SHARES, "speed/ms_inference": POSITIVE, "speed/ms_planning": POSITIVE,
    "speed/ms_learning": POSITIVE, "speed/ms_environment": POSITIVE, "speed/env_steps_per_second": POSITIVE,
    "speed/ms_per_sweep": POSITIVE, "inference/free_energy": ANY, "inference/ess": (1.0, 1e3),
    "inference/unique_ancestors": (1.0, 1e3), "efe/total": ANY, "efe/risk": ANY, "efe/ambiguity": ANY,
    "efe/information_gain": ANY, "efe/novelty": ANY, "learning/log_joint": ANY,
}  # fmt: skip

# what an agent has nothing to tell of whose world hides nothing: no latent history is swept, and
# what a step costs stands under efe_step
HIDDEN = (
    "speed/ms_per_sweep",
    "inference/",
    "efe/ambiguity",
    "efe/information_gain",
    "efe/risk",
    "efe/novelty",
)
SEES_ALL = ("discrete",)


def trained(place, steps, name, *more):
    words = (f"agent={name}", *WORLDS[name], *SMALL, f"total_env_steps={steps}", *more)
    config = train_config(load_config("train", *words, f"run_dir={place}"))
    return create_agent_run(config), config


def boards(folder):
    found = []
    for file in folder.path.rglob("events.*"):
        board = EventAccumulator(str(file), size_guidance={"images": 0, "scalars": 0})
        board.Reload()
        found.append(board)
    return found


def records_with_times(folder):
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def records(folder):
    lines = records_with_times(folder)
    return [{k: v for k, v in line.items() if not k.startswith("speed/")} for line in lines]


@pytest.mark.parametrize("name", WORLDS)
def test_an_agent_passes_train_kill_resume_and_rollout(name, tmp_path):
    """Killed once within an episode: the newest checkpoint is lost, and what came after the one before is done again."""
    if name not in agents.NAMES:
        pytest.skip(f"agent {name!r} is not registered")
    quiet = ("picture_every=0", "video_every=0")
    whole, config = trained(tmp_path / "whole", 34, name, *quiet)
    continue_agent_run(whole, config)
    killed, _ = trained(tmp_path / "killed", 34, name, *quiet)
    _, short = trained(tmp_path / "other", 23, name, *quiet)
    continue_agent_run(killed, short)
    killed.checkpoints()[0].unlink()
    continue_agent_run(killed, config)
    assert records(killed) == records(whole)
    result = rollout(
        rollout_config(
            load_config("rollout", f"run={killed}", "episodes=2", "video=true", "video_episodes=1")
        )
    )
    assert result["episodes"] == 2 and 1 <= result["mean_length"] <= 8
    assert list((killed.path / "videos").glob("rollout-*.gif"))
    shown = boards(killed)
    scalars = {tag for board in shown for tag in board.Tags()["scalars"]}
    images = {tag for board in shown for tag in board.Tags()["images"]}
    assert "eval/episode" in images
    assert {"eval/success_rate", "eval/return", "eval/episode_length"} <= scalars


@pytest.mark.parametrize("name", WORLDS)
def test_every_applicable_tag_of_a_short_run(name, tmp_path):
    """Each in its range; pictures of the belief and a recording as well."""
    if name not in agents.NAMES:
        pytest.skip(f"agent {name!r} is not registered")
    folder, config = trained(tmp_path / "run", 26, name, "picture_every=10", "video_every=2")
    continue_agent_run(folder, config)
    (board,) = boards(folder)
    for tag, (low, high) in TAGS.items():
        if name in SEES_ALL and tag.startswith(HIDDEN):
            continue
        told = [record[tag] for record in records_with_times(folder) if tag in record]
        assert told and all(low <= value <= high for value in told), (tag, told)
        shown = [value for value in told if value is not None]
        if tag in board.Tags()["scalars"] or not tag.startswith(SHOWN_WHEN_CHANGED):
            drawn = [event.value for event in board.Scalars(tag)]  # an unknown tag raises
            assert set(np.float32(shown)) == set(np.float32(drawn)), tag
        else:
            assert len(set(shown)) == 1, tag
    for tag in board.Tags()["scalars"]:
        if not tag.startswith("inference/acceptance/"):
            continue
        assert all(0 <= event.value <= 1 for event in board.Scalars(tag))
    assert {"belief/beside_truth", "episode/beside_truth"} <= set(board.Tags()["images"])
    assert "config/text_summary" in board.Tags()["tensors"]
