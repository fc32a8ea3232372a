"""Energy and temperature through day and night: `agent=gaussian`, which learns its body, beside reflexes and chance.

`python -m aif_dcpc.experiments.declared.allostasis` prints, for each seed and episode of 96 hours, the
share of hours in which both variables were in range, and the share of corrective actions that were
taken while both still were. A reflex acts on a variable once it is farther from 0 than a threshold.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aif_dcpc.agents.gaussian.agent import GaussianAgent
from aif_dcpc.commands.command import run_script
from aif_dcpc.envs.allostasis import DAY, EAT, REST, SHADE, SHIVER, SUN, Allostasis
from aif_dcpc.errors import ConfigError

LEARNING = 2  # first episodes, which the means leave out
THRESHOLDS = (0.25, 0.5, 0.75, 1.0)
Policy = Callable[[Any, int], int]


@dataclass(frozen=True)
class Days:
    """What one episode came to: shares of hours in range, and of actions taken before any deviation."""

    in_range: float
    before: float


def play(env: Allostasis, choose: Policy, seed: int, after: Callable[..., None] | None) -> Days:
    """Live through one episode.

    Args:
        env: the world.
        choose: action from what is observed and the hour.
        seed: of the episode.
        after: told what each action has led to.
    """
    observation, _ = env.reset(seed=seed)
    early: list[bool] = []
    over = False
    info: dict[str, Any] = {}
    while not over:
        inside = bool((np.abs(env.body[:2]) <= 1).all())
        action = choose(observation, env.hour)
        if action != REST:
            early.append(inside)
        observation, reward, terminated, over, info = env.step(action)
        if after is not None:
            after(observation, reward, terminated, over)
    return Days(float(info["in_range"]), statistics.fmean(early or [False]))


def reflex(threshold: float) -> Policy:
    """Act on whatever is farther from 0 than a threshold, on the temperature first."""

    def choose(observation: Any, hour: int) -> int:
        day = DAY[0] <= hour < DAY[1]
        temperature = float(observation["temperature"][0])
        if temperature < -threshold:
            return SUN if day else SHIVER
        if temperature > threshold and day:
            return SHADE
        return EAT if float(observation["energy"][0]) < -threshold and day else REST

    return choose


def learner(seed: int) -> GaussianAgent:
    """Make the agent, with the settings of its command but for a plan of half a day."""
    env = Allostasis()
    settings = {"preference": "allostasis", "horizon": 12}
    return GaussianAgent.build(env.observation_space, env.action_space, {}, settings, seed)


def lives(seed: int, episodes: int) -> list[Days]:
    """Let the agent live through its first episodes."""
    agent = learner(seed)
    env = Allostasis()
    found = []
    for number in range(episodes):
        agent.begin(seed=number)
        found.append(
            play(env, lambda seen, _: agent.act(seen), 1000 * seed + number, agent.feedback)
        )
    return found


def means(days: Sequence[Days]) -> str:
    """Say the two shares of some episodes."""
    inside = statistics.fmean(d.in_range for d in days)
    before = statistics.fmean(d.before for d in days)
    return f"in range {inside:.3f}, corrected before any deviation {before:.3f}"


def main() -> None:
    """Play all that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    wanted = parser.parse_args()
    if wanted.episodes <= LEARNING:
        raise ConfigError(
            f"--episodes {wanted.episodes}: at least {LEARNING + 1}, for means are from the third on."
        )
    env = Allostasis()
    for threshold in THRESHOLDS:
        days = [play(env, reflex(threshold), seed, None) for seed in range(50)]
        print(f"reflex at {threshold}: {means(days)}")
    chance = np.random.default_rng(0)
    days = [play(env, lambda *_: int(chance.integers(5)), seed, None) for seed in range(50)]
    print(f"random: {means(days)}")
    for seed in wanted.seeds:
        start = time.process_time()
        found = lives(seed, wanted.episodes)
        cost = 1e3 * (time.process_time() - start) / (96 * wanted.episodes)
        first = " ".join(f"{d.in_range:.2f}" for d in found[:4])
        print(
            f"gaussian, seed {seed}: first episodes {first}; from the third on {means(found[LEARNING:])}; "
            f"{cost:.0f} ms a step",
            flush=True,
        )


if __name__ == "__main__":
    run_script(main)
