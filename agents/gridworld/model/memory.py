"""What stored episodes say about the tables, and exact draws of tables given counts."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.counts import Counts, TablePrior, Tables
from aif_dcpc.agents.gridworld.tables.posterior import TablePosterior
from aif_dcpc.agents.gridworld.tables.prior import numpy_generator
from aif_dcpc.inference.model.draws import dirichlet


@dataclass(frozen=True)
class Memory:
    """What stored episodes say about the tables; the running episode's counts `(K, ...)` come on top.

    Attributes:
        prior: of the tables.
        past: counts of the stored episodes.
        events, outcomes: posteriors of the two tables.
    """

    prior: TablePrior
    past: Counts
    events: TablePosterior
    outcomes: TablePosterior

    @cached_property
    def token_parameters(self) -> Tensor:
        """Dirichlet parameters of the token prior in every context, `(X, V)`."""
        return self.prior.token_parameters(self.past)

    def draw(self, own: Counts, generator: torch.Generator) -> Tables:
        """Exact draws of all tables."""
        source = numpy_generator(generator)
        transition = draw_heads(self.events, own.transition, source)
        outcome = draw_heads(self.outcomes, own.outcome, source)
        token_prior = self.draw_token_prior(own, generator)
        return Tables(transition, outcome, token_prior, self._misread(own.sightings, generator))

    def draw_token_prior(
        self, own: Counts, generator: torch.Generator, contexts: Tensor | None = None
    ) -> Tensor:
        """Exact draws of the token prior in some contexts (default: all), `(K, contexts, V)`."""
        every = torch.arange(own.tokens.shape[-2]) if contexts is None else contexts
        past = self.token_parameters.index_select(0, every)
        return dirichlet(own.tokens.index_select(1, every) + past, generator)

    def draw_misread(self, number: int, generator: torch.Generator) -> Tensor:
        """Draws of the misread rate given the stored episodes, `(number,)`."""
        return self._misread(torch.zeros(number, 2), generator)

    def _misread(self, own: Tensor, generator: torch.Generator) -> Tensor:
        seen = (own + self.past.sightings).flip(1)  # wrong, right
        pair = dirichlet(seen + torch.tensor(self.prior.misread), generator)
        # a uniform number of exactly 0 once gave a rate of 0, under which any misreading is
        # impossible for good
        return pair[:, 0].clamp(1e-12, 1 - 1e-6)

    def redraw(
        self,
        own: Counts,
        kept: Tables,
        generator: torch.Generator,
        *,
        actions: Tensor,
        rows: Tensor,
        contexts: Tensor,
    ) -> Tables:
        """Exact draws of the misread rate, and of the tables of some actions, outcome rows and contexts.

        The others are kept. All are independent given the counts, so that redrawing some of them is a Gibbs update.
        """
        token_prior = self.draw_token_prior(own, generator, contexts)
        source = numpy_generator(generator)
        transition = draw_heads(self.events, _some(own.transition, actions), source, actions)
        outcome = draw_heads(self.outcomes, _some(own.outcome, rows), source, rows)
        return replace(
            kept,
            transition=_with(kept.transition, actions, transition),
            outcome=_with(kept.outcome, rows, outcome),
            token_prior=_with(kept.token_prior, contexts, token_prior),
            misread=self._misread(own.sightings, generator),
        )


def draw_heads(
    table: TablePosterior, own: Tensor, source: np.random.Generator, heads: Tensor | None = None
) -> Tensor:
    """Draw the tables of `heads` (default: all) for counts `(K, heads, *context, x)`."""
    heads = torch.arange(own.shape[1]) if heads is None else heads
    each = heads.repeat(len(own))
    return table.draw(own.flatten(0, 1), each, source).view(own.shape)


def _some(every: Tensor, at: Tensor) -> Tensor:
    """Some of the tables `(K, heads, ...)`; numpy copies large arrays faster."""
    return torch.from_numpy(every.numpy()[:, at.numpy()])


def _with(every: Tensor, at: Tensor, some: Tensor) -> Tensor:
    """Tables `(K, heads, ...)` with others in the place of some."""
    changed = every.numpy().copy()
    changed[:, at.numpy()] = some.numpy()
    return torch.from_numpy(changed)
