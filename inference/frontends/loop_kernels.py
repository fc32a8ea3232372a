"""One site for the statements of a loop: their densities are evaluated in one batched call.

The statements `pyro.sample(f"z_{i}", ...)` of a loop do the same operations on other numbers. Their recorded
graphs are then one graph, mapped over the statements; what differs is stacked along a new first
axis: their values, the parents that they read, and the constants that they hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.distributions import Distribution, Independent, constraints

from aif_dcpc.inference.frontends.pyro_import import TracedKernel
from aif_dcpc.inference.frontends.tensor_graphs import BatchedGraph
from aif_dcpc.inference.model.location_scale import LocationScale

OWN = -1  # the place of a loop's own value among the parents of its kernel
MOST_RUNS = 4  # slices that are joined rather than gathered


@dataclass(frozen=True)
class Element:
    """Where a value stands: in a parent of a kernel, or at one index of a loop's value."""

    place: int
    index: int | None


@dataclass(frozen=True)
class Run:
    """Elements of one value that statements one after the other read, at steps of one size."""

    place: int
    start: int | None
    step: int
    size: int

    def follows(self, source: Element) -> bool:
        """Whether an element is the next of this run."""
        if source.index is None or self.start is None or source.place != self.place:
            return False
        return source.index == self.start + self.step * self.size or (
            self.size == 1 and source.index > self.start
        )

    def grown(self, source: Element) -> "Run":
        """The run with one element more."""
        if self.size > 1:
            return replace(self, size=self.size + 1)
        return replace(self, size=2, step=(source.index or 0) - (self.start or 0))

    def read(self, value: Tensor) -> Tensor:
        """The elements, `(K, B, size, *event)`."""
        if self.start is None:
            return value.unsqueeze(2)
        return value[:, :, self.start : self.start + self.step * self.size : self.step]


def _runs(sources: Sequence[Element]) -> tuple[Run, ...]:
    found: list[Run] = []
    for source in sources:
        if found and found[-1].follows(source):
            found[-1] = found[-1].grown(source)
        else:
            found.append(Run(source.place, source.index, 1, 1))
    return tuple(found)


class Role(nn.Module):
    """What the statements of a loop read as one of their arguments.

    Args:
        sources: for every statement, where its argument stands.
        own: where the values of the statements themselves stand.
    """

    def __init__(self, sources: Sequence[Element], own: Sequence[Element]) -> None:
        super().__init__()
        self.sources = tuple(sources)
        self.is_shared = len(set(self.sources)) == 1 and self.sources[0].place != OWN
        self.is_value = self.sources == tuple(own)
        self.reads_own = any(s.place == OWN for s in self.sources)
        self.runs = _runs(self.sources)
        index = [s.index or 0 for s in self.sources]
        self.register_buffer("index", torch.tensor(index), persistent=False)

    def forward(self, parents: Sequence[Tensor], own: Tensor) -> Tensor:
        """The argument, `(K, B, *event)` where it is shared, else `(K, B, N, *event)`."""
        if self.is_shared:
            return _at(parents, own, self.sources[0])
        places = {run.place for run in self.runs}
        if len(self.runs) > len(places) + MOST_RUNS and len(places) == 1:
            index: Any = self.index
            return _whole(parents, own, self.sources[0].place).index_select(2, index)
        parts = [run.read(_whole(parents, own, run.place)) for run in self.runs]
        return _joined(parts)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Elements one after the other, `(K, B, N, *event)`."""
    if len(parts) == 1:
        return parts[0]
    lead = torch.broadcast_shapes(*(p.shape[:2] for p in parts))
    return torch.cat([p.expand(*lead, *p.shape[2:]) for p in parts], 2)


def _whole(parents: Sequence[Tensor], own: Tensor, place: int) -> Tensor:
    return own if place == OWN else parents[place]


def _at(parents: Sequence[Tensor], own: Tensor, source: Element) -> Tensor:
    value = _whole(parents, own, source.place)
    return value if source.index is None else value.select(2, source.index)


class Stacked(nn.Module):
    """The graphs of all statements as one, mapped over what differs from statement to statement.

    Args:
        graphs: recorded densities that do the same operations.
        shared: for every argument, whether all statements read the same.
    """

    def __init__(self, graphs: Sequence[fx.GraphModule], shared: Sequence[bool]) -> None:
        super().__init__()
        differing = _differing_constants(graphs)
        self.graph = _with_arguments(graphs[0], [nodes[0] for nodes in differing])
        for number, nodes in enumerate(differing):
            values = [_constant(g, n) for g, n in zip(graphs, nodes, strict=True)]
            self.register_buffer(f"constant_{number}", torch.stack(values), persistent=False)
        self.num_constants = len(differing)
        self.in_dims = (0,) * len(differing) + tuple(None if s else 0 for s in shared)
        self.size = len(graphs)

    def forward(self, *arguments: Tensor) -> Tensor:
        """Log densities of all statements at values of one particle, `(N, *plates)` nats."""
        constants = [getattr(self, f"constant_{i}") for i in range(self.num_constants)]
        if not any(dim == 0 for dim in self.in_dims):
            found: Tensor = self.graph(*arguments)
            return found.expand(self.size, *found.shape)
        mapped: Tensor = torch.vmap(self.graph, in_dims=self.in_dims)(*constants, *arguments)
        return mapped


def _differing_constants(graphs: Sequence[fx.GraphModule]) -> list[tuple[fx.Node, ...]]:
    held = [[n for n in g.graph.nodes if n.op == "get_attr"] for g in graphs]
    found = []
    for nodes in zip(*held, strict=True):
        values = [_constant(g, n) for g, n in zip(graphs, nodes, strict=True)]
        if any(not torch.equal(values[0], v) for v in values[1:]):
            found.append(nodes)
    return found


def _constant(graph: fx.GraphModule, node: fx.Node) -> Tensor:
    value: Tensor = getattr(graph, str(node.target))
    return value


def _with_arguments(module: fx.GraphModule, constants: Sequence[fx.Node]) -> fx.GraphModule:
    """Make the given constants of a graph its first arguments."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(f"constant_{i}") for i, node in enumerate(constants)}
    for node in module.graph.nodes:
        if node not in copies:
            copies[node] = graph.node_copy(node, lambda n: copies[n])
    return fx.GraphModule(module, graph)


class Alike(nn.Module):
    """A recorded quantity of statements that do the same operations, in one batched call.

    Args:
        graphs: of single statements.
        roles: for every argument, where the statements find it.
    """

    def __init__(self, graphs: Sequence[Any], roles: Sequence[Role]) -> None:
        super().__init__()
        self.roles = nn.ModuleList(roles)
        self.graph = BatchedGraph(Stacked(graphs, [role.is_shared for role in roles]))

    @property
    def reads_own(self) -> bool:
        """Whether some statement reads its own loop, its own value aside."""
        roles: list[Any] = list(self.roles)
        return any(role.reads_own and not role.is_value for role in roles)

    def forward(self, parents: Sequence[Tensor], value: Tensor, previous: Tensor) -> Tensor:
        """The quantity of every statement, `(K or 1, B or 1, N, *shape)`.

        Args:
            parents: values of the parents.
            value: of the loop, `(K, B, N, *plates, *event)`.
            previous: what a statement reads of its own loop.
        """
        roles: list[Any] = list(self.roles)
        arguments = [r(parents, value if r.is_value else previous) for r in roles]
        found: Tensor = self.graph(*arguments)
        return found


class Group(nn.Module):
    """The statements of a loop that do the same operations.

    Args:
        positions: of the statements in the loop.
        density: their log densities.
        scale: of their laws in unconstrained coordinates, where these have one.
        location: the same; of the first statement alone where others read their own loop.
    """

    def __init__(
        self,
        positions: Sequence[int],
        density: Alike,
        scale: Alike | None,
        location: Alike | None,
    ) -> None:
        super().__init__()
        self.positions = tuple(positions)
        self.density = density
        self.scale = scale
        self.location = location


class LoopKernel(nn.Module):
    """p(loop | parents): the product of the densities of its statements.

    Args:
        members: the statements' own kernels, in order.
        groups: the same by what they do.
        draws: for every statement, where it finds the parents of its draw.
    """

    sees_one_particle = True  # its graphs index as the program does

    def __init__(
        self,
        members: Sequence[TracedKernel],
        groups: Sequence[Group],
        draws: Sequence[Sequence[Element]],
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.groups = nn.ModuleList(groups)
        self.draws = draws
        self.statement: Distribution = members[0].statement
        self.plates = (len(members), *members[0].plates)
        self.event = tuple(members[0].event)
        self.is_chain = any(group.density.reads_own for group in groups)
        order = torch.tensor([i for group in groups for i in group.positions]).argsort()
        self.register_buffer("order", order, persistent=False)

    def forward(self, *parents: Tensor) -> Distribution:
        """The loop's distribution given parents `(K, B, *shape)`; a chain is one event."""
        cloud_shape = torch.broadcast_shapes(*(p.shape[:2] for p in parents))
        law = LoopDistribution(self, parents, cloud_shape)
        return Independent(law, len(self.plates)) if self.is_chain else law

    def log_probs(
        self, parents: Sequence[Tensor], value: Tensor, previous: Tensor | None = None
    ) -> Tensor:
        """Log densities of all statements, `(K, B, N, *plates)` nats.

        Args:
            parents: values of the parents.
            value: of the loop, `(K, B, N, *plates, *event)`.
            previous: what a statement reads of its own loop; `value` itself by default.
        """
        read = value if previous is None else previous
        groups: list[Any] = list(self.groups)
        return self._in_order([group.density(parents, value, read) for group in groups])

    def _in_order(self, parts: Sequence[Tensor]) -> Tensor:
        """Quantities of all statements in the order of the program."""
        if len(parts) == 1:
            return parts[0]
        order: Any = self.order
        return _joined(parts).index_select(2, order)

    def location_scale(self, parents: Sequence[Tensor]) -> LocationScale | None:
        """Location and scale of the statements in unconstrained coordinates, where they have both.

        Those of a chain are of its path as a whole: from where it starts, in units of single steps.
        """
        groups: list[Any] = list(self.groups)
        if any(group.scale is None for group in groups):
            return None
        nothing = torch.zeros(())  # is not read: no scale and no location reads its own loop
        scales = [group.scale(parents, nothing, nothing) for group in groups]
        locations = [
            torch.zeros_like(scale)
            if group.location is None
            else torch.broadcast_tensors(group.location(parents, nothing, nothing), scale)[0]
            for group, scale in zip(groups, scales, strict=True)
        ]
        return LocationScale(self._in_order(locations), self._in_order(scales))


class LoopDistribution(Distribution):
    """The distribution of a loop's statements for a whole cloud, batch shape `(K, B, N, *plates)`."""

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012

    def __init__(
        self, kernel: LoopKernel, parents: tuple[Tensor, ...], cloud_shape: torch.Size
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
        """The statements' support, that of one element."""
        support: constraints.Constraint | None = self.kernel.statement.support
        if isinstance(support, constraints.MixtureSameFamilyConstraint):
            return support.base_constraint
        return support

    def location_scale(self) -> LocationScale | None:
        """Location and scale in unconstrained coordinates (see `LoopKernel`)."""
        return self.kernel.location_scale(self.parents)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Whether the values of an element are finitely many; a chain is no single element."""
        return not self.kernel.is_chain and bool(self.kernel.statement.has_enumerate_support)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values of one element."""
        return self.kernel.statement.enumerate_support(expand=expand)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "LoopDistribution":
        """The same for other leading axes."""
        shape = torch.Size(batch_shape)
        return LoopDistribution(
            self.kernel, self.parents, shape[: len(shape) - len(self.kernel.plates)]
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of every statement at `(K, B, N, *plates, *event)`, `(K, B, N, *plates)` nats."""
        return self.kernel.log_probs(self.parents, value)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw one statement after the other, `(K, B, N, *plates, *event)`."""
        found: list[Tensor] = []
        head = (*sample_shape, *self.cloud_shape)
        members: list[Any] = list(self.kernel.members)
        for index, member in enumerate(members):
            law = self.statement(index, found)
            found.append(law.expand((*head, *member.plates)).sample())  # type: ignore[no-untyped-call]
        return torch.stack(found, len(sample_shape) + len(self.cloud_shape))

    def statement(self, index: int, values: Sequence[Tensor]) -> Distribution:
        """The law of one statement given the values of those before it."""
        given = [self._value(source, values) for source in self.kernel.draws[index]]
        member: Any = self.kernel.members[index]
        law: Distribution = member(*given).expand((*self.cloud_shape, *member.plates))
        return law

    def _value(self, source: Element, values: Sequence[Tensor]) -> Tensor:
        if source.place == OWN:
            return values[source.index or 0]
        value = self.parents[source.place]
        return value if source.index is None else value.select(2, source.index)
