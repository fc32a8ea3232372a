"""How long episodes last: what a plan looks ahead for when there is nothing left to explore.

A discount short of the length of an episode prefers what comes soon to what is safe. An episode that
was cut off tells how long one may last; where none ever was, nothing is known of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aif_dcpc.agents.arrays import Ints


class EpisodeLengths:
    """Steps of the running episodes, and of the longest one that was cut off.

    Attributes:
        running: `(B,)`, one for each world.
        longest: 0 before any was cut off.
    """

    def __init__(self) -> None:
        self.running: Ints = np.zeros(1, np.int64)
        self.longest = 0

    def begin(self, seeds: Sequence[int | None]) -> None:
        """Begin an episode in the worlds that have a seed."""
        if len(seeds) != len(self.running):
            self.running = np.zeros(len(seeds), np.int64)
        self.running[[seed is not None for seed in seeds]] = 0

    def count(self, truncated: npt.NDArray[np.bool_]) -> None:
        """Count a step in every world, and note where it was cut off after it, `(B,)`."""
        self.running += 1
        self.longest = max(self.longest, *(self.running * truncated).tolist())

    def discount(self, least: float) -> float:
        """Weight of the next step by which a plan looks as far ahead as an episode lasts, `least` at least."""
        return max(least, 1 - 1 / max(self.longest, 1))

    def state_dict(self) -> dict[str, Any]:
        """All that was counted."""
        return {"running": self.running.tolist(), "longest": self.longest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.running = np.array(state["running"], np.int64)
        self.longest = int(state["longest"])
