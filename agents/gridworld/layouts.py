"""Maps of earlier episodes: a world that was laid out like this before may be so again.

A *layout* is what stood where at the start of an episode, told by place from where the agent began.
An episode has one that was met before, or a new one:

    p(layout k)   proportional to how many episodes had it
    p(any of old) = (repeats + 1/2) / (episodes + 1), repeats = episodes that had an old one
    p(cells | k)  = CHANGED for every cell that differs
    p(cells | new) = ALIKE for every cell that an old one has too

A layout is trusted once two episodes had it. What it says counts for cells that were not seen yet
in the running episode; where the agent is, is inferred without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.planning.belief import Belief
from aif_dcpc.agents.gridworld.usual_map import Places, UsualMap, as_usual

MOST = 32  # layouts that are kept; the rarest goes, the oldest of these first
CHANGED = 0.01  # chance that a cell of a known layout holds something else
ALIKE = 0.9  # chance that a cell of a new layout holds what stands there in an old one
NEGLIGIBLE = 1e-3  # probability of a layout that is left out
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

    def log_likelihood(self, seen: Places) -> tuple[float, float]:
        """log p(what was seen) if this is the layout, and if it is a new one, nats, up to what both share."""
        common = self.cells.keys() & seen.keys()
        same = sum(self.cells[place] == seen[place] for place in common)
        changed = len(common) - same
        mine = same * np.log(1 - CHANGED) + changed * np.log(CHANGED)
        return float(mine), float(same * np.log(ALIKE) + changed * np.log(1 - ALIKE))


@dataclass
class Layouts:
    """All layouts that were met.

    Attributes:
        known: the layouts.
        episodes: how many were taken in.
        repeats: how many of them had a layout that was known.
        usual: what stood where, whatever the layout.
    """

    known: list[Layout] = field(default_factory=list)
    episodes: int = 0
    repeats: int = 0
    usual: UsualMap = field(default_factory=UsualMap)

    def keep(self, seen: Places) -> None:
        """Take in the map of an episode: it is one that is known, or a new one."""
        self.episodes += 1
        self.usual.keep(seen)
        alike = [
            layout for layout in self.known if len(layout.cells.keys() & seen.keys()) >= ENOUGH
        ]
        chances = [layout.log_likelihood(seen) for layout in alike]
        margins = [mine - new for mine, new in chances]
        if margins and max(margins) > 0:
            layout = alike[int(np.argmax(margins))]
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

    def trusted(self, seen: Places) -> list[tuple[float, Layout]]:
        """The probability of every proven layout, given what was seen in this episode."""
        known = self.proven
        if not known:
            return []
        old = (self.repeats + 0.5) / (self.episodes + 1)
        every = sum(layout.episodes for layout in known)
        logits = []
        for layout in known:
            mine, new = layout.log_likelihood(seen)
            logits.append(np.log(old * layout.episodes / every) + mine - new)
        weights = np.exp(np.array([np.log(1 - old), *logits]) - max(np.log(1 - old), *logits))
        return list(zip((weights / weights.sum())[1:].tolist(), known, strict=True))

    def recall(self, belief: Belief, places: Ints, members: list[int], seen: Places) -> Belief:
        """A belief with what layouts, and else what usual maps, say of cells that were not seen yet.

        Args:
            belief, places, members: as `recalled`.
            seen: what this episode has shown.
        """
        belief = recalled(belief, places, members, self.trusted(seen))
        return as_usual(belief, places, members, self.usual, seen)

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


def recalled(
    belief: Belief, places: Ints, members: list[int], trusted: list[tuple[float, Layout]]
) -> Belief:
    """A belief with what layouts say of cells that were not seen yet.

    Cells of which they say something, more likely than not, count as seen.

    Args:
        belief: without them.
        places: `(M, 2)` of every map cell, from the start.
        members: raw tokens, `(V,)` at most.
        trusted: probabilities of layouts.
    """
    slots = {token: slot for slot, token in enumerate(members)}
    number = {(y, x): cell for cell, (y, x) in enumerate(places.tolist())}
    told = np.zeros_like(belief.cells)
    for chance, layout in trusted:
        if chance < NEGLIGIBLE:
            continue
        for place, token in layout.cells.items():
            cell = number.get(place, -1)
            if cell >= 0 and not belief.seen[cell] and token in slots:
                told[cell, slots[token]] += chance * (1 - CHANGED)
    trust = told.sum(1)
    cells = told + (1 - trust)[:, None] * belief.cells
    return replace(belief, cells=cells, seen=belief.seen | (trust > 0.5))
