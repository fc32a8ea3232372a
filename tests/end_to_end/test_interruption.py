"""Runs that are stopped, killed or damaged: nothing older than the last checkpoint is lost, and resuming changes nothing.

Oracle: the same run, left alone.
"""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

from aif_dcpc.runs import RunFolder

# slipping, misreading and renaming draw from the environment's own random numbers: those must be
# rebuilt too
WORLD = (
    "env.max_steps=25",
    "env.slip=0.1",
    "env.misread=0.05",
    "env.permute_seed=3",
    "seed=5",
    "picture_every=0",
    "video_every=0",
)


def metrics(run):
    """Every record but the speeds, which depend on the clock."""
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if not key.startswith("speed/")}
        for line in lines
    ]


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        assert process.is_alive(), f"it ended with {process.exitcode}"
        time.sleep(0.005)


def test_an_interrupted_run_gives_the_same_metrics_bit_for_bit(finish, tmp_path):
    finish("train", *WORLD, "total_env_steps=70", "run_dir=whole", "log_every=7")
    finish("train", *WORLD, "total_env_steps=33", "run_dir=parts", "log_every=7")
    finish("train", "resume=parts", "total_env_steps=47")
    finish("train", "resume=parts", "total_env_steps=70", "checkpoint_every=10")
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_signals_save_and_leave_in_order(spawn_quickly, tmp_path):
    run = RunFolder(tmp_path / "run")
    asked = (
        "train",
        "agent=random",
        *WORLD,
        "total_env_steps=1000000",
        "checkpoint_every=100",
        "run_dir=run",
    )
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    for number in numbers:
        if signal.getsignal(number) == signal.SIG_IGN:
            continue  # under nohup a program is meant to outlive the terminal
        process = spawn_quickly(*asked)
        before = run.checkpoints()[0].name if run.path.exists() else ""
        wait_for(
            lambda: (
                run.checkpoints() and run.checkpoints()[0].name > max(before, "step-0000000000.pt")
            ),
            process,
        )
        os.kill(process.pid, number)
        process.join(60)
        # what shells and clusters expect of a program that a signal ended
        assert process.exitcode == 128 + number, (tmp_path / "output.txt").read_text()
        assert "next:    aif-train resume=run" in (tmp_path / "output.txt").read_text()
        step = run.load_checkpoint()["tally"]["step"]
        assert metrics(run.path)[-1]["step"] <= step
        asked = ("train", "resume=run")


def test_ten_kills_lose_no_checkpoint_and_change_nothing(spawn_quickly, tmp_path):
    generator = random.Random(0)
    run = RunFolder(tmp_path / "killed")
    common = ("agent=random", *WORLD, "checkpoint_every=7", "log_every=5")
    process = spawn_quickly("train", *common, "total_env_steps=1000000", "run_dir=killed")
    wait_for(run.checkpoints, process)
    saved = 0
    for _ in range(10):
        time.sleep(generator.uniform(0, 0.4))
        process.kill()
        process.join()
        step = run.load_checkpoint()["tally"]["step"]
        assert step >= saved and step % 7 == 0
        assert not [path for path in run.checkpoints() if not path.stat().st_size]
        saved = step
        process = spawn_quickly("train", "resume=killed", "total_env_steps=1000000")
        time.sleep(generator.uniform(0, 0.3))
        if generator.random() < 0.8:
            wait_for(lambda: run.checkpoints()[0].name > f"step-{saved:010d}.pt", process)
    process.kill()
    process.join()
    last = run.load_checkpoint()["tally"]["step"]
    assert saved <= last
    end = last + 20
    for arguments in (
        ("resume=killed", f"total_env_steps={end}"),
        (*common, f"total_env_steps={end}", "run_dir=whole"),
    ):
        process = spawn_quickly("train", *arguments)
        process.join(200)
        assert process.exitcode == 0, (tmp_path / "output.txt").read_text()
    assert metrics(run.path) == metrics(tmp_path / "whole")


def test_a_damaged_checkpoint_costs_the_newest_steps_only(finish, tmp_path):
    common = ("agent=random", *WORLD, "checkpoint_every=10")
    finish("train", *common, "total_env_steps=40", "run_dir=whole")
    finish("train", *common, "total_env_steps=30", "run_dir=run")
    run = RunFolder(tmp_path / "run")
    run.checkpoints()[0].write_bytes(b"PK\x03\x04 torn")
    finish("train", "resume=run", "total_env_steps=40")
    assert metrics(run.path) == metrics(tmp_path / "whole")
    for path in run.checkpoints():
        path.write_bytes(b"torn")
    refused = finish("train", "resume=run", "total_env_steps=60", rc=2)
    assert refused.startswith("error: the checkpoint ")
    assert len(refused.splitlines()) == 1


def test_a_checkpoint_of_another_agent_is_refused(finish, tmp_path):
    finish("train", "agent=random", *WORLD, "total_env_steps=20", "run_dir=a")
    finish("train", *WORLD, "total_env_steps=20", "run_dir=b")
    shutil.rmtree(tmp_path / "b" / "checkpoints")
    shutil.copytree(tmp_path / "a" / "checkpoints", tmp_path / "b" / "checkpoints")
    refused = finish("train", "resume=b", "total_env_steps=60", rc=2)
    assert "does not fit its agent" in refused and "Traceback" not in refused
