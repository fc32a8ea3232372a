"""One site for the statements of a loop: their densities are evaluated in one batched call.

The statements `pyro.sample(f"z_{i}", ...)` of a loop do the same operations on other numbers. Their recorded
graphs are then one graph, mapped over the statements; what differs is stacked along a new first
axis: their values, the parents that they read, and the constants that they hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.distributions import Distribution, constraints

from aif_dcpc.inference.frontends.pyro_import import TracedKernel
from aif_dcpc.inference.frontends.tensor_graphs import BatchedGraph

OWN = -1  # the place of a loop's own value among the parents of its kernel


@dataclass(frozen=True)
class Element:
    """Where a value stands: in a parent of a kernel, or at one index of a loop's value."""

    place: int
    index: int | None


class Role(nn.Module):
    """What the statements of a loop read as one of their arguments.

    Args:
        sources: for every statement, where its argument stands.
    """

    def __init__(self, sources: Sequence[Element]) -> None:
        super().__init__()
        self.sources = tuple(sources)
        self.is_shared = len(set(self.sources)) == 1 and self.sources[0].place != OWN
        self.is_one_loop = (
            len({s.place for s in self.sources}) == 1 and self.sources[0].index is not None
        )
        index = [s.index or 0 for s in self.sources]
        self.register_buffer("index", torch.tensor(index), persistent=False)

    @property
    def own_indices(self) -> tuple[int | None, ...]:
        """For every statement, which element of the loop itself it reads; None for another site."""
        return tuple(s.index if s.place == OWN else None for s in self.sources)

    @property
    def is_identity(self) -> bool:
        """Whether every statement reads its own value."""
        return self.own_indices == tuple(range(len(self.sources)))

    def forward(self, parents: Sequence[Tensor], own: Tensor) -> Tensor:
        """The argument, `(K, B, *event)` where it is shared, else `(K, B, N, *event)`."""
        if self.is_identity:
            return own
        if self.is_shared:
            return _at(parents, own, self.sources[0])
        if self.is_one_loop:
            place = self.sources[0].place
            index: Any = self.index
            return (own if place == OWN else parents[place]).index_select(2, index)
        parts = [_at(parents, own, source) for source in self.sources]
        lead = torch.broadcast_shapes(*(p.shape[:2] for p in parts))
        return torch.stack([p.expand(*lead, *p.shape[2:]) for p in parts], 2)


def _at(parents: Sequence[Tensor], own: Tensor, source: Element) -> Tensor:
    value = own if source.place == OWN else parents[source.place]
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


class LoopKernel(nn.Module):
    """p(loop | parents): the product of the densities of its statements.

    Args:
        members: the statements' own kernels, in order.
        roles: for every argument of their densities, where the statements find it.
        draws: for every statement, where it finds the parents of its draw.
    """

    def __init__(
        self,
        members: Sequence[TracedKernel],
        roles: Sequence[Role],
        draws: Sequence[Sequence[Element]],
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.roles = nn.ModuleList(roles)
        self.draws = draws
        graphs: list[Any] = [member.density.graph for member in members]
        self.density = BatchedGraph(Stacked(graphs, [role.is_shared for role in roles]))
        self.statement: Distribution = members[0].statement
        self.plates = (len(members), *members[0].plates)
        self.event = tuple(members[0].event)
        self.is_chain = any(
            not role.is_identity and any(i is not None for i in role.own_indices) for role in roles
        )

    def forward(self, *parents: Tensor) -> "LoopDistribution":
        """The loop's distribution given parents `(K, B, *shape)`."""
        return LoopDistribution(
            self, parents, torch.broadcast_shapes(*(p.shape[:2] for p in parents))
        )

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
        modules: list[Any] = list(self.roles)
        arguments = [r(parents, value if r.is_identity else read) for r in modules]
        found: Tensor = self.density(*arguments)
        return found


class LoopDistribution(Distribution):
    """The joint distribution of a loop's statements for a whole cloud.

    Independent statements form the batch shape `(K, B, N, *plates)`; where statements read earlier
    ones, the whole loop is one event.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012

    def __init__(
        self, kernel: LoopKernel, parents: tuple[Tensor, ...], cloud_shape: torch.Size
    ) -> None:
        self.kernel = kernel
        self.parents = parents
        self.cloud_shape = cloud_shape  # (K, B), or () for a root
        batch = () if kernel.is_chain else kernel.plates
        event = (*kernel.plates, *kernel.event) if kernel.is_chain else kernel.event
        super().__init__(cloud_shape + batch, torch.Size(event), validate_args=False)

    @property
    def support(self) -> constraints.Constraint | None:  # type: ignore[override]
        """The statements' support, that of one element."""
        support: constraints.Constraint | None = self.kernel.statement.support
        if isinstance(support, constraints.MixtureSameFamilyConstraint):
            return support.base_constraint
        return support

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
        own = 0 if self.kernel.is_chain else len(self.kernel.plates)
        return LoopDistribution(self.kernel, self.parents, shape[: len(shape) - own])

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of `(K, B, N, *plates, *event)`: of every statement, or of the whole chain."""
        found = self.log_probs(value)
        return found.flatten(2).sum(2) if self.kernel.is_chain else found

    def log_probs(self, value: Tensor) -> Tensor:
        """Log density of every statement, `(K, B, N, *plates)`."""
        return self.kernel.log_probs(self.parents, value)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw one statement after the other, `(K, B, N, *plates, *event)`."""
        found: list[Tensor] = []
        for member, sources in zip(self.kernel.members, self.kernel.draws, strict=True):
            given = [self._value(source, found) for source in sources]
            law = member(*given) if given else member()
            head = torch.Size(sample_shape) + self.cloud_shape
            found.append(law.expand((*head, *member.plates)).sample())  # type: ignore[misc]
        return torch.stack(found, len(sample_shape) + len(self.cloud_shape))

    def _value(self, source: Element, found: Sequence[Tensor]) -> Tensor:
        if source.place == OWN:
            return found[source.index or 0]
        value = self.parents[source.place]
        return value if source.index is None else value.select(2, source.index)
