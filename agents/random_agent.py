"""Uniformly random actions: the reference that every agent must beat."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from aif_dcpc.agents.protocol import Action, BaseAgent, Observation

WIDTH = 20.0  # of the interval that stands for one without an end


class RandomAgent(BaseAgent):
    """Chooses every action with the same probability and learns nothing.

    Args:
        action_space: Discrete, MultiDiscrete, MultiBinary or Box; where a Box has no bound, actions
            lie within 20 of its other bound, or within 10 of 0.
        seed: of its choices.
    """

    def __init__(self, action_space: gymnasium.Space[Any], seed: int) -> None:
        super().__init__(action_space, seed)

    def act(self, observation: Observation, *, greedy: bool = True) -> Action:
        """Choose any action, all alike."""
        action = self._any(1)[0]
        return int(action) if self.num_actions else action

    def explain(self, names: Sequence[str] | None = None) -> str:
        """Say that there is no reason."""
        return "every action is as likely as any other"

    # -- in several worlds at once -----------------------------------------------------------------

    def begin_batch(self, *, seeds: Sequence[int | None]) -> None:
        """Seed the random choices of all worlds by the last seed that is given."""
        self.begin(seed=next(seed for seed in reversed(seeds) if seed is not None))

    def act_batch(self, observations: Observation, *, greedy: bool = True) -> npt.NDArray[Any]:
        """Choose any action for each world, `(B, *event)`."""
        return self._any(len(next(iter(observations.values()))))

    def feedback_batch(
        self,
        observations: Observation,
        rewards: npt.NDArray[np.float64],
        terminated: npt.NDArray[np.bool_],
        truncated: npt.NDArray[np.bool_],
    ) -> None:
        """Learn nothing from what the last actions led to."""

    def _any(self, number: int) -> npt.NDArray[Any]:
        """So many actions, `(number, *event)`."""
        if isinstance(self.action_space, spaces.Discrete):
            start = int(self.action_space.start)
            which = torch.randint(self.num_actions, (number,), generator=self.generator)
            return (which + start).numpy()
        low, high = _ends(self.action_space)
        share = torch.rand((number, *low.shape), generator=self.generator, dtype=torch.float64)
        drawn = low + (high - low) * share.numpy()
        if isinstance(self.action_space, spaces.Box):
            drawn = np.clip(drawn, self.action_space.low, self.action_space.high)
        if np.issubdtype(self.action_space.dtype, np.integer):
            drawn = np.floor(drawn)  # a conversion would round what is below 0 upwards
        return drawn.astype(self.action_space.dtype)


def _ends(space: gymnasium.Space[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Between which numbers each element of an action is drawn; whole ones are rounded down."""
    if isinstance(space, spaces.MultiDiscrete):
        start = space.start.astype(np.float64)
        return start, start + space.nvec
    if isinstance(space, spaces.MultiBinary):
        return np.zeros(space.shape), np.full(space.shape, 2.0)
    assert isinstance(space, spaces.Box)
    whole = np.issubdtype(space.dtype, np.integer)
    below = space.low.astype(np.float64)
    above = space.high.astype(np.float64) + whole
    low = np.where(space.bounded_below, below, np.where(space.bounded_above, above - WIDTH, -10))
    return low, np.where(space.bounded_above, above, low + WIDTH)
