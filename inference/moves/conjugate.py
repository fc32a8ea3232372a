"""Conjugate tables: a Dirichlet table of probabilities drawn exactly, given the categorical values that it governs.

    model.add_site("P", lambda: Dirichlet(torch.ones(3, 3)), scope="global")
    model.add_site("s", lambda before, P: Categorical(look_up(P, before)), [lag("s"), "P"],
                   initial=..., scope="slice")
    engine = DCPC(model, moves={"P": DirichletTable("P", child="s", rows=("s",))})

The complete conditional of a row is Dirichlet(prior + counts) (Gelman et al. 2013, Bayesian Data
Analysis, section 3.4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Dirichlet, Distribution, Independent

from aif_dcpc.inference.errors import MoveError
from aif_dcpc.inference.model.densities import (
    aligned_inputs,
    counted_elements,
    factor_slices,
    factors_of,
    likelihood_power,
)
from aif_dcpc.inference.model.draws import TINY, dirichlet
from aif_dcpc.inference.model.factor_graph import Argument, Factor, expand_trailing
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves import SiteMove
from aif_dcpc.inference.moves.layout import free_values, site_chunks, where_free


def look_up(table: Tensor, *rows: Tensor) -> Tensor:
    """Look rows of a table up by integer values, one for each of its axes but the last.

    Args:
        table: `(K, B or 1, [1,] *rows, M)`.
        rows: `(K or 1, B, [T])` each.

    Returns:
        `(K, B, [T,] M)`.
    """
    batch_ndim = rows[0].ndim
    flat = table.flatten(batch_ndim, -2)
    index = _joint_index(rows, table.shape[batch_ndim:-1])
    batch_shape = torch.broadcast_shapes(index.shape, flat.shape[:batch_ndim])
    places = index.expand(batch_shape)[..., None, None].expand(*batch_shape, 1, flat.shape[-1])
    wide = flat.expand(*batch_shape, *flat.shape[batch_ndim:])
    return wide.gather(-2, places).squeeze(-2)


@dataclass(frozen=True)
class DirichletTable(SiteMove):
    """Draw a table given all values that it governs, missing ones left out.

    Attributes:
        site: the table, `(*rows, M)` with a Dirichlet kernel; global, or one per data point.
        child: the site whose kernel is Categorical with the table's row as probabilities.
        rows: the child's parents that name the row, in the order of the table's axes; none for a
            table of one row. An initial kernel of the child that lacks them must not use the table.

    Raises:
        MoveError: (when called) the table's kernel is not Dirichlet, or others than the child read
            it.
    """

    child: str
    rows: tuple[str, ...] = ()

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """Draw the table exactly where it is not observed; acceptance is 1."""
        around = factors_of(state, self.site)
        own = next(f for f in around if f.site.name == self.site)
        others = [f for f in around if f.site.name != self.site]
        if any(f.site.name != self.child for f in others):
            raise MoveError(
                f"site {self.site!r}: only {self.child!r} may read a table that is drawn by its "
                "counts."
            )
        prior = _concentration(own.distribution(_natural(state, own)), self.site)
        now = state.constrained(self.site)
        counts = torch.zeros_like(now.flatten(2))
        for factor in others:
            counts = counts + self._counts(state, factor, now)
        posterior = prior.expand_as(now) + counts.view_as(now)
        drawn = dirichlet(posterior.clamp_min(TINY), generator)
        moved = state.conditioning.unconstrain({self.site: drawn})[self.site]
        site = state.conditioning.site(self.site)
        free = free_values(state, site, site_chunks(state, site, 1, 0))
        moved = where_free(site, free, moved, state.values[self.site])
        return state.with_values({self.site: moved}), state.log_weights.new_ones(())

    def _counts(self, state: State, factor: Factor, table: Tensor) -> Tensor:
        """How often each entry was used, `(K, B or 1, entries)`."""
        values = _natural(state, factor)
        parents = {
            argument.site: value
            for argument, value in values.items()
            if argument != Argument(self.child)
        }
        if not set(self.rows) <= set(parents):
            if factor.stop is not None and self._is_idle(factor, values):
                return torch.zeros_like(table.flatten(2))
            raise MoveError(
                f"site {self.site!r}: rows={self.rows}, but {self.child!r} reads "
                f"{', '.join(parents)}."
            )
        places = [parents[name] for name in self.rows]
        wide = torch.broadcast_tensors(*places, values[Argument(self.child)])
        index = _joint_index(wide, table.shape[2:])
        weights = _weights(state, factor, table.new_ones(index.shape))
        index = index.reshape(*index.shape[:2], -1).expand(len(table), -1, -1)
        weights = weights.reshape(*weights.shape[:2], -1).expand_as(index)
        if table.shape[1] == 1 and index.shape[1] > 1:  # one table for all data
            index = index.flatten(1).unsqueeze(1)
            weights = weights.flatten(1).unsqueeze(1)
        return torch.zeros_like(table.flatten(2)).scatter_add(2, index, weights)

    def _is_idle(self, factor: Factor, values: dict[Argument, Tensor]) -> bool:
        """Whether an initial kernel, which is handed the table, does without it (seen from the graph, not the numbers)."""
        with torch.enable_grad():
            table = values[Argument(self.site)].detach().requires_grad_()
            law = factor.distribution({**values, Argument(self.site): table})
            log_prob = law.log_prob(values[Argument(self.child)])
            if not log_prob.requires_grad:
                return True
            (gradient,) = torch.autograd.grad(log_prob.sum(), table, allow_unused=True)
            return gradient is None


def _natural(state: State, factor: Factor) -> dict[Argument, Tensor]:
    """Lay all that a factor reads along its slices, in its own support."""
    return aligned_inputs(state, factor, state.natural)


def _concentration(kernel: Distribution, name: str) -> Tensor:
    """Parameters of a Dirichlet kernel, `(*batch, *rows, M)`."""
    while isinstance(kernel, Independent):
        kernel = kernel.base_dist
    if not isinstance(kernel, Dirichlet):
        raise MoveError(
            f"site {name!r}: expected a Dirichlet kernel, found {type(kernel).__name__}."
        )
    return kernel.concentration


def _joint_index(places: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Merge the indices of several axes into one, the last running fastest."""
    index = torch.zeros_like(places[0], dtype=torch.long)
    for place, size in zip(places, sizes, strict=True):
        index = index * size + place.long()
    return index


def _weights(state: State, factor: Factor, ones: Tensor) -> Tensor:
    """How much each value of the child counts, in the shape of `ones` `(K or 1, B, [T,] *elements)`.

    One that is missing, or set by `do`, counts nothing; one of a tempered state counts by its power.
    """
    start, stop = factor_slices(state, factor)
    counted = counted_elements(state, factor, start, stop)
    power = likelihood_power(state, factor, start, stop)
    weights = ones if counted is None else ones * expand_trailing(counted, ones)
    return weights if power is None else weights * expand_trailing(power, ones)
