"""Model-supplied exact conditionals: the model draws a block given everything else, the engine calls it."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.errors import MoveError
from aif_dcpc.inference.model.densities import factors_of
from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.state import State


def takes_masks(draw: Any) -> bool:
    """Whether a conditional has a parameter `masks`: site -> `(1, B, [T,] *elements)` True where observed."""
    return "masks" in inspect.signature(draw).parameters


def is_exact(state: State, block: tuple[str, ...]) -> bool:
    """Whether a model's conditional of a block stays exact with masks, interventions and temperature of this cloud.

    A conditional that is not told of them would count hidden or intervened children, and data at their
    full power. Of what it draws, observed values can be put back where they were drawn apart from
    the rest: whole data of a single site without time.
    """
    model, conditioning = state.conditioning.factor_graph.model, state.conditioning
    if not hasattr(model.conditionals[block], "at"):
        read = {f.site.name for n in block for f in conditioning.factor_graph.factors_of[n]}
        if read & conditioning.intervened or (
            state.inverse_temperature is not None and read - set(conditioning.latent)
        ):
            return False
    if not state.masks or takes_masks(model.conditionals[block]):
        return True
    around = {f.site.name for n in block for f in factors_of(state, n)} - set(block)
    if any(n in state.masks and n not in state.conditioning.latent for n in around):
        return False
    held = [n for n in block if n in state.masks]
    return not held or (len(block) == 1 and state.masks[block[0]].ndim == 2)


@dataclass(frozen=True)
class UserConditional:
    """Draw `sites` by the function that the model declared with `add_conditional`."""

    sites: tuple[str, ...]

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """One exact draw of the block, observed values kept; acceptance is 1.

        Raises:
            MoveError: if the model's function returns other sites or other shapes than it declared.
        """
        draw: Any = state.conditioning.factor_graph.model.conditionals[self.sites]
        if generator is None:
            raise MoveError(
                f"conditional of {self.sites}: a generator is needed; call engine.init first."
            )
        natural = state.natural
        draw = getattr(draw, "at", lambda _: draw)(
            state
        )  # some look at interventions and temperatures too
        drawn = (
            draw(natural, generator, masks=self._masks(state))
            if takes_masks(draw)
            else draw(natural, generator)
        )
        self._check(drawn, natural)
        for name in state.masks.keys() & drawn.keys():
            kept = torch.where(
                expand_trailing(state.masks[name], drawn[name]), natural[name], drawn[name]
            )
            drawn = {**drawn, name: kept}
        return state.with_values(state.conditioning.unconstrain(drawn)), state.log_weights.new_ones(
            ()
        )

    def _masks(self, state: State) -> dict[str, Tensor]:
        """Masks of data of which some are missing, and of the block; other latents have a value everywhere."""
        return {
            n: m
            for n, m in state.masks.items()
            if n in self.sites or n not in state.conditioning.latent
        }

    def _check(self, drawn: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        if set(drawn) != set(self.sites):
            raise MoveError(
                f"conditional of {self.sites} returned {tuple(drawn)}: expected exactly the declared sites."
            )
        for name, value in drawn.items():
            if value.shape != values[name].shape:
                raise MoveError(
                    f"conditional of {self.sites}: site {name!r} came back as {tuple(value.shape)}, "
                    f"expected {tuple(values[name].shape)}."
                )
