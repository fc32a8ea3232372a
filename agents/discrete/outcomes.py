"""What reward comes, and when an episode ends: tables whose parents are inferred.

An *outcome* is a level of reward together with whether the episode ended; levels are met as they
occur. It may depend on the state that is reached, on the state and action before, on the action
alone, or on the whole step, which is foretold at first as by the state reached, or as by the state
and action: each is tried, and weighed by how well it has foretold every outcome so far (its
prequential evidence). Tables are Dirichlet, integrated out; their base are the action's own
frequencies, and of a step what its parent foretells. Where rewards are drawn from a continuum, levels do
not grow without end: of `MOST` on, a reward within the range that was met counts as the nearest.

Reference: Dawid (1984), "Statistical theory: the prequential approach".
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from aif_dcpc.agents.arrays import Floats

REACHED, ROW, ACTION, STEP_BY_REACHED, STEP_BY_ROW = range(5)
STRENGTH = 0.1  # total concentration of a table: outcomes of one place mostly agree
MOST = 64  # levels, beside those that lie beyond all others
Outcome = tuple[float, bool]


class Outcomes:
    """Counts of outcomes by what they may depend on.

    Attributes:
        levels: the outcomes met, in order.
        counts: three tables `(N, O)`, by state reached (S), by row (S A) and by action (A).
        steps: `(S A, J, O)` by row and the place of its effect (see `Transitions`).
        log_evidence: `(5,)` nats, how well each has foretold.
    """

    def __init__(self, num_states: int, num_actions: int) -> None:
        self.num_actions = num_actions
        self.levels: list[Outcome] = []
        sizes = (num_states, num_states * num_actions, num_actions)
        self.counts: list[Floats] = [np.zeros((size, 0)) for size in sizes]
        self.steps: Floats = np.zeros((num_states * num_actions, 1, 0))
        self.log_evidence: Floats = np.zeros(5)

    def add(self, row: int, place: int, reached: int, reward: float, ended: bool) -> None:
        """Count one outcome, foretelling it first."""
        outcome = self._index((float(reward), bool(ended)))
        if place >= self.steps.shape[1]:
            self.steps = np.pad(self.steps, ((0, 0), (0, place), (0, 0)))
        action = row % self.num_actions
        base = self._of_action(action)
        by_reached = _blended(self.counts[REACHED][reached], base)
        by_row = _blended(self.counts[ROW][row], base)
        of_step = self.steps[row, place]
        foretold = (
            by_reached,
            by_row,
            base,
            _blended(of_step, by_reached),
            _blended(of_step, by_row),
        )
        for parent, chances in enumerate(foretold):
            self.log_evidence[parent] += math.log(chances[outcome])
        for parent, context in enumerate((reached, row, action)):
            self.counts[parent][context, outcome] += 1
        self.steps[row, place, outcome] += 1

    def _index(self, outcome: Outcome) -> int:
        """Index of an outcome, a new one if it was never met; of many levels, that of the nearest."""
        if outcome not in self.levels and len(self.levels) >= MOST:
            outcome = self._nearest(outcome)
        if outcome not in self.levels:
            self.levels.append(outcome)
            self.counts = [np.pad(table, ((0, 0), (0, 1))) for table in self.counts]
            self.steps = np.pad(self.steps, ((0, 0), (0, 0), (0, 1)))
        return self.levels.index(outcome)

    def _nearest(self, outcome: Outcome) -> Outcome:
        """The level nearest to an outcome, if it lies between levels that end as it does; else itself."""
        reward, ended = outcome
        alike = [level for level, other in self.levels if other == ended]
        if not alike or not min(alike) < reward < max(alike):
            return outcome
        return min(alike, key=lambda level: abs(level - reward)), ended

    def _of_action(self, action: int) -> Floats:
        """Predictive chances of outcomes given the action, `(O,)`; an unmet one keeps a share."""
        counts = self.counts[ACTION][action]
        even = STRENGTH / (len(counts) + 1)
        found: Floats = (counts + even) / (counts.sum() + STRENGTH)
        return found

    @property
    def weights(self) -> Floats:
        """Probabilities of what outcomes depend on, `(5,)`: see `REACHED` and the names beside it."""
        odds = np.exp(self.log_evidence - self.log_evidence.max())
        found: Floats = odds / odds.sum()
        return found

    def log_preferences(self, scale: float) -> Floats:
        """`(O,)` nats: reward in units of the largest level met, times `scale`."""
        rewards = np.array([reward for reward, _ in self.levels])
        largest = np.abs(rewards).max(initial=0.0)
        found: Floats = scale * rewards / (largest or 1.0)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors, numbers and lists."""
        return {
            "levels": [list(level) for level in self.levels],
            "counts": [torch.from_numpy(table.copy()) for table in self.counts],
            "steps": torch.from_numpy(self.steps.copy()),
            "log_evidence": torch.from_numpy(self.log_evidence.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; where steps were not counted yet, they tell nothing of their own."""
        self.levels = [(float(reward), bool(ended)) for reward, ended in state["levels"]]
        self.counts = [table.numpy().copy() for table in state["counts"]]
        evidence = state["log_evidence"].numpy()
        self.log_evidence = np.concatenate([evidence[:3], [*evidence[:2], *evidence[3:]][-2:]])
        rows = len(self.counts[ROW])
        self.steps = np.zeros((rows, 1, len(self.levels)))
        if "steps" in state:
            self.steps = state["steps"].numpy().copy()


def _blended(counts: Floats, base: Floats) -> Floats:
    """Predictive chances of outcomes by a Dirichlet table with a base, `(O,)`."""
    found: Floats = (counts + STRENGTH * base) / (counts.sum() + STRENGTH)
    return found
