"""Ancestor sampling: drawing sites from their kernels, parents first, slice by slice."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.distributions import Distribution

from aif_dcpc.inference.errors import ClampError, ModelError, named_failure
from aif_dcpc.inference.model.clamping import PRECISIONS, needs_double
from aif_dcpc.inference.model.factor_graph import (
    Argument,
    Expression,
    Factor,
    FactorGraph,
    arguments_of,
    evaluate_expression,
    expand_trailing,
    num_slices,
)
from aif_dcpc.inference.model.graph import Site

AS_THEY_ARE: AbstractContextManager[object] = nullcontext()


@contextmanager
def drawing(site: Site) -> Iterator[None]:
    """Say of which site a kernel failed.

    Raises:
        ModelError: for whatever a kernel, or a deterministic site above it, raises.
    """
    with named_failure(f"site {site.name!r}: its kernel cannot be drawn from"):
        yield


def expand_to(
    distribution: Distribution, batch_shape: tuple[int, ...], *, root: bool
) -> Distribution:
    """Give a kernel's distribution leading axes.

    Args:
        distribution: what the kernel returned.
        batch_shape: the leading axes, `(K, B, [T])`.
        root: whether the kernel has no parents: its distribution then has no leading axes yet.
    """
    if not hasattr(distribution, "batch_shape"):
        raise TypeError(
            f"it returned {type(distribution).__name__}, expected a torch or Pyro distribution."
        )
    own = tuple(distribution.batch_shape)
    axes = len(batch_shape)
    if root or len(own) < axes:
        return distribution.expand(batch_shape + own)
    if own[:axes] == batch_shape:
        return distribution
    head = torch.broadcast_shapes(own[:axes], batch_shape)
    return distribution.expand(tuple(head) + own[axes:])


class AncestorSampler:
    """Draws sites forward in time; observed values are taken as given.

    Args:
        factor_graph: the model.
        num_particles: K.
        batch_size: B.
        length: T (0 without time).
        given: site -> `(K or 1, B or 1, [T,] *event)` values not to be drawn; masked ones are drawn
            where they are not observed.
        observed: site -> `(1, B, [T])` True where `given` holds, for partly given sites.
        draws: within which values are drawn, as `rng_from` gives it.
    """

    def __init__(
        self,
        factor_graph: FactorGraph,
        num_particles: int,
        batch_size: int,
        length: int,
        given: Mapping[str, Tensor],
        observed: Mapping[str, Tensor] | None = None,
        draws: AbstractContextManager[object] = AS_THEY_ARE,
    ) -> None:
        self.factor_graph = factor_graph
        self.num_particles = num_particles
        self.sizes = (batch_size, length)
        self.given = dict(given)
        self.observed = dict(observed or {})
        self.draws = draws
        self.values: dict[str, Tensor] = {}
        self.slices: dict[str, list[Tensor]] = {}
        self.distributions: dict[str, Distribution] = {}
        self.double = needs_double(self.given)

    def sample(self, start: int = 0, past: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Draw every stochastic site and input; slices before `start` are taken from `past`."""
        self.double |= any(value.dtype == torch.float64 for value in (past or {}).values())
        sites = [s for s in self.factor_graph.model.sites.values() if s.kind != "deterministic"]
        for site in (site for site in sites if site.period is None):
            self.values[site.name] = self._timeless(site, past)  # the next ones may read it
        timed = [site for site in sites if site.period is not None]
        for site in timed:
            self.slices[site.name] = _past_slices(site, start, past)
        for t in range(start, self.sizes[1]):
            self._extend(timed, t)
        return {**self.values, **_series(self.slices)}

    def _extend(self, timed: list[Site], t: int) -> None:
        """Draw one slice of every site with time that has a new value there."""
        for site in timed:
            period = site.period or 1
            if t % period == 0:
                self.slices[site.name].append(self._value(site, t // period))

    def _timeless(self, site: Site, past: Mapping[str, Tensor] | None) -> Tensor:
        if past is not None and site.name in past:
            return past[site.name]
        return self._value(site, None)

    def _batch_shape(self, site: Site) -> tuple[int, ...]:
        """Leading axes of one value of a site: `(K, B)`, or `(K, B, 1)` with time."""
        if site.scope == "global":
            return (self.num_particles, 1)
        time = () if site.period is None else (1,)
        return (self.num_particles, self.sizes[0], *time)

    def _value(self, site: Site, index: int | None) -> Tensor:
        """Take or draw a site's value, at slice `index` of its scope if it has time."""
        given = _at(self.given.get(site.name), index)
        observed = _at(self.observed.get(site.name), index)
        with drawing(site):
            if site.kind == "input" and given is None:
                raise AssertionError(f"input {site.name} is not given")
            if given is None:
                return self._draw(site, index)
            if observed is None:
                return given
            return _mixed(site, observed, given, self._draw(site, index))

    def _draw(self, site: Site, index: int | None) -> Tensor:
        """Draw a site's value, and keep the distribution that it was drawn from."""
        factor = self._factor(site, index or 0)
        args = tuple(self._evaluated(expression, site, index) for expression in factor.args)
        distribution = expand_to(factor.kernel(*args), self._batch_shape(site), root=not args)
        self.distributions[factor.key] = distribution
        return self._precise(site, self.draw(site, index, distribution))

    def _precise(self, site: Site, drawn: Tensor) -> Tensor:
        """Give a draw the precision of the data.

        Raises:
            ModelError: for numbers in which the engine cannot compute.
        """
        if drawn.is_floating_point() and drawn.dtype not in PRECISIONS:
            raise ModelError(
                f"site {site.name!r}: its kernel draws {drawn.dtype}, expected torch.float32 or "
                "torch.float64; make its parameters so, for example by model.float()."
            )
        return drawn.double() if self.double and drawn.is_floating_point() else drawn

    def draw(self, site: Site, index: int | None, distribution: Distribution) -> Tensor:
        """Draw one value of a site (at one slice of its scope); subclasses may draw otherwise."""
        with self.draws:
            return distribution.sample()

    def _factor(self, site: Site, index: int) -> Factor:
        own = (f for f in self.factor_graph.factors if f.site is site)
        return next(f for f in own if f.start <= index and (f.stop is None or index < f.stop))

    def drawn_factors(self, name: str) -> list[Factor]:
        """List the factors of a site from which values were drawn."""
        return [
            f
            for f in self.factor_graph.factors
            if f.site.name == name and f.key in self.distributions
        ]

    def _evaluated(self, expression: Expression, site: Site, index: int | None) -> Tensor:
        """Compute what a kernel is called with, from the values drawn so far."""
        values = {a: self._read(a, site, index) for a in arguments_of(expression)}
        return evaluate_expression(expression, values)

    def _read(self, argument: Argument, reader: Site, index: int | None) -> Tensor:
        """Look up the value of an argument for slice `index` of the site that reads it."""
        source = self.factor_graph.model.sites[argument.site]
        if source.period is None:
            value = self.values[argument.site]
            return value if reader.period is None else value.unsqueeze(2)
        if index is None or reader.period is None:
            raise AssertionError("a site without time cannot read one with time")
        return self.slices[argument.site][(index * reader.period) // source.period - argument.lag]


def _past_slices(site: Site, start: int, past: Mapping[str, Tensor] | None) -> list[Tensor]:
    """Cut a site's values before slice `start` of the series into single slices."""
    known = num_slices(site, start)
    if past is None or not known:
        return []
    return list(past[site.name].split(1, 2))[:known]


def _at(values: Tensor | None, index: int | None) -> Tensor | None:
    """Take one slice of `(K, B, T, ...)`; all of what has no time."""
    if values is None or index is None:
        return values
    return values[:, :, index : index + 1]


def _mixed(site: Site, observed: Tensor, given: Tensor, drawn: Tensor) -> Tensor:
    """Take given values where they are observed, else drawn ones.

    Raises:
        ClampError: if their events differ in shape.
    """
    event = tuple(drawn.shape[site.batch_ndim :])
    found = tuple(given.shape[site.batch_ndim :])
    if event != found:
        raise ClampError(
            f"site {site.name!r}: its kernel draws events of shape {event}, found data with events "
            f"of shape {found}."
        )
    if given.is_floating_point() != drawn.is_floating_point():
        given = given.to(drawn.dtype)
    return torch.where(expand_trailing(observed, drawn), given, drawn)


def _series(slices: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    """Join the slices of every site that has any."""
    found = {}
    for name, parts in slices.items():
        if parts:
            with named_failure(f"site {name!r}: its slices differ in shape"):
                found[name] = _join(parts)
    return found


def _join(parts: list[Tensor]) -> Tensor:
    particles = max(p.shape[0] for p in parts)
    return torch.cat([p.expand(particles, *p.shape[1:]) for p in parts], 2)
