"""Kernels of the statements of a Pyro program: recorded graphs of their densities and draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import pyro
import torch
from torch import Tensor, fx, nn
from torch.distributions import Distribution, constraints

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.frontends.pyro_statements import (
    Message,
    Program,
    log_density,
    not_static,
    run,
    statements,
)
from aif_dcpc.inference.frontends.tensor_graphs import BatchedGraph, cut, record
from aif_dcpc.inference.model.ancestral import no_validation
from aif_dcpc.inference.model.densities import likelihood_power
from aif_dcpc.inference.model.draws import gumbel_argmax
from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.graph import GraphicalModel
from aif_dcpc.inference.model.location_scale import LocationScale, location_scale
from aif_dcpc.inference.model.state import State

# -- kernels ---------------------------------------------------------------------------------------


def read_kernels(
    program: Program,
    arguments: tuple[Any, ...],
    sites: dict[str, Message],
    values: dict[str, Tensor],
) -> dict[str, tuple["TracedKernel", tuple[str, ...]]]:
    """Record the kernel of every statement, with the names of its parents."""
    names = list(sites)

    def densities(*given: Tensor) -> tuple[Tensor, ...]:
        found = statements(program, arguments, dict(zip(names, given, strict=True)))
        return tuple(log_density(found[n], v) for n, v in zip(names, given, strict=True))

    def draws(*given: Tensor, which: Sequence[str]) -> tuple[Tensor, ...]:
        found = statements(program, arguments, dict(zip(names, given, strict=True)))
        return tuple(found[n]["fn"].sample() for n in which)

    def recorded_draws(which: Sequence[str]) -> list[tuple[Any, tuple[int, ...]] | None]:
        try:
            whole = _recorded(partial(draws, which=which), values, parameters, pure=False)
        except ModelError:  # a sampler that looks at its numbers, by rejection: which one?
            return (
                [None]
                if len(which) == 1
                else [drawn for name in which for drawn in recorded_draws([name])]
            )
        return [cut(whole, index) for index in range(len(which))]

    def standards(*given: Tensor, which: Sequence[str]) -> tuple[Tensor, ...]:
        found = statements(program, arguments, dict(zip(names, given, strict=True)))
        laws = [location_scale(found[n]["fn"]) for n in which]
        return tuple(part for law in laws if law for part in (law.location, law.scale))

    standard_names = [n for n in names if _is_standard(sites[n])]
    parameters: dict[int, nn.Parameter] = {}
    whole_standards = _recorded(
        partial(standards, which=standard_names), values, parameters, pure=True
    )
    density = _recorded(densities, values, parameters, pure=True)
    kernels = {}
    for index, drawn in enumerate(recorded_draws(names)):
        part, inputs = cut(density, index)
        parents = tuple(names[i] for i in sorted({*inputs, *(drawn[1] if drawn else ())} - {index}))
        draw, draw_inputs = drawn or (
            ProgramDraw(program, arguments, names[index], parents),
            tuple(map(names.index, parents)),
        )
        kernel = TracedKernel(sites[names[index]], part, inputs, draw, draw_inputs, names, parents)
        if names[index] in standard_names:
            place = 2 * standard_names.index(names[index])
            kernel.standard = _standard(whole_standards, place, names, parents)
        kernels[names[index]] = (kernel, parents)
    return kernels


def _is_standard(site: Message) -> bool:
    """Whether a latent statement's law is a location and a scale of its parents away from a shape."""
    law = None if site["is_observed"] else location_scale(site["fn"])
    return law is not None and not law.is_matrix


def _standard(
    whole: fx.GraphModule, place: int, names: list[str], parents: tuple[str, ...]
) -> tuple["PartGraph", "PartGraph"] | None:
    """Recorded location and scale of one statement."""
    parts = []
    for part, inputs in (cut(whole, place), cut(whole, place + 1)):
        needed = tuple(names[i] for i in inputs)
        if not set(needed) <= set(parents):
            return None
        parts.append(PartGraph(BatchedGraph(part), tuple(map(parents.index, needed))))
    return parts[0], parts[1]


@dataclass(frozen=True)
class PartGraph:
    """A recorded quantity of a statement, and which of the statement's parents it reads."""

    graph: BatchedGraph
    places: tuple[int, ...]

    def __call__(self, parents: Sequence[Tensor]) -> Tensor:
        """The quantity given all parents `(K, B, *shape)`."""
        arguments = [parents[p] for p in self.places]
        found: Tensor = self.graph(*arguments) if arguments else self.graph.graph()
        return found


def read_deterministics(
    program: Program, arguments: tuple[Any, ...], values: dict[str, Tensor]
) -> dict[str, tuple[BatchedGraph, tuple[str, ...]]]:
    """Recorded values of deterministic, and of reparameterised, statements; constants are left out."""
    names = list(values)
    computed = list(run(program, arguments, values).computed)
    if not computed:
        return {}

    def function(*given: Tensor) -> tuple[Tensor, ...]:
        found = run(program, arguments, dict(zip(names, given, strict=True))).computed
        return tuple(found[n] for n in computed)

    whole = _recorded(function, values, {}, pure=True)
    parts = {name: cut(whole, index) for index, name in enumerate(computed)}
    return {
        name: (BatchedGraph(part), tuple(names[i] for i in inputs))
        for name, (part, inputs) in parts.items()
        if inputs
    }


def _recorded(
    function: Any, values: Mapping[str, Tensor], parameters: dict[int, nn.Parameter], *, pure: bool
) -> fx.GraphModule:
    """Record a function of all sites.

    Raises:
        ModelError: for a function that cannot be recorded; the program has run, so that is all that
            can be wrong.
    """
    try:
        return record(function, list(values.values()), pure=pure, parameters=parameters)
    except Exception as error:
        raise not_static(error) from error


@dataclass(frozen=True)
class ProgramDraw:
    """Draw one statement by running the program, particle by particle, where no graph can hold it."""

    program: Program
    arguments: tuple[Any, ...]
    name: str
    parents: tuple[str, ...]

    def __call__(self, *parents: Tensor) -> Tensor:
        """One draw `(*plates, *event)` given the parents' values `(*shape)`."""
        with no_validation(), pyro.poutine.block():
            site = statements(
                self.program, self.arguments, dict(zip(self.parents, parents, strict=True))
            )[self.name]
            drawn: Tensor = site["fn"].sample()
        return drawn


class TracedKernel(nn.Module):
    """p(site | parents) of one sample statement: recorded graphs of its log density and its draw."""

    def __init__(
        self,
        site: Message,
        density: Any,
        density_inputs: tuple[int, ...],
        draw: Any,
        draw_inputs: tuple[int, ...],
        names: list[str],
        parents: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.statement: Distribution = site["fn"]
        self.plates = tuple(site["fn"].batch_shape)
        # from the value: a law over time may not know how long its series is
        self.event = tuple(site["value"].shape[len(self.plates) :])
        own = names.index(site["name"])
        self.places = tuple(-1 if i == own else parents.index(names[i]) for i in density_inputs)
        self.draw_places = tuple(parents.index(names[i]) for i in draw_inputs)
        self.density = BatchedGraph(density)
        self.draw = BatchedGraph(draw, random=True)
        self.learns = any(True for _ in self.draw.parameters())
        self.standard: tuple[PartGraph, PartGraph] | None = None

    def forward(self, *parents: Tensor) -> "TracedDistribution":
        """The site's distribution given parents `(K, B, *shape)`."""
        return TracedDistribution(
            self, parents, torch.broadcast_shapes(*(p.shape[:2] for p in parents))
        )


class TracedDistribution(Distribution):
    """One statement's distribution for a whole cloud, batch shape `(K, B, *plates)`.

    Without parents it has no leading axes, `(*plates)`.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012

    def __init__(
        self, kernel: TracedKernel, parents: tuple[Tensor, ...], cloud_shape: torch.Size
    ) -> None:
        self.kernel = kernel
        self.parents = parents
        self.cloud_shape = cloud_shape  # (K, B), or () for a root
        super().__init__(cloud_shape + kernel.plates, torch.Size(kernel.event), validate_args=False)

    @property
    def support(self) -> constraints.Constraint | None:  # type: ignore[override]
        """The statement's support; that of the parts for a mixture."""
        support: constraints.Constraint | None = self.kernel.statement.support
        return (
            support.base_constraint
            if isinstance(support, constraints.MixtureSameFamilyConstraint)
            else support
        )

    def location_scale(self) -> LocationScale | None:
        """Location and scale in unconstrained coordinates, where the statement's law has them."""
        if self.kernel.standard is None:
            return None
        location, scale = self.kernel.standard
        return LocationScale(location(self.parents), scale(self.parents))

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Whether the values are finitely many."""
        return bool(self.kernel.statement.has_enumerate_support)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values of one element."""
        return self.kernel.statement.enumerate_support(expand=expand)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "TracedDistribution":
        """The same for other leading axes."""
        shape = torch.Size(batch_shape)
        return TracedDistribution(
            self.kernel, self.parents, shape[: len(shape) - len(self.kernel.plates)]
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of `(K, B, *plates, *event)`, `(K, B, *plates)` nats."""
        kernel = self.kernel
        result = kernel.density(*(value if p < 0 else self.parents[p] for p in kernel.places))
        return result

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw for every particle and data point, `(K, B, *plates, *event)`."""
        kernel = self.kernel
        if not kernel.draw_places and not kernel.learns:
            return kernel.statement.sample(torch.Size(sample_shape) + self.cloud_shape)
        wide = [
            self.parents[p].expand(*self.cloud_shape, *self.parents[p].shape[2:])
            for p in kernel.draw_places
        ]
        return kernel.draw.drawn(self.cloud_shape, *wide)


# -- plated discrete sites -------------------------------------------------------------------------


def add_plated_conditional(model: GraphicalModel, name: str, sites: dict[str, Message]) -> None:
    """Let a discrete site inside plates be drawn at once: given all else, its elements are independent."""
    site = sites[name]
    children = model.children_of(name)
    if any(_reads_elements(model, child) for child in children):
        return
    if (
        site["is_observed"]
        or not site["fn"].has_enumerate_support
        or not _elementwise(site, sites, children)
    ):
        return
    model.add_conditional((name,), PlatedConditional(model, name))


def _reads_elements(model: GraphicalModel, name: str) -> bool:
    """Whether a site is, or reads, a deterministic one."""
    site = model.sites[name]
    return any(model.sites[str(p)].kind == "deterministic" for p in (name, *site.parents))


def _elementwise(site: Message, sites: dict[str, Message], children: tuple[str, ...]) -> bool:
    """Tell whether plates cover the site's whole batch shape, and its children lie in the same ones."""
    frames = {f for f in site["cond_indep_stack"] if f.vectorized}
    shape = site["fn"].batch_shape
    covered = {f.dim for f in frames}
    whole = all(size == 1 or i - len(shape) in covered for i, size in enumerate(shape))
    return (
        bool(frames)
        and whole
        and all(frames <= set(sites[c]["cond_indep_stack"]) for c in children)
    )


@dataclass(frozen=True)
class PlatedConditional:
    """Exact draw of all elements of a plated discrete site from their complete conditionals.

    Attributes:
        model: the model of the site.
        name: the site.
        state: whose masks, interventions and temperature hold; None for none of them.
    """

    model: GraphicalModel
    name: str
    state: State | None = None

    def at(self, state: State) -> "PlatedConditional":
        """The conditional in one state."""
        return replace(self, state=state)

    def __call__(
        self,
        values: Mapping[str, Tensor],
        generator: torch.Generator,
        masks: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> dict[str, Tensor]:
        """Draw every element of the site, given all other values; what its own mask shows stays.

        Args:
            values: every site, `(K or 1, B, *plates, *event)`.
            generator: of the noise.
            masks: site -> `(1, B)` or `(1, B, *leading plates)` True where observed; the state's
                own come first.
        """
        masks = masks if self.state is None else self.state.masks
        kernel: Any = self.model.sites[self.name].kernel
        now = values[self.name]
        support = kernel.statement.enumerate_support(expand=False).to(now.device)
        scores = torch.stack(
            [
                self._score({**values, self.name: s.expand_as(now).contiguous()}, kernel, masks)
                for s in support
            ]
        )
        chosen = gumbel_argmax(scores, generator, 0)
        event = kernel.statement.event_shape
        drawn = support.reshape(len(support), *event).index_select(0, chosen.flatten())
        drawn = drawn.reshape(*chosen.shape, *event).expand_as(now).to(now.dtype)
        known = masks.get(self.name)
        return {
            self.name: drawn
            if known is None
            else torch.where(expand_trailing(known, now), now, drawn)
        }

    def _score(
        self, values: Mapping[str, Tensor], kernel: TracedKernel, masks: Mapping[str, Tensor]
    ) -> Tensor:
        """Unnormalised log conditional of every element, `(K, B, *plates)`."""
        total = torch.zeros((), device=values[self.name].device)
        for name in (self.name, *self.model.children_of(self.name)):
            site = self.model.sites[name]
            density: Any = site.kernel
            law = density(*(values[str(p)] for p in site.parents))
            log_prob = getattr(law, "log_probs", law.log_prob)(values[name])  # of each statement
            if (counts := self._where(name, masks)) is not None:
                log_prob = torch.where(
                    expand_trailing(counts, log_prob), log_prob, torch.zeros_like(log_prob)
                )
            total = total + _onto(self._counted(name, log_prob), kernel.plates)
        return total

    def _where(self, name: str, masks: Mapping[str, Tensor]) -> Tensor | None:
        """Return the mask of what counts of a density: not missing data, nor what `do` has set."""
        if name not in masks or name == self.name:
            return None
        if self.state is None:
            return masks[name]
        if name in getattr(self.state.conditioning, "partly_intervened", ()):
            return ~masks[name]
        return None if name in self.state.conditioning.latent else masks[name]

    def _counted(self, name: str, log_prob: Tensor) -> Tensor:
        """Count what the state counts of a density: nothing where `do` cuts it, its power when tempered."""
        if self.state is None:
            return log_prob
        around = self.state.conditioning.factors_of(self.name, self.state.length)
        factor = next((f for f in around if f.site.name == name), None)
        if factor is None:
            return torch.zeros_like(log_prob)
        power = likelihood_power(self.state, factor, 0, 0)
        return log_prob if power is None else log_prob * expand_trailing(power, log_prob)


def _onto(log_prob: Tensor, plates: tuple[int, ...]) -> Tensor:
    """Sum `(K, B, *child's plates)` over the plates that the site does not have."""
    extra = log_prob.ndim - 2 - len(plates)
    if extra > 0:
        log_prob = log_prob.flatten(2, 1 + extra).sum(2)
    sizes = log_prob.shape[2:]
    axes = [
        2 + i
        for i, (size, own) in enumerate(zip(sizes, plates, strict=True))
        if own == 1 and size > 1
    ]
    return log_prob.sum(axes, keepdim=True) if axes else log_prob
