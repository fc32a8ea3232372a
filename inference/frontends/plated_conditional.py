"""Exact draws of a discrete site inside plates, all its elements at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.frontends.discrete_conditional import DiscreteConditional
from aif_dcpc.inference.frontends.pyro_import import TracedKernel
from aif_dcpc.inference.frontends.pyro_statements import Message
from aif_dcpc.inference.model.draws import gumbel_argmax
from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.graph import GraphicalModel
from aif_dcpc.inference.model.supports import base_law


def add_plated_conditional(model: GraphicalModel, name: str, sites: dict[str, Message]) -> None:
    """Let a discrete site inside plates be drawn at once: given all else, its elements are independent."""
    site = sites[name]
    children = model.children_of(name)
    if any(_reads_elements(model, child) for child in children):
        return
    if (
        site["is_observed"]
        or not site["fn"].has_enumerate_support
        or not _elementwise(site, sites, children)
    ):
        return
    model.add_conditional((name,), PlatedConditional(model, name))


def _reads_elements(model: GraphicalModel, name: str) -> bool:
    """Whether a site is, or reads, a deterministic one."""
    site = model.sites[name]
    return any(model.sites[str(p)].kind == "deterministic" for p in (name, *site.parents))


def _elementwise(site: Message, sites: dict[str, Message], children: tuple[str, ...]) -> bool:
    """Tell whether plates cover the site's whole batch shape, and its children lie in the same ones."""
    frames = {f for f in site["cond_indep_stack"] if f.vectorized}
    shape = site["fn"].batch_shape
    covered = {f.dim for f in frames}
    whole = all(size == 1 or i - len(shape) in covered for i, size in enumerate(shape))
    return (
        bool(frames)
        and whole
        and all(frames <= set(sites[c]["cond_indep_stack"]) for c in children)
    )


@dataclass(frozen=True)
class PlatedConditional(DiscreteConditional):
    """Exact draw of all elements of a plated discrete site from their complete conditionals."""

    def __call__(
        self,
        values: Mapping[str, Tensor],
        generator: torch.Generator,
        masks: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> dict[str, Tensor]:
        """Draw every element of the site, given all other values; what its own mask shows stays.

        Args:
            values: every site, `(K or 1, B, *plates, *event)`.
            generator: of the noise.
            masks: site -> `(1, B)` or `(1, B, *leading plates)` True where observed; the state's
                own come first.
        """
        masks = self.masks_or(masks)
        kernel: Any = self.model.sites[self.name].kernel
        now = values[self.name]
        support = kernel.statement.enumerate_support(expand=False).to(now.device)
        scores = torch.stack(
            [
                self._score({**values, self.name: s.expand_as(now).contiguous()}, kernel, masks)
                for s in support
            ]
        )
        chosen = gumbel_argmax(scores, generator, 0)
        event = kernel.statement.event_shape
        drawn = support.reshape(len(support), *event).index_select(0, chosen.flatten())
        drawn = drawn.reshape(*chosen.shape, *event).expand_as(now).to(now.dtype)
        known = masks.get(self.name)
        return {
            self.name: drawn
            if known is None
            else torch.where(expand_trailing(known, now), now, drawn)
        }

    def _score(
        self, values: Mapping[str, Tensor], kernel: TracedKernel, masks: Mapping[str, Tensor]
    ) -> Tensor:
        """Unnormalised log conditional of every element, `(K, B, *plates)`."""
        total = torch.zeros((), device=values[self.name].device)
        for name in (self.name, *self.model.children_of(self.name)):
            site = self.model.sites[name]
            density: Any = site.kernel
            law = density(*(values[str(p)] for p in site.parents))
            log_prob = base_law(law).log_prob(values[name])  # of each statement
            total = total + onto_plates(self.counted(name, log_prob, masks), kernel.plates)
        return total


def onto_plates(log_prob: Tensor, plates: tuple[int, ...]) -> Tensor:
    """Sum `(K, B, *child's plates)` over the plates that the site does not have."""
    extra = log_prob.ndim - 2 - len(plates)
    if extra > 0:
        log_prob = log_prob.flatten(2, 1 + extra).sum(2)
    sizes = log_prob.shape[2:]
    axes = [
        2 + i
        for i, (size, own) in enumerate(zip(sizes, plates, strict=True))
        if own == 1 and size > 1
    ]
    return log_prob.sum(axes, keepdim=True) if axes else log_prob
