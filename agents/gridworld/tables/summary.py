"""What planning needs of a structured table, computed anew only where counts have changed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.tables.prior import PooledDirichletPrior, Triple


@dataclass
class Summary:
    """Posterior mean, novelty and mean after an idle trial, recomputed where counts have changed.

    Attributes:
        nothing: what an idle trial gives.
        apart: rows are asked as if each were the only one, see `PooledDirichletPrior.apart`.
        counts: at which the summary was computed last; None before the first use.
        last: the summary at those counts.
        base, shares, chances: of the prior that it was computed under.
    """

    nothing: int
    apart: bool = False
    counts: Tensor | None = None
    last: Triple | None = None
    base: Tensor | None = None
    shares: Tensor | None = None
    chances: Tensor | None = None

    def update(self, counts: Tensor, prior: PooledDirichletPrior) -> Triple:
        """Posterior mean, novelty, and mean after an idle trial, at `(head, *context, x)` counts."""
        self.last = self._changed_heads(counts, prior) or prior.summary(
            counts, self.nothing, apart=self.apart
        )
        self.counts = counts
        self.chances = torch.from_numpy(prior.chances)
        self.base = torch.from_numpy(prior.base)
        self.shares = torch.from_numpy(prior.shares)
        return self.last

    def _changed_heads(self, counts: Tensor, prior: PooledDirichletPrior) -> Triple | None:
        """The last summary with the changed heads computed anew; None if it does not fit any more."""
        if self.last is None or self.counts is None or counts.shape != self.counts.shape:
            return None
        old = self.base, self.shares, self.chances
        new = prior.base, prior.shares, prior.chances
        if not all(
            a is not None and np.array_equal(a.numpy(), b) for a, b in zip(old, new, strict=True)
        ):
            return None
        now, before = counts.numpy(), self.counts.numpy()
        changed = (now != before).reshape(len(now), -1).any(1).nonzero()[0]
        if not len(changed):
            return self.last
        found = prior.summary(counts[changed], self.nothing, apart=self.apart, heads=changed)
        mean, novelty, without_optimism = (part.clone() for part in self.last)
        for every, some in zip((mean, novelty, without_optimism), found, strict=True):
            every.numpy()[changed] = some.numpy()
        return mean, novelty, without_optimism

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors; recomputing all heads at once could differ in the last bit."""
        mean, novelty, without_optimism = self.last or (None, None, None)
        return {
            "nothing": self.nothing,
            "counts": self.counts,
            "mean": mean,
            "novelty": novelty,
            "again": without_optimism,
            "base": self.base,
            "shares": self.shares,
            "chances": self.chances,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.nothing = state["nothing"]
        self.counts = state["counts"]
        self.base = state["base"]
        self.shares = state["shares"]
        self.chances = state["chances"]
        self.last = None
        if state["mean"] is not None:
            self.last = state["mean"], state["novelty"], state["again"]
