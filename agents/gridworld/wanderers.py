"""Things that change their places by themselves: found out by watching cells that nobody acted on.

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

OFTEN = 0.3  # a kind of which more sightings are followed by something else in the cell moves
PRIOR = 0.5, 9.5  # pseudo-sightings: gone, and still there


class Wanderers:
    """Counts by kind: how often the cell of a thing showed something else, or the same, next.

    Where a cell shows one thing, then another, it is the one that went or the other that came: the
    one whose cells change oftener, whatever for.

    Args:
        looks: of raw tokens.

    Attributes:
        counts: `(kinds, 2)` gone, still there.
        changes: `(kinds, 2)` something else in the cell, be it that it came there; the same.
    """

    def __init__(self, looks: Looks) -> None:
        self.looks = looks
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
        before, after = views
        rate = self.changes[:, 0] / self.changes.sum(1)
        now = dict(zip(cells[1][after != unseen].tolist(), after[after != unseen], strict=True))
        for cell, token in zip(cells[0].tolist(), before.tolist(), strict=True):
            if token != unseen and cell != ahead and cell in now:
                kind, new = self.looks.kind[[token, now[cell]]]
                self.changes[kind, int(kind == new)] += 1
                if rate[new] <= rate[kind]:  # else it is the new thing that came
                    self.counts[kind, int(kind == new)] += 1

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
