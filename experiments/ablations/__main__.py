"""An agent's life with one part taken away at a time, every environment step counted.

    python -m aif_dcpc.experiments.ablations agent=tmaze env=TMaze --episodes 30 --seeds 0 1 2
    python -m aif_dcpc.experiments.ablations agent=discrete env=Gymnasium env.id=FrozenLake-v1 --steps 2000

Words are those of `aif-train`. One row for each part: the mean return of all episodes, of their
second half, and processor time. Parts: each term of expected free energy; sweeps (what is left is a
filter: appended slices, weighed and resampled); all particles but one.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from aif_dcpc.agent_runs.assembly import make_agent, make_env
from aif_dcpc.agents.expected_free_energy import DecompositionWarning
from aif_dcpc.agents.protocol import Agent
from aif_dcpc.commands.command import run_script
from aif_dcpc.commands.overrides import check_overrides
from aif_dcpc.configuration import load_config
from aif_dcpc.experiments.ablations.planners import SIGNS, leave_out
from aif_dcpc.schema import TrainConfig, train_config

WHOLE = "whole"
SETTINGS = {
    "no sweeps: a filter": ("inference.num_sweeps=0",),
    "one particle": ("inference.num_particles=1",),
}
PARTS = (WHOLE, *(f"no {term}" for term in SIGNS), *SETTINGS)


@dataclass(frozen=True)
class Life:
    """What became of one life.

    Attributes:
        returns: of its episodes, the last one as far as it went.
        milliseconds: of processor time, a step.
    """

    returns: Sequence[float]
    milliseconds: float

    @property
    def later(self) -> float:
        """Mean return of the second half of the episodes."""
        return fmean(self.returns[len(self.returns) // 2 :])


def built(part: str, words: Sequence[str], seed: int) -> tuple[Any, Agent]:
    """Make the world, and the agent without a part."""
    config: TrainConfig = train_config(
        load_config("train", *words, f"seed={seed}", *SETTINGS.get(part, ()))
    )
    env = make_env(config.env)
    agent = make_agent(config.agent["name"], config.agent_settings(), env, seed)
    if part != WHOLE and part not in SETTINGS:
        leave_out(agent, part.removeprefix("no "))
    return env, agent


def live(env: Any, agent: Agent, seed: int, goes_on: Callable[[int, int], bool]) -> Life:
    """Let an agent live for as long as `goes_on(episodes, steps)`."""
    returns: list[float] = []
    steps = 0
    start = time.process_time()
    while goes_on(len(returns), steps):
        observation, _ = env.reset(seed=10_000 * seed + len(returns))
        agent.begin(seed=len(returns))
        returns.append(0.0)
        over = False
        while not over and goes_on(len(returns) - 1, steps):
            action = agent.act(observation, greedy=True)
            observation, reward, terminated, truncated, info = env.step(action)
            agent.feedback(observation, float(reward), terminated, truncated)
            returns[-1] += float(reward)
            steps += int(info.get("env_steps", 1))
            over = terminated or truncated
    return Life(returns, 1e3 * (time.process_time() - start) / max(steps, 1))


def row(part: str, lives: Sequence[Life]) -> str:
    """One row of Markdown."""
    whole = ", ".join(f"{fmean(life.returns):.3g}" for life in lives)
    later = ", ".join(f"{life.later:.3g}" for life in lives)
    return f"| {part} | {whole} | {later} | {fmean(life.milliseconds for life in lives):.1f} |"


def main() -> None:
    """Print a table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="+", metavar="KEY=VALUE", help="as for aif-train")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--episodes", type=int, default=1_000_000, help="at most")
    parser.add_argument("--steps", type=int, default=1_000, help="of the environment, at most")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    asked = parser.parse_args()
    check_overrides("train", asked.words, sweep=False)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=DecompositionWarning)  # one of the two lacks a term
    print(f"| {' '.join(asked.words)} | return, all episodes | second half | ms a step |")
    print("|---|---|---|---|", flush=True)
    for part in asked.only:
        lives = [
            live(
                *built(part, asked.words, seed),
                seed,
                lambda episodes, steps: episodes < asked.episodes and steps < asked.steps,
            )
            for seed in asked.seeds
        ]
        print(row(part, lives), flush=True)


if __name__ == "__main__":
    run_script(main)
