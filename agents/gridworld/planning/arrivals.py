"""Outcomes that hang on what is ahead after a step: to stand before a thing is what is wanted.

For every event it is decided as a whole, by evidence, whether its outcomes hang on the token ahead
before the step or on that after it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.gridworld.model.counts import NOTHING
from aif_dcpc.agents.gridworld.tables.prior import PooledDirichletPrior, structure_posterior

WORTH = 3.0  # nats by which "after" must be better than "before"


@dataclass(frozen=True)
class Arrivals:
    """What is known of such outcomes.

    Attributes:
        events: `(E,)` whether an event's outcomes hang on the token ahead after it.
        outcome, outcome_without_optimism: `(E, P, O)` posterior mean p(outcome | event, place of
            the token ahead after it); the latter after one pseudo-observation of "nothing gained".
    """

    events: npt.NDArray[np.bool_]
    outcome: Tensor
    outcome_without_optimism: Tensor


def arrivals_of(
    before: Tensor, after: Tensor, prior: PooledDirichletPrior, num_actions: int
) -> Arrivals:
    """Decide for every event, and foresee its outcomes.

    Args:
        before, after: `(A + E, P, O)` counts of stored steps by the token ahead before each, and
            after each.
        prior: of the outcome table.
        num_actions: A.
    """
    of_events = before[num_actions:], after[num_actions:]
    gain = _log_evidence(of_events[1], prior) - _log_evidence(of_events[0], prior)
    events = gain > WORTH
    events[0] = False  # nothing changed: before and after are the same
    if not events.any():
        return Arrivals(events, of_events[1], of_events[1])
    mean, _, idle = prior.summary(of_events[1], NOTHING)
    return Arrivals(events, mean.flatten(1, -2), idle.flatten(1, -2))


def _log_evidence(counts: Tensor, prior: PooledDirichletPrior) -> Floats:
    """Log evidence of the counts of every head, structures integrated out, `(heads,)`."""
    evidence = prior.log_evidences(prior.pooled(counts.numpy())).astype(float)
    _, total = structure_posterior(evidence, prior.chances, prior.shares)
    return total.astype(float)


@dataclass(frozen=True)
class ArrivalTables:
    """The same as a planner sees it, for the mission of the episode.

    Attributes:
        events: `(E',)` whether an event's outcomes hang on the token ahead after it.
        outcome, outcome_without_optimism: `(2, E', V, O)` before the milestone and after it.
    """

    events: npt.NDArray[np.bool_]
    outcome: Floats
    outcome_without_optimism: Floats

    @classmethod
    def of(cls, arrivals: Arrivals, places: Tensor, num_events: int) -> "ArrivalTables | None":
        """Spread over tokens by their places `(2, V)`; None where no event is of this kind."""
        events = arrivals.events[:num_events]
        if not events.any():
            return None
        outcome, later = (
            table[:num_events][:, torch.as_tensor(places)].transpose(0, 1).double().numpy()
            for table in (arrivals.outcome, arrivals.outcome_without_optimism)
        )
        return cls(events, outcome, later)

    def at(self, ahead: Floats, passed: npt.NDArray[np.int64], *, informative: bool) -> Floats:
        """p(outcome | event) `(N, E', O)` where it hangs on what is ahead after it, else 0.

        Args:
            ahead: `(N, E', V)` belief over the token ahead after each event.
            passed: `(N,)` whether the milestone is passed.
            informative: whether the step is the informative one.
        """
        table = self.outcome if informative else self.outcome_without_optimism
        result = np.zeros((*ahead.shape[:2], table.shape[-1]))
        for one in (0, 1):
            rows = passed == one
            for event in np.flatnonzero(self.events):
                result[rows, event] = ahead[rows, event] @ table[one, event]
        return result
