"""A Gauss-Markov proposal fitted to particles: the posterior's Gaussian twin on the triangulated moral graph.

Every value of every continuous latent (a site at a slice) is a *node*, in unconstrained
coordinates. Nodes that share a factor are linked; eliminating nodes from the last slice backwards
links what remains (triangulation), and each node gets a linear-Gaussian conditional on its
remaining neighbours, by regression on the particles. For a time series these are adjacent slices,
so fitting, sampling and density cost time linear in T. Noise is Student-t, so that tails are
covered.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.model.densities import SPLIT
from aif_dcpc.inference.model.nodes import Node, link, moral_graph, nodes_of
from aif_dcpc.inference.model.state import State

RIDGE = 1e-6


@dataclass(frozen=True)
class Conditional:
    """Node given its parents in the proposal: Student-t around an affine mean.

    `B` is 1 for global sites.

    Attributes:
        node: the node.
        parents: nodes drawn before it.
        mean, centre: `(B, D)` and `(B, P)`, means of the node and of its parents.
        gain: `(B, P, D)`, regression coefficients.
        root: `(B, D, D)`, lower Cholesky factor of the residual covariance.
        free: `(B,)` False where the node is observed (partly observed sites).
        shape: event shape of the site.
    """

    node: Node
    parents: tuple[Node, ...]
    mean: Tensor
    centre: Tensor
    gain: Tensor
    root: Tensor
    free: Tensor
    shape: tuple[int, ...]


class GaussMarkov:
    """Fit to particles, sample, and evaluate.

    Args:
        state: gives the graph, the observed values and the device.
        samples: site -> `(N, B or 1, [T,] *event)` approximate posterior draws in unconstrained
            coordinates, of every continuous latent.
    """

    def __init__(self, state: State, samples: Mapping[str, Tensor]) -> None:
        self.state = state
        self.samples = samples
        nodes = _nodes(state, tuple(samples))
        parents = _triangulated(state, nodes)
        self.conditionals = tuple(self._fit(node, parents[node]) for node in nodes)
        size = sum(c.mean.shape[-1] for c in self.conditionals)
        # each node costs about 1 / freedom^2 nats: many nodes want thin tails
        self.freedom = 5.0 + math.sqrt(size)

    def _column(self, values: Mapping[str, Tensor], node: Node) -> Tensor:
        """One node's values, `(N, B or 1, D)` in double precision."""
        value = values[node.site] if node.index is None else values[node.site][:, :, node.index]
        return value.reshape(*value.shape[:2], -1).double()

    def _joined(self, columns: list[Tensor], like: Tensor) -> Tensor:
        """Values of several nodes side by side, `(N, B or 1, P)`."""
        if not columns:
            return like.new_zeros(*like.shape[:2], 0)
        batch = max(like.shape[1], *(c.shape[1] for c in columns))
        return torch.cat([c.expand(-1, batch, -1) for c in columns], -1)

    def _fit(self, node: Node, parents: tuple[Node, ...]) -> Conditional:
        """Regress a node on its parents over the particles."""
        y = self._column(self.samples, node)
        x = self._joined([self._column(self.samples, p) for p in parents], y)
        mean = y.mean(0)
        centre = x.mean(0)
        dx = x - centre
        dy = y - mean
        xx = torch.einsum("nbi,nbj->bij", dx, dx) / len(y)
        xy = torch.einsum("nbi,nbj->bij", dx, dy) / len(y)
        scale = xx.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12)
        gain = torch.linalg.solve(xx + torch.diag_embed(RIDGE * scale), xy)
        rest = dy - torch.einsum("nbi,bij->nbj", dx, gain)
        covariance = torch.einsum("nbi,nbj->bij", rest, rest) / max(len(y) - x.shape[-1] - 1, 1)
        variance = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12)
        return Conditional(
            node=node,
            parents=parents,
            mean=mean,
            centre=centre,
            gain=gain,
            root=torch.linalg.cholesky(covariance + torch.diag_embed(RIDGE * variance + 1e-12)),
            free=self._free(node, y),
            shape=tuple(self.samples[node.site].shape[2 if node.index is None else 3 :]),
        )

    def _free(self, node: Node, like: Tensor) -> Tensor:
        """`(B or 1,)` False where the node is observed."""
        mask = self.state.masks.get(node.site)
        if mask is None:
            return torch.ones(like.shape[1], dtype=torch.bool, device=like.device)
        if mask.ndim > self.state.conditioning.site(node.site).batch_ndim:
            raise ModelError(
                f"site {node.site!r}: the evidence cannot tell elements of a latent's event "
                f"apart; {SPLIT}"
            )
        return ~(mask[0] if node.index is None else mask[0, :, node.index])

    def sample(self, number: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Draw `number` joint values.

        Returns:
            site -> `(number, B or 1, [T,] *event)` in the state's precision; log density of the
                nodes that differ between data `(number, B)`; log density of the global ones
                `(number, 1)`.
        """
        drawn: dict[Node, Tensor] = {}
        device = self.state.log_weights.device
        own = torch.zeros(number, self.state.batch_size, device=device).double()
        shared = torch.zeros_like(own[:, :1])
        for c in self.conditionals:
            drawn[c.node], log_prob = self._draw(c, drawn, number)
            if self.state.conditioning.site(c.node.site).scope == "global":
                shared = shared + log_prob
            else:
                own = own + log_prob
        return self._stacked(drawn), own, shared

    def _draw(
        self, c: Conditional, drawn: Mapping[Node, Tensor], number: int
    ) -> tuple[Tensor, Tensor]:
        """Draw one node given its parents, `(number, B or 1, D)`, and its log density, 0 where it is observed."""
        mean = self._mean(c, drawn, number)
        size = c.mean.shape[-1]
        freedom = torch.full((number, c.mean.shape[0], 1), self.freedom).to(mean)
        chi = torch.distributions.Chi2(freedom).sample() / freedom
        noise = torch.randn_like(mean) * chi.rsqrt()
        value = mean + torch.einsum("bij,nbj->nbi", c.root, noise)
        observed = self._column(self.state.values, c.node)[:1]
        observed = observed.expand(1, *value.shape[1:]) if size else value
        value = torch.where(c.free[:, None], value, observed)
        return value, self._node_log_prob(c, noise)

    def _mean(self, c: Conditional, values: Mapping[Node, Tensor], number: int) -> Tensor:
        """A node's mean given its parents, `(number, B or 1, D)`."""
        like = c.mean.expand(number, *c.mean.shape)
        x = self._joined([values[p] for p in c.parents], like)
        return c.mean + torch.einsum("nbi,bij->nbj", x - c.centre, c.gain)

    def _node_log_prob(self, c: Conditional, noise: Tensor) -> Tensor:
        """Log density of a node by its standardised noise `(N, B, D)`, 0 where it is observed."""
        log_root = c.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_prob = _student_log_prob(noise, self.freedom) - log_root
        return torch.where(c.free, log_prob, torch.zeros_like(log_prob))

    def log_prob(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Log density at given values, those of `sample`: of the data's own nodes, of the global ones.

        Args:
            values: site -> `(N, B or 1, [T,] *event)`, unconstrained coordinates.
        """
        nodes = {c.node: self._column(values, c.node) for c in self.conditionals}
        number = len(next(iter(nodes.values())))
        device = self.state.log_weights.device
        own = torch.zeros(number, self.state.batch_size, device=device).double()
        shared = torch.zeros_like(own[:, :1])
        for c in self.conditionals:
            rest = nodes[c.node] - self._mean(c, nodes, number)
            noise = torch.linalg.solve_triangular(c.root, rest.unsqueeze(-1), upper=False)
            log_prob = self._node_log_prob(c, noise.squeeze(-1))
            if self.state.conditioning.site(c.node.site).scope == "global":
                shared = shared + log_prob
            else:
                own = own + log_prob
        return own, shared

    def _stacked(self, drawn: Mapping[Node, Tensor]) -> dict[str, Tensor]:
        """Node values back into one tensor per site."""
        columns: dict[str, list[Tensor]] = {}
        shapes = {c.node.site: c.shape for c in self.conditionals}
        for node, value in sorted(drawn.items(), key=lambda item: item[0].index or 0):
            columns.setdefault(node.site, []).append(value)
        found = {}
        for name, parts in columns.items():
            timeless = self.state.conditioning.site(name).period is None
            whole = parts[0] if timeless else torch.stack(parts, 2)
            whole = whole.reshape(*whole.shape[:-1], *shapes[name])
            found[name] = whole.to(self.samples[name].dtype)
        return found


def _student_log_prob(noise: Tensor, freedom: float) -> Tensor:
    """Log density of a standard multivariate Student-t, `(N, B, D)` to `(N, B)`."""
    size = noise.shape[-1]
    constant = (
        math.lgamma((freedom + size) / 2)
        - math.lgamma(freedom / 2)
        - size / 2 * math.log(freedom * math.pi)
    )
    return constant - (freedom + size) / 2 * torch.log1p(noise.square().sum(-1) / freedom)


# -- graph -----------------------------------------------------------------------------------------


def _nodes(state: State, names: tuple[str, ...]) -> list[Node]:
    """All nodes in the order in which they are drawn: global, per data point, then slice by slice, slow sites first."""
    rank = {name: i for i, name in enumerate(state.conditioning.factor_graph.model.sites)}
    keyed = []
    for name in names:
        site = state.conditioning.site(name)
        early = -2 if site.scope == "global" else -1
        period = site.period or 0
        for node in nodes_of(state, name):
            time = early if node.index is None else node.index * period
            keyed.append(((time, -period, rank[name]), node))
    return [node for _, node in sorted(keyed, key=lambda item: item[0])]


def _triangulated(state: State, nodes: list[Node]) -> dict[Node, tuple[Node, ...]]:
    """Parents of each node in the proposal: its earlier neighbours once all later nodes are eliminated."""
    position = {node: i for i, node in enumerate(nodes)}
    neighbours = moral_graph(state, nodes)
    parents = {}
    for node in reversed(nodes):
        earlier = sorted(neighbours.pop(node), key=position.__getitem__)
        for other in earlier:
            neighbours[other].discard(node)
        link(neighbours, earlier)
        parents[node] = tuple(earlier)
    return parents
