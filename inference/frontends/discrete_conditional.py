"""What the exact draws of discrete statements have in common: which densities count, and how much."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from aif_dcpc.inference.model.densities import likelihood_power
from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.graph import GraphicalModel
from aif_dcpc.inference.model.state import State


@dataclass(frozen=True)
class DiscreteConditional:
    """The complete conditional of one discrete site; its heirs draw from it.

    Attributes:
        model: the model of the site.
        name: the site.
        state: whose masks, interventions and temperature hold; None for none of them.
    """

    model: GraphicalModel
    name: str
    state: State | None = field(default=None, kw_only=True)

    def at(self, state: State) -> Self:
        """The conditional in one state."""
        return replace(self, state=state)

    def masks_or(self, given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The state's masks, or those given where there is no state."""
        return given if self.state is None else self.state.masks

    def counted(self, name: str, log_prob: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        """What counts of a density `(copies of K, B, ...)`: of neither missing data nor what `do` has set."""
        counts = self._counts_where(name, masks)
        if counts is not None:
            flags = expand_trailing(counts, log_prob)
            log_prob = torch.where(flags, log_prob, torch.zeros_like(log_prob))
        return self.weighed(name, log_prob)

    def weighed(self, name: str, log_prob: Tensor) -> Tensor:
        """Weigh a density as the state does: nothing where `do` cuts it, its power when tempered."""
        if self.state is None:
            return log_prob
        around = self.state.conditioning.factors_of(self.name, self.state.length)
        factor = next((f for f in around if f.site.name == name), None)
        if factor is None:
            return torch.zeros_like(log_prob)
        power = likelihood_power(self.state, factor, 0, 0)
        return log_prob if power is None else log_prob * expand_trailing(power, log_prob)

    def _counts_where(self, name: str, masks: Mapping[str, Tensor]) -> Tensor | None:
        """Which elements of a density count, `(1, B, *leading plates)`; None for all."""
        if name not in masks or name == self.name:
            return None
        if self.state is None:
            return masks[name]
        if name in self.state.conditioning.partly_intervened:
            return ~masks[name]
        return None if name in self.state.conditioning.latent else masks[name]
