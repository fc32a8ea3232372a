"""Coupled discrete sites drawn jointly and exactly, by variable elimination and backward draws.

Where a table forbids combinations, as a 0/1 gate does, sites that move one at a time are locked in;
this draws all of them at once from their complete conditional (see `model.elimination`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import networkx as nx
import torch
from torch import Tensor

from aif_dcpc.inference.model.densities import factors_of
from aif_dcpc.inference.model.elimination import eliminate, obstacle
from aif_dcpc.inference.model.nodes import nodes_of
from aif_dcpc.inference.model.state import State

MAX_CELLS = 2**13  # of the largest table, for each particle
MAX_NODES = 256  # each is eliminated by operations of its own


@dataclass(frozen=True)
class JointDiscreteDraw:
    """Redraw some discrete sites jointly given everything else.

    Attributes:
        sites: latent, with a small finite support, whose events are drawn as a whole.
    """

    sites: tuple[str, ...]

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """Draw all sites jointly and exactly; acceptance is 1."""
        drawn = eliminate(state, self.sites).sample(generator)
        return state.with_values(drawn), state.log_weights.new_ones(())


def coupled_groups(state: State, names: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Yield the groups of at least two discrete sites that share factors and can be eliminated."""
    tabular = [n for n in names if n in state.conditioning.supports and not obstacle(state, {n})]
    graph = nx.Graph()
    graph.add_nodes_from(tabular)
    for name in tabular:
        for factor in factors_of(state, name):
            read = {a.site for a in factor.inputs} & set(tabular)
            graph.add_edges_from(combinations(sorted(read), 2))
    for group in nx.connected_components(graph):
        few = sum(len(nodes_of(state, name)) for name in group) <= MAX_NODES
        if len(group) > 1 and few and not obstacle(state, group, MAX_CELLS):
            yield tuple(sorted(group, key=state.conditioning.latent.index))
