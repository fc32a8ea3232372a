"""What the next sweep needs (`State`), what is worth looking at (`Info`), what stays (`Conditioning`).

Latent sites with a constrained support are held in unconstrained coordinates (`State.values`);
`State.particles` shows them in their own support.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Transform
from torch.distributions.constraints import Constraint

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.model.bijections import coordinates
from aif_dcpc.inference.model.elements import ByName
from aif_dcpc.inference.model.factor_graph import (
    Argument,
    Factor,
    FactorGraph,
    align,
    arguments_of,
    evaluate_expression,
    num_slices,
)
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.inputs import check_input, like_past
from aif_dcpc.inference.model.parameters import Snapshot
from aif_dcpc.misspelt import unknown_name

GROWTH = 1.025  # of a series that constants stand beside, before it is swept whole and they learn
SERIES_GROWTH = 2  # before moves of the series learn again
PRIOR = "prior"
POSTERIOR = "posterior"


@dataclass(frozen=True)
class Conditioning:
    """A factor graph with the roles that one data set gives to its sites.

    Attributes:
        factor_graph: the factors of the model.
        latent: names of latent sites, parents first.
        bijections: unconstrained -> support, for constrained continuous latent sites.
        supports: all values `(M, *event)` of latent sites with a finite support.
        discrete: names of latent sites with integer values (finite or not).
        bounds: least and greatest value (maybe infinite) of latent integer sites.
        event_dims: number of event axes of every site.
        intervened: sites whose density is cut by `do` (they are clamped and have no factor).
        partly_intervened: latent sites that `do` has set where their mask is True: their density is
            cut there alone.
        domains: the support of one element of each latent site, where it is known.
    """

    factor_graph: FactorGraph
    latent: tuple[str, ...]
    bijections: Mapping[str, Transform] = field(default_factory=dict)
    supports: Mapping[str, Tensor] = field(default_factory=dict)
    discrete: frozenset[str] = frozenset()
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    event_dims: Mapping[str, int] = field(default_factory=dict)
    intervened: frozenset[str] = frozenset()
    partly_intervened: frozenset[str] = frozenset()
    domains: Mapping[str, Constraint] = field(default_factory=dict)
    _active: dict[tuple[str, int], tuple[Factor, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def factors_of(self, name: str, length: int) -> tuple[Factor, ...]:
        """List the factors that read a site: its own and its children's, but for those that are cut.

        `length` is the number of slices of the series.
        """
        if (name, length) not in self._active:
            self._active[name, length] = tuple(
                f for f in self.factor_graph.factors_of[name] if self.is_active(f, length)
            )
        return self._active[name, length]

    def is_active(self, factor: Factor, length: int) -> bool:
        """Tell whether a factor is not cut by `do` and covers at least one of so many slices."""
        return factor.site.name not in self.intervened and factor.covers(length)

    def site(self, name: str) -> Site:
        """Look up the declaration of a site.

        Raises:
            ModelError: for an unknown name.
        """
        sites = self.factor_graph.model.sites
        if name not in sites:
            raise ModelError(unknown_name("site", name, sites))
        return sites[name]

    @property
    def circular(self) -> frozenset[str]:
        """Names of latent angles, whose coordinates go round and round."""
        return frozenset(n for n, bijection in self.bijections.items() if not bijection.bijective)

    def unconstrain(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Bring values from their own support to unconstrained coordinates, where the two differ.

        Values at the edge of a support get finite coordinates (see `bijections`).
        """
        found = dict(values)
        for name in values.keys() & self.bijections.keys():
            found[name] = coordinates(self.bijections[name], values[name])
        return found


@dataclass(frozen=True)
class FactorValue:
    """One factor at the current values.

    Attributes:
        log_prob: `(K or 1, B or 1, [T])` nats.
        scores: gradient of the log density by argument, in the shape of the aligned argument.
    """

    log_prob: Tensor
    scores: Mapping[Argument, Tensor]


@dataclass(frozen=True)
class State:
    """A particle cloud over one joint posterior.

    Attributes:
        conditioning: what is latent.
        values: every site; latent `(K, B, [T,] *event)` in unconstrained coordinates, observed `(1,
            B, [T,] *event)`.
        masks: for partly observed sites, `(1, B, [T])` True where observed.
        log_weights: `(K, B)`, nats, up to a constant.
        ancestors: `(K, B)` index of the particle each lineage descends from.
        length: number of slices; 0 without time.
        sweeps: sweeps made so far (host integer).
        cache: factor values at `values`; factors that are missing are evaluated when needed.
        adaptation: step sizes and curvatures by site.
        log_evidence: `(B,)` running sum of log mean incremental weights, nats.
        inverse_temperature: `(B,)` power of the likelihood, from 0 (prior) to 1; None means 1 (see
            `annealing`).
        snapshot: the parameters that the cache was evaluated under; None where nobody has looked.
        opened: number of sweeps made when moves last began to adapt.
        opened_length: number of slices then.
        doubled: number of sweeps made when those of the series last did.
        doubled_length: number of slices then.
        origin: `PRIOR` for a cloud as `init` has drawn it; `POSTERIOR` for one that a run has left
            whose particles came from draws of the posterior; "" for any other.
    """

    conditioning: Conditioning
    values: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    log_weights: Tensor
    ancestors: Tensor
    length: int = 0
    sweeps: int = 0
    cache: Mapping[str, FactorValue] = field(default_factory=dict)
    adaptation: Mapping[str, Any] = field(default_factory=dict)
    log_evidence: Tensor = field(default_factory=lambda: torch.zeros(1))
    inverse_temperature: Tensor | None = None
    snapshot: Snapshot | None = None
    opened: int = 0
    opened_length: int = 0
    doubled: int = 0
    doubled_length: int = 0
    origin: str = ""

    @property
    def num_particles(self) -> int:
        """The number of particles, K."""
        return self.log_weights.shape[0]

    @property
    def batch_size(self) -> int:
        """The number of data points, B."""
        return self.log_weights.shape[1]

    @property
    def particles(self) -> dict[str, Tensor]:
        """The latents in their own support, `(K, B, [T,] *event)`; global ones `(K, 1, *event)`."""
        found = {name: self.constrained(name) for name in self.conditioning.latent}
        return ByName(found, self.conditioning.factor_graph.model.sites, 2)

    def constrained(self, name: str) -> Tensor:
        """Return the values of one site in its own support."""
        bijection = self.conditioning.bijections.get(name)
        value = self.values[name]
        return value if bijection is None else bijection(value)

    def value(self, name: str) -> Tensor:
        """Return a site's values in its own support; deterministic sites are computed.

        The shape is `(K or 1, B or 1, [T,] *event)`.

        Raises:
            ModelError: for an unknown name.
        """
        return self.computed(name, self.constrained)

    def computed(self, name: str, read: Callable[[str], Tensor]) -> Tensor:
        """Return a site's values from those of random sites and inputs in their own support.

        Args:
            name: any site.
            read: site -> `(K or 1, B or 1, [T,] *event)`.

        Raises:
            ModelError: for an unknown name.
        """
        site = self.conditioning.site(name)
        if site.kind != "deterministic":
            return read(name)
        stop = 0 if site.period is None else num_slices(site, self.length)
        expression = self.conditioning.factor_graph.expression(name)
        aligned = {}
        for argument in arguments_of(expression):
            source = self.conditioning.site(argument.site)
            value = read(argument.site)
            aligned[argument] = align(value, source, argument, site, 0, stop)
        return evaluate_expression(expression, aligned)

    @property
    def natural(self) -> dict[str, Tensor]:
        """Every site, observed ones included, in its own support."""
        return {name: self.constrained(name) for name in self.values}

    def weights(self) -> Tensor:
        """Return the normalised weights, `(K, B)`."""
        return torch.softmax(self.log_weights, 0)

    def reopened(self) -> "State":
        """Return the cloud with moves that learn again, after the target has moved elsewhere."""
        learned = {
            n: a.reopened() if hasattr(a, "reopened") else a for n, a in self.adaptation.items()
        }
        return replace(self, adaptation=learned)._opened()._doubled()

    def followed(self) -> "State":
        """Return a cloud that has grown with moves that learn on, where it has grown by so much.

        The conditionals of latents without time sharpen with every slice, and only sweeps of the
        whole series move them: a fortieth more is enough. Those of a series are alike everywhere,
        once it is long: sweeps of its last slices learn again only where it has doubled.
        """
        has_doubled = self.length >= SERIES_GROWTH * self.doubled_length
        has_grown = self.has_timeless_latents and self.length >= GROWTH * self.opened_length
        if not (has_doubled or has_grown):
            return self
        learned = {
            n: a.resumed() if hasattr(a, "resumed") else a for n, a in self.adaptation.items()
        }
        found = replace(self, adaptation=learned)._opened()
        return found._doubled() if has_doubled else found

    def _opened(self) -> "State":
        return replace(self, opened=self.sweeps, opened_length=self.length)

    def _doubled(self) -> "State":
        return replace(self, doubled=self.sweeps, doubled_length=self.length)

    @property
    def has_timeless_latents(self) -> bool:
        """Whether a latent has one value for the whole series."""
        return any(self.conditioning.site(n).period is None for n in self.conditioning.latent)

    def replace(self, **changes: Any) -> "State":
        """Return a copy with some fields changed; where its particles came from is forgotten."""
        return replace(self, **{"origin": "", **changes})

    def with_values(self, changes: Mapping[str, Tensor]) -> "State":
        """Return a copy with some values changed; cached factors that read them are dropped."""
        stale = {f.key for name in changes for f in self.conditioning.factor_graph.factors_of[name]}
        cache = {k: v for k, v in self.cache.items() if k not in stale}
        return self.replace(values={**self.values, **changes}, cache=cache)

    def last(self, length: int | None = None) -> "State":
        """Cut a cloud to its last slices and those that they read, rounded up to whole periods.

        Args:
            length: how many slices; by default those that a new one reads.

        Returns:
            the cut cloud; the cloud itself where there is nothing to cut off.
        """
        factors = self.conditioning.factor_graph.factors
        sites = self.conditioning.factor_graph.model.sites
        longest = max((f.start * (f.site.period or 1) for f in factors), default=0)
        if length is None:
            length = 1 + longest
        period = math.lcm(*(s.period for s in sites.values() if s.period is not None))
        start = (self.length - length - longest) // period * period
        if start <= 0:
            return self
        past = {n: start // p for n in self.values if (p := sites[n].period) is not None}
        return self.replace(
            values=without_past(self.values, past),
            masks=without_past(self.masks, past),
            length=self.length - start,
            cache={},
        )

    def set_input(self, name: str, value: Tensor) -> "State":
        """Set an input's value in the last slice, such as the action chosen there.

        What reads it by `lag` only stands in later slices: then nothing is evaluated again.

        Args:
            name: an input with a value a slice.
            value: `(B, *event)`.

        Raises:
            ClampError: for an unknown input, another shape, or fractions where it holds integers.
        """
        factor_graph = self.conditioning.factor_graph
        check_input(factor_graph.model.sites, name)
        past = self.values[name]
        new = like_past(name, value, past, (self.batch_size, *past.shape[3:]))
        values = torch.cat([past[:, :, :-1], new[None, :, None]], 2)
        stale = {f.key for f in factor_graph.factors_of[name] if 0 in f.lags(name)}
        cache = {key: found for key, found in self.cache.items() if key not in stale}
        return self.replace(values={**self.values, name: values}, cache=cache)


def without_past(tensors: Mapping[str, Tensor], past: Mapping[str, int]) -> dict[str, Tensor]:
    """Leave the first values `past[name]` out of values or masks `(K or 1, B, T, ...)`."""
    return {name: x[:, :, past[name] :] if name in past else x for name, x in tensors.items()}


@dataclass(frozen=True)
class Info:
    """Diagnostics of one sweep or run; nothing here is carried on.

    Attributes:
        acceptance: site -> mean acceptance probability (0-dim tensor, 0 to 1).
        log_joint: `(K, B)` nats, at the end; None where it was not asked for.
        trace: site -> `(num_sweeps, ...)` whatever `run(record=...)` asked for.
    """

    acceptance: Mapping[str, Tensor]
    log_joint: Tensor | None
    trace: Mapping[str, Tensor] = field(default_factory=dict)
