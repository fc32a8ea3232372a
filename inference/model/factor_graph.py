"""From declared sites to batched factors: which tensors each log density reads, and at which slices.

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

from aif_dcpc.inference.errors import ModelError, unknown_name
from aif_dcpc.inference.model.graph import GraphicalModel, Lag, Parent, Site, parent_name


class Leaf(NamedTuple):
    """The value of a stochastic or input site, `offset` slices back."""

    site: str
    offset: int = 0


@dataclass(frozen=True)
class Call:
    """A deterministic function of other nodes."""

    function: Callable[..., Tensor]
    args: tuple["Node", ...]


Node = Leaf | Call


def leaves_of(node: Node) -> Iterator[Leaf]:
    """All leaves below a node."""
    if isinstance(node, Leaf):
        yield node
    else:
        for arg in node.args:
            yield from leaves_of(arg)


@dataclass(frozen=True)
class Factor:
    """log p(site | parents) on the slices `start ..` of the site's scope (all of them for a site without time).

    Attributes:
        site: the site whose density this is.
        kernel: callable of `args`.
        args: how each argument is computed.
        start, stop: first and one past the last slice; `stop` is None for "to the end".
        inputs: every leaf that the density reads, the site's own value first.
    """

    site: Site
    kernel: Callable[..., Any]
    args: tuple[Node, ...]
    start: int
    stop: int | None
    inputs: tuple[Leaf, ...] = field(default=())

    @cached_property
    def key(self) -> str:
        """Unique name."""
        return self.site.name if self.stop is None else f"{self.site.name}@initial"

    def slices(self, length: int) -> tuple[int, int]:
        """First and one past the last slice in a series of `length` slices of this scope."""
        stop = length if self.stop is None or self.stop > length else self.stop
        return (self.start if self.start < stop else stop), stop

    def offsets(self, name: str) -> tuple[int, ...]:
        """Offsets at which the factor reads site `name`."""
        return self._offsets.get(name, ())

    @cached_property
    def _offsets(self) -> dict[str, tuple[int, ...]]:
        sites = dict.fromkeys(leaf.site for leaf in self.inputs)
        return {
            name: tuple(leaf.offset for leaf in self.inputs if leaf.site == name) for name in sites
        }

    def covers(self, length: int) -> bool:
        """Whether the factor has a slice in a series of `length` fast slices."""
        if self.site.period is None:
            return True
        start, stop = self.slices(num_slices(self.site, length))
        return stop > start

    def distribution(self, aligned: Mapping[Leaf, Tensor]) -> Distribution:
        """The kernel's distribution at aligned inputs."""
        result: Distribution = self.kernel(*(evaluate_node(node, aligned) for node in self.args))
        return result


def evaluate_node(node: Node, aligned: Mapping[Leaf, Tensor]) -> Tensor:
    """A node's value, given its leaves'."""
    if isinstance(node, Leaf):
        return aligned[node]
    return node.function(*(evaluate_node(arg, aligned) for arg in node.args))


class LoweredModel:
    """Factors of a model, by site and by what they read.

    Args:
        model: the declaration.

    Attributes:
        factors: all factors, parents before children.
    """

    def __init__(self, model: GraphicalModel) -> None:
        self.model = model
        self.factors: tuple[Factor, ...] = tuple(
            f
            for site in model.sites.values()
            if site.kind == "stochastic"
            for f in self._factors_of(site)
        )
        self.touching: dict[str, tuple[Factor, ...]] = {
            name: tuple(f for f in self.factors if f.offsets(name)) for name in model.sites
        }

    def node(self, name: str) -> Node:
        """How a site's value follows from the leaves above it: by itself, if it is not deterministic."""
        return self._resolve(name, 0)

    def _resolve(self, parent: Parent, offset: int) -> Node:
        name = parent_name(parent)
        if name not in self.model.sites:
            raise ModelError(unknown_name("parent", name, self.model.sites))
        site = self.model.sites[name]
        total = offset + (parent.steps if isinstance(parent, Lag) else 0)
        if site.kind == "deterministic":
            function: Any = site.kernel
            return Call(function, tuple(self._resolve(p, total) for p in site.parents))
        return Leaf(name, total)

    def _factors_of(self, site: Site) -> Iterator[Factor]:
        args = tuple(self._resolve(p, 0) for p in site.parents)
        start = max((leaf.offset for node in args for leaf in leaves_of(node)), default=0)
        if start:
            direct = tuple(
                a for a, p in zip(args, site.parents, strict=True) if not isinstance(p, Lag)
            )
            yield self._factor(site, site.initial, direct, 0, start)
        yield self._factor(site, site.kernel, args, start, None)

    def _factor(
        self, site: Site, kernel: Any, args: tuple[Node, ...], start: int, stop: int | None
    ) -> Factor:
        own = Leaf(site.name)
        inputs = dict.fromkeys([own, *(leaf for node in args for leaf in leaves_of(node))])
        for leaf in inputs:
            self._check_level(site, leaf)
        return Factor(site, kernel, args, start, stop, tuple(inputs))

    def _check_level(self, site: Site, leaf: Leaf) -> None:
        if leaf.offset and self.model.sites[leaf.site].period != site.period:
            raise ModelError(
                f"site {site.name!r}: lag({leaf.site!r}) needs a parent of the same scope; "
                f"{leaf.site!r} has scope {self.model.sites[leaf.site].scope!r}."
            )


def widen(flags: Tensor, like: Tensor) -> Tensor:
    """Give per-value flags as many trailing axes of size 1 as `like` has event axes, so that they broadcast."""
    return flags.reshape(flags.shape + (1,) * (like.ndim - flags.ndim))


def num_slices(site: Site, length: int) -> int:
    """Number of values of a site with time in a series of `length` fast slices."""
    return -(-length // (site.period or 1))


def align(
    value: Tensor,
    own: Site,
    leaf: Leaf,
    reader: Site,
    start: int,
    stop: int,
    rows: Tensor | None = None,
) -> Tensor:
    """Lay a site's value along the slices `start .. stop - 1` of the factor that reads it.

    Args:
        value: `(K, B, [T,] *event)`.
        own: the site read.
        leaf: which offset.
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
        return value if whole else value[:, :, start - leaf.offset : stop - leaf.offset]
    return value.index_select(2, rows - leaf.offset if leaf.offset else rows)
