"""The steps of stored episodes in short: what was done to what, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.model.counts import outcome_row, tokens_ahead
from aif_dcpc.agents.gridworld.model.vocabulary import SAME
from aif_dcpc.agents.gridworld.running import Running


@dataclass(frozen=True)
class Deeds:
    """The steps of one episode, as its heaviest particle knows them.

    Attributes:
        row: `(T - 1,)` row of the outcome table.
        token, after: `(T - 1,)` raw token ahead before the step, and after it.
        outcome: `(T - 1,)`.
        written: `(T - 1,)` raw token that the step wrote, or SAME.
        mission: words.
    """

    row: Ints
    token: Ints
    after: Ints
    outcome: Ints
    written: Ints
    mission: tuple[int, ...]

    def tensors(self) -> dict[str, Tensor]:
        """Everything as tensors."""
        return {name: torch.as_tensor(np.array(value)) for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Deeds":
        """Rebuild what `tensors` gave."""
        series = ("row", "token", "after", "outcome", "written")
        row, token, after, outcome, written = (tensors[name].numpy() for name in series)
        return cls(row, token, after, outcome, written, tuple(tensors["mission"].tolist()))

    def before(self, milestone: int) -> Ints:
        """1 where the milestone had been written before the step, `(T - 1,)`."""
        written = np.cumsum(self.written == milestone) if milestone != SAME else 0 * self.row
        passed: Ints = (np.concatenate([[0], written[:-1]]) > 0).astype(np.int64)
        return passed


def deeds_of(now: Running, names: Ints, mission: tuple[int, ...]) -> Deeds:
    """The steps of a running episode, as its heaviest particle knows them.

    Args:
        now: the episode.
        names: `(V,)` raw token of every slot.
        mission: words.
    """
    best = slice(int(now.weights.argmax()), int(now.weights.argmax()) + 1)
    events = now.particles.events[best]
    history = now.history
    trajectory, segments, _ = now.grid.trace(events, history)
    ahead = tokens_ahead(segments, now.particles.initial[best])[0]
    faced = torch.cat([history.faced[1:], ahead[-1:]])
    thing = names[now.grid.effects.thing_ahead(ahead, faced).numpy()]
    written = trajectory.written[0, 1:].numpy()
    return Deeds(
        row=outcome_row(events[0, 1:], history.action[1:], now.grid.num_actions).numpy(),
        token=thing[:-1],
        after=thing[1:],
        outcome=history.outcome[1:].numpy(),
        written=np.where(written >= 0, names[written], SAME),
        mission=mission,
    )
