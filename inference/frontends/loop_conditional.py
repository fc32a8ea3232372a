"""Exact draws of the discrete statements of a loop, given all other sites.

Where no other statement reads two of them, they are independent given the rest, or, if each reads the
one before, a chain: forward filtering, backward sampling. All values of all statements are scored
in one batched call per site: on S values, `S` copies of the cloud for what reads the loop, `S * S`
for transitions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.frontends.discrete_conditional import DiscreteConditional
from aif_dcpc.inference.frontends.loop_kernels import LoopKernel
from aif_dcpc.inference.frontends.loops import Kernels, Loop, Reader, readers_of, starts_of
from aif_dcpc.inference.frontends.plated_conditional import onto_plates
from aif_dcpc.inference.model.draws import gumbel_argmax
from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.graph import GraphicalModel
from aif_dcpc.inference.model.supports import base_law

NO_MASKS: Mapping[str, Tensor] = MappingProxyType({})


def add_loop_conditional(
    model: GraphicalModel, loop: Loop, loops: Sequence[Loop], kernels: Kernels
) -> None:
    """Let the discrete statements of a loop be drawn at once."""
    readers = readers_of(loop.members, loops, kernels)
    starts = starts_of(loop.members, kernels)
    if readers is None or starts is None:
        raise AssertionError(f"loop {loop.name} cannot be drawn at once")
    model.add_conditional((loop.name,), LoopConditional(model, loop.name, readers, starts))


@dataclass(frozen=True)
class LoopConditional(DiscreteConditional):
    """Exact draw of a loop of discrete statements from its complete conditional.

    Attributes:
        readers: the sites that read it.
        starts: for every statement, whether it reads none before it.
    """

    readers: tuple[Reader, ...]
    starts: tuple[bool, ...]

    def __call__(
        self,
        values: Mapping[str, Tensor],
        generator: torch.Generator,
        masks: Mapping[str, Tensor] = NO_MASKS,
    ) -> dict[str, Tensor]:
        """Draw all statements given all other values; what their own mask shows stays.

        Args:
            values: every site, `(K or 1, B, *plates, *event)`.
            generator: of the noise.
            masks: site -> `(1, B)` or `(1, B, *leading plates)` True where observed; the state's
                own come first.
        """
        masks = self.masks_or(masks)
        name = self.name
        kernel: Any = self.model.sites[name].kernel
        now = values[name]
        support = base_law(kernel.statement).enumerate_support(expand=False).flatten()
        support = support.to(now)
        unary = self._unary(values, kernel, support, masks)
        if name in masks:
            differs = support.reshape(-1, *(1,) * now.ndim) != now
            shown = expand_trailing(masks[name], now)
            unary = unary.masked_fill(differs & shown, -torch.inf)
        own = self._own(values, kernel, support)
        chosen = _draw_chain(unary, own, self.starts, generator)
        return {name: support[chosen].expand_as(now)}

    def _own(self, values: Mapping[str, Tensor], kernel: LoopKernel, support: Tensor) -> Tensor:
        """Log density of every value given every value before, `(S or 1, S, K, B, N, *plates)`."""
        now = values[self.name]
        size = len(support)
        copies = size * size if kernel.is_chain else size
        value = _everywhere(support.repeat(copies // size), now)
        before = _everywhere(support.repeat_interleave(copies // size), now)
        site = self.model.sites[self.name]
        parents = [_copies(values[str(p)], copies, now.shape[0]) for p in site.parents]
        found = kernel.log_probs(parents, value, before).unflatten(0, (-1, size, now.shape[0]))
        if self.state is not None and self.name in self.state.conditioning.partly_intervened:
            is_set = expand_trailing(self.state.masks[self.name], now)  # its own law is cut there
            found = found.masked_fill(is_set, 0.0)
        return self.weighed(self.name, found)

    def _unary(
        self,
        values: Mapping[str, Tensor],
        kernel: LoopKernel,
        support: Tensor,
        masks: Mapping[str, Tensor],
    ) -> Tensor:
        """Log density of all that reads the loop, for every value `(S, K, B, N, *plates)`."""
        now = values[self.name]
        total = now.new_zeros((len(support), *now.shape), dtype=torch.get_default_dtype())
        for reader in self.readers:
            found = self._scored(reader, values, support, masks)
            total = total + _onto_elements(found, reader, now.shape[2:])
        return total

    def _scored(
        self,
        reader: Reader,
        values: Mapping[str, Tensor],
        support: Tensor,
        masks: Mapping[str, Tensor],
    ) -> Tensor:
        """Log densities of a site's statements with the loop at every value, `(S, K, B, ...)`."""
        now = values[self.name]
        copies = len(support)
        given = {
            name: _everywhere(support, now)
            if name == self.name
            else _copies(value, copies, now.shape[0])
            for name, value in values.items()
        }
        found = _log_prob(self.model, reader.site, given)
        return self.counted(reader.site, found, masks).unflatten(0, (copies, -1))


def _log_prob(model: GraphicalModel, name: str, values: Mapping[str, Tensor]) -> Tensor:
    """Log densities of a site's statements, parents that are deterministic computed."""
    site = model.sites[name]

    def value(parent: str) -> Tensor:
        known = model.sites[parent]
        if known.kind != "deterministic":
            return values[parent]
        function: Any = known.kernel
        computed: Tensor = function(*(value(str(p)) for p in known.parents))
        return computed

    kernel: Any = site.kernel
    law = kernel(*(value(str(p)) for p in site.parents))
    found: Tensor = base_law(law).log_prob(values[name])  # of each statement
    return found


def _everywhere(support: Tensor, now: Tensor) -> Tensor:
    """Copies of the cloud with one value everywhere, `(copies * K, B, N, *plates)`."""
    flat = support.reshape(-1, *(1,) * now.ndim)
    return flat.expand(len(support), *now.shape).flatten(0, 1)


def _copies(value: Tensor, copies: int, particles: int) -> Tensor:
    """Repeat what differs between particles for every copy of the cloud."""
    if value.shape[0] == 1 and particles > 1:
        return value
    return value if value.shape[0] == 1 else value.repeat(copies, *(1,) * (value.ndim - 1))


def _onto_elements(found: Tensor, reader: Reader, shape: torch.Size) -> Tensor:
    """Sum what each element's readers score onto it, `(S, K, B, N, *plates)`."""
    lead = found.shape[:3]
    scores = found if reader.is_loop else found.unsqueeze(3)
    total = found.new_zeros((*lead, *shape))
    counted = [place for place, element in enumerate(reader.elements) if element is not None]
    index = [reader.elements[place] for place in counted]
    flat = scores.flatten(0, 2)  # (cloud, statements, *plates of the reader)
    rows = flat.flatten(0, 1)[None]
    onto = onto_plates(rows, tuple(shape[1:])).squeeze(0)
    onto = onto.unflatten(0, flat.shape[:2]).expand(*flat.shape[:2], *shape[1:])
    if len(counted) < onto.shape[1]:
        onto = onto[:, counted]
    places = torch.tensor(index, device=found.device)
    return total.flatten(0, 2).index_add(1, places, onto).reshape(total.shape)


def _draw_chain(
    unary: Tensor, own: Tensor, starts: Sequence[bool], generator: torch.Generator
) -> Tensor:
    """Forward filtering, backward sampling; independent statements at once.

    Args:
        unary: `(S, K, B, N, *plates)` nats.
        own: `(S before or 1, S, K, B, N, *plates)` nats.
        starts: for every statement, whether it reads none before it.
        generator: of the noise.

    Returns:
        indices into the support, `(K, B, N, *plates)`.
    """
    if all(starts):
        return gumbel_argmax(unary + own[0], generator, 0)
    forward: list[Tensor] = []
    for place, is_start in enumerate(starts):
        step = own[:, :, :, :, place]
        reached = step[0] if is_start else torch.logsumexp(forward[-1].unsqueeze(1) + step, 0)
        forward.append(unary[:, :, :, place] + reached)
    chosen = [gumbel_argmax(forward[-1], generator, 0)]
    for place in range(len(starts) - 2, -1, -1):
        logits = forward[place]
        if not starts[place + 1]:
            logits = logits + _reaching(own[:, :, :, :, place + 1], chosen[-1])
        chosen.append(gumbel_argmax(logits, generator, 0))
    return torch.stack(chosen[::-1], 2)


def _reaching(step: Tensor, chosen: Tensor) -> Tensor:
    """Log density of the chosen next value after every value, `(S, K, B, *plates)`."""
    index = chosen[None, None].expand(len(step), 1, *chosen.shape)
    return step.expand(*step.shape[:2], *chosen.shape).gather(1, index).squeeze(1)
