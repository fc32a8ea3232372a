"""What a grid agent has met so far: tokens, things it has held, and events (what a step can do).

Tokens are opaque integers. Each gets the next free slot when it is admitted; a token that was not
admitted (yet) is `OTHER` and explained as a misreading. An *event* is what one step did: a motion,
or an effect, which writes a token to the cell ahead and/or changes what is carried. The motions are
given; effects are registered when they are first suspected.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.model.geometry import MOTIONS

# codes of view cells that are out of sight, or hold a token that was not admitted
OUT_OF_SIGHT = -1
OTHER = -2
SAME = -1  # an effect that leaves the token ahead, or the hand, as it was


@dataclass
class Slots:
    """Things met so far, in the order of meeting, in a table that doubles when it is full."""

    capacity: int
    members: list[int] = field(default_factory=list)

    def add(self, member: int) -> int:
        """Index of a member, which is admitted if it is new."""
        if member not in self.members:
            self.members.append(member)
            self.capacity = max(self.capacity, 2 ** int(np.ceil(np.log2(len(self.members)))))
        return self.members.index(member)

    def index(self, member: int, default: int) -> int:
        """Index of a member, or `default`."""
        return self.members.index(member) if member in self.members else default


Effect = tuple[
    int, int
]  # (token written ahead or SAME, thing in hand afterwards or SAME), as slot indices


@dataclass
class Vocabulary:
    """Slots of tokens and hands, and the list of effects.

    Attributes:
        tokens: raw view token -> slot.
        hands: raw carried token -> slot; slot 0 is the empty hand.
        effects: effects registered so far; event number = number of motions + position.
        max_events: size of the event tables (a power of two; grows).
    """

    tokens: Slots
    hands: Slots
    effects: list[Effect] = field(default_factory=list)
    max_events: int = 12

    @property
    def num_events(self) -> int:
        """Motions and registered effects."""
        return len(MOTIONS) + len(self.effects)

    def register(self, effect: Effect) -> None:
        """Add an effect that is not yet known."""
        if effect != (SAME, SAME) and effect not in self.effects:
            self.effects.append(effect)
            while self.num_events > self.max_events:
                self.max_events += 4

    def effect_arrays(self) -> tuple[Ints, Ints]:
        """Token written ahead, and thing in hand afterwards, both `(max_events,)`.

        They are SAME for motions and free slots.
        """
        arrays = np.full((2, self.max_events), SAME)
        for number, effect in enumerate(self.effects, len(MOTIONS)):
            arrays[:, number] = effect
        return arrays[0], arrays[1]

    def encode(self, view: Ints, unseen_token: int) -> Ints:
        """Codes of a view's raw tokens: slot, `OUT_OF_SIGHT` or `OTHER`."""
        codes = np.full(view.shape, OTHER)
        for slot, token in enumerate(self.tokens.members):
            codes[view == token] = slot
        codes[view == unseen_token] = OUT_OF_SIGHT
        return codes

    def state_dict(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "tokens": list(self.tokens.members),
            "token_capacity": self.tokens.capacity,
            "hands": list(self.hands.members),
            "hand_capacity": self.hands.capacity,
            "effects": [list(e) for e in self.effects],
            "max_events": self.max_events,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Vocabulary":
        """Rebuild a vocabulary from what `state_dict` gave."""
        return cls(
            Slots(state["token_capacity"], list(state["tokens"])),
            Slots(state["hand_capacity"], list(state["hands"])),
            [(int(a), int(b)) for a, b in state["effects"]],
            state["max_events"],
        )


def new_vocabulary(empty_hand: int, hands: Iterable[int] = ()) -> Vocabulary:
    """A vocabulary that knows the empty hand alone."""
    return Vocabulary(Slots(8), Slots(2, [empty_hand, *hands]))
