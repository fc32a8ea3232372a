"""Scripts of experiments: a mistake is one sentence with exit code 2 before anything is measured, and what was measured is kept."""

import argparse
import importlib
import json
import math
import shlex
import subprocess
import sys

import pytest
import torch

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.commands.command import run_script
from aif_dcpc.envs.errors import EnvironmentError_
from aif_dcpc.experiments.benchmarks import sweeps, team
from aif_dcpc.experiments.bouncing_digits import run as bouncing_digits
from aif_dcpc.experiments.continuous import measure as continuous
from aif_dcpc.experiments.exactness import compare as exactness
from aif_dcpc.experiments.minigrid import steps_to_success

OPTIONAL = {"cosmic_ray", "coverage", "jax", "numpyro", "arviz"}  # of extras of the project
REFUSED = {  # command line -> words of the sentence
    "minigrid.steps_to_success --ids MiniGrid-Empty-5x5": "Did you mean 'MiniGrid-Empty-5x5-v0'",
    "minigrid.steps_to_success --json nowhere/runs.json": "--json nowhere/runs.json: expected a file",
    "ablations.__main__ agent=random env=TMaze --only 'no novelty'": "terms are left out of agents",
    "continuous.measure pendulm": "Did you mean 'pendulum'",
    "continuous.measure pendulum agent.noveltyy=false": "Did you mean 'agent.novelty'",
    "continuous.measure pendulum agent.novelty=false --agent random": "unknown key 'agent.novelty'",
    "continuous.measure --table nowhere.jsonl": "--table nowhere.jsonl: there is no such file",
    "other_models.measure tide": "Did you mean 'tides'",
    "other_models.nuts tide": "Did you mean 'tides'",
    "posteriordb.measure_exact isin": "Did you mean 'ising'",
    "posteriordb.nuts.check funel": "Did you mean 'funnel'",
    "posteriordb.measure --sites --compile": "--compile: not allowed with argument --sites",
    "discrete.learn Taxi-v4 10 1 novelty": "novelty: expected KEY=VALUE",
    "discrete.learn Taxi-v4 10 1 novelty=no": "novelty=no: expected KEY=VALUE",
    "discrete.learn Taxy-v4 10 1": "Did you mean",
    "discrete.learn CartPole-v1 10 1": "CartPole-v1 has no tables",
    "mnist.compare --setting 9": "invalid choice: 9 (choose from",
    "mnist.compare --table --runs nowhere --figure x.png": "no run folders of seed 0 in nowhere",
    "exactness.compare --load rows.jsonl --only chain": "leave out --only and --methods",
    "exactness.compare --load rows.jsonl --methods nuts": "leave out --only and --methods",
    "exactness.compare --load nowhere.jsonl": "--load nowhere.jsonl: there is no such file",
    "declared.measure --episodes 20": "--episodes 20: cue chaining needs at least 21",
    "declared.measure --episodes 0 --only 'T-maze, sure cue'": "needs at least 1",
    "declared.allostasis --episodes 2": "--episodes 2: at least 3",
}
CUT = '{"task": "pendulum", "se'  # what a killed process leaves of a line


def script(name):
    """The module of a script, or a skipped test where it needs what only an extra installs."""
    try:
        return importlib.import_module(f"aif_dcpc.experiments.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{name} needs {error.name}")


# -- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", REFUSED)
def test_a_mistake_is_told_in_one_sentence(line, monkeypatch, capsys, tmp_path):
    name, *words = shlex.split(line)
    main = script(name).main
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *words])
    with pytest.raises(SystemExit) as left:
        run_script(main)
    *usage, told = capsys.readouterr().err.splitlines()
    assert left.value.code == 2
    assert REFUSED[line] in told
    assert "error: " in told
    assert not usage or usage[0].startswith("usage: ")


@pytest.mark.parametrize("family", [AgentError, EnvironmentError_])
def test_what_agents_and_environments_refuse_is_told(family, capsys):
    class Refused(family):
        pass

    def main():
        raise Refused("leave it out.")

    with pytest.raises(SystemExit) as left:
        run_script(main)
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: leave it out.\n"


def test_a_fault_of_the_script_itself_keeps_its_traceback():
    def main():
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        run_script(main)


def test_what_a_process_of_its_own_says_is_passed_on(monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 2, "", "error: MNIST is not there.\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit) as left:
        team.measured(team.Asked("nowhere", 1, 6, 2), 1)
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: MNIST is not there.\n"


# -- what was measured -----------------------------------------------------------------------------


def test_random_actions_have_no_settings_whatever_a_task_sets(monkeypatch):
    monkeypatch.setitem(continuous.TASKS, "cart_pole_positions", continuous.Budget(episodes=1))
    run = continuous.live("cart_pole_positions", "random", 0, [])
    assert len(run["episodes"]) == 1


def test_a_line_that_was_cut_short_is_left_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"task": "pendulum", "seed": 0}\n' + CUT)
    assert continuous.kept(path) == [{"task": "pendulum", "seed": 0}]
    path.write_text('{"case": "chain", "method": "exact", "z": NaN}\n' + CUT)
    (row,) = exactness.loaded(path)
    assert (row.case, row.method) == ("chain", "exact")
    assert math.isnan(row.z)


def test_mutants_are_tried_on_behind_a_line_that_was_cut_short(tmp_path, monkeypatch, capsys):
    mutate = script("mutation.mutate")
    known = {"module": "errors.py", "line": 1, "operator": "a", "change": [], "verdict": "survived"}
    (tmp_path / "seed-1.jsonl").write_text(
        json.dumps({"key": "k", **known, "by": "nobody", "seconds": 1.0}) + "\n" + CUT
    )
    mutant = argparse.Namespace(key="k", module="errors.py")
    monkeypatch.setattr(mutate, "_asked", lambda only: ["errors.py"])
    monkeypatch.setattr(mutate, "mutants", lambda module: [mutant])
    monkeypatch.setattr(mutate, "_chosen", lambda everything, args: [mutant])
    monkeypatch.setattr(sys, "argv", ["mutate", "--report", "--folder", str(tmp_path)])
    mutate.main()
    assert "| errors.py | 1 | 1 | 0 |" in capsys.readouterr().out


def test_the_map_of_tests_is_kept_file_by_file(tmp_path, monkeypatch):
    coverage_map = script("mutation.coverage_map")
    ran = []

    def measured(file):
        ran.append(file)
        return {"seconds": {f"{file}::test": 1.0}, "lines": {"errors.py": {f"{file}::test": [1]}}}

    monkeypatch.setattr(coverage_map, "_measure_file", measured)
    files = ("tests/contract/test_scripts.py", "tests/contract/test_moves.py")
    for _ in range(2):
        found = coverage_map.measure(tmp_path / "map.json", files)
        assert set(found.seconds) == {f"{file}::test" for file in files}
    assert ran == list(files)
    assert [path.name for path in tmp_path.iterdir()] == ["map.json"]


def test_runs_are_kept_as_they_end(tmp_path, monkeypatch):
    def measure(id, seed, options):
        if seed:
            raise KeyboardInterrupt
        return steps_to_success.Run(id, seed, episodes=[(True, 3, 3)])

    path = tmp_path / "runs.json"
    monkeypatch.setattr(steps_to_success, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["steps_to_success", "--json", str(path)])
    with pytest.raises(KeyboardInterrupt):
        steps_to_success.main()
    assert [run["seed"] for run in json.loads(path.read_text())] == [0]


def test_what_is_learned_from_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def torn(values, file):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(bouncing_digits, "learn", lambda *_: torch.zeros(2, 3))
    asked = argparse.Namespace(appearance=tmp_path / "made" / "appearance.pt")
    model = torch.nn.Linear(1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", torn)
        with pytest.raises(KeyboardInterrupt):
            bouncing_digits.appearance(model, torch.zeros(2), asked)
    assert list(asked.appearance.parent.iterdir()) == []
    bouncing_digits.appearance(model, torch.zeros(2), asked)
    monkeypatch.setattr(bouncing_digits, "learn", None)  # it is read
    assert bouncing_digits.appearance(model, torch.zeros(2), asked).shape == (2, 3)


@pytest.mark.parametrize(("device", "waited"), [("cpu", set()), ("cuda:1", {"cuda:1"})])
def test_every_device_but_the_processor_is_waited_for(device, waited, monkeypatch):
    found = set()
    monkeypatch.setattr(torch.cuda, "synchronize", found.add)
    sweeps.median_seconds(lambda: None, device=device, least=1, budget=0.0)
    assert found == waited
