"""Preconditioned Langevin moves with accept/reject per particle: the exact default for continuous sites.

The Ornstein-Uhlenbeck proposal z' = z + a S eps + sqrt(a (2 - a)) S^(1/2) xi is an exact Gibbs draw
where the complete conditional is Gaussian with covariance S and a = 1; `proposals` holds it and its
relatives. All chunks of a series move in one batched proposal; each is accepted on its own (Tong et
al. 2019, arXiv 1908.09429). Factors are evaluated once, at the proposal: accepted values and scores
are kept, so a pass costs one evaluation of the factors around the site.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from aif_dcpc.inference.model.densities import (
    accumulate,
    collapse,
    counted_elements,
    factors_of,
    fill_cache,
    keeps_scores,
)
from aif_dcpc.inference.model.factor_graph import Argument, Factor, align
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import FactorValue, State
from aif_dcpc.inference.moves import SiteMove
from aif_dcpc.inference.moves.adaptation import TARGET_ACCEPTANCE, SiteAdaptation
from aif_dcpc.inference.moves.layout import flatten_event, site_chunks
from aif_dcpc.inference.moves.passes import FullUpdate, Pass, StridedUpdate
from aif_dcpc.inference.moves.preconditioning import (
    MAX_DENSE,
    MAX_DENSE_STATIC,
    multiply,
    preconditioner,
)
from aif_dcpc.inference.moves.proposals import PROPOSALS, Proposal, StepConstants


@dataclass(frozen=True)
class Langevin(SiteMove):
    """Move one continuous site, chunk by chunk.

    Attributes:
        site: name of the site.
        width: free slices per chunk; ignored without time.
        phase: shift of the chunks.
        noise: name of a proposal: "ou", "mala" or "barker".
        gap: fixed slices between chunks, at least; never fewer than the longest lag.
    """

    needs: ClassVar[str] = "score"
    width: int = 1
    phase: int = 0
    noise: str = "ou"
    gap: int = 0

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """Propose all chunks once and accept or reject each of them.

        Args:
            state: the cloud.
            generator: source of randomness.
            adapt: whether to learn step and curvature (does not preserve the target).

        Returns:
            the new state and the mean acceptance probability (0-dim).
        """
        state = fill_cache(_fresh(state, self.site), self.sites)
        return _pass(self, state, generator, adapt)


def _fresh(state: State, name: str) -> State:
    """Drop cached factors whose score towards the site was not kept."""
    lacking = {
        f.key
        for f in factors_of(state, name)
        if f.key in state.cache
        and any(Argument(name, o) not in state.cache[f.key].scores for o in f.lags(name))
    }
    return (
        state.replace(cache={k: v for k, v in state.cache.items() if k not in lacking})
        if lacking
        else state
    )


def _pass(
    move: Langevin, state: State, generator: torch.Generator | None, adapt: bool
) -> tuple[State, Tensor]:
    site = state.conditioning.site(move.site)
    z = state.values[move.site]
    proposal = PROPOSALS[move.noise]
    chunks = site_chunks(state, site, move.width, move.phase, move.gap)
    here: Pass = StridedUpdate.of(state, site, chunks) or FullUpdate(state, site, chunks)
    learned: SiteAdaptation = state.adaptation.get(move.site, SiteAdaptation()).settled()
    root, learned = preconditioner(state, site, here.chunks, learned)
    key = (move.noise, chunks.width)
    constants, learned = _constants(proposal, learned, key, z)

    w = multiply(root, here.errors(here.old), transposed=True)
    u = proposal.draw(w, constants, generator)
    jump, moved = here.move(multiply(root, u))
    new = here.evaluate(moved)
    new_w = multiply(root, here.errors(new), transposed=True)
    ratio = proposal.log_ratio(u, w, new_w, constants) + here.gain(new)
    uniform = torch.rand(ratio.shape, dtype=z.dtype, device=z.device, generator=generator)

    probabilities = torch.nan_to_num(ratio.clamp(max=0).exp(), nan=0.0)
    probability = _mean_probability(probabilities, here.movable)
    if adapt:
        if isinstance(here, FullUpdate):
            learned = _learn(
                state, site, here.factors, new, jump, learned, learned.updates.get(key, 0)
            )
        learned = learned.stepped(key, probability, z)
    moved_state = here.accept(uniform < probabilities, moved, new)
    if learned is not state.adaptation.get(move.site):
        moved_state = moved_state.replace(adaptation={**state.adaptation, move.site: learned})
    return moved_state, probability


def _constants(
    proposal: Proposal, learned: SiteAdaptation, key: tuple[str, int], like: Tensor
) -> tuple[StepConstants, SiteAdaptation]:
    """What the current step comes to, kept until the step changes."""
    if key not in learned.strides:
        constants = proposal.constants(learned.log_step(key, like).exp())
        learned = replace(learned, strides={**learned.strides, key: constants})
    return StepConstants(*learned.strides[key]), learned


def _mean_probability(probability: Tensor, movable: Tensor | None) -> Tensor:
    """Mean over the chunks that can move at all; where none can, what leaves the step as it is."""
    if movable is None:
        return probability.mean()
    counted = probability.unflatten(1, (-1, movable.shape[2])) * movable
    mean = counted.mean(1).sum() / movable.sum().clamp_min(1)
    return torch.where(movable.any(), mean, torch.full_like(mean, TARGET_ACCEPTANCE))


# -- learning the curvature ------------------------------------------------------------------------


def _learn(
    state: State,
    site: Site,
    factors: tuple[Factor, ...],
    new: Mapping[str, FactorValue],
    jump: Tensor,
    learned: SiteAdaptation,
    count: int,
) -> SiteAdaptation:
    """Secant moments of every factor around the site."""
    for factor in factors:
        dx, dscore = _changes(state, site, factor, new[factor.key], jump)
        dense = dx.shape[-1] <= (MAX_DENSE if site.period is not None else MAX_DENSE_STATIC)
        learned = learned.learned(
            factor.key, dx.flatten(0, -2), dscore.flatten(0, -2), dense, count
        )
    return learned


def _changes(
    state: State, site: Site, factor: Factor, new: FactorValue, jump: Tensor
) -> tuple[Tensor, Tensor]:
    """Changes of a factor's inputs and of its scores, `(..., num_offsets * D)`."""
    old = state.cache[factor.key]
    leaves = [Argument(site.name, o) for o in factor.lags(site.name)]
    if site.period is None:
        change = collapse(site, factor, new.scores[leaves[0]] - old.scores[leaves[0]])
        return flatten_event(site, jump), flatten_event(site, change)
    if not keeps_scores(state, site, factor):
        change = torch.zeros_like(jump)
        accumulate(
            change, state, site, factor, leaves[0], new.scores[leaves[0]] - old.scores[leaves[0]]
        )
        return flatten_event(site, jump), flatten_event(site, change)
    start, stop = factor.slices(jump.shape[2])
    dx = [
        flatten_event(site, align(jump, site, argument, factor.site, start, stop))
        for argument in leaves
    ]
    dscore = [
        flatten_event(site, new.scores[argument] - old.scores[argument]) for argument in leaves
    ]
    moved = torch.cat(dx, -1)
    counted = counted_elements(state, factor, start, stop)
    if counted is not None:  # where data are missing, nothing is learned of how they curve
        moved = moved * counted.unsqueeze(-1).flatten(3).any(-1, keepdim=True)
    return moved, torch.cat(dscore, -1)
