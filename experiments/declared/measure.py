"""T-maze and cue chaining, by agents that are declared models: what they do, and how soon.

`python -m aif_dcpc.experiments.declared.measure` prints a line for each seed: in the T-maze the share
of episodes with reward and of those whose first action goes to the cue, with a cue that is sure, one
that is wrong in every tenth episode, and one that is shown at the start; in cue chaining the episodes
with reward and their length against the shortest way by both cues. All episodes count.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aif_dcpc.agents import tmaze
from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.commands.command import run_script
from aif_dcpc.envs.cue_chaining import CueChaining
from aif_dcpc.envs.tmaze import CUE, TMaze
from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.declared import cue_chaining

LEARNING = 20  # first episodes of cue chaining, whose length does not count
Built = tuple[Any, ActiveInferenceAgent]


@dataclass(frozen=True)
class Played:
    """What one episode came to.

    Attributes:
        actions: what was done.
        reward: in sum.
        shortest: the fewest steps to the reward; 0 where the world does not say.
        milliseconds: of processor time, each step.
    """

    actions: tuple[int, ...]
    reward: float
    shortest: int
    milliseconds: tuple[float, ...]


def tmaze_case(reliability: float, *, shown: bool = False) -> Callable[[int], Built]:
    """Make a T-maze and its agent from a seed."""

    def make(seed: int) -> Built:
        env = TMaze(cue_reliability=reliability, cue_at_centre=shown)
        settings = {"cue_at_centre": shown, "inference": {"num_particles": 32, "num_sweeps": 1}}
        return env, tmaze.build(env.observation_space, 4, {}, settings, seed)

    return make


def cue_chaining_case(seed: int) -> Built:
    """Make the grid and its agent from a seed."""
    env = CueChaining()
    settings = {"inference": {"num_particles": 32, "num_sweeps": 1}}
    return env, cue_chaining.build(env.observation_space, 5, {}, settings, seed)


CASES: dict[str, Callable[[int], Built]] = {
    "T-maze, sure cue": tmaze_case(1.0),
    "T-maze, cue right in .9": tmaze_case(0.9),
    "T-maze, cue shown at the start": tmaze_case(1.0, shown=True),
    "cue chaining": cue_chaining_case,
}


def play(env: Any, agent: ActiveInferenceAgent, seed: int) -> Played:
    """Play one episode, greedily."""
    observation, _ = env.reset(seed=seed)
    shortest = env.shortest_path() if hasattr(env, "shortest_path") else 0
    agent.begin(seed=seed)
    actions: list[int] = []
    times: list[float] = []
    total = 0.0
    ended = False
    while not ended:
        start = time.process_time()
        actions.append(int(agent.act(observation)))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        agent.feedback(observation, float(reward), terminated, truncated)
        times.append(1e3 * (time.process_time() - start))
        total += float(reward)
        ended = terminated or truncated
    return Played(tuple(actions), total, shortest, tuple(times))


def summary(name: str, played: Sequence[Played]) -> str:
    """Say in one line what became of the episodes of one seed."""
    won = [episode.reward > 0 for episode in played]
    lost = [number for number, good in enumerate(won) if not good]
    parts = [f"reward in {statistics.fmean(won):.3f}"]
    if name.startswith("T-maze"):
        first = statistics.fmean(episode.actions[0] == CUE for episode in played)
        parts.append(f"cue first in {first:.3f}")
    else:
        ratio = statistics.fmean(len(e.actions) / e.shortest for e in played[LEARNING:])
        parts.append(f"last without reward: {max(lost, default=-1)}")
        parts.append(f"length / shortest from the 21st on {ratio:.2f}")
    cost = statistics.median(ms for episode in played for ms in episode.milliseconds)
    return f"{', '.join(parts)}; {cost:.0f} ms a step"


def check_episodes(episodes: int, cases: Sequence[str]) -> None:
    """Refuse so few episodes that nothing could be said of them.

    Raises:
        ConfigError: they are too few for one of the cases.
    """
    for name in cases:
        least = 1 if name.startswith("T-maze") else LEARNING + 1
        if episodes < least:
            raise ConfigError(f"--episodes {episodes}: {name} needs at least {least}.")


def main() -> None:
    """Play all cases that are wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    wanted = parser.parse_args()
    check_episodes(wanted.episodes, wanted.only)
    for name in wanted.only:
        for seed in wanted.seeds:
            env, agent = CASES[name](seed)
            played = [play(env, agent, 1000 * seed + n) for n in range(wanted.episodes)]
            print(f"{name}, seed {seed}: {summary(name, played)}", flush=True)


if __name__ == "__main__":
    run_script(main)
