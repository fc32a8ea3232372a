"""What was observed in an episode, and where event sequences lead: poses, hands, cells seen and written.

An episode is kept raw (`ObservedEpisode`) and read in the codes of the vocabulary (`History`).
Everything else is vectorised over N event sequences (particles, or particles times candidates) and
over time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.loops import heaviest, shares, walk
from aif_dcpc.agents.gridworld.model.vocabulary import OTHER, OUT_OF_SIGHT, SAME, Vocabulary

# outcomes may hang on whether the mission names the thing ahead (not known, no, yes), and on whether
# the milestone is passed (no, yes)
SITUATIONS = 3 * 2
SERIES = ("action", "heading", "carried", "outcome", "faced")


@dataclass(frozen=True)
class Effects:
    """What each event does, and in which contexts tables know it, as tensors.

    Attributes:
        turns: `(E,)` quarter turns clockwise.
        steps: `(E, 4, 2)` displacement (dy, dx) by heading.
        writes: `(E, V + 1, C)` token written to the cell ahead, or SAME, given the token ahead (the
            last one: not known) and the thing in hand.
        takes: `(E, V + 1, C)` thing in hand afterwards, or SAME.
        possible: `(E, V + 1, C)` whether that can be, 1 or 0.
        known: `(E,)` whether the event exists (free slots do not).
        num_motions: events before this number are motions.
        classes, colours: `(V,)` class and colour of every token.
        grips: `(V, C)` what the thing in hand is to a token ahead.
        sizes: room for classes, for grips, and for colours.
        milestone: token whose having been written in an episode is remembered; SAME for none.
        moving: `(V,)` whether a token is of a kind that changes its place by itself.
    """

    turns: Tensor
    steps: Tensor
    writes: Tensor
    takes: Tensor
    possible: Tensor
    known: Tensor
    num_motions: int
    classes: Tensor
    colours: Tensor
    grips: Tensor
    sizes: tuple[int, int, int]
    milestone: int
    moving: Tensor

    def thing_ahead(self, token_ahead: Tensor, faced: Tensor) -> Tensor:
        """What an action is done to: the map's token ahead, or a moving thing that was faced there.

        Args:
            token_ahead: `(..., T)` before each step.
            faced: `(T,)`, see `History`.
        """
        if not self._anything_moves:
            return token_ahead
        there = (faced >= 0) & self.moving[faced.clamp_min(0)]
        return torch.where(there, faced, token_ahead)

    @cached_property
    def _anything_moves(self) -> bool:
        return bool(self.moving.any())

    @cached_property
    def staying(self) -> Tensor:
        """Known events that do not turn, ascending."""
        return (self.known & (self.turns == 0)).nonzero()[:, 0]

    @cached_property
    def turning(self) -> Tensor:
        """`(4,)` the first event that turns by each number of quarter turns."""
        return torch.stack([(self.turns == turn).int().argmax() for turn in range(4)])

    def places(self, match: Tensor) -> Tensor:
        """Context of the outcome table, `(V, 2)`, given the token ahead and whether the milestone is passed.

        Args:
            match: `(V,)` whether the mission names a token: not known (0), no, yes.
        """
        return self._places + 2 * match[:, None]

    @cached_property
    def _places(self) -> Tensor:
        """The same where the mission is not known, `(V, 2)`."""
        token = (self.classes * self.sizes[2] + self.colours) * 3
        return 2 * token[:, None] + torch.arange(2)


def effects_of(
    geometry: Geometry,
    vocabulary: Vocabulary,
    milestone: int = SAME,
    moving: Iterable[int] = (),
) -> Effects:
    """Motions first, then the registered effects, then free slots, which never happen.

    Args:
        geometry: the motions.
        vocabulary: tokens and effects.
        milestone: token whose being written is remembered.
        moving: slots of tokens that change their places by themselves.
    """
    size = vocabulary.max_events
    motions = len(geometry.turns)
    turns = torch.zeros(size, dtype=torch.long)
    turns[:motions] = torch.as_tensor(geometry.turns)
    steps = torch.zeros(size, 4, 2, dtype=torch.long)
    steps[:motions] = torch.as_tensor(geometry.steps)
    writes, takes, possible = (torch.as_tensor(a) for a in vocabulary.effect_arrays())
    classes, colours = (torch.as_tensor(a) for a in vocabulary.token_arrays())
    room = vocabulary.classes.capacity, 2 * vocabulary.grips.capacity, vocabulary.colours.capacity
    return Effects(
        turns=turns,
        steps=steps,
        writes=writes,
        takes=takes,
        possible=possible,
        known=torch.arange(size) < vocabulary.num_events,
        num_motions=motions,
        classes=classes,
        colours=colours,
        grips=torch.as_tensor(vocabulary.grip_array()),
        sizes=room,
        milestone=milestone,
        moving=torch.isin(torch.arange(len(classes)), torch.tensor(list(moving), dtype=torch.long)),
    )


@dataclass(frozen=True)
class History:
    """What was observed in one episode; T slices, slice 0 before the first action.

    Attributes:
        action: `(T,)`, action that led to the slice (0 at slice 0, ignored).
        heading: `(T,)` 0..3.
        hand: `(T,)` slot of the carried thing.
        view: `(T, P)` codes of the view's cells.
        outcome: `(T,)` outcome of the step that led to the slice (ignored at slice 0).
        faced: `(T,)` token that the agent thought to face before the step into the slice, or less
            than 0 if it did not know.
        match: `(V,)` whether the mission names a token: not known (0), no, yes.
    """

    action: Tensor
    heading: Tensor
    hand: Tensor
    view: Tensor
    outcome: Tensor
    faced: Tensor
    match: Tensor

    def __len__(self) -> int:
        return self.action.shape[0]

    @cached_property
    def held(self) -> Tensor:
        """`(T,)` slot in hand before the step into the slice."""
        return torch.cat([self.hand[:1], self.hand[:-1]])

    def head(self, length: int) -> "History":
        """The history as it was after its first slices."""
        names = ("action", "heading", "hand", "view", "outcome", "faced")
        series = {name: getattr(self, name)[:length] for name in names}
        return History(**series, match=self.match)


@dataclass
class ObservedEpisode:
    """What was observed in one episode, raw; slice 0 comes before the first action.

    Attributes:
        action, heading, carried, outcome: `(T,)` numbers as lists.
        faced: `(T,)` raw tokens that the agent thought to face before the step into the slice.
        reward: `(T,)` numbers as a list, of the step that led to the slice.
        view: T arrays `(P,)` of raw tokens.
        mission: words of the mission, as numbers.
    """

    action: list[int] = field(default_factory=list)
    heading: list[int] = field(default_factory=list)
    carried: list[int] = field(default_factory=list)
    outcome: list[int] = field(default_factory=list)
    faced: list[int] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    view: list[Ints] = field(default_factory=list)
    mission: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.action)

    def append(
        self,
        action: int,
        heading: int,
        carried: int,
        outcome: int,
        faced: int,
        view: Ints,
        reward: float = 0.0,
    ) -> None:
        """Add one more slice to the end."""
        self.action.append(action)
        self.heading.append(heading)
        self.carried.append(carried)
        self.outcome.append(outcome)
        self.faced.append(faced)
        self.view.append(view)
        self.reward.append(reward)

    def history(
        self,
        vocabulary: Vocabulary,
        unseen_token: int,
        match: Tensor | None = None,
        moving: Iterable[int] = (),
    ) -> History:
        """The episode in the vocabulary's codes; cells that a moving thing hides are out of sight."""
        hands = [vocabulary.hands.index(c, 0) for c in self.carried]
        faced = [vocabulary.tokens.index(c, OTHER) for c in self.faced]
        view = vocabulary.encode(np.stack(self.view), unseen_token)
        view[np.isin(view, list(moving))] = OUT_OF_SIGHT
        series = np.array((self.action, self.heading, hands, self.outcome, faced), np.int64)
        action, heading, hand, outcome, ahead = torch.from_numpy(series)
        any_token = torch.zeros(vocabulary.tokens.capacity, dtype=torch.long)
        return History(
            action,
            heading,
            hand,
            torch.as_tensor(view),
            outcome,
            ahead,
            any_token if match is None else match,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Everything that was observed, as tensors."""
        view = (
            torch.as_tensor(np.stack(self.view))
            if self.view
            else torch.zeros(0, 0, dtype=torch.long)
        )
        return {
            **{n: torch.tensor(getattr(self, n), dtype=torch.long) for n in (*SERIES, "mission")},
            "reward": torch.tensor(self.reward, dtype=torch.float64),
            "view": view,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "ObservedEpisode":
        """Rebuild an episode from what `tensors` gave."""
        lists = {n: tensors[n].tolist() for n in (*SERIES, "reward")}
        mission = tuple(tensors["mission"].tolist())
        return cls(**lists, view=list(tensors["view"].numpy()), mission=mission)


@dataclass(frozen=True)
class Trajectory:
    """Where N event sequences lead, as `walk` tells it.

    Attributes:
        position: `(N, T, 2)` (y, x) without wrapping.
        anchor: `(N, T)` of the positions, see `Torus`.
        cell_ahead: `(N, T)` map cell ahead at each slice.
        written: `(N, T)` token that the step into the slice wrote to the cell ahead of the slice
            before, or SAME.
        passed: `(N, T)` 1 from the slice on into which the milestone was written, else 0.
    """

    position: Tensor
    anchor: Tensor
    cell_ahead: Tensor
    written: Tensor
    passed: Tensor


def likeliest(position: Tensor, weights: Tensor) -> int:
    """Number of the heaviest particle of those in the likeliest place.

    Args:
        position: `(K, 2)`.
        weights: `(K,)`.
    """
    places, each = position.numpy(), weights.contiguous().numpy()
    return int(heaviest(places, each, shares(places, each)))


def agreement(position: Tensor) -> float:
    """Share of positions `(K, 2)` that are the commonest one."""
    return float(shares(position.numpy(), np.ones(len(position), np.float32)).max()) / len(position)


def follow(events: Tensor, history: History, effects: Effects, geometry: Geometry) -> Trajectory:
    """Trace event sequences `(N, T)`; the event of slice 0 is ignored."""
    torus = geometry.torus
    start = np.array(geometry.start)
    order, heading, held, faced = (
        part.contiguous().numpy() for part in (events, history.heading, history.held, history.faced)
    )
    does = effects.steps.numpy(), effects.writes.numpy(), effects.milestone
    size, stride = torus.size, torus.stride
    ahead, wide = torus.cells_ahead.numpy(), torus.cells.numpy()
    parts = walk(order, heading, held, faced, *does, start, size, stride, ahead, wide)
    return Trajectory(*(torch.from_numpy(part) for part in parts))


@dataclass(frozen=True)
class Sightings:
    """The view cells of an episode in which something was seen, flattened.

    They are the same for every particle.

    Attributes:
        time: `(S,)` slice.
        shift: `(S,)` from the agent's anchor to the cell, see `Torus`.
        code: `(S,)` token slot or OTHER.
        context: `(S,)` what the same view shows in the two next cells towards the agent: (1 + class
            of that along the column) * (G + 1) + 1 + class of that along the row, 0 in the place of
            1 + class where that is not known.
    """

    time: Tensor
    shift: Tensor
    code: Tensor
    context: Tensor

    def since(self, time: int) -> "Sightings":
        """Those in a slice and in all later ones."""
        first = int(torch.searchsorted(self.time, time))
        return Sightings(*(part[first:] for part in vars(self).values()))


def sightings_of(history: History, geometry: Geometry, effects: Effects) -> Sightings:
    """Every cell in sight but the agent's own."""
    seen = history.view != -1
    seen[:, geometry.own] = False
    time, place = seen.nonzero(as_tuple=True)
    shift = geometry.torus.views[history.heading[time], place]
    context = _context(history, geometry, effects)[seen]
    return Sightings(time, shift, history.view[time, place], context)


def _context(history: History, geometry: Geometry, effects: Effects) -> Tensor:
    """What stands next to every cell of the views on the agent's side, `(T, P)`, see `Sightings`."""
    known = torch.where(history.view >= 0, effects.classes[history.view.clamp_min(0)] + 1, 0)
    known[:, geometry.own] = 0
    along_column, along_row = (known[:, torch.as_tensor(place)] for place in geometry.beside)
    return along_column * (effects.sizes[0] + 1) + along_row
