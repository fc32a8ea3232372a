"""Maps of earlier episodes: a world that was laid out like this before may be so again.

A *layout* is what stood where at the start of an episode, told by place on the map that all episodes
share: where one began is inferred (`bearings`). An episode has one that was met before, or a new one:

    p(layout k)   proportional to how many episodes had it
    p(any of old) = (repeats + 1/2) / (episodes + 1), repeats = episodes that had an old one
    p(cells | k)  = CHANGED for every cell that differs
    p(cells | new) = what usually stands there, at least ALIKE where an old one has the same, else 1 - ALIKE

A layout is trusted once two episodes had it. What it says counts for cells that were not seen yet
in the running episode; where the agent is, is inferred without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.bearings import Bearings, Shift, moved
from aif_dcpc.agents.gridworld.planning.belief import Belief
from aif_dcpc.agents.gridworld.usual_map import Place, Places, UsualMap

MOST = 32  # layouts that are kept; the rarest goes, the oldest of these first
CHANGED = 0.01  # chance that a cell of a known layout holds something else
ALIKE = 0.9  # chance that a cell of a new layout holds what stands there in an old one
NEGLIGIBLE = 1e-3  # probability of a layout that is left out
KNOWN = 0.9  # probability of a token from which a cell counts as known
ENOUGH = 10  # cells that two maps need to have in common to be called the same


@dataclass
class Layout:
    """One map, as far as it was seen.

    Attributes:
        cells: what stood where.
        episodes: how many had it.
    """

    cells: Places
    episodes: int = 1

    def told(self, members: list[int]) -> tuple[Ints, Floats]:
        """Its places `(n, 2)`, and the probability of each slot's raw token there `(n, V)`."""
        slots = {token: slot for slot, token in enumerate(members)}
        known = [(place, slots[token]) for place, token in self.cells.items() if token in slots]
        told = np.zeros((len(known), len(members)))
        told[np.arange(len(known)), [slot for _, slot in known]] = 1 - CHANGED
        return np.array([place for place, _ in known], np.int64).reshape(-1, 2), told

    def log_odds(self, seen: Places, usual: Mapping[Place, float]) -> float:
        """How much better this layout foretells what was seen than a new one, nats.

        Args:
            seen: what stands where.
            usual: the chance that it usually has there.
        """
        common = self.cells.keys() & seen.keys()
        alike = [self.cells[place] == seen[place] for place in common]
        mine = np.where(alike, 1 - CHANGED, CHANGED)
        least = np.where(alike, ALIKE, 1 - ALIKE)
        new = np.maximum(least, [usual.get(place, 0.0) for place in common])
        return float(np.log(mine / new).sum())


@dataclass
class Layouts:
    """All layouts that were met.

    Attributes:
        known: the layouts.
        episodes: how many were taken in.
        repeats: how many of them had a layout that was known.
        usual: what stood where, whatever the layout.
        bearings: how episodes lay against the first.
    """

    known: list[Layout] = field(default_factory=list)
    episodes: int = 0
    repeats: int = 0
    usual: UsualMap = field(default_factory=UsualMap)
    bearings: Bearings = field(default_factory=Bearings)

    def keep(self, seen: Places) -> None:
        """Take in the map of an episode: it is one that is known, or a new one."""
        _, shift, log_prior = self.bearings.likely(seen)[0]
        seen = moved(seen, shift)
        self._keep_layout(seen, self.usual.chances(seen, self.usual.told(seen, log_prior)))
        self.usual.keep(seen, log_prior)
        self.bearings.keep(shift, len(self.usual.maps))
        self.bearings.lay_anew(self.usual)

    def _keep_layout(self, seen: Places, usual: Mapping[Place, float]) -> None:
        self.episodes += 1
        alike = [
            layout for layout in self.known if len(layout.cells.keys() & seen.keys()) >= ENOUGH
        ]
        odds = [layout.log_odds(seen, usual) for layout in alike]
        if odds and max(odds) > 0:
            layout = alike[int(np.argmax(odds))]
            layout.cells.update(seen)
            layout.episodes += 1
            self.repeats += 1
            return
        self.known.append(Layout(dict(seen)))
        if len(self.known) > MOST:
            self.known.remove(min(self.known, key=lambda layout: layout.episodes))

    @property
    def proven(self) -> list[Layout]:
        """Layouts that two episodes or more had."""
        return [layout for layout in self.known if layout.episodes > 1]

    def trusted(self, seen: Places, usual: Mapping[Place, float]) -> list[tuple[float, Layout]]:
        """The probability of every proven layout.

        Args:
            seen: what this episode has shown.
            usual: the chance that this usually has.
        """
        known = self.proven
        if not known:
            return []
        old = (self.repeats + 0.5) / (self.episodes + 1)
        every = sum(layout.episodes for layout in known)
        logits = [
            np.log(old * layout.episodes / every) + layout.log_odds(seen, usual) for layout in known
        ]
        weights = np.exp(np.array([np.log(1 - old), *logits]) - max(np.log(1 - old), *logits))
        return list(zip((weights / weights.sum())[1:].tolist(), known, strict=True))

    def recall(self, belief: Belief, places: Ints, members: list[int], seen: Places) -> Belief:
        """A belief with what layouts, and else what usual maps, say of cells that were not seen yet.

        Cells of which a layout says something, more likely than not, and cells that surely hold what
        usually stands there count as seen.

        Args:
            belief: without them.
            places: `(M, 2)` of every map cell, from the start.
            members: raw tokens, `(V,)` at most.
            seen: what this episode has shown.
        """
        here = Here(belief, places)
        of_layouts = np.zeros_like(belief.cells)
        usually = np.zeros_like(belief.cells)
        for chance, shift, log_prior in self.bearings.likely(seen):
            lying = moved(seen, shift)
            told = self.usual.told(lying, log_prior)
            usual = self.usual.chances(lying, told) if self.proven else {}
            for trust, layout in self.trusted(lying, usual):
                if trust >= NEGLIGIBLE:
                    of_layouts += chance * trust * here.laid_out(*layout.told(members), shift)
            of_slots = self.usual.of_slots(told, members)
            usually += chance * here.laid_out(self.usual.places, of_slots, shift)
        belief = with_told(belief, of_layouts, 0.5) if self.proven else belief
        usually[belief.seen] = 0
        return with_told(belief, usually, KNOWN)

    # -- persistence -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give everything as plain numbers and lists."""
        return {
            "known": [
                [layout.episodes, [[*place, token] for place, token in layout.cells.items()]]
                for layout in self.known
            ],
            "episodes": self.episodes,
            "repeats": self.repeats,
            "usual": self.usual.state_dict(),
            "bearings": self.bearings.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.known = [
            Layout({(y, x): token for y, x, token in cells}, episodes)
            for episodes, cells in state["known"]
        ]
        self.episodes = int(state["episodes"])
        self.repeats = int(state["repeats"])
        self.usual.load_state_dict(state["usual"])
        self.bearings.load_state_dict(state["bearings"])
        self.bearings.learn(self.usual)


class Here:
    """The cells of the present map, and which of them may be told of.

    Args:
        belief: the map.
        places: `(M, 2)` of every map cell, from the start.
    """

    def __init__(self, belief: Belief, places: Ints) -> None:
        self.belief = belief
        self.corner = places.min(0)
        self.number = np.full(places.max(0) - self.corner + 1, -1)  # of the cell at every place
        self.number[tuple((places - self.corner).T)] = np.arange(len(places))

    def laid_out(self, places: Ints, told: Floats, shift: Shift) -> Floats:
        """What is told of places on the shared map `(n, V)`, by cell `(M, V)`; nothing of cells that were seen."""
        found = np.zeros_like(self.belief.cells)
        at = places - shift - self.corner
        inside = ((at >= 0) & (at < self.number.shape)).all(1)
        cells = np.full(len(at), -1)
        cells[inside] = self.number[tuple(at[inside].T)]
        kept = (cells >= 0) & ~self.belief.seen[cells]
        found[cells[kept], : told.shape[1]] = told[kept]
        return found


def with_told(belief: Belief, told: Floats, enough: float) -> Belief:
    """A belief with what is told of cells `(M, V)`; what is missing to one stays as it was.

    Cells that surely hold one token, with probability `enough`, count as seen.
    """
    cells = told + (1 - told.sum(1, keepdims=True)) * belief.cells
    return replace(belief, cells=cells, seen=belief.seen | (told.max(1) > enough))
