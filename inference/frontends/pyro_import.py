"""Kernels of the statements of a Pyro program: recorded graphs of their densities and draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch
from torch import Tensor, fx, nn
from torch.distributions import Distribution, constraints

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.frontends.program_errors import not_static
from aif_dcpc.inference.frontends.pyro_statements import (
    Message,
    Program,
    log_density,
    run,
    statements,
)
from aif_dcpc.inference.frontends.tensor_graphs import BatchedGraph, CutGraph, record
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.location_scale import LocationScale, location_scale


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
        parts = CutGraph(whole)
        return [parts[index] for index in range(len(which))]

    def standards(*given: Tensor, which: Sequence[str]) -> tuple[Tensor, ...]:
        found = statements(program, arguments, dict(zip(names, given, strict=True)))
        laws = [location_scale(found[n]["fn"]) for n in which]
        return tuple(part for law in laws if law for part in (law.location, law.scale))

    standard_names = [n for n in names if _is_standard(sites[n])]
    parameters: dict[int, nn.Parameter] = {}
    standard_parts = CutGraph(
        _recorded(partial(standards, which=standard_names), values, parameters, pure=True)
    )
    density = CutGraph(_recorded(densities, values, parameters, pure=True))
    kernels = {}
    for index, drawn in enumerate(recorded_draws(names)):
        part, inputs = density[index]
        parents = tuple(names[i] for i in sorted({*inputs, *(drawn[1] if drawn else ())} - {index}))
        draw, draw_inputs = drawn or (
            ProgramDraw(program, arguments, names[index], parents),
            tuple(map(names.index, parents)),
        )
        kernel = TracedKernel(sites[names[index]], part, inputs, draw, draw_inputs, names, parents)
        if names[index] in standard_names:
            place = 2 * standard_names.index(names[index])
            kernel.standard = _standard(standard_parts, place, names, parents)
        kernels[names[index]] = (kernel, parents)
    return kernels


def _is_standard(site: Message) -> bool:
    """Whether a latent statement's law is a location and a scale of its parents away from a shape."""
    law = None if site["is_observed"] else location_scale(site["fn"])
    return law is not None and not law.is_matrix


def _standard(
    standards: CutGraph, place: int, names: list[str], parents: tuple[str, ...]
) -> tuple["PartGraph", "PartGraph"] | None:
    """Recorded location and scale of one statement."""
    parts = []
    for part, inputs in (standards[place], standards[place + 1]):
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

    whole = CutGraph(_recorded(function, values, {}, pure=True))
    parts = {name: whole[index] for index, name in enumerate(computed)}
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

    sees_one_particle = True  # its graphs index as the program does

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
    def recorded_from(self) -> Distribution:
        """The law of a statement as the program gave it."""
        return self.kernel.statement

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
