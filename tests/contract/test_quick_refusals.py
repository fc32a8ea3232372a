"""What can be refused at sight is refused before torch is imported, which takes seconds; so is importing the package."""

import json
import subprocess
import sys

import pytest

from aif_dcpc.agents import NAMES
from aif_dcpc.agents.requirements import CHECKS
from aif_dcpc.image_runs import data, request
from aif_dcpc.inference.moves.schedule import UPDATES

SECONDS = 2.0  # of processor time, everything told
REFUSED = {  # command line -> words of the sentence
    "train agent=hierarchcal": "Did you mean 'hierarchical'",
    "train sed=1": "Did you mean 'seed'",
    "train seed=-1": "seed must be at least 0",
    "train env=MiniGrid env.id=MiniGrid-DoorKy-5x5-v0": "Did you mean 'MiniGrid-DoorKey-5x5-v0'",
    "train +env.options.agent_view_size=4": "must be odd",
    "train env=TMaze env.id=CartPole-v1": "leave env.id out",
    "train env=Gymnasium env.id=FrozenLake-v1 +env.options.map_name=9x9 agent=discrete": "KeyError",
    "train env=TMaze agent=hierarchical": "models egocentric symbolic views",
    "train agent=hierarchical agent.map_size=-3": "map_size must be at least 8",
    "train agent=hierarchical inference.update=paper": "inference.update must be 'exact'",
    "train agent=discrete env=MiniGrid": "sees a finite state",
    "train agent=discrete env=TMaze +agent.horizn=3": "unknown key",
    "train agent=gaussian env=TMaze": "models continuous values",
    "train agent=gaussian env=Gymnasium env.id=Pendulum-v1 agent.preference=pendlum": "pendulum",
    "train agent=tmaze env=MiniGrid": "no 'location'",
    "train agent=tmaze env=Gymnasium env.id=Pendulum-v1": "models the streams|discrete actions",
    "train agent=no_such_module:Agent": "there is no module 'no_such_module'",
    "train env=no_such_module:World": "there is no module 'no_such_module'",
    "train run_dir=taken agent=random": "is not empty",
    "train resume=nowhere": "there is no run folder nowhere",
    "train experiment=digits images.data=mnits": "Did you mean 'mnist'",
    "train experiment=digits images.model=dlgmm": "Did you mean 'dlgm'",
    "train experiment=digits images.model=no_such_module:graph": "no module 'no_such_module'",
    "train experiment=digits +images.options.hidden=5": "unknown option of the graph",
    "train experiment=digits images.data=folder images.folder=nowhere": "nowhere holds 0 pictures",
    "train experiment=digits inference.update=papre": "Did you mean 'paper'",
    "train experiment=digits images.metrics=no_such_module:m": "there is no module",
    "rollout run=nowhere": "there is no run folder",
    "evaluate run=nowhere": "there is no run folder",
    "evaluate run=nowhere featuers=inception": "Did you mean 'features'",
}
EACH_IN_A_CHILD = """
import contextlib, importlib, io, json, os, resource, sys
import hydra, aif_dcpc.commands.train
lines = json.loads(sys.argv[1])
os.mkdir("taken"); open("taken/mine", "w").close()
assert "torch" not in sys.modules
spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
for line in lines:
    receive, send = os.pipe()
    if os.fork() == 0:
        command, *words = line.split()
        sys.argv = [f"aif-{command}", *words]
        told = io.StringIO()
        try:
            with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
                importlib.import_module(f"aif_dcpc.commands.{command}").main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        here = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        found = [code, told.getvalue(), "torch" in sys.modules, spent + here]
        os.write(send, json.dumps(found).encode())
        os._exit(0)
    os.close(send)
    print(os.read(receive, 1 << 16).decode(), flush=True)
    os.wait()
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Every command line in a child of a process that has imported the command alone."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EACH_IN_A_CHILD, json.dumps(list(REFUSED))],
        cwd=tmp_path_factory.mktemp("refusals"),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = map(json.loads, done.stdout.splitlines())
    return dict(zip(REFUSED, answers, strict=True))


@pytest.mark.parametrize("line", REFUSED)
def test_a_refusal_is_one_sentence_without_torch(refusals, line) -> None:
    code, told, torch, seconds = refusals[line]
    assert code == 2 and told.startswith("error: ") and len(told.splitlines()) == 1, told
    assert any(words in told for words in REFUSED[line].split("|")), told
    assert not torch, "torch was imported"
    assert seconds <= SECONDS


def test_importing_the_package_imports_nothing_heavy() -> None:
    """At most .2 s of processor time more than Python alone: the best of three."""
    code = "import time; t = time.process_time(); import aif_dcpc; print(time.process_time() - t)"
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) <= 0.2


def test_names_that_are_known_without_torch_are_those_that_there_are() -> None:
    assert set(request.DATA_SETS) == set(data.DATA_SETS)
    assert request.UPDATES == UPDATES
    assert set(CHECKS) <= set(NAMES)
