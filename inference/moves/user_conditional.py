"""Exact conditionals that the user declared: the model draws a block given everything else, the engine calls it."""

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

Block = tuple[str, ...]


def takes_masks(draw: Any) -> bool:
    """Whether a conditional has a parameter `masks`: site -> `(1, B, [T,] *elements)` True where observed."""
    return "masks" in inspect.signature(draw).parameters


def is_exact(state: State, block: Block) -> bool:
    """Whether the user's draw of a block targets the posterior of this cloud.

    It would target another distribution if it could not know about masks, interventions or
    tempering in its Markov blanket: missing data and cut densities would count, and data at their
    full power.
    """
    draw = state.conditioning.factor_graph.model.conditionals[block]
    knows_the_state = hasattr(draw, "at")
    if not knows_the_state and (_reads_intervened(state, block) or _reads_tempered(state, block)):
        return False
    if not state.masks or takes_masks(draw):
        return True
    return not _reads_missing_data(state, block) and _can_restore_observed(state, block)


def _reads_intervened(state: State, block: Block) -> bool:
    """Whether an intervention has cut a density that the block's complete conditional would have.

    That of a value which is drawn apart from all others, and put back, may be cut.
    """
    partly = state.conditioning.partly_intervened
    apart = len(block) == 1 and _can_restore_observed(state, block)
    cut = state.conditioning.intervened | (partly.difference(block) if apart else partly)
    return not cut.isdisjoint(_blanket(state, block))


def _reads_tempered(state: State, block: Block) -> bool:
    """Whether the power of a density that the block's complete conditional has is not one."""
    data = _blanket(state, block).difference(state.conditioning.latent)
    return state.inverse_temperature is not None and bool(data)


def _blanket(state: State, block: Block) -> set[str]:
    """Sites whose density reads the block, if no intervention cuts it: its own and its children's."""
    factors = state.conditioning.factor_graph.factors_of
    return {factor.site.name for name in block for factor in factors[name]}


def _reads_missing_data(state: State, block: Block) -> bool:
    """Whether data are missing of a child that is observed otherwise."""
    around = {factor.site.name for name in block for factor in factors_of(state, name)}
    children = around.difference(block, state.conditioning.latent)
    return not children.isdisjoint(state.masks)


def _can_restore_observed(state: State, block: Block) -> bool:
    """Whether observed values of the block, drawn anew with the rest, may simply be put back.

    They may where they were drawn apart from the rest: whole data of a single site without time.
    """
    masked = [name for name in block if name in state.masks]
    if not masked:
        return True
    return len(block) == 1 and state.masks[block[0]].ndim == 2


@dataclass(frozen=True)
class UserConditional:
    """Draw `sites` by the function that the model declared with `add_conditional`."""

    sites: Block

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """Draw the block exactly, observed values kept; acceptance is 1.

        Raises:
            MoveError: if the model's function returns other sites or other shapes than it declared.
        """
        if generator is None:
            raise MoveError(
                f"conditional of {self.sites}: a generator is needed; call engine.init first."
            )
        draw: Any = state.conditioning.factor_graph.model.conditionals[self.sites]
        if hasattr(draw, "at"):  # some look at interventions and temperatures too
            draw = draw.at(state)
        natural = state.natural
        options = {"masks": self._masks(state)} if takes_masks(draw) else {}
        drawn = draw(natural, generator, **options)
        self._check(drawn, natural)
        kept = {n: _restore(state, natural[n], v, n) for n, v in drawn.items() if n in state.masks}
        moved = state.conditioning.unconstrain({**drawn, **kept})
        return state.with_values(moved), state.log_weights.new_ones(())

    def _masks(self, state: State) -> dict[str, Tensor]:
        """Masks of data of which some are missing, and of the block.

        Other latents have a value everywhere.
        """
        latent = state.conditioning.latent
        return {n: m for n, m in state.masks.items() if n in self.sites or n not in latent}

    def _check(self, drawn: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        """Refuse draws that are not as declared."""
        if set(drawn) != set(self.sites):
            raise MoveError(
                f"conditional of {self.sites} returned {tuple(drawn)}: expected exactly the "
                "declared sites."
            )
        for name, value in drawn.items():
            if value.shape != values[name].shape:
                raise MoveError(
                    f"conditional of {self.sites}: site {name!r} came back as "
                    f"{tuple(value.shape)}, expected {tuple(values[name].shape)}."
                )


def _restore(state: State, now: Tensor, drawn: Tensor, name: str) -> Tensor:
    """Put what is observed of a site back into a draw of it."""
    return torch.where(expand_trailing(state.masks[name], drawn), now, drawn)
