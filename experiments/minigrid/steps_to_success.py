"""Environment steps until ten episodes in a row succeed, learning from nothing, all actions offered.

    python -m aif_dcpc.experiments.minigrid.steps_to_success --ids MiniGrid-Empty-5x5-v0 --seeds 5
    --budget 400

One line per run and the median per environment; `--json FILE` keeps every episode for plotting.
Further settings: `--slip`, `--misread`, `--permute-seed`, `--particles`, `--sweeps`, `--sampled`,
`--go-on` (use up the budget). `--frozen 50` plays so many unseen episodes afterwards, the same ones for
every seed, with all that was learned, and learns nothing from them.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from aif_dcpc import agents, envs
from aif_dcpc.agents.gridworld.agent import HierarchicalAgent
from aif_dcpc.commands.command import run_script
from aif_dcpc.errors import ConfigError
from aif_dcpc.files import atomic

UNSEEN = 9_000_000  # seed of the first frozen episode


@dataclass(frozen=True)
class Episode:
    """How an episode went.

    Attributes:
        success: whether its last step was rewarded.
        length: steps.
        misplaced: steps in which most particles stood elsewhere than the agent.
        shortest: the least steps that it could take; None where that is not known.
    """

    success: bool
    length: int
    misplaced: int
    shortest: int | None


@dataclass
class Run:
    """One agent in one environment.

    Attributes:
        episodes: (success, length, steps so far) of each.
        misplaced: steps at a wrong place in all of them.
        steps_to_ten: steps when the tenth episode in a row had succeeded; None if that did not
            happen.
        milliseconds: median per step, by part.
        frozen: episodes without learning.
    """

    id: str
    seed: int
    episodes: list[tuple[bool, int, int]] = field(default_factory=list)
    misplaced: int = 0
    steps_to_ten: int | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    frozen: list[Episode] = field(default_factory=list)


def main() -> None:
    """Run every environment with every seed."""
    options = _options()
    check_place(options.json)
    torch.set_num_threads(1)
    runs: list[Run] = []
    for id in options.ids:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            runs.append(measure(id, seed, options))
            print(_line(runs[-1]), flush=True)
            keep(runs, options.json)
        found = [r.steps_to_ten or float("inf") for r in runs if r.id == id]
        print(
            f"{id}: median steps to ten successes in a row {statistics.median(found)}", flush=True
        )


def check_place(path: Path | None) -> None:
    """Refuse a place where no file can be, before anything is measured.

    Raises:
        ConfigError: it is a folder, or in none.
    """
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise ConfigError(f"--json {path}: expected a file in a folder that is there.")


def keep(runs: Sequence[Run], path: Path | None) -> None:
    """Write what was measured so far."""
    if path is not None:
        with atomic(path) as file:
            file.write_text(json.dumps([asdict(run) for run in runs]))


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
        ("frozen", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--slip", type=float, default=0.0)
    parser.add_argument("--misread", type=float, default=0.0)
    parser.add_argument("--permute-seed", type=int)
    parser.add_argument("--sampled", action="store_true")
    parser.add_argument("--go-on", action="store_true")
    parser.add_argument("--json", type=Path)
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
    settings = {"inference": {"num_particles": options.particles, "num_sweeps": options.sweeps}}
    agent = agents.make(
        "hierarchical",
        observation_space=env.observation_space,
        action_space=env.action_space,
        metadata=env.metadata,
        settings=settings,
        seed=seed,
    )
    assert isinstance(agent, HierarchicalAgent)
    run = Run(id, seed)
    steps = 0
    row = 0
    times: dict[str, list[float]] = {}
    while steps < options.budget and (options.go_on or run.steps_to_ten is None):
        number = seed * 1000 + len(run.episodes)
        one = _episode(env, agent, number, options, times, options.budget - steps)
        steps += one.length
        row = row + 1 if one.success else 0
        run.episodes.append((one.success, one.length, steps))
        run.misplaced += one.misplaced
        if row == 10 and run.steps_to_ten is None:
            run.steps_to_ten = steps
    run.milliseconds = {name: statistics.median(values) for name, values in times.items()}
    agent.freeze()
    unseen = range(UNSEEN, UNSEEN + options.frozen)
    run.frozen = [_episode(env, agent, number, options, {}) for number in unseen]
    return run


def _episode(
    env: Any,
    agent: HierarchicalAgent,
    seed: int,
    options: argparse.Namespace,
    times: dict[str, list[float]],
    most: float = float("inf"),
) -> Episode:
    observation, _ = env.reset(seed=seed)
    agent.begin(seed=seed)
    start = env.unwrapped.agent_pos
    shortest = env.get_wrapper_attr("shortest_path")()
    reward = 0.0
    length = 0
    misplaced = 0
    over = False
    while not over and length < most:
        action = agent.act(observation, greedy=not options.sampled)
        misplaced += _place(agent, start) != tuple(env.unwrapped.agent_pos)
        observation, reward, terminated, truncated, _ = env.step(action)
        agent.feedback(observation, float(reward), terminated, truncated)
        over = terminated or truncated
        length += 1
        for tag, value in agent.report().scalars.items():
            if tag in ("speed/ms_inference", "speed/ms_planning"):
                times.setdefault(tag, []).append(value)
    return Episode(reward > 0, length, misplaced, shortest)


def _place(agent: HierarchicalAgent, start: Sequence[int]) -> tuple[int, int]:
    """Where the agent most likely is, (x, y), if it began there."""
    belief = agent.belief
    assert belief is not None
    y, x, _ = belief.pose[belief.likeliest].tolist()
    return x + int(start[0]), y + int(start[1])


def _line(run: Run) -> str:
    wins = [success for success, _, _ in run.episodes]
    lengths = [length for _, length, _ in run.episodes[-10:]]
    speed = " ".join(
        f"{tag.split('_')[-1]} {value:.1f} ms" for tag, value in run.milliseconds.items()
    )
    return (
        f"{run.id} seed {run.seed}: ten in a row after {run.steps_to_ten}, success {sum(wins)}/{len(wins)}, "
        f"misplaced {run.misplaced}, last lengths {lengths}, {speed}{_frozen(run.frozen)}"
    )


def _frozen(episodes: Sequence[Episode]) -> str:
    """Successes of frozen episodes and, where that is known, the mean length of these over the shortest."""
    if not episodes:
        return ""
    won = [one for one in episodes if one.success]
    ratios = [one.length / one.shortest for one in won if one.shortest]
    far = f", {statistics.fmean(ratios):.3f} of the shortest path" if ratios else ""
    lost = sum(one.misplaced for one in episodes)
    return f"; frozen {len(won)}/{len(episodes)}{far}, misplaced {lost}"


if __name__ == "__main__":
    run_script(main)
