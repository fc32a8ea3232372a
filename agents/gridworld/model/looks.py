"""What tokens have in common: each has a kind, a colour and a state, numbers without a meaning.

What one yellow box taught holds for a red one: tables know tokens by their *class*, which is kind
and state together, and the thing in hand by its class and whether its colour is that of the token
ahead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.protocol import EgocentricView


@dataclass(frozen=True)
class Looks:
    """Kind, colour and state of every raw token.

    Attributes:
        kind, colour, state: `(num_tokens,)` numbers.
    """

    kind: Ints
    colour: Ints
    state: Ints

    @classmethod
    def of(cls, view: EgocentricView) -> "Looks":
        """Read them off a view; without any, every token is a kind of its own."""
        if view.looks is None:
            number = 1 + max(view.num_tokens, view.unseen_token, view.empty_hand_token)
            return cls.apart(number)
        return cls(*np.asarray(view.looks, dtype=np.int64))

    @classmethod
    def apart(cls, num_tokens: int) -> "Looks":
        """Tokens that have nothing in common."""
        return cls(np.arange(num_tokens), *np.zeros((2, num_tokens), np.int64))

    @cached_property
    def classes(self) -> Ints:
        """Number of every raw token's kind and state together."""
        return self.kind * (1 + self.state.max()) + self.state

    def class_of(self, token: int) -> int:
        """Number of a raw token's kind and state together."""
        return int(self.classes[token])

    @cached_property
    def _named(self) -> Mapping[tuple[int, int, int], int]:
        looks = zip(self.kind.tolist(), self.colour.tolist(), self.state.tolist(), strict=True)
        return {look: token for token, look in reversed(list(enumerate(looks)))}

    def in_state(self, token: int, state: int) -> int | None:
        """The raw token of the same kind and colour in another state; None if there is none."""
        return self._named.get((int(self.kind[token]), int(self.colour[token]), state))
