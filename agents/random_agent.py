"""Uniformly random actions: the reference that every agent must beat."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import torch

from aif_dcpc.agents.protocol import Observation, StepReport


def build_random(
    observation_space: gymnasium.Space[Any],
    num_actions: int,
    metadata: Mapping[str, Any],
    settings: Mapping[str, Any],
    seed: int,
) -> "RandomAgent":
    """Build the agent, whatever it will observe."""
    return RandomAgent(num_actions, seed)


class RandomAgent:
    """Chooses every action with the same probability and learns nothing.

    Args:
        num_actions: A.
        seed: seeds its choices.
    """

    def __init__(self, num_actions: int, seed: int) -> None:
        self.num_actions, self.seed = num_actions, seed
        self.generator = torch.Generator().manual_seed(seed)

    def begin(self, *, seed: int) -> None:
        """Seed the choices of the new episode."""
        self.generator.manual_seed(1_000_003 * self.seed + seed)

    def act(self, observation: Observation, *, greedy: bool = True) -> int:
        """Any action."""
        return int(torch.randint(self.num_actions, (1,), generator=self.generator))

    def feedback(
        self, observation: Observation, reward: float, terminated: bool, truncated: bool
    ) -> None:
        """Nothing to learn."""

    def report(self, *, pictures: bool = False) -> StepReport:
        """Nothing to report."""
        return StepReport()

    def freeze(self, frozen: bool = True) -> None:
        """Nothing to freeze."""

    def state_dict(self) -> dict[str, Any]:
        """The state of its generator."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.generator.set_state(state["generator"])
