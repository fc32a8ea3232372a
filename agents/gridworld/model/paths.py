"""What was observed in an episode, and where event sequences lead: poses, hands, cells seen and written.

An episode is kept raw (`ObservedEpisode`) and read in the codes of the vocabulary (`History`).
Everything else is vectorised over N event sequences (particles, or particles times candidates) and
over time.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.loops import walk
from aif_dcpc.agents.gridworld.model.vocabulary import Vocabulary


@dataclass(frozen=True)
class Effects:
    """What each event does, as tensors.

    Attributes:
        turns: `(E,)` quarter turns clockwise.
        steps: `(E, 4, 2)` displacement (dy, dx) by heading.
        writes: `(E,)` token written to the cell ahead, or SAME.
        takes: `(E,)` thing in hand afterwards, or SAME.
        known: `(E,)` whether the event exists (free slots do not).
        num_motions: events before this number are motions.
    """

    turns: Tensor
    steps: Tensor
    writes: Tensor
    takes: Tensor
    known: Tensor
    num_motions: int


def effects_of(geometry: Geometry, vocabulary: Vocabulary) -> Effects:
    """Motions first, then the registered effects, then free slots, which never happen."""
    size = vocabulary.max_events
    motions = len(geometry.turns)
    turns = torch.zeros(size, dtype=torch.long)
    turns[:motions] = torch.as_tensor(geometry.turns)
    steps = torch.zeros(size, 4, 2, dtype=torch.long)
    steps[:motions] = torch.as_tensor(geometry.steps)
    writes, takes = (torch.as_tensor(a) for a in vocabulary.effect_arrays())
    return Effects(turns, steps, writes, takes, torch.arange(size) < vocabulary.num_events, motions)


@dataclass(frozen=True)
class History:
    """What was observed in one episode; T slices, slice 0 before the first action.

    Attributes:
        action: `(T,)`, action that led to the slice (0 at slice 0, ignored).
        heading: `(T,)` 0..3.
        hand: `(T,)` slot of the carried thing.
        view: `(T, P)` codes of the view's cells.
        outcome: `(T,)` outcome of the step that led to the slice (ignored at slice 0).
    """

    action: Tensor
    heading: Tensor
    hand: Tensor
    view: Tensor
    outcome: Tensor

    def __len__(self) -> int:
        return self.action.shape[0]

    def head(self, length: int) -> "History":
        """The history as it was after its first slices."""
        return History(*(v[:length] for v in vars(self).values()))


@dataclass
class ObservedEpisode:
    """What was observed in one episode, raw; slice 0 comes before the first action.

    Attributes:
        action, heading, carried, outcome: `(T,)` numbers as lists.
        view: T arrays `(P,)` of raw tokens.
    """

    action: list[int] = field(default_factory=list)
    heading: list[int] = field(default_factory=list)
    carried: list[int] = field(default_factory=list)
    outcome: list[int] = field(default_factory=list)
    view: list[Ints] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.action)

    def append(self, action: int, heading: int, carried: int, outcome: int, view: Ints) -> None:
        """Add one more slice to the end."""
        self.action.append(action)
        self.heading.append(heading)
        self.carried.append(carried)
        self.outcome.append(outcome)
        self.view.append(view)

    def history(self, vocabulary: Vocabulary, unseen_token: int) -> History:
        """The episode in the vocabulary's codes."""
        hands = [vocabulary.hands.index(c, 0) for c in self.carried]
        view = vocabulary.encode(np.stack(self.view), unseen_token)
        action, heading, hand, outcome = map(
            torch.tensor, (self.action, self.heading, hands, self.outcome)
        )
        return History(action, heading, hand, torch.as_tensor(view), outcome)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that was observed, as tensors."""
        view = (
            torch.as_tensor(np.stack(self.view))
            if self.view
            else torch.zeros(0, 0, dtype=torch.long)
        )
        names = ("action", "heading", "carried", "outcome")
        return {
            **{n: torch.tensor(getattr(self, n), dtype=torch.long) for n in names},
            "view": view,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "ObservedEpisode":
        """Rebuild an episode from what `tensors` gave."""
        lists = {n: tensors[n].tolist() for n in ("action", "heading", "carried", "outcome")}
        return cls(**lists, view=list(tensors["view"].numpy()))


@dataclass(frozen=True)
class Trajectory:
    """Where N event sequences lead.

    Attributes:
        position: `(N, T, 2)` (y, x) without wrapping.
        anchor: `(N, T)` of the positions, see `Torus`.
        cell_ahead: `(N, T)` map cell ahead at each slice.
        hand: `(N, T)` slot in hand.
        written: `(N, T)` token that the step into the slice wrote to the cell ahead of the slice
            before, or SAME.
    """

    position: Tensor
    anchor: Tensor
    cell_ahead: Tensor
    hand: Tensor
    written: Tensor


def follow(events: Tensor, history: History, effects: Effects, geometry: Geometry) -> Trajectory:
    """Trace event sequences `(N, T)`; the event of slice 0 is ignored."""
    torus = geometry.torus
    start = np.array(geometry.start)
    order, heading, hand = (
        part.contiguous().numpy() for part in (events, history.heading, history.hand)
    )
    steps, takes, writes = (part.numpy() for part in (effects.steps, effects.takes, effects.writes))
    parts = walk(order, heading, hand, steps, takes, writes, start, torus.size, torus.stride)
    position, anchor, held, written = (torch.from_numpy(part) for part in parts)
    return Trajectory(
        position, anchor, torus.cell(anchor + torus.cells_ahead[history.heading]), held, written
    )


@dataclass(frozen=True)
class Sightings:
    """The view cells of an episode in which something was seen, flattened.

    They are the same for every particle.

    Attributes:
        time: `(S,)` slice.
        shift: `(S,)` from the agent's anchor to the cell, see `Torus`.
        code: `(S,)` token slot or OTHER.
        context: `(S,)` what the same view shows in the next cell towards the agent: 1 + its token
            slot, or 0 if that is not known.
    """

    time: Tensor
    shift: Tensor
    code: Tensor
    context: Tensor


def sightings_of(history: History, geometry: Geometry) -> Sightings:
    """Every cell in sight but the agent's own."""
    seen = history.view != -1
    seen[:, geometry.own] = False
    time, place = seen.nonzero(as_tuple=True)
    shift = geometry.torus.views[history.heading[time], place]
    return Sightings(time, shift, history.view[time, place], _context(history, geometry)[seen])


def _context(history: History, geometry: Geometry) -> Tensor:
    """What stands next to every cell of the views on the agent's side, `(T, P)`, see `Sightings`.

    The neighbour along the column is asked first, then the one along the row.
    """
    known = history.view.clamp_min(-1) + 1
    known[:, geometry.own] = 0
    along_column, along_row = (known[:, torch.as_tensor(place)] for place in geometry.beside)
    return torch.where(along_column > 0, along_column, along_row)
