"""What is seen at step 200 changes what is believed of step 5: a walk along a wall whose length is told late.

    python -m aif_dcpc.experiments.minigrid.hindsight --seeds 10

An agent has learned where actions slip. Then it is led along a wall of Empty-16x16: six times ahead,
where each step is lost with probability .3, and nothing in view says which. For 190 steps it turns
between two views that tell nothing. At step 200 it looks back, where a wall shows how far it went.
If k of the six steps were lost, each of them was with probability k / 6, by symmetry: that is what
the posterior of step 5 becomes, once sweeps have told particles apart that descend from one. Beside
it stands what is believed of the present place.
"""

import argparse
from typing import Any

import numpy as np
import torch

from aif_dcpc import envs
from aif_dcpc.agents.gridworld.agent import HierarchicalAgent
from aif_dcpc.agents.gridworld.running import Running
from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.minigrid.inference_matters import right_places, watch

WORLD = "MiniGrid-Empty-16x16-v0"
EAST, SOUTH, WEST = range(3)
LEFT, RIGHT, FORWARD, _, _, _, DONE = range(7)
STEPS = 6  # ahead, along the wall
LOST = 0.3  # chance that one of them does nothing
LOOK = 200  # when it has looked back
ASKED = 5  # the step whose belief is followed
BEFORE = LOOK - 2  # the last time before it turns to look
SWEEPS = 30  # over the whole history, after the look


def main() -> None:
    """Lead an agent of each seed, and print what it believed of the step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("seeds", 10), ("first-seed", 0), ("steps", 300), ("particles", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--slip", type=float, default=0.1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"| seed | lost | P(place) at {BEFORE} | at {LOOK} | P(step {ASKED} lost) at {BEFORE} "
        f"| at {LOOK} | {SWEEPS} sweeps later | k / {STEPS} |\n|---|---|---|---|---|---|---|---|"
    )
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        lost, found = _lead(_learned(seed, asked), seed)
        cells = " | ".join(f"{chance:.2f}" for chance in (*found, sum(lost) / STEPS))
        print(f"| {seed} | {sum(lost)} | {cells} |", flush=True)


def _learned(seed: int, asked: argparse.Namespace) -> HierarchicalAgent:
    """An agent that has acted where actions slip."""
    env: Any = envs.make("MiniGrid", id="MiniGrid-Empty-8x8-v0", slip=asked.slip)
    world = env.observation_space, int(env.action_space.n), env.metadata
    inference = {"num_particles": asked.particles}
    agent = HierarchicalAgent.build(*world, {"inference": inference}, seed)
    steps = 0
    episode = 0
    while steps < asked.steps:
        observation, _ = env.reset(seed=1000 * seed + episode)
        agent.begin(seed=1000 * seed + episode)
        over = False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(agent.act(observation))
            agent.feedback(observation, float(reward), terminated, truncated)
            over = terminated or truncated
            steps += 1
        episode += 1
    return agent


def _lead(agent: HierarchicalAgent, seed: int) -> tuple[list[bool], list[float]]:
    """Which of the steps ahead were lost; P(true place) before and after the look, and P(step lost) likewise."""
    env: Any = envs.make("MiniGrid", id=WORLD)
    source = np.random.default_rng(seed)
    lost = (source.random(STEPS) < LOST).tolist()
    episode_filter = agent.episode_filter
    observation, _ = env.reset(seed=seed)
    agent.begin(seed=seed)
    agent.freeze()
    start = np.array(env.unwrapped.agent_pos)
    places = []
    right: list[float] = []
    believed: list[float] = []
    for time in range(LOOK + 1):
        places.append(np.array(env.unwrapped.agent_pos) - start)
        action, done = _chosen(time, int(env.unwrapped.agent_dir), lost)
        watch(agent, observation, action)
        if time in (BEFORE, LOOK):
            right.append(float(right_places(episode_filter, places)[-1]))
            believed.append(_lost(episode_filter.now))
        observation, reward, terminated, truncated, _ = env.step(done)
        agent.feedback(observation, float(reward), terminated, truncated)
    now = episode_filter.now
    for _ in range(SWEEPS):
        now, _ = now.sweep(agent.generator)
    return lost, [*right, *believed, _lost(now)]


def _chosen(time: int, heading: int, lost: list[bool]) -> tuple[int, int]:
    """The action that the agent believes to take, and what is done."""
    if time < STEPS:
        return FORWARD, DONE if lost[time] else FORWARD
    wanted = WEST if time >= BEFORE else (SOUTH if time % 2 else EAST)
    turn = DONE if heading == wanted else RIGHT if heading < wanted else LEFT
    return turn, turn


def _lost(now: Running) -> float:
    """Posterior probability that nothing came of the step that is asked for."""
    return float(now.weights @ (now.particles.events[:, ASKED + 1] == 0).float())


if __name__ == "__main__":
    run_script(main)
