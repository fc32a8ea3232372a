"""The steps of stored episodes in short: what was done to what, and how it ended."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import outcome_row, tokens_ahead
from aif_dcpc.agents.gridworld.model.geometry import Torus
from aif_dcpc.agents.gridworld.model.paths import History, Trajectory
from aif_dcpc.agents.gridworld.model.task import EITHER, NO, YES, paired
from aif_dcpc.agents.gridworld.model.vocabulary import SAME


@dataclass(frozen=True)
class Deeds:
    """The steps of one episode, as its likeliest particle knows them.

    Attributes:
        row: `(T - 1,)` row of the outcome table.
        token, after: `(T - 1,)` raw token ahead before the step, and after it.
        outcome: `(T - 1,)`.
        written: `(T - 1,)` raw token that the step wrote, or SAME.
        mission: words.
        cell: `(T - 1,)` map cell ahead after the step.
        twice: `(n, 2)` raw tokens, and the slice in which each was first seen in a second place.
        places: `(n, 2)` map cells where each was seen first, and then; of those seen at once, in the map's order.
        reward: `(T - 1,)`.
    """

    row: Ints
    token: Ints
    after: Ints
    outcome: Ints
    written: Ints
    mission: tuple[int, ...]
    cell: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    twice: Ints = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    places: Ints = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    reward: Floats = field(default_factory=lambda: np.zeros(0))

    def tensors(self) -> dict[str, Tensor]:
        """Give everything as tensors, by name."""
        return {name: torch.as_tensor(np.array(value)) for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Deeds":
        """Rebuild what `tensors` gave."""
        series = ("row", "token", "after", "outcome", "written")
        row, token, after, outcome, written = (tensors[name].numpy() for name in series)
        mission = tuple(tensors["mission"].tolist())
        rest = (tensors[name].numpy() for name in ("cell", "twice", "places", "reward"))
        return cls(row, token, after, outcome, written, mission, *rest)

    def before(self, milestone: int) -> Ints:
        """1 where the milestone had been written before the step, `(T - 1,)`."""
        written = np.cumsum(self.written == milestone) if milestone != SAME else 0 * self.row
        passed: Ints = (np.append(0, written)[:-1] > 0).astype(np.int64)
        return passed

    def first_arrivals(self, side: Ints, passed: Ints) -> Ints:
        """Steps that brought a place ahead for the first time by the same deed, under the same sides.

        Args:
            side, passed: `(T - 1,)` what outcomes may hang on besides.
        """
        every = np.stack([self.row, self.cell, self.after, side, passed], 1)
        return np.unique(every, axis=0, return_index=True)[1]

    def sighting(self) -> Ints:
        """Whether what is ahead after each step is where its like was seen first (1), or then (2), `(T - 1,)`; else 0."""
        found = np.zeros(len(self.after), np.int64)
        for token, places in zip(self.twice[:, 0], self.places, strict=True):
            for number, place in enumerate(places, 1):
                found[(self.after == token) & (self.cell == place)] = number
        return found

    def paired(self, twins: Collection[int], sighting: int = EITHER) -> Ints:
        """Whether the token ahead after each step is a twin seen in two places by then, see `paired`.

        Where one sighting alone is asked for, it is so in the place of that one only.
        """
        verdicts = self._paired(twins)
        if sighting != EITHER:
            verdicts[(verdicts == YES) & (self.sighting() != sighting)] = NO
        return verdicts

    def elsewhere(self, twins: Collection[int], sighting: int) -> list[tuple[int, int]]:
        """Twins that were seen in two places, and the cell of that sighting which is not asked for."""
        if sighting == EITHER:
            return []
        others = self.places[:, 2 - sighting]
        pairs = zip(self.twice[:, 0].tolist(), others.tolist(), strict=True)
        return [(token, cell) for token, cell in pairs if token in twins]

    def _paired(self, twins: Collection[int]) -> Ints:
        verdicts = np.zeros(len(self.after), np.int64)
        when = {t: time for t, time in self.twice.tolist() if t in twins}
        for time in sorted({-1, *when.values()}):
            doubled = [token for token, first in when.items() if first <= time]
            later = np.arange(1, len(self.after) + 1) >= time
            verdicts[later] = paired(twins, self.after[later], doubled)
        return verdicts


def seen_twice(
    history: History, trajectory: Trajectory, torus: Torus, best: int
) -> tuple[Ints, Ints]:
    """Slots that were seen in two places, with the slice of the second sighting, and both cells, `(n, 2)` each.

    Args:
        history: what was observed.
        trajectory: of the particles.
        torus: of the map.
        best: which particle.
    """
    view = history.view.numpy()
    places = torus.cell(trajectory.anchor[best][:, None] + torus.views[history.heading]).numpy()
    shown = view >= 0
    time = shown.nonzero()[0]
    # slot and place as one number: the first sight of each pair, in order of slots, then of time
    pair, first = np.unique(view[shown] * torus.size**2 + places[shown], return_index=True)
    slot = pair // torus.size**2
    order = np.lexsort([time[first], slot])
    slot = slot[order]
    starts = np.flatnonzero(np.append(True, slot[1:] != slot[:-1]))
    again = starts[np.diff(np.append(starts, len(slot))) > 1] + 1
    where = (pair % torus.size**2)[order]
    return (
        np.stack([slot[again], time[first][order][again]], 1),
        np.stack([where[again - 1], where[again]], 1),
    )


def deeds_of(
    grid: GridConditionals,
    particles: GridParticles,
    best: int,
    history: History,
    names: Ints,
    mission: tuple[int, ...],
    reward: Sequence[float],
) -> Deeds:
    """Tell the steps of an episode as one particle knows them.

    Args:
        grid: the model.
        particles: of the episode.
        best: which of them.
        history: what was observed.
        names: `(V,)` raw token of every slot.
        mission: words.
        reward: `(T,)` of the step into each slice.
    """
    trajectory, segments, _ = grid.trace(particles.events, history)
    ahead = tokens_ahead(segments, particles.initial)[best]
    faced = torch.cat([history.faced[1:], ahead[-1:]])
    thing = names[grid.effects.thing_ahead(ahead, faced).numpy()]
    written = trajectory.written[best, 1:].numpy()
    twice, places = seen_twice(history, trajectory, grid.geometry.torus, best)
    events = particles.events[best, 1:]
    return Deeds(
        row=outcome_row(events, history.action[1:], grid.num_actions).numpy(),
        token=thing[:-1],
        after=thing[1:],
        outcome=history.outcome[1:].numpy(),
        written=np.where(written >= 0, names[written], SAME),
        mission=mission,
        cell=trajectory.cell_ahead[best, 1:].numpy(),
        twice=np.stack([names[twice[:, 0]], twice[:, 1]], 1),
        places=places,
        reward=np.array(reward[1:], float),
    )
