"""Distributions of the grid world's sites that torch has not: tables, and readings of a map."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Distribution, constraints

from aif_dcpc.agents.gridworld.model.memory import draw_heads
from aif_dcpc.agents.gridworld.tables.posterior import TablePosterior
from aif_dcpc.agents.gridworld.tables.prior import numpy_generator


class PooledTable(Distribution):
    """The prior of a pooled table, given past counts: drawn and updated exactly.

    Its log density counts as zero: rows that are shared between contexts have none on a common
    measure, and no move needs it.

    Args:
        table: posterior given the stored episodes.
        batch_shape: leading axes of a value.
    """

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, table: TablePosterior, batch_shape: Sequence[int] = ()) -> None:
        self.table = table
        super().__init__(torch.Size(batch_shape), table.past.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Reals: only exact conditionals move these sites, and they need no other coordinates."""
        return constraints.independent(constraints.real, self.table.past.ndim)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "PooledTable":
        """The same with other leading axes."""
        return PooledTable(self.table, batch_shape)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Independent draws, seeded by a draw of torch's."""
        shape = (*sample_shape, *self.batch_shape)
        nothing = torch.zeros(math.prod(shape), *self.event_shape)
        return draw_heads(self.table, nothing, numpy_generator(None)).reshape(
            *shape, *self.event_shape
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Zero for every value: no move needs the density (see the class)."""
        return torch.zeros(value.shape[: value.ndim - self.table.past.ndim])


class PlainDirichlet(Dirichlet):
    """A Dirichlet whose site is moved by its exact conditional only.

    It needs no unconstrained coordinates.
    """

    support = constraints.independent(constraints.real, 1)  # type: ignore[assignment]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density; a draw that was rounded to 0 counts as the least number above it."""
        least = torch.finfo(value.dtype).tiny
        return super().log_prob(value.clamp_min(least))


class PlainBeta(Beta):
    """A Beta whose site is moved by its exact conditional only, likewise."""

    support = constraints.real  # type: ignore[assignment]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density; a draw that was rounded to 0 or 1 counts as the number next to it."""
        numbers = torch.finfo(value.dtype)
        return super().log_prob(value.clamp(numbers.tiny, 1 - numbers.eps))


class Readings(Distribution):
    """Codes that show a token, or, with a small probability each, any other; -1 says nothing.

    Args:
        token: `(K, B, T, P)` what is there.
        right: log probability of reading what is there, broadcastable to `(K, B, T, P)`.
        wrong: log probability of any one other reading.
    """

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, token: Tensor, right: Tensor, wrong: Tensor) -> None:
        self.token = token
        self.right = right
        self.wrong = wrong
        super().__init__(token.shape[:3], token.shape[3:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Sum over the readings of a slice."""
        each = torch.where(value == self.token, self.right, self.wrong)
        return torch.where(value == -1, torch.zeros(()), each).sum(-1)


class Views(Readings):
    """Readings of a map whose cells, when they are first seen, were drawn in a context.

    Args:
        token, right, wrong: see `Readings`.
        appearance: log p(tokens first seen | contexts) - log p(the same | no context) of every
            slice, given what is seen in all of them.
    """

    def __init__(
        self,
        token: Tensor,
        right: Tensor,
        wrong: Tensor,
        appearance: Callable[[Tensor], Tensor],
    ) -> None:
        self.appearance = appearance
        super().__init__(token, right, wrong)

    def log_prob(self, value: Tensor) -> Tensor:
        """Sum over the readings of a slice, and over the cells first seen in it."""
        return super().log_prob(value) + self.appearance(value)
