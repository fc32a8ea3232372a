"""Run the real commands: in a subprocess, or in a forked server that has the heavy imports behind it."""

import multiprocessing
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = str(Path(__file__).with_name("launcher.py"))
HEAVY = [
    "torch",
    "minigrid",
    "aif_dcpc.agent_runs.run",
    "aif_dcpc.agents.gridworld.agent",
    "aif_dcpc.image_runs.run",
    "torch.utils.tensorboard.writer",
]


@pytest.fixture
def command(tmp_path):
    """Run a command to its end in `tmp_path` and return the finished process."""

    def run(name, *arguments, rc=0):
        line = [sys.executable, "-m", f"aif_dcpc.commands.{name}", *arguments]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == rc, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process, and return what it prints; it must end with the given code."""

    def run(main, *arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["aif", *arguments])
        if code:
            with pytest.raises(SystemExit) as left:
                main()
            assert left.value.code == code
        else:
            main()
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return run


@pytest.fixture
def spawn_quickly(tmp_path):
    """Start a command without waiting for it; what it prints goes to `output.txt`.

    With `limit` no file may become larger than so many bytes, which a program cannot tell from a
    full disk; `environment` adds variables, `output` names another file.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    started = []

    def spawn(*arguments, limit=None, environment=None, output="output.txt"):
        asked = {"FOLDER": str(tmp_path), "OUTPUT": str(tmp_path / output)}
        asked |= {"ARGUMENTS": arguments, "LIMIT": limit, "ENVIRONMENT": environment or {}}
        process = context.Process(target=runpy.run_path, args=(LAUNCHER, asked))
        process.start()
        started.append(process)
        return process

    yield spawn
    for process in started:
        process.kill()
        process.join()


@pytest.fixture
def finish(spawn_quickly, tmp_path):
    """Run a command to its end in such a warm process, and return all that it prints, errors too."""

    def run(*arguments, rc=0):
        process = spawn_quickly(*arguments)
        process.join(300)
        printed = (tmp_path / "output.txt").read_text()
        assert process.exitcode == rc, printed
        return printed

    return run
