"""What a grid agent has met so far: tokens, things it has held, and events (what a step can do).

Tokens are opaque integers that have looks (kind, colour, state). Each gets the next free slot when
it is admitted; a token that was not admitted (yet) is `OTHER` and explained as a misreading. An
*event* is what one step did: a motion, or an effect, which changes the cell ahead and/or the hand.
The motions are given; effects are registered when they are first suspected. They are written
relatively: "the hand takes what is ahead", "what was in hand lies ahead", "the thing ahead gets
another state".
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.model.geometry import MOTIONS
from aif_dcpc.agents.gridworld.model.looks import Looks

# codes of view cells that are out of sight, or hold a token that was not admitted
OUT_OF_SIGHT = -1
OTHER = -2
SAME = -1  # the token ahead, or the hand, stays as it was

# One change: how, and which. Of the cell ahead: it holds the token of a slot, what was in hand, or
# what it held in another state. Of the hand: it holds the thing of a slot, or what was ahead.
Change = tuple[str, int]
UNCHANGED: Change = ("same", 0)
PUT: Change = ("put", 0)
TAKEN: Change = ("taken", 0)
Effect = tuple[Change, Change]  # of the cell ahead, and of the hand


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


@dataclass
class Vocabulary:
    """Slots of tokens, hands, and what they have in common; and the list of effects.

    Attributes:
        looks: of raw tokens.
        tokens: raw view token -> slot.
        hands: raw carried token -> slot; slot 0 is the empty hand.
        classes: class of a token (kind and state) -> slot.
        grips: class of a carried thing -> slot; slot 0 is the empty hand.
        colours: colour of a token -> slot.
        effects: effects registered so far; event number = number of motions + position.
        done_to: for every effect, the kinds of token that it was suspected to be done to.
        max_events: size of the event tables; grows.
    """

    looks: Looks
    tokens: Slots
    hands: Slots
    classes: Slots = field(default_factory=lambda: Slots(8))
    grips: Slots = field(default_factory=lambda: Slots(2))
    colours: Slots = field(default_factory=lambda: Slots(1))
    effects: list[Effect] = field(default_factory=list)
    done_to: list[list[int]] = field(default_factory=list)
    max_events: int = 12

    def __post_init__(self) -> None:
        for token in self.hands.members:
            self.grips.add(self.looks.class_of(token))
        for token in self.tokens.members:
            self._place(token)

    @property
    def num_events(self) -> int:
        """Motions and registered effects."""
        return len(MOTIONS) + len(self.effects)

    def extent(self) -> tuple[int, ...]:
        """How much is known: it differs whenever something new has been admitted or registered."""
        slots = (self.tokens, self.hands, self.classes, self.grips, self.colours)
        sizes = (number for kind in slots for number in (len(kind.members), kind.capacity))
        return (*sizes, len(self.effects), sum(map(len, self.done_to)), self.max_events)

    # -- growing -----------------------------------------------------------------------------------

    def admit(self, token: int) -> None:
        """Give a raw token a slot, and all that it can become or that can become of it."""
        if token not in self.tokens.members:
            self._place(token)
            self._complete()

    def hold(self, token: int) -> None:
        """Give a carried raw token a slot."""
        if token not in self.hands.members:
            self._grasp(token)
            self._complete()

    def register(self, effect: Effect, kind: int) -> None:
        """Add an effect on a token of some kind, if it is not yet known."""
        if effect == (UNCHANGED, UNCHANGED):
            return
        if effect not in self.effects:
            self.effects.append(effect)
            self.done_to.append([])
            while self.num_events >= self.max_events:  # one stays free for what comes
                self.max_events += 4
        kinds = self.done_to[self.effects.index(effect)]
        if kind not in kinds:
            kinds.append(kind)
            self._complete()

    def _place(self, token: int) -> None:
        self.tokens.add(token)
        self.colours.add(int(self.looks.colour[token]))
        self.classes.add(self.looks.class_of(token))
        if len(self.classes.members) == self.classes.capacity:  # one stays free for what comes
            self.classes.capacity *= 2

    def _grasp(self, token: int) -> None:
        self.hands.add(token)
        self.grips.add(self.looks.class_of(token))

    def _complete(self) -> None:
        """Admit what known effects make of known tokens and things, until nothing new comes of it."""
        size = -1
        while size != len(self.tokens.members) + len(self.hands.members):
            size = len(self.tokens.members) + len(self.hands.members)
            for effect, kinds in zip(self.effects, self.done_to, strict=True):
                self._follow(effect, kinds)

    def _follow(self, effect: Effect, kinds: list[int]) -> None:
        (how, which), grasp = effect
        alike = [t for t in self.tokens.members if int(self.looks.kind[t]) in kinds]
        if grasp == TAKEN:
            for token in alike:
                self._grasp(token)
        if how == "put":
            for thing in self.hands.members[1:]:
                self._place(thing)
        if how == "state":
            for token in alike:
                after = self.looks.in_state(token, which)
                if after is not None:
                    self._place(after)

    # -- as arrays ---------------------------------------------------------------------------------

    def encode(self, view: Ints, unseen_token: int) -> Ints:
        """Codes of a view's raw tokens: slot, `OUT_OF_SIGHT` or `OTHER`."""
        members = self.tokens.members
        codes = np.full(1 + max(int(view.max()), unseen_token, *members), OTHER)
        codes[members] = np.arange(len(members))
        codes[unseen_token] = OUT_OF_SIGHT
        return codes[view]

    def token_arrays(self) -> tuple[Ints, Ints]:
        """Class and colour slot of every token slot, `(V,)`; free slots have a class of their own."""
        classes = np.full(self.tokens.capacity, len(self.classes.members))
        colours = np.zeros(self.tokens.capacity, np.int64)
        for slot, token in enumerate(self.tokens.members):
            classes[slot] = self.classes.members.index(self.looks.class_of(token))
            colours[slot] = self.colours.members.index(int(self.looks.colour[token]))
        return classes, colours

    def grip_array(self) -> Ints:
        """Context that a hand is for a token ahead, `(V, C)`: 2 * grip, + 1 if it has the same colour."""
        colour = self.looks.colour
        grips = np.zeros((self.tokens.capacity, self.hands.capacity), np.int64)
        for hand, thing in enumerate(self.hands.members[1:], 1):
            grips[:, hand] = 2 * self.grips.members.index(self.looks.class_of(thing))
            for slot, token in enumerate(self.tokens.members):
                grips[slot, hand] += colour[token] == colour[thing]
        return grips

    def effect_arrays(self) -> tuple[Ints, Ints, Ints]:
        """What events do, given the token ahead and the thing in hand, each `(max_events, V + 1, C)`.

        They are: the token written ahead, the thing in hand afterwards (both SAME where nothing
        changes), and 1 where that can be, else 0. The last token stands for "not known".
        """
        shape = self.max_events, self.tokens.capacity + 1, self.hands.capacity
        writes = np.full(shape, SAME)
        takes = np.full(shape, SAME)
        possible = np.ones(shape, np.int64)
        for number, ((how, which), grasp) in enumerate(self.effects, len(MOTIONS)):
            kinds = self.done_to[number - len(MOTIONS)]
            if how == "token":
                writes[number] = which
            if how == "put":
                writes[number], possible[number] = self._put()
            if how == "state":
                writes[number], able = self._changed(which, kinds)
                possible[number] *= able
            if grasp[0] == "thing":
                takes[number] = grasp[1]
            if grasp == TAKEN:
                takes[number], able = self._taken(kinds)
                possible[number] *= able
        return writes, takes, possible

    def _put(self) -> tuple[Ints, Ints]:
        """Token of the thing in hand, by hand; nothing can be put by an empty one."""
        slots = [self.tokens.index(thing, SAME) for thing in self.hands.members[1:]]
        writes = np.full(self.hands.capacity, SAME)
        writes[1 : 1 + len(slots)] = slots
        return writes, (writes != SAME).astype(np.int64)

    def _changed(self, state: int, kinds: list[int]) -> tuple[Ints, Ints]:
        """Each token in another state, `(V + 1, 1)`; not known for what is not known."""
        writes = np.full((self.tokens.capacity + 1, 1), SAME)
        for slot, token in enumerate(self.tokens.members):
            after = self.looks.in_state(token, state)
            if after is not None and int(self.looks.kind[token]) in kinds:
                writes[slot] = self.tokens.index(after, SAME)
        return writes, (writes != SAME).astype(np.int64)

    def _taken(self, kinds: list[int]) -> tuple[Ints, Ints]:
        """The thing that each token becomes in hand, `(V + 1, 1)`."""
        takes = np.full((self.tokens.capacity + 1, 1), SAME)
        for slot, token in enumerate(self.tokens.members):
            if int(self.looks.kind[token]) in kinds:
                takes[slot] = self.hands.index(token, SAME)
        return takes, (takes != SAME).astype(np.int64)

    # -- persistence -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        slots = ("tokens", "hands", "classes", "grips", "colours")
        return {
            **{name: list(getattr(self, name).members) for name in slots},
            **{f"{name}_capacity": getattr(self, name).capacity for name in slots},
            "effects": [[list(change) for change in effect] for effect in self.effects],
            "done_to": [list(kinds) for kinds in self.done_to],
            "max_events": self.max_events,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], looks: Looks) -> "Vocabulary":
        """Rebuild a vocabulary from what `state_dict` gave."""
        names = ("tokens", "hands", "classes", "grips", "colours")
        tokens, hands, classes, grips, colours = (
            Slots(state[f"{name}_capacity"], list(state[name])) for name in names
        )
        return cls(
            looks,
            tokens,
            hands,
            classes,
            grips,
            colours,
            [((a, int(b)), (c, int(d))) for (a, b), (c, d) in state["effects"]],
            [list(kinds) for kinds in state["done_to"]],
            state["max_events"],
        )


def new_vocabulary(looks: Looks, empty_hand: int, hands: Iterable[int] = ()) -> Vocabulary:
    """A vocabulary that knows the empty hand alone."""
    return Vocabulary(looks, Slots(8), Slots(2, [empty_hand, *hands]))
