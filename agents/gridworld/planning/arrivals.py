"""Outcomes that hang on what is ahead after a step: to stand before a thing is what is wanted.

For every event it is decided as a whole, by evidence, whether its outcomes hang on the token ahead
before the step or on that after it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.model.counts import NOTHING
from aif_dcpc.agents.gridworld.tables.prior import PooledDirichletPrior, structure_posterior

LIKELY = 0.5  # of what is believed ahead
WORTH = 3.0  # nats by which "after" must be better than "before"


@dataclass(frozen=True)
class Arrivals:
    """What is known of such outcomes.

    Attributes:
        events: `(E,)` whether an event's outcomes hang on the token ahead after it.
        outcome, outcome_without_optimism: `(E, P, O)` posterior mean p(outcome | event, place of
            the token ahead after it); the latter after one pseudo-observation of "nothing gained".
        counts: `(E, P, O)` of first arrivals in stored episodes by the token ahead after each.
    """

    events: npt.NDArray[np.bool_]
    outcome: Tensor
    outcome_without_optimism: Tensor
    counts: Tensor

    @property
    def any(self) -> bool:
        """Whether there are such events."""
        return bool(self.events.any())

    def novelty(self, running: Tensor, prior: PooledDirichletPrior) -> Floats:
        """What one more outcome teaches, `(E, P)` nats; 0 for other events.

        Args:
            running: `(E, P, O)` counts of the running episode.
            prior: of the outcome table.
        """
        novelty = np.zeros(self.counts.shape[:2])
        if not self.any:
            return novelty
        counts = (self.counts + running)[torch.as_tensor(self.events)]
        shaped = counts.unflatten(1, prior.context)
        novelty[self.events] = prior.apart(shaped, NOTHING).reshape(len(counts), counts.shape[1])
        return novelty


def arrivals_of(
    before: Tensor, after: Tensor, first: Tensor, prior: PooledDirichletPrior, num_actions: int
) -> Arrivals:
    """Decide for every event, and foresee its outcomes.

    Args:
        before, after: `(A + E, P, O)` counts of stored steps by the token ahead before each, and
            after each.
        first: the latter, of first arrivals before each place alone: what came of nothing once comes
            of nothing again, and the planner is told so (`ArrivalTables.tried`).
        prior: of the outcome table.
        num_actions: A.
    """
    of_events = before[num_actions:], after[num_actions:]
    gain = _log_evidence(of_events[1], prior) - _log_evidence(of_events[0], prior)
    events = gain > WORTH
    events[0] = False  # nothing changed: before and after are the same
    counts = first[num_actions:]
    if not events.any():
        return Arrivals(events, counts, counts, counts)
    mean, _, idle = prior.summary(counts, NOTHING)
    return Arrivals(events, mean.flatten(1, -2), idle.flatten(1, -2), counts)


def _log_evidence(counts: Tensor, prior: PooledDirichletPrior) -> Floats:
    """Log evidence of the counts of every head, structures integrated out, `(heads,)`."""
    evidence = prior.log_evidences(prior.pooled(counts.numpy())).astype(float)
    chances = prior.chances_of(np.arange(len(evidence)))
    _, total = structure_posterior(evidence, chances, prior.shares)
    return total.astype(float)


@dataclass(frozen=True)
class Tried:
    """What came of nothing in this episode, under what is known and done by now.

    Attributes:
        slots: `(E, cells + 1)` slot of what an event brought ahead in a map cell, or -1.
        passed: whether the milestone is passed now.
    """

    slots: Ints
    passed: int


@dataclass(frozen=True)
class ArrivalTables:
    """The same as a planner sees it, for the mission of the episode.

    Attributes:
        events: `(E',)` whether an event's outcomes hang on the token ahead after it.
        outcome, outcome_without_optimism: `(2, E', V, O)` before the milestone and after it.
        novelty: `(2, E', V)` nats, what one more outcome teaches.
        tried: what came of nothing in this episode: it will again.
    """

    events: npt.NDArray[np.bool_]
    outcome: Floats
    outcome_without_optimism: Floats
    novelty: Floats
    tried: "Tried | None" = None

    @classmethod
    def of(
        cls, arrivals: Arrivals, novelty: Floats, places: Tensor, num_events: int
    ) -> "ArrivalTables | None":
        """Spread over tokens by their places `(2, V)`; None where no event is of this kind.

        `novelty` `(E, P)` is that of the places.
        """
        events = arrivals.events[:num_events]
        if not events.any():
            return None
        outcome, later = (
            table[:num_events][:, torch.as_tensor(places)].transpose(0, 1).double().numpy()
            for table in (arrivals.outcome, arrivals.outcome_without_optimism)
        )
        new = novelty[:num_events][:, places.numpy()].transpose(1, 0, 2)
        return cls(events, outcome, later, new)

    def again(self, ahead: Floats, cells: Ints, passed: Ints) -> npt.NDArray[np.bool_]:
        """Whether the same was tried before for nothing, `(N, E')`; arguments as `at`."""
        if self.tried is None:
            return np.zeros(cells.shape, np.bool_)
        slots = self.tried.slots[np.arange(cells.shape[1]), cells]
        there = np.take_along_axis(ahead, slots.clip(0)[..., None], 2)[..., 0]
        return (
            (slots >= 0) & (there > LIKELY) & (passed == self.tried.passed)[:, None] & self.events
        )

    def at(self, ahead: Floats, cells: Ints, passed: Ints, *, informative: bool) -> Floats:
        """p(outcome | event) `(N, E', O)` where it hangs on what is ahead after it, else 0.

        Args:
            ahead: `(N, E', V)` belief over the token ahead after each event.
            cells: `(N, E')` map cell ahead after each event; the last for those outside.
            passed: `(N,)` whether the milestone is passed.
            informative: whether the step is the informative one.
        """
        table = self.outcome if informative else self.outcome_without_optimism
        result = np.zeros((*ahead.shape[:2], table.shape[-1]))
        for one in (0, 1):
            rows = passed == one
            for event in np.flatnonzero(self.events):
                result[rows, event] = ahead[rows, event] @ table[one, event]
        result[self.again(ahead, cells, passed)] = np.eye(table.shape[-1])[NOTHING]
        return result

    def new(self, ahead: Floats, cells: Ints, passed: Ints) -> Floats:
        """What the outcome of each event teaches, `(N, E')` nats; arguments as `at`."""
        new: Floats = np.einsum("nev,nev->ne", ahead, self.novelty[passed])
        return np.where(self.again(ahead, cells, passed), 0.0, new)
