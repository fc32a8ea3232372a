"""Learn continuous tasks from nothing, every environment step counted.

    python -m aif_dcpc.experiments.continuous.measure [TASK ...] [KEY=VALUE ...] [--seeds 0 1 2 3 4]
        [--agent random] [--out RUNS.jsonl]
    python -m aif_dcpc.experiments.continuous.measure --table RUNS.jsonl

A task is an experiment of `configs/experiment/`; `KEY=VALUE` is as in `aif-train`, for example
`agent.novelty=false`, or `agent.preference=null` for rewards that are learned. One line of JSON for
each run: the return and the last step of every episode, and the median processor time of a step.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from aif_dcpc.agent_runs.assembly import make_agent, make_env
from aif_dcpc.commands.command import check_names, run_script
from aif_dcpc.commands.overrides import check_overrides
from aif_dcpc.configuration import load_config
from aif_dcpc.errors import ConfigError
from aif_dcpc.results import Results
from aif_dcpc.schema import train_config

Run = dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """How long a task is tried.

    Attributes:
        episodes: how many at most.
        learning_steps: episodes that begin before so many steps do not count.
        steps: environment steps after which no episode begins.
    """

    episodes: int = 11
    learning_steps: int = 0
    steps: int = 20_000


TASKS = {
    "pendulum": Budget(),
    "cart_pole": Budget(episodes=10, learning_steps=400),
    "mountain_car": Budget(),
    "mountain_car_continuous": Budget(),
    "acrobot": Budget(episodes=100, steps=3_000),
    "pendulum_positions": Budget(episodes=3, learning_steps=400),
    "cart_pole_positions": Budget(episodes=10, learning_steps=100),
}


def main() -> None:
    """Run tasks, or print the table of what was run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="TASK | KEY=VALUE")
    parser.add_argument("--agent", default="gaussian")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    asked = parser.parse_intermixed_args()
    if asked.table:
        print(table(kept(asked.table)))
        return
    torch.set_num_threads(1)
    overrides = [word for word in asked.words if "=" in word]
    tasks = [word for word in asked.words if "=" not in word] or list(TASKS)
    check_names("task", tasks, TASKS)
    for task in tasks:
        check_overrides("train", words(task, asked.agent, overrides), sweep=False)
    for task, seed in product(tasks, asked.seeds):
        run = live(task, asked.agent, seed, overrides)
        print(json.dumps(run), flush=True)
        if asked.out:
            Results(asked.out).append(run)


def kept(path: Path) -> list[Run]:
    """Runs that earlier calls have kept.

    Raises:
        ConfigError: there is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"--table {path}: there is no such file; --out FILE makes one.")
    return Results(path).rows()


def words(task: str, agent_name: str, overrides: list[str]) -> list[str]:
    """What `aif-train` would be told."""
    chosen = ["agent=random"] if agent_name == "random" else []
    return [f"experiment={task}", *chosen, *overrides]


def live(task: str, agent_name: str, seed: int, overrides: list[str]) -> Run:
    """Let an agent live in a task, from nothing, for as long as its budget allows."""
    budget = TASKS[task]
    given = words(task, agent_name, overrides)
    config = train_config(load_config("train", *given, f"seed={seed}"))
    # what a task sets is for agents that learn: chance has no settings
    settings = {} if agent_name == "random" else config.agent_settings()
    env = make_env(config.env)
    agent = make_agent(agent_name, settings, env, seed)
    episodes: list[tuple[float, int, bool]] = []  # return, last step, whether the world ended it
    times: list[float] = []
    steps = counted = 0
    while counted < budget.episodes and steps < budget.steps:
        counted += steps >= budget.learning_steps
        number = len(episodes)
        total = 0.0
        observation, _ = env.reset(seed=10_000 * seed + number)
        agent.begin(seed=number)
        over = False
        while not over:
            start = time.process_time()
            action = agent.act(observation, greedy=True)
            acted = time.process_time()
            observation, reward, terminated, truncated, info = env.step(action)
            answered = time.process_time()
            agent.feedback(observation, float(reward), terminated, truncated)
            made = int(info.get("env_steps", 1))
            times.append(1e3 * (time.process_time() - answered + acted - start) / made)
            total += float(reward)
            steps += made
            over = terminated or truncated
        episodes.append((total, steps, terminated))
    return {
        "task": task,
        "agent": agent_name,
        "changes": overrides,
        "seed": seed,
        "episodes": episodes,
        "ms_per_step": median(times),
    }


# -- what the runs say -----------------------------------------------------------------------------


def table(runs: list[Run]) -> str:
    """Lay runs out as a table of Markdown, a row for each task, agent and change."""
    lines = [
        "| task | agent | what | by seed | median ms of a step |",
        "|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        key = (run["task"], run["agent"], " ".join(run["changes"]))
        groups.setdefault(key, []).append(run)
    for (task, agent, changes), group in groups.items():
        name = f"{agent} {changes}".strip()
        cost = f"{median(run['ms_per_step'] for run in group):.1f}"
        for what, number in READINGS[task].items():
            numbers = ", ".join(_text(number(run)) for run in group)
            lines.append(f"| {task} | {name} | {what} | {numbers} | {cost} |")
    return "\n".join(lines)


def _text(number: float) -> str:
    return "never" if math.isinf(number) else f"{number:.0f}"


def later_return(run: Run) -> float:
    """Mean return of episodes 2 to 11."""
    return mean(total for total, _, _ in run["episodes"][1:11])


def first_goal(run: Run) -> float:
    """Environment steps until the world first ended an episode."""
    return next((step for _, step, ended in run["episodes"] if ended), math.inf)


def last_fall(run: Run) -> float:
    """Environment steps after which the pole never fell."""
    return max((step for _, step, ended in run["episodes"] if ended), default=0)


def last_ten(run: Run) -> float:
    """Mean return of the last ten episodes, which begin after the steps of learning."""
    return mean(total for total, _, _ in run["episodes"][-10:])


def after_400(run: Run) -> float:
    """Mean return of the episodes that begin after 400 steps of 200 each."""
    return mean(total for total, _, _ in run["episodes"][2:])


def worst_later(run: Run) -> float:
    """Least return of episodes 2 to 11."""
    return min(total for total, _, _ in run["episodes"][1:11])


READINGS = {
    "pendulum": {"mean return, episodes 2 to 11": later_return},
    "cart_pole": {
        "steps to the last fall": last_fall,
        "mean return of ten episodes after 400 steps": last_ten,
    },
    "mountain_car": {
        "steps to the first goal": first_goal,
        "mean return, episodes 2 to 11": later_return,
    },
    "mountain_car_continuous": {
        "steps to the first goal": first_goal,
        "mean return, episodes 2 to 11": later_return,
        "least return, episodes 2 to 11": worst_later,
    },
    "acrobot": {
        "steps to the first goal": first_goal,
        "mean return of the last ten episodes": last_ten,
    },
    "pendulum_positions": {"mean return of three episodes after 400 steps": after_400},
    "cart_pole_positions": {"mean return of ten episodes after 100 steps": last_ten},
}


if __name__ == "__main__":
    run_script(main)
