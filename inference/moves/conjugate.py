"""Conjugate tables: a Dirichlet table of probabilities drawn exactly, given the categorical values that it governs.

    model.add_site("P", lambda: Dirichlet(torch.ones(3, 3)), scope="global") model.add_site("s",
    lambda before, P: Categorical(look_up(P, before)), [lag("s"), "P"], initial=..., scope="slice")
    engine = DCPC(model, moves={"P": DirichletTable("P", child="s", rows=("s",))})

The complete conditional of a row is Dirichlet(prior + counts) (Gelman et al. 2013, Bayesian Data
Analysis, section 3.4).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Dirichlet, Distribution, Independent

from aif_dcpc.inference.errors import MoveError
from aif_dcpc.inference.model.densities import aligned_inputs, factor_slices, factors_of
from aif_dcpc.inference.model.factor_graph import Argument, Factor
from aif_dcpc.inference.model.state import State


def look_up(table: Tensor, *rows: Tensor) -> Tensor:
    """Rows of a table `(K, B or 1, [1,] *rows, M)` at integer values `(K or 1, B, [T])` each, `(K, B, [T,] M)`."""
    lead, sizes = rows[0].ndim, table.shape[rows[0].ndim : -1]
    index, flat = _joint(rows, tuple(sizes)), table.flatten(lead, -2)
    wide = torch.broadcast_shapes(index.shape, flat.shape[:lead])
    places = index.expand(wide)[..., None, None].expand(*wide, 1, flat.shape[-1])
    return flat.expand(*wide, *flat.shape[lead:]).gather(-2, places).squeeze(-2)


@dataclass(frozen=True)
class DirichletTable:
    """Draw a table given all values that it governs, missing ones left out.

    Attributes:
        site: the table, `(*rows, M)` with a Dirichlet kernel; global, or one per datum.
        child: the site whose kernel is Categorical with the table's row as probabilities.
        rows: the child's parents that name the row, in the order of the table's axes; none for a table of one row. An
            initial kernel of the child that lacks them must not use the table.

    Raises:
        MoveError: (when called) the table's kernel is not Dirichlet, or others than the child read
            it.
    """

    site: str
    child: str
    rows: tuple[str, ...] = ()

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that the move changes."""
        return (self.site,)

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """One exact draw; acceptance is 1."""
        own, *others = sorted(factors_of(state, self.site), key=lambda f: f.site.name != self.site)
        if any(f.site.name != self.child for f in others):
            raise MoveError(
                f"site {self.site!r}: only {self.child!r} may read a table that is drawn by its counts."
            )
        prior = _concentration(own.distribution(_natural(state, own)), self.site)
        now = state.constrained(self.site)
        counts = torch.zeros_like(now.flatten(2))
        for factor in others:
            counts = counts + self._counts(state, factor, now)
        posterior = (prior.expand_as(now) + counts.view_as(now)).clamp_min(
            torch.finfo(now.dtype).tiny
        )
        drawn = torch._sample_dirichlet(posterior, generator=generator)
        moved = state.conditioning.unconstrain({self.site: drawn})
        return state.with_values(moved), state.log_weights.new_ones(())

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
                f"site {self.site!r}: rows={self.rows}, but {self.child!r} reads {', '.join(parents)}."
            )
        wide = torch.broadcast_tensors(
            *(parents[name] for name in self.rows), values[Argument(self.child)]
        )
        index = _joint(wide, tuple(table.shape[2:])).reshape(*wide[0].shape[:2], -1)
        index = index.expand(table.shape[0], *index.shape[1:])
        seen = _seen(state, factor, index).to(table.dtype)
        if table.shape[1] == 1 and index.shape[1] > 1:  # one table for all data
            index, seen = index.flatten(1).unsqueeze(1), seen.flatten(1).unsqueeze(1)
        return torch.zeros_like(table.flatten(2)).scatter_add(2, index, seen)

    def _is_idle(self, factor: Factor, values: dict[Argument, Tensor]) -> bool:
        """Whether an initial kernel, which is handed the table, does without it (seen from the graph, not the numbers)."""
        with torch.enable_grad():
            table = values[Argument(self.site)].detach().requires_grad_()
            log_prob = factor.distribution({**values, Argument(self.site): table}).log_prob(
                values[Argument(self.child)]
            )
            return (
                not log_prob.requires_grad
                or torch.autograd.grad(log_prob.sum(), table, allow_unused=True)[0] is None
            )


def _natural(state: State, factor: Factor) -> dict[Argument, Tensor]:
    return aligned_inputs(state, factor, state.natural)


def _concentration(kernel: Distribution, name: str) -> Tensor:
    while isinstance(kernel, Independent):
        kernel = kernel.base_dist
    if not isinstance(kernel, Dirichlet):
        raise MoveError(
            f"site {name!r}: expected a Dirichlet kernel, found {type(kernel).__name__}."
        )
    return kernel.concentration


def _joint(places: tuple[Tensor, ...] | list[Tensor], sizes: tuple[int, ...]) -> Tensor:
    """One index for several, the last running fastest."""
    index = torch.zeros_like(places[0], dtype=torch.long)
    for place, size in zip(places, sizes, strict=True):
        index = index * size + place.long()
    return index


def _seen(state: State, factor: Factor, like: Tensor) -> Tensor:
    """Which of the child's values count, in the shape of `like` `(K, B, [T])`."""
    mask = state.masks.get(factor.site.name)
    if mask is None or factor.site.name in state.conditioning.latent:
        return torch.ones_like(like, dtype=torch.bool)
    start, stop = factor_slices(state, factor)
    shown = mask if factor.site.period is None else mask[:, :, start:stop]
    return shown.reshape(*shown.shape[:2], -1).expand_as(like)
