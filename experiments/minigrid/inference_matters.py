"""What sweeps and particles are worth: several agents learn from the very same noisy episodes.

    python -m aif_dcpc.experiments.minigrid.inference_matters --seeds 6 --steps 400

An agent with default settings acts where motion slips and cells are misread. Agents of several
kinds take in its actions and observations from the first step on and learn from them by their own
inference. None of them acts: who acts on a wrong guess lives long in episodes that its guess fits
badly. Reported by kind, with differences to the first kind paired by seed:

    log predictive    mean log p(observation | past) a step, nats: how well the next observation was foretold
    now               posterior probability of the true position at the time
    in hindsight      the same for every slice of an episode, asked at its end
"""

import argparse
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from aif_dcpc import envs
from aif_dcpc.agents.gridworld.agent import HierarchicalAgent
from aif_dcpc.agents.gridworld.filter import EpisodeFilter
from aif_dcpc.agents.gridworld.planning.belief import belief_of
from aif_dcpc.commands.command import run_script

KINDS: dict[str, dict[str, Any]] = {
    "16 particles, 1 sweep": {"num_particles": 16, "num_sweeps": 1},
    "16 particles, no sweeps": {"num_particles": 16, "num_sweeps": 0},
    "1 particle, 1 sweep": {"num_particles": 1, "num_sweeps": 1},
    "1 particle, no sweeps": {"num_particles": 1, "num_sweeps": 0},
    "64 particles, 4 sweeps": {"num_particles": 64, "num_sweeps": 4},
}
ACTOR = 10_000  # added to the seed of the agent that acts
MEASURES = ("log predictive", "now", "in hindsight")


def main() -> None:
    """Follow, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--id", default="MiniGrid-DoorKey-5x5-v0")
    for name, default in (("seeds", 6), ("first-seed", 0), ("steps", 400)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--slip", type=float, default=0.1)
    parser.add_argument("--misread", type=float, default=0.05)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = np.array(
        [_learn(seed, asked) for seed in range(asked.first_seed, asked.first_seed + asked.seeds)]
    )
    print(
        f"| {asked.seeds} seeds, {asked.steps} steps | {' | '.join(MEASURES)} |\n|---|---|---|---|"
    )
    for number, kind in enumerate(KINDS):
        gain = found[:, number] - found[:, 0]
        error = gain.std(0, ddof=1) / len(gain) ** 0.5
        cells = zip(found[:, number].mean(0), gain.mean(0), error, strict=True)
        print(f"| {kind} | {' | '.join(f'{m:.3f} ({d:+.3f}, se {e:.3f})' for m, d, e in cells)} |")


def _learn(seed: int, asked: argparse.Namespace) -> list[list[float]]:
    """Measures of every kind, averaged over the steps of one seed."""
    env: Any = envs.make("MiniGrid", id=asked.id, slip=asked.slip, misread=asked.misread)
    world = env.observation_space, int(env.action_space.n), env.metadata
    kinds = [
        HierarchicalAgent.build(*world, {"inference": settings}, seed)
        for settings in KINDS.values()
    ]
    actor = HierarchicalAgent.build(*world, {}, ACTOR + seed)
    total = np.zeros((len(KINDS), len(MEASURES)))
    steps = 0
    episode = 0
    while steps < asked.steps:
        length, measures = _episode(env, actor, kinds, 1000 * seed + episode)
        total = total + length * np.array(measures)
        steps += length
        episode += 1
        print(
            json.dumps({"seed": seed, "steps": steps, "measures": np.round(measures, 3).tolist()}),
            flush=True,
        )
    means: list[list[float]] = (total / steps).tolist()
    return means


def _episode(
    env: Any, actor: HierarchicalAgent, kinds: list[HierarchicalAgent], seed: int
) -> tuple[int, list[list[float]]]:
    """One episode that one agent acts in and all learn from."""
    observation, _ = env.reset(seed=seed)
    for agent in (actor, *kinds):
        agent.begin(seed=seed)
    start = np.array(env.unwrapped.agent_pos)
    places = []
    over = False
    now: list[list[float]] = [[] for _ in kinds]
    while not over:
        places.append(np.array(env.unwrapped.agent_pos) - start)
        action = actor.act(observation)
        for agent, right in zip(kinds, now, strict=True):
            watch(agent, observation, action)
            right.append(float(right_places(agent.episode_filter, places)[-1]))
        observation, reward, terminated, truncated, _ = env.step(action)
        found = [
            [
                float(a.episode_filter.now.state.log_evidence) / len(places),
                float(np.mean(right)),
                _hindsight(a.episode_filter, places),
            ]
            for a, right in zip(kinds, now, strict=True)
        ]
        for agent in (actor, *kinds):
            agent.feedback(observation, float(reward), terminated, truncated)
        over = terminated or truncated
    return len(places), found


@torch.inference_mode()
def watch(agent: HierarchicalAgent, observation: Mapping[str, Any], action: int) -> None:
    """Take in an observation as `act` does, but leave the next action to another agent."""
    episode_filter = agent.episode_filter
    episode_filter.observe(observation, agent.action, agent.outcome, agent.faced, agent.reward)
    total = episode_filter.counts() + episode_filter.now.grid.past
    now = episode_filter.now
    believed = belief_of(now.grid, now.particles, now.history, now.weights, total)
    agent.faced = episode_filter.faced(believed)
    episode_filter.posterior_tables(total)  # the misread rate admits tokens
    agent.action = action


def _hindsight(episode_filter: EpisodeFilter, places: list[Any]) -> float:
    return float(right_places(episode_filter, places).mean())


def right_places(episode_filter: EpisodeFilter, places: list[Any]) -> torch.Tensor:
    """Posterior probability of the true position at every slice, `(T,)`; places are (x, y) from the first one."""
    trajectory, _, _ = episode_filter.now.grid.trace(
        episode_filter.now.particles.events, episode_filter.now.history
    )
    true = torch.tensor(np.array(places)[:, ::-1].copy()) + torch.tensor(
        episode_filter.geometry.start
    )
    return episode_filter.now.weights @ (trajectory.position == true).all(-1).float()


if __name__ == "__main__":
    run_script(main)
