"""What actions have done in a world whose state is seen: counts of effects by state and action.

An *effect* is how far the number of the state moves, s' = s + effect modulo the number of states: a
world whose numbers mean something (cells of a grid) has few of them, and any other world is not
hindered, since every s' is some effect. All actions share one list of effects, in the order in
which they were first seen. A *row* is a state with an action, s * A + a.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from aif_dcpc.agents.arrays import Floats, Ints


class Transitions:
    """Counts that grow with every step: all that the past says about tables of transitions.

    Attributes:
        num_states, num_actions: S and A.
        effects: `(E,)` the effects seen so far, each from 0 to S - 1.
        seen: `(S A, J)` which effects were seen in a row, in order; J grows as needed.
        counts: `(S A, J)` how often.
        distinct: `(S A,)` how many of the J are in use.
        steps: number of transitions.
    """

    def __init__(self, num_states: int, num_actions: int) -> None:
        self.num_states = num_states
        self.num_actions = num_actions
        rows = num_states * num_actions
        self.effects: list[int] = []
        self.seen: Ints = np.zeros((rows, 2), np.int64)
        self.counts: Floats = np.zeros((rows, 2))
        self.distinct: Ints = np.zeros(rows, np.int64)
        self.steps = 0

    def add(self, state: int, action: int, following: int) -> tuple[int, int]:
        """Count one step; returns its row, and the place of its effect among those seen there."""
        row = state * self.num_actions + action
        effect = self._effect((following - state) % self.num_states)
        place = self._place(row, effect)
        self.counts[row, place] += 1
        self.steps += 1
        return row, place

    def _effect(self, effect: int) -> int:
        """Index of an effect, a new one if it was never seen."""
        if effect not in self.effects:
            self.effects.append(effect)
        return self.effects.index(effect)

    def _place(self, row: int, effect: int) -> int:
        """Find where a row counts an effect."""
        used = int(self.distinct[row])
        found = np.flatnonzero(self.seen[row, :used] == effect)
        if len(found):
            return int(found[0])
        if used == self.seen.shape[1]:
            self.seen = np.pad(self.seen, ((0, 0), (0, used)))
            self.counts = np.pad(self.counts, ((0, 0), (0, used)))
        self.seen[row, used] = effect
        self.distinct[row] += 1
        return used

    @property
    def visited(self) -> Ints:
        """Rows in which something was seen."""
        return np.flatnonzero(self.distinct)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors and numbers."""
        return {
            "effects": list(self.effects),
            "seen": torch.from_numpy(self.seen.copy()),
            "counts": torch.from_numpy(self.counts.copy()),
            "distinct": torch.from_numpy(self.distinct.copy()),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.effects = [int(effect) for effect in state["effects"]]
        self.seen = state["seen"].numpy().copy()
        self.counts = state["counts"].numpy().copy()
        self.distinct = state["distinct"].numpy().copy()
        self.steps = int(state["steps"])
