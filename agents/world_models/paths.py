"""From event sequences to where the agent was, what it held, which cells it saw and which it wrote.

Everything is vectorised over N event sequences (particles, or particles times candidates) and over time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.agents.world_models.geometry import Geometry
from aif_dcpc.agents.world_models.vocabulary import SAME, Vocabulary


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
    """Motions first, then the registered effects, then free slots (which do nothing and never happen)."""
    size, motions = vocabulary.max_events, len(geometry.turns)
    turns = torch.zeros(size, dtype=torch.long)
    turns[:motions] = torch.as_tensor(geometry.turns)
    steps = torch.zeros(size, 4, 2, dtype=torch.long)
    steps[:motions] = torch.as_tensor(geometry.steps)
    writes, takes = (torch.as_tensor(a) for a in vocabulary.effect_arrays())
    return Effects(turns, steps, writes, takes, torch.arange(size) < vocabulary.num_events, motions)


@dataclass(frozen=True)
class Record:
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

    def head(self, length: int) -> "Record":
        """The first slices."""
        return Record(*(v[:length] for v in vars(self).values()))


@dataclass(frozen=True)
class Path:
    """Where N event sequences lead.

    Attributes:
        position: `(N, T, 2)` (y, x) without wrapping.
        front: `(N, T)` map cell ahead at each slice.
        hand: `(N, T)` slot in hand.
        written: `(N, T)` token that the step into the slice wrote to the cell ahead of the slice before, or SAME.
    """

    position: Tensor
    front: Tensor
    hand: Tensor
    written: Tensor


def follow(events: Tensor, record: Record, effects: Effects, geometry: Geometry) -> Path:
    """Trace event sequences `(N, T)`; the event of slice 0 is ignored."""
    heading = record.heading
    steps = effects.steps[events[:, 1:], heading[:-1]]
    start = torch.tensor(geometry.start).expand(events.shape[0], 1, 2)
    position = torch.cat([start, start + steps.cumsum(1)], 1)
    front = wrap(position + torch.as_tensor(geometry.front)[heading], geometry.size)
    written = effects.writes[events].clone()
    written[:, 0] = SAME
    return Path(position, front, _hands(events, record, effects), written)


def _hands(events: Tensor, record: Record, effects: Effects) -> Tensor:
    """What is in hand at each slice: the last thing taken, at first what was seen in hand."""
    takes = effects.takes[events].clone()
    takes[:, 0] = record.hand[0]
    times = torch.arange(events.shape[1]).expand_as(takes)
    last = torch.where(takes >= 0, times, 0).cummax(1).values
    return takes.gather(1, last)


def wrap(position: Tensor, size: int) -> Tensor:
    """Map cell of a position (y, x)."""
    return (position[..., 0] % size) * size + position[..., 1] % size


@dataclass(frozen=True)
class Sightings:
    """The view cells of an episode in which something was seen, flattened; the same for every particle.

    Attributes:
        time, place: `(S,)` slice, and index within the view.
        code: `(S,)` token slot or OTHER.
    """

    time: Tensor
    place: Tensor
    code: Tensor


def sightings_of(record: Record, own: int) -> Sightings:
    """Every cell in sight but the agent's own."""
    seen = record.view != -1
    seen[:, own] = False
    time, place = seen.nonzero(as_tuple=True)
    return Sightings(time, place, record.view[time, place])


def cells_seen(position: Tensor, heading: Tensor, place: Tensor, geometry: Geometry) -> Tensor:
    """Map cells `(N, S)` of view places, from the agent's positions `(N, S, 2)` and headings `(S,)`."""
    offsets = torch.as_tensor(geometry.offsets)
    return wrap(position + offsets[heading, place], geometry.size)
