"""What an episode is about: which things are wanted in it, and what has to be done first.

A mission is a set of words without a meaning. A *lexicon* says which word names which kind or colour
of thing; a *milestone* is a token that has to have been written before another deed counts. Both
are found out from what was rewarded (`task_discovery`), as are *twins*: things of which that one is
wanted that has been seen in two places, and which of the places.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.vocabulary import SAME, Vocabulary

KIND, COLOUR = range(2)
UNKNOWN, NO, YES = range(3)  # whether a mission names a thing
EITHER, FIRST, SECOND = range(3)  # which of two places of a thing, by when they were seen
Name = tuple[int, int]  # property (kind or colour), and its value


@dataclass(frozen=True)
class Task:
    """What is known of missions and milestones.

    Attributes:
        lexicon: the word for a kind or colour.
        milestone: raw token, or SAME for none.
        twins: raw tokens, sorted, of which the one with a like of it elsewhere is wanted.
        sighting: in which of its two places: the one seen first, the one seen then, or either.
    """

    lexicon: Mapping[Name, int] = field(default_factory=dict)
    milestone: int = SAME
    twins: tuple[int, ...] = ()
    sighting: int = EITHER

    def match(self, vocabulary: Vocabulary, mission: Iterable[int]) -> Tensor:
        """Whether a mission names each token, `(V,)`, see `named`; of free slots that is not known."""
        tokens = np.array(vocabulary.tokens.members, np.int64)
        match = np.full(vocabulary.tokens.capacity, UNKNOWN)
        match[: len(tokens)] = named(self.lexicon, vocabulary.looks, tokens, set(mission))
        return torch.from_numpy(match)

    def wanted(
        self, vocabulary: Vocabulary, mission: Iterable[int], doubled: Collection[int]
    ) -> "Wanted":
        """What is wanted ahead after a step.

        Args:
            vocabulary, mission: as `match`.
            doubled: raw tokens that have been seen in two places.
        """
        if not self.twins:
            return Wanted(self.match(vocabulary, mission))
        tokens = np.array(vocabulary.tokens.members, np.int64)

        def match(found: Collection[int]) -> Tensor:
            every = torch.full((vocabulary.tokens.capacity,), UNKNOWN)
            every[: len(tokens)] = torch.as_tensor(paired(self.twins, tokens, found))
            return every

        known = set(self.twins) & set(doubled)
        open_ = [t for t in self.twins if t in vocabulary.tokens.members and not known]
        slots = tuple(vocabulary.tokens.members.index(t) for t in open_)
        return Wanted(match(doubled), [match([t]) for t in open_], slots)


@dataclass(frozen=True)
class Wanted:
    """What is wanted ahead after a step.

    Attributes:
        match: `(V,)` whether each token is, see `Task.match`.
        if_told: the same, for each twin that may turn out to be the one.
        twins: slots of these twins.
    """

    match: Tensor
    if_told: Sequence[Tensor] = ()
    twins: tuple[int, ...] = ()


def paired(twins: Collection[int], tokens: Ints, doubled: Collection[int]) -> Ints:
    """Whether raw tokens `(N,)` are twins that have been seen in two places.

    Yes (2); no (1) for the other twins once one of them has been; else not known (0).
    """
    found = set(twins) & set(doubled)
    rest = set(twins) - found if found else set()
    verdict = {**dict.fromkeys(found, YES), **dict.fromkeys(rest, NO)}
    return np.array([verdict.get(token, UNKNOWN) for token in tokens.tolist()], np.int64)


def named(lexicon: Mapping[Name, int], looks: Looks, tokens: Ints, mission: set[int]) -> Ints:
    """Whether a mission names raw tokens `(N,)`: not known (0), no (1), or yes (2).

    Kind and colour count as far as any word for them is known. A value with a known word is named
    if that word is in the mission, and not named if another known word for such a value is, or if
    its own is not. A token is named if all that counts is.
    """
    verdicts = [
        [_verdict(known, value, mission) for value in values[tokens].tolist()]
        for aspect, values in ((KIND, looks.kind), (COLOUR, looks.colour))
        if (known := {value: word for (of, value), word in lexicon.items() if of == aspect})
    ]
    if not verdicts:
        return np.full(len(tokens), UNKNOWN)
    every = np.array(verdicts)
    no = (every == NO).any(0)
    return np.where(no, NO, np.where((every == YES).all(0), YES, UNKNOWN))


def _verdict(known: Mapping[int, int], value: int, mission: set[int]) -> int:
    if value in known:
        return YES if known[value] in mission else NO
    return NO if any(word in mission for word in known.values()) else UNKNOWN
