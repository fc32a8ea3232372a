"""What usually stands where: in many worlds some places are alike in all episodes, others are not.

Places are told from where the agent began. What stands at one of them now is foretold by what stood
there in earlier episodes; first by those that are like this one so far, as far as there are any, then
by all, then without regard to the place:

    p(token | place)         = (sum over episodes w 1[it stood there] + B all(token)) / (sum of w + B)
    w                        = exp(-L (cells that differ from this episode - the fewest that do))
    all(token)               = (episodes in which it stood there + A b(token)) / (episodes + A)

with b what is believed without regard to the place. How much likeness (L, B) and places (A) matter is
itself learned: all combinations of `LIKENESS`, `NEAR` and `MASSES` are weighed by how well they
foretold every cell of earlier episodes, and of this one, from the others (the prequential approach of
Dawid 1984, with the pseudo-likelihood of Besag 1975).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.planning.belief import Belief

KNOWN = 0.9  # probability of a token from which a cell counts as known
LIKENESS = np.array([0.5, 2.0])  # L
NEAR = np.array([1.0, 10.0, np.inf])  # B; the last: all episodes count alike
MASSES = np.array([0.3, 3.0, 30.0, np.inf])  # A; the last: places do not matter
MOST = 32  # the latest episodes that are kept

TINY = 1e-300

Bools = npt.NDArray[np.bool_]
Places = dict[tuple[int, int], int]  # (y, x) from the start -> raw token


class UsualMap:
    """What stood where at the start of episodes.

    Attributes:
        row: number of every place that was seen.
        column: number of every token that was seen.
        maps: `(episodes, places)` number of the token; -1 where nothing was seen.
        evidence: `(L, B, A)` log probability of what all episodes showed, relative to none of this.
    """

    def __init__(self) -> None:
        self.row: dict[tuple[int, int], int] = {}
        self.column: dict[int, int] = {}
        self.maps: Ints = np.zeros((0, 0), np.int64)
        self.evidence: Floats = np.zeros((len(LIKENESS), len(NEAR), len(MASSES)))

    def keep(self, seen: Places) -> None:
        """Take in the map of an episode."""
        self.evidence = self.evidence + self.log_predictive(seen)
        for place, token in seen.items():
            self.row.setdefault(place, len(self.row))
            self.column.setdefault(token, len(self.column))
        new = len(self.row) - self.maps.shape[1]
        earlier = np.pad(self.maps, ((0, 0), (0, new)), constant_values=-1)
        places, tokens = self._numbers(seen)
        mine = np.full((1, len(self.row)), -1)
        mine[0, places] = tokens
        self.maps = np.concatenate([earlier, mine])[-MOST:]

    def _numbers(self, seen: Places) -> tuple[Ints, Ints]:
        """Numbers of the places of a map that are known, and of what stands there, a new token's last."""
        new = len(self.column)
        pairs = [(self.row[p], self.column.get(t, new)) for p, t in seen.items() if p in self.row]
        places, tokens = np.array(pairs, np.int64).reshape(-1, 2).T
        return places, tokens

    def log_predictive(self, seen: Places) -> Floats:
        """How much better an episode is foretold than without regard to places, nats, `(L, B, A)`."""
        return self._log_predictive(*self._compared(seen))

    def _compared(self, seen: Places) -> tuple[Ints, Bools, Bools]:
        """What an episode shows `(n,)`, and `(episodes, n)` whether earlier ones showed it, or something else."""
        places, tokens = self._numbers(seen)
        theirs = self.maps[:, places]
        met = theirs >= 0
        return tokens, met, met & (theirs != tokens)

    def _log_predictive(self, tokens: Ints, met: Bools, differs: Bools) -> Floats:
        if not met.size:
            return np.zeros(self.evidence.shape)
        others = differs.sum(1, keepdims=True) - differs  # cells that differ, this one apart
        weights = np.exp(-LIKENESS[:, None, None] * (others - others.min(0)))
        base = self._base()[tokens]
        times = met.sum(0)
        trust = _trust(times, MASSES)
        of_all = trust * (times - differs.sum(0)) / np.maximum(times, 1) + (1 - trust) * base
        times = (weights * met).sum(1)  # (L, n)
        near = _trust(times, NEAR)[:, :, None]
        alike = (weights * (met & ~differs)).sum(1) / np.maximum(times, TINY)
        chance = near * alike[:, None, None] + (1 - near) * of_all  # (L, B, A, n)
        ratio: Floats = np.log(chance / base).sum(-1)
        return ratio

    def _base(self) -> Floats:
        """How common every token is anywhere, `(tokens + 1,)`, the last for all that are new."""
        times = np.bincount(self.maps[self.maps >= 0], minlength=len(self.column) + 1) + 0.5
        common: Floats = times / times.sum()
        return common

    def told(self, seen: Places, members: list[int]) -> tuple[Ints, Floats]:
        """What every place that was ever seen holds.

        Args:
            seen: what this episode has shown.
            members: raw token of every slot, `(V,)` at most.

        Returns:
            places `(n, 2)`, and `(n, V)` the probability that the place itself gives to each; what is
            missing to one is for what is believed without regard to the place.
        """
        compared = self._compared(seen)
        chance = softmax(self.evidence + self._log_predictive(*compared))
        differ = compared[2].sum(1)
        nearest = differ.min(initial=len(seen))
        every = self._counts(np.ones(len(self.maps)))
        trust = _trust(every.sum(1), MASSES)
        of_all = every / np.maximum(every.sum(1, keepdims=True), TINY)
        told = np.zeros(every.shape)
        for likeness, weight in zip(LIKENESS, chance, strict=True):
            weights = np.exp(-likeness * (differ - nearest))
            counts = self._counts(weights)
            near = _trust(counts.sum(1), NEAR)
            of_near = counts / np.maximum(counts.sum(1, keepdims=True), TINY)
            told += (weight.sum(1) @ near)[:, None] * of_near
            told += np.einsum("ba,bn,an->n", weight, 1 - near, trust)[:, None] * of_all
        known = [(slot, self.column[t]) for slot, t in enumerate(members) if t in self.column]
        slots, columns = np.array(known, np.int64).reshape(-1, 2).T
        of_slots = np.zeros((len(told), len(members)))
        of_slots[:, slots] = told[:, columns]
        return np.array(list(self.row), np.int64).reshape(-1, 2), of_slots

    def _counts(self, weights: Floats) -> Floats:
        """How often each token stood at each place, `(places, tokens)`, with weights of episodes."""
        shape = len(self.row), len(self.column)
        episode, place = (self.maps >= 0).nonzero()
        cell = place * shape[1] + self.maps[episode, place]
        counts = np.bincount(cell, weights[episode], minlength=shape[0] * shape[1])
        return counts.reshape(shape).astype(float)

    # -- persistence -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give everything as plain numbers and lists."""
        return {
            "places": [list(place) for place in self.row],
            "tokens": list(self.column),
            "maps": self.maps.tolist(),
            "evidence": self.evidence.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.row = {(y, x): number for number, (y, x) in enumerate(state["places"])}
        self.column = {token: number for number, token in enumerate(state["tokens"])}
        self.maps = np.array(state["maps"], np.int64).reshape(len(state["maps"]), len(self.row))
        self.evidence = np.array(state["evidence"], float)


def _trust(times: Floats, masses: Floats) -> Floats:
    """How far what was met so many times `(..., n)` speaks for itself, by mass, `(..., M, n)`."""
    times = np.asarray(times, float)[..., None, :]
    return times / (times + masses[:, None])


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
