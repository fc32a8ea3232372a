"""What an episode is about: which things its mission names, and what has to be done first.

A mission is a set of words without a meaning. A *lexicon* says which word names which kind or colour
of thing; a *milestone* is a token that has to have been written before another deed counts. Both
are found out from what was rewarded (`task_discovery`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.vocabulary import SAME, Vocabulary

KIND, COLOUR = range(2)
UNKNOWN, NO, YES = range(3)  # whether a mission names a thing
Name = tuple[int, int]  # property (kind or colour), and its value


@dataclass(frozen=True)
class Task:
    """What is known of missions and milestones.

    Attributes:
        lexicon: the word for a kind or colour.
        milestone: raw token, or SAME for none.
    """

    lexicon: Mapping[Name, int] = field(default_factory=dict)
    milestone: int = SAME

    def match(self, vocabulary: Vocabulary, mission: Iterable[int]) -> Tensor:
        """Whether a mission names each token, `(V,)`, see `named`; of free slots that is not known."""
        tokens = np.array(vocabulary.tokens.members, np.int64)
        match = torch.full((vocabulary.tokens.capacity,), UNKNOWN)
        match[: len(tokens)] = torch.as_tensor(
            named(self.lexicon, vocabulary.looks, tokens, set(mission))
        )
        return match


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
