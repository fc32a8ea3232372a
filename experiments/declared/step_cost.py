"""What a step costs as a life grows, and what a window would change.

    python -m aif_dcpc.experiments.declared.step_cost [--lengths 50 200 1000] [--only tmaze gaussian hierarchical]

Median processor time of a step (inference, planning and learning together) at each length of the
series that is swept. `gaussian` and `hierarchical` live one long episode, whose end is not heeded;
the life of `tmaze` is many short ones. A window holds everything before its slices; global
sites, such as how far to trust the cue, move whenever the series has grown by a fortieth.
"""

import argparse
import time
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Any

import torch

from aif_dcpc.agent_runs.assembly import make_agent, make_env
from aif_dcpc.commands.command import run_script
from aif_dcpc.configuration import load_config
from aif_dcpc.schema import train_config

MEASURED = 15  # steps at each length
CASES: dict[str, tuple[str, ...]] = {
    "tmaze": ("agent=tmaze", "env=TMaze", "inference.num_particles=32"),
    "gaussian": (
        "agent=gaussian",
        "env=Gymnasium",
        "env.id=Pendulum-v1",
        "agent.preference=pendulum",
    ),
    "hierarchical": ("agent=hierarchical", "env=MiniGrid", "env.id=MiniGrid-Empty-8x8-v0"),
}
WINDOWS = {"tmaze": (None, 50), "gaussian": (None,), "hierarchical": (None,)}


@dataclass
class Living:
    """An agent in its world, step by step.

    Attributes:
        env, agent: who lives where.
        heeds: whether the ends of episodes are heeded.
        seen: what is observed now.
        steps: made so far.
    """

    env: Any
    agent: Any
    heeds: bool
    seen: Any = None
    steps: int = 0
    episodes: int = 0

    def begin(self) -> None:
        """Begin an episode of the world, by its number."""
        self.seen, _ = self.env.reset(seed=self.episodes)
        self.agent.begin(seed=self.episodes)
        self.episodes += 1

    def step(self) -> float:
        """Make one step; returns the agent's processor time, ms."""
        start = time.process_time()
        action = self.agent.act(self.seen)
        acted = time.process_time()
        self.seen, reward, terminated, truncated, _ = self.env.step(action)
        answered = time.process_time()
        over = self.heeds and (terminated or truncated)
        ends = (terminated, truncated) if self.heeds else (False, False)
        self.agent.feedback(self.seen, float(reward), *ends)
        self.steps += 1
        spent = time.process_time() - answered + acted - start
        if over:
            self.begin()
        return 1e3 * spent


def living(name: str) -> Living:
    """Make an agent and its world."""
    config = train_config(load_config("train", *CASES[name], "seed=0"))
    env = make_env(config.env)
    agent = make_agent(name, config.agent_settings(), env, 0)
    made = Living(env, agent, heeds=name == "tmaze")
    made.begin()
    return made


def length_of(name: str, life: Living) -> int:
    """How many slices are swept."""
    return life.steps if name == "hierarchical" else life.agent.life.state.length


def measure(name: str, lengths: list[int], window: int | None) -> list[float]:
    """Median cost of a step at each length, ms; on the way there a declared life sweeps a window."""
    life = living(name)
    found = []
    life.step()
    for length in lengths:
        _set_window(life.agent, 8)
        while length_of(name, life) < length - MEASURED:
            life.step()
        _set_window(life.agent, window)
        found.append(median(life.step() for _ in range(MEASURED)))
    return found


def _set_window(agent: Any, window: int | None) -> None:
    """Let a declared life sweep a window; other agents have none."""
    if hasattr(agent, "life"):
        agent.life.window = window


def main() -> None:
    """Print what a step costs, by agent and length."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", nargs="+", type=int, default=[50, 200, 1000])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| ms a step at T = | {' | '.join(map(str, asked.lengths))} |")
    print(f"|---|{'---|' * len(asked.lengths)}")
    for name, window in product(asked.only, (None, 50)):
        if window in WINDOWS[name]:
            costs = measure(name, asked.lengths, window)
            swept = "full history" if window is None else f"window of {window}"
            print(f"| {name}, {swept} | {' | '.join(f'{c:.1f}' for c in costs)} |", flush=True)


if __name__ == "__main__":
    run_script(main)
