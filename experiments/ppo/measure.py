"""Environment steps until torchrl's PPO reaches a bar, every step counted.

    python -m aif_dcpc.experiments.ppo.measure --task CartPole-v1 --seeds 5

A run reaches the bar with the episode that ends the first stretch of `WINDOW` training episodes
whose mean return is at least the bar.
"""

import argparse
import time
from collections import deque
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase, GymWrapper, SerialEnv

from aif_dcpc import envs
from aif_dcpc.commands.command import run_script
from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.ppo.learner import Settings, learn
from aif_dcpc.progress import print_table
from aif_dcpc.results import Results

WINDOW = 20
WORLDS = 8  # environments side by side


@dataclass(frozen=True)
class Task:
    """A task with its bar.

    Attributes:
        world: keywords of `envs.make`.
        bar: mean return.
        steps: budget.
        settings: how PPO learns there.
    """

    world: dict[str, Any]
    bar: float
    steps: int
    settings: Settings = field(default_factory=Settings)


LONG = Settings(frames=1024, epochs=10, discount=0.99, trace=0.95, entropy=0.01)


def gymnasium_task(id: str, bar: float, settings: Settings | None = None) -> Task:
    """A task of Gymnasium's with the budget of all."""
    world = {"name": "Gymnasium", "id": id}
    return Task(world, bar, 200_000, settings or Settings())


TASKS = {
    "CartPole-v1": gymnasium_task("CartPole-v1", 475.0),
    "FrozenLake-v1": gymnasium_task("FrozenLake-v1", 0.7, LONG),
    "Pendulum-v1": gymnasium_task("Pendulum-v1", -200.0, replace(LONG, discount=0.9, entropy=0.0)),
    "MountainCarContinuous-v0": gymnasium_task("MountainCarContinuous-v0", 90.0, LONG),
    "MountainCar-v0": gymnasium_task("MountainCar-v0", -115.0, LONG),
    "CliffWalking-v1": gymnasium_task("CliffWalking-v1", -13.65, LONG),
    "Taxi-v4": gymnasium_task("Taxi-v4", 7.5, LONG),
}


def make_env(world: dict[str, Any]) -> EnvBase:
    """One environment of the package, as torchrl has it."""
    return GymWrapper(envs.make(**world))


class Tally:
    """Returns of training episodes in environments side by side, and when they reached a bar.

    Args:
        bar: mean return of `WINDOW` episodes.
    """

    def __init__(self, bar: float) -> None:
        self.bar = bar
        self.running = torch.zeros(WORLDS)
        self.recent: deque[float] = deque(maxlen=WINDOW)
        self.steps = 0
        self.reached: int | None = None

    def take(self, moment: TensorDictBase) -> None:
        """Count one step of each environment."""
        self.steps += WORLDS
        self.running += moment["next", "reward"].reshape(-1)
        for index in moment["next", "done"].reshape(-1).nonzero().flatten().tolist():
            self.recent.append(float(self.running[index]))
            self.running[index] = 0
        if self.reached is None and len(self.recent) == WINDOW and self.mean >= self.bar:
            self.reached = self.steps

    @property
    def mean(self) -> float:
        """Mean return of the last episodes."""
        return fmean(self.recent) if self.recent else float("nan")


def steps_to_bar(task: Task, seed: int) -> dict[str, float | int | None]:
    """Learn until the bar or the end of the budget; report steps, the last mean and seconds."""
    start = time.process_time()
    env = SerialEnv(WORLDS, partial(make_env, task.world))
    keys = [key for key in env.observation_spec.keys() if isinstance(key, str)]
    tally = Tally(task.bar)
    for batch in learn(env, keys, steps=task.steps, settings=task.settings, seed=seed):
        for moment in batch.unbind(1):
            tally.take(moment)
        if tally.reached is not None:
            break
    seconds = time.process_time() - start
    return {"steps": tally.reached, "mean_return": tally.mean, "seconds": seconds}


def main() -> None:
    """Measure the tasks that are asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", action="append", choices=sorted(TASKS), help="all by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).with_name("results.jsonl"), help="kept there"
    )
    asked = parser.parse_args()
    if asked.seeds < 1:
        raise ConfigError(f"--seeds {asked.seeds}: at least 1.")
    kept = Results(asked.results)
    rows = {}
    for name in asked.task or TASKS:
        found = [
            kept.once({"task": name, "seed": seed}, partial(steps_to_bar, TASKS[name], seed))
            for seed in range(asked.seeds)
        ]
        rows[name] = _told(TASKS[name], [row["steps"] for row in found])
    print_table(f"steps to the bar, {asked.seeds} seeds", rows)


def _told(task: Task, steps: list[int | None]) -> str:
    """Median, worst, and how many never reached it."""
    known = [task.steps if step is None else step for step in steps]
    missed = sum(step is None for step in steps)
    words = f"bar {task.bar:g}: median {median(known):,.0f}, worst {max(known):,}"
    return f"{words}; {missed} of {len(steps)} not within {task.steps:,}" if missed else words


if __name__ == "__main__":
    run_script(main)
