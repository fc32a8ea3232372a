"""What usually stands where: in many worlds some places are alike in all episodes, others are not.

Places are told from where the agent began. Each has its own frequencies of tokens,

    p(token | place) = (n(token, place) + A b(token)) / (n(place) + A)

with b what is believed without regard to the place. How much places matter, A, is itself learned:
every value of `MASSES` is weighed by how well it foretold what earlier episodes, and this one, came to
show (Dawid 1984, "Present position and potential developments", the prequential approach).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import softmax

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.planning.belief import Belief

KNOWN = 0.9  # probability of a token from which a cell counts as known
MASSES = np.array([0.3, 3.0, 30.0, np.inf])  # A; the last: places do not matter


Places = dict[tuple[int, int], int]  # (y, x) from the start -> raw token


class UsualMap:
    """Counts of what stood where at the start of episodes.

    Attributes:
        row: number of every place that was seen.
        column: number of every token that was seen.
        counts: `(places, tokens)` episodes.
        evidence: `(A,)` log probability of all episodes by each of `MASSES`, relative to the last.
    """

    def __init__(self) -> None:
        self.row: dict[tuple[int, int], int] = {}
        self.column: dict[int, int] = {}
        self.counts: Floats = np.zeros((0, 0))
        self.evidence: Floats = np.zeros(len(MASSES))

    def keep(self, seen: Places) -> None:
        """Take in the map of an episode."""
        self.evidence = self.evidence + self.log_predictive(seen)
        for place, token in seen.items():
            self.row.setdefault(place, len(self.row))
            self.column.setdefault(token, len(self.column))
        grown = np.zeros((len(self.row), len(self.column)))
        grown[: self.counts.shape[0], : self.counts.shape[1]] = self.counts
        rows = [self.row[place] for place in seen]
        columns = [self.column[token] for token in seen.values()]
        grown[rows, columns] += 1
        self.counts = grown

    def log_predictive(self, seen: Places) -> Floats:
        """How much better each mass foretells what an episode shows than the last one does, nats, `(A,)`."""
        at = [(self.row[p], self.column.get(t, -1)) for p, t in seen.items() if p in self.row]
        if not at:
            return np.zeros(len(MASSES))
        rows, columns = np.array(at).T
        counts = np.pad(self.counts, ((0, 0), (0, 1)))  # the last: a token that is new
        base = counts.sum(0) + 0.5
        base /= base.sum()
        own = counts[rows, columns][:, None]
        trust = self._trust(counts[rows].sum(1))
        expected = base[columns][:, None]
        share = own / np.maximum(counts[rows].sum(1), 1)[:, None]
        ratio: Floats = np.log((trust * share + (1 - trust) * expected) / expected).sum(0)
        return ratio

    @staticmethod
    def _trust(times: Floats) -> Floats:
        """How far places that were seen so many times `(n,)` speak for themselves, by mass, `(n, A)`."""
        return times[:, None] / (times[:, None] + MASSES)

    def told(self, seen: Places, members: list[int]) -> tuple[Ints, Floats]:
        """What every place that was ever seen holds.

        Args:
            seen: what this episode has shown.
            members: raw token of every slot, `(V,)` at most.

        Returns:
            places `(n, 2)`, and `(n, V)` the probability that the place itself gives to each; what is
            missing to one is for what is believed without regard to the place.
        """
        weights = softmax(self.evidence + self.log_predictive(seen))
        times = self.counts.sum(1)
        trust = self._trust(times) @ weights
        known = [(slot, self.column[t]) for slot, t in enumerate(members) if t in self.column]
        share = np.zeros((len(times), len(members)))
        slots, columns = np.array(known, np.int64).reshape(-1, 2).T
        share[:, slots] = self.counts[:, columns] * (trust / np.maximum(times, 1))[:, None]
        return np.array(list(self.row), np.int64).reshape(-1, 2), share

    # -- persistence -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give everything as plain numbers and lists."""
        return {
            "places": [list(place) for place in self.row],
            "tokens": list(self.column),
            "counts": self.counts.tolist(),
            "evidence": self.evidence.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.row = {(y, x): number for number, (y, x) in enumerate(state["places"])}
        self.column = {token: number for number, token in enumerate(state["tokens"])}
        self.counts = np.array(state["counts"], float).reshape(len(self.row), len(self.column))
        self.evidence = np.array(state["evidence"], float)


def as_usual(
    belief: Belief, places: Ints, members: list[int], usual: UsualMap, seen: Places
) -> Belief:
    """A belief in which cells that were not seen yet hold what usually stands there.

    Cells that surely do count as seen.

    Args:
        belief: without regard to places.
        places: `(M, 2)` of every map cell, from the start.
        members: raw tokens, `(V,)` at most.
        usual: what stood where.
        seen: what this episode has shown.
    """
    number = {(y, x): cell for cell, (y, x) in enumerate(places.tolist())}
    found, share = usual.told(seen, members)
    where = np.array([number.get((y, x), -1) for y, x in found.tolist()], np.int64)
    kept = (where >= 0) & ~belief.seen[where]
    cells = belief.cells.copy()
    told = share[kept]
    cells[where[kept]] *= 1 - told.sum(1, keepdims=True)
    cells[where[kept], : len(members)] += told
    sure = belief.seen.copy()
    sure[where[kept]] |= told.max(1, initial=0) > KNOWN
    return replace(belief, cells=cells, seen=sure)
