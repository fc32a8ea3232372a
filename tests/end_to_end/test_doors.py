"""Agents, environments and image graphs from outside the package, by `module:Name`; a run folder cannot have them imported."""

import json
import sys

import gymnasium
import pytest
import yaml

from aif_dcpc import load_agent
from aif_dcpc.commands import evaluate as evaluate_command
from aif_dcpc.commands import rollout as rollout_command
from aif_dcpc.commands import train as train_command
from aif_dcpc.configuration import load_config
from aif_dcpc.errors import RunFolderError
from aif_dcpc.runs import open_run

AGENTS = """
from aif_dcpc.agents import BaseAgent

class Curious(BaseAgent):
    def __init__(self, num_actions, seed, *, favourite=0):
        super().__init__(num_actions, seed)
        self.favourite = favourite

    def act(self, observation, *, greedy=True):
        return self.favourite

class Doubtful(Curious):
    doubts = ("whether this corridor ends",)
"""
WORLDS = """
import gymnasium
from gymnasium.spaces import Discrete

class Corridor(gymnasium.Env):
    observation_space = Discrete(9)
    action_space = Discrete(2)

    def __init__(self, length=9):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = 0
        return self.cell, {}

    def step(self, action):
        self.cell += int(action)
        end = self.cell == self.length - 1
        return self.cell, float(end), end, False, {}

gymnasium.register("Corridor-v0", Corridor, max_episode_steps=20)
"""
MODELS = """
from aif_dcpc.inference.images import dlgm

def graph(image_shape, width=3):
    return dlgm(sizes=(2, width), image_shape=image_shape)

def nothing(image_shape):
    return None

number = 3
"""
METRICS = """
def brightness(found):
    return found.images.mean()

def recall_mse(found):
    return 0.0
"""
QUIET = ("picture_every=0", "video_every=0")
CURIOUS = ("agent=my_agents:Curious", "+agent.favourite=1")
CORRIDOR = ("env=my_worlds:Corridor", "+env.options.length=4")
TRUST = "trust=[my_agents:Curious,my_worlds:Corridor]"
SMALL = ("images.train_images=20", "images.validation_images=2", "images.validation_sweeps=1")


@pytest.fixture(autouse=True)
def beside_own_modules(tmp_path, monkeypatch):
    """Work in a folder with modules of one's own, which no other test has imported."""
    for name, text in {
        "my_agents": AGENTS,
        "my_worlds": WORLDS,
        "my_models": MODELS,
        "my_metrics": METRICS,
        "broken": "x = = 3",
        "leaving": "raise SystemExit(3)",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    forget()


def forget():
    """Let own modules be imported as if for the first time."""
    for name in ("my_agents", "my_worlds", "my_models", "my_metrics"):
        sys.modules.pop(name, None)
    gymnasium.registry.pop("Corridor-v0", None)


def train_outside(run, *arguments):
    return run(train_command.main, *CURIOUS, *CORRIDOR, *QUIET, "run_dir=run", *arguments)


def test_an_agent_and_an_environment_of_ones_own_are_trained(run):
    printed = train_outside(run, "total_env_steps=12")
    # a corridor of 4 cells is walked in 3 steps by an agent that goes ahead always
    assert open_run("run").load_checkpoint()["tally"]["episode"] == 4
    assert f"next:    aif-rollout run=run video=true '{TRUST}'" in printed


def test_what_an_agent_doubts_ends_every_run(monkeypatch, capsys):
    trust = "trust=[my_agents:Doubtful,my_worlds:Corridor]"
    doubtful = ("agent=my_agents:Doubtful", *CORRIDOR, *QUIET, "total_env_steps=3")
    for main, asked in (
        (train_command.main, (*doubtful, "run_dir=run")),
        (train_command.main, ("resume=run", "total_env_steps=6", trust)),
        (train_command.main, ("resume=run", "total_env_steps=6", trust)),  # done already
        (rollout_command.main, ("run=run", "episodes=1", trust)),
    ):
        monkeypatch.setattr(sys, "argv", ["aif", *asked])
        main()
        assert capsys.readouterr().err.count("note: whether this corridor ends") == 1


def test_a_run_folder_has_its_code_imported_on_demand_alone(run):
    train_outside(run, "total_env_steps=6")
    forget()
    for main, arguments in (
        (train_command.main, ("resume=run", "total_env_steps=9")),
        (rollout_command.main, ("run=run", "episodes=1")),
        (rollout_command.main, ("run=run", "episodes=1", "trust=my_agents:Curious")),
    ):
        assert f"only if you add '{TRUST}'" in run(main, *arguments, code=2)
    with pytest.raises(RunFolderError, match="code from outside"):
        load_agent("run")
    assert not {"my_agents", "my_worlds"} & set(sys.modules)
    run(train_command.main, "resume=run", "total_env_steps=9", TRUST)
    assert open_run("run").load_checkpoint()["tally"]["step"] == 9
    result = json.loads(run(rollout_command.main, "run=run", "episodes=2", TRUST).splitlines()[-1])
    assert result["mean_length"] == 3
    agent = load_agent("run", trust=["my_agents:Curious", "my_worlds:Corridor"])
    assert agent.act({}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"agent": {"name": "my_agents:Curious"}},
        {"agent": {"name": "random", "deep": [{"er": "my_agents:Curious"}]}},
        {"env": {"name": "my_agents:Curious"}},
        {"env": {"id": "my_agents:Curious-v0"}},
        {"env": {"options": {"id": "my_agents:Curious-v0"}}},
        {"inference": {"moves": {"z": "my_agents:Curious"}}},
    ],
    ids=str,
)
def test_nothing_in_a_run_folder_can_name_code(run, change, tmp_path):
    run(train_command.main, "agent=random", "env=TMaze", *QUIET, "total_env_steps=2", "run_dir=run")
    path = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    for group, values in change.items():
        config[group] |= values
    assert "trust" not in config
    path.write_text(yaml.safe_dump(config))
    sys.path.append(str(tmp_path))  # it could be imported
    assert "my_agents:Curious" in run(rollout_command.main, "run=run", "episodes=1", code=2)
    assert "my_agents:Curious" in run(train_command.main, "resume=run", code=2)
    assert "my_agents" not in sys.modules


def test_an_environment_registered_by_ones_own_module(run):
    run(
        train_command.main,
        "agent=random",
        "env=Gymnasium",
        "env.id=my_worlds:Corridor-v0",
        *QUIET,
        "total_env_steps=3",
        "run_dir=run",
    )
    run(rollout_command.main, "run=run", "episodes=1", "trust=my_worlds:Corridor-v0")


def test_a_graph_of_ones_own_learns_images(run):
    graph = ("images.model=my_models:graph", "+images.options.width=5")
    run(train_command.main, "+images=default", *graph, *SMALL, "epochs=1", "run_dir=run")
    assert "z2     5" in open_run("run").model()
    assert "trust=my_models:graph" in run(evaluate_command.main, "run=run", code=2)
    asked = ("held_out=2", "sweeps=1", "annealed_images=0", "simulated_images=0", "samples=0")
    printed = run(evaluate_command.main, "run=run", "seeds=1", *asked, "trust=my_models:graph")
    assert json.loads(printed.splitlines()[-1])


def test_metrics_of_ones_own_are_recorded_and_reported(run, tmp_path):
    images = ("+images=default", *SMALL, "images.metrics=my_metrics:brightness")
    run(train_command.main, *images, "epochs=1", "run_dir=run")
    records = [json.loads(line) for line in open_run("run").metrics.read_text().splitlines()]
    (seen,) = [entry["valid/brightness"] for entry in records if "valid/brightness" in entry]
    # two held-out digits: the mean of their pixels is neither that of black nor of white paper
    assert 0.1 < seen < 0.9
    assert "trust=my_metrics:brightness" in run(train_command.main, "resume=run", code=2)
    assert "trust=my_metrics:brightness" in run(evaluate_command.main, "run=run", code=2)
    asked = ("run=run", "seeds=1", "held_out=2", "sweeps=1", "annealed_images=0", "samples=0")
    asked = (*asked, "trust=my_metrics:brightness")
    result = json.loads(run(evaluate_command.main, *asked).splitlines()[-1])
    assert result["brightness"] == pytest.approx(seen) and "train_brightness" in result
    error = run(evaluate_command.main, *asked, "metrics=my_metrics:recall_mse", code=2)
    assert "another 'recall_mse'; rename yours" in error


def test_a_metric_of_ones_own_is_asked_of_any_run(run):
    run(train_command.main, "+images=default", *SMALL, "epochs=1", "run_dir=run")
    asked = ("run=run", "seeds=1", "held_out=2", "sweeps=1", "annealed_images=0", "samples=0")
    printed = run(evaluate_command.main, *asked, "metrics=[my_metrics:brightness]")
    assert json.loads(printed.splitlines()[-1])["brightness"] > 0


def test_programs_name_them_like_commands():
    values = load_config("train", *CURIOUS, *CORRIDOR)
    assert values["agent"] == {"name": "my_agents:Curious", "favourite": 1}
    assert values["env"]["options"] == {"length": 4}


IMAGES = ("+images=default", *SMALL, "epochs=1")
REFUSED = [
    (("agent=nowhere:X",), "agent 'nowhere:X': there is no module 'nowhere'"),
    (("agent=my_agents:X",), "has no 'X'"),
    (("agent=broken:X",), "SyntaxError"),
    (("agent=leaving:X",), "module 'leaving' cannot be imported: SystemExit: 3"),
    (("agent=a:b:c",), "unknown agent 'a:b:c'"),
    (("env=broken:X",), "env=broken:X: module 'broken' cannot be imported: SyntaxError"),
    (("env=my_worlds:X",), "has no 'X'"),
    (("env=Gymnasium", "env.id=nowhere:X-v0"), "env.id=nowhere:X-v0: there is no module 'nowhere'"),
    (("env=Gymnasium", "env.id=my_worlds:X-v0"), "not a registered environment"),
    ((*CORRIDOR, "+env.options.slip=.1"), "every environment has env.slip"),
    ((*CORRIDOR, "+env.options.render=1"), "env.options.render=1: no option can be called"),
    ((*CORRIDOR, "+env.options.name=x"), "env.options.name=x: no option can be called"),
    ((*CURIOUS[:1], "agent.favourite=1"), "write +agent.favourite=1"),
    ((*CURIOUS[:1], "+agent.favorite=1", "env=TMaze"), "Did you mean 'favourite'"),
    (
        (*IMAGES, "images.model=broken:graph"),
        "images.model=broken:graph: module 'broken' cannot be imported: SyntaxError",
    ),
    ((*IMAGES, "images.model=my_models:grap"), "has no 'grap'. Did you mean 'graph'"),
    ((*IMAGES, "images.model=my_models:number"), "must be something to call"),
    ((*IMAGES, "images.model=my_models:nothing"), "a model with a site 'image'"),
    ((*IMAGES, "images.model=my_models:graph", "+images.options.depth=1"), "'depth'"),
    ((*IMAGES, "images.metrics=my_metrics:brightnes"), "Did you mean 'brightness'"),
    ((*IMAGES, "images.metrics=[3]"), "images.metrics must be a text"),
    (("trust=3",), "trust must be a text"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED, ids=[" ".join(c[0]) for c in REFUSED])
def test_what_is_not_there_is_told_in_one_sentence(run, arguments, sentence, tmp_path):
    before = sorted(tmp_path.rglob("*.py"))
    error = run(train_command.main, *arguments, *QUIET, code=2)
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert sorted(tmp_path.rglob("*.py")) == before and not (tmp_path / "runs").exists()


def test_a_run_folder_cannot_say_what_to_trust(run, tmp_path):
    train_outside(run, "total_env_steps=2", TRUST)
    forget()
    path = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    assert "trust" not in config
    path.write_text(
        yaml.safe_dump({**config, "trust": ["my_agents:Curious", "my_worlds:Corridor"]})
    )
    assert "'trust' is not allowed" in run(rollout_command.main, "run=run", code=2)
    assert "my_agents" not in sys.modules
