"""From declared sites to batched factors: which values each log density reads, at which slices.

A site with lagged parents gives two factors: its `initial` kernel on the first slices and its
kernel on the rest. Each factor covers *all* its slices in one call. Deterministic sites are folded
into the factors that read them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.model.graph import GraphicalModel, Lag, Parent, Site, parent_name
from aif_dcpc.inference.model.indexing import IndexingCall
from aif_dcpc.misspelt import unknown_name


class Argument(NamedTuple):
    """The value of a stochastic or input site, `lag` slices back."""

    site: str
    lag: int = 0


@dataclass(frozen=True)
class Call:
    """A deterministic function of other expressions."""

    function: Callable[..., Tensor]
    args: tuple["Expression", ...]


Expression = Argument | Call


def arguments_of(expression: Expression) -> Iterator[Argument]:
    """List the arguments that an expression is computed from, some of them perhaps twice."""
    if isinstance(expression, Argument):
        yield expression
    else:
        for arg in expression.args:
            yield from arguments_of(arg)


@dataclass(frozen=True)
class Factor:
    """log p(site | parents) on some slices of the site's scope; all there is for a site without time.

    Attributes:
        site: the site whose density this is.
        kernel: callable of `args`.
        args: how each of the kernel's arguments is computed.
        start, stop: first and one past the last slice; `stop` is None for "to the end".
        inputs: every argument that the density reads, the site's own value first.
    """

    site: Site
    kernel: Callable[..., Any]
    args: tuple[Expression, ...]
    start: int
    stop: int | None
    inputs: tuple[Argument, ...] = field(default=())

    @cached_property
    def key(self) -> str:
        """Name the factor uniquely: by its site, or "site@initial"."""
        return self.site.name if self.stop is None else f"{self.site.name}@initial"

    def slices(self, length: int) -> tuple[int, int]:
        """First and one past the last slice in a series of `length` slices of this scope."""
        stop = length if self.stop is None or self.stop > length else self.stop
        return (self.start if self.start < stop else stop), stop

    def lags(self, name: str) -> tuple[int, ...]:
        """Return the lags at which the factor reads a site."""
        return self._lags.get(name, ())

    @cached_property
    def _lags(self) -> dict[str, tuple[int, ...]]:
        sites = dict.fromkeys(argument.site for argument in self.inputs)
        return {
            name: tuple(argument.lag for argument in self.inputs if argument.site == name)
            for name in sites
        }

    def covers(self, length: int) -> bool:
        """Tell whether the factor has a slice in a series of `length` fast slices."""
        if self.site.period is None:
            return True
        start, stop = self.slices(num_slices(self.site, length))
        return stop > start

    def distribution(self, aligned: Mapping[Argument, Tensor]) -> Distribution:
        """Make the kernel's distribution at aligned inputs."""
        result: Distribution = self.kernel(
            *(evaluate_expression(expression, aligned) for expression in self.args)
        )
        return result


def evaluate_expression(expression: Expression, aligned: Mapping[Argument, Tensor]) -> Tensor:
    """Compute an expression from the values of its arguments."""
    if isinstance(expression, Argument):
        return aligned[expression]
    return expression.function(*(evaluate_expression(arg, aligned) for arg in expression.args))


class FactorGraph:
    """Factors of a model, by site and by what they read.

    Args:
        model: the declaration.

    Attributes:
        factors: all factors, parents before children.
        factors_by_key: the same by their keys: the site's name, or "name@initial".
        factors_of: site -> the factors that read it, its own among them.
    """

    def __init__(self, model: GraphicalModel) -> None:
        self.model = model
        self.factors: tuple[Factor, ...] = tuple(
            f
            for site in model.sites.values()
            if site.kind == "stochastic"
            for f in self._factors_of(site)
        )
        self.factors_by_key: dict[str, Factor] = {f.key: f for f in self.factors}
        self.factors_of: dict[str, tuple[Factor, ...]] = {
            name: tuple(f for f in self.factors if f.lags(name)) for name in model.sites
        }

    def expression(self, name: str) -> Expression:
        """Say how a site's value is computed: it is its own argument unless it is deterministic."""
        return self._resolve(name, 0, self.model.sites[name].batch_ndim)

    def _resolve(self, parent: Parent, steps_back: int, lead: int) -> Expression:
        name = parent_name(parent)
        if name not in self.model.sites:
            raise ModelError(unknown_name("parent", name, self.model.sites))
        site = self.model.sites[name]
        total = steps_back + (parent.steps if isinstance(parent, Lag) else 0)
        if site.kind == "deterministic":
            function: Any = site.kernel
            args = tuple(self._resolve(p, total, lead) for p in site.parents)
            return Call(IndexingCall(function, lead), args)
        return Argument(name, total)

    def _factors_of(self, site: Site) -> Iterator[Factor]:
        args = tuple(self._resolve(p, 0, site.batch_ndim) for p in site.parents)
        start = max(
            (argument.lag for expression in args for argument in arguments_of(expression)),
            default=0,
        )
        if start:
            direct = tuple(
                a for a, p in zip(args, site.parents, strict=True) if not isinstance(p, Lag)
            )
            yield self._factor(site, site.initial, direct, 0, start)
        yield self._factor(site, site.kernel, args, start, None)

    def _factor(
        self, site: Site, kernel: Any, args: tuple[Expression, ...], start: int, stop: int | None
    ) -> Factor:
        own = Argument(site.name)
        inputs = dict.fromkeys(
            [own, *(argument for expression in args for argument in arguments_of(expression))]
        )
        for argument in inputs:
            self._check_level(site, argument)
        call = IndexingCall(kernel, site.batch_ndim)
        return Factor(site, call, args, start, stop, tuple(inputs))

    def _check_level(self, site: Site, argument: Argument) -> None:
        if argument.lag and self.model.sites[argument.site].period != site.period:
            raise ModelError(
                f"site {site.name!r}: lag({argument.site!r}) needs a parent of the same scope; "
                f"{argument.site!r} has scope {self.model.sites[argument.site].scope!r}."
            )


def expand_trailing(flags: Tensor, like: Tensor) -> Tensor:
    """Give flags trailing axes of size 1 until they have as many axes as `like`, and broadcast."""
    return flags.reshape(flags.shape + (1,) * (like.ndim - flags.ndim))


def num_slices(site: Site, length: int) -> int:
    """Count the values of a site with time in a series of `length` fast slices."""
    return -(-length // (site.period or 1))


def align(
    value: Tensor,
    own: Site,
    argument: Argument,
    reader: Site,
    start: int,
    stop: int,
    rows: Tensor | None = None,
) -> Tensor:
    """Lay a site's value along the slices `start .. stop - 1` of the factor that reads it.

    Args:
        value: `(K, B, [T,] *event)`.
        own: the site read.
        argument: which of its lags.
        reader: the site whose factor reads it.
        start, stop: slices of the reader's scope.
        rows: `(R,)` slices of the reader's scope, where only these are wanted.

    Returns:
        `(K, B, *event)` for a reader without time, else `(K, B, stop - start or R or 1, *event)`.
    """
    if reader.period is None:
        return value
    if own.period is None:
        return value.unsqueeze(2)
    if own.period != reader.period:
        index = torch.arange(start, stop, device=value.device) if rows is None else rows
        return value.index_select(2, index // (own.period // reader.period))
    if rows is None:
        whole = value.shape[2] == stop - start
        return value if whole else value[:, :, start - argument.lag : stop - argument.lag]
    return value.index_select(2, rows - argument.lag if argument.lag else rows)
