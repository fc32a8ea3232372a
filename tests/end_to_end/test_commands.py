"""The commands as a user types them: what they leave behind, print and refuse."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aif_dcpc import agents, envs
from aif_dcpc.charts import SHOWN_WHEN_CHANGED
from aif_dcpc.commands import rollout as rollout_command
from aif_dcpc.commands import train as train_command
from aif_dcpc.configuration import load_config

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")

RANDOM = ("agent=random", "env.max_steps=30")


def board_of(folder):
    board = EventAccumulator(str(folder))
    board.Reload()
    return board


def tags(folder):
    return board_of(folder).Tags()


LATENTS = {"event", "map", "transition", "outcome_table", "token_prior", "misread"}
RANGES = {
    "train/return": (0, 1), "train/episode_length": (1, 20), "train/success": (0, 1), "inference/ess": (1, 16),
    "inference/unique_ancestors": (1, 16), "inference/free_energy": (0, 1e4), "efe/information_gain": (0, 1e4),
    "efe/novelty": (0, 1e3), "efe/ambiguity": (0, 100), "efe/risk": (-1e3, 1e4), "speed/env_steps_per_second": (0.1, 1e4),
    "learning/log_joint": (-1e4, 1e4), "speed/ms_per_sweep": (0.01, 1e4), "speed/ms_inference": (0.01, 1e5),
    "speed/ms_planning": (0.01, 1e5), "speed/ms_learning": (0.01, 1e5),
    **{f"inference/acceptance/{site}": (0, 1) for site in LATENTS},
}  # fmt: skip


def test_the_main_job(command, tmp_path):
    trained = command(
        "train",
        "total_env_steps=45",
        "env.max_steps=20",
        "run_dir=run",
        "log_every=5",
        "picture_every=20",
        "video_every=2",
    )
    run = tmp_path / "run"
    assert "next:    aif-rollout run=run" in trained.stdout
    assert yaml.safe_load((run / "config.yaml").read_text())["agent"]["name"] == "hierarchical"
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 45
    lengths = [r["train/episode_length"] for r in records if "train/return" in r]
    assert lengths and max(lengths) <= 20
    shown = tags(run)
    for tag, (low, high) in RANGES.items():
        values = [record[tag] for record in records if tag in record]
        assert values and all(low <= value <= high for value in values), (tag, values)
        changes = len(set(values)) > 1 or not tag.startswith(SHOWN_WHEN_CHANGED)
        assert (tag in shown["scalars"]) == (changes or len(values) == 1), tag
    assert {"belief/beside_truth", "episode/beside_truth"} <= set(shown["images"])
    assert {"0_results/return", "0_results/success_rate"} <= set(shown["scalars"])
    assert "config/text_summary" in shown["tensors"]
    assert list((run / "figures").glob("*.png")) and list((run / "videos").glob("*.gif"))

    rolled = command(
        "rollout", "run=run", "episodes=2", "env.max_steps=10", "video=true", "video_episodes=1"
    )
    result = json.loads(rolled.stdout.splitlines()[-1])
    expected = {
        "env",
        "episodes",
        "policy",
        "success_rate",
        "mean_return",
        "mean_length",
        "ms_per_step",
    }
    assert expected <= set(result)
    assert (result["env"], result["episodes"], result["policy"]) == (
        "MiniGrid-DoorKey-5x5-v0",
        2,
        "greedy",
    )
    shown = tags(run / "rollouts")  # a run of its own on the board
    assert {"eval/success_rate", "eval/return", "eval/episode_length"} <= set(shown["scalars"])
    assert "eval/episode" in shown["images"]


def test_help_lists_groups_and_choices(command):
    shown = command("train", "--help").stdout
    assert f"agent: {', '.join(sorted(agents.NAMES))}" in shown
    assert f"env: {', '.join(sorted(envs.NAMES))}" in shown
    assert all(key in shown for key in load_config("train"))


def test_a_sweep_runs_every_job_in_its_own_folder(command, tmp_path):
    command("train", "-m", *RANDOM, "seed=1,2", "total_env_steps=20", "run_dir=sweep")
    seeds = [
        yaml.safe_load(path.read_text())["seed"]
        for path in (tmp_path / "sweep").glob("*/config.yaml")
    ]
    assert sorted(seeds) == [1, 2]
    command("rollout", f"run={next((tmp_path / 'sweep').iterdir())}", "episodes=1")


def test_a_trained_agent_in_three_lines(finish, tmp_path):
    """The lines of the README, on a run of this test."""
    finish("train", "total_env_steps=20", "env.max_steps=10", "run_dir=run")
    (lines,) = re.findall(r"```python\n(from aif_dcpc import Agent.*?)```", README, re.DOTALL)
    env = envs.make("MiniGrid", id="MiniGrid-DoorKey-5x5-v0")
    observation, _ = env.reset(seed=0)
    names = {"observation": observation}
    exec(lines.replace("runs/hierarchical-MiniGrid/<date-time>", str(tmp_path / "run")), names)
    assert names["action"] in range(7)


def test_the_time_budget_and_the_streak_end_a_run(finish):
    quick = (
        "env.id=MiniGrid-Empty-5x5-v0",
        "agent=random",
        "env.max_steps=400",
        "picture_every=0",
        "video_every=0",
    )
    told = finish(
        "train", *quick, "total_env_steps=20000", "stop_after_successes_in_a_row=1", "run_dir=a"
    )
    assert "learned: a" in told
    told = finish("train", *quick, "total_env_steps=1000000", "max_minutes=0.01", "run_dir=b")
    assert "out of time: b" in told


REFUSED = [
    (["agent=hierarchicl"], "Did you mean 'hierarchical'"),
    (["env=minigrid"], "Did you mean 'MiniGrid'"),
    (["experiment=nothing"], "unknown experiment"),
    (["sed=3"], "Did you mean 'seed'"),
    (["agent.map_sise=3"], "Did you mean 'agent.map_size'"),
    (["+agent.foo=3"], "unknown key 'agent.foo'"),
    (["seed=x"], "seed must be a whole number"),
    (["seed=-1"], "seed must be at least 0"),
    (["total_env_steps=0"], "total_env_steps must be at least 1"),
    (["total_env_steps=-5"], "total_env_steps must be at least 1"),
    (["max_minutes=-1"], "max_minutes must be at least"),
    (["device=gpu"], "Did you mean 'cpu'"),
    (["agent.map_size=big"], "agent.map_size must be a whole number"),
    (["agent.map_size=2"], "map_size must be at least"),
    (["agent.prior.hand_matters=2"], "prior.hand_matters must lie between 0 and 1"),
    (["agent.prior.misread=[1]"], "prior.misread must be two positive numbers"),
    (["env.slip=2"], "env.slip must be at most 1"),
    (["env.id=MiniGrid-DorKey-5x5-v0"], "Did you mean 'MiniGrid-DoorKey-5x5-v0'"),
    (["env=TMaze"], "this environment's observations"),
    (["env=Gymnasium", "env.id=FrozenLak-v1"], "Did you mean 'FrozenLake-v1'"),
    (["env=Gymnasium", "agent=random"], "say which with env.id="),
    (["env=Gymnasium", "env.id=Pendulum-v1"], "chooses among discrete actions"),
    (["env=worlds:Spoken", "agent=random"], "stream 'words' is Text"),
    (["env=worlds:Handed", "agent=random"], "its actions are Dict"),
    (["env=PositionsOnly", "env.id=FrozenLake-v1"], "expected CartPole-v1"),
    (["env.action_repeat=0"], "env.action_repeat must be at least 1"),
    (["~seed"], "no value for 'seed'"),
    (["seed=1,2"], "add -m"),
    (["-m", "seed=1,x"], "seed must be a whole number"),
    (["seed"], "write KEY=VALUE"),
    (["name=${nothing}"], "cannot be resolved"),
    (
        ["num_envs=2"],
        "num_envs must be 1, not 2: agent 'hierarchical' lives in one world at a time",
    ),
    (["epochs=3"], "total_env_steps"),
    (["resume=nowhere"], "there is no run folder nowhere"),
    (["resume=foreign"], "not a run folder"),
    (["resume=foreign", "agent=random"], "keeps its own agent"),
    (["run_dir=foreign"], "is not empty"),
    (["run_dir=/dev/null/run"], "cannot write"),
]


def refuse(main, arguments, sentence, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["aif", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert sentence in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"), REFUSED, ids=[" ".join(case[0]) for case in REFUSED]
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    arguments, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").touch()
    refuse(train_command.main, arguments, sentence, monkeypatch, capsys)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [
        "foreign",
        "foreign/file",
    ]


def test_cuda_is_refused_where_there_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    asked = ["experiment=digits", "device=cuda"]
    refuse(train_command.main, asked, "device=cpu", monkeypatch, capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "run=RUN_DIR"),
        (["run=nowhere"], "no run folder"),
        (["run=.", "polcy=greedy"], "Did you mean 'policy'"),
        (["run=.", "episodes=0"], "at least 1"),
    ],
)
def test_rollouts_refuse_too(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refuse(rollout_command.main, arguments, sentence, monkeypatch, capsys)


def test_a_misspelt_key_leaves_with_code_2(command, tmp_path):
    done = command("train", "total_env_stepz=3", rc=2)
    assert done.stderr.startswith(
        "error: unknown key 'total_env_stepz'. Did you mean 'total_env_steps'?"
    )
    assert not list(tmp_path.iterdir())
