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

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from aif_dcpc.inference.errors import MoveError
from aif_dcpc.inference.model.densities import accumulate, factor_slices, factors_of, log_density
from aif_dcpc.inference.model.factor_graph import Argument, Factor, align
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.gibbs import element_conditional, elements
from aif_dcpc.inference.moves.layout import longest_lag

MAX_SCAN = 12


@dataclass(frozen=True)
class ChainTables:
    """Log potentials of a discrete chain, or of independent discrete values.

    Attributes:
        evidence: `(K or 1, B or 1, T, M)` of every factor that reads one slice, the initial law included (T = 1 for a
            site without time).
        transition: `(K or 1, B or 1, T - 1, M, M)`, entry [t, i, j] couples value i at slice t to j at t + 1; None
            where slices are independent.
    """

    evidence: Tensor
    transition: Tensor | None

    def log_normaliser(self) -> Tensor:
        """Log of the sum over all paths, `(K or 1, B or 1)` nats."""
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
        both = torch.where(
            possible, ahead + back - self.evidence, -torch.inf
        )  # the evidence is in both messages
        return torch.softmax(both, -1)

    def sample(
        self, num_particles: int, batch_size: int, generator: torch.Generator | None
    ) -> Tensor:
        """Draw whole paths by forward filtering and backward sampling, indices `(K, B, T)`."""
        lead = (num_particles, batch_size)
        if self.transition is None:
            return _gumbel_argmax(self.evidence.expand(*lead, *self.evidence.shape[2:]), generator)
        ahead = forward(self.evidence, self.transition)
        last = _gumbel_argmax(ahead[:, :, -1].expand(*lead, -1), generator)
        joint = (
            ahead[:, :, :-1].unsqueeze(-1) + self.transition
        ).mT  # [t, j, i]: value i now, j next
        noise = _gumbel((*lead, *joint.shape[2:3], 1, joint.shape[-1]), joint, generator)
        steps = (joint + noise).argmax(
            -1
        )  # (K, B, T - 1, M): the value now as a function of the next one
        paths = (
            compose(steps)
            .gather(-1, last[..., None, None].expand(*steps.shape[:-1], 1))
            .squeeze(-1)
        )
        return torch.cat([paths, last.unsqueeze(-1)], -1)


# -- recursions ------------------------------------------------------------------------------------


def forward(evidence: Tensor, transition: Tensor) -> Tensor:
    """Unnormalised log filter: entry [t, j] sums over all paths that end in value j at slice t, `(..., T, M)`."""
    lead = torch.broadcast_shapes(evidence.shape[:-2], transition.shape[:-3])
    evidence = evidence.expand(*lead, *evidence.shape[-2:])
    transition = transition.expand(*lead, *transition.shape[-3:])
    if evidence.shape[-1] > MAX_SCAN:
        return _step_forward(evidence, transition)
    size = evidence.shape[-1]
    first = (
        evidence[..., :1, :].unsqueeze(-2).expand(*lead, 1, size, size)
    )  # every row the initial message
    products = torch.cat([first, transition + evidence[..., 1:, None, :]], -3)
    shift = 1
    while shift < products.shape[-3]:  # Hillis and Steele's prefix scan
        combined = _log_product(products[..., :-shift, :, :], products[..., shift:, :, :])
        products = torch.cat([products[..., :shift, :, :], combined], -3)
        shift *= 2
    return products[..., 0, :]


def _step_forward(evidence: Tensor, transition: Tensor) -> Tensor:
    messages = [evidence[..., 0, :]]
    for t in range(1, evidence.shape[-2]):
        arrived = torch.logsumexp(messages[-1].unsqueeze(-1) + transition[..., t - 1, :, :], -2)
        messages.append(arrived + evidence[..., t, :])
    return torch.stack(messages, -2)


def _log_product(left: Tensor, right: Tensor) -> Tensor:
    """Log of the product of exponentiated matrices, safe for any entries."""
    return torch.logsumexp(left.unsqueeze(-1) + right.unsqueeze(-3), -2)


def compose(steps: Tensor) -> Tensor:
    """Suffix compositions of maps: entry t is steps[t] after steps[t + 1] after ... the last, `(..., T, M)` indices."""
    shift = 1
    while shift < steps.shape[-2]:
        combined = steps[..., :-shift, :].gather(-1, steps[..., shift:, :])
        steps = torch.cat([combined, steps[..., -shift:, :]], -2)
        shift *= 2
    return steps


def _gumbel(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    uniform = torch.rand(shape, dtype=like.dtype, device=like.device, generator=generator)
    return -torch.log(-torch.log(uniform.clamp_min(torch.finfo(like.dtype).tiny)))


def _gumbel_argmax(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    return (logits + _gumbel(tuple(logits.shape), logits, generator)).argmax(-1)


def marginals(state: State, name: str) -> Tensor:
    """Exact probabilities of a discrete site's values given the other sites' particles (Rao-Blackwellised).

    Chains by forward-backward; other sites by the complete conditional of each value given all
    others.

    Returns:
        `(K, B, [T,] *elements, M)`; M runs over the support in order, `elements` are the
            independent elements of the
        site's event (none for a scalar). Average over K with the cloud's weights.

    Raises:
        MoveError: where the support is not finite.
    """
    if name not in state.conditioning.supports:
        raise MoveError(
            f"site {name!r}: marginals need a latent site with finite support; average its particles instead."
        )
    site = state.conditioning.site(name)
    lead = (state.num_particles, state.values[name].shape[1])
    if not is_tabular(state, name):
        return _single_marginals(state, site)
    found = chain_tables(state, name).marginals()
    found = found if site.period is not None else found.squeeze(2)
    return found.expand(*lead, *found.shape[2:])


def _single_marginals(state: State, site: Site) -> Tensor:
    colours = 1 + longest_lag(state, site.name) if site.period is not None else 1
    columns = []
    for index in product(*(range(n) for n in elements(state, site.name))):
        logits, _ = element_conditional(state, site, index, 0)
        for phase in range(1, colours):
            other, free = element_conditional(state, site, index, phase)
            logits = torch.where(free, other, logits)
        columns.append(torch.softmax(logits, 0).movedim(0, -1))
    found = torch.stack(columns, site.batch_ndim)
    return (
        found.unflatten(site.batch_ndim, elements(state, site.name))
        if elements(state, site.name)
        else found.squeeze(site.batch_ndim)
    )


# -- tables ----------------------------------------------------------------------------------------


def is_tabular(state: State, name: str) -> bool:
    """Whether a site has a finite support whose values are drawn as a whole, each slice coupled to its neighbours."""
    if name not in state.conditioning.supports:
        return False
    site, value, support = (
        state.conditioning.site(name),
        state.values[name],
        state.conditioning.supports[name],
    )
    if value.shape[site.batch_ndim :] != support.shape[1:]:
        return False  # several elements, each with this support
    return all(_span(f, name) <= 1 for f in factors_of(state, name))


def is_chain(state: State, name: str) -> bool:
    """Whether `chain_tables` describes a site and neighbouring slices are coupled."""
    return is_tabular(state, name) and any(_span(f, name) == 1 for f in factors_of(state, name))


def _span(factor: Factor, name: str) -> int:
    lags = factor.lags(name)
    return max(lags) - min(lags)


def chain_tables(state: State, name: str) -> ChainTables:
    """Tabulate a site's complete conditional given all other sites' particles.

    Raises:
        MoveError: where the support is not finite, or slices further apart than one are coupled.
    """
    if not is_tabular(state, name):
        raise MoveError(
            f"site {name!r}: tables need a finite support, one element per slice and lags of at most 1; "
            "draw it by single-site moves instead."
        )
    site, size = state.conditioning.site(name), len(state.conditioning.supports[name])
    single = [f for f in factors_of(state, name) if _span(f, name) == 0]
    double = [f for f in factors_of(state, name) if _span(f, name) == 1]
    tables = {f.key: _tabulate(state, f, name) for f in (*single, *double)}
    lead = torch.broadcast_shapes(*(t.shape[:2] for t in tables.values()))
    length = 1 if site.period is None else state.values[name].shape[2]
    like = state.log_weights
    evidence = like.new_zeros(*_full_lead(state, site, lead), length, size)
    for factor in single:
        accumulate(
            evidence, state, site, factor, Argument(name, factor.lags(name)[0]), tables[factor.key]
        )
    evidence = _pinned(state, site, evidence)
    if not double:
        return ChainTables(evidence, None)
    transition = like.new_zeros(*lead, length - 1, size, size)
    for factor in double:
        start, stop = factor_slices(state, factor)
        back = max(factor.lags(name))
        transition[:, :, start - back : stop - back] += tables[factor.key]
    return ChainTables(evidence, transition)


def _full_lead(state: State, site: Site, lead: torch.Size) -> tuple[int, int]:
    """Leading axes of the evidence: those of the tables, except that a global site sums over the data."""
    return lead[0], 1 if site.scope == "global" else lead[1]


def _pinned(state: State, site: Site, evidence: Tensor) -> Tensor:
    """Only the observed value is possible where a partly observed site is shown."""
    mask = state.masks.get(site.name)
    if mask is None:
        return evidence
    value, support = state.values[site.name][:1], state.conditioning.supports[site.name]
    same = value.unsqueeze(site.batch_ndim) == support
    same = same.flatten(site.batch_ndim + 1).all(-1) if support.ndim > 1 else same
    shown = mask.unsqueeze(-1)
    same, shown = (
        (same, shown) if site.period is not None else (same.unsqueeze(2), shown.unsqueeze(2))
    )
    return torch.where(shown & ~same, -torch.inf, evidence)


def _tabulate(state: State, factor: Factor, name: str) -> Tensor:
    """One factor's log density at every value of the site behind each of its leaves, `(K, B, [T], M)` or `(.., M, M)`.

    With two leaves the first index belongs to the earlier slice.
    """
    support = state.conditioning.supports[name]
    size, leaves = (
        len(support),
        sorted((Argument(name, o) for o in factor.lags(name)), key=lambda x: -x.lag),
    )
    grid = torch.cartesian_prod(*[torch.arange(size, device=support.device)] * len(leaves)).reshape(
        -1, len(leaves)
    )
    start, stop = factor_slices(state, factor)
    others = {
        argument: align(
            state.values[argument.site],
            state.conditioning.site(argument.site),
            argument,
            factor.site,
            start,
            stop,
        )
        for argument in factor.inputs
        if argument not in leaves
    }
    particles = max((x.shape[0] for x in others.values()), default=1)
    batch = max((x.shape[1] for x in others.values()), default=1)
    aligned = {
        k: x.repeat(len(grid), *[1] * (x.ndim - 1)) if x.shape[0] > 1 else x
        for k, x in others.items()
    }
    time = () if factor.site.period is None else (stop - start,)
    event = support.shape[1:]
    for column, argument in enumerate(leaves):
        values = support[grid[:, column]].reshape(len(grid), 1, 1, *[1] * len(time), *event)
        aligned[argument] = values.expand(len(grid), particles, batch, *time, *event).flatten(0, 1)
    log_prob = log_density(state, factor, aligned, start, stop)
    log_prob = log_prob.expand(len(grid) * particles, *log_prob.shape[1:])
    table = log_prob.unflatten(0, (len(grid), particles)).movedim(0, -1)
    return table.unflatten(-1, (size,) * len(leaves))
