"""Nodes: the single values of a state (a site at a slice), and which of them a factor reads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from aif_dcpc.inference.model.densities import active_factors, factor_slices
from aif_dcpc.inference.model.factor_graph import Argument, Factor
from aif_dcpc.inference.model.state import State


@dataclass(frozen=True)
class Node:
    """The value of one latent site at one slice of its scope (None without time)."""

    site: str
    index: int | None


def nodes_of(state: State, name: str) -> list[Node]:
    """List the nodes of a site, in the order of time."""
    if state.conditioning.site(name).period is None:
        return [Node(name, None)]
    return [Node(name, index) for index in range(state.values[name].shape[2])]


def node_read(state: State, factor: Factor, argument: Argument, t: int) -> Node:
    """Find the node behind an argument when the factor stands at slice t of its scope."""
    period = state.conditioning.site(argument.site).period
    if period is None:
        return Node(argument.site, None)
    return Node(argument.site, t * (factor.site.period or 1) // period - argument.lag)


def slices_of(state: State, factor: Factor) -> range:
    """List the slices on which a factor stands, 0 alone without time."""
    return range(*factor_slices(state, factor)) if factor.site.period is not None else range(1)


def cliques(state: State, nodes: Mapping[Node, object]) -> Iterator[list[Node]]:
    """Give for every factor at every slice those of the nodes that it reads."""
    for factor in active_factors(state):
        for t in slices_of(state, factor):
            read = [node_read(state, factor, argument, t) for argument in factor.inputs]
            yield [node for node in read if node in nodes]


def moral_graph(state: State, nodes: list[Node]) -> dict[Node, set[Node]]:
    """Find the neighbours of each node: the other nodes that share a factor with it."""
    neighbours: dict[Node, set[Node]] = {node: set() for node in nodes}
    for clique in cliques(state, neighbours):
        link(neighbours, clique)
    return neighbours


def link(neighbours: Mapping[Node, set[Node]], clique: list[Node]) -> None:
    """Make all nodes of a clique neighbours, in place."""
    for a, b in combinations(dict.fromkeys(clique), 2):
        neighbours[a].add(b)
        neighbours[b].add(a)
