"""Environment steps until ten episodes in a row succeed, learning from nothing, all actions offered.

    python -m aif_dcpc.experiments.minigrid.steps_to_success --ids MiniGrid-Empty-5x5-v0 --seeds 5
    --budget 400

One line per run and the median per environment; `--json FILE` keeps every episode for plotting.
Further settings: `--slip`, `--misread`, `--permute-seed`, `--particles`, `--sweeps`, `--sampled`,
`--go-on` (use up the budget).
"""

import argparse
import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from aif_dcpc import agents, envs
from aif_dcpc.agents.protocol import Agent, EgocentricView
from aif_dcpc.commands.command import run_script


@dataclass
class Run:
    """One agent in one environment.

    Attributes:
        episodes: (success, length, steps so far) of each.
        steps_to_ten: steps when the tenth episode in a row had succeeded; None if that did not
            happen.
        milliseconds: median per step, by part.
    """

    id: str
    seed: int
    episodes: list[tuple[bool, int, int]] = field(default_factory=list)
    steps_to_ten: int | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)


def main() -> None:
    """Run every environment with every seed."""
    options = _options()
    torch.set_num_threads(1)
    runs = []
    for id in options.ids:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            runs.append(measure(id, seed, options))
            print(_line(runs[-1]), flush=True)
        found = [r.steps_to_ten or float("inf") for r in runs if r.id == id]
        print(
            f"{id}: median steps to ten successes in a row {statistics.median(found)}", flush=True
        )
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(run) for run in runs]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", nargs="+", default=["MiniGrid-DoorKey-5x5-v0"])
    for name, default in (
        ("seeds", 5),
        ("first-seed", 0),
        ("budget", 400),
        ("particles", 16),
        ("sweeps", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--slip", type=float, default=0.0)
    parser.add_argument("--misread", type=float, default=0.0)
    parser.add_argument("--permute-seed", type=int)
    parser.add_argument("--sampled", action="store_true")
    parser.add_argument("--go-on", action="store_true")
    parser.add_argument("--json")
    return parser.parse_args()


def measure(id: str, seed: int, options: argparse.Namespace) -> Run:
    """One run until ten successes in a row, or until the budget is used up."""
    env = envs.make(
        "MiniGrid",
        id=id,
        slip=options.slip,
        misread=options.misread,
        permute_seed=options.permute_seed,
    )
    metadata = {
        **env.metadata,
        "egocentric_view": EgocentricView(**env.metadata["egocentric_view"]),
    }
    settings = {"inference": {"num_particles": options.particles, "num_sweeps": options.sweeps}}
    agent = agents.make(
        "hierarchical",
        observation_space=env.observation_space,
        action_space=env.action_space,
        metadata=metadata,
        settings=settings,
        seed=seed,
    )
    run = Run(id, seed)
    steps = 0
    row = 0
    times: dict[str, list[float]] = {}
    while steps < options.budget and (options.go_on or run.steps_to_ten is None):
        reward, length = _episode(
            env, agent, seed * 1000 + len(run.episodes), options, times, options.budget - steps
        )
        steps += length
        row = row + 1 if reward > 0 else 0
        run.episodes.append((reward > 0, length, steps))
        if row == 10 and run.steps_to_ten is None:
            run.steps_to_ten = steps
    run.milliseconds = {name: statistics.median(values) for name, values in times.items()}
    return run


def _episode(
    env: Any,
    agent: Agent,
    seed: int,
    options: argparse.Namespace,
    times: dict[str, list[float]],
    most: int,
) -> tuple[float, int]:
    observation, _ = env.reset(seed=seed)
    agent.begin(seed=seed)
    reward = 0.0
    length = 0
    over = False
    while not over and length < most:
        action = agent.act(observation, greedy=not options.sampled)
        observation, reward, terminated, truncated, _ = env.step(action)
        agent.feedback(observation, float(reward), terminated, truncated)
        over = terminated or truncated
        length += 1
        for tag, value in agent.report().scalars.items():
            if tag in ("speed/ms_inference", "speed/ms_planning"):
                times.setdefault(tag, []).append(value)
    return float(reward), length


def _line(run: Run) -> str:
    wins = [success for success, _, _ in run.episodes]
    lengths = [length for _, length, _ in run.episodes[-10:]]
    speed = " ".join(
        f"{tag.split('_')[-1]} {value:.1f} ms" for tag, value in run.milliseconds.items()
    )
    return (
        f"{run.id} seed {run.seed}: ten in a row after {run.steps_to_ten}, success {sum(wins)}/{len(wins)}, "
        f"last lengths {lengths}, {speed}"
    )


if __name__ == "__main__":
    run_script(main)
