"""What reward comes, and when an episode ends: tables whose parents are inferred.

An *outcome* is a level of reward together with whether the episode ended; levels are met as they
occur. It may depend on the state that is reached, on the state and action before, or on the action
alone: each is tried, and weighed by how well it has foretold every outcome so far (its prequential
evidence). Tables are Dirichlet with base the action's own frequencies, integrated out.

Reference: Dawid (1984), "Statistical theory: the prequential approach".
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from aif_dcpc.agents.arrays import Floats

REACHED, ROW, ACTION = range(3)
STRENGTH = 0.1  # total concentration of a table: outcomes of one place mostly agree
Outcome = tuple[float, bool]


class Outcomes:
    """Counts of outcomes by what they may depend on.

    Attributes:
        levels: the outcomes met, in order.
        counts: three tables `(N, O)`, by state reached (S), by row (S A) and by action (A).
        log_evidence: `(3,)` nats, how well each has foretold.
    """

    def __init__(self, num_states: int, num_actions: int) -> None:
        self.num_actions = num_actions
        self.levels: list[Outcome] = []
        sizes = (num_states, num_states * num_actions, num_actions)
        self.counts: list[Floats] = [np.zeros((size, 0)) for size in sizes]
        self.log_evidence: Floats = np.zeros(3)

    def add(self, row: int, reached: int, reward: float, ended: bool) -> None:
        """Count one outcome, foretelling it first."""
        outcome = self._index((float(reward), bool(ended)))
        action = row % self.num_actions
        contexts = (reached, row, action)
        base = self._of_action(action)
        for parent, context in enumerate(contexts):
            self.log_evidence[parent] += math.log(self._foretold(parent, context, base)[outcome])
        for parent, context in enumerate(contexts):
            self.counts[parent][context, outcome] += 1

    def _index(self, outcome: Outcome) -> int:
        """Index of an outcome, a new one if it was never met."""
        if outcome not in self.levels:
            self.levels.append(outcome)
            self.counts = [np.pad(table, ((0, 0), (0, 1))) for table in self.counts]
        return self.levels.index(outcome)

    def _of_action(self, action: int) -> Floats:
        """Predictive chances of outcomes given the action, `(O,)`; an unmet one keeps a share."""
        counts = self.counts[ACTION][action]
        even = STRENGTH / (len(counts) + 1)
        found: Floats = (counts + even) / (counts.sum() + STRENGTH)
        return found

    def _foretold(self, parent: int, context: int, base: Floats) -> Floats:
        """Predictive chances of outcomes in a context, `(O,)`."""
        if parent == ACTION:
            return base
        counts = self.counts[parent][context]
        found: Floats = (counts + STRENGTH * base) / (counts.sum() + STRENGTH)
        return found

    @property
    def weights(self) -> Floats:
        """Probabilities that outcomes depend on the state reached, the row, the action."""
        odds = np.exp(self.log_evidence - self.log_evidence.max())
        found: Floats = odds / odds.sum()
        return found

    def log_preferences(self, scale: float) -> Floats:
        """`(O,)` nats: reward in units of the largest level met, times `scale`."""
        rewards = np.array([reward for reward, _ in self.levels])
        largest = np.abs(rewards).max(initial=0.0)
        found: Floats = scale * rewards / (largest or 1.0)
        return found

    def sums(self, value: Floats) -> tuple[Floats, Floats, Floats]:
        """Sums over outcomes of counts times a value `(O,)`, for the three tables."""
        reached, row, action = self.counts
        return reached @ value, row @ value, action @ value

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors, numbers and lists."""
        return {
            "levels": [list(level) for level in self.levels],
            "counts": [torch.from_numpy(table.copy()) for table in self.counts],
            "log_evidence": torch.from_numpy(self.log_evidence.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.levels = [(float(reward), bool(ended)) for reward, ended in state["levels"]]
        self.counts = [table.numpy().copy() for table in state["counts"]]
        self.log_evidence = state["log_evidence"].numpy().copy()
