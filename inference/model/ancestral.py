"""Ancestor sampling: drawing sites from their kernels, parents first, slice by slice."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributions import Distribution

from aif_dcpc.inference.errors import ClampError, InferenceError, ModelError, cause
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


@contextmanager
def no_validation() -> Iterator[None]:
    """Switch off argument validation, which synchronises with the host, for the duration."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


@contextmanager
def rng_from(generator: torch.Generator | None) -> Iterator[None]:
    """Make global random draws (distributions know no generator) follow `generator`, and restore them after."""
    if generator is None:
        yield
        return
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    devices = [torch.cuda.current_device()] if generator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(seed))
        yield


@contextmanager
def rng_from_labels(generator: torch.Generator | None, *labels: object) -> Iterator[None]:
    """As `rng_from`, but without reading from the device: the stream follows the generator's first seed and `labels`."""
    if generator is None:
        yield
        return
    seed = zlib.crc32(repr((generator.initial_seed(), *labels)).encode())
    devices = [torch.cuda.current_device()] if generator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def drawing(site: Site) -> Iterator[None]:
    """Say of which site a kernel failed.

    Raises:
        ModelError: for whatever a kernel, or a deterministic site above it, raises.
    """
    try:
        yield
    except InferenceError:
        raise
    except Exception as error:
        raise ModelError(
            f"site {site.name!r}: its kernel cannot be drawn from: {cause(error)}"
        ) from error


def expand_to(distribution: Distribution, lead: tuple[int, ...], *, root: bool) -> Distribution:
    """Give a kernel's distribution the leading axes `lead`."""
    if not hasattr(distribution, "batch_shape"):
        raise TypeError(
            f"it returned {type(distribution).__name__}, expected a torch or Pyro distribution."
        )
    batch = tuple(distribution.batch_shape)
    if root or len(batch) < len(lead):
        return distribution.expand(lead + batch)
    head = torch.broadcast_shapes(batch[: len(lead)], lead)
    return distribution.expand(tuple(head) + batch[len(lead) :])


class AncestorSampler:
    """Draws sites forward in time; observed values are taken as given.

    Args:
        factor_graph: the model.
        num_particles: K.
        batch_size: B.
        length: T (0 without time).
        given: site -> `(K or 1, B or 1, [T,] *event)` values not to be drawn; masked ones are drawn
            where not shown.
        shown: site -> `(1, B, [T])` True where `given` holds, for partly given sites.
    """

    def __init__(
        self,
        factor_graph: FactorGraph,
        num_particles: int,
        batch_size: int,
        length: int,
        given: Mapping[str, Tensor],
        shown: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.factor_graph, self.length = factor_graph, length
        self.lead, self.sizes = (num_particles, batch_size), (batch_size, length)
        self.given, self.shown = dict(given), dict(shown or {})
        self.values: dict[str, Tensor] = {}
        self.slices: dict[str, list[Tensor]] = {}
        self.distributions: dict[str, Distribution] = {}

    def sample(self, start: int = 0, past: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Values of every stochastic site and input; slices before `start` are taken from `past`."""
        sites = [s for s in self.factor_graph.model.sites.values() if s.kind != "deterministic"]
        for site in sites:
            if site.period is None:
                self.values[site.name] = self._timeless(site, past)
        for site in sites:
            if site.period is not None:
                have = num_slices(site, start)
                self.slices[site.name] = (
                    [] if past is None or not have else list(past[site.name].split(1, 2))[:have]
                )
        for t in range(start, self.length):
            for site in sites:
                if site.period is not None and t % site.period == 0:
                    self.slices[site.name].append(self._slice(site, t // site.period))
        timed = {name: _join(parts) for name, parts in self.slices.items() if parts}
        return {**self.values, **timed}

    def _timeless(self, site: Site, past: Mapping[str, Tensor] | None) -> Tensor:
        if past is not None and site.name in past:
            return past[site.name]
        with drawing(site):
            return self._value(site, self._lead(site), None)

    def _slice(self, site: Site, index: int) -> Tensor:
        with drawing(site):
            return self._value(site, self._lead(site), index)

    def _lead(self, site: Site) -> tuple[int, ...]:
        if site.scope == "global":
            return (self.lead[0], 1)
        return self.lead if site.period is None else (*self.lead, 1)

    def _value(self, site: Site, lead: tuple[int, ...], index: int | None) -> Tensor:
        given = self.given.get(site.name)
        if given is not None and index is not None:
            given = given[:, :, index : index + 1]
        mask = self.shown.get(site.name)
        if site.kind == "input" and given is None:
            raise AssertionError(f"input {site.name} is not given")
        if given is not None and mask is None:
            return given
        factor = self._factor(site, index or 0)
        args = tuple(self._argument(expression, site, index) for expression in factor.args)
        distribution = expand_to(factor.kernel(*args), lead, root=not args)
        self.distributions[factor.key] = distribution
        drawn = self.draw(site, index, distribution)
        if given is None or mask is None:
            return drawn
        if given.shape[len(lead) :] != drawn.shape[len(lead) :]:
            raise ClampError(
                f"site {site.name!r}: its kernel draws events of shape {tuple(drawn.shape[len(lead) :])}, found data "
                f"with events of shape {tuple(given.shape[len(lead) :])}."
            )
        keep = mask if index is None else mask[:, :, index : index + 1]
        same_kind = given.is_floating_point() == drawn.is_floating_point()
        return torch.where(
            expand_trailing(keep, drawn), given if same_kind else given.to(drawn.dtype), drawn
        )

    def draw(self, site: Site, index: int | None, distribution: Distribution) -> Tensor:
        """One value of a site (at one slice of its scope); subclasses may draw otherwise."""
        return distribution.sample()

    def _factor(self, site: Site, index: int) -> Factor:
        own = (f for f in self.factor_graph.factors if f.site is site)
        return next(f for f in own if f.start <= index and (f.stop is None or index < f.stop))

    def drawn_factors(self, name: str) -> list[Factor]:
        """The factors of a site from which values were drawn."""
        return [
            f
            for f in self.factor_graph.factors
            if f.site.name == name and f.key in self.distributions
        ]

    def _argument(self, expression: Expression, site: Site, index: int | None) -> Tensor:
        return evaluate_expression(
            expression,
            {argument: self._leaf(argument, site, index) for argument in arguments_of(expression)},
        )

    def _leaf(self, argument: Argument, reader: Site, index: int | None) -> Tensor:
        source = self.factor_graph.model.sites[argument.site]
        if source.period is None:
            value = self.values[argument.site]
            return value if reader.period is None else value.unsqueeze(2)
        if index is None or reader.period is None:
            raise AssertionError("a site without time cannot read one with time")
        return self.slices[argument.site][(index * reader.period) // source.period - argument.lag]


def _join(parts: list[Tensor]) -> Tensor:
    particles = max(p.shape[0] for p in parts)
    return torch.cat([p.expand(particles, *p.shape[1:]) for p in parts], 2)
