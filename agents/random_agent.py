"""Uniformly random actions: the reference that every agent must beat."""

import torch

from aif_dcpc.agents.protocol import BaseAgent, Observation


class RandomAgent(BaseAgent):
    """Chooses every action with the same probability and learns nothing."""

    def act(self, observation: Observation, *, greedy: bool = True) -> int:
        """Choose any action, all alike."""
        return int(torch.randint(self.num_actions, (1,), generator=self.generator))
