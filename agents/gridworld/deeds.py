"""The steps of stored episodes in short: what was done to what, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals
from aif_dcpc.agents.gridworld.model.counts import outcome_row, tokens_ahead
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.vocabulary import SAME


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
        """Give everything as tensors, by name."""
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


def deeds_of(
    grid: GridConditionals,
    events: Tensor,
    initial: Tensor,
    history: History,
    names: Ints,
    mission: tuple[int, ...],
) -> Deeds:
    """Tell the steps of an episode as one particle knows them.

    Args:
        grid: the model.
        events, initial: `(1, T)` and `(1, M)` of the particle.
        history: what was observed.
        names: `(V,)` raw token of every slot.
        mission: words.
    """
    trajectory, segments, _ = grid.trace(events, history)
    ahead = tokens_ahead(segments, initial)[0]
    faced = torch.cat([history.faced[1:], ahead[-1:]])
    thing = names[grid.effects.thing_ahead(ahead, faced).numpy()]
    written = trajectory.written[0, 1:].numpy()
    return Deeds(
        row=outcome_row(events[0, 1:], history.action[1:], grid.num_actions).numpy(),
        token=thing[:-1],
        after=thing[1:],
        outcome=history.outcome[1:].numpy(),
        written=np.where(written >= 0, names[written], SAME),
        mission=mission,
    )
