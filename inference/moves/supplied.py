"""Model-supplied exact conditionals: the model draws a block given everything else, the engine calls it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.errors import MoveError
from aif_dcpc.inference.state import State


@dataclass(frozen=True)
class Supplied:
    """Draw `sites` by the function that the model declared with `add_conditional`."""

    sites: tuple[str, ...]

    def __call__(self, state: State, generator: torch.Generator | None, *, adapt: bool) -> tuple[State, Tensor]:
        """One exact draw of the block; acceptance is 1.

        Raises:
            MoveError: if the model's function returns other sites or other shapes than it declared.
        """
        draw = state.problem.lowered.model.conditionals[self.sites]
        if generator is None:
            raise MoveError(f"conditional of {self.sites}: a generator is needed; call engine.init first.")
        natural = state.natural
        drawn = getattr(draw, "at", lambda _: draw)(state)(natural, generator)  # some look at masks and powers too
        self._check(drawn, natural)
        return state.with_values(state.problem.unconstrain(drawn)), state.log_weights.new_ones(())

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
