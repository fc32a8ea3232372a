"""Where an episode began, on the map that all episodes share: told by what it shows.

Maps are laid out from where an episode began. A world that is entered at another place each time looks
alike only once its maps are laid over each other. How far the present one has to be shifted for that
(the first is not) is a latent of the episode,

    p(shift)         = (1 - new) (episodes that had it / episodes) + new / shifts
    new              = (how often a shift was new + a) / (episodes but the first + a + b)
    p(shown | shift) = product over cells (p(token | the place where it comes to lie) / p(token))^PART

with frequencies of the other episodes as predictives. Cells are no independent witnesses, for walls go
on: PART of what they say counts. Headings are given, so that maps are never turned. When little is known
of a world, a map may come to lie wrongly: so earlier ones are laid anew, in turn, with every new one.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import softmax

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.gridworld.usual_map import Places, UsualMap

SPAN = 20  # cells, up to which a map is shifted in either direction
NEW, FAMILIAR = 0.2, 0.8  # a and b
PART = 0.5
MASS = 1.0  # episodes' worth of what is common anywhere
LIKELY = 0.05  # probability of a shift that is reckoned with
MOST = 4  # such shifts
ANEW = 2  # earlier episodes that are laid anew with every new one
STEP = 2.0**20  # log ratios are multiples of 1 / STEP: so their sums are exact, in any order

Shift = tuple[int, int]


def moved(seen: Places, shift: Shift) -> Places:
    """A map as it lies after a shift."""
    return {(y + shift[0], x + shift[1]): token for (y, x), token in seen.items()}


class Bearings:
    """How maps of episodes lie against the first.

    Attributes:
        episodes: by shift.
        lain: shifts of the latest episodes, those of usual maps.
    """

    def __init__(self) -> None:
        self.episodes: Counter[Shift] = Counter()
        self.lain: list[Shift] = []
        self.log_ratio: Floats = np.zeros((0, 0, 0))  # (tokens, height, width), SPAN around the map
        self.corner = np.zeros(2, np.int64)
        self.column: dict[int, int] = {}
        self.shown: Places = {}  # what the sum of log ratios is of
        self.total: Floats = _square(0.0)

    def keep(self, shift: Shift, number: int) -> None:
        """Take in how an episode lies, of which the usual map is the last of some number."""
        self.episodes[shift] += 1
        self.lain = [*self.lain, shift][-number:]

    def lay_anew(self, usual: UsualMap) -> None:
        """Lay the next few earlier episodes, if there are any, where they fit best among the others."""
        every = self.episodes.total()
        for number in range(ANEW if every > 1 else 0):
            row = (every * ANEW + number) % len(self.lain)
            here = self.lain[row]
            own = moved(usual.map(row), (-here[0], -here[1]))
            self.learn(usual, without=row)
            self.episodes[here] -= 1
            self.episodes += Counter()  # forgets what no episode has
            self.lain[row] = self.likely(own)[0][1]
            self.episodes[self.lain[row]] += 1
            if self.lain[row] != here:
                usual.put(row, moved(own, self.lain[row]))
        self.learn(usual)

    def learn(self, usual: UsualMap, without: int | None = None) -> None:
        """Take in what stood where in all episodes, or all but one, once it has changed."""
        places, times = usual.places, usual.times_without(without)
        self.column = dict(usual.column)
        self.corner = places.min(0) - 2 * SPAN
        size = places.max(0) - self.corner + 2 * SPAN + 1
        common = times.sum(0) + 0.5
        common /= common.sum()
        met = times.sum(1, keepdims=True)
        ratio = np.log((times + MASS * common) / (met + MASS) / common)
        self.log_ratio = np.zeros((len(self.column), *size))
        self.log_ratio[:, *(places - self.corner).T] = ratio.T  # 0 where nothing was met
        self.log_ratio = np.round(PART * self.log_ratio * STEP) / STEP
        self.shown = {}
        self.total = _square(0.0)

    def log_prior(self) -> Floats:
        """Of every shift, `(2 SPAN + 1, 2 SPAN + 1)`, none at all in the middle."""
        times = self.episodes.total()
        new = (len(self.episodes) - 1 + NEW) / (times - 1 + NEW + FAMILIAR)
        chance = _square(new / (2 * SPAN + 1) ** 2)
        for shift, had in self.episodes.items():
            if max(map(abs, shift)) <= SPAN:
                chance[shift[0] + SPAN, shift[1] + SPAN] += (1 - new) * had / times
        found: Floats = np.log(chance)
        return found

    def posterior(self, seen: Places) -> Floats:
        """Of every shift, given a map as far as it was seen."""
        found: Floats = softmax(self.log_prior() + self.log_likelihood(seen))
        return found

    def log_likelihood(self, seen: Places) -> Floats:
        """Of a map as far as it was seen, for every shift, relative to what is common anywhere."""
        for place, token in seen.items() - self.shown.items():
            self._count(place, token, 1)
        for place, token in self.shown.items() - seen.items():
            self._count(place, token, -1)
        self.shown = dict(seen)
        return self.total

    def _count(self, place: Shift, token: int, times: int) -> None:
        """Let a cell speak for every shift, or take back what it has said."""
        top, left = np.array(place) - self.corner - SPAN
        height, width = self.log_ratio.shape[1:]
        if token in self.column and 0 <= top < height - 2 * SPAN and 0 <= left < width - 2 * SPAN:
            window = slice(top, top + 2 * SPAN + 1), slice(left, left + 2 * SPAN + 1)
            self.total += times * self.log_ratio[self.column[token], *window]

    def likely(self, seen: Places) -> list[tuple[float, Shift, float]]:
        """Probability of the likeliest shifts, the shifts, and the log of their prior.

        Args:
            seen: a map, as far as it was seen.
        """
        if not self.episodes:
            return [(1.0, (0, 0), 0.0)]
        prior = self.log_prior()
        chance = softmax(prior + self.log_likelihood(seen))
        order = chance.ravel().argsort(kind="stable")[::-1][:MOST]
        least = min(LIKELY, float(chance.max()))
        return [
            (float(chance.flat[at]), _shift_at(int(at)), float(prior.flat[at]))
            for at in order
            if chance.flat[at] >= least
        ]

    # -- persistence -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give everything that does not follow from usual maps, as plain numbers and lists."""
        episodes = [[*shift, number] for shift, number in self.episodes.items()]
        return {"episodes": episodes, "lain": [list(shift) for shift in self.lain]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; usual maps are to be learned from anew."""
        self.episodes = Counter({(y, x): number for y, x, number in state["episodes"]})
        self.lain = [(y, x) for y, x in state["lain"]]


def _square(value: float) -> Floats:
    return np.full((2 * SPAN + 1, 2 * SPAN + 1), value)


def _shift_at(flat: int) -> Shift:
    y, x = divmod(flat, 2 * SPAN + 1)
    return y - SPAN, x - SPAN
