"""Variable elimination: discrete latents summed out exactly, whatever couples them, or drawn exactly.

Given all other latents, the law of sites with a small finite support is a product of tables, one
for each factor at each slice, read off the kernels. Nodes are eliminated one after the other, the
one whose neighbours lack the fewest links first (min-fill), each by a log-sum-exp over the product
of the tables that hold it. The cost is that of the largest product, exponential in the width of the
graph: `obstacle` says beforehand where that is too much.

What a kernel gives probability zero is impossible here: torch's own `log_prob` of `Bernoulli` and
`Categorical` gives it about 1e-7.

    >>> import torch
    >>> from torch.distributions import Bernoulli
    >>> from aif_dcpc.inference import DCPC, GraphicalModel
    >>> model = GraphicalModel()
    >>> model.add_site("rain", lambda: Bernoulli(torch.tensor(0.2)))
    >>> model.add_site("wet", lambda rain: Bernoulli(rain), parents=["rain"])
    >>> state = DCPC(model).init({"wet": torch.tensor([1.0, 0.0])}, seed=0)
    >>> own, shared = eliminate(state, {"rain"}).log_normaliser()
    >>> (own + shared)[0].exp().float()
    tensor([0.2000, 0.8000])

References: Koller and Friedman 2009, chapter 9.
"""

import heapq
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.model.densities import active_factors, factor_slices, log_density
from aif_dcpc.inference.model.draws import gumbel_argmax
from aif_dcpc.inference.model.factor_graph import Argument, Factor, align
from aif_dcpc.inference.model.nodes import Node, link, moral_graph, node_read, nodes_of, slices_of
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.model.supports import exact_log_prob

MAX_CELLS = 2**16


@dataclass(frozen=True)
class Table:
    """Log potentials of some nodes.

    Attributes:
        nodes: in the order of the axes.
        log_values: `(K or 1, B or 1, M_1, .., M_n)` nats, minus infinity where impossible.
    """

    nodes: tuple[Node, ...]
    log_values: Tensor

    def laid_out(self, nodes: tuple[Node, ...]) -> Tensor:
        """Lay the axes along those of more nodes, size 1 for nodes that are not here."""
        order = sorted(range(len(self.nodes)), key=lambda i: nodes.index(self.nodes[i]))
        values = self.log_values.permute(0, 1, *(2 + i for i in order))
        held = set(self.nodes)
        sizes = iter(values.shape[2:])
        return values.reshape(*values.shape[:2], *(next(sizes) if n in held else 1 for n in nodes))


@dataclass(frozen=True)
class Elimination:
    """Tables of a set of sites, eliminated.

    Attributes:
        state: whose sites they are.
        steps: a table for each node as it was eliminated: the node's axis first, then those of the
            nodes that go later.
        own: `(K or 1, B or 1)` nats, what is left of tables of single data.
        shared: `(K or 1, 1)` nats, what is left of tables of global nodes, data summed.
    """

    state: State
    steps: tuple[Table, ...]
    own: Tensor
    shared: Tensor

    def log_normaliser(self) -> tuple[Tensor, Tensor]:
        """Sum over all values of the sites of the densities of all factors around them.

        Returns:
            `(K, B)` nats of single data and `(K, 1)` of all together; minus infinity where the rest
                of the state is impossible.
        """
        state = self.state
        number = state.num_particles
        return self.own.expand(number, state.batch_size), self.shared.expand(number, 1)

    def sample(self, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Draw all sites jointly, exactly, backwards through the steps; `(K, B, [T])` by site."""
        drawn: dict[Node, Tensor] = {}
        for table in reversed(self.steps):
            node = table.nodes[0]
            batch = self.state.values[node.site].shape[1]
            values = table.log_values.expand(
                self.state.num_particles, batch, *table.log_values.shape[2:]
            )
            for other in reversed(table.nodes[1:]):
                index = drawn[other].expand(values.shape[:2])
                values = _taken(values, index)
            drawn[node] = gumbel_argmax(values, generator)
        return self._values(drawn)

    def _values(self, drawn: Mapping[Node, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name in dict.fromkeys(node.site for node in drawn):
            indices = [drawn[node] for node in nodes_of(self.state, name)]
            timed = self.state.conditioning.site(name).period is not None
            index = torch.stack(indices, 2) if timed else indices[0]
            found[name] = self.state.conditioning.supports[name][index]
        return found


def _taken(values: Tensor, index: Tensor) -> Tensor:
    """Take an entry `(K, B)` along the last axis of `(K, B, .., M)`."""
    wide = index.reshape(*index.shape, *[1] * (values.ndim - 2))
    return values.gather(-1, wide.expand(*values.shape[:-1], 1)).squeeze(-1)


def obstacle(state: State, names: Collection[str], max_cells: int = MAX_CELLS) -> str:
    """Say why sites cannot be eliminated; "" where they can."""
    for name in sorted(names):
        support = state.conditioning.supports.get(name)
        event = state.values[name].shape[state.conditioning.site(name).batch_ndim :]
        if support is None or event != support.shape[1:]:
            return f"site {name!r} has no small table of values to sum out."
    cells = largest_table(state, names)
    if cells > max_cells:
        return (
            f"discrete sites {', '.join(map(repr, sorted(names)))} are coupled in a table of {cells} "
            f"values (at most {max_cells}): too many to be summed out."
        )
    return ""


def largest_table(state: State, names: Collection[str]) -> int:
    """Count the values of the largest table that eliminating the sites makes, 1 where there is none."""
    sizes = {name: len(state.conditioning.supports[name]) for name in names}
    steps = _order(state, names)
    return max((math.prod(sizes[n.site] for n in (node, *rest)) for node, rest in steps), default=1)


def eliminate(state: State, names: Collection[str]) -> Elimination:
    """Eliminate discrete sites given all others (see `obstacle`).

    Args:
        state: the cloud.
        names: latent sites with a finite support, whose events are drawn as a whole.
    """
    waiting: dict[Node, list[Table]] = {}
    order = _order(state, names)
    rank = {node: i for i, (node, _) in enumerate(order)}
    for table in [*_factor_tables(state, names), *_observed_tables(state, names)]:
        waiting.setdefault(min(table.nodes, key=rank.__getitem__), []).append(table)
    own = state.log_weights.new_zeros(1, 1).double()
    shared = own
    steps = []
    for node, _ in order:
        is_global = state.conditioning.site(node.site).scope == "global"
        table = _product(node, waiting.pop(node, []), rank, is_global=is_global, state=state)
        steps.append(table)
        rest = Table(table.nodes[1:], torch.logsumexp(table.log_values, 2))
        if rest.nodes:
            waiting.setdefault(min(rest.nodes, key=rank.__getitem__), []).append(rest)
        elif is_global:
            shared = shared + rest.log_values
        else:
            own = own + rest.log_values
    return Elimination(state, tuple(steps), own, shared)


def _product(
    node: Node, tables: list[Table], rank: Mapping[Node, int], *, is_global: bool, state: State
) -> Table:
    """Add the tables that hold a node; data are summed where the node is global."""
    held = {n for table in tables for n in table.nodes} | {node}
    nodes = tuple(sorted(held, key=rank.__getitem__))
    sizes = [len(state.conditioning.supports[n.site]) if n == node else 1 for n in nodes]
    total = state.log_weights.new_zeros(1, 1, *sizes).double()
    for table in tables:
        values = table.log_values
        if is_global:
            values = values.sum(1, keepdim=True)
        total = total + Table(table.nodes, values).laid_out(nodes)
    return Table(nodes, total)


# -- order -----------------------------------------------------------------------------------------


def _order(state: State, names: Collection[str]) -> list[tuple[Node, tuple[Node, ...]]]:
    """Order the nodes by min-fill, global ones last, each with its neighbours when it goes."""
    nodes = [node for name in sorted(names) for node in nodes_of(state, name)]
    neighbours = moral_graph(state, nodes)
    position = {node: i for i, node in enumerate(nodes)}

    def cost(node: Node) -> tuple[bool, int, int]:
        is_global = state.conditioning.site(node.site).scope == "global"
        return is_global, _missing_links(neighbours, node), position[node]

    heap = [(cost(node), node) for node in nodes]
    heap.sort(key=lambda item: item[0])
    queue = [(price, position[node]) for price, node in heap]
    order = []
    while neighbours:
        price, place = heapq.heappop(queue)
        node = nodes[place]
        if node not in neighbours or price != cost(node):
            continue
        others = neighbours.pop(node)
        for other in others:
            neighbours[other].discard(node)
        link(neighbours, list(others))
        for near in others.union(*(neighbours[other] for other in others)):
            heapq.heappush(queue, (cost(near), position[near]))
        order.append((node, tuple(others)))
    return order


def _missing_links(neighbours: Mapping[Node, set[Node]], node: Node) -> int:
    """Count pairs of a node's neighbours that are not neighbours of each other."""
    around = neighbours[node]
    present = sum(len(neighbours[other] & around) for other in around)
    return (len(around) * (len(around) - 1) - present) // 2


# -- tables ----------------------------------------------------------------------------------------


def _factor_tables(state: State, names: Collection[str]) -> Iterator[Table]:
    """Tabulate every factor that reads one of the sites, slice by slice."""
    for factor in active_factors(state):
        arguments = tuple(a for a in factor.inputs if a.site in names)
        if not arguments:
            continue
        table = _tabulate(state, factor, arguments).double()
        slices = slices_of(state, factor)
        parts = table.unbind(2) if factor.site.period is not None else (table,)
        for t, part in zip(slices, parts, strict=True):
            yield Table(tuple(node_read(state, factor, a, t) for a in arguments), part)


def _tabulate(state: State, factor: Factor, arguments: tuple[Argument, ...]) -> Tensor:
    """Evaluate a factor at all values of some arguments, `(K or 1, B or 1, [T,] M_1, .., M_n)`."""
    supports = [state.conditioning.supports[a.site] for a in arguments]
    sizes = [len(support) for support in supports]
    axes = [torch.arange(size, device=state.log_weights.device) for size in sizes]
    grid = torch.cartesian_prod(*axes).reshape(-1, len(axes))
    start, stop = factor_slices(state, factor)
    others = {}
    for argument in factor.inputs:
        if argument not in arguments:
            own = state.conditioning.site(argument.site)
            value = state.values[argument.site]
            others[argument] = align(value, own, argument, factor.site, start, stop)
    particles = max((x.shape[0] for x in others.values()), default=1)
    batch = max((x.shape[1] for x in others.values()), default=1)
    time = () if factor.site.period is None else (stop - start,)
    # all particles at the first cell, then all at the second
    aligned = {
        argument: x.expand(particles, *x.shape[1:]).repeat(len(grid), *[1] * (x.ndim - 1))
        for argument, x in others.items()
    }
    for column, argument in enumerate(arguments):
        values = supports[column][grid[:, column]].repeat_interleave(particles, 0)
        event = values.shape[1:]
        values = values.reshape(len(values), 1, *[1] * len(time), *event)
        aligned[argument] = values.expand(len(values), batch, *time, *event)
    log_prob = log_density(state, factor, aligned, start, stop, density=exact_log_prob)
    log_prob = log_prob.expand(len(grid) * particles, *log_prob.shape[1:])
    return log_prob.unflatten(0, (len(grid), particles)).movedim(0, -1).unflatten(-1, sizes)


def _observed_tables(state: State, names: Collection[str]) -> Iterator[Table]:
    """Exclude all values but the observed one where a partly observed site is observed."""
    for name in names:
        mask = state.masks.get(name)
        if mask is None:
            continue
        site = state.conditioning.site(name)
        same = (
            state.values[name][:1].unsqueeze(site.batch_ndim) == state.conditioning.supports[name]
        )
        same = (
            same.flatten(site.batch_ndim + 1).all(-1) if same.ndim > site.batch_ndim + 1 else same
        )
        log_values = torch.where(mask.unsqueeze(-1) & ~same, -torch.inf, 0.0).double()
        for i, node in enumerate(nodes_of(state, name)):
            yield Table((node,), log_values if node.index is None else log_values[:, :, i])
