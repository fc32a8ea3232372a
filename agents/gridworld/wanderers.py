"""Things that change their places by themselves: found out by watching cells that nobody acted on.

A thing moves if it is seen beside where it was: a misreading has gone as well at the next look, but
does not show up next door. What goes farther than to the next cell in one step is not found out.

They are no part of the map, which only the agent changes: a cell that shows one is out of sight as
far as the map goes. Now the thing stands where it is seen; at the next step it may have gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.vocabulary import Vocabulary
from aif_dcpc.agents.gridworld.planning.belief import Belief

OFTEN = 0.3  # a kind that is seen beside where it was oftener than so moves
PRIOR = 0.5, 9.5  # pseudo-sightings: gone next door, and not


class Wanderers:
    """Counts by kind: how often a thing was seen in the next cell at the next look, or was not.

    Where a cell shows one thing, then another, it is the one that went or the other that came: the
    one whose cells change oftener, whatever for.

    Args:
        looks: of raw tokens.
        columns: of the view, cells.

    Attributes:
        counts: `(kinds, 2)` gone next door, not so.
        changes: `(kinds, 2)` something else in the cell, be it that it came there; the same.
    """

    def __init__(self, looks: Looks, columns: int) -> None:
        self.looks = looks
        self.columns = columns
        self.counts: Floats = np.tile(np.array(PRIOR), (int(looks.kind.max()) + 1, 1))
        self.changes = self.counts.copy()

    def watch(self, views: Sequence[Ints], cells: Sequence[Ints], ahead: int, unseen: int) -> None:
        """Compare two views, one step apart.

        Args:
            views: raw tokens `(P,)` before and after.
            cells: map cells `(P,)` of both.
            ahead: map cell that the step may have acted on.
            unseen: raw token of cells out of sight.
        """
        seen = [view != unseen for view in views]
        before, after = (
            self.looks.kind[np.where(shown, view, 0)]
            for shown, view in zip(seen, views, strict=True)
        )
        rate = self.changes[:, 0] / self.changes.sum(1)
        was = dict(zip(cells[0][seen[0]].tolist(), before[seen[0]].tolist(), strict=True))
        came = after != [was.get(cell, -1) for cell in cells[1].tolist()]
        beside = self._beside(np.where(came & seen[1], after, -1))
        for place in seen[1].nonzero()[0].tolist():
            cell, new = int(cells[1][place]), int(after[place])
            kind = was.get(cell, -1)
            if kind < 0 or cell == ahead:
                continue
            self.changes[kind, int(kind == new)] += 1
            if rate[new] <= rate[kind]:  # else it is the new thing that came
                went = kind != new and kind in beside[place]
                self.counts[kind, int(not went)] += 1

    def _beside(self, kinds: Ints) -> Ints:
        """What each place of a view and the eight around it hold, `(P, 9)`; -1 beyond its edges."""
        wide = np.pad(kinds.reshape(-1, self.columns), 1, constant_values=-1)
        return np.lib.stride_tricks.sliding_window_view(wide, (3, 3)).reshape(len(kinds), 9)

    def slots(self, vocabulary: Vocabulary) -> list[int]:
        """Slots of the tokens whose kind moves."""
        moves = self.counts[:, 0] > OFTEN * self.counts.sum(1)
        if not moves.any():
            return []
        return [
            slot for slot, t in enumerate(vocabulary.tokens.members) if moves[self.looks.kind[t]]
        ]

    def standing(self, belief: Belief, cells: Ints, shown: Ints, vocabulary: Vocabulary) -> Belief:
        """A belief in which things that move stand where they are seen now, and may be gone later.

        Args:
            belief: over the map without them.
            cells: `(P,)` map cells of the view.
            shown: `(P,)` slots seen in them.
            vocabulary: of the slots.
        """
        there = np.isin(shown, self.slots(vocabulary))
        now = belief.with_tokens(cells[there], shown[there])
        raw = np.array(vocabulary.tokens.members)[shown[there]]
        kinds = self.looks.kind[raw]
        stays = (self.counts[:, 1] / self.counts.sum(1))[kinds, None]
        later = belief.cells.copy()
        later[cells[there]] = (1 - stays) * later[cells[there]] + stays * now.cells[cells[there]]
        return replace(now, later=later)

    # -- persistence -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give both counts as plain lists."""
        return {"counts": self.counts.tolist(), "changes": self.changes.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.counts = np.array(state["counts"])
        self.changes = np.array(state["changes"])
