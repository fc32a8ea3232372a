"""What the commands say: help from the files that hold the defaults, one right sentence for each slip, words to paste.

Oracles: the files of `configs/`; the words that a user has to type next.
"""

import inspect
import json
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import aif_dcpc.configs
from aif_dcpc.agent_runs.run import _tell_knowledge
from aif_dcpc.commands import evaluate as evaluate_command
from aif_dcpc.commands import rollout as rollout_command
from aif_dcpc.commands import train as train_command
from aif_dcpc.commands.launching import LAUNCHERS, launched
from aif_dcpc.commands.overrides import graph_options
from aif_dcpc.commands.words import as_typed, literal
from aif_dcpc.image_runs.assembly import GRAPHS
from aif_dcpc.notes import say
from aif_dcpc.runs import RunFolder, open_run

CONFIGS = Path(aif_dcpc.configs.__file__).parent
COMMANDS = {"train": train_command, "rollout": rollout_command, "evaluate": evaluate_command}
QUIET = ("agent=random", "env=TMaze", "picture_every=0", "video_every=0", "total_env_steps=3")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# -- help ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_shows_every_key_with_its_comment(command, word, run):
    shown = run(COMMANDS[command].main, word)
    lines = (CONFIGS / f"{command}.yaml").read_text().splitlines()
    own = lines[next(i for i, line in enumerate(lines) if not line) + 1 :]
    keys = [line for line in own if line.strip() and not line.startswith(("hydra", "  job"))]
    assert len(keys) > 5 and all(line in shown for line in keys)
    examples = shown.split("== Examples ==\n")[1].splitlines()[:2]
    assert all(line.startswith(f"aif-{command} ") for line in examples)


def test_help_of_learning_shows_images_and_what_was_chosen(run):
    shown = run(train_command.main, "agent=random", "--help")
    images = yaml.safe_load((CONFIGS / "images" / "default.yaml").read_text())["images"]
    assert all(re.search(rf"^  {key}: ", shown, re.MULTILINE) for key in images)
    assert "# agent=random" in shown and "map_size" not in shown
    for command in ("rollout", "evaluate"):
        other = run(COMMANDS[command].main, "--help")
        assert "Groups and their choices" not in other and "experiment" not in other


# -- slips -----------------------------------------------------------------------------------------

VAE = ("experiment=digits", "images.method=vae")
SLIPS = [
    ("train", ["env=FrozenLake-v1"], "write env=Gymnasium env.id=FrozenLake-v1"),
    ("train", ["env=MiniGrid-Empty-5x5-v0"], "write env=MiniGrid env.id=MiniGrid-Empty-5x5-v0"),
    ("train", ["images.data=folder"], "choose an experiment as well"),
    ("train", ["experiment=digits", "images.options.hidden=5"], "levels, likelihood, sizes"),
    ("train", ["experiment=digits", "+images.options.size=[5]"], "Did you mean 'sizes'"),
    ("train", ["experiment=digits", "images.rates=5"], "Did you mean 'images.rate'"),
    ("train", ["experiment=digits", "agent=random"], "agent changes nothing about an image model"),
    ("train", ["experiment=digits", "env.slip=.1"], "env changes nothing about an image model"),
    ("train", ["experiment=digits", "total_env_steps=5"], "changes nothing"),
    ("train", ["experiment=digits", "video_every=3"], "video_every changes nothing about an image"),
    (
        "train",
        ["experiment=digits", "images.folder=/x"],
        "leave it away, or choose images.data=folder",
    ),
    ("train", ["experiment=digits", "images.image_size=16"], "choose images.data=celeba or folder"),
    ("train", ["experiment=digits", "epochs=1", "images.steps=1"], "nothing beside images.steps=1"),
    ("train", [*VAE, "images.visits=4"], "images.visits changes nothing where images.method=vae"),
    ("train", [*VAE, "inference.num_sweeps=3"], "num_sweeps changes nothing where images.method"),
    ("train", ["experiment=digits", "images.method=lpc", "images.recycle=true"], "changes nothing"),
    ("train", ["+images=default"], "set epochs=N, or images.steps=N"),
    ("train", ["data_dir=nowhere"], "data_dir changes nothing about an agent"),
    ("train", ["trust=foo:bar"], "trust=foo:bar changes nothing: this run names no such code"),
    ("train", ["device=cuda"], "agents stay on the CPU, use device=cpu"),
    ("train", ["resume=r", "images.epochs=4"], "Did you mean 'epochs'"),
    ("train", ["resume=r", "images.rate=.1"], "keeps its own images.rate"),
    ("train", ["resume=latest"], "there is no run under runs/"),
    ("train", ["--seed", "3"], "write seed=VALUE, without dashes"),
    ("train", ["name=../x"], "none of them a slash"),
    ("train", ["folder"], "aif-train: resume=folder"),
    ("rollout", ["folder"], "run=folder"),
    ("rollout", [], "run=latest"),
    ("rollout", ["run=latest"], "no run of agents under runs/"),
    ("rollout", ["run=a,b"], "add -m"),
    ("evaluate", [], "run=RUN_DIR"),
    ("evaluate", ["run=latest"], "no run of image models under runs/"),
    ("evaluate", ["agent=random"], "unknown key 'agent'"),
]


@pytest.mark.parametrize(("command", "words", "sentence"), SLIPS, ids=lambda v: str(v))
def test_a_slip_is_answered_by_the_words_to_type(command, words, sentence, run, tmp_path):
    (tmp_path / "folder").mkdir()
    error = run(COMMANDS[command].main, *words, code=2)
    assert sentence in error and len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_values_that_ask_for_nothing_and_a_budget_of_steps_are_taken(run):
    few = ("images.train_images=20", "images.validation_images=2", "images.validation_sweeps=1")
    same = ("images.folder=null", "images.visits=1", "inference.num_sweeps=1", "images.method=vae")
    run(train_command.main, "+images=default", "images.steps=2", *few, *same, "run_dir=r")
    assert open_run("r").load_checkpoint()["progress"]["step"] == 2
    assert "data_dir" not in run(train_command.main, "resume=r", "data_dir=elsewhere")


@pytest.mark.parametrize("graph", GRAPHS)
def test_options_that_are_read_off_the_source_are_those_of_the_graph(graph):
    module, name = GRAPHS[graph].split(":")
    arguments = inspect.signature(getattr(import_module(module), name)).parameters
    assert set(graph_options(graph)) == set(arguments) - {"image_shape"}
    assert graph_options("my_models:graph") == []


def test_the_version_is_told(run):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(train_command.main, "--version"))


# -- runs ------------------------------------------------------------------------------------------

ODD = [
    "My Runs, a=1",
    "été ü 日本",
    "a'b\"c",
    "[x]",
    "2024",
    "null",
    "back\\slash",
    "$HOME;ls",
    "a#b",
]


@pytest.mark.parametrize("name", ODD)
def test_folders_of_any_name_are_made_and_named_in_words_to_paste(name, run, tmp_path):
    written = f"run_dir={name}" if name not in ("[x]", "null") else f"run_dir='{name}'"
    printed = run(train_command.main, *QUIET, written)
    assert (tmp_path / name / "config.yaml").is_file()
    (line,) = [line for line in printed.splitlines() if line.startswith("next:")]
    command, *words = shlex.split(line.removeprefix("next:"))
    assert command == "aif-rollout"
    rolled = run(rollout_command.main, *(w for w in words if w != "video=true"), "episodes=1")
    assert json.loads(rolled.splitlines()[-1])["episodes"] == 1


def test_words_are_left_alone_where_they_are_more_than_a_path():
    for word in ("run=[a,b]", "run='a b'", 'run_dir="x"', "resume=null", "seed=3", "run=", "agent"):
        assert literal(word) == word
    assert literal("run_dir=${name}/x") == "run_dir=${name}/x"
    assert literal('run_dir=a"b\\') == 'run_dir="a\\"b\\\\"'
    assert as_typed("run", "plain/path-1") == "run=plain/path-1"


def test_latest_is_the_run_that_learned_last(run, tmp_path, monkeypatch):
    for seed in (1, 2):
        monkeypatch.setattr("time.strftime", lambda form, s=seed: f"{9 - s}")
        run(train_command.main, *QUIET, f"seed={seed}", "total_env_steps=4")
    rolled = run(rollout_command.main, "run=latest", "episodes=1")
    assert "runs/random-TMaze/7" in rolled
    run(train_command.main, "resume=latest", "total_env_steps=6")
    assert open_run("runs/random-TMaze/7").load_checkpoint()["tally"]["step"] >= 6
    assert "aif-rollout run=runs/random-TMaze/7" in run(
        evaluate_command.main, "run=runs/random-TMaze/7", code=2
    )


def test_latest_is_found_though_a_run_that_goes_on_has_removed_a_checkpoint(run, tmp_path):
    run(train_command.main, *QUIET, "run_dir=runs/r")
    (tmp_path / "runs" / "r" / "checkpoints" / "step-0000000001.pt").symlink_to("gone")
    assert "runs/r" in run(rollout_command.main, "run=latest", "episodes=1")
    assert "agents stay on the CPU" in run(
        rollout_command.main, "run=latest", "device=cuda", code=2
    )


def test_flags_may_stand_anywhere(run, tmp_path):
    run(train_command.main, *QUIET, "-m", "seed=1,2", "run_dir=sweep")
    seeds = {
        RunFolder(path.parent).config().seed for path in (tmp_path / "sweep").glob("*/config.yaml")
    }
    assert seeds == {1, 2}


def test_a_raised_budget_is_kept(run, tmp_path):
    run(train_command.main, *QUIET, "run_dir=r")
    run(train_command.main, "resume=r", "total_env_steps=9")
    assert open_run("r").config().total_env_steps == 9
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    assert "finished" in run(train_command.main, "resume=r")  # which adds nothing
    after = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    assert before == after


class Closed:
    """Standard output whose reader has gone."""

    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        raise BrokenPipeError

    def fileno(self):
        return sys.__stderr__.fileno()


def close_output(monkeypatch):
    """Within a test: what fixtures put in its place is replaced again when a test begins."""
    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr("os.dup2", lambda old, new: None)


def test_a_reader_that_has_read_enough_stops_nothing(monkeypatch):
    close_output(monkeypatch)
    say("nobody hears")


def test_what_an_agent_knows_is_logged_though_nobody_hears(monkeypatch):
    close_output(monkeypatch)
    agent = SimpleNamespace(knowledge=("walls hold",))
    texts = {}
    loop = SimpleNamespace(inhabitants=SimpleNamespace(agent=agent))
    _tell_knowledge(loop, SimpleNamespace(text=texts.__setitem__))
    assert texts == {"knowledge": "- walls hold"}


# -- launching -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", LAUNCHERS)
def test_ways_to_launch_are_plugins_of_hydra(way, monkeypatch):
    monkeypatch.setattr("aif_dcpc.commands.launching.find_spec", lambda name: object())
    words = launched(["seed=1,2", f"+launch={way}", "hydra.launcher.timeout_min=5"], sweep=True)
    assert words[0].startswith("hydra/launcher=") and words[-1] == "hydra.launcher.timeout_min=5"
    assert not [word for word in words if "+launch" in word]


def test_ways_to_launch_that_cannot_be_are_refused(run, monkeypatch):
    assert "add -m" in run(train_command.main, "+launch=cores", code=2)
    assert "Did you mean 'cores'" in run(train_command.main, "-m", "+launch=core", code=2)
    monkeypatch.setattr("aif_dcpc.commands.launching.find_spec", lambda name: None)
    error = run(train_command.main, "-m", "seed=1,2", "+launch=slurm", code=2)
    assert "pip install 'aif_dcpc[slurm]'" in error


@pytest.mark.parametrize("way", ["cores", "processes"])
def test_jobs_run_where_they_are_launched(way, run, tmp_path):
    pytest.importorskip(LAUNCHERS[way].plugin)
    run(train_command.main, *QUIET, f"+launch={way}", "seed=1,2", "-m", "run_dir=sweep")
    seeds = {RunFolder(p.parent).config().seed for p in (tmp_path / "sweep").glob("*/config.yaml")}
    assert seeds == {1, 2}
