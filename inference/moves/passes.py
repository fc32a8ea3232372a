"""What one gradient pass evaluates and keeps: all slices, or only those that its chunks touch.

A pass that moves most slices evaluates the factors around its site on all of them. One that moves
few, as the slices that windows leave fixed, evaluates only the slices that read a moved value, so
that it costs what it moves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from aif_dcpc.inference.model.densities import (
    accumulate,
    add_scores,
    evaluate_all,
    factor_slices,
    factors_of,
    first_lag,
    keeps_scores,
    merge,
)
from aif_dcpc.inference.model.factor_graph import Argument, Factor, align, expand_trailing
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import FactorValue, State
from aif_dcpc.inference.moves.chunks import Chunks, chunk_rows
from aif_dcpc.inference.moves.layout import flatten_event

Values = Mapping[str, FactorValue]


class Pass(Protocol):
    """The slices that a pass works on, N = width * D values in each of its chunks."""

    @property
    def chunks(self) -> Chunks:
        """The chunks that it moves together."""

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The factors around the site."""

    @property
    def old(self) -> Values:
        """Their values before the move, by key."""

    @property
    def movable(self) -> Tensor | None:
        """Say which chunks have a value that is not observed.

        `(count, 1, B)`; None where no value of the site is observed.
        """

    def errors(self, values: Values) -> Tensor:
        """Prediction errors of every chunk's free slices, zero where observed, `(count, K * B, N)`."""

    def move(self, jump: Tensor) -> tuple[Tensor, Tensor]:
        """The jump `(count, K * B, N)` of what is free to move, as it is applied, and the site's values with it."""

    def evaluate(self, moved: Tensor) -> Values:
        """The factors around the site at the moved values."""

    def gain(self, new: Values) -> Tensor:
        """log p(moved, rest) - log p(current, rest) by chunk, `(count, K * B)` nats."""

    def accept(self, flags: Tensor, moved: Tensor, new: Values) -> State:
        """The state in which the chunks flagged in `(count, K * B)` have moved."""


@dataclass(frozen=True)
class FullUpdate:
    """A pass that evaluates every slice."""

    state: State
    site: Site
    chunks: Chunks

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """The factors around the site."""
        return factors_of(self.state, self.site.name)

    @property
    def old(self) -> Values:
        """Their values before the move, by key."""
        return self.state.cache

    def errors(self, values: Values) -> Tensor:
        """Prediction errors of every chunk's free slices, `(count, K * B, N)`."""
        value = self.state.values[self.site.name]
        total = value.new_zeros(
            *value.shape[:2], self.chunks.padded, *value.shape[self.site.batch_ndim :]
        )
        add_scores(total, self.state, self.site, values, shift=self.chunks.phase)
        if self.held is not None:
            inside = total.narrow(2, self.chunks.phase, self.held.shape[2])
            inside.masked_fill_(expand_trailing(self.held, inside), 0.0)
        return self.chunks.cut(total.reshape(*total.shape[:3], -1))

    @cached_property
    def held(self) -> Tensor | None:
        """`(1, B, T or 1, *elements)` True where the site is observed, or None."""
        mask = self.state.masks.get(self.site.name)
        return mask if mask is None or self.site.period is not None else mask.unsqueeze(2)

    @property
    def movable(self) -> Tensor | None:
        """Say which chunks have a value that is not observed.

        `(count, 1, B)`; None where no value of the site is observed.
        """
        if self.held is None:
            return None
        before = self.chunks.phase
        free = (~self.held).unsqueeze(-1).flatten(3).any(-1)
        free = pad(free, (before, self.chunks.padded - before - free.shape[2]))
        return self.chunks.cut(free.unsqueeze(-1)).any(-1).unsqueeze(1)

    def move(self, jump: Tensor) -> tuple[Tensor, Tensor]:
        """The jump laid along the series, observed values held back, and the values with it."""
        z = self.state.values[self.site.name]
        mask = self.state.masks.get(self.site.name)
        jump = self.chunks.join(jump).reshape(z.shape)
        if mask is not None:
            jump = torch.where(expand_trailing(mask, jump), torch.zeros_like(jump), jump)
        return jump, z + jump

    def evaluate(self, moved: Tensor) -> Values:
        """The factors around the site at the moved values."""
        return evaluate_all(self.state, self.factors, {self.site.name: moved})

    def gain(self, new: Values) -> Tensor:
        """log p(moved, rest) - log p(current, rest) by chunk, `(count, K * B)` nats."""
        value = self.state.values[self.site.name]
        total = value.new_zeros(*value.shape[:2], self.chunks.padded)
        for factor in self.factors:
            difference = new[factor.key].log_prob - self.old[factor.key].log_prob
            argument = Argument(self.site.name, first_lag(factor, self.site.name))
            accumulate(
                total, self.state, self.site, factor, argument, difference, shift=self.chunks.phase
            )
        return self.chunks.sum(total)

    def accept(self, flags: Tensor, moved: Tensor, new: Values) -> State:
        """The state in which the chunks flagged in `(count, K * B)` have moved."""
        z = self.state.values[self.site.name]
        cache = dict(self.state.cache)
        flags = self.chunks.spread(flags)  # all slices of a chunk: fixed ones did not move
        flags = flags.view(z.shape[: self.site.batch_ndim])
        for factor in self.factors:
            argument = Argument(self.site.name, first_lag(factor, self.site.name))
            covered = align(
                flags, self.site, argument, factor.site, *factor_slices(self.state, factor)
            )
            cache[factor.key] = merge(
                self.state, factor, covered, new[factor.key], cache[factor.key]
            )
        values = {
            **self.state.values,
            self.site.name: torch.where(expand_trailing(flags, z), moved, z),
        }
        return self.state.replace(values=values, cache=cache)


@dataclass(frozen=True)
class StridedUpdate:
    """A pass that evaluates only the slices of factors that read a free value of its chunks.

    A factor's rows are, chunk by chunk, the slices that read one of the chunk's free values. Rows
    past the end of the series repeat its last slice and count for nothing; they belong to the last
    chunk, so what is written is the same.
    """

    state: State
    site: Site
    chunks: Chunks

    @classmethod
    def of(cls, state: State, site: Site, chunks: Chunks) -> "StridedUpdate | None":
        """The pass, or None where it would touch half of the slices or more, or factors of another level."""
        if site.period is None or chunks.gap <= chunks.width:
            return None
        self = cls(state, site, chunks.from_first())
        reach = max((max(f.lags(site.name)) for f in factors_of(state, site.name)), default=0)
        if self.chunks.count < 1 or 2 * (chunks.width + reach) >= chunks.stride:
            return None
        return self if all(self._is_regular(f) for f in self.factors) else None

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """The factors that read a free value."""
        return tuple(
            f for f in factors_of(self.state, self.site.name) if self._begin(f) < self._slices(f)[1]
        )

    @cached_property
    def old(self) -> Values:
        """Their values before the move, on their rows, by key."""
        return {f.key: self._taken(f) for f in self.factors}

    @cached_property
    def rows(self) -> dict[str, Tensor]:
        """Slices of each factor, `(count * its rows per chunk,)`."""
        return {key: grid[0] for key, grid in self._grids.items()}

    @cached_property
    def free(self) -> Tensor:
        """The free slices, in order."""
        return chunk_rows(
            self.chunks, self.chunks.width, 0, 0, self.chunks.length, self.state.log_weights.device
        )[3]

    @cached_property
    def _now(self) -> Tensor:
        """The site's values on the free slices, before the move."""
        return self.state.values[self.site.name].index_select(2, self.free)

    def errors(self, values: Values) -> Tensor:
        """Prediction errors of every chunk's free slices, `(count, K * B, N)`."""
        parts = []
        for factor in self.factors:
            for lag in factor.lags(self.site.name):
                score = values[factor.key].scores[Argument(self.site.name, lag)]
                part = self._by_chunk(factor, flatten_event(self.site, score))
                narrow = part.shape[2] > self.chunks.width
                parts.append(
                    part.narrow(2, lag - self._offset(factor), self.chunks.width)
                    if narrow
                    else part
                )
        total = sum(parts[1:], parts[0])  # (K * B, count, width, D)
        if self._open is not None:
            wide = self._open.expand(
                self.state.values[self.site.name].shape[0], *self._open.shape[1:]
            ).flatten(0, 1)
            total = torch.where(wide, total, torch.zeros_like(total))
        return total.transpose(0, 1).flatten(2)

    @cached_property
    def _open(self) -> Tensor | None:
        """Mask of the positions to update; None stands for all of them.

        `(1, B, count, width, D or 1)`, True on free slices within the series that are not observed.
        """
        z = self.state.values[self.site.name]
        mask = self.state.masks.get(self.site.name)
        if mask is None:
            return None
        free = ~mask.index_select(2, self.free)
        free = (
            free.unsqueeze(3)
            if free.ndim == 3
            else expand_trailing(free, z).expand(*free.shape[:3], *z.shape[3:]).flatten(3)
        )
        full = pad(free, (0, 0, 0, self.chunks.count * self.chunks.width - free.shape[2]))
        return full.unflatten(2, (self.chunks.count, self.chunks.width))

    @property
    def movable(self) -> Tensor | None:
        """Say which chunks have a value that is not observed.

        `(count, 1, B)`; None where no value of the site is observed.
        """
        return None if self._open is None else self._open.flatten(3).any(-1).permute(2, 0, 1)

    def move(self, jump: Tensor) -> tuple[Tensor, Tensor]:
        """The jump of the free slices, observed values held back, and the site's values with it."""
        z = self.state.values[self.site.name]
        mask = self.state.masks.get(self.site.name)
        now = self._now
        jump = jump.transpose(0, 1).reshape(*z.shape[:2], -1, *z.shape[3:])[:, :, : now.shape[2]]
        if mask is not None:
            jump = torch.where(
                expand_trailing(mask.index_select(2, self.free), jump), torch.zeros_like(jump), jump
            )
        return jump, z.index_copy(2, self.free, now + jump)

    def evaluate(self, moved: Tensor) -> Values:
        """The factors around the site at the moved values, on their rows."""
        return evaluate_all(self.state, self.factors, {self.site.name: moved}, rows=self.rows)

    def gain(self, new: Values) -> Tensor:
        """log p(moved, rest) - log p(current, rest) by chunk, `(count, K * B)` nats."""
        parts = [
            self._by_chunk(f, new[f.key].log_prob - self.old[f.key].log_prob).sum(2)
            for f in self.factors
        ]
        return sum(parts[1:], parts[0]).T

    def accept(self, flags: Tensor, moved: Tensor, new: Values) -> State:
        """The state in which the chunks flagged in `(count, K * B)` have moved."""
        z = self.state.values[self.site.name]
        cache = dict(self.state.cache)
        width = self.chunks.width
        spread = {
            height: self._spread(flags, height)
            for height in {width, *map(self._height, self.factors)}
        }
        for f in self.factors:
            kept = merge(self.state, f, spread[self._height(f)], new[f.key], self.old[f.key])
            before = cache[f.key]
            places = self._grids[f.key][1]
            cache[f.key] = FactorValue(
                before.log_prob.index_copy(2, places, kept.log_prob),
                {
                    argument: before.scores[argument].index_copy(2, places, score)
                    for argument, score in kept.scores.items()
                },
            )
        chosen = expand_trailing(spread[width][:, :, : self.free.shape[0]], z)
        changed = z.index_copy(
            2, self.free, torch.where(chosen, moved.index_select(2, self.free), self._now)
        )
        return self.state.replace(
            values={**self.state.values, self.site.name: changed}, cache=cache
        )

    # -- rows --------------------------------------------------------------------------------------

    def _slices(self, factor: Factor) -> tuple[int, int]:
        return factor_slices(self.state, factor)

    def _offset(self, factor: Factor) -> int:
        return first_lag(factor, self.site.name)

    def _begin(self, factor: Factor) -> int:
        """The first row of a factor."""
        return self._offset(factor) - self.chunks.phase

    def _is_regular(self, factor: Factor) -> bool:
        """Whether a factor has a slice for every row, but for the last chunk's."""
        start, stop = self._slices(factor)
        last_but_one = (
            self._begin(factor)
            + (self.chunks.count - 2) * self.chunks.stride
            + self._height(factor)
        )
        return (
            factor.site.period == self.site.period
            and start <= self._begin(factor)
            and last_but_one <= stop
        )

    def _height(self, factor: Factor) -> int:
        """Rows of a factor per chunk."""
        lags = factor.lags(self.site.name)
        return self.chunks.width + max(lags) - min(lags)

    @cached_property
    def _grids(self) -> dict[str, tuple[Tensor, Tensor, Tensor | None, Tensor]]:
        """By factor key, its rows (see `chunk_rows`)."""
        device = self.state.log_weights.device
        return {
            f.key: chunk_rows(
                self.chunks, self._height(f), self._offset(f), *self._slices(f), device
            )
            for f in self.factors
        }

    def _by_chunk(self, factor: Factor, x: Tensor) -> Tensor:
        """`(K, B, rows, *rest)` to `(K * B, count, rows per chunk, *rest)`, rows past the end set to zero."""
        inside = self._grids[factor.key][2]
        if inside is not None:
            x = torch.where(expand_trailing(inside, x[0, 0]), x, torch.zeros_like(x))
        return x.reshape(-1, self.chunks.count, self._height(factor), *x.shape[3:])

    def _spread(self, flags: Tensor, height: int) -> Tensor:
        """Flags of chunks `(count, K * B)` to `(K, B, count * height)`."""
        leading = self.state.values[self.site.name].shape[:2]
        return flags.T.unsqueeze(2).expand(-1, -1, height).reshape(*leading, -1)

    def _taken(self, factor: Factor) -> FactorValue:
        """A factor's cached value on its rows."""
        cached = self.state.cache[factor.key]
        places = self._grids[factor.key][1]
        scores = {
            argument: score.index_select(2, places)
            for argument, score in cached.scores.items()
            if keeps_scores(self.state, self.state.conditioning.site(argument.site), factor)
        }
        return FactorValue(cached.log_prob.index_select(2, places), scores)
