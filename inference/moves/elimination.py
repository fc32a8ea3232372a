"""Coupled discrete sites drawn jointly and exactly, by variable elimination and backward draws.

Where a table forbids combinations, as a 0/1 gate does, sites that move one at a time are locked in;
this draws all of them at once from their complete conditional (see `model.elimination`).
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import ClassVar

import networkx as nx
import torch
from torch import Tensor

from aif_dcpc.inference.model.densities import factors_of
from aif_dcpc.inference.model.elimination import MAX_CELLS as MAX_CELLS_ALONE
from aif_dcpc.inference.model.elimination import Elimination, eliminate, obstacle
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.nodes import nodes_of
from aif_dcpc.inference.model.parameters import Snapshot
from aif_dcpc.inference.model.state import State

MAX_CELLS = 2**13  # of the largest table, for each particle
MAX_NODES = 256  # each is eliminated by operations of its own


@dataclass(eq=False)
class JointDiscreteDraw:
    """Redraw some discrete sites jointly given everything else; it is no part of a recorded sweep.

    Attributes:
        sites: latent, with a small finite support, whose events are drawn as a whole.
        kept: the last elimination, which serves as long as what its tables read stays the same.
        snapshot: what kernels depended on then.
    """

    keeps_tables: ClassVar[bool] = True
    sites: tuple[str, ...]
    kept: Elimination | None = field(default=None, repr=False, compare=False)
    snapshot: Snapshot | None = field(default=None, repr=False, compare=False)

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """Draw all sites jointly and exactly; acceptance is 1."""
        now = Snapshot.of(state.conditioning.factor_graph.model)
        is_same = self.kept is not None and now.same(self.snapshot)
        if self.kept is None or not is_same or not self._is_current(self.kept.state, state):
            self.kept = eliminate(state, self.sites)
            self.snapshot = now
        drawn = replace(self.kept, state=state).sample(generator)
        return state.with_values(drawn), state.log_weights.new_ones(())

    def _is_current(self, old: State, new: State) -> bool:
        """Whether two states would give the same tables: all that these read is one and the same tensor."""
        return (
            old.conditioning is new.conditioning
            and old.length == new.length
            and old.inverse_temperature is new.inverse_temperature
            and all(old.values[n] is new.values[n] for n in read_beside(new, self.sites))
            and all(old.masks.get(n) is new.masks.get(n) for n in self.sites)
        )


def read_beside(state: State, sites: Collection[str]) -> set[str]:
    """Name the other sites that the factors of some sites read, their children included."""
    factors = [factor for name in sites for factor in factors_of(state, name)]
    return {argument.site for factor in factors for argument in factor.inputs} - set(sites)


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
        depends = read_beside(state, group) & set(state.conditioning.latent)
        most = MAX_CELLS if depends else MAX_CELLS_ALONE  # without particles: one table, made once
        if len(group) > 1 and few and not obstacle(state, group, most):
            yield tuple(sorted(group, key=state.conditioning.latent.index))


def locked_groups(state: State, names: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Yield the groups without time in which a table forbids combinations, so that no site moves alone.

    Reads numbers: call it where moves are chosen.
    """
    timeless = [n for n in names if state.conditioning.site(n).period is None]
    with no_validation(), torch.no_grad():
        for group in coupled_groups(state, timeless):
            if any(bool(torch.isneginf(t.log_values).any()) for t in eliminate(state, group).steps):
                yield group
