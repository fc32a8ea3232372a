"""Run the real commands: in a subprocess, or in a forked server that has the heavy imports behind it."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest


def run_command(name, *arguments):
    """Run a command in this process's children: the target of `spawn_quickly`."""
    import importlib

    sys.argv = [f"aif-{name}", *arguments]
    importlib.import_module(f"aif_dcpc.commands.{name}").main()


@pytest.fixture
def command(tmp_path):
    """Run a command to its end in `tmp_path` and return the finished process."""

    def run(name, *arguments, rc=0):
        line = [sys.executable, "-m", f"aif_dcpc.commands.{name}", *arguments]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == rc, done.stdout + done.stderr
        return done

    return run


def _in_folder(folder, output, arguments):
    import os

    os.chdir(folder)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    run_command(*arguments)


@pytest.fixture
def spawn_quickly(tmp_path):
    """Start a command without waiting; the process comes from a server that has imported torch already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "aif_dcpc.training.agent_run", "aif_dcpc.agents.hierarchical", "minigrid"])
    started = []

    def spawn(*arguments, output="output.txt"):
        process = context.Process(target=_in_folder, args=(str(tmp_path), str(Path(tmp_path) / output), arguments))
        process.start()
        started.append(process)
        return process

    yield spawn
    for process in started:
        process.kill()
        process.join()
