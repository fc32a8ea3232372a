"""Discrete chains: tables of log potentials given everything else, filtered, smoothed and sampled exactly.

A *chain* is a latent site with finite support (M values) and one value per slice, coupled to its
neighbours only. Given the other sites' particles its law is that of a hidden Markov model;
`chain_tables` tabulates it. All recursions run as associative scans, so the number of tensor
operations grows with log T; above `MAX_SCAN` values, where products of M x M matrices would cost
more than they save, they step through the slices.

    >>> import torch
    >>> from torch.distributions import Categorical
    >>> from aif_dcpc.inference import DCPC, GraphicalModel, lag
    >>> move, emit = torch.tensor([[0.9, 0.1], [0.1, 0.9]]), torch.tensor([[0.8, 0.2], [0.2, 0.8]])
    >>> model = GraphicalModel()
    >>> model.add_site("s", lambda s: Categorical(move[s]), parents=[lag("s")],
    ...                initial=lambda: Categorical(torch.ones(2)), scope="slice")
    >>> model.add_site("o", lambda s: Categorical(emit[s]), parents=["s"], scope="slice")
    >>> state = DCPC(model, num_particles=1).init({"o": torch.tensor([[0, 0, 1]])})
    >>> [round(p, 3) for p in chain_tables(state, "s").marginals()[0, 0, :, 0].tolist()]
    [0.84, 0.8, 0.559]

References: Rabiner 1989; Särkkä and García-Fernández 2021 (arXiv 1905.13002) for the scans.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.errors import MoveError
from aif_dcpc.inference.model.densities import (
    accumulate,
    factor_slices,
    factors_of,
    log_density,
)
from aif_dcpc.inference.model.draws import gumbel_argmax, gumbel_noise
from aif_dcpc.inference.model.factor_graph import Argument, Factor, align
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.gibbs import element_conditional, element_indices, elements
from aif_dcpc.inference.moves.layout import longest_lag

MAX_SCAN = 12
Tables = list[tuple[Factor, Tensor]]


@dataclass(frozen=True)
class ChainTables:
    """Log potentials of a discrete chain, or of independent discrete values.

    Attributes:
        evidence: `(K or 1, B or 1, T, M)` of every factor that reads one slice, the initial law
            included (T = 1 for a site without time).
        transition: `(K or 1, B or 1, T - 1, M, M)`, entry [t, i, j] couples value i at slice t to j
            at t + 1; None where slices are independent.
    """

    evidence: Tensor
    transition: Tensor | None

    def log_normaliser(self) -> Tensor:
        """Sum over all paths, `(K or 1, B or 1)` in log nats."""
        if self.transition is None:
            return torch.logsumexp(self.evidence, -1).sum(-1)
        return torch.logsumexp(forward(self.evidence, self.transition)[:, :, -1], -1)

    def marginals(self) -> Tensor:
        """Probability of every value at every slice, `(K or 1, B or 1, T, M)`."""
        if self.transition is None:
            return torch.softmax(self.evidence, -1)
        ahead = forward(self.evidence, self.transition)
        back = forward(self.evidence.flip(2), self.transition.flip(2).mT).flip(2)
        possible = torch.isfinite(self.evidence)
        # the evidence is in both messages
        both = torch.where(possible, ahead + back - self.evidence, -torch.inf)
        return torch.softmax(both, -1)

    def sample(
        self, num_particles: int, batch_size: int, generator: torch.Generator | None
    ) -> Tensor:
        """Draw whole paths by forward filtering and backward sampling, indices `(K, B, T)`."""
        sizes = (num_particles, batch_size)
        if self.transition is None:
            logits = self.evidence.expand(*sizes, *self.evidence.shape[2:])
            return gumbel_argmax(logits, generator)
        ahead = forward(self.evidence, self.transition)
        last = gumbel_argmax(ahead[:, :, -1].expand(*sizes, -1), generator)
        # [t, j, i]: value i now, j next
        joint = (ahead[:, :, :-1].unsqueeze(-1) + self.transition).mT
        shape = (*sizes, joint.shape[2], 1, joint.shape[-1])
        noise = gumbel_noise(shape, joint, generator)
        # (K, B, T - 1, M): the value now as a function of the next one
        steps = (joint.contiguous() + noise).max(-1).indices  # six times as fast as argmax
        final = last[..., None, None].expand(*steps.shape[:-1], 1)
        paths = compose(steps).gather(-1, final).squeeze(-1)
        return torch.cat([paths, last.unsqueeze(-1)], -1)


# -- recursions ------------------------------------------------------------------------------------


def forward(evidence: Tensor, transition: Tensor) -> Tensor:
    """Filter forwards: entry [t, j] sums over all paths that end in value j at slice t, log nats `(..., T, M)`."""
    leading = torch.broadcast_shapes(evidence.shape[:-2], transition.shape[:-3])
    evidence = evidence.expand(*leading, *evidence.shape[-2:])
    transition = transition.expand(*leading, *transition.shape[-3:])
    if evidence.shape[-1] > MAX_SCAN:
        return _step_forward(evidence, transition)
    size = evidence.shape[-1]
    # every row the initial message
    first = evidence[..., :1, :].unsqueeze(-2).expand(*leading, 1, size, size)
    products = torch.cat([first, transition + evidence[..., 1:, None, :]], -3)
    # matrices in front, [i, j, t, ...]: sums over a few values run over long rows of memory
    products = products.movedim((-2, -1, -3), (0, 1, 2)).contiguous()
    shift = 1
    while shift < products.shape[2]:  # Hillis and Steele's prefix scan
        combined = _log_product(products[:, :, :-shift], products[:, :, shift:])
        products = torch.cat([products[:, :, :shift], combined], 2)
        shift *= 2
    return products[0].movedim((0, 1), (-1, -2)).contiguous()


def _step_forward(evidence: Tensor, transition: Tensor) -> Tensor:
    """Filter as `forward`, slice after slice."""
    messages = [evidence[..., 0, :]]
    for t in range(1, evidence.shape[-2]):
        arrived = torch.logsumexp(messages[-1].unsqueeze(-1) + transition[..., t - 1, :, :], -2)
        messages.append(arrived + evidence[..., t, :])
    return torch.stack(messages, -2)


def _log_product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply matrices `(M, M, ...)` that are given by their logarithms, safe for any entries."""
    return torch.logsumexp(left.unsqueeze(2) + right.unsqueeze(0), 1)


def compose(steps: Tensor) -> Tensor:
    """Compose maps from the end: entry t is steps[t] after steps[t + 1] after ... the last, `(..., T, M)` indices."""
    shift = 1
    while shift < steps.shape[-2]:
        combined = steps[..., :-shift, :].gather(-1, steps[..., shift:, :])
        steps = torch.cat([combined, steps[..., -shift:, :]], -2)
        shift *= 2
    return steps


def marginals(state: State, name: str) -> Tensor:
    """Exact probabilities of a discrete site's values given the other sites' particles (Rao-Blackwellised).

    Chains by forward-backward; other sites by the complete conditional of each value given all
    others.

    Returns:
        `(K, B, [T,] *elements, M)`; M runs over the support in order, `elements` are the
            independent elements of the site's event (none for a scalar). Average over K with the
            cloud's weights.

    Raises:
        MoveError: where the support is not finite.
    """
    if name not in state.conditioning.supports:
        raise MoveError(
            f"site {name!r}: marginals need a latent site with finite support; average its "
            "particles instead."
        )
    site = state.conditioning.site(name)
    if not is_tabular(state, name):
        return _single_marginals(state, site)
    found = chain_tables(state, name).marginals()
    found = found if site.period is not None else found.squeeze(2)
    batch_size = state.values[name].shape[1]
    return found.expand(state.num_particles, batch_size, *found.shape[2:])


def _single_marginals(state: State, site: Site) -> Tensor:
    """Probabilities of each value given all others, its own site's included, `(K, B, [T,] *elements, M)`."""
    colours = 1 + longest_lag(state, site.name) if site.period is not None else 1
    columns = []
    for index in element_indices(state, site.name):
        logits, _ = element_conditional(state, site, index, 0)
        for phase in range(1, colours):
            other, free = element_conditional(state, site, index, phase)
            logits = torch.where(free, other, logits)
        columns.append(torch.softmax(logits, 0).movedim(0, -1))
    found = torch.stack(columns, site.batch_ndim)
    shape = elements(state, site.name)
    return found.unflatten(site.batch_ndim, shape) if shape else found.squeeze(site.batch_ndim)


# -- tables ----------------------------------------------------------------------------------------


def is_tabular(state: State, name: str) -> bool:
    """Whether a site has a finite support whose values are drawn as a whole, each slice coupled to its neighbours."""
    if name not in state.conditioning.supports:
        return False
    event_shape = state.values[name].shape[state.conditioning.site(name).batch_ndim :]
    if event_shape != state.conditioning.supports[name].shape[1:]:
        return False  # several elements, each with this support
    return all(_span(f, name) <= 1 for f in factors_of(state, name))


def is_chain(state: State, name: str) -> bool:
    """Whether `chain_tables` describes a site and neighbouring slices are coupled."""
    return is_tabular(state, name) and any(_span(f, name) == 1 for f in factors_of(state, name))


def _span(factor: Factor, name: str) -> int:
    """Distance in slices between the earliest and the latest value of a site that a factor reads."""
    lags = factor.lags(name)
    return max(lags) - min(lags)


def chain_tables(state: State, name: str) -> ChainTables:
    """Tabulate a site's complete conditional given all other sites' particles.

    Raises:
        MoveError: where the support is not finite, or slices further apart than one are coupled.
    """
    if not is_tabular(state, name):
        raise MoveError(
            f"site {name!r}: tables need a finite support, one element per slice and lags of at "
            "most 1; draw it by single-site moves instead."
        )
    site = state.conditioning.site(name)
    tables = [(f, _tabulate(state, f, name)) for f in factors_of(state, name)]
    batch_shape = torch.broadcast_shapes(*(table.shape[:2] for _, table in tables))
    single = [(f, table) for f, table in tables if _span(f, name) == 0]
    double = [(f, table) for f, table in tables if _span(f, name) == 1]
    return ChainTables(
        _only_observed(state, site, _evidence(state, site, single, batch_shape)),
        _transition(state, site, double, batch_shape) if double else None,
    )


def _evidence(state: State, site: Site, tables: Tables, batch_shape: Sequence[int]) -> Tensor:
    """Sum the tables of factors that read one slice, `(K or 1, B or 1, T, M)`.

    Those of a global site are summed over the data as well.
    """
    particles, batch_size = batch_shape
    batch_size = 1 if site.scope == "global" else batch_size
    size = len(state.conditioning.supports[site.name])
    total = state.log_weights.new_zeros(particles, batch_size, _length(state, site), size)
    for factor, table in tables:
        argument = Argument(site.name, factor.lags(site.name)[0])
        accumulate(total, state, site, factor, argument, table)
    return total


def _transition(state: State, site: Site, tables: Tables, batch_shape: Sequence[int]) -> Tensor:
    """Sum the tables of factors that read two neighbouring slices, `(K or 1, B or 1, T - 1, M, M)`."""
    size = len(state.conditioning.supports[site.name])
    total = state.log_weights.new_zeros(*batch_shape, _length(state, site) - 1, size, size)
    for factor, table in tables:
        start, stop = factor_slices(state, factor)
        back = max(factor.lags(site.name))
        total[:, :, start - back : stop - back] += table
    return total


def _length(state: State, site: Site) -> int:
    """Number of slices of a site, 1 without time."""
    return 1 if site.period is None else state.values[site.name].shape[2]


def _only_observed(state: State, site: Site, evidence: Tensor) -> Tensor:
    """Make every value but the observed one impossible where a partly observed site is observed."""
    mask = state.masks.get(site.name)
    if mask is None:
        return evidence
    value = state.values[site.name][:1]
    support = state.conditioning.supports[site.name]
    same = value.unsqueeze(site.batch_ndim) == support
    if support.ndim > 1:
        same = same.flatten(site.batch_ndim + 1).all(-1)
    excluded = mask.unsqueeze(-1) & ~same
    if site.period is None:
        excluded = excluded.unsqueeze(2)
    return torch.where(excluded, -torch.inf, evidence)


def _tabulate(state: State, factor: Factor, name: str) -> Tensor:
    """Tabulate a factor's log density at every value of each of the site's slices that it reads.

    Returns:
        `(K, B, [T], M)`, or `(K, B, T, M, M)` where it reads two slices: the first index then
            belongs to the earlier one.
    """
    support = state.conditioning.supports[name]
    size = len(support)
    arguments = [Argument(name, lag) for lag in sorted(factor.lags(name), reverse=True)]
    every_value = torch.arange(size, device=support.device)
    grid = torch.cartesian_prod(*[every_value] * len(arguments)).reshape(-1, len(arguments))
    start, stop = factor_slices(state, factor)
    others = _other_inputs(state, factor, name)
    particles = max((x.shape[0] for x in others.values()), default=1)
    batch_size = max((x.shape[1] for x in others.values()), default=1)

    aligned = {argument: _repeat(x, len(grid)) for argument, x in others.items()}
    time = () if factor.site.period is None else (stop - start,)
    event = support.shape[1:]
    for column, argument in enumerate(arguments):
        values = support[grid[:, column]].reshape(len(grid), 1, 1, *[1] * len(time), *event)
        values = values.expand(len(grid), particles, batch_size, *time, *event)
        aligned[argument] = values.flatten(0, 1)
    log_prob = log_density(state, factor, aligned, start, stop)
    log_prob = log_prob.expand(len(grid) * particles, *log_prob.shape[1:])
    table = log_prob.unflatten(0, (len(grid), particles)).movedim(0, -1)
    return table.unflatten(-1, (size,) * len(arguments))


def _other_inputs(state: State, factor: Factor, name: str) -> dict[Argument, Tensor]:
    """Lay what a factor reads of other sites along its slices."""
    start, stop = factor_slices(state, factor)
    found = {}
    for argument in factor.inputs:
        if argument.site != name:
            value = state.values[argument.site]
            own = state.conditioning.site(argument.site)
            found[argument] = align(value, own, argument, factor.site, start, stop)
    return found


def _repeat(x: Tensor, times: int) -> Tensor:
    """Repeat the particle axis, unless all particles share one value."""
    return x.repeat(times, *[1] * (x.ndim - 1)) if x.shape[0] > 1 else x
