"""What usually stands where: in many worlds some places are alike in all episodes, others are not.

Places are told on the map that all episodes share (`bearings`). What stands at one of them now is
foretold by what stood there in earlier episodes; first by those that are like this one so far, as far as there are any, then
by all, then without regard to the place:

    p(token | place)         = (sum over episodes w 1[it stood there] + B all(token)) / (sum of w + B)
    w                        = exp(-L (cells that differ from this episode - the fewest that do))
    all(token)               = (episodes in which it stood there + A kind(token)) / (episodes + A)
    kind(token)              = how often it stood at places where others have mostly what they have here

(a goal that is somewhere else each time may be wherever there is mostly floor). What every episode has
just one of, and was not seen yet, is where nothing was seen yet (`one_of_a_kind`). Without regard to
the place stands what is believed of any. How much likeness (L, B) and places (A) matter is
itself learned: all combinations of `LIKENESS`, `NEAR` and `MASSES` are weighed by how well they
foretold every cell of earlier episodes, and of this one, from the others (the prequential approach of
Dawid 1984, with the pseudo-likelihood of Besag 1975).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from aif_dcpc.agents.arrays import Bools, Floats, Ints
from aif_dcpc.agents.gridworld.one_of_a_kind import OneOfAKind

LIKENESS = np.array([0.5, 2.0])  # L
NEAR = np.array([1.0, 10.0, np.inf])  # B; the last: all episodes count alike
MASSES = np.array([0.3, 3.0, 30.0, np.inf])  # A; the last: places do not matter
PLACED = np.ones((len(LIKENESS), len(NEAR), len(MASSES)))  # whether places matter at all
PLACED[:, -1, -1] = 0
MOST = 32  # the latest episodes that are kept

ONCE = 0.75  # share of the episodes from which there is one of something
TINY = 1e-300

Place = tuple[int, int]  # (y, x)
Places = dict[Place, int]  # raw tokens


@dataclass(frozen=True)
class Single:
    """What there is one of.

    Attributes:
        tokens: its numbers: several where it has another colour or state at times.
        shares: in which share of the episodes it was each of them.
        sure: in which share of the episodes it stood at just one place, and at one that others have shown.
        places: where it may stand.
    """

    tokens: Ints
    shares: Floats
    sure: float
    places: OneOfAKind


class UsualMap:
    """What stood where at the start of episodes.

    Args:
        kinds: the kind of every raw token; by default every one is of its own.

    Attributes:
        row: number of every place that was seen.
        column: number of every token that was seen.
        maps: `(episodes, places)` number of the token; -1 where nothing was seen.
        evidence: `(L, B, A)` log probability of what all episodes showed, relative to none of this.
        times: `(places, tokens)` in how many episodes each stood there.
        kind: `(places,)` the token that stood there mostly; as many as there are tokens where none did.
        of_kind: `(tokens + 1, tokens + 1)` how common every token is at places of each kind; the last
            for all that are new.
        ones: what most episodes have one of.
    """

    def __init__(self, kinds: Ints | None = None) -> None:
        self.kinds = kinds
        self.row: dict[tuple[int, int], int] = {}
        self.column: dict[int, int] = {}
        self.maps: Ints = np.zeros((0, 0), np.int64)
        self.evidence: Floats = np.zeros((len(LIKENESS), len(NEAR), len(MASSES)))
        self._learn()

    def keep(self, seen: Places, log_prior: float = 0.0) -> None:
        """Take in the map of an episode, and the log probability of how it lies, before it was seen."""
        self.evidence = self.evidence + self.log_predictive(seen) + log_prior * PLACED
        nothing = np.full((1, self.maps.shape[1]), -1)
        self.maps = np.concatenate([self.maps, nothing])[-MOST:]
        self.put(-1, seen)

    def put(self, episode: int, seen: Places) -> None:
        """Let this be the map of an episode."""
        for place, token in seen.items():
            self.row.setdefault(place, len(self.row))
            self.column.setdefault(token, len(self.column))
        new = len(self.row) - self.maps.shape[1]
        self.maps = np.pad(self.maps, ((0, 0), (0, new)), constant_values=-1)
        places, tokens = self._numbers(seen)
        self.maps[episode] = -1
        self.maps[episode, places] = tokens
        self._learn()

    def map(self, episode: int) -> Places:
        """What an episode has shown."""
        tokens = list(self.column)
        pairs = zip(self.row, self.maps[episode].tolist(), strict=True)
        return {place: tokens[number] for place, number in pairs if number >= 0}

    def times_without(self, episode: int | None) -> Floats:
        """In how many of the other episodes each token stood at each place, `(places, tokens)`."""
        weights = np.ones(len(self.maps))
        if episode is not None:
            weights[episode] = 0
        return self._counts(weights)

    def _learn(self) -> None:
        """Reckon what follows from the maps."""
        episode, place = (self.maps >= 0).nonzero()
        self._shown = episode, place * len(self.column) + self.maps[episode, place]
        self.times = self.times_without(None)
        tokens = self.times.shape[1]
        self.common = np.append(self.times.sum(0), 0) + 0.5
        self.common /= self.common.sum()
        others = np.append(
            self.times[:, None] - np.eye(tokens), np.zeros((len(self.row), 1, tokens)), 1
        )
        others[:, -1] = self.times  # of no episode is taken out
        alone: Floats = (others <= 0).all(-1, keepdims=True).astype(float)
        mostly = np.append(others, alone, -1).argmax(-1)  # (places, tokens + 1)
        self.kind = mostly[:, -1]
        self.of_kind = np.tile(self.common, (tokens + 1, 1))
        np.add.at(self.of_kind, (mostly[:, :-1], np.arange(tokens)), self.times)
        self.of_kind /= self.of_kind.sum(1, keepdims=True)
        self.ones = self._singles(mostly[:, :-1])

    def _singles(self, without: Ints) -> list[Single]:
        """Tokens that most episodes have one of, and kinds that they do, though no token of theirs.

        `without` `(places, tokens)` is what stood at a place mostly, one episode less that had the token there.
        """
        alone = self._found([[column] for column in range(len(self.column))], without)
        taken = {column for one in alone for column in one.tokens.tolist()}
        return [*alone, *self._found(self._kinds_without(taken), without)]

    def _found(self, groups: Iterable[list[int]], without: Ints) -> list[Single]:
        """Those groups of tokens that most episodes have one of."""
        found = (self._single(tokens, without) for tokens in groups)
        return [one for one in found if one is not None]

    def _kinds_without(self, taken: Collection[int]) -> list[list[int]]:
        """Tokens that are of one kind with others, by kind; some are left out."""
        kinds: dict[int, list[int]] = {}
        for token, column in self.column.items():
            if self.kinds is not None and column not in taken:
                kinds.setdefault(int(self.kinds[token]), []).append(column)
        return [columns for columns in kinds.values() if len(columns) > 1]

    def _single(self, tokens: list[int], without: Ints) -> Single | None:
        """Some tokens together, if most episodes have one of them."""
        stands = np.isin(self.maps, tokens)  # (episodes, places)
        met = self.times.sum(1) > 1
        at_one_place = (stands.sum(1) == 1) & stands[:, met].any(1)
        sure = (at_one_place.sum() + 0.5) / (len(self.maps) + 1)
        if sure <= ONCE:
            return None
        base = self.of_kind[self.kind][:, tokens].sum(1)
        before = without[np.arange(len(without)), self.maps]  # (episodes, places)
        otherwise = self.of_kind[before][..., tokens].sum(-1)
        times = self.times[:, tokens].sum(0)
        places = OneOfAKind.of(self.maps, tokens, base, otherwise)
        return Single(np.array(tokens), times / times.sum(), float(sure), places)

    def _numbers(self, seen: Places) -> tuple[Ints, Ints]:
        """Numbers of the places of a map that are known, and of what stands there, a new token's last."""
        new = len(self.column)
        pairs = [(self.row[p], self.column.get(t, new)) for p, t in seen.items() if p in self.row]
        places, tokens = np.array(pairs, np.int64).reshape(-1, 2).T
        return places, tokens

    def log_predictive(self, seen: Places) -> Floats:
        """How much better an episode is foretold than without regard to places, nats, `(L, B, A)`."""
        return self._log_predictive(*self._compared(seen))

    def _compared(self, seen: Places) -> tuple[Ints, Ints, Bools, Bools]:
        """Kinds of the places and tokens that an episode shows `(n,)`; and whether earlier ones did.

        That is, `(episodes, n)`, whether each has shown the place, and whether it has shown something else there.
        """
        places, tokens = self._numbers(seen)
        theirs = self.maps[:, places]
        met = theirs >= 0
        return self.kind[places], tokens, met, met & (theirs != tokens)

    def _log_predictive(self, kinds: Ints, tokens: Ints, met: Bools, differs: Bools) -> Floats:
        if not met.size:
            return np.zeros(self.evidence.shape)
        others = differs.sum(1, keepdims=True) - differs  # cells that differ, this one apart
        weights = np.exp(-LIKENESS[:, None, None] * (others - others.min(0)))
        base = self.common[tokens]
        of_kind = self.of_kind[kinds, tokens]
        times = met.sum(0)
        trust = _trust(times, MASSES)
        rest = np.where(np.isinf(MASSES)[:, None], base, of_kind)
        of_all = trust * (times - differs.sum(0)) / np.maximum(times, 1) + (1 - trust) * rest
        times = (weights * met).sum(1)  # (L, n)
        near = _trust(times, NEAR)[:, :, None]
        alike = (weights * (met & ~differs)).sum(1) / np.maximum(times, TINY)
        chance = near * alike[:, None, None] + (1 - near) * of_all  # (L, B, A, n)
        ratio: Floats = np.log(chance / base).sum(-1)
        return ratio

    @property
    def places(self) -> Ints:
        """Places that were seen, `(places, 2)`."""
        return np.array(list(self.row), np.int64).reshape(-1, 2)

    def told(self, seen: Places, log_prior: float = 0.0) -> Floats:
        """What every place that was ever seen holds, `(places, tokens)`.

        What is missing to one is for what is believed without regard to the place.

        Args:
            seen: what this episode has shown.
            log_prior: of how the map of this episode lies.
        """
        compared = self._compared(seen)
        chance = softmax(self.evidence + self._log_predictive(*compared) + log_prior * PLACED)
        differ = compared[-1].sum(1)
        nearest = differ.min(initial=len(seen))
        times = self.times.sum(1)
        trust = _trust(times, MASSES)
        often = self.times / np.maximum(times[:, None], TINY)
        of_kind = self.of_kind[self.kind, :-1]
        placed = np.isfinite(MASSES)
        told = np.zeros(self.times.shape)
        for likeness, weight in zip(LIKENESS, chance, strict=True):
            weights = np.exp(-likeness * (differ - nearest))
            counts = self._counts(weights)
            near = _trust(counts.sum(1), NEAR)
            of_near = counts / np.maximum(counts.sum(1, keepdims=True), TINY)
            told += (weight.sum(1) @ near)[:, None] * of_near
            far = np.einsum("ba,bn->an", weight, 1 - near)
            told += (far * trust).sum(0)[:, None] * often
            told += (far * (1 - trust))[placed].sum(0)[:, None] * of_kind
        told[times == 0] = 0  # maps that were shown there lie elsewhere now
        return self._elsewhere(told, seen, float(chance[PLACED > 0].sum()))

    def _elsewhere(self, told: Floats, seen: Places, placed: float) -> Floats:
        """The same, given that what there is one of and was not seen yet is at a place that was not.

        With e how sure that is, and R how likely it is at an unseen place if it is at any that is known, it
        is at one of them with probability e R / (e R + 1 - e). Places matter with probability `placed`.
        """
        now = np.full(len(self.row), -1)
        places, tokens = self._numbers(seen)
        now[places] = tokens
        unseen = now < 0
        if not unseen.any():
            return told
        shown = [self.column.get(token, -1) for token in set(seen.values())]
        for one in self.ones:
            if np.isin(one.tokens, shown).any():
                continue
            here = one.places.told(now)[unseen]
            sure = placed * one.sure
            rest = sure * here.sum()
            chance = rest / (rest + 1 - sure) * here / max(here.sum(), TINY)
            at = np.ix_(unseen, one.tokens)
            told[unseen] *= ((1 - chance) / (1 - told[at].sum(1)))[:, None]
            told[at] = chance[:, None] * one.shares
        return told

    def of_slots(self, told: Floats, members: list[int]) -> Floats:
        """What places hold, by slot `(places, V)`, given the raw token of every slot, `(V,)` at most."""
        known = [(slot, self.column[t]) for slot, t in enumerate(members) if t in self.column]
        slots, columns = np.array(known, np.int64).reshape(-1, 2).T
        found = np.zeros((len(told), len(members)))
        found[:, slots] = told[:, columns]
        return found

    def chances(self, seen: Places, told: Floats) -> dict[Place, float]:
        """The chance of what was seen, at places that were seen before, given what they hold."""
        known = [p for p in seen if p in self.row]
        places, tokens = self._numbers(seen)
        full = np.pad(told, ((0, 0), (0, 1))) + (1 - told.sum(1, keepdims=True)) * self.common
        return dict(zip(known, full[places, tokens].tolist(), strict=True))

    def _counts(self, weights: Floats) -> Floats:
        """How often each token stood at each place, `(places, tokens)`, with weights of episodes."""
        shape = len(self.row), len(self.column)
        episode, cell = self._shown
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
        self._learn()


def _trust(times: Floats, masses: Floats) -> Floats:
    """How far what was met so many times `(..., n)` speaks for itself, by mass, `(..., M, n)`."""
    times = np.asarray(times, float)[..., None, :]
    return times / (times + masses[:, None])
