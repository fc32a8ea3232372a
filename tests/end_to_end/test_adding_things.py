"""The examples of CONTRIBUTING.md work as they stand, from outside the package: found by name, run, resumed, measured."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch.distributions import Independent, Normal

from aif_dcpc import envs
from aif_dcpc.commands import evaluate as evaluate_command
from aif_dcpc.commands import rollout as rollout_command
from aif_dcpc.commands import train as train_command
from aif_dcpc.inference import DCPC, GraphicalModel, MoveError, check_model, lag
from aif_dcpc.runs import open_run

PAGE = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL))
QUIET = ("picture_every=0", "video_every=0")
ACTING = ("agent=my_agents:WinStay", "+agent.patience=2", "env=my_worlds:Corridor")
TRUST_ACTING = "trust=[my_agents:WinStay,my_worlds:Corridor]"
TRUST_IMAGES = "trust=[my_graphs:two_causes,my_metrics:contrast]"


@pytest.fixture(autouse=True)
def beside_the_examples(tmp_path, monkeypatch):
    """Work in a folder with the examples' files, which no other test has imported."""
    for name, text in EXAMPLES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in EXAMPLES:
        sys.modules.pop(name, None)


def records():
    return [json.loads(line) for line in open_run("run").metrics.read_text().splitlines()]


def last_line(printed):
    return json.loads(printed.splitlines()[-1])


def test_every_example_is_tried():
    tried = {"my_moves", "my_worlds", "my_agents", "my_graphs", "my_metrics"}
    assert set(EXAMPLES) == tried
    assert PAGE.count("```python") == len(tried)


def skewed():
    """Two dimensions, and a child that depends on both."""
    model = GraphicalModel()
    model.add_site("z", lambda: Independent(Normal(torch.zeros(2), 1.0), 1))
    model.add_site("x", lambda z: Normal(z[..., 0] * torch.exp(z[..., 1] / 2), 0.7), ["z"])
    return model, {"x": torch.zeros(2)}


def chain():
    """A nonlinear series."""
    model = GraphicalModel()
    model.add_site(
        "z",
        lambda z: Normal(torch.sin(z) + z / 2, 0.6),
        [lag("z")],
        initial=lambda: Normal(0.0, 1.0),
        scope="slice",
    )
    model.add_site("x", lambda z: Normal(z.square() / 4, 0.5), ["z"], scope="slice")
    return model, {"x": torch.zeros(2, 6)}


@pytest.mark.parametrize("example", [skewed, chain])
def test_the_move_keeps_the_exact_joint(example):
    """By Geweke's test, which a right move fails once in 1e5 times; without its acceptance it is noticed."""
    model, data = example()
    assert check_model(model, data, moves={"z": "my_moves:RandomWalk"}) == ()
    drift = EXAMPLES["my_moves"].replace("log_ratio, generator)", "log_ratio.abs(), generator)")
    Path("my_moves_that_drift.py").write_text(drift)
    assert check_model(model, data, moves={"z": "my_moves_that_drift:RandomWalk"})


def test_the_move_moves_every_slice_and_is_refused_where_it_would_be_wrong():
    model, data = chain()
    engine = DCPC(model, num_particles=64, moves={"z": "my_moves:RandomWalk"})
    start = engine.init(data, seed=0)
    end, _ = engine.run(start, 20)
    assert ((start.values["z"] != end.values["z"]).float().mean((0, 1)) > 0.9).all()
    counts = GraphicalModel()
    counts.add_site("z", lambda: torch.distributions.Poisson(4.0))
    counts.add_site("x", lambda z: Normal(z, 1.0), ["z"])
    with pytest.raises(MoveError, match="needs a site with score"):
        DCPC(counts, moves={"z": "my_moves:RandomWalk"})


def test_the_environment_is_gymnasiums():
    env = envs.make("my_worlds:Corridor", length=4).unwrapped
    check_env(env, skip_render_check=True)
    env.reset(seed=0)
    assert [env.step(1)[:3] for _ in range(3)] == [(1, 0.0, False), (2, 0.0, False), (3, 1.0, True)]


def test_the_agent_learns_in_the_environment_and_goes_on(run):
    run(train_command.main, *ACTING, *QUIET, "total_env_steps=30", "log_every=5", "run_dir=run")
    run(train_command.main, "resume=run", "total_env_steps=60", TRUST_ACTING)
    assert open_run("run").load_checkpoint()["tally"]["step"] == 60
    assert max(record["step"] for record in records() if "win_stay/losses" in record) == 60
    # episodes end in the last of 5 cells alone
    played = last_line(run(rollout_command.main, "run=run", "episodes=3", TRUST_ACTING))
    assert played["success_rate"] == 1 and played["mean_length"] >= 4


def test_the_agent_of_the_package_tells_a_number_more(run):
    world = ("env.id=MiniGrid-Empty-5x5-v0", "log_every=3", "total_env_steps=6")
    run(train_command.main, "agent=my_agents:Talkative", *world, *QUIET, "run_dir=run")
    told = [record["talkative/action"] for record in records() if "talkative/action" in record]
    assert len(told) == 2 and all(0 <= value <= 6 for value in told)


def test_the_graph_learns_images_and_the_metric_is_recorded_and_reported(run):
    small = ("images.train_images=20", "images.validation_images=2", "images.validation_sweeps=1")
    asked = ("images.model=my_graphs:two_causes", "images.metrics=my_metrics:contrast", *small)
    run(train_command.main, "+images=default", *asked, "epochs=1", "run_dir=run")
    assert [line.split()[0] for line in open_run("run").model().splitlines()[1:4]] == [
        "form",
        "style",
        "image",
    ]
    run(train_command.main, "resume=run", "epochs=2", TRUST_IMAGES)
    # the standard deviation of numbers between 0 and 1 is at most a half (n / (n - 1) apart)
    assert all(0 < r["valid/contrast"] < 0.51 for r in records() if "valid/mse" in r)
    quick = ("seeds=1", "held_out=2", "sweeps=1", "annealed_images=0", "samples=0")
    measured = last_line(run(evaluate_command.main, "run=run", *quick, TRUST_IMAGES))
    assert 0 < measured["contrast"] < 0.51
