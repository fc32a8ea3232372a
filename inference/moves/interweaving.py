"""A site moves together with the latents whose scale it sets, each of which keeps its place in units of that scale.

Moved one at a time, a scale and what it scales hold each other: where the scale is small, its
children lie close, and children that lie close allow no larger scale; the narrow neck of such a
posterior is entered and left too seldom, and nothing tells. In standardised coordinates,
w = (z - location) / scale, neither holds the other. A sweep moves the scale in both, given all else.

Reference: Yu and Meng 2011, "To center or not to center: that is not the question".
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.densities import evaluate, factors_of
from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.adaptation import SiteAdaptation

KEY = ("interweaving", 1)
MOST_NUMBERS = 50  # of a site, beyond which one step for all of them is seldom accepted


@dataclass(frozen=True)
class Interweaving:
    """A random walk of a site in the coordinates in which its children stand still.

    Attributes:
        site: a continuous latent without time.
        children: continuous latents whose scale it sets, wholly inferred.
    """

    site: str
    children: tuple[str, ...]

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that the move changes: the children are carried along."""
        return (self.site, *self.children)

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """Propose once for each chain; accept with the ratio of joint densities in these coordinates."""
        block = Block.of(state, self.sites)
        learned: SiteAdaptation = state.adaptation.get(self.site, SiteAdaptation()).settled()
        here = block.to_standardised(block.flatten(state.values))
        step = learned.log_step(KEY, here).exp()
        there = here + step * self._noise(block, here, generator)
        proposed, log_det = block.to_declared(there)
        moved = block.unflatten(proposed)
        ratio = self._gain(state, block, moved) + log_det - block.to_declared(here)[1]
        probability = torch.nan_to_num(ratio.clamp(max=0).exp(), nan=0.0)
        accepted = (
            torch.rand(ratio.shape, dtype=ratio.dtype, device=ratio.device, generator=generator)
            < probability
        )
        found = state.with_values(_chosen(accepted, moved, state.values))
        if adapt:
            learned = learned.stepped(KEY, probability.mean(), here)
            found = found.replace(adaptation={**state.adaptation, self.site: learned})
        return found, probability.mean()

    def _noise(self, block: Block, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Standard normal noise on the site's coordinates `(K, G, D)`, zero on the children's."""
        parts = [torch.zeros_like(part) for part in like.split(block.sizes, -1)]
        own = block.names.index(self.site)
        parts[own] = torch.randn(
            parts[own].shape, dtype=like.dtype, device=like.device, generator=generator
        )
        return torch.cat(parts, -1)

    def _gain(self, state: State, block: Block, moved: Mapping[str, Tensor]) -> Tensor:
        """What the log joint gains in declared coordinates, `(K, G)` nats."""
        around = {f.key: f for name in self.sites for f in factors_of(state, name)}
        total = state.log_weights.new_zeros(state.num_particles, block.num_chains)
        for key, factor in around.items():
            old = state.cache.get(key) or evaluate(state, factor, scores=False)
            new = evaluate(state, factor, moved, scores=False)
            part = new.log_prob - old.log_prob
            part = part if part.ndim == 2 else part.sum(2)
            total = total + (part.sum(1, keepdim=True) if block.is_coupled else part)
        return total


def _chosen(
    accepted: Tensor, moved: Mapping[str, Tensor], values: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Moved values where `accepted` `(K, G)`, the present ones elsewhere."""
    return {n: torch.where(expand_trailing(accepted, x), x, values[n]) for n, x in moved.items()}


def interweavings(state: State, apart: frozenset[str]) -> tuple[Interweaving, ...]:
    """Make a move of every site without time that sets the scale of other latents (reads numbers).

    Args:
        state: what is latent, and values at which kernels are asked for their scales.
        apart: sites that stay where other moves put them.
    """
    conditioning = state.conditioning
    no_part = apart | conditioning.discrete | conditioning.circular | state.masks.keys()
    free = tuple(n for n in conditioning.latent if n not in no_part)
    found = []
    with no_validation(), torch.no_grad():
        for site in free:
            is_small = state.values[site][0, 0].numel() <= MOST_NUMBERS
            if conditioning.site(site).period is None and is_small:
                block = Block.of(state, free)
                children = tuple(n for n in free if n != site and block.scales(site, n))
                found += [Interweaving(site, children)] if children else []
    return tuple(found)
