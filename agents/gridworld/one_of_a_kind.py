"""Where that stands of which every episode has just one: a goal, the key to a door, a ball of some colour.

It may stand where it stood, or elsewhere each time, whatever walls do; so how far it keeps to places is
learned for each such token by itself:

    p(place) = (sum over episodes w 1[it stood there] + A base(place)) / (sum over episodes w + A)
    w        = exp(-L (cells that differ from this episode - the fewest that do))

with base(place) how common it is where others have what stands there. All combinations of how much
likeness (L) and places (A) matter are weighed by how well they foretell where it stood in each earlier
episode from all others (pseudo-likelihood, Besag 1975).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from aif_dcpc.agents.arrays import Bools, Floats, Ints

LIKENESS = np.array([0.0, 0.5, 2.0])[:, None]  # L; the first: all episodes count alike
MASSES = np.array([0.3, 3.0, 30.0, np.inf])[:, None]  # A; the last: former places do not matter
TINY = 1e-300


@dataclass(frozen=True)
class OneOfAKind:
    """Something of which every episode has just one: a token, or all tokens of a kind.

    Attributes:
        stood: `(episodes, places)` whether it stood there; nowhere in episodes that did not show it.
        shown: `(episodes, places)` number of what else stood there, below 0 where nothing was seen.
        base: `(places,)` how likely each place is otherwise, in sum 1.
        chance: `(L, A)` how likely it is that likeness and places matter so much.
    """

    stood: Floats
    shown: Ints
    base: Floats
    chance: Floats

    @classmethod
    def of(cls, maps: Ints, tokens: Sequence[int], base: Floats, without: Floats) -> "OneOfAKind":
        """Learn from the maps of all episodes how far it keeps to places.

        Args:
            maps: `(episodes, places)` number of the token at each; below 0 where nothing was seen.
            tokens: its numbers.
            base: `(places,)` how common it is at places of that kind.
            without: the same, by what stood at a place without one episode in which it did,
                `(episodes, places)`.
        """
        stood = np.isin(maps, tokens).astype(float)
        shown = np.where(stood > 0, -1, maps)  # where it stands itself is no likeness
        differ = np.array([unlike(shown, one) for one in shown])
        itself = np.eye(len(maps), dtype=bool)
        weights = weights_of(differ, ~itself)  # (L, episodes, episodes)
        here = np.einsum("lef,fp,ep->le", weights, stood, stood)
        every = weights @ stood.sum(1)
        otherwise = (stood * np.maximum(without / base.sum(), TINY)).sum(1)
        kept = stood.any(1)
        foretold = mixed(here[..., kept], every[..., kept], otherwise[kept])
        score = np.log(foretold).sum(-1)
        return cls(stood, shown, base / base.sum(), softmax(score))

    def told(self, now: Ints) -> Floats:
        """Where it is in an episode that has not shown it yet, `(places,)`.

        `now` `(places,)` is the number of what stands there, below 0 where nothing was seen.
        """
        differ = unlike(self.shown, now)[None]
        weights = weights_of(differ, np.ones(differ.shape, bool))[:, 0]
        places = mixed(weights @ self.stood, (weights @ self.stood.sum(1))[:, None], self.base)
        found: Floats = np.einsum("la,lap->p", self.chance, places)
        return found


def unlike(maps: Ints, one: Ints) -> Ints:
    """In how many places each map shows something else than one does, `(episodes,)`."""
    found: Ints = ((maps != one) & (maps >= 0) & (one >= 0)).sum(1)
    return found


def weights_of(differ: Ints, counted: Bools) -> Floats:
    """Weights of episodes for others, `(L, others, episodes)`, given in how many cells they differ."""
    nearest = np.where(counted, differ, differ.max(initial=0)).min(1, keepdims=True)
    found: Floats = counted * np.exp(-LIKENESS[..., None] * (differ - nearest))
    return found


def mixed(here: Floats, every: Floats, otherwise: Floats) -> Floats:
    """Chances `(L, A, n)`: as often as `here` `(L, n)` of `every` one, and else as it is `otherwise`."""
    every = np.asarray(every)[:, None]
    trust = every / (every + MASSES)
    found: Floats = trust * here[:, None] / np.maximum(every, TINY) + (1 - trust) * otherwise
    return found
