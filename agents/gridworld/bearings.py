"""Where an episode began, on the map that all episodes share: told by what it shows.

Maps are laid out from where an episode began. A world that is entered at another place each time looks
alike only once its maps are laid over each other. How far the present one has to be shifted for that
(the first is not) is a latent of the episode,

    p(shift)         = (1 - new) (episodes that had it / episodes) + new p(new shift)
    new              = (how often a shift was new + a) / (episodes but the first + a + b)
    p(new shift)     = (1 - NEARBY) / shifts + NEARBY (mean over episodes of exp(-cells from theirs / REACH))
    p(shown | shift) = product over lines (p(line | shift) / product over its cells p(token))^PART
    p(line | shift)  = (1 - STRAY) product over its cells p(token | the place where it comes to lie)
                       + STRAY p(token) ONWARD^(cells - 1)

with frequencies of the other episodes as predictives. Cells are no independent witnesses, for walls go
on: a wall that stands elsewhere this time is one surprise, however long it is (`lines`), and PART of what
lines say counts. Headings are given, so that maps are never turned. When little is known of a world, a map
may come to lie wrongly: so earlier ones are laid anew, in turn, with every new one.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import softmax

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.gridworld.lines import Line, lines_of
from aif_dcpc.agents.gridworld.usual_map import Places, UsualMap

SPAN = 20  # cells, up to which a map is shifted in either direction
NEW, FAMILIAR = 0.2, 0.8  # a and b
NEARBY = 0.8  # of the shifts that are new, how many are like others
REACH = 2.0  # cells
PART = 0.5
STRAY = 0.01  # chance that a line is not where it usually is
ONWARD = 0.9  # chance that a line goes on at the next cell
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
        self.log_ratio: Floats = np.zeros((0, 0, 0))  # (tokens, height, width)
        self.corner = np.zeros(2, np.int64)
        self.column: dict[int, int] = {}
        self.log_common: Floats = np.zeros(0)  # (tokens,)
        self.shown: dict[Line, Floats] = {}  # what each line says of every shift
        self.total: Floats = _square(0.0)  # the sum of it

    def keep(self, shift: Shift, number: int) -> None:
        """Take in how an episode lies, of which so many of the last have a usual map."""
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
        if not usual.row:
            return  # no cell was ever known
        places, times = usual.places, usual.times_without(without)
        self.column = dict(usual.column)
        self.corner = places.min(0) - 2 * SPAN
        size = places.max(0) - self.corner + 2 * SPAN + 1
        common = times.sum(0) + 0.5
        common /= common.sum()
        met = times.sum(1, keepdims=True)
        ratio = np.log((times + MASS * common) / (met + MASS) / common)
        self.log_common = np.log(common)
        self.log_ratio = np.zeros((len(self.column), *size))
        self.log_ratio[:, *(places - self.corner).T] = ratio.T  # 0 where nothing was met
        self.shown = {}
        self.total = _square(0.0)

    def log_prior(self) -> Floats:
        """Of every shift, `(2 SPAN + 1, 2 SPAN + 1)`, none at all in the middle."""
        times = self.episodes.total()
        shifts = np.array(list(self.episodes))
        had = np.array(list(self.episodes.values())) / times
        new = (len(self.episodes) - 1 + NEW) / (times - 1 + NEW + FAMILIAR)
        away = np.abs(np.arange(-SPAN, SPAN + 1) - shifts[..., None])  # (n, 2, shifts)
        near = np.exp(-away / REACH)
        near /= near.sum(-1, keepdims=True)
        nearby = np.einsum("n,ny,nx->yx", had, near[:, 0], near[:, 1])
        chance = new * (NEARBY * nearby + (1 - NEARBY) / nearby.size)
        chance[*(shifts + SPAN).T] += (1 - new) * had
        found: Floats = np.log(chance)
        return found

    def posterior(self, seen: Places) -> Floats:
        """Of every shift, given a map as far as it was seen."""
        found: Floats = softmax(self.log_prior() + self.log_likelihood(seen))
        return found

    def log_likelihood(self, seen: Places) -> Floats:
        """Of a map as far as it was seen, for every shift, relative to what is common anywhere."""
        lines = lines_of(seen)
        for line in self.shown.keys() - lines:
            self.total -= self.shown.pop(line)
        for line in lines - self.shown.keys():
            self.shown[line] = self._log_likelihood_of(line)
            self.total += self.shown[line]
        return self.total

    def _log_likelihood_of(self, line: Line) -> Floats:
        """Of one line, for every shift, in multiples of 1 / STEP."""
        if line.token not in self.column:
            return _square(0.0)
        column = self.column[line.token]
        usual = self._sum(self.log_ratio[column], line)
        onward = (line.length - 1) * (np.log(ONWARD) - self.log_common[column])
        found = np.logaddexp(np.log1p(-STRAY) + usual, np.log(STRAY) + onward)
        return np.round(PART * found * STEP) / STEP

    def _sum(self, log_ratio: Floats, line: Line) -> Floats:
        """Sum over the cells of a line, for every shift, of those that can come to lie on the map."""
        top, left = line.y - self.corner[0] - SPAN, line.x - self.corner[1] - SPAN
        total = _square(0.0)
        for step in range(line.length):
            y, x = (top + step, left) if line.upright else (top, left + step)
            if y >= 0 and x >= 0:
                window = log_ratio[y : y + len(total), x : x + len(total)]
                if window.shape == total.shape:
                    total += window
        return total

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
