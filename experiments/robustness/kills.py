"""Kill a run again and again, at any moment and by four signals: nothing may be lost, or left behind.

Oracle: the same run, left alone, whose metrics and last checkpoint are the same bit for bit.

python -m aif_dcpc.experiments.robustness.kills --number 100 --seed 0
"""

import argparse
import importlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aif_dcpc.checkpoints import digest
from aif_dcpc.commands.command import run_script
from aif_dcpc.runs import RunFolder

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
QUICK = (
    "agent=random",
    "env.max_steps=25",
    "env.slip=0.1",
    "seed=5",
    "picture_every=0",
    "video_every=0",
)
EVERY = ("checkpoint_every=3", "log_every=5")  # so that many kills fall into a write
HEAVY = ["torch", "minigrid", "aif_dcpc.agent_runs.run", "torch.utils.tensorboard.writer"]
ENDLESS = "total_env_steps=1000000000"


def command(place: str, words: Sequence[str]) -> None:
    """Run `aif-train` in a folder: the target of a process."""
    os.chdir(place)
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["aif-train", *words]
    importlib.import_module("aif_dcpc.commands.train").main()


class Killer:
    """Starts and kills runs in one folder.

    Args:
        place: the folder.
        draw: of moments and signals.
    """

    def __init__(self, place: Path, draw: random.Random) -> None:
        self.place = place
        self.draw = draw
        self.run = RunFolder(place / "killed")
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(HEAVY)
        self.faults: list[str] = []

    def start(self, *words: str) -> Any:
        """Start a command that is to be killed."""
        process = self.context.Process(target=command, args=(str(self.place), words))
        process.start()
        return process

    def kill(self, step: int) -> int:
        """Start or go on, kill at a random moment, and return the step that is kept."""
        begun = self.run.path.exists()
        words = ("resume=killed", ENDLESS) if begun else (*QUICK, *EVERY, ENDLESS, "run_dir=killed")
        process = self.start(*words)
        if self.draw.random() < 0.7:  # most while it learns and writes, some while it starts
            self._wait_for_more(step, process)
        time.sleep(self.draw.uniform(0, 0.5))
        number = self.draw.choice(SIGNALS)
        if process.is_alive():
            os.kill(process.pid, number)
        process.join(60)
        if process.is_alive():
            self.faults.append(f"{number!r}: it goes on")
            process.kill()
        if process.exitcode not in (-number, 128 + number):
            self.faults.append(f"{number!r}: code {process.exitcode}")
        kept = self.run.load_checkpoint()["tally"]["step"] if self.run.path.exists() else 0
        if kept < step:
            self.faults.append(f"{number!r}: step {step} was lost, {kept} is kept")
        return int(kept)

    def _wait_for_more(self, step: int, process: Any) -> None:
        """Wait until there is a checkpoint behind a step."""
        end = time.monotonic() + 120
        while process.is_alive() and time.monotonic() < end:
            found = self.run.checkpoints() if self.run.path.exists() else []
            if found and int(found[0].stem.removeprefix("step-")) > step:
                return
            time.sleep(0.002)

    def finish(self, step: int) -> None:
        """Let the killed run and a fresh one reach the same step, and compare."""
        end = f"total_env_steps={step + 20}"
        for words in (("resume=killed", end), (*QUICK, *EVERY, end, "run_dir=whole")):
            process = self.start(*words)
            process.join(600)
            if process.exitcode:
                said = (self.place / "said.txt").read_text(encoding="utf-8")
                self.faults.append(f"{words}: code {process.exitcode}: {said[-500:]}")
                return
        whole = RunFolder(self.place / "whole")
        if records(self.run) != records(whole):
            self.faults.append("metrics differ")
        if digest(without_clock(self.run)) != digest(without_clock(whole)):
            self.faults.append("checkpoints differ")
        odd = [
            p for p in self.place.rglob(".*") if p.name.startswith((".run-", ".step", ".config"))
        ]
        if odd:
            self.faults.append(f"left behind: {odd}")


def records(run: RunFolder) -> list[dict[str, Any]]:
    """All that was recorded but speeds."""
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("speed/")} for line in lines]


def without_clock(run: RunFolder) -> dict[str, Any]:
    """The last checkpoint without what depends on the clock."""
    content = run.load_checkpoint()
    sums = content["averages"].items()
    content["averages"] = {key: value for key, value in sums if not key.startswith("speed/")}
    del content["metrics_length"]
    return content


def trial(number: int, seed: int) -> list[str]:
    """Kill one run so many times; return what went wrong."""
    with tempfile.TemporaryDirectory() as place:
        killer = Killer(Path(place), random.Random(seed))
        step = 0
        for _ in range(number):
            step = killer.kill(step)
        killer.finish(step)
    return killer.faults


def main() -> None:
    """Kill a run, and print what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    for number in SIGNALS[1:]:  # a job in the background may have inherited that they are ignored
        signal.signal(number, signal.SIG_DFL)
    faults = trial(options.number, options.seed)
    print(*faults, sep="\n")
    print(f"{options.number} kills, {len(faults)} faults.")


if __name__ == "__main__":
    run_script(main)
