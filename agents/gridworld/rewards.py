"""How large rewards are: one of a part of the greatest's size is worth that part of a chance of it.

Expected utility is linear in chances (von Neumann and Morgenstern 1944): a reward of w times the
greatest size is as good as the greatest with chance w, and nothing with chance 1 - w. So sizes enter
as weights w of the predicted outcomes, and what is preferred to what stays as it is. A penalty counts
likewise as a part of the greatest of all rewards and penalties, at most of a whole one.

What one step brings varies (MiniGrid's own reward falls from 1 to .1 with the steps that were needed),
and does not make it another thing. With the step's row, place and outcome k:

    log |reward|     ~ Normal(m_k, s^2)
    m_k              ~ flat
    s^2              ~ scaled inverse chi-square(TIMES, SPREAD^2)

so that after n steps of K kinds, a and b of two, the difference of these two m is Student t with TIMES
+ n - K degrees of freedom and scale s (1 / a + 1 / b)^.5, s^2 being (TIMES SPREAD^2 + squares around
the means) over the same (Gelman et al. 2013, "Bayesian data analysis", section 3.2). A size counts as
the greatest unless it is surely more than FACTOR times smaller: but with probability DOUBT, over all
that are compared (Bonferroni). Then w = exp(mean - mean of the greatest).
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import stdtrit
from torch import Tensor

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.model.counts import NOTHING, PENALISED, REWARDED
from aif_dcpc.agents.gridworld.model.paths import Effects
from aif_dcpc.agents.gridworld.model.task import Wanted
from aif_dcpc.agents.gridworld.planning.arrivals import ArrivalTables
from aif_dcpc.agents.gridworld.planning.belief import PosteriorTables

TIMES = 2.0  # steps that the prior of s counts for
SPREAD = 0.5  # of log sizes a priori
FACTOR = 1.5
DOUBT = 0.025
POOLS = (2,), (1, 2)  # where nothing was met: all of the same class ahead, then all of the row


@dataclass(frozen=True)
class Sizes:
    """What rewarded and penalised steps brought.

    Attributes:
        cell: `(n,)` of the table of outcomes, flat.
        log_size: `(n,)` log |reward|.
        shape: of the table: rows, classes ahead, all else of a place, outcomes.
    """

    cell: Ints
    log_size: Floats
    shape: tuple[int, int, int, int]

    @classmethod
    def none(cls, like: Tensor, effects: Effects) -> "Sizes":
        """No steps, for a table of outcomes `(A + E, P, O)`."""
        rows, places, outcomes = like.shape
        classes = effects.sizes[0]
        shape = rows, classes, places // classes, outcomes
        return cls(np.zeros(0, np.int64), np.zeros(0), shape)

    def __add__(self, other: "Sizes") -> "Sizes":
        cell = np.concatenate([self.cell, other.cell])
        return replace(self, cell=cell, log_size=np.concatenate([self.log_size, other.log_size]))

    def having(self, row: Ints, place: Ints, outcome: Ints, reward: Floats) -> "Sizes":
        """The same table with those of some steps that had a reward or a penalty, all `(T,)`."""
        met = np.isfinite(reward) & (reward != 0)
        rows, classes, rest, outcomes = self.shape
        table = rows, classes * rest, outcomes
        cell = np.ravel_multi_index((row[met], place[met], outcome[met]), table)
        return replace(self, cell=cell, log_size=np.log(np.abs(reward[met])))

    @cached_property
    def worth(self) -> Floats | None:
        """Weight of every outcome in every row and place, `(R, P, O)` in (0, 1]; None where all are 1."""
        if len(self.cell) < 2 or np.ptp(self.log_size) <= np.log(FACTOR):
            return None
        cells, kind, number = np.unique(self.cell, return_inverse=True, return_counts=True)
        mean = np.bincount(kind, self.log_size) / number
        rest = self.log_size - mean[kind]
        freedom = TIMES + len(kind) - len(cells)
        variance = (TIMES * SPREAD**2 + rest @ rest) / freedom
        margin = stdtrit(freedom, 1 - DOUBT / max(len(cells) - 1, 1))
        rows, times, expected = self._everywhere(cells, number, mean)
        part = np.ones(times.shape)
        for codes, among in ((REWARDED, REWARDED), (PENALISED, REWARDED + PENALISED)):
            known = np.isin(cells % self.shape[-1], among)
            if known.any():
                best = np.where(known, mean, -np.inf).argmax()
                less = mean[best] - expected[..., codes]
                n = times[..., codes]
                error = np.sqrt(variance * (1 / number[best] + 1 / np.maximum(n, 1)))
                apart = (n > 0) & (less - margin * error > np.log(FACTOR))
                part[..., codes] = np.where(apart, np.exp(-less), 1.0)
        if (part == 1).all():
            return None
        worth = np.ones(self.shape)
        worth[rows] = part
        return worth.reshape(len(worth), -1, worth.shape[-1])

    def _everywhere(self, cells: Ints, number: Ints, mean: Floats) -> tuple[Ints, Floats, Floats]:
        """Rows in which something was met; how many steps tell of each cell there, and their mean log size."""
        rows, row = np.unique(cells // np.prod(self.shape[1:]), return_inverse=True)
        at = row, *np.unravel_index(cells, self.shape)[1:]
        met, total = np.zeros((2, len(rows), *self.shape[1:]))
        met[at] = number
        total[at] = number * mean
        times, sums = met, total
        for axes in POOLS:
            known = times > 0
            times = np.where(known, times, met.sum(axes, keepdims=True))
            sums = np.where(known, sums, total.sum(axes, keepdims=True))
        return rows, times, sums / np.maximum(times, 1)


def lottery(table: Floats, worth: Floats) -> Floats:
    """Chances of outcomes `(..., O)` where a part of a reward is had with that part of its chance.

    Args:
        table: of outcomes of any size.
        worth: `(..., O)` in [0, 1]; 1 for what is no reward.
    """
    kept = table * worth
    rest = (table - kept).reshape(*table.shape[:-1], 2, -1)  # by whether the episode ends
    kept[..., NOTHING :: rest.shape[-1]] += rest.sum(-1)
    return kept


def by_size(
    tables: PosteriorTables, worth: Floats | None, effects: Effects, match: Tensor, wanted: Wanted
) -> PosteriorTables:
    """Tables in which rewards count by their sizes; the same ones where all are alike.

    Args:
        tables: in which all count as one.
        worth: `(A + E, P, O)`, see `Sizes`.
        effects: give the places of tokens.
        match: `(V,)` what the mission names.
        wanted: what is wanted ahead after a step.
    """
    if worth is None:
        return tables
    first = tables.num_actions

    def at(match: Tensor) -> Floats:
        return worth[:, effects.places(match).T.numpy()].transpose(1, 0, 2, 3)

    def arriving(one: ArrivalTables, match: Tensor) -> ArrivalTables:
        here = at(match)[:, first : first + len(one.events)]
        return replace(
            one,
            outcome=lottery(one.outcome, here),
            outcome_without_optimism=lottery(one.outcome_without_optimism, here),
        )

    arrivals = tables.arrivals
    return replace(
        tables,
        outcome=lottery(tables.outcome, at(match)),
        outcome_without_optimism=lottery(tables.outcome_without_optimism, at(match)),
        arrivals=None if arrivals is None else arriving(arrivals, wanted.match),
        resolved=tuple(map(arriving, tables.resolved, wanted.if_told)),
        of_any_size=tables,
    )
